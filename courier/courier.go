// Package courier delivers join events from an outbox to a sink: an HTTP webhook,
// or a stream of another package.
//
// What is promised, with any number of crashes and outages on both sides:
//
//   - At least once. An event leaves the outbox after the sink has taken it. One
//     that comes again, after a crash in between, has the same id.
//   - In order. Of one device no event is handed over before the sink has taken
//     all that came before it. Repetitions may come after later events.
//   - No event is given up, and none stands in the way of other devices: when the
//     sink takes events but not this one, its device is held back and tried again,
//     less and less often, down to every five minutes, for ever. The operator sees
//     it in Round.Held, and mends the receiver or drops the sink's events.
//
// Several instances on one outbox deliver everything several times, unless they
// take turns: see Courier.Turn.
package courier

import (
	"context"
	"time"

	"joingate/joinserver"
)

// Outbox holds events that wait for one sink. An event stays until the sink has
// it.
type Outbox interface {
	// Pending returns the oldest undelivered events, at most limit of them, those of
	// a device in their order.
	Pending(ctx context.Context, limit int) ([]joinserver.OutboxEvent, error)
	// Delivered removes events that the sink has taken.
	Delivered(ctx context.Context, events []joinserver.OutboxEvent) error
	// Notify gives a channel that holds something after new events were written.
	Notify() <-chan struct{}
}

// Sink takes events.
type Sink interface {
	// Deliver hands events over in their order and returns how many of them, from
	// the first, the sink has taken for good. An error tells why not all; a *Refusal
	// says that it is the event itself. It ends soon after ctx is done.
	Deliver(ctx context.Context, events []joinserver.OutboxEvent) (delivered int, err error)
}

// Refusal is the error of a sink that does not want the event itself: it is tried
// again all the same, and counted apart.
type Refusal struct{ Err error }

func (r *Refusal) Error() string { return r.Err.Error() }
func (r *Refusal) Unwrap() error { return r.Err }

// Constants of all couriers.
const (
	// batch is how many events are read from the outbox at a time, besides those of
	// devices that are held back.
	batch = 256
	// mostRead bounds the memory: with more events of devices that are held back,
	// the others wait with them.
	mostRead = 8192
	// poll is how long an event may lie there that nobody was notified of, because
	// another instance wrote it and died.
	poll = 30 * time.Second
	// linger is the pause after a round that delivered less than a batch. To take
	// events off the outbox writes to the disk that the joins write to: without the
	// pause a sink that is quick would cost nearly as many transactions as joins.
	linger = 50 * time.Millisecond
	// turnPoll is how often an instance asks whether it is its turn.
	turnPoll = 2 * time.Second
	// The pause after a round that delivered nothing doubles from the shortest to
	// the longest.
	shortestPause, longestPause = 100 * time.Millisecond, 5 * time.Second
	// The time for which a device is held back doubles likewise.
	shortestHold, longestHold = time.Second, 5 * time.Minute
	// removal bounds the removal of delivered events, also while stopping.
	removal = 5 * time.Second
)

// Courier carries events from its outbox to its sink.
type Courier struct {
	Outbox Outbox
	Sink   Sink
	// Lanes is how many calls of Deliver run at a time, each with events of one
	// device. 0: one call with the events of all devices, for a sink that takes many
	// at once; then an event that it refuses holds up all.
	Lanes int
	// Turn reports whether this instance delivers now, when several share the
	// outbox; nil: always. It is asked before each round.
	Turn func(ctx context.Context) bool
	// Observe is told of every round that found something or failed, and must not
	// block; nil: nobody asks.
	Observe func(Round)

	now   func() time.Time
	pause func(ctx context.Context, long time.Duration, early <-chan struct{})
}

// Round is what one round has done, and found: its last values are how far the
// sink is behind.
type Round struct {
	Delivered int       // events that the sink has taken
	Failed    int       // calls of Deliver that failed, refusals included
	Refused   int       // calls of Deliver that ended in a refusal
	Waiting   int       // events that wait still: that many or more
	Oldest    time.Time // when the first of them was committed; zero: none waits
	Held      int       // devices that are held back while others are delivered
	Failures  int       // rounds in a row, this one included, that delivered nothing because of a fault
	Err       error     // the first that went wrong
}

// Run carries until ctx is done.
func (c Courier) Run(ctx context.Context) {
	if c.now == nil {
		c.now = time.Now
	}
	if c.pause == nil {
		c.pause = pause
	}
	r := runner{Courier: c, held: make(map[joinserver.EUI64]hold)}
	for ctx.Err() == nil {
		long, early := r.step(ctx)
		if long > 0 {
			c.pause(ctx, long, early)
		}
	}
}

// pause waits so long, or until early holds something (nil: never), or until ctx
// is done.
func pause(ctx context.Context, long time.Duration, early <-chan struct{}) {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-early:
	}
}

// doubled is shortest after one failure, twice that after two, up to longest.
func doubled(shortest, longest time.Duration, failures int) time.Duration {
	return min(longest, shortest<<min(failures-1, 16))
}
