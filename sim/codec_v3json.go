package sim

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// codecV3JSON speaks as bridges of version 3 do in JSON. Its keys are spelled
// unlike any protobuf rule (gatewayID, loRaSNR) and zero values are written, so
// it is built and read by hand.
type codecV3JSON struct{}

// object keeps the code below readable; octets become base64 in JSON.
type object = map[string]any

func (codecV3JSON) up(e upEvent) ([]byte, error) {
	rx := object{
		"gatewayID": octets(e.gateway), "time": nil, "timeSinceGPSEpoch": nil,
		"rssi": e.RSSI, "loRaSNR": e.SNR, "channel": e.Channel, "rfChain": e.RFChain, "board": 0, "antenna": e.Antenna,
		"location": nil, "fineTimestampType": "NONE", "context": e.context, "uplinkID": e.uuid[:], "crcStatus": "CRC_OK",
	}
	if !e.gpsTime.IsZero() {
		rx["time"] = e.gpsTime.UTC().Format(time.RFC3339Nano)
		rx["timeSinceGPSEpoch"] = fmt.Sprintf("%.3fs", sinceGPSEpoch(e.gpsTime).Seconds())
	}
	return json.Marshal(object{
		"phyPayload": append([]byte{}, e.PHYPayload...),
		"txInfo": object{
			"frequency": e.Frequency, "modulation": "LORA", "loRaModulationInfo": object{
				"bandwidth": e.Bandwidth / 1000, "spreadingFactor": e.SpreadingFactor,
				"codeRate": codeRateText(e.CodeRate), "polarizationInversion": false,
			},
		},
		"rxInfo": rx,
	})
}

func (codecV3JSON) stats(e statsEvent) ([]byte, error) {
	return json.Marshal(object{
		"gatewayID": octets(e.gateway), "ip": "", "time": e.time.UTC().Format(time.RFC3339Nano), "location": nil,
		"configVersion": "", "rxPacketsReceived": e.rx, "rxPacketsReceivedOK": e.rx,
		"txPacketsReceived": e.tx, "txPacketsEmitted": e.tx, "metaData": object{}, "statsID": e.uuid[:],
		"txPacketsPerFrequency": object{}, "rxPacketsPerFrequency": object{},
		"txPacketsPerModulation": []any{}, "rxPacketsPerModulation": []any{}, "txPacketsPerStatus": object{},
	})
}

func (codecV3JSON) conn(gateway EUI, online bool) ([]byte, error) {
	state := "OFFLINE"
	if online {
		state = "ONLINE"
	}
	return json.Marshal(object{"gatewayID": octets(gateway), "state": state})
}

func (codecV3JSON) ack(e ackEvent) ([]byte, error) {
	items := []object{}
	for _, s := range e.items {
		items = append(items, object{"status": s})
	}
	return json.Marshal(object{
		"gatewayID": octets(e.gateway), "token": e.id, "error": ackError(e.items),
		"downlinkID": append([]byte{}, e.uuid...), "items": items,
	})
}

func (codecV3JSON) knows(s Status) bool { return codecV3{}.knows(s) }

func (codecV3JSON) down(b []byte) (command, error) {
	var m fields
	if err := json.Unmarshal(b, &m); err != nil {
		return command{}, fmt.Errorf("decode command/down: %w", err)
	}
	var fault error
	gateway, err := euiOf(m.octets("gatewayID", &fault))
	if err != nil {
		return command{}, err
	}
	cmd := command{gateway: gateway, id: uint32(m.number("token", &fault)), uuid: m.octets("downlinkID", &fault)}
	for _, it := range m.list("items", &fault) {
		cmd.items = append(cmd.items, it.itemV3(&fault))
	}
	if fault != nil {
		return command{}, fmt.Errorf("decode command/down: %w", fault)
	}
	return cmd, nil
}

func (m fields) itemV3(fault *error) item {
	tx := m.object("txInfo", fault)
	lora := tx.object("loRaModulationInfo", fault)
	it := item{
		phyPayload: m.octets("phyPayload", fault),
		frequency:  Hz(tx.number("frequency", fault)),
		power:      int(tx.number("power", fault)),
		modulation: Modulation{int(lora.number("spreadingFactor", fault)), Hz(lora.number("bandwidth", fault) * 1000)},
		codeRate:   lora.text("codeRate", fault),
		inverted:   lora.truth("polarizationInversion", fault),
		context:    tx.octets("context", fault),
	}
	switch tx.text("timing", fault) {
	case "DELAY":
		it.delay = tx.object("delayTimingInfo", fault).duration("delay", fault)
	case "IMMEDIATELY", "":
		it.immediately = true
	default:
		it.untimed = true
	}
	return it
}

// fields is a JSON object read by exact key, which encoding/json's struct tags
// do not insist on. Absent and null are zero; the first value of a wrong kind is
// kept in fault.
type fields map[string]any

func wrongKind(key, want string, v any, fault *error) {
	if *fault == nil {
		*fault = fmt.Errorf("%s: want %s, have %v", key, want, v)
	}
}

func value[T any](m fields, key, want string, fault *error) (zero T) {
	v, ok := m[key]
	if !ok || v == nil {
		return zero
	}
	t, ok := v.(T)
	if !ok {
		wrongKind(key, want, v, fault)
	}
	return t
}

func (m fields) text(key string, fault *error) string { return value[string](m, key, "text", fault) }

func (m fields) truth(key string, fault *error) bool {
	return value[bool](m, key, "true or false", fault)
}

func (m fields) object(key string, fault *error) fields {
	return value[map[string]any](m, key, "an object", fault)
}

// number reads an integer of 32 bits, signed or not.
func (m fields) number(key string, fault *error) int64 {
	n := value[float64](m, key, "a number", fault)
	if n != math.Trunc(n) || n < math.MinInt32 || n > math.MaxUint32 {
		wrongKind(key, "an integer of 32 bits", n, fault)
		return 0
	}
	return int64(n)
}

func (m fields) octets(key string, fault *error) []byte {
	text := m.text(key, fault)
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		wrongKind(key, "base64", text, fault)
	}
	return b
}

// duration reads seconds: "5s", "0.5s".
func (m fields) duration(key string, fault *error) time.Duration {
	text := m.text(key, fault)
	seconds, err := strconv.ParseFloat(strings.TrimSuffix(text, "s"), 64)
	if err != nil || !strings.HasSuffix(text, "s") || math.Abs(seconds) > 1e9 {
		wrongKind(key, "seconds, such as 5s", text, fault)
		return 0
	}
	return time.Duration(math.Round(seconds * float64(time.Second)))
}

func (m fields) list(key string, fault *error) []fields {
	var all []fields
	for _, v := range value[[]any](m, key, "a list", fault) {
		entry, ok := v.(map[string]any)
		if !ok {
			wrongKind(key, "a list of objects", v, fault)
			continue
		}
		all = append(all, entry)
	}
	return all
}
