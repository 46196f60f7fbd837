package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// callsPerTrip bounds one round trip, so that a burst does not become one
	// request that takes longer than the timeout.
	callsPerTrip = 256
	// tripInterval is the least from one trip to the next where callers share them: a
	// trip costs both sides several times what a call on it costs.
	tripInterval = time.Millisecond
	// maxWaiting bounds the memory. More than that would not be answered within
	// the timeout anyway.
	maxWaiting = 8192
)

// Why Redis was not asked, or gave no answer.
var (
	errAway = errors.New("redis is away")
	errFull = errors.New("too much waits for redis")
)

// trip is one round trip to Redis: a pipeline, and what all look-ups on it share.
type trip struct {
	redis.Pipeliner
	marks, renewed *markReplies
	values         map[string]*redis.StringCmd
}

// read reads a key, once per trip: in a storm a gateway is asked for again and again.
func (t *trip) read(key string) *redis.StringCmd {
	reply := t.values[key]
	if reply == nil {
		reply = t.Get(context.Background(), key)
		t.values[key] = reply
	}
	return reply
}

// call is what one caller puts on a trip. Its replies may be read once done has
// told that there was no error.
type call struct {
	queue func(*trip)
	done  chan error  // nil: nobody waits
	left  atomic.Bool // the caller waits no longer
}

// trips gathers what concurrent callers ask of Redis into round trips, one after
// the other. Who comes during a trip, or within tripInterval of one that several were
// on, goes with the next one; others wait for nobody. What waits behind a trip that
// fails, fails with it. Nobody waits longer than the timeout.
type trips struct {
	client  redis.UniversalClient
	timeout time.Duration // of one trip, and of one caller
	report  func(error)   // is told of every trip

	mu      sync.Mutex
	waiting []*call
	running bool

	next time.Time // there is no trip before; of the one that runs alone
}

// do goes on a trip and comes back. The error is of the trip: each command has
// its own besides.
func (t *trips) do(ctx context.Context, queue func(*trip)) error {
	c := &call{queue: queue, done: make(chan error, 1)}
	if !t.join(c) {
		return errFull
	}
	patience := time.NewTimer(t.timeout)
	defer patience.Stop()
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		c.left.Store(true)
		return ctx.Err()
	case <-patience.C:
		c.left.Store(true)
		return errFull
	}
}

// send goes on a trip of which nobody wants to hear. It is false if there is no
// room.
func (t *trips) send(queue func(*trip)) bool { return t.join(&call{queue: queue}) }

func (t *trips) join(c *call) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) >= maxWaiting {
		return false
	}
	t.waiting = append(t.waiting, c)
	if !t.running {
		t.running = true
		go t.run()
	}
	return true
}

// run makes trips until nobody waits.
func (t *trips) run() {
	for t.goesOn() {
		time.Sleep(time.Until(t.next))
		calls, begun := t.board(), time.Now()
		err := t.make(calls)
		finish(calls, err)
		if err != nil {
			finish(t.abandon(), err)
		}
		if len(calls) > 1 {
			t.next = begun.Add(tripInterval)
		}
	}
}

// goesOn reports whether anybody waits; else running has ended.
func (t *trips) goesOn() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.running, t.waiting = false, nil
	}
	return t.running
}

// board takes those who go next.
func (t *trips) board() []*call {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(callsPerTrip, len(t.waiting))
	calls := t.waiting[:n:n]
	t.waiting = t.waiting[n:]
	return calls
}

// abandon empties the queue.
func (t *trips) abandon() []*call {
	t.mu.Lock()
	defer t.mu.Unlock()
	calls := t.waiting
	t.waiting = nil
	return calls
}

func finish(calls []*call, err error) {
	for _, c := range calls {
		if c.done != nil {
			c.done <- err
		}
	}
}

func (t *trips) make(calls []*call) error {
	ctx, cancel := context.WithTimeout(context.Background(), t.timeout)
	defer cancel()
	tr := &trip{Pipeliner: t.client.Pipeline(), values: make(map[string]*redis.StringCmd)}
	for _, c := range calls {
		if !c.left.Load() {
			c.queue(tr)
		}
	}
	if tr.Len() == 0 {
		return nil
	}
	err := tripError(tr.Exec(ctx))
	t.report(err)
	return err
}

// tripError says whether a trip failed: it did if any command got no reply, or
// all of them an error. A single error reply is its command's own affair; Redis
// is there. When there was no connection, no command has an error, but the
// pipeline has.
func tripError(commands []redis.Cmder, failure error) error {
	var refused, answered int
	for _, command := range commands {
		err := command.Err()
		switch {
		case err == nil || errors.Is(err, redis.Nil) || isUnknownScript(err):
			answered++
		case !isReply(err):
			return err
		default:
			refused++
		}
	}
	if refused == 0 && !errors.Is(failure, redis.Nil) && !isUnknownScript(failure) || answered == 0 {
		return failure
	}
	return nil
}

// isReply reports whether an error came from the server, as an answer.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// isUnknownScript reports whether the server has to be given the script first.
func isUnknownScript(err error) bool { return redis.HasErrorPrefix(err, "NOSCRIPT") }
