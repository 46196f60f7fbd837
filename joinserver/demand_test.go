package joinserver_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"joingate/joinserver"
)

// crowd makes n devices like the first one, and gives their DevEUIs.
func (w *world) crowd(n int) []joinserver.EUI64 {
	devices := make([]joinserver.EUI64, n)
	for i := range devices {
		binary.BigEndian.PutUint64(devices[i][:], 0x70b3d50000000000+uint64(i))
		p := w.record.policies[devEUI]
		p.Node.DevEUI = devices[i]
		w.record.policies[devices[i]] = p
	}
	return devices
}

// asks sends a request of a device on EU868, now. Gateway A alone hears it, or those
// that are named, the first one best.
func (w *world) asks(device joinserver.EUI64, nonce uint16, sf uint8, gateways ...joinserver.EUI64) (joinserver.Downlink, error) {
	w.tb.Helper()
	if gateways == nil {
		gateways = []joinserver.EUI64{gatewayA}
	}
	copies := make([]joinserver.Reception, len(gateways))
	for i, g := range gateways {
		copies[i] = heardBy(g, at(868_100_000), level(-90, 5-4*float32(i)))
		copies[i].Received, copies[i].Modulation.SpreadingFactor = w.now, sf
	}
	return w.send(frameOf(w.tb, rootHex, device, joinEUI, nonce), copies...)
}

// storm lets so many devices ask at once, heard as in asks.
func (w *world) storm(requests int, gateways ...joinserver.EUI64) {
	w.tb.Helper()
	for i, device := range w.crowd(requests) {
		if _, err := w.asks(device, uint16(10*i), 7, gateways...); err != nil {
			w.tb.Fatal(err)
		}
	}
}

// TestSlowAnswersInAStorm: while a gateway sends it hears nobody. With 10 requests
// in five seconds, the 1.8 s of SF12 would cost 3.6 of them, the 72 ms of SF7 0.14.
func TestSlowAnswersInAStorm(t *testing.T) {
	for sf, joins := range map[uint8]bool{7: true, 8: true, 9: true, 10: true, 11: false, 12: false} {
		w := newWorld(t)
		w.inEU868()
		ledger := w.plans()
		w.storm(10)
		before := len(ledger.booked)
		_, err := w.asks(devEUI, 1000, sf)
		if joins && err != nil || !joins && reasonOf(err) != joinserver.NoAirtime {
			t.Errorf("SF%d: %v", sf, err)
		}
		if !joins && (len(ledger.booked) != before || !strings.Contains(err.Error(), "0 are taken, and 2 too slow for the crowd")) {
			t.Errorf("SF%d: %v, booked %d", sf, err, len(ledger.booked)-before)
		}
	}
}

// TestDemandIsOfEachGateway: one that hears nobody else may send slowly, and one that
// hears the crowd may not, though another was chosen to answer it.
func TestDemandIsOfEachGateway(t *testing.T) {
	w := newWorld(t)
	w.inEU868()
	w.plans()
	w.storm(10, gatewayA, gatewayB)
	if _, err := w.asks(devEUI, 1000, 12, gatewayB); reasonOf(err) != joinserver.NoAirtime {
		t.Errorf("through a gateway that hears the crowd too: %v", err)
	}
	down, err := w.asks(devEUI, 1001, 12, gatewayA, gatewayC)
	if err != nil || down.Routes[0].Gateway != gatewayC {
		t.Errorf("the gateway that hears nobody else is not taken: %v, %v", down.Routes, err)
	}
}

// TestQuickAnswersAreAlwaysFair: a gateway that hears 40 requests a second can never
// answer them all, and answers those it can.
func TestQuickAnswersAreAlwaysFair(t *testing.T) {
	w := newWorld(t)
	w.inEU868()
	w.plans()
	w.storm(200)
	if _, err := w.asks(devEUI, 5000, 7); err != nil {
		t.Error(err)
	}
}

// TestNoSlowFallbackInAStorm: RX1 is busy. When nobody waits, RX2 is taken; in a
// storm it would cost more joins than it wins.
func TestNoSlowFallbackInAStorm(t *testing.T) {
	for requests, joins := range map[int]bool{0: true, 1: true, 10: false} {
		w := newWorld(t)
		w.inEU868()
		ledger := w.plans()
		w.storm(requests)
		ledger.busy = func(t joinserver.Transmission) bool { return place(t) == "a1" }
		down, err := w.asks(devEUI, 1000, 7)
		if joins && (err != nil || place(down.Routes[0].Booked) != "a2") || !joins && reasonOf(err) != joinserver.NoAirtime {
			t.Errorf("after %d requests: %v", requests, err)
		}
	}
}

// TestStormPasses: half a minute later a slow device is answered.
func TestStormPasses(t *testing.T) {
	w := newWorld(t)
	w.inEU868()
	w.plans()
	w.storm(10)
	if _, err := w.asks(devEUI, 1000, 12); reasonOf(err) != joinserver.NoAirtime {
		t.Fatal(err)
	}
	w.now = w.now.Add(30 * time.Second)
	if _, err := w.asks(devEUI, 1001, 12); err != nil {
		t.Error(err)
	}
}

// TestSlowDeviceHasItsTurn in a storm without end: with each refusal it may cost
// more. Once answered it begins anew.
func TestSlowDeviceHasItsTurn(t *testing.T) {
	w := newWorld(t)
	w.inEU868()
	w.plans()
	for round := range 2 {
		tries := 0
		for {
			w.storm(10)
			_, err := w.asks(devEUI, uint16(1000+100*round+tries), 12)
			if err == nil {
				break
			}
			if tries++; reasonOf(err) != joinserver.NoAirtime || tries > 12 {
				t.Fatalf("round %d, try %d: %v", round, tries, err)
			}
			w.now = w.now.Add(time.Minute)
			w.joins.nonces = map[uint16]joinserver.Claim{}
		}
		if tries < 3 {
			t.Errorf("round %d: answered after %d refusals", round, tries)
		}
		w.joins.nonces = map[uint16]joinserver.Claim{}
	}
}

// TestCrowdOfOneDevice: a device that asks alone is never a crowd to itself.
func TestCrowdOfOneDevice(t *testing.T) {
	w := newWorld(t)
	w.inEU868()
	w.plans()
	for i := range uint16(100) {
		if _, err := w.asks(devEUI, i, 12); err != nil {
			t.Fatalf("try %d: %v", i, err)
		}
		w.now = w.now.Add(20 * time.Second)
	}
}
