package mqtt

import "sync"

// workers runs jobs on a bounded number of goroutines. There are none while
// there is nothing to do.
type workers struct {
	limit int              // most jobs that run at a time
	room  int              // most new jobs that wait
	guard func(job func()) // runs a job and keeps its panic from the process

	mu      sync.Mutex
	stopped bool
	tasks   sync.WaitGroup
	running int
	begun   queue[func()] // goes before what is new: its deadline is nearer
	fresh   queue[func()]
}

// begin runs a new job, now or later, or reports that too many wait.
func (w *workers) begin(job func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.stopped:
		return false
	case w.running < w.limit:
		w.spawn(job)
	case w.fresh.len() >= w.room:
		return false
	default:
		w.fresh.push(job)
	}
	return true
}

// goOn runs the rest of what was begun. Who begins is bounded, so this need not
// be.
func (w *workers) goOn(job func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.stopped:
	case w.running < w.limit:
		w.spawn(job)
	default:
		w.begun.push(job)
	}
}

func (w *workers) spawn(job func()) {
	w.running++
	w.tasks.Go(func() {
		for ok := true; ok; job, ok = w.nextJob() {
			w.guard(job)
		}
	})
}

// nextJob gives a worker its next job, or lets it go.
func (w *workers) nextJob() (func(), bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.stopped:
	case w.begun.len() > 0:
		return w.begun.pop(), true
	case w.fresh.len() > 0:
		return w.fresh.pop(), true
	}
	w.running--
	return nil, false
}

// idle reports whether no job runs or waits.
func (w *workers) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running == 0
}

// stop waits for the jobs that run and drops those that wait.
func (w *workers) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.tasks.Wait()
}
