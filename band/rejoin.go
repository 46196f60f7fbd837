package band

import (
	"cmp"
	"slices"
)

// RejoinChannel reports whether a rejoin-request may arrive on this frequency with
// this modulation: on a join channel, or on one that the CFList has added.
//
// LoRaWAN 1.1 section 6.2.4.3 keeps types 0 and 1 to the join channels and lets
// type 2 use all that the device has. All types are taken on all of them here: to
// refuse a device that is heard helps nobody. Channels that a network server has
// added by NewChannelReq are not known, nor are the data channels of RP002's CN470
// plans.
func (g *Group) RejoinChannel(f Hz, m Modulation) bool {
	_, _, ok := g.rejoinChannel(f, m)
	return ok
}

func (g *Group) rejoinChannel(f Hz, m Modulation) (*channel, DataRate, bool) {
	if c, dr, ok := g.joinChannel(f, m); ok {
		return c, dr, true
	}
	return g.channelIn(g.others, f, m)
}

// AnswerRejoin tells how a rejoin-request that came on f with m is answered to a
// device that goes by these DLSettings. It is false if that is no channel of the
// group.
//
// The answer goes out when a join-accept does (LoRaWAN 1.1 section 6.2.4.4), but
// the device is in a session: it listens as the session has told it. So RX2 has
// the data rate of the DLSettings, and RX1 is offered only with RX1DROffset 0.
func (g *Group) AnswerRejoin(f Hz, m Modulation, dlSettings byte, rx1 bool) (Answer, bool) {
	c, dr, ok := g.rejoinChannel(f, m)
	if !ok {
		return Answer{}, false
	}
	var a Answer
	if up := g.plan.rx1DR[dr]; rx1 && dlSettings>>4&0x07 == 0 && g.fits[up].bare {
		a.RX1 = g.window(JoinAcceptDelay1, c.rx1, up, c.rx1Power, c.rx1Duty)
	}
	if rx2 := DataRate(dlSettings & 0x0f); g.fits[rx2].bare && g.plan.rates.downlink(rx2) && g.plan.rates[rx2].modulation.SpreadingFactor != 0 {
		a.RX2 = g.window(JoinAcceptDelay2, c.rx2, rx2, c.rx2Power, c.rx2Duty)
	}
	return g.announce(a, MAC1_1), true
}

// added compiles the channels that the CFList adds to the join channels, in the
// regions where it gives frequencies: each is answered on its own, and in the RX2
// of the first join channel.
func (p *plan) added() []channel {
	if len(p.list.frequencies) == 0 || len(p.joins) == 0 {
		return nil
	}
	first := p.joins[0]
	channels := make([]channel, 0, len(p.list.frequencies))
	for _, f := range p.list.frequencies {
		channels = append(channels, p.limit(channel{frequency: f, dr: first.dr, rx1: f, rx2: first.rx2, rx2DR: first.rx2DR}))
	}
	slices.SortFunc(channels, func(a, b channel) int { return cmp.Compare(a.frequency, b.frequency) })
	return channels
}
