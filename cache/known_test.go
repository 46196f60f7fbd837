package cache_test

import (
	"context"
	"errors"
	"testing"

	"joingate/cache"
	"joingate/joinserver"
)

func TestKnown(t *testing.T) {
	var listed []joinserver.EUI64
	var revision int64
	var fault error
	known := cache.NewKnown(func(_ context.Context, since int64, fn func(joinserver.EUI64)) (int64, error) {
		if fault != nil || since == revision {
			return since, fault
		}
		for _, device := range listed {
			fn(device)
		}
		return revision, nil
	})
	a, b := joinserver.EUI64{0x10, 1}, joinserver.EUI64{0xf0, 2}
	want := func(hasA, hasB bool) {
		t.Helper()
		if known.Has(a) != hasA || known.Has(b) != hasB {
			t.Errorf("has %t and %t, want %t and %t", known.Has(a), known.Has(b), hasA, hasB)
		}
	}
	look := func() {
		t.Helper()
		if err := known.Look(t.Context()); !errors.Is(err, fault) {
			t.Error(err)
		}
	}
	want(true, true) // nobody has looked yet
	look()
	want(false, false)
	listed, revision = []joinserver.EUI64{a, b}, 1
	want(false, false)
	look()
	want(true, true)
	look()
	want(true, true) // nothing has changed
	listed, revision, fault = []joinserver.EUI64{b}, 2, errors.New("no record")
	look()
	want(true, true)
	fault = nil
	look()
	want(false, true)
}
