package joinserver

import (
	"encoding/binary"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestRateProperties: in any period no more than twice n pass, the first n at once,
// and who waits for a period has n again.
func TestRateProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "n")
		r := newRate(n, time.Minute)
		now := time.Unix(1_700_000_000, 0)
		var passed []time.Time
		for i := range rapid.IntRange(1, 200).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "pause")) * time.Millisecond)
			had := r.has(EUI64{}, now)
			took := r.take(EUI64{}, now)
			if took != had || i < n && !took {
				t.Fatalf("request %d of %d: has %t, took %t", i, n, had, took)
			}
			if took {
				passed = append(passed, now)
			}
		}
		for i, first := range passed {
			in := 0
			for _, at := range passed[i:] {
				if at.Sub(first) < time.Minute {
					in++
				}
			}
			if in > 2*n {
				t.Fatalf("%d passed within a minute, %d are allowed", in, n)
			}
		}
		now = now.Add(time.Minute)
		for i := range n + 1 {
			if took := r.take(EUI64{}, now); took != (i < n) {
				t.Fatalf("after a pause request %d of %d: took %t", i, n, took)
			}
		}
	})
}

func TestRateGivesBack(t *testing.T) {
	r := newRate(2, time.Minute)
	now := time.Unix(1_700_000_000, 0)
	for range 100 {
		if !r.take(EUI64{1}, now) {
			t.Fatal("what was given back is gone")
		}
		r.giveBack(EUI64{1})
	}
	r.giveBack(EUI64{2}) // never taken
	for i := range 3 {
		if took := r.take(EUI64{2}, now); took != (i < 2) {
			t.Errorf("take %d: %t", i, took)
		}
	}
}

// TestRateOff: no limit remembers nobody.
func TestRateOff(t *testing.T) {
	r := newRate(0, time.Minute)
	for range 1000 {
		if !r.take(EUI64{1}, time.Time{}) || !r.has(EUI64{1}, time.Time{}) {
			t.Fatal("held back by no limit")
		}
	}
	if len(r.used.order) != 0 {
		t.Errorf("%d are remembered", len(r.used.order))
	}
}

// TestRateIsBounded: however many EUIs there are, so many are remembered, and the
// newest are among them.
func TestRateIsBounded(t *testing.T) {
	r := newRate(1, time.Minute)
	now := time.Unix(1_700_000_000, 0)
	var eui EUI64
	for i := range 3 * euisRemembered / 2 {
		binary.BigEndian.PutUint64(eui[:], uint64(i))
		r.take(eui, now)
	}
	if len(r.used.values) != euisRemembered || len(r.used.order) != euisRemembered {
		t.Errorf("%d and %d are remembered, not %d", len(r.used.values), len(r.used.order), euisRemembered)
	}
	if r.has(eui, now) {
		t.Error("the last one is forgotten")
	}
	if !r.has(EUI64{}, now) {
		t.Error("the first one is not forgotten")
	}
}
