package mqtt

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

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
	p.seen(gatewayC, at(30_005)) // the memory is full: all is told again
	p.seen(gatewayA, at(30_006))
	want := []string{"seen A 0s", "seen A 30s", "online A false", "online A true", "seen B 30.004s", "seen C 30.005s", "seen A 30.006s"}
	if got := g.list(); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	newPresence(nil, 1).seen(gatewayA, at(0))
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
