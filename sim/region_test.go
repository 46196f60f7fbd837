package sim

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/brocaar/lorawan"
	"github.com/brocaar/lorawan/band"
)

func region(t testing.TB, name string) *Region {
	t.Helper()
	r, err := RegionByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Joins worked out by hand from the documents, one or more per region: for 101
// and 102 a log of the ASR user guide and the node SDK's band table, for CN470
// RP002 the table of common join channels.
func TestWorkedJoins(t *testing.T) {
	const M, k = 1_000_000, 1_000
	for _, c := range []struct {
		region string
		up     Hz
		dr     int
		rx1    Hz
		mod1   string
		rx2    Hz
		mod2   string
	}{
		{"EU868", 868_100 * k, 5, 868_100 * k, "SF7BW125", 869_525 * k, "SF12BW125"},
		{"EU433", 433_175 * k, 0, 433_175 * k, "SF12BW125", 434_665 * k, "SF12BW125"},
		{"AS923-1", 923_200 * k, 2, 923_200 * k, "SF10BW125", 923_200 * k, "SF10BW125"},
		{"AS923-2", 921_400 * k, 5, 921_400 * k, "SF7BW125", 921_400 * k, "SF10BW125"},
		{"AS923-3", 916_800 * k, 3, 916_800 * k, "SF9BW125", 916_600 * k, "SF10BW125"},
		{"AS923-4", 917_300 * k, 3, 917_300 * k, "SF9BW125", 917_300 * k, "SF10BW125"},
		{"IN865", 865_062_500, 0, 865_062_500, "SF12BW125", 866_550 * k, "SF10BW125"},
		{"KR920", 922_300 * k, 1, 922_300 * k, "SF11BW125", 921_900 * k, "SF12BW125"},
		{"RU864", 868_900 * k, 0, 868_900 * k, "SF12BW125", 869_100 * k, "SF12BW125"},
		{"CN779", 780_900 * k, 0, 780_900 * k, "SF12BW125", 786 * M, "SF12BW125"},
		{"ISM2400", 2_425 * M, 7, 2_425 * M, "SF5BW812", 2_423 * M, "SF12BW812"},
		{"US915", 902_300 * k, 0, 923_300 * k, "SF10BW500", 923_300 * k, "SF12BW500"},
		{"US915-FSB2", 903_900 * k, 0, 923_300 * k, "SF10BW500", 923_300 * k, "SF12BW500"},
		{"US915-FSB2", 904_600 * k, 4, 923_900 * k, "SF7BW500", 923_300 * k, "SF12BW500"},
		{"US915-FSB8", 914_900 * k, 3, 927_500 * k, "SF7BW500", 923_300 * k, "SF12BW500"},
		{"AU915-FSB2", 916_800 * k, 2, 923_300 * k, "SF10BW500", 923_300 * k, "SF12BW500"},
		{"AU915", 927_100 * k, 6, 927_500 * k, "SF7BW500", 923_300 * k, "SF12BW500"},
		{"CN470-RP1", 470_300 * k, 0, 500_300 * k, "SF12BW125", 505_300 * k, "SF12BW125"},
		{"CN470-RP1", 489_300 * k, 2, 509_700 * k, "SF10BW125", 505_300 * k, "SF12BW125"},
		{"CN470-20A", 470_900 * k, 1, 484_500 * k, "SF11BW125", 485_300 * k, "SF11BW125"},
		{"CN470-20A", 507_300 * k, 5, 494_100 * k, "SF7BW125", 494_900 * k, "SF11BW125"},
		{"CN470-20B", 499_900 * k, 3, 499_900 * k, "SF9BW125", 498_300 * k, "SF11BW125"},
		{"CN470-26A", 470_300 * k, 2, 492_500 * k, "SF10BW125", 492_500 * k, "SF11BW125"},
		{"CN470-26B", 488_300 * k, 2, 502_500 * k, "SF10BW125", 502_500 * k, "SF11BW125"},
		{"101", 472_900 * k, 3, 472_900 * k, "SF9BW125", 473_300 * k, "SF12BW125"},
		{"101", 470_300 * k, 2, 470_300 * k, "SF10BW125", 471_700 * k, "SF12BW125"},
		{"102", 471_900 * k, 3, 485_500 * k, "SF9BW125", 486_900 * k, "SF12BW125"},
		{"102", 470_900 * k, 2, 484_500 * k, "SF10BW125", 485_300 * k, "SF12BW125"},
		{"102", 504_100 * k, 3, 490_900 * k, "SF9BW125", 491_700 * k, "SF12BW125"},
		{"102", 495_100 * k, 3, 508_300 * k, "SF9BW125", 509_700 * k, "SF12BW125"},
		{"201", 923_200 * k, 2, 923_200 * k, "SF10BW125", 923_200 * k, "SF10BW125"},
	} {
		rx1, rx2, err := region(t, c.region).windows(Channel{c.up, c.dr})
		if err != nil {
			t.Error(err)
			continue
		}
		if rx1.Frequency != c.rx1 || rx1.Modulation.String() != c.mod1 || rx1.Delay != 5*time.Second {
			t.Errorf("%s %s DR%d: RX1 %s, want %s %s", c.region, c.up, c.dr, rx1, c.rx1, c.mod1)
		}
		if rx2.Frequency != c.rx2 || rx2.Modulation.String() != c.mod2 || rx2.Delay != 6*time.Second {
			t.Errorf("%s %s DR%d: RX2 %s, want %s %s", c.region, c.up, c.dr, rx2, c.rx2, c.mod2)
		}
	}
}

// A second opinion on the regions that brocaar/lorawan has right.
func TestRegionsAgreeWithBrocaar(t *testing.T) {
	for name, theirs := range map[string]band.Name{
		"EU868": band.EU868, "EU433": band.EU433, "US915": band.US915, "AU915": band.AU915, "AS923-1": band.AS923,
		"AS923-2": band.AS923_2, "AS923-3": band.AS923_3, "AS923-4": band.AS923_4, "IN865": band.IN865, "KR920": band.KR920,
		"RU864": band.RU864, "CN779": band.CN779, "CN470-RP1": band.CN470, "ISM2400": band.ISM2400,
	} {
		b, err := band.GetConfig(theirs, false, lorawan.DwellTimeNoLimit)
		if err != nil {
			t.Fatal(err)
		}
		r := region(t, name)
		for _, c := range r.JoinChannels() {
			if name == "CN779" && c.Frequency > 780_000_000 {
				continue // three join channels that it does not have
			}
			rx1, rx2, err := r.windows(c)
			if err != nil {
				t.Fatal(err)
			}
			frequency, err := b.GetRX1FrequencyForUplinkFrequency(uint32(c.Frequency))
			if err != nil {
				t.Errorf("%s %s: %v", name, c.Frequency, err)
				continue
			}
			dr, err := b.GetRX1DataRateIndex(c.DataRate, 0)
			if err != nil {
				t.Fatal(err)
			}
			if want := modulationOf(t, b, dr); Hz(frequency) != rx1.Frequency || rx1.Modulation != want {
				t.Errorf("%s %v: RX1 %s, theirs %d Hz %s", name, c, rx1, frequency, want)
			}
			d := b.GetDefaults()
			if want := modulationOf(t, b, d.RX2DataRate); Hz(d.RX2Frequency) != rx2.Frequency || rx2.Modulation != want {
				t.Errorf("%s: RX2 %s, theirs %d Hz %s", name, rx2, d.RX2Frequency, want)
			}
			if d.JoinAcceptDelay1 != rx1.Delay || d.JoinAcceptDelay2 != rx2.Delay {
				t.Errorf("%s: delays %s and %s, theirs %s and %s", name, rx1.Delay, rx2.Delay, d.JoinAcceptDelay1, d.JoinAcceptDelay2)
			}
		}
	}
}

func modulationOf(t *testing.T, b band.Band, dr int) Modulation {
	t.Helper()
	d, err := b.GetDataRate(dr)
	if err != nil {
		t.Fatal(err)
	}
	return Modulation{d.SpreadFactor, Hz(d.Bandwidth * 1000)}
}

func TestRegionsAreWhole(t *testing.T) {
	want := []string{"101", "102", "201", "AS923-1", "AS923-2", "AS923-3", "AS923-4", "AU915", "CN470-20A", "CN470-20B", "CN470-26A", "CN470-26B", "CN470-RP1", "CN779", "EU433", "EU868", "IN865", "ISM2400", "KR920", "RU864", "US915"}
	for _, name := range want {
		region(t, name)
	}
	if got := len(RegionNames()); got != len(want)+16 {
		t.Errorf("%d regions, want %d and 16 sub-bands", got, len(want))
	}
	for _, name := range RegionNames() {
		r := region(t, name)
		if !r.rates[r.rx2DR].down {
			t.Errorf("%s: RX2 data rate %d is no downlink data rate", name, r.rx2DR)
		}
		draw := rand.New(rand.NewPCG(1, 1))
		for try := range 100 {
			c := r.pick(draw, try)
			rx1, _, err := r.windows(c)
			if err != nil || rx1.SpreadingFactor == 0 {
				t.Errorf("%s: try %d picks %v: %s, %v", name, try, c, rx1, err)
			}
			if !slices.Contains(r.JoinChannels(), c) || !r.rates[c.DataRate].up {
				t.Errorf("%s: try %d picks %v, which is no join channel", name, try, c)
			}
		}
	}
	if _, _, err := region(t, "CN470-26A").windows(Channel{470_900_000, 2}); err == nil {
		t.Error("470.9 MHz is no join channel of 26A")
	}
}

func TestJoinHabits(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 1))
	wide := func(name string, tries int) (n int) {
		r := region(t, name)
		for try := range tries {
			if c := r.pick(draw, try); r.rates[c.DataRate].Bandwidth == 500_000 {
				n++
			}
		}
		return n
	}
	if got := wide("US915-FSB2", 18); got != 9 {
		t.Errorf("US915: %d of 18 joins in 500 kHz, want every second", got)
	}
	if got := wide("AU915-FSB2", 18); got != 2 {
		t.Errorf("AU915: %d of 18 joins in 500 kHz, want every ninth", got)
	}
	linkWAN := region(t, "101")
	for try, want := range []int{3, 2, 2} {
		if c := linkWAN.pick(draw, try); c.DataRate != want || c.Frequency < 471_900_000 || c.Frequency > 473_300_000 {
			t.Errorf("101: try %d on %s DR%d, want band 1A2 and DR%d", try, c.Frequency, c.DataRate, want)
		}
	}
}

// Figures of Semtech's airtime calculator, in milliseconds.
func TestAirtime(t *testing.T) {
	for _, c := range []struct {
		m                 Modulation
		request, bare, cf float64
	}{
		{Modulation{12, 125_000}, 1482.8, 1155.1, 1810.4},
		{Modulation{11, 125_000}, 823.3, 659.5, 905.2},
		{Modulation{10, 125_000}, 370.7, 329.7, 452.6},
		{Modulation{7, 125_000}, 61.7, 46.3, 71.9},
		{Modulation{7, 250_000}, 30.8, 23.2, 36.0},
		{Modulation{12, 500_000}, 329.7, 288.8, 411.6},
		{Modulation{7, 500_000}, 15.4, 11.6, 18.0},
	} {
		for octets, want := range map[int]float64{23: c.request, 17: c.bare, 33: c.cf} {
			got := float64(c.m.Airtime(octets, octets == 23).Microseconds()) / 1000
			if math.Abs(got-want) > 0.1 {
				t.Errorf("%s, %d octets: %.1f ms, want %.1f", c.m, octets, got, want)
			}
		}
	}
	if (Modulation{0, 125_000}).Airtime(10, true) != 0 || (Modulation{7, 0}).Airtime(10, true) != 0 {
		t.Error("no LoRa, no airtime")
	}
}
