package band_test

import (
	"testing"

	"joingate/band"
)

func TestLinkWANBands(t *testing.T) {
	same, diff := find(t, band.Standard(), 101), find(t, band.Standard(), 102)
	bands := loadFacts(t).LinkWAN.Bands
	for _, b := range bands {
		for i := range band.Hz(8) {
			for dr := range band.DataRate(6) {
				up, m := b.Up[0]+i*200_000, sf(12-uint8(dr))
				a := answer(t, same, up, m, band.MAC1_0_2)
				if a.RX1.Frequency != b.Same[0]+i*200_000 || a.RX1.DataRate != dr || a.RX2.Frequency != b.SameRX2 || a.RX2.DataRate != 0 {
					t.Errorf("101: %s DR%d in band %s: %+v", up, dr, b.Name, a)
				}
				a = answer(t, diff, up, m, band.MAC1_0_2)
				if a.RX1.Frequency != b.Other[0]+i*200_000 || a.RX1.DataRate != dr || a.RX2.Frequency != b.OtherRX2 || a.RX2.DataRate != 0 {
					t.Errorf("102: %s DR%d in band %s: %+v", up, dr, b.Name, a)
				}
			}
		}
	}
	if got := len(diff.Describe().JoinChannels); len(bands) != 16 || got != 128 {
		t.Errorf("group 102 has %d join channels in %d bands", got, len(bands))
	}
	if got := len(same.Describe().JoinChannels); got != 128+2 {
		t.Errorf("group 101 has %d join channels, want 128 and the two of plan 20B", got)
	}
}

func TestWorkedJoins(t *testing.T) {
	for _, j := range loadFacts(t).LinkWAN.Joins {
		g := find(t, band.Standard(), j.Group)
		a := answer(t, g, j.Up, sf(12-uint8(j.UpDR)), band.MAC1_0_2)
		if a.RX1.Frequency != j.RX1 || a.RX1.DataRate != j.RX1DR || a.RX2.Frequency != j.RX2 {
			t.Errorf("%d: %s DR%d is answered %+v, want RX1 %s DR%d, RX2 %s", j.Group, j.Up, j.UpDR, a, j.RX1, j.RX1DR, j.RX2)
		}
		if j.RX2DR != nil && a.RX2.DataRate != *j.RX2DR {
			t.Errorf("%d: %s DR%d: RX2 at DR%d, want DR%d", j.Group, j.Up, j.UpDR, a.RX2.DataRate, *j.RX2DR)
		}
	}
}

func TestPlansOfTheAdminAPI(t *testing.T) {
	gs := band.Standard()
	for _, want := range loadFacts(t).LinkWAN.API {
		got := find(t, gs, want.Group).Plan()
		if got != (band.FreqBandPlan{
			GroupId: int64(want.Group), FrequencyRegionId: want.RegionID, FrequencyType: want.FrequencyType,
			BeginFrequency: want.Begin, EndFrequency: want.EndFrequency,
		}) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	for id, want := range map[band.GroupID]band.FreqBandPlan{
		1000: {1000, "EU", "SAME_FREQUENCY", 863, 870},
		1102: {1102, "US", "DIFF_FREQUENCY", 902, 928},
		1201: {1201, "AU", "DIFF_FREQUENCY", 915, 928},
		1012: {1012, "AS", "SAME_FREQUENCY", 920, 923},
		1019: {1019, "CN", "DIFF_FREQUENCY", 470, 510},
		1020: {1020, "CN", "DIFF_FREQUENCY", 470, 510},
		1021: {1021, "CN", "SAME_FREQUENCY", 470, 510},
		1026: {1026, "CN", "DIFF_FREQUENCY", 470, 510},
	} {
		if got := find(t, gs, id).Plan(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

func TestLinkWANPermissions(t *testing.T) {
	for _, id := range []band.GroupID{101, 102, 201} {
		g := find(t, band.Standard(), id)
		for dr := range band.DataRate(16) {
			if got := g.DownlinkDataRate(dr); got != (dr <= 5) {
				t.Errorf("%d: DR%d may be set: %t", id, dr, got)
			}
		}
	}
	for id, want := range map[band.GroupID]band.DataRate{101: 0, 102: 0, 201: 2} {
		if got := find(t, band.Standard(), id).RX2DataRate(); got != want {
			t.Errorf("%d: a permission without DataRate takes %d, want %d", id, got, want)
		}
	}
}

// The nodes read any CFList as frequencies of channels that they do not have.
func TestNoCFListForLinkWANNodes(t *testing.T) {
	for _, id := range []band.GroupID{101, 102} {
		for version, list := range find(t, band.Standard(), id).Describe().CFList {
			if list != "" {
				t.Errorf("%d: CFList %s for %s", id, list, version)
			}
		}
	}
}
