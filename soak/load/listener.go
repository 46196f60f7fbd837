package load

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"joingate/soak/history"
)

// Listener hears the events that a Joingate publishes, and writes down when it could
// not.
type Listener struct {
	history *history.Writer
	fleet   *Fleet
	client  paho.Client

	heard chan struct{} // holds an element when the mark of Settle has come

	mu       sync.Mutex
	deafFrom time.Time // the zero time: it hears

	closed  atomic.Bool
	Joins   atomic.Int64
	Refused atomic.Int64
	Garbage atomic.Int64 // events that cannot be read
}

// listenPatience bounds what the broker is asked.
const listenPatience = 10 * time.Second

// Listen connects to the broker at the address, and again whenever it is lost.
// The fleet tells to which join-request a refusal belongs.
func Listen(address string, fleet *Fleet, h *history.Writer) (*Listener, error) {
	l := &Listener{history: h, fleet: fleet, heard: make(chan struct{}, 1), deafFrom: time.Now()}
	heard := make(chan error, 1)
	o := paho.NewClientOptions().AddBroker("tcp://" + address).SetClientID(fmt.Sprintf("listener-%016x", rand.Uint64())).
		SetCleanSession(true).SetAutoReconnect(true).
		SetMaxReconnectInterval(200 * time.Millisecond).SetConnectTimeout(time.Second).SetKeepAlive(5 * time.Second).SetPingTimeout(2 * time.Second).
		SetConnectionLostHandler(func(paho.Client, error) { l.deaf() })
	o.SetOnConnectHandler(func(c paho.Client) {
		go func() {
			err := l.subscribe(c)
			select {
			case heard <- err:
			default: // a later connection
			}
		}()
	})
	l.client = paho.NewClient(o)
	token := l.client.Connect()
	if !token.WaitTimeout(listenPatience) || token.Error() != nil {
		return nil, fmt.Errorf("listener: connect to the broker %s: %v", address, token.Error())
	}
	return l, <-heard
}

func (l *Listener) subscribe(c paho.Client) error {
	token := c.Subscribe("joingate/#", 1, l.receive)
	if !token.WaitTimeout(listenPatience) || token.Error() != nil {
		return fmt.Errorf("listener: subscribe: %v", token.Error())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.deafFrom.IsZero() {
		l.history.Write(history.Line{Missed: &history.Missed{From: l.deafFrom, To: time.Now()}})
		l.deafFrom = time.Time{}
	}
	return nil
}

func (l *Listener) deaf() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deafFrom.IsZero() {
		l.deafFrom = time.Now()
	}
}

// Close ends the connection, and the history of what was heard. A time in which the
// listener could not hear is written down to now.
func (l *Listener) Close() {
	if l.closed.Swap(true) {
		return
	}
	l.client.Disconnect(50)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.deafFrom.IsZero() {
		l.history.Write(history.Line{Missed: &history.Missed{From: l.deafFrom, To: time.Now()}})
	}
}

// Settle returns when the listener has heard all that the broker had taken before,
// and whether it could.
func (l *Listener) Settle() bool {
	select {
	case <-l.heard: // of an earlier mark
	default:
	}
	if token := l.client.Publish(mark, 1, false, ""); !token.WaitTimeout(listenPatience) || token.Error() != nil {
		return false
	}
	select {
	case <-l.heard:
		return true
	case <-time.After(listenPatience):
		return false
	}
}

// mark is a topic that only listeners know.
const mark = "joingate/soak/mark"

// receive is called for each event, in their order.
func (l *Listener) receive(_ paho.Client, m paho.Message) {
	now := time.Now()
	if l.closed.Load() {
		return
	}
	switch topicEnd(m.Topic()) {
	case "mark":
		select {
		case l.heard <- struct{}{}:
		default: // nobody waits
		}
	case "join":
		e, err := eventOf(m.Payload())
		if err != nil {
			l.Garbage.Add(1)
			return
		}
		e.Heard = now
		l.Joins.Add(1)
		l.history.Write(history.Line{Event: &e})
	case "reject":
		l.refused(m.Payload(), now)
	}
}

func topicEnd(topic string) string {
	for i := len(topic) - 1; i >= 0; i-- {
		if topic[i] == '/' {
			return topic[i+1:]
		}
	}
	return topic
}

func (l *Listener) refused(payload []byte, now time.Time) {
	var told struct {
		Reason, DevEUI string
		Gateways       []struct{ RSSI int }
	}
	if err := json.Unmarshal(payload, &told); err != nil {
		l.Garbage.Add(1)
		return
	}
	l.Refused.Add(1)
	if len(told.Gateways) == 0 { // a sum of many
		return
	}
	if target, sent, ok := l.fleet.request(told.DevEUI, told.Reason, told.Gateways[0].RSSI); ok {
		l.history.Write(history.Line{Refusal: &history.Refusal{DevEUI: told.DevEUI, Target: target, Reason: told.Reason, Sent: sent, Heard: now}})
	}
}
