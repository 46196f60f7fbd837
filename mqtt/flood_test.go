package mqtt

import (
	"testing"
	"time"

	"joingate/joinserver"
)

const (
	strangers = 0       // joinRequest from here on: one device
	proved    = 1 << 16 // joinRequest from here on: another one
)

// heldUp counts the calls that wait until free is closed.
type heldUp struct {
	begun chan struct{}
	free  chan struct{}
}

func newHeldUp() heldUp {
	return heldUp{begun: make(chan struct{}, 1000), free: make(chan struct{})}
}

func (h heldUp) wait() {
	h.begun <- struct{}{}
	<-h.free
}

// A flood in the names of devices that are not on record waits for itself, however
// long each of its frames takes.
func TestFloodOfStrangersHoldsUpNobodyElse(t *testing.T) {
	stranger := requestOf(joinRequest(strangers)).DevEUI
	b := newBench(t, func(c *Config) { c.Known = func(device joinserver.EUI64) bool { return device != stranger } })
	flood := newHeldUp()
	b.handler.prepare = func(phyPayload []byte) error {
		if requestOf(phyPayload).DevEUI == stranger {
			flood.wait()
		}
		return nil
	}
	b.pipeline.byGateway.slots = 1
	for i := range 100 {
		b.hear(joinRequest(strangers+i), gatewayA, 7)
	}
	eventually(t, "the flood", func() bool { return len(flood.begun) == maxStrange })
	b.hear(joinRequest(proved), gatewayA, 7)
	eventually(t, "the join to be prepared", func() bool { prepared, _ := b.handler.calls(); return prepared == maxStrange+1 })
	b.clock.advance(200 * time.Millisecond)
	b.tick(b.clock.now())
	eventually(t, "the join-accept", func() bool { return len(b.broker.messages()) == 1 })
	if n := len(flood.begun); n != maxStrange {
		t.Errorf("%d strangers were prepared at a time, want %d", n, maxStrange)
	}
	close(flood.free)
	b.settle(t)
	b.wantJoins(t, "accepted", "", 101)
}

// A flood of frames that are not of the devices they name waits for itself. The
// device that it names suffers from it, but no other one.
func TestFloodOfForgedHoldsUpNobodyElse(t *testing.T) {
	b := newBench(t)
	b.pipeline.accountOf = func(a joinserver.Attempt) joinserver.AccountID {
		if a.Request.DevEUI == requestOf(joinRequest(proved)).DevEUI {
			return 7
		}
		return 0
	}
	flood := newHeldUp()
	b.handler.answer = func(r joinserver.JoinRequest, copies []joinserver.Reception) (joinserver.Downlink, error) {
		if r.DevEUI == requestOf(joinRequest(strangers)).DevEUI {
			flood.wait()
		}
		return acceptThroughAll(r, copies)
	}
	b.pipeline.byAccount.slots = 1
	for i := range 100 {
		b.hear(joinRequest(strangers+i), gatewayA, 7)
	}
	b.hear(joinRequest(proved), gatewayA, 7)
	b.hear(joinRequest(2<<16), gatewayA, 7) // not proved either, but of another device
	b.settle(t)
	b.clock.advance(200 * time.Millisecond)
	b.tick(b.clock.now())
	eventually(t, "the join-accept", func() bool { return len(b.broker.messages()) == 1 })
	flood.free <- struct{}{} // one place
	eventually(t, "the turn of the other device", func() bool { return len(b.broker.messages()) > 1 })
	close(flood.free)
	b.settle(t)
	b.wantJoins(t, "accepted", "", 102)
}
