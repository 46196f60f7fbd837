package mqtt

import (
	"encoding/json"
	"testing"
	"time"

	"joingate/joinserver"
)

func TestThrottle(t *testing.T) {
	var th throttle
	pass := func(ms, want int) {
		t.Helper()
		passed := 0
		for range 5 {
			if th.pass(at(ms), 3) {
				passed++
			}
		}
		if passed != want {
			t.Errorf("at %d ms %d passed, want %d", ms, passed, want)
		}
	}
	pass(0, 3)
	pass(500, 0)
	if n := th.sum(at(999)); n != 0 {
		t.Errorf("sum of %d before the second is over", n)
	}
	if due, ok := th.due(); !ok || !due.Equal(at(1000)) {
		t.Errorf("due %s %t", due, ok)
	}
	if n := th.sum(at(1000)); n != 7 {
		t.Errorf("sum %d, want 7", n)
	}
	if _, ok := th.due(); ok {
		t.Error("due although nothing is summed")
	}
	pass(1000, 3)
	if n := th.sum(at(2000)); n != 2 {
		t.Errorf("sum %d, want 2", n)
	}
	pass(60_000, 3)
}

// refuseMany refuses joins of devices 1, 2, 3, … for a reason.
func (b *testBench) refuseMany(n int, reason joinserver.Reason) {
	for i := range n {
		b.reporter.refused(&joinserver.Rejection{Reason: reason, DevEUI: joinserver.EUI64{byte(i >> 8), byte(i)}, Account: 5}, nil)
	}
}

// publishEvents publishes the events that wait and returns all that was published.
func (b *testBench) publishEvents() []published {
	for _, p := range []*post{b.reporter.refusals, b.reporter.outcomes} {
		for !p.idle() {
			p.publish(<-p.waiting)
		}
	}
	return b.broker.messages()
}

func TestRejectEvent(t *testing.T) {
	b := newBench(t)
	copies := []joinserver.Reception{copyOf(joinRequest(1), gatewayA, 2.5, start).Reception}
	device := joinserver.EUI64{0xaa, 1}
	b.reporter.refused(&joinserver.Rejection{Reason: joinserver.BadMIC, DevEUI: device, Account: 5}, copies)
	b.reporter.refused(&joinserver.Rejection{Reason: joinserver.UnknownDevice, DevEUI: device}, copies)
	sent := b.publishEvents()
	if len(sent) != 2 || sent[0].topic != "joingate/5/node/aa01000000000000/event/reject" ||
		sent[1].topic != "joingate/_/node/aa01000000000000/event/reject" || sent[0].qos != 0 {
		t.Fatalf("published %+v", sent)
	}
	var event struct {
		Reason, Remedy, DevEUI string
		Gateways               []struct{ GwEUI string }
	}
	if err := json.Unmarshal(sent[0].payload, &event); err != nil {
		t.Fatal(err)
	}
	if event.Reason != "bad_mic" || event.Remedy == "" || event.DevEUI != device.String() || event.Gateways[0].GwEUI != gatewayA.String() {
		t.Errorf("event %+v", event)
	}
}

func TestFloodOfRefusalsIsSummed(t *testing.T) {
	b := newBench(t)
	b.refuseMany(350, joinserver.BadMIC)
	b.refuseMany(3, joinserver.TooLate)
	b.wantJoins(t, "refused", "bad_mic", 350)
	if lines := b.logs.FilterMessage("join refused").Len(); lines != 103 {
		t.Errorf("%d lines, want 100 and 3", lines)
	}
	b.pass(t, time.Second)
	sent := b.publishEvents()
	if len(sent) != 104 {
		t.Fatalf("%d events, want 100, 3 and a sum", len(sent))
	}
	last := sent[103]
	var sum struct {
		Reason string
		Count  int
	}
	if err := json.Unmarshal(last.payload, &sum); err != nil {
		t.Fatal(err)
	}
	if last.topic != "joingate/_/node/_/event/reject" || sum.Reason != "bad_mic" || sum.Count != 250 {
		t.Errorf("sum on %s: %+v", last.topic, sum)
	}
	if lines := b.logs.FilterMessage("more joins refused"); lines.Len() != 1 || lines.All()[0].ContextMap()["count"] != int64(250) {
		t.Errorf("lines of sums: %v", lines.All())
	}
	b.pass(t, time.Minute)
	if sent := b.publishEvents(); len(sent) != 104 {
		t.Errorf("%d events after a quiet minute", len(sent))
	}
}

func TestRejectsKeepsTheNewest(t *testing.T) {
	b := newBench(t)
	for range rejectsKept/50 + 2 {
		b.refuseMany(50, joinserver.UnknownDevice)
		b.clock.advance(time.Second)
	}
	list := b.Rejects()
	if len(list) != rejectsKept || list[0].DevEUI != (joinserver.EUI64{0, 49}) || list[1].DevEUI != (joinserver.EUI64{0, 48}) {
		t.Errorf("%d remembered, the newest of %s", len(list), list[0].DevEUI)
	}
	if !list[0].Time.After(list[rejectsKept-1].Time) {
		t.Error("the newest is not the first")
	}
}

func TestEventsAreDroppedBeforeTheyStallAnybody(t *testing.T) {
	b := newBench(t)
	for range eventsWaiting/shownPerSecond + 1 {
		b.refuseMany(shownPerSecond, joinserver.BadMIC)
		b.clock.advance(time.Second)
	}
	dropped := (eventsWaiting/shownPerSecond+1)*shownPerSecond - eventsWaiting
	wantCount(t, "dropped events", b.metrics.rejectEvents.WithLabelValues(eventDropped), float64(dropped))
}
