package sim

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// captured is a message of a real bridge.
type captured struct {
	ID, Step, Encoding, Topic string
	PayloadHex                string `json:"payload_hex"`
	PayloadJSON               string `json:"payload_json"`
	Decoded                   decoded
}

// decoded is the common form in which the captures explain all encodings.
type decoded struct {
	GatewayID    string `json:"gateway_id"`
	State        string
	PHYPayload   string  `json:"phy_payload_hex"`
	Frequency    Hz      `json:"frequency_hz"`
	SF           int     `json:"spreading_factor"`
	Bandwidth    Hz      `json:"bandwidth_hz"`
	RSSI         int     `json:"rssi_dbm"`
	SNR          float64 `json:"snr_db"`
	Channel      int
	RFChain      int `json:"rf_chain"`
	Antenna      int
	Context      string          `json:"context_hex"`
	GWTime       string          `json:"gw_time"`
	UplinkID     uint32          `json:"uplink_id"`
	UplinkUUID   string          `json:"uplink_uuid"`
	DownlinkID   uint32          `json:"downlink_id"`
	DownlinkUUID string          `json:"downlink_uuid"`
	Items        json.RawMessage // objects in a command, texts in an ack
}

type decodedItem struct {
	PHYPayload string `json:"phy_payload_hex"`
	Frequency  Hz     `json:"frequency_hz"`
	Power      int    `json:"power_dbm"`
	SF         int    `json:"spreading_factor"`
	Bandwidth  Hz     `json:"bandwidth_hz"`
	CodeRate   string `json:"code_rate"`
	Inverted   bool   `json:"polarization_inversion"`
	DelayMS    int    `json:"delay_ms"`
	Context    string `json:"context_hex"`
}

type captureFile struct {
	Messages     []captured
	GatewayWords []struct {
		Run, Step string
		TxAcks    []Status `json:"tx_acks"`
		Acks      int
		Sent      int
	} `json:"gateway_words"`
}

func captures(t testing.TB) (c captureFile) {
	readTestdata(t, "captures.json", &c)
	return c
}

func (c captured) payload(t testing.TB) []byte {
	t.Helper()
	if c.PayloadJSON != "" {
		return []byte(c.PayloadJSON)
	}
	return unhex(t, c.PayloadHex)
}

func (c captured) codec(t testing.TB) codec {
	t.Helper()
	e, err := ParseEncoding(c.Encoding)
	if err != nil {
		t.Fatal(err)
	}
	return newCodec(e)
}

func uuid(t testing.TB, s string) (u [16]byte) {
	t.Helper()
	copy(u[:], unhex(t, strings.ReplaceAll(s, "-", "")))
	return u
}

// Every command to a real bridge is understood.
func TestDecodeCapturedCommands(t *testing.T) {
	seen := map[string]int{}
	for _, c := range captures(t).Messages {
		if !strings.HasSuffix(c.Topic, "/command/down") {
			continue
		}
		cmd, err := c.codec(t).down(c.payload(t))
		if err != nil {
			t.Errorf("%s: %v", c.ID, err)
			continue
		}
		var items []decodedItem
		if err := json.Unmarshal(c.Decoded.Items, &items); err != nil {
			t.Fatal(err)
		}
		if cmd.gateway.String() != c.Decoded.GatewayID || cmd.id != c.Decoded.DownlinkID || len(cmd.items) != len(items) {
			t.Errorf("%s: gateway %s, id %d, %d items", c.ID, cmd.gateway, cmd.id, len(cmd.items))
			continue
		}
		for i, want := range items {
			if got := asCaptured(cmd.items[i]); got != want {
				t.Errorf("%s item %d: %+v, want %+v", c.ID, i, got, want)
			}
		}
		seen[c.Encoding]++
	}
	if len(seen) != 4 || seen["v3-json"] < 20 {
		t.Errorf("commands seen: %v", seen)
	}
}

func asCaptured(it item) decodedItem {
	d := decodedItem{
		PHYPayload: hex.EncodeToString(it.phyPayload), Frequency: it.frequency, Power: it.power,
		SF: it.modulation.SpreadingFactor, Bandwidth: it.modulation.Bandwidth,
		Inverted: it.inverted, DelayMS: int(it.delay.Milliseconds()), Context: hex.EncodeToString(it.context),
	}
	if it.codeRate != "" {
		d.CodeRate = codeRateText(it.codeRate)
	}
	if it.immediately {
		d.DelayMS = -1
	}
	return d
}

// Every event that a real bridge made is made here from the same facts.
func TestEncodeCapturedEvents(t *testing.T) {
	seen := map[string]int{}
	for _, c := range captures(t).Messages {
		kind := c.Topic[strings.LastIndex(c.Topic, "/")+1:]
		var got []byte
		var err error
		var into proto.Message
		switch kind {
		case "up":
			got, err = c.codec(t).up(upOf(t, c.Decoded))
			into = &gw.UplinkFrame{}
		case "ack":
			got, err = c.codec(t).ack(ackOf(t, c.Decoded))
			into = &gw.DownlinkTxAck{}
		case "conn":
			got, err = c.codec(t).conn(eui(t, c.Decoded.GatewayID), c.Decoded.State == "ONLINE")
			into = &gw.ConnState{}
		default:
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if a, b := tree(t, c.Encoding, got, into), tree(t, c.Encoding, c.payload(t), into); !reflect.DeepEqual(a, b) {
			t.Errorf("%s %s:\n made %v\n real %v", c.ID, kind, a, b)
		}
		seen[c.Encoding+" "+kind]++
	}
	if len(seen) != 12 {
		t.Errorf("kinds seen: %v", seen)
	}
}

func upOf(t *testing.T, d decoded) upEvent {
	t.Helper()
	e := upEvent{
		Reception: Reception{
			Uplink: Uplink{PHYPayload: unhex(t, d.PHYPayload), Frequency: d.Frequency, Modulation: Modulation{d.SF, d.Bandwidth}},
			RSSI:   d.RSSI, SNR: d.SNR, Channel: d.Channel, RFChain: d.RFChain, Antenna: d.Antenna,
		},
		gateway: eui(t, d.GatewayID), context: unhex(t, d.Context), id: d.UplinkID, uuid: uuid(t, d.UplinkUUID),
	}
	if d.GWTime != "" {
		at, err := time.Parse(time.RFC3339Nano, d.GWTime)
		if err != nil {
			t.Fatal(err)
		}
		e.gpsTime = at
	}
	return e
}

func ackOf(t *testing.T, d decoded) ackEvent {
	t.Helper()
	e := ackEvent{gateway: eui(t, d.GatewayID), id: d.DownlinkID}
	if d.DownlinkUUID != "" {
		u := uuid(t, d.DownlinkUUID)
		e.uuid = u[:]
	}
	if err := json.Unmarshal(d.Items, &e.items); err != nil {
		t.Fatal(err)
	}
	return e
}

// tree makes messages comparable: spacing, field order and spelling do not
// count, unknown fields do.
func tree(t *testing.T, encoding string, payload []byte, m proto.Message) (v any) {
	t.Helper()
	if strings.HasSuffix(encoding, "json") {
		if err := json.Unmarshal(payload, &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	m = m.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(payload, m); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %x", protojson.Format(m), m.ProtoReflect().GetUnknown())
}

// Nothing that is cut off makes a decoder panic.
func TestDecodeCutCommands(t *testing.T) {
	for _, c := range captures(t).Messages {
		if strings.HasSuffix(c.Topic, "/command/down") && c.Step == "down-rx1-ok-eu868" {
			whole := c.payload(t)
			for n := range whole {
				for _, e := range []Encoding{V4Protobuf, V4JSON, V3Protobuf, V3JSON} {
					_, _ = newCodec(e).down(whole[:n])
				}
			}
		}
	}
}

func TestV3JSONIsReadExactly(t *testing.T) {
	for _, payload := range []string{
		`{`, `[]`, `null`, `{"gatewayId":"ABbAAfFQCgE="}`, `{"gatewayID":"0016c001f1500a01"}`, `{"gatewayID":5}`,
		`{"gatewayID":"ABbAAfFQCgE=","token":-5e300}`, `{"gatewayID":"ABbAAfFQCgE=","token":"7"}`,
		`{"gatewayID":"ABbAAfFQCgE=","items":{}}`, `{"gatewayID":"ABbAAfFQCgE=","items":[5]}`,
		`{"gatewayID":"ABbAAfFQCgE=","items":[{"txInfo":{"timing":"DELAY","delayTimingInfo":{"delay":5}}}]}`,
		`{"gatewayID":"ABbAAfFQCgE=","items":[{"txInfo":{"timing":"DELAY","delayTimingInfo":{"delay":"5m"}}}]}`,
	} {
		if cmd, err := (codecV3JSON{}).down([]byte(payload)); err == nil {
			t.Errorf("%s is read as %+v", payload, cmd)
		}
	}
	cmd, err := codecV3JSON{}.down([]byte(`{"gatewayID":"ABbAAfFQCgE=","token":7,"items":[{"txInfo":{"timing":"DELAY","delayTimingInfo":{"delay":"0.5s"}}}]}`))
	if err != nil || cmd.id != 7 || cmd.items[0].delay != 500*time.Millisecond {
		t.Errorf("%+v, %v", cmd, err)
	}
}

func FuzzCommand(f *testing.F) {
	for _, c := range captures(f).Messages {
		if strings.HasSuffix(c.Topic, "/command/down") {
			e, _ := ParseEncoding(c.Encoding)
			f.Add(int(e), c.payload(f))
		}
	}
	f.Fuzz(func(t *testing.T, encoding int, payload []byte) {
		e := Encoding(uint(encoding) % 4)
		b, events := deafBridge(t, e)
		for _, g := range []EUI{0x0016c001f1500a01, 0x0016c001f1500b02} {
			if _, err := b.AddGateway(GatewayConfig{EUI: g}); err != nil {
				t.Fatal(err)
			}
		}
		b.command(bytes.Clone(payload))
		if n := len(*events); n > 1 {
			t.Errorf("one command, %d acknowledgements", n)
		}
	})
}

// deafBridge is one without a broker; its events are collected.
func deafBridge(t testing.TB, e Encoding) (*Bridge, *[]event) {
	t.Helper()
	b := NewBridge(BridgeConfig{Encoding: e})
	events := &[]event{}
	b.emit = func(topic string, payload []byte) error {
		*events = append(*events, event{topic, payload})
		return nil
	}
	return b, events
}

type event struct {
	topic   string
	payload []byte
}
