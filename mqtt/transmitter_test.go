package mqtt

import (
	"errors"
	"testing"
	"time"
)

// refuse plays the gateway that refuses all windows of the last command.
func (b *testBench) refuse(t *testing.T) {
	t.Helper()
	sent := b.broker.messages()
	c := commandSent(t, sent[len(sent)-1])
	b.transmitter.acknowledged(ack{Gateway: c.Gateway, ID: c.ID, Items: []txStatus{txTooLate, txCollisionPacket}, Encoding: v4Protobuf})
	b.settle(t)
}

func TestRefusalHandsTheFrameToTheNextGateway(t *testing.T) {
	b := newBench(t)
	s := sendingTo(start, 3)
	if err := b.transmitter.send(s); err != nil {
		t.Fatal(err)
	}
	b.refuse(t)
	b.refuse(t)
	sent := b.broker.messages()
	if len(sent) != 3 {
		t.Fatalf("%d commands, want one for each gateway", len(sent))
	}
	ids := make(map[uint32]bool)
	for i, m := range sent {
		c := commandSent(t, m)
		ids[c.ID] = true
		if c.Gateway != gatewayN(i) || string(c.PHYPayload) != string(s.downlink.PHYPayload) || c.Context[0] != gatewayN(i)[7] {
			t.Errorf("command %d: %+v, want the same frame for gateway %s in its own context", i, c, gatewayN(i))
		}
	}
	if len(ids) != 3 {
		t.Errorf("ids %v, want one for each command", ids)
	}
	wantCount(t, "handovers", b.metrics.handovers, 2)
	wantCount(t, "unsent", b.metrics.unsent, 0)

	b.refuse(t)
	if got := len(b.broker.messages()); got != 3 {
		t.Errorf("%d commands after the last gateway has refused", got)
	}
	wantCount(t, "unsent", b.metrics.unsent, 1)
	wantCount(t, "acks{too_late}", b.metrics.acks.WithLabelValues("too_late"), 3)
	if warned := b.logs.FilterMessageSnippet("was not transmitted"); warned.Len() != 1 {
		t.Errorf("%d warnings that the join-accept was not transmitted, want 1", warned.Len())
	}
}

func TestHandOverTakesOnlyWindowsThatAreStillOpen(t *testing.T) {
	b := newBench(t)
	if err := b.transmitter.send(sendingTo(start, 3)); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(4950 * time.Millisecond) // with the lead of 100 ms too late for RX1
	b.refuse(t)
	sent := b.broker.messages()
	if len(sent) != 2 {
		t.Fatalf("%d commands, want 2", len(sent))
	}
	if c := commandSent(t, sent[1]); len(c.Windows) != 1 || c.Windows[0].Delay != 6*time.Second {
		t.Errorf("windows %+v, want RX2 only", c.Windows)
	}
	b.clock.advance(time.Second)
	b.refuse(t)
	if got := len(b.broker.messages()); got != 2 {
		t.Errorf("%d commands, want no third one after RX2", got)
	}
	wantCount(t, "downlinks{too_late}", b.metrics.downlinks.WithLabelValues(downlinkTooLate), 1)
	wantCount(t, "handovers", b.metrics.handovers, 1)
	wantCount(t, "unsent", b.metrics.unsent, 1)
}

func TestAckMayBeFasterThanThePublish(t *testing.T) {
	b := newBench(t)
	b.broker.answer = func(m published) error {
		c := commandSent(t, m)
		if c.Gateway == gatewayA {
			b.transmitter.acknowledged(ack{Gateway: c.Gateway, ID: c.ID, Items: []txStatus{txQueueFull}, Encoding: v4Protobuf})
		}
		return nil
	}
	if err := b.transmitter.send(sendingTo(start, 2)); err != nil {
		t.Fatal(err)
	}
	b.settle(t)
	if sent := b.broker.messages(); len(sent) != 2 {
		t.Errorf("%d commands; the refusal that came during the publish was lost", len(sent))
	}
	wantCount(t, "ignored acks", b.metrics.strangeAcks.WithLabelValues("unknown_id"), 0)
}

func TestRepeatedRefusalHandsOverOnce(t *testing.T) {
	b := newBench(t)
	if err := b.transmitter.send(sendingTo(start, 3)); err != nil {
		t.Fatal(err)
	}
	c := commandSent(t, b.broker.messages()[0])
	for range 2 {
		b.transmitter.acknowledged(ack{Gateway: c.Gateway, ID: c.ID, Items: []txStatus{txTooLate}, Encoding: v4Protobuf})
		b.settle(t)
	}
	if sent := b.broker.messages(); len(sent) != 2 {
		t.Errorf("%d commands, want 2", len(sent))
	}
	wantCount(t, "repeated acks", b.metrics.strangeAcks.WithLabelValues("repeated"), 1)
}

func TestSilenceSendsNothingAgain(t *testing.T) {
	b := newBench(t)
	if err := b.transmitter.send(sendingTo(start, 3)); err != nil {
		t.Fatal(err)
	}
	b.pass(t, time.Minute)
	if sent := b.broker.messages(); len(sent) != 1 {
		t.Errorf("%d commands, want 1", len(sent))
	}
	wantCount(t, "missing acks", b.metrics.silent, 1)
}

// While the broker is away a join-accept is tried again, as long as a window can be
// reached.
func TestPublishThatFailsIsTriedAgain(t *testing.T) {
	b := newBench(t)
	away := errors.New("connection is lost")
	b.broker.answer = func(published) error { return away }
	b.broker.away.Store(true)
	if err := b.transmitter.send(sendingTo(start, 2)); !errors.Is(err, errStranded) {
		t.Fatalf("error %v", err)
	}
	if b.transmitter.idle(b.clock.now()) {
		t.Error("idle with a join-accept that waits for the broker")
	}
	b.pass(t, 5300*time.Millisecond)
	wantCount(t, "downlinks{publish_failed}", b.metrics.downlinks.WithLabelValues(downlinkPublishFailed), 1)
	b.broker.answer = nil
	b.broker.away.Store(false)
	b.pass(t, retryEvery)
	sent := b.broker.messages()
	if len(sent) != 1 {
		t.Fatalf("%d commands, want 1", len(sent))
	}
	if c := commandSent(t, sent[0]); c.Gateway != gatewayA || len(c.Windows) != 1 || c.Windows[0].Delay != 6*time.Second {
		t.Errorf("command %+v, want RX2 of the best gateway", c)
	}
	wantCount(t, "unsent", b.metrics.unsent, 0)
}

func TestPublishThatFailsUntilRX2IsUnsent(t *testing.T) {
	for _, away := range []bool{true, false} {
		b := newBench(t)
		b.broker.answer = func(published) error { return errNoReceipt }
		b.broker.away.Store(away)
		if err := b.transmitter.send(sendingTo(start, 2)); err == nil {
			t.Fatal("no error")
		}
		b.pass(t, 5850*time.Millisecond)
		wantCount(t, "unsent", b.metrics.unsent, 0)
		b.pass(t, 100*time.Millisecond)
		wantCount(t, "unsent", b.metrics.unsent, 1)
		b.wantOutcome(t, outcomeUnsent, 1)
		b.pass(t, time.Minute)
		wantCount(t, "missing acks", b.metrics.silent, 0)
		b.wantOutcome(t, outcomeUnsent, 1)
	}
}

func (b *testBench) wantOutcome(t *testing.T, label string, want float64) {
	t.Helper()
	wantCount(t, "join_accepts{"+label+"}", b.metrics.accepts.WithLabelValues(label), want)
}

func TestGatewayWithoutContextIsPassedOver(t *testing.T) {
	b := newBench(t)
	s := sendingTo(start, 2)
	s.frame.copies[0].Context = nil
	if err := b.transmitter.send(s); err != nil {
		t.Fatal(err)
	}
	if sent := b.broker.messages(); len(sent) != 1 || commandSent(t, sent[0]).Gateway != gatewayB {
		t.Errorf("published %+v, want one command to gateway B", sent)
	}
	wantCount(t, "downlinks{encode_failed}", b.metrics.downlinks.WithLabelValues(downlinkEncodeFailed), 1)
}
