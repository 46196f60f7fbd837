package joinserver_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
)

// TestStaleRefusalIsConfirmed: the cache still refuses what the record admits
// since. The device joins, by the record's policy.
func TestStaleRefusalIsConfirmed(t *testing.T) {
	for name, stale := range map[string]func(*world){
		"device disabled":     func(w *world) { w.cache.change(func(p *joinserver.Policy) { p.Node.Enabled = false }) },
		"in no group":         func(w *world) { w.cache.change(func(p *joinserver.Policy) { p.Group = joinserver.NodeGroup{} }) },
		"bound to none":       func(w *world) { w.cache.change(func(p *joinserver.Policy) { p.Permission.ID = 0 }) },
		"permission disabled": func(w *world) { w.cache.change(func(p *joinserver.Policy) { p.Permission.Enabled = false }) },
		"other JoinEUI":       func(w *world) { w.cache.change(func(p *joinserver.Policy) { p.Permission.JoinEUI[0]++ }) },
		"other band plan":     func(w *world) { w.cache.change(func(p *joinserver.Policy) { p.Permission.BandPlanGroup = 1000 }) },
		"gateway missing":     func(w *world) { clear(w.cache.gateways) },
		"gateway disabled":    func(w *world) { w.cache.changeGateway(gatewayA, func(g *joinserver.Gateway) { g.Enabled = false }) },
		"other key": func(w *world) {
			other := key(w.tb, otherHex)
			w.cache.change(func(p *joinserver.Policy) { p.Node.Keys.App = other })
		},
	} {
		w := newWorld(t)
		w.stale()
		stale(w)
		down, err := w.join(1)
		if err != nil {
			t.Errorf("%s in the cache: %v", name, err)
			continue
		}
		if got, want := down.Claim.Versions(), (joinserver.PolicyVersions{Node: 11, NodeGroup: 12, Permission: 13, Gateway: 14}); got != want {
			t.Errorf("%s in the cache: joined by versions %v, want %v", name, got, want)
		}
	}
}

// TestStaleRefusalOfARejoin: the cache still has the version that the device was
// before it was set to 1.1.
func TestStaleRefusalOfARejoin(t *testing.T) {
	w, _, device, copy := joined(t)
	w.stale()
	w.cache.change(func(p *joinserver.Policy) { p.Node.MACVersion = band.MAC1_0_4 })
	if _, err := w.send(device.rejoinRequest(0), copy); err != nil {
		t.Error(err)
	}
}

// TestStaleRequirementIsConfirmed: the permission has ceased to require its own
// RxDelay, and the cache does not know.
func TestStaleRequirementIsConfirmed(t *testing.T) {
	w := newWorld(t)
	w.stale()
	w.cache.change(func(p *joinserver.Policy) { p.Permission.RequireOwn = true })
	if _, err := w.joinFor(request(joinRequest(t, rootHex, 1))); err != nil {
		t.Error(err)
	}
}

// TestConfirmedRefusalIsTheRecords: both refuse, for different reasons. The one
// of the record counts, whatever its place in the order.
func TestConfirmedRefusalIsTheRecords(t *testing.T) {
	disable := func(p *joinserver.Policy) { p.Node.Enabled = false }
	unbind := func(p *joinserver.Policy) { p.Permission = joinserver.JoinPermission{} }
	for name, c := range map[string]struct {
		cache, record func(*joinserver.Policy)
		want          joinserver.Reason
	}{
		"an earlier one": {unbind, disable, joinserver.DeviceDisabled},
		"a later one":    {disable, unbind, joinserver.NoPermission},
	} {
		w := newWorld(t)
		w.stale()
		w.cache.change(c.cache)
		w.record.change(c.record)
		if _, err := w.join(1); reasonOf(err) != c.want || w.joins.asked != 0 {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	w := newWorld(t)
	w.stale()
	w.cache.change(disable)
	delete(w.record.policies, devEUI)
	if _, err := w.join(1); reasonOf(err) != joinserver.UnknownDevice {
		t.Errorf("removed since: %v", err)
	}
}

// TestStaleAdmissionIsCaught: the cache still admits what the record refuses.
func TestStaleAdmissionIsCaught(t *testing.T) {
	for name, c := range causes() {
		if c.set == nil || c.committed || c.reason == joinserver.TooLate || name == "AppKey of a 1.1 device" {
			continue
		}
		w := newWorld(t)
		w.stale()
		c.set(w)
		down, err := w.join(1)
		if reasonOf(err) != c.reason || len(w.joins.claims) != 0 || down.PHYPayload != nil {
			t.Errorf("%s since the cache was filled: %v, want %s and nothing written", name, err, c.reason)
		}
	}
}

// TestMovedPolicyIsDecidedAgain: the device gets what the administrator set last,
// not what the cache held.
func TestMovedPolicyIsDecidedAgain(t *testing.T) {
	w := newWorld(t)
	w.stale()
	dr := band.DataRate(4)
	w.record.change(func(p *joinserver.Policy) { p.Permission.RxDelay, p.Permission.DataRate = 7*time.Second, &dr })
	down := w.mustJoin(1)
	accept := decrypt(t, down.PHYPayload, rootHex, 1)
	if accept.RXDelay != 7 || accept.DLSettings.RX2DataRate != 4 {
		t.Errorf("the device gets RxDelay %d and DataRate %d, want 7 and 4", accept.RXDelay, accept.DLSettings.RX2DataRate)
	}
	if w.joins.asked != 2 || len(w.joins.claims) != 1 {
		t.Errorf("%d commits wrote %d joins", w.joins.asked, len(w.joins.claims))
	}
	if down.Claim.Policy.Permission.Version != 14 {
		t.Errorf("joined by permission version %d", down.Claim.Policy.Permission.Version)
	}
}

// TestPolicyThatMovesInTheCommit: an administrator is faster, again and again.
func TestPolicyThatMovesInTheCommit(t *testing.T) {
	for moves, joins := range map[int]bool{1: true, 4: true, 1000: false} {
		w := newWorld(t)
		left := moves
		w.joins.onCommit = func() {
			if left > 0 {
				left--
				w.record.change(func(*joinserver.Policy) {})
			}
		}
		_, err := w.join(1)
		if joins && err != nil {
			t.Errorf("%d moves: %v", moves, err)
		}
		if !joins && (!errors.Is(err, joinserver.ErrPolicyMoved) || reasonOf(err) != 0 || w.joins.asked > 10) {
			t.Errorf("%d moves, %d commits: %v", moves, w.joins.asked, err)
		}
		if wrote := len(w.joins.claims) == 1; wrote != joins {
			t.Errorf("%d moves: wrote %d joins", moves, len(w.joins.claims))
		}
	}
}

// TestGatewayThatMovedIsChosenAgain: the best gateway changed hands.
func TestGatewayThatMovedIsChosenAgain(t *testing.T) {
	w := newWorld(t)
	w.stale()
	w.record.changeGateway(gatewayA, func(g *joinserver.Gateway) { g.Owner = stranger })
	down := w.mustJoin(1, heardBy(gatewayA, level(-50, 9)), heardBy(gatewayB))
	if len(down.Routes) != 1 || down.Routes[0].Gateway != gatewayB || down.Claim.Gateway.EUI != gatewayB {
		t.Errorf("answered through %v", down.Routes)
	}
}

// TestUnknownDeviceIsNotAskedAgain: it may be remembered, so that a flood of
// unknown devices does not reach the record.
func TestUnknownDeviceIsNotAskedAgain(t *testing.T) {
	w := newWorld(t)
	w.stale()
	delete(w.cache.policies, devEUI)
	if _, err := w.join(1); reasonOf(err) != joinserver.UnknownDevice {
		t.Errorf("got %v", err)
	}
	if w.record.asked != 0 || w.cache.asked != 1 {
		t.Errorf("the record was asked %d times, the cache %d times", w.record.asked, w.cache.asked)
	}
}

// TestWhatTheCommitFindsIsNotAskedAgain: it rests on the record already.
func TestWhatTheCommitFindsIsNotAskedAgain(t *testing.T) {
	for name, c := range causes() {
		if !c.committed && c.reason != joinserver.TooLate {
			continue
		}
		w := newWorld(t)
		w.stale()
		c.set(w)
		_, err := w.join(1)
		commits := 0
		if c.committed {
			commits = 1
		}
		if reasonOf(err) != c.reason || w.joins.asked != commits || w.record.asked != commits { // Commit reads the record
			t.Errorf("%s: %v after %d commits and %d reads of the record", name, err, w.joins.asked, w.record.asked)
		}
	}
}

func TestRecordFaultWhileConfirming(t *testing.T) {
	w := newWorld(t)
	w.stale()
	w.cache.change(func(p *joinserver.Policy) { p.Node.Enabled = false })
	w.record.fault = errors.New("database is locked")
	if _, err := w.join(1); !errors.Is(err, w.record.fault) || reasonOf(err) != 0 {
		t.Errorf("a refusal that nobody confirmed: %v", err)
	}
}

func TestLateCopyPassesThrough(t *testing.T) {
	w := newWorld(t)
	w.mustJoin(1)
	if _, err := w.join(1); !errors.Is(err, joinserver.ErrLateCopy) || reasonOf(err) != 0 {
		t.Errorf("the copy: %v", err)
	}
	if w.joins.asked != 2 || len(w.joins.claims) != 1 {
		t.Errorf("%d commits wrote %d joins", w.joins.asked, len(w.joins.claims))
	}
	w.now = start.Add(10 * time.Second)
	late := heardBy(gatewayA, func(r *joinserver.Reception) { r.Received = w.now })
	if _, err := w.join(1, late); reasonOf(err) != joinserver.DevNonceReplayed {
		t.Errorf("the same frame after its RX2: %v", err)
	}
}

// TestAttemptIsDecidedByItsCopies: what Prepare found counts once the copies are
// in, and one attempt may be answered with other copies.
func TestAttemptIsDecidedByItsCopies(t *testing.T) {
	w := newWorld(t)
	attempt, err := w.handler.Prepare(context.Background(), joinRequest(t, otherHex, 1))
	if err != nil {
		t.Fatalf("a wrong MIC is no reason yet: %v", err)
	}
	for want, copy := range map[joinserver.Reason]joinserver.Reception{
		joinserver.WrongBandPlan:     heardBy(gatewayA, at(868_100_000)),
		joinserver.GatewayNotAllowed: heardBy(nobodys),
		joinserver.BadMIC:            heardBy(gatewayA),
	} {
		if _, err := w.handler.Answer(context.Background(), attempt, []joinserver.Reception{copy}); reasonOf(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if attempt.Request.DevEUI != devEUI || w.joins.asked != 0 {
		t.Error("the attempt is of another device, or reached the commit")
	}
}

// TestAttemptIsOfTheAccountOnceProved: what a stranger sends in a device's name is
// not the account's, whose share of the queue it would use up.
func TestAttemptIsOfTheAccountOnceProved(t *testing.T) {
	w := newWorld(t)
	for keyHex, want := range map[string]joinserver.AccountID{rootHex: account, otherHex: 0} {
		attempt, err := w.handler.Prepare(context.Background(), joinRequest(t, keyHex, 1))
		if err != nil || attempt.Account() != want {
			t.Errorf("under key %s the attempt is of account %s, want %s; %v", keyHex[:4], attempt.Account(), want, err)
		}
	}
}

func TestStepsAreObserved(t *testing.T) {
	w := newWorld(t)
	w.mustJoin(1)
	want := []joinserver.Step{joinserver.StepPolicy, joinserver.StepMIC, joinserver.StepGateways, joinserver.StepCommit, joinserver.StepEncode}
	if len(w.steps) != len(want) {
		t.Fatalf("observed %v, want %v", w.steps, want)
	}
	for i := range want {
		if w.steps[i] != want[i] {
			t.Fatalf("observed %v, want %v", w.steps, want)
		}
	}
}
