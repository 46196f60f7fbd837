package cache_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"joingate/band"
	"joingate/cache"
	"joingate/joinserver"
	"joingate/keyring"
)

var (
	device  = joinserver.EUI64{0, 0, 0, 0, 0, 0, 0, 1}
	gateway = joinserver.EUI64{0, 0, 0, 0, 0, 0, 0xaa, 1}
	errDown = errors.New("the record is down")
)

// record is a truth that counts how often it is asked.
type record struct {
	mu     sync.Mutex
	known  map[joinserver.EUI64]int64 // version by device or gateway
	asked  int
	err    error
	during func() // runs once, when the record has been read and before it answers
}

func newRecord(version int64) *record {
	r := &record{known: map[joinserver.EUI64]int64{}}
	r.set(version)
	return r
}

// set moves the version of the device and the gateway; 0 removes them.
func (r *record) set(version int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, eui := range []joinserver.EUI64{device, gateway} {
		r.known[eui] = version
		if version == 0 {
			delete(r.known, eui)
		}
	}
}

func (r *record) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *record) once(during func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.during = during
}

func (r *record) timesAsked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

func (r *record) read(euis ...joinserver.EUI64) (versions []int64, err error) {
	r.mu.Lock()
	r.asked++
	err = r.err
	for _, eui := range euis {
		versions = append(versions, r.known[eui])
	}
	during := r.during
	r.during = nil
	r.mu.Unlock()
	if during != nil {
		during()
	}
	return versions, err
}

func (r *record) Policy(_ context.Context, dev joinserver.EUI64) (joinserver.Policy, error) {
	versions, err := r.read(dev)
	switch {
	case err != nil:
		return joinserver.Policy{}, err
	case versions[0] == 0:
		return joinserver.Policy{}, joinserver.ErrUnknownDevice
	}
	return policyOf(dev, versions[0]), nil
}

func (r *record) Gateways(_ context.Context, euis []joinserver.EUI64) (found []joinserver.Gateway, err error) {
	versions, err := r.read(euis...)
	if err != nil {
		return nil, err
	}
	for i, eui := range euis {
		if versions[i] != 0 {
			found = append(found, joinserver.Gateway{EUI: eui, Version: versions[i], Enabled: true, BandPlanGroup: 101, Owner: 7})
		}
	}
	return found, nil
}

// policyOf has no field empty.
func policyOf(dev joinserver.EUI64, version int64) joinserver.Policy {
	rate := band.DataRate(version % 6)
	return joinserver.Policy{
		Node: joinserver.Node{
			DevEUI: dev, Account: 7, Enabled: true, MACVersion: band.MAC1_1, Version: version,
			Keys: keyring.RootKeys{App: keyOf('a'), Nwk: keyOf('n')},
		},
		Group: joinserver.NodeGroup{ID: 8, Version: version},
		Permission: joinserver.JoinPermission{
			ID: 9, Type: joinserver.Local, Owner: 7, Enabled: true, JoinEUI: joinserver.EUI64{0xd8, 1}, BandPlanGroup: 101,
			ClassMode: "A", RxDelay: time.Duration(version%15) * time.Second, DataRate: &rate, Version: version,
		},
	}
}

// keyOf gives a key whose octets no encoding of anything else holds.
func keyOf(letter byte) keyring.Key {
	key, err := keyring.NewKey(octetsOf(letter))
	if err != nil {
		panic(err)
	}
	return key
}

func octetsOf(letter byte) []byte {
	return []byte(strings.Repeat(string([]byte{letter, 0xfe, 0x01, 0x7f}), 4))
}

func sealerOf(text string) *keyring.Sealer {
	sealer, err := keyring.NewSealer(bytes.Repeat([]byte(text), 32)[:32])
	if err != nil {
		panic(err)
	}
	return sealer
}

// watch counts events and lets a test wait for them.
type watch struct {
	mu    sync.Mutex
	count map[cache.Event]int
}

func (w *watch) observe(e cache.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count == nil {
		w.count = make(map[cache.Event]int)
	}
	w.count[e]++
}

func (w *watch) of(e cache.Event) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count[e]
}

// openRedis is one instance's connection. Its timeout is so long that a busy test
// machine does not count as an outage, unless the test changes it.
func openRedis(t testing.TB, url string, change ...func(*cache.Options)) *cache.Redis {
	t.Helper()
	o := cache.Options{URL: url, Sealer: sealerOf("k"), KeyPrefix: t.Name(), Timeout: 5 * time.Second, Retry: 20 * time.Millisecond}
	for _, c := range change {
		c(&o)
	}
	r, err := cache.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// expect reads device and gateway and asserts their version.
func expect(t *testing.T, from joinserver.Policies, want int64) {
	t.Helper()
	p, g := read(t, from)
	if p != want || g != want {
		t.Errorf("policy has version %d, gateway %d; want %d", p, g, want)
	}
}

func read(t testing.TB, from joinserver.Policies) (policy, gw int64) {
	t.Helper()
	p, err := from.Policy(t.Context(), device)
	if err != nil {
		t.Fatal(err)
	}
	g, err := from.Gateways(t.Context(), []joinserver.EUI64{gateway})
	if err != nil || len(g) != 1 {
		t.Fatal(g, err)
	}
	if c, ok := from.(cache.Policies); ok {
		cache.Settle(c)
	}
	return p.Node.Version, g[0].Version
}
