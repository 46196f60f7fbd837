package sim

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Outcome is what a gateway answers to one item of a downlink.
type Outcome struct {
	// Status empty: what the gateway's clock says. OK puts the item on the air
	// whatever the clock says.
	Status Status
	// Silent: no TX_ACK at all.
	Silent bool
	// Twice: the TX_ACK arrives twice, so that the bridge acknowledges twice.
	Twice bool
	// After delays the TX_ACK. Past 15 s the bridge has forgotten the downlink.
	After time.Duration
}

// GatewayConfig describes one gateway.
type GatewayConfig struct {
	EUI EUI
	GPS bool
	// Counter is the reading of the gateway's microsecond counter when it
	// starts; it wraps at 2^32. Nil: drawn.
	Counter *uint32
	// Script decides the answer to each item. Nil: the gateway's clock decides.
	Script func(Sent) Outcome
	// HalfDuplex: one transmission at a time, COLLISION_PACKET for another that is
	// not leadTime away, and no reception meanwhile.
	HalfDuplex bool
}

// Sent is a downlink that a gateway was told to put on the air.
type Sent struct {
	Gateway    EUI
	DownlinkID uint32
	Item       int // index in the command
	Power      int // dBm EIRP
	Downlink       // its Delay is the one asked for; 0 for immediately

	// heard is the transmission whose context the item carries; nil if none fits.
	heard *transmission
}

// Gateway is a simulated gateway. Its methods may be called concurrently.
type Gateway struct {
	bridge *Bridge
	config GatewayConfig
	start  uint32 // counter when the bridge began

	mu     sync.Mutex
	onSend func(Sent)
	last   uint32                   // reading of the latest reception
	heard  map[uint32]*transmission // by counter reading
	order  []uint32                 // keys of heard, oldest first
	busy   []interval               // half duplex: transmissions accepted, in counter readings
	rx, tx uint32
}

// interval is a time on the air, from and to in microseconds of the counter.
type interval struct{ from, to uint32 }

func newGateway(b *Bridge, c GatewayConfig) *Gateway {
	start := rand.Uint32()
	if c.Counter != nil {
		start = *c.Counter
	}
	return &Gateway{bridge: b, config: c, start: start, heard: map[uint32]*transmission{}}
}

// EUI is the gateway's id.
func (g *Gateway) EUI() EUI { return g.config.EUI }

// counter reads the gateway's clock.
func (g *Gateway) counter() uint32 {
	return g.start + uint32(g.bridge.config.Now().Sub(g.bridge.began).Microseconds())
}

// memory is how long a gateway knows which transmission a context belongs to.
const memory = 10_000_000 // microseconds

// hear stamps a transmission with the counter. Two never share a reading, so
// that a context names one transmission. It reports false while the gateway
// itself transmits.
func (g *Gateway) hear(t *transmission) (reading uint32, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	reading = g.counter()
	if int32(reading-g.last) <= 0 && len(g.order) > 0 {
		reading = g.last + 1
	}
	if g.transmitting(reading) {
		return 0, false
	}
	g.last = reading
	g.heard[reading] = t
	g.order = append(g.order, reading)
	for reading-g.order[0] > memory {
		delete(g.heard, g.order[0])
		g.order = g.order[1:]
	}
	g.rx++
	return reading, true
}

// Send publishes a frame as heard now: a stranger's, a data frame, garbage.
func (g *Gateway) Send(r Reception) error {
	reading, ok := g.hear(nil)
	if !ok {
		return fmt.Errorf("gateway %s is transmitting", g.config.EUI)
	}
	return g.publishUp(reading, newPushToken(), r)
}

// pushToken is what the events of one PUSH_DATA share.
func newPushToken() uint32 { return rand.Uint32N(1 << 16) }

// publishUp publishes event/up for one copy of a frame.
func (g *Gateway) publishUp(reading, token uint32, r Reception) error {
	e := upEvent{Reception: r, gateway: g.config.EUI, id: token, uuid: newUUID()}
	e.context = binary.BigEndian.AppendUint32(nil, reading)
	if g.config.GPS {
		e.gpsTime = g.bridge.config.Now()
	}
	payload, err := g.bridge.codec.up(e)
	if err != nil {
		return fmt.Errorf("encode event/up of gateway %s: %w", g.config.EUI, err)
	}
	if err := g.bridge.publish(g.config.EUI, "up", payload); err != nil {
		return err
	}
	g.bridge.counts.Uplinks.Add(1)
	return nil
}

// PublishStats publishes event/stats, which gateways do every 30 s.
func (g *Gateway) PublishStats() error {
	g.mu.Lock()
	e := statsEvent{gateway: g.config.EUI, uuid: newUUID(), time: g.bridge.config.Now(), rx: g.rx, tx: g.tx}
	g.mu.Unlock()
	payload, err := g.bridge.codec.stats(e)
	if err != nil {
		return fmt.Errorf("encode event/stats of gateway %s: %w", g.config.EUI, err)
	}
	return g.bridge.publish(g.config.EUI, "stats", payload)
}

// newUUID draws a UUID of version 4.
func newUUID() (u [16]byte) {
	binary.BigEndian.PutUint64(u[:8], rand.Uint64())
	binary.BigEndian.PutUint64(u[8:], rand.Uint64())
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// offer asks the gateway to transmit an item, and puts it on the air if it will.
func (g *Gateway) offer(id uint32, index int, it item) Outcome {
	s := Sent{
		Gateway: g.config.EUI, DownlinkID: id, Item: index, Power: it.power,
		Downlink: Downlink{it.phyPayload, it.frequency, it.modulation, it.inverted, it.delay},
	}
	g.mu.Lock()
	now := g.counter()
	at := now
	if !it.immediately {
		reading := binary.BigEndian.Uint32(it.context)
		at = reading + uint32(it.delay.Microseconds())
		s.heard = g.heard[reading]
	}
	g.mu.Unlock()

	var out Outcome
	if g.config.Script != nil {
		out = g.config.Script(s)
	}
	if out.Status == "" && !out.Silent {
		out.Status = g.schedule(now, at, s, it.immediately)
	}
	switch {
	case out.Status == StatusOK:
		g.transmit(s)
	case s.heard != nil && out.Status != "":
		s.heard.gatewayRefused(s.Gateway, index, out.Status)
	}
	return out
}

// What Semtech's packet forwarder allows a downlink (sx1302_hal 2.1.0, jitqueue.c):
// more than leadTime before its time, no earlier than four beacon periods, and more
// than leadTime after the end of another downlink. leadTime is TX_START_DELAY +
// TX_JIT_DELAY + TX_MARGIN_DELAY = 1.5 + 40 + 1 ms.
const (
	leadTime = 42_500          // microseconds
	horizon  = 4 * 128_000_000 // microseconds
)

// schedule decides by the gateway's clock.
func (g *Gateway) schedule(now, at uint32, s Sent, immediately bool) Status {
	if ahead := int32(at - now); !immediately {
		switch {
		case ahead < leadTime:
			return StatusTooLate
		case ahead > horizon:
			return StatusTooEarly
		}
	}
	if !g.config.HalfDuplex {
		return StatusOK
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	end := at + uint32(s.Airtime(len(s.PHYPayload), false).Microseconds())
	for _, b := range g.busy {
		if int32(at-b.to) <= leadTime && int32(b.from-end) <= leadTime {
			return StatusCollision
		}
	}
	g.busy = append(g.busy, interval{at, end})
	return StatusOK
}

// transmitting forgets transmissions that are over. The caller holds the lock.
func (g *Gateway) transmitting(now uint32) bool {
	kept := g.busy[:0]
	on := false
	for _, b := range g.busy {
		if int32(now-b.to) > 0 {
			continue
		}
		kept = append(kept, b)
		on = on || int32(now-b.from) >= 0
	}
	g.busy = kept
	return on
}

func (g *Gateway) transmit(s Sent) {
	g.mu.Lock()
	g.tx++
	send := g.onSend
	g.mu.Unlock()
	if send != nil {
		send(s)
	}
}

// OnSend has f called for every downlink that the gateway puts on the air, from
// the goroutine that received the command. An Air takes this place.
func (g *Gateway) OnSend(f func(Sent)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.onSend = f
}
