package mqtt

import "sync"

// workers run jobs, each on a goroutine of its own. One that has ended its job waits
// for another: its stack has grown to what a job needs. How many there are at a time
// is for those to bound who have jobs.
type workers struct {
	guard func(job func()) // runs a job and keeps its panic from the process

	mu      sync.Mutex
	stopped bool
	tasks   sync.WaitGroup
	busy    int
	free    []chan func() // of the goroutines that wait; each has room for a job
}

// mostFree is how many goroutines wait for a job; those that have ended one besides
// them end.
const mostFree = 256

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
	if w.stopped || len(w.free) == mostFree {
		return false
	}
	w.free = append(w.free, next)
	return true
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
	for _, next := range w.free {
		close(next)
	}
	w.free = nil
	w.mu.Unlock()
	w.tasks.Wait()
}
