// Package mqtt is the gateway edge of Joingate: it takes the messages of ChirpStack
// Gateway Bridges from an MQTT broker, gathers the copies of each join-request,
// asks the join handler, and sends the join-accept through the best gateway that
// can still be reached. It also publishes join and reject events.
//
// What is promised: one radio transmission is one join, however many copies come,
// however late, and on however many instances; a join-accept that a gateway
// refuses goes to the next one while a window can be reached; nothing that
// arrives stops the edge, and its memory is bounded.
//
// Instances behind one broker share a frame's copies (Copies): the one that claims
// it answers through the best gateway of all. Without that each acts alone, and
// the commit makes it one join.
//
// Units. Frequency: Hz. SNR and margin: dB. RSSI: dBm. Times are the server's.
//
// Sources: the messages of ChirpStack Gateway Bridge 3.14.6 and 4.1.1; MQTT 3.1.1.
//
// Known to be missing: a join-accept whose publish fails because the broker is
// away is not tried again; the device does that.
package mqtt

import (
	"context"
	"errors"
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
	// maxAtOnce is how many joins are in the handler at a time. Most of them wait
	// for the disk: the more there are, the more share one commit.
	maxAtOnce = 1024
	// maxWaiting is how many more wait for their turn. At a few thousand joins a
	// second that is as long as a join can wait and still be answered.
	maxWaiting = 16 << 10
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

	Handler    Handler
	Outbox     Outbox       // nil: no join events
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
	courier     *courier // nil: no outbox
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
	e.client = client
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
	e.workers = &workers{limit: maxAtOnce, room: maxWaiting, guard: e.guard}
	e.presence = newPresence(c.Gateways, gatewaysRemembered)
	e.reporter = newReporter(broker, c.Now, e.metrics, c.Logger, e.alarm)
	e.transmitter = &transmitter{
		broker: broker, now: c.Now, lead: c.SendLead, metrics: e.metrics, log: c.Logger, alarm: e.alarm,
		handOn: e.workers.goOn, flights: newFlights(uint16(rand.Uint32())),
		ids: c.IDs, ctx: ctx,
	}
	e.pipeline = &pipeline{
		handler: c.Handler, now: c.Now, workers: e.workers, transmitter: e.transmitter, reporter: e.reporter,
		metrics: e.metrics, alarm: e.alarm, shared: c.Copies, ctx: ctx, collector: newCollector(c.CollectWindow, maxFrames),
	}
	if c.Outbox != nil {
		e.courier = &courier{outbox: c.Outbox, broker: broker, metrics: e.metrics, log: c.Logger, pause: pause}
	}
	return e, e.metrics.register(c.Registerer, e.pipeline.open, e.transmitter.open)
}

// maxCollectWindow leaves RX1 in reach.
const maxCollectWindow = 4 * time.Second

// Run connects and serves until ctx is done. Losing the broker does not end it:
// it connects again. Joins under way are dropped, unless Drain came before; the
// handler is not called any more once Run has returned.
func (e *Edge) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	tasks.Go(func() { e.alarm.keep(ctx, e.now, e.tick) })
	tasks.Go(func() { e.reporter.run(ctx) })
	if e.courier != nil {
		tasks.Go(func() { e.courier.run(ctx) })
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

// receive handles one message of the broker. It may be called concurrently and
// never blocks.
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
		err = e.onAck(payload, retained)
	case eventStats:
		err = e.onStats(payload, retained)
	case stateConn:
		err = e.onConn(payload)
	}
	if err != nil {
		e.metrics.garbage.WithLabelValues(kind.String()).Inc()
	}
	return err
}

// onUplink takes a join-request in and counts everything else. A retained uplink
// is of a time that nobody can tell, so it cannot be answered.
func (e *Edge) onUplink(prefix string, topic joinserver.EUI64, payload []byte, retained bool) error {
	now := e.now()
	up, err := decodeUplink(payload)
	kind := kindOfUplink(up, retained, err)
	e.metrics.uplinks.WithLabelValues(kind).Inc()
	if err != nil || retained {
		return err
	}
	e.presence.seen(up.Reception.Gateway, now)
	if kind == uplinkJoin {
		up.Reception.Received = now
		e.pipeline.take(uplinkCopy{uplink: up, prefix: prefix, topic: topic, payload: payload})
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
	case !joinserver.IsJoinRequest(up.PHYPayload):
		return uplinkOther
	}
	return uplinkJoin
}

func (e *Edge) onAck(payload []byte, retained bool) error {
	a, err := decodeAck(payload)
	if err == nil && !retained {
		e.transmitter.acknowledged(a)
	}
	return err
}

func (e *Edge) onStats(payload []byte, retained bool) error {
	s, err := decodeStats(payload)
	if err == nil && !retained {
		e.presence.seen(s.Gateway, e.now())
	}
	return err
}

// onConn reads what bridges retain on purpose.
func (e *Edge) onConn(payload []byte) error {
	c, err := decodeConn(payload)
	if err == nil {
		e.presence.online(c.Gateway, c.Online, e.now())
	}
	return err
}
