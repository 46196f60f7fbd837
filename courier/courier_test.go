package courier

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"joingate/joinserver"
)

// Whatever fails, every event comes, and in order per device.
func TestNothingIsLostOrOutOfOrder(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		lanes := rapid.IntRange(0, 3).Draw(r, "lanes")
		g := newRig(lanes)
		chance := rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "failures"), 0))
		g.sink.fail = func(joinserver.OutboxEvent) error {
			switch chance.IntN(4) {
			case 0:
				return errBroken
			case 1:
				return &Refusal{errBroken}
			}
			return nil
		}
		device := rapid.Byte().Draw
		r.Repeat(map[string]func(*rapid.T){
			"joins":        func(r *rapid.T) { g.box.add(device(r, "device")%5, device(r, "device")%5) },
			"round":        func(*rapid.T) { g.step(t) },
			"crash":        func(*rapid.T) { g.restart(lanes) },
			"cannot read":  func(*rapid.T) { g.box.unread++ },
			"cannot write": func(*rapid.T) { g.box.unkept++ },
			"":             func(r *rapid.T) { g.check(r) },
		})
		g.sink.fail, g.box.unread, g.box.unkept = nil, 0, 0
		for range 1000 {
			if g.box.left() == 0 {
				break
			}
			g.step(t)
		}
		g.check(r)
		written := 0
		for _, next := range g.box.next {
			written += int(next)
		}
		if g.sink.count() != written || g.box.left() != 0 {
			r.Fatalf("%d events of %d came, %d are left", g.sink.count(), written, g.box.left())
		}
	})
}

func (r *rig) check(t *rapid.T) {
	if r.sink.fault != "" {
		t.Fatal(r.sink.fault)
	}
}

// What was delivered, but not removed when the courier died, comes once more.
func TestCrashBeforeRemoval(t *testing.T) {
	g := newRig(2)
	g.box.add(1, 2, 1)
	g.box.unkept = 1
	if g.step(t); g.last().Err == nil || g.box.left() != 3 {
		t.Fatalf("%+v, %d left", g.last(), g.box.left())
	}
	g.restart(2)
	g.step(t)
	if len(g.sink.taken) != 6 || g.box.left() != 0 {
		t.Errorf("%q came, %d are left", g.sink.taken, g.box.left())
	}
}

// Events that the sink does not want are held back with their devices; thousands
// of them do not keep others from being delivered.
func TestRefusedEventsHoldUpTheirDevicesOnly(t *testing.T) {
	g := newRig(4)
	bad := func(device byte) bool { return device >= 100 }
	g.sink.fail = func(e joinserver.OutboxEvent) error {
		if bad(e.DevEUI[7]) {
			return &Refusal{errBroken}
		}
		return nil
	}
	for range 10 {
		for device := range 100 {
			g.box.add(byte(100 + device)) // 1000 events: some batches
		}
	}
	g.box.add(1, 2, 3, 1)
	for range 200 {
		if g.sink.count() == 4 {
			break
		}
		g.step(t)
	}
	if g.sink.count() != 4 || g.box.left() != 1000 {
		t.Fatalf("%d of 4 good events came, %d events are left", g.sink.count(), g.box.left())
	}
	g.box.add(4)
	g.step(t)
	if g.sink.count() != 5 {
		t.Error("a good event waits for refused ones")
	}
	if last := g.last(); last.Waiting < 1000 || last.Held == 0 || last.Oldest != time.UnixMilli(1000) {
		t.Errorf("%+v", last)
	}
	g.sink.fail = nil
	for start := g.at; g.box.left() > 0; g.step(t) {
		if g.at.Sub(start) > 2*longestHold {
			t.Fatalf("%d events are left", g.box.left())
		}
	}
}

// Once the sink has taken something, failures do not end the round.
func TestFailuresBesideSuccess(t *testing.T) {
	g := newRig(1)
	g.box.add(1, 2, 3, 4, 5, 6, 7)
	g.sink.fail = func(e joinserver.OutboxEvent) error {
		if d := e.DevEUI[7]; d > 1 && d < 7 {
			return errBroken
		}
		return nil
	}
	if g.step(t); g.last().Delivered != 2 || g.last().Failed != 5 || g.last().Held != 5 || g.last().Failures != 0 {
		t.Errorf("%+v", g.last())
	}
}

// Another event of the same device is not held back for what the one before it
// did.
func TestHoldBeginsAnew(t *testing.T) {
	g := newRig(1)
	g.sink.fail = func(e joinserver.OutboxEvent) error {
		if e.DevEUI == eui(9) {
			return errBroken
		}
		return nil
	}
	g.box.add(9, 9)
	for range 100 {
		g.box.add(1)
		g.step(t)
		g.at = g.at.Add(longestHold)
	}
	second := false
	g.sink.fail = func(joinserver.OutboxEvent) error { // the first is taken, the second not
		if second {
			return errBroken
		}
		second = true
		return nil
	}
	g.step(t)
	if h := g.runner.held[eui(9)]; h.failures != 1 || h.until.Sub(g.at) > shortestHold {
		t.Errorf("%+v at %s", h, g.at)
	}
}

// A device that is held back is tried less and less often.
func TestHoldGrows(t *testing.T) {
	g := newRig(1)
	wrong := eventID(g.box.add(9)[0])
	g.box.add(9)
	tries := 0
	g.sink.fail = func(e joinserver.OutboxEvent) error {
		if eventID(e) != wrong {
			return nil
		}
		tries++
		return &Refusal{errBroken}
	}
	var refused int
	for start := g.at; g.at.Sub(start) < 24*time.Hour; g.at = g.at.Add(10 * time.Second) {
		g.box.add(1) // the sink is there
		g.step(t)
	}
	for _, round := range g.rounds {
		refused += round.Refused
	}
	if day := int(24 * time.Hour / longestHold); tries < day || tries > day+20 || refused != tries {
		t.Errorf("%d tries in a day, %d of them observed", tries, refused)
	}
	if g.sink.next[eui(9)] != 0 {
		t.Error("the event after it was delivered")
	}
}

// While the sink is away, it is asked a few times a round, and no device is held
// back: when it is there again, all goes on at once.
func TestOutage(t *testing.T) {
	const lanes, devices = 4, 200
	g := newRig(lanes)
	for device := range devices {
		g.box.add(byte(device))
	}
	g.sink.fail = func(joinserver.OutboxEvent) error { return errBroken }
	var long time.Duration
	for range 100 {
		before := g.sink.calls
		long = g.step(t)
		if g.sink.calls-before > 3*lanes {
			t.Fatalf("%d calls in one round of an outage", g.sink.calls-before)
		}
	}
	if last := g.last(); last.Failures != 100 || last.Held != 0 || !errors.Is(last.Err, errBroken) || last.Waiting != devices || long != longestPause {
		t.Errorf("%+v, pause %s", last, long)
	}
	g.sink.fail = nil
	if g.step(t); g.box.left() != 0 || g.last().Failures != 0 {
		t.Errorf("%d events are left after the outage", g.box.left())
	}
}

// However quick the sink is, events that come one by one leave the outbox together;
// when many wait, there is no pause.
func TestFewEventsLinger(t *testing.T) {
	for _, lanes := range []int{0, 1} {
		g := newRig(lanes)
		g.box.add(1)
		if long := g.step(t); long != linger {
			t.Errorf("%d lanes: pause %s after one event, want %s", lanes, long, linger)
		}
		for range 2 * batch {
			g.box.add(1)
		}
		if long := g.step(t); long != 0 {
			t.Errorf("%d lanes: pause %s while events wait", lanes, long)
		}
	}
}

// A sink that takes all at once gets them in one call.
func TestOneLane(t *testing.T) {
	g := newRig(0)
	g.box.add(1, 2, 1, 3)
	g.sink.fail = func(e joinserver.OutboxEvent) error {
		if e.DevEUI == eui(3) {
			return errBroken
		}
		return nil
	}
	if g.step(t); g.sink.calls != 1 || g.last().Delivered != 3 || g.last().Waiting != 1 || g.box.left() != 1 {
		t.Errorf("%d calls, %+v", g.sink.calls, g.last())
	}
	if long := g.step(t); long == 0 || g.last().Failures != 1 {
		t.Errorf("%+v, pause %s", g.last(), long)
	}
}

// together is a sink whose calls end when enough of them run.
type together struct{ arrived, enough chan struct{} }

func (s together) Deliver(ctx context.Context, events []joinserver.OutboxEvent) (int, error) {
	s.arrived <- struct{}{}
	select {
	case <-s.enough:
		return len(events), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func TestLanesRunAtATime(t *testing.T) {
	const lanes = 3
	g := newRig(lanes)
	g.box.add(1, 1, 2, 2, 3, 4)
	s := together{make(chan struct{}), make(chan struct{})}
	g.runner.Sink = s
	go func() {
		for range lanes {
			<-s.arrived
		}
		close(s.enough)
		for range s.arrived {
		}
	}()
	if g.step(t); g.box.left() != 0 {
		t.Errorf("%d events are left", g.box.left())
	}
	close(s.arrived)
}

// silent is a sink that breaks the rules.
type silent struct{}

func (silent) Deliver(context.Context, []joinserver.OutboxEvent) (int, error) { return 0, nil }

func TestSinkWithoutReason(t *testing.T) {
	g := newRig(1)
	g.box.add(1)
	g.runner.Sink = silent{}
	if long := g.step(t); long == 0 || g.last().Err == nil || g.box.left() != 1 {
		t.Errorf("%+v, pause %s", g.last(), long)
	}
}

// An idle courier wakes up when there is something, and ends when it shall.
func TestRun(t *testing.T) {
	b, sink := newBox(), newTaker()
	rounds := make(chan Round, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Courier{Outbox: b, Sink: sink, Lanes: 2, Observe: func(r Round) { rounds <- r }}.Run(ctx)
	}()
	for want := 1; want <= 3; want++ {
		b.add(5)
		for delivered := 0; delivered == 0; delivered = (<-rounds).Delivered {
		}
	}
	cancel()
	<-ended
	if b.left() != 0 || len(sink.taken) != 3 {
		t.Errorf("%d events are left, %q came", b.left(), sink.taken)
	}
}

// What the sink has taken leaves the outbox also when the courier is to stop
// meanwhile; else it would come again with each restart.
func TestStopDuringADelivery(t *testing.T) {
	for _, lanes := range []int{0, 2} {
		g := newRig(lanes)
		g.box.add(1)
		ctx, cancel := context.WithCancel(t.Context())
		g.sink.fail = func(joinserver.OutboxEvent) error { cancel(); return nil }
		if g.runner.step(ctx); g.box.left() != 0 {
			t.Errorf("%d lanes: %d events are left", lanes, g.box.left())
		}
	}
}

// Of several instances only the one delivers whose turn it is.
func TestTurns(t *testing.T) {
	g := newRig(1)
	g.box.add(1)
	mine := false
	g.runner.Turn = func(context.Context) bool { return mine }
	if long := g.step(t); long != turnPoll || g.sink.calls != 0 {
		t.Errorf("pause %s, %d calls", long, g.sink.calls)
	}
	mine = true
	if g.step(t); g.box.left() != 0 {
		t.Error("nothing was delivered")
	}
}
