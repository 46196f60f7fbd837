package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// LoadOptions say what Load does. Broker, Gateways and Devices are needed, and
// one of Rate, Burst and Open.
type LoadOptions struct {
	Broker   BrokerConfig
	Prefix   string // before gateway/…, "" or as in BridgeConfig
	Gateways []EUI
	// Devices take turns; each try has the next DevNonce. They are of one region.
	Devices []*Device
	// DataRate of all join-requests; -1: as devices of the region choose.
	DataRate int

	// Rate is how many joins begin per second, for so long, whatever becomes of
	// them: an open loop. Burst begins so many joins at once instead. Open keeps so
	// many joins open for Duration, as fast as they are answered: a closed loop,
	// which finds the limit and says nothing about latency.
	Rate     float64
	Duration time.Duration
	Burst    int
	Open     int

	// Copies is how many gateways hear each frame. 0: one.
	Copies int
	// ForgedRate is how many forged requests per second come besides, one copy of
	// each: half with unknown DevEUIs, half with known ones and a wrong MIC.
	ForgedRate float64
	// Connections is how many MQTT connections the gateways share. 0: one.
	Connections int
	// NoAcks leaves out the event/ack that a bridge sends for each command.
	NoAcks bool
	// Echo has the load answer itself, with nothing in between but the broker.
	Echo bool

	// Settled is asked twice a second, once all is sent, whether there is nothing
	// left to wait for. Nil: RX2 of the last join is waited for, unless all are
	// answered.
	Settled func() bool
	// Progress is told once a second.
	Progress func(LoadProgress)
}

// LoadProgress is how far Load is.
type LoadProgress struct {
	Elapsed                time.Duration
	Sent, Answered, Forged int64
	P99                    time.Duration // of the answers since the last time
}

// LoadReport is what became of a load.
type LoadReport struct {
	Joins    int64 `json:"joins"`  // sent
	Copies   int64 `json:"copies"` // of them, sent
	Forged   int64 `json:"forged"` // forged requests sent
	Answered int64 `json:"answered"`
	// Of the answered ones: in which window the gateway could still send the answer
	// when the command arrived, or in none.
	RX1  int64 `json:"rx1"`
	RX2  int64 `json:"rx2"`
	Late int64 `json:"late"`

	Surplus        int64 `json:"surplus"`         // further commands for a join
	ForgedAnswered int64 `json:"forged_answered"` // commands for forged requests
	Strange        int64 `json:"strange"`         // commands for nothing that was sent

	// Refused counts the server's event/reject by reason: those of the forged
	// requests too, without those that no event told of when the load ended.
	Refused map[string]int64 `json:"refused_by_events"`

	// AnswersPerSecond counts from the first answer to the last.
	AnswersPerSecond float64 `json:"answers_per_second"`
	// PerGateway counts the answers through each gateway.
	PerGateway map[EUI]int64 `json:"per_gateway"`
	// Latency is from the moment when a join's copies should have been sent to the
	// arrival of the command; in a closed loop from when they were sent.
	Latency *Histogram `json:"-"`
	// Lag is how late the load itself was.
	Lag *Histogram `json:"-"`
}

// load is one run.
type load struct {
	LoadOptions
	region    *Region
	templates *loadTemplates
	frames    []loadFrame // join i sends frame i modulo their number
	joins     int
	forged    int
	index     map[EUI]int // of Gateways
	ackTopics []string
	senders   []*wire
	receiver  *wire
	echo      *echo // nil without Echo

	begin  time.Time
	sentAt []atomic.Uint32 // closed loop: microseconds after begin
	sent   atomic.Int64
	copies atomic.Int64
	fakes  atomic.Int64
	acks   []byte // only the reader's

	mu       sync.Mutex
	seen     []bool // by join: answered
	report   LoadReport
	recent   Histogram     // since the last progress
	first    time.Duration // when the first answer came
	last     time.Duration
	answered atomic.Int64
}

// forgedContext marks the contexts of forged requests.
const forgedContext = 1 << 31

// echoFrames is how many different frames an echo needs: nobody looks at them.
const echoFrames = 1024

// Load sends join-requests through gateways at a broker and counts what comes
// back. Everything that costs time is made before the clock starts. An error is
// a fault of the load, not of the server.
func Load(ctx context.Context, o LoadOptions) (LoadReport, error) {
	l, err := newLoad(o)
	if err != nil {
		return LoadReport{}, err
	}
	defer l.hangUp()
	if err := l.connect(ctx); err != nil {
		return LoadReport{}, err
	}
	return l.run(ctx)
}

func newLoad(o LoadOptions) (*load, error) {
	if o.Prefix != "" {
		o.Prefix = strings.TrimSuffix(o.Prefix, "/") + "/"
	}
	o.Copies, o.Connections = max(1, o.Copies), max(1, o.Connections)
	switch {
	case len(o.Devices) == 0 || len(o.Gateways) == 0:
		return nil, errors.New("load: no devices or no gateways")
	case o.Copies > len(o.Gateways):
		return nil, fmt.Errorf("load: %d copies of each frame want as many gateways, not %d", o.Copies, len(o.Gateways))
	case o.Burst <= 0 && (o.Rate <= 0 || o.Duration <= 0):
		return nil, errors.New("load: neither a burst nor a rate and a duration")
	}
	l := &load{LoadOptions: o, region: o.Devices[0].Region(), index: map[EUI]int{}, joins: o.Burst}
	if o.Burst <= 0 {
		l.joins = int(o.Rate * o.Duration.Seconds())
	}
	l.forged = int(o.ForgedRate * o.Duration.Seconds())
	if max(l.joins, l.forged) >= forgedContext {
		return nil, fmt.Errorf("load: %d joins are too many for one run", max(l.joins, l.forged))
	}
	for i, g := range o.Gateways {
		l.index[g] = i
		l.ackTopics = append(l.ackTopics, o.Prefix+"gateway/"+g.String()+"/event/ack")
	}
	l.seen, l.report.Latency = make([]bool, l.joins), new(Histogram)
	l.report.PerGateway, l.report.Lag, l.report.Refused = map[EUI]int64{}, new(Histogram), map[string]int64{}
	if o.Open > 0 {
		l.sentAt = make([]atomic.Uint32, l.joins)
	}
	var err error
	if l.templates, err = newLoadTemplates(l.region, o.Prefix, o.Gateways); err != nil {
		return nil, err
	}
	return l, l.prepare()
}

// prepare has the devices make all their join-requests. Each processor has its
// own devices, so that nonces stay in their order.
func (l *load) prepare() error {
	frames := l.joins
	if l.Echo {
		frames = min(frames, echoFrames)
	}
	l.frames = make([]loadFrame, frames)
	workers := min(runtime.GOMAXPROCS(0), len(l.Devices))
	errs := make([]error, workers)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() { errs[w] = l.prepareEach(w, workers) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (l *load) prepareEach(worker, workers int) error {
	draw := rand.New(rand.NewPCG(uint64(worker), 0))
	for i := range l.frames {
		at := i % len(l.Devices)
		if at%workers != worker {
			continue
		}
		up, err := l.request(l.Devices[at], draw)
		if err != nil {
			return fmt.Errorf("load: %w", err)
		}
		channel := l.templates.channel(l.region, up)
		if channel < 0 || len(up.PHYPayload) != joinRequestSize {
			return fmt.Errorf("load: %s is not of the region %s", l.Devices[at], l.region.Name)
		}
		l.frames[i] = loadFrame{[joinRequestSize]byte(up.PHYPayload), uint8(channel)}
	}
	return nil
}

// request makes a join-request at the data rate wanted.
func (l *load) request(d *Device, draw *rand.Rand) (Uplink, error) {
	if l.DataRate < 0 {
		return d.JoinRequest()
	}
	c := d.region.join[draw.IntN(d.region.first)]
	return d.JoinRequestOn(Channel{c.up, l.DataRate})
}

// connect opens all connections and says ONLINE for the gateways.
func (l *load) connect(ctx context.Context) error {
	id := fmt.Sprintf("load-%08x-", rand.Uint32())
	for i := range min(l.Connections, len(l.Gateways)) {
		w, err := dialWire(ctx, l.Broker, fmt.Sprintf("%s%d", id, i))
		if err != nil {
			return err
		}
		l.senders = append(l.senders, w)
		go func() { _ = w.read(func(_, _ []byte) {}, func() {}) }() // ends with the connection
	}
	var err error
	if l.receiver, err = dialWire(ctx, l.Broker, id+"down"); err != nil {
		return err
	}
	for _, filter := range []string{l.Prefix + "gateway/+/command/down", "joingate/+/node/+/event/reject"} {
		if err := l.receiver.subscribe(filter); err != nil {
			return err
		}
	}
	if l.Echo {
		if l.echo, err = startEcho(ctx, l, id+"echo"); err != nil {
			return err
		}
	}
	return l.announce(true)
}

// announce publishes the state of every gateway.
func (l *load) announce(online bool) error {
	if l.Echo {
		return nil
	}
	var packets []byte
	for _, g := range l.Gateways {
		payload, err := codecV4{}.conn(g, online)
		if err != nil {
			return fmt.Errorf("encode state/conn of gateway %s: %w", g, err)
		}
		packets = appendPublish(packets, packetRetained, l.Prefix+"gateway/"+g.String()+"/state/conn", payload)
	}
	return l.senders[0].write(packets)
}

func (l *load) hangUp() {
	if len(l.senders) > 0 {
		_ = l.announce(false) // the results are in
	}
	for _, w := range l.senders {
		w.close()
	}
	if l.receiver != nil {
		l.receiver.close()
	}
	if l.echo != nil {
		l.echo.stop()
	}
}

// run sends everything, waits for the answers and reports.
func (l *load) run(ctx context.Context) (LoadReport, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.begin = time.Now()
	received := make(chan struct{})
	go func() {
		defer close(received)
		err := l.receiver.read(l.message, l.flushAcks)
		cancel(fmt.Errorf("load: the broker has closed the connection: %w", err))
	}()
	stop := l.showProgress()
	err := l.sendAll(ctx)
	if err == nil {
		err = l.await(ctx)
	}
	stop()
	l.receiver.close()
	<-received
	return l.result(), err
}

// sendAll has every connection send what its gateways hear.
func (l *load) sendAll(ctx context.Context) error {
	errs := make([]error, len(l.senders))
	lags := make([]Histogram, len(l.senders))
	var all sync.WaitGroup
	for i, w := range l.senders {
		all.Go(func() {
			s := sender{load: l, wire: w, number: i, lag: &lags[i]}
			errs[i] = s.run(ctx)
		})
	}
	all.Wait()
	for i := range lags {
		l.report.Lag.Merge(&lags[i])
	}
	return errors.Join(errs...)
}

// due is when a join or forged request should be sent, after begin.
func due(i int, rate float64) time.Duration {
	return time.Duration(float64(i) / rate * float64(time.Second))
}

func (l *load) joinDue(i int) time.Duration {
	if l.Burst > 0 {
		return 0
	}
	return due(i, l.Rate)
}

// answerPatience is how long after a join its answer is awaited: past RX2, when
// no answer is of use.
const answerPatience = joinAcceptDelay2 + time.Second

// await returns when all joins are answered or none can be answered any more.
func (l *load) await(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var asked time.Time
	until := time.Now().Add(answerPatience)
	for l.answered.Load() < l.sent.Load() && time.Now().Before(until) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if l.Settled != nil && time.Since(asked) > time.Second/2 {
			if l.Settled() {
				return nil
			}
			asked = time.Now()
		}
	}
	return nil
}

func (l *load) showProgress() (stop func()) {
	if l.Progress == nil {
		return func() {}
	}
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				l.mu.Lock()
				p99 := l.recent.Quantile(0.99)
				l.recent = Histogram{}
				l.mu.Unlock()
				l.Progress(LoadProgress{time.Since(l.begin), l.sent.Load(), l.answered.Load(), l.fakes.Load(), p99})
			}
		}
	})
	return func() {
		close(quit)
		done.Wait()
	}
}

// result is taken when nothing writes any more.
func (l *load) result() LoadReport {
	r := l.report
	r.Joins, r.Copies, r.Forged, r.Answered = l.sent.Load(), l.copies.Load(), l.fakes.Load(), l.answered.Load()
	if l.last > l.first {
		r.AnswersPerSecond = float64(r.Answered-1) / (l.last - l.first).Seconds()
	}
	return r
}
