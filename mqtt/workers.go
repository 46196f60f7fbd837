package mqtt

import "sync"

// workers run jobs, each on a goroutine of its own. There are none while there is
// nothing to do. How many there are at a time is for those to bound who have jobs.
type workers struct {
	guard func(job func()) // runs a job and keeps its panic from the process

	mu      sync.Mutex
	stopped bool
	tasks   sync.WaitGroup
	busy    int
}

// run has a job run soon, or dropped after stop.
func (w *workers) run(job func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	w.busy++
	w.tasks.Go(func() {
		w.guard(job)
		w.finished()
	})
}

func (w *workers) finished() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy--
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
	w.mu.Unlock()
	w.tasks.Wait()
}
