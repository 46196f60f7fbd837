package mqtt

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protowire"

	"joingate/joinserver"
)

// BenchmarkEdge measures the way of a join through the whole edge: three copies in,
// one command out, its ack in, one join event out and acknowledged, through paho
// and a TCP connection. The other end of the connection and the join handler are
// as small as can be, and their work counts too. cpu-µs/join is what matters: the
// processor time of the process, all threads.
func BenchmarkEdge(b *testing.B) {
	const underWay = 1 << 10 // joins at a time
	far := newFarEnd(b)
	outbox := newQueuedOutbox()
	edge, err := New(Config{
		Broker: BrokerConfig{URL: "mqtt://" + far.address()}, CollectWindow: 20 * time.Millisecond,
		Handler: &countingHandler{outbox: outbox}, Outbox: outbox, Registerer: prometheus.NewRegistry(), Logger: zap.NewNop(),
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var ended sync.WaitGroup
	ended.Go(func() { _ = edge.Run(ctx) })
	defer ended.Wait()
	defer cancel()
	eventually(b, "the edge to be ready", func() bool { return edge.Ready() == nil })

	slots := make(chan struct{}, underWay)
	far.answered = func() { <-slots }
	packets := newBenchPackets()
	before, began := cpuTime(b), time.Now()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		slots <- struct{}{}
		far.send(packets.copies(i))
	}
	eventually(b, "the last answers", func() bool { return len(slots) == 0 })
	eventually(b, "the last events", func() bool { return far.events.Load() >= int64(b.N) })
	if n := far.refused.Load(); n != 0 {
		b.Errorf("%d joins were refused", n)
	}
	b.StopTimer()
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/join")
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "joins/s")
}

func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// benchPackets are PUBLISH packets of one join, changed in place from join to join.
type benchPackets struct {
	packet []byte
	frames []int // where the PHYPayloads are
}

func newBenchPackets() *benchPackets {
	p := new(benchPackets)
	marked := joinRequest(0xa5a5a5)
	for _, gateway := range []joinserver.EUI64{gatewayA, gatewayB, gatewayC} {
		up := encodeUplink(copyOf(marked, gateway, float32(gateway[7]), start))
		packet := publishPacket(uplinkTopic("", gateway), up)
		p.frames = append(p.frames, len(p.packet)+len(packet)-len(up)+indexOf(up, marked))
		p.packet = append(p.packet, packet...)
	}
	return p
}

func indexOf(in, part []byte) int {
	for i := range in {
		if string(in[i:i+len(part)]) == string(part) {
			return i
		}
	}
	panic("not there")
}

func (p *benchPackets) copies(n int) []byte {
	for _, at := range p.frames {
		binary.LittleEndian.PutUint32(p.packet[at+9:], uint32(n))
	}
	return p.packet
}

// publishPacket is a PUBLISH of QoS 0 (MQTT 3.1.1 section 3.3).
func publishPacket(topic string, payload []byte) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	body = append(append(body, topic...), payload...)
	return append(binary.AppendUvarint([]byte{0x30}, uint64(len(body))), body...)
}

// farEnd is the least that an edge takes for a broker with gateways behind it: each
// command is acknowledged as sent in RX1.
type farEnd struct {
	listener net.Listener
	answered func()
	events   atomic.Int64
	refused  atomic.Int64

	mu  sync.Mutex
	out *bufio.Writer
}

func newFarEnd(b *testing.B) *farEnd {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	f := &farEnd{listener: listener}
	b.Cleanup(func() { _ = listener.Close() })
	go func() {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		f.out = bufio.NewWriterSize(connection, 1<<16)
		f.serve(bufio.NewReaderSize(connection, 1<<16))
	}()
	return f
}

func (f *farEnd) address() string { return f.listener.Addr().String() }

func (f *farEnd) send(packet []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _ = f.out.Write(packet)
	if f.out.Buffered() > 1<<13 {
		_ = f.out.Flush()
	}
}

func (f *farEnd) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.out.Flush()
}

func (f *farEnd) serve(in *bufio.Reader) {
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				f.flush()
			}
		}
	}()
	for {
		first, err := in.ReadByte()
		if err != nil {
			return
		}
		length, _ := binary.ReadUvarint(in)
		body := make([]byte, length)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		f.packet(first, body)
	}
}

func (f *farEnd) packet(first byte, body []byte) {
	switch first >> 4 {
	case 1: // CONNECT
		f.send([]byte{0x20, 2, 0, 0})
	case 8: // SUBSCRIBE
		granted := make([]byte, 8)
		f.send(append([]byte{0x90, byte(2 + len(granted)), body[0], body[1]}, granted...))
	case 10: // UNSUBSCRIBE
		f.send([]byte{0xb0, 2, body[0], body[1]})
	case 3: // PUBLISH
		topic := body[2 : 2+int(body[0])<<8+int(body[1])]
		rest := body[2+len(topic):]
		if first&6 != 0 {
			f.send([]byte{0x40, 2, rest[0], rest[1]})
			f.events.Add(1)
			return
		}
		if topic[0] == 'j' {
			f.refused.Add(1)
			f.answered()
			return
		}
		gateway := string(topic[len("gateway/") : len("gateway/")+16])
		f.send(publishPacket("gateway/"+gateway+"/event/ack", ackOf(gateway, rest)))
		f.answered()
	}
}

// ackOf is the ack of a v4 protobuf command.
func ackOf(gateway string, command []byte) []byte {
	var id uint64
	for len(command) > 0 {
		number, kind, n := protowire.ConsumeTag(command)
		if number == 3 && kind == protowire.VarintType {
			id, _ = protowire.ConsumeVarint(command[n:])
			break
		}
		command = command[n+protowire.ConsumeFieldValue(number, kind, command[n:]):]
	}
	item := []byte{8, 1}
	out := protowire.AppendTag(nil, 2, protowire.VarintType)
	out = protowire.AppendVarint(out, id)
	out = protowire.AppendTag(out, 5, protowire.BytesType)
	out = protowire.AppendBytes(out, item)
	out = protowire.AppendTag(out, 6, protowire.BytesType)
	return protowire.AppendString(out, gateway)
}

// countingHandler accepts all joins and remembers nothing.
type countingHandler struct{ outbox *queuedOutbox }

func (h *countingHandler) Prepare(_ context.Context, phyPayload []byte) (joinserver.Attempt, error) {
	request, err := joinserver.ParseJoinRequest(phyPayload)
	return joinserver.Attempt{Request: request}, err
}

func (h *countingHandler) Answer(_ context.Context, a joinserver.Attempt, copies []joinserver.Reception) (joinserver.Downlink, error) {
	h.outbox.add(joinserver.OutboxEvent{DevEUI: a.Request.DevEUI, JoinNonce: 1, Account: 3, Payload: benchEvent})
	routes := make([]joinserver.Route, len(copies))
	for i, c := range copies {
		routes[i] = joinserver.Route{Reception: i, Gateway: c.Gateway, RX1: testRX1, RX2: testRX2}
	}
	return joinserver.Downlink{
		PHYPayload: testAccept(a.Request), Routes: routes,
		Claim: joinserver.Claim{Request: a.Request, Receptions: copies, RxDelay: time.Second},
	}, nil
}

var benchEvent = fmt.Appendf(nil, "%0600d", 0)

// queuedOutbox is an outbox in memory that costs little.
type queuedOutbox struct {
	added chan struct{}

	mu     sync.Mutex
	events queue[joinserver.OutboxEvent]
}

func newQueuedOutbox() *queuedOutbox { return &queuedOutbox{added: make(chan struct{}, 1)} }

func (o *queuedOutbox) add(e joinserver.OutboxEvent) {
	o.mu.Lock()
	o.events.push(e)
	o.mu.Unlock()
	select {
	case o.added <- struct{}{}:
	default:
	}
}

func (o *queuedOutbox) Pending(_ context.Context, limit int) ([]joinserver.OutboxEvent, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := o.events.all()
	return append([]joinserver.OutboxEvent(nil), all[:min(limit, len(all))]...), nil
}

func (o *queuedOutbox) Delivered(_ context.Context, events []joinserver.OutboxEvent) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for range events {
		o.events.pop()
	}
	return nil
}

func (o *queuedOutbox) Notify() <-chan struct{} { return o.added }
