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
	downlink joinserver.Downlink
	route    int      // index of the next route to try
	refused  []string // what the gateways before it said
}

func (s *sending) hasNext() bool { return s.route < len(s.downlink.Routes) }

// errTooLate says that none of a route's windows can be reached any more.
var errTooLate = errors.New("too late for every window")

// windows gives the windows of a route that are offered and still open for a
// command that reaches the gateway at the given time.
func (s *sending) windows(route joinserver.Route, arrival time.Time) ([]band.Window, error) {
	var open []band.Window
	for _, w := range []band.Window{route.RX1, route.RX2} {
		if offered := w != (band.Window{}); offered && !arrival.After(s.frame.first.Add(w.Delay)) {
			open = append(open, w)
		}
	}
	if len(open) == 0 {
		return nil, errTooLate
	}
	return open, nil
}

// command is a downlink command ready to be published.
type command struct {
	topic   string
	payload []byte
}

// command writes the route's downlink in the words of that gateway's own uplink:
// its encoding, topic and context. The topic is the one of the uplink, as its
// bridge listens there; the gateway is the one that the uplink's payload named.
func (s *sending) command(id uint32, route joinserver.Route, windows []band.Window) (command, error) {
	heard := s.frame.copies[route.Reception]
	payload, err := encodeDownlink(heard.Encoding, downlinkCommand{
		ID:         id,
		Gateway:    route.Gateway,
		PHYPayload: s.downlink.PHYPayload,
		Context:    heard.Context,
		Windows:    windows,
	})
	return command{commandTopic(heard.prefix, heard.topic), payload}, err
}
