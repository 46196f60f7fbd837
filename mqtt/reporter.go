package mqtt

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"go.uber.org/zap"

	"joingate/joinserver"
)

const (
	// shownPerSecond is how many refusals with one reason are logged and told
	// one by one. The others of that second become one line and one event.
	shownPerSecond = 100
	// rejectsKept is how many refusals Rejects can tell of.
	rejectsKept = 1000
	// eventsWaiting bounds the reject events that wait for the broker. Those
	// beyond it are dropped and counted: they are news, not records.
	eventsWaiting = 4096
)

// Reject is a refused join with whom it concerns.
type Reject struct {
	Account joinserver.AccountID // of the node; 0: not known
	joinserver.RejectEvent
}

// reporter tells what became of each join attempt: a log line, a metric, and an
// event for a refusal. (The event of an accepted join comes from the outbox.)
type reporter struct {
	broker  publisher
	now     func() time.Time
	metrics *metrics
	log     *zap.Logger
	alarm   alarm
	events  chan rejectMessage

	mu      sync.Mutex
	refusal map[joinserver.Reason]*throttle
	fault   throttle
	garbage throttle
	kept    []Reject // ring, oldest at oldest
	oldest  int
}

// rejectMessage is a reject event on its way to the broker.
type rejectMessage struct {
	account joinserver.AccountID
	device  string
	payload any
}

func newReporter(broker publisher, now func() time.Time, m *metrics, log *zap.Logger, a alarm) *reporter {
	r := &reporter{
		broker: broker, now: now, metrics: m, log: log, alarm: a,
		events:  make(chan rejectMessage, eventsWaiting),
		refusal: make(map[joinserver.Reason]*throttle),
	}
	for _, reason := range joinserver.Reasons() {
		r.refusal[reason] = new(throttle)
	}
	return r
}

// accepted reports a join that was committed, and whether a command for it was
// published. Why not, and what became of it later, is the transmitter's to tell.
func (r *reporter) accepted(f *frame, d joinserver.Downlink, sent bool) {
	r.metrics.joins.decided.WithLabelValues(resultAccepted).Inc()
	request, best := d.Claim.Request, f.copies[d.Routes[0].Reception]
	r.log.Info("join accepted",
		zap.Stringer("dev_eui", request.DevEUI),
		zap.Stringer("join_eui", request.JoinEUI),
		zap.Stringer("dev_addr", d.Grant.DevAddr),
		zap.Uint32("join_nonce", d.Grant.JoinNonce),
		zap.Uint16("dev_nonce", request.DevNonce),
		zap.Duration("rx_delay", d.Claim.RxDelay),
		zap.Uint8("data_rate", d.Claim.DLSettings&0x0f), // RX2DataRate, TS001-1.0.4 section 6.2.6
		zap.Stringer("gateway", d.Routes[0].Gateway),
		zap.Float32("margin", best.Reception.LinkMargin()),
		zap.Bool("sent", sent),
		zap.Int("copies", len(f.copies)+f.surplus),
		zap.Duration("prepare", f.prepareTook),
		zap.Duration("answer", f.answerTook),
		zap.Duration("total", r.now().Sub(f.first)))
}

// refused reports a refusal. A malformed frame names nobody whom it could be
// told, so it is only counted.
func (r *reporter) refused(refusal *joinserver.Rejection, copies []joinserver.Reception) {
	r.metrics.joins.refused.WithLabelValues(refusal.Reason.String()).Inc()
	if refusal.Reason == joinserver.Malformed {
		r.log.Debug("frame is no join-request", zap.String("detail", refusal.Detail), zap.Stringers("gateways", gatewaysOf(copies)))
		return
	}
	if !r.show(r.refusal[refusal.Reason], shownPerSecond) {
		return
	}
	event := refusal.Event(copies, r.now())
	r.keep(Reject{refusal.Account, event})
	r.tell(rejectMessage{refusal.Account, refusal.DevEUI.String(), event})
	r.log.Info("join refused",
		zap.Stringer("reason", refusal.Reason),
		zap.Stringer("dev_eui", refusal.DevEUI),
		zap.Stringer("join_eui", refusal.JoinEUI),
		zap.String("detail", refusal.Detail),
		zap.String("remedy", refusal.Reason.Remedy()),
		zap.Stringers("gateways", gatewaysOf(copies)))
}

// failed reports a fault of ours: a join that was neither accepted nor refused.
func (r *reporter) failed(err error, copies []joinserver.Reception) {
	r.metrics.joins.decided.WithLabelValues(resultFailed).Inc()
	if r.show(&r.fault, shownPerSecond) {
		r.log.Error("join failed: not answered, nothing is lost; the device tries again",
			zap.Error(err), zap.Stringers("gateways", gatewaysOf(copies)))
	}
}

// unreadable reports a message that could not be decoded.
func (r *reporter) unreadable(topic string, err error) {
	if r.show(&r.garbage, 1) {
		r.log.Warn("message could not be read: compare the marshaler of the gateway bridge",
			zap.String("topic", clip(topic)), zap.String("error", clip(err.Error())))
	}
}

// clip keeps what strangers wrote short.
func clip(s string) string {
	const longest = 200
	if len(s) > longest {
		return s[:longest] + "…"
	}
	return s
}

func (r *reporter) show(t *throttle, perSecond int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	pass := t.pass(r.now(), perSecond)
	if !pass && t.summed == 1 {
		r.alarm.ring()
	}
	return pass
}

func (r *reporter) keep(reject Reject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) < rejectsKept {
		r.kept = append(r.kept, reject)
		return
	}
	r.kept[r.oldest] = reject
	r.oldest = (r.oldest + 1) % rejectsKept
}

// rejects gives the refusals that are remembered, newest first.
func (r *reporter) rejects() []Reject {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Reject, 0, len(r.kept))
	for i := range r.kept {
		list = append(list, r.kept[(r.oldest+len(r.kept)-1-i)%len(r.kept)])
	}
	return list
}

// tick shows what the throttles have summed and returns when to look again.
func (r *reporter) tick(now time.Time) (next time.Time, any bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, reason := range joinserver.Reasons() {
		if n := r.refusal[reason].sum(now); n > 0 {
			r.log.Warn("more joins refused", zap.Stringer("reason", reason), zap.Int("count", n))
			r.tell(rejectMessage{0, "_", rejectSum{now.UTC(), reason.String(), n}})
		}
	}
	if n := r.fault.sum(now); n > 0 {
		r.log.Error("more joins failed", zap.Int("count", n))
	}
	if n := r.garbage.sum(now); n > 0 {
		r.log.Warn("more messages could not be read", zap.Int("count", n))
	}
	return r.nextSum()
}

// rejectSum is the event for the refusals of one second that were too many to
// be told one by one.
type rejectSum struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
	Count  int       `json:"count"`
}

func (r *reporter) nextSum() (next time.Time, any bool) {
	consider := func(t *throttle) {
		if due, ok := t.due(); ok && (!any || due.Before(next)) {
			next, any = due, true
		}
	}
	for _, t := range r.refusal {
		consider(t)
	}
	consider(&r.fault)
	consider(&r.garbage)
	return next, any
}

// tell queues an event. Callbacks of the broker's connection end up here, so it
// does not wait.
func (r *reporter) tell(m rejectMessage) {
	select {
	case r.events <- m:
	default:
		r.metrics.rejectEvents.WithLabelValues(eventDropped).Inc()
	}
}

// run publishes the events until ctx is done.
func (r *reporter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-r.events:
			r.metrics.rejectEvents.WithLabelValues(r.publish(m)).Inc()
		}
	}
}

func (r *reporter) publish(m rejectMessage) (result string) {
	payload, err := json.Marshal(m.payload)
	if err == nil {
		err = wait(r.broker.publish(eventTopic(m.account, m.device, "reject"), 0, payload), time.Second)
	}
	if err != nil {
		r.log.Debug("reject event was not published", zap.Error(err))
		return eventPublishFailed
	}
	return eventPublished
}

// eventTopic is where an account learns of its devices. "_" stands for an
// account or a device that is not known.
func eventTopic(account joinserver.AccountID, device, event string) string {
	name := "_"
	if account != 0 {
		name = account.String()
	}
	return "joingate/" + name + "/node/" + device + "/event/" + event
}

func gatewaysOf(copies []joinserver.Reception) []joinserver.EUI64 {
	euis := make([]joinserver.EUI64, len(copies))
	for i, c := range copies {
		euis[i] = c.Gateway
	}
	return euis
}

// idle reports whether no event waits to be published.
func (r *reporter) idle() bool { return len(r.events) == 0 }
