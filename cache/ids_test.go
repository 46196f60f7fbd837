package cache

import (
	"context"
	"errors"
	"testing"
	"time"
)

// scripted leases numbers from a list; then it fails.
type scripted []int64

func (s *scripted) lease(context.Context, int64) (int64, error) {
	if len(*s) == 0 {
		return 0, errors.New("no leases")
	}
	first := (*s)[0]
	*s = (*s)[1:]
	return first, nil
}

func TestIDsWrapAndNeverAreZero(t *testing.T) {
	for number, want := range map[int64]uint16{0: 1, 1: 2, 65534: 65535, 65535: 1, 65536: 2, -1: 65535, 1<<62 - 1<<62%65535: 1} {
		if got := idOf(number); got != want {
			t.Errorf("number %d has id %d, want %d", number, got, want)
		}
	}
}

// An instance that sends little does not use ids that others have had since.
func TestLeasesEnd(t *testing.T) {
	now := time.Unix(0, 0)
	leases := &scripted{99, 1999}
	ids := newLeasedIDs(leases, func() time.Time { return now })
	next := func(want uint16) {
		t.Helper()
		if got := ids.Next(t.Context()); got != want {
			t.Errorf("id %d, want %d", got, want)
		}
	}
	next(100)
	now = now.Add(leaseLife - 1)
	next(101)
	now = now.Add(1)
	next(2000)
	for range idBlock - 1 {
		ids.Next(t.Context())
	}
	next(idOf(ids.alone)) // there are no more leases
	now = now.Add(leaseLife)
	next(idOf(ids.alone))
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
