package record_test

import (
	"context"
	"encoding/binary"
	"os"
	"testing"

	"joingate/band"
	"joingate/joinserver"
)

// In a storm of joins without a pause SQLite's log begins anew again and again, long
// before SQLite itself would see to it in the middle of a commit.
func TestLogStaysShort(t *testing.T) {
	const (
		devices = 256
		rounds  = 40
		longest = 56 << 20 // octets; of its own accord SQLite begins anew after 64 MB
		often   = 3
	)
	w := newWorld(t, engines[0])
	w.importNodes(t, w.r, band.MAC1_0_3, 0, devices)
	claims := make([][]joinserver.Claim, devices)
	for i := range claims {
		for round := range rounds {
			claims[i] = append(claims[i], w.claim(t, w.r, devEUI(i), uint16(round), w.clock.now()))
		}
	}
	log := w.store.options.SQLitePath + "-wal"
	begun := func() uint32 { // "checkpoint sequence number" of SQLite's file format, section 4.1
		return binary.BigEndian.Uint32(must[[]byte](t)(os.ReadFile(log))[12:])
	}
	first := begun()
	together(devices, func(i int) {
		for _, c := range claims[i] {
			if _, err := w.r.Commit(context.Background(), c); err != nil {
				t.Error(err)
				return
			}
		}
	})
	if again := begun() - first; again < often {
		t.Errorf("the log began anew %d times in %d joins", again, devices*rounds)
	}
	if size := must[os.FileInfo](t)(os.Stat(log)).Size(); size > longest {
		t.Errorf("the log has %d octets", size) // it never shrinks
	}
}
