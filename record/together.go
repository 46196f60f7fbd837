package record

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// ErrClosed says that the record was closed before a join or a lookup came to it.
var ErrClosed = errors.New("record is closed")

// errand is what somebody waits for.
type errand struct {
	done chan struct{}
	left atomic.Bool // nobody waits any more
}

func newErrand() errand { return errand{done: make(chan struct{})} }

func (e *errand) itself() *errand { return e }

// queue holds the errands that wait for a loop, which does together what waits.
type queue[E interface{ itself() *errand }] struct {
	mu      sync.Mutex
	waiting []E
	closed  bool
	changed sync.Cond
}

func newQueue[E interface{ itself() *errand }]() *queue[E] {
	q := &queue[E]{}
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
	e := work.itself()
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		e.left.Store(true)
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

// take gives what waits, at most so much, as soon as there is some; nothing: the
// queue was closed, and all is done. Those whom the last batch has woken get the
// processor first: of a storm, most come again at once.
func (q *queue[E]) take(most int) (batch []E) {
	for len(batch) == 0 && q.wait() {
		runtime.Gosched()
		batch = q.cut(most)
	}
	return batch
}

// wait reports whether there is something to do.
func (q *queue[E]) wait() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 && !q.closed {
		q.changed.Wait()
	}
	return len(q.waiting) > 0
}

// cut takes the first errands for which somebody still waits.
func (q *queue[E]) cut(most int) []E {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.DeleteFunc(q.waiting, func(work E) bool { return work.itself().left.Load() })
	most = min(most, len(q.waiting))
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
