package mqtt

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"joingate/band"
	"joingate/joinserver"
	"joingate/mqtt/broker"
)

// A gateway that refuses both windows hands over to the next one, whatever it
// says it in.
func TestRefusalsInAllEncodings(t *testing.T) {
	onEachBroker(t, func(t *testing.T, url string) {
		edge := runEdge(t, url, new(fakeHandler))
		b := connectBridge(t, url)
		for i, e := range []encoding{v4Protobuf, v4JSON, v3Protobuf, v3JSON} {
			request := joinRequest(i)
			b.up(t, copyOf(request, gatewayA, 7, start))
			b.up(t, copyOf(request, gatewayB, 3, start))
			first := commandSent(t, b.awaitCommands(t, 2*i+1)[2*i])
			b.publish(t, "gateway/"+gatewayA.String()+"/event/ack",
				encodeAck(e, first.Gateway, first.ID, gw.TxAckStatus_TOO_LATE, gw.TxAckStatus_COLLISION_PACKET))
			second := commandSent(t, b.awaitCommands(t, 2*i+2)[2*i+1])
			if first.Gateway != gatewayA || second.Gateway != gatewayB || !bytes.Equal(first.PHYPayload, second.PHYPayload) || first.ID == second.ID {
				t.Errorf("%s: first %+v, then %+v", e, first, second)
			}
			b.publish(t, "gateway/"+gatewayB.String()+"/event/ack", encodeAck(e, second.Gateway, second.ID, gw.TxAckStatus_OK, gw.TxAckStatus_IGNORED))
		}
		eventually(t, "the acks", func() bool { return testutil.ToFloat64(edge.metrics.acks.WithLabelValues("ok")) == 4 })
		wantCount(t, "handovers", edge.metrics.handovers, 4)
		wantCount(t, "unsent", edge.metrics.unsent, 0)
	})
}

func TestPrefixesOfSeveralLevels(t *testing.T) {
	url := startEmbedded(t, "127.0.0.1:0")
	runEdge(t, url, new(fakeHandler), func(c *Config) { c.Prefixes = []string{"a/b"} })
	b := connectBridge(t, url)
	b.publish(t, "a/b/gateway/"+gatewayA.String()+"/event/up", encodeUplink(copyOf(joinRequest(1), gatewayA, 7, start)))
	if sent := b.awaitCommands(t, 1); sent[0].topic != "a/b/gateway/"+gatewayA.String()+"/command/down" {
		t.Errorf("answered on %s", sent[0].topic)
	}
}

// Nothing that arrives stops the edge or stalls others.
func TestGarbageOnEveryTopic(t *testing.T) {
	onEachBroker(t, func(t *testing.T, url string) {
		edge := runEdge(t, url, new(fakeHandler))
		b := connectBridge(t, url)
		for _, topic := range topicsOfGarbage() {
			for _, payload := range garbage(t) {
				b.publish(t, topic, payload)
			}
		}
		stranger := connectBridge(t, url) // a broker may cut off who sends a megabyte
		stranger.client.Publish("gateway/"+gatewayA.String()+"/event/up", 0, false, make([]byte, 1<<20))
		b.up(t, copyOf(joinRequest(1), gatewayA, 7, start))
		b.awaitCommands(t, 1)
		if garbage := testutil.ToFloat64(edge.metrics.uplinks.WithLabelValues(uplinkGarbage)); garbage < 10 {
			t.Errorf("%v uplinks counted as garbage", garbage)
		}
		wantCount(t, "panics", edge.metrics.panics, 0)
		if err := edge.Ready(); err != nil {
			t.Error(err)
		}
	})
}

func topicsOfGarbage() []string {
	root := "gateway/" + gatewayA.String()
	return []string{
		root + "/event/up", root + "/event/ack", root + "/event/stats", root + "/state/conn",
		"eu868/" + root + "/event/up", "gateway/xyz/event/up", "gateway/0016C001F1500A01/event/up", "gateway/00/state/conn", "/gateway/0016c001f1500a01/event/up",
	}
}

// garbage is what a broken or hostile client may send.
func garbage(t *testing.T) [][]byte {
	payloads := [][]byte{
		{},
		{0},
		[]byte("{"), []byte("{}"), []byte("null"), []byte("[]"), []byte(`{"gatewayId":1}`), []byte(`{"gatewayID":"AA=="}`),
		[]byte(`{"rxInfo":{"gatewayId":"zz"}}`), []byte("\xff\xff\xff\xff\xff"), bytes.Repeat([]byte("{\"a\":"), 5000), make([]byte, maxPayload+1),
		encodeUplink(uplinkCopy{}), encodeAck(v4JSON, gatewayA, 0), encodeAck(v3JSON, gatewayA, 1<<31),
	}
	random := rand.New(rand.NewPCG(1, 2))
	up := loadCaptures(t).first(t, "v4-protobuf", "join-cn470", "event/up").payload(t)
	for range 40 {
		broken := slices.Clone(up)
		for range 1 + random.IntN(4) {
			broken[random.IntN(len(broken))] = byte(random.Uint32())
		}
		payloads = append(payloads, broken[:random.IntN(len(broken)+1)])
	}
	return payloads
}

// The same, straight at the door and in larger numbers: no panic, no fault.
func TestReceiveSurvivesBrokenMessages(t *testing.T) {
	b := newBench(t)
	random := rand.New(rand.NewPCG(3, 4))
	for _, run := range loadCaptures(t).Runs {
		for _, record := range run.Records {
			if record.Topic == "" {
				continue
			}
			payload := record.payload(t)
			for range 5 {
				broken := slices.Clone(payload)
				for range random.IntN(4) {
					broken[random.IntN(len(broken))] ^= 1 << random.IntN(8)
				}
				b.receive(record.Topic, broken[:random.IntN(len(broken)+1)], random.IntN(8) == 0)
			}
			b.receive(record.Topic, payload, false)
		}
		b.pass(t, 10*time.Second)
	}
	wantCount(t, "panics", b.metrics.panics, 0)
	if sent := b.broker.messages(); len(sent) == 0 {
		t.Error("no join was answered among the broken messages")
	}
}

func FuzzReceive(f *testing.F) {
	loadCaptures(f).each("", func(_ captureRun, r captureRecord) {
		if strings.HasPrefix(r.Step, "join-ghost") || strings.HasPrefix(r.Step, "down-tx") {
			f.Add(r.Topic, r.payload(f), false)
		}
	})
	b := newBench(f, func(c *Config) { c.Logger = zap.NewNop() })
	f.Fuzz(func(t *testing.T, topic string, payload []byte, retained bool) {
		b.receive(topic, payload, retained)
		b.tick(b.clock.advance(time.Second))
		b.settle(t)
		if n := testutil.ToFloat64(b.metrics.panics); n != 0 {
			t.Fatalf("%v panics", n)
		}
	})
}

func TestWhatIsNoJoin(t *testing.T) {
	b := newBench(t)
	topic := "gateway/" + gatewayA.String() + "/event/up"
	change := func(change func(*uplinkCopy)) []byte {
		c := copyOf(joinRequest(1), gatewayA, 7, start)
		change(&c)
		return encodeUplink(c)
	}
	captured := loadCaptures(t)
	for _, test := range []struct {
		kind     string
		payload  []byte
		retained bool
	}{
		{uplinkBadCRC, change(func(c *uplinkCopy) { c.CRC = crcBad }), false},
		{uplinkOther, change(func(c *uplinkCopy) { c.PHYPayload = []byte{0x40, 1, 2, 3, 4, 0, 0, 0, 1, 2, 3, 4} }), false},
		{uplinkOther, captured.first(t, "v4-protobuf", "up-data", "event/up").payload(t), false},
		{uplinkNotLoRa, captured.first(t, "v3-json", "up-fsk", "event/up").payload(t), false},
		{uplinkRetained, encodeUplink(copyOf(joinRequest(1), gatewayA, 7, start)), true},
		{uplinkGarbage, encodeUplink(copyOf(joinRequest(1), gatewayB, 7, start)), false}, // under another's topic
		{uplinkGarbage, []byte("{}"), false},
		{uplinkGarbage, make([]byte, maxPayload+1), false},
	} {
		before := testutil.ToFloat64(b.metrics.uplinks.WithLabelValues(test.kind))
		b.receive(topic, test.payload, test.retained)
		wantCount(t, "uplinks{"+test.kind+"}", b.metrics.uplinks.WithLabelValues(test.kind), before+1)
	}
	b.pass(t, time.Second)
	if prepared, _ := b.handler.calls(); prepared != 0 {
		t.Errorf("%d joins", prepared)
	}
	for _, step := range []string{"up-empty", "up-truncated"} {
		record := captured.first(t, "v4-json", step, "event/up")
		b.receive(record.Topic, record.payload(t), false)
		b.settle(t)
	}
	b.wantJoins(t, "refused", "malformed", 2)
}

func TestGatewaysAreSeen(t *testing.T) {
	g := new(gatewayLog)
	b := newBench(t, func(c *Config) { c.Gateways = g })
	root := "gateway/" + gatewayA.String()
	captured := loadCaptures(t)
	b.receive(root+"/state/conn", captured.first(t, "v4-json", "conn-online", "state/conn").payload(t), true)
	stats := captured.first(t, "v3-protobuf", "stats", "event/stats")
	b.receive(stats.Topic, stats.payload(t), false)
	b.receive(uplinkTopic("", gatewayB), encodeUplink(copyOf(joinRequest(1), gatewayB, 7, start)), false)
	b.receive(root+"/event/up", encodeUplink(copyOf(joinRequest(2), gatewayC, 7, start)), true) // retained proves nothing
	if got := g.list(); len(got) != 3 || !strings.HasPrefix(got[0], "online") || got[2] != "seen B 0s" {
		t.Errorf("told %q", got)
	}
}

// Events are not lost while the broker is away, and joins go on after it.
func TestOutboxSurvivesRestartOfTheBroker(t *testing.T) {
	address := freeAddress(t)
	first, err := broker.Start(broker.Options{Listen: address})
	if err != nil {
		t.Fatal(err)
	}
	outbox := newMemoryOutbox(300)
	edge := runEdge(t, "mqtt://"+address, new(fakeHandler), func(c *Config) { c.Outbox = outbox })
	eventually(t, "the outbox to be empty", func() bool { return outbox.len() == 0 })
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the edge to see that the broker is away", func() bool { return edge.Ready() != nil })
	outbox.add(301, 600)
	startEmbedded(t, address)
	b := connectBridge(t, "mqtt://"+address)
	eventually(t, "the outbox to be empty again", func() bool { return outbox.len() == 0 })
	eventually(t, "the edge to be ready again", func() bool { return edge.Ready() == nil })
	b.up(t, copyOf(joinRequest(1), gatewayA, 7, start))
	b.awaitCommands(t, 1)
	outbox.add(601, 601)
	eventually(t, "the next event", func() bool { return len(b.on("/event/join")) > 0 })
}

func TestRejectEventReachesTheBroker(t *testing.T) {
	url := startEmbedded(t, "127.0.0.1:0")
	runEdge(t, url, &fakeHandler{answer: func(r joinserver.JoinRequest, _ []joinserver.Reception) (joinserver.Downlink, error) {
		return joinserver.Downlink{}, &joinserver.Rejection{Reason: joinserver.UnknownDevice, DevEUI: r.DevEUI}
	}})
	b := connectBridge(t, url)
	b.up(t, copyOf(joinRequest(1), gatewayA, 7, start))
	topic := "joingate/_/node/" + requestOf(joinRequest(1)).DevEUI.String() + "/event/reject"
	eventually(t, "the reject event", func() bool { return len(b.on(topic)) == 1 })
}

// An instance that cannot answer leaves the share group to the others, and is back
// when it can.
func TestUnableInstanceLeavesTheShareGroup(t *testing.T) {
	onEachBroker(t, func(t *testing.T, url string) {
		var unable atomic.Bool
		handler := new(fakeHandler)
		edge := runEdge(t, url, handler, func(c *Config) { c.ShareGroup = "joingate" })
		asks, asked := make(chan time.Time), make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go edge.attend(ctx, func(context.Context) error {
			defer func() { asked <- struct{}{} }()
			if unable.Load() {
				return errors.New("the record is away")
			}
			return nil
		}, asks)
		ask := func(times int) {
			for range times {
				asks <- time.Time{}
				<-asked
			}
		}
		b := connectBridge(t, url)
		var received atomic.Int32
		token := b.client.Subscribe("$share/joingate/gateway/+/event/up", 1, func(paho.Client, paho.Message) { received.Add(1) })
		if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
			t.Fatalf("subscribe as another instance: %v", token.Error())
		}
		unable.Store(true)
		ask(unableFor + 1) // the last one is asked after it has left
		for i := range 10 {
			b.up(t, copyOf(joinRequest(i), gatewayA, 7, start))
		}
		eventually(t, "the other instance to get everything", func() bool { return received.Load() == 10 })
		unable.Store(false)
		ask(2)
		n := 100
		eventually(t, "this instance to get something again", func() bool {
			b.up(t, copyOf(joinRequest(n), gatewayA, 7, start))
			n++
			prepared, _ := handler.calls()
			return prepared > 0
		})
	})
}

// An instance that stops leaves what comes to the others of its share group.
func TestDrainLeavesTheShareGroup(t *testing.T) {
	onEachBroker(t, func(t *testing.T, url string) {
		stopping := runEdge(t, url, new(fakeHandler), func(c *Config) { c.ShareGroup = "joingate" })
		b := connectBridge(t, url)
		var received atomic.Int32
		token := b.client.Subscribe("$share/joingate/gateway/+/event/up", 1, func(paho.Client, paho.Message) { received.Add(1) })
		if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
			t.Fatalf("subscribe as another instance: %v", token.Error())
		}
		stopping.Drain(t.Context())
		for i := range 10 {
			b.up(t, copyOf(joinRequest(i), gatewayA, 7, start))
		}
		eventually(t, "the other instance to get everything", func() bool { return received.Load() == 10 })
	})
}

// Drain finishes what is under way and takes nothing new.
func TestDrain(t *testing.T) {
	b := newBench(t)
	b.hear(joinRequest(1), gatewayA, 7)
	b.hear(joinRequest(1), gatewayB, 3)
	b.pipeline.drain()
	b.hear(joinRequest(1), gatewayC, 9)
	b.hear(joinRequest(2), gatewayA, 7)
	b.settle(t)
	if b.idle() {
		t.Fatal("drained while a window is open")
	}
	b.pass(t, testWindow)
	sent := b.broker.messages()
	if len(sent) != 1 || commandSent(t, sent[0]).Gateway != gatewayC {
		t.Fatalf("published %+v, want the answer to the first frame with the copy that came while draining", sent)
	}
	if b.idle() {
		t.Fatal("drained while a refusal may have to be handed over")
	}
	b.refuse(t)
	b.refuse(t)
	if b.idle() {
		t.Fatal("drained while the last command may not have arrived")
	}
	b.refuse(t)
	if b.idle() {
		t.Error("drained while the event of the outcome waits")
	}
	b.publishEvents()
	if !b.idle() {
		t.Error("not drained although the last gateway has answered")
	}
	b.wantJoins(t, "refused", "overloaded", 0)

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b.Drain(ctx)
}

func TestDrainEndsWithItsContext(t *testing.T) {
	b := newBench(t)
	b.hear(joinRequest(1), gatewayA, 7)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("time is up"))
	b.Drain(ctx) // the clock stands still: it would never end by itself
}

func TestMetricsOfTwoEdgesDoNotMeet(t *testing.T) {
	one := newBench(t)
	newBench(t) // or registering its metrics would fail
	_, err := newEdge(Config{Handler: one.handler, Logger: one.log, Registerer: prometheus.NewRegistry(), CollectWindow: 5 * time.Second}, one.broker)
	if err == nil {
		t.Error("a collect window of 5 s leaves no RX1")
	}
}

// The MIC protects a join-request, so a bridge that says nothing of the CRC is
// heard.
func TestUplinkWithoutCRCStatusIsAJoin(t *testing.T) {
	up := uplink{PHYPayload: make([]byte, 23), Reception: joinserver.Reception{Modulation: band.Modulation{SpreadingFactor: 10}}, CRC: crcNone}
	if kind := kindOfUplink(up, false, nil); kind != uplinkJoin {
		t.Errorf("kind %q, want %q", kind, uplinkJoin)
	}
}

func TestOnlyRefusalsHaveAReasonLabel(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newMetrics()
	if err := m.register(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, f := range families {
		if f.GetName() != "joingate_joins_total" {
			continue
		}
		for _, row := range f.GetMetric() {
			labels := ""
			for _, l := range row.GetLabel() {
				labels += l.GetName() + "=" + l.GetValue() + " "
			}
			rows = append(rows, labels)
		}
	}
	for _, want := range []string{"result=accepted ", "reason=bad_mic result=refused "} {
		if !slices.Contains(rows, want) {
			t.Errorf("no row %q in %q", want, rows)
		}
	}
}
