package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"joingate/keyring"
	"joingate/linkwan"
	"joingate/sim"
	"joingate/soak/history"
	"joingate/soak/load"
	"joingate/soak/proxy"
	"joingate/soak/servers"
)

// world is a Joingate of several instances, the servers that it needs, and those who
// use it.
type world struct {
	postgres  *servers.Postgres
	redis     *servers.Redis
	mosquitto *servers.Mosquitto
	instances []*instance
	gateways  *proxy.Proxy // between the gateways and the broker

	history  *history.Writer
	file     *os.File // of the history
	listener *load.Listener
	fleet    *load.Fleet
	steady   []sim.EUI // devices of a permission that nobody changes
	hammered []sim.EUI // devices of the administrator's permission
	admin    *load.Administrator
}

// size is how big a world is.
type size struct {
	instances        int
	steady, hammered int // devices
	gateways         int
	copies           int
	settings         []string // of PostgreSQL
	watched          bool     // the database keeps a journal
}

// newWorld starts everything and returns when devices can join. What it returns with
// an error can be closed.
func newWorld(ctx context.Context, o options, s size) (w *world, err error) {
	w = &world{}
	if w.file, err = os.Create(filepath.Join(o.folder, "history.jsonl")); err != nil {
		return w, err
	}
	w.history = history.NewWriter(w.file)
	if err := w.startServers(o.folder, s); err != nil {
		return w, err
	}
	if err := w.startInstances(o, s); err != nil {
		return w, err
	}
	if s.watched {
		if err := load.Watch(w.postgres); err != nil {
			return w, err
		}
	}
	return w, w.provision(ctx, s)
}

func (w *world) startServers(folder string, s size) (err error) {
	database := filepath.Join(folder, "postgres")
	if err := os.MkdirAll(database, 0o755); err != nil {
		return err
	}
	if w.postgres, err = servers.NewPostgres(database, s.settings...); err != nil {
		return err
	}
	if w.redis, err = servers.NewRedis(folder); err != nil {
		return err
	}
	if w.mosquitto, err = servers.NewMosquitto(folder); err != nil {
		return err
	}
	if w.gateways, err = proxy.Open(w.mosquitto.Address()); err != nil {
		return err
	}
	return errors.Join(w.redis.Start(), w.mosquitto.Start())
}

func (w *world) startInstances(o options, s size) error {
	n := network{postgres: w.postgres, redis: w.redis, broker: w.mosquitto.Address(), keyFile: filepath.Join(o.folder, "kek"), shareGroup: "joingate"}
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	if err := os.WriteFile(n.keyFile, []byte(hex.EncodeToString(key)+"\n"), 0o600); err != nil {
		return err
	}
	for number := 1; number <= s.instances; number++ {
		i, err := newInstance(number, o.program, o.folder, n)
		if err != nil {
			return err
		}
		if err := i.Start(); err != nil {
			return err
		}
		w.instances = append(w.instances, i)
	}
	return nil
}

// provision makes an account, two permissions with their devices, and gateways, and
// switches everything on.
func (w *world) provision(ctx context.Context, s size) error {
	i := w.instances[0]
	id, secret, err := i.account("soak")
	if err != nil {
		return err
	}
	client := linkwan.Client{
		Endpoint: "http://" + i.api.Address(), AccessKeyID: id, Secret: keyring.NewSecret(secret),
		HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, // each call is a connection through the proxy
	}
	begin := time.Now()
	steady, err1 := w.permission(ctx, client, "steady")
	hammered, err2 := w.permission(ctx, client, "hammered")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	w.admin = &load.Administrator{Client: client, Permission: hammered, History: w.history}
	w.admin.Made(begin, firstRxDelay, firstDataRate)
	members := [][]load.Member{load.Members(0xd896e0ffff000000, s.steady, steady), load.Members(0xd896e0ffff800000, s.hammered, hammered)}
	for n, group := range []string{"steady", "hammered"} {
		if err := w.importNodes(group, members[n]); err != nil {
			return err
		}
	}
	gateways := sim.GatewayEUIs(0, s.gateways)
	for _, eui := range gateways {
		if _, err := i.run("gateway", "add", eui.String(), "--account", "soak", "--band-plan-group", "101"); err != nil {
			return err
		}
	}
	return w.switchOn(ctx, s, gateways, members)
}

func (w *world) switchOn(ctx context.Context, s size, gateways []sim.EUI, members [][]load.Member) (err error) {
	var all []load.Member
	for n, euis := range []*[]sim.EUI{&w.steady, &w.hammered} {
		for _, m := range members[n] {
			*euis = append(*euis, m.EUI)
		}
		all = append(all, members[n]...)
	}
	w.fleet, err = load.NewFleet(ctx, load.FleetConfig{
		Broker: w.gateways.Address(), Gateways: gateways, Copies: s.copies, Members: all, History: w.history,
	})
	if err != nil {
		return err
	}
	w.listener, err = load.Listen(w.mosquitto.Address(), w.fleet, w.history)
	return err
}

// keySize is that of a key encryption key, in octets.
const keySize = 32

// What the permissions begin with.
const (
	firstRxDelay  = 1
	firstDataRate = 0
)

// permission makes a join permission and a node group of the name that is bound to
// it.
func (w *world) permission(ctx context.Context, client linkwan.Client, name string) (id string, err error) {
	answer, err := client.Call(ctx, "CreateLocalJoinPermission", map[string]string{
		"JoinPermissionName": name, "FreqBandPlanGroupId": "101", "ClassMode": "A", "UseDefaultJoinEui": "true",
		"RxDelay": fmt.Sprint(firstRxDelay), "DataRate": fmt.Sprint(firstDataRate),
	})
	if err != nil {
		return "", err
	}
	var made struct{ Data string }
	if err := json.Unmarshal(answer, &made); err != nil {
		return "", err
	}
	_, err = client.Call(ctx, "CreateNodeGroup", map[string]string{"NodeGroupName": name, "JoinPermissionId": made.Data})
	return made.Data, err
}

func (w *world) importNodes(group string, members []load.Member) error {
	if len(members) == 0 {
		return nil
	}
	i := w.instances[0]
	file := filepath.Join(i.folder, group+".csv")
	if err := os.WriteFile(file, []byte(load.NodeFile(group, members)), 0o600); err != nil {
		return err
	}
	_, err := i.run("node", "import", file, "--account", "soak")
	return err
}

// lines lets everything come to its end and reads the history whole.
func (w *world) lines() ([]history.Line, error) {
	notes, err := load.Collect(w.postgres, w.listener, 2*time.Minute)
	if err != nil {
		return nil, err
	}
	for _, l := range notes {
		w.history.Write(l)
	}
	if err := w.history.Flush(); err != nil {
		return nil, err
	}
	if _, err := w.file.Seek(0, 0); err != nil {
		return nil, err
	}
	return history.Read(w.file)
}

// close ends everything that was started.
func (w *world) close() {
	if w.listener != nil {
		w.listener.Close()
	}
	if w.fleet != nil {
		w.fleet.Close()
	}
	for _, i := range w.instances {
		i.Stop()
		for _, p := range i.proxies() {
			_ = p.Close() // it has done its work
		}
	}
	if w.gateways != nil {
		_ = w.gateways.Close()
	}
	if w.mosquitto != nil {
		w.mosquitto.Kill()
	}
	if w.redis != nil {
		w.redis.Kill()
	}
	if w.postgres != nil {
		w.postgres.Stop()
	}
	_ = w.file.Close()
}
