package mqtt

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"joingate/band"
	"joingate/joinserver"
)

// fakeLedger is an airtime ledger that writes down what it is told: "book A5s" for
// what gateway A sends 5 s after the start.
type fakeLedger struct {
	mu    sync.Mutex
	full  []string // what does not fit
	lines []string
	held  map[string]int
}

func newFakeLedger(full ...string) *fakeLedger {
	return &fakeLedger{full: full, held: map[string]int{}}
}

func placeOf(t joinserver.Transmission) string {
	return nameOf(t.Gateway) + t.Start.Sub(start).String()
}

func (l *fakeLedger) Book(_ context.Context, options []joinserver.Transmission) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(options, func(t joinserver.Transmission) bool { return !slices.Contains(l.full, placeOf(t)) })
	if i >= 0 {
		l.note("book", options[i], 1)
	}
	return i
}

func (l *fakeLedger) Release(_ context.Context, t joinserver.Transmission) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note("release", t, -1)
}

func (l *fakeLedger) Sent(_ context.Context, t joinserver.Transmission) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note("sent", t, 1)
}

func (l *fakeLedger) note(what string, t joinserver.Transmission, n int) {
	l.lines = append(l.lines, what+" "+placeOf(t))
	l.held[placeOf(t)] += n
}

func (l *fakeLedger) told() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, ", ")
}

// plannedSending is a join-accept whose first gateway is booked for RX1, or for RX2.
func plannedSending(l *fakeLedger, routes int, rx2 bool) *sending {
	s := sendingTo(start, routes)
	d := &s.downlink
	d.Claim.Received = start
	first := &d.Routes[0]
	first.Booked = d.Transmission(*first, testRX1)
	if rx2 {
		first.Booked, first.RX1 = d.Transmission(*first, testRX2), band.Window{}
	}
	l.held[placeOf(first.Booked)]++
	return newSending(s.frame, *d)
}

func TestLedgerLearnsFromAcks(t *testing.T) {
	for _, test := range []struct {
		name    string
		rx2     bool // the booking is RX2's
		items   []txStatus
		told    string
		outcome string // empty: the next gateway is asked
	}{
		{"sent as planned", false, []txStatus{txOK, txIgnored}, "", outcomeSentRX1},
		{"sent as planned in RX2", true, []txStatus{txOK}, "", outcomeSentRX2},
		{"RX1 missed, RX2 taken", false, []txStatus{txTooLate, txOK}, "release A5s, sent A6s", outcomeSentRX2},
		{"RX1 busy, RX2 taken", false, []txStatus{txCollisionPacket, txOK}, "sent A6s", outcomeSentRX2},
		{"both missed", false, []txStatus{txTooLate, txTooEarly}, "release A5s, book B5s", ""},
		{"both busy", false, []txStatus{txCollisionPacket, txCollisionBeacon}, "sent A6s, book B5s", ""},
		{"duty cycle used up", false, []txStatus{txDutyCycleOverflow, txDutyCycleOverflow}, "sent A6s, book B5s", ""},
		{"queue full", false, []txStatus{txQueueFull, txInternalError}, "release A5s, book B5s", ""},
		{"cannot send so", false, []txStatus{txFreq, txPower}, "release A5s, book B5s", ""},
		{"no GPS, busy", false, []txStatus{txGPSUnlocked, txCollisionPacket}, "release A5s, sent A6s, book B5s", ""},
		{"RX2 busy", true, []txStatus{txCollisionPacket}, "book B5s", ""},
		{"one word for all: sent", false, []txStatus{txOK}, "", outcomeSent},
		{"one word for all: missed", false, []txStatus{txTooLate}, "release A5s, book B5s", ""},
		{"one word for all: busy", false, []txStatus{txCollisionPacket}, "book B5s", ""},
		{"no word at all", false, nil, "book B5s", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			ledger := newFakeLedger()
			b := newBench(t, func(c *Config) { c.Airtime = ledger })
			if err := b.transmitter.send(plannedSending(ledger, 2, test.rx2)); err != nil {
				t.Fatal(err)
			}
			c := commandSent(t, b.broker.messages()[0])
			b.transmitter.acknowledged(ack{Gateway: c.Gateway, ID: c.ID, Items: test.items, Encoding: v4Protobuf})
			b.settle(t)
			if got := ledger.told(); got != test.told {
				t.Errorf("the ledger was told %q, want %q", got, test.told)
			}
			if test.outcome != "" {
				b.wantOutcome(t, test.outcome, 1)
			}
			if asked := len(b.broker.messages()); (asked == 2) != (test.outcome == "") {
				t.Errorf("%d gateways were asked", asked)
			}
		})
	}
}

func TestHandOverTakesTheWayThatIsFree(t *testing.T) {
	ledger := newFakeLedger("B5s", "C5s", "B6s")
	b := newBench(t, func(c *Config) { c.Airtime = ledger })
	if err := b.transmitter.send(plannedSending(ledger, 3, false)); err != nil {
		t.Fatal(err)
	}
	b.refuse(t)
	sent := b.broker.messages()
	if c := commandSent(t, sent[1]); c.Gateway != gatewayC || len(c.Windows) != 1 || c.Windows[0] != withoutRate(testRX2) {
		t.Errorf("command %+v, want RX2 of gateway C alone", c)
	}
	b.transmitter.acknowledged(ack{Gateway: gatewayC, ID: commandSent(t, sent[1]).ID, Items: []txStatus{txOK}, Encoding: v4Protobuf})
	b.wantOutcome(t, outcomeSentRX2, 1)
}

func TestNoAirtimeForAHandOver(t *testing.T) {
	ledger := newFakeLedger("B5s", "B6s")
	b := newBench(t, func(c *Config) { c.Airtime = ledger })
	if err := b.transmitter.send(plannedSending(ledger, 2, false)); err != nil {
		t.Fatal(err)
	}
	b.refuse(t)
	if n := len(b.broker.messages()); n != 1 {
		t.Errorf("%d commands", n)
	}
	b.wantOutcome(t, outcomeRefused, 1)
}

// A commit that took so long that RX1 is over costs the booking of RX1.
func TestMissedBookingIsTakenBack(t *testing.T) {
	ledger := newFakeLedger("A6s")
	b := newBench(t, func(c *Config) { c.Airtime = ledger })
	b.clock.advance(4950 * time.Millisecond)
	if err := b.transmitter.send(plannedSending(ledger, 2, false)); err != nil {
		t.Fatal(err)
	}
	if got := ledger.told(); got != "release A5s, book B6s" {
		t.Errorf("the ledger was told %q", got)
	}
	b.clock.advance(2 * time.Second)
	late := plannedSending(ledger, 2, false)
	if err := b.transmitter.send(late); err == nil {
		t.Error("sent after RX2")
	}
	if got := ledger.told(); got != "release A5s, book B6s, release A5s" {
		t.Errorf("the ledger was told %q", got)
	}
	b.wantOutcome(t, outcomeUnsent, 1)
}

// A gateway that cannot be asked keeps no booking.
func TestBookingOfAGatewayWithoutContextIsTakenBack(t *testing.T) {
	ledger := newFakeLedger()
	b := newBench(t, func(c *Config) { c.Airtime = ledger })
	s := plannedSending(ledger, 2, false)
	s.copies[0].Context = nil
	if err := b.transmitter.send(s); err != nil {
		t.Fatal(err)
	}
	if got := ledger.told(); got != "release A5s, book B5s" {
		t.Errorf("the ledger was told %q", got)
	}
}

// Silence keeps the booking: the gateway may have sent.
func TestSilenceKeepsTheBooking(t *testing.T) {
	ledger := newFakeLedger()
	b := newBench(t, func(c *Config) { c.Airtime = ledger })
	if err := b.transmitter.send(plannedSending(ledger, 2, false)); err != nil {
		t.Fatal(err)
	}
	b.pass(t, time.Minute)
	if got := ledger.told(); got != "" {
		t.Errorf("the ledger was told %q", got)
	}
	b.wantOutcome(t, outcomeUnknown, 1)
}

// Property: whatever gateways say, and whether the broker is there or not, each one
// is asked at most once, the join-accept has one outcome, what is offered is booked,
// and nothing is given back that was not held.
func TestEachJoinAcceptHasOneOutcome(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		ledger := newFakeLedger(rapid.SliceOfDistinct(rapid.SampledFrom([]string{"B5s", "B6s", "C5s", "C6s"}), rapid.ID).Draw(r, "busy")...)
		b := newBench(t, func(c *Config) {
			if rapid.Bool().Draw(r, "planned") {
				c.Airtime = ledger
			}
		})
		b.broker.answer = func(published) error {
			if b.broker.away.Load() {
				return errNoReceipt
			}
			return nil
		}
		b.broker.away.Store(rapid.Bool().Draw(r, "away"))
		s := plannedSending(ledger, 3, false)
		if b.transmitter.ledger == nil {
			s.downlink.Routes[0].Booked, s.next.booked = joinserver.Transmission{}, joinserver.Transmission{}
		}
		_ = b.transmitter.send(s)
		answered := 0
		for range rapid.IntRange(0, 6).Draw(r, "steps") {
			b.pass(t, time.Duration(rapid.IntRange(0, 1500).Draw(r, "ms"))*time.Millisecond)
			b.broker.away.Store(rapid.IntRange(0, 3).Draw(r, "away") == 0)
			b.pass(t, retryEvery)
			for _, m := range b.broker.messages()[answered:] {
				c := commandSent(t, m)
				answered++
				items := make([]txStatus, len(c.Windows))
				for i := range items {
					items[i] = txStatus(rapid.IntRange(2, 11).Draw(r, "status"))
				}
				if rapid.IntRange(0, 3).Draw(r, "sent") == 0 {
					items[len(items)-1] = txOK
				}
				b.transmitter.acknowledged(ack{Gateway: c.Gateway, ID: c.ID, Items: items, Encoding: v4Protobuf})
				b.settle(t)
			}
		}
		b.pass(t, time.Minute)

		asked := map[joinserver.EUI64]int{}
		for _, m := range b.broker.messages() {
			if asked[commandSent(t, m).Gateway]++; asked[commandSent(t, m).Gateway] > 1 {
				r.Fatalf("a gateway was asked twice: %v", asked)
			}
		}
		outcomes := 0.0
		for _, label := range []string{outcomeSent, outcomeSentRX1, outcomeSentRX2, outcomeRefused, outcomeUnknown, outcomeUnsent} {
			outcomes += countOf(b.metrics.accepts.WithLabelValues(label))
		}
		if outcomes != 1 || !b.transmitter.idle(b.clock.now()) {
			r.Fatalf("%v outcomes", outcomes)
		}
		for place, n := range ledger.held {
			if n < 0 || n > 1 {
				r.Fatalf("the ledger holds %s %d times after %s", place, n, ledger.told())
			}
		}
		if len(b.broker.messages()) == 0 && b.transmitter.ledger != nil && ledger.held["A5s"] != 0 {
			r.Fatal("a booking of what was never sent is left")
		}
	})
}

func TestOutcomeEvent(t *testing.T) {
	b := newBench(t)
	s := sendingTo(start, 2)
	s.downlink.Claim.Policy.Node.Account = 5
	if err := b.transmitter.send(s); err != nil {
		t.Fatal(err)
	}
	b.refuse(t)
	c := commandSent(t, b.broker.messages()[1])
	b.transmitter.acknowledged(ack{Gateway: c.Gateway, ID: c.ID, Items: []txStatus{txTooLate, txOK}, Encoding: v4Protobuf})
	sent := b.publishEvents()
	if len(sent) != 3 || sent[2].qos != 1 || sent[2].topic != "joingate/5/node/"+s.downlink.Claim.Request.DevEUI.String()+"/event/txack" {
		t.Fatalf("published %+v", sent)
	}
	for _, part := range []string{
		`"status":"sent"`, `"window":"rx2"`, fmt.Sprintf(`"gateway":%q`, gatewayB),
		fmt.Sprintf(`"acks":[{"gateway":%q,"statuses":["TOO_LATE","COLLISION_PACKET"]},{"gateway":%q,"statuses":["TOO_LATE","OK"]}]`, gatewayA, gatewayB),
	} {
		if !strings.Contains(string(sent[2].payload), part) {
			t.Errorf("event %s has no %s", sent[2].payload, part)
		}
	}
	wantCount(t, "outcome events", b.metrics.outcomeEvents.WithLabelValues(eventPublished), 1)
}

// While the broker is away RX1 goes by: RX2 of the same gateway is a way that was not
// tried.
func TestStrandedJoinAcceptTakesRX2(t *testing.T) {
	ledger := newFakeLedger()
	b := newBench(t, func(c *Config) { c.Airtime = ledger })
	b.broker.answer = func(published) error { return errNoReceipt }
	b.broker.away.Store(true)
	_ = b.transmitter.send(plannedSending(ledger, 1, false))
	b.pass(t, 5*time.Second)
	b.broker.answer = nil
	b.broker.away.Store(false)
	b.pass(t, retryEvery)
	if got := ledger.told(); got != "release A5s, book A6s" || len(b.broker.messages()) != 1 {
		t.Errorf("the ledger was told %q, %d commands", got, len(b.broker.messages()))
	}
}

// A command whose id is given again has its outcome: nobody can tell its acks any
// more.
func TestOutcomeOfACommandThatLosesItsID(t *testing.T) {
	ids := new(fakeIDs)
	b := newBench(t, func(c *Config) { c.IDs = ids })
	for range 2 {
		ids.last.Store(6)
		if err := b.transmitter.send(sendingTo(start, 2)); err != nil {
			t.Fatal(err)
		}
	}
	b.wantOutcome(t, outcomeUnknown, 1)
	b.transmitter.acknowledged(ack{Gateway: gatewayA, ID: 7, Items: []txStatus{txOK, txIgnored}, Encoding: v4Protobuf})
	b.pass(t, time.Minute)
	b.wantOutcome(t, outcomeUnknown, 1)
	b.wantOutcome(t, outcomeSentRX1, 1)
	wantCount(t, "reused ids", b.metrics.reusedIDs, 1)
}
