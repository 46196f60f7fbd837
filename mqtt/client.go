package mqtt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"go.uber.org/zap"
)

// How the connection to the broker is kept. A broker that went away is noticed
// within probeEvery + answerTimeout.
const (
	probeEvery    = time.Second
	answerTimeout = 2500 * time.Millisecond // for an answer of the broker, and for a write
	dialTimeout   = 5 * time.Second
	firstPause    = 100 * time.Millisecond // before connecting again; doubles up to lastPause
	lastPause     = 2 * time.Second
	keepAlive     = 10 * time.Second
	goodbye       = 250 // milliseconds for the last messages to leave

	// subscriptionQoS: with a clean session QoS 1 saves nothing that TCP does not,
	// as a message that was under way when the connection broke is lost either way.
	// It costs a packet back for each message, and brokers send only so many before
	// they wait for that, and drop what then piles up: mosquitto with its defaults (20
	// and 1,000) lost 30 % of 12,000 messages a second that way, and none with QoS 0.
	subscriptionQoS = 0
)

// client keeps a connection to the broker open. Each connection is a new one of
// paho's clients with a clean session that subscribes for itself. So nothing is
// left over from one connection to the next: no message is sent late because
// it waited for the broker to come back.
type client struct {
	connect func(*url.URL, paho.ClientOptions) (net.Conn, error)
	dial    *paho.ClientOptions
	filters map[string]byte
	broker  string // for people, without secrets
	log     *zap.Logger

	probeEvery, answerTimeout time.Duration // as the constants, but for tests

	open    atomic.Pointer[openConnection] // nil: there is none
	problem atomic.Pointer[error]          // why
}

type openConnection struct {
	paho.Client
	wire *wire
}

var errNotConnected = errors.New("not connected yet")

// newClient checks the configuration. An error says what to change in it.
func newClient(c Config) (*client, error) {
	filters, err := subscriptions(c.Prefixes, c.ShareGroup)
	if err != nil {
		return nil, err
	}
	options, broker, err := c.Broker.options()
	if err != nil {
		return nil, err
	}
	client := &client{connect: c.Broker.connect, dial: options, filters: make(map[string]byte, len(filters)), broker: broker, log: c.Logger}
	client.probeEvery, client.answerTimeout = probeEvery, answerTimeout
	for _, filter := range filters {
		client.filters[filter] = subscriptionQoS
	}
	client.down(errNotConnected)
	return client, nil
}

// run connects, and connects again whenever the connection is lost, until ctx
// is done. Messages go to receive, several at a time; it must not block.
func (c *client) run(ctx context.Context, receive func(topic string, payload []byte, retained bool)) error {
	pause := firstPause
	for ctx.Err() == nil {
		wasUp, err := c.connection(ctx, receive)
		if ctx.Err() != nil {
			break
		}
		c.down(err)
		if wasUp {
			pause = firstPause
		}
		sleep(ctx, pause/2+rand.N(pause/2)) // so that instances do not come all at once
		pause = min(2*pause, lastPause)
	}
	c.down(context.Cause(ctx))
	return nil
}

// connection serves one connection until it ends, and says why it ended and
// whether it was ever of use.
func (c *client) connection(ctx context.Context, receive func(string, []byte, bool)) (wasUp bool, err error) {
	lost := make(chan error, 1)
	options := *c.dial
	var under *wire
	options.SetCustomOpenConnectionFn(func(address *url.URL, o paho.ClientOptions) (net.Conn, error) {
		connection, err := c.connect(address, o)
		if err != nil {
			return nil, err
		}
		under = newWire(connection, c.answerTimeout, receive)
		return under, nil
	})
	options.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
		receive(m.Topic(), m.Payload(), m.Retained())
	})
	options.SetConnectionLostHandler(func(_ paho.Client, err error) { lost <- err })

	connection := paho.NewClient(&options)
	defer connection.Disconnect(goodbye)
	if err := answered(ctx, connection.Connect(), 2*dialTimeout); err != nil {
		return false, refusal(err)
	}
	if err := c.subscribe(ctx, connection, c.filters); err != nil {
		return false, err
	}
	c.up(&openConnection{connection, under})
	defer c.open.Store(nil)
	return true, c.watch(ctx, connection, lost)
}

// refusal says what to do about a broker that does not want this user.
func refusal(err error) error {
	if errors.Is(err, packets.ErrorRefusedNotAuthorised) || errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword) {
		return fmt.Errorf("the broker refuses this user, look at [mqtt] username and password_file: %w", err)
	}
	return err
}

func (c *client) subscribe(ctx context.Context, connection paho.Client, filters map[string]byte) error {
	token := connection.SubscribeMultiple(filters, nil)
	if err := answered(ctx, token, c.answerTimeout); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	for filter, granted := range token.(*paho.SubscribeToken).Result() {
		if granted > 2 { // 0x80, MQTT 3.1.1 section 3.9.3
			return fmt.Errorf("the broker refuses the subscription to %s; allow this user to read it", filter)
		}
	}
	return nil
}

// leave gives up what is shared with other instances: from then on they get what
// comes. If the broker does not answer, what still comes here is lost to them.
func (c *client) leave(ctx context.Context) {
	if open, shared := c.open.Load(), c.shared(); open != nil && len(shared) > 0 {
		_ = answered(ctx, open.Unsubscribe(slices.Collect(maps.Keys(shared))...), c.answerTimeout)
	}
}

// comeBack takes part again in what is shared, and reports whether it does.
func (c *client) comeBack(ctx context.Context) bool {
	open, shared := c.open.Load(), c.shared()
	return open != nil && (len(shared) == 0 || c.subscribe(ctx, open, shared) == nil)
}

// shared are the filters that other instances subscribe to with this one (MQTT 5.0,
// section 4.8.2).
func (c *client) shared() map[string]byte {
	shared := maps.Clone(c.filters)
	maps.DeleteFunc(shared, func(filter string, _ byte) bool { return !strings.HasPrefix(filter, "$share/") })
	return shared
}

// watch waits for the end of a connection. A broker that hangs does not close
// it, so it is asked for a word every now and then: taking back a subscription
// that there never was has no effect but the answer (MQTT 3.1.1 section 3.10.4).
func (c *client) watch(ctx context.Context, connection paho.Client, lost <-chan error) error {
	probe := time.NewTicker(c.probeEvery)
	defer probe.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-lost:
			return err
		case <-probe.C:
			if err := answered(ctx, connection.Unsubscribe("joingate/probe"), c.answerTimeout); err != nil {
				return err
			}
		}
	}
}

// up and down log what changes: a broker that stays away fills no log.
func (c *client) up(connection *openConnection) {
	c.problem.Store(nil)
	c.open.Store(connection)
	c.log.Info("connected to the MQTT broker", zap.String("broker", c.broker))
}

func (c *client) down(err error) {
	before := c.problem.Swap(&err)
	if news := before == nil || (*before).Error() != err.Error(); news && !errors.Is(err, errNotConnected) && !errors.Is(err, context.Canceled) {
		c.log.Warn("no connection to the MQTT broker; will try again", zap.String("broker", c.broker), zap.Error(err))
	}
}

// ready is nil while the connection is open and the events are subscribed to;
// else it says why not.
func (c *client) ready() error {
	if open := c.open.Load(); open != nil && open.IsConnectionOpen() {
		return nil
	}
	problem := errNotConnected
	if p := c.problem.Load(); p != nil {
		problem = *p
	}
	return fmt.Errorf("no connection to the MQTT broker %s: %w", c.broker, problem)
}

// publish hands a message over if the connection is open and fails at once if
// it is not. With the connection lost before the broker has confirmed, the
// receipt fails, and the message is not sent again.
func (c *client) publish(topic string, qos byte, payload []byte) receipt {
	open := c.open.Load()
	if open == nil || !open.IsConnectionOpen() { // IsConnected would be true while it is not
		return doneReceipt{c.ready()}
	}
	if qos == 0 {
		return doneReceipt{open.wire.publish(topic, payload)}
	}
	return open.Publish(topic, qos, false, payload)
}

// doneReceipt is that of a message whose fate is known at once: it has left with
// QoS 0, or was not handed over.
type doneReceipt struct{ err error }

func (r doneReceipt) WaitTimeout(time.Duration) bool { return true }
func (r doneReceipt) Error() error                   { return r.err }

// answered waits for the broker's answer to an operation.
func answered(ctx context.Context, token paho.Token, atMost time.Duration) error {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case <-timer.C:
		return fmt.Errorf("the broker did not answer within %s", atMost)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
