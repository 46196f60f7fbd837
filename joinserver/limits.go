package joinserver

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Limits hold back those who ask too often. 0 is no limit. Each instance counts for
// itself. A limit of n per period lets n through at once, and then one in every nth
// part of the period (GCRA, ITU-T I.371 annex A).
type Limits struct {
	// DeviceFailures is how many requests of a DevEUI may fail in a minute. What
	// fails beyond that is refused as RateLimited, and its refusal is hardly confirmed
	// by the record. Still each rejoin-request of type 0 or 2 asks for the sessions,
	// without which its MIC cannot be checked. A request with a good MIC that the
	// policy admits always passes, so a stranger cannot silence a device.
	DeviceFailures int
	// DeviceJoins is how many joins of a device are granted in a minute.
	DeviceJoins int
	// JoinEUIJoins is how many joins with a JoinEUI are granted in a second.
	JoinEUIJoins int
	// Rejoin1 is how many rejoin-requests of type 1 of a device are granted in an
	// hour. Devices are to send them with a duty cycle under 0.1 % (LoRaWAN 1.1,
	// section 6.2.4.2).
	Rejoin1 int
}

// confirmEvery is how often the record is asked about the failures of a device that
// is over its limit, so that a stale cache cannot keep it out.
const confirmEvery = time.Second

// limiter holds the joins back that are too many.
type limiter struct {
	mu       sync.Mutex
	failures rate
	joins    rate
	joinEUIs rate
	rejoins  rate
	confirms rate
}

func newLimiter(l Limits) *limiter {
	return &limiter{
		failures: newRate(l.DeviceFailures, time.Minute),
		joins:    newRate(l.DeviceJoins, time.Minute),
		joinEUIs: newRate(l.JoinEUIJoins, time.Second),
		rejoins:  newRate(l.Rejoin1, time.Hour),
		confirms: newRate(min(1, l.DeviceFailures), confirmEvery),
	}
}

// mayConfirm reports whether the record is to be asked about a decision. A device
// that has failed too often lets a failure pass only now and then.
func (l *limiter) mayConfirm(device EUI64, err error, now time.Time) bool {
	if !l.failures.on() || errors.Is(err, ErrPolicyMoved) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failures.has(device, now) || l.confirms.take(device, now)
}

// distrust lets the next failure of a device be confirmed at once: the cache is
// known to be stale, so its refusals are worth little.
func (l *limiter) distrust(device EUI64) {
	if !l.failures.on() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.confirms.giveBack(device)
}

// failed counts what is the fault of the sender, and refuses what is over the limit
// as RateLimited.
func (l *limiter) failed(err error, now time.Time) error {
	var refused *Rejection
	if !l.failures.on() || !errors.As(err, &refused) || !refused.Reason.countsAgainstSender() {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failures.take(refused.DevEUI, now) {
		return err
	}
	return &Rejection{
		Reason: RateLimited, DevEUI: refused.DevEUI, JoinEUI: refused.JoinEUI, Account: refused.Account,
		Detail: fmt.Sprintf("over %d failures a minute; this one: %s", l.failures.n, refused.Reason),
	}
}

// countsAgainstSender reports whether a request with this reason has failed by
// itself, and not for want of something on our side.
func (r Reason) countsAgainstSender() bool {
	switch r {
	case Malformed, RateLimited, TooLate, NoAirtime, Overloaded, WrongParameters:
		return false
	}
	return true
}

// reserve refuses a join that is proved but too many, before it has cost a nonce.
// What it has taken is given back by spare when the join comes to nothing. Only the
// JoinEUI's share is taken in advance: were the device's, frames of its own that a
// stranger repeats would use it up.
func (l *limiter) reserve(f finding, now time.Time) (spare func(), err error) {
	spare = func() {}
	if !l.joins.on() && !l.joinEUIs.on() && !l.rejoins.on() {
		return spare, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	device, joinEUI := f.request.DevEUI, f.request.JoinEUI
	if !l.joins.has(device, now) {
		return nil, f.reject(RateLimited, fmt.Sprintf("over %d joins a minute of the device", l.joins.n))
	}
	if f.request.kind == Rejoin1 && !l.rejoins.has(device, now) {
		return nil, f.reject(RateLimited, fmt.Sprintf("over %d rejoin-requests of type 1 an hour of the device", l.rejoins.n))
	}
	if !l.joinEUIs.take(joinEUI, now) {
		return nil, f.reject(RateLimited, fmt.Sprintf("over %d joins a second with JoinEUI %s", l.joinEUIs.n, joinEUI))
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.joinEUIs.giveBack(joinEUI)
	}, nil
}

// granted counts a join that was committed.
func (l *limiter) granted(c Claim, now time.Time) {
	if !l.joins.on() && !l.rejoins.on() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.joins.take(c.Request.DevEUI, now)
	if c.Type == Rejoin1 {
		l.rejoins.take(c.Request.DevEUI, now)
	}
}

// rate lets n requests of each EUI through in a period. It keeps for each the time
// at which all that it has taken will be used up again.
type rate struct {
	n        int
	interval time.Duration // of requests that come without end
	burst    time.Duration // how far ahead of them one may be
	used     recent[time.Time]
}

func newRate(n int, per time.Duration) rate {
	if n <= 0 {
		return rate{}
	}
	interval := per / time.Duration(n)
	return rate{n: n, interval: interval, burst: per - interval, used: newRecent[time.Time](euisRemembered)}
}

func (r *rate) on() bool { return r.n > 0 }

// has reports whether another request may pass now.
func (r *rate) has(eui EUI64, now time.Time) bool {
	until, _ := r.used.get(eui)
	return !r.on() || until.Sub(now) <= r.burst
}

// take lets a request pass, or not.
func (r *rate) take(eui EUI64, now time.Time) bool {
	if !r.on() {
		return true
	}
	until, _ := r.used.get(eui)
	if until.Sub(now) > r.burst {
		return false
	}
	if until.Before(now) {
		until = now
	}
	r.used.set(eui, until.Add(r.interval))
	return true
}

// giveBack undoes a take.
func (r *rate) giveBack(eui EUI64) {
	if until, known := r.used.get(eui); known {
		r.used.set(eui, until.Add(-r.interval))
	}
}
