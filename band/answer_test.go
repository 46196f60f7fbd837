package band_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"joingate/band"
)

func allModulations() []band.Modulation {
	var all []band.Modulation
	for n := uint8(5); n <= 12; n++ {
		for _, bandwidth := range []band.Hz{125_000, 250_000, 500_000, 812_000} {
			all = append(all, band.Modulation{SpreadingFactor: n, Bandwidth: bandwidth})
		}
	}
	return all
}

// downlinks are where the gateways of a region may send, Hz, and the limit on
// one transmission.
var downlinks = map[string]struct {
	low, high band.Hz
	limit     time.Duration
}{
	"EU868": {863_000_000, 870_000_000, 0}, "EU433": {433_050_000, 434_790_000, 0},
	"IN865": {865_000_000, 867_000_000, 0}, "KR920": {920_900_000, 923_300_000, 0},
	"RU864": {864_000_000, 870_000_000, 0}, "CN779": {779_500_000, 786_500_000, 0},
	"ISM2400": {2_400_000_000, 2_483_500_000, 0},
	"AS923-1": {923_000_000, 925_000_000, 400 * time.Millisecond}, "AS923-2": {920_000_000, 923_000_000, 400 * time.Millisecond},
	"AS923-3": {915_000_000, 921_000_000, 400 * time.Millisecond}, "AS923-4": {917_000_000, 920_000_000, 400 * time.Millisecond},
	"US915": {923_300_000, 927_500_000, 0}, "AU915": {923_300_000, 927_500_000, 0},
	"CN470": {470_300_000, 509_700_000, 0},
}

// narrower are the plans that use part of their region.
var narrower = map[string][2]band.Hz{
	"CN470-RP1": {500_300_000, 509_700_000},
	"CN470-20A": {483_900_000, 496_500_000}, "CN470-20B": {476_900_000, 503_100_000},
	"CN470-26A": {490_100_000, 494_700_000}, "CN470-26B": {500_100_000, 504_700_000},
}

func TestEveryAnswerIsSound(t *testing.T) {
	for _, g := range band.Standard().All() {
		t.Run(g.Name, func(t *testing.T) {
			down, ok := downlinks[g.Region]
			if !ok {
				t.Fatalf("no downlink band of %s", g.Region)
			}
			if part, ok := narrower[g.Name]; ok {
				down.low, down.high = part[0], part[1]
			}
			checkSound(t, g, down.low, down.high, down.limit)
		})
	}
}

// checkSound holds every answer of a group against what is promised of all.
func checkSound(t testing.TB, g *band.Group, low, high band.Hz, limit time.Duration) {
	t.Helper()
	d, plan := g.Describe(), g.Plan()
	if len(d.JoinChannels) == 0 {
		t.Errorf("%s has no join channel", g.Name)
	}
	for _, c := range d.JoinChannels {
		if mhz := int64(c.Frequency) / 1_000_000; mhz < plan.BeginFrequency || mhz > plan.EndFrequency {
			t.Errorf("%s: join channel %s is outside of %+v", g.Name, c.Frequency, plan)
		}
		for _, m := range allModulations() {
			for v := band.MACVersion(0); v <= band.MAC1_1; v++ {
				for _, rx1 := range []bool{true, false} {
					a, ok := g.Answer(c.Frequency, m, v, rx1)
					if ok != g.JoinChannel(c.Frequency, m) || !ok && (a.RX1 != a.RX2 || a.CFList != nil) {
						t.Errorf("%s: %s %s: Answer and JoinChannel differ", g.Name, c.Frequency, m)
					}
					if ok {
						checkAnswer(t, g, d.DataRates, a, rx1, low, high, limit)
					}
				}
			}
		}
	}
}

func checkAnswer(t testing.TB, g *band.Group, rates map[band.DataRate]band.RateDescription, a band.Answer, rx1 bool, low, high band.Hz, limit time.Duration) {
	t.Helper()
	octets := 17
	if a.CFList != nil {
		octets = 33
	}
	windows := 0
	for i, w := range []band.Window{a.RX1, a.RX2} {
		if w == (band.Window{}) {
			continue
		}
		windows++
		if w.Delay != []time.Duration{5 * time.Second, 6 * time.Second}[i] {
			t.Errorf("%s: window %d opens after %s", g.Name, i+1, w.Delay)
		}
		if w.Frequency < low || w.Frequency > high {
			t.Errorf("%s: window %d on %s, outside of %s to %s", g.Name, i+1, w.Frequency, low, high)
		}
		rate, ok := rates[w.DataRate]
		if !ok || rate.Modulation != "LORA" || rate.SpreadingFactor != w.Modulation.SpreadingFactor || rate.Bandwidth != w.Modulation.Bandwidth {
			t.Errorf("%s: window %d at DR%d, %s, which is %+v", g.Name, i+1, w.DataRate, w.Modulation, rate)
		}
		if w.Power < 0 || w.Power > 36 {
			t.Errorf("%s: window %d with %d dBm", g.Name, i+1, w.Power)
		}
		if limit > 0 && w.Modulation.TimeOnAir(octets, false) > limit {
			t.Errorf("%s: %d octets at DR%d last over %s", g.Name, octets, w.DataRate, limit)
		}
	}
	if windows == 0 || !rx1 && (a.RX1 != band.Window{} || a.RX2 == band.Window{}) {
		t.Errorf("%s: windows %+v with rx1 %t", g.Name, a, rx1)
	}
	if n := len(a.CFList); n != 0 && (n != 16 || cap(a.CFList) != 16) {
		t.Errorf("%s: CFList of %d octets, room for %d", g.Name, n, cap(a.CFList))
	}
}

func TestWhatIsNoJoinChannel(t *testing.T) {
	for _, g := range band.Standard().All() {
		d := g.Describe()
		first := d.JoinChannels[0]
		dr := d.DataRates[band.DataRate(first.DataRates[0])]
		m := band.Modulation{SpreadingFactor: dr.SpreadingFactor, Bandwidth: dr.Bandwidth}
		for name, c := range map[string]struct {
			f band.Hz
			m band.Modulation
		}{
			"1 Hz beside": {first.Frequency + 1, m},
			"0 Hz":        {0, m},
			"highest":     {1<<32 - 1, m},
			"not LoRa":    {first.Frequency, band.Modulation{}},
			"no SF":       {first.Frequency, band.Modulation{Bandwidth: m.Bandwidth}},
			"SF4":         {first.Frequency, band.Modulation{SpreadingFactor: 4, Bandwidth: m.Bandwidth}},
			"62.5 kHz":    {first.Frequency, band.Modulation{SpreadingFactor: m.SpreadingFactor, Bandwidth: 62_500}},
		} {
			if a, ok := g.Answer(c.f, c.m, band.MAC1_0_4, true); ok {
				t.Errorf("%s: %s: answered %+v", g.Name, name, a)
			}
			if g.JoinChannel(c.f, c.m) {
				t.Errorf("%s: %s is a join channel", g.Name, name)
			}
		}
	}
}

// A downlink data rate that looks like an uplink one is not mistaken for it:
// SF8BW500 is DR4 up and DR12 down in US915.
func TestDownlinkDataRatesAreNotJoins(t *testing.T) {
	g := find(t, band.Standard(), 1100)
	if a := answer(t, g, 903_000_000, band.Modulation{SpreadingFactor: 8, Bandwidth: 500_000}, band.MAC1_0_3); a.RX1.DataRate != 13 {
		t.Errorf("RX1 at DR%d, want DR13", a.RX1.DataRate)
	}
	if g.JoinChannel(903_000_000, band.Modulation{SpreadingFactor: 7, Bandwidth: 500_000}) {
		t.Error("SF7BW500, a downlink data rate, is a join channel")
	}
}

// The 400 ms of AS923 and a CFList: 33 octets last 452.6 ms at DR2.
func TestCFListUnderTheDwellLimit(t *testing.T) {
	for _, id := range []band.GroupID{201, 1011, 1012, 1013, 1014} {
		g := find(t, band.Standard(), id)
		f := g.Describe().JoinChannels[0].Frequency
		for dr := range band.DataRate(6) {
			for _, rx1 := range []bool{true, false} {
				a, _ := g.Answer(f, sf(12-uint8(dr)), band.MAC1_0_2, rx1)
				long, first := rx1 && dr >= 3, rx1 && dr >= 2
				if (a.CFList != nil) != long || (a.RX1 != band.Window{}) != first || (a.RX2 == band.Window{}) != long {
					t.Errorf("%d: DR%d, RX1 in reach %t: %+v", id, dr, rx1, a)
				}
			}
		}
	}
}

// Without a limit, or without a CFList, there is nothing to choose between.
func TestBothWindowsWithoutDwellLimitOrCFList(t *testing.T) {
	off := false
	for name, c := range map[string]band.Config{
		"no limit":  {ID: 1011, DwellLimit: &off},
		"no CFList": {ID: 1011, CFList: &band.CFListConfig{Enabled: &off}},
	} {
		g := find(t, with(t, c), 1011)
		for dr := band.DataRate(2); dr <= 5; dr++ {
			a := answer(t, g, 923_200_000, sf(12-uint8(dr)), band.MAC1_0_4)
			if a.RX1.DataRate != dr || a.RX2.DataRate != 2 || a.RX2.Delay == 0 || (a.CFList != nil) != (name == "no limit") {
				t.Errorf("%s: DR%d: %+v", name, dr, a)
			}
		}
		slow := answer(t, g, 923_200_000, sf(12), band.MAC1_0_4)
		if offered := slow.RX1.Delay != 0; offered != (name == "no limit") {
			t.Errorf("%s: a join at DR0 is answered in RX1: %t", name, offered)
		}
	}
}

// A channel mask is a CFList from 1.0.3 on; older devices would take it for
// frequencies. Frequencies are for all.
func TestCFListByVersion(t *testing.T) {
	for id, from := range map[band.GroupID]band.MACVersion{1000: band.MAC1_0_0, 1102: band.MAC1_0_3, 1208: band.MAC1_0_3, 1019: band.MAC1_0_3, 1026: band.MAC1_0_3} {
		g := find(t, band.Standard(), id)
		d := g.Describe()
		dr := d.DataRates[band.DataRate(d.JoinChannels[0].DataRates[0])]
		m := band.Modulation{SpreadingFactor: dr.SpreadingFactor, Bandwidth: dr.Bandwidth}
		for v := band.MAC1_0_0; v <= band.MAC1_1; v++ {
			a := answer(t, g, d.JoinChannels[0].Frequency, m, v)
			if sent := a.CFList != nil; sent != (v >= from) {
				t.Errorf("%s: CFList to %s: %t", g.Name, v, sent)
			}
		}
	}
}

func TestGatewayPower(t *testing.T) {
	for _, c := range []struct {
		group    band.GroupID
		f        band.Hz
		m        band.Modulation
		rx1, rx2 int8
	}{
		{1000, 868_100_000, sf(7), 16, 29},
		{1001, 433_175_000, sf(7), 12, 12},
		{1002, 865_062_500, sf(7), 27, 27},
		{1003, 922_100_000, sf(7), 23, 23},
		{1004, 868_900_000, sf(7), 16, 16},
		{1005, 779_500_000, sf(7), 12, 12},
		{1006, 2_403_000_000, band.Modulation{SpreadingFactor: 7, Bandwidth: 812_000}, 10, 10},
		{1012, 921_400_000, sf(10), 16, 16},
		{101, 471_900_000, sf(9), 19, 19},
		{1020, 470_900_000, sf(9), 19, 19},
		{1102, 903_900_000, sf(10), 27, 27},
		{1202, 916_800_000, sf(10), 27, 27},
	} {
		a := answer(t, find(t, band.Standard(), c.group), c.f, c.m, band.MAC1_0_2)
		if a.RX1.Power != c.rx1 || a.RX2.Power != c.rx2 {
			t.Errorf("%d: %d and %d dBm, want %d and %d", c.group, a.RX1.Power, a.RX2.Power, c.rx1, c.rx2)
		}
	}
}

// 470.3 MHz is a join channel of four plans: only the group tells them apart.
func TestFitting(t *testing.T) {
	ids := func(f band.Hz, m band.Modulation) []band.GroupID {
		var all []band.GroupID
		for _, g := range band.Standard().Fitting(f, m) {
			all = append(all, g.ID)
		}
		return all
	}
	for _, c := range []struct {
		f    band.Hz
		m    band.Modulation
		want []band.GroupID
	}{
		{470_300_000, sf(10), []band.GroupID{101, 102, 1019, 1026}},
		{470_300_000, sf(12), []band.GroupID{101, 102, 1019}},
		{479_900_000, sf(9), []band.GroupID{101, 1019, 1021}},
		{923_200_000, sf(10), []band.GroupID{201, 1011, 1200, 1206}},
		{868_100_000, sf(12), []band.GroupID{1000}},
		{904_600_000, band.Modulation{SpreadingFactor: 8, Bandwidth: 500_000}, []band.GroupID{1100, 1102}},
		{868_100_000, band.Modulation{}, nil},
		{100_000_000, sf(9), nil},
	} {
		if got := ids(c.f, c.m); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: groups %v, want %v", c.f, c.m, got, c.want)
		}
	}
}

func TestAllGroups(t *testing.T) {
	want := []band.GroupID{
		101, 102, 201, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1011, 1012, 1013, 1014, 1019, 1020, 1021, 1026, 1027,
		1100, 1101, 1102, 1103, 1104, 1105, 1106, 1107, 1108, 1200, 1201, 1202, 1203, 1204, 1205, 1206, 1207, 1208,
	}
	names := map[string]bool{}
	gs := band.Standard()
	for i, g := range gs.All() {
		if i >= len(want) || g.ID != want[i] {
			t.Fatalf("group %d in place %d, want %v", g.ID, i, want)
		}
		if names[g.Name] {
			t.Errorf("two groups are called %s", g.Name)
		}
		names[g.Name] = true
		if s := gs.List()[i]; s != (band.Summary{Group: g.ID, Name: g.Name, Region: g.Region}) {
			t.Errorf("%+v in the list", s)
		}
	}
	for _, name := range []string{"CN470-SAME", "CN470-DIFF", "AS923-CN", "CN470-RP1", "AS923-4", "AU915-FSB8"} {
		if !names[name] {
			t.Errorf("no group is called %s", name)
		}
	}
	if _, ok := gs.Find(999); ok {
		t.Error("there is a group 999")
	}
	gs.All()[0] = nil
	if gs.All()[0] == nil {
		t.Error("All gives away the groups' own list")
	}
}

func TestAnswersShareNothingButTheCFList(t *testing.T) {
	g := find(t, band.Standard(), 1000)
	a, b := answer(t, g, 868_100_000, sf(7), band.MAC1_0_3), answer(t, g, 868_300_000, sf(7), band.MAC1_0_3)
	if !bytes.Equal(a.CFList, b.CFList) {
		t.Errorf("CFLists %x and %x", a.CFList, b.CFList)
	}
	if allocations := testing.AllocsPerRun(100, func() { g.Answer(868_500_000, sf(12), band.MAC1_1, true) }); allocations != 0 {
		t.Errorf("Answer allocates %.0f times", allocations)
	}
}

func BenchmarkAnswer(b *testing.B) {
	for _, c := range []struct {
		group band.GroupID
		f     band.Hz
		m     band.Modulation
	}{
		{101, 472_900_000, sf(9)},
		{201, 923_400_000, sf(10)},
		{1000, 868_100_000, sf(12)},
		{1019, 489_300_000, sf(7)},
		{1200, 927_100_000, band.Modulation{SpreadingFactor: 8, Bandwidth: 500_000}},
	} {
		g := find(b, band.Standard(), c.group)
		b.Run(g.Name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				g.Answer(c.f, c.m, band.MAC1_0_4, true)
			}
		})
	}
}

func BenchmarkStandard(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		band.Standard()
	}
}
