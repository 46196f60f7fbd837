package record_test

import (
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"joingate/band"
	"joingate/joinserver"
)

// A disk that is full in the middle of a commit, when the log is written: nothing
// of it was granted, and it goes on when there is room.
func TestFullDiskAtCommit(t *testing.T) {
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("needs a small disk of its own: mount: %v", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(folder, 0)) })
	w := newWorld(t, engine{"sqlite", func(testing.TB) store { return sqliteAt(filepath.Join(folder, "joingate.db")) }})
	w.importNodes(t, w.r, band.MAC1_0_3, 0, 10)
	model := w.claim(t, w.r, devEUI(0), 0, w.clock.now())
	var granted []joinserver.Claim
	var failed error
	for n := 0; failed == nil && n < 10_000; n++ {
		c := model
		c.Request.DevNonce = uint16(n)
		if _, failed = w.commit(c); failed == nil {
			granted = append(granted, c)
		}
	}
	if failed == nil || !strings.Contains(failed.Error(), "disk is full: make room") {
		t.Fatalf("after %d joins: %v", len(granted), failed)
	}
	check(t, syscall.Mount("tmpfs", folder, "tmpfs", syscall.MS_REMOUNT, "size=100m"))
	check(t, w.r.Ready(context.Background()))
	for _, c := range granted {
		w.refuses(t, c, "late copy") // is on record
	}
	next := model
	next.Request.DevNonce = uint16(len(granted))
	if g, err := w.commit(next); err != nil || g.JoinNonce != uint32(len(granted))+1 {
		t.Errorf("the join that failed, again: %+v, %v", g, err)
	}
}
