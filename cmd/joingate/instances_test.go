package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"joingate/sim"
	"joingate/soak/servers"

	"golang.org/x/sync/errgroup"
)

// startPostgres starts a server of the test's own and gives the URL of an empty
// database.
func (m machine) startPostgres() string {
	m.t.Helper()
	folder, err := os.MkdirTemp("", "joingate-postgres") // PostgreSQL's user cannot enter the test's
	check(m.t, err)
	m.t.Cleanup(func() { _ = os.RemoveAll(folder) })
	p, err := servers.NewPostgres(folder)
	installed(m.t, err)
	m.t.Cleanup(p.Kill)
	return p.URLAt(p.Address())
}

// Three instances behind one broker, on PostgreSQL and Redis: one join for a frame
// whose copies land on all of them, and no join by the older rule after a call to
// any of them has answered success, whatever becomes of Redis meanwhile.
func TestThreeInstances(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"mosquitto", "redis-server"} {
		if _, err := exec.LookPath(server); err != nil {
			t.Skip(server + " is not installed: apt-get install " + server)
		}
	}
	m := newMachine(t)
	database := m.startPostgres()
	broker, redis := freeAddress(t), freeAddress(t)
	m.startMosquitto(broker)
	kill := m.startRedis(redis)
	m = m.with("JOINGATE_RECORD__URL="+database, "JOINGATE_CACHE__URL=redis://"+redis, "JOINGATE_MQTT__URL=mqtt://"+broker,
		"JOINGATE_MQTT__SHARE_GROUP=joingate", "JOINGATE_JOIN__COLLECT_WINDOW=300ms")
	instances := []*daemon{m.serve(), m.serve(), m.serve()}
	c, permission := instances[0].site(gatewayA, gatewayB, gatewayC)
	devices := slices.Concat(newDevices(1, 10, "1.0.4"), newDevices(11, 10, "1.1"))
	c.register("meters", devices...)
	f := instances[0].field(gatewayA, gatewayB, gatewayC)
	f.air = f.airOf(sim.Scatter{Copies: 3, SNR: 8}.Over([]*sim.Gateway{f.gateways[gatewayA], f.gateways[gatewayB], f.gateways[gatewayC]}),
		f.gateways[gatewayA], f.gateways[gatewayB], f.gateways[gatewayC])
	nodes := switchAllOn(t, devices)

	disturb := map[int]func(){
		3: func() { ask(redis, "FLUSHALL\r\n") },
		4: kill,
		6: func() { m.startRedis(redis) },
	}
	for rxDelay := 2; rxDelay <= 7; rxDelay++ {
		if do := disturb[rxDelay]; do != nil {
			do()
		}
		c.daemon = instances[rxDelay%len(instances)]
		c.update(permission, fmt.Sprintf("RxDelay=%d", rxDelay))
		joinAllBy(t, f, nodes, rxDelay)
	}
	if n := f.air.Counts().Surplus.Load(); n != 0 {
		t.Errorf("%d frames were answered twice", n)
	}
	joins := 0.0
	for _, d := range instances {
		joins += d.metrics()[`joingate_joins_total{result="accepted"}`]
	}
	if want := float64(6 * len(nodes)); joins != want {
		t.Errorf("the instances accepted %v joins, the devices made %v", joins, want)
	}
}

// joinAllBy lets all devices join at once, each by the rule with this RxDelay.
func joinAllBy(t *testing.T, f *field, nodes []*sim.Device, rxDelay int) {
	t.Helper()
	var all errgroup.Group
	for _, node := range nodes {
		all.Go(func() error {
			r, err := f.air.Join(t.Context(), node)
			if err != nil {
				return err
			}
			if !r.Joined || r.RxDelay != rxDelay {
				return fmt.Errorf("%s: joined %t with RxDelay %d, want %d: %s", node, r.Joined, r.RxDelay, rxDelay, r.Reason)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}
