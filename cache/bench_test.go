package cache_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"joingate/cache"
	"joingate/joinserver"
)

// BenchmarkHit reads a cached policy: alone, and by 256 goroutines whose reads are
// gathered.
func BenchmarkHit(b *testing.B) {
	s := startServer(b)
	truth := newRecord(1)
	policies := openRedis(b, s.url()).Policies(truth)
	read(b, policies)
	b.Run("memory", func(b *testing.B) {
		memory := cache.NewMemory(truth, 100)
		read(b, memory)
		readAll(b, memory, 1)
	})
	b.Run("alone", func(b *testing.B) { readAll(b, policies, 1) })
	b.Run("256", func(b *testing.B) { readAll(b, policies, 256) })
}

// BenchmarkMiss reads what is not cached, and stores it.
func BenchmarkMiss(b *testing.B) {
	s := startServer(b)
	truth := newRecord(1)
	policies := openRedis(b, s.url()).Policies(truth)
	b.ReportAllocs()
	for b.Loop() {
		policies.Forget()
		if _, err := policies.Policy(b.Context(), device); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAway reads while Redis is away: what the outage adds to the record.
func BenchmarkAway(b *testing.B) {
	s := startServer(b)
	r := openRedis(b, s.url(), func(o *cache.Options) { o.Retry = time.Hour })
	policies := r.Policies(newRecord(1))
	s.kill()
	for r.Up() {
		read(b, policies)
	}
	readAll(b, policies, 1)
}

func BenchmarkClaim(b *testing.B) {
	s := startServer(b)
	copies := openRedis(b, s.url()).Copies()
	var next atomic.Int64
	spread(b, 256, func() error {
		n := next.Add(1)
		_, err := copies.Claim(b.Context(), []byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
		return err
	})
}

func BenchmarkTake(b *testing.B) {
	s := startServer(b)
	quotas := openRedis(b, s.url()).Quotas(noQuotas{})
	spread(b, 1, func() error {
		_, err := quotas.Take(b.Context(), "k", 5, time.Second)
		return err
	})
}

func readAll(b *testing.B, from joinserver.Policies, goroutines int) {
	spread(b, goroutines, func() error {
		_, err := from.Policy(b.Context(), device)
		return err
	})
}

// spread divides b.N calls among goroutines.
func spread(b *testing.B, goroutines int, call func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
