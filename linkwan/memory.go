package linkwan

import (
	"context"
	"sync"
	"time"
)

// Memory counts events and remembers nonces for a while, shared by all instances
// behind one API. What it forgets too early costs no data: the nonces of writes
// are kept by the record too.
type Memory interface {
	// Take counts one event under the key, unless n were counted within the last
	// window, and reports whether it did. It is exact under concurrency.
	Take(ctx context.Context, key string, n int, window time.Duration) (bool, error)
	// Full reports whether Take would refuse now. It counts nothing.
	Full(ctx context.Context, key string, n int, window time.Duration) (bool, error)
	// Release takes back the newest event counted under the key, when there is one:
	// what was counted beforehand did not come about.
	Release(ctx context.Context, key string) error
	// Forget drops all events counted under the key.
	Forget(ctx context.Context, key string) error
	// Once reports whether the key is new within the last ttl, and remembers it.
	// Its keys are others than those of Take.
	Once(ctx context.Context, key string, ttl time.Duration) (bool, error)
}

// Bounds of LocalMemory.
const (
	memoryKeys = 1 << 16          // keys per generation
	memoryLife = 30 * time.Minute // the longest time anything must be remembered
)

// LocalMemory is a Memory for a single instance. It holds at most twice
// memoryKeys keys, and as many of Once: when more than memoryKeys new ones come
// within memoryLife, the ones unused for longest go early. A flood of nonces
// cannot push out what is counted.
type LocalMemory struct {
	now func() time.Time

	mu     sync.Mutex
	counts generations
	seen   generations
}

// NewLocalMemory takes the clock to go by.
func NewLocalMemory(now func() time.Time) *LocalMemory {
	return &LocalMemory{now: now, counts: newGenerations(now()), seen: newGenerations(now())}
}

// Take is as Memory says; its error is always nil.
func (m *LocalMemory) Take(_ context.Context, key string, n int, window time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts.take(key, n, m.now(), window), nil
}

// Full is as Memory says; its error is always nil.
func (m *LocalMemory) Full(_ context.Context, key string, n int, window time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.counts.within(key, m.now().Add(-window))) >= n, nil
}

// Release is as Memory says; its error is always nil.
func (m *LocalMemory) Release(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	events := m.counts.events(key)
	m.counts.forget(key)
	if len(events) > 1 {
		m.counts.young[key] = events[:len(events)-1]
	}
	return nil
}

// Forget is as Memory says; its error is always nil.
func (m *LocalMemory) Forget(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts.forget(key)
	return nil
}

// Once is as Memory says; its error is always nil.
func (m *LocalMemory) Once(_ context.Context, key string, ttl time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen.take(key, 1, m.now(), ttl), nil
}

// generations are keys with the times of their events, oldest first. A key that
// is used is in the young generation.
type generations struct {
	young, old map[string][]time.Time
	started    time.Time // of the young one
}

func newGenerations(now time.Time) generations {
	return generations{young: map[string][]time.Time{}, started: now}
}

// take counts an event, unless n were counted within the window.
func (g *generations) take(key string, n int, now time.Time, window time.Duration) bool {
	g.turnOver(now)
	events := g.within(key, now.Add(-window))
	if len(events) >= n {
		g.young[key] = events
		return false
	}
	g.young[key] = append(events, now)
	return true
}

func (g *generations) events(key string) []time.Time {
	if events, ok := g.young[key]; ok {
		return events
	}
	return g.old[key]
}

func (g *generations) forget(key string) {
	delete(g.young, key)
	delete(g.old, key)
}

// within gives the key's events after the time. An event exactly one window ago
// has left it.
func (g *generations) within(key string, after time.Time) []time.Time {
	events := g.events(key)
	for len(events) > 0 && !events[0].After(after) {
		events = events[1:]
	}
	return events
}

// turnOver forgets the old generation when the young one is full or as old as
// anything must get.
func (g *generations) turnOver(now time.Time) {
	if len(g.young) < memoryKeys && now.Sub(g.started) < memoryLife {
		return
	}
	g.old, g.young, g.started = g.young, map[string][]time.Time{}, now
}
