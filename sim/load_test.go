package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	"google.golang.org/protobuf/proto"
)

// crowd is a fleet of which no device draws a DevNonce twice.
func crowd(t testing.TB, n int, region string) []*Device {
	t.Helper()
	all := fleet(t, n, region)
	for _, d := range all {
		d.config.Nonces = NoncesCounted
	}
	return all
}

// runLoad runs a load that must not fail.
func runLoad(t testing.TB, o LoadOptions) LoadReport {
	t.Helper()
	r, err := Load(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Every join is sent in all its copies and answered once; each answer is
// acknowledged; what nobody signed is not answered.
func TestLoadCounts(t *testing.T) {
	b := newBroker(t)
	devices := crowd(t, 40, "EU868")
	s := newServer(t, V4Protobuf, devices...)
	s.checks = true
	s.join(b, "")
	states := watchStates(t, b, "")
	r := runLoad(t, LoadOptions{
		Broker: BrokerConfig{URL: b.url}, Devices: devices, Gateways: GatewayEUIs(0, 5), DataRate: 5,
		Rate: 400, Duration: 250 * time.Millisecond, Copies: 3, Connections: 2, ForgedRate: 200,
	})
	if r.Joins != 100 || r.Copies != 300 || r.Answered != 100 || r.RX1 != 100 || r.RX2 != 0 || r.Late != 0 {
		t.Errorf("%+v", r)
	}
	if r.Forged != 50 || r.ForgedAnswered != 0 || r.Surplus != 0 || r.Strange != 0 {
		t.Errorf("%+v", r)
	}
	var through int64
	for _, n := range r.PerGateway {
		through += n
	}
	if through != 100 || r.Latency.Count() != 100 || r.AnswersPerSecond <= 0 {
		t.Errorf("%d through gateways, %d latencies, %v/s", through, r.Latency.Count(), r.AnswersPerSecond)
	}
	eventually(t, "every command is acknowledged", func() bool { return s.acknowledged() == 100 })
	eventually(t, "the gateways were ONLINE and went OFFLINE", func() bool { return states.count("ONLINE") == 5 && states.count("OFFLINE") == 5 })
}

// A burst whose answers come twice.
func TestLoadBurst(t *testing.T) {
	b := newBroker(t)
	devices := crowd(t, 30, "101")
	s := newServer(t, V4Protobuf, devices...)
	s.times, s.together = 2, 180
	s.join(b, "eu/")
	r := runLoad(t, LoadOptions{
		Broker: BrokerConfig{URL: b.url}, Prefix: "eu", Devices: devices, Gateways: GatewayEUIs(0, 1), DataRate: -1, Burst: 90, NoAcks: true,
	})
	// The load ends with the last first answer: the second one after it may not be seen.
	if r.Joins != 90 || r.Answered != 90 || r.RX1 != 90 || r.Surplus < 89 || r.Surplus > 90 || s.acknowledged() != 0 {
		t.Errorf("%+v, %d acks", r, s.acknowledged())
	}
}

// What comes and answers nothing, and what servers tell of refusals.
func TestLoadCountsStrangersAndRefusals(t *testing.T) {
	l, err := newLoad(LoadOptions{Devices: crowd(t, 1, "EU868"), Gateways: []EUI{0xa}, DataRate: 5, Burst: 2, NoAcks: true})
	if err != nil {
		t.Fatal(err)
	}
	l.begin = time.Now()
	command := func(gateway EUI, context uint32) {
		packet, places, err := downTemplate(l.region, "", gateway)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range places {
			binary.BigEndian.PutUint32(packet[at:], context)
		}
		_, rest := packet[0], packet[3:] // one octet of kind, two of length
		topic, payload, _ := takeText(rest)
		l.message(topic, payload)
	}
	command(0xa, 1)
	command(0xa, 1)               // again
	command(0xa, 2)               // there is no third join
	command(0xa, forgedContext|5) // a forged request
	command(0xb, 0)               // not ours
	l.message([]byte("gateway/000000000000000a/command/down"), []byte("nonsense"))
	l.message([]byte("gateway"), nil)
	for _, event := range []string{`{"reason":"bad_mic"}`, `{"reason":"bad_mic","count":7}`, `{"reason":"overloaded","count":2}`, `nonsense`} {
		l.message([]byte("joingate/_/node/_/event/reject"), []byte(event))
	}
	r := l.result()
	if r.Answered != 1 || r.Surplus != 1 || r.ForgedAnswered != 1 || r.Strange != 5 || r.PerGateway[0xa] != 1 || r.Refused["bad_mic"] != 8 || r.Refused["overloaded"] != 2 {
		t.Errorf("%+v", r)
	}
}

// Late is useless: a packet forwarder wants a command 42.5 ms before its window.
func TestLoadInTime(t *testing.T) {
	both := loadCommand{delays: [2]time.Duration{5 * time.Second, 6 * time.Second}, items: 2}
	for after, want := range map[time.Duration]int{
		0: 1, 4957 * time.Millisecond: 1, 4958 * time.Millisecond: 2, 5957 * time.Millisecond: 2, 5958 * time.Millisecond: 0,
	} {
		if got := both.inTime(after); got != want {
			t.Errorf("after %s: RX%d, want RX%d", after, got, want)
		}
	}
	if only := (loadCommand{delays: [2]time.Duration{6 * time.Second}, items: 1}); only.inTime(time.Second) != 2 {
		t.Error("RX2 alone")
	}
}

// In a closed loop a join begins when one has ended.
func TestLoadClosedLoop(t *testing.T) {
	b := newBroker(t)
	devices := crowd(t, 30, "EU868")
	newServer(t, V4Protobuf, devices...).join(b, "")
	r := runLoad(t, LoadOptions{
		Broker: BrokerConfig{URL: b.url}, Devices: devices, Gateways: GatewayEUIs(0, 2), DataRate: 5,
		Rate: 2000, Duration: 100 * time.Millisecond, Open: 3,
	})
	if r.Answered != r.Joins || r.Joins == 0 {
		t.Errorf("%+v", r)
	}
}

// The echo answers everything, in the band of every region.
func TestLoadEcho(t *testing.T) {
	b := newBroker(t)
	for _, region := range RegionNames() {
		r := runLoad(t, LoadOptions{
			Broker: BrokerConfig{URL: b.url}, Prefix: "echo/" + region, Devices: crowd(t, 4, region), Gateways: GatewayEUIs(0, 3), DataRate: -1,
			Burst: 200, Copies: 3, Echo: true, Connections: 3,
		})
		if r.Answered != 200 || r.RX1 != 200 || r.Surplus != 0 || r.Copies != 600 {
			t.Errorf("%s: %+v", region, r)
		}
	}
}

// Silence: the load waits until nothing can come any more, or is told so.
func TestLoadWithoutAnswers(t *testing.T) {
	b := newBroker(t)
	asked := 0
	r := runLoad(t, LoadOptions{
		Broker: BrokerConfig{URL: b.url}, Devices: crowd(t, 3, "EU868"), Gateways: GatewayEUIs(0, 1), DataRate: 5, Burst: 3,
		Settled: func() bool { asked++; return true },
	})
	if r.Answered != 0 || r.Joins != 3 || asked != 1 {
		t.Errorf("%+v, asked %d times", r, asked)
	}
}

func TestLoadFaults(t *testing.T) {
	b := newBroker(t)
	good := LoadOptions{Broker: BrokerConfig{URL: b.url}, Devices: crowd(t, 1, "EU868"), Gateways: GatewayEUIs(0, 1), DataRate: 5, Burst: 1}
	for want, change := range map[string]func(*LoadOptions){
		"no devices":                                func(o *LoadOptions) { o.Devices = nil },
		"want as many gateways":                     func(o *LoadOptions) { o.Copies = 2 },
		"neither a burst nor a rate":                func(o *LoadOptions) { o.Burst = 0 },
		"no join channel":                           func(o *LoadOptions) { o.DataRate = 6 },
		"connect to MQTT broker mqtt://127.0.0.1:1": func(o *LoadOptions) { o.Broker.URL = "mqtt://127.0.0.1:1" },
		"is none of mqtt, tcp, mqtts":               func(o *LoadOptions) { o.Broker.URL = "http://127.0.0.1" },
	} {
		o := good
		change(&o)
		if _, err := Load(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A broker that goes away ends the load at once.
func TestLoadLosesItsBroker(t *testing.T) {
	b := newBroker(t)
	_, err := Load(t.Context(), LoadOptions{
		Broker: BrokerConfig{URL: b.url}, Devices: crowd(t, 1, "EU868"), Gateways: GatewayEUIs(0, 1), DataRate: 5, Burst: 1,
		Settled: func() bool { b.stop(); return false },
	})
	if err == nil || !strings.Contains(err.Error(), "closed the connection") {
		t.Error(err)
	}
}

// What a broker that refuses says.
func TestWireRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte{packetConnAck, 2, 0, 5}) // not authorised
		_, _ = conn.Read(make([]byte, 256))
	}()
	_, err = dialWire(context.Background(), BrokerConfig{URL: "tcp://" + listener.Addr().String(), Username: "u", Password: "p"}, "x")
	if err == nil || !strings.Contains(err.Error(), "CONNACK 0005") {
		t.Error(err)
	}
}

// A command of either form means the same to the load as to the library.
func FuzzParseLoadCommand(f *testing.F) {
	packet, _, err := downTemplate(regionTables()["EU868"], "", 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packet[40:])
	f.Add([]byte{0x2a, 0x02, 0x1a, 0x00})
	f.Add([]byte{0x18, 0x07, 0x1d, 0x00, 0x00, 0x00, 0x00}) // downlink_id, and a fixed32 with its number
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseLoadCommand(b)
		var want gw.DownlinkFrame
		if proto.Unmarshal(b, &want) != nil || len(want.Items) > 2 || err != nil {
			return
		}
		if got.id != want.DownlinkId || got.items != len(want.Items) {
			t.Fatalf("%+v, want %v", got, &want)
		}
	})
}

// Template and acknowledgement are what the bridge's own encoder would make.
func TestLoadMessages(t *testing.T) {
	region := regionTables()["EU868"]
	templates, err := newLoadTemplates(region, "p/", GatewayEUIs(0, 2))
	if err != nil {
		t.Fatal(err)
	}
	d := testDevice(t, "1.0.3", "EU868")
	up, err := d.JoinRequestOn(Channel{868_300_000, 3})
	if err != nil {
		t.Fatal(err)
	}
	f := loadFrame{[joinRequestSize]byte(up.PHYPayload), uint8(templates.channel(region, up))}
	packet := templates.append([]byte("before"), &f, 1, 77, -3.5)[len("before"):]
	at := templates.layout[f.channel].payload
	var m gw.UplinkFrame
	if err := proto.Unmarshal(packet[at:], &m); err != nil {
		t.Fatal(err)
	}
	if string(m.PhyPayload) != string(up.PHYPayload) || m.TxInfo.Frequency != 868_300_000 || m.TxInfo.Modulation.GetLora().SpreadingFactor != 9 ||
		m.RxInfo.Snr != -3.5 || m.RxInfo.GatewayId != "0016c001f1500001" || string(m.RxInfo.Context) != "\x00\x00\x00\x4d" {
		t.Errorf("%v", &m)
	}
	var ack gw.DownlinkTxAck
	text := appendLoadAck(nil, "t", 0x0016c001f1500001, loadCommand{id: 70_000, items: 2})
	if err := proto.Unmarshal(text[2+2+1:], &ack); err != nil {
		t.Fatal(err)
	}
	if ack.DownlinkId != 70_000 || ack.GatewayId != "0016c001f1500001" || len(ack.Items) != 2 ||
		ack.Items[0].Status != gw.TxAckStatus_OK || ack.Items[1].Status != gw.TxAckStatus_IGNORED {
		t.Errorf("%v", &ack)
	}
}

func TestLoadEnds(t *testing.T) {
	b := newBroker(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Load(ctx, LoadOptions{
		Broker: BrokerConfig{URL: b.url}, Devices: crowd(t, 1, "EU868"), Gateways: GatewayEUIs(0, 1), DataRate: 5, Rate: 10, Duration: time.Hour,
		Progress: func(LoadProgress) { cancel() },
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// BenchmarkLoadCopy is what the load pays for one copy, but for the network.
func BenchmarkLoadCopy(b *testing.B) {
	templates, err := newLoadTemplates(regionTables()["EU868"], "", GatewayEUIs(0, 3))
	if err != nil {
		b.Fatal(err)
	}
	buffer := make([]byte, 0, 1<<20)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if len(buffer) > sendBatch {
			buffer = buffer[:0]
		}
		buffer = templates.append(buffer, &loadFrame{}, i%3, uint32(i), 8)
	}
}

// BenchmarkLoadEcho is broker, load and echo together: three copies, one answer.
func BenchmarkLoadEcho(b *testing.B) {
	br := newBroker(b)
	r := runLoad(b, LoadOptions{
		Broker: BrokerConfig{URL: br.url}, Devices: crowd(b, 100, "EU868"), Gateways: GatewayEUIs(0, 3), DataRate: 5, Copies: 3,
		Rate: 1e6, Duration: time.Duration(b.N) * time.Microsecond, Open: 1000, Echo: true,
	})
	b.ReportMetric(r.AnswersPerSecond, "joins/s")
}
