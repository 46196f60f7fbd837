package mqtt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// wireBuffer holds a whole message of a bridge with its topic: what is longer
	// goes the long way through paho.
	wireBuffer = 2 * maxPayload
	// maxUnsent is how many octets may wait for the network. A broker that leaves
	// more unread is not there any more.
	maxUnsent = 8 << 20
)

// wire is the network connection under paho. Messages of QoS 0, which are nearly
// all there are, go past paho: it reads each packet in four calls to the system,
// hands it through four goroutines and starts one more for it, which together cost
// more than the join. The rest of the protocol is paho's: connecting, subscribing,
// keep-alive and QoS 1.
//
// Packets are always written whole, so paho's and ours may take turns.
type wire struct {
	net.Conn
	in       *bufio.Reader
	passing  int // octets left of the packet that paho is to read
	receive  func(topic string, payload []byte, retained bool)
	patience time.Duration // for one write to the network

	mu       sync.Mutex
	unsent   []byte // whole packets
	spare    []byte // empty, for its room
	flushing bool   // somebody is sending, and will go on with what comes
	broken   error
}

// newWire takes a connection over. Each message of QoS 0 is given to receive, from
// within Read; its payload is only lent.
func newWire(connection net.Conn, patience time.Duration, receive func(topic string, payload []byte, retained bool)) *wire {
	return &wire{Conn: connection, in: bufio.NewReaderSize(connection, wireBuffer), receive: receive, patience: patience}
}

// Read gives paho the packets that are for it.
func (w *wire) Read(p []byte) (int, error) {
	for w.passing == 0 {
		if err := w.next(); err != nil {
			return 0, err
		}
	}
	n, err := w.in.Read(p[:min(len(p), w.passing)])
	w.passing -= n
	return n, err
}

// next receives the packet that comes next, or leaves it to paho. Whatever is
// wrong with a packet is for paho to find.
func (w *wire) next() error {
	first, header, length, err := w.peekHeader()
	if err != nil {
		return err
	}
	if w.passing = header + length; first&0xf6 != packetPublish || w.passing > wireBuffer {
		return nil
	}
	packet, err := w.in.Peek(w.passing)
	if err != nil {
		return err
	}
	if topic, payload, ok := splitPublish(packet[header:]); ok {
		w.receive(string(topic), payload, first&1 != 0)
		_, err = w.in.Discard(w.passing)
		w.passing = 0
	}
	return err
}

// packetPublish is the first octet of a PUBLISH of QoS 0, but for DUP and RETAIN
// (MQTT 3.1.1 section 3.3.1).
const packetPublish = 0x30

// peekHeader looks at a fixed header (MQTT 3.1.1 section 2.2). A length that does
// not end is none of a packet: one octet is passed on after the other.
func (w *wire) peekHeader() (first byte, header, length int, err error) {
	for header = 2; header <= 5; header++ {
		octets, err := w.in.Peek(header)
		if err != nil {
			return 0, 0, 0, err
		}
		if octets[header-1] < 0x80 {
			rest, _ := binary.Uvarint(octets[1:])
			return octets[0], header, int(rest), nil
		}
	}
	return 0, 1, 0, nil
}

// splitPublish takes the body of a PUBLISH of QoS 0 apart.
func splitPublish(body []byte) (topic, payload []byte, ok bool) {
	if len(body) < 2 {
		return nil, nil, false
	}
	end := 2 + int(binary.BigEndian.Uint16(body))
	if end > len(body) {
		return nil, nil, false
	}
	return body[2:end], body[end:], true
}

var errUnread = errors.New("the broker does not read what is sent to it")

// Write sends a whole packet of paho's.
func (w *wire) Write(packet []byte) (int, error) {
	w.mu.Lock()
	w.unsent = append(w.unsent, packet...)
	return len(packet), w.flush()
}

// publish sends a message with QoS 0.
func (w *wire) publish(topic string, payload []byte) error {
	w.mu.Lock()
	w.unsent = append(w.unsent, packetPublish)
	w.unsent = binary.AppendUvarint(w.unsent, uint64(2+len(topic)+len(payload)))
	w.unsent = binary.BigEndian.AppendUint16(w.unsent, uint16(len(topic)))
	w.unsent = append(append(w.unsent, topic...), payload...)
	return w.flush()
}

// flush sends what is unsent, unless somebody does already: then that one sends
// it with the next write, so that many small messages cost few calls to the
// system. The lock is held, and given back.
func (w *wire) flush() error {
	defer w.mu.Unlock()
	switch {
	case w.broken != nil:
		w.unsent = nil // there is nobody who would send it
	case len(w.unsent) > maxUnsent:
		w.fail(errUnread)
	}
	if w.flushing {
		return w.broken
	}
	w.flushing = true
	for w.broken == nil && len(w.unsent) > 0 {
		batch := w.unsent
		w.unsent = w.spare[:0]
		w.mu.Unlock()
		err := w.send(batch)
		w.mu.Lock()
		w.spare = batch
		if err != nil {
			w.fail(err)
		}
	}
	w.flushing = false
	return w.broken
}

func (w *wire) send(batch []byte) error {
	if err := w.Conn.SetWriteDeadline(time.Now().Add(w.patience)); err != nil {
		return err
	}
	_, err := w.Conn.Write(batch)
	return err
}

// fail ends the connection: after half a packet nothing else can be said on it. Nobody
// waits for that, as one with TLS says goodbye first, for up to 5 s.
func (w *wire) fail(err error) {
	if w.broken == nil {
		w.broken, w.unsent = err, nil
		go func() { _ = w.Close() }()
	}
}

// SetWriteDeadline is that of each write here; paho's would be that of somebody
// else's.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
