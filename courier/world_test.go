package courier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"joingate/joinserver"
)

var errBroken = errors.New("broken")

// box is an outbox in memory.
type box struct {
	mu       sync.Mutex
	events   []joinserver.OutboxEvent
	next     map[byte]uint32 // JoinNonce by device
	notified chan struct{}
	unread   int // how many calls of Pending fail
	unkept   int // how many calls of Delivered fail, before they have any effect
	mostRead int
}

func newBox() *box { return &box{next: map[byte]uint32{}, notified: make(chan struct{}, 1)} }

// add writes an event for each device, and gives what was written.
func (b *box) add(devices ...byte) (added []joinserver.OutboxEvent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, device := range devices {
		e := joinserver.OutboxEvent{DevEUI: eui(device), JoinNonce: b.next[device], Account: 7, CommittedMillis: int64(1000 + len(b.events))}
		e.Payload, _ = json.Marshal(map[string]string{"id": eventID(e)})
		b.next[device]++
		added = append(added, e)
	}
	b.events = append(b.events, added...)
	select {
	case b.notified <- struct{}{}:
	default:
	}
	return added
}

func eui(device byte) joinserver.EUI64 { return joinserver.EUI64{7: device} }

func (b *box) Pending(_ context.Context, limit int) ([]joinserver.OutboxEvent, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mostRead = max(b.mostRead, limit)
	if b.unread > 0 {
		b.unread--
		return nil, errBroken
	}
	return slices.Clone(b.events[:min(limit, len(b.events))]), nil
}

func (b *box) Delivered(ctx context.Context, gone []joinserver.OutboxEvent) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.unkept > 0 {
		b.unkept--
		return errBroken
	}
	b.events = slices.DeleteFunc(b.events, func(e joinserver.OutboxEvent) bool {
		return slices.ContainsFunc(gone, func(g joinserver.OutboxEvent) bool { return eventID(g) == eventID(e) })
	})
	return nil
}

func (b *box) Notify() <-chan struct{} { return b.notified }

func (b *box) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.events)
}

// taker is a sink that fails as the test says, and holds the courier to its
// promises.
type taker struct {
	fail func(e joinserver.OutboxEvent) error // nil: it takes all

	mu    sync.Mutex
	calls int
	taken []string // ids, in the order in which they came
	next  map[joinserver.EUI64]uint32
	busy  map[joinserver.EUI64]bool
	fault string // what the courier did wrong
}

func newTaker() *taker {
	return &taker{next: map[joinserver.EUI64]uint32{}, busy: map[joinserver.EUI64]bool{}}
}

func (s *taker) Deliver(_ context.Context, events []joinserver.OutboxEvent) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	for i, e := range events {
		if s.fail != nil {
			if err := s.fail(e); err != nil {
				return i, err
			}
		}
		s.take(e)
	}
	return len(events), nil
}

// take notes an event. One that comes again is older than what has come since.
func (s *taker) take(e joinserver.OutboxEvent) {
	if e.JoinNonce > s.next[e.DevEUI] {
		s.fault = fmt.Sprintf("event %s came when %d was due", eventID(e), s.next[e.DevEUI])
	}
	s.next[e.DevEUI] = max(s.next[e.DevEUI], e.JoinNonce+1)
	s.taken = append(s.taken, eventID(e))
}

// count is how many different events have come.
func (s *taker) count() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, next := range s.next {
		n += int(next)
	}
	return n
}

// rig is a courier whose clock is turned by its pauses.
type rig struct {
	box    *box
	sink   *taker
	runner runner
	rounds []Round
	at     time.Time
}

func newRig(lanes int) *rig {
	r := &rig{box: newBox(), sink: newTaker(), at: time.Unix(1e9, 0)}
	r.restart(lanes)
	return r
}

// restart begins anew with what the outbox holds, as after kill -9.
func (r *rig) restart(lanes int) {
	c := Courier{Outbox: r.box, Sink: r.sink, Lanes: lanes, Observe: func(round Round) { r.rounds = append(r.rounds, round) }}
	c.now = func() time.Time { return r.at }
	r.runner = runner{Courier: c, held: map[joinserver.EUI64]hold{}}
}

// step makes one round, and lets the time pass that it asks for.
func (r *rig) step(t testing.TB) (waited time.Duration) {
	waited, _ = r.runner.step(t.Context())
	r.at = r.at.Add(waited)
	return waited
}

func (r *rig) last() Round { return r.rounds[len(r.rounds)-1] }
