package record_test

import (
	"sync/atomic"
	"testing"
	"time"

	"joingate/band"
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
