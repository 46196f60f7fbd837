package record

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"
)

// ErrClosed says that the record was closed before a join or a lookup came to it.
var ErrClosed = errors.New("record is closed")

// errand is what somebody waits for.
type errand struct{ done chan struct{} }

func newErrand() errand { return errand{make(chan struct{})} }

func (e *errand) finished() <-chan struct{} { return e.done }

// awaited is a pointer to what is an errand.
type awaited interface {
	comparable
	finished() <-chan struct{}
}

// queue holds the errands that wait for loops, which do together what waits.
type queue[E awaited] struct {
	pause time.Duration // the least from one batch of several to the next

	mu      sync.Mutex
	waiting []E
	closed  bool
	changed sync.Cond
	next    time.Time // no batch is taken before
}

func newQueue[E awaited](pause time.Duration) *queue[E] {
	q := &queue[E]{pause: pause}
	q.changed.L = &q.mu
	return q
}

// do has an errand done and waits until it is. One that no loop has begun with when
// ctx ends is not done.
func (q *queue[E]) do(ctx context.Context, work E) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !q.put(work) {
		return ErrClosed
	}
	select {
	case <-work.finished():
		return nil
	case <-ctx.Done():
		q.withdraw(work)
		return ctx.Err()
	}
}

func (q *queue[E]) put(work E) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.waiting = append(q.waiting, work)
	q.changed.Signal()
	return true
}

// withdraw forgets what nobody waits for any more, also while no loop takes anything.
func (q *queue[E]) withdraw(work E) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.waiting, work); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
}

// take gives what waits, at most so much, as soon as there is some and the pause is
// over; nothing: the queue was closed, and all is done. Those whom the last batch has
// woken get the processor first: of a storm, most come again at once.
func (q *queue[E]) take(most int) (batch []E) {
	for len(batch) == 0 {
		until, some := q.wait()
		if !some {
			return nil
		}
		runtime.Gosched()
		time.Sleep(time.Until(until))
		batch = q.cut(most)
	}
	return batch
}

// wait waits until there is something to do, and tells when it may be begun with.
func (q *queue[E]) wait() (next time.Time, some bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 && !q.closed {
		q.changed.Wait()
	}
	return q.next, len(q.waiting) > 0
}

// cut takes the first errands, unless another loop has just taken several.
func (q *queue[E]) cut(most int) []E {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if now.Before(q.next) {
		return nil
	}
	most = min(most, len(q.waiting))
	if most > 1 {
		q.next = now.Add(q.pause)
	}
	batch := slices.Clone(q.waiting[:most])
	q.waiting = slices.Delete(q.waiting, 0, most)
	return batch
}

func (q *queue[E]) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) == 0
}

// close lets nobody in any more, so that those who wait come to an end.
func (q *queue[E]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Broadcast()
}
