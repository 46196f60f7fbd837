package sim

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
)

// The bridge meets the same commands and the same words of its gateways as the
// real one did, and must acknowledge alike.
func TestBridgeAcknowledgesAsTheRealOne(t *testing.T) {
	file := captures(t)
	for _, words := range file.GatewayWords {
		t.Run(words.Run+" "+words.Step, func(t *testing.T) {
			e, err := ParseEncoding(words.Run)
			if err != nil {
				t.Fatal(err)
			}
			b, events := deafBridge(t, e)
			sent := 0
			script := func(Sent) Outcome {
				sent++
				return gatewaySays(words.TxAcks, sent, words.Acks)
			}
			for _, g := range []EUI{0x0016c001f1500a01, 0x0016c001f1500b02} {
				if _, err := b.AddGateway(GatewayConfig{EUI: g, Script: script}); err != nil {
					t.Fatal(err)
				}
			}
			var want []event
			for _, m := range file.Messages {
				if m.Encoding != words.Run || m.Step != words.Step {
					continue
				}
				if strings.HasSuffix(m.Topic, "/command/down") {
					b.command(m.payload(t))
				} else {
					want = append(want, event{m.Topic, m.payload(t)})
				}
			}
			if sent != words.Sent {
				t.Errorf("%d items reached a gateway, want %d", sent, words.Sent)
			}
			if len(*events) != len(want) {
				t.Fatalf("%d events, want %d", len(*events), len(want))
			}
			for i, got := range *events {
				a, b := tree(t, words.Run, got.payload, &gw.DownlinkTxAck{}), tree(t, words.Run, want[i].payload, &gw.DownlinkTxAck{})
				if got.topic != want[i].topic || !reflect.DeepEqual(a, b) {
					t.Errorf("%s %v\n want %s %v", got.topic, a, want[i].topic, b)
				}
			}
		})
	}
}

// gatewaySays turns the TX_ACKs of a captured step into outcomes.
func gatewaySays(txAcks []Status, nth, acks int) Outcome {
	switch {
	case len(txAcks) == 0:
		return Outcome{Silent: true}
	case acks == 2:
		return Outcome{Status: StatusOK, Twice: true}
	}
	said := txAcks[min(nth, len(txAcks))-1]
	if said == "NONE" {
		said = StatusOK
	}
	return Outcome{Status: said}
}

// clock is a time that tests set.
type clock struct{ now time.Time }

func (c *clock) read() time.Time           { return c.now }
func (c *clock) advance(d time.Duration)   { c.now = c.now.Add(d) }
func newClock() *clock                     { return &clock{time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)} }
func (c *clock) bridge(e Encoding) *Bridge { return NewBridge(BridgeConfig{Encoding: e, Now: c.read}) }

// heardBy lets the gateway hear a frame now and gives the context.
func heardBy(t *testing.T, g *Gateway) []byte {
	t.Helper()
	reading, ok := g.hear(nil)
	if !ok {
		t.Fatal("the gateway did not hear")
	}
	return binary.BigEndian.AppendUint32(nil, reading)
}

func twoWindows(context []byte) []item {
	rx1 := item{
		phyPayload: make([]byte, 33), frequency: 868_100_000, modulation: Modulation{7, 125_000},
		codeRate: "CR_4_5", inverted: true, delay: joinAcceptDelay1, context: context,
	}
	rx2 := rx1
	rx2.frequency, rx2.modulation.SpreadingFactor, rx2.delay = 869_525_000, 12, joinAcceptDelay2
	return []item{rx1, rx2}
}

func TestGatewayClockDecides(t *testing.T) {
	for _, c := range []struct {
		after time.Duration // from the uplink to the command
		want  []Status
	}{
		{0, []Status{StatusOK, StatusIgnored}},
		{4900 * time.Millisecond, []Status{StatusOK, StatusIgnored}},
		{4980 * time.Millisecond, []Status{StatusTooLate, StatusOK}},
		{5900 * time.Millisecond, []Status{StatusTooLate, StatusOK}},
		{5990 * time.Millisecond, []Status{StatusTooLate, StatusTooLate}},
		{time.Hour, []Status{StatusTooLate, StatusTooLate}},
	} {
		clock := newClock()
		b := clock.bridge(V4Protobuf)
		wraps := ^uint32(0) - 1_000_000 // the counter wraps between uplink and RX1
		g, err := b.AddGateway(GatewayConfig{EUI: 1, Counter: &wraps})
		if err != nil {
			t.Fatal(err)
		}
		context := heardBy(t, g)
		clock.advance(c.after)
		if c.after == time.Hour {
			clock.advance(-time.Hour + 30*time.Minute) // within half of the counter's range
		}
		got, _, _, ok := b.tryItems(g, command{gateway: 1, id: 1, items: twoWindows(context)})
		if !ok || !slices.Equal(got, c.want) {
			t.Errorf("after %s: %v, want %v", c.after, got, c.want)
		}
	}
	clock := newClock()
	b := clock.bridge(V4Protobuf)
	g, _ := b.AddGateway(GatewayConfig{EUI: 1})
	context := binary.BigEndian.AppendUint32(nil, g.counter()+900_000_000)
	if got, _, _, _ := b.tryItems(g, command{items: twoWindows(context)[:1]}); got[0] != StatusTooEarly {
		t.Errorf("15 minutes ahead: %v, want %v", got, StatusTooEarly)
	}
}

func TestHalfDuplexGateway(t *testing.T) {
	for _, half := range []bool{true, false} {
		clock := newClock()
		b := clock.bridge(V4Protobuf)
		g, err := b.AddGateway(GatewayConfig{EUI: 1, HalfDuplex: half})
		if err != nil {
			t.Fatal(err)
		}
		first := heardBy(t, g)
		clock.advance(20 * time.Millisecond) // RX1 of both overlap: 72 ms each
		second := heardBy(t, g)
		for i, want := range [][]Status{{StatusOK, StatusIgnored}, {StatusCollision, StatusOK}} {
			if !half {
				want = []Status{StatusOK, StatusIgnored}
			}
			got, _, _, _ := b.tryItems(g, command{items: twoWindows([][]byte{first, second}[i])})
			if !slices.Equal(got, want) {
				t.Errorf("half duplex %v, command %d: %v, want %v", half, i, got, want)
			}
		}
		clock.advance(5 * time.Second) // RX1 of the first is on the air
		if _, ok := g.hear(nil); ok == half {
			t.Errorf("half duplex %v, while transmitting: heard %v", half, ok)
		}
		clock.advance(500 * time.Millisecond)
		if _, ok := g.hear(nil); !ok {
			t.Error("deaf after the transmission")
		}
	}
}

// Between two transmissions the packet forwarder wants its lead time.
func TestHalfDuplexGatewayKeepsTheGuard(t *testing.T) {
	for apart, want := range map[time.Duration]Status{42_500 * time.Microsecond: StatusCollision, 42_501 * time.Microsecond: StatusOK} {
		clock := newClock()
		b := clock.bridge(V4Protobuf)
		g, err := b.AddGateway(GatewayConfig{EUI: 1, HalfDuplex: true})
		if err != nil {
			t.Fatal(err)
		}
		items := twoWindows(heardBy(t, g))[:1]
		if got, _, _, _ := b.tryItems(g, command{items: items}); got[0] != StatusOK {
			t.Fatalf("the first: %v", got)
		}
		clock.advance(Downlink{Modulation: items[0].modulation}.Airtime(len(items[0].phyPayload), false) + apart)
		if got, _, _, _ := b.tryItems(g, command{items: twoWindows(heardBy(t, g))[:1]}); got[0] != want {
			t.Errorf("%s after the first: %v, want %v", apart, got, want)
		}
	}
}

func TestBridgeCountsWhatItDrops(t *testing.T) {
	b, events := deafBridge(t, V3JSON)
	if _, err := b.AddGateway(GatewayConfig{EUI: 0x0016c001f1500a01}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AddGateway(GatewayConfig{EUI: 0x0016c001f1500a01}); err == nil {
		t.Error("the same gateway twice behind one bridge")
	}
	for range 2 {
		b.command([]byte(`{"gatewayID":"ABbAAfFQCgE=","token":65537,"items":[]}`))
	}
	b.command([]byte(`{"gatewayID":"ABbAAfFQCwI=","token":1}`))
	b.command([]byte("\x18\x01"))
	got := fmt.Sprint(b.counts.Commands.Load(), b.counts.Faulty.Load(), b.counts.ReusedIDs.Load(), b.counts.Unknown.Load(), b.counts.Garbage.Load(), len(*events))
	if want := "4 2 1 1 1 0"; got != want {
		t.Errorf("commands, faulty, reused ids, unknown, garbage, events: %s, want %s", got, want)
	}
}

// Version 3 makes up an id where the command has none, and uses it in the ack.
func TestV3MakesUpMissingIDs(t *testing.T) {
	b, events := deafBridge(t, V3Protobuf)
	ok := func(Sent) Outcome { return Outcome{Status: StatusOK} }
	if _, err := b.AddGateway(GatewayConfig{EUI: 0x0016c001f1500a01, Script: ok}); err != nil {
		t.Fatal(err)
	}
	for _, m := range captures(t).Messages {
		if m.Encoding == "v3-protobuf" && m.Step == "down-rx1-ok-cn470" && strings.HasSuffix(m.Topic, "down") {
			b.command(slices.Delete(m.payload(t), 0, 3)) // field 3, the token, comes first
		}
	}
	if len(*events) != 1 {
		t.Fatalf("%d events, want an ack", len(*events))
	}
	if ack := fmt.Sprint(tree(t, "v3-protobuf", (*events)[0].payload, &gw.DownlinkTxAck{})); !strings.Contains(ack, "downlinkId") {
		t.Error("the ack has no id")
	}
}

func TestTopicPrefix(t *testing.T) {
	for prefix, want := range map[string]string{
		"":       "gateway/0016c001f1500a01/event/up",
		"eu868":  "eu868/gateway/0016c001f1500a01/event/up",
		"eu868/": "eu868/gateway/0016c001f1500a01/event/up",
		"a/b":    "a/b/gateway/0016c001f1500a01/event/up",
	} {
		b := NewBridge(BridgeConfig{Prefix: prefix})
		if got := b.topic(0x0016c001f1500a01, "event/up"); got != want {
			t.Errorf("prefix %q: %s, want %s", prefix, got, want)
		}
	}
}
