package main

import (
	"context"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
)

// startRedis starts a server at the address and waits until it answers.
func (m machine) startRedis(address string) (kill func()) {
	m.t.Helper()
	_, port, err := net.SplitHostPort(address)
	check(m.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, "redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", m.t.TempDir())
	check(m.t, c.Start())
	kill = func() {
		cancel()
		_ = c.Wait() // kill -9
	}
	m.t.Cleanup(kill)
	eventually(m.t, "Redis answers", func() bool { return strings.HasPrefix(ask(address, "PING\r\n"), "+PONG") })
	return kill
}

// ask sends a Redis command and gives the first line of the answer, "" for none.
func ask(address, command string) string {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return ""
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, command); err != nil {
		return ""
	}
	answer := make([]byte, 64)
	n, _ := conn.Read(answer)
	return string(answer[:n])
}

// Promise 3: FLUSHALL, a restart or the loss of Redis costs time, never a wrong
// answer. The rule changes each time, and the next join is by the new one.
func TestRedisIsACache(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed: apt-get install redis-server")
	}
	m := newMachine(t)
	address := freeAddress(t)
	kill := m.startRedis(address)
	d := m.with("JOINGATE_CACHE__URL=redis://" + address).serve()
	c, permission := d.site(gatewayA)
	meter := newDevice(1, "1.0.4")
	c.register("meters", meter)
	node, f := meter.switchOn(t), d.field(gatewayA)
	joins := func(rxDelay int) {
		t.Helper()
		if r := f.join(node); !r.Joined || r.RxDelay != rxDelay {
			t.Errorf("joined %t with RxDelay %d, want %d: %s", r.Joined, r.RxDelay, rxDelay, r.Reason)
		}
	}
	joins(1)
	joins(1)
	eventually(t, "a policy comes from Redis", func() bool { return d.metrics()[`joingate_cache_events_total{event="hit"}`] > 0 })

	c.update(permission, "RxDelay=2")
	joins(2)
	if answer := ask(address, "FLUSHALL\r\n"); !strings.HasPrefix(answer, "+OK") {
		t.Fatalf("FLUSHALL: %q", answer)
	}
	joins(2)

	kill()
	c.update(permission, "RxDelay=3")
	joins(3)
	c.enablePermission(permission, false)
	f.ask(gatewayA, node)
	eventually(t, "the refusal", func() bool { return d.joins("permission_disabled") == 1 })
	c.enablePermission(permission, true)
	joins(3)

	m.startRedis(address)
	eventually(t, "Redis is used again", func() bool { return d.metrics()["joingate_cache_up"] == 1 })
	c.update(permission, "RxDelay=4")
	joins(4)
}
