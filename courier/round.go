package courier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"joingate/joinserver"
)

// runner is a courier under way.
type runner struct {
	Courier
	held     map[joinserver.EUI64]hold // devices whose oldest event has failed
	failures int                       // rounds in a row that delivered nothing
	spare    int                       // events of devices that have failed: they are read besides a batch of others
}

// hold is what is known of a device whose oldest event has failed.
type hold struct {
	failures int       // in a row
	alone    int       // of these, while others were delivered
	until    time.Time // zero: it may be tried in any round
}

// lane is what is delivered one after the other.
type lane struct {
	device    joinserver.EUI64 // without meaning where all go in one lane
	events    []joinserver.OutboxEvent
	delivered int
	err       error
}

// step makes a round and says how long to wait then, and what for.
func (r *runner) step(ctx context.Context) (long time.Duration, early <-chan struct{}) {
	if r.Turn != nil && !r.Turn(ctx) {
		return turnPoll, nil
	}
	round, lanes := r.round(ctx)
	if ctx.Err() == nil && r.Observe != nil {
		r.Observe(round)
	}
	switch {
	case round.Failures > 0:
		return doubled(shortestPause, longestPause, round.Failures), nil
	case round.Delivered >= batch:
		return 0, nil
	case lanes > 0:
		return linger, nil
	default:
		return r.untilNext(), r.Outbox.Notify()
	}
}

// untilNext is how long no device has to be tried again.
func (r *runner) untilNext() time.Duration {
	next := poll
	for _, h := range r.held {
		if !h.until.IsZero() {
			next = min(next, max(h.until.Sub(r.now()), time.Millisecond))
		}
	}
	return next
}

// round delivers a batch, and says in how many lanes it had something to deliver.
func (r *runner) round(ctx context.Context) (round Round, lanes int) {
	events, err := r.Outbox.Pending(ctx, min(batch+r.spare, mostRead))
	if err != nil {
		return r.failed(Round{Err: fmt.Errorf("read outbox: %w", err)}), 0
	}
	ready := r.lanes(events)
	r.deliver(ctx, ready)
	round = r.settle(events, ready)
	if err := r.remove(ctx, ready); err != nil {
		round.Err = cmp.Or(round.Err, err)
		return r.failed(round), len(ready)
	}
	if round.Delivered == 0 && round.Err != nil {
		return r.failed(round), len(ready)
	}
	r.failures = 0
	return round, len(ready)
}

func (r *runner) failed(round Round) Round {
	r.failures++
	round.Failures = r.failures
	return round
}

// lanes divides the events among lanes, without devices that are held back. Those
// that have failed less often go first: so a few that always fail cannot keep the
// others from being tried.
func (r *runner) lanes(events []joinserver.OutboxEvent) (ready []*lane) {
	if r.Lanes == 0 {
		if len(events) == 0 {
			return nil
		}
		return []*lane{{events: events}}
	}
	now, known := r.now(), make(map[joinserver.EUI64]*lane)
	for _, e := range events {
		if r.held[e.DevEUI].until.After(now) {
			continue
		}
		l := known[e.DevEUI]
		if l == nil {
			l = &lane{device: e.DevEUI}
			known[e.DevEUI] = l
			ready = append(ready, l)
		}
		l.events = append(l.events, e)
	}
	slices.SortStableFunc(ready, func(a, b *lane) int {
		return cmp.Compare(r.held[a.device].failures, r.held[b.device].failures)
	})
	return ready
}

// deliver works the lanes off, several at a time. When none of the first ones can
// deliver anything, the rest is not tried: then it is not the events.
func (r *runner) deliver(ctx context.Context, lanes []*lane) {
	var mu sync.Mutex
	next, failed, taken := 0, 0, false
	draw := func() *lane {
		mu.Lock()
		defer mu.Unlock()
		if next == len(lanes) || !taken && failed >= 2*max(r.Lanes, 1) || ctx.Err() != nil {
			return nil
		}
		next++
		return lanes[next-1]
	}
	work := func() {
		for l := draw(); l != nil; l = draw() {
			l.delivered, l.err = r.Sink.Deliver(ctx, l.events)
			if l.err == nil && l.delivered < len(l.events) {
				l.err = fmt.Errorf("the sink took %d of %d events and gave no reason", l.delivered, len(l.events))
			}
			mu.Lock()
			taken = taken || l.delivered > 0
			if l.err != nil {
				failed++
			}
			mu.Unlock()
		}
	}
	var workers sync.WaitGroup
	for range min(max(r.Lanes, 1), len(lanes)) {
		workers.Go(work)
	}
	workers.Wait()
}

// settle decides which devices are held back, and sums the round up.
func (r *runner) settle(events []joinserver.OutboxEvent, lanes []*lane) (round Round) {
	for _, l := range lanes {
		round.add(l)
	}
	if r.Lanes > 0 {
		for _, l := range lanes {
			r.hold(l, round.Delivered > 0)
		}
	}
	r.lookAtRest(rest(events, lanes), &round)
	return round
}

// add counts what became of a lane.
func (round *Round) add(l *lane) {
	round.Delivered += l.delivered
	if l.err == nil {
		return
	}
	round.Failed++
	round.Err = cmp.Or(round.Err, l.err)
	var refusal *Refusal
	if errors.As(l.err, &refusal) {
		round.Refused++
	}
}

// hold keeps a device back that has failed, if the sink is there.
func (r *runner) hold(l *lane, there bool) {
	h := r.held[l.device]
	if l.delivered > 0 {
		h = hold{} // it is another event now
	}
	if l.err != nil {
		h.failures++
	}
	if l.err != nil && there {
		h.alone++
		h.until = r.now().Add(doubled(shortestHold, longestHold, h.alone))
	}
	r.held[l.device] = h
}

// rest gives the events that were not delivered.
func rest(events []joinserver.OutboxEvent, lanes []*lane) (waiting []joinserver.OutboxEvent) {
	type name struct {
		device    joinserver.EUI64
		joinNonce uint32
		committed int64
	}
	nameOf := func(e joinserver.OutboxEvent) name { return name{e.DevEUI, e.JoinNonce, e.CommittedMillis} }
	gone := make(map[name]bool, len(events))
	for _, l := range lanes {
		for _, e := range l.events[:l.delivered] {
			gone[nameOf(e)] = true
		}
	}
	for _, e := range events {
		if !gone[nameOf(e)] {
			waiting = append(waiting, e)
		}
	}
	return waiting
}

// lookAtRest tells how far the sink is behind, and forgets failures of devices
// whose events are gone.
func (r *runner) lookAtRest(waiting []joinserver.OutboxEvent, round *Round) {
	round.Waiting = len(waiting)
	now, present := r.now(), make(map[joinserver.EUI64]bool)
	r.spare = 0
	for _, e := range waiting {
		present[e.DevEUI] = true
		if r.held[e.DevEUI].failures > 0 {
			r.spare++
		}
		if at := time.UnixMilli(e.CommittedMillis); round.Oldest.IsZero() || at.Before(round.Oldest) {
			round.Oldest = at
		}
	}
	for device, h := range r.held {
		switch {
		case h.failures == 0 || !present[device]: // it went well, or another instance has delivered it
			delete(r.held, device)
		case h.until.After(now):
			round.Held++
		}
	}
}

// remove takes what was delivered off the outbox, also when the courier is to
// stop: what stays comes again.
func (r *runner) remove(ctx context.Context, lanes []*lane) error {
	var delivered []joinserver.OutboxEvent
	for _, l := range lanes {
		delivered = append(delivered, l.events[:l.delivered]...)
	}
	if len(delivered) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removal)
	defer cancel()
	if err := r.Outbox.Delivered(ctx, delivered); err != nil {
		return fmt.Errorf("remove delivered events from outbox: %w", err)
	}
	return nil
}
