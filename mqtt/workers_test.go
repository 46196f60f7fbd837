package mqtt

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Jobs one after the other share a goroutine; of those at a time a bounded number is
// kept for the next ones, and none is left after stop.
func TestWorkersAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done atomic.Int64
		w := &workers{guard: func(job func()) {
			defer func() { _ = recover() }()
			job()
		}}
		waiting := func(want int) {
			t.Helper()
			synctest.Wait()
			if !w.idle() || len(w.free) != want {
				t.Errorf("%d goroutines wait, not %d; idle %t", len(w.free), want, w.idle())
			}
		}
		for range 3 {
			w.run(func() { done.Add(1) })
			waiting(1)
		}
		w.run(func() { panic("of a job") })
		waiting(1)
		open := make(chan struct{})
		for range mostFree + 10 {
			w.run(func() { <-open; done.Add(1) })
		}
		synctest.Wait()
		if len(w.free) != 0 || w.idle() {
			t.Errorf("%d goroutines wait while all jobs run; idle %t", len(w.free), w.idle())
		}
		close(open)
		waiting(mostFree)
		w.stop()
		w.run(func() { done.Add(1) })
		waiting(0)
		if n := done.Load(); n != 3+mostFree+10 {
			t.Errorf("%d jobs were done", n)
		}
	})
}
