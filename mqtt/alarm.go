package mqtt

import (
	"context"
	"time"
)

// alarm wakes the one goroutine that keeps all deadlines of the edge: windows,
// acks, sums. There is no goroutine and no timer per copy, join or downlink.
type alarm chan struct{}

func newAlarm() alarm { return make(alarm, 1) }

// ring says that a new deadline may be the nearest. It never blocks.
func (a alarm) ring() {
	select {
	case a <- struct{}{}:
	default: // it rings already
	}
}

// keep calls tick whenever its nearest deadline has come or the alarm rings,
// until ctx is done. tick gives the next deadline; false: none.
func (a alarm) keep(ctx context.Context, now func() time.Time, tick func(now time.Time) (time.Time, bool)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Stop() // since Go 1.23 no old tick stays in the channel
		if deadline, ok := tick(now()); ok {
			timer.Reset(deadline.Sub(now()))
		}
		select {
		case <-ctx.Done():
			return
		case <-a:
		case <-timer.C:
		}
	}
}
