package mqtt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"joingate/joinserver"
)

// memoryOutbox is an outbox in memory.
type memoryOutbox struct {
	mu     sync.Mutex
	events []joinserver.OutboxEvent
	fault  error
	added  chan struct{}
}

func newMemoryOutbox(n int) *memoryOutbox {
	o := &memoryOutbox{added: make(chan struct{}, 1)}
	o.add(1, n)
	return o
}

// add writes events with the JoinNonces first to last.
func (o *memoryOutbox) add(first, last int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := first; i <= last; i++ {
		o.events = append(o.events, joinserver.OutboxEvent{
			DevEUI: joinserver.EUI64{0xde}, JoinNonce: uint32(i), Account: 3, Payload: fmt.Appendf(nil, "%d", i),
		})
	}
	select {
	case o.added <- struct{}{}:
	default:
	}
}

func (o *memoryOutbox) Pending(_ context.Context, limit int) ([]joinserver.OutboxEvent, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.events[:min(limit, len(o.events))]), o.fault
}

func (o *memoryOutbox) Delivered(_ context.Context, events []joinserver.OutboxEvent) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, e := range events {
		if o.events[i].JoinNonce != e.JoinNonce {
			return errors.New("delivered out of order")
		}
	}
	o.events = o.events[len(events):]
	return nil
}

func (o *memoryOutbox) Notify() <-chan struct{} { return o.added }

func (o *memoryOutbox) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.events)
}

// runCourier runs a courier until it pauses with nothing left to do, and returns
// its pauses.
func runCourier(t *testing.T, o *memoryOutbox, b *fakeBroker) []time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var pauses []time.Duration
	m := newMetrics()
	c := &courier{
		outbox: o, broker: b, metrics: m, log: zap.NewNop(),
		pause: func(_ context.Context, long time.Duration, _ <-chan struct{}) {
			pauses = append(pauses, long)
			if long == outboxPoll || len(pauses) > 20 {
				cancel()
			}
		},
	}
	c.run(ctx)
	return pauses
}

// Of several instances one delivers: the others look now and then whether it is
// their turn.
func TestInstancesTakeTurns(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o, b, asked := newMemoryOutbox(2), &fakeBroker{}, 0
	var pauses []time.Duration
	c := &courier{
		outbox: o, broker: b, metrics: newMetrics(), log: zap.NewNop(),
		turn: func(context.Context) bool { asked++; return asked > 2 },
		pause: func(_ context.Context, long time.Duration, _ <-chan struct{}) {
			if len(pauses) < 2 && len(b.messages()) > 0 {
				t.Error("delivered although it was another one's turn")
			}
			if pauses = append(pauses, long); asked == 4 {
				cancel()
			}
		},
	}
	c.run(ctx)
	if inOrder, _ := b.payloads(); len(inOrder) != 2 || !slices.Equal(pauses, []time.Duration{turnPoll, turnPoll, outboxLinger, turnPoll}) {
		t.Errorf("delivered %v, pauses %v", inOrder, pauses)
	}
}

// payloads gives what was published, without what came again.
func (b *fakeBroker) payloads() (inOrder []string, again int) {
	for _, m := range b.messages() {
		if slices.Contains(inOrder, string(m.payload)) {
			again++
			continue
		}
		inOrder = append(inOrder, string(m.payload))
	}
	return inOrder, again
}

func wantAllInOrder(t *testing.T, inOrder []string, n int) {
	t.Helper()
	for i, payload := range inOrder {
		if payload != fmt.Sprint(i+1) {
			t.Fatalf("event %s came as number %d", payload, i+1)
		}
	}
	if len(inOrder) != n {
		t.Errorf("%d events came, want %d", len(inOrder), n)
	}
}

func TestOutboxIsDeliveredInOrder(t *testing.T) {
	const n = 2*outboxBatch + 7
	o, b := newMemoryOutbox(n), new(fakeBroker)
	pauses := runCourier(t, o, b)
	inOrder, again := b.payloads()
	wantAllInOrder(t, inOrder, n)
	if again != 0 || o.len() != 0 || !slices.Equal(pauses, []time.Duration{outboxLinger, outboxPoll}) {
		t.Errorf("%d came twice, %d are left, pauses %v", again, o.len(), pauses)
	}
	if m := b.messages()[0]; m.qos != 1 || m.topic != "joingate/3/node/de00000000000000/event/join" {
		t.Errorf("published to %s with QoS %d", m.topic, m.qos)
	}
}

// An event leaves the outbox when the broker has it, not before.
func TestOutboxKeepsWhatTheBrokerHasNotAcknowledged(t *testing.T) {
	o, b := newMemoryOutbox(10), new(fakeBroker)
	outage := 6
	b.answer = func(m published) error {
		if string(m.payload) == "4" && outage > 0 {
			outage--
			return errNoReceipt
		}
		return nil
	}
	pauses := runCourier(t, o, b)
	wantPauses := []time.Duration{100, 200, 400, 800, 1600, 3200}
	for i, want := range wantPauses {
		if pauses[i] != want*time.Millisecond {
			t.Errorf("pause %d is %s, want %s", i, pauses[i], want*time.Millisecond)
		}
	}
	if len(pauses) != 8 || pauses[6] != outboxLinger || o.len() != 0 {
		t.Errorf("pauses %v, %d events left", pauses, o.len())
	}
	inOrder, _ := b.payloads()
	wantAllInOrder(t, inOrder, 10) // the others do not overtake the one that was lost
}

func TestOutboxThatCannotBeReadIsTriedAgain(t *testing.T) {
	o, b := newMemoryOutbox(1), new(fakeBroker)
	o.fault = errors.New("database is locked")
	if pauses := runCourier(t, o, b); len(pauses) < 10 || pauses[10] != longestPause {
		t.Errorf("pauses %v, want them to grow to %s", pauses, longestPause)
	}
}
