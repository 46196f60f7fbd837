package mqtt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"joingate/joinserver"
)

// transmitter brings join-accepts to gateways and heeds what they say of them.
type transmitter struct {
	broker  publisher
	now     func() time.Time
	lead    time.Duration // see Config.SendLead
	metrics *metrics
	log     *zap.Logger
	alarm   alarm
	handOn  func(job func()) // runs a job soon, elsewhere
	ids     DownlinkIDs      // nil: flights has ids of its own
	ctx     context.Context  // of the calls of ids

	mu      sync.Mutex
	flights *flights
}

// send publishes the command for the best gateway left that can still be
// reached. An error says that there is none.
func (t *transmitter) send(s *sending) error {
	err := errTooLate
	for {
		route, ok := t.nextRoute(s)
		if !ok {
			return t.unsent(s, err)
		}
		if err = t.sendBy(s, route); err == nil {
			return nil
		}
		if !errors.Is(err, errTooLate) {
			t.note(s, fmt.Sprintf("%s: %s", route.Gateway, err))
		}
	}
}

func (t *transmitter) note(s *sending, refusal string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.refused = append(s.refused, refusal)
}

func (t *transmitter) nextRoute(s *sending) (joinserver.Route, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !s.hasNext() {
		return joinserver.Route{}, false
	}
	s.route++
	return s.downlink.Routes[s.route-1], true
}

// sendBy registers the flight, then publishes its command: an ack may be faster
// than the return of publish.
func (t *transmitter) sendBy(s *sending, route joinserver.Route) error {
	windows, err := s.windows(route, t.now().Add(t.lead))
	if err != nil {
		return err
	}
	f := t.launch(s, route.Gateway)
	command, err := s.command(f.id, route, windows)
	if err != nil {
		t.cancel(f)
		t.metrics.downlinks.WithLabelValues(downlinkEncodeFailed).Inc()
		return fmt.Errorf("encode downlink command: %w", err)
	}
	// QoS 0: at QoS 1 the client would send it again after an outage, past its windows.
	err = wait(t.broker.publish(command.topic, 0, command.payload), s.frame.rx2().Sub(t.now()))
	if err != nil && t.cancel(f) {
		t.metrics.downlinks.WithLabelValues(downlinkPublishFailed).Inc()
		return fmt.Errorf("publish downlink command: %w", err)
	}
	t.metrics.downlinks.WithLabelValues(downlinkSent).Inc()
	return nil
}

func (t *transmitter) launch(s *sending, gateway joinserver.EUI64) *flight {
	id := t.sharedID()
	t.mu.Lock()
	defer t.mu.Unlock()
	if id == 0 {
		id = t.flights.nextID()
	}
	f, reused := t.flights.launch(t.now(), id, gateway, s)
	if reused {
		t.metrics.reusedIDs.Inc()
	}
	if t.flights.order.len() == 1 {
		t.alarm.ring()
	}
	return f
}

// sharedID asks for an id that no other instance has; 0: there is nobody to ask.
// It may take a round trip, so no lock may be held.
func (t *transmitter) sharedID() uint32 {
	if t.ids == nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(t.ctx, sharedTimeout)
	defer cancel()
	return uint32(t.ids.Next(ctx))
}

// cancel settles a flight that did not leave. It is false if an ack proves that
// it did.
func (t *transmitter) cancel(f *flight) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := f.settled
	f.settled = true
	return !left
}

// unsent shows the operator a join that was committed and not sent.
func (t *transmitter) unsent(s *sending, why error) error {
	if errors.Is(why, errTooLate) {
		t.metrics.downlinks.WithLabelValues(downlinkTooLate).Inc()
	}
	t.metrics.unsent.Inc()
	t.log.Warn("join-accept was not transmitted: the device will try again",
		zap.Stringer("dev_eui", s.downlink.Claim.Request.DevEUI),
		zap.Uint16("dev_nonce", s.downlink.Claim.Request.DevNonce),
		zap.Error(why),
		zap.Strings("gateways", s.refused))
	return why
}

// errRefused says that every gateway has refused the frame.
var errRefused = errors.New("every gateway that may send it has refused")

// acknowledged heeds a gateway's word. After a refusal of all windows the next
// best gateway gets the same frame. The bridge itself has tried RX2 by then.
func (t *transmitter) acknowledged(a ack) {
	t.mu.Lock()
	f, what := t.flights.land(a)
	t.mu.Unlock()
	switch what {
	case landedUnknown:
		t.metrics.strangeAcks.WithLabelValues("unknown_id").Inc()
		return
	case landedAgain:
		t.metrics.strangeAcks.WithLabelValues("repeated").Inc()
		return
	}
	for _, status := range a.Items {
		t.metrics.acks.WithLabelValues(statusLabel(status)).Inc()
	}
	if what == landedRefused {
		t.handOn(func() { t.handOver(f.sending, fmt.Sprintf("%s: %v", a.Gateway, a.Items)) })
	}
}

// handOver gives the frame to the next gateway.
func (t *transmitter) handOver(s *sending, refusal string) {
	t.note(s, refusal)
	if !s.hasNext() {
		_ = t.unsent(s, errRefused)
		return
	}
	t.log.Info("gateway refused a join-accept; the next one gets it",
		zap.Stringer("dev_eui", s.downlink.Claim.Request.DevEUI), zap.String("refusal", refusal))
	if err := t.send(s); err == nil {
		t.metrics.handovers.Inc()
	}
}

// tick counts the commands that stayed without ack and returns when to look
// again.
func (t *transmitter) tick(now time.Time) (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.metrics.silent.Add(float64(len(t.flights.due(now))))
	return t.flights.nextDue()
}

// idle reports whether every command has arrived, or its time is over.
func (t *transmitter) idle(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.flights.underWay(now)
}

// open counts the commands whose acks may still come.
func (t *transmitter) open() float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return float64(t.flights.order.len())
}
