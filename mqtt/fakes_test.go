package mqtt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"joingate/band"
	"joingate/joinserver"
)

// start is when tests begin.
var start = time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)

// clock is a clock that stands until it is put forward.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: start} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
	return c.at
}

func (c *clock) setTo(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

// published is one message that a fakeBroker was given.
type published struct {
	topic   string
	qos     byte
	payload []byte
}

// fakeBroker remembers what is published. Before it takes a message it asks
// answer, if there is one, for the receipt's error.
type fakeBroker struct {
	answer func(published) error
	away   atomic.Bool // for who asks

	mu   sync.Mutex
	sent []published
}

func (b *fakeBroker) publish(topic string, qos byte, payload []byte) receipt {
	message := published{topic, qos, payload}
	if b.answer != nil {
		if err := b.answer(message); err != nil {
			return fakeReceipt{err}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent = append(b.sent, message)
	return fakeReceipt{}
}

func (b *fakeBroker) ready() error {
	if b.away.Load() {
		return errNotConnected
	}
	return nil
}

func (b *fakeBroker) messages() []published {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]published(nil), b.sent...)
}

type fakeReceipt struct{ err error }

func (r fakeReceipt) WaitTimeout(time.Duration) bool { return !errors.Is(r.err, errNoReceipt) }
func (r fakeReceipt) Error() error                   { return r.err }

// fakeHandler answers by its functions and counts the calls.
type fakeHandler struct {
	prepare func(phyPayload []byte) error
	answer  func(request joinserver.JoinRequest, copies []joinserver.Reception) (joinserver.Downlink, error)

	mu       sync.Mutex
	prepared int
	answered [][]joinserver.Reception
}

func (h *fakeHandler) Prepare(_ context.Context, phyPayload []byte) (joinserver.Attempt, error) {
	h.mu.Lock()
	h.prepared++
	h.mu.Unlock()
	request, _, err := joinserver.ParseRequest(phyPayload)
	if err == nil && h.prepare != nil {
		err = h.prepare(phyPayload)
	}
	return joinserver.Attempt{Request: request}, err
}

func (h *fakeHandler) Answer(_ context.Context, a joinserver.Attempt, copies []joinserver.Reception) (joinserver.Downlink, error) {
	h.mu.Lock()
	h.answered = append(h.answered, copies)
	h.mu.Unlock()
	if h.answer != nil {
		return h.answer(a.Request, copies)
	}
	return acceptThroughAll(a.Request, copies)
}

func (h *fakeHandler) calls() (prepared int, answered [][]joinserver.Reception) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.prepared, append([][]joinserver.Reception(nil), h.answered...)
}

// The windows of the captured CN470 commands.
var (
	testRX1 = band.Window{Delay: 5 * time.Second, Frequency: 500_300_000, DataRate: 2, Modulation: sf10, Power: 17}
	testRX2 = band.Window{Delay: 6 * time.Second, Frequency: 505_300_000, DataRate: 0, Modulation: band.Modulation{SpreadingFactor: 12, Bandwidth: 125_000}, Power: 19}
	sf10    = band.Modulation{SpreadingFactor: 10, Bandwidth: 125_000}
)

// acceptThroughAll accepts every join, through all gateways in the order of
// their SNR, as the join handler would.
func acceptThroughAll(request joinserver.JoinRequest, copies []joinserver.Reception) (joinserver.Downlink, error) {
	best := 0
	for i, c := range copies {
		if c.SNR > copies[best].SNR {
			best = i
		}
	}
	routes := []joinserver.Route{{Reception: best, Gateway: copies[best].Gateway, RX1: testRX1, RX2: testRX2}}
	seen := map[joinserver.EUI64]bool{copies[best].Gateway: true}
	for i, c := range copies {
		if !seen[c.Gateway] && c.Frequency == copies[best].Frequency {
			seen[c.Gateway] = true
			routes = append(routes, joinserver.Route{Reception: i, Gateway: c.Gateway, RX1: testRX1, RX2: testRX2})
		}
	}
	return joinserver.Downlink{
		PHYPayload: testAccept(request),
		Routes:     routes,
		Claim:      joinserver.Claim{Request: request, Receptions: copies, RxDelay: time.Second},
		Grant:      joinserver.Grant{JoinNonce: 1, DevAddr: joinserver.DevAddr{0x26, 1, 2, 3}},
	}, nil
}

// testAccept is the frame that a request is accepted with: it tells whose it is.
func testAccept(request joinserver.JoinRequest) []byte {
	phy := append([]byte{0x20, byte(request.DevNonce), byte(request.DevNonce >> 8)}, request.DevEUI[:]...)
	return append(phy, make([]byte, 6)...)
}

var (
	gatewayA = joinserver.EUI64{0, 0x16, 0xc0, 1, 0xf1, 0x50, 0x0a, 1}
	gatewayB = joinserver.EUI64{0, 0x16, 0xc0, 1, 0xf1, 0x50, 0x0b, 2}
	gatewayC = joinserver.EUI64{0, 0x16, 0xc0, 1, 0xf1, 0x50, 0x0c, 3}
)

// joinRequest is a well-formed frame for each number.
func joinRequest(n int) []byte {
	phy := make([]byte, 23)
	phy[17], phy[18] = byte(n), byte(n>>8) // DevNonce
	phy[9], phy[10] = byte(n>>16), 0x70    // DevEUI
	return phy
}

// copyOf is the copy that a gateway heard at a time.
func copyOf(phyPayload []byte, gateway joinserver.EUI64, snr float32, at time.Time) uplinkCopy {
	return uplinkCopy{
		topic: gateway,
		uplink: uplink{
			PHYPayload: phyPayload,
			Context:    []byte{gateway[7], 2, 3, 4},
			Encoding:   v4Protobuf,
			CRC:        crcOK,
			Reception:  joinserver.Reception{Gateway: gateway, Received: at, Frequency: 470_300_000, Modulation: sf10, SNR: snr, RSSI: -100},
		},
	}
}

// bench is an edge without a broker's connection: its parts around a fake
// broker, a scripted handler and a clock that stands still. Jobs run on
// goroutines of their own; settle awaits them.
type testBench struct {
	*Edge
	clock   *clock
	broker  *fakeBroker
	handler *fakeHandler
	logs    *observer.ObservedLogs
}

func newBench(t testing.TB, change ...func(*Config)) *testBench {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	b := &testBench{clock: newClock(), broker: new(fakeBroker), handler: new(fakeHandler), logs: logs}
	config := Config{
		Handler:       b.handler,
		CollectWindow: 200 * time.Millisecond,
		Registerer:    prometheus.NewRegistry(),
		Logger:        zap.New(core),
		Now:           b.clock.now,
	}
	for _, c := range change {
		c(&config)
	}
	edge, err := newEdge(config, b.broker)
	if err != nil {
		t.Fatal(err)
	}
	b.Edge = edge
	t.Cleanup(func() {
		edge.cancel()
		edge.workers.stop()
	})
	return b
}

// settle waits until no job runs or waits.
func (b *testBench) settle(t testing.TB) {
	t.Helper()
	eventually(t, "the workers to rest", b.workers.idle)
}

// pass puts the clock forward and lets all deadlines in between have their say.
func (b *testBench) pass(t testing.TB, d time.Duration) {
	t.Helper()
	b.settle(t)
	until := b.clock.now().Add(d)
	for next, ok := b.tick(b.clock.now()); ok && !next.After(until); next, ok = b.tick(next) {
		b.clock.setTo(next)
		b.settle(t)
	}
	b.clock.setTo(until)
	b.tick(until)
	b.settle(t)
}

func countOf(c prometheus.Collector) float64 { return testutil.ToFloat64(c) }

// wantCount checks a counter.
func wantCount(t testing.TB, name string, c prometheus.Collector, want float64) {
	t.Helper()
	if got := testutil.ToFloat64(c); got != want {
		t.Errorf("%s = %v, want %v", name, got, want)
	}
}

// wantJoins checks how joins ended: result and reason.
func (b *testBench) wantJoins(t testing.TB, result, reason string, want float64) {
	t.Helper()
	wantCount(t, fmt.Sprintf("joins{%s,%s}", result, reason), joinCounter(b.metrics.joins, result, reason), want)
}

// eventually polls for something that other goroutines bring about. The limit is for
// tests that fail; it proves nothing.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func joinCounter(joins joinCounters, result, reason string) prometheus.Counter {
	if result == resultRefused {
		return joins.refused.WithLabelValues(reason)
	}
	return joins.decided.WithLabelValues(result)
}
