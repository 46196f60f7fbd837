package band_test

import (
	"encoding/hex"
	"strconv"
	"testing"

	"joingate/band"
)

// groupOf names the group that has all of a region.
var groupOf = map[string]band.GroupID{
	"EU868": 1000, "EU433": 1001, "IN865": 1002, "KR920": 1003, "RU864": 1004, "CN779": 1005, "ISM2400": 1006,
	"AS923-1": 1011, "AS923-2": 1012, "AS923-3": 1013, "AS923-4": 1014,
	"CN470-RP1": 1019, "US915": 1100, "AU915": 1200,
}

// eachRegion runs a test for every region that is one group, and for group 201,
// which is AS923-1 under another number.
func eachRegion(t *testing.T, test func(*testing.T, region, *band.Group)) {
	known, standard := loadFacts(t), band.Standard()
	run := func(name string, id band.GroupID) {
		facts, ok := known.Regions[name]
		if !ok {
			t.Fatalf("no facts of %s", name)
		}
		g := find(t, standard, id)
		t.Run(g.Name, func(t *testing.T) { test(t, facts, g) })
	}
	for name, id := range groupOf {
		run(name, id)
	}
	run("AS923-1", 201)
}

func isAS923(g *band.Group) bool { return len(g.Region) > 5 && g.Region[:5] == "AS923" }

func TestJoinChannelsAndWindowsAreThoseOfTheRegion(t *testing.T) {
	eachRegion(t, func(t *testing.T, r region, g *band.Group) {
		want := r.channels()
		if got := g.Describe().JoinChannels; len(got) != len(want) {
			t.Fatalf("%d join channels, want %d", len(got), len(want))
		}
		for _, c := range want {
			low := c.low
			if isAS923(g) {
				low = 0 // devices join at DR2 and up; DR0 and DR1 are accepted
			}
			for dr := range band.DataRate(16) {
				if r.rate(dr).Dir == "down" {
					continue
				}
				m := r.rate(dr).modulation()
				if got, want := g.JoinChannel(c.frequency, m), low <= dr && dr <= c.high; got != want {
					t.Errorf("%s DR%d: join channel %t, want %t", c.frequency, dr, got, want)
				}
				if c.low <= dr && dr <= c.high {
					checkWindows(t, r, g, c, dr)
				}
			}
		}
	})
}

func checkWindows(t *testing.T, r region, g *band.Group, c channel, dr band.DataRate) {
	t.Helper()
	a := answer(t, g, c.frequency, r.rate(dr).modulation(), band.MAC1_0_3)
	rx1 := r.rx1(dr)
	if a.RX1.Frequency != c.rx1 || a.RX1.DataRate != rx1 || a.RX1.Modulation != r.rate(rx1).modulation() || a.RX1.Delay != band.JoinAcceptDelay1 {
		t.Errorf("%s DR%d: RX1 %+v, want %s DR%d", c.frequency, dr, a.RX1, c.rx1, rx1)
	}
	late, _ := g.Answer(c.frequency, r.rate(dr).modulation(), band.MAC1_0_3, false)
	if late.RX2.Frequency != r.RX2.Frequency || late.RX2.DataRate != r.RX2.DR || late.RX2.Delay != band.JoinAcceptDelay2 {
		t.Errorf("%s DR%d: RX2 %+v, want %s DR%d", c.frequency, dr, late.RX2, r.RX2.Frequency, r.RX2.DR)
	}
}

func TestDataRatesAreThoseOfTheRegion(t *testing.T) {
	eachRegion(t, func(t *testing.T, r region, g *band.Group) {
		got := g.Describe().DataRates
		if len(got) != len(r.DataRates) {
			t.Errorf("%d data rates, want %d", len(got), len(r.DataRates))
		}
		for index, want := range r.DataRates {
			n, err := strconv.Atoi(index)
			if err != nil {
				t.Fatal(err)
			}
			dr := band.DataRate(n)
			if got := got[dr]; got.Modulation != want.Kind || got.SpreadingFactor != want.SF || got.Bandwidth != want.BW {
				t.Errorf("DR%d is %+v, want %+v", dr, got, want)
			}
			settable := want.Dir != "up" && (g.ID != 201 || dr <= 5)
			if got := g.DownlinkDataRate(dr); got != settable {
				t.Errorf("DR%d: a permission may set it: %t, want %t", dr, got, settable)
			}
		}
		if got := g.RX2DataRate(); got != r.RX2.DR {
			t.Errorf("RX2 data rate after the join %d, want %d", got, r.RX2.DR)
		}
	})
}

func TestNoDataRateBeyondTheRegionMayBeSet(t *testing.T) {
	for _, g := range band.Standard().All() {
		rates := g.Describe().DataRates
		for dr := range 256 {
			_, there := rates[band.DataRate(dr)]
			if g.DownlinkDataRate(band.DataRate(dr)) && !there {
				t.Errorf("%s: DR%d may be set and does not exist", g.Name, dr)
			}
		}
		if !g.DownlinkDataRate(g.RX2DataRate()) {
			t.Errorf("%s: the default, DR%d, may not be set", g.Name, g.RX2DataRate())
		}
	}
}

func TestRX1DROffsetEndsWhereTheRegionSays(t *testing.T) {
	eachRegion(t, func(t *testing.T, r region, g *band.Group) {
		if g.RX1DROffset() != 0 {
			t.Errorf("offset %d, want 0 by default", g.RX1DROffset())
		}
		most, beyond := r.RX1DROffset.Max, r.RX1DROffset.Max+1
		if got := find(t, with(t, band.Config{ID: g.ID, RX1DROffset: &most}), g.ID).RX1DROffset(); got != most {
			t.Errorf("offset %d, want %d", got, most)
		}
		if _, err := band.Standard().With(band.Config{ID: g.ID, RX1DROffset: &beyond}); err == nil {
			t.Errorf("offset %d is accepted", beyond)
		}
	})
}

// A join-accept with CFList has a MACPayload of 28 octets, one without 12.
func TestJoinAcceptsFitThePayloadOfTheirDataRate(t *testing.T) {
	eachRegion(t, func(t *testing.T, r region, g *band.Group) {
		for _, c := range g.Describe().JoinChannels {
			for _, dr := range c.DataRates {
				a := answer(t, g, c.Frequency, r.rate(band.DataRate(dr)).modulation(), band.MAC1_0_4)
				octets := 12
				if a.CFList != nil {
					octets = 28
				}
				for _, w := range []band.Window{a.RX1, a.RX2} {
					at := r.rate(w.DataRate)
					most := at.M
					if at.M400 != nil && isAS923(g) {
						most = *at.M400
					}
					if w.Delay != 0 && octets > most {
						t.Errorf("%s DR%d: %d octets at DR%d, which holds %d", c.Frequency, dr, octets, w.DataRate, most)
					}
				}
			}
		}
	})
}

// The regions that announce frequencies do so to every version.
func TestFrequenciesAnnounced(t *testing.T) {
	known := loadFacts(t)
	for name, id := range groupOf {
		g, want := find(t, band.Standard(), id), known.Regions[name].CFList.Worked[0].Bytes
		switch name {
		case "IN865", "ISM2400":
			want = "" // no plan beyond the default channels is in common use
		case "US915", "AU915":
			want = "ffffffffffffffffff00000000000001"
		case "CN470-RP1":
			want = "ffffffffffffffffffffffff00000001"
		}
		for version, got := range g.Describe().CFList {
			if version == "1.0.2" && want != "" && want[31] == '1' {
				if got != "" {
					t.Errorf("%s: a channel mask is sent to %s", name, version)
				}
			} else if got != want {
				t.Errorf("%s: CFList for %s is %q, want %q", name, version, got, want)
			}
		}
	}
}

func TestSubBandsOf915(t *testing.T) {
	known, standard := loadFacts(t), band.Standard()
	for name, first := range map[string]band.GroupID{"US915": 1101, "AU915": 1201} {
		r, whole := known.Regions[name], find(t, standard, groupOf[name])
		for i, sub := range r.SubBands {
			g := find(t, standard, first+band.GroupID(i))
			if want := name + "-FSB" + strconv.Itoa(sub.FSB); g.Name != want {
				t.Errorf("group %d is %s, want %s", g.ID, g.Name, want)
			}
			if got := g.Describe().CFList["1.0.3"]; got != sub.CFList {
				t.Errorf("%s: CFList %s, want %s", g.Name, got, sub.CFList)
			}
			channels := map[band.Hz]bool{sub.Wide: true}
			for f := sub.Narrow[0]; f <= sub.Narrow[1]; f += 200_000 {
				channels[f] = true
			}
			checkIsPartOf(t, g, whole, channels)
		}
	}
}

// checkIsPartOf wants the channels of a sub-band and no others, answered as the
// whole band answers them, but for the CFList.
func checkIsPartOf(t *testing.T, g, whole *band.Group, channels map[band.Hz]bool) {
	t.Helper()
	for _, c := range whole.Describe().JoinChannels {
		for _, m := range allModulations() {
			want, inBand := whole.Answer(c.Frequency, m, band.MAC1_0_2, true)
			got, ok := g.Answer(c.Frequency, m, band.MAC1_0_2, true)
			if ok != (inBand && channels[c.Frequency]) {
				t.Errorf("%s: %s %s is answered: %t", g.Name, c.Frequency, m, ok)
			}
			if ok && (got.RX1 != want.RX1 || got.RX2 != want.RX2) {
				t.Errorf("%s: %s %s is answered %+v, the whole band answers %+v", g.Name, c.Frequency, m, got, want)
			}
		}
	}
}

func TestOlderCN470Examples(t *testing.T) {
	g := find(t, band.Standard(), 1019)
	for _, example := range loadFacts(t).Regions["CN470-RP1"].RX1Examples {
		if a := answer(t, g, example[0], sf(9), band.MAC1_0_2); a.RX1.Frequency != example[1] {
			t.Errorf("%s is answered on %s, want %s", example[0], a.RX1.Frequency, example[1])
		}
	}
}

// Networks usually run one block of the older CN470 plan: as a group of their own.
func TestBlocksOfTheOlderCN470Plan(t *testing.T) {
	for i, block := range loadFacts(t).Regions["CN470-RP1"].Blocks {
		own := band.Config{ID: 10_000, Name: "block " + strconv.Itoa(i), Base: "CN470-RP1"}
		for f := block.Up[0]; f <= block.Up[1]; f += 200_000 {
			own.Channels = append(own.Channels, band.ChannelConfig{Frequency: f})
		}
		g := find(t, with(t, own), 10_000)
		first, last := answer(t, g, block.Up[0], sf(9), band.MAC1_0_3), answer(t, g, block.Up[1], sf(9), band.MAC1_0_3)
		if first.RX1.Frequency != block.Down[0] || last.RX1.Frequency != block.Down[1] {
			t.Errorf("block %d is answered on %s to %s, want %s to %s", i, first.RX1.Frequency, last.RX1.Frequency, block.Down[0], block.Down[1])
		}
		if got := hex.EncodeToString(first.CFList); got != block.CFList {
			t.Errorf("block %d: CFList %s, want %s", i, got, block.CFList)
		}
		if got := len(g.Describe().JoinChannels); got != 8 {
			t.Errorf("block %d has %d join channels", i, got)
		}
	}
}
