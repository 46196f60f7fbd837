package cache_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"joingate/band"
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

// BenchmarkNextID draws ids of downlink commands.
func BenchmarkNextID(b *testing.B) {
	s := startServer(b)
	ids := openRedis(b, s.url()).DownlinkIDs()
	for _, goroutines := range []int{1, 256} {
		b.Run(strconv.Itoa(goroutines), func(b *testing.B) {
			spread(b, goroutines, func() error { ids.Next(b.Context()); return nil })
		})
	}
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

// BenchmarkBook books a join-accept in one of six slots of three gateways: in
// memory and in Redis, one after the other and by 256 goroutines.
func BenchmarkBook(b *testing.B) {
	s := startServer(b)
	memory := cache.NewAirtime(time.Now)
	shared := openRedis(b, s.url()).Airtime(cache.NewAirtime(time.Now))
	b.Run("memory", func(b *testing.B) { bookAll(b, memory, 1) })
	b.Run("memory/256", func(b *testing.B) { bookAll(b, memory, 256) })
	b.Run("redis", func(b *testing.B) { bookAll(b, shared, 1) })
	b.Run("redis/256", func(b *testing.B) { bookAll(b, shared, 256) })
}

// bookAll goes through 3,000 gateways, so that some slots are taken and some are
// free.
func bookAll(b *testing.B, airtime joinserver.Airtime, goroutines int) {
	var next atomic.Int64
	spread(b, goroutines, func() error {
		n := next.Add(1)
		start := time.Now().Add(5 * time.Second)
		options := make([]joinserver.Transmission, 6)
		for i := range options {
			options[i] = joinserver.Transmission{
				Gateway: gatewayNumber((n*7 + int64(i/2)) % 3000), Start: start.Add(time.Duration(i%2) * time.Second),
				OnAir: 46 * time.Millisecond, Duty: band.DutyCycle{SubBand: uint8(i % 2), Limit: 36 * time.Second},
			}
		}
		airtime.Book(b.Context(), options)
		return nil
	})
}
