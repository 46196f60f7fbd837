package cache_test

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"joingate/band"
	"joingate/cache"
	"joingate/joinserver"
)

// clock is turned by the test.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.reset()
	return c
}

func (c *clock) reset() { c.at.Store(time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC).UnixMicro()) }

func (c *clock) now() time.Time       { return time.UnixMicro(c.at.Load()) }
func (c *clock) turn(d time.Duration) { c.at.Add(d.Microseconds()) }

// gatewayNumber gives a gateway that no other call gives for another number.
func gatewayNumber(n int64) (eui joinserver.EUI64) {
	binary.BigEndian.PutUint64(eui[:], uint64(n))
	return eui
}

func airtimeContract(t *testing.T, b backend) {
	var gateways atomic.Int64
	gateways.Store(1)
	t.Run("books the first that fits", func(t *testing.T) { bookContract(t, b, &gateways) })
	t.Run("duty cycle", func(t *testing.T) { dutyContract(t, b, &gateways) })
	t.Run("many at once", func(t *testing.T) { concurrentContract(t, b, &gateways) })
	t.Run("any sequence", func(t *testing.T) {
		clock := newClock()
		two := b.airtime(t, clock.now)
		rapid.Check(t, func(r *rapid.T) { checkSequence(r, two, clock, gateways.Add(10)) })
	})
}

func bookContract(t *testing.T, b backend, gateways *atomic.Int64) {
	clock := newClock()
	two := b.airtime(t, clock.now)
	first, second := gatewayNumber(gateways.Add(1)), gatewayNumber(gateways.Add(1))
	at := func(gateway joinserver.EUI64, in, onAir time.Duration) joinserver.Transmission {
		return joinserver.Transmission{Gateway: gateway, Start: clock.now().Add(in), OnAir: onAir}
	}
	book := func(want int, options ...joinserver.Transmission) {
		t.Helper()
		if got := two[0].Book(t.Context(), options); got != want {
			t.Errorf("option %d was booked, want %d", got, want)
		}
		two[0], two[1] = two[1], two[0]
	}
	const s, ms, guard = time.Second, time.Millisecond, cache.AirtimeGuard
	book(-1)
	book(0, at(first, 5*s, 100*ms))
	book(1, at(first, 5*s, 100*ms), at(second, 5*s, 100*ms), at(first, 6*s, 100*ms))
	book(-1, at(first, 5*s+100*ms+guard-time.Microsecond, ms), at(first, 5*s-ms-guard+time.Microsecond, ms), at(first, 4*s, 2*s))
	book(0, at(first, 5*s+100*ms+guard, ms))
	book(0, at(first, 5*s-ms-guard, ms))
	two[1].Release(t.Context(), at(first, 5*s, 100*ms))
	book(0, at(first, 5*s+50*ms, ms))
	two[0].Release(t.Context(), at(first, 5*s, 100*ms)) // it is not there: nothing
	two[0].Sent(t.Context(), at(second, 4*s, 10*s))     // over what is booked
	book(-1, at(second, 5*s+500*ms, ms), at(second, 13*s, ms), at(second, 3*s, s), at(second, 3*s, 20*s))
	book(0, at(second, 14*s+guard, ms))
	book(-1, at(first, time.Hour, ms), at(first, -time.Hour, ms), at(first, 20*s, time.Hour))
	clock.turn(2 * time.Hour)
	book(0, at(second, 5*s, 100*ms))
}

func dutyContract(t *testing.T, b backend, gateways *atomic.Int64) {
	clock := newClock()
	two := b.airtime(t, clock.now)
	gateway := gatewayNumber(gateways.Add(1))
	limited := func(subBand uint8, in, onAir time.Duration) joinserver.Transmission {
		return joinserver.Transmission{
			Gateway: gateway, Start: clock.now().Add(in), OnAir: onAir, Duty: band.DutyCycle{SubBand: subBand, Limit: 3 * time.Second},
		}
	}
	book := func(want int, options ...joinserver.Transmission) {
		t.Helper()
		if got := two[0].Book(t.Context(), options); got != want {
			t.Errorf("option %d was booked, want %d", got, want)
		}
		two[0], two[1] = two[1], two[0]
	}
	book(-1, limited(0, time.Second, 3*time.Second+time.Microsecond))
	book(0, limited(0, time.Second, time.Second))
	book(0, limited(0, 3*time.Second, time.Second))
	taken := limited(0, 5*time.Second, time.Second)
	book(0, taken)
	book(1, limited(0, 7*time.Second, time.Millisecond), limited(1, 7*time.Second, time.Second)) // another sub-band
	two[0].Sent(t.Context(), taken)                                                              // what was booked, once more
	two[0].Release(t.Context(), taken)
	two[1].Release(t.Context(), taken)
	book(1, limited(0, 9*time.Second, time.Second+time.Microsecond), limited(0, 9*time.Second, time.Second))
	clock.turn(band.DutyWindow - time.Minute)
	book(-1, limited(0, 5*time.Second, time.Millisecond))
	clock.turn(2 * time.Minute)
	book(0, limited(0, 5*time.Second, 3*time.Second))
	book(-1, limited(0, 9*time.Second, time.Microsecond))
}

// concurrentContract books from many goroutines, more than there is room for.
func concurrentContract(t *testing.T, b backend, gateways *atomic.Int64) {
	clock := newClock()
	two := b.airtime(t, clock.now)
	some := []joinserver.EUI64{gatewayNumber(gateways.Add(1)), gatewayNumber(gateways.Add(1)), gatewayNumber(gateways.Add(1))}
	var mu sync.Mutex
	var booked []joinserver.Transmission
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 25 {
				var options []joinserver.Transmission
				for k, gateway := range some {
					in := 5*time.Second + time.Duration((i*37+j*91+k*13)%100)*10*time.Millisecond
					options = append(options, joinserver.Transmission{Gateway: gateway, Start: clock.now().Add(in), OnAir: 46 * time.Millisecond})
				}
				if n := two[i%2].Book(t.Context(), options); n >= 0 {
					mu.Lock()
					booked = append(booked, options[n])
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	if len(booked) < 3*5 {
		t.Errorf("only %d were booked", len(booked))
	}
	for i, one := range booked {
		if slices.ContainsFunc(booked[:i], func(other joinserver.Transmission) bool { return near(one, other) }) {
			t.Errorf("%v has no room beside another one", one)
		}
	}
}
