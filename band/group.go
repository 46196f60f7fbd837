package band

import (
	"cmp"
	"slices"
	"time"
)

// A join-accept is 17 octets long, with a CFList 33 (TS001-1.0.4 section 6.2.6).
const (
	joinAcceptOctets       = 17
	joinAcceptCFListOctets = 33
)

// Group is a frequency band plan group: the regional parameters that a gateway
// and a join permission agree on by its id. It does not change, so that any
// number of goroutines may use it.
type Group struct {
	ID     GroupID
	Name   string // "EU868", "US915-FSB2"
	Region string // "EU868", "US915"

	plan     plan
	channels []channel // by frequency
	others   []channel // by frequency: those that the CFList adds
	cfList   []byte    // nil for none
	fits     [16]fit   // by data rate
}

// fit says which join-accepts a data rate can carry within the dwell limit.
type fit struct{ bare, withCFList bool }

func newGroup(p plan) *Group {
	g := &Group{ID: p.id, Name: p.name, Region: p.region, plan: p, channels: p.compile(), others: p.added(), cfList: p.list.encode()}
	for dr, r := range p.rates {
		g.fits[dr] = fit{
			bare:       p.carries(r.modulation, joinAcceptOctets),
			withCFList: p.carries(r.modulation, joinAcceptCFListOctets),
		}
	}
	return g
}

// carries reports whether a downlink of so many octets keeps the dwell limit.
func (p *plan) carries(m Modulation, octets int) bool {
	return p.dwell == 0 || m.TimeOnAir(octets, false) <= p.dwell
}

// JoinChannel reports whether a join-request may arrive on this frequency with
// this modulation.
func (g *Group) JoinChannel(f Hz, m Modulation) bool {
	_, _, ok := g.joinChannel(f, m)
	return ok
}

func (g *Group) joinChannel(f Hz, m Modulation) (*channel, DataRate, bool) {
	return g.channelIn(g.channels, f, m)
}

func (g *Group) channelIn(channels []channel, f Hz, m Modulation) (*channel, DataRate, bool) {
	i, found := slices.BinarySearchFunc(channels, f, func(c channel, f Hz) int { return cmp.Compare(c.frequency, f) })
	if !found {
		return nil, 0, false
	}
	dr, ok := g.plan.rates.uplink(m)
	if !ok || !channels[i].dr.has(dr) {
		return nil, 0, false
	}
	return &channels[i], dr, true
}

// Answer tells how a join-request that came on f with m is answered to a device
// of version v. It is false if that is no join channel of the group. With rx1
// false RX1 can no longer be reached, and the answer is planned for RX2 alone.
//
// A window is offered only if the join-accept keeps the region's dwell limit in
// it, so either window may be missing, but never RX2 when rx1 is false.
func (g *Group) Answer(f Hz, m Modulation, v MACVersion, rx1 bool) (Answer, bool) {
	c, dr, ok := g.joinChannel(f, m)
	if !ok {
		return Answer{}, false
	}
	var a Answer
	if up := g.plan.rx1DR[dr]; rx1 && g.fits[up].bare {
		a.RX1 = g.window(JoinAcceptDelay1, c.rx1, up, c.rx1Power, c.rx1Duty)
	}
	if g.fits[c.rx2DR].bare {
		a.RX2 = g.window(JoinAcceptDelay2, c.rx2, c.rx2DR, c.rx2Power, c.rx2Duty)
	}
	return g.announce(a, v), true
}

func (g *Group) window(delay time.Duration, f Hz, dr DataRate, dBm int8, duty DutyCycle) Window {
	return Window{Delay: delay, Frequency: f, DataRate: dr, Modulation: g.plan.rates[dr].modulation, Power: dBm, Duty: duty}
}

// announce adds the CFList. One frame serves both windows, so under a dwell
// limit there is a choice to make: where RX1 can carry the CFList and RX2
// cannot, the channels are worth more than the second window; where RX1 cannot,
// the device goes without and learns its channels by NewChannelReq later.
func (g *Group) announce(a Answer, v MACVersion) Answer {
	if g.cfList == nil || !g.plan.list.knownTo(v) {
		return a
	}
	first, second := g.holdsCFList(a.RX1), g.holdsCFList(a.RX2)
	switch {
	case first && second:
		a.CFList = g.cfList
	case first && a.RX1.offered():
		a.CFList, a.RX2 = g.cfList, Window{}
	}
	return a
}

// holdsCFList reports whether the long join-accept does no harm in a window: it
// fits, or the window is not offered.
func (g *Group) holdsCFList(w Window) bool { return !w.offered() || g.fits[w.DataRate].withCFList }

func (w Window) offered() bool { return w.Delay != 0 }

// RX2DataRate is the RX2 data rate that DLSettings carries when the join
// permission sets none.
func (g *Group) RX2DataRate() DataRate { return g.plan.rx2DR }

// RX1DROffset is what DLSettings carries. It acts after the join: the
// join-accept itself is sent with offset 0.
func (g *Group) RX1DROffset() uint8 { return g.plan.offset }

// DownlinkDataRate reports whether a join permission may set dr as the RX2 data
// rate: it exists for downlinks in the region, and for groups 101, 102 and 201
// is one of the 0 to 5 that Link WAN documents.
func (g *Group) DownlinkDataRate(dr DataRate) bool {
	return g.plan.settable.has(dr) && g.plan.rates.downlink(dr)
}
