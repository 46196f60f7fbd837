package record_test

import (
	"slices"
	"testing"
)

// Promise 2: a commit that has returned is on disk. kill -9 cannot show it, as the
// kernel still has what was written; only the setting can.
func TestCommitsAreOnDisk(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		settings, err := w.r.WriteDurability(t.Context())
		check(t, err)
		if !slices.Equal(settings, []string{"2", "2"}) && !slices.Equal(settings, []string{"on", "on"}) { // 2: FULL
			t.Errorf("the connections that write have synchronous %q", settings)
		}
	})
}
