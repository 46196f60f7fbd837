package sim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// BridgeConfig says how a bridge reaches its broker and how it speaks.
type BridgeConfig struct {
	Broker   string // tcp://, mqtt://, mqtts://, ws:// or wss://
	Username string
	Password string
	TLS      *tls.Config
	// ClientID must differ between the clients of a broker. Empty: drawn.
	ClientID string
	Prefix   string // "eu868" or "eu868/" for eu868/gateway/…
	Encoding Encoding
	QoS      byte             // 0, as bridges do unless told otherwise
	Now      func() time.Time // the clock of all its gateways. Nil: time.Now
}

// Bridge is a simulated ChirpStack Gateway Bridge: one MQTT connection for any
// number of gateways.
type Bridge struct {
	config BridgeConfig
	codec  codec
	client mqtt.Client
	began  time.Time
	// emit sends one event without waiting; tests put their own in its place.
	emit func(topic string, payload []byte) error

	mu       sync.Mutex
	gateways map[EUI]*Gateway
	recent   map[uint16]time.Time // when a downlink id, modulo 65536, was last used

	counts BridgeCounts
}

// BridgeCounts tell what a bridge has seen. All only grow.
type BridgeCounts struct {
	Uplinks  atomic.Int64 // event/up published
	Commands atomic.Int64 // command/down received
	Garbage  atomic.Int64 // of these, not to be decoded in the bridge's encoding
	Unknown  atomic.Int64 // of these, for a gateway that is not here
	Faulty   atomic.Int64 // of these, dropped in silence: no items, context, code rate or timing
	Acks     atomic.Int64 // event/ack published
	// ReusedIDs counts commands whose id, modulo 65536, another command had less
	// than 15 s before. A real bridge can mix up two such downlinks.
	ReusedIDs atomic.Int64
}

const (
	// mqttPatience bounds one MQTT operation that is waited for.
	mqttPatience = 10 * time.Second
	// connectPatience bounds one attempt to connect: a broker that is going down
	// may still take a connection and never answer on it.
	connectPatience = 5 * time.Second
)

// NewBridge makes a bridge that is not connected yet.
func NewBridge(c BridgeConfig) *Bridge {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.ClientID == "" {
		c.ClientID = fmt.Sprintf("sim-%016x", rand.Uint64())
	}
	if c.Prefix != "" {
		c.Prefix = strings.TrimSuffix(c.Prefix, "/") + "/"
	}
	b := &Bridge{
		config: c, codec: newCodec(c.Encoding), began: c.Now(),
		gateways: map[EUI]*Gateway{}, recent: map[uint16]time.Time{},
	}
	b.emit = b.publishMQTT
	return b
}

// Counts gives the bridge's counters.
func (b *Bridge) Counts() *BridgeCounts { return &b.counts }

// Connect reaches the broker, subscribes for the gateways added so far and
// publishes ONLINE for each. After a lost connection the bridge does the same by
// itself.
func (b *Bridge) Connect(ctx context.Context) error {
	ready := make(chan error, 1)
	o := mqtt.NewClientOptions().AddBroker(b.config.Broker).SetClientID(b.config.ClientID).
		SetUsername(b.config.Username).SetPassword(b.config.Password).
		SetOrderMatters(false).SetCleanSession(true).SetAutoReconnect(true).
		SetConnectTimeout(connectPatience).SetMaxReconnectInterval(2 * time.Second).SetKeepAlive(30 * time.Second)
	if b.config.TLS != nil {
		o.SetTLSConfig(b.config.TLS)
	}
	o.SetOnConnectHandler(func(mqtt.Client) {
		go func() {
			err := b.announce(b.list())
			select {
			case ready <- err:
			default: // a later connection: nobody waits
			}
		}()
	})
	b.client = mqtt.NewClient(o)
	token := b.client.Connect()
	select {
	case <-ctx.Done():
		b.client.Disconnect(0)
		return ctx.Err()
	case <-token.Done():
	}
	if err := token.Error(); err != nil {
		return fmt.Errorf("connect to MQTT broker %s: %w", b.config.Broker, err)
	}
	select {
	case <-ctx.Done():
		b.client.Disconnect(0)
		return ctx.Err()
	case err := <-ready:
		return err
	}
}

// list copies the gateways.
func (b *Bridge) list() []*Gateway {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]*Gateway, 0, len(b.gateways))
	for _, g := range b.gateways {
		all = append(all, g)
	}
	return all
}

// AddGateway puts a gateway behind the bridge. On a connected bridge it comes
// online before AddGateway returns.
func (b *Bridge) AddGateway(c GatewayConfig) (*Gateway, error) {
	g := newGateway(b, c)
	b.mu.Lock()
	_, taken := b.gateways[c.EUI]
	if !taken {
		b.gateways[c.EUI] = g
	}
	b.mu.Unlock()
	if taken {
		return nil, fmt.Errorf("gateway %s is already behind this bridge", c.EUI)
	}
	if !b.connected() {
		return g, nil
	}
	return g, b.announce([]*Gateway{g})
}

// announce subscribes first and publishes ONLINE then, as bridges do: a gateway
// that is ONLINE can be commanded.
func (b *Bridge) announce(gateways []*Gateway) error {
	const perPacket = 100 // subscriptions in one packet
	for len(gateways) > 0 {
		n := min(perPacket, len(gateways))
		topics := map[string]byte{}
		for _, g := range gateways[:n] {
			topics[b.topic(g.config.EUI, "command/down")] = b.config.QoS
		}
		if err := await(b.client.SubscribeMultiple(topics, b.receive), "subscribe"); err != nil {
			return err
		}
		for _, g := range gateways[:n] {
			if err := b.publishConn(g.config.EUI, true); err != nil {
				return err
			}
		}
		gateways = gateways[n:]
	}
	return nil
}

// await waits for an operation, never in a callback of the client.
func await(t mqtt.Token, what string) error {
	if !t.WaitTimeout(mqttPatience) {
		return fmt.Errorf("%s: the MQTT broker did not answer within %s", what, mqttPatience)
	}
	if err := t.Error(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (b *Bridge) publishConn(gateway EUI, online bool) error {
	payload, err := b.codec.conn(gateway, online)
	if err != nil {
		return fmt.Errorf("encode state/conn of gateway %s: %w", gateway, err)
	}
	return await(b.client.Publish(b.topic(gateway, "state/conn"), b.config.QoS, true, payload), "publish state/conn")
}

// Close publishes OFFLINE for every gateway and disconnects.
func (b *Bridge) Close() error {
	if b.client == nil {
		return nil
	}
	var first error
	if b.connected() {
		for _, g := range b.list() {
			if err := b.publishConn(g.config.EUI, false); err != nil {
				first = errors.Join(first, err)
				break
			}
		}
	}
	b.client.Disconnect(250)
	return first
}

// Kill drops the connection without a word, as a crashed bridge does: its
// gateways stay ONLINE in the broker.
func (b *Bridge) Kill() {
	if b.client != nil {
		b.client.Disconnect(0)
	}
}

func (b *Bridge) connected() bool { return b.client != nil && b.client.IsConnectionOpen() }

func (b *Bridge) topic(gateway EUI, rest string) string {
	return b.config.Prefix + "gateway/" + gateway.String() + "/" + rest
}

// errNotConnected stands for an event that would be lost: a QoS 0 publish on a
// broken connection reports success.
var errNotConnected = errors.New("the bridge is not connected to its broker")

// publish sends an event without waiting, so that callbacks may use it.
func (b *Bridge) publish(gateway EUI, event string, payload []byte) error {
	return b.emit(b.topic(gateway, "event/"+event), payload)
}

func (b *Bridge) publishMQTT(topic string, payload []byte) error {
	if !b.connected() {
		return errNotConnected
	}
	b.client.Publish(topic, b.config.QoS, false, payload)
	return nil
}

// receive is called for each command/down, concurrently.
func (b *Bridge) receive(_ mqtt.Client, m mqtt.Message) { b.command(m.Payload()) }

// command plays the bridge. The gateway is the one in the payload.
func (b *Bridge) command(payload []byte) {
	b.counts.Commands.Add(1)
	cmd, err := b.codec.down(payload)
	if err != nil {
		b.counts.Garbage.Add(1)
		return
	}
	g := b.gateway(cmd.gateway)
	if g == nil {
		b.counts.Unknown.Add(1)
		return
	}
	if cmd.id == 0 && b.config.Encoding.isV3() {
		cmd.id = 1 + rand.Uint32N(0xffff)
	}
	b.noteID(uint16(cmd.id))
	statuses, wait, twice, ok := b.tryItems(g, cmd)
	if !ok {
		return
	}
	ack := func() { b.acknowledge(ackEvent{cmd.gateway, cmd.id, cmd.uuid, statuses}, twice) }
	if wait > 0 {
		time.AfterFunc(wait, ack)
		return
	}
	ack()
}

func (b *Bridge) gateway(eui EUI) *Gateway {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gateways[eui]
}

// ackMemory is how long a bridge remembers a downlink that was not answered.
const ackMemory = 15 * time.Second

func (b *Bridge) noteID(id uint16) {
	now := b.config.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if last, ok := b.recent[id]; ok && now.Sub(last) < ackMemory {
		b.counts.ReusedIDs.Add(1)
	}
	b.recent[id] = now
}

// tryItems offers the items to the gateway in order until one is taken. It
// reports not ok where a real bridge falls silent.
func (b *Bridge) tryItems(g *Gateway, cmd command) (statuses []Status, wait time.Duration, twice, ok bool) {
	if len(cmd.items) == 0 {
		b.counts.Faulty.Add(1)
		return nil, 0, false, false
	}
	statuses = make([]Status, len(cmd.items))
	for i := range statuses {
		statuses[i] = StatusIgnored
	}
	for i, it := range cmd.items {
		if b.faulty(it) {
			b.counts.Faulty.Add(1)
			return nil, 0, false, false
		}
		out := g.offer(cmd.id, i, it)
		wait += out.After
		if out.Silent || !b.codec.knows(out.Status) || wait > ackMemory {
			return nil, 0, false, false
		}
		statuses[i] = out.Status
		twice = twice || out.Twice
		if out.Status == StatusOK {
			break
		}
	}
	return statuses, wait, twice, true
}

// faulty items make a bridge fall silent. Version 3 does without a code rate.
func (b *Bridge) faulty(it item) bool {
	return it.untimed || !it.immediately && len(it.context) != 4 || it.codeRate == "" && !b.config.Encoding.isV3()
}

func (b *Bridge) acknowledge(e ackEvent, twice bool) {
	payload, err := b.codec.ack(e)
	if err != nil {
		return // only a status without a number could do this, and knows() refused those
	}
	times := 1
	if twice {
		times = 2
	}
	for range times {
		if b.publish(e.gateway, "ack", payload) == nil {
			b.counts.Acks.Add(1)
		}
	}
}
