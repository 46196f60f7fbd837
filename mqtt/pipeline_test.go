package mqtt

import (
	"errors"
	"fmt"
	"slices"
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
			if len(rejects) != want || len(b.reporter.refusals.waiting) != want || b.logs.FilterMessage("join refused").Len() != want {
				t.Fatalf("%d remembered, %d events, %d lines; want %d of each", len(rejects), len(b.reporter.refusals.waiting), b.logs.Len(), want)
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

// A rejoin-request goes the way of a join-request.
func TestRejoinRequest(t *testing.T) {
	b := newBench(t)
	rejoin := append([]byte{0xc0, 0, 0, 0, 0}, make([]byte, 14)...) // type 0
	b.overhear(t, copyOf(rejoin, gatewayA, 7, start))
	b.overhear(t, copyOf(rejoin, gatewayB, 9, start))
	b.overhear(t, copyOf([]byte{0xc0, 7}, gatewayB, 9, start)) // there is no type 7
	b.pass(t, time.Second)
	if sent := b.broker.messages(); len(sent) != 1 || commandSent(t, sent[0]).Gateway != gatewayB {
		t.Errorf("published %+v, want one command to the best gateway", sent)
	}
	wantCount(t, "uplinks{rejoin}", b.metrics.uplinks.WithLabelValues(uplinkRejoin), 3)
	b.wantJoins(t, "accepted", "", 1)
	b.wantJoins(t, "refused", "malformed", 1)
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

// fill occupies the gateway stage: slots frames are in the handler until the channel is
// closed, and room may wait.
func (b *testBench) fill(t *testing.T, slots, room int) (free chan struct{}) {
	t.Helper()
	b.pipeline.byGateway.slots, b.pipeline.byGateway.room = slots, room
	free = make(chan struct{})
	b.handler.prepare = func([]byte) error { <-free; return nil }
	for i := range slots {
		b.hear(joinRequest(10_000+i), gatewayC, 7)
	}
	eventually(t, "the handler to be busy", func() bool { prepared, _ := b.handler.calls(); return prepared == slots })
	return free
}

func TestWorkBeyondTheQueueIsRefusedAsOverloaded(t *testing.T) {
	b := newBench(t)
	free := b.fill(t, 2, 3)
	for i := range 6 {
		b.hear(joinRequest(i), gatewayA, 7)
		b.hear(joinRequest(i), gatewayA, 7)
	}
	b.clock.advance(199 * time.Millisecond)
	b.tick(b.clock.now())
	b.wantJoins(t, "refused", "overloaded", 0) // another gateway may speak for them yet
	b.clock.advance(time.Millisecond)
	b.tick(b.clock.now())
	b.wantJoins(t, "refused", "overloaded", 3)
	if list := b.Rejects(); len(list) != 3 || list[0].DevEUI != requestOf(joinRequest(5)).DevEUI || len(list[0].Gateways) != 2 {
		t.Errorf("remembered %+v", list)
	}
	close(free)
	b.settle(t)
	b.wantJoins(t, "accepted", "", 5)
	b.wantJoins(t, "refused", "overloaded", 3)
}

// A gateway that floods loses its own frames, and not those that others hear too.
func TestFloodOfOneGatewaySilencesNobodyElse(t *testing.T) {
	b := newBench(t)
	free := b.fill(t, 1, 10)
	for i := range 50 {
		b.hear(joinRequest(i), gatewayA, 7)
	}
	b.hear(joinRequest(100), gatewayB, 7) // heard by a quiet gateway alone
	b.hear(joinRequest(101), gatewayA, 7) // shed, and then spoken for by the quiet one
	b.hear(joinRequest(101), gatewayB, 5)
	b.hear(joinRequest(0), gatewayB, 5) // waits among the flood, and then not
	if line := b.pipeline.byGateway.lines[party(gatewayB)]; line == nil || line.length != 3 {
		t.Errorf("line of the quiet gateway: %+v, want 3 frames", line)
	}
	b.clock.advance(200 * time.Millisecond)
	b.tick(b.clock.now())
	close(free)
	b.settle(t)
	b.wantJoins(t, "accepted", "", 11)
	b.wantJoins(t, "refused", "overloaded", 42)
	answered := b.answered(t)
	for _, nonce := range []int{0, 100, 101} {
		if !slices.Contains(answered, nonce) {
			t.Errorf("answered were %v and not %d, which the quiet gateway heard", answered, nonce)
		}
	}
}

// answered gives the DevNonces of the join-accepts, in their order.
func (b *testBench) answered(t *testing.T) (nonces []int) {
	t.Helper()
	for _, sent := range b.broker.messages() {
		nonces = append(nonces, int(commandSent(t, sent).PHYPayload[1]))
	}
	return nonces
}

// An account whose devices flood loses its own joins; what nobody has proved is his
// counts against him.
func TestFloodOfOneAccountSilencesNobodyElse(t *testing.T) {
	b := newBench(t)
	b.pipeline.accountOf = func(a joinserver.Attempt) joinserver.AccountID {
		return joinserver.AccountID(1 + a.Request.DevNonce/100) // 0 to 99: account 1; 100 to 199: account 2
	}
	b.pipeline.byAccount.slots, b.pipeline.byAccount.room = 1, 10
	begun, free := make(chan struct{}, 100), make(chan struct{})
	b.handler.answer = func(r joinserver.JoinRequest, copies []joinserver.Reception) (joinserver.Downlink, error) {
		begun <- struct{}{}
		<-free
		return acceptThroughAll(r, copies)
	}
	for i := range 50 {
		b.hear(joinRequest(i), gatewayA, 7)
	}
	eventually(t, "the preparations", func() bool { prepared, _ := b.handler.calls(); return prepared == 50 })
	b.settle(t)
	b.clock.advance(100 * time.Millisecond)
	for i := range 3 {
		b.hear(joinRequest(100+i), gatewayA, 7)
	}
	b.settle(t)
	b.clock.advance(200 * time.Millisecond)
	b.tick(b.clock.now())
	<-begun
	b.wantJoins(t, "refused", "overloaded", 42)
	for _, reject := range b.Rejects() {
		if reject.Account != 1 {
			t.Errorf("refused %+v", reject)
		}
	}
	close(free)
	b.settle(t)
	b.wantJoins(t, "accepted", "", 11)
	if order := b.answered(t)[:7]; fmt.Sprint(order) != "[0 1 100 2 101 3 102]" {
		t.Errorf("answered in the order %v, want the accounts to take turns", order)
	}
}

// What is only remembered keeps the frame, and not what its answer took.
func TestFramesThatAreDoneWithAreSmall(t *testing.T) {
	b := newBench(t)
	b.handler.answer = func(r joinserver.JoinRequest, copies []joinserver.Reception) (joinserver.Downlink, error) {
		if r.DevNonce == 2 {
			return joinserver.Downlink{}, &joinserver.Rejection{Reason: joinserver.BadMIC}
		}
		return acceptThroughAll(r, copies)
	}
	b.hear(joinRequest(1), gatewayA, 7)
	b.hear(joinRequest(2), gatewayA, 7)
	b.pass(t, time.Second)
	if n := len(b.pipeline.collector.frames); n != 2 {
		t.Fatalf("%d frames are remembered, want 2", n)
	}
	for _, f := range b.pipeline.collector.frames {
		if f.attempt != nil || f.copies != nil {
			t.Errorf("frame %x keeps %d copies; its attempt: %t", f.phyPayload, len(f.copies), f.attempt != nil)
		}
	}
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
	b.pipeline.byGateway.slots = 1
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
