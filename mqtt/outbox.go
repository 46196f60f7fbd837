package mqtt

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"joingate/joinserver"
)

// Outbox holds the join events that the record has written with their joins. An
// event stays until the broker has it, so it comes at least once, and again
// after a crash between the two.
type Outbox interface {
	// Pending returns the oldest undelivered events, at most limit of them.
	Pending(ctx context.Context, limit int) ([]joinserver.OutboxEvent, error)
	// Delivered removes events that the broker has acknowledged.
	Delivered(ctx context.Context, events []joinserver.OutboxEvent) error
	// Notify gives a channel that holds something after new events were written.
	Notify() <-chan struct{}
}

const (
	// outboxBatch is how many events are on their way to the broker at a time, and
	// leave the outbox in one transaction.
	outboxBatch = 1024
	// outboxLinger is the pause after a batch that was not full. Taking events off
	// the outbox writes to the same disk as the joins do: without the pause there
	// would be nearly as many transactions as joins.
	outboxLinger = 50 * time.Millisecond
	// outboxTimeout is how long the broker may take to acknowledge one.
	outboxTimeout = 10 * time.Second
	// outboxPoll is how long an event may lie there that nobody was notified of,
	// because another instance wrote it and died.
	outboxPoll = 30 * time.Second
	// turnPoll is how often instances that take turns look: the one whose turn it is
	// for what the others wrote, the others for their turn.
	turnPoll = 500 * time.Millisecond
	// The pause after a failure doubles from the shortest to the longest.
	shortestPause = 100 * time.Millisecond
	longestPause  = 5 * time.Second
)

// courier carries join events from the outbox to the broker.
type courier struct {
	outbox  Outbox
	broker  publisher
	turn    func(ctx context.Context) bool // see Config.Turn; nil: always
	metrics *metrics
	log     *zap.Logger
	// pause waits so long, or until early holds something (nil: never), or until
	// ctx is done.
	pause func(ctx context.Context, long time.Duration, early <-chan struct{})
}

// run carries until ctx is done. An instance that fails does not ask for its turn
// while it pauses, so that another one gets it.
func (c *courier) run(ctx context.Context) {
	poll := outboxPoll
	if c.turn != nil {
		poll = turnPoll
	}
	for failures := 0; ctx.Err() == nil; {
		if c.turn != nil && !c.turn(ctx) {
			c.pause(ctx, turnPoll, nil)
			continue
		}
		events, err := c.carry(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			c.failed(failures, err)
			c.pause(ctx, backOff(failures), nil)
			failures++
		case events == 0:
			failures = 0
			c.pause(ctx, poll, c.outbox.Notify())
		case events < outboxBatch:
			failures = 0
			c.pause(ctx, outboxLinger, nil)
		default:
			failures = 0
		}
	}
}

// failed shows the first failure of a row. What follows is the same outage.
func (c *courier) failed(before int, err error) {
	c.metrics.outboxFaults.Inc()
	if before == 0 {
		c.log.Warn("join events wait in the outbox; delivery is tried again", zap.Error(err))
	}
}

func backOff(failures int) time.Duration {
	return min(longestPause, shortestPause<<min(failures, 16))
}

// carry delivers one batch and returns how many events it had. What the broker
// has acknowledged is removed, up to the first event that it has not: the rest
// comes again, in its order.
func (c *courier) carry(ctx context.Context) (int, error) {
	events, err := c.outbox.Pending(ctx, outboxBatch)
	if err != nil {
		return 0, fmt.Errorf("read outbox: %w", err)
	}
	acknowledged, failure := c.publish(events)
	c.metrics.delivered.Add(float64(acknowledged))
	if acknowledged > 0 {
		if err := c.outbox.Delivered(ctx, events[:acknowledged]); err != nil {
			return acknowledged, fmt.Errorf("remove delivered events from outbox: %w", err)
		}
	}
	return len(events), failure
}

// publish hands the events over, then waits for the broker to take each. Events of
// one device stay in their order: they are published in it, and after one that is
// lost with its connection none follows on the next.
func (c *courier) publish(events []joinserver.OutboxEvent) (acknowledged int, err error) {
	receipts := make([]receipt, 0, len(events))
	for i, e := range events {
		if i > 0 && receipts[i-1].Error() != nil {
			break
		}
		receipts = append(receipts, c.broker.publish(eventTopic(e.Account, e.DevEUI.String(), "join"), 1, e.Payload))
	}
	for i, r := range receipts {
		if err := wait(r, outboxTimeout); err != nil {
			return i, fmt.Errorf("publish join event %s-%d: %w", events[i].DevEUI, events[i].JoinNonce, err)
		}
	}
	return len(receipts), nil
}

// pause is the courier's own.
func pause(ctx context.Context, long time.Duration, early <-chan struct{}) {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-early:
	}
}
