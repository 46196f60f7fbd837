package cache

import (
	"context"
	"testing"

	"joingate/joinserver"
)

// everybody is a record that knows every device and gateway.
type everybody struct{}

func (everybody) Policy(_ context.Context, device joinserver.EUI64) (joinserver.Policy, error) {
	return joinserver.Policy{Node: joinserver.Node{DevEUI: device}}, nil
}

func (everybody) Gateways(_ context.Context, euis []joinserver.EUI64) (found []joinserver.Gateway, err error) {
	for _, eui := range euis {
		found = append(found, joinserver.Gateway{EUI: eui})
	}
	return found, nil
}

func TestMemoryIsBounded(t *testing.T) {
	m := NewMemory(everybody{}, 10)
	for i := range 100 {
		eui := joinserver.EUI64{byte(i), 1}
		if _, err := m.Policy(t.Context(), eui); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Gateways(t.Context(), []joinserver.EUI64{eui}); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.policies) > 10 || len(m.gateways) > 10 {
		t.Errorf("%d policies and %d gateways are remembered, want at most 10", len(m.policies), len(m.gateways))
	}
}
