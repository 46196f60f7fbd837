package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// Packets of MQTT 3.1.1, section 2.2.1, with their flags where they are fixed.
const (
	packetConnect    = 0x10
	packetConnAck    = 0x20
	packetPublish    = 0x30
	packetPubAck     = 0x40
	packetSubscribe  = 0x82
	packetSubAck     = 0x90
	packetPing       = 0xc0
	packetPong       = 0xd0
	packetDisconnect = 0xe0

	flagRetain = 0x01
	flagQoS1   = 0x02
)

// subscriptionRefused is the return code of SUBACK for it (section 3.9.3).
const subscriptionRefused = 0x80

// connectRefusals are the return codes of CONNACK (section 3.2.2.3).
var connectRefusals = map[byte]string{
	1: "it does not speak MQTT 3.1.1", 2: "it refuses the client id", 3: "it is not available now", 4: "user or password are wrong", 5: "the user may not connect",
}

// mqttProbe speaks as much of MQTT 3.1.1 as the doctor needs. Messages that come
// while an answer is awaited wait in arrived.
type mqttProbe struct {
	conn    net.Conn
	in      *bufio.Reader
	packet  uint16 // the last packet identifier
	arrived []mqttMessage
}

type mqttMessage struct {
	topic, payload string
	retained       bool
}

// mostPacket bounds what a broker may make the doctor hold.
const mostPacket = 1 << 20

// dialMQTT connects; a session that is not clean outlives the connection.
func dialMQTT(ctx context.Context, b mqttBroker, client string, clean bool) (*mqttProbe, error) {
	conn, err := reach(ctx, b.address, b.secure)
	if err != nil {
		return nil, err
	}
	p := &mqttProbe{conn: conn, in: bufio.NewReader(conn)}
	if err := p.connect(b, client, clean); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return p, nil
}

// mqttBroker is where a broker is and who we are to it.
type mqttBroker struct {
	address        string
	secure         *tls.Config // nil: no TLS
	user, password string
}

// connect is section 3.1: protocol name and level, flags, keep-alive, payload.
func (p *mqttProbe) connect(b mqttBroker, client string, clean bool) error {
	flags, body := byte(0), text16("MQTT")
	payload := text16(client)
	if clean {
		flags |= 0x02
	}
	if b.user != "" {
		flags |= 0x80
		payload = append(payload, text16(b.user)...)
	}
	if b.user != "" && b.password != "" {
		flags |= 0x40
		payload = append(payload, text16(b.password)...)
	}
	body = append(body, 4, flags, 0, 60)
	if err := p.send(packetConnect, append(body, payload...)); err != nil {
		return err
	}
	answer, err := p.await(packetConnAck)
	if err != nil {
		return err
	}
	if len(answer) != 2 || answer[1] != 0 {
		return fmt.Errorf("the broker refuses the connection: %s", connectRefusals[last(answer)])
	}
	return nil
}

func last(octets []byte) byte {
	if len(octets) == 0 {
		return 0
	}
	return octets[len(octets)-1]
}

func text16(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// send writes one packet: kind, remaining length (section 2.2.3), body.
func (p *mqttProbe) send(kind byte, body []byte) error {
	packet := []byte{kind}
	for length := len(body); ; {
		digit := byte(length % 128)
		if length /= 128; length > 0 {
			packet = append(packet, digit|0x80)
			continue
		}
		packet = append(packet, digit)
		break
	}
	_, err := p.conn.Write(append(packet, body...))
	return err
}

// receive reads one packet.
func (p *mqttProbe) receive() (kind byte, body []byte, err error) {
	if kind, err = p.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	length, err := binary.ReadUvarint(p.in)
	if err != nil {
		return 0, nil, err
	}
	if length > mostPacket {
		return 0, nil, errors.New("what answers there is no MQTT broker, or sends messages of megabytes")
	}
	body = make([]byte, length)
	_, err = io.ReadFull(p.in, body)
	return kind, body, err
}

// await reads until a packet of the kind comes. Messages before it are kept, and
// acknowledged.
func (p *mqttProbe) await(kind byte) ([]byte, error) {
	for {
		got, body, err := p.receive()
		switch {
		case err != nil:
			return nil, err
		case got == kind:
			return body, nil
		case got&0xf0 != packetPublish:
			return nil, fmt.Errorf("the broker answers with packet 0x%02x, want 0x%02x", got, kind)
		}
		if err := p.keep(got, body); err != nil {
			return nil, err
		}
	}
}

// keep takes a PUBLISH (section 3.3).
func (p *mqttProbe) keep(flags byte, body []byte) error {
	if len(body) < 2 || len(body) < 2+int(binary.BigEndian.Uint16(body)) {
		return errors.New("the broker sends a message without a topic")
	}
	end := 2 + int(binary.BigEndian.Uint16(body))
	m := mqttMessage{topic: string(body[2:end]), retained: flags&flagRetain != 0}
	rest := body[end:]
	if flags&0x06 != 0 {
		if len(rest) < 2 {
			return errors.New("the broker sends a message without its identifier")
		}
		if err := p.send(packetPubAck, rest[:2]); err != nil {
			return err
		}
		rest = rest[2:]
	}
	m.payload = string(rest)
	p.arrived = append(p.arrived, m)
	return nil
}

func (p *mqttProbe) nextPacket() []byte {
	p.packet++
	return binary.BigEndian.AppendUint16(nil, p.packet)
}

// subscribe asks for topics with QoS 1 and gives the return code of each.
func (p *mqttProbe) subscribe(topics ...string) ([]byte, error) {
	body := p.nextPacket()
	for _, topic := range topics {
		body = append(append(body, text16(topic)...), 1)
	}
	if err := p.send(packetSubscribe, body); err != nil {
		return nil, err
	}
	answer, err := p.await(packetSubAck)
	if err != nil {
		return nil, err
	}
	if len(answer) != 2+len(topics) {
		return nil, errors.New("the broker answers fewer subscriptions than were asked for")
	}
	return answer[2:], nil
}

// publish sends a message with QoS 1 and does not wait for its PUBACK.
func (p *mqttProbe) publish(topic, payload string, retain bool) error {
	kind := byte(packetPublish | flagQoS1)
	if retain {
		kind |= flagRetain
	}
	return p.send(kind, append(append(text16(topic), p.nextPacket()...), payload...))
}

// publishAll sends messages and waits until all are acknowledged.
func (p *mqttProbe) publishAll(topic, payload string, retain bool, n int) error {
	failed := make(chan error, 1)
	go func() {
		var err error
		for range n {
			if err = p.publish(topic, payload, retain); err != nil {
				break
			}
		}
		failed <- err
	}()
	for range n {
		if _, err := p.await(packetPubAck); err != nil {
			_ = p.conn.Close() // so that the sender ends
			return errors.Join(err, <-failed)
		}
	}
	return <-failed
}

// settle waits until the broker has answered a ping: what it had to send before
// has come, with brokers that keep the order.
func (p *mqttProbe) settle() error {
	if err := p.send(packetPing, nil); err != nil {
		return err
	}
	_, err := p.await(packetPong)
	return err
}

// take gives the messages of a topic that have come, and forgets all.
func (p *mqttProbe) take(topic string) (messages []mqttMessage) {
	for _, m := range p.arrived {
		if m.topic == topic {
			messages = append(messages, m)
		}
	}
	p.arrived = nil
	return messages
}

// close says good-bye.
func (p *mqttProbe) close() {
	_ = p.send(packetDisconnect, nil)
	_ = p.conn.Close()
}
