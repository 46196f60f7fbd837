package mqtt

import (
	"slices"
	"sync"
)

// workers run jobs, each on a goroutine of its own. One that has ended its job waits
// for another, its stack grown to what a job needs, but no more of them wait than
// work: there are none while there is nothing to do. How many work at a time is for
// those to bound who have jobs.
type workers struct {
	guard func(job func()) // runs a job and keeps its panic from the process

	mu      sync.Mutex
	stopped bool
	tasks   sync.WaitGroup
	busy    int
	free    []chan func() // of the goroutines that wait; each has room for a job
}

// run has a job run soon, or dropped after stop.
func (w *workers) run(job func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	w.busy++
	if last := len(w.free) - 1; last >= 0 {
		w.free[last] <- job
		w.free = w.free[:last]
		return
	}
	w.tasks.Go(func() { w.work(job) })
}

func (w *workers) work(job func()) {
	next := make(chan func(), 1)
	for ok := true; ok; {
		w.guard(job)
		if !w.finished(next) {
			return
		}
		job, ok = <-next
	}
}

// finished reports whether there may be another job, which then comes by next.
func (w *workers) finished(next chan func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy--
	if w.stopped || len(w.free) >= w.busy {
		w.dismiss(len(w.free) - w.busy)
		return false
	}
	w.free = append(w.free, next)
	return true
}

// dismiss ends some of the goroutines that wait, longest first. The lock is held.
func (w *workers) dismiss(n int) {
	for i := range n {
		close(w.free[i])
	}
	w.free = slices.Delete(w.free, 0, max(0, n))
}

// idle reports whether no job runs.
func (w *workers) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.busy == 0
}

// stop waits for the jobs that run and takes no more.
func (w *workers) stop() {
	w.mu.Lock()
	w.stopped = true
	w.dismiss(len(w.free))
	w.mu.Unlock()
	w.tasks.Wait()
}
