package band_test

import (
	"math"
	"testing"
	"time"

	"joingate/band"

	"github.com/brocaar/lorawan/airtime"
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

// TestLongestWithinDwellTime: RP002-1.0.5, table 73 "AS923 maximum payload size",
// states the longest MACPayload that keeps 400 ms. PHYPayload adds MHDR and MIC, five
// octets. One octet more takes too long.
func TestLongestWithinDwellTime(t *testing.T) {
	const dwell, shortest = 400 * time.Millisecond, 1 + 7 + 4 // MHDR, FHDR, MIC
	for sf, macPayload := range map[uint8]int{8: 133, 9: 61, 10: 19} {
		m := band.Modulation{SpreadingFactor: sf, Bandwidth: 125_000}
		if fits, next := m.TimeOnAir(macPayload+5, true), m.TimeOnAir(macPayload+6, true); fits > dwell || next <= dwell {
			t.Errorf("%s: %d octets of MACPayload take %s, one more %s", m, macPayload, fits, next)
		}
	}
	for _, sf := range []uint8{11, 12} { // "N/A"
		m := band.Modulation{SpreadingFactor: sf, Bandwidth: 125_000}
		if got := m.TimeOnAir(shortest, true); got <= dwell {
			t.Errorf("%s: the shortest frame takes %s", m, got)
		}
	}
	if got := (band.Modulation{SpreadingFactor: 7, Bandwidth: 125_000}).TimeOnAir(250+5, true); got > dwell {
		t.Errorf("SF7: the longest frame there is takes %s", got)
	}
}

// TestTimeOnAirEqualsBrocaars for uplinks of all lengths; theirs has no CRC to leave
// out, and takes the coding rate of 2.4 GHz for a parameter.
func TestTimeOnAirEqualsBrocaars(t *testing.T) {
	for _, m := range allModulations() {
		optimised := (time.Second<<m.SpreadingFactor)/time.Duration(m.Bandwidth) > 16*time.Millisecond
		rate := airtime.CodingRate45
		if m.Bandwidth == 812_000 {
			rate = airtime.CodingRate48
		}
		for octets := range 256 {
			want, err := airtime.CalculateLoRaAirtime(octets, int(m.SpreadingFactor), int(m.Bandwidth/1000), 8, rate, true, optimised)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.TimeOnAir(octets, true); (got - want).Abs() > time.Microsecond {
				t.Fatalf("%s, %d octets: %s, theirs %s", m, octets, got, want)
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
