package main

import (
	"flag"
	"os"
	"runtime"
	"testing"
	"time"

	"joingate/band"
	"joingate/config"
	"joingate/sim"

	"go.uber.org/zap"
)

var leakJoins = flag.Int("leak-joins", 1500, "how many joins TestNoLeak lets a server answer")

const (
	// mostInRound is how many joins come at once at most, and how many gateways there
	// are then: so many that airtime and duty cycle leave room for a million joins.
	mostInRound = 4000
	// leakSlack is how much larger the heap may be in the end, in octets: what is
	// bounded fills up to its bound.
	leakSlack = 16 << 20
	// ledgerStep is the grain in which a ledger keeps what its gateway has sent, and
	// ledgerOctets what it may take for one: 16 octets in each of two sub-bands, and
	// as much in reserve.
	ledgerStep   = 10 * time.Second
	ledgerOctets = 2 * 2 * 16
)

// A server holds nothing of a join once it is over: neither a goroutine nor memory
// nor an open file, however many joins it has answered or refused. Only the airtime
// that gateways have used stays, for the hour that duty cycles go by.
//
//	go test ./cmd/joingate -run TestNoLeak -v -timeout 2h -leak-joins 1000000
func TestNoLeak(t *testing.T) {
	for _, airtime := range []string{"off", "plan"} {
		t.Run(airtime, func(t *testing.T) { holdsNothing(t, airtime) })
	}
}

func holdsNothing(t *testing.T, airtime string) {
	c := config.Default()
	c.DataDir = t.TempDir()
	c.Join.Airtime = airtime
	c.MQTT.EmbeddedListen, c.API.Listen, c.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	s, err := startServer(t.Context(), c, zap.NewNop())
	check(t, err)
	t.Cleanup(func() { check(t, s.close()) })
	l := newLeakLoad(t, s, c)
	l.round() // fills what is kept for good
	before, start := holdings(t), time.Now()
	for shown := 0; l.joins < *leakJoins; {
		l.round()
		if l.joins-shown >= *leakJoins/10 {
			shown = l.joins
			t.Logf("%d joins, %d answered", l.joins, l.answered)
		}
	}
	var after held
	defer func() {
		t.Logf("%d joins, of which %d were answered, and %d forged requests", l.joins, l.answered, l.forged)
		t.Logf("before: %+v", before)
		t.Logf("after:  %+v", after)
	}()
	limit := before
	limit.heap += leakSlack
	if airtime == "plan" {
		limit.heap += ledgers(len(l.options.Gateways), time.Since(start))
	}
	eventually(t, "what the joins took is given back", func() bool {
		after = holdings(t)
		return after.within(limit)
	})
	if l.answered < l.joins/10 || l.forged == 0 { // a busy machine refuses most of a burst
		t.Errorf("%d of %d joins were answered, beside %d forged requests: this proves little", l.answered, l.joins, l.forged)
	}
}

// held is what a process holds.
type held struct {
	goroutines, files int
	heap              uint64 // octets that are live
}

// holdings looks after garbage was collected, twice for what has finalizers.
func holdings(t testing.TB) held {
	t.Helper()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Logf("open files are not counted: %v", err)
	}
	return held{runtime.NumGoroutine(), len(files), m.HeapAlloc}
}

func (h held) within(limit held) bool {
	return h.goroutines <= limit.goroutines && h.files <= limit.files && h.heap <= limit.heap
}

// ledgers is what those of so many gateways may take after a time, in octets.
func ledgers(gateways int, after time.Duration) uint64 {
	steps := min(after, band.DutyWindow)/ledgerStep + 1
	return ledgerOctets * uint64(gateways) * uint64(steps)
}

// leakLoad brings joins to a server, some of them forged.
type leakLoad struct {
	t       testing.TB
	server  *server
	options sim.LoadOptions

	joins, answered, forged int
}

func newLeakLoad(t testing.TB, s *server, c config.Config) *leakLoad {
	t.Helper()
	size := min(*leakJoins/5, mostInRound)
	b := bench{
		program: &program{stderr: t.Output()}, region: "EU868", macVersion: "1.0.3", gateways: size,
		load: sim.LoadOptions{
			Broker: sim.BrokerConfig{URL: s.brokerURL}, Gateways: sim.GatewayEUIs(sim.DefaultFirstGateway, size),
			Burst: size, Copies: 3, DataRate: 5, Connections: 2, ForgedRate: 400, Duration: 100 * time.Millisecond,
		},
	}
	var err error
	b.load.Devices, err = b.register(t.Context(), c)
	check(t, err)
	l := &leakLoad{t: t, server: s, options: b.load}
	forged := int(b.load.ForgedRate * b.load.Duration.Seconds())
	l.options.Settled = func() bool { return l.decided() >= l.joins+l.forged+size+forged }
	return l
}

// round lets each device join once, over connections of its own, and returns when the
// broker has done with them.
func (l *leakLoad) round() {
	l.t.Helper()
	before := runtime.NumGoroutine()
	report, err := sim.Load(l.t.Context(), l.options)
	check(l.t, err)
	eventually(l.t, "the connections of the round are gone", func() bool { return runtime.NumGoroutine() <= before })
	l.joins, l.answered, l.forged = l.joins+int(report.Joins), l.answered+int(report.Answered), l.forged+int(report.Forged)
}

// decided is of how many join-requests the server knows what became of them.
func (l *leakLoad) decided() int {
	n := 0.0
	for _, result := range []string{"accepted", "refused", "failed"} {
		n += counter(l.t, l.server.registry, "joingate_joins_total", result)
	}
	return int(n)
}
