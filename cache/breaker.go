package cache

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// failuresToOpen is how many round trips in a row may fail before Redis is left
	// alone. One may be a connection that broke; three are an outage.
	failuresToOpen = 3
	// slowToOpen is for how long nothing but timeouts may come. A busy machine is
	// held up for some hundred milliseconds at times; that costs less than a second
	// without Redis.
	slowToOpen = 500 * time.Millisecond
)

// breaker decides whether Redis is asked at all. Round trips open it when they
// fail; only a probe closes it, so that no join waits to find out.
type breaker struct {
	open    atomic.Bool
	opened  chan struct{} // holds a token from the opening until a probe is due
	observe func(Event)
	tell    func(error) // why Redis is left alone from now on; nil: it is used again
	now     func() time.Time

	mu       sync.Mutex
	failures int       // in a row
	since    time.Time // the first of them
	owed     bool      // a Forget that did not reach Redis: what Redis holds must not be read
}

func newBreaker(observe func(Event), now func() time.Time) *breaker {
	return &breaker{opened: make(chan struct{}, 1), observe: observe, tell: func(error) {}, now: now}
}

// report takes the outcome of a round trip in.
func (b *breaker) report(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.failures = 0
		return
	}
	b.observe(Failed)
	if b.failures == 0 {
		b.since = b.now()
	}
	b.failures++
	if b.failures >= failuresToOpen && (!isSlow(err) || b.now().Sub(b.since) >= slowToOpen) {
		b.trip(err)
	}
}

// isSlow reports whether Redis may still be there.
func isSlow(err error) bool {
	var slow net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &slow) && slow.Timeout()
}

// owe opens the breaker until a Forget has been made up for.
func (b *breaker) owe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owed = true
	b.trip(errOwed)
}

// errOwed is why Redis is left alone after a change of the record that it was not
// told of.
var errOwed = errors.New("it did not take a change of the record")

func (b *breaker) trip(why error) {
	if b.open.Swap(true) {
		return
	}
	b.observe(Opened)
	b.tell(why)
	b.opened <- struct{}{}
}

// inDebt reports whether a Forget is owed, and takes the debt over.
func (b *breaker) inDebt() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	owed := b.owed
	b.owed = false
	return owed
}

// close ends the outage, unless a Forget is owed.
func (b *breaker) close() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.owed {
		return false
	}
	b.failures = 0
	b.open.Store(false)
	b.observe(Closed)
	b.tell(nil)
	return true
}
