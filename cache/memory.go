package cache

import (
	"context"
	"errors"
	"sync"

	"joingate/joinserver"
)

// Memory is a policy cache within the process. Unknown devices are not
// remembered: to ask the record again costs as much.
type Memory struct {
	record joinserver.Policies
	limit  int

	mu         sync.RWMutex
	generation uint64 // moves when everything is forgotten
	policies   map[joinserver.EUI64]joinserver.Policy
	gateways   map[joinserver.EUI64]joinserver.Gateway
}

// NewMemory reads through to the record and remembers the policies of at most
// limit devices, and as many gateways.
func NewMemory(record joinserver.Policies, limit int) *Memory {
	m := &Memory{record: record, limit: limit}
	m.Forget()
	return m
}

// Forget drops everything: after an administrative write, which may have changed
// the policies of any number of devices.
func (m *Memory) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation++
	m.policies = make(map[joinserver.EUI64]joinserver.Policy)
	m.gateways = make(map[joinserver.EUI64]joinserver.Gateway)
}

// Policy implements joinserver.Policies.
func (m *Memory) Policy(ctx context.Context, device joinserver.EUI64) (joinserver.Policy, error) {
	m.mu.RLock()
	policy, hit := m.policies[device]
	m.mu.RUnlock()
	if hit {
		return policy, nil
	}
	return m.Fresh().Policy(ctx, device)
}

// Gateways implements joinserver.Policies. If one of them is not remembered, all
// are read.
func (m *Memory) Gateways(ctx context.Context, euis []joinserver.EUI64) ([]joinserver.Gateway, error) {
	found := make([]joinserver.Gateway, 0, len(euis))
	m.mu.RLock()
	for _, eui := range euis {
		if g, hit := m.gateways[eui]; hit {
			found = append(found, g)
		}
	}
	m.mu.RUnlock()
	if len(found) == len(euis) {
		return found, nil
	}
	return m.Fresh().Gateways(ctx, euis)
}

// Fresh gives the policies of the record, and remembers what it is asked for.
func (m *Memory) Fresh() joinserver.Policies { return fresh{m} }

type fresh struct{ *Memory }

func (f fresh) Policy(ctx context.Context, device joinserver.EUI64) (joinserver.Policy, error) {
	generation := f.currentGeneration()
	policy, err := f.record.Policy(ctx, device)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.Is(err, joinserver.ErrUnknownDevice):
		delete(f.policies, device)
	case err == nil && generation == f.generation && !policyVersions(policy).before(policyVersions(f.policies[device])):
		remember(f.policies, device, policy, f.limit)
	}
	return policy, err
}

func (f fresh) Gateways(ctx context.Context, euis []joinserver.EUI64) ([]joinserver.Gateway, error) {
	generation := f.currentGeneration()
	found, err := f.record.Gateways(ctx, euis)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	registered := make(map[joinserver.EUI64]bool, len(found))
	for _, g := range found {
		registered[g.EUI] = true
		if generation == f.generation && g.Version >= f.gateways[g.EUI].Version {
			remember(f.gateways, g.EUI, g, f.limit)
		}
	}
	for _, eui := range euis {
		if !registered[eui] {
			delete(f.gateways, eui)
		}
	}
	return found, nil
}

func (m *Memory) currentGeneration() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.generation
}

// remember keeps a value; past the limit some other one makes room.
func remember[V any](in map[joinserver.EUI64]V, eui joinserver.EUI64, value V, limit int) {
	if _, known := in[eui]; !known && len(in) >= limit {
		for some := range in {
			delete(in, some)
			break
		}
	}
	in[eui] = value
}
