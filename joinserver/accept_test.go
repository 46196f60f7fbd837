package joinserver_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"

	"github.com/brocaar/lorawan"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; if the change is meant, run the test with -update. Got:\n%s", path, got)
	}
}

func groupNamed(t testing.TB, name string) *band.Group {
	t.Helper()
	for _, g := range band.Standard().All() {
		if g.Name == name {
			return g
		}
	}
	t.Fatalf("there is no band plan group %s", name)
	return nil
}

// moveTo puts permission and gateway into a group and gives a copy on a join
// channel of it.
func (w *world) moveTo(g *band.Group) joinserver.Reception {
	w.tb.Helper()
	w.record.change(func(p *joinserver.Policy) { p.Permission.BandPlanGroup = g.ID })
	w.record.changeGateway(gatewayA, func(gw *joinserver.Gateway) { gw.BandPlanGroup = g.ID })
	for _, channel := range g.Describe().JoinChannels {
		if g.JoinChannel(channel.Frequency, sf10) {
			return heardBy(gatewayA, at(channel.Frequency))
		}
	}
	w.tb.Fatalf("group %s has no join channel at SF10BW125", g.Name)
	return joinserver.Reception{}
}

// setVersion makes the device one of the version and returns the key that it
// signs with.
func (w *world) setVersion(v band.MACVersion) (keyHex string) {
	keyHex = rootHex
	nwk := key(w.tb, nwkHex)
	w.record.change(func(p *joinserver.Policy) {
		p.Node.MACVersion = v
		if v == band.MAC1_1 {
			p.Node.Keys.Nwk = nwk
			keyHex = nwkHex
		}
	})
	return keyHex
}

// TestJoinAcceptSaysWhatThePolicySays decrypts with the device's side.
func TestJoinAcceptSaysWhatThePolicySays(t *testing.T) {
	dr := func(n band.DataRate) *band.DataRate { return &n }
	for v := band.MAC1_0_0; v <= band.MAC1_1; v++ {
		for _, c := range []struct {
			group    string
			rxDelay  time.Duration
			dataRate *band.DataRate
			wantRX2  uint8
		}{
			{"CN470-SAME", time.Second, nil, 0},
			{"CN470-SAME", 15 * time.Second, dr(5), 5},
			{"CN470-DIFF", 3 * time.Second, dr(0), 0},
			{"AS923-CN", 1 * time.Second, nil, 2},
			{"EU868", 5 * time.Second, nil, 0},
			{"EU868", 0, dr(3), 3},
			{"US915-FSB2", 2 * time.Second, nil, 8},
		} {
			w := newWorld(t)
			keyHex := w.setVersion(v)
			copy := w.moveTo(groupNamed(t, c.group))
			w.record.change(func(p *joinserver.Policy) { p.Permission.RxDelay, p.Permission.DataRate = c.rxDelay, c.dataRate })
			w.joins.joinNonce = 0x0abcde
			down, err := w.send(joinRequest(t, keyHex, 0xbeef), copy)
			if err != nil {
				t.Errorf("%s, %s: %v", v, c.group, err)
				continue
			}
			got := decrypt(t, down.PHYPayload, keyHex, 0xbeef)
			want := lorawan.JoinAcceptPayload{
				JoinNonce: 0x0abcdf, HomeNetID: lorawan.NetID(netID), DevAddr: lorawan.DevAddr(netID.Address(0x0abcdf)),
				DLSettings: lorawan.DLSettings{OptNeg: v == band.MAC1_1, RX2DataRate: c.wantRX2, RX1DROffset: groupNamed(t, c.group).RX1DROffset()},
				RXDelay:    uint8(c.rxDelay / time.Second), CFList: got.CFList,
			}
			if got != want {
				t.Errorf("%s, %s: the device reads\n%+v, want\n%+v", v, c.group, got, want)
			}
			if event := eventOf(t, down); event.RxDelay != int(want.RXDelay) || event.DataRate != c.wantRX2 || event.RX1DROffset != want.DLSettings.RX1DROffset {
				t.Errorf("%s, %s: the event tells %+v", v, c.group, event)
			}
		}
	}
}

// TestCFListByVersion: frequencies go to all versions, a channel mask to 1.0.3
// and later only. The octets are those of the vectors.
func TestCFListByVersion(t *testing.T) {
	for _, c := range []struct {
		group  string
		since  band.MACVersion
		vector string
	}{
		{"EU868", band.MAC1_0_0, "cf_list-01"},
		{"US915-FSB2", band.MAC1_0_3, "cf_list-06"},
		{"AS923-CN", band.MAC1_0_0, "cf_list-09"},
		{"CN470-SAME", 99, ""},
	} {
		want := cfListVector(t, c.vector)
		for v := band.MAC1_0_0; v <= band.MAC1_1; v++ {
			w := newWorld(t)
			keyHex := w.setVersion(v)
			fast := w.moveTo(groupNamed(t, c.group)) // AS923 has no time for a CFList at SF10
			fast.Modulation.SpreadingFactor = 7
			down, err := w.send(joinRequest(t, keyHex, 1), fast)
			if err != nil {
				t.Fatal(err)
			}
			accept := decrypt(t, down.PHYPayload, keyHex, 1)
			if v < c.since {
				if accept.CFList != nil || len(down.PHYPayload) != 17 {
					t.Errorf("%s, %s: a CFList the device does not know", c.group, v)
				}
				continue
			}
			if accept.CFList == nil {
				t.Errorf("%s, %s: no CFList", c.group, v)
				continue
			}
			if got, err := accept.CFList.MarshalBinary(); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %s: CFList %x, %v; want %x", c.group, v, got, err, want)
			}
		}
	}
}

// TestGoldenJoinAccepts pins the octets on the air, per version and group.
func TestGoldenJoinAccepts(t *testing.T) {
	var text strings.Builder
	text.WriteString("# Join-accepts of the test world: version, group, windows, octets on the air.\n")
	for v := band.MAC1_0_0; v <= band.MAC1_1; v++ {
		for _, name := range []string{"CN470-SAME", "CN470-DIFF", "AS923-CN", "EU868", "US915-FSB2"} {
			w := newWorld(t)
			keyHex := w.setVersion(v)
			down, err := w.send(joinRequest(t, keyHex, 0x0102), w.moveTo(groupNamed(t, name)))
			if err != nil {
				t.Fatal(err)
			}
			route := down.Routes[0]
			fmt.Fprintf(&text, "%-5s %-10s RX1 %s  RX2 %s  %x\n", v, name, window(route.RX1), window(route.RX2), down.PHYPayload)
		}
	}
	golden(t, "testdata/join_accepts.golden", []byte(text.String()))
}

func window(w band.Window) string {
	if w == (band.Window{}) {
		return "none"
	}
	return fmt.Sprintf("%s %s %s", w.Delay, w.Frequency, w.Modulation)
}

// TestGoldenEvents pins the JSON that subscribers read.
func TestGoldenEvents(t *testing.T) {
	w := newWorld(t)
	ghost := heardBy(gatewayB, at(471_100_000), level(-95, -4.5))
	down, err := w.send(joinRequest(t, w.setVersion(band.MAC1_1), 0x0102), heardBy(gatewayA), ghost)
	if err != nil {
		t.Fatal(err)
	}
	join, err := json.MarshalIndent(eventOf(t, down), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/join_event.golden.json", append(join, '\n'))

	refusal := &joinserver.Rejection{Reason: joinserver.BadMIC, DevEUI: devEUI, JoinEUI: joinEUI, Account: account, Detail: "a detail"}
	reject, err := json.MarshalIndent(refusal.Event([]joinserver.Reception{heardBy(gatewayA), ghost}, start), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/reject_event.golden.json", append(reject, '\n'))
}

// eventOf is the join event where nobody has registered a key.
func eventOf(t *testing.T, down joinserver.Downlink) joinserver.JoinEvent {
	t.Helper()
	return eventFor(t, down, joinserver.Recipients{})
}

func eventFor(t *testing.T, down joinserver.Downlink, to joinserver.Recipients) joinserver.JoinEvent {
	t.Helper()
	event, err := down.Claim.Event(down.Grant, start, to)
	if err != nil {
		t.Fatal(err)
	}
	return event
}

// TestEventsOfStrangeCopies: a copy of anybody, with an SNR that is no number,
// does not cost the device its event.
func TestEventsOfStrangeCopies(t *testing.T) {
	var zero float32
	copies := []joinserver.Reception{heardBy(gatewayA), heardBy(nobodys, level(0, zero/zero)), heardBy(nobodys, level(0, 1/zero)), heardBy(nobodys, level(0, -1/zero))}
	down := newWorld(t).mustJoin(1, copies...)
	if _, err := json.Marshal(eventOf(t, down)); err != nil {
		t.Errorf("join event: %v", err)
	}
	if _, err := json.Marshal((&joinserver.Rejection{}).Event(copies, start)); err != nil {
		t.Errorf("reject event: %v", err)
	}
}

func cfListVector(t *testing.T, id string) []byte {
	t.Helper()
	for _, v := range vectors(t).CFList {
		if v.ID == id {
			octets, err := hex.DecodeString(v.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			return octets
		}
	}
	return nil
}
