package band_test

import (
	"testing"
	"time"

	"joingate/band"
)

// TestDutyCycles holds the sub-bands against ERC/REC 70-03 annex 1 and ETSI EN 300
// 220-2 annex B, at their edges too.
func TestDutyCycles(t *testing.T) {
	const thousandth = 3600 * time.Millisecond
	for _, c := range []struct {
		group    string
		from, to band.Hz
		limit    time.Duration
	}{
		{"EU868", 863_000_000, 865_000_000, thousandth},
		{"EU868", 865_000_001, 868_000_000, 10 * thousandth},
		{"EU868", 868_000_001, 868_600_000, 10 * thousandth},
		{"EU868", 868_600_001, 868_699_999, thousandth}, // alarms
		{"EU868", 868_700_000, 869_200_000, thousandth},
		{"EU868", 869_200_001, 869_399_999, thousandth}, // alarms
		{"EU868", 869_400_000, 869_650_000, 100 * thousandth},
		{"EU868", 869_650_001, 869_699_999, thousandth}, // alarms
		{"EU868", 869_700_000, 870_000_000, 10 * thousandth},
		{"EU433", 433_050_000, 434_790_000, 100 * thousandth},
		{"US915", 902_000_000, 928_000_000, 0},
		{"CN470-SAME", 470_000_000, 510_000_000, 0},
		{"AS923-1", 915_000_000, 928_000_000, 0},
		{"RU864", 864_000_000, 870_000_000, 0},
		{"KR920", 920_000_000, 924_000_000, 0},
	} {
		g := named(t, c.group)
		first := g.DutyCycle(c.from)
		for _, f := range []band.Hz{c.from, c.from + (c.to-c.from)/2, c.to} {
			if got := g.DutyCycle(f); got.Limit != c.limit || got != first {
				t.Errorf("%s at %s: %+v, want %s in one sub-band", c.group, f, got, c.limit)
			}
		}
	}
}

// TestSubBandsAreApart: what is sent in one does not count in another.
func TestSubBandsAreApart(t *testing.T) {
	g := named(t, "EU868")
	seen := map[uint8]band.Hz{}
	for _, f := range []band.Hz{864_100_000, 867_100_000, 868_100_000, 868_900_000, 869_525_000, 869_800_000} {
		d := g.DutyCycle(f)
		if d.SubBand == 0 {
			t.Errorf("%s is in no sub-band", f)
		}
		if other, taken := seen[d.SubBand]; taken {
			t.Errorf("%s shares a sub-band with %s", f, other)
		}
		seen[d.SubBand] = f
	}
}

// TestWindowsKnowTheirDutyCycle: each window has that of its own frequency.
func TestWindowsKnowTheirDutyCycle(t *testing.T) {
	limited := 0
	for _, g := range band.Standard().All() {
		for _, c := range g.Describe().JoinChannels {
			for _, m := range allModulations() {
				a, ok := g.Answer(c.Frequency, m, band.MAC1_1, true)
				if !ok {
					continue
				}
				for _, w := range []band.Window{a.RX1, a.RX2} {
					if w != (band.Window{}) && w.Duty != g.DutyCycle(w.Frequency) {
						t.Errorf("%s: a window on %s has %+v", g.Name, w.Frequency, w.Duty)
					}
					if w.Duty.Limit > 0 {
						limited++
					}
				}
			}
		}
	}
	if limited == 0 {
		t.Error("no window is limited: this proves nothing")
	}
}

// TestDutyCycleOfOwnGroup: the law is that of the base, unless the group has none.
func TestDutyCycleOfOwnGroup(t *testing.T) {
	gs := mustTOML(t, `
[[groups]]
id = 10000
name = "like EU868"
base = "EU868"
[[groups]]
id = 10001
name = "listens before it talks"
base = "EU868"
duty_cycle = false
`)
	if got := find(t, gs, 10_000).DutyCycle(868_100_000).Limit; got != 36*time.Second {
		t.Errorf("like its base: %s", got)
	}
	if got := find(t, gs, 10_001).DutyCycle(868_100_000); got != (band.DutyCycle{}) {
		t.Errorf("without: %+v", got)
	}
	a, _ := find(t, gs, 10_001).Answer(868_100_000, band.Modulation{SpreadingFactor: 7, Bandwidth: 125_000}, band.MAC1_1, true)
	if a.RX1.Duty != (band.DutyCycle{}) || a.RX2.Duty != (band.DutyCycle{}) {
		t.Errorf("its windows: %+v, %+v", a.RX1.Duty, a.RX2.Duty)
	}
	if _, err := fromTOML(t, "[[groups]]\nid = 1000\nduty_cycle = false\n"); err == nil {
		t.Error("a built-in group was freed from the law")
	}
}

func named(t testing.TB, name string) *band.Group {
	t.Helper()
	for _, g := range band.Standard().All() {
		if g.Name == name {
			return g
		}
	}
	t.Fatalf("there is no band plan group %s", name)
	return nil
}
