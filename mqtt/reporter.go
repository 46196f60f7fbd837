package mqtt

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"joingate/joinserver"
)

const (
	// shownPerSecond is how many refusals with one reason are logged and told
	// one by one. The others of that second become one line and one event.
	shownPerSecond = 100
	// rejectsKept is how many refusals Rejects can tell of.
	rejectsKept = 1000
)

// Reject is a refused join with whom it concerns.
type Reject struct {
	Account joinserver.AccountID // of the node; 0: not known
	joinserver.RejectEvent
}

// reporter tells what became of each join attempt: a log line, a metric, and an
// event for a refusal and for what became of the join-accept. (The event of an
// accepted join comes from the outbox.)
type reporter struct {
	now      func() time.Time
	metrics  *metrics
	log      *zap.Logger
	alarm    alarm
	presence *presence
	refusals *post
	outcomes *post

	mu      sync.Mutex
	refusal map[joinserver.Reason]*summary
	accepts summary
	silent  summary
	unsent  summary
	fault   summary
	garbage summary
	kept    []Reject // ring, oldest at oldest
	oldest  int
}

// summary is one kind of lines and what it says of those that were too many.
type summary struct {
	throttle
	text  string
	level zapcore.Level
}

func newReporter(broker publisher, now func() time.Time, m *metrics, log *zap.Logger, a alarm, p *presence) *reporter {
	r := &reporter{
		now: now, metrics: m, log: log, alarm: a, presence: p,
		refusals: newPost(broker, "reject", 0, m.rejectEvents, log),
		outcomes: newPost(broker, "txack", 1, m.outcomeEvents, log),
		refusal:  make(map[joinserver.Reason]*summary),
		accepts:  summary{text: "more joins accepted", level: zap.InfoLevel},
		silent:   summary{text: "more join-accepts not acknowledged", level: zap.InfoLevel},
		unsent:   summary{text: "more join-accepts not transmitted", level: zap.WarnLevel},
		fault:    summary{text: "more joins failed", level: zap.ErrorLevel},
		garbage:  summary{text: "more messages could not be read", level: zap.WarnLevel},
	}
	for _, reason := range joinserver.Reasons() {
		r.refusal[reason] = &summary{text: "more joins refused", level: zap.WarnLevel}
	}
	return r
}

// accepted reports a join that was committed, and whether a command for it was
// published. What became of it later, concluded tells.
func (r *reporter) accepted(f *frame, d *joinserver.Downlink, sent bool) {
	r.metrics.joins.decided.WithLabelValues(resultAccepted).Inc()
	if !r.show(&r.accepts, shownPerSecond) {
		return
	}
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
	if len(copies) > 0 {
		r.presence.refused(copies[0].Gateway)
	}
	if refusal.Reason == joinserver.Malformed {
		r.log.Debug("frame is no join-request", zap.String("detail", refusal.Detail), zap.Stringers("gateways", gatewaysOf(copies)))
		return
	}
	if !r.show(r.refusal[refusal.Reason], shownPerSecond) {
		return
	}
	event := refusal.Event(copies, r.now())
	r.keep(Reject{refusal.Account, event})
	r.refusals.add(news{refusal.Account, refusal.DevEUI.String(), event})
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

func (r *reporter) show(t *summary, perSecond int) bool {
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

// tick shows what was summed and returns when to look again.
func (r *reporter) tick(now time.Time) (next time.Time, any bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for reason, lines := range r.refusal {
		if n := lines.sum(now); n > 0 {
			r.log.Log(lines.level, lines.text, zap.Stringer("reason", reason), zap.Int("count", n))
			r.refusals.add(news{0, "_", rejectSum{now.UTC(), reason.String(), n}})
		}
		next, any = lines.sooner(next, any)
	}
	for _, lines := range [...]*summary{&r.accepts, &r.silent, &r.unsent, &r.fault, &r.garbage} {
		if n := lines.sum(now); n > 0 {
			r.log.Log(lines.level, lines.text, zap.Int("count", n))
		}
		next, any = lines.sooner(next, any)
	}
	return next, any
}

// sooner is the earlier of a deadline, if there is any, and the summary's own.
func (s *summary) sooner(next time.Time, any bool) (time.Time, bool) {
	if due, ok := s.due(); ok && (!any || due.Before(next)) {
		return due, true
	}
	return next, any
}

// rejectSum is the event for the refusals of one second that were too many to
// be told one by one.
type rejectSum struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
	Count  int       `json:"count"`
}

func gatewaysOf(copies []joinserver.Reception) []joinserver.EUI64 {
	euis := make([]joinserver.EUI64, len(copies))
	for i, c := range copies {
		euis[i] = c.Gateway
	}
	return euis
}

// idle reports whether no event waits to be published.
func (r *reporter) idle() bool { return r.refusals.idle() && r.outcomes.idle() }
