package mqtt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"joingate/mqtt/broker"
)

// readConn is a connection that gives what a reader has, and takes what is written.
type readConn struct {
	net.Conn
	io.Reader
	written bytes.Buffer
}

func (c *readConn) Read(p []byte) (int, error)         { return c.Reader.Read(p) }
func (c *readConn) Write(p []byte) (int, error)        { return c.written.Write(p) }
func (c *readConn) SetWriteDeadline(t time.Time) error { return nil }
func (c *readConn) Close() error                       { return nil }

// Property: of whatever packets in whatever pieces, those with QoS 0 are received and
// all others are left to paho, each whole and in its order.
func TestWireTakesMessagesOfQoS0(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream, wantPassed []byte
		var got, want []string
		for range rapid.IntRange(0, 20).Draw(t, "packets") {
			topic := rapid.StringMatching(`[a-z/]{0,20}`).Draw(t, "topic")
			payload := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "payload")
			if rapid.IntRange(0, 9).Draw(t, "size") == 0 {
				payload = make([]byte, rapid.SampledFrom([]int{maxPayload, wireBuffer - 40, wireBuffer, 2 * wireBuffer}).Draw(t, "octets"))
			}
			packet := publishPacket(topic, payload)
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				packet[0] |= 2 // QoS 1; the packet id is part of what the payload is here
				wantPassed = append(wantPassed, packet...)
			case 1:
				packet = []byte{0xb0, 2, 0, 1}
				wantPassed = append(wantPassed, packet...)
			default:
				retained := rapid.Bool().Draw(t, "retained")
				if retained {
					packet[0] |= 1
				}
				if len(packet) > wireBuffer {
					wantPassed = append(wantPassed, packet...)
				} else {
					want = append(want, fmt.Sprint(topic, payload, retained))
				}
			}
			stream = append(stream, packet...)
		}
		from := io.Reader(bytes.NewReader(stream))
		if rapid.Bool().Draw(t, "octet by octet") && len(stream) < 10_000 {
			from = iotest.OneByteReader(from)
		}
		w := newWire(&readConn{Reader: from}, time.Second, func(topic string, payload []byte, retained bool) {
			got = append(got, fmt.Sprint(topic, payload, retained))
		})
		passed, err := io.ReadAll(w)
		if err != nil || !bytes.Equal(passed, wantPassed) || !slices.Equal(got, want) {
			t.Fatalf("passed %d octets of %d, received %d messages of %d: %v", len(passed), len(wantPassed), len(got), len(want), err)
		}
	})
}

// Whatever a broker sends, no octet of it is used twice.
func FuzzWire(f *testing.F) {
	f.Add(publishPacket("a/b", []byte("x")))
	f.Add([]byte{0x30, 2, 0, 9, 0x31, 0xff, 0xff, 0xff, 0xff, 0xff, 0x20, 2, 0, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		received := 0
		w := newWire(&readConn{Reader: bytes.NewReader(stream)}, time.Second, func(topic string, payload []byte, _ bool) {
			received += len(publishPacket(topic, payload))
		})
		passed, err := io.ReadAll(w)
		if len(passed)+received > len(stream) {
			t.Errorf("%d octets came, %d passed and %d received: %v", len(stream), len(passed), received, err)
		}
	})
}

// Packets that many write at once leave whole.
func TestWireWritesWholePackets(t *testing.T) {
	to := &readConn{Reader: strings.NewReader("")}
	w := newWire(to, time.Second, nil)
	var writing sync.WaitGroup
	for i := range 8 {
		writing.Go(func() {
			for n := range 500 {
				if n%10 == 0 {
					_, _ = w.Write([]byte{0xc0, 0}) // paho's PINGREQ
				}
				if err := w.publish("a", fmt.Appendf(nil, "%d %d", i, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	next := make([]int, 8)
	pings := 0
	for rest := to.written.Bytes(); len(rest) > 0; {
		length, n := binary.Uvarint(rest[1:])
		packet := rest[1+n:][:length]
		first := rest[0]
		rest = rest[1+n+int(length):]
		if first == 0xc0 {
			pings++
			continue
		}
		var i, number int
		if _, err := fmt.Sscanf(string(packet[3:]), "%d %d", &i, &number); err != nil || number != next[i] {
			t.Fatalf("message %q, want number %d: %v", packet[3:], next[i], err)
		}
		next[i]++
	}
	if pings != 8*50 || slices.Min(next) != 500 {
		t.Errorf("%d pings, %v messages", pings, next)
	}
}

// stuckConn takes nothing, and does not close before that is over, as TLS may not.
type stuckConn struct {
	net.Conn
	entered, stuck, closed chan struct{}
}

func (c *stuckConn) Write([]byte) (int, error) {
	close(c.entered)
	<-c.stuck
	return 0, errors.New("time is up")
}
func (c *stuckConn) SetWriteDeadline(time.Time) error { return nil }
func (c *stuckConn) Close() error {
	<-c.stuck
	close(c.closed)
	return nil
}

// While the network takes nothing, publishing does not wait, and ends the connection
// when too much piles up. What comes after that is not kept.
func TestWireThatIsStuckIsGivenUp(t *testing.T) {
	c := &stuckConn{entered: make(chan struct{}), stuck: make(chan struct{}), closed: make(chan struct{})}
	w := newWire(c, time.Second, nil)
	first := make(chan error)
	go func() { first <- w.publish("a", nil) }()
	<-c.entered
	var err error
	for n := 0; err == nil; n++ {
		if err = w.publish("a", make([]byte, 1<<20)); n > maxUnsent>>20 {
			t.Fatal("there is no limit")
		}
	}
	if !errors.Is(err, errUnread) {
		t.Errorf("error %v", err)
	}
	for range 10 {
		if err := w.publish("a", make([]byte, 1<<20)); !errors.Is(err, errUnread) {
			t.Errorf("error %v on a connection that is broken", err)
		}
	}
	if len(w.unsent) > 0 {
		t.Errorf("%d octets wait for a connection that is broken", len(w.unsent))
	}
	close(c.stuck)
	<-c.closed
	if err := <-first; !errors.Is(err, errUnread) {
		t.Errorf("error %v of the first message", err)
	}
}

// A write ends when the network's time is up, and with it the connection.
func TestWireIsNotPatientForEver(t *testing.T) {
	near, far := net.Pipe() // nobody reads
	w := newWire(near, time.Millisecond, nil)
	if err := w.publish("a", nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection is open: %v", err)
	}
}

// The program connects to its own broker without a network.
func TestClientOnThePrivateWay(t *testing.T) {
	b, err := broker.Start(broker.Options{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r := runClient(t, Config{Broker: BrokerConfig{URL: "mqtt://embedded", Dial: b.Dial}})
	r.awaitUp(t)
	r.roundTrip(t, anUplinkTopic)
	_ = b.Close()
	r.awaitDown(t, "mqtt://embedded")
}
