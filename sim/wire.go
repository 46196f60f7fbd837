package sim

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"
)

// BrokerConfig says how to reach an MQTT broker over TCP.
type BrokerConfig struct {
	URL                string // mqtt://, tcp:// or mqtts://
	Username, Password string
	TLS                *tls.Config // of mqtts://; nil: the system's authorities
}

// wire is an MQTT 3.1.1 connection that knows QoS 0 only and hands over its
// octets as they are. It exists for load: a message costs it far less than a
// client that serves all of MQTT.
type wire struct {
	conn net.Conn
	in   *bufio.Reader

	mu sync.Mutex // one write at a time
}

// Control packets of MQTT 3.1.1, section 2.2.1, with the flags they have here.
const (
	packetConnect    = 0x10
	packetConnAck    = 0x20
	packetPublish    = 0x30
	packetRetained   = 0x31
	packetSubscribe  = 0x82
	packetSubAck     = 0x90
	packetDisconnect = 0xe0
)

// wireBuffer is the buffer of a connection in each direction, in octets. A
// packet that does not fit is skipped.
const wireBuffer = 256 << 10

// dialWire connects and logs on with a clean session and without keep-alive.
func dialWire(ctx context.Context, c BrokerConfig, clientID string) (*wire, error) {
	target, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("MQTT broker: %w", err)
	}
	conn, err := dialBroker(ctx, target, c.TLS)
	if err != nil {
		return nil, fmt.Errorf("connect to MQTT broker %s: %w", target.Redacted(), err)
	}
	w := &wire{conn: conn, in: bufio.NewReaderSize(conn, wireBuffer)}
	if err := w.logOn(c, clientID); err != nil {
		return nil, errors.Join(fmt.Errorf("log on at MQTT broker %s: %w", target.Redacted(), err), conn.Close())
	}
	return w, nil
}

func dialBroker(ctx context.Context, target *url.URL, settings *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	address := func(port string) string {
		if target.Port() != "" {
			return target.Host
		}
		return net.JoinHostPort(target.Hostname(), port)
	}
	var dial net.Dialer
	switch target.Scheme {
	case "mqtt", "tcp":
		return dial.DialContext(ctx, "tcp", address("1883"))
	case "mqtts":
		secure := tls.Dialer{NetDialer: &dial, Config: settings}
		return secure.DialContext(ctx, "tcp", address("8883"))
	}
	return nil, fmt.Errorf("%q is none of mqtt, tcp, mqtts", target.Scheme)
}

// logOn is CONNECT and CONNACK (MQTT 3.1.1, sections 3.1 and 3.2).
func (w *wire) logOn(c BrokerConfig, clientID string) error {
	const cleanSession, withPassword, withUsername = 0x02, 0x40, 0x80
	flags, credentials := byte(cleanSession), []byte(nil)
	if c.Username != "" {
		flags |= withUsername
		credentials = appendText(credentials, c.Username)
	}
	if c.Password != "" {
		flags |= withPassword
		credentials = appendText(credentials, c.Password)
	}
	body := append(appendText(nil, "MQTT"), 4, flags, 0, 0)
	body = append(appendText(body, clientID), credentials...)
	answer, err := w.ask(packetConnect, body, packetConnAck)
	if err != nil {
		return err
	}
	if len(answer) != 2 || answer[1] != 0 {
		return fmt.Errorf("the broker refuses the connection: CONNACK %x", answer)
	}
	return nil
}

// subscribe asks for messages; it must come before read.
func (w *wire) subscribe(filter string) error {
	body := append(appendText([]byte{0, 1}, filter), 0)
	answer, err := w.ask(packetSubscribe, body, packetSubAck)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", filter, err)
	}
	if len(answer) != 3 || answer[2] > 2 {
		return fmt.Errorf("subscribe to %s: the broker refuses: SUBACK %x", filter, answer)
	}
	return nil
}

// ask sends a packet and waits for the kind that answers it.
func (w *wire) ask(kind byte, body []byte, want byte) (answer []byte, err error) {
	if err := w.conn.SetDeadline(time.Now().Add(mqttPatience)); err != nil {
		return nil, err
	}
	if err := w.write(appendPacket(nil, kind, body)); err != nil {
		return nil, err
	}
	for {
		got, body, err := w.next()
		if err != nil {
			return nil, err
		}
		if got == want {
			return body, w.conn.SetDeadline(time.Time{})
		}
	}
}

// write sends whole packets.
func (w *wire) write(packets []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.conn.Write(packets)
	return err
}

// read hands over each message until the connection ends. Topic and payload are
// good only during the call. idle is called whenever no further message has
// arrived yet.
func (w *wire) read(message func(topic, payload []byte), idle func()) error {
	for {
		kind, body, err := w.next()
		if err != nil {
			return err
		}
		if kind&0xf0 == packetPublish {
			if topic, payload, ok := takeText(body); ok {
				message(topic, payload)
			}
		}
		if w.in.Buffered() == 0 {
			idle()
		}
	}
}

// next reads a packet. Its body is good until the next call; one too long for
// the buffer is empty.
func (w *wire) next() (kind byte, body []byte, err error) {
	if kind, err = w.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	length, err := binary.ReadUvarint(w.in) // MQTT's own form of numbers is the same up to 4 octets
	if err != nil {
		return 0, nil, err
	}
	if length > wireBuffer {
		_, err := io.CopyN(io.Discard, w.in, int64(min(length, 1<<28)))
		return kind, nil, err
	}
	if body, err = w.in.Peek(int(length)); err != nil {
		return 0, nil, err
	}
	_, err = w.in.Discard(int(length))
	return kind, body, err
}

// close says good-bye as a client does, so that the broker logs no fault.
func (w *wire) close() {
	_ = w.write([]byte{packetDisconnect, 0}) // the broker may have gone already
	_ = w.conn.Close()
}

func appendPacket(to []byte, kind byte, body []byte) []byte {
	return append(binary.AppendUvarint(append(to, kind), uint64(len(body))), body...)
}

func appendPublish(to []byte, kind byte, topic string, payload []byte) []byte {
	return appendPacket(to, kind, append(appendText(nil, topic), payload...))
}

func appendText(to []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(to, uint16(len(s))), s...)
}

// takeText cuts a text with its length off the front.
func takeText(b []byte) (text, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b)) + 2
	if len(b) < n {
		return nil, nil, false
	}
	return b[2:n], b[n:], true
}
