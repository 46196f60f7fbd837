package joinserver

import (
	"bytes"
	"slices"
	"sync"
)

// takeTurnsWithin is how many dB weaker than the best a gateway may hear a device
// and still get its turn when the device tries again: the gateway that hears best is
// not always one that the device hears.
const takeTurnsWithin = 3

// turns remembers through which gateway each device was answered last. Devices that
// were forgotten begin anew with the best.
type turns struct {
	mu   sync.Mutex
	last recent[EUI64]
}

func newTurns(size int) *turns { return &turns{last: newRecent[EUI64](size)} }

// apply moves the gateway whose turn it is to the front. Gateways take turns in
// the order of their EUIs, which does not change from try to try as SNRs do.
func (t *turns) apply(device EUI64, ranked []candidate) []candidate {
	t.mu.Lock()
	last, known := t.last.get(device)
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
	t.last.set(device, gateway)
}
