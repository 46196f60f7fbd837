package mqtt

import (
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"joingate/joinserver"
)

// joinBuckets are seconds: a join has 5 s until RX1 and 6 s until RX2.
var joinBuckets = []float64{.005, .01, .02, .05, .1, .15, .2, .25, .3, .4, .5, .75, 1, 2, 3, 4, 5, 6}

// stepBuckets are seconds: from a MIC in microseconds to a database that hangs.
var stepBuckets = []float64{1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5}

// Kinds of uplinks, as metrics name them.
const (
	uplinkJoin     = "join"
	uplinkRejoin   = "rejoin"
	uplinkOther    = "other"    // a frame that asks for no session
	uplinkNotLoRa  = "not_lora" // FSK or LR-FHSS, on which no join is sent
	uplinkBadCRC   = "bad_crc"
	uplinkRetained = "retained" // from a past that nobody can tell
	uplinkGarbage  = "garbage"  // cannot be decoded
)

// Results of downlink commands and of events, as metrics name them.
const (
	downlinkSent          = "sent"
	downlinkTooLate       = "too_late"
	downlinkPublishFailed = "publish_failed"
	downlinkEncodeFailed  = "encode_failed"

	eventPublished     = "published"
	eventPublishFailed = "publish_failed"
	eventDropped       = "dropped"
)

// Why an ack is ignored, as metrics name it.
const (
	ackUnknown  = "unknown_id" // another server's on the same bridge, or one that came too late
	ackOfFellow = "fellow"     // another instance's: each hears the acks of all
	ackRepeated = "repeated"
)

// metrics counts what the edge does. Nothing is global, so several edges live
// beside each other, each with its own registry.
type metrics struct {
	joins      joinCounters
	joinTime   prometheus.Histogram
	workTime   prometheus.Histogram
	unsent     prometheus.Counter
	uplinks    *prometheus.CounterVec // kind
	garbage    *prometheus.CounterVec // event
	copies     prometheus.Counter
	ghosts     prometheus.Counter
	lateCopies prometheus.Counter

	handedCopies    prometheus.Counter
	collectedCopies prometheus.Counter
	copyFailures    prometheus.Counter

	downlinks     *prometheus.CounterVec // result
	acks          *prometheus.CounterVec // status
	strangeAcks   *prometheus.CounterVec // why
	silent        prometheus.Counter
	accepts       *prometheus.CounterVec // outcome
	handovers     prometheus.Counter
	reusedIDs     prometheus.Counter
	panics        prometheus.Counter
	rejectEvents  *prometheus.CounterVec // result
	outcomeEvents *prometheus.CounterVec // result
	delivered     prometheus.Counter
	outboxFaults  prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		joins:      newJoinCounters(),
		joinTime:   histogram("joingate_join_seconds", "From the first copy of a join-request to the published downlink command.", joinBuckets),
		workTime:   histogram("joingate_join_beyond_window_seconds", "From the end of the collect window to the published downlink command.", joinBuckets),
		unsent:     counter("joingate_joins_unsent_total", "Accepted joins whose join-accept no gateway would or could send."),
		uplinks:    counters("joingate_uplinks_total", "Uplink events of gateways by kind.", "kind"),
		garbage:    counters("joingate_garbage_total", "Messages that could not be decoded, by the end of their topic.", "event"),
		copies:     counter("joingate_copies_total", "Copies of join-requests, the first ones included."),
		ghosts:     counter("joingate_ghosts_total", "Copies of join-requests on another frequency than the one that was sent on."),
		lateCopies: counter("joingate_late_copies_total", "Copies that came after the collect window of their join-request."),

		handedCopies:    counter("joingate_copies_handed_total", "Copies of join-requests that were handed to the instance that answers them."),
		collectedCopies: counter("joingate_copies_collected_total", "Copies of join-requests that other instances have handed to this one, and that it did not have."),
		copyFailures:    counter("joingate_copies_failures_total", "Claims, hand-overs and collections of copies that failed: the instance then acts alone."),

		downlinks:     counters("joingate_downlinks_total", "Downlink commands by what became of them here.", "result"),
		acks:          counters("joingate_tx_acks_total", "What gateways said of the windows of downlink commands.", "status"),
		strangeAcks:   counters("joingate_tx_acks_ignored_total", "Acks of commands that are unknown here, are another instance's, or were acknowledged before.", "why"),
		silent:        counter("joingate_tx_acks_missing_total", "Downlink commands that were never acknowledged: whether they were sent is unknown."),
		accepts:       counters("joingate_join_accepts_total", "Join-accepts by what became of them in the end.", "outcome"),
		handovers:     counter("joingate_handovers_total", "Join-accepts that went to the next gateway after one had refused."),
		reusedIDs:     counter("joingate_downlink_ids_reused_total", "Downlink ids used again while an ack of their last use could still come."),
		panics:        counter("joingate_panics_total", "Messages and joins whose handling panicked. Each one is a bug."),
		rejectEvents:  counters("joingate_reject_events_total", "Reject events by what became of them.", "result"),
		outcomeEvents: counters("joingate_outcome_events_total", "Events of what became of join-accepts, by what became of them.", "result"),
		delivered:     counter("joingate_outbox_delivered_total", "Join events that the broker has acknowledged."),
		outboxFaults:  counter("joingate_outbox_failures_total", "Tries to deliver join events that failed."),
	}
	m.announce()
	return m
}

// announce makes every known label value visible from the start, so that an
// alert on its rise sees the first one.
func (m *metrics) announce() {
	m.joins.decided.WithLabelValues(resultAccepted)
	m.joins.decided.WithLabelValues(resultFailed)
	for _, reason := range joinserver.Reasons() {
		m.joins.refused.WithLabelValues(reason.String())
	}
	for _, kind := range []string{uplinkJoin, uplinkRejoin, uplinkOther, uplinkNotLoRa, uplinkBadCRC, uplinkRetained, uplinkGarbage} {
		m.uplinks.WithLabelValues(kind)
	}
	for _, result := range []string{downlinkSent, downlinkTooLate, downlinkPublishFailed, downlinkEncodeFailed} {
		m.downlinks.WithLabelValues(result)
	}
	for _, label := range []string{outcomeSent, outcomeSentRX1, outcomeSentRX2, outcomeRefused, outcomeUnknown, outcomeUnsent} {
		m.accepts.WithLabelValues(label)
	}
	for _, why := range []string{ackUnknown, ackOfFellow, ackRepeated} {
		m.strangeAcks.WithLabelValues(why)
	}
	for status := txIgnored; status <= txDutyCycleOverflow; status++ {
		m.acks.WithLabelValues(statusLabel(status))
	}
	for kind := eventUp; kind <= stateConn; kind++ {
		m.garbage.WithLabelValues(kind.String())
	}
}

func statusLabel(s txStatus) string {
	if s < txIgnored || s > txDutyCycleOverflow {
		s = txUnknown // whatever a bridge may send, the labels stay few
	}
	return strings.ToLower(s.String())
}

// register adds the metrics and the gauges to a registry, which must not hold
// those of another edge.
func (m *metrics) register(to prometheus.Registerer, gauges ...prometheus.Collector) error {
	all := []prometheus.Collector{
		m.joins, m.joinTime, m.workTime, m.unsent, m.uplinks, m.garbage, m.copies, m.ghosts, m.lateCopies, m.downlinks,
		m.handedCopies, m.collectedCopies, m.copyFailures,
		m.acks, m.strangeAcks, m.silent, m.accepts, m.handovers, m.reusedIDs, m.panics, m.rejectEvents, m.outcomeEvents, m.delivered, m.outboxFaults,
	}
	var errs []error
	for _, c := range append(all, gauges...) {
		errs = append(errs, to.Register(c))
	}
	return errors.Join(errs...)
}

// joinCounters are joingate_joins_total{result="accepted"} and
// joingate_joins_total{result="refused",reason="bad_mic"}: only a refusal has a
// reason. The registry wants equal labels of all it checks; what describes
// nothing beforehand goes unchecked.
type joinCounters struct{ decided, refused *prometheus.CounterVec }

const (
	resultAccepted = "accepted"
	resultFailed   = "failed" // a fault of ours: neither accepted nor refused
	resultRefused  = "refused"
)

func newJoinCounters() joinCounters {
	options := prometheus.CounterOpts{Name: "joingate_joins_total", Help: "Join-requests by what became of them; every copy of one is the same."}
	decided := prometheus.NewCounterVec(options, []string{"result"})
	options.ConstLabels = prometheus.Labels{"result": resultRefused}
	return joinCounters{decided, prometheus.NewCounterVec(options, []string{"reason"})}
}

// Describe implements prometheus.Collector.
func (joinCounters) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (j joinCounters) Collect(to chan<- prometheus.Metric) {
	j.decided.Collect(to)
	j.refused.Collect(to)
}

// NewStepObserver registers joingate_join_step_seconds and gives what feeds it:
// the Observe of a joinserver.Config.
func NewStepObserver(to prometheus.Registerer) (func(joinserver.Step, time.Duration), error) {
	steps := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "joingate_join_step_seconds", Help: "How long each step of a join took.", Buckets: stepBuckets,
	}, []string{"step"})
	if err := to.Register(steps); err != nil {
		return nil, err
	}
	return func(step joinserver.Step, took time.Duration) {
		steps.WithLabelValues(string(step)).Observe(took.Seconds())
	}, nil
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
}

func gauge(name, help string, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
}
