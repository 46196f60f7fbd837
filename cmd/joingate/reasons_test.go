package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"joingate/joinserver"
	"joingate/sim"
)

// refusal is one way of not being let in.
type refusal struct {
	reason  string
	cause   string        // where one reason has several
	account string        // in the topic of the event
	device  device        // whom the event names
	at      sim.EUI       // gateway that hears the frame
	frame   func() []byte // nil: a join-request of the device
	detail  string        // a part of the event's detail
}

// TestEveryReason provokes each reason through MQTT and sees that it is counted
// once, told once in an event and once in the log, and that nothing is written
// and nothing sent.
//
// Not here: too_late and overloaded are tested with a clock in joinserver, record
// and mqtt; rate_limited and no_airtime have tests of their own below; no_session and
// wrong_net_id are of rejoin-requests (joinserver), wrong_parameters is of network
// servers (backend).
func TestEveryReason(t *testing.T) {
	t.Parallel()
	d := newMachine(t, "JOINGATE_LOG__LEVEL=debug").serve() // a malformed frame is told at this level only
	w := newForbiddingWorld(d)
	refusals := w.refusals()
	checkComplete(t, refusals)
	e := newEar(t, d.broker)
	record := openDatabase(t, d.record)
	record.awaitDelivery()
	before := record.rowCounts()
	for _, r := range refusals {
		w.provoke(e, r)
		if after := record.rowCounts(); !maps.Equal(after, before) {
			t.Errorf("%s %s: rows of all tables were %v and are %v", r.reason, r.cause, before, after)
			before = after
		}
	}
	if n := len(e.heard("/command/down")); n != 0 {
		t.Errorf("%d commands were sent for refused joins", n)
	}
	// Nothing was broken on the way.
	w.field.join(newDevice(1, "1.0.3").switchOn(t))
	eventually(t, "the join event comes", func() bool { return len(e.joinEvents()) == 1 })
}

// checkComplete finds a reason that was forgotten.
func checkComplete(t testing.TB, refusals []refusal) {
	t.Helper()
	elsewhere := []joinserver.Reason{
		joinserver.TooLate, joinserver.Overloaded, joinserver.RateLimited, joinserver.NoAirtime,
		joinserver.NoSession, joinserver.WrongNetID, joinserver.WrongParameters,
	}
	for _, reason := range joinserver.Reasons() {
		provoked := slices.ContainsFunc(refusals, func(r refusal) bool { return r.reason == reason.String() })
		if provoked == slices.Contains(elsewhere, reason) {
			t.Errorf("%s: provoked here: %v", reason, provoked)
		}
	}
}

// forbiddingWorld has a device for each reason.
type forbiddingWorld struct {
	*daemon
	acme  client
	field *field
	// One that may join, and those that something is wrong with.
	good, off, loose, unbound, forbidden, exhausted, counted, drawn device
}

func newForbiddingWorld(d *daemon) forbiddingWorld {
	w := forbiddingWorld{
		daemon: d, good: newDevice(1, "1.0.3"), off: newDevice(2, "1.0.3"), loose: newDevice(3, "1.0.2"),
		unbound: newDevice(4, "1.1"), forbidden: newDevice(5, "1.0.3"), exhausted: newDevice(6, "1.0.4"),
		counted: newDevice(7, "1.1").counting(5), drawn: newDevice(8, "1.0.2").counting(7000),
	}
	w.acme, _ = d.site(gatewayA)
	forbidden := w.acme.permission("forbidden", "101")
	w.acme.group("forbidden", forbidden)
	w.acme.call("CreateNodeGroup", "NodeGroupName=unbound")
	w.acme.register("meters", w.good, w.off, w.exhausted, w.counted, w.drawn)
	w.acme.register("", w.loose)
	w.acme.register("unbound", w.unbound)
	w.acme.register("forbidden", w.forbidden)
	w.acme.enablePermission(forbidden, false)
	d.run("node", "set", w.off.eui.String(), "--enabled=false")
	w.acme.gateways("102", gatewayB)
	d.account("globex").gateways("101", gatewayC)
	w.field = d.field(gatewayA, gatewayB, gatewayC, gatewayD)
	w.useUp()
	return w
}

// useUp gives devices a history.
func (w *forbiddingWorld) useUp() {
	w.t.Helper()
	for _, d := range []device{w.exhausted, w.counted} {
		w.field.join(d.switchOn(w.t))
	}
	w.exhausted.firstDevNonce++
	record := openDatabase(w.t, w.record)
	if n := record.do(`UPDATE sessions SET join_nonce = 16777215 WHERE dev_eui = ?`, w.exhausted.eui.String()); n != 1 {
		w.t.Fatalf("the device has %d sessions", n)
	}
	up, err := w.drawn.switchOn(w.t).JoinRequest()
	check(w.t, err)
	record.rememberFrame(w.drawn, up, time.Now().Add(-time.Second))
}

func (w *forbiddingWorld) refusals() []refusal {
	acme := w.acme.AccountID
	stranger, wrongKey, otherJoinEUI, european := newDevice(99, "1.0.3"), w.good, w.good, w.good
	wrongKey.appKey = stranger.appKey
	otherJoinEUI.joinEUI++
	european.region = "EU868"
	return []refusal{
		{reason: "malformed", cause: "truncated", at: gatewayA, frame: func() []byte { return w.request(w.good)[:22] }},
		{reason: "malformed", cause: "too long", at: gatewayA, frame: func() []byte { return append(w.request(w.good), 0) }},
		{reason: "malformed", cause: "major version", at: gatewayA, frame: func() []byte { return append([]byte{1}, w.request(w.good)[1:]...) }},
		{reason: "unknown_device", account: "_", device: stranger, at: gatewayA},
		{reason: "device_disabled", account: acme, device: w.off, at: gatewayA},
		{reason: "no_permission", cause: "in no group", account: acme, device: w.loose, at: gatewayA, detail: "in no group"},
		{reason: "no_permission", cause: "group bound to none", account: acme, device: w.unbound, at: gatewayA, detail: "bound to no join permission"},
		{reason: "permission_disabled", account: acme, device: w.forbidden, at: gatewayA},
		{reason: "wrong_join_eui", account: acme, device: otherJoinEUI, at: gatewayA, detail: defaultJoinEUI.String()},
		{reason: "wrong_band_plan", account: acme, device: european, at: gatewayA, detail: "EU868"},
		{reason: "gateway_not_allowed", cause: "unregistered", account: acme, device: w.good.counting(10), at: gatewayD, detail: "not registered"},
		{reason: "gateway_not_allowed", cause: "of another group", account: acme, device: w.good.counting(11), at: gatewayB, detail: "group 102"},
		{reason: "gateway_not_allowed", cause: "of another account", account: acme, device: w.good.counting(12), at: gatewayC, detail: "another account"},
		{reason: "bad_mic", account: acme, device: wrongKey, at: gatewayA},
		{reason: "dev_nonce_replayed", cause: "drawn", account: acme, device: w.drawn, at: gatewayA},
		{reason: "dev_nonce_replayed", cause: "counted", account: acme, device: w.counted.counting(4), at: gatewayA},
		{reason: "join_nonce_exhausted", account: acme, device: w.exhausted, at: gatewayA},
	}
}

// request gives the octets of a join-request.
func (w *forbiddingWorld) request(d device) []byte {
	w.t.Helper()
	up, err := d.switchOn(w.t).JoinRequest()
	check(w.t, err)
	return up.PHYPayload
}

// provoke sends one frame and compares what the server tells of it.
func (w *forbiddingWorld) provoke(e *ear, r refusal) {
	t := w.t
	t.Helper()
	metrics, events, lines := w.metrics(), len(e.heard("/event/reject")), len(w.refusedLines(r))
	up, err := r.device.switchOnOr(w.good, t).JoinRequest()
	check(t, err)
	if r.frame != nil {
		up.PHYPayload = r.frame()
	}
	w.field.hears(r.at, up)

	eventually(t, fmt.Sprintf("%s %s is counted", r.reason, r.cause), func() bool { return w.joins(r.reason) > metrics[joinsSeries(r.reason)] })
	eventually(t, fmt.Sprintf("%s %s is logged", r.reason, r.cause), func() bool { return len(w.refusedLines(r)) == lines+1 })
	if r.reason != "malformed" {
		eventually(t, fmt.Sprintf("%s %s is told", r.reason, r.cause), func() bool { return len(e.heard("/event/reject")) > events })
		checkRejectEvent(t, r, e.heard("/event/reject")[events:])
	}
	w.checkCounts(r, metrics)
}

// switchOnOr is switchOn of the device, or of another if it has no name.
func (d device) switchOnOr(other device, t testing.TB) *sim.Device {
	t.Helper()
	if d.eui == 0 {
		d = other
	}
	return d.switchOn(t)
}

// refusedLines are the log lines of such a refusal. A malformed frame names no
// device.
func (w *forbiddingWorld) refusedLines(r refusal) (found []logLine) {
	w.t.Helper()
	if r.reason == "malformed" {
		return w.logged("frame is no join-request")
	}
	for _, line := range w.logged("join refused") {
		if line.Reason == r.reason && line.DevEUI == r.device.eui.String() {
			found = append(found, line)
		}
	}
	return found
}

// checkCounts holds the metrics against those before: this reason one more, all
// other results and every downlink as they were.
func (w *forbiddingWorld) checkCounts(r refusal, before map[string]float64) {
	w.t.Helper()
	for series, value := range w.metrics() {
		want := before[series]
		if series == joinsSeries(r.reason) {
			want++
		}
		counted := strings.HasPrefix(series, "joingate_joins_") || strings.HasPrefix(series, "joingate_downlinks_total")
		if counted && value != want {
			w.t.Errorf("%s %s: %s is %v, want %v", r.reason, r.cause, series, value, want)
		}
	}
}

func checkRejectEvent(t testing.TB, r refusal, events []message) {
	t.Helper()
	if len(events) != 1 {
		t.Errorf("%s %s: %d events", r.reason, r.cause, len(events))
	}
	var event struct {
		Reason, Detail, DevEUI, JoinEUI string
		Time                            time.Time
		Gateways                        []struct{ GwEUI string }
	}
	topic := fmt.Sprintf("joingate/%s/node/%s/event/reject", r.account, r.device.eui)
	if err := json.Unmarshal(events[0].payload, &event); err != nil || events[0].topic != topic {
		t.Errorf("%s %s: event %s on %s (%v), want it on %s", r.reason, r.cause, events[0].payload, events[0].topic, err, topic)
	}
	if event.Reason != r.reason || event.DevEUI != r.device.eui.String() || event.JoinEUI != r.device.joinEUI.String() ||
		!strings.Contains(event.Detail, r.detail) || len(event.Gateways) != 1 || event.Gateways[0].GwEUI != r.at.String() {
		t.Errorf("%s %s: event %s, want detail %q", r.reason, r.cause, events[0].payload, r.detail)
	}
}

// A stranger who fails too often in a device's name is refused without more work,
// and the device itself still joins.
func TestStrangerCannotSilenceADevice(t *testing.T) {
	t.Parallel()
	d := newMachine(t, "JOINGATE_LIMITS__DEVICE_FAILURES=3").serve()
	c, _ := d.site(gatewayA)
	good := newDevice(1, "1.0.3")
	c.register("meters", good)
	forged := good
	forged.appKey = newDevice(99, "1.0.3").appKey
	f := d.field(gatewayA)
	stranger := forged.switchOn(t)
	for range 5 {
		f.ask(gatewayA, stranger)
	}
	eventually(t, "all are refused", func() bool { return d.joins("bad_mic") == 3 && d.joins("rate_limited") == 2 })
	f.join(good.counting(1000).switchOn(t))
}

// A gateway sends one frame at a time. What does not fit is refused before it has
// cost a nonce.
func TestNoAirtime(t *testing.T) {
	t.Parallel()
	d := newMachine(t, "JOINGATE_JOIN__AIRTIME=plan").serve()
	c, _ := d.site(gatewayA)
	devices := newDevices(0, 40, "1.0.4")
	c.register("meters", devices...)
	f := d.field(gatewayA)
	for _, node := range switchAllOn(t, devices) {
		f.ask(gatewayA, node)
	}
	eventually(t, "all are decided", func() bool { return d.joins("accepted")+d.joins("no_airtime") == 40 })
	record := openDatabase(t, d.record)
	if accepted := d.joins("accepted"); accepted == 0 || accepted == 40 || float64(record.rowCounts()["dev_nonces"]) != accepted {
		t.Errorf("%v accepted, %d DevNonces used", accepted, record.rowCounts()["dev_nonces"])
	}
}
