package joinserver_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
)

// granting commits everything at once, so that the handler alone is measured.
type granting struct{ joinNonce uint32 }

func (g *granting) Commit(_ context.Context, c joinserver.Claim) (joinserver.Grant, error) {
	g.joinNonce = g.joinNonce%joinserver.MaxJoinNonce + 1
	return joinserver.Grant{JoinNonce: g.joinNonce, DevAddr: c.NetID.Address(g.joinNonce)}, nil
}

// BenchmarkJoin measures one join through the handler, policies in memory and a
// commit that costs nothing. Target: under 10 µs and 60 allocations.
func BenchmarkJoin(b *testing.B) {
	for _, version := range []band.MACVersion{band.MAC1_0_3, band.MAC1_1} {
		for _, copies := range []int{1, 3} {
			b.Run(fmt.Sprintf("%s/copies=%d", version, copies), func(b *testing.B) {
				w := newWorld(b)
				frame := joinRequest(b, w.setVersion(version), 1)
				w.config.Joins = &granting{}
				w.config.Observe = nil
				w.rebuild()
				heard := []joinserver.Reception{heardBy(gatewayA), heardBy(gatewayB, level(-100, 2)), heardBy(gatewayC, level(-90, 4))}
				up := joinserver.Uplink{PHYPayload: frame, Receptions: heard[:copies]}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := w.handler.Join(context.Background(), up); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkJoinPlanned measures one join through three gateways whose airtime is
// planned, in a ledger that costs nothing.
func BenchmarkJoinPlanned(b *testing.B) {
	w := newWorld(b)
	frame := joinRequest(b, w.setVersion(band.MAC1_0_3), 1)
	w.config.Joins, w.config.Observe, w.config.Airtime = &granting{}, nil, everFree{}
	w.rebuild()
	up := joinserver.Uplink{PHYPayload: frame, Receptions: []joinserver.Reception{heardBy(gatewayA), heardBy(gatewayB, level(-100, 2)), heardBy(gatewayC, level(-90, 4))}}
	b.ReportAllocs()
	for b.Loop() {
		w.now = w.now.Add(time.Minute) // nobody waits
		for i := range up.Receptions {
			up.Receptions[i].Received = w.now
		}
		if _, err := w.handler.Join(context.Background(), up); err != nil {
			b.Fatal(err)
		}
	}
}

// everFree is a ledger in which all fits.
type everFree struct{}

func (everFree) Book(context.Context, []joinserver.Transmission) int { return 0 }
func (everFree) Release(context.Context, joinserver.Transmission)    {}
func (everFree) Sent(context.Context, joinserver.Transmission)       {}

// BenchmarkRefuse measures a flood: a wrong MIC is the dearest refusal, since it
// is confirmed by the record.
func BenchmarkRefuse(b *testing.B) {
	w := newWorld(b)
	frames := map[string][]byte{
		"malformed": make([]byte, 5), "unknown_device": frameOf(b, rootHex, joinserver.EUI64{1}, joinEUI, 1), "bad_mic": joinRequest(b, otherHex, 1),
	}
	for name, frame := range frames {
		b.Run(name, func(b *testing.B) {
			w.config.Observe = func(joinserver.Step, time.Duration) {}
			w.rebuild()
			up := joinserver.Uplink{PHYPayload: frame, Receptions: []joinserver.Reception{heardBy(gatewayA)}}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.handler.Join(context.Background(), up); err == nil {
					b.Fatal("it joined")
				}
			}
		})
	}
}
