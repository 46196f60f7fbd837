package mqtt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"joingate/band"
	"joingate/joinserver"
)

// transmitter brings join-accepts to gateways and heeds what they say of them.
//
// What it has published is one shot, and exactly one of these comes of it: an ack,
// silence, a failure to publish, or the loss of its id. After a refusal the next best
// gateway gets its shot. When there are no more, the join-accept has its outcome,
// which is reported once.
type transmitter struct {
	broker   publisher
	now      func() time.Time
	lead     time.Duration // see Config.SendLead
	metrics  *metrics
	log      *zap.Logger
	alarm    alarm
	handOn   func(job func()) // runs a job soon, elsewhere
	reporter *reporter
	presence *presence
	ledger   joinserver.Airtime // nil: airtime is not planned
	ids      DownlinkIDs        // nil: flights has ids of its own
	ctx      context.Context    // of the calls of ids and ledger

	mu       sync.Mutex
	flights  *flights
	stranded []*sending // they could not be published, and are tried again
	retryAt  time.Time  // when
}

// retryEvery is how often a join-accept is tried again while the broker is away.
const retryEvery = 50 * time.Millisecond

// send publishes the command for the best gateway left that can still be reached.
// An error says why not: errStranded, that it is tried again.
func (t *transmitter) send(s *sending) error {
	for {
		shot, err := t.aim(s)
		if err != nil {
			t.giveUp(s, err)
			return err
		}
		switch err = t.fire(s, shot); {
		case err == nil:
			return nil
		case errors.Is(err, errStranded):
			t.strand(s, shot)
			return err
		}
		t.miss(s, shot, err)
	}
}

// aim gives the shot that is planned if it can still be made, else the next one. What
// it returns is booked.
func (t *transmitter) aim(s *sending) (shot, error) {
	arrival := t.now().Add(t.lead)
	if s.aimed {
		s.aimed = false
		next := s.next
		next.windows = s.windows(next.route, arrival)
		if len(next.windows) > 0 && (!next.isBooked() || s.holds(next, next.windows[0])) {
			return next, nil
		}
		t.release(next.booked)
	}
	if t.ledger != nil {
		return t.book(s, arrival)
	}
	for route := range s.downlink.Routes {
		if windows := s.windows(route, arrival); !s.wasTried(route) && len(windows) > 0 {
			return shot{route: route, windows: windows}, nil
		}
	}
	return shot{}, s.whyNoWay()
}

// book finds the best way left that is free, and books it. RX2 is offered beside RX1
// unbooked: the gateway falls back on it only if the ledger was wrong.
func (t *transmitter) book(s *sending, arrival time.Time) (shot, error) {
	ways := slices.DeleteFunc(s.downlink.Ways(arrival), func(w joinserver.Way) bool { return s.wasTried(w.Route) })
	if len(ways) == 0 {
		return shot{}, s.whyNoWay()
	}
	options := make([]joinserver.Transmission, len(ways))
	for i, w := range ways {
		options[i] = w.Transmission
	}
	ctx, cancel := context.WithTimeout(t.ctx, sharedTimeout)
	defer cancel()
	i := t.ledger.Book(ctx, options)
	if i < 0 {
		return shot{}, errNoAirtime
	}
	chosen := shot{route: ways[i].Route, windows: []band.Window{ways[i].Window}, booked: ways[i].Transmission}
	if r := s.downlink.Routes[chosen.route]; ways[i].Window == r.RX1 {
		chosen.windows = s.windows(chosen.route, arrival)
	}
	return chosen, nil
}

// fire registers the flight, then publishes its command: an ack may be faster
// than the return of publish.
func (t *transmitter) fire(s *sending, shot shot) error {
	gateway := s.downlink.Routes[shot.route].Gateway
	s.tried |= 1 << shot.route
	s.asked = gateway
	f := t.launch(s, shot)
	command, err := s.command(f.id, shot)
	if err != nil {
		t.cancel(f)
		t.metrics.downlinks.WithLabelValues(downlinkEncodeFailed).Inc()
		return fmt.Errorf("encode downlink command: %w", err)
	}
	// QoS 0: at QoS 1 the client would send it again after an outage, past its windows.
	err = wait(t.broker.publish(command.topic, 0, command.payload), t.lead)
	if err != nil && t.cancel(f) {
		t.metrics.downlinks.WithLabelValues(downlinkPublishFailed).Inc()
		return fmt.Errorf("%w: %w", errStranded, err)
	}
	t.metrics.downlinks.WithLabelValues(downlinkSent).Inc()
	t.presence.commanded(gateway) // s may be somebody else's by now
	return nil
}

var errStranded = errors.New("the downlink command could not be published")

// miss notes that a gateway cannot be asked.
func (t *transmitter) miss(s *sending, shot shot, why error) {
	s.notes = append(s.notes, fmt.Sprintf("%s: %s", s.asked, why))
	t.release(shot.booked)
}

func (t *transmitter) launch(s *sending, shot shot) *flight {
	id := t.sharedID()
	f, lost := t.register(id, s, shot)
	for _, s := range lost {
		t.unknown(s)
	}
	return f
}

// register launches the flight and returns what was sent by those whose id it has
// taken.
func (t *transmitter) register(id uint32, s *sending, shot shot) (f *flight, lost []*sending) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id == 0 {
		id = t.flights.nextID()
	}
	f, displaced := t.flights.launch(t.now(), id, s.asked, s, shot)
	if len(displaced) > 0 {
		t.metrics.reusedIDs.Inc()
	}
	for _, old := range displaced {
		if s := old.settle(); s != nil {
			lost = append(lost, s)
		}
	}
	if t.flights.order.len() == 1 {
		t.alarm.ring()
	}
	return f, lost
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
	return f.settle() != nil
}

// release takes a booking back that will not be used. It may take a round trip.
func (t *transmitter) release(booked joinserver.Transmission) {
	if t.ledger == nil || booked == (joinserver.Transmission{}) {
		return
	}
	ctx, cancel := context.WithTimeout(t.ctx, sharedTimeout)
	defer cancel()
	t.ledger.Release(ctx, booked)
}

// strand keeps a join-accept that could not be published, with its shot.
func (t *transmitter) strand(s *sending, shot shot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.aimed, s.next = true, shot
	s.tried &^= 1 << shot.route
	if len(t.stranded) == 0 {
		t.retryAt = t.now().Add(retryEvery)
		t.alarm.ring()
	}
	t.stranded = append(t.stranded, s)
}

// acknowledged heeds a gateway's word. After a refusal of all windows the next
// best gateway gets the same frame. The bridge itself has tried RX2 by then.
func (t *transmitter) acknowledged(a ack) {
	s, shot, v, what := t.land(a)
	switch what {
	case landedUnknown, landedElsewhere, landedAgain:
		t.metrics.strangeAcks.WithLabelValues(t.whyStrange(what)).Inc()
		return
	}
	for _, status := range a.Items {
		t.metrics.acks.WithLabelValues(statusLabel(status)).Inc()
	}
	t.presence.acknowledged(a)
	if what == landedAccepted {
		s.acks = append(s.acks, a.seen())
		t.conclude(s, outcome{status: joinserver.OutcomeSent, window: v.window})
	}
	if what == landedRefused || v.freed || len(v.busy) > 0 {
		t.handOn(func() {
			t.teach(shot, v)
			if what == landedRefused {
				t.handOver(s, a)
			}
		})
	}
}

// land finds and settles the flight of an ack.
func (t *transmitter) land(a ack) (s *sending, shot shot, v verdict, what landing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, what := t.flights.land(a)
	if what == landedAccepted || what == landedRefused {
		v, shot = f.verdict(a), f.shot
		s = f.settle()
	}
	return s, shot, v, what
}

// whyStrange names an ack that is about nothing here. Where instances share ids
// and every one hears every ack, most are those of the others.
func (t *transmitter) whyStrange(what landing) string {
	switch {
	case what == landedAgain:
		return ackRepeated
	case what == landedUnknown && t.ids != nil:
		return ackOfFellow
	}
	return ackUnknown
}

// teach tells the ledger what an ack says of the gateway's time.
func (t *transmitter) teach(shot shot, v verdict) {
	if v.freed {
		t.release(shot.booked)
	}
	if t.ledger == nil {
		return
	}
	ctx, cancel := context.WithTimeout(t.ctx, sharedTimeout)
	defer cancel()
	for _, transmission := range v.busy {
		t.ledger.Sent(ctx, transmission)
	}
}

// handOver gives the frame to the next gateway.
func (t *transmitter) handOver(s *sending, a ack) {
	s.acks = append(s.acks, a.seen())
	s.notes = append(s.notes, fmt.Sprintf("%s: %v", a.Gateway, a.Items))
	if err := t.send(s); err == nil {
		t.metrics.handovers.Inc()
		t.log.Debug("gateway refused a join-accept; the next one gets it",
			zap.Stringer("dev_eui", s.downlink.Claim.Request.DevEUI), zap.Stringer("gateway", a.Gateway), zap.Any("statuses", a.Items))
	}
}

// giveUp ends a join-accept that nobody is left to send.
func (t *transmitter) giveUp(s *sending, why error) {
	if errors.Is(why, errTooLate) {
		t.metrics.downlinks.WithLabelValues(downlinkTooLate).Inc()
	}
	t.metrics.unsent.Inc()
	status := joinserver.OutcomeUnsent
	if len(s.acks) > 0 {
		status = joinserver.OutcomeRefused
	}
	t.conclude(s, outcome{status: status, why: why})
}

// unknown ends a join-accept that a gateway got and said nothing about. Silence does
// not prove that nothing was sent, so nothing is sent again.
func (t *transmitter) unknown(s *sending) {
	t.metrics.silent.Inc()
	t.conclude(s, outcome{status: joinserver.OutcomeUnknown})
}

func (t *transmitter) conclude(s *sending, o outcome) { t.reporter.concluded(s, o) }

// tick counts the commands that stayed without ack, tries again what could not be
// published, and returns when to look again.
func (t *transmitter) tick(now time.Time) (time.Time, bool) {
	silent, again, next, any := t.overdue(now)
	for _, s := range silent {
		t.unknown(s)
	}
	for _, s := range again {
		t.handOn(func() { _ = t.send(s) })
	}
	return next, any
}

func (t *transmitter) overdue(now time.Time) (silent, again []*sending, next time.Time, any bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.flights.due(now) {
		silent = append(silent, f.settle())
	}
	if len(t.stranded) > 0 && !now.Before(t.retryAt) {
		again = t.takeStranded(now)
		t.retryAt = now.Add(retryEvery)
	}
	next, any = t.flights.nextDue()
	if len(t.stranded) > 0 && (!any || t.retryAt.Before(next)) {
		next, any = t.retryAt, true
	}
	return silent, again, next, any
}

// takeStranded takes those that can be published again, or never any more.
func (t *transmitter) takeStranded(now time.Time) (again []*sending) {
	ready := t.broker.ready() == nil
	t.stranded = slices.DeleteFunc(t.stranded, func(s *sending) bool {
		take := ready || !s.frame.reaches(now.Add(t.lead), band.JoinAcceptDelay2)
		if take {
			again = append(again, s)
		}
		return take
	})
	return again
}

// idle reports whether every command has arrived, or its time is over.
func (t *transmitter) idle(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.stranded) == 0 && !t.flights.underWay(now)
}

// open counts the commands whose acks may still come.
func (t *transmitter) open() float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return float64(t.flights.order.len())
}
