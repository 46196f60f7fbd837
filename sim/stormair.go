package sim

import (
	"slices"
	"time"
)

// stormFrame is a join-request on the air.
type stormFrame struct {
	device   *stormDevice
	up       Uplink
	from, to time.Duration
	try      int
	heard    []stormHearing // by gateway
}

// stormHearing is what one gateway has of a frame.
type stormHearing struct {
	power    float64 // dBm
	inReach  bool
	locked   bool // a demodulator has it
	collided bool
}

// transmit puts a frame on the air: every gateway in reach gives it a demodulator,
// if one is free, and it meets what is on its channel already.
func (s *storm) transmit(f *stormFrame) {
	for i, g := range s.gateways {
		h := stormHearing{power: devicePower - f.device.loss[i] + s.fade(f.device.number, i, f.try)}
		h.inReach = h.power-stormNoise >= requiredSNR(f.up.SpreadingFactor)
		if h.inReach && !g.sending(s.now(), s.now()) {
			if g.locked < demodulators {
				g.locked++
				h.locked = true
			} else {
				s.report.Overbooked++
			}
		}
		f.heard = append(f.heard, h)
	}
	for _, other := range s.onAir {
		if other.up.Frequency == f.up.Frequency && other.up.SpreadingFactor == f.up.SpreadingFactor {
			meet(f, other)
		}
	}
	s.onAir = append(s.onAir, f)
	s.at(f.to, func() { s.arrive(f) })
}

// meet notes at which gateways two frames destroy each other: none of the two that
// is not stronger by captureAt is received.
func meet(a, b *stormFrame) {
	for i := range a.heard {
		difference := a.heard[i].power - b.heard[i].power
		if difference < captureAt {
			a.heard[i].collided = true
		}
		if -difference < captureAt {
			b.heard[i].collided = true
		}
	}
}

// arrive ends a frame and hands the copies to the server.
func (s *storm) arrive(f *stormFrame) {
	s.onAir = slices.DeleteFunc(s.onAir, func(o *stormFrame) bool { return o == f })
	var copies []StormCopy
	for i, g := range s.gateways {
		h := f.heard[i]
		if h.locked {
			g.locked--
		}
		switch {
		case !h.inReach:
		case g.sending(f.from, f.to):
			s.report.Deafened++
		case !h.locked: // counted as it began
		case h.collided:
			s.report.Collided++
		default:
			received := stormEpoch.Add(f.to + s.wayOf(g, f))
			copies = append(copies, StormCopy{Gateway: g.eui, Received: received, Uplink: f.up, RSSI: h.power, SNR: min(h.power-stormNoise, bestMeasured)})
		}
	}
	if len(copies) == 0 {
		return
	}
	s.report.Heard++
	first := slices.MinFunc(copies, func(a, b StormCopy) int { return a.Received.Compare(b.Received) })
	s.at(first.Received.Sub(stormEpoch)+s.Collect, func() { s.decide(f, copies) })
}

// bestMeasured is the SNR in dB that a gateway reports at most.
const bestMeasured = 12

// wayOf is how long a frame takes from a gateway to the server.
func (s *storm) wayOf(g *stormGateway, f *stormFrame) time.Duration {
	jitter := time.Duration(mix(uint64(f.to)^uint64(g.number)<<56) % uint64(s.Backhaul/2+1))
	return s.Backhaul + jitter
}

// decide asks the server once the copies are in.
func (s *storm) decide(f *stormFrame, copies []StormCopy) {
	command, reason := s.Answerer.Answer(s.clock.Now(), f.up.PHYPayload, copies)
	if len(command.Windows) == 0 {
		s.report.Silent[reason]++
		return
	}
	s.report.Accepted++
	s.at(s.now()+s.Backhaul, func() { s.command(f, command) })
}

// command reaches a gateway. Its word goes back to the server.
func (s *storm) command(f *stormFrame, c StormCommand) {
	g := s.byEUI[c.Gateway]
	for i, w := range c.Windows {
		if g == nil || !g.take(f, c.PHYPayload, w) {
			continue
		}
		if w.Number == 1 {
			s.report.RX1++
		} else {
			s.report.RX2++
		}
		if i > 0 {
			s.report.Moved++
		}
		s.at(s.now()+s.Backhaul, func() { s.Answerer.Sent(s.clock.Now(), c, i) })
		return
	}
	s.report.GatewayRefused++
	s.at(s.now()+s.Backhaul, func() {
		next, ok := s.Answerer.Refused(s.clock.Now(), c)
		if !ok {
			s.report.Unsent++
			return
		}
		s.at(s.now()+s.Backhaul, func() { s.command(f, next) })
	})
}

// stormGateway is a half-duplex gateway on the map.
type stormGateway struct {
	storm  *storm
	eui    EUI
	number int
	place  point
	locked int              // demodulators in use
	sent   []*stormDownlink // planned and past, in the order of their beginning
}

// stormDownlink is a join-accept on the air.
type stormDownlink struct {
	gateway  *stormGateway
	from, to time.Duration
	power    int // dBm EIRP
	subBand  int
	try      int // of the device it is for
	frame    Downlink
}

// jitGuard is what a packet forwarder keeps before a transmission, from the command
// and from the end of another transmission.
const jitGuard = leadTime * time.Microsecond

// sending reports whether the gateway sends at any time from one moment to another.
func (g *stormGateway) sending(from, to time.Duration) bool { return g.overlaps(from, to, 0) }

// overlaps looks at the latest transmissions only: nothing lasts or is planned ten
// seconds ahead.
func (g *stormGateway) overlaps(from, to, guard time.Duration) bool {
	for _, t := range slices.Backward(g.sent) {
		if t.from < from-10*time.Second {
			return false
		}
		if t.from-guard <= to && from <= t.to+guard {
			return true
		}
	}
	return false
}

// take plans a transmission, if it is in time, free, and allowed.
func (g *stormGateway) take(f *stormFrame, phy []byte, w StormWindow) bool {
	s := g.storm
	from := f.to + w.Delay
	down := &stormDownlink{
		gateway: g, from: from, to: from + w.Airtime(len(phy), false), power: w.Power, subBand: subBandOf(w.Frequency), try: f.try,
		frame: Downlink{PHYPayload: phy, Frequency: w.Frequency, Modulation: w.Modulation, Inverted: true, Delay: w.Delay},
	}
	if s.now()+jitGuard > from || g.overlaps(down.from, down.to, jitGuard) || s.Duty && g.dutySpent(down) {
		return false
	}
	s.octets = max(s.octets, len(phy))
	g.sent = append(g.sent, down)
	slices.SortFunc(g.sent[max(0, len(g.sent)-32):], func(a, b *stormDownlink) int { return int(a.from - b.from) })
	s.at(down.from, func() {
		s.downs = append(s.downs, down)
		if d := f.device; d.tries-1 == down.try {
			d.incoming = down
		}
	})
	s.at(down.to, func() { f.device.receive(down) })
	return true
}

// dutySpent reports whether the sub-band's time within the last hour would be
// exceeded.
func (g *stormGateway) dutySpent(down *stormDownlink) bool {
	spent := down.to - down.from
	for _, t := range slices.Backward(g.sent) {
		if t.to < down.to-time.Hour {
			break
		}
		if t.subBand == down.subBand {
			spent += t.to - t.from
		}
	}
	return spent > dutyLimit(down.subBand)
}

// subBandOf tells EU868's sub-bands apart: 1 is that of the join channels (868.0 to
// 868.6 MHz), 2 that of RX2 (869.4 to 869.65 MHz), 0 any other.
func subBandOf(f Hz) int {
	switch {
	case f >= 868_000_000 && f <= 868_600_000:
		return 1
	case f >= 869_400_000 && f <= 869_650_000:
		return 2
	}
	return 0
}

// dutyLimit is how long one transmitter may send in a sub-band within an hour
// (ERC/REC 70-03 annex 1: 1 %, 10 %, and 0.1 % for what is not told apart here).
func dutyLimit(subBand int) time.Duration {
	return time.Hour / 1000 * [...]time.Duration{1, 10, 100}[subBand]
}

// carries reports whether a device receives a downlink that has ended: strong enough,
// and stronger than what else was sent with its spreading factor on its channel.
func (s *storm) carries(down *stormDownlink, d *stormDevice) bool {
	power := func(t *stormDownlink) float64 { return float64(t.power) - d.loss[t.gateway.number] }
	if power(down)-stormNoise < requiredSNR(down.frame.SpreadingFactor) {
		return false
	}
	s.downs = slices.DeleteFunc(s.downs, func(t *stormDownlink) bool { return t.to < down.from-10*time.Second })
	for _, t := range s.downs {
		if t != down && t.from < down.to && down.from < t.to &&
			t.frame.Frequency == down.frame.Frequency && t.frame.SpreadingFactor == down.frame.SpreadingFactor &&
			power(down)-power(t) < captureAt {
			return false
		}
	}
	return true
}
