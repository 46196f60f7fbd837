package joinserver

import (
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// demandMemory is for how long a request counts as demand: its weight falls to
	// 1/e in that time.
	demandMemory = 5 * time.Second
	// dearest is how many requests of others the answer to one may cost.
	dearest = 1
	// alwaysFair is how long an answer may last whatever the demand: or a gateway that
	// hears more than it can ever answer would answer nobody.
	alwaysFair = 100 * time.Millisecond
	// patience is by how much more an answer may cost after each time that the device
	// was refused, so that in a storm without end slow devices have their turn too.
	patience = 1.3
)

// demand knows how many requests each gateway hears. While a gateway sends, it hears
// nobody: a slow answer may cost more joins than it wins. In a storm such answers are
// left out, so that the devices that cost little are through soon, and the others
// after them. Each instance goes by what it has heard itself.
type demand struct {
	mu       sync.Mutex
	gateways recent[heardRate]
	refused  recent[int] // times that a device found no airtime since it was last answered
}

// heardRate is the demand at a gateway at a time: requests within demandMemory.
type heardRate struct {
	requests float64
	at       time.Time
}

func newDemand() *demand {
	return &demand{gateways: newRecent[heardRate](euisRemembered), refused: newRecent[int](euisRemembered)}
}

// now is what the demand has become since.
func (r heardRate) now(at time.Time) float64 {
	return r.requests * math.Exp(-max(0, at.Sub(r.at)).Seconds()/demandMemory.Seconds())
}

// heard counts a request at the gateways that may answer it.
func (d *demand) heard(by []candidate, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range by {
		r, _ := d.gateways.get(c.gateway.EUI)
		d.gateways.set(c.gateway.EUI, heardRate{r.now(at) + 1, at})
	}
}

// affordable leaves out the ways that cost too much.
func (d *demand) affordable(device EUI64, ways []ratedWay, at time.Time) []ratedWay {
	d.mu.Lock()
	defer d.mu.Unlock()
	times, _ := d.refused.get(device)
	most := dearest * math.Pow(patience, float64(times))
	return slices.DeleteFunc(ways, func(w ratedWay) bool { return w.Transmission.OnAir > alwaysFair && d.cost(w.Transmission, at) > most })
}

// cost is how many requests of others the gateway will not hear while it sends.
func (d *demand) cost(t Transmission, at time.Time) float64 {
	r, _ := d.gateways.get(t.Gateway)
	return r.now(at) * t.OnAir.Seconds() / demandMemory.Seconds()
}

// noAirtime counts a refusal for want of airtime.
func (d *demand) noAirtime(device EUI64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	times, _ := d.refused.get(device)
	d.refused.set(device, times+1)
}

// answered makes a device begin anew.
func (d *demand) answered(device EUI64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, waited := d.refused.get(device); waited {
		d.refused.set(device, 0)
	}
}
