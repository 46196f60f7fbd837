package band_test

import (
	"math"
	"testing"
	"time"

	"joingate/band"
)

func TestTimeOnAir(t *testing.T) {
	for _, row := range loadFacts(t).Airtime.Rows {
		m := band.Modulation{SpreadingFactor: row.SF, Bandwidth: row.BW}
		for _, c := range []struct {
			octets int
			uplink bool
			ms     float64
		}{{23, true, row.Request}, {17, false, row.Bare}, {33, false, row.Long}} {
			got := float64(m.TimeOnAir(c.octets, c.uplink)) / float64(time.Millisecond)
			if math.Abs(got-c.ms) > 0.051 { // the facts are rounded to 0.1 ms
				t.Errorf("%s, %d octets, uplink %t: %.3f ms, want %.1f", m, c.octets, c.uplink, got, c.ms)
			}
		}
	}
}

func TestTimeOnAirOfWhatIsNotLoRa(t *testing.T) {
	for _, m := range []band.Modulation{{}, {SpreadingFactor: 7}, {Bandwidth: 125_000}} {
		if got := m.TimeOnAir(17, false); got != 0 {
			t.Errorf("%+v: %s, want 0", m, got)
		}
	}
}

// More octets never take less time, and the slowest of them stay in the seconds.
func TestTimeOnAirGrows(t *testing.T) {
	for _, m := range allModulations() {
		last := time.Duration(0)
		for octets := range 256 {
			got := m.TimeOnAir(octets, true)
			if got < last || got <= 0 || got > 15*time.Second {
				t.Fatalf("%s: %d octets take %s, one less %s", m, octets, got, last)
			}
			last = got
		}
	}
}
