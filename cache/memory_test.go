package cache

import (
	"context"
	"errors"
	"testing"

	"joingate/joinserver"
)

// truth is a record that counts how often it is asked.
type truth struct {
	policies map[joinserver.EUI64]joinserver.Policy
	gateways map[joinserver.EUI64]joinserver.Gateway
	asked    int
	during   func() // runs while the record is being read
}

func (t *truth) Policy(_ context.Context, device joinserver.EUI64) (joinserver.Policy, error) {
	t.asked++
	p, ok := t.policies[device]
	if t.during != nil {
		t.during()
	}
	if !ok {
		return p, joinserver.ErrUnknownDevice
	}
	return p, nil
}

func (t *truth) Gateways(_ context.Context, euis []joinserver.EUI64) (found []joinserver.Gateway, err error) {
	t.asked++
	for _, eui := range euis {
		if g, ok := t.gateways[eui]; ok {
			found = append(found, g)
		}
	}
	if t.during != nil {
		t.during()
	}
	return found, nil
}

var (
	device  = joinserver.EUI64{1}
	gateway = joinserver.EUI64{2}
)

func newTruth(version int64) *truth {
	t := &truth{}
	t.set(version)
	return t
}

func (t *truth) set(version int64) {
	t.policies = map[joinserver.EUI64]joinserver.Policy{device: {Node: joinserver.Node{DevEUI: device, Version: version}}}
	t.gateways = map[joinserver.EUI64]joinserver.Gateway{gateway: {EUI: gateway, Version: version}}
}

func versions(t *testing.T, from joinserver.Policies) (policy, gw int64) {
	t.Helper()
	p, err := from.Policy(t.Context(), device)
	if err != nil {
		t.Fatal(err)
	}
	g, err := from.Gateways(t.Context(), []joinserver.EUI64{gateway})
	if err != nil || len(g) != 1 {
		t.Fatal(g, err)
	}
	return p.Node.Version, g[0].Version
}

func expect(t *testing.T, from joinserver.Policies, want int64) {
	t.Helper()
	if p, g := versions(t, from); p != want || g != want {
		t.Errorf("policy has version %d, gateway %d; want %d", p, g, want)
	}
}

func TestMemoryRemembersUntilToldToForget(t *testing.T) {
	record := newTruth(1)
	m := NewMemory(record, 10)
	expect(t, m, 1)
	record.set(2)
	expect(t, m, 1) // a cache may lie
	if record.asked != 2 {
		t.Errorf("the record was asked %d times, want 2", record.asked)
	}
	m.Forget()
	expect(t, m, 2)
}

func TestFreshIsTheTruthAndMendsTheCache(t *testing.T) {
	record := newTruth(1)
	m := NewMemory(record, 10)
	expect(t, m, 1)
	record.set(2)
	expect(t, m.Fresh(), 2)
	expect(t, m, 2)
}

// A read that began before a write must not bring the old policy back after it.
func TestLateRefillIsDropped(t *testing.T) {
	record := newTruth(1)
	m := NewMemory(record, 10)
	record.during = func() { record.set(2); m.Forget() }
	versions(t, m)
	record.during = nil
	m.Forget()
	record.set(1)
	record.during = func() { record.during = nil; record.set(2); m.Forget() }
	if p, err := m.Policy(t.Context(), device); err != nil || p.Node.Version != 1 {
		t.Fatalf("the racing read itself: %v, %v", p.Node.Version, err)
	}
	expect(t, m, 2)
}

func TestUnknownIsNotRemembered(t *testing.T) {
	record := &truth{}
	m := NewMemory(record, 10)
	if _, err := m.Policy(t.Context(), device); !errors.Is(err, joinserver.ErrUnknownDevice) {
		t.Fatalf("unknown device: %v", err)
	}
	record.set(1)
	expect(t, m, 1)
	record.policies, record.gateways = nil, nil
	if _, err := m.Fresh().Policy(t.Context(), device); !errors.Is(err, joinserver.ErrUnknownDevice) {
		t.Fatalf("removed device: %v", err)
	}
	if _, err := m.Policy(t.Context(), device); !errors.Is(err, joinserver.ErrUnknownDevice) {
		t.Errorf("a removed device is still remembered: %v", err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	record := &truth{policies: map[joinserver.EUI64]joinserver.Policy{}}
	m := NewMemory(record, 10)
	for i := range 100 {
		eui := joinserver.EUI64{byte(i), 1}
		record.policies[eui] = joinserver.Policy{Node: joinserver.Node{DevEUI: eui}}
		if _, err := m.Policy(t.Context(), eui); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.policies) > 10 {
		t.Errorf("%d policies remembered, want at most 10", len(m.policies))
	}
}
