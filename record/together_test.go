package record

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

type numbered struct {
	errand
	n int
}

// What waits goes together, in its order, and no more than so much at a time. What
// nobody waits for any more is not done; what waits when the queue is closed is.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue[*numbered]()
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
