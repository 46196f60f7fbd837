package main

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"time"

	"joingate/band"
	"joingate/cache"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/mqtt"
	"joingate/record"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// pastRX2 is longer than any join-request waits for its answer: RX2 is 6 s after it.
const pastRX2 = 7 * time.Second

// An instance stands still in the middle of joins until all their deadlines are over,
// and goes on as if nothing had been; another is killed and started again. What they
// held is in nobody's way, and what they thought they knew decides nothing.
func TestInstanceStandsStill(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, playbill{instances: 3, devices: 30})
	th.goesOn("nothing is wrong", 40, 6)

	still := th.instances[1]
	check(t, still.process.Signal(syscall.SIGSTOP))
	stopped := time.Now()
	for time.Since(stopped) < pastRX2 {
		th.goesOn("an instance stands still", 20, 3)
	}
	check(t, still.process.Signal(syscall.SIGCONT))
	th.ready()
	th.goesOn("it goes on", 40, 6)
	t.Logf("the instance that stood still refused %.0f joins as too late", still.joins("too_late"))

	th.instances[2].kill()
	th.goesOn("an instance was killed", 40, 6)
	th.start("")
	th.goesOn("another one takes its place", 40, 6)
	th.everyoneJoins("the faults of instances")
	th.verdict()
}

// Two instances whose clocks are 40 s off, one each way, beside one whose clock is
// right: joins are answered by all, and decided by no clock but the database's.
func TestClockOff(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, playbill{instances: 1, devices: 30})
	early, late := th.startAt(-40*time.Second), th.startAt(40*time.Second)
	th.goesOn("two clocks are wrong", 150, 20)
	th.everyoneJoins("clocks were wrong")
	for name, edge := range map[string]*prometheus.Registry{"40 s behind": early, "40 s ahead": late} {
		accepted := counter(t, edge, "joingate_joins_total", "accepted")
		t.Logf("the instance %s accepted %.0f joins", name, accepted)
		if accepted == 0 {
			t.Errorf("the instance %s has accepted no join", name)
		}
	}
	th.verdict()
}

// startAt starts what answers joins in an instance, in this process, with a clock that
// is so far off. It gives the metrics.
func (th *theatre) startAt(off time.Duration) *prometheus.Registry {
	th.t.Helper()
	now := func() time.Time { return time.Now().Add(off) }
	i, _ := th.network("")
	kek, err := keyring.LoadKEK(th.instances[0].keyFile, false)
	check(th.t, err)
	sealer, err := keyring.NewSealer(kek)
	check(th.t, err)
	r, err := record.Open(th.t.Context(), record.Options{PostgresURL: th.postgres.URLAt(i.record.Address()), KEK: kek, Now: now})
	check(th.t, err)
	th.t.Cleanup(func() { check(th.t, r.Close()) })
	shared, err := cache.Open(cache.Options{URL: "redis://" + i.cache.Address(), Sealer: sealer})
	check(th.t, err)
	th.t.Cleanup(func() { check(th.t, shared.Close()) })
	policies := shared.Policies(r)
	handler, err := joinserver.NewHandler(joinserver.Config{
		Policies: policies, Record: policies.Fresh(), Joins: r, Bands: band.Standard(), Now: now,
	})
	check(th.t, err)
	metrics := prometheus.NewRegistry()
	edge, err := mqtt.New(mqtt.Config{
		Broker: mqtt.BrokerConfig{URL: "mqtt://" + i.broker.Address()}, ShareGroup: "joingate", CollectWindow: 200 * time.Millisecond,
		Copies: shared.Copies(), IDs: shared.DownlinkIDs(), Handler: handler, Outbox: r, Registerer: metrics, Logger: zap.NewNop(), Now: now,
	})
	check(th.t, err)
	th.run(edge)
	return metrics
}

// run runs a gateway edge until the test ends.
func (th *theatre) run(edge *mqtt.Edge) {
	th.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := edge.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			th.t.Error(err)
		}
	})
	th.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	eventually(th.t, "the edge is ready", func() bool { return edge.Ready() == nil })
}

// counter reads a counter that has a label with this value.
func counter(t testing.TB, from *prometheus.Registry, name, label string) (value float64) {
	t.Helper()
	families, err := from.Gather()
	check(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if family.GetName() == name && l.GetValue() == label {
					value += m.GetCounter().GetValue()
				}
			}
		}
	}
	return value
}
