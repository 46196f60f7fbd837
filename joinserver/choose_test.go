package joinserver_test

import (
	"math"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
)

// TestGatewayChoice gives copies and expects the routes in their order, as
// indices of the copies.
func TestGatewayChoice(t *testing.T) {
	const ghost = 471_100_000 // a join channel of group 101 as well
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, c := range map[string]struct {
		copies []joinserver.Reception
		want   []int
	}{
		"one": {[]joinserver.Reception{heardBy(gatewayA)}, []int{0}},
		"the best margin first": {
			[]joinserver.Reception{heardBy(gatewayA, level(-50, -3)), heardBy(gatewayB, level(-100, 8)), heardBy(gatewayC, level(-80, 2))},
			[]int{1, 2, 0},
		},
		"equal margin, then RSSI": {
			[]joinserver.Reception{heardBy(gatewayA, level(-100, 5)), heardBy(gatewayB, level(-60, 5)), heardBy(gatewayC, level(-80, 5))},
			[]int{1, 2, 0},
		},
		"all equal: as they came": {[]joinserver.Reception{heardBy(gatewayC), heardBy(gatewayA), heardBy(gatewayB)}, []int{0, 1, 2}},
		"antennas of one gateway: the better counts": {
			[]joinserver.Reception{heardBy(gatewayA, level(-100, 1)), heardBy(gatewayB, level(-90, 5)), heardBy(gatewayA, level(-80, 7)), heardBy(gatewayA, level(-70, 6))},
			[]int{2, 1},
		},
		"one that may not serve is passed over": {[]joinserver.Reception{heardBy(nobodys, level(-40, 10)), heardBy(gatewayB, level(-110, -9))}, []int{1}},
		"ghost on no join channel": {
			[]joinserver.Reception{heardBy(gatewayA, at(470_400_000), level(-30, 10)), heardBy(gatewayA)},
			[]int{1},
		},
		"ghost on a join channel": {
			[]joinserver.Reception{heardBy(gatewayA, at(ghost), level(-95, 4)), heardBy(gatewayA, level(-30, 9)), heardBy(gatewayB)},
			[]int{1, 2},
		},
		"ghost with the better SNR": {
			[]joinserver.Reception{heardBy(gatewayA, at(ghost), level(-85, 12)), heardBy(gatewayA, level(-30, 8)), heardBy(gatewayB)},
			[]int{1, 2},
		},
		"ghost of a gateway that nobody registered": {
			[]joinserver.Reception{heardBy(nobodys, at(ghost), level(-20, 12)), heardBy(gatewayB)},
			[]int{1},
		},
		"SNR that is no number comes last": {
			[]joinserver.Reception{heardBy(gatewayA, level(-90, nan)), heardBy(gatewayB, level(-120, -15)), heardBy(gatewayC, level(-90, -inf))},
			[]int{1, 2, 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			down := newWorld(t).mustJoin(1, c.copies...)
			if len(down.Routes) != len(c.want) {
				t.Fatalf("%d routes, want %d: %v", len(down.Routes), len(c.want), down.Routes)
			}
			for i, route := range down.Routes {
				if route.Reception != c.want[i] || route.Gateway != c.copies[c.want[i]].Gateway {
					t.Errorf("route %d is copy %d of %s, want copy %d", i, route.Reception, route.Gateway, c.want[i])
				}
				if route.RX1.Frequency != frequency {
					t.Errorf("route %d answers on %s, the device waits on %s", i, route.RX1.Frequency, frequency)
				}
			}
			if down.Claim.Gateway.EUI != down.Routes[0].Gateway {
				t.Errorf("the commit checks gateway %s, the first route has %s", down.Claim.Gateway.EUI, down.Routes[0].Gateway)
			}
		})
	}
}

// TestTurns: a device that tries again is answered through the gateways within
// 3 dB of the best by turns, the others following by their rank.
func TestTurns(t *testing.T) {
	w := newWorld(t)
	near := heardBy(gatewayC, level(-80, 6.5))
	far := heardBy(gatewayB, level(-80, 5.4))
	for try, want := range [][]joinserver.EUI64{
		{gatewayA, gatewayC, gatewayB},
		{gatewayC, gatewayA, gatewayB},
		{gatewayA, gatewayC, gatewayB},
		{gatewayC, gatewayA, gatewayB},
	} {
		best := heardBy(gatewayA, level(-80, 8.5))
		down := w.mustJoin(uint16(try), far, near, best)
		for i, route := range down.Routes {
			if route.Gateway != want[i] {
				t.Errorf("try %d: route %d is %s, want %s", try, i, route.Gateway, want[i])
			}
		}
	}
	// The gateway of the last try is out of reach: the best again.
	if down := w.mustJoin(10, heardBy(gatewayB, level(-80, 9)), heardBy(gatewayA, level(-80, 8))); down.Routes[0].Gateway != gatewayB {
		t.Errorf("answered through %s", down.Routes[0].Gateway)
	}
}

// TestRefusedTryTakesNoTurn: only an answer that was committed counts as a try.
func TestRefusedTryTakesNoTurn(t *testing.T) {
	w := newWorld(t)
	copies := []joinserver.Reception{heardBy(gatewayA, level(-80, 6)), heardBy(gatewayB, level(-80, 5))}
	w.joins.nonces[1] = joinserver.Claim{}
	if _, err := w.join(1, copies...); reasonOf(err) != joinserver.DevNonceReplayed {
		t.Fatal(err)
	}
	if down := w.mustJoin(2, copies...); down.Routes[0].Gateway != gatewayA {
		t.Errorf("answered through %s", down.Routes[0].Gateway)
	}
}

// TestTurnIsOfTheGatewayThatWasBooked: not of the one that was best, and busy.
func TestTurnIsOfTheGatewayThatWasBooked(t *testing.T) {
	w := newWorld(t)
	ledger, heard := w.plans(), w.inEU868()
	ledger.busy = func(t joinserver.Transmission) bool { return t.Gateway == gatewayA }
	for try, want := range []joinserver.EUI64{gatewayB, gatewayA} {
		down := w.mustJoin(uint16(try), heard(gatewayA, 7, 6), heard(gatewayB, 7, 5))
		if down.Routes[0].Gateway != want {
			t.Errorf("try %d is answered through %s, want %s", try, down.Routes[0].Gateway, want)
		}
		ledger.busy = nil
	}
}

// TestRoaming: a permission of the platform is served by gateways that are open
// to roaming, whoever owns them.
func TestRoaming(t *testing.T) {
	w := newWorld(t)
	w.record.change(func(p *joinserver.Policy) { p.Permission.Type, p.Permission.Owner = joinserver.Roaming, 0 })
	w.record.changeGateway(gatewayB, func(g *joinserver.Gateway) { g.OpenToRoaming, g.Owner = true, stranger })
	down := w.mustJoin(1, heardBy(gatewayA, level(-40, 10)), heardBy(gatewayB))
	if len(down.Routes) != 1 || down.Routes[0].Gateway != gatewayB {
		t.Errorf("answered through %v", down.Routes)
	}
}

// TestWindows: what can still be made at a time after the first copy, with the
// default lead of 200 ms. Times are compared to the nanosecond.
func TestWindows(t *testing.T) {
	for _, c := range []struct {
		after    time.Duration
		rx1, rx2 bool
	}{
		{0, true, true},
		{200 * time.Millisecond, true, true},
		{4800 * time.Millisecond, true, true},
		{4800*time.Millisecond + 1, false, true},
		{5800 * time.Millisecond, false, true},
		{5800*time.Millisecond + 1, false, false},
		{time.Hour, false, false},
	} {
		w := newWorld(t)
		w.now = start.Add(c.after)
		// The copies of slower gateways do not make the windows later.
		slow := heardBy(gatewayB, func(r *joinserver.Reception) { r.Received = w.now })
		down, err := w.join(1, slow, heardBy(gatewayA, level(-120, -10)))
		if !c.rx1 && !c.rx2 {
			if reasonOf(err) != joinserver.TooLate || w.joins.asked != 0 {
				t.Errorf("after %s: %v", c.after, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("after %s: %v", c.after, err)
			continue
		}
		for _, route := range down.Routes {
			if rx1, rx2 := route.RX1 != (band.Window{}), route.RX2 != (band.Window{}); rx1 != c.rx1 || rx2 != c.rx2 {
				t.Errorf("after %s: RX1 %v and RX2 %v offered, want %v and %v", c.after, rx1, rx2, c.rx1, c.rx2)
			}
		}
		if want := start.Add(5800 * time.Millisecond); !down.Claim.Deadline.Equal(want) || !down.Claim.Received.Equal(start) {
			t.Errorf("after %s: received %s, deadline %s, want %s", c.after, down.Claim.Received, down.Claim.Deadline, want)
		}
	}
}

// TestWindowsOfGroup101 pins what the device waits for: 5 s on its own channel at
// its own data rate, 6 s on the last channel of its band at DR0.
func TestWindowsOfGroup101(t *testing.T) {
	route := newWorld(t).mustJoin(1).Routes[0]
	rx1 := band.Window{Delay: 5 * time.Second, Frequency: frequency, DataRate: 2, Modulation: sf10, Power: 19}
	rx2 := band.Window{Delay: 6 * time.Second, Frequency: 471_700_000, DataRate: 0, Modulation: band.Modulation{SpreadingFactor: 12, Bandwidth: 125_000}, Power: 19}
	if route.RX1 != rx1 || route.RX2 != rx2 {
		t.Errorf("windows are\n%+v and\n%+v, want\n%+v and\n%+v", route.RX1, route.RX2, rx1, rx2)
	}
}

func TestSendLeadIsKept(t *testing.T) {
	w := newWorld(t)
	w.config.SendLead = time.Second
	w.rebuild()
	w.now = start.Add(5 * time.Second)
	down := w.mustJoin(1)
	if down.Routes[0].RX1 != (band.Window{}) || !down.Claim.Deadline.Equal(start.Add(5*time.Second)) {
		t.Errorf("RX1 %v, deadline %s", down.Routes[0].RX1, down.Claim.Deadline)
	}
	w.now = w.now.Add(1)
	if _, err := w.join(2); reasonOf(err) != joinserver.TooLate {
		t.Errorf("a nanosecond later: %v", err)
	}
}

// TestDeadlineOfRX1Alone: where the plan offers RX1 alone, because RX2 cannot
// carry the CFList within the dwell limit, a commit after RX1 would burn a nonce
// for nothing.
func TestDeadlineOfRX1Alone(t *testing.T) {
	w := newWorld(t)
	group, reception := rx1Alone(t, w)
	w.record.change(func(p *joinserver.Policy) { p.Permission.BandPlanGroup = group })
	w.record.changeGateway(gatewayA, func(g *joinserver.Gateway) { g.BandPlanGroup = group })
	down := w.mustJoin(1, reception)
	if down.Routes[0].RX2 != (band.Window{}) || !down.Claim.Deadline.Equal(start.Add(4800*time.Millisecond)) {
		t.Errorf("group %d: RX2 %v, deadline %s", group, down.Routes[0].RX2, down.Claim.Deadline)
	}
}

func rx1Alone(t *testing.T, w *world) (band.GroupID, joinserver.Reception) {
	t.Helper()
	for _, g := range w.config.Bands.All() {
		for _, channel := range g.Describe().JoinChannels {
			for sf := uint8(7); sf <= 12; sf++ {
				m := band.Modulation{SpreadingFactor: sf, Bandwidth: 125_000}
				answer, ok := g.Answer(channel.Frequency, m, band.MAC1_0_3, true)
				if ok && answer.RX2 == (band.Window{}) {
					return g.ID, heardBy(gatewayA, at(channel.Frequency), func(r *joinserver.Reception) { r.Modulation = m })
				}
			}
		}
	}
	t.Fatal("no group offers RX1 alone: this proves nothing")
	return 0, joinserver.Reception{}
}

func TestLinkMargin(t *testing.T) {
	for sf, want := range map[uint8]float32{5: -2.5, 6: -5, 7: -7.5, 8: -10, 9: -12.5, 10: -15, 11: -17.5, 12: -20} {
		if got := joinserver.RequiredSNR(sf); got != want {
			t.Errorf("SF%d needs %v dB, want %v", sf, got, want)
		}
	}
	r := heardBy(gatewayA, level(-100, -12))
	if r.LinkMargin() != 3 {
		t.Errorf("margin of -12 dB at SF10 is %v, want 3", r.LinkMargin())
	}
}
