package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// scene is one bridge, some gateways, one device and a server, wired without a
// broker, so that a join is over when Join returns.
type scene struct {
	*server
	bridge   *Bridge
	gateways []*Gateway
	air      *Air
	device   *Device
}

// newScene makes the gateways A, B, … as configured and lets all of them hear
// the device; links may change that.
func newScene(t *testing.T, d *Device, c AirConfig, links func(l []Link, try int), gateways ...GatewayConfig) *scene {
	t.Helper()
	s := &scene{server: newServer(t, V4Protobuf, d), bridge: NewBridge(BridgeConfig{}), device: d}
	s.wire(s.bridge)
	for i, config := range gateways {
		config.EUI = EUI(0xa + i)
		g, err := s.bridge.AddGateway(config)
		if err != nil {
			t.Fatal(err)
		}
		s.gateways = append(s.gateways, g)
	}
	c.Propagation = func(_ *Device, try int) []Link {
		var all []Link
		for _, g := range s.gateways {
			all = append(all, Link{Gateway: g, SNR: 5, RSSI: -100})
		}
		if links != nil {
			links(all, try)
		}
		return all
	}
	s.air = NewAir(c, s.gateways...)
	return s
}

func (s *scene) join(t *testing.T) Result {
	t.Helper()
	res, err := s.air.Join(context.Background(), s.device)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// Every region, every version, every join channel and data rate.
func TestJoinEverywhere(t *testing.T) {
	for _, name := range RegionNames() {
		for _, version := range []string{"1.0.2", "1.0.4", "1.1"} {
			d := testDevice(t, version, name)
			d.config.Nonces = NoncesCounted // a drawn one that repeats is a copy to the server
			s := newScene(t, d, AirConfig{}, nil, GatewayConfig{})
			for _, c := range d.Region().JoinChannels() {
				res, err := s.air.JoinOn(context.Background(), d, c)
				if err != nil || !res.Joined || res.Window != 1 || res.RxDelay != 3 {
					t.Fatalf("%s %s on %v: %+v, %v", name, version, c, res, err)
				}
			}
		}
	}
}

func TestSecondWindow(t *testing.T) {
	d := testDevice(t, "1.0.3", "101")
	refuse := func(s Sent) Outcome {
		if s.Item == 0 {
			return Outcome{Status: StatusCollision}
		}
		return Outcome{}
	}
	s := newScene(t, d, AirConfig{}, nil, GatewayConfig{Script: refuse})
	if res := s.join(t); !res.Joined || res.Window != 2 || res.Gateway != EUI(0xa).String() {
		t.Errorf("%+v, want a join in RX2", res)
	}
	if s.air.counts.Downlinks.Load() != 1 {
		t.Error("a refused item went on the air")
	}
}

// One transmission is one join-request whatever the copies: all carry one
// payload, and a surplus answer is seen.
func TestCopiesGhostsAndSurplus(t *testing.T) {
	d := testDevice(t, "1.0.3", "EU868")
	links := func(l []Link, _ int) {
		l[0].Ghost, l[1].Duplicates, l[2].Lost = 200_000, 2, true
	}
	s := newScene(t, d, AirConfig{}, links, GatewayConfig{}, GatewayConfig{}, GatewayConfig{})
	s.times = 2
	if res := s.join(t); !res.Joined {
		t.Fatal(res.Reason)
	}
	c := s.air.Counts()
	got := fmt.Sprint(c.Transmissions.Load(), c.Copies.Load(), c.Ghosts.Load(), c.Lost.Load(), c.Accepted.Load(), c.Surplus.Load())
	if want := "1 5 1 1 1 1"; got != want {
		t.Errorf("transmissions, copies, ghosts, lost, accepted, surplus: %s, want %s", got, want)
	}
	for phy, n := range s.copies {
		if n != 5 || len(s.copies) != 1 {
			t.Errorf("%x: the server saw %d copies of %d frames", phy, n, len(s.copies))
		}
	}
}

func TestReasons(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(s *scene)
		links   func([]Link, int)
		script  func(Sent) Outcome
		want    string
	}{
		"lost": {links: func(l []Link, _ int) { l[0].Lost = true }, want: "no gateway heard"},
		"deaf": {links: func(l []Link, _ int) { l[0].Deaf = true }, want: "does not hear this gateway"},
		"silent server": {
			prepare: func(s *scene) { s.answer = func(*Device, uint32) *answer { return nil } },
			want:    "no answer within 7s",
		},
		"silent gateway": {script: func(Sent) Outcome { return Outcome{Silent: true} }, want: "no answer"},
		"too late":       {script: func(Sent) Outcome { return Outcome{Status: StatusTooLate} }, want: "answered TOO_LATE for item 0; gateway 000000000000000a answered TOO_LATE for item 1"},
		"wrong frequency": {
			prepare: func(s *scene) { s.bend = func(rx1, _ *item) { rx1.frequency = 500_300_000 } },
			want:    "outside the receive windows: 500.3 MHz",
		},
		"data delay": {
			prepare: func(s *scene) { s.bend = func(rx1, _ *item) { rx1.delay = 1e9 } },
			want:    "after 1s; RX1 is",
		},
		"wrong key": {
			prepare: func(s *scene) {
				c := s.device.config
				c.AppKey = testKey(9)
				s.devices[c.DevEUI], _ = NewDevice(c)
			},
			want: "the MIC is wrong",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, testDevice(t, "1.0.3", "EU868"), AirConfig{}, c.links, GatewayConfig{Script: c.script})
				if c.prepare != nil {
					c.prepare(s)
				}
				res := s.join(t)
				if res.Joined || !strings.Contains(res.Reason, c.want) {
					t.Errorf("joined %v, reason %q, want %q", res.Joined, res.Reason, c.want)
				}
			})
		})
	}
}

// A gateway's silence does not prove that nothing was sent.
func TestSilentGatewayMaySend(t *testing.T) {
	script := func(Sent) Outcome { return Outcome{Status: StatusOK, Silent: true} }
	s := newScene(t, testDevice(t, "1.0.3", "EU868"), AirConfig{}, nil, GatewayConfig{Script: script})
	if res := s.join(t); !res.Joined || s.acknowledged() != 0 {
		t.Errorf("joined %v, %d acks; want a join without an ack", res.Joined, s.acknowledged())
	}
}

func TestRetriesWithNewDevNonce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testDevice(t, "1.0.4", "EU868")
		lost := func(l []Link, try int) { l[0].Lost = try < 2 }
		s := newScene(t, d, AirConfig{Attempts: 5}, lost, GatewayConfig{})
		if res := s.join(t); !res.Joined || res.Attempts != 3 || res.DevNonce != 2 {
			t.Errorf("%+v, want a join at the third attempt with DevNonce 2", res)
		}
	})
}

// An answer to the first attempt that comes while the device waits for the
// second finds the receiver off.
func TestLateAnswerIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testDevice(t, "1.0.2", "EU868")
		s := newScene(t, d, AirConfig{Attempts: 2, Timeout: time.Second}, nil, GatewayConfig{})
		var late []outgoing
		s.bridge.emit = func(topic string, payload []byte) error {
			late = append(late, s.event(topic, payload)...)
			if strings.HasSuffix(topic, "/up") && len(late) == 2 {
				s.bridge.command(late[0].payload)
			}
			return nil
		}
		res := s.join(t)
		if res.Joined || !strings.Contains(res.Reason, "after 4s") {
			t.Errorf("joined %v, %q; want the answer to the first attempt refused", res.Joined, res.Reason)
		}
	})
}

func TestRealtimeWaitsForTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testDevice(t, "1.0.3", "EU868")
		s := newScene(t, d, AirConfig{Realtime: true}, nil, GatewayConfig{})
		res := s.join(t)
		if !res.Joined || res.Latency < joinAcceptDelay1 || res.Latency > joinAcceptDelay2+2*time.Second {
			t.Errorf("joined %v after %s, want 5 s and the airtime", res.Joined, res.Latency)
		}
	})
}

func TestBackhaulDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for delay, window := range map[time.Duration]int{time.Second: 1, 5500 * time.Millisecond: 2, 6500 * time.Millisecond: 0} {
			slow := func(l []Link, _ int) { l[0].Delay = delay }
			s := newScene(t, testDevice(t, "1.0.3", "EU868"), AirConfig{}, slow, GatewayConfig{})
			if res := s.join(t); res.Window != window {
				t.Errorf("%s: window %d, want %d (%s)", delay, res.Window, window, res.Reason)
			}
		}
	})
}

func TestAcknowledgementCanBeLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for after, want := range map[time.Duration]int{2 * time.Second: 1, 16 * time.Second: 0} {
			script := func(Sent) Outcome { return Outcome{Status: StatusOK, After: after} }
			s := newScene(t, testDevice(t, "1.0.3", "EU868"), AirConfig{}, nil, GatewayConfig{Script: script})
			if res := s.join(t); !res.Joined || s.acknowledged() != 0 {
				t.Errorf("joined %v, %d acks at once", res.Joined, s.acknowledged())
			}
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if s.acknowledged() != want {
				t.Errorf("TX_ACK after %s: %d acks, want %d", after, s.acknowledged(), want)
			}
		}
	})
}

func TestJoinEndsWithContext(t *testing.T) {
	s := newScene(t, testDevice(t, "1.0.3", "EU868"), AirConfig{}, nil, GatewayConfig{})
	s.answer = func(*Device, uint32) *answer { return nil }
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if res, err := s.air.Join(ctx, s.device); !errors.Is(err, context.Canceled) || res.Joined {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestGatewaySendsWhatItIsTold(t *testing.T) {
	b, events := deafBridge(t, V4JSON)
	g, err := b.AddGateway(GatewayConfig{EUI: 0x0016c001f1500a01, GPS: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Send(Reception{Uplink: Uplink{PHYPayload: []byte{1, 2, 3}, Frequency: 868_100_000, Modulation: Modulation{7, 125_000}}}); err != nil {
		t.Fatal(err)
	}
	if err := g.PublishStats(); err != nil {
		t.Fatal(err)
	}
	all := *events
	if len(all) != 2 || !strings.Contains(string(all[0].payload), `"AQID"`) || !strings.Contains(string(all[0].payload), "timeSinceGpsEpoch") {
		t.Errorf("%s", all)
	}
	if !strings.HasSuffix(all[1].topic, "/event/stats") || !strings.Contains(string(all[1].payload), "rxPacketsReceived") {
		t.Errorf("%s", all[1])
	}
}

func TestScatter(t *testing.T) {
	b, _ := deafBridge(t, V4Protobuf)
	var gateways []*Gateway
	for i := range 20 {
		g, err := b.AddGateway(GatewayConfig{EUI: EUI(i)})
		if err != nil {
			t.Fatal(err)
		}
		gateways = append(gateways, g)
	}
	d := testDevice(t, "1.0.3", "EU868")
	s := Scatter{Seed: 7, Copies: 5, SNR: 5, Delay: time.Second, Loss: 0.3, Ghosts: 0.5, Duplicates: 0.5}
	first, again := s.Over(gateways)(d, 0), s.Over(gateways)(d, 0)
	if !slices.Equal(first, again) || len(first) != 5 {
		t.Errorf("%v and %v, want the same five links", first, again)
	}
	lost, ghosts := 0, 0
	for try := range 200 {
		for i, l := range s.Over(gateways)(d, try) {
			if l.Gateway != first[i].Gateway {
				t.Fatal("the device moved")
			}
			if l.Lost {
				lost++
			}
			if l.Ghost != 0 {
				ghosts++
			}
		}
	}
	if lost < 200 || lost > 400 || ghosts < 400 || ghosts > 600 {
		t.Errorf("of 1000 copies %d lost, want about 300; %d ghosts, want about 500", lost, ghosts)
	}
}
