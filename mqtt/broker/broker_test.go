package broker_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"joingate/mqtt/broker"
)

// patience bounds every wait; nothing is expected to take that long.
const patience = time.Minute

func start(t testing.TB, listen string) *broker.Broker {
	t.Helper()
	b, err := broker.Start(broker.Options{Listen: listen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func connect(t testing.TB, b *broker.Broker, id string, configure ...func(*paho.ClientOptions)) paho.Client {
	t.Helper()
	options := paho.NewClientOptions().AddBroker("tcp://" + b.Addr().String()).
		SetClientID(id).SetAutoReconnect(false).SetConnectTimeout(patience).SetPingTimeout(patience)
	for _, set := range configure {
		set(options)
	}
	client := paho.NewClient(options)
	await(t, client.Connect())
	t.Cleanup(func() { client.Disconnect(0) })
	return client
}

func await(t testing.TB, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatal("no answer from the broker")
	}
	if err := token.Error(); err != nil {
		t.Fatal(err)
	}
}

func subscribe(t testing.TB, client paho.Client, filter string) <-chan paho.Message {
	t.Helper()
	got := make(chan paho.Message, 1<<15)
	await(t, client.Subscribe(filter, 1, func(_ paho.Client, m paho.Message) { got <- m }))
	return got
}

func receive(t testing.TB, from <-chan paho.Message) paho.Message {
	t.Helper()
	select {
	case m := <-from:
		return m
	case <-time.After(patience):
		t.Fatal("no message")
		return nil
	}
}

func TestPublishSubscribe(t *testing.T) {
	b := start(t, "127.0.0.1:0")
	got := subscribe(t, connect(t, b, "subscriber"), "gateway/+/event/up")
	for qos := byte(0); qos <= 2; qos++ {
		await(t, connect(t, b, fmt.Sprint("publisher", qos)).Publish("gateway/a/event/up", qos, false, []byte{'0' + qos}))
		if m := receive(t, got); m.Topic() != "gateway/a/event/up" || string(m.Payload()) != fmt.Sprint(qos) {
			t.Errorf("QoS %d: %s %q", qos, m.Topic(), m.Payload())
		}
	}
}

func TestRetained(t *testing.T) {
	b := start(t, "127.0.0.1:0")
	publisher := connect(t, b, "publisher")
	early := subscribe(t, connect(t, b, "early"), "gateway/+/state/conn")
	await(t, publisher.Publish("gateway/a/state/conn", 1, true, "ONLINE"))
	if m := receive(t, early); m.Retained() {
		t.Error("who was there already got the retain flag")
	}
	late := subscribe(t, connect(t, b, "late"), "gateway/+/state/conn")
	if m := receive(t, late); !m.Retained() || string(m.Payload()) != "ONLINE" {
		t.Errorf("retained %v, %q", m.Retained(), m.Payload())
	}
	if end := broker.RetainedUntil(b, "gateway/a/state/conn"); end != 0 {
		t.Errorf("the state is forgotten at %d", end)
	}
}

func TestSharedSubscription(t *testing.T) {
	const messages = 200
	b := start(t, "127.0.0.1:0")
	got := make(chan string, 2*messages)
	for _, id := range []string{"one", "two"} {
		await(t, connect(t, b, id).Subscribe("$share/instances/gateway/+/event/up", 1, func(_ paho.Client, m paho.Message) {
			got <- id
		}))
	}
	end := subscribe(t, connect(t, b, "whole"), "gateway/+/event/up")
	publisher := connect(t, b, "publisher")
	for range messages {
		await(t, publisher.Publish("gateway/a/event/up", 1, false, "x"))
	}
	each := map[string]int{}
	for range messages {
		receive(t, end)
		select {
		case id := <-got:
			each[id]++
		case <-time.After(patience):
			t.Fatalf("only %v of %d came", each, messages)
		}
	}
	if len(got) > 0 || each["one"] == 0 || each["two"] == 0 {
		t.Errorf("shares %v, and %d twice", each, len(got))
	}
}

// Four publishers that do not wait, and a subscriber that reads nothing until
// all is sent: the queue holds it all.
func TestFlatOutPublishersLoseNothing(t *testing.T) {
	const publishers, each = 4, 5000
	b := start(t, "127.0.0.1:0")

	sent := make(chan struct{})
	got := make(chan string, publishers*each)
	slow := connect(t, b, "slow")
	await(t, slow.Subscribe("flood/#", 1, func(_ paho.Client, m paho.Message) {
		<-sent
		got <- m.Topic()
	}))

	filler := strings.Repeat("x", 1000) // so that the network's buffers do not hold it all
	done := make(chan []paho.Token, publishers)
	for p := range publishers {
		client := connect(t, b, fmt.Sprint("publisher", p))
		go func() {
			tokens := make([]paho.Token, each)
			for i := range tokens {
				tokens[i] = client.Publish(fmt.Sprintf("flood/%d/%d", p, i), 1, false, filler)
			}
			done <- tokens
		}()
	}
	for range publishers {
		for _, token := range <-done {
			await(t, token)
		}
	}
	close(sent)

	distinct := map[string]bool{}
	timeout := time.After(patience)
	for len(distinct) < publishers*each {
		select {
		case topic := <-got:
			distinct[topic] = true
		case <-timeout:
			t.Fatalf("%d of %d arrived, %d dropped", len(distinct), publishers*each, b.Dropped())
		}
	}
	if b.Dropped() != 0 {
		t.Errorf("%d dropped", b.Dropped())
	}
}

func TestRestartOnTheSamePort(t *testing.T) {
	first := start(t, "127.0.0.1:0")
	lost := make(chan struct{})
	connect(t, first, "client", func(o *paho.ClientOptions) {
		o.SetConnectionLostHandler(func(paho.Client, error) { close(lost) })
	})
	silent, err := net.Dial("tcp", first.Addr().String()) // never says CONNECT
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-lost:
	case <-time.After(patience):
		t.Fatal("the client was not told")
	}
	if err := first.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	second := start(t, first.Addr().String())
	got := subscribe(t, connect(t, second, "client"), "a")
	await(t, connect(t, second, "other").Publish("a", 1, false, "x"))
	receive(t, got)
}

// A stranger's garbage costs the stranger the connection and nobody else's.
func TestGarbage(t *testing.T) {
	b := start(t, "127.0.0.1:0")
	got := subscribe(t, connect(t, b, "subscriber"), "a")
	tests := map[string]string{
		"not MQTT":          "GET / HTTP/1.1\r\n\r\n",
		"zeros":             strings.Repeat("\x00", 64),
		"length never ends": "\x10\xff\xff\xff\xff\xff",
		"256 MiB announced": "\x10\xff\xff\xff\x7f",
		"empty CONNECT":     "\x10\x00",
		"PUBLISH at once":   "\x30\x03\x00\x01a",
		"cut-off CONNECT":   "\x10\x0c\x00\x04MQTT\x04\x02",
	}
	for name, garbage := range tests {
		conn, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(garbage))
		_ = conn.(*net.TCPConn).CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 16)); err == nil {
			t.Errorf("%s was answered", name)
		}
		_ = conn.Close()
	}
	await(t, connect(t, b, "publisher").Publish("a", 1, false, "still here"))
	receive(t, got)
}

// Nobody waits for a subscriber that stops reading, even when the network's
// buffers are full.
func TestStalledSubscriberStopsNobody(t *testing.T) {
	b := start(t, "127.0.0.1:0")
	stalled, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.Close()
	say(t, stalled, "\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01s", 4) // CONNECT as "s", no keep-alive
	say(t, stalled, "\x82\x06\x00\x01\x00\x01a\x01", 5)                 // SUBSCRIBE to "a" with QoS 1

	const messages = 80
	got := subscribe(t, connect(t, b, "healthy"), "a")
	publisher := connect(t, b, "publisher")
	for range messages {
		await(t, publisher.Publish("a", 1, false, make([]byte, 200<<10)))
	}
	for range messages {
		receive(t, got)
	}
}

// say sends a packet and reads an answer of n octets.
func say(t testing.TB, conn net.Conn, packet string, n int) []byte {
	t.Helper()
	if _, err := conn.Write([]byte(packet)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, n)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(conn, answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// The reason of a refusal arrives before the connection ends.
func TestRefusedClientIsToldWhy(t *testing.T) {
	conn, err := net.Dial("tcp", start(t, "127.0.0.1:0").Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answer := say(t, conn, "\x10\x0c\x00\x04MQTT\x04\x00\x00\x00\x00\x00", 4) // a session to keep, but no name
	if answer[0] != 0x20 || answer[3] == 0 {
		t.Errorf("CONNACK %x", answer)
	}
}

func TestTooLargePacketDisconnects(t *testing.T) {
	b := start(t, "127.0.0.1:0")
	got := subscribe(t, connect(t, b, "subscriber"), "a")
	lost := make(chan struct{})
	rude := connect(t, b, "rude", func(o *paho.ClientOptions) {
		o.SetConnectionLostHandler(func(paho.Client, error) { close(lost) })
	})
	rude.Publish("a", 0, false, make([]byte, 1<<20))
	select {
	case <-lost:
	case <-time.After(patience):
		t.Fatal("a megabyte was taken")
	}
	await(t, connect(t, b, "polite").Publish("a", 1, false, make([]byte, 200<<10)))
	if m := receive(t, got); len(m.Payload()) != 200<<10 {
		t.Errorf("%d octets came", len(m.Payload()))
	}
}

func TestStartRefuses(t *testing.T) {
	taken := start(t, "127.0.0.1:0").Addr().String()
	tests := []struct{ name, listen, says string }{
		{"all addresses", "0.0.0.0:0", "without a password"},
		{"all addresses of IPv6", "[::]:0", "without a password"},
		{"no host", ":1883", "without a password"},
		{"another address", "192.0.2.1:1883", "without a password"},
		{"port in use", taken, taken + " is in use; set [mqtt] embedded_listen"},
		{"no port", "127.0.0.1", "write it like 127.0.0.1:1883"},
		{"nothing", "", "without a password"},
		{"no such port", "127.0.0.1:99999", "write it like"},
	}
	for _, test := range tests {
		b, err := broker.Start(broker.Options{Listen: test.listen})
		if err == nil {
			_ = b.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// What clients make the broker say stays at debug level and shows no payload.
func TestLogShowsNoPayload(t *testing.T) {
	core, logged := observer.New(zap.DebugLevel)
	b, err := broker.Start(broker.Options{Listen: "127.0.0.1:0", Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	lost := make(chan struct{})
	client := connect(t, b, "client", func(o *paho.ClientOptions) {
		o.SetUsername("user").SetPassword("sesame").SetWill("will", "sesame", 1, false)
		o.SetConnectionLostHandler(func(paho.Client, error) { close(lost) })
	})
	client.Publish("$SYS/a/#", 1, false, "sesame") // no topic to publish to: mochi logs the packet
	select {
	case <-lost:
	case <-time.After(patience):
		t.Fatal("a wildcard was taken for a topic")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if logged.Len() == 0 {
		t.Error("nothing was logged")
	}
	inOctets := strings.Trim(fmt.Sprint([]byte("sesame")), "[]")
	for _, entry := range logged.All() {
		text := fmt.Sprint(entry.Message, entry.ContextMap())
		if entry.Level > zap.DebugLevel || strings.Contains(text, "sesame") || strings.Contains(text, inOctets) {
			t.Errorf("%s: %s", entry.Level, text)
		}
	}
}
