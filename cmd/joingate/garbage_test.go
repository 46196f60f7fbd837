package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"joingate/sim"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// Nothing that arrives may stop the server or keep a device from joining.
func TestGarbage(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, _ := d.site(gatewayA)
	meter := newDevice(1, "1.0.4")
	c.register("meters", meter)
	f := d.field(gatewayA, gatewayD)
	node := meter.switchOn(t)
	f.join(node)
	record := openDatabase(t, d.record)
	record.awaitDelivery()
	written := record.number(`PRAGMA data_version`)

	stranger := connect(t, d.broker)
	n := publishGarbage(t, stranger)
	f.hearsTruncatedFrames(meter)
	publishTooMuch(t, d.broker)
	eventually(t, "every uplink has been looked at", func() bool {
		var seen float64
		for _, kind := range []string{"garbage", "join", "other", "not_lora", "bad_crc", "retained"} {
			seen += d.metrics()[fmt.Sprintf("joingate_uplinks_total{kind=%q}", kind)]
		}
		return seen >= float64(n+len(truncated(meter, t))+1)
	})
	if now := record.number(`PRAGMA data_version`); now != written {
		t.Error("garbage was written to the record")
	}
	f.join(node)
	if panics := d.metrics()["joingate_panics_total"]; panics != 0 {
		t.Errorf("%v panics", panics)
	}
}

// publishGarbage puts garbage on every topic that the server listens to, and
// gives how much of it was for event/up.
func publishGarbage(t testing.TB, c paho.Client) (uplinks int) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	var last paho.Token
	for _, gateway := range []string{gatewayA.String(), gatewayD.String(), "ffffffffffffffff"} {
		for _, prefix := range []string{"", "eu868/"} {
			for _, end := range []string{"event/up", "event/ack", "event/stats", "state/conn"} {
				for _, payload := range garbage(r) {
					last = c.Publish(prefix+"gateway/"+gateway+"/"+end, 1, false, payload)
					if end == "event/up" {
						uplinks++
					}
				}
			}
		}
	}
	for _, topic := range []string{"gateway/x/event/up", "gateway//event/up", "a/gateway/0/event/up", "gateway/" + gatewayA.String() + "/command/down"} {
		last = c.Publish(topic, 1, true, "garbage")
	}
	await(t, "publish garbage", last)
	return uplinks
}

// garbage is nothing that a bridge says.
func garbage(r *rand.Rand) [][]byte {
	noise := make([]byte, 300)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	return [][]byte{
		nil,
		{0},
		{0xff},
		[]byte("{"), []byte("{}"), []byte("null"), []byte(`{"phyPayload":5}`), []byte(`{"phyPayload":"AAAA"}`),
		[]byte(`{"phyPayload":"` + string(bytes.Repeat([]byte("A"), 4000)) + `"}`),
		bytes.Repeat([]byte("["), 20_000), bytes.Repeat([]byte(`{"rxInfo":`), 5_000), bytes.Repeat([]byte{0x0a}, 1_000),
		noise, noise[:40], bytes.Repeat([]byte{0}, 200<<10),
	}
}

// truncated gives every beginning of a join-request but the whole.
func truncated(d device, t testing.TB) (frames [][]byte) {
	t.Helper()
	up, err := d.counting(500).switchOn(t).JoinRequest()
	check(t, err)
	for n := range up.PHYPayload {
		frames = append(frames, up.PHYPayload[:n])
	}
	return frames
}

func (f *field) hearsTruncatedFrames(d device) {
	f.t.Helper()
	up, err := d.switchOn(f.t).JoinRequest()
	check(f.t, err)
	for _, frame := range truncated(d, f.t) {
		up.PHYPayload = frame
		f.hears(gatewayA, up)
	}
	up.PHYPayload = append([]byte{0x40}, make([]byte, 240)...) // a data frame
	f.hears(gatewayD, up)
}

// publishTooMuch sends a message that the embedded broker does not take. It
// closes the connection, so the sender has one of its own.
func publishTooMuch(t testing.TB, broker string) {
	t.Helper()
	lost := make(chan struct{})
	c := paho.NewClient(paho.NewClientOptions().AddBroker(broker).SetAutoReconnect(false).
		SetConnectionLostHandler(func(paho.Client, error) { close(lost) }))
	await(t, "connect", c.Connect())
	c.Publish("gateway/"+gatewayA.String()+"/event/up", 0, false, make([]byte, 1<<20))
	eventually(t, "the sender of a megabyte is disconnected", func() bool {
		select {
		case <-lost:
			return true
		default:
			return false
		}
	})
}

// A flood of forged join-requests is counted to the last one, costs no write,
// and fills neither log nor events.
func TestFloodOfBadMICs(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, _ := d.site(gatewayA)
	meter := newDevice(1, "1.0.4")
	c.register("meters", meter)
	f := d.field(gatewayA)
	node := meter.switchOn(t)
	f.join(node)
	e := newEar(t, d.broker)
	record := openDatabase(t, d.record)
	record.awaitDelivery()
	written := record.number(`PRAGMA data_version`)

	const flood = 2000
	forger := meter
	forger.appKey = keyOf("forged", 1)
	forged := forger.counting(1).switchOn(t)
	for range flood {
		f.ask(gatewayA, forged)
	}
	eventually(t, "all are counted", func() bool { return d.joins("bad_mic") == flood })
	if now := record.number(`PRAGMA data_version`); now != written {
		t.Error("the flood was written to the record")
	}
	f.join(node)
	d.checkSummedLog(flood)
	e.checkSummedEvents(flood)
}

// mostShown bounds how many of the flood may be told one by one: 100 a second,
// for as long as it lasted here, and that is long.
const mostShown = 1500

// checkSummedLog: lines and sums together tell of every refusal.
func (d *daemon) checkSummedLog(flood int) {
	d.t.Helper()
	var shown, summed int
	eventually(d.t, "the log has summed the refusals", func() bool {
		shown, summed = len(d.logged("join refused")), 0
		for _, line := range d.logged("more joins refused") {
			summed += line.Count
		}
		return shown+summed >= flood
	})
	if shown+summed != flood || shown > mostShown {
		d.t.Errorf("the log shows %d refusals and sums %d, of %d", shown, summed, flood)
	}
}

// checkSummedEvents: the same of the events.
func (e *ear) checkSummedEvents(flood int) {
	e.t.Helper()
	var shown, summed int
	eventually(e.t, "the events have summed the refusals", func() bool {
		shown, summed = 0, 0
		for _, m := range e.heard("/event/reject") {
			var event struct {
				Reason string
				DevEUI sim.EUI
				Count  int
			}
			if err := json.Unmarshal(m.payload, &event); err != nil || event.Reason != "bad_mic" {
				e.t.Fatalf("event %s (%v)", m.payload, err)
			}
			summed += event.Count
			if event.Count == 0 {
				shown++
			}
		}
		return shown+summed >= flood
	})
	if shown+summed != flood || shown > mostShown {
		e.t.Errorf("the events tell of %d refusals and sum %d, of %d", shown, summed, flood)
	}
}
