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
	// Once reports whether the key is new within the last ttl, and remembers it.
	Once(ctx context.Context, key string, ttl time.Duration) (bool, error)
}

// Bounds of LocalMemory.
const (
	memoryKeys = 1 << 16          // keys per generation
	memoryLife = 30 * time.Minute // the longest time anything must be remembered
)

// LocalMemory is a Memory for a single instance. It holds at most twice
// memoryKeys keys: when more than memoryKeys new ones come within memoryLife, the
// ones unused for longest go early.
type LocalMemory struct {
	now func() time.Time

	mu      sync.Mutex
	young   map[string][]time.Time // when the events were counted, oldest first
	old     map[string][]time.Time
	started time.Time // of the young generation
}

// NewLocalMemory takes the clock to go by.
func NewLocalMemory(now func() time.Time) *LocalMemory {
	return &LocalMemory{now: now, young: map[string][]time.Time{}, started: now()}
}

// Take is as Memory says; its error is always nil.
func (m *LocalMemory) Take(_ context.Context, key string, n int, window time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	m.turnOver(now)
	events := m.within(key, now.Add(-window))
	if len(events) >= n {
		m.young[key] = events
		return false, nil
	}
	m.young[key] = append(events, now)
	return true, nil
}

// Full is as Memory says; its error is always nil.
func (m *LocalMemory) Full(_ context.Context, key string, n int, window time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.within(key, m.now().Add(-window))) >= n, nil
}

// Once is as Memory says; its error is always nil.
func (m *LocalMemory) Once(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	return m.Take(ctx, key, 1, ttl)
}

// within gives the key's events after the time. An event exactly one window ago
// has left it.
func (m *LocalMemory) within(key string, after time.Time) []time.Time {
	events, ok := m.young[key]
	if !ok {
		events = m.old[key]
	}
	for len(events) > 0 && !events[0].After(after) {
		events = events[1:]
	}
	return events
}

// turnOver forgets the old generation when the young one is full or as old as
// anything must get.
func (m *LocalMemory) turnOver(now time.Time) {
	if len(m.young) < memoryKeys && now.Sub(m.started) < memoryLife {
		return
	}
	m.old, m.young, m.started = m.young, map[string][]time.Time{}, now
}
