package sim

import (
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// plainServer answers in a storm as servers without a plan do: through the gateway
// of the best copy, in both windows.
type plainServer struct {
	t       testing.TB
	devices map[string]*Device // by the octets of JoinEUI and DevEUI
	nonce   uint32
	silent  bool
	asked   []asked
}

// asked is a join-request as the server sees it.
type asked struct{ at, onAir time.Duration }

func newPlainServer(t testing.TB, devices []*Device) *plainServer {
	s := &plainServer{t: t, devices: map[string]*Device{}}
	for _, d := range devices {
		s.devices[string(d.requestFrame(0)[1:17])] = d
	}
	return s
}

func (s *plainServer) Answer(now time.Time, phy []byte, copies []StormCopy) (StormCommand, string) {
	s.asked = append(s.asked, asked{now.Sub(stormEpoch), copies[0].Airtime(len(phy), true)})
	if s.silent {
		return StormCommand{}, "silent"
	}
	best := slices.MaxFunc(copies, func(a, b StormCopy) int { return int(1000 * (a.SNR - b.SNR)) })
	d := s.devices[string(phy[1:17])]
	rx1, rx2, ok := windowsOf(d.Region(), heardCopy{frequency: best.Frequency, mod: best.Modulation})
	if !ok {
		s.t.Errorf("%s asked on no join channel", d)
	}
	s.nonce++
	frame := answer{joinNonce: s.nonce, rxDelay: 1}.frame(s.t, d, phy)
	return StormCommand{Gateway: best.Gateway, PHYPayload: frame, Windows: []StormWindow{{rx1, 14}, {rx2, 27}}}, ""
}

func (s *plainServer) Refused(time.Time, StormCommand) (StormCommand, bool) {
	return StormCommand{}, false
}
func (s *plainServer) Sent(time.Time, StormCommand, int) {}

// counting makes devices that begin anew, so that storms can be compared.
func counting(t testing.TB, n int) []*Device {
	t.Helper()
	var all []*Device
	for i := range n {
		d, err := NewDevice(DeviceConfig{DevEUI: EUI(i + 1), AppKey: testKey(byte(i)), Nonces: NoncesCounted})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func stormOf(t testing.TB, devices, gateways int) StormOptions {
	all := counting(t, devices)
	return StormOptions{
		Devices: all, Gateways: GatewayEUIs(0, gateways), Answerer: newPlainServer(t, all), Seed: 1,
		Area: 4, Boot: 30 * time.Second, Limit: 24 * time.Hour, Backhaul: 40 * time.Millisecond, Collect: 200 * time.Millisecond,
	}
}

// Where there is room, all join in the end, and what the gateways did is possible:
// one frame at a time, and no more than the law allows.
func TestStormEnds(t *testing.T) {
	for _, duty := range []bool{false, true} {
		for _, rates := range []Rates{RatesByLink, RatesStepped} {
			o := stormOf(t, 250, 1) // enough to use up what the law allows
			o.Duty, o.Rates = duty, rates
			s, err := newStorm(o, new(Clock))
			if err != nil {
				t.Fatal(err)
			}
			s.run()
			if len(s.report.Joined) != 250 || !slices.IsSorted(s.report.Joined) {
				t.Errorf("duty %v: %d of 250 joined", duty, len(s.report.Joined))
			}
			for _, g := range s.gateways {
				checkTransmissions(t, g, duty)
			}
		}
	}
}

func checkTransmissions(t *testing.T, g *stormGateway, duty bool) {
	t.Helper()
	for i, sent := range g.sent {
		if i > 0 && sent.from < g.sent[i-1].to+jitGuard {
			t.Errorf("%s sends twice at %s", g.eui, sent.from)
		}
		spent := time.Duration(0)
		for _, other := range g.sent[:i+1] {
			if other.subBand == sent.subBand && other.to > sent.to-time.Hour {
				spent += other.to - max(other.from, sent.to-time.Hour)
			}
		}
		if duty && spent > dutyLimit(sent.subBand) {
			t.Errorf("%s sends for %s of an hour in sub-band %d", g.eui, spent, sent.subBand)
		}
	}
}

// Equal seeds give equal storms, others do not.
func TestStormIsDeterministic(t *testing.T) {
	play := func(seed uint64) StormReport {
		o := stormOf(t, 80, 3)
		o.Seed = seed
		r, err := Storm(o, new(Clock))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := play(7)
	if !reflect.DeepEqual(first, play(7)) {
		t.Error("the same seed gives another storm")
	}
	if reflect.DeepEqual(first, play(8)) {
		t.Error("another seed gives the same storm")
	}
	if first.Bound <= first.DutyBound || first.DutyBound <= 0 || first.Busy <= 0 || first.Missing != 0 {
		t.Errorf("%+v", first)
	}
}

// scenery is a storm in which nothing happens by itself, for frames by hand.
func scenery(t *testing.T, devices, gateways int) *storm {
	t.Helper()
	o := stormOf(t, devices, gateways)
	o.Answerer.(*plainServer).silent = true
	s, err := newStorm(o, new(Clock))
	if err != nil {
		t.Fatal(err)
	}
	s.events = nil
	return s
}

// frame puts a frame of a device on the air that comes in with the power given.
func (s *storm) frame(d int, power float64, c Channel) *stormFrame {
	device := s.devices[d]
	up, err := device.device.JoinRequestOn(c)
	if err != nil {
		panic(err)
	}
	for i := range device.loss {
		device.loss[i] = devicePower + s.fade(d, i, 0) - power
	}
	f := &stormFrame{device: device, up: up, from: s.now(), to: s.now() + up.Airtime(len(up.PHYPayload), true)}
	s.transmit(f)
	return f
}

// What one gateway receives of two frames at once.
func TestCapture(t *testing.T) {
	same, otherSF, otherChannel := Channel{868_100_000, 5}, Channel{868_100_000, 4}, Channel{868_300_000, 5}
	for name, c := range map[string]struct {
		second       Channel
		weaker       float64 // dB
		first, other bool    // received
	}{
		"equal":                 {same, 0, false, false},
		"hardly weaker":         {same, 5.9, false, false},
		"captured":              {same, 6.1, true, false},
		"other spreading":       {otherSF, 0, true, true},
		"other channel":         {otherChannel, 0, true, true},
		"weaker than it can be": {otherChannel, 40, true, false},
	} {
		s := scenery(t, 2, 1)
		a := s.frame(0, -100, same)
		b := s.frame(1, -100-c.weaker, c.second)
		received := func(f *stormFrame) bool { return f.heard[0].locked && !f.heard[0].collided }
		if received(a) != c.first || received(b) != c.other {
			t.Errorf("%s: %+v, %+v", name, a.heard[0], b.heard[0])
		}
	}
}

// Sensitivity: -117 dBm of noise and what the spreading factor goes below it.
func TestSensitivity(t *testing.T) {
	for dr, weakest := range map[int]float64{5: -124.5, 4: -127, 3: -129.5, 2: -132, 1: -134.5, 0: -137} {
		s := scenery(t, 2, 1)
		in := s.frame(0, weakest+0.01, Channel{868_100_000, dr})
		out := s.frame(1, weakest-0.01, Channel{868_300_000, dr})
		if !in.heard[0].inReach || out.heard[0].inReach {
			t.Errorf("DR%d: %+v, %+v", dr, in.heard[0], out.heard[0])
		}
	}
	if fastest(-7.5) != 7 || fastest(-7.6) != 8 || fastest(-20) != 12 || fastest(-20.1) != 0 {
		t.Error("the fastest data rate that carries")
	}
}

// The ninth frame at a time finds no demodulator.
func TestDemodulators(t *testing.T) {
	s := scenery(t, 9, 1)
	var frames []*stormFrame
	for i := range 9 {
		frames = append(frames, s.frame(i, -90, Channel{[]Hz{868_100_000, 868_300_000, 868_500_000}[i%3], i / 3}))
	}
	for i, f := range frames {
		if f.heard[0].locked != (i < demodulators) {
			t.Errorf("frame %d: %+v", i+1, f.heard[0])
		}
	}
	if s.report.Overbooked != 1 {
		t.Error(s.report.Overbooked)
	}
}

// A gateway hears nothing of a frame during any part of which it sends.
func TestHalfDuplex(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := scenery(t, 1, 1)
		ms := func(name string) time.Duration {
			return time.Duration(rapid.IntRange(0, 200).Draw(r, name)) * time.Millisecond
		}
		sent := &stormDownlink{from: ms("from")}
		sent.to = sent.from + ms("for")
		s.gateways[0].sent = []*stormDownlink{sent}
		f := s.frame(0, -90, Channel{868_100_000, 5})
		s.clock.elapsed = f.to
		s.arrive(f)
		deaf := sent.from <= f.to && f.from <= sent.to
		if (s.report.Heard == 0) != deaf || s.report.Deafened == 1 != deaf {
			t.Errorf("sending %s to %s, frame to %s: %+v", sent.from, sent.to, f.to, s.report)
		}
	})
}

// A device that nobody answers keeps the duty cycle of a crowd that joins again.
func TestBackOff(t *testing.T) {
	o := stormOf(t, 1, 1)
	o.Area, o.Boot, o.Limit = 0.1, 0, 60*time.Hour
	server := o.Answerer.(*plainServer)
	server.silent = true
	r, err := Storm(o, new(Clock))
	if err != nil || r.Missing != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	tries := map[int]int{}
	for i, try := range server.asked {
		if i > 0 {
			before := server.asked[i-1]
			gap, least := try.at-before.at, max(7*time.Second, before.onAir*time.Duration(joinSpacing(before.at)))
			if gap < least-time.Second { // 1 s: the way to the server, and the length of this frame
				t.Errorf("try %d after %s, the least is %s", i, gap, least)
			}
		}
		tries[joinSpacing(try.at)]++
	}
	if tries[100] < 5 || tries[1000] < 3 || tries[10_000] < 1 {
		t.Errorf("tries by duty cycle: %v", tries)
	}
}

// A gateway takes a frame that begins as long after another one, or ends as long
// before it, as its packet forwarder wants, and one that comes as early.
func TestStormGatewayKeepsTheGuard(t *testing.T) {
	const at, guard = 5 * time.Second, 42_500 * time.Microsecond // sx1302_hal 2.1.0, jitqueue.c
	down := StormWindow{Window{Number: 1, Frequency: 868_100_000, Modulation: Modulation{7, 125_000}}, 14}
	long := down.Airtime(longestAccept, false)
	for name, c := range map[string]struct {
		now, from time.Duration
		taken     bool
	}{
		"at once after":  {0, at + long + guard, false},
		"after":          {0, at + long + guard + 1, true},
		"at once before": {0, at - long - guard, false},
		"before":         {0, at - long - guard - 1, true},
		"within":         {0, at, false},
		"in time":        {at + time.Second, at + time.Second + guard, true},
		"late":           {at + time.Second, at + time.Second + guard - 1, false},
	} {
		s := scenery(t, 1, 1)
		g, f := s.gateways[0], &stormFrame{device: s.devices[0]}
		down.Delay = at
		if !g.take(f, make([]byte, longestAccept), down) {
			t.Fatal("the first frame is not taken")
		}
		s.clock.elapsed, down.Delay = c.now, c.from
		if taken := g.take(f, make([]byte, longestAccept), down); taken != c.taken {
			t.Errorf("%s: taken %v", name, taken)
		}
	}
}

func TestStormFaults(t *testing.T) {
	good := stormOf(t, 1, 1)
	for want, change := range map[string]func(*StormOptions){
		"no device":       func(o *StormOptions) { o.Devices = nil },
		"no gateway":      func(o *StormOptions) { o.Gateways = nil },
		"no answerer":     func(o *StormOptions) { o.Answerer = nil },
		"must be above 0": func(o *StormOptions) { o.Area = 0 },
		"hardly any":      func(o *StormOptions) { o.Area = 100_000 },
		"not built for":   func(o *StormOptions) { o.Devices = fleet(t, 1, "US915-FSB2") },
		"there twice":     func(o *StormOptions) { o.Gateways = []EUI{1, 1} },
	} {
		o := good
		change(&o)
		if _, err := Storm(o, new(Clock)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// The picture is well-formed, has a line for each curve, and says when 95 % had
// joined.
func TestChart(t *testing.T) {
	c := Chart{Title: "a < b", Curves: []Curve{
		{"one", []time.Duration{time.Second, 90 * time.Second}, 2}, {"none", nil, 2}, {"long", []time.Duration{5 * time.Hour}, 1},
	}}
	svg := c.SVG()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
	}
	for _, want := range []string{"a &lt; b", "one: 95 % after 1 min 30 s", ">none<", "long: 95 % after 5 h<", "time since the power is back"} {
		if !strings.Contains(svg, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains((Chart{}).SVG(), "NaN") {
		t.Error("an empty chart")
	}
}

// BenchmarkStorm is a storm of 1,000 devices and 3 gateways.
func BenchmarkStorm(b *testing.B) {
	for b.Loop() {
		if _, err := Storm(stormOf(b, 1000, 3), new(Clock)); err != nil {
			b.Fatal(err)
		}
	}
}
