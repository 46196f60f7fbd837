package mqtt

import "time"

// throttle lets so many things pass in a second and counts the others. The zero
// throttle has no second running; one begins with the first thing.
type throttle struct {
	began  time.Time
	passed int
	summed int
}

// pass reports whether a thing may pass, or was counted.
func (t *throttle) pass(now time.Time, perSecond int) bool {
	if now.Sub(t.began) >= time.Second && t.summed == 0 {
		t.began, t.passed = now, 0
	}
	if t.passed >= perSecond {
		t.summed++
		return false
	}
	t.passed++
	return true
}

// sum takes the count of what did not pass, once its second is over. Until then
// it is 0.
func (t *throttle) sum(now time.Time) int {
	if t.summed == 0 || now.Sub(t.began) < time.Second {
		return 0
	}
	n := t.summed
	*t = throttle{began: now}
	return n
}

// due is when sum will have a count; false: there is none.
func (t *throttle) due() (time.Time, bool) {
	return t.began.Add(time.Second), t.summed > 0
}
