package record_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

const provisioned = 100_000

// BenchmarkCommit commits joins of 100,000 provisioned nodes, each device after
// the other, so that every join is its device's first or one more.
func BenchmarkCommit(b *testing.B) {
	o := newSQLite(b).options
	var batches atomic.Int64
	o.Observe = func(int, time.Duration) { batches.Add(1) }
	r := open(b, o)
	p := newPlace(b, r)
	p.importNodes(b, r, band.MAC1_0_3, 0, provisioned)
	claims := claimsOf(b, r, p)
	var next atomic.Int64
	for _, c := range []struct {
		name       string
		goroutines int
		wrapped    bool // session keys for both servers of the account
	}{{"alone", 1, false}, {"512", 512, false}, {"2048", 2048, false}, {"512 with keys", 512, true}} {
		b.Run(c.name, func(b *testing.B) {
			if c.wrapped {
				update(b, r, func(tx *record.Tx) error {
					return errors.Join(tx.SetRecipient(owner, record.NetworkServer, wrappingKey(b, "ns", 1)),
						tx.SetRecipient(owner, record.ApplicationServer, wrappingKey(b, "as", 2)))
				})
			}
			before := batches.Load()
			b.ReportAllocs()
			commitAll(b, r, claims, &next, c.goroutines)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "joins/s")
			b.ReportMetric(float64(b.N)/float64(batches.Load()-before), "joins/commit")
		})
	}
}

// claimsOf prepares one claim per device, so that making them is not measured.
func claimsOf(b *testing.B, r *record.Record, p place) []joinserver.Claim {
	model := p.claim(b, r, devEUI(0), 0, time.Now())
	claims := make([]joinserver.Claim, provisioned)
	for i := range claims {
		claims[i] = model
		claims[i].Policy.Node.DevEUI = devEUI(i)
		claims[i].Request.DevEUI = devEUI(i)
	}
	return claims
}

func commitAll(b *testing.B, r *record.Record, claims []joinserver.Claim, next *atomic.Int64, goroutines int) {
	commitAllThrough(b, []*record.Record{r}, claims, next, goroutines)
}

// BenchmarkPolicy reads the policies of devices in no order, for as many who wait for
// them at a time. cpu-µs/policy is the processor time of the whole process.
func BenchmarkPolicy(b *testing.B) {
	r := open(b, newSQLite(b).options)
	p := newPlace(b, r)
	p.importNodes(b, r, band.MAC1_0_3, 0, provisioned)
	for _, waiting := range []int{1, 16, 256} {
		b.Run(strconv.Itoa(waiting), func(b *testing.B) {
			var next atomic.Int64
			b.ReportAllocs()
			before := cpuTime(b)
			b.ResetTimer()
			var all sync.WaitGroup
			for range waiting {
				all.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						if _, err := r.Policy(context.Background(), devEUI(int(i%provisioned))); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "policies/s")
			b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/policy")
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
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
