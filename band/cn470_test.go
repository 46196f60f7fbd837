package band_test

import (
	"testing"

	"joingate/band"
)

func sf(n uint8) band.Modulation { return band.Modulation{SpreadingFactor: n, Bandwidth: 125_000} }

var cn470Group = map[string]band.GroupID{"20A": 1020, "20B": 1021, "26A": 1026, "26B": 1027}

// commonJoinChannels are those of RP002 as LoRaMac-node and the Azure IoT Edge
// LoRaWAN starter kit agree on them, written down apart from testdata: kHz of
// the uplink, RX1 and RX2.
var commonJoinChannels = [20][3]band.Hz{
	{470_900, 484_500, 485_300},
	{472_500, 486_100, 486_900},
	{474_100, 487_700, 488_500},
	{475_700, 489_300, 490_100},
	{504_100, 490_900, 491_700},
	{505_700, 492_500, 493_300},
	{507_300, 494_100, 494_900},
	{508_900, 495_700, 496_500},
	{479_900, 479_900, 478_300},
	{499_900, 499_900, 498_300},
	{470_300, 492_500, 492_500},
	{472_300, 492_500, 492_500},
	{474_300, 492_500, 492_500},
	{476_300, 492_500, 492_500},
	{478_300, 492_500, 492_500},
	{480_300, 502_500, 502_500},
	{482_300, 502_500, 502_500},
	{484_300, 502_500, 502_500},
	{486_300, 502_500, 502_500},
	{488_300, 502_500, 502_500},
}

func TestCommonJoinChannels(t *testing.T) {
	r, standard := loadFacts(t).Regions["CN470-RP002"], band.Standard()
	perPlan := map[string]int{}
	for i, row := range r.JoinTable {
		if again := commonJoinChannels[i]; again != [3]band.Hz{row.Up / 1000, row.RX1 / 1000, row.RX2 / 1000} {
			t.Fatalf("row %d: the two sources differ: %v and %v", i, row, again)
		}
		perPlan[row.Plan]++
		g := find(t, standard, cn470Group[row.Plan])
		for dr := r.JoinDR[0]; dr <= r.JoinDR[1]; dr++ {
			checkJoinTableRow(t, r, g, row, dr)
		}
		if g.JoinChannel(row.Up, sf(12)) {
			t.Errorf("%s: %s SF12 is a join channel; RP002 has no DR0", g.Name, row.Up)
		}
	}
	for plan, want := range perPlan {
		if got := len(find(t, standard, cn470Group[plan]).Describe().JoinChannels); got != want {
			t.Errorf("%s has %d join channels, want %d", plan, got, want)
		}
	}
}

func checkJoinTableRow(t *testing.T, r region, g *band.Group, row joinTableRow, dr band.DataRate) {
	t.Helper()
	a := answer(t, g, row.Up, r.rate(dr).modulation(), band.MAC1_0_4)
	if a.RX1.Frequency != row.RX1 || a.RX1.DataRate != r.rx1(dr) {
		t.Errorf("%s: %s DR%d: RX1 %s DR%d, want %s DR%d", g.Name, row.Up, dr, a.RX1.Frequency, a.RX1.DataRate, row.RX1, r.rx1(dr))
	}
	if a.RX2.Frequency != row.RX2 || a.RX2.DataRate != row.RX2DR {
		t.Errorf("%s: %s DR%d: RX2 %s DR%d, want %s DR%d", g.Name, row.Up, dr, a.RX2.Frequency, a.RX2.DataRate, row.RX2, row.RX2DR)
	}
}

func TestCommonJoinChannelGroups(t *testing.T) {
	r, standard := loadFacts(t).Regions["CN470-RP002"], band.Standard()
	for plan, id := range cn470Group {
		g := find(t, standard, id)
		d := g.Describe()
		if got, want := d.CFList, r.Plans[plan].CFList.All; got["1.0.2"] != "" || got["1.0.3"] != want || got["1.1"] != want {
			t.Errorf("%s: CFList %v, want %s from 1.0.3 on", g.Name, got, want)
		}
		for dr := range band.DataRate(16) {
			want := r.rate(dr)
			if got := d.DataRates[dr]; got.Modulation != want.Kind || got.SpreadingFactor != want.SF || got.Bandwidth != want.BW {
				t.Errorf("%s: DR%d is %+v, want %+v", g.Name, dr, got, want)
			}
			if got := g.DownlinkDataRate(dr); got != (want.Kind != "") {
				t.Errorf("%s: DR%d may be set: %t", g.Name, dr, got)
			}
		}
		if g.RX2DataRate() != 1 {
			t.Errorf("%s: RX2 data rate %d, want 1", g.Name, g.RX2DataRate())
		}
	}
}

// RP002 made one channel of each Link WAN band a join channel, so a device of
// plan 20A that joins through group 102 is answered where it listens.
func TestPlan20AIsPartOfGroup102(t *testing.T) {
	ours, theirs := find(t, band.Standard(), 102), find(t, band.Standard(), 1020)
	for _, c := range theirs.Describe().JoinChannels {
		a, b := answer(t, ours, c.Frequency, sf(9), band.MAC1_0_4), answer(t, theirs, c.Frequency, sf(9), band.MAC1_0_4)
		if a.RX1 != b.RX1 || a.RX2.Frequency != b.RX2.Frequency {
			t.Errorf("%s: %+v in group 102, %+v in 1020", c.Frequency, a, b)
		}
	}
}

// The two join channels of plan 20B are in no band of Link WAN's, so group 101
// answers them as RP002 says, whatever its own RX2 data rate is set to.
func TestPlan20BIsServedByGroup101(t *testing.T) {
	two := band.DataRate(2)
	gs := with(t, band.Config{ID: 101, RX2: &band.RX2Config{DataRate: &two}})
	theirs := find(t, gs, 1021)
	for _, ours := range []*band.Group{find(t, band.Standard(), 101), find(t, gs, 101)} {
		for _, c := range theirs.Describe().JoinChannels {
			a, b := answer(t, ours, c.Frequency, sf(9), band.MAC1_0_2), answer(t, theirs, c.Frequency, sf(9), band.MAC1_0_2)
			if a.RX1 != b.RX1 || a.RX2 != b.RX2 {
				t.Errorf("%s: %+v in group 101, %+v in 1021", c.Frequency, a, b)
			}
			if ours.JoinChannel(c.Frequency, sf(12)) {
				t.Errorf("%s SF12 is a join channel of group 101", c.Frequency)
			}
		}
	}
	for _, b := range loadFacts(t).LinkWAN.Bands {
		if b.Up[0] <= 479_900_000 && 479_900_000 <= b.Up[1] || b.Up[0] <= 499_900_000 && 499_900_000 <= b.Up[1] {
			t.Errorf("band %s has a plan 20B join channel: group 101 is ambiguous", b.Name)
		}
	}
}
