package joinserver

import (
	"cmp"
	"math"
	"slices"
	"time"

	"joingate/band"
)

// Way is one window of one route of a downlink.
type Way struct {
	Route        int // index in Downlink.Routes
	Window       band.Window
	Transmission Transmission
}

// Ways lists how the join-accept can still be sent by a command that reaches its
// gateway at the given time, the best first: for a hand-over to choose from, and to
// book. It goes through all routes; those that were tried are for the caller to pass
// over.
func (d Downlink) Ways(arrival time.Time) []Way {
	var rated []ratedWay
	for i, route := range d.Routes {
		heard := d.copyOf(route)
		for _, w := range [...]band.Window{route.RX1, route.RX2} {
			if w != (band.Window{}) && !arrival.After(d.Claim.Received.Add(w.Delay)) {
				rated = append(rated, ratedWay{Way: Way{i, w, d.Transmission(route, w)}, margin: heard.marginIn(w)})
			}
		}
	}
	bestFirst(rated)
	ways := make([]Way, len(rated))
	for i, r := range rated {
		ways[i] = r.Way
	}
	return ways
}

// Transmission is what a route's gateway has on the air when it sends in the window.
func (d Downlink) Transmission(route Route, w band.Window) Transmission {
	return transmission(route.Gateway, d.copyOf(route).Received, w, len(d.PHYPayload))
}

// copyOf is the copy by which the route's gateway counts its windows.
func (d Downlink) copyOf(route Route) Reception {
	if route.Reception < len(d.Claim.Receptions) {
		return d.Claim.Receptions[route.Reception]
	}
	return Reception{Received: d.Claim.Received}
}

// transmission is a join-accept of so many octets on the air of a gateway, which
// has received the request at the given time.
func transmission(gateway EUI64, received time.Time, w band.Window, octets int) Transmission {
	return Transmission{
		Gateway: gateway,
		Start:   received.Add(w.Delay),
		OnAir:   w.Modulation.TimeOnAir(octets, false),
		Duty:    w.Duty,
	}
}

// ratedWay is a way with what decides between ways.
type ratedWay struct {
	Way
	answer int     // index of the join-accept that it sends
	margin float32 // dB
	merit  merit
}

const (
	// soundMargin is the link margin in dB from which a downlink is as good as
	// heard: what five seconds may change, and what a device hears worse than a
	// gateway.
	soundMargin = 5
	// slowBy is how many times longer than the shortest way one may last before it is
	// taken for a waste of airtime: while a gateway sends, it hears nobody.
	slowBy = 2
)

// merit orders ways to send. Airtime is what a storm is short of, so a quick window
// of any gateway that the device hears comes before a slow one of the best gateway
// (RX2 of EU868 lasts 25 times as long as RX1 at SF7). The slow one comes before
// what the device will hardly hear.
type merit int

// The merits, the best first.
const (
	soundAndQuick merit = iota
	faintAndQuick
	soundAndSlow
	lastResort
)

// bestFirst orders ways by merit, then as their gateways are ranked, then RX1 before
// RX2.
func bestFirst(ways []ratedWay) {
	shortest := time.Duration(math.MaxInt64)
	for _, w := range ways {
		shortest = min(shortest, w.Transmission.OnAir)
	}
	for i := range ways {
		ways[i].merit = meritOf(ways[i].margin, ways[i].Transmission.OnAir <= slowBy*shortest)
	}
	slices.SortStableFunc(ways, func(a, b ratedWay) int {
		return cmp.Or(cmp.Compare(a.merit, b.merit), cmp.Compare(a.answer, b.answer), cmp.Compare(a.Route, b.Route))
	})
}

func meritOf(margin float32, quick bool) merit {
	switch {
	case margin >= soundMargin && quick:
		return soundAndQuick
	case margin >= 0 && quick:
		return faintAndQuick
	case margin >= soundMargin:
		return soundAndSlow
	}
	return lastResort
}

// marginIn is the link margin in dB that an answer in the window has, if the way
// back is as good as the way there: the same noise density, in another bandwidth,
// and another spreading factor.
func (r Reception) marginIn(w band.Window) float32 {
	margin := r.SNR - RequiredSNR(w.Modulation.SpreadingFactor)
	if there := r.Modulation.Bandwidth; there != 0 && w.Modulation.Bandwidth != there {
		margin -= float32(10 * math.Log10(float64(w.Modulation.Bandwidth)/float64(there)))
	}
	return margin
}
