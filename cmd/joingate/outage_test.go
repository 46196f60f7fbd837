package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"joingate/sim"
)

// A record that another program has locked: the join is not answered, nothing is
// lost, and it goes on by itself.
func TestLockedRecord(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, _ := d.site(gatewayA)
	meter := newDevice(1, "1.0.4")
	c.register("meters", meter)
	f := d.field(gatewayA)
	e := newEar(t, d.broker)
	node := meter.switchOn(t)
	f.join(node)

	record := openDatabase(t, d.record)
	record.awaitDelivery()
	record.do(`BEGIN IMMEDIATE`)
	f.ask(gatewayA, node)
	d.awaitNotReady("record")
	eventually(t, "the join has failed", func() bool { return d.joins("failed") == 1 })
	if n := record.number(`SELECT COUNT(*) FROM dev_nonces`); n != 1 {
		t.Errorf("%d DevNonces on record behind the lock", n)
	}
	record.do(`ROLLBACK`)

	d.awaitReady()
	if r := f.join(node); r.JoinNonce != 2 {
		t.Errorf("JoinNonce %d after a join that was not answered, want 2", r.JoinNonce)
	}
	if n := f.bridge.Counts().Commands.Load(); n != 2 {
		t.Errorf("%d commands for two answered joins", n)
	}
	eventually(t, "both join events come", func() bool { return len(e.joinEvents()) == 2 })
}

// awaitNotReady waits until /readyz says what is lost.
func (d *daemon) awaitNotReady(says string) {
	d.t.Helper()
	began := time.Now()
	eventually(d.t, "/readyz says that this is lost: "+says, func() bool {
		status, body := d.get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, says)
	})
	d.t.Logf("/readyz was 503 after %s", time.Since(began).Round(10*time.Millisecond))
	if status, _ := d.get("/healthz"); status != http.StatusOK {
		d.t.Errorf("/healthz is %d: the process would be started again, which does not help", status)
	}
}

// An external broker that goes and comes back.
func TestExternalBroker(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mosquitto"); err != nil {
		t.Skip("mosquitto is not installed: apt-get install mosquitto")
	}
	m := newMachine(t)
	address := freeAddress(t)
	stop := m.startMosquitto(address)
	d := m.with("JOINGATE_MQTT__URL=mqtt://" + address).serve()
	if d.broker != "mqtt://"+address {
		t.Errorf("serve announces the broker %s", d.broker)
	}
	c, _ := d.site(gatewayA)
	meter := newDevice(1, "1.1")
	c.register("meters", meter)
	node := meter.switchOn(t)
	f := d.field(gatewayA)
	f.join(node)
	f.bridge.Kill() // or there would be two with one gateway later

	stop()
	d.awaitNotReady(address)
	m.startMosquitto(address)
	d.awaitReady()
	// Mosquitto, unlike the embedded broker, hands a megabyte on.
	await(t, "publish", connect(t, d.broker).Publish("gateway/"+gatewayA.String()+"/event/up", 1, false, make([]byte, 1<<20)))
	if r := d.field(gatewayA).join(node); r.JoinNonce != 2 {
		t.Errorf("JoinNonce %d, want 2", r.JoinNonce)
	}
	eventually(t, "the megabyte is counted", func() bool { return d.metrics()[`joingate_uplinks_total{kind="garbage"}`] == 1 })
}

// freeAddress gives an address that nobody listens on, for a program that cannot
// tell which port it took.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	return l.Addr().String()
}

// startMosquitto starts a broker and waits until it answers.
func (m machine) startMosquitto(address string) (stop func()) {
	m.t.Helper()
	_, port, err := net.SplitHostPort(address)
	check(m.t, err)
	config := m.write("mosquitto.conf", fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\npersistence false\n", port))
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, "mosquitto", "-c", config)
	log := newTranscript()
	c.Stdout, c.Stderr = log, log
	check(m.t, c.Start())
	stop = func() { cancel(); _ = c.Wait() }
	m.t.Cleanup(stop)
	eventually(m.t, "mosquitto answers", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			err = conn.Close()
		}
		return err == nil
	})
	return stop
}

// SIGTERM while a join's copies are still awaited: the device gets its answer,
// and the process ends well.
func TestStopFinishesTheJoinUnderWay(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "JOINGATE_JOIN__COLLECT_WINDOW=2s")
	d := m.serve()
	c, _ := d.site(gatewayA)
	meter := newDevice(1, "1.0.3")
	c.register("meters", meter)
	f := d.field(gatewayA)
	answered := make(chan sim.Result, 1)
	go func() {
		r, _ := f.air.Join(t.Context(), meter.switchOn(t)) // an error is a Result that has not joined
		answered <- r
	}()
	eventually(t, "the join is under way", func() bool { return d.metrics()["joingate_frames_open"] == 1 })
	if status := d.stop(); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}
	r := <-answered
	if !r.Joined {
		t.Fatalf("the join under way was not answered: %s", r.Reason)
	}

	// What was answered is on record, and its event is not lost.
	again := m.serve()
	record := openDatabase(t, again.record)
	if n := record.number(`SELECT COUNT(*) FROM sessions WHERE join_nonce = ?`, r.JoinNonce); n != 1 {
		t.Errorf("%d sessions on record", n)
	}
	record.awaitDelivery()
}
