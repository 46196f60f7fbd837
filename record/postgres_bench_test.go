package record_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

// BenchmarkCommitPostgres is BenchmarkCommit on PostgreSQL, and with two programs
// that commit joins of the same devices.
func BenchmarkCommitPostgres(b *testing.B) {
	o := newPostgres(b).options
	var batches atomic.Int64
	o.Observe = func(int, time.Duration) { batches.Add(1) }
	r := open(b, o)
	p := newPlace(b, r)
	p.importNodes(b, r, band.MAC1_0_3, 0, provisioned)
	claims := claimsOf(b, r, p)
	other := open(b, o)
	var next atomic.Int64
	for _, c := range []struct {
		name       string
		goroutines int
		records    []*record.Record
	}{
		{"alone", 1, []*record.Record{r}},
		{"512", 512, []*record.Record{r}},
		{"2048", 2048, []*record.Record{r}},
		{"2 programs, 1024 each", 1024, []*record.Record{r, other}},
	} {
		b.Run(c.name, func(b *testing.B) {
			before := batches.Load()
			b.ReportAllocs()
			commitAllThrough(b, c.records, claims, &next, c.goroutines)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "joins/s")
			b.ReportMetric(float64(b.N)/float64(batches.Load()-before), "joins/commit")
		})
	}
}

// commitAllThrough divides b.N joins between the records, with so many goroutines
// for each of them.
func commitAllThrough(b *testing.B, records []*record.Record, claims []joinserver.Claim, next *atomic.Int64, goroutines int) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for i := range goroutines * len(records) {
		r := records[i%len(records)]
		all.Go(func() {
			for left.Add(-1) >= 0 {
				i := next.Add(1)
				c := claims[i%provisioned]
				c.Request.DevNonce = uint16(i / provisioned)
				c.Deadline = time.Now().Add(time.Minute)
				if _, err := r.Commit(context.Background(), c); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
