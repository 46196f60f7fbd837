package joinserver_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"

	"pgregory.net/rapid"
)

// airtime is a ledger that says what it was asked and refuses what is busy.
type airtime struct {
	busy     func(joinserver.Transmission) bool
	wanted   []joinserver.Transmission // of the last Book
	booked   []joinserver.Transmission // and not released
	released int
}

func (a *airtime) Book(_ context.Context, options []joinserver.Transmission) int {
	a.wanted = options
	for i, t := range options {
		if a.busy == nil || !a.busy(t) {
			a.booked = append(a.booked, t)
			return i
		}
	}
	return -1
}

func (a *airtime) Release(ctx context.Context, t joinserver.Transmission) {
	i := slices.Index(a.booked, t)
	if i < 0 || ctx.Err() != nil {
		panic("released what was not booked, or too late to be heard")
	}
	a.booked = slices.Delete(a.booked, i, i+1)
	a.released++
}

func (a *airtime) Sent(context.Context, joinserver.Transmission) {}

// plans gives the world a ledger.
func (w *world) plans() *airtime {
	a := new(airtime)
	w.config.Airtime = a
	w.rebuild()
	return a
}

// inEU868 moves the world there: RX2 at SF12 is slow, and each window has its
// own sub-band. It gives what makes a copy at a spreading factor.
func (w *world) inEU868() func(gateway joinserver.EUI64, sf uint8, snr float32) joinserver.Reception {
	eu := groupNamed(w.tb, "EU868").ID
	w.record.change(func(p *joinserver.Policy) { p.Permission.BandPlanGroup = eu })
	for eui := range w.record.gateways {
		w.record.changeGateway(eui, func(g *joinserver.Gateway) { g.BandPlanGroup = eu })
	}
	return func(gateway joinserver.EUI64, sf uint8, snr float32) joinserver.Reception {
		r := heardBy(gateway, at(868_100_000), level(-100, snr))
		r.Modulation.SpreadingFactor = sf
		return r
	}
}

// place names a window of a gateway: "a1" is RX1 of gateway A.
func place(t joinserver.Transmission) string {
	name := map[joinserver.EUI64]string{gatewayA: "a", gatewayB: "b", gatewayC: "c"}[t.Gateway]
	switch t.Start.Sub(start) {
	case band.JoinAcceptDelay1:
		return name + "1"
	case band.JoinAcceptDelay2:
		return name + "2"
	}
	return name + "?"
}

func places(of []joinserver.Transmission) string {
	names := make([]string, len(of))
	for i, t := range of {
		names[i] = place(t)
	}
	return strings.Join(names, " ")
}

// TestBookingOrder: airtime is what a storm is short of, so a quick window of any
// gateway that hears the device comes before a slow one of the best.
func TestBookingOrder(t *testing.T) {
	for name, c := range map[string]struct {
		sf      uint8
		a, b, c float32 // SNR at each gateway
		want    string
	}{
		"all hear well at SF7":        {7, 9, 5, 0, "a1 b1 c1 a2 b2 c2"},
		"two hear faintly at SF7":     {7, 9, -4, -5, "a1 b1 c1 a2 b2 c2"},
		"one below what SF7 needs":    {7, 9, -8, -9, "a1 a2 b2 c2 b1 c1"},
		"all hear faintly at SF7":     {7, -4, -5, -6, "a1 b1 c1 a2 b2 c2"},
		"at SF12 RX2 lasts no longer": {12, 0, -5, -12, "a1 a2 b1 b2 c1 c2"},
		"at SF12, one faintly":        {12, 0, -5, -18, "a1 a2 b1 b2 c1 c2"},
		"at SF11 RX2 is not yet slow": {11, 0, -1, -2, "a1 a2 b1 b2 c1 c2"},
		"equal SNR at SF9":            {9, 9, 9, 9, "a1 b1 c1 a2 b2 c2"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ledger, heard := w.plans(), w.inEU868()
			w.mustJoin(1, heard(gatewayA, c.sf, c.a), heard(gatewayB, c.sf, c.b), heard(gatewayC, c.sf, c.c))
			if got := places(ledger.wanted); got != c.want {
				t.Errorf("places are asked for as %s, want %s", got, c.want)
			}
		})
	}
}

// TestBookedPlaceIsTaken: the gateway that was booked comes first and is the one
// that the commit checks; in its RX2 it is not offered an RX1 that is busy.
func TestBookedPlaceIsTaken(t *testing.T) {
	for name, c := range map[string]struct {
		busy     string
		gateways []joinserver.EUI64
		rx1      bool
		booked   string
	}{
		"nothing is busy": {"", []joinserver.EUI64{gatewayA, gatewayB}, true, "a1"},
		"the best's RX1":  {"a1", []joinserver.EUI64{gatewayB, gatewayA}, true, "b1"},
		"every RX1":       {"a1 b1", []joinserver.EUI64{gatewayA, gatewayB}, false, "a2"},
		"all but one":     {"a1 b1 a2", []joinserver.EUI64{gatewayB, gatewayA}, false, "b2"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ledger, heard := w.plans(), w.inEU868()
			ledger.busy = func(t joinserver.Transmission) bool { return strings.Contains(c.busy, place(t)) }
			down := w.mustJoin(1, heard(gatewayA, 7, 9), heard(gatewayB, 7, 5))
			first := down.Routes[0]
			for i, route := range down.Routes {
				if route.Gateway != c.gateways[i] {
					t.Errorf("route %d is %s, want %s", i, route.Gateway, c.gateways[i])
				}
				if i > 0 && (route.Booked != (joinserver.Transmission{}) || route.RX1 == (band.Window{}) || route.RX2 == (band.Window{})) {
					t.Errorf("route %d is booked, or lacks a window: %+v", i, route)
				}
			}
			if (first.RX1 != band.Window{}) != c.rx1 || first.RX2 == (band.Window{}) {
				t.Errorf("RX1 %+v, RX2 %+v", first.RX1, first.RX2)
			}
			if len(ledger.booked) != 1 || place(ledger.booked[0]) != c.booked || ledger.booked[0] != first.Booked {
				t.Errorf("booked %v, the route says %v", ledger.booked, first.Booked)
			}
			if down.Claim.Gateway.EUI != first.Gateway || !down.Claim.Deadline.Equal(start.Add(5800*time.Millisecond)) {
				t.Errorf("the claim has gateway %s, deadline %s", down.Claim.Gateway.EUI, down.Claim.Deadline)
			}
		})
	}
}

// TestWhatIsBooked: the length that the frame has, the start by that gateway's own
// copy, the duty cycle of the window's frequency.
func TestWhatIsBooked(t *testing.T) {
	w := newWorld(t)
	ledger, heard := w.plans(), w.inEU868()
	late := heard(gatewayB, 7, 5)
	late.Received = start.Add(70 * time.Millisecond)
	down := w.mustJoin(1, heard(gatewayA, 7, 9), late)
	sf7, sf12 := band.Modulation{SpreadingFactor: 7, Bandwidth: 125_000}, band.Modulation{SpreadingFactor: 12, Bandwidth: 125_000}
	one, ten := band.DutyCycle{SubBand: 3, Limit: 36 * time.Second}, band.DutyCycle{SubBand: 5, Limit: 360 * time.Second}
	want := []joinserver.Transmission{
		{Gateway: gatewayA, Start: start.Add(5 * time.Second), OnAir: sf7.TimeOnAir(33, false), Duty: one},
		{Gateway: gatewayB, Start: start.Add(5070 * time.Millisecond), OnAir: sf7.TimeOnAir(33, false), Duty: one},
		{Gateway: gatewayA, Start: start.Add(6 * time.Second), OnAir: sf12.TimeOnAir(33, false), Duty: ten},
		{Gateway: gatewayB, Start: start.Add(6070 * time.Millisecond), OnAir: sf12.TimeOnAir(33, false), Duty: ten},
	}
	if !slices.Equal(ledger.wanted, want) {
		t.Errorf("asked for\n%v, want\n%v", ledger.wanted, want)
	}
	if len(down.PHYPayload) != 33 {
		t.Errorf("the frame has %d octets", len(down.PHYPayload))
	}
	if got := down.Transmission(down.Routes[1], down.Routes[1].RX1); got != want[1] {
		t.Errorf("RX1 of the second route is %v, want %v", got, want[1])
	}
}

// TestNoAirtime: nothing fits, so no nonce is spent, the record is not asked, and
// the device's next try succeeds.
func TestNoAirtime(t *testing.T) {
	w := newWorld(t)
	w.stale()
	ledger := w.plans()
	ledger.busy = func(joinserver.Transmission) bool { return true }
	down, err := w.join(1, heardBy(gatewayA), heardBy(gatewayB))
	if reasonOf(err) != joinserver.NoAirtime || !strings.Contains(err.Error(), "of 4 ways through 2 gateways 4 are taken, and 0 too slow") {
		t.Fatal(err)
	}
	if w.joins.asked != 0 || w.record.asked != 0 || down.PHYPayload != nil || ledger.released != 0 {
		t.Errorf("%d commits, %d reads of the record, %d releases", w.joins.asked, w.record.asked, ledger.released)
	}
	ledger.busy = nil
	w.mustJoin(1, heardBy(gatewayA), heardBy(gatewayB))
}

// TestOnlyWhatCanBeReachedIsBooked: late, RX1 is not asked for.
func TestOnlyWhatCanBeReachedIsBooked(t *testing.T) {
	w := newWorld(t)
	ledger, heard := w.plans(), w.inEU868()
	w.now = start.Add(4900 * time.Millisecond)
	w.mustJoin(1, heard(gatewayA, 7, 9), heard(gatewayB, 7, 9))
	if got := places(ledger.wanted); got != "a2 b2" {
		t.Errorf("asked for %s", got)
	}
}

// TestPlaceOfFailedJoinIsReleased: whatever fails after the booking gives it back.
func TestPlaceOfFailedJoinIsReleased(t *testing.T) {
	for name, set := range map[string]func(*world){
		"replayed":       func(w *world) { w.joins.nonces[1] = joinserver.Claim{} },
		"late copy":      func(w *world) { w.mustJoin(1) },
		"used up":        func(w *world) { w.joins.joinNonce = joinserver.MaxJoinNonce },
		"fault":          func(w *world) { w.joins.fault = context.DeadlineExceeded },
		"not encodable":  func(w *world) { w.joins.joinNonce = joinserver.MaxJoinNonce + 1 },
		"too late":       func(w *world) { w.joins.onCommit = func() { w.now = start.Add(time.Minute) } },
		"policy on move": func(w *world) { w.joins.onCommit = func() { w.record.change(func(*joinserver.Policy) {}) } },
	} {
		w := newWorld(t)
		ledger := w.plans()
		set(w)
		before := len(ledger.booked)
		if _, err := w.join(1); err == nil || w.joins.asked == 0 {
			t.Errorf("%s: %v", name, err)
		}
		if len(ledger.booked) != before || ledger.released == 0 {
			t.Errorf("%s: %v stays booked", name, ledger.booked)
		}
	}
}

// TestPlaceOfGivenUpJoinIsReleased: the caller's context is over, the ledger hears
// of it nevertheless.
func TestPlaceOfGivenUpJoinIsReleased(t *testing.T) {
	w := newWorld(t)
	ledger := w.plans()
	ctx, cancel := context.WithCancel(context.Background())
	w.joins.onCommit = func() { cancel(); w.joins.fault = ctx.Err() }
	_, err := w.handler.Join(ctx, joinserver.Uplink{PHYPayload: joinRequest(t, rootHex, 1), Receptions: []joinserver.Reception{heardBy(gatewayA)}})
	if err == nil || len(ledger.booked) != 0 || ledger.released != 1 {
		t.Errorf("%v, booked %v", err, ledger.booked)
	}
}

// TestMovedPolicyIsBookedOnce: the second decision has the place, not the first.
func TestMovedPolicyIsBookedOnce(t *testing.T) {
	w := newWorld(t)
	w.stale()
	ledger := w.plans()
	w.record.changeGateway(gatewayA, func(g *joinserver.Gateway) { g.Owner = stranger })
	down := w.mustJoin(1, heardBy(gatewayA, level(-50, 9)), heardBy(gatewayB))
	if len(ledger.booked) != 1 || ledger.booked[0].Gateway != gatewayB || down.Routes[0].Booked != ledger.booked[0] {
		t.Errorf("booked %v", ledger.booked)
	}
}

// TestCFListIsGivenUpForAPlace: AS923 gives up RX2 for the CFList. With RX1 taken
// everywhere, RX2 without CFList is a way too.
func TestCFListIsGivenUpForAPlace(t *testing.T) {
	w := newWorld(t)
	ledger := w.plans()
	heard := w.moveTo(groupNamed(t, "AS923-1"))
	heard.Modulation.SpreadingFactor = 7
	down := w.mustJoin(1, heard)
	if down.Routes[0].RX2 != (band.Window{}) || len(down.PHYPayload) != 33 || !down.Claim.Deadline.Equal(start.Add(4800*time.Millisecond)) {
		t.Errorf("with RX1 free: %d octets, RX2 %v, deadline %s", len(down.PHYPayload), down.Routes[0].RX2, down.Claim.Deadline)
	}
	ledger.busy = func(t joinserver.Transmission) bool { return place(t) == "a1" }
	down = w.mustJoin(2, heard)
	if down.Routes[0].RX1 != (band.Window{}) || len(down.PHYPayload) != 17 || !down.Claim.Deadline.Equal(start.Add(5800*time.Millisecond)) {
		t.Errorf("with RX1 taken: %d octets, RX1 %v, deadline %s", len(down.PHYPayload), down.Routes[0].RX1, down.Claim.Deadline)
	}
	if sf10.TimeOnAir(17, false) != ledger.wanted[1].OnAir {
		t.Errorf("booked %s for RX2", ledger.wanted[1].OnAir)
	}
}

// TestWays: what a hand-over can choose from.
func TestWays(t *testing.T) {
	w := newWorld(t)
	w.plans()
	heard := w.inEU868()
	down := w.mustJoin(1, heard(gatewayA, 7, 9), heard(gatewayB, 7, 5))
	for after, want := range map[time.Duration]string{
		0: "a1 b1 a2 b2", 5 * time.Second: "a1 b1 a2 b2", 5*time.Second + 1: "a2 b2", 6 * time.Second: "a2 b2", 6*time.Second + 1: "",
	} {
		var got []joinserver.Transmission
		for _, way := range down.Ways(start.Add(after)) {
			got = append(got, way.Transmission)
			if route := down.Routes[way.Route]; way.Window != route.RX1 && way.Window != route.RX2 || way.Transmission != down.Transmission(route, way.Window) {
				t.Errorf("after %s: %+v is no way of its route", after, way)
			}
		}
		if places(got) != want {
			t.Errorf("after %s the ways are %q, want %q", after, places(got), want)
		}
	}
	if first := down.Ways(start)[0]; first.Transmission != down.Routes[0].Booked {
		t.Errorf("the first way %v is not the one booked", first)
	}
}

// TestBookingProperties: whatever is busy, the join takes a place that is free if
// there is one, offers only windows that may be sent in, and books no more than one.
func TestBookingProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		ledger, heard := w.plans(), w.inEU868()
		sf := uint8(rapid.IntRange(7, 12).Draw(rt, "sf"))
		w.now = start.Add(time.Duration(rapid.IntRange(0, 5800).Draw(rt, "after")) * time.Millisecond)
		var copies []joinserver.Reception
		for _, g := range []joinserver.EUI64{gatewayA, gatewayB, gatewayC} {
			copies = append(copies, heard(g, sf, float32(rapid.IntRange(-25, 10).Draw(rt, "snr"))))
		}
		busy := rapid.SliceOfDistinct(rapid.SampledFrom(strings.Fields("a1 a2 b1 b2 c1 c2")), rapid.ID).Draw(rt, "busy")
		ledger.busy = func(t joinserver.Transmission) bool { return slices.Contains(busy, place(t)) }
		down, err := w.join(1, copies...)
		free := slices.DeleteFunc(slices.Clone(ledger.wanted), ledger.busy)
		if len(free) == 0 {
			if reasonOf(err) != joinserver.NoAirtime || w.joins.asked != 0 {
				rt.Fatalf("nothing is free, and yet: %v", err)
			}
			return
		}
		if err != nil || len(ledger.booked) != 1 || ledger.booked[0] != free[0] || down.Routes[0].Booked != free[0] {
			rt.Fatalf("booked %v of %s: %v", ledger.booked, places(free), err)
		}
		route := down.Routes[0]
		if place(route.Booked)[1] == '2' && route.RX1 != (band.Window{}) {
			rt.Fatal("RX2 is booked, and RX1 offered")
		}
		if last := max(route.RX1.Delay, route.RX2.Delay); !down.Claim.Deadline.Equal(start.Add(last - 200*time.Millisecond)) {
			rt.Fatalf("deadline %s, last window %s", down.Claim.Deadline, last)
		}
	})
}
