package mqtt

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Who has ended a job takes the next one. No more goroutines wait for one than work,
// so that none is left when there is nothing to do.
func TestWorkersAreUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done atomic.Int64
		w := &workers{guard: func(job func()) {
			defer func() { _ = recover() }()
			job()
		}}
		end := make(chan bool)
		start := func(n int) {
			for range n {
				w.run(func() {
					defer done.Add(1)
					if <-end {
						panic("of a job")
					}
				})
			}
		}
		want := func(busy, free int) {
			t.Helper()
			synctest.Wait()
			idle := w.idle()
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.busy != busy || len(w.free) != free || idle != (busy == 0) {
				t.Errorf("%d work and %d wait, not %d and %d; idle %t", w.busy, len(w.free), busy, free, idle)
			}
		}
		start(10)
		want(10, 0)
		for i := range 4 {
			end <- i == 1 // the goroutine outlives the panic of its job
		}
		want(6, 4)
		start(3)
		want(9, 1)
		for range 5 {
			end <- false
		}
		want(4, 4) // of 9 and 1 two have ended
		for range 4 {
			end <- false
		}
		want(0, 0)
		start(2)
		end <- false
		want(1, 1)
		stopped := make(chan bool)
		go func() { w.stop(); close(stopped) }()
		want(1, 0)
		select {
		case <-stopped:
			t.Error("stopped, and one works")
		default:
		}
		end <- false
		<-stopped
		start(1)
		want(0, 0)
		if n := done.Load(); n != 15 {
			t.Errorf("%d jobs were done", n)
		}
	})
}
