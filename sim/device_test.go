package sim

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func testDevice(t testing.TB, macVersion, region string) *Device {
	t.Helper()
	c := DeviceConfig{
		DevEUI: 0x004a770066fffe01, JoinEUI: 0xd896e0efff000000, AppKey: testKey(0x11),
		MACVersion: macVersion, Region: region, Rand: rand.New(rand.NewPCG(1, 2)),
	}
	if macVersion == "1.1" {
		c.NwkKey = testKey(0x22)
	}
	d, err := NewDevice(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// ask sends a join-request on the region's first join channel.
func ask(t testing.TB, d *Device) (request []byte, rx1, rx2 Window) {
	t.Helper()
	c := d.Region().JoinChannels()[0]
	up, err := d.JoinRequestOn(c)
	if err != nil {
		t.Fatal(err)
	}
	rx1, rx2, err = d.Region().windows(c)
	if err != nil {
		t.Fatal(err)
	}
	return up.PHYPayload, rx1, rx2
}

func in(w Window, phy []byte) Downlink {
	return Downlink{phy, w.Frequency, w.Modulation, true, w.Delay}
}

func TestDeviceReadsJoinAccept(t *testing.T) {
	eu868List := unhex(t, "184f84e85684b85e84886684586e8400")
	for _, version := range versionNames() {
		t.Run(version, func(t *testing.T) {
			d := testDevice(t, version, "EU868")
			request, rx1, _ := ask(t, d)
			a := answer{
				joinNonce: 7, netID: [3]byte{0, 0, 0x13}, devAddr: [4]byte{0x26, 2, 3, 4},
				rx2DR: 3, offset: 2, rxDelay: 5, cfList: eu868List, optNeg: version == "1.1",
			}
			got, err := d.Receive(in(rx1, a.frame(t, d, request)))
			if err != nil {
				t.Fatal(err)
			}
			want := JoinAccept{
				DevEUI: d.DevEUI(), Joined: true, DevAddr: "26020304", NetID: "000013", JoinNonce: 7,
				DevNonce: uint16(requestNonce(request)), RxDelay: 5, DataRate: 3, RX1DROffset: 2, OptNeg: version == "1.1",
				CFList: hex.EncodeToString(eu868List), Window: 1,
			}
			channels := fmt.Sprint(got.Channels)
			keys := got.SessionKeys()
			got.Channels, got.keys = nil, SessionKeys{}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("read %+v, want %+v", got, want)
			}
			if want := "[868.1 MHz 868.3 MHz 868.5 MHz 867.1 MHz 867.3 MHz 867.5 MHz 867.7 MHz 867.9 MHz]"; channels != want {
				t.Errorf("channels %s, want %s", channels, want)
			}
			if one := keyHex(keys.FNwkSIntKey) == keyHex(keys.SNwkSIntKey); one == (version == "1.1") {
				t.Error("a 1.1 session has three network keys, a 1.0 session one")
			}
		})
	}
}

// The frames and session keys of one and the same join are both in the vectors.
func TestDeviceJoinsByVectors(t *testing.T) {
	requests := map[string]string{}
	for _, v := range vectors(t).JoinRequest {
		requests[v.DevEUI+v.DevNonce] = v.PHY
	}
	sessions := map[string]map[string]string{}
	for _, v := range vectors(t).Keys {
		sessions[v.DevNonce+v.JoinNonce] = v.Expected
	}
	joined := 0
	for _, v := range vectors(t).JoinAccept {
		request := requests[v.DevEUI+v.DevNonce]
		plainVersion := strings.Fields(v.MACVersion)[0]
		if request == "" || v.JoinReqType != joinReqType || strings.HasPrefix(v.DevEUI, "4242") {
			continue // without its request, to a rejoin, or with settings no region has
		}
		c := DeviceConfig{
			DevEUI: eui(t, v.DevEUI), JoinEUI: eui(t, v.JoinEUI), AppKey: key(t, v.AppKey), NwkKey: key(t, v.NwkKey),
			MACVersion: strings.Replace(plainVersion, "1.1.0", "1.1", 1),
			Nonces:     NoncesCounted, FirstDevNonce: uint16(number(t, v.DevNonce)),
		}
		got, ok := joinAnywhere(t, c, unhex(t, request), unhex(t, v.PHY))
		if !ok {
			t.Errorf("%s: refused in every region", v.ID)
			continue
		}
		joined++
		keys := sessions[v.DevNonce+fmt.Sprintf("%06x", got.JoinNonce)]
		if want := keys["app_s_key"]; want != "" && keyHex(got.SessionKeys().AppSKey) != want {
			t.Errorf("%s: AppSKey %s, want %s", v.ID, keyHex(got.SessionKeys().AppSKey), want)
		}
	}
	if joined < 8 {
		t.Errorf("only %d joins could be made of the vectors", joined)
	}
}

// joinAnywhere tries the regions, as vectors do not name theirs.
func joinAnywhere(t *testing.T, c DeviceConfig, request, accept []byte) (JoinAccept, bool) {
	t.Helper()
	for _, c.Region = range []string{"EU868", "US915", "AS923-1"} {
		d, err := NewDevice(c)
		if err != nil {
			t.Fatal(err)
		}
		channels := d.Region().JoinChannels()
		channel := channels[len(channels)-1]
		up, err := d.JoinRequestOn(channel)
		if err != nil {
			t.Fatal(err)
		}
		if string(up.PHYPayload) != string(request) {
			t.Fatalf("request %x, want %x", up.PHYPayload, request)
		}
		rx1, _, _ := d.Region().windows(channel)
		if got, err := d.Receive(in(rx1, accept)); err == nil {
			return got, true
		}
	}
	return JoinAccept{}, false
}

func TestDeviceHearsOnlyInItsWindows(t *testing.T) {
	d := testDevice(t, "1.0.3", "EU868")
	request, rx1, rx2 := ask(t, d)
	frame := answer{joinNonce: 1, rxDelay: 1}.frame(t, d, request)
	with := func(change func(*Downlink)) Downlink {
		dl := in(rx1, frame)
		change(&dl)
		return dl
	}
	for name, dl := range map[string]Downlink{
		"a second early":              with(func(d *Downlink) { d.Delay -= time.Second }),
		"RX1 in the time of RX2":      with(func(d *Downlink) { d.Delay = joinAcceptDelay2 }),
		"a millisecond late":          with(func(d *Downlink) { d.Delay += time.Millisecond }),
		"frequency of RX2":            with(func(d *Downlink) { d.Frequency = rx2.Frequency }),
		"another spreading factor":    with(func(d *Downlink) { d.SpreadingFactor-- }),
		"bandwidth in kHz":            with(func(d *Downlink) { d.Bandwidth /= 1000 }),
		"polarisation of an uplink":   with(func(d *Downlink) { d.Inverted = false }),
		"the delays of data (1 s)":    with(func(d *Downlink) { d.Delay = time.Second }),
		"answer to an earlier uplink": with(func(d *Downlink) { d.Delay -= 7 * time.Second }),
	} {
		if _, err := d.Receive(dl); !errors.Is(err, ErrNotHeard) {
			t.Errorf("%s: %v, want %v", name, err, ErrNotHeard)
		}
	}
	if got, err := d.Receive(in(rx2, frame)); err != nil || got.Window != 2 {
		t.Errorf("RX2 after all: window %d, %v", got.Window, err)
	}
	if _, err := d.Receive(in(rx2, frame)); !errors.Is(err, ErrNotWaiting) {
		t.Errorf("a second time: %v, want %v", err, ErrNotWaiting)
	}
}

func TestDeviceRefusesFalseAnswers(t *testing.T) {
	for _, version := range []string{"1.0.2", "1.1"} {
		d := testDevice(t, version, "EU868")
		request, rx1, _ := ask(t, d)
		good := answer{joinNonce: 1, rxDelay: 1, optNeg: version == "1.1"}
		frame := good.frame(t, d, request)
		flipped := append([]byte{}, frame...)
		flipped[9] ^= 1
		other := append([]byte{}, request...)
		other[17]++
		cases := []struct {
			name string
			phy  []byte
			want error
		}{
			{"one bit changed", flipped, ErrMIC},
			{"cut", frame[:16], ErrFrame},
			{"empty", nil, ErrFrame},
			{"a data downlink", append([]byte{0x60}, frame[1:]...), ErrFrame},
			{"the request itself", request, ErrFrame},
			{"RX2DataRate that the region lacks", answer{joinNonce: 1, rx2DR: 9, optNeg: good.optNeg}.frame(t, d, request), ErrDLSettings},
			{"RX1DROffset that the region lacks", answer{joinNonce: 1, offset: 6, optNeg: good.optNeg}.frame(t, d, request), ErrDLSettings},
		}
		if version == "1.1" {
			cases = append(cases, struct {
				name string
				phy  []byte
				want error
			}{"bound to another DevNonce", good.frame(t, d, other), ErrMIC})
		}
		for _, c := range cases {
			if _, err := d.Receive(in(rx1, c.phy)); !errors.Is(err, c.want) {
				t.Errorf("%s, %s: %v, want %v", version, c.name, err, c.want)
			}
		}
		if _, err := d.Receive(in(rx1, frame)); err != nil {
			t.Errorf("%s: the true answer after the false ones: %v", version, err)
		}
	}
}

func TestDeviceJoinNonceRules(t *testing.T) {
	for _, c := range []struct {
		version string
		nonces  []uint32 // one join each
		want    []bool
	}{
		{"1.0.2", []uint32{0, 0, 5, 5, 3, 5}, []bool{true, false, true, false, true, true}},
		{"1.0.4", []uint32{0, 1, 1, 5, 3, 6}, []bool{false, true, false, true, false, true}},
		{"1.1", []uint32{0, 1, 1, 5, 3, 6}, []bool{false, true, false, true, false, true}},
	} {
		d := testDevice(t, c.version, "EU868")
		for i, nonce := range c.nonces {
			request, rx1, _ := ask(t, d)
			_, err := d.Receive(in(rx1, answer{joinNonce: nonce, optNeg: c.version == "1.1"}.frame(t, d, request)))
			if (err == nil) != c.want[i] || err != nil && !errors.Is(err, ErrJoinNonce) {
				t.Errorf("%s, JoinNonces %v: number %d gives %v, want joined %v", c.version, c.nonces, i, err, c.want[i])
			}
		}
	}
}

func TestDeviceDevNonces(t *testing.T) {
	d := testDevice(t, "1.0.4", "EU868")
	d.nextNonce = 0xfffe
	for _, want := range []uint16{0xfffe, 0xffff} {
		request, _, _ := ask(t, d)
		if got := uint16(requestNonce(request)); got != want {
			t.Errorf("DevNonce %d, want %d", got, want)
		}
	}
	if _, err := d.JoinRequest(); !errors.Is(err, ErrDevNonces) {
		t.Errorf("after 65535: %v, want %v", err, ErrDevNonces)
	}
	one, two := testDevice(t, "1.0.2", "EU868"), testDevice(t, "1.0.2", "EU868")
	seen := map[uint16]bool{}
	for range 50 {
		a, _, _ := ask(t, one)
		b, _, _ := ask(t, two)
		if string(a) != string(b) {
			t.Fatal("the same seed draws different DevNonces")
		}
		seen[uint16(requestNonce(a))] = true
	}
	if len(seen) < 40 {
		t.Errorf("50 drawn DevNonces have only %d values", len(seen))
	}
}

func TestDeviceCFList(t *testing.T) {
	frequencies := "184f84e85684b85e84886684586e8400"
	fsb2 := "00ff0000000000000200000000000001"
	for _, c := range []struct {
		version, region, list string
		channels              int // 0: refused
	}{
		{"1.0.0", "EU868", frequencies, 8},
		{"1.0.2", "EU868", "", 3},
		{"1.0.3", "EU868", fsb2, 0},
		{"1.1", "US915-FSB2", fsb2, 9},
		{"1.0.3", "US915-FSB2", fsb2, 9},
		{"1.0.2", "US915-FSB2", fsb2, 0},
		{"1.0.3", "US915-FSB2", "", 72},
		{"1.0.3", "US915-FSB2", frequencies, 0},
		{"1.0.3", "US915-FSB2", "00000000000000000000000000000001", 0},
		{"1.0.3", "US915-FSB2", "00ff0000000000000001000000000001", 0}, // channel 72
		{"1.0.3", "AS923-1", "20ee8cf0f58cc0fd8c90058d600d8d00", 7},
		{"1.0.3", "AS923-1", frequencies, 0}, // 867 MHz
		{"1.0.3", "CN470-RP1", "00000000000000000000ff0000000001", 8},
		{"1.0.3", "CN470-20A", "ffffffffffffffff0000000000000001", 64},
		{"1.0.3", "CN470-26A", "ffffffffffff00000000000000000001", 48},
		{"1.0.3", "CN470-26A", "ffffffffffffff000000000000000001", 0},
		{"1.0.3", "101", "", 8},
		{"1.0.3", "101", fsb2, 0},
		{"1.0.3", "102", frequencies, 0},
		{"1.0.3", "ISM2400", "b0c8b838dcb800000000000000000000", 5},
		{"1.0.3", "EU868", frequencies[:30] + "02", 0},
	} {
		t.Run(c.version+" "+c.region+" "+c.list, func(t *testing.T) {
			d := testDevice(t, c.version, c.region)
			channels := d.Region().JoinChannels()
			fast := channels[len(channels)-1] // 33 octets within AS923's 400 ms
			up, err := d.JoinRequestOn(fast)
			if err != nil {
				t.Fatal(err)
			}
			rx1, _, _ := d.Region().windows(fast)
			a := answer{joinNonce: 1, rx2DR: uint8(d.Region().rx2DR), optNeg: c.version == "1.1"}
			if c.list != "" {
				a.cfList = unhex(t, c.list)
			}
			got, err := d.Receive(in(rx1, a.frame(t, d, up.PHYPayload)))
			switch {
			case c.channels == 0 && !errors.Is(err, ErrCFList):
				t.Errorf("%v, want %v", err, ErrCFList)
			case c.channels != 0 && (err != nil || len(got.Channels) != c.channels):
				t.Errorf("%d channels, %v; want %d", len(got.Channels), err, c.channels)
			}
		})
	}
}

func TestCFListVectors(t *testing.T) {
	for _, v := range vectors(t).CFList {
		var want []Hz
		rule := cfListRule{kind: cfListFrequencies, unit: v.UnitHz, high: 3_000_000_000}
		if v.Type == 1 {
			rule = cfListRule{kind: cfListMask}
			for i := range Hz(96) {
				rule.channels = append(rule.channels, i)
			}
			for _, n := range v.Enabled {
				want = append(want, Hz(n))
			}
		} else {
			want = v.Frequencies
		}
		got, err := rule.apply(unhex(t, v.Bytes), version11)
		if empty := len(want) == 0; (err != nil) != empty || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, %v; want %v", v.ID, got, err, want)
		}
	}
}

// A 33-octet join-accept at DR2 lasts 452 ms, where AS923 allows 400.
func TestDeviceRefusesLongTransmissions(t *testing.T) {
	d := testDevice(t, "1.0.3", "AS923-1")
	request, rx1, _ := ask(t, d)
	long := answer{joinNonce: 1, rx2DR: 2, cfList: unhex(t, "20ee8cf0f58cc0fd8c90058d600d8d00")}
	if _, err := d.Receive(in(rx1, long.frame(t, d, request))); !errors.Is(err, ErrDwellExceed) {
		t.Errorf("33 octets at DR2: %v, want %v", err, ErrDwellExceed)
	}
	if _, err := d.Receive(in(rx1, answer{joinNonce: 1, rx2DR: 2}.frame(t, d, request))); err != nil {
		t.Errorf("17 octets at DR2: %v", err)
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	d := testDevice(t, "1.1", "EU868")
	request, rx1, _ := ask(t, d)
	accept, err := d.Receive(in(rx1, answer{joinNonce: 1, optNeg: true}.frame(t, d, request)))
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal([]any{accept, d, d.config, Result{JoinAccept: accept}})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	fmt.Fprint(&text, string(asJSON), d, accept, accept.SessionKeys(), d.config)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		fmt.Fprintf(&text, format+format+format+format, d, accept, accept.SessionKeys(), d.config)
	}
	for _, k := range []Key{d.config.AppKey, d.config.NwkKey, accept.SessionKeys().AppSKey, accept.SessionKeys().NwkSEncKey} {
		octets := k.Octets()
		for _, form := range []string{hex.EncodeToString(octets[:]), fmt.Sprint(octets[:]), fmt.Sprint(octets), strings.Trim(fmt.Sprintf("%#v", octets[:]), "[]byte{}")} {
			if strings.Contains(text.String(), form) {
				t.Errorf("a key is printed as %s", form)
			}
		}
	}
}
