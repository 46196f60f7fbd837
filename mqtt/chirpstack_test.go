package mqtt

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"joingate/band"
	"joingate/joinserver"
)

func TestDecodeCapturedUplinks(t *testing.T) {
	seen := map[encoding]int{}
	loadCaptures(t).each("/event/up", func(run captureRun, r captureRecord) {
		up, err := decodeUplink(r.payload(t))
		if err != nil {
			t.Errorf("%s: %v", r.ID, err)
			return
		}
		want := decodedAs[decodedUp](t, r)
		got := decodedUp{
			GatewayID:       up.Reception.Gateway,
			PHYPayload:      hex.EncodeToString(up.PHYPayload),
			Context:         hex.EncodeToString(up.Context),
			Frequency:       up.Reception.Frequency,
			Modulation:      want.Modulation, // by its spreading factor
			Bandwidth:       up.Reception.Modulation.Bandwidth,
			SpreadingFactor: up.Reception.Modulation.SpreadingFactor,
			RSSI:            up.Reception.RSSI,
			SNR:             want.SNR,
			CRCStatus:       up.CRC.String(),
		}
		if got != want || up.Reception.SNR != float32(want.SNR) {
			t.Errorf("%s: got %+v, SNR %v, want %+v", r.ID, got, up.Reception.SNR, want)
		}
		if isLoRa := want.Modulation == "LORA"; isLoRa != (up.Reception.Modulation.SpreadingFactor != 0) {
			t.Errorf("%s: %s has %v", r.ID, want.Modulation, up.Reception.Modulation)
		}
		if up.Encoding != run.encoding() || up.CRC != crcOK {
			t.Errorf("%s: taken for %v, CRC %v", r.ID, up.Encoding, up.CRC)
		}
		seen[up.Encoding]++
	})
	for e := v4Protobuf; e <= v3JSON; e++ {
		if seen[e] < 10 {
			t.Errorf("only %d uplinks of %v", seen[e], e)
		}
	}
}

func TestDecodeCapturedAcks(t *testing.T) {
	loadCaptures(t).each("/event/ack", func(run captureRun, r captureRecord) {
		a, err := decodeAck(r.payload(t))
		if err != nil {
			t.Errorf("%s: %v", r.ID, err)
			return
		}
		want := decodedAs[decodedAck](t, r)
		got := decodedAck{GatewayID: a.Gateway, DownlinkID: a.ID, Error: a.Error}
		for _, status := range a.Items {
			got.Items = append(got.Items, status.String())
		}
		if !reflect.DeepEqual(got, want) || a.Encoding != run.encoding() {
			t.Errorf("%s: got %+v as %v, want %+v", r.ID, got, a.Encoding, want)
		}
		if sent := slices.Contains(want.Items, "OK"); a.ok() != sent {
			t.Errorf("%s: ok is %v for %q", r.ID, a.ok(), want.Items)
		}
	})
}

func TestDecodeCapturedStates(t *testing.T) {
	loadCaptures(t).each("/state/conn", func(_ captureRun, r captureRecord) {
		got, err := decodeConn(r.payload(t))
		want := decodedAs[decodedConn](t, r)
		if err != nil || got != (conn{Gateway: want.GatewayID, Online: want.State == "ONLINE"}) {
			t.Errorf("%s: %v %+v, want %+v", r.ID, err, got, want)
		}
	})
}

func TestDecodeCapturedStats(t *testing.T) {
	loadCaptures(t).each("/event/stats", func(_ captureRun, r captureRecord) {
		got, err := decodeStats(r.payload(t))
		if err != nil {
			t.Errorf("%s: %v", r.ID, err)
			return
		}
		want := decodedAs[decodedStats](t, r)
		same := decodedStats{
			GatewayID:           got.Gateway,
			Time:                got.Time.Format(time.RFC3339Nano),
			RxPacketsReceived:   got.RxReceived,
			RxPacketsReceivedOK: got.RxReceivedOK,
			TxPacketsReceived:   got.TxReceived,
			TxPacketsEmitted:    got.TxEmitted,
			Location:            got.Location,
		}
		if !reflect.DeepEqual(same, want) {
			t.Errorf("%s: got %+v, want %+v", r.ID, same, want)
		}
	})
}

// A message that was cut off may fail or may read as less, but never panics.
func TestDecodeTruncated(t *testing.T) {
	for _, run := range loadCaptures(t).Runs {
		for _, r := range run.Records {
			if r.Topic == "" {
				continue
			}
			whole := r.payload(t)
			for n := range whole {
				_, errUp := decodeUplink(whole[:n])
				_, errAck := decodeAck(whole[:n])
				_, errConn := decodeConn(whole[:n])
				_, errStats := decodeStats(whole[:n])
				if r.PayloadJSON != "" && (errUp == nil || errAck == nil || errConn == nil || errStats == nil) {
					t.Errorf("%s: the first %d octets were taken for a message", r.ID, n)
				}
			}
		}
	}
}

// refusedSteps have commands that encodeDownlink refuses to write.
var refusedSteps = map[string]string{
	"down-rx2-only-immediately": "for class C only",
	"bad-no-context":            "dropped by the bridge",
	"bad-no-items":              "dropped by the bridge",
	"bad-bandwidth-unit":        "sent as SF10BW0",
}

func TestEncodeCapturedDownlinks(t *testing.T) {
	built := map[encoding]int{}
	loadCaptures(t).each("/command/down", func(run captureRun, r captureRecord) {
		decoded := decodedAs[decodedDown](t, r)
		got, err := encodeDownlink(run.encoding(), commandOf(t, decoded))
		if why := refusedSteps[r.Step]; (why != "") != (err != nil) {
			t.Errorf("%s: step %s, %q: %v", r.ID, r.Step, why, err)
		}
		if err != nil {
			return
		}
		// A v4 bridge drops a command without code rate; ours has one always.
		wantSame := r.Step != "bad-no-code-rate"
		if sameMessage(t, got, r.payload(t), decoded) != wantSame {
			t.Errorf("%s:\n got %q\nwant %q", r.ID, got, r.payload(t))
		}
		built[run.encoding()]++
	})
	for e := v4Protobuf; e <= v3JSON; e++ {
		if built[e] < 18 {
			t.Errorf("only %d commands in %v", built[e], e)
		}
	}
}

func commandOf(t testing.TB, d decodedDown) downlinkCommand {
	command := downlinkCommand{ID: d.DownlinkID, Gateway: d.GatewayID}
	for _, item := range d.Items {
		command.PHYPayload = unhex(t, item.PHYPayload)
		command.Context = unhex(t, item.Context)
		command.Windows = append(command.Windows, band.Window{
			Delay:      time.Duration(item.DelayMS) * time.Millisecond,
			Frequency:  item.Frequency,
			Modulation: band.Modulation{SpreadingFactor: item.SpreadingFactor, Bandwidth: item.Bandwidth},
			Power:      item.Power,
		})
	}
	return command
}

// sameMessage compares protobuf octet by octet and JSON as a tree, but for the
// downlink UUID of v3, which every sender chooses.
func sameMessage(t testing.TB, got, want []byte, d decodedDown) bool {
	theirs := unhex(t, strings.ReplaceAll(d.DownlinkUUID, "-", ""))
	if len(theirs) > 0 && want[0] != '{' {
		ours := downlinkUUID(d.DownlinkID)
		want = bytes.Replace(want, theirs, ours[:], 1)
	}
	if want[0] != '{' {
		return bytes.Equal(got, want)
	}
	return reflect.DeepEqual(tree(t, got), tree(t, want))
}

// tree reads JSON; what is null, zero, false or empty counts as absent.
func tree(t testing.TB, text []byte) any {
	var node any
	if err := json.Unmarshal(text, &node); err != nil {
		t.Fatal(err)
	}
	return prune(node)
}

func prune(node any) any {
	switch node := node.(type) {
	case map[string]any:
		delete(node, "downlinkID")
		for key, child := range node {
			if node[key] = prune(child); node[key] == nil {
				delete(node, key)
			}
		}
	case []any:
		for i := range node {
			node[i] = prune(node[i])
		}
	case float64:
		if node == 0 {
			return nil
		}
	case string:
		if node == "" {
			return nil
		}
	case bool:
		if !node {
			return nil
		}
	}
	return node
}

// From an uplink of a bridge and the windows of the band comes the command that
// the bridge was captured to carry out.
func TestAnswerCapturedUplinks(t *testing.T) {
	pairs := []struct{ up, down string }{
		{"join-cn470", "down-rx1-ok-cn470"},
		{"join-eu868", "down-rx1-ok-eu868"},
		{"join-as923", "down-rx1-ok-as923"},
	}
	c := loadCaptures(t)
	for _, run := range []string{"v4-protobuf", "v4-json", "v3-protobuf", "v3-json"} {
		for _, pair := range pairs {
			down := c.first(t, run, pair.down, "/command/down")
			decoded := decodedAs[decodedDown](t, down)
			command := commandOf(t, decoded)

			up := uplinkBy(t, c, run, pair.up, decoded.GatewayID)
			command.Context, command.Gateway = up.Context, up.Reception.Gateway
			got, err := encodeDownlink(up.Encoding, command)
			if err != nil || !sameMessage(t, got, down.payload(t), decoded) {
				t.Errorf("%s, %s: %v\n got %q\nwant %q", run, pair.down, err, got, down.payload(t))
			}
		}
	}
}

func uplinkBy(t testing.TB, c captures, run, step string, gateway joinserver.EUI64) (found uplink) {
	t.Helper()
	c.each("/event/up", func(r captureRun, record captureRecord) {
		if r.Run != run || record.Step != step {
			return
		}
		if up, err := decodeUplink(record.payload(t)); err == nil && up.Reception.Gateway == gateway {
			found = up
		}
	})
	if found.Encoding == 0 {
		t.Fatalf("%s: gateway %v has no uplink in %s", run, gateway, step)
	}
	return found
}

func TestDecodeUplinkRefuses(t *testing.T) {
	const rx = `"rxInfo":{"gatewayId":"0016c001f1500a01"}`
	const lora = `"txInfo":{"modulation":{"lora":{"bandwidth":125000,"spreadingFactor":10}}}`
	const lora3 = `"txInfo":{"modulation":"LORA","loRaModulationInfo":{"bandwidth":125,"spreadingFactor":10}}`
	tests := []struct{ name, payload, says string }{
		{"nothing", "", "empty"},
		{"not protobuf", "garbage", ""},
		{"not JSON", "{garbage", ""},
		{"two JSON values", `{` + rx + `,` + lora + `}{}`, ""},
		{"too long", strings.Repeat("a", maxPayload+1), "65537 octets"},
		{"no parts", `{}`, "missing"},
		{"no rxInfo", `{` + lora + `}`, "missing"},
		{"no txInfo", `{` + rx + `}`, "missing"},
		{"no modulation", `{` + rx + `,"txInfo":{"frequency":868100000}}`, "modulation"},
		{"short gateway id", `{"rxInfo":{"gatewayId":"0016"},` + lora + `}`, "16 hex digits"},
		{"gateway id of other letters", `{"rxInfo":{"gatewayId":"0016c001f1500a0g"},` + lora + `}`, "16 hex digits"},
		{"spreading factor 4", `{` + rx + `,"txInfo":{"modulation":{"lora":{"bandwidth":125000,"spreadingFactor":4}}}}`, "spreading factor 4"},
		{"spreading factor 266", `{` + rx + `,"txInfo":{"modulation":{"lora":{"bandwidth":125000,"spreadingFactor":266}}}}`, "spreading factor 266"},
		{"bandwidth in kHz", `{` + rx + `,"txInfo":{"modulation":{"lora":{"bandwidth":125,"spreadingFactor":10}}}}`, "bandwidth 125 Hz"},
		{"SNR", `{"rxInfo":{"gatewayId":"0016c001f1500a01","snr":"NaN"},` + lora + `}`, "SNR"},
		{"v3: no rxInfo", `{"gatewayID":"ABbAAfFQCgE=",` + lora3 + `}`, "missing"},
		{"v3: no txInfo", `{"rxInfo":{"gatewayID":"ABbAAfFQCgE="}}`, "missing"},
		{"v3: no modulation", `{"rxInfo":{"gatewayID":"ABbAAfFQCgE="},"txInfo":{}}`, "modulation"},
		{"v3: short gateway id", `{"rxInfo":{"gatewayID":"ABbA"},` + lora3 + `}`, "3 octets"},
		{"v3: gateway id is no base64", `{"rxInfo":{"gatewayID":"***"},` + lora3 + `}`, "base64"},
		{"v3: bandwidth in Hz", `{"rxInfo":{"gatewayID":"ABbAAfFQCgE="},"txInfo":{"modulation":"LORA","loRaModulationInfo":{"bandwidth":125000,"spreadingFactor":10}}}`, "bandwidth 125000000 Hz"},
		{"v3: SNR beyond float32", `{"rxInfo":{"gatewayID":"ABbAAfFQCgE=","loRaSNR":1e300},` + lora3 + `}`, "SNR"},
	}
	for _, test := range tests {
		up, err := decodeUplink([]byte(test.payload))
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: error %v, uplink %+v", test.name, err, up)
		}
	}
}

func TestDecodeUplinkRefusesProtobuf(t *testing.T) {
	good := func() *gw.UplinkFrame {
		return &gw.UplinkFrame{
			PhyPayload: make([]byte, 23),
			RxInfo:     &gw.UplinkRxInfo{GatewayId: "0016c001f1500a01", Context: []byte{1, 2, 3, 4}},
			TxInfo: &gw.UplinkTxInfo{Modulation: &gw.Modulation{Parameters: &gw.Modulation_Lora{
				Lora: &gw.LoraModulationInfo{Bandwidth: 125000, SpreadingFactor: 7},
			}}},
		}
	}
	tests := []struct {
		name  string
		spoil func(*gw.UplinkFrame)
		says  string // "": nothing is wrong
	}{
		{"good", func(*gw.UplinkFrame) {}, ""},
		{"long frame", func(f *gw.UplinkFrame) { f.PhyPayload = make([]byte, 256) }, "256 octets"},
		{"long context", func(f *gw.UplinkFrame) { f.RxInfo.Context = make([]byte, maxContext+1) }, "context"},
		{"SNR", func(f *gw.UplinkFrame) { f.RxInfo.Snr = float32(math.Inf(-1)) }, "SNR"},
		{"lora without content", func(f *gw.UplinkFrame) {
			f.TxInfo.Modulation.Parameters = &gw.Modulation_Lora{Lora: &gw.LoraModulationInfo{}}
		}, "spreading factor 0"},
		{"v3 without gateway", func(f *gw.UplinkFrame) { f.RxInfo, f.RxInfoLegacy = nil, &gw.UplinkRxInfoLegacy{} }, "missing"},
	}
	for _, test := range tests {
		frame := good()
		test.spoil(frame)
		payload, err := proto.Marshal(frame)
		if err != nil {
			t.Fatal(err)
		}
		_, err = decodeUplink(payload)
		if (test.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// A name in somebody's metadata does not make a message one of the other version.
func TestTellJSONVersionsApart(t *testing.T) {
	tests := []struct {
		payload string
		want    encoding
	}{
		{`{"rxInfo":{"gatewayId":"0016c001f1500a01","metadata":{"gatewayID":"x"}},"txInfo":{"modulation":{"fsk":{}}}}`, v4JSON},
		{`{"rxInfo":{"gatewayID":"ABbAAfFQCgE=","metadata":{"gatewayId":"x"}},"txInfo":{"modulation":"FSK"}}`, v3JSON},
		{`{"rxInfo":{"gatewayId":"0016c001f1500a01","metadata":{"a":"\"gatewayID\""}},"txInfo":{"modulation":{"lrFhss":{}}}}`, v4JSON},
	}
	for _, test := range tests {
		up, err := decodeUplink([]byte(test.payload))
		if err != nil || up.Encoding != test.want {
			t.Errorf("%s: %v, %v", test.payload, up.Encoding, err)
		}
	}
}

// A bridge newer than this program may say more than it knows.
func TestUnknownFieldsAreSkipped(t *testing.T) {
	for _, payload := range []string{
		`{"gatewayId":"0016c001f1500a01","downlinkId":7,"new":{"a":[1]},"items":[{"status":"OK"},{"status":"BRAND_NEW"}]}`,
		`{"gatewayID":"ABbAAfFQCgE=","token":7,"new":{"a":[1]},"items":[{"status":"BRAND_NEW"},{"status":"OK"}]}`,
	} {
		a, err := decodeAck([]byte(payload))
		if err != nil || !a.ok() || a.ID != 7 {
			t.Errorf("%s: %+v, %v", payload, a, err)
		}
	}
}

func TestAckOK(t *testing.T) {
	tests := []struct {
		name string
		ack  ack
		want bool
	}{
		{"first window", ack{Encoding: v4JSON, Items: []txStatus{txOK, txIgnored}}, true},
		{"second window", ack{Encoding: v3JSON, Items: []txStatus{txTooLate, txOK}}, true},
		{"one item for two windows", ack{Encoding: v4Protobuf, Items: []txStatus{txOK}}, true},
		{"refused", ack{Encoding: v4Protobuf, Items: []txStatus{txCollisionPacket, txCollisionBeacon}}, false},
		{"refused with text", ack{Encoding: v3Protobuf, Items: []txStatus{txFreq}, Error: "status:TX_FREQ "}, false},
		{"nothing said", ack{Encoding: v4Protobuf}, false},
		{"v3 without items", ack{Encoding: v3Protobuf}, true},
		{"v3 without items, refused", ack{Encoding: v3JSON, Error: "TOO_LATE"}, false},
		{"unknown word", ack{Encoding: v3JSON, Items: []txStatus{txUnknown}}, false},
	}
	for _, test := range tests {
		if got := test.ack.ok(); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestDecodersRefuseGarbage(t *testing.T) {
	for _, payload := range []string{
		"", "x", "{", "[]", "null", "{}", `{"gatewayId":""}`, `{"gatewayID":null}`, `{"gatewayID":"AAAA"}`,
		"\x0a\x03abc", strings.Repeat("{", maxPayload), strings.Repeat("\x0a", maxPayload+1),
	} {
		if a, err := decodeAck([]byte(payload)); err == nil {
			t.Errorf("ack %.20q: %+v", payload, a)
		}
		if c, err := decodeConn([]byte(payload)); err == nil {
			t.Errorf("conn %.20q: %+v", payload, c)
		}
		if s, err := decodeStats([]byte(payload)); err == nil {
			t.Errorf("stats %.20q: %+v", payload, s)
		}
	}
}

func TestStatsOfNowhere(t *testing.T) {
	for _, where := range []string{`"latitude":91`, `"longitude":-181`, `"altitude":"NaN"`, `"latitude":"Infinity"`} {
		s, err := decodeStats([]byte(`{"gatewayId":"0016c001f1500a01","location":{` + where + `}}`))
		if err != nil || s.Location != nil {
			t.Errorf("%s: %+v, %v", where, s.Location, err)
		}
	}
}

func TestEncodeDownlinkRefuses(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*downlinkCommand)
		says  string
	}{
		{"no id", func(d *downlinkCommand) { d.ID = 0 }, "id 0"},
		{"no frame", func(d *downlinkCommand) { d.PHYPayload = nil }, "0 octets"},
		{"long frame", func(d *downlinkCommand) { d.PHYPayload = make([]byte, 256) }, "256 octets"},
		{"no context", func(d *downlinkCommand) { d.Context = nil }, "no context"},
		{"no window", func(d *downlinkCommand) { d.Windows = nil }, "no window"},
		{"not LoRa", func(d *downlinkCommand) { d.Windows[1].Modulation = band.Modulation{} }, "spreading factor 0"},
		{"bandwidth in kHz", func(d *downlinkCommand) { d.Windows[0].Modulation.Bandwidth = 125 }, "bandwidth 125 Hz"},
		{"fraction of kHz", func(d *downlinkCommand) { d.Windows[0].Modulation.Bandwidth = 62_500 }, "whole kHz"},
		{"window not offered", func(d *downlinkCommand) { d.Windows[1].Delay = 0 }, "delay"},
	}
	for _, test := range tests {
		for e := v4Protobuf; e <= v3JSON; e++ {
			command := aCommand()
			test.spoil(&command)
			if _, err := encodeDownlink(e, command); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s in %v: %v", test.name, e, err)
			}
		}
	}
	if _, err := encodeDownlink(0, aCommand()); err == nil {
		t.Error("encoding 0 was accepted")
	}
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		5 * time.Second:         "5s",
		1500 * time.Millisecond: "1.5s",
		time.Microsecond:        "0.000001s",
	} {
		if got := seconds(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

func aCommand() downlinkCommand {
	lora := band.Modulation{SpreadingFactor: 10, Bandwidth: 125_000}
	return downlinkCommand{
		ID:         1001,
		Gateway:    joinserver.EUI64{0x00, 0x16, 0xc0, 0x01, 0xf1, 0x50, 0x0a, 0x01},
		PHYPayload: make([]byte, 33),
		Context:    []byte{0xd1, 0x5a, 0x2f, 0xc3},
		Windows: []band.Window{
			{Delay: band.JoinAcceptDelay1, Frequency: 500_300_000, Modulation: lora, Power: 17},
			{Delay: band.JoinAcceptDelay2, Frequency: 505_300_000, Modulation: lora, Power: 17},
		},
	}
}

// The two forms of a v4 command are one message, as its own JSON reader sees it.
func TestDownlinkV4JSONIsItsProtobuf(t *testing.T) {
	command := aCommand()
	command.Windows[0].Delay = 1500 * time.Millisecond
	command.Windows[1].Power = -3
	text, err := encodeDownlink(v4JSON, command)
	if err != nil {
		t.Fatal(err)
	}
	var read gw.DownlinkFrame
	if err := protojson.Unmarshal(text, &read); err != nil || !proto.Equal(&read, downlinkV4(command)) {
		t.Errorf("%v: %s is not %v", err, text, downlinkV4(command))
	}
}

// Every captured v4 protobuf uplink with a LoRa frame is read the quick way, as the
// general decoder reads it.
func TestQuickUplinkOfCaptures(t *testing.T) {
	quickly := 0
	loadCaptures(t).each("/event/up", func(run captureRun, r captureRecord) {
		payload := r.payload(t)
		slow, err := decodeAnyUplink(payload)
		if err != nil || run.encoding() != v4Protobuf || slow.Reception.Modulation.SpreadingFactor == 0 {
			return
		}
		quick, ok := quickUplink(payload)
		if !ok || !sameUplink(quick, slow) {
			t.Errorf("%s: read %t, %+v, want %+v", r.ID, ok, quick, slow)
		}
		quickly++
	})
	if quickly < 10 {
		t.Errorf("only %d captures", quickly)
	}
}

// What is unusual is left to the general decoder.
func TestQuickUplinkLeavesTheRest(t *testing.T) {
	good := encodeUplink(copyOf(joinRequest(1), gatewayA, 7, start))
	if _, ok := quickUplink(good); !ok {
		t.Fatal("not read at all")
	}
	twice := append(slices.Clone(good), good...)
	otherType := protowire.AppendVarint(protowire.AppendTag(slices.Clone(good), uplinkPHYPayload, protowire.VarintType), 5)
	legacy := protowire.AppendBytes(protowire.AppendTag(slices.Clone(good), uplinkRxLegacy, protowire.BytesType), nil)
	for name, payload := range map[string][]byte{"submessages that come twice": twice, "another type": otherType, "fields of v3": legacy, "nothing": nil, "cut off": good[:len(good)-3]} {
		if up, ok := quickUplink(payload); ok {
			t.Errorf("%s: read %+v", name, up)
		}
	}
}
