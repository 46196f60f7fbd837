package main

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"joingate/sim"
)

// Three gateways hear a device: one too close to it, one best, one slow. That is
// one join, answered once, through the best.
func TestCopiesAreOneJoin(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, _ := d.site(gatewayA, gatewayB, gatewayC)
	meter := newDevice(1, "1.0.3")
	c.register("meters", meter)
	f := d.field(gatewayA, gatewayB, gatewayC)
	f.air = f.airOf(func(*sim.Device, int) []sim.Link {
		return []sim.Link{
			{Gateway: f.gateways[gatewayA], RSSI: -22, SNR: 4, Ghost: 200_000, Duplicates: 1},
			{Gateway: f.gateways[gatewayB], RSSI: -90, SNR: 9},
			{Gateway: f.gateways[gatewayC], RSSI: -100, SNR: 1, Delay: time.Second}, // past the collect window
		}
	}, f.gateways[gatewayA], f.gateways[gatewayB], f.gateways[gatewayC])

	if r := f.join(meter.switchOn(t)); r.Gateway != gatewayB.String() {
		t.Errorf("answered through %s, want the best gateway %s", r.Gateway, gatewayB)
	}
	eventually(t, "the late copy is swallowed", func() bool { return d.metrics()["joingate_late_copies_total"] == 1 })
	got := d.metrics()
	for series, want := range map[string]float64{
		joinsSeries("accepted"): 1, "joingate_copies_total": 5, "joingate_ghosts_total": 1,
		`joingate_downlinks_total{result="sent"}`: 1, `joingate_uplinks_total{kind="join"}`: 5,
	} {
		if got[series] != want {
			t.Errorf("%s is %v, want %v", series, got[series], want)
		}
	}
	if n := f.bridge.Counts().Commands.Load(); n != 1 {
		t.Errorf("%d commands were sent for one join", n)
	}
}

// A frame that the record has an answer for, of another instance or from before
// a restart, is a copy and no refusal until its RX2 is over.
func TestCopyOfWhatAnotherInstanceAnswered(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, _ := d.site(gatewayA)
	meter := newDevice(1, "1.0.3")
	c.register("meters", meter)
	f := d.field(gatewayA)
	up, err := meter.switchOn(t).JoinRequest()
	check(t, err)
	openDatabase(t, d.record).rememberFrame(meter, up, time.Now().Add(time.Hour))
	f.hears(gatewayA, up)
	eventually(t, "the copy is swallowed", func() bool { return d.metrics()["joingate_late_copies_total"] == 1 })
	if n := d.joins("dev_nonce_replayed"); n != 0 {
		t.Errorf("the copy was refused as a replay")
	}
}

// rememberFrame puts a join-request on record as one that was answered.
func (db database) rememberFrame(d device, up sim.Uplink, answerUntil time.Time) {
	db.t.Helper()
	frame := up.PHYPayload // MHDR, JoinEUI, DevEUI, DevNonce and MIC
	devNonce := int64(frame[17]) | int64(frame[18])<<8
	mic := int64(frame[19])<<24 | int64(frame[20])<<16 | int64(frame[21])<<8 | int64(frame[22])
	db.do(`INSERT INTO dev_nonces (dev_eui, join_eui, dev_nonce, mic, answer_until_ms) VALUES (?, ?, ?, ?, ?)`,
		d.eui.String(), d.joinEUI.String(), devNonce, mic, answerUntil.UnixMilli())
}

// A gateway that refuses both windows hands over to the next best, which sends
// the same frame.
func TestRefusingGatewayHandsOver(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, _ := d.site(gatewayA, gatewayB)
	meter := newDevice(1, "1.1")
	c.register("meters", meter)

	var mu sync.Mutex
	var offered [][]byte // frames, in the order in which gateways got them
	note := func(answer sim.Status) func(sim.Sent) sim.Outcome {
		return func(s sim.Sent) sim.Outcome {
			mu.Lock()
			defer mu.Unlock()
			offered = append(offered, s.PHYPayload)
			return sim.Outcome{Status: answer}
		}
	}
	f := newField(t, d.broker,
		sim.GatewayConfig{EUI: gatewayA, Script: note(sim.StatusCollision)}, sim.GatewayConfig{EUI: gatewayB, Script: note("")})
	f.air = f.airOf(func(*sim.Device, int) []sim.Link {
		return []sim.Link{{Gateway: f.gateways[gatewayA], RSSI: -60, SNR: 9}, {Gateway: f.gateways[gatewayB], RSSI: -110, SNR: 2}}
	}, f.gateways[gatewayA], f.gateways[gatewayB])

	if r := f.join(meter.switchOn(t)); r.Gateway != gatewayB.String() {
		t.Errorf("answered through %s, want %s", r.Gateway, gatewayB)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(offered) != 3 {
		t.Fatalf("gateways were offered %d windows, want two at the first and one at the next", len(offered))
	}
	for _, frame := range offered {
		if !bytes.Equal(frame, offered[0]) {
			t.Errorf("frame %x is another than %x", frame, offered[0])
		}
	}
	eventually(t, "the handover is counted", func() bool { return d.metrics()["joingate_handovers_total"] == 1 })
	if n := d.joins("accepted"); n != 1 {
		t.Errorf("%v joins were accepted", n)
	}
}
