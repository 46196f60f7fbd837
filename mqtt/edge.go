// Package mqtt is the gateway edge of Joingate: it takes the messages of ChirpStack
// Gateway Bridges from an MQTT broker, gathers the copies of each join- or
// rejoin-request, asks the join handler, and sends the join-accept through the best
// gateway that can still be reached. It also publishes join, reject and txack events.
//
// What is promised: one radio transmission is one join, however many copies come,
// however late, and on however many instances. A join-accept that a gateway
// refuses goes to the next one, and one that could not be published because the
// broker is away is tried again, while a window can be reached; what became of it in
// the end is counted once. Nothing that arrives stops the edge, and its memory is
// bounded.
//
// Overload is shared out: what waits is served in turn by gateway, then by account,
// what can still reach RX1 before what can only be in RX2, and beyond the room there
// is the longest line loses (stage). So a gateway or a tenant that floods loses its
// own joins. A gateway is who it says in a message, which has to be published under
// its topic.
//
// Join events come at least once, from the outbox. Reject events (QoS 0) and txack
// events (QoS 1) are news: they may be missing, after an outage or in a flood.
//
// Instances behind one broker share a frame's copies (Copies): the one that claims
// it answers through the best gateway of all. Without that each acts alone, and
// the commit makes it one join.
//
// Units. Frequency: Hz. SNR and margin: dB. RSSI: dBm. Times are the server's.
//
// Sources: the messages of ChirpStack Gateway Bridge 3.14.6 and 4.1.1; MQTT 3.1.1.
//
// Known to be missing: a join-accept that waits for the broker is lost when the edge
// stops; the device tries again. A frame that is shed here as overloaded may at the
// same time be answered by another instance that heard a copy of it.
package mqtt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"joingate/joinserver"
)

// Limits of the work that is under way.
const (
	// maxPreparing and maxAnswering are how many joins are in the two phases of the
	// handler at a time. Most that are answered wait for the disk: the more there
	// are, the more share one commit.
	maxPreparing = 512
	maxAnswering = 1024
	// maxWaiting is how many more wait for each of the two. At a few thousand joins a
	// second that is as long as a join can wait and still be answered.
	maxWaiting = 32 << 10
	// maxStrange is how many of those are in each of the two whom nobody knows, or who
	// have not proved who they are, and maxStrangeWaiting how many more wait. What few
	// of them do at a time, they do no slower; and a flood costs least where it is shed
	// at once.
	maxStrange        = 8
	maxStrangeWaiting = 4 << 10
)

// Config is what an Edge needs. Handler, Registerer, Logger and Broker.URL must
// be there.
type Config struct {
	Broker     BrokerConfig
	Prefixes   []string // topic prefixes of more than one level
	ShareGroup string   // the same on all instances behind one broker; empty: this is the only one

	// CollectWindow is how long copies of a frame are waited for. Longer, and
	// slow gateways are considered too; shorter, and RX1 is safer. 0 answers
	// through the first gateway.
	CollectWindow time.Duration
	// SendLead is how long before a window opens a command must leave to reach
	// it. Default 100 ms: half of what the join handler plans with, so that what
	// it chose is not dropped for the milliseconds of the commit.
	SendLead time.Duration

	// Instances behind one broker share both of these, and the ShareGroup.
	Copies Copies      // nil: this is the only instance
	IDs    DownlinkIDs // nil: ids of its own, which may be another instance's too

	// Airtime is the ledger that the join handler books in: it learns from acks, and
	// is asked before a join-accept is handed to another gateway. Nil: airtime is not
	// planned.
	Airtime joinserver.Airtime

	// Known reports whether a device is on record, as far as one knows without
	// asking: in a flood, frames in the names of others wait for themselves. Nil: all
	// are.
	Known func(device joinserver.EUI64) bool

	// Able reports why this instance cannot answer joins at the moment: it is asked
	// every second, and while it cannot the share group does without it. Nil: it
	// always can.
	Able func(ctx context.Context) error

	Handler Handler
	Outbox  Outbox // nil: no join events
	// Turn reports whether this instance delivers what waits in an Outbox that
	// several share; nil: always.
	Turn       func(ctx context.Context) bool
	Gateways   GatewayState // nil: nobody wants to know
	Registerer prometheus.Registerer
	Logger     *zap.Logger
	Now        func() time.Time // default time.Now
}

// Edge is the gateway edge. Make one with New, then Run it.
type Edge struct {
	client      *client
	now         func() time.Time
	metrics     *metrics
	alarm       alarm
	workers     *workers
	pipeline    *pipeline
	transmitter *transmitter
	reporter    *reporter
	presence    *presence
	courier     *courier                    // nil: no outbox
	able        func(context.Context) error // nil: always
	log         *zap.Logger
	cancel      context.CancelFunc // of the handler's calls
}

// New makes an Edge and registers its metrics. It does not connect yet.
func New(c Config) (*Edge, error) {
	client, err := newClient(c)
	if err != nil {
		return nil, err
	}
	e, err := newEdge(c, client)
	if err != nil {
		return nil, err
	}
	e.client, e.able = client, c.Able
	return e, nil
}

// newEdge builds all but the connection.
func newEdge(c Config, broker publisher) (*Edge, error) {
	if c.Handler == nil || c.Registerer == nil || c.Logger == nil {
		return nil, errors.New("the gateway edge needs a join handler, a metrics registry and a logger")
	}
	if c.CollectWindow < 0 || c.CollectWindow > maxCollectWindow {
		return nil, errors.New("[join] collect_window must be between 0s and " + maxCollectWindow.String() + ": RX1 is 5 s after the join-request")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.SendLead == 0 {
		c.SendLead = 100 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Edge{now: c.Now, metrics: newMetrics(), alarm: newAlarm(), log: c.Logger, cancel: cancel}
	e.workers = &workers{guard: e.guard}
	e.presence = newPresence(c.Gateways, gatewaysRemembered)
	e.reporter = newReporter(broker, c.Now, e.metrics, c.Logger, e.alarm, e.presence)
	e.transmitter = &transmitter{
		broker: broker, now: c.Now, lead: c.SendLead, metrics: e.metrics, log: c.Logger, alarm: e.alarm,
		handOn: e.workers.run, flights: newFlights(uint16(rand.Uint32())),
		reporter: e.reporter, presence: e.presence, ledger: c.Airtime, ids: c.IDs, ctx: ctx,
	}
	e.pipeline = &pipeline{
		handler: c.Handler, now: c.Now, workers: e.workers, transmitter: e.transmitter, reporter: e.reporter,
		metrics: e.metrics, alarm: e.alarm, shared: c.Copies, ctx: ctx, lead: c.SendLead, accountOf: joinserver.Attempt.Account, known: c.Known,
		collector: newCollector(c.CollectWindow, maxFrames),
		byGateway: newStage(maxPreparing, maxWaiting, c.SendLead), strangers: newStage(maxStrange, maxStrangeWaiting, c.SendLead),
		byAccount: newStage(maxAnswering, maxWaiting, c.SendLead), doubted: newStage(maxStrange, maxStrangeWaiting, c.SendLead),
	}
	if c.Outbox != nil {
		e.courier = &courier{outbox: c.Outbox, turn: c.Turn, broker: broker, metrics: e.metrics, log: c.Logger, pause: pause}
	}
	return e, e.metrics.register(c.Registerer, e.gauges()...)
}

// gauges are what is looked at when somebody asks for metrics.
func (e *Edge) gauges() []prometheus.Collector {
	return []prometheus.Collector{
		newGatewayMetrics(e.presence),
		gauge("joingate_frames_open", "Join-requests that are collected, answered or remembered until their RX2.", e.pipeline.open),
		gauge("joingate_downlinks_open", "Downlink commands whose acks may still come.", e.transmitter.open),
		gauge("joingate_joins_waiting_to_prepare", "Join-requests that wait in the lines of gateways.",
			func() float64 { return e.pipeline.waitingFor(e.pipeline.byGateway, e.pipeline.strangers) }),
		gauge("joingate_joins_waiting_to_answer", "Join-requests that wait in the lines of accounts.",
			func() float64 { return e.pipeline.waitingFor(e.pipeline.byAccount, e.pipeline.doubted) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "joingate_frames_forgotten_total", Help: "Join-requests that were forgotten before their RX2, to make room for new ones.",
		}, e.pipeline.forgotten),
	}
}

// maxCollectWindow leaves RX1 in reach.
const maxCollectWindow = 4 * time.Second

// Run connects and serves until ctx is done. Losing the broker does not end it:
// it connects again. Joins under way are dropped, unless Drain came before; the
// handler is not called any more once Run has returned.
func (e *Edge) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	tasks.Go(func() { e.alarm.keep(ctx, e.now, e.tick) })
	tasks.Go(func() { e.reporter.refusals.run(ctx) })
	tasks.Go(func() { e.reporter.outcomes.run(ctx) })
	if e.courier != nil {
		tasks.Go(func() { e.courier.run(ctx) })
	}
	if e.able != nil {
		asks := time.NewTicker(askAble)
		defer asks.Stop()
		tasks.Go(func() { e.attend(ctx, e.able, asks.C) })
	}
	err := e.client.run(ctx, e.receive)
	tasks.Wait()
	e.pipeline.drain()
	e.cancel()
	e.workers.stop()
	return err
}

// Ready is nil while the broker is connected and the events of gateways are
// subscribed to; else it says what is missing.
func (e *Edge) Ready() error { return e.client.ready() }

// Rejects lists the last refused joins, newest first.
func (e *Edge) Rejects() []Reject { return e.reporter.rejects() }

// GatewayCounts gives what was seen of a gateway since the start; zero: nothing.
func (e *Edge) GatewayCounts(gateway joinserver.EUI64) GatewayCounts {
	return e.presence.counts(gateway)
}

// Drain takes no more joins and returns when those under way are finished: their
// windows have passed, and their join-accepts have been acknowledged, or RX2 is
// over. Without the ack a broker that closes next, as the embedded one does,
// could take the command with it. What comes later goes to the other instances
// of the share group. Run goes on meanwhile. Drain returns early when ctx is done.
func (e *Edge) Drain(ctx context.Context) {
	if e.client != nil {
		e.client.leave(ctx)
	}
	e.pipeline.drain()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !e.idle() {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

func (e *Edge) idle() bool {
	return e.pipeline.idle() && e.transmitter.idle(e.now()) && e.reporter.idle()
}

// tick lets everything act whose deadline has come and returns the next one.
func (e *Edge) tick(now time.Time) (next time.Time, any bool) {
	for _, tick := range []func(time.Time) (time.Time, bool){e.pipeline.tick, e.transmitter.tick, e.reporter.tick} {
		if deadline, ok := tick(now); ok && (!any || deadline.Before(next)) {
			next, any = deadline, true
		}
	}
	return next, any
}

// guard keeps a panic in the handling of one message or join from all others.
func (e *Edge) guard(job func()) {
	defer func() {
		if cause := recover(); cause != nil {
			e.metrics.panics.Inc()
			e.log.Error("handling panicked; this is a bug, please report it", zap.Any("panic", cause), zap.ByteString("stack", debug.Stack()))
		}
	}()
	job()
}

// receive handles one message of the broker, whose payload is only lent. It may be
// called concurrently and never blocks.
func (e *Edge) receive(topic string, payload []byte, retained bool) {
	e.guard(func() {
		if err := e.dispatch(topic, payload, retained); err != nil {
			e.reporter.unreadable(topic, err)
		}
	})
}

var errNotATopic = errors.New("topic is not one of a gateway's events")

// dispatch gives a message to those whom its topic concerns. An error says that
// it could not be read.
func (e *Edge) dispatch(topic string, payload []byte, retained bool) error {
	prefix, gateway, kind, ok := parseTopic(topic)
	if !ok {
		e.metrics.garbage.WithLabelValues("other").Inc()
		return errNotATopic
	}
	var err error
	switch kind {
	case eventUp:
		err = e.onUplink(prefix, gateway, payload, retained)
	case eventAck:
		err = e.onAck(gateway, payload, retained)
	case eventStats:
		err = e.onStats(gateway, payload, retained)
	case stateConn:
		err = e.onConn(gateway, payload)
	}
	if err != nil {
		e.metrics.garbage.WithLabelValues(kind.String()).Inc()
	}
	return err
}

// onUplink takes a join- or rejoin-request in and counts everything else. A retained uplink
// is of a time that nobody can tell, so it cannot be answered.
func (e *Edge) onUplink(prefix string, topic joinserver.EUI64, payload []byte, retained bool) error {
	now := e.now()
	up, err := decodeUplink(payload)
	if err == nil {
		err = sameGateway(topic, up.Reception.Gateway)
	}
	kind := kindOfUplink(up, retained, err)
	e.metrics.uplinks.WithLabelValues(kind).Inc()
	if err != nil || retained {
		return err
	}
	e.presence.heard(up.Reception.Gateway, asksForSession(kind), now)
	if asksForSession(kind) {
		up.Reception.Received = now
		e.pipeline.take(uplinkCopy{uplink: up, prefix: prefix, topic: topic, payload: e.pipeline.keep(payload)})
	}
	return nil
}

func kindOfUplink(up uplink, retained bool, err error) string {
	switch {
	case err != nil:
		return uplinkGarbage
	case retained:
		return uplinkRetained
	case up.CRC == crcBad:
		return uplinkBadCRC
	case up.Reception.Modulation.SpreadingFactor == 0:
		return uplinkNotLoRa
	case !joinserver.IsJoin(up.PHYPayload):
		return uplinkOther
	case !joinserver.IsJoinRequest(up.PHYPayload):
		return uplinkRejoin
	}
	return uplinkJoin
}

// asksForSession reports whether an uplink of the kind is for the join handler.
func asksForSession(kind string) bool { return kind == uplinkJoin || kind == uplinkRejoin }

// sameGateway refuses what was published under another gateway's id than it names:
// brokers hold gateways to the topics of their own.
func sameGateway(topic, named joinserver.EUI64) error {
	if topic != named {
		return fmt.Errorf("message of gateway %s under the topic of another", named)
	}
	return nil
}

func (e *Edge) onAck(topic joinserver.EUI64, payload []byte, retained bool) error {
	a, err := decodeAck(payload)
	if err == nil {
		err = sameGateway(topic, a.Gateway)
	}
	if err == nil && !retained {
		e.transmitter.acknowledged(a)
	}
	return err
}

func (e *Edge) onStats(topic joinserver.EUI64, payload []byte, retained bool) error {
	s, err := decodeStats(payload)
	if err == nil {
		err = sameGateway(topic, s.Gateway)
	}
	if err == nil && !retained {
		e.presence.seen(s.Gateway, e.now())
	}
	return err
}

// onConn reads what bridges retain on purpose.
func (e *Edge) onConn(topic joinserver.EUI64, payload []byte) error {
	c, err := decodeConn(payload)
	if err == nil {
		err = sameGateway(topic, c.Gateway)
	}
	if err == nil {
		e.presence.online(c.Gateway, c.Online, e.now())
	}
	return err
}
