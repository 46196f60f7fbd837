package joinserver_test

import (
	"encoding/json"
	"strings"
	"testing"

	"joingate/band"
	"joingate/joinserver"
)

func TestParseEUI64(t *testing.T) {
	for text, ok := range map[string]bool{
		"0102030405060708": true, "D896E0EFFF000001": true, "": false, "01020304050607": false, "010203040506070809": false,
		"010203040506070g": false, "01-02-03-04-05-0": false,
	} {
		eui, err := joinserver.ParseEUI64(text)
		if (err == nil) != ok || ok && eui.String() != strings.ToLower(text) {
			t.Errorf("%q: %s, %v", text, eui, err)
		}
		if !ok && (eui != joinserver.EUI64{} || !strings.Contains(err.Error(), `"`+text+`"`)) {
			t.Errorf("%q: error %v must quote it", text, err)
		}
	}
}

func TestIdentifiersInJSON(t *testing.T) {
	type ids struct {
		EUI  joinserver.EUI64
		Addr joinserver.DevAddr
	}
	octets, err := json.Marshal(ids{devEUI, joinserver.DevAddr{0x26, 0, 0, 0xff}})
	if want := `{"EUI":"0102030405060708","Addr":"260000ff"}`; err != nil || string(octets) != want {
		t.Errorf("%s, %v; want %s", octets, err, want)
	}
	var back struct{ EUI joinserver.EUI64 }
	if err := json.Unmarshal([]byte(`{"EUI":"0102030405060708"}`), &back); err != nil || back.EUI != devEUI {
		t.Errorf("read %s, %v", back.EUI, err)
	}
	if err := json.Unmarshal([]byte(`{"EUI":"01"}`), &back); err == nil {
		t.Error("a short EUI was read")
	}
}

func TestParseNetID(t *testing.T) {
	for text, ok := range map[string]bool{"000013": true, "C0FFEE": true, "": false, "00013": false, "0000013": false, "00001g": false} {
		id, err := joinserver.ParseNetID(text)
		if (err == nil) != ok || ok && id.String() != strings.ToLower(text) {
			t.Errorf("%q: %s, %v", text, id, err)
		}
	}
}

func TestMonotonic(t *testing.T) {
	for v := band.MAC1_0_0; v <= band.MAC1_1; v++ {
		if got, want := joinserver.Monotonic(v), v >= band.MAC1_0_4; got != want {
			t.Errorf("%s counts DevNonce up: %v", v, got)
		}
	}
}

// TestIsJoinRequest tells the frames that the handler is to be shown from those
// of a network server.
func TestIsJoinRequest(t *testing.T) {
	for mhdr := range 256 {
		if got, want := joinserver.IsJoinRequest([]byte{byte(mhdr), 1, 2}), mhdr>>5 == 0; got != want {
			t.Errorf("MHDR %02x: %v", mhdr, got)
		}
	}
	if !joinserver.IsJoinRequest(nil) {
		t.Error("an empty frame is nobody's")
	}
}
