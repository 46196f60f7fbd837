package joinserver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
)

// joined is a world whose 1.1 device has joined, in EU868.
func joined(t *testing.T) (*world, *live, *device11, joinserver.Reception) {
	t.Helper()
	w := newWorld(t)
	live, device, copy := w.remembers(), newDevice11(t), w.inEU868()(gatewayA, 9, 5)
	down, err := w.send(device.joinRequest(1), copy)
	if err != nil {
		t.Fatal(err)
	}
	device.receive(down.PHYPayload)
	live.opened(down)
	return w, live, device, copy
}

// TestRejoin: each type opens a session whose keys device and server agree on, one
// after the other.
func TestRejoin(t *testing.T) {
	w, live, device, copy := joined(t)
	for round := range 3 {
		for kind, want := range []joinserver.JoinType{joinserver.Rejoin0, joinserver.Rejoin1, joinserver.Rejoin2} {
			before := live.sessions[0]
			frame := device.rejoinRequest(byte(kind))
			down, err := w.send(frame, copy)
			if err != nil {
				t.Fatalf("round %d, type %d: %v", round, kind, err)
			}
			claim := down.Claim
			if claim.Type != want || claim.Request.JoinEUI != joinEUI || claim.Request.DevNonce != binary.LittleEndian.Uint16(frame[len(frame)-6:]) {
				t.Errorf("type %d: claim of type %d for JoinEUI %s with RJcount %d", kind, claim.Type, claim.Request.JoinEUI, claim.Request.DevNonce)
			}
			if counts := kind != 1; (claim.Session == before.JoinNonce) != counts || (claim.Session == 0) == counts {
				t.Errorf("type %d: counts within session %d, the newest is %d", kind, claim.Session, before.JoinNonce)
			}
			device.receive(down.PHYPayload)
			live.opened(down)
			keys, err := live.sessions[0].Keys(w.record.policies[devEUI].Node.Keys)
			if err != nil {
				t.Fatal(err)
			}
			device.sameKeys(keys)
			if event := eventOf(t, down); event.JoinReqType != byte(kind) || event.JoinNonce != down.Grant.JoinNonce {
				t.Errorf("type %d: the event tells %d", kind, event.JoinReqType)
			}
		}
	}
}

// TestRejoinOfTheSessionBefore: the device has missed the last join-accept, and
// asks in the session that it still has.
func TestRejoinOfTheSessionBefore(t *testing.T) {
	w, live, device, copy := joined(t)
	missed, err := w.send(device.rejoinRequest(0), copy)
	if err != nil {
		t.Fatal(err)
	}
	live.opened(missed)
	down, err := w.send(device.rejoinRequest(0), copy)
	if err != nil {
		t.Fatal(err)
	}
	if want := live.sessions[1].JoinNonce; down.Claim.Session != want {
		t.Errorf("counts within session %d, want %d", down.Claim.Session, want)
	}
	device.receive(down.PHYPayload)
}

// TestRejoin2KeepsRadioParameters, whatever the policy says by now; type 0 takes
// the policy's.
func TestRejoin2KeepsRadioParameters(t *testing.T) {
	w, live, device, copy := joined(t)
	dr := band.DataRate(3)
	w.record.change(func(p *joinserver.Policy) { p.Permission.RxDelay, p.Permission.DataRate = 7*time.Second, &dr })
	down, err := w.send(device.rejoinRequest(2), copy)
	if err != nil {
		t.Fatal(err)
	}
	if device.receive(down.PHYPayload); device.rxDelay != 3 || device.settings != 0x80 || !bytes.Equal(down.Claim.CFList, live.sessions[0].CFList) {
		t.Errorf("type 2 changes RxDelay to %d, DLSettings to %02x", device.rxDelay, device.settings)
	}
	live.opened(down)
	if down, err = w.send(device.rejoinRequest(0), copy); err != nil {
		t.Fatal(err)
	}
	if device.receive(down.PHYPayload); device.rxDelay != 7 || device.settings != 0x83 {
		t.Errorf("type 0 sends RxDelay %d, DLSettings %02x", device.rxDelay, device.settings)
	}
	live.opened(down)

	// From now on the device listens in RX2 as it was told.
	if down, err = w.send(device.rejoinRequest(0), copy); err != nil || down.Routes[0].RX2.DataRate != 3 {
		t.Errorf("RX2 is at data rate %d, the device listens at 3; %v", down.Routes[0].RX2.DataRate, err)
	}
	live.sessions[0].CFList = nil
	if down, err = w.send(device.rejoinRequest(2), copy); err != nil || len(down.PHYPayload) != 17 {
		t.Errorf("type 2 announces channels that the session did not: %d octets, %v", len(down.PHYPayload), err)
	}
}

// TestRejoin2WithoutCFListKeepsRX2: AS923 gives up RX2 for the CFList, which type 2
// sends only if its session had one.
func TestRejoin2WithoutCFListKeepsRX2(t *testing.T) {
	w := newWorld(t)
	live, device, copy := w.remembers(), newDevice11(t), w.moveTo(groupNamed(t, "AS923-1"))
	copy.Modulation.SpreadingFactor = 7
	first, err := w.send(device.joinRequest(1), copy)
	if err != nil {
		t.Fatal(err)
	}
	device.receive(first.PHYPayload)
	live.opened(first)
	for _, c := range []struct {
		had    []byte // CFList of the session
		octets int
		rx2    bool
	}{{first.Claim.CFList, 33, false}, {nil, 17, true}} {
		live.sessions[0].CFList = c.had
		down, err := w.send(device.rejoinRequest(2), copy)
		if err != nil {
			t.Fatal(err)
		}
		if route := down.Routes[0]; len(down.PHYPayload) != c.octets || route.RX1 == (band.Window{}) || (route.RX2 != band.Window{}) != c.rx2 {
			t.Errorf("%d octets, want %d; RX1 %+v, RX2 %+v", len(down.PHYPayload), c.octets, route.RX1, route.RX2)
		}
	}
}

// TestRejoin1WithoutSession: a lost device finds its network.
func TestRejoin1WithoutSession(t *testing.T) {
	w, live, device, copy := joined(t)
	live.sessions = nil
	down, err := w.send(device.rejoinRequest(1), copy)
	if err != nil {
		t.Fatal(err)
	}
	device.receive(down.PHYPayload)
}

// TestRejoin1ListensAsItsSession says: the policy has another RX2 by now.
func TestRejoin1ListensAsItsSession(t *testing.T) {
	w, live, device, copy := joined(t)
	live.sessions[0].DLSettings |= 3
	down, err := w.send(device.rejoinRequest(1), copy)
	if err != nil || down.Routes[0].RX2.DataRate != 3 {
		t.Fatalf("RX2 %+v, %v", down.Routes[0].RX2, err)
	}
	if device.receive(down.PHYPayload); device.settings != 0x80 {
		t.Errorf("the answer has DLSettings %02x, not the policy's", device.settings)
	}
}

// TestRejoinOnCFListChannel: a channel that no join comes on.
func TestRejoinOnCFListChannel(t *testing.T) {
	w, _, device, copy := joined(t)
	copy.Frequency = 867_100_000
	down, err := w.send(device.rejoinRequest(2), copy)
	if err != nil || down.Routes[0].RX1.Frequency != 867_100_000 || down.Routes[0].RX1.Delay != 5*time.Second {
		t.Fatalf("RX1 %+v, %v", down.Routes[0].RX1, err)
	}
	device.receive(down.PHYPayload)
	if _, err := w.send(device.joinRequest(2), copy); reasonOf(err) != joinserver.WrongBandPlan {
		t.Errorf("a join-request on that channel: %v", err)
	}
}

// rejoinCause provokes one reason: set changes the world, frame makes the
// rejoin-request, and copy changes how it is heard.
type rejoinCause struct {
	set    func(*world, *live, *device11)
	frame  func(*device11) []byte
	copy   func(*joinserver.Reception)
	want   joinserver.Reason
	detail string
}

// rejoins makes what sends a rejoin-request as it should be.
func rejoins(kind byte) func(*device11) []byte {
	return func(d *device11) []byte { return d.rejoinRequest(kind) }
}

// forgedRejoins makes what sends one whose MIC is wrong in its last octet.
func forgedRejoins(kind byte) func(*device11) []byte {
	return func(d *device11) []byte {
		frame := d.rejoinRequest(kind)
		frame[len(frame)-1] ^= 1
		return frame
	}
}

// editRejoin changes the policy of a device that has joined.
func editRejoin(change func(*joinserver.Policy)) func(*world, *live, *device11) {
	return func(w *world, _ *live, _ *device11) { w.record.change(change) }
}

// sessionCauses are those that lie in the MIC, or in the session.
func sessionCauses() map[string]rejoinCause {
	return map[string]rejoinCause{
		"type 0, other MIC": {frame: forgedRejoins(0), want: joinserver.BadMIC},
		"type 1, other MIC": {frame: forgedRejoins(1), want: joinserver.BadMIC},
		"type 2, other MIC": {frame: forgedRejoins(2), want: joinserver.BadMIC},
		"session revoked": {
			set:   func(_ *world, l *live, _ *device11) { l.sessions[0].Live = false },
			frame: rejoins(0), want: joinserver.NoSession,
		},
		"session of 1.0.x": {
			set:   func(_ *world, l *live, _ *device11) { l.sessions[0].DLSettings = 0 },
			frame: rejoins(2), want: joinserver.NoSession,
		},
		"no session": {
			set:   func(_ *world, l *live, _ *device11) { l.sessions = nil },
			frame: rejoins(2), want: joinserver.NoSession,
		},
		"rejoins switched off": {
			set:   func(w *world, _ *live, _ *device11) { w.config.Sessions = nil; w.rebuild() },
			frame: rejoins(1), want: joinserver.NoSession, detail: "not answered here",
		},
		"other network": {
			frame: func(d *device11) []byte { d.netID = joinserver.NetID{1, 2, 3}; return d.rejoinRequest(0) },
			want:  joinserver.WrongNetID, detail: "NetID 010203, here is 000013",
		},
		"no window": {
			set:   func(_ *world, l *live, _ *device11) { l.sessions[0].DLSettings = 0xf7 }, // RX1DROffset 7, RX2 at FSK
			frame: rejoins(0), want: joinserver.TooLate, detail: "listens for what no gateway sends",
		},
	}
}

// policyCauses are those that lie in the policy, or in how the frame is heard.
func policyCauses() map[string]rejoinCause {
	of104 := editRejoin(func(p *joinserver.Policy) { p.Node.MACVersion = band.MAC1_0_4 })
	return map[string]rejoinCause{
		"device of 1.0.4, type 0": {set: of104, frame: rejoins(0), want: joinserver.NoSession, detail: "1.0.4 has no rejoin-requests"},
		"device of 1.0.4, type 1": {set: of104, frame: rejoins(1), want: joinserver.NoSession},
		"type 1, other JoinEUI": {
			frame: func(d *device11) []byte { d.join[7]++; return d.rejoinRequest(1) }, want: joinserver.WrongJoinEUI,
		},
		"type 0, JoinEUI of the permission changed": {
			set:   editRejoin(func(p *joinserver.Policy) { p.Permission.JoinEUI[7]++ }),
			frame: rejoins(0), want: joinserver.WrongJoinEUI,
		},
		"device disabled": {
			set:   editRejoin(func(p *joinserver.Policy) { p.Node.Enabled = false }),
			frame: rejoins(0), want: joinserver.DeviceDisabled,
		},
		"unknown device": {
			frame: func(d *device11) []byte { d.dev[0]++; return d.rejoinRequest(0) }, want: joinserver.UnknownDevice,
		},
		"no channel": {
			frame: rejoins(0), copy: func(r *joinserver.Reception) { r.Frequency = 869_525_000 }, want: joinserver.WrongBandPlan,
		},
		"no gateway": {
			frame: rejoins(0), copy: func(r *joinserver.Reception) { r.Gateway = nobodys }, want: joinserver.GatewayNotAllowed,
		},
	}
}

// TestRejoinRefusals: as with joins, nothing is written and nothing sent.
func TestRejoinRefusals(t *testing.T) {
	for _, causes := range []map[string]rejoinCause{sessionCauses(), policyCauses()} {
		for name, c := range causes {
			t.Run(name, func(t *testing.T) { expectRejoinRefusal(t, c) })
		}
	}
}

func expectRejoinRefusal(t *testing.T, c rejoinCause) {
	t.Helper()
	w, live, device, copy := joined(t)
	if c.set != nil {
		c.set(w, live, device)
	}
	if c.copy != nil {
		c.copy(&copy)
	}
	commits := w.joins.asked
	down, err := w.send(c.frame(device), copy)
	if reasonOf(err) != c.want || !strings.Contains(err.Error(), c.detail) {
		t.Errorf("got %v, want %s", err, c.want)
	}
	if w.joins.asked != commits || down.PHYPayload != nil {
		t.Errorf("%d commits, answer %x", w.joins.asked-commits, down.PHYPayload)
	}
}

// TestRJcount: the same again is refused, whatever became of the answer, and the
// refusal names the counter of the type (LoRaWAN 1.1, section 6.2.4).
func TestRJcount(t *testing.T) {
	for kind, counter := range []string{"RJcount0", "RJcount1", "RJcount0"} {
		w, _, device, copy := joined(t)
		first, second := device.rejoinRequest(byte(kind)), device.rejoinRequest(byte(kind))
		if _, err := w.send(second, copy); err != nil {
			t.Fatal(err)
		}
		for _, frame := range [][]byte{first, second} {
			if _, err := w.send(frame, copy); reasonOf(err) != joinserver.DevNonceReplayed || !strings.Contains(err.Error(), counter) {
				t.Errorf("type %d: %v", kind, err)
			}
		}
	}
}

// TestRejoin1IsLimited per hour; the other types are not, and forged ones do not
// count.
func TestRejoin1IsLimited(t *testing.T) {
	w, live, device, copy := joined(t)
	w.limit(joinserver.Limits{Rejoin1: 2})
	for range 10 {
		forged := device.rejoinRequest(1)
		forged[23] ^= 1
		if _, err := w.send(forged, copy); reasonOf(err) != joinserver.BadMIC {
			t.Fatal(err)
		}
	}
	for try := range 4 {
		down, err := w.send(device.rejoinRequest(1), copy)
		if limited := try >= 2; limited != (reasonOf(err) == joinserver.RateLimited) || !limited && err != nil {
			t.Errorf("try %d: %v", try, err)
		}
		if err == nil {
			device.receive(down.PHYPayload)
			live.opened(down)
		}
	}
	for range 5 {
		if _, err := w.send(device.rejoinRequest(0), copy); err != nil {
			t.Fatal(err)
		}
	}
	w.now = w.now.Add(30 * time.Minute)
	copy.Received = w.now
	if _, err := w.send(device.rejoinRequest(1), copy); err != nil {
		t.Errorf("half an hour later: %v", err)
	}
}

// TestSessionsAreHardlyAsked: not by joins, and not by a type 1 with a bad MIC.
func TestSessionsAreHardlyAsked(t *testing.T) {
	w, live, device, copy := joined(t)
	if live.asked != 0 {
		t.Errorf("a join has asked %d times", live.asked)
	}
	forged := device.rejoinRequest(1)
	forged[23] ^= 1
	if _, err := w.send(forged, copy); reasonOf(err) != joinserver.BadMIC || live.asked != 0 {
		t.Errorf("a forged type 1 has asked %d times: %v", live.asked, err)
	}
	fault := errors.New("disk is full")
	live.fault = fault
	for _, kind := range []byte{0, 1, 2} {
		if _, err := w.send(device.rejoinRequest(kind), copy); !errors.Is(err, fault) || reasonOf(err) != 0 {
			t.Errorf("type %d: %v", kind, err)
		}
	}
}

// TestRejoinRequestVectors reads every frame of the vectors.
func TestRejoinRequestVectors(t *testing.T) {
	list := vectors(t).RejoinRequest
	for _, v := range list {
		frame := unhex(t, v.PHY)
		want := joinserver.RejoinRequest{
			Type: joinserver.JoinType(v.Type + 1), DevEUI: v.DevEUI, JoinEUI: v.JoinEUI,
			RJCount: binary.BigEndian.Uint16(unhex(t, v.RJCount)), MIC: [4]byte(unhex(t, v.MIC)),
		}
		copy(want.NetID[:], unhex(t, v.NetID))
		got, err := joinserver.ParseRejoinRequest(frame)
		if err != nil || got != want {
			t.Errorf("%s: read %+v, %v; want %+v", v.ID, got, err, want)
		}
		req, kind, err := joinserver.ParseRequest(frame)
		if err != nil || kind != want.Type || req != (joinserver.JoinRequest{JoinEUI: want.JoinEUI, DevEUI: want.DevEUI, DevNonce: want.RJCount, MIC: want.MIC}) {
			t.Errorf("%s: as a request %+v of type %d, %v", v.ID, req, kind, err)
		}
		if !joinserver.IsJoin(frame) || joinserver.IsJoinRequest(frame) || kind.JoinReqType() != v.Type {
			t.Errorf("%s: taken for something else", v.ID)
		}
	}
	if len(list) != 5 {
		t.Errorf("%d vectors, want 5", len(list))
	}
}

// FuzzParseRejoinRequest: what is read is what was written, and nothing else is.
func FuzzParseRejoinRequest(f *testing.F) {
	for _, v := range vectors(f).RejoinRequest {
		frame := unhex(f, v.PHY)
		f.Add(frame)
		f.Add(frame[:len(frame)-1])
		f.Add(append(bytes.Clone(frame), 0))
	}
	f.Add([]byte{0xc0})
	f.Add([]byte{0xc0, 3})
	f.Add([]byte{0xc1, 0})
	f.Fuzz(func(t *testing.T, frame []byte) {
		before := bytes.Clone(frame)
		r, err := joinserver.ParseRejoinRequest(frame)
		if !bytes.Equal(before, frame) {
			t.Error("the frame was changed")
		}
		if err != nil {
			if reasonOf(err) != joinserver.Malformed || r != (joinserver.RejoinRequest{}) {
				t.Errorf("refused with %v and %+v", err, r)
			}
			return
		}
		again := []byte{frame[0], r.Type.JoinReqType()}
		if r.Type == joinserver.Rejoin1 {
			again = append(again, reversed(r.JoinEUI[:])...)
		} else {
			again = append(again, reversed(r.NetID[:])...)
		}
		again = append(again, reversed(r.DevEUI[:])...)
		again = append(binary.LittleEndian.AppendUint16(again, r.RJCount), r.MIC[:]...)
		if !bytes.Equal(again, frame) || frame[0]>>5 != 6 || frame[0]&3 != 0 {
			t.Errorf("%x was read as %x", frame, again)
		}
	})
}

// FuzzRejoin sends arbitrary frames: only those that the device has signed reach
// the commit.
func FuzzRejoin(f *testing.F) {
	device := newDevice11(f)
	device.netID = netID
	for _, kind := range []byte{0, 1, 2} {
		f.Add(device.rejoinRequest(kind), uint32(868_100_000))
	}
	f.Add([]byte{0xc0, 1}, uint32(867_100_000))
	f.Fuzz(func(t *testing.T, frame []byte, hz uint32) {
		w, _, device, copy := joined(t)
		copy.Frequency = band.Hz(hz)
		commits := w.joins.asked
		_, err := w.handler.Join(context.Background(), joinserver.Uplink{PHYPayload: frame, Receptions: []joinserver.Reception{copy}})
		if w.joins.asked == commits {
			if err == nil {
				t.Fatal("answered without a commit")
			}
			return
		}
		r, parsed := joinserver.ParseRejoinRequest(frame)
		device.rj0, device.rj1 = r.RJCount, r.RJCount
		if parsed == nil && !bytes.Equal(frame[1:], device.rejoinRequest(frame[1])[1:]) {
			t.Fatalf("%x reached the commit without the device's MIC", frame)
		}
	})
}
