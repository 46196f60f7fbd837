package cache

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestIDsWrapAndNeverAreZero(t *testing.T) {
	for number, want := range map[int64]uint16{0: 1, 1: 2, 65534: 65535, 65535: 1, 65536: 2, -1: 65535, 1<<62 - 1<<62%65535: 1} {
		if got := idOf(number); got != want {
			t.Errorf("number %d has id %d, want %d", number, got, want)
		}
	}
}

// lossy is a counter as Redis is one, which can be away and forget.
type lossy struct {
	MemoryIDs
	away    bool
	holders []string
}

var errLost = errors.New("lost")

func (c *lossy) take(ctx context.Context, least int64) (int64, error) {
	if c.away {
		return 0, errLost
	}
	return c.MemoryIDs.take(ctx, least)
}

func (c *lossy) slot(_ context.Context, name string) (slot, highest int, err error) {
	if c.away {
		return 0, 0, errLost
	}
	if !slices.Contains(c.holders, name) {
		c.holders = append(c.holders, name)
	}
	return slices.Index(c.holders, name), len(c.holders) - 1, nil
}

// fleet is some instances that send commands, by turns, at a rate.
type fleet struct {
	now       time.Time
	counter   lossy
	instances []*sharedIDs
	used      [1 << 16]time.Time
	reused    int
	tooEarly  int
	commands  int
}

func newFleet(instances int) *fleet {
	f := &fleet{now: time.Unix(1e9, 0)}
	for i := range instances {
		f.instances = append(f.instances, newSharedIDs(&f.counter, strconv.Itoa(i), func() time.Time { return f.now }, func() { f.reused++ }))
	}
	return f
}

// send sends commands for so long, a second.
func (f *fleet) send(t testing.TB, long time.Duration, aSecond int) {
	for range int(long.Seconds() * float64(aSecond)) {
		id := f.instances[f.commands%len(f.instances)].Next(t.Context())
		if last := f.used[id]; id == 0 || !last.IsZero() && f.now.Sub(last) < idLife {
			f.tooEarly++
		}
		f.used[id] = f.now
		f.commands++
		f.now = f.now.Add(time.Second/time.Duration(aSecond) + 1)
	}
}

// Up to 4,369 commands a second no id comes again within 15 seconds; beyond that
// the oldest does, and is counted.
func TestIDsAreUnique(t *testing.T) {
	const most = maxID / int(idLife/time.Second)
	t.Parallel()
	for _, instances := range []int{1, 20} {
		f := newFleet(instances)
		f.send(t, 20*time.Second, most)
		f.send(t, 10*time.Second, 10)
		f.send(t, 20*time.Second, most)
		if f.tooEarly != 0 || f.reused != 0 {
			t.Errorf("%d instances, %d a second: %d ids came again too early, %d were counted", instances, most, f.tooEarly, f.reused)
		}
		f.send(t, 20*time.Second, most*5/4)
		if f.tooEarly == 0 || f.reused < f.tooEarly*9/10 || f.reused > f.tooEarly*11/10 {
			t.Errorf("%d instances, too many commands: %d ids came again too early, %d were counted", instances, f.tooEarly, f.reused)
		}
	}
}

// Instances that lose the counter, and find it again, perhaps empty, do not
// collide.
func TestIDsAreUniqueWithoutTheCounter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		instances := rapid.SampledFrom([]int{1, 2, 3, 8, 15}).Draw(r, "instances")
		aSecond := instances * 220
		if instances <= fewSlots {
			aSecond = instances * 1100
		}
		f := newFleet(instances)
		for range 2 { // until all know how many they are
			f.send(t, time.Second, instances)
			f.now = f.now.Add(slotRenewal)
		}
		f.send(t, 4*time.Second, aSecond)
		for range rapid.IntRange(1, 3).Draw(r, "outages") {
			f.counter.away = true
			f.send(t, time.Duration(rapid.IntRange(0, 20).Draw(r, "away"))*time.Second/4, aSecond)
			if rapid.Bool().Draw(r, "forgets") {
				f.counter.next = 0
			}
			f.counter.away = false
			f.send(t, time.Duration(rapid.IntRange(0, 40).Draw(r, "there"))*time.Second/4, aSecond)
		}
		if f.tooEarly != 0 {
			r.Fatalf("%d of %d ids came again too early", f.tooEarly, f.commands)
		}
	})
}

// An instance that knows nothing begins anywhere.
func TestIDsWithoutASlot(t *testing.T) {
	seen := map[uint16]bool{}
	for range 100 {
		f := newFleet(1)
		f.counter.away = true
		seen[f.instances[0].Next(t.Context())] = true
	}
	if len(seen) < 90 {
		t.Errorf("only %d different ids of 100", len(seen))
	}
}

func TestMemoryCopiesForget(t *testing.T) {
	now := time.Unix(0, 0)
	m := NewMemoryCopies(func() time.Time { return now })
	ctx := t.Context()
	claim := func(frame string, want bool) {
		t.Helper()
		if mine, err := m.Claim(ctx, []byte(frame)); mine != want || err != nil {
			t.Errorf("%s: %v, %v", frame, mine, err)
		}
	}
	claim("a", true)
	now = now.Add(FrameLife - 1)
	claim("a", false)
	claim("b", true)
	now = now.Add(1)
	claim("a", true)
	claim("b", false)
	if len(m.frames) != 2 || len(m.order) != 2 {
		t.Errorf("%d and %d frames are kept", len(m.frames), len(m.order))
	}
	for i := range maxFrames {
		_, _ = m.Claim(ctx, []byte{byte(i), byte(i >> 8), 'f'})
	}
	if _, err := m.Claim(ctx, []byte("one more")); err == nil || len(m.frames) != maxFrames {
		t.Errorf("%v, %d frames", err, len(m.frames))
	}
}
