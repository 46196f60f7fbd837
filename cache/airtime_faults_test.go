package cache_test

import (
	"testing"
	"time"

	"joingate/band"
	"joingate/cache"
	"joingate/joinserver"
)

// Without Redis an instance keeps to what it has booked itself, before and during
// the outage; duty cycles also after it.
func TestAirtimeWithoutRedis(t *testing.T) {
	s := startServer(t)
	var seen watch
	r := openRedis(t, s.url(), impatient(&seen))
	airtime := r.Airtime(cache.NewAirtime(time.Now))
	other := openRedis(t, s.url()).Airtime(cache.NewAirtime(time.Now))
	base := time.Now().Add(20 * time.Second)
	second := func(n int) joinserver.Transmission {
		return joinserver.Transmission{
			Gateway: gateway, Start: base.Add(time.Duration(n) * time.Second), OnAir: time.Second - 2*cache.AirtimeGuard,
			Duty: band.DutyCycle{Limit: 4 * time.Second},
		}
	}
	book := func(by joinserver.Airtime, want int, options ...joinserver.Transmission) {
		t.Helper()
		if got := by.Book(t.Context(), options); got != want {
			t.Errorf("option %d was booked, want %d", got, want)
		}
	}
	eventually(t, func() bool { return airtime.Book(t.Context(), []joinserver.Transmission{second(1)}) == 0 })
	book(other, 1, second(1), second(2))
	s.kill()
	book(airtime, 1, second(1), second(3))
	airtime.Release(t.Context(), second(3))
	book(airtime, 1, second(1), second(3))
	airtime.Sent(t.Context(), second(4))
	book(airtime, 1, second(4), second(5))
	book(airtime, -1, second(7))
	s.start()
	eventually(t, r.Up)
	book(airtime, -1, second(8)) // its hour is full, although Redis has forgotten
	book(other, 0, second(8))
	unlimited := second(8)
	unlimited.Duty = band.DutyCycle{}
	book(airtime, -1, unlimited)
}

// An instance whose clock is wrong plans right, and harms nobody.
func TestAirtimeOfAWrongClock(t *testing.T) {
	s := startServer(t)
	const wrong = 40 * time.Second
	for _, off := range []time.Duration{wrong, -wrong} {
		right := openRedis(t, s.url()).Airtime(cache.NewAirtime(time.Now))
		clock := func() time.Time { return time.Now().Add(off) }
		skewed := openRedis(t, s.url()).Airtime(cache.NewAirtime(clock))
		g := gatewayNumber(int64(off))
		from := time.Now()
		at := func(in time.Duration) joinserver.Transmission {
			return joinserver.Transmission{Gateway: g, Start: from.Add(in), OnAir: 2 * time.Second}
		}
		skewedAt := func(in time.Duration) joinserver.Transmission {
			one := at(in)
			one.Start = one.Start.Add(off)
			return one
		}
		for i, step := range []struct {
			by      joinserver.Airtime
			options []joinserver.Transmission
			want    int
		}{
			{right, []joinserver.Transmission{at(20 * time.Second)}, 0},
			{skewed, []joinserver.Transmission{skewedAt(21 * time.Second), skewedAt(25 * time.Second)}, 1},
			{right, []joinserver.Transmission{at(24 * time.Second), at(30 * time.Second)}, 1},
			{skewed, []joinserver.Transmission{skewedAt(19 * time.Second), skewedAt(31 * time.Second)}, -1},
		} {
			if got := step.by.Book(t.Context(), step.options); got != step.want {
				t.Errorf("clock off by %s, step %d: option %d was booked, want %d", off, i, got, step.want)
			}
		}
		skewed.Release(t.Context(), skewedAt(25*time.Second))
		if got := right.Book(t.Context(), []joinserver.Transmission{at(25 * time.Second)}); got != 0 {
			t.Errorf("clock off by %s: what was released is not free", off)
		}
	}
}

// A Redis that is full may have evicted what a gateway has sent, and not what it is
// planned to send. Then a release brings back nothing, least of all for ever.
func TestReleaseOfWhatWasEvicted(t *testing.T) {
	s := startServer(t)
	r := openRedis(t, s.url())
	airtime := r.Airtime(cache.NewAirtime(time.Now))
	one := joinserver.Transmission{
		Gateway: gateway, Start: time.Now().Add(5 * time.Second), OnAir: time.Second, Duty: band.DutyCycle{SubBand: 1, Limit: 2 * time.Second},
	}
	if airtime.Book(t.Context(), []joinserver.Transmission{one}) != 0 {
		t.Fatal("not booked")
	}
	sums := r.Key("air:{" + gateway.String() + "}:sums")
	if s.do("DEL", sums) != int64(1) {
		t.Fatal("there were no sums")
	}
	airtime.Release(t.Context(), one)
	if left := s.do("HGETALL", sums); len(left.(map[any]any)) != 0 {
		t.Errorf("%v is left", left)
	}
}

// What gateways say of themselves does not fill Redis.
func TestAirtimeInRedisIsBounded(t *testing.T) {
	s := startServer(t)
	r := openRedis(t, s.url())
	airtime := r.Airtime(cache.NewAirtime(time.Now))
	from := time.Now().Add(5 * time.Second)
	for i := range cache.MaxSpans + 10 {
		airtime.Sent(t.Context(), joinserver.Transmission{Gateway: gateway, Start: from.Add(time.Duration(i) * time.Millisecond), OnAir: time.Second})
	}
	if n := s.do("ZCARD", r.Key("air:{"+gateway.String()+"}:spans")); n != int64(cache.MaxSpans) {
		t.Errorf("%v transmissions are kept, want %d", n, cache.MaxSpans)
	}
}

// A Redis that was started anew does not know the script.
func TestScriptIsGivenAgain(t *testing.T) {
	s := startServer(t)
	var seen watch
	airtime := openRedis(t, s.url(), func(o *cache.Options) { o.Observe = seen.observe }).Airtime(cache.NewAirtime(time.Now))
	for i := range 3 {
		s.do("SCRIPT", "FLUSH")
		one := joinserver.Transmission{Gateway: gatewayNumber(int64(i)), Start: time.Now().Add(time.Second), OnAir: time.Second}
		if airtime.Book(t.Context(), []joinserver.Transmission{one}) != 0 || airtime.Book(t.Context(), []joinserver.Transmission{one}) != -1 {
			t.Error("it was not booked")
		}
		if keys := s.do("KEYS", "*air:*").([]any); len(keys) != 2*(i+1) {
			t.Errorf("Redis holds %v", keys)
		}
	}
	if seen.of(cache.Failed) != 0 {
		t.Errorf("%d round trips counted as failed", seen.of(cache.Failed))
	}
}
