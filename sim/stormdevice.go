package sim

import (
	"math/rand/v2"
	"time"
)

// stormDevice is a device on the map.
type stormDevice struct {
	storm  *storm
	device *Device
	number int
	rand   *rand.Rand
	loss   []float64 // dB to each gateway
	linkSF int       // the fastest that carries

	sf       int // of the next join-request
	tries    int
	joined   bool
	rx2      time.Duration  // when RX2 of the latest try opens
	incoming *stormDownlink // on the air for the latest try
	onAir    time.Duration  // of the latest join-request
	ended    time.Duration  // when it ended
}

// request sends a join-request on a random channel.
func (d *stormDevice) request() {
	s := d.storm
	region := d.device.region
	channel := Channel{region.join[d.rand.IntN(region.first)].up, 12 - d.sf}
	up, err := d.device.JoinRequestOn(channel)
	if err != nil {
		return // out of DevNonces: this one has asked 65,536 times
	}
	s.report.Requests++
	d.onAir = up.Airtime(len(up.PHYPayload), true)
	d.ended = s.now() + d.onAir
	d.rx2 = d.ended + joinAcceptDelay2
	d.incoming = nil
	f := &stormFrame{device: d, up: up, from: s.now(), to: d.ended, try: d.tries}
	d.tries++
	s.transmit(f)
	try := d.tries
	s.at(d.rx2+rx2Patience, func() { d.giveUp(try) })
}

// rx2Patience is how long a device listens in RX2 for a preamble: eight symbols of
// SF12.
const rx2Patience = 8 * 32768 * time.Microsecond

// giveUp ends a try without an answer. A frame that has begun is heard to its end
// first.
func (d *stormDevice) giveUp(try int) {
	switch {
	case d.joined || d.tries != try:
	case d.incoming != nil && d.incoming.to > d.storm.now():
		d.storm.at(d.incoming.to, func() { d.giveUp(try) })
	default:
		d.backOff()
	}
}

// backOff plans the next try. Join-requests of devices that lost their network
// together keep a duty cycle that falls with time, and come at random (TS001-1.0.4
// section 7, RP002-1.0.4 section 2): 1 % in the first hour, 0.1 % in the ten hours
// after it, then 0.01 %. As in device stacks, each frame pays for itself.
func (d *stormDevice) backOff() {
	s := d.storm
	earliest := max(s.now(), d.ended+d.onAir*time.Duration(joinSpacing(s.now())-1))
	wait := max(earliest-s.now(), shortestSpread)
	if d.tries%2 == 0 {
		d.slower()
	}
	s.at(earliest+time.Duration(d.rand.Int64N(int64(wait))), d.request)
}

// shortestSpread is the least time over which a next try is spread.
const shortestSpread = 5 * time.Second

// joinSpacing is one in how much of its time a device may send join-requests, so
// long after the power's return.
func joinSpacing(elapsed time.Duration) int {
	switch {
	case elapsed < time.Hour:
		return 100
	case elapsed < 11*time.Hour:
		return 1000
	}
	return 10_000
}

// slower takes the next data rate down; from the slowest back to the first.
func (d *stormDevice) slower() {
	if d.sf++; d.sf > 12 {
		d.sf = d.linkSF
		if d.storm.Rates == RatesStepped {
			d.sf = 7
		}
	}
}

// receive is a downlink for this device that has ended.
func (d *stormDevice) receive(down *stormDownlink) {
	s := d.storm
	if d.joined || down.try != d.tries-1 || !s.carries(down, d) {
		s.report.Missed++
		return
	}
	if _, err := d.device.Receive(down.frame); err != nil {
		s.report.Missed++
		return
	}
	d.joined = true
	s.report.Joined = append(s.report.Joined, s.now())
}
