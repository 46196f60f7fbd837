package sim

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Answerer decides what a storm's gateways send: a join server. Times are those
// of the simulation, and calls come in their order, one at a time.
type Answerer interface {
	// Answer decides one join-request with all its copies. Without a command it says
	// why the server keeps silent.
	Answer(now time.Time, phyPayload []byte, copies []StormCopy) (c StormCommand, reason string)
	// Refused is told that a gateway would send in none of a command's windows. It
	// may give the command for another gateway.
	Refused(now time.Time, c StormCommand) (next StormCommand, ok bool)
	// Sent is told that a gateway will send in the window, an index of the command's.
	Sent(now time.Time, c StormCommand, window int)
}

// StormCopy is how one gateway heard a join-request.
type StormCopy struct {
	Gateway  EUI
	Received time.Time // by the server
	Uplink
	RSSI, SNR float64 // dBm, dB
}

// StormCommand tells a gateway to send a frame in the first of the windows that it
// can. One without windows is none.
type StormCommand struct {
	ID         uint64 // the server's own
	Gateway    EUI
	PHYPayload []byte
	Windows    []StormWindow
}

// StormWindow is when and how to send. Delay counts from the end of the uplink.
type StormWindow struct {
	Window
	Power int // dBm EIRP
}

// StormOptions describe a storm: the power returns, and all devices of a district
// join at once. Devices and Answerer are needed. The radio is EU868.
type StormOptions struct {
	Devices  []*Device
	Gateways []EUI
	Answerer Answerer
	Seed     uint64

	Area     float64       // side of the square on which devices and gateways stand, km
	Boot     time.Duration // the devices come up within so long of the power's return
	Limit    time.Duration // of simulated time
	Rates    Rates
	Duty     bool          // gateways keep the duty cycles of EU868's sub-bands
	Backhaul time.Duration // from a gateway to the server, and back; jitter of half of it comes on top
	Collect  time.Duration // the server's collect window, from the first copy on
}

// Rates says which data rate a device's join-request has.
type Rates int

const (
	// RatesByLink: the fastest that carries, one slower after every second failure,
	// and at the slowest back to the first.
	RatesByLink Rates = iota
	// RatesStepped: DR5 first, and one slower after every second failure, whatever
	// the link.
	RatesStepped
)

// StormReport is what became of a storm.
type StormReport struct {
	Devices int             `json:"devices"`
	Joined  []time.Duration `json:"-"`       // when each device joined, in order
	Missing int             `json:"missing"` // had not joined when the time was over

	Requests int `json:"requests"` // join-requests on the air
	Heard    int `json:"heard"`    // by one gateway at least
	// Copies that a gateway in reach did not take, and why.
	Collided   int `json:"copies_collided"`
	Deafened   int `json:"copies_while_sending"`
	Overbooked int `json:"copies_without_demodulator"`

	Accepted       int            `json:"accepted"` // by the server
	Silent         map[string]int `json:"refused"`  // by the server, by reason
	GatewayRefused int            `json:"gateway_refused"`
	Unsent         int            `json:"accepted_unsent"`
	RX1            int            `json:"sent_rx1"`
	RX2            int            `json:"sent_rx2"`
	Moved          int            `json:"moved_to_rx2"`      // by gateways that could not send in RX1: of RX2
	Missed         int            `json:"sent_not_received"` // by the device: too weak, or two at once

	// Busy is the share of time that the gateways were sending, on average, until 95 %
	// had joined or the time was over.
	Busy float64 `json:"gateways_sending"`
	// Bound is how many join-accepts per second the gateways could send if they did
	// nothing else, one as soon after another as they can, each in RX1 at the
	// spreading factor that its device's link wants; DutyBound the same within the
	// duty cycles, RX2 included.
	Bound     float64 `json:"airtime_bound_per_second"`
	DutyBound float64 `json:"duty_cycle_bound_per_second"`
	// SpreadingFactors counts the devices by the one their link wants.
	SpreadingFactors map[int]int `json:"spreading_factors"`
}

// Until is how long it took until that share of the devices, 0 to 1, had joined;
// not ok if it did not come to that.
func (r StormReport) Until(share float64) (at time.Duration, ok bool) {
	n := int(share*float64(r.Devices) + 0.999999)
	if n < 1 || n > len(r.Joined) {
		return 0, false
	}
	return r.Joined[n-1], true
}

// stormEpoch is the power's return. Any time will do, but the same one each run.
var stormEpoch = time.Date(2026, 1, 1, 18, 0, 0, 0, time.UTC)

// Clock gives the time of a simulation that Storm keeps.
type Clock struct{ elapsed time.Duration }

// Now is the simulated time.
func (c *Clock) Now() time.Time { return stormEpoch.Add(c.elapsed) }

// storm is one run.
type storm struct {
	StormOptions
	clock    *Clock
	events   eventQueue
	order    uint64
	devices  []*stormDevice
	gateways []*stormGateway
	byEUI    map[EUI]*stormGateway
	onAir    []*stormFrame    // uplinks
	downs    []*stormDownlink // downlinks, until nobody can collide with them
	octets   int              // of the longest join-accept
	report   StormReport
}

// Storm runs a storm to its end, in simulated time: until all devices have joined
// or Limit is over. Equal options give equal reports. The clock is the one that the
// Answerer goes by.
func Storm(o StormOptions, clock *Clock) (StormReport, error) {
	s, err := newStorm(o, clock)
	if err != nil {
		return StormReport{}, err
	}
	s.run()
	s.report.Missing = len(o.Devices) - len(s.report.Joined)
	s.report.Busy = s.busy()
	s.bound()
	return s.report, nil
}

// newStorm puts everything into its place.
func newStorm(o StormOptions, clock *Clock) (*storm, error) {
	switch {
	case len(o.Devices) == 0:
		return nil, errors.New("storm: no device, at least 1 is needed")
	case len(o.Gateways) == 0:
		return nil, errors.New("storm: no gateway, at least 1 is needed")
	case o.Answerer == nil:
		return nil, errors.New("storm: no answerer")
	case o.Area <= 0 || o.Limit <= 0:
		return nil, errors.New("storm: area and limit must be above 0")
	}
	clock.elapsed = 0
	s := &storm{StormOptions: o, clock: clock, byEUI: map[EUI]*stormGateway{}}
	s.report = StormReport{Devices: len(o.Devices), Silent: map[string]int{}, SpreadingFactors: map[int]int{}}
	if err := s.populate(); err != nil {
		return nil, err
	}
	for _, d := range s.devices {
		s.at(time.Duration(d.rand.Int64N(int64(max(1, o.Boot)))), d.request)
	}
	return s, nil
}

// run plays one event after the other.
func (s *storm) run() {
	for len(s.events) > 0 && len(s.report.Joined) < len(s.devices) {
		e := heap.Pop(&s.events).(stormEvent)
		if e.at > s.Limit {
			return
		}
		s.clock.elapsed = e.at
		e.do()
	}
}

func (s *storm) now() time.Duration { return s.clock.elapsed }

// at plans an event. Those of one moment come in the order of their planning.
func (s *storm) at(when time.Duration, do func()) {
	s.order++
	heap.Push(&s.events, stormEvent{max(when, s.now()), s.order, do})
}

type stormEvent struct {
	at    time.Duration
	order uint64
	do    func()
}

type eventQueue []stormEvent

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].at, q[j].at), cmp.Compare(q[i].order, q[j].order)) < 0
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(e any)   { *q = append(*q, e.(stormEvent)) }
func (q *eventQueue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	*q = (*q)[:last]
	return e
}

// populate puts gateways and devices onto the map.
func (s *storm) populate() error {
	draw := rand.New(rand.NewPCG(s.Seed, 1))
	for i, at := range spread(draw, len(s.Gateways), s.Area) {
		g := &stormGateway{storm: s, eui: s.Gateways[i], number: i, place: at}
		s.gateways = append(s.gateways, g)
		s.byEUI[g.eui] = g
	}
	if len(s.byEUI) < len(s.gateways) {
		return errors.New("storm: one gateway is there twice")
	}
	for i, d := range s.Devices {
		if d.Region().Name != "EU868" {
			return fmt.Errorf("storm: %s is not built for EU868", d)
		}
		placed, err := s.place(d, i)
		if err != nil {
			return err
		}
		s.devices = append(s.devices, placed)
		s.report.SpreadingFactors[placed.linkSF]++
	}
	return nil
}

// place finds a place for a device on which it can join at all.
func (s *storm) place(d *Device, number int) (*stormDevice, error) {
	const tries = 1000
	draw := rand.New(rand.NewPCG(s.Seed, uint64(number)+2))
	for range tries {
		placed := &stormDevice{storm: s, device: d, number: number, rand: draw}
		at := point{draw.Float64() * s.Area, draw.Float64() * s.Area}
		best := -1000.0
		for _, g := range s.gateways {
			loss := pathLoss(at.distance(g.place)) + shadowing*draw.NormFloat64()
			placed.loss = append(placed.loss, loss)
			best = max(best, devicePower-loss-stormNoise)
		}
		if placed.linkSF = fastest(best - linkReserve); placed.linkSF > 0 {
			placed.sf = placed.linkSF
			if s.Rates == RatesStepped {
				placed.sf = 7
			}
			return placed, nil
		}
	}
	return nil, fmt.Errorf("storm: on %g km × %g km with %d gateways hardly any place is in reach", s.Area, s.Area, len(s.gateways))
}

// busy is the share of time that gateways were sending.
func (s *storm) busy() float64 {
	until, ok := s.report.Until(0.95)
	if !ok {
		until = s.now()
	}
	var sending time.Duration
	for _, g := range s.gateways {
		for _, t := range g.sent {
			if t.from < until {
				sending += min(t.to, until) - t.from
			}
		}
	}
	return sending.Seconds() / max(1, until.Seconds()) / float64(len(s.gateways))
}

// bound computes what airtime allows at best.
func (s *storm) bound() {
	octets := cmp.Or(s.octets, longestAccept)
	var rx1 time.Duration
	for sf, n := range s.report.SpreadingFactors {
		rx1 += Modulation{sf, 125_000}.Airtime(octets, false) * time.Duration(n)
	}
	mean := rx1.Seconds() / float64(len(s.devices))
	rx2 := Modulation{12, 125_000}.Airtime(octets, false).Seconds()
	gateways := float64(len(s.gateways))
	s.report.Bound = gateways / (mean + jitGuard.Seconds())
	s.report.DutyBound = min(s.report.Bound, gateways*(dutyLimit(1).Hours()/mean+dutyLimit(2).Hours()/rx2))
}

// longestAccept is the size of a join-accept with CFList in octets.
const longestAccept = 33
