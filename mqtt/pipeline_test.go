package mqtt

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"joingate/joinserver"
)

// hear has a gateway hear a frame now.
func (b *testBench) hear(phyPayload []byte, gateway joinserver.EUI64, snr float32) {
	b.pipeline.take(copyOf(phyPayload, gateway, snr, b.clock.now()))
}

func TestJoinIsPreparedAtOnceAndAnsweredAfterTheWindow(t *testing.T) {
	b := newBench(t)
	b.hear(joinRequest(1), gatewayB, -3)
	b.settle(t)
	if prepared, answered := b.handler.calls(); prepared != 1 || len(answered) != 0 {
		t.Fatalf("prepared %d, answered %d within the window", prepared, len(answered))
	}
	b.pass(t, 100*time.Millisecond)
	b.hear(joinRequest(1), gatewayA, 7)
	b.pass(t, 99*time.Millisecond)
	if len(b.broker.messages()) != 0 {
		t.Fatal("answered before the window has passed")
	}
	b.pass(t, time.Millisecond)
	prepared, answered := b.handler.calls()
	if prepared != 1 || len(answered) != 1 || len(answered[0]) != 2 {
		t.Fatalf("prepared %d, answered %v; want once with both copies", prepared, answered)
	}
	sent := b.broker.messages()
	if len(sent) != 1 || commandSent(t, sent[0]).Gateway != gatewayA {
		t.Fatalf("published %+v, want one command to the best gateway", sent)
	}
	b.wantJoins(t, "accepted", "", 1)
	wantCount(t, "copies", b.metrics.copies, 2)
	wantCount(t, "ghosts", b.metrics.ghosts, 0)
}

func TestSlowPrepareIsAnsweredWhenItIsDone(t *testing.T) {
	b := newBench(t)
	ready := make(chan struct{})
	b.handler.prepare = func([]byte) error { <-ready; return nil }
	b.hear(joinRequest(1), gatewayA, 7)
	b.clock.advance(300 * time.Millisecond)
	b.tick(b.clock.now())
	close(ready)
	b.settle(t)
	if _, answered := b.handler.calls(); len(answered) != 1 {
		t.Fatalf("answered %d times, want once", len(answered))
	}
}

func TestGhostsAndLateCopiesAreCountedAndNotAnswered(t *testing.T) {
	b := newBench(t)
	ghost := copyOf(joinRequest(1), gatewayA, -12, b.clock.now())
	ghost.Reception.Frequency = 471_100_000
	b.pipeline.take(ghost)
	b.hear(joinRequest(1), gatewayA, 9)
	b.pass(t, 250*time.Millisecond)
	ghost.Reception.Received = b.clock.now()
	b.pipeline.take(ghost)
	b.hear(joinRequest(1), gatewayC, 9)
	b.pass(t, 5*time.Second)
	if sent := b.broker.messages(); len(sent) != 1 {
		t.Fatalf("%d commands, want 1", len(sent))
	}
	wantCount(t, "copies", b.metrics.copies, 4)
	wantCount(t, "ghosts", b.metrics.ghosts, 2)
	wantCount(t, "late copies", b.metrics.lateCopies, 2)
	b.wantJoins(t, "accepted", "", 1)
}

// A refusal is silence on air, one line, one count, one event.
func TestRefusals(t *testing.T) {
	for _, reason := range joinserver.Reasons() {
		t.Run(reason.String(), func(t *testing.T) {
			b := newBench(t)
			b.handler.answer = func(r joinserver.JoinRequest, _ []joinserver.Reception) (joinserver.Downlink, error) {
				return joinserver.Downlink{}, fmt.Errorf("wrapped: %w",
					&joinserver.Rejection{Reason: reason, DevEUI: r.DevEUI, JoinEUI: r.JoinEUI, Account: 7, Detail: "why"})
			}
			b.hear(joinRequest(1), gatewayA, 7)
			b.hear(joinRequest(1), gatewayB, 7)
			b.pass(t, time.Second)
			if sent := b.broker.messages(); len(sent) != 0 {
				t.Errorf("published %+v", sent)
			}
			b.wantJoins(t, "refused", reason.String(), 1)
			want := 1
			if reason == joinserver.Malformed {
				want = 0
			}
			rejects := b.Rejects()
			if len(rejects) != want || len(b.reporter.events) != want || b.logs.FilterMessage("join refused").Len() != want {
				t.Fatalf("%d remembered, %d events, %d lines; want %d of each", len(rejects), len(b.reporter.events), b.logs.Len(), want)
			}
			if want == 1 && (rejects[0].Reason != reason.String() || rejects[0].Account != 7 || len(rejects[0].Gateways) != 2) {
				t.Errorf("remembered %+v", rejects[0])
			}
		})
	}
}

func TestMalformedFramesAreCountedWithoutWaiting(t *testing.T) {
	b := newBench(t)
	b.hear([]byte{}, gatewayA, 7)
	b.hear(joinRequest(1)[:14], gatewayA, 7)
	b.hear(joinRequest(1)[:14], gatewayB, 7)
	b.settle(t)
	b.wantJoins(t, "refused", "malformed", 2)
	b.pass(t, 10*time.Second)
	b.wantJoins(t, "refused", "malformed", 2)
	if _, answered := b.handler.calls(); len(answered) != 0 {
		t.Errorf("answered %d times", len(answered))
	}
}

func TestLateCopyThatTheRecordKnowsIsNoRefusal(t *testing.T) {
	b := newBench(t)
	b.handler.answer = func(joinserver.JoinRequest, []joinserver.Reception) (joinserver.Downlink, error) {
		return joinserver.Downlink{}, fmt.Errorf("commit: %w", joinserver.ErrLateCopy)
	}
	b.hear(joinRequest(1), gatewayA, 7)
	b.pass(t, time.Second)
	wantCount(t, "late copies", b.metrics.lateCopies, 1)
	if len(b.Rejects()) != 0 || b.logs.Len() != 0 || len(b.broker.messages()) != 0 {
		t.Errorf("rejects %v, log %v", b.Rejects(), b.logs.All())
	}
}

func TestFaultIsSilenceAndRecovers(t *testing.T) {
	b := newBench(t)
	fault := errors.New("disk is full")
	b.handler.prepare = func([]byte) error { return fault }
	b.hear(joinRequest(1), gatewayA, 7)
	b.pass(t, time.Second)
	b.handler.prepare = nil
	b.handler.answer = func(joinserver.JoinRequest, []joinserver.Reception) (joinserver.Downlink, error) {
		return joinserver.Downlink{}, fault
	}
	b.hear(joinRequest(2), gatewayA, 7)
	b.pass(t, time.Second)
	b.handler.answer = nil
	b.hear(joinRequest(3), gatewayA, 7)
	b.pass(t, time.Second)
	b.wantJoins(t, "failed", "", 2)
	b.wantJoins(t, "accepted", "", 1)
	if sent := b.broker.messages(); len(sent) != 1 {
		t.Errorf("%d commands, want 1", len(sent))
	}
}

func TestPanicOfTheHandlerStopsNobodyElse(t *testing.T) {
	b := newBench(t)
	b.handler.answer = func(r joinserver.JoinRequest, copies []joinserver.Reception) (joinserver.Downlink, error) {
		if r.DevNonce == 1 {
			panic("bug")
		}
		return acceptThroughAll(r, copies)
	}
	b.hear(joinRequest(1), gatewayA, 7)
	b.hear(joinRequest(2), gatewayA, 7)
	b.pass(t, time.Second)
	b.wantJoins(t, "accepted", "", 1)
	wantCount(t, "panics", b.metrics.panics, 1)
}

func TestWorkBeyondTheQueueIsRefusedAsOverloaded(t *testing.T) {
	b := newBench(t)
	b.workers.limit, b.workers.room = 2, 3
	blocked := make(chan struct{})
	b.handler.prepare = func([]byte) error { <-blocked; return nil }
	for i := range 8 {
		b.hear(joinRequest(i), gatewayA, 7)
		b.hear(joinRequest(i), gatewayB, 7)
	}
	b.wantJoins(t, "refused", "overloaded", 3)
	if list := b.Rejects(); len(list) != 3 || list[0].DevEUI != requestOf(joinRequest(7)).DevEUI {
		t.Errorf("remembered %+v", list)
	}
	b.clock.advance(time.Second)
	b.tick(b.clock.now())
	close(blocked)
	b.settle(t)
	b.wantJoins(t, "accepted", "", 5)
	b.wantJoins(t, "refused", "overloaded", 3)
}

func TestFullCollectorRefusesAsOverloaded(t *testing.T) {
	b := newBench(t)
	b.pipeline.collector.limit = 1
	b.hear(joinRequest(1), gatewayA, 7)
	b.hear(joinRequest(2), gatewayA, 7)
	b.settle(t)
	b.wantJoins(t, "refused", "overloaded", 1)
}

func TestJoinThatWaitedUntilRX2CostsNoLookUp(t *testing.T) {
	b := newBench(t)
	b.workers.limit = 1
	begun, blocked := make(chan struct{}, 2), make(chan struct{})
	b.handler.prepare = func([]byte) error { begun <- struct{}{}; <-blocked; return nil }
	b.hear(joinRequest(1), gatewayA, 7)
	<-begun
	b.hear(joinRequest(2), gatewayA, 7)
	b.clock.advance(6 * time.Second)
	close(blocked)
	b.pass(t, time.Second)
	if prepared, answered := b.handler.calls(); prepared != 1 || len(answered) != 0 {
		t.Errorf("prepared %d, answered %d; want the first one prepared and nothing else", prepared, len(answered))
	}
	b.wantJoins(t, "refused", "too_late", 2)
}

func TestZeroWindow(t *testing.T) {
	b := newBench(t, func(c *Config) { c.CollectWindow = 0 })
	b.hear(joinRequest(1), gatewayA, 7)
	b.pass(t, 0)
	b.hear(joinRequest(1), gatewayB, 9)
	b.pass(t, time.Second)
	if sent := b.broker.messages(); len(sent) != 1 || commandSent(t, sent[0]).Gateway != gatewayA {
		t.Errorf("published %+v, want one command to the first gateway", sent)
	}
	wantCount(t, "late copies", b.metrics.lateCopies, 1)
}

func TestManyCopiesAtOnceAreOneJoinEach(t *testing.T) {
	b := newBench(t)
	const frames, gateways = 200, 8
	var hearing sync.WaitGroup
	for g := range gateways {
		hearing.Go(func() {
			for i := range frames {
				b.hear(joinRequest(i), joinserver.EUI64{byte(g)}, float32(g))
			}
		})
	}
	hearing.Wait()
	b.pass(t, time.Second)
	if prepared, answered := b.handler.calls(); prepared != frames || len(answered) != frames {
		t.Errorf("prepared %d, answered %d, want %d", prepared, len(answered), frames)
	}
	if sent := b.broker.messages(); len(sent) != frames {
		t.Errorf("%d commands, want %d", len(sent), frames)
	}
	wantCount(t, "copies", b.metrics.copies, frames*gateways)
}

func TestWorkersPreferWhatWasBegun(t *testing.T) {
	var order []string
	w := &workers{limit: 1, room: 9, guard: func(job func()) { job() }}
	blocked, done := make(chan struct{}), make(chan struct{})
	w.begin(func() { <-blocked })
	w.begin(func() { order = append(order, "new"); close(done) })
	w.goOn(func() { order = append(order, "begun") })
	close(blocked)
	<-done
	if fmt.Sprint(order) != "[begun new]" {
		t.Errorf("order %v", order)
	}
}

func BenchmarkJoin(b *testing.B) {
	bench := newBench(b, func(c *Config) { c.CollectWindow, c.Logger = 0, zap.NewNop() })
	payloads := make([][]byte, 1<<16)
	for i := range payloads {
		payloads[i] = encodeUplink(copyOf(joinRequest(i), gatewayA, 7, start))
	}
	topic := "gateway/" + gatewayA.String() + "/event/up"
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now := bench.clock.advance(200 * time.Microsecond)
		bench.receive(topic, payloads[i%len(payloads)], false)
		bench.tick(now)
	}
	bench.settle(b)
}
