package broker_test

import (
	"fmt"
	"strings"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"

	"joingate/mqtt/broker"
)

// Of what a gateway sends, its state alone is kept.
func TestOnlyStatesAreRetained(t *testing.T) {
	b := startWith(t, broker.Options{UsersFile: usersFile(t, gatewayA)})
	_, seen := observe(t, b)
	gateway := connect(t, b, "a", as(gatewayA, "sesame"))
	own := "gateway/" + gatewayA
	for topic, payload := range map[string]string{
		own + "/event/up": "x", own + "/state/conn": "ONLINE", "a/" + own + "/state/conn": strings.Repeat("x", broker.MaxRetainedSize+1),
	} {
		await(t, gateway.Publish(topic, 1, true, payload))
		receive(t, seen)
	}
	for topic, want := range map[string]string{own + "/event/up": "", own + "/state/conn": own + "/state/conn ONLINE"} {
		if got := retained(t, b, topic); got != want {
			t.Errorf("retained %q, want %q", got, want)
		}
	}
}

// Who has a topic that is retained can always replace what is there.
func TestRetainedStatesAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("publishes some ten thousand messages")
	}
	b := startWith(t, broker.Options{UsersFile: usersFile(t, "bridge:*")})
	_, seen := observe(t, b)
	bridge := connect(t, b, "bridge", as("bridge", "sesame"))
	for i := range broker.MaxRetained + 1 {
		token := bridge.Publish(fmt.Sprintf("gateway/%016x/state/conn", i), 1, true, "ONLINE")
		if i%1000 == 0 {
			await(t, token)
		}
	}
	for range broker.MaxRetained + 1 {
		receive(t, seen)
	}
	await(t, bridge.Publish("gateway/0000000000000001/state/conn", 1, true, "OFFLINE"))
	if got := retained(t, b, "gateway/0000000000000001/state/conn"); got != "gateway/0000000000000001/state/conn OFFLINE" {
		t.Errorf("retained %s", got)
	}
	last := fmt.Sprintf("gateway/%016x/state/conn", broker.MaxRetained)
	for i := range 10 { // the broker and this test have some of their own
		await(t, bridge.Publish(fmt.Sprintf("gateway/%016x/state/conn", 2+i), 1, true, ""))
	}
	if got := retained(t, b, last); got != "" {
		t.Errorf("retained %s", got)
	}
	await(t, bridge.Publish(last, 1, true, "ONLINE"))
	if got := retained(t, b, last); got != last+" ONLINE" {
		t.Errorf("with room again: retained %s", got)
	}
}

// retained gives what is retained under the topic, without and with a prefix.
func retained(t testing.TB, b *broker.Broker, topic string) string {
	t.Helper()
	client := connect(t, b, "reader of the retained", locally(b))
	defer client.Disconnect(0)
	await(t, client.Publish("end", 1, true, "end")) // comes last
	got := make(chan paho.Message, 1<<10)
	await(t, client.SubscribeMultiple(map[string]byte{"+/" + topic: 1, topic: 1}, func(_ paho.Client, m paho.Message) { got <- m }))
	await(t, client.Subscribe("end", 1, func(_ paho.Client, m paho.Message) { got <- m }))
	var all []string
	for m := receive(t, got); m.Topic() != "end"; m = receive(t, got) {
		all = append(all, m.Topic()+" "+string(m.Payload()))
	}
	return strings.Join(all, ", ")
}

func TestSubscriptionsAreBounded(t *testing.T) {
	b := startWith(t, broker.Options{UsersFile: usersFile(t, "bridge:*")})
	bridge := connect(t, b, "bridge", as("bridge", "sesame"))
	granted := 0
	for from := 0; from <= broker.MaxSubscriptions; from += 1 << 10 {
		filters := map[string]byte{}
		for i := range 1 << 10 {
			filters[fmt.Sprintf("gateway/%016x/command/#", from+i)] = 1
		}
		token := bridge.SubscribeMultiple(filters, nil)
		await(t, token)
		for _, code := range token.(*paho.SubscribeToken).Result() {
			if code <= 2 {
				granted++
			}
		}
	}
	if granted != broker.MaxSubscriptions {
		t.Errorf("%d subscriptions granted, want %d", granted, broker.MaxSubscriptions)
	}
	again := bridge.Subscribe("gateway/0000000000000000/command/#", 0, nil)
	await(t, again)
	for filter, code := range again.(*paho.SubscribeToken).Result() {
		if code > 2 {
			t.Errorf("%s is refused the second time", filter)
		}
	}
}

// Sessions without a connection do not pile up: the oldest goes, and with it its
// subscriptions.
func TestSessionsAreBounded(t *testing.T) {
	b := start(t, "127.0.0.1:0")
	lasting := func(o *paho.ClientOptions) { o.SetCleanSession(false) }
	for i := range broker.MaxSessions + 20 {
		client := connect(t, b, fmt.Sprint("session ", i), locally(b), lasting)
		await(t, client.Subscribe(fmt.Sprint("a/", i), 1, nil))
		client.Disconnect(0)
	}
	program := connect(t, b, "after them", locally(b))
	await(t, program.Publish("a", 1, false, "x"))
	if sessions, subscriptions := broker.Kept(b); sessions > broker.MaxSessions+1 || subscriptions > broker.MaxSessions+1 {
		t.Errorf("%d sessions and %d subscriptions, want %d at most", sessions, subscriptions, broker.MaxSessions+1)
	}
}
