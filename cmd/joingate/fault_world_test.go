package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"joingate/keyring"
	"joingate/linkwan"
	"joingate/sim"
	"joingate/soak/history"
	"joingate/soak/load"
	"joingate/soak/proxy"
	"joingate/soak/servers"
)

// theatre is several instances on real servers, which a test disturbs while devices
// join and an administrator changes what they join by. What everybody saw is held
// against the promises in the end.
type theatre struct {
	machine
	postgres  *servers.Postgres
	redis     *servers.Redis // nil: the playbill names another
	mosquitto *servers.Mosquitto
	instances []*instance

	text     bytes.Buffer // the history
	history  *history.Writer
	fleet    *load.Fleet
	listener *load.Listener
	admin    *load.Administrator
	calm     func() // ends joins and changes
}

// instance is a daemon with a network that can be disturbed.
type instance struct {
	*daemon
	record, cache, broker *proxy.Proxy
}

// playbill says what a theatre needs beyond the usual.
type playbill struct {
	instances int
	devices   int
	redisURL  string         // in place of a server of its own behind proxies
	before    func(*theatre) // runs on an empty record, before the first instance
}

// newTheatre starts servers and instances, and lets devices join and the administrator
// hammer on the first instance.
func newTheatre(t *testing.T, p playbill) *theatre {
	t.Helper()
	th := &theatre{machine: newMachine(t, "JOINGATE_MQTT__SHARE_GROUP=joingate", "JOINGATE_LOG__LEVEL=warn")}
	th.history = history.NewWriter(&th.text)
	th.startServers(p)
	if p.before != nil {
		p.before(th)
	}
	for range p.instances {
		th.start(p.redisURL)
	}
	check(t, load.Watch(th.postgres))
	th.provision(p.devices)
	th.begin()
	return th
}

// installed skips the test without the program that it needs.
func installed(t testing.TB, err error) {
	t.Helper()
	var missing servers.NotInstalled
	if errors.As(err, &missing) {
		t.Skip(missing)
	}
	check(t, err)
}

func (th *theatre) startServers(p playbill) {
	th.t.Helper()
	folder, err := os.MkdirTemp("", "joingate-fault") // PostgreSQL, which is not root, does not get into a test's own
	check(th.t, err)
	th.t.Cleanup(func() { _ = os.RemoveAll(folder) })
	check(th.t, os.Chmod(folder, 0o755))
	database := filepath.Join(folder, "postgres")
	check(th.t, os.Mkdir(database, 0o755))
	th.postgres, err = servers.NewPostgres(database, "fsync=off", "shared_buffers=32MB")
	installed(th.t, err)
	th.t.Cleanup(th.postgres.Kill)
	th.mosquitto, err = servers.NewMosquitto(folder)
	installed(th.t, err)
	check(th.t, th.mosquitto.Start())
	th.t.Cleanup(th.mosquitto.Kill)
	if p.redisURL == "" {
		th.redis, err = servers.NewRedis(folder)
		installed(th.t, err)
		check(th.t, th.redis.Start())
		th.t.Cleanup(th.redis.Kill)
	}
}

// network gives the variables with which an instance finds the servers, each through
// a proxy of its own.
func (th *theatre) network(redisURL string) (i *instance, variables []string) {
	th.t.Helper()
	i = &instance{record: th.proxy(th.postgres.Address()), broker: th.proxy(th.mosquitto.Address())}
	if redisURL == "" {
		i.cache = th.proxy(th.redis.Address())
		redisURL = "redis://" + i.cache.Address()
	}
	return i, []string{
		"JOINGATE_RECORD__URL=" + th.postgres.URLAt(i.record.Address()), "JOINGATE_CACHE__URL=" + redisURL,
		"JOINGATE_MQTT__URL=mqtt://" + i.broker.Address(),
	}
}

// start starts one more instance.
func (th *theatre) start(redisURL string) *instance {
	th.t.Helper()
	i, variables := th.network(redisURL)
	i.daemon = th.with(variables...).serve()
	th.instances = append(th.instances, i)
	return i
}

func (th *theatre) proxy(to string) *proxy.Proxy {
	th.t.Helper()
	p, err := proxy.Open(to)
	check(th.t, err)
	th.t.Cleanup(func() { check(th.t, p.Close()) })
	return p
}

// provision makes an account with a permission, its devices and gateways, and
// switches them on.
func (th *theatre) provision(devices int) {
	th.t.Helper()
	c := th.instances[0].account("acme")
	begin := time.Now()
	permission := c.permission("hammered", "101", "RxDelay=1", "DataRate=0")
	c.group("meters", permission)
	gateways := []sim.EUI{gatewayA, gatewayB, gatewayC}
	c.gateways("101", gateways...)
	members := load.Members(0xd896e0ffff000000, devices, permission)
	c.run("node", "import", c.write("nodes.csv", load.NodeFile("meters", members)), "--account", c.name)

	th.admin = &load.Administrator{
		Client:     linkwan.Client{Endpoint: c.api, AccessKeyID: c.AccessKeyID, Secret: keyring.NewSecret(c.AccessKeySecret)},
		Permission: permission, History: th.history,
	}
	th.admin.Made(begin, 1, 0)
	ctx, cancel := context.WithTimeout(th.t.Context(), patience)
	defer cancel()
	var err error
	// A device that waits for less than its windows asks more often. What is
	// answered later is of no use to it, and on record all the same.
	th.fleet, err = load.NewFleet(ctx, load.FleetConfig{
		Broker: th.mosquitto.Address(), Gateways: gateways, Copies: 2, Members: members, Patience: time.Second, History: th.history,
	})
	check(th.t, err)
	th.t.Cleanup(th.fleet.Close)
	th.listener, err = load.Listen(th.mosquitto.Address(), th.fleet, th.history)
	check(th.t, err)
	th.t.Cleanup(th.listener.Close)
}

// begin lets devices join and the administrator hammer.
func (th *theatre) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { th.fleet.JoinForEver(ctx, 100*time.Millisecond, th.fleet.EUIs()) })
	all.Go(func() { th.admin.Hammer(ctx) })
	th.calm = sync.OnceFunc(func() {
		cancel()
		all.Wait()
	})
	th.t.Cleanup(th.calm)
}

// goesOn waits until, from now on, so many joins were accepted and so many changes
// answered.
func (th *theatre) goesOn(what string, joins, changes int) {
	th.t.Helper()
	began := time.Now()
	accepted, calls := th.fleet.Accepted.Load()+int64(joins), th.admin.Calls()+changes
	eventually(th.t, "joins and changes go on: "+what, func() bool { return th.fleet.Accepted.Load() >= accepted && th.admin.Calls() >= calls })
	th.t.Logf("%s: %d joins and %d changes after %s", what, joins, changes, time.Since(began).Round(10*time.Millisecond))
}

// everyoneJoins ends the changes and waits until each device has joined once more.
// Devices that are not answered ask again.
func (th *theatre) everyoneJoins(what string) {
	th.t.Helper()
	th.calm()
	began := time.Now()
	var all sync.WaitGroup
	for _, eui := range th.fleet.EUIs() {
		all.Go(func() {
			for deadline := time.Now().Add(patience); !th.fleet.Join(th.t.Context(), eui).Joined; {
				if time.Now().After(deadline) {
					th.t.Errorf("%s has not joined again after %s", eui, what)
					return
				}
			}
		})
	}
	all.Wait()
	th.t.Logf("%s: all %d devices have joined again after %s", what, len(th.fleet.EUIs()), time.Since(began).Round(10*time.Millisecond))
}

// verdict lets everything come to its end and checks the history, in which there
// must be something to check.
func (th *theatre) verdict() {
	th.t.Helper()
	th.calm()
	journal, err := load.Collect(th.postgres, th.listener, patience)
	check(th.t, err)
	for _, l := range journal {
		th.history.Write(l)
	}
	check(th.t, th.history.Flush())
	lines, err := history.Read(&th.text)
	check(th.t, err)
	violations, counts := history.Check(lines)
	for _, v := range violations {
		th.t.Error(v)
	}
	th.t.Log(counts)
	if counts.Accepts == 0 || counts.Events == 0 || counts.Sessions == 0 || counts.Calls-counts.Unknown < 10 {
		th.t.Error("the history proves nothing")
	}
}
