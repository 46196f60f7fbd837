package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// kindsOf makes kinds of faults that do nothing.
func kindsOf(names ...string) (kinds []func(dice) fault) {
	for _, name := range names {
		kinds = append(kinds, func(dice) fault { return fault{name, func() error { return nil }} })
	}
	return kinds
}

func deckOf(seed uint64, only string, names ...string) *deck {
	return &deck{dice: dice{rand.New(rand.NewPCG(seed, 0))}, kinds: kindsOf(names...), only: only}
}

// Every fault comes, none befalls a part twice at once, and a seed gives the same
// faults again.
func TestDeck(t *testing.T) {
	names := []string{"redis: a", "redis: b", "postgres: c", "broker: d"}
	run := func() (drawn []string) {
		k := deckOf(1, "", names...)
		for range 40 {
			f, ok := k.next()
			if !ok {
				t.Fatal("no fault")
			}
			drawn = append(drawn, f.name)
			if first, second, two := strings.Cut(f.name, " + "); two && part(fault{name: first}) == part(fault{name: second}) {
				t.Errorf("one part twice: %s", f.name)
			}
		}
		return drawn
	}
	drawn := run()
	for _, name := range names {
		if !strings.Contains(strings.Join(drawn, "\n"), name) {
			t.Errorf("%s never came", name)
		}
	}
	if again := run(); !slices.Equal(drawn, again) {
		t.Errorf("the seed gave %v, then %v", drawn, again)
	}
	if !strings.Contains(strings.Join(drawn, "\n"), " + ") {
		t.Error("never two at once")
	}
}

func TestDeckOfOne(t *testing.T) {
	k := deckOf(1, "redis: b", "redis: a", "redis: b")
	for range 20 {
		if f, ok := k.next(); !ok || f.name != "redis: b" {
			t.Fatalf("drew %q, %v", f.name, ok)
		}
	}
	if f, ok := deckOf(1, "nothing", "redis: a").next(); ok {
		t.Errorf("drew %q", f.name)
	}
}

// Every kind of fault draws a name that says whom it befalls.
func TestKinds(t *testing.T) {
	w := &world{instances: []*instance{{number: 1}, {number: 2}}}
	d := dice{rand.New(rand.NewPCG(1, 0))}
	for _, kind := range w.kinds() {
		for range 20 {
			if f := kind(d); part(f) == f.name {
				t.Errorf("%q names no part", f.name)
			}
		}
	}
}

func TestMeter(t *testing.T) {
	m := &meter{full: 10}
	begin := time.Now().Add(-10 * time.Second)
	for n := range 100 { // 10 joins/s, but for two seconds
		if at := begin.Add(time.Duration(n) * 100 * time.Millisecond); n < 30 || n >= 50 {
			m.joinedAt(at, at)
		}
	}
	since, ok := m.awaitFull(t.Context(), begin.Add(3*time.Second), time.Minute)
	if !ok || since < 1800*time.Millisecond || since > 2100*time.Millisecond {
		t.Errorf("full again after %s, %v; want about 1.9s", since, ok)
	}
	if got := m.answered(begin, begin.Add(6*time.Second)); got < 0.6 || got > 0.7 {
		t.Errorf("%v answered, want two thirds", got)
	}
	if _, ok := (&meter{full: 10}).awaitFull(t.Context(), begin, 5*time.Second); ok {
		t.Error("full without a join")
	}
}
