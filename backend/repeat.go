package backend

import (
	"context"
	"sync"
	"time"

	"joingate/joinserver"
)

// Limits of the memory of answered joins.
const (
	repeatLife = 10 * time.Second // RX2 of the frame is past by then
	repeatMost = 8192             // joins; beyond, the oldest go early and a repetition is FrameReplayed
)

// repeats remembers granted joins for a while, so that a request that an HTTP
// client sends again gets the same answer although its DevNonce is spent. It
// keeps the keys behind keyring's types and not as text.
type repeats struct {
	now func() time.Time

	mu    sync.Mutex
	known map[string]*grantedJoin
	order []*grantedJoin // those that were granted, the oldest first
}

// grantedJoin is a join that is being decided, or was granted.
type grantedJoin struct {
	key    string
	until  time.Time     // once granted
	done   chan struct{} // closed when answer and err are there
	answer joinserver.NetworkAnswer
	err    error
}

func newRepeats(now func() time.Time) *repeats {
	return &repeats{now: now, known: map[string]*grantedJoin{}}
}

// do decides a join, unless the same one is being decided or was granted a short
// while ago: then it gives that one's answer. Refusals are not remembered.
func (r *repeats) do(ctx context.Context, key string, join func() (joinserver.NetworkAnswer, error)) (answer joinserver.NetworkAnswer, repeated bool, err error) {
	j, first := r.enter(key)
	if !first {
		select {
		case <-j.done:
			return j.answer, true, j.err
		case <-ctx.Done():
			return answer, true, ctx.Err()
		}
	}
	j.err = errUndecided // stays if join panics
	defer func() {
		r.leave(j)
		close(j.done)
	}()
	j.answer, j.err = join()
	return j.answer, false, j.err
}

// enter finds the join of the key, or makes it.
func (r *repeats) enter(key string) (j *grantedJoin, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for len(r.order) > 0 && !now.Before(r.order[0].until) {
		r.dropOldest()
	}
	if j = r.known[key]; j != nil {
		return j, false
	}
	j = &grantedJoin{key: key, done: make(chan struct{})}
	r.known[key] = j
	return j, true
}

// leave keeps a join that was granted and forgets one that was not.
func (r *repeats) leave(j *grantedJoin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if j.err != nil {
		delete(r.known, j.key)
		return
	}
	if len(r.order) == repeatMost {
		r.dropOldest()
	}
	j.until = r.now().Add(repeatLife)
	r.order = append(r.order, j)
}

func (r *repeats) dropOldest() {
	delete(r.known, r.order[0].key)
	r.order[0] = nil
	r.order = r.order[1:]
}
