package joinserver_test

import (
	"strings"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
)

func (w *world) limit(l joinserver.Limits) {
	w.config.Limits = l
	w.rebuild()
}

// fail sends a forged request of the device and gives the reason of its refusal.
func (w *world) fail(nonce uint16) joinserver.Reason {
	w.tb.Helper()
	_, err := w.send(joinRequest(w.tb, otherHex, nonce))
	return reasonOf(err)
}

// again is a copy that comes now.
func (w *world) again() joinserver.Reception {
	return heardBy(gatewayA, func(r *joinserver.Reception) { r.Received = w.now })
}

// TestFailuresOfADeviceAreLimited: three a minute say why; what is over is
// rate_limited, until a third of a minute has passed.
func TestFailuresOfADeviceAreLimited(t *testing.T) {
	w := newWorld(t)
	w.limit(joinserver.Limits{DeviceFailures: 3})
	want := func(n int, reason joinserver.Reason) {
		t.Helper()
		for range n {
			if _, err := w.send(joinRequest(t, otherHex, 1), w.again()); reasonOf(err) != reason {
				t.Fatalf("got %v, want %s", err, reason)
			}
		}
	}
	want(3, joinserver.BadMIC)
	want(20, joinserver.RateLimited)
	w.now = w.now.Add(20 * time.Second)
	want(1, joinserver.BadMIC)
	want(20, joinserver.RateLimited)
	w.now = w.now.Add(time.Minute)
	want(3, joinserver.BadMIC)
	want(1, joinserver.RateLimited)

	_, err := w.send(joinRequest(t, otherHex, 1), w.again())
	if !strings.Contains(err.Error(), "over 3 failures a minute; this one: bad_mic") {
		t.Errorf("%v does not tell why", err)
	}
	if _, err := w.send(frameOf(t, otherHex, joinserver.EUI64{9}, joinEUI, 1), w.again()); reasonOf(err) != joinserver.UnknownDevice {
		t.Errorf("another device: %v", err)
	}
}

// TestEveryFailureCounts, but for those that are not the sender's.
func TestEveryFailureCounts(t *testing.T) {
	for name, c := range causes() {
		w := newWorld(t)
		w.limit(joinserver.Limits{DeviceFailures: 1})
		if c.set != nil {
			c.set(w)
		}
		frame := joinRequest(t, rootHex, 1)
		if c.frame != nil {
			frame = c.frame(t)
		}
		counts := c.reason != joinserver.Malformed && c.reason != joinserver.TooLate
		for try, want := range []bool{false, counts} {
			_, err := w.send(frame, c.copies...)
			if limited := reasonOf(err) == joinserver.RateLimited; limited != want || !limited && reasonOf(err) != c.reason {
				t.Errorf("%s, try %d: %v", name, try, err)
			}
		}
	}
}

// TestWantOfAirtimeIsNotTheDevicesFailure: gateways that are busy are not its fault.
func TestWantOfAirtimeIsNotTheDevicesFailure(t *testing.T) {
	w := newWorld(t)
	ledger := w.plans()
	w.limit(joinserver.Limits{DeviceFailures: 1})
	ledger.busy = func(joinserver.Transmission) bool { return true }
	for nonce := range uint16(5) {
		if _, err := w.join(nonce); reasonOf(err) != joinserver.NoAirtime {
			t.Errorf("try %d: %v", nonce, err)
		}
	}
}

// TestStrangerCannotSilenceADevice: however often somebody fails in its name, or
// repeats what it has sent, the device joins.
func TestStrangerCannotSilenceADevice(t *testing.T) {
	w := newWorld(t)
	w.limit(joinserver.Limits{DeviceFailures: 2, DeviceJoins: 2, JoinEUIJoins: 2})
	w.joins.nonces[7] = joinserver.Claim{}
	for i := range uint16(50) {
		w.fail(i)
		if _, err := w.join(7); err == nil {
			t.Fatal("a frame that was repeated has joined")
		}
	}
	w.mustJoin(100)
	w.mustJoin(101)
}

// TestLimitedFailureIsHardlyConfirmed: the record is asked once a second about the
// failures of a device that is over its limit.
func TestLimitedFailureIsHardlyConfirmed(t *testing.T) {
	w := newWorld(t)
	w.stale()
	w.limit(joinserver.Limits{DeviceFailures: 2})
	for range 100 {
		w.fail(1)
	}
	if w.record.asked != 3 {
		t.Errorf("the record was asked %d times about 100 failures at once", w.record.asked)
	}
	for range 5 {
		w.now = w.now.Add(time.Second)
		for range 100 {
			w.send(joinRequest(t, otherHex, 1), w.again())
		}
	}
	if w.record.asked != 8 {
		t.Errorf("the record was asked %d times after 5 seconds", w.record.asked)
	}
}

// TestStaleCacheDoesNotKeepALimitedDeviceOut: the cache has an old node, group or
// permission, so that the device itself seems to fail; strangers fail between.
func TestStaleCacheDoesNotKeepALimitedDeviceOut(t *testing.T) {
	old := key(t, "0123456789abcdef0123456789abcdef")
	for name, stale := range map[string]func(*joinserver.Policy){
		"node":       func(p *joinserver.Policy) { p.Node.Keys.App, p.Node.Version = old, 10 },
		"group":      func(p *joinserver.Policy) { p.Group, p.Permission.ID = joinserver.NodeGroup{}, 0 },
		"permission": func(p *joinserver.Policy) { p.Permission.Enabled, p.Permission.Version = false, 12 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.stale()
			p := w.cache.policies[devEUI]
			stale(&p)
			w.cache.policies[devEUI] = p
			w.limit(joinserver.Limits{DeviceFailures: 2})
			for i := range uint16(20) {
				w.fail(i)
				w.fail(i)
				w.mustJoin(100 + i)
			}
		})
	}
}

// TestMovedPolicyIsAlwaysAsked, also of a device over its limit.
func TestMovedPolicyIsAlwaysAsked(t *testing.T) {
	w := newWorld(t)
	w.stale()
	w.limit(joinserver.Limits{DeviceFailures: 1})
	for range 10 {
		w.fail(1)
	}
	w.record.change(func(p *joinserver.Policy) { p.Permission.RxDelay = 4 * time.Second })
	if down := w.mustJoin(2); down.Claim.RxDelay != 4*time.Second {
		t.Errorf("joined with RxDelay %s", down.Claim.RxDelay)
	}
}

// TestJoinsAreLimited: what is too much is refused before it has cost a nonce.
func TestJoinsAreLimited(t *testing.T) {
	for name, limits := range map[string]joinserver.Limits{
		"of the device": {DeviceJoins: 2}, "with JoinEUI": {JoinEUIJoins: 2},
	} {
		w := newWorld(t)
		ledger := w.plans()
		w.limit(limits)
		w.mustJoin(1)
		w.mustJoin(2)
		_, err := w.join(3)
		if reasonOf(err) != joinserver.RateLimited || !strings.Contains(err.Error(), name) {
			t.Fatalf("%s: %v", name, err)
		}
		if w.joins.asked != 2 || len(ledger.booked) != 2 {
			t.Errorf("%s: %d commits, %d places booked", name, w.joins.asked, len(ledger.booked))
		}
		w.now = w.now.Add(30 * time.Second) // half a minute gives a device one more, a JoinEUI all
		if _, err := w.send(joinRequest(t, rootHex, 3), w.again()); err != nil {
			t.Errorf("%s, later: %v", name, err)
		}
	}
}

// TestWhatIsNotCommittedIsNotCounted: only a join that was granted uses up the
// limits of joins.
func TestWhatIsNotCommittedIsNotCounted(t *testing.T) {
	w := newWorld(t)
	ledger := w.plans()
	w.limit(joinserver.Limits{DeviceJoins: 1, JoinEUIJoins: 1})
	w.joins.nonces[1] = joinserver.Claim{}
	for range 5 {
		if _, err := w.join(1); reasonOf(err) != joinserver.DevNonceReplayed {
			t.Fatal(err)
		}
		ledger.busy = func(joinserver.Transmission) bool { return true }
		if _, err := w.join(2); reasonOf(err) != joinserver.NoAirtime {
			t.Fatal(err)
		}
		ledger.busy = nil
	}
	w.mustJoin(2)
	if _, err := w.join(3); reasonOf(err) != joinserver.RateLimited {
		t.Error(err)
	}
}

// TestOtherDevicesOfTheJoinEUI: a limit of a JoinEUI is shared by its devices, a
// limit of a device is not.
func TestOtherDevicesOfTheJoinEUI(t *testing.T) {
	other := joinserver.EUI64{9}
	for limits, want := range map[joinserver.Limits]joinserver.Reason{{DeviceJoins: 1}: 0, {JoinEUIJoins: 1}: joinserver.RateLimited} {
		w := newWorld(t)
		policy := w.record.policies[devEUI]
		policy.Node.DevEUI = other
		w.record.policies[other] = policy
		w.limit(limits)
		w.mustJoin(1)
		if _, err := w.send(frameOf(t, rootHex, other, joinEUI, 2)); reasonOf(err) != want {
			t.Errorf("%+v: %v", limits, err)
		}
	}
}

// TestNoLimits: by default nobody is held back.
func TestNoLimits(t *testing.T) {
	w := newWorld(t)
	w.setVersion(band.MAC1_0_3)
	for i := range uint16(300) {
		w.mustJoin(i)
		if got := w.fail(i); got != joinserver.BadMIC {
			t.Fatal(got)
		}
	}
}
