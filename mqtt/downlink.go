package mqtt

import (
	"errors"
	"time"

	"joingate/band"
	"joingate/joinserver"
)

// sending is a join-accept with the gateways that may send it. One after the
// other gets the same frame, until one takes it.
type sending struct {
	frame    *frame
	copies   []uplinkCopy // the frame's
	downlink joinserver.Downlink

	// Who is on to the next shot owns these: first the pipeline's job, then that of
	// whoever settles its flight.
	aimed bool   // next is planned
	next  shot   // the shot that is planned, its place booked
	tried uint64 // bit i: route i was asked
	asked joinserver.EUI64
	acks  []joinserver.TxAckSeen // what the gateways said that would not send it
	notes []string               // for people: why each did not
}

// newSending plans to go the way that the join handler has chosen.
func newSending(f *frame, d joinserver.Downlink) *sending {
	s := &sending{frame: f, copies: f.copies, downlink: d, aimed: true}
	s.next.booked = d.Routes[0].Booked
	return s
}

// shot is one command: a route with the windows that it offers.
type shot struct {
	route   int // index in Downlink.Routes
	windows []band.Window
	booked  joinserver.Transmission // what the ledger holds for it; zero: nothing
}

func (s shot) isBooked() bool { return s.booked != joinserver.Transmission{} }

// A join-accept has at most maxCopies routes, so a bit for each is enough.
const _ = uint(64 - maxCopies)

func (s *sending) wasTried(route int) bool { return s.tried&(1<<route) != 0 }

// windows gives the windows of a route that are offered and still open for a
// command that reaches the gateway at the given time, RX1 first.
func (s *sending) windows(route int, arrival time.Time) []band.Window {
	var open []band.Window
	r := &s.downlink.Routes[route]
	for _, w := range [...]band.Window{r.RX1, r.RX2} {
		if offered := w != (band.Window{}); offered && s.frame.reaches(arrival, w.Delay) {
			open = append(open, w)
		}
	}
	return open
}

// transmission is what the gateway of a route sends in a window.
func (s *sending) transmission(route int, w band.Window) joinserver.Transmission {
	return s.downlink.Transmission(s.downlink.Routes[route], w)
}

// holds reports whether a window of the shot is the one that is booked for it.
func (s *sending) holds(shot shot, w band.Window) bool {
	return shot.isBooked() && s.transmission(shot.route, w).Start.Equal(shot.booked.Start)
}

// windowName is how events call a window of a route.
func (s *sending) windowName(route int, w band.Window) joinserver.WindowName {
	switch r := &s.downlink.Routes[route]; w {
	case r.RX1:
		return joinserver.WindowRX1
	case r.RX2:
		return joinserver.WindowRX2
	}
	return ""
}

// whyNoWay says why no route is left.
func (s *sending) whyNoWay() error {
	for route := range s.downlink.Routes {
		if !s.wasTried(route) {
			return errTooLate
		}
	}
	return errRefused
}

// Why a join-accept is not sent, or not any more.
var (
	errTooLate   = errors.New("too late for every window")
	errRefused   = errors.New("every gateway that may send it has refused")
	errNoAirtime = errors.New("no other gateway that may send it is free in a window")
)

// command is a downlink command ready to be published.
type command struct {
	topic   string
	payload []byte
}

// command writes a shot in the words of that gateway's own uplink: its encoding,
// topic and context. The topic is the one of the uplink, as its bridge listens
// there; the gateway is the one that the uplink's payload named.
func (s *sending) command(id uint32, shot shot) (command, error) {
	route := &s.downlink.Routes[shot.route]
	heard := &s.copies[route.Reception]
	payload, err := encodeDownlink(heard.Encoding, downlinkCommand{
		ID:         id,
		Gateway:    route.Gateway,
		PHYPayload: s.downlink.PHYPayload,
		Context:    heard.Context,
		Windows:    shot.windows,
	})
	return command{commandTopic(heard.prefix, heard.topic), payload}, err
}
