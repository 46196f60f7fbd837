package sim

import (
	"context"
	"encoding/binary"
	"fmt"
)

// echo answers the first copy of each join-request with one downlink of the size
// that a server's has, and does nothing else. What it manages is what broker and
// load leave to any server.
type echo struct {
	wire    *wire
	load    *load
	context int // offset in the payload of event/up
	packets [][]byte
	places  [2]int // of the contexts in packets
	seen    []bool
	out     []byte
}

// startEcho answers until stop.
func startEcho(ctx context.Context, l *load, clientID string) (*echo, error) {
	e := &echo{load: l, seen: make([]bool, l.joins), context: l.templates.layout[0].context - l.templates.layout[0].payload}
	for _, at := range l.templates.layout {
		if at.context-at.payload != e.context {
			return nil, fmt.Errorf("load: an echo wants uplinks of one form, which %s does not have", l.region.Name)
		}
	}
	for _, g := range l.Gateways {
		packet, places, err := downTemplate(l.region, l.Prefix, g)
		if err != nil {
			return nil, err
		}
		e.packets, e.places = append(e.packets, packet), places
	}
	var err error
	if e.wire, err = dialWire(ctx, l.Broker, clientID); err != nil {
		return nil, err
	}
	if err := e.wire.subscribe(l.Prefix + "gateway/+/event/up"); err != nil {
		e.wire.close()
		return nil, err
	}
	go func() { _ = e.wire.read(e.answer, e.flush) }() // ends with the connection
	return e, nil
}

func (e *echo) stop() { e.wire.close() }

func (e *echo) answer(topic, payload []byte) {
	gateway, known := e.load.gatewayOf(topic)
	if !known || len(payload) < e.context+4 {
		return
	}
	join := binary.BigEndian.Uint32(payload[e.context:])
	if int64(join) >= int64(len(e.seen)) || e.seen[join] {
		return
	}
	e.seen[join] = true
	at := len(e.out)
	e.out = append(e.out, e.packets[gateway]...)
	for _, place := range e.places {
		binary.BigEndian.PutUint32(e.out[at+place:], join)
	}
	if len(e.out) > sendBatch {
		e.flush()
	}
}

func (e *echo) flush() {
	if len(e.out) > 0 {
		_ = e.wire.write(e.out) // a broken connection ends the reading too
		e.out = e.out[:0]
	}
}
