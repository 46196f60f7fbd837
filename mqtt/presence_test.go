package mqtt

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"joingate/joinserver"
)

func TestPresenceTellsNewsOnly(t *testing.T) {
	g := new(gatewayLog)
	p := newPresence(g, 2)
	p.seen(gatewayA, at(0))
	p.seen(gatewayA, at(29_999))
	p.seen(gatewayA, at(30_000))
	p.online(gatewayA, false, at(30_001))
	p.online(gatewayA, true, at(30_002))
	p.online(gatewayA, true, at(30_003))
	p.seen(gatewayB, at(30_004))
	p.seen(gatewayC, at(30_005)) // the memory is full: the one silent for longest is forgotten
	p.seen(gatewayB, at(30_006))
	p.seen(gatewayA, at(30_007))
	want := []string{"seen A 0s", "seen A 30s", "online A false", "online A true", "seen B 30.004s", "seen C 30.005s", "seen A 30.007s"}
	if got := g.list(); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	newPresence(nil, 1).seen(gatewayA, at(0))
}

func TestGatewayCounts(t *testing.T) {
	b := newBench(t)
	for i := range 3 {
		b.overhear(t, copyOf(joinRequest(i), gatewayA, 7, start))
		b.overhear(t, copyOf(joinRequest(i), gatewayB, 3, start))
	}
	data := copyOf([]byte{0x40, 1, 2, 3, 4, 0, 0, 0, 1, 2, 3, 4}, gatewayB, 3, start)
	b.overhear(t, data)
	b.overhear(t, copyOf(joinRequest(1)[:20], gatewayC, 3, start))
	b.pass(t, time.Second)
	b.refuse(t)
	b.transmitter.acknowledged(ack{Gateway: gatewayB, ID: commandSent(t, b.broker.messages()[3]).ID, Items: []txStatus{txOK, 77}, Encoding: v4Protobuf})
	want := map[joinserver.EUI64]GatewayCounts{
		gatewayA: {Uplinks: 3, Requests: 3, Commands: 3, Acks: map[string]int64{"TOO_LATE": 1, "COLLISION_PACKET": 1}, LastSeen: start},
		gatewayB: {Uplinks: 4, Requests: 3, Commands: 1, Acks: map[string]int64{"OK": 1, "UNKNOWN": 1}, LastSeen: start},
		gatewayC: {Uplinks: 1, Requests: 1, Refused: 1, Acks: map[string]int64{}, LastSeen: start},
	}
	for gateway, want := range want {
		if got := b.GatewayCounts(gateway); !reflect.DeepEqual(got, want) {
			t.Errorf("gateway %s: %+v, want %+v", nameOf(gateway), got, want)
		}
	}
	if got := b.GatewayCounts(joinserver.EUI64{1}); got.Uplinks != 0 {
		t.Errorf("a gateway that was never heard: %+v", got)
	}
}

// Whoever invents gateways costs others their counts at most, and never a row.
func TestMetricsOfGatewaysAreBounded(t *testing.T) {
	p := newPresence(nil, 5000)
	for i := range 100_000 {
		gateway := joinserver.EUI64{byte(i >> 16), byte(i >> 8), byte(i)}
		p.heard(gateway, true, start)
		if i < 2*gatewaysNamed {
			p.commanded(gateway)
			p.heard(gateway, false, start)
		}
	}
	rows, other := p.rows()
	sum := other
	for _, row := range rows {
		sum.add(row.counts, 1)
	}
	if len(rows) != gatewaysNamed || len(p.known) > 5000+gatewaysNamed {
		t.Errorf("%d rows, %d gateways known", len(rows), len(p.known))
	}
	if sum.uplinks != 102_000 || sum.commands != 2000 || rows[0].counts.uplinks != 1 || other.uplinks != 101_000 {
		t.Errorf("rows and others have %+v together, others %+v", sum, other)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(newGatewayMetrics(p))
	if n, err := testutil.GatherAndCount(registry, "joingate_gateway_uplinks_total"); err != nil || n != gatewaysNamed+1 {
		t.Errorf("%d rows: %v", n, err)
	}
}

// gatewayLog is a GatewayState that writes down what it is told.
type gatewayLog struct {
	mu    sync.Mutex
	lines []string
}

func (g *gatewayLog) GatewaySeen(gateway joinserver.EUI64, when time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = append(g.lines, fmt.Sprintf("seen %s %s", nameOf(gateway), when.Sub(start)))
}

func (g *gatewayLog) GatewayOnline(gateway joinserver.EUI64, online bool, _ time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = append(g.lines, fmt.Sprintf("online %s %t", nameOf(gateway), online))
}

func (g *gatewayLog) list() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.lines)
}

func nameOf(gateway joinserver.EUI64) string {
	return map[joinserver.EUI64]string{gatewayA: "A", gatewayB: "B", gatewayC: "C"}[gateway]
}
