package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// fleet makes n devices, a third of each kind.
func fleet(t testing.TB, n int, region string) []*Device {
	t.Helper()
	var all []*Device
	for i := range n {
		c := DeviceConfig{
			DevEUI: 0x004a770066fe0000 + EUI(i), AppKey: testKey(byte(i)), Region: region,
			MACVersion: []string{"1.0.2", "1.0.4", "1.1"}[i%3],
		}
		if i%3 == 2 {
			c.NwkKey = testKey(byte(i + 1))
		}
		d, err := NewDevice(c)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

// The whole chain through a real broker, in all four encodings, with prefix and
// without, with copies, ghosts, duplicates and delays.
func TestSimulate(t *testing.T) {
	for e := V4Protobuf; e <= V3JSON; e++ {
		for _, prefix := range []string{"", "cn470/"} {
			t.Run(e.String()+" "+prefix, func(t *testing.T) {
				t.Parallel()
				b := newBroker(t)
				devices := fleet(t, 30, "102")
				newServer(t, e, devices...).join(b, prefix)
				states := watchStates(t, b, prefix)
				var progress []int
				results, err := Simulate(context.Background(), Options{
					Broker: b.url, Encoding: e, Prefix: prefix, Devices: devices, Gateways: 5, Connections: 2, GPS: true,
					Scatter:  Scatter{Seed: 1, Copies: 3, SNR: 5, Delay: 20 * time.Millisecond, Ghosts: 0.3, Duplicates: 0.2},
					Progress: func(done, total int) { progress = append(progress, done*1000+total) },
				})
				if err != nil {
					t.Fatal(err)
				}
				for i, r := range results {
					if !r.Joined || r.DevEUI != devices[i].DevEUI() || r.RxDelay != 3 || r.Gateway == "" || r.Latency <= 0 || r.Attempts != 1 {
						t.Errorf("device %d: %+v", i, r)
					}
				}
				if len(progress) != 30 || progress[29] != 30_030 {
					t.Errorf("progress %v", progress)
				}
				eventually(t, "ONLINE, then OFFLINE of five gateways", func() bool { return states.count("OFFLINE") == 5 })
				if states.count("ONLINE") != 5 {
					t.Errorf("%d gateways came ONLINE", states.count("ONLINE"))
				}
			})
		}
	}
}

// states notes what state/conn says, by gateway.
type states struct {
	mu   sync.Mutex
	seen map[string]bool
}

func watchStates(t testing.TB, b broker, prefix string) *states {
	t.Helper()
	s := &states{seen: map[string]bool{}}
	err := b.Subscribe(prefix+"gateway/+/state/conn", 99, func(_ *mochi.Client, _ packets.Subscription, pk packets.Packet) {
		s.mu.Lock()
		defer s.mu.Unlock()
		state := "OFFLINE"
		if strings.Contains(string(pk.Payload), "ONLINE") || strings.Contains(string(pk.Payload), "\x10\x01") {
			state = "ONLINE"
		}
		s.seen[state+pk.TopicName] = pk.FixedHeader.Retain
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *states) count(state string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.seen {
		if strings.HasPrefix(key, state) {
			n++
		}
	}
	return n
}

// Many devices at a time, and devices nobody hears among them.
func TestSimulateStorm(t *testing.T) {
	b := newBroker(t)
	devices := fleet(t, 600, "EU868")
	newServer(t, V4Protobuf, devices...).join(b, "")
	results, err := Simulate(context.Background(), Options{
		Broker: b.url, Devices: devices, Gateways: 50, Concurrency: 100,
		Scatter: Scatter{Copies: 2, Loss: 0.3}, Attempts: 8, Timeout: 1500 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	joined, again := 0, 0
	for _, r := range results {
		if r.Joined {
			joined++
		}
		if r.Attempts > 1 {
			again++
		}
	}
	if joined < 595 || again < 20 {
		t.Errorf("%d of 600 joined, %d after a loss", joined, again)
	}
}

func TestSimulateFaults(t *testing.T) {
	devices := fleet(t, 1, "EU868")
	b := newBroker(t)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		o    Options
		want string
	}{
		"no devices":         {context.Background(), Options{Broker: b.url}, "no devices"},
		"no broker":          {context.Background(), Options{Broker: "tcp://127.0.0.1:1", Devices: devices}, "connect to MQTT broker tcp://127.0.0.1:1"},
		"one gateway twice":  {context.Background(), Options{Broker: b.url, Devices: devices, GatewayEUIs: []EUI{7, 7}}, "gateway 0000000000000007"},
		"ended before start": {ended, Options{Broker: b.url, Devices: devices}, "context canceled"},
	} {
		if _, err := Simulate(c.ctx, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestSimulateStopsWithContext(t *testing.T) {
	b := newBroker(t)
	devices := fleet(t, 20, "EU868")
	s := newServer(t, V4Protobuf, devices...)
	ctx, cancel := context.WithCancel(context.Background())
	var once atomic.Bool
	s.answer = func(*Device, uint32) *answer {
		if once.CompareAndSwap(false, true) {
			cancel()
		}
		return nil
	}
	s.join(b, "")
	results, err := Simulate(ctx, Options{Broker: b.url, Devices: devices, Concurrency: 2})
	if !errors.Is(err, context.Canceled) || len(results) != 20 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	if r := results[19]; r.Joined || r.Reason != "not begun" || r.DevEUI != devices[19].DevEUI() {
		t.Errorf("the last device: %+v", r)
	}
}

// After its broker went away and came back without memory, a bridge subscribes
// again, hears commands, and its gateways are ONLINE again.
func TestBridgeComesBack(t *testing.T) {
	before := newBroker(t)
	d := testDevice(t, "1.0.4", "EU868")
	b := NewBridge(BridgeConfig{Broker: before.url, Encoding: V4JSON})
	g, err := b.AddGateway(GatewayConfig{EUI: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Connect(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer b.Kill()
	before.stop()
	eventually(t, "the bridge has noticed", func() bool { return !b.connected() })
	air := NewAir(AirConfig{Propagation: func(*Device, int) []Link { return []Link{{Gateway: g}} }, Timeout: time.Second}, g)
	if res, err := air.Join(context.Background(), d); !errors.Is(err, errNotConnected) {
		t.Errorf("without a broker: %+v, %v", res, err)
	}
	after := newBrokerAt(t, strings.TrimPrefix(before.url, "tcp://"))
	newServer(t, V4JSON, d).join(after, "")
	eventually(t, "ONLINE again", func() bool {
		_, ok := after.Topics.Retained.Get("gateway/0000000000000001/state/conn")
		return ok
	})
	if res, err := air.Join(context.Background(), d); err != nil || !res.Joined {
		t.Errorf("after the return: %+v, %v", res, err)
	}
}

// A bridge that dies leaves its gateways ONLINE in the broker.
func TestKilledBridgeStaysOnline(t *testing.T) {
	broker := newBroker(t)
	b := NewBridge(BridgeConfig{Broker: broker.url, Encoding: V4JSON, ClientID: "to-be-killed"})
	if err := b.Connect(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AddGateway(GatewayConfig{EUI: 7}); err != nil { // joins a bridge that is connected
		t.Fatal(err)
	}
	eventually(t, "ONLINE retained", func() bool { _, ok := broker.Topics.Retained.Get("gateway/0000000000000007/state/conn"); return ok })
	b.Kill()
	eventually(t, "the bridge is gone", func() bool { _, there := broker.Clients.Get("to-be-killed"); return !there })
	pk, ok := broker.Topics.Retained.Get("gateway/0000000000000007/state/conn")
	if !ok || !strings.Contains(string(pk.Payload), "ONLINE") {
		t.Errorf("retained %v: %s", ok, pk.Payload)
	}
}

// The names that scripts read.
func TestResultJSON(t *testing.T) {
	b, err := json.Marshal(Result{JoinAccept: JoinAccept{DevEUI: 1, Joined: true, DevAddr: "26020304", Channels: []Hz{868_100_000}}, Attempts: 2, LatencyMS: 1.5, Gateway: "a"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"dev_eui":"0000000000000001","joined":true,"dev_addr":"26020304","net_id":"","join_nonce":0,"dev_nonce":0,"rx_delay":0,` +
		`"data_rate":0,"rx1_dr_offset":0,"opt_neg":false,"cf_list":"","channels":[868100000],"window":0,"attempts":2,"latency_ms":1.5,"gateway":"a"}`
	if string(b) != want {
		t.Errorf("%s\nwant %s", b, want)
	}
}

func TestReadDevices(t *testing.T) {
	const key1, key2 = "11112222333344445555666677778888", "9999AAAABBBBCCCCDDDDEEEEFFFF0000"
	defaults := DeviceConfig{JoinEUI: 0xd896e0efff000000, Region: "101", Rand: rand.New(rand.NewPCG(1, 1))}
	devices, err := ReadDevices(strings.NewReader("\ufeff"+`nwk_key,dev_eui,app_key,mac_version,pin_code,group,join_eui,region,dev_nonce
,004A770066FFFE01,`+key1+`,,123456,north,,,
`+key2+`,004a770066fffe02,`+key1+`,,,,70b3d50000000001,EU868,7
,004a770066fffe03,`+key1+`,1.0.4,,,,,
`), defaults)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, d := range devices {
		got += fmt.Sprintln(d, d.JoinEUI(), d.config.FirstDevNonce, keyHex(d.config.AppKey), d.config.NwkKey.IsZero())
	}
	want := `device 004a770066fffe01 (1.0.3, 101) d896e0efff000000 0 ` + key1 + ` true
device 004a770066fffe02 (1.1, EU868) 70b3d50000000001 7 ` + key1 + ` false
device 004a770066fffe03 (1.0.4, 101) d896e0efff000000 0 ` + key1 + ` true
`
	if got != want {
		t.Errorf("read\n%swant\n%s", got, want)
	}
}

func TestReadDevicesErrors(t *testing.T) {
	const head, row = "dev_eui,app_key,nwk_key,mac_version,region,dev_nonce\n", "004a770066fffe01,11112222333344445555666677778888,,,,\n"
	for in, want := range map[string]string{
		"":                          "line 1: a header is missing",
		"dev_eui\n":                 "line 1: column app_key is missing",
		"dev_eui,app_key,appkey\n":  `line 1: column "appkey" is none of`,
		"dev_eui,app_key,dev_eui\n": "line 1: column dev_eui is there twice",
		head + row + row:            "line 3, column dev_eui: 004a770066fffe01 is in line 2 already",
		head + row + "x,y\n":        "line 3: wrong number of fields",
		head + "004a77,aa,,,,\n":    "line 2, column dev_eui:",
		head + ",11112222333344445555666677778888,,,,\n":                                                   "line 2, column dev_eui:",
		head + "004a770066fffe01,,,,,\n":                                                                   "line 2, column app_key: a key has 32 hex digits, not 0",
		head + "004a770066fffe01,1111222233334444555566667777888g,,,,\n":                                   "line 2, column app_key: a key has 32 hex digits, this one",
		head + strings.Replace(row, ",,,,", ",,2.0,,", 1):                                                  "line 2, column mac_version:",
		head + strings.Replace(row, ",,,,", ",,,Mars,", 1):                                                 "line 2, column region:",
		head + strings.Replace(row, ",,,,", ",,,,65536", 1):                                                "line 2, column dev_nonce: want 0 to 65535",
		head + strings.Replace(row, ",,,,", ",,1.1,,", 1):                                                  "line 2, column nwk_key:",
		head + strings.Replace(row, ",,,,", ",11112222333344445555666677778888,1.0.3,,", 1):                "line 2, column nwk_key:",
		head + row + "\"004a770066fffe02,11112222333344445555666677778888,,,,\n":                           "line 3",
		head + row + "\n\n" + strings.Replace(strings.Replace(row, "fe01", "fe02", 1), ",,,,", ",,9,,", 1): "line 5, column mac_version:",
	} {
		_, err := ReadDevices(strings.NewReader(in), DeviceConfig{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n %v, want %q", in, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "1111222233334444") {
			t.Errorf("the error repeats a key: %v", err)
		}
	}
}

func TestGatewayEUIs(t *testing.T) {
	if got := GatewayEUIs(0, 2); !slices.Equal(got, []EUI{0x0016c001f1500000, 0x0016c001f1500001}) {
		t.Error(got)
	}
}

func FuzzReceive(f *testing.F) {
	for _, v := range vectors(f).JoinAccept {
		f.Add(unhex(f, v.PHY), uint32(868_100_000), 12, int64(joinAcceptDelay1))
	}
	f.Add([]byte{}, uint32(0), 0, int64(0))
	f.Fuzz(func(t *testing.T, phy []byte, frequency uint32, sf int, delay int64) {
		for _, version := range []string{"1.0.0", "1.1"} {
			d := testDevice(t, version, "EU868")
			if _, err := d.Receive(Downlink{PHYPayload: phy}); !errors.Is(err, ErrNotWaiting) {
				t.Fatalf("a device that does not wait: %v", err)
			}
			request, rx1, _ := ask(t, d)
			for _, dl := range []Downlink{
				in(rx1, phy),
				{phy, Hz(frequency), Modulation{sf, 125_000}, true, time.Duration(delay)},
			} {
				if accept, err := d.Receive(dl); err == nil {
					t.Fatalf("joined by a frame that nobody signed: %+v", accept)
				}
			}
			if _, err := d.Receive(in(rx1, answer{joinNonce: 1, optNeg: version == "1.1"}.frame(t, d, request))); err != nil {
				t.Fatalf("the true answer afterwards: %v", err)
			}
		}
	})
}

func FuzzReadDevices(f *testing.F) {
	f.Add("dev_eui,app_key\n004a770066fffe01,11112222333344445555666677778888\n")
	f.Add("dev_eui,app_key,nwk_key,mac_version,join_eui,region,dev_nonce,pin_code,group\n\"")
	f.Fuzz(func(t *testing.T, in string) {
		devices, err := ReadDevices(strings.NewReader(in), DeviceConfig{})
		if err == nil {
			for _, d := range devices {
				if _, err := d.JoinRequest(); err != nil {
					t.Errorf("a device that cannot join: %v", err)
				}
			}
		}
	})
}

// BenchmarkDeviceJoin is what one simulated join costs the device.
func BenchmarkDeviceJoin(b *testing.B) {
	d := testDevice(b, "1.0.3", "EU868")
	request, rx1, _ := ask(b, d)
	frame := answer{joinNonce: 1}.frame(b, d, request)
	b.ReportAllocs()
	for b.Loop() {
		d.lastJoinNonce = -1
		c := Channel{868_100_000, 0}
		if _, err := d.JoinRequestOn(c); err != nil {
			b.Fatal(err)
		}
		if _, err := d.Receive(in(rx1, frame)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJoinOverMQTT is a whole join: two copies, embedded broker, answer.
func BenchmarkJoinOverMQTT(b *testing.B) {
	br := newBroker(b)
	devices := fleet(b, b.N, "EU868")
	newServer(b, V4Protobuf, devices...).join(br, "")
	b.ResetTimer()
	results, err := Simulate(context.Background(), Options{Broker: br.url, Devices: devices, Gateways: 20, Connections: 2, Scatter: Scatter{Copies: 2}})
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range results {
		if !r.Joined {
			b.Fatal(r.Reason)
		}
	}
}
