package joinserver_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
)

var homeNetID = joinserver.NetID{0x60, 0x00, 0x08}

// request is one of a network server.
func request(frame []byte, edits ...func(*joinserver.NetworkRequest)) joinserver.NetworkRequest {
	r := joinserver.NetworkRequest{
		Server: "ns.example", NetID: homeNetID, PHYPayload: frame, DevEUI: devEUI, MACVersion: band.MAC1_1,
		DevAddr: joinserver.DevAddr{0xfc, 1, 2, 3}, DLSettings: 0x12, RxDelay: 5 * time.Second,
		CFList: append(bytes.Repeat([]byte{7}, 15), 0), Received: start,
	}
	for _, edit := range edits {
		edit(&r)
	}
	return r
}

func (w *world) joinFor(r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
	w.tb.Helper()
	return w.handler.JoinFor(context.Background(), r)
}

// TestJoinForCarriesTheNetworkServersValues, for every version of device and of
// network server.
func TestJoinForCarriesTheNetworkServersValues(t *testing.T) {
	for v := band.MAC1_0_0; v <= band.MAC1_1; v++ {
		for _, server := range []band.MACVersion{0, band.MAC1_0_3, band.MAC1_1} {
			w := newWorld(t)
			keyHex := w.setVersion(v)
			for _, claimed := range []byte{0x12, 0x92} { // OptNeg is not the network server's to say
				nonce := 0x0200 + uint16(claimed)
				got, err := w.joinFor(request(joinRequest(t, keyHex, nonce), func(r *joinserver.NetworkRequest) {
					r.MACVersion, r.DLSettings = server, claimed
				}))
				if err != nil {
					t.Fatalf("%s through %s: %v", v, server, err)
				}
				is11 := v == band.MAC1_1 && server != band.MAC1_0_3
				accept := decrypt(t, got.PHYPayload, keyHex, nonce)
				list, err := accept.CFList.MarshalBinary()
				if err != nil || !bytes.Equal(list, request(nil).CFList) {
					t.Errorf("%s through %s: CFList %x, %v", v, server, list, err)
				}
				if dl := accept.DLSettings; dl.OptNeg != is11 || got.OptNeg != is11 || dl.RX1DROffset != 1 || dl.RX2DataRate != 2 || accept.RXDelay != 5 {
					t.Errorf("%s through %s: %+v, RxDelay %d", v, server, dl, accept.RXDelay)
				}
				if [3]byte(accept.HomeNetID) != homeNetID || [4]byte(accept.DevAddr) != got.Grant.DevAddr || got.Grant.DevAddr != request(nil).DevAddr {
					t.Errorf("%s through %s: NetID %s, DevAddr %s", v, server, accept.HomeNetID, accept.DevAddr)
				}
				if oneKey := got.Keys.FNwkSIntKey.Equal(got.Keys.SNwkSIntKey); oneKey == is11 {
					t.Errorf("%s through %s: keys of the other version", v, server)
				}
			}
			claim := w.joins.claims[0]
			if claim.Gateway != (joinserver.Gateway{}) || claim.Server != "ns.example" || *claim.DevAddr != request(nil).DevAddr || !claim.Deadline.Equal(start.Add(6*time.Second)) {
				t.Errorf("%s through %s: claim %+v", v, server, claim)
			}
			event, err := claim.Event(joinserver.Grant{JoinNonce: 1}, start, joinserver.Recipients{})
			if err != nil || event.NetworkServer != "ns.example" || event.NetID != "600008" || event.Gateway != (joinserver.EUI64{}) || len(event.Gateways) != 0 {
				t.Errorf("%s through %s: event %+v, %v", v, server, event, err)
			}
		}
	}
}

// TestJoinForRefuses for the policy's reasons, without radio.
func TestJoinForRefuses(t *testing.T) {
	for name, c := range causes() {
		radio := c.reason == joinserver.WrongBandPlan || c.reason == joinserver.GatewayNotAllowed
		if c.reason == joinserver.TooLate && !c.committed {
			continue // the handler itself does not look at the clock
		}
		w := newWorld(t)
		if c.set != nil {
			c.set(w)
		}
		frame := joinRequest(t, rootHex, 1)
		if c.frame != nil {
			frame = c.frame(t)
		}
		if name == "late in the commit" {
			w.joins.onCommit = func() { w.now = start.Add(6*time.Second + 1) }
		}
		got, err := w.joinFor(request(frame))
		if radio && err != nil || !radio && reasonOf(err) != c.reason {
			t.Errorf("%s: %v", name, err)
		}
		if wrote := len(w.joins.claims) > 0; wrote != radio || wrote != (got.PHYPayload != nil) {
			t.Errorf("%s: wrote %d joins, answered %x", name, len(w.joins.claims), got.PHYPayload)
		}
	}
}

// TestJoinForAsksTheRecord, as for our own gateways.
func TestJoinForAsksTheRecord(t *testing.T) {
	w := newWorld(t)
	w.stale()
	w.cache.change(func(p *joinserver.Policy) { p.Node.Enabled = false })
	if _, err := w.joinFor(request(joinRequest(t, rootHex, 1))); err != nil {
		t.Errorf("refused by the cache: %v", err)
	}
	w.record.change(func(p *joinserver.Policy) { p.Node.Enabled = false })
	if _, err := w.joinFor(request(joinRequest(t, rootHex, 2))); reasonOf(err) != joinserver.DeviceDisabled {
		t.Errorf("admitted by the cache: %v", err)
	}
}

// TestJoinForFaults: what the network server must not ask.
func TestJoinForFaults(t *testing.T) {
	for name, edit := range map[string]func(*joinserver.NetworkRequest){
		"no name":          func(r *joinserver.NetworkRequest) { r.Server = "" },
		"RxDelay of 16 s":  func(r *joinserver.NetworkRequest) { r.RxDelay = 16 * time.Second },
		"RxDelay of 0.5 s": func(r *joinserver.NetworkRequest) { r.RxDelay = time.Second / 2 },
		"no time":          func(r *joinserver.NetworkRequest) { r.Received = time.Time{} },
		"RxDelay before 0": func(r *joinserver.NetworkRequest) { r.RxDelay = -time.Second },
		"short CFList":     func(r *joinserver.NetworkRequest) { r.CFList = r.CFList[:15] },
	} {
		w := newWorld(t)
		if _, err := w.joinFor(request(joinRequest(t, rootHex, 1), edit)); err == nil || reasonOf(err) != 0 || w.joins.asked != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	w := newWorld(t)
	_, err := w.joinFor(request(joinRequest(t, rootHex, 1), func(r *joinserver.NetworkRequest) { r.DevEUI[0]++ }))
	if reasonOf(err) != joinserver.Malformed || !strings.Contains(err.Error(), devEUI.String()) {
		t.Errorf("another DevEUI than the frame's: %v", err)
	}
}

// TestRequireOwn: a permission holds network servers to its RxDelay and RX2 data
// rate.
func TestRequireOwn(t *testing.T) {
	dr := band.DataRate(4)
	for name, c := range map[string]struct {
		own      time.Duration
		dataRate *band.DataRate
		rxDelay  time.Duration
		settings byte
		fits     bool
		detail   string
	}{
		"equal":                     {3 * time.Second, &dr, 3 * time.Second, 0x04, true, ""},
		"other RxDelay":             {3 * time.Second, &dr, 4 * time.Second, 0x04, false, "requires RxDelay 3s and RX2 data rate 4, the network server asks for 4s and 4"},
		"other data rate":           {3 * time.Second, &dr, 3 * time.Second, 0x05, false, "asks for 3s and 5"},
		"RX1DROffset is not held":   {3 * time.Second, &dr, 3 * time.Second, 0x74, true, ""},
		"0 means 1 s":               {0, &dr, time.Second, 0x04, true, ""},
		"1 s is 0":                  {time.Second, &dr, 0, 0x04, true, ""},
		"the region's default":      {time.Second, nil, time.Second, 0x00, true, ""},
		"not the region's default":  {time.Second, nil, time.Second, 0x01, false, "RX2 data rate 0"},
		"OptNeg does not mix it up": {time.Second, &dr, time.Second, 0x84, true, ""},
	} {
		w := newWorld(t)
		w.record.change(func(p *joinserver.Policy) {
			p.Permission.RequireOwn, p.Permission.RxDelay, p.Permission.DataRate = true, c.own, c.dataRate
		})
		_, err := w.joinFor(request(joinRequest(t, rootHex, 1), func(r *joinserver.NetworkRequest) { r.RxDelay, r.DLSettings = c.rxDelay, c.settings }))
		if c.fits && err != nil || !c.fits && (reasonOf(err) != joinserver.WrongParameters || !strings.Contains(err.Error(), c.detail) || w.joins.asked != 0) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w := newWorld(t)
	w.record.change(func(p *joinserver.Policy) { p.Permission.RequireOwn, p.Permission.BandPlanGroup = true, 4711 })
	if _, err := w.joinFor(request(joinRequest(t, rootHex, 1))); reasonOf(err) != joinserver.WrongBandPlan {
		t.Errorf("a band plan group that is not configured: %v", err)
	}
}

// TestRejoinFor: rejoin-requests through a network server, whose NetID they name.
func TestRejoinFor(t *testing.T) {
	w := newWorld(t)
	live, device := w.remembers(), newDevice11(t)
	first, err := w.joinFor(request(device.joinRequest(1)))
	if err != nil {
		t.Fatal(err)
	}
	device.receive(first.PHYPayload)
	live.sessions = []joinserver.Session{first.Claim.Opened(first.Grant, start)}
	for _, kind := range []byte{0, 1, 2} {
		got, err := w.joinFor(request(device.rejoinRequest(kind), func(r *joinserver.NetworkRequest) { r.MACVersion = band.MAC1_0_3 }))
		if err != nil {
			t.Fatalf("type %d: %v", kind, err)
		}
		device.receive(got.PHYPayload)
		device.sameKeys(got.Keys)
		if !got.OptNeg || device.rxDelay != 5 || device.settings != 0x92 || device.netID != homeNetID {
			t.Errorf("type %d: OptNeg %t, RxDelay %d, DLSettings %02x, NetID %s", kind, got.OptNeg, device.rxDelay, device.settings, device.netID)
		}
		live.sessions = []joinserver.Session{got.Claim.Opened(got.Grant, start)}
	}
	forged := device.rejoinRequest(0)
	forged[18] ^= 1
	if _, err := w.joinFor(request(forged)); reasonOf(err) != joinserver.BadMIC {
		t.Errorf("forged: %v", err)
	}
	device.netID = joinserver.NetID{1}
	if _, err := w.joinFor(request(device.rejoinRequest(2))); reasonOf(err) != joinserver.WrongNetID {
		t.Errorf("another network's: %v", err)
	}
	device.netID = homeNetID
	if _, err := w.send(device.rejoinRequest(0), w.again()); reasonOf(err) != joinserver.WrongNetID {
		t.Errorf("our own gateways answer for a network server: %v", err)
	}
}

// TestRejoinOfOurOwnSessions: a network server does not answer for us, and we answer
// within sessions from before our NetID changed.
func TestRejoinOfOurOwnSessions(t *testing.T) {
	w, _, device, copy := joined(t)
	if _, err := w.joinFor(request(device.rejoinRequest(0))); reasonOf(err) != joinserver.WrongNetID {
		t.Errorf("a network server answers for us: %v", err)
	}
	w.config.NetID = joinserver.NetID{0, 0, 0x42}
	w.rebuild()
	if _, err := w.joinFor(request(device.rejoinRequest(0))); reasonOf(err) != joinserver.WrongNetID {
		t.Errorf("a network server answers for what we were: %v", err)
	}
	down, err := w.send(device.rejoinRequest(0), copy)
	if err != nil {
		t.Fatal(err)
	}
	if device.receive(down.PHYPayload); device.netID != w.config.NetID {
		t.Errorf("the device has NetID %s", device.netID)
	}
}

func TestJoinForIsLimited(t *testing.T) {
	w := newWorld(t)
	w.limit(joinserver.Limits{DeviceFailures: 1, DeviceJoins: 1})
	for try, want := range []joinserver.Reason{joinserver.BadMIC, joinserver.RateLimited} {
		if _, err := w.joinFor(request(joinRequest(t, otherHex, 1))); reasonOf(err) != want {
			t.Errorf("forged, try %d: %v", try, err)
		}
	}
	for nonce, want := range []joinserver.Reason{0, joinserver.RateLimited} {
		if _, err := w.joinFor(request(joinRequest(t, rootHex, uint16(nonce)))); reasonOf(err) != want {
			t.Errorf("join %d: %v", nonce, err)
		}
	}
}

// TestJoinForGivesTheShareBack: a frame that is sent again does not use up the
// joins of its JoinEUI.
func TestJoinForGivesTheShareBack(t *testing.T) {
	w := newWorld(t)
	w.limit(joinserver.Limits{JoinEUIJoins: 1})
	w.joins.nonces[1] = joinserver.Claim{}
	for range 5 {
		if _, err := w.joinFor(request(joinRequest(t, rootHex, 1))); reasonOf(err) != joinserver.DevNonceReplayed {
			t.Fatal(err)
		}
	}
	if _, err := w.joinFor(request(joinRequest(t, rootHex, 2))); err != nil {
		t.Error(err)
	}
}

// TestWrongParametersAreNotTheDevicesFailure: its network server asks for them.
func TestWrongParametersAreNotTheDevicesFailure(t *testing.T) {
	w := newWorld(t)
	w.limit(joinserver.Limits{DeviceFailures: 1})
	w.record.change(func(p *joinserver.Policy) { p.Permission.RequireOwn = true })
	for nonce := range uint16(5) {
		if _, err := w.joinFor(request(joinRequest(t, rootHex, nonce))); reasonOf(err) != joinserver.WrongParameters {
			t.Errorf("try %d: %v", nonce, err)
		}
	}
}

func TestJoinForLateCopy(t *testing.T) {
	w := newWorld(t)
	r := request(joinRequest(t, rootHex, 1))
	if _, err := w.joinFor(r); err != nil {
		t.Fatal(err)
	}
	if _, err := w.joinFor(r); !errors.Is(err, joinserver.ErrLateCopy) {
		t.Errorf("the same request again: %v", err)
	}
}

// TestSessionKeyID is different for each join, and leaves the DevEUI as it is.
func TestSessionKeyID(t *testing.T) {
	dev := devEUI
	if got := hex.EncodeToString(joinserver.SessionKeyID(dev, 0x0a0b0c)); got != "01020304050607080a0b0c" || dev != devEUI {
		t.Error(got)
	}
}
