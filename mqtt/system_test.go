package mqtt

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"joingate/mqtt/broker"
)

// This file runs whole edges with real brokers and plays the bridges.

// brokers are what the whole edge is tested with. Each gives its URL; what it
// started ends with the test.
var brokers = map[string]func(t *testing.T) string{
	"embedded":  func(t *testing.T) string { return startEmbedded(t, "127.0.0.1:0") },
	"mosquitto": startMosquitto,
}

func startEmbedded(t *testing.T, listen string) string {
	t.Helper()
	b, err := broker.Start(broker.Options{Listen: listen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return "mqtt://" + b.Addr().String()
}

// startMosquitto runs Debian's mosquitto with its own defaults.
func startMosquitto(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		program = "/usr/sbin/mosquitto" // not in everybody's path
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("mosquitto is not installed: apt-get install mosquitto runs this test")
	}
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	config := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(config, []byte("listener "+port+" 127.0.0.1\nallow_anonymous true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := exec.Command(program, "-c", config)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Process.Kill(); _ = run.Wait() })
	eventually(t, "mosquitto to listen", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return "mqtt://" + address
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// runEdge runs an edge until the test ends, and then checks that it leaves no
// goroutine behind.
func runEdge(t *testing.T, url string, handler Handler, change ...func(*Config)) *Edge {
	t.Helper()
	config := Config{
		Broker:        BrokerConfig{URL: url},
		CollectWindow: testWindow,
		Handler:       handler,
		Registerer:    prometheus.NewRegistry(),
		Logger:        zap.NewNop(),
	}
	for _, c := range change {
		c(&config)
	}
	edge, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- edge.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("edge: %v", err)
		}
		wantNoGoroutines(t)
	})
	eventually(t, "the edge to be ready", func() bool { return edge.Ready() == nil })
	return edge
}

// ofTheEdge is in the stack of each goroutine that an edge starts.
var ofTheEdge = []string{"mqtt.(*Edge)", "mqtt.(*client)", "mqtt.(*workers)", "mqtt.(*reporter)", "mqtt.(*courier)", "mqtt.alarm"}

// wantNoGoroutines waits until nothing of the edge runs any more.
func wantNoGoroutines(t *testing.T) {
	var stacks string
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		buffer := make([]byte, 1<<20)
		stacks = string(buffer[:runtime.Stack(buffer, true)])
		if !slices.ContainsFunc(ofTheEdge, func(part string) bool { return strings.Contains(stacks, part) }) {
			return
		}
	}
	t.Errorf("goroutines are left behind:\n%s", stacks)
}

// bridge plays gateway bridges: it publishes events and receives commands and
// what else is published for others.
type bridge struct {
	client paho.Client

	mu       sync.Mutex
	received []published
}

func connectBridge(t *testing.T, url string) *bridge {
	t.Helper()
	b := new(bridge)
	subscribed := make(chan error, 1)
	options := paho.NewClientOptions().
		AddBroker(strings.Replace(url, "mqtt://", "tcp://", 1)).
		SetClientID(fmt.Sprintf("bridge-%d", rand.Uint32())).
		SetMaxReconnectInterval(100 * time.Millisecond).
		SetOrderMatters(false).
		SetOnConnectHandler(func(c paho.Client) {
			go func() {
				filters := map[string]byte{"gateway/+/command/down": 1, "+/gateway/+/command/down": 1, "a/b/gateway/+/command/down": 1, "joingate/#": 1}
				token := c.SubscribeMultiple(filters, b.receive)
				token.Wait()
				select {
				case subscribed <- token.Error():
				default:
				}
			}()
		})
	b.client = paho.NewClient(options)
	if token := b.client.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { b.client.Disconnect(50) })
	if err := <-subscribed; err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bridge) receive(_ paho.Client, m paho.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.received = append(b.received, published{m.Topic(), m.Qos(), slices.Clone(m.Payload())})
}

func (b *bridge) publish(t *testing.T, topic string, payload []byte) {
	t.Helper()
	if token := b.client.Publish(topic, 1, false, payload); token.WaitTimeout(10*time.Second) && token.Error() != nil {
		t.Fatal(token.Error())
	}
}

// up has a gateway hear a frame.
func (b *bridge) up(t *testing.T, c uplinkCopy) {
	t.Helper()
	b.publish(t, "gateway/"+c.topic.String()+"/event/up", encodeUplink(c))
}

// commands gives the commands that were received.
func (b *bridge) commands() []published { return b.on("/command/down") }

// on gives what was received on topics that end so.
func (b *bridge) on(end string) (messages []published) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.received {
		if strings.HasSuffix(m.topic, end) {
			messages = append(messages, m)
		}
	}
	return messages
}

func (b *bridge) awaitCommands(t *testing.T, n int) []published {
	t.Helper()
	eventually(t, fmt.Sprintf("command %d", n), func() bool { return len(b.commands()) >= n })
	return b.commands()
}

// onEachBroker runs a test of the whole edge with every broker.
func onEachBroker(t *testing.T, test func(t *testing.T, url string)) {
	for name, startBroker := range brokers {
		t.Run(name, func(t *testing.T) { test(t, startBroker(t)) })
	}
}
