package joinserver

import (
	"bytes"
	"slices"
	"sync"
)

const (
	// takeTurnsWithin is how many dB weaker than the best a gateway may hear a
	// device and still get its turn when the device tries again: the gateway that
	// hears best is not always one that the device hears.
	takeTurnsWithin = 3
	// turnsRemembered bounds the memory: devices beyond it begin anew with the
	// best gateway.
	turnsRemembered = 1 << 16
)

// turns remembers through which gateway each device was answered last.
type turns struct {
	mu    sync.Mutex
	last  map[EUI64]EUI64
	order []EUI64 // ring of the devices in last, oldest at next
	next  int
}

func newTurns(size int) *turns {
	return &turns{last: make(map[EUI64]EUI64), order: make([]EUI64, 0, size)}
}

// apply moves the gateway whose turn it is to the front. Gateways take turns in
// the order of their EUIs, which does not change from try to try as SNRs do.
func (t *turns) apply(device EUI64, ranked []candidate) []candidate {
	t.mu.Lock()
	last, known := t.last[device]
	t.mu.Unlock()
	near := len(ranked)
	for i, c := range ranked {
		if ranked[0].copy.SNR-c.copy.SNR > takeTurnsWithin {
			near = i
			break
		}
	}
	if !known || !slices.ContainsFunc(ranked[:near], func(c candidate) bool { return c.gateway.EUI == last }) {
		return ranked
	}
	turn := afterInOrder(ranked[:near], last)
	return slices.Concat(ranked[turn:turn+1], ranked[:turn], ranked[turn+1:])
}

// afterInOrder is the index of the candidate that follows last in the order of
// EUIs, the first one after the greatest.
func afterInOrder(near []candidate, last EUI64) int {
	smallest, following := 0, -1
	for i, c := range near {
		eui := c.gateway.EUI
		if bytes.Compare(eui[:], near[smallest].gateway.EUI[:]) < 0 {
			smallest = i
		}
		if bytes.Compare(eui[:], last[:]) > 0 && (following < 0 || bytes.Compare(eui[:], near[following].gateway.EUI[:]) < 0) {
			following = i
		}
	}
	if following < 0 {
		return smallest
	}
	return following
}

// took remembers the gateway that a device was answered through.
func (t *turns) took(device, gateway EUI64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.last[device]; !known {
		t.remember(device)
	}
	t.last[device] = gateway
}

func (t *turns) remember(device EUI64) {
	if len(t.order) < cap(t.order) {
		t.order = append(t.order, device)
		return
	}
	delete(t.last, t.order[t.next])
	t.order[t.next] = device
	t.next = (t.next + 1) % len(t.order)
}
