package main

import (
	"context"
	"slices"
	"sync"
	"time"
)

// meter counts joins as they come and finds out when their rate is full again.
type meter struct {
	full float64 // joins per second when nothing is wrong

	mu    sync.Mutex
	times []time.Time // of the last joins, oldest first
	sent  []time.Time // of their join-requests, in the order of the joins
}

// window is how long the rate has to be full to count as such.
const window = time.Second

// share of the full rate that counts as it: joins come in bursts.
const share = 0.9

// remembered is how far back the meter looks.
const remembered = 5 * time.Minute

// joined notes a join now.
func (m *meter) joined(sent time.Time) { m.joinedAt(time.Now(), sent) }

func (m *meter) joinedAt(now, sent time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.times, m.sent = append(m.times, now), append(m.sent, sent)
	if len(m.times)%1024 == 0 {
		old, _ := slices.BinarySearchFunc(m.times, now.Add(-remembered), time.Time.Compare)
		m.times, m.sent = slices.Delete(m.times, 0, old), slices.Delete(m.sent, 0, old)
	}
}

// rate gives the joins per second in the window that begins at a moment.
func (m *meter) rate(from time.Time) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	first, _ := slices.BinarySearchFunc(m.times, from, time.Time.Compare)
	last, _ := slices.BinarySearchFunc(m.times, from.Add(window), time.Time.Compare)
	return float64(last-first) / window.Seconds()
}

// answered is how many of the join-requests that are sent at the full rate from one
// moment to another were answered, sooner or later.
func (m *meter) answered(from, to time.Time) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, sent := range m.sent {
		if !sent.Before(from) && sent.Before(to) {
			n++
		}
	}
	return min(1, float64(n)/m.full/to.Sub(from).Seconds())
}

// awaitFull waits until there was a window of full rate after a moment, and gives
// when it began; ok is false when patience or ctx ended first.
func (m *meter) awaitFull(ctx context.Context, after time.Time, patience time.Duration) (since time.Duration, ok bool) {
	const step = 20 * time.Millisecond
	look := time.NewTicker(step)
	defer look.Stop()
	for from := after; from.Before(after.Add(patience)); {
		for ; !from.Add(window).After(time.Now()); from = from.Add(step) {
			if m.rate(from) >= share*m.full {
				return from.Sub(after), true
			}
		}
		select {
		case <-ctx.Done():
			return 0, false
		case <-look.C:
		}
	}
	return 0, false
}
