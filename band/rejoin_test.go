package band_test

import (
	"testing"
	"time"

	"joingate/band"
)

// TestRejoinChannels: join channels, and those that the CFList adds.
func TestRejoinChannels(t *testing.T) {
	sf7 := band.Modulation{SpreadingFactor: 7, Bandwidth: 125_000}
	for _, c := range []struct {
		group        string
		f            band.Hz
		join, rejoin bool
	}{
		{"EU868", 868_100_000, true, true},
		{"EU868", 867_100_000, false, true},
		{"EU868", 867_900_000, false, true},
		{"EU868", 869_525_000, false, false},
		{"AS923-1", 923_200_000, true, true},
		{"AS923-1", 924_400_000, false, true},
		{"KR920", 923_300_000, false, true},
		{"CN779", 780_500_000, true, true},
		{"US915-FSB2", 903_900_000, true, true},
		{"US915-FSB2", 902_300_000, false, false},
		{"CN470-SAME", 470_300_000, true, true},
		{"IN865", 866_550_000, false, false},
	} {
		g := named(t, c.group)
		if g.JoinChannel(c.f, sf7) != c.join || g.RejoinChannel(c.f, sf7) != c.rejoin {
			t.Errorf("%s %s: join %t, rejoin %t", c.group, c.f, g.JoinChannel(c.f, sf7), g.RejoinChannel(c.f, sf7))
		}
		if g.RejoinChannel(c.f, band.Modulation{}) {
			t.Errorf("%s %s: a rejoin-request that is not LoRa", c.group, c.f)
		}
	}
}

// TestAnswerRejoin: the windows are those of a join, at the data rates that the
// session has told the device.
func TestAnswerRejoin(t *testing.T) {
	sf9 := band.Modulation{SpreadingFactor: 9, Bandwidth: 125_000}
	for name, c := range map[string]struct {
		group    string
		f        band.Hz
		settings byte
		rx1      bool
		rx1On    band.Hz       // 0: not offered
		rx2On    band.Hz       // 0: not offered
		rx2      band.DataRate // of RX2
		cfList   bool
	}{
		"as after a join":            {"EU868", 868_100_000, 0x80, true, 868_100_000, 869_525_000, 0, true},
		"RX2 set by the permission":  {"EU868", 868_100_000, 0x83, true, 868_100_000, 869_525_000, 3, true},
		"on a channel of the CFList": {"EU868", 867_300_000, 0x83, true, 867_300_000, 869_525_000, 3, true},
		"with RX1DROffset":           {"EU868", 868_100_000, 0xa0, true, 0, 869_525_000, 0, true},
		"RX1 is over":                {"EU868", 868_100_000, 0x80, false, 0, 869_525_000, 0, true},
		"RX2 is FSK":                 {"EU868", 868_100_000, 0x87, true, 868_100_000, 0, 0, true},
		"RX2 has no such rate":       {"EU868", 868_100_000, 0x8f, true, 868_100_000, 0, 0, true},
		"RX2 is LR-FHSS":             {"EU868", 868_100_000, 0x88, true, 868_100_000, 0, 0, true},
		"nothing is left":            {"EU868", 868_100_000, 0x87, false, 0, 0, 0, true},
		"within the dwell limit":     {"AS923-1", 923_200_000, 0x82, true, 923_200_000, 0, 0, true},
		"paired":                     {"CN470-DIFF", 470_300_000, 0x84, true, 483_900_000, 485_300_000, 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, ok := named(t, c.group).AnswerRejoin(c.f, sf9, c.settings, c.rx1)
			if !ok || a.RX1.Frequency != c.rx1On || a.RX2.Frequency != c.rx2On || a.RX2.DataRate != c.rx2 || (a.CFList != nil) != c.cfList {
				t.Fatalf("%t, %+v", ok, a)
			}
			if c.rx1On != 0 && (a.RX1.Delay != 5*time.Second || a.RX1.Modulation != sf9) {
				t.Errorf("RX1 %+v", a.RX1)
			}
			if c.rx2On != 0 && (a.RX2.Delay != 6*time.Second || a.RX2.Duty != named(t, c.group).DutyCycle(c.rx2On)) {
				t.Errorf("RX2 %+v", a.RX2)
			}
		})
	}
	if _, ok := named(t, "EU868").AnswerRejoin(869_525_000, sf9, 0, true); ok {
		t.Error("answered on no channel of the group")
	}
}

// TestRejoinIsAnsweredLikeAJoin: to a device that listens as one that has not
// joined, on every join channel of every group whose RX2 of the join is the one
// after it.
func TestRejoinIsAnsweredLikeAJoin(t *testing.T) {
	compared := 0
	for _, g := range band.Standard().All() {
		for _, c := range g.Describe().JoinChannels {
			for _, m := range allModulations() {
				for _, rx1 := range []bool{true, false} {
					want, ok := g.Answer(c.Frequency, m, band.MAC1_1, rx1)
					got, also := g.AnswerRejoin(c.Frequency, m, byte(c.RX2.DataRate), rx1)
					if ok != also || got.RX1 != want.RX1 || got.RX2 != want.RX2 || string(got.CFList) != string(want.CFList) {
						t.Fatalf("%s %s %s: %+v, want %+v", g.Name, c.Frequency, m, got, want)
					}
					compared++
				}
			}
		}
	}
	if compared < 1000 {
		t.Errorf("only %d were compared", compared)
	}
}
