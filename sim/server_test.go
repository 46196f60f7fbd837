package sim

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// server is a join server of the simplest kind: it answers the first copy of
// each frame that came on a join channel. It reads and writes the messages of
// bridges by its own means.
type server struct {
	t        testing.TB
	encoding Encoding
	devices  map[EUI]*Device

	// answer makes the join-accept of a device; nil for silence.
	answer func(d *Device, joinNonce uint32) *answer
	// bend changes the items before they are sent.
	bend func(rx1, rx2 *item)
	// checks has the server keep silent to what nobody signed.
	checks bool
	// times is how often each command is sent; 0 is once.
	times int
	// together is how many commands are kept back, and then sent one after the other.
	together int

	mu        sync.Mutex
	kept      []outgoing
	joinNonce map[EUI]uint32
	answered  map[string]bool
	copies    map[string]int
	nextID    uint32
	acks      []string
}

func newServer(t testing.TB, e Encoding, devices ...*Device) *server {
	s := &server{
		t: t, encoding: e, devices: map[EUI]*Device{}, joinNonce: map[EUI]uint32{},
		answered: map[string]bool{}, copies: map[string]int{},
	}
	for _, d := range devices {
		s.devices[d.DevEUI()] = d
	}
	s.answer = func(d *Device, n uint32) *answer {
		return &answer{joinNonce: n, rxDelay: 3, rx2DR: uint8(d.Region().rx2DR), optNeg: d.version == version11}
	}
	return s
}

// acknowledged counts the event/ack so far.
func (s *server) acknowledged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acks)
}

// heardCopy is what the server reads from event/up.
type heardCopy struct {
	gateway   EUI
	phy       []byte
	frequency Hz
	mod       Modulation
	context   []byte
	snr       float64
}

func (s *server) read(payload []byte) heardCopy {
	var m gw.UplinkFrame
	switch s.encoding {
	case V4JSON:
		s.must(protojson.Unmarshal(payload, &m))
	case V3JSON:
		return s.readV3JSON(payload)
	default:
		s.must(proto.Unmarshal(payload, &m))
	}
	if s.encoding.isV3() {
		lora := m.TxInfoLegacy.GetLoraModulationInfo()
		return heardCopy{
			EUI(binary.BigEndian.Uint64(m.RxInfoLegacy.GatewayId)), m.PhyPayload, Hz(m.TxInfoLegacy.Frequency),
			Modulation{int(lora.SpreadingFactor), Hz(lora.Bandwidth * 1000)},
			m.RxInfoLegacy.Context, m.RxInfoLegacy.LoraSnr,
		}
	}
	lora := m.TxInfo.Modulation.GetLora()
	return heardCopy{
		eui(s.t, m.RxInfo.GatewayId), m.PhyPayload, Hz(m.TxInfo.Frequency),
		Modulation{int(lora.SpreadingFactor), Hz(lora.Bandwidth)},
		m.RxInfo.Context, float64(m.RxInfo.Snr),
	}
}

func (s *server) readV3JSON(payload []byte) heardCopy {
	var m struct {
		PHYPayload []byte `json:"phyPayload"`
		TxInfo     struct {
			Frequency Hz
			LoRa      struct {
				Bandwidth       Hz
				SpreadingFactor int
			} `json:"loRaModulationInfo"`
		}
		RxInfo struct {
			GatewayID, Context []byte
			SNR                float64 `json:"loRaSNR"`
		}
	}
	s.must(json.Unmarshal(payload, &m))
	return heardCopy{
		EUI(binary.BigEndian.Uint64(m.RxInfo.GatewayID)), m.PHYPayload, m.TxInfo.Frequency,
		Modulation{m.TxInfo.LoRa.SpreadingFactor, m.TxInfo.LoRa.Bandwidth * 1000},
		m.RxInfo.Context, m.RxInfo.SNR,
	}
}

func (s *server) must(err error) {
	if err != nil {
		s.t.Error(err)
	}
}

// outgoing is a command for a gateway.
type outgoing struct {
	gateway EUI
	payload []byte
}

// event takes a message of a bridge and gives the commands that follow.
func (s *server) event(topic string, payload []byte) []outgoing {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch topic[strings.LastIndex(topic, "/")+1:] {
	case "ack":
		s.acks = append(s.acks, string(payload))
		return nil
	case "up":
	default:
		return nil
	}
	c := s.read(payload)
	s.copies[string(c.phy)]++
	d := s.devices[EUI(binary.LittleEndian.Uint64(c.phy[9:]))]
	if s.checks && (d == nil || [4]byte(c.phy[19:]) != mic(d.rootKey(), c.phy[:19])) {
		return nil
	}
	rx1, rx2, ok := windowsOf(d.Region(), c)
	const ghost = -11 // dB; what comes on the channel beside is weaker still
	if !ok || c.snr < ghost || s.answered[string(c.phy)] {
		return nil // a ghost, or a copy of what was answered
	}
	s.answered[string(c.phy)] = true
	s.joinNonce[d.DevEUI()]++
	a := s.answer(d, s.joinNonce[d.DevEUI()])
	if a == nil {
		return nil
	}
	items := []item{itemFor(rx1, c), itemFor(rx2, c)}
	for i := range items {
		items[i].phyPayload = a.frame(s.t, d, c.phy)
	}
	if s.bend != nil {
		s.bend(&items[0], &items[1])
	}
	var all []outgoing
	for range max(1, s.times) {
		s.nextID++
		all = append(all, outgoing{c.gateway, s.write(c.gateway, s.nextID, items)})
	}
	return all
}

func windowsOf(r *Region, c heardCopy) (rx1, rx2 Window, ok bool) {
	for _, ch := range r.JoinChannels() {
		if ch.Frequency == c.frequency && r.rates[ch.DataRate].Modulation == c.mod {
			rx1, rx2, err := r.windows(ch)
			return rx1, rx2, err == nil
		}
	}
	return rx1, rx2, false
}

func itemFor(w Window, c heardCopy) item {
	return item{
		frequency: w.Frequency, power: 14, modulation: w.Modulation, codeRate: "CR_4_5",
		inverted: true, delay: w.Delay, context: c.context,
	}
}

// write builds command/down.
func (s *server) write(gateway EUI, id uint32, items []item) []byte {
	if s.encoding == V3JSON {
		return s.writeV3JSON(gateway, id, items)
	}
	m := &gw.DownlinkFrame{DownlinkId: id}
	if s.encoding.isV3() {
		m.GatewayIdLegacy = octets(gateway)
	} else {
		m.GatewayId = gateway.String()
	}
	for _, it := range items {
		lora := &gw.LoraModulationInfo{
			Bandwidth: uint32(it.modulation.Bandwidth), SpreadingFactor: uint32(it.modulation.SpreadingFactor),
			CodeRate: gw.CodeRate_CR_4_5, PolarizationInversion: it.inverted,
		}
		delay := &gw.DelayTimingInfo{Delay: durationpb.New(it.delay)}
		out := &gw.DownlinkFrameItem{PhyPayload: it.phyPayload}
		if s.encoding.isV3() {
			lora.Bandwidth, lora.CodeRate, lora.CodeRateLegacy = lora.Bandwidth/1000, 0, "4/5"
			out.TxInfoLegacy = &gw.DownlinkTxInfoLegacy{
				GatewayId: octets(gateway), Frequency: uint32(it.frequency), Power: int32(it.power), Context: it.context,
				ModulationInfo: &gw.DownlinkTxInfoLegacy_LoraModulationInfo{LoraModulationInfo: lora},
				Timing:         gw.DownlinkTiming_DELAY, TimingInfo: &gw.DownlinkTxInfoLegacy_DelayTimingInfo{DelayTimingInfo: delay},
			}
		} else {
			out.TxInfo = &gw.DownlinkTxInfo{
				Frequency: uint32(it.frequency), Power: int32(it.power), Context: it.context,
				Modulation: &gw.Modulation{Parameters: &gw.Modulation_Lora{Lora: lora}},
				Timing:     &gw.Timing{Parameters: &gw.Timing_Delay{Delay: delay}},
			}
		}
		m.Items = append(m.Items, out)
	}
	b, err := proto.Marshal(m)
	if s.encoding == V4JSON {
		b, err = protojson.Marshal(m)
	}
	s.must(err)
	return b
}

func (s *server) writeV3JSON(gateway EUI, id uint32, items []item) []byte {
	var texts []string
	for _, it := range items {
		texts = append(texts, fmt.Sprintf(`{"phyPayload":%q,"txInfo":{"gatewayID":%q,"frequency":%d,"power":%d,"modulation":"LORA",`+
			`"loRaModulationInfo":{"bandwidth":%d,"spreadingFactor":%d,"codeRate":"4/5","polarizationInversion":%v},`+
			`"timing":"DELAY","delayTimingInfo":{"delay":"%gs"},"context":%q}}`,
			b64(it.phyPayload), b64(octets(gateway)), it.frequency, it.power, it.modulation.Bandwidth/1000,
			it.modulation.SpreadingFactor, it.inverted, it.delay.Seconds(), b64(it.context)))
	}
	return fmt.Appendf(nil, `{"gatewayID":%q,"token":%d,"items":[%s]}`, b64(octets(gateway)), id, strings.Join(texts, ","))
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// wire connects a bridge to the server without a broker: what the bridge
// publishes is handled at once.
func (s *server) wire(b *Bridge) {
	b.emit = func(topic string, payload []byte) error {
		for _, o := range s.event(topic, payload) {
			b.command(o.payload)
		}
		return nil
	}
}

// broker is an embedded MQTT broker on a free port.
type broker struct {
	*mochi.Server
	url  string
	stop func() // may be called twice, which Close may not
}

func newBroker(t testing.TB) broker { return newBrokerAt(t, "127.0.0.1:0") }

func newBrokerAt(t testing.TB, address string) broker {
	t.Helper()
	b := mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := b.AddHook(new(auth.AllowHook), nil); err != nil {
		t.Fatal(err)
	}
	l := listeners.NewTCP(listeners.Config{ID: "test", Address: address})
	if err := b.AddListener(l); err != nil {
		t.Fatal(err)
	}
	if err := b.Serve(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() { _ = b.Close() })
	t.Cleanup(stop)
	return broker{b, "tcp://" + l.Address(), stop}
}

// join puts the server behind the broker.
func (s *server) join(b broker, prefix string) {
	send := func(all []outgoing) {
		for _, o := range all {
			s.must(b.Publish(prefix+"gateway/"+o.gateway.String()+"/command/down", o.payload, false, 0))
		}
	}
	handler := func(_ *mochi.Client, _ packets.Subscription, pk packets.Packet) {
		if all := s.keep(s.event(pk.TopicName, pk.Payload)); len(all) > 0 {
			go send(all)
		}
	}
	for i, event := range []string{"up", "ack"} {
		s.must(b.Subscribe(prefix+"gateway/+/event/"+event, i+1, handler))
	}
}

// keep gives the commands whose time has come.
func (s *server) keep(more []outgoing) (all []outgoing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept = append(s.kept, more...); len(s.kept) >= s.together {
		all, s.kept = s.kept, nil
	}
	return all
}

// eventually polls for what no event announces.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
