package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"joingate/mqtt/broker"
	"joingate/sim"
)

// TestKill ends the server with kill -9 in the middle of 200 joins, twice, and
// starts it again on the same folder. Then it holds the promises that concern a
// crash against what the devices saw. The broker is not the server's own, so
// that what was said before the kill is not lost with it.
func TestKill(t *testing.T) {
	t.Parallel()
	b, err := broker.Start(broker.Options{Listen: "127.0.0.1:0"})
	check(t, err)
	t.Cleanup(func() { _ = b.Close() })
	url := "mqtt://" + b.Addr().String()
	// A NetID of type 6 has 1,024 DevAddrs: the joins go round in them.
	m := newMachine(t, "JOINGATE_MQTT__URL="+url, "JOINGATE_NETWORK__NET_ID=c00001")
	d := m.serve()
	c, _ := d.site(gatewayA, gatewayB, gatewayC)
	var devices []device
	for i, version := range demoVersions {
		devices = append(devices, newDevices(100*i, 50, version)...)
	}
	c.register("meters", devices...)
	s := newStorm(t, url, devices)

	for _, after := range []int{60, 130} {
		s.joinUntil(after, d.kill)
		record := openDatabase(t, d.record)
		s.checkSessions(record)
		t.Logf("killed when devices had %d join-accepts: %d sessions on record, %d join events wait",
			s.count(), record.number(`SELECT COUNT(*) FROM sessions`), record.number(`SELECT COUNT(*) FROM outbox`))
		d = m.serve()
		s.replayAnswered(d)
	}
	s.joinAll()
	s.joinAll()
	record := openDatabase(t, d.record)
	record.awaitDelivery()
	s.checkSessions(record)
	s.checkEvents(record)
	checkAddresses(record)
}

// storm is many devices that join, with what they and a listener got to know.
type storm struct {
	t       testing.TB
	nodes   []*sim.Device
	field   *field
	air     *sim.Air
	ear     *ear
	mu      sync.Mutex
	latest  map[sim.EUI]sim.Result // last join-accept that each device decrypted
	accepts []sim.Result           // all of them
}

func newStorm(t testing.TB, url string, devices []device) *storm {
	s := &storm{t: t, nodes: switchAllOn(t, devices), ear: newEar(t, url), latest: make(map[sim.EUI]sim.Result)}
	s.field = newField(t, url, sim.GatewayConfig{EUI: gatewayA}, sim.GatewayConfig{EUI: gatewayB}, sim.GatewayConfig{EUI: gatewayC})
	all := []*sim.Gateway{s.field.gateways[gatewayA], s.field.gateways[gatewayB], s.field.gateways[gatewayC]}
	// Delay makes the joins come one after the other, so that a kill finds them in every state.
	scatter := sim.Scatter{Seed: 1, Copies: 2, SNR: 8, Delay: 150 * time.Millisecond}
	s.air = sim.NewAir(sim.AirConfig{Propagation: scatter.Over(all), Timeout: 10 * time.Second, Attempts: 3}, all...)
	return s
}

// joinUntil lets those devices join that have not, and kills the server when
// so many have.
func (s *storm) joinUntil(joined int, kill func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	var once sync.Once
	s.each(ctx, func(node *sim.Device) bool { return s.joins(node) == 0 }, func() {
		if s.count() >= joined {
			once.Do(func() { kill(); cancel() })
		}
	})
	if s.count() >= len(s.nodes) {
		s.t.Errorf("all devices had joined before the kill")
	}
}

// joinAll lets every device join once more.
func (s *storm) joinAll() {
	s.t.Helper()
	before := len(s.accepts)
	s.each(s.t.Context(), func(*sim.Device) bool { return true }, func() {})
	if n := len(s.accepts) - before; n != len(s.nodes) {
		s.t.Errorf("after the last start %d of %d devices have joined", n, len(s.nodes))
	}
}

// each lets devices join, some at a time.
func (s *storm) each(ctx context.Context, which func(*sim.Device) bool, joined func()) {
	s.t.Helper()
	next := make(chan *sim.Device)
	var workers sync.WaitGroup
	for range 25 {
		workers.Go(func() {
			for node := range next {
				r, err := s.air.Join(ctx, node)
				if err != nil && !errors.Is(err, context.Canceled) {
					s.t.Error(err)
				}
				if r.Joined {
					s.note(r)
					joined()
				}
			}
		})
	}
	for _, node := range s.nodes {
		if ctx.Err() == nil && which(node) {
			next <- node
		}
	}
	close(next)
	workers.Wait()
}

func (s *storm) note(r sim.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, again := s.latest[r.DevEUI]; again && (before.DevAddr == r.DevAddr || before.JoinNonce >= r.JoinNonce) {
		s.t.Errorf("device %s got DevAddr %s and JoinNonce %d after %s and %d", r.DevEUI, r.DevAddr, r.JoinNonce, before.DevAddr, before.JoinNonce)
	}
	s.latest[r.DevEUI] = r
	s.accepts = append(s.accepts, r)
}

func (s *storm) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.accepts)
}

func (s *storm) joins(node *sim.Device) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.accepts {
		if r.DevEUI == node.DevEUI() {
			n++
		}
	}
	return n
}

// checkSessions: no join-accept was sent without its session and its DevNonce on
// record.
func (s *storm) checkSessions(record database) {
	s.t.Helper()
	for _, r := range s.latest {
		session := record.number(`SELECT COUNT(*) FROM sessions WHERE live AND dev_eui = ? AND join_nonce = ? AND printf('%08x', dev_addr) = ? AND dev_nonce = ?`,
			r.DevEUI.String(), r.JoinNonce, r.DevAddr, r.DevNonce)
		nonce := record.number(`SELECT COUNT(*) FROM dev_nonces WHERE dev_eui = ? AND dev_nonce = ?`, r.DevEUI.String(), r.DevNonce)
		if session != 1 || nonce != 1 {
			s.t.Errorf("device %s decrypted JoinNonce %d, DevAddr %s for DevNonce %d: %d sessions and %d DevNonces on record",
				r.DevEUI, r.JoinNonce, r.DevAddr, r.DevNonce, session, nonce)
		}
	}
}

// replayAnswered sends all join-requests once more that were answered. The events
// will show whether one was answered again. (Not the metrics: frames that came
// while there was no server are accepted now, and rightly so.)
func (s *storm) replayAnswered(d *daemon) {
	s.t.Helper()
	replays := s.uplinks()
	for _, up := range replays {
		await(s.t, "replay", s.ear.client.Publish(up.topic, 1, false, up.payload))
	}
	eventually(s.t, "every replay is dealt with", func() bool {
		metrics := d.metrics()
		return metrics["joingate_late_copies_total"]+metrics[joinsSeries("dev_nonce_replayed")] >= float64(len(replays))
	})
}

// uplinks gives one copy of every join-request whose answer a device decrypted.
func (s *storm) uplinks() (answered []message) {
	s.t.Helper()
	heard := s.ear.heard("/event/up")
	for _, r := range s.accepts {
		end := binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint64(nil, uint64(r.DevEUI)), r.DevNonce)
		found := false
		for _, m := range heard {
			if found = bytes.Contains(m.payload, end); found {
				answered = append(answered, m)
				break
			}
		}
		if !found {
			s.t.Fatalf("no uplink was heard of device %s with DevNonce %d", r.DevEUI, r.DevNonce)
		}
	}
	return answered
}

// checkEvents: each session has its join event, delivered before the kill or
// after it, once or more but always the same.
func (s *storm) checkEvents(record database) {
	s.t.Helper()
	type session struct {
		devEUI    string
		joinNonce uint32
	}
	told := make(map[session]joinEvent)
	devNonces := make(map[string]uint32) // DevEUI and DevNonce: JoinNonce
	newest := make(map[string]uint32)
	eventually(s.t, "the events of all join-accepts come", func() bool {
		for _, e := range s.ear.joinEvents() {
			told[session{e.DevEUI, e.JoinNonce}] = e
		}
		for _, r := range s.accepts {
			if told[session{r.DevEUI.String(), r.JoinNonce}].DevAddr != r.DevAddr {
				return false
			}
		}
		return true
	})
	for _, e := range s.ear.joinEvents() {
		if first := told[session{e.DevEUI, e.JoinNonce}]; first != e {
			s.t.Errorf("JoinNonce %d of %s was used twice: %+v and %+v", e.JoinNonce, e.DevEUI, first, e)
		}
		key := fmt.Sprintf("%s %d", e.DevEUI, e.DevNonce)
		if before, again := devNonces[key]; again && before != e.JoinNonce {
			s.t.Errorf("DevNonce %d of %s was accepted twice, for JoinNonces %d and %d", e.DevNonce, e.DevEUI, before, e.JoinNonce)
		}
		devNonces[key] = e.JoinNonce
		newest[e.DevEUI] = max(newest[e.DevEUI], e.JoinNonce)
	}
	record.rows(`SELECT dev_eui, MAX(join_nonce) FROM sessions GROUP BY dev_eui`, func(scan func(...any) error) error {
		var last session
		err := scan(&last.devEUI, &last.joinNonce)
		for n := uint32(1); n <= last.joinNonce; n++ {
			if _, has := told[session{last.devEUI, n}]; !has {
				s.t.Errorf("session %d of %s has no join event", n, last.devEUI)
			}
		}
		if newest[last.devEUI] != last.joinNonce {
			s.t.Errorf("newest session of %s is %d, the events tell of %d", last.devEUI, last.joinNonce, newest[last.devEUI])
		}
		return err
	})
}

// checkAddresses: live sessions have DevAddrs of their own.
func checkAddresses(record database) {
	record.t.Helper()
	live := record.number(`SELECT COUNT(*) FROM sessions WHERE live`)
	if distinct := record.number(`SELECT COUNT(DISTINCT dev_addr) FROM sessions WHERE live`); live != distinct || live == 0 {
		record.t.Errorf("%d live sessions have %d DevAddrs", live, distinct)
	}
}
