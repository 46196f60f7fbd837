package record_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

// together runs fn n times at once and waits for all.
func together(n int, fn func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	all.Wait()
}

// 2,000 joins at once of 500 devices, each with three frames and a copy of the last.
func TestConcurrentCommits(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		const devices, frames, copies = 500, 3, 4
		w.importNodes(t, w.r, band.MAC1_0_3, 0, devices)
		var batches, joins atomic.Int64
		o := w.store.options
		o.Observe = func(n int, _ time.Duration) { batches.Add(1); joins.Add(int64(n)) }
		r := open(t, o)
		claims := make([]joinserver.Claim, devices*copies)
		for i := range claims {
			claims[i] = w.claim(t, w.r, devEUI(i%devices), uint16(min(i/devices, frames-1)), w.clock.now())
		}
		var mu sync.Mutex
		outcomes := map[string]int{}
		nonces := map[joinserver.EUI64][]uint32{}
		together(len(claims), func(i int) {
			grant, err := r.Commit(context.Background(), claims[i])
			mu.Lock()
			defer mu.Unlock()
			outcomes[outcome(err)]++
			if err == nil {
				nonces[claims[i].Request.DevEUI] = append(nonces[claims[i].Request.DevEUI], grant.JoinNonce)
			}
		})
		if want := map[string]int{"granted": devices * frames, "late copy": devices}; !maps.Equal(outcomes, want) {
			t.Errorf("outcomes %v, not %v", outcomes, want)
		}
		for device, got := range nonces {
			if slices.Sort(got); !slices.Equal(got, []uint32{1, 2, 3}) {
				t.Errorf("JoinNonces of %s are %v", device, got)
			}
		}
		db := w.store.raw(t)
		if n := one[int](t, db, `SELECT COUNT(*) - COUNT(DISTINCT dev_addr) FROM sessions WHERE live`); n != 0 {
			t.Errorf("%d live sessions share a DevAddr", n)
		}
		if n := one[int](t, db, `SELECT COUNT(*) FROM outbox`); n != devices*frames {
			t.Errorf("%d join events, not %d", n, devices*frames)
		}
		if joins.Load() != int64(len(claims)) || batches.Load() > int64(len(claims))/10 {
			t.Errorf("%d joins in %d commits: they were not grouped", joins.Load(), batches.Load())
		}
	})
}

// A single join waits for nobody: its commit holds it alone.
func TestSingleCommit(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
		o := w.store.options
		held := make(chan int, 1)
		o.Observe = func(n int, _ time.Duration) { held <- n }
		r := open(t, o)
		must[joinserver.Grant](t)(r.Commit(context.Background(), w.claim(t, w.r, devEUI(0), 1, w.clock.now())))
		if n := <-held; n != 1 {
			t.Errorf("the commit held %d joins", n)
		}
	})
}

func TestCommitAfterCloseAndWithEndedContext(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
		claim := w.claim(t, w.r, devEUI(0), 1, w.clock.now())
		r := must[*record.Record](t)(record.Open(context.Background(), w.store.options))
		check(t, r.Close())
		if _, err := r.Commit(context.Background(), claim); !errors.Is(err, record.ErrClosed) {
			t.Errorf("commit on a closed record: %v", err)
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := r.Commit(ended, claim); err == nil {
			t.Error("commit with an ended context granted")
		}
	})
}

// Close in the middle of a storm: what was granted is on record, the rest knows
// that it was not.
func TestCloseInAStorm(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		const devices = 64
		w.importNodes(t, w.r, band.MAC1_0_3, 0, devices)
		r := must[*record.Record](t)(record.Open(context.Background(), w.store.options))
		claims := make([]joinserver.Claim, devices)
		for i := range claims {
			claims[i] = w.claim(t, w.r, devEUI(i), 0, w.clock.now())
		}
		var granted atomic.Int64
		closing := make(chan struct{})
		var once sync.Once
		var all sync.WaitGroup
		for i := range claims {
			all.Go(func() {
				c := claims[i]
				for ; ; c.Request.DevNonce++ {
					_, err := r.Commit(context.Background(), c)
					if errors.Is(err, record.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					if granted.Add(1) > 3*devices {
						once.Do(func() { close(closing) })
					}
				}
			})
		}
		<-closing
		check(t, r.Close())
		check(t, r.Close()) // twice does no harm
		all.Wait()
		if n := one[int64](t, w.store.raw(t), `SELECT COUNT(*) FROM dev_nonces`); n != granted.Load() {
			t.Errorf("%d joins on record, %d granted", n, granted.Load())
		}
	})
}
