package record

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

type numbered struct {
	errand
	n int
}

// What waits goes together, in its order, and no more than so much at a time. What
// nobody waits for any more is not done; what waits when the queue is closed is.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue[*numbered](0)
		outcomes := make([]error, 6)
		impatient, leave := context.WithCancel(t.Context())
		for i := range outcomes {
			ctx := t.Context()
			if i == 1 || i == 4 {
				ctx = impatient
			}
			go func() { outcomes[i] = q.do(ctx, &numbered{newErrand(), i}) }()
			synctest.Wait()
		}
		var begun []int
		serve := func(want ...int) {
			t.Helper()
			batch := q.take(3)
			begun = begun[:0]
			for _, e := range batch {
				begun = append(begun, e.n)
				close(e.done)
			}
			synctest.Wait()
			if !slices.Equal(begun, want) {
				t.Errorf("%v were taken, not %v", begun, want)
			}
		}
		leave()
		synctest.Wait()
		if n := len(q.waiting); n != 4 {
			t.Errorf("%d errands are kept, of which somebody waits for 4", n)
		}
		serve(0, 2, 3)
		q.close()
		if err := q.do(t.Context(), &numbered{newErrand(), 6}); !errors.Is(err, ErrClosed) {
			t.Errorf("let in after close: %v", err)
		}
		serve(5)
		serve()
		for i, err := range outcomes {
			if left := i == 1 || i == 4; errors.Is(err, context.Canceled) != left || err != nil && !left {
				t.Errorf("errand %d: %v", i, err)
			}
		}
		if err := q.do(impatient, &numbered{newErrand(), 7}); !errors.Is(err, context.Canceled) {
			t.Errorf("with an ended context: %v", err)
		}
	})
}

// After a batch of several the next one waits for the end of the pause, whichever loop
// takes it, and so gathers more; after a single errand there is no pause.
func TestQueueKeepsAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pause = time.Second
		q := newQueue[*numbered](pause)
		batches := make(chan int)
		put := func(n int) {
			q.mu.Lock()
			for range n - 1 {
				q.waiting = append(q.waiting, &numbered{errand: newErrand()})
			}
			q.mu.Unlock()
			q.put(&numbered{errand: newErrand()})
		}
		put(2)
		several := q.cut(100)
		put(1)
		if again := q.cut(100); len(several) != 2 || len(again) != 0 {
			t.Errorf("%d errands, and without a pause %d", len(several), len(again))
		}
		for range 2 {
			go func() {
				for batch := q.take(100); len(batch) > 0; batch = q.take(100) {
					batches <- len(batch)
				}
			}()
		}
		next := func(errands int, after time.Duration) {
			t.Helper()
			start := time.Now()
			if n := <-batches; n != errands {
				t.Errorf("a batch of %d, not %d", n, errands)
			}
			if waited := time.Since(start); waited != after {
				t.Errorf("a batch of %d waited %s, not %s", errands, waited, after)
			}
			synctest.Wait()
		}
		next(1, pause)
		put(2)
		next(2, 0)
		put(1)
		synctest.Wait()
		put(2)
		next(3, pause)
		put(1)
		next(1, pause)
		put(1)
		next(1, 0)
		q.close()
	})
}
