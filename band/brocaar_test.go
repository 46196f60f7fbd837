package band_test

import (
	"testing"

	"github.com/brocaar/lorawan"
	lora "github.com/brocaar/lorawan/band"

	"joingate/band"
)

// brocaarBands are the regions that github.com/brocaar/lorawan knows too: a
// second source, run rather than copied.
var brocaarBands = map[band.GroupID]lora.Name{
	201: lora.AS923, 1000: lora.EU868, 1001: lora.EU433, 1002: lora.IN865, 1003: lora.KR920, 1004: lora.RU864,
	1005: lora.CN779, 1006: lora.ISM2400, 1011: lora.AS923, 1012: lora.AS923_2, 1013: lora.AS923_3, 1014: lora.AS923_4,
	1019: lora.CN470, 1100: lora.US915, 1200: lora.AU915,
}

func eachBrocaarBand(t *testing.T, test func(*testing.T, lora.Band, *band.Group)) {
	for id, name := range brocaarBands {
		theirs, err := lora.GetConfig(name, false, lorawan.DwellTime400ms)
		if err != nil {
			t.Fatal(err)
		}
		g := find(t, band.Standard(), id)
		t.Run(g.Name, func(t *testing.T) { test(t, theirs, g) })
	}
}

// theirRate turns a data rate of theirs into ours.
func theirRate(t *testing.T, b lora.Band, dr int) (lora.DataRate, band.Modulation) {
	t.Helper()
	r, err := b.GetDataRate(dr)
	if err != nil {
		t.Fatalf("DR%d: %v", dr, err)
	}
	if r.Modulation != lora.LoRaModulation {
		return r, band.Modulation{}
	}
	return r, band.Modulation{SpreadingFactor: uint8(r.SpreadFactor), Bandwidth: band.Hz(r.Bandwidth) * 1000}
}

func TestDataRatesEqualBrocaars(t *testing.T) {
	eachBrocaarBand(t, func(t *testing.T, b lora.Band, g *band.Group) {
		ours := g.Describe().DataRates
		for dr := range 16 {
			if g.ID == 1019 && dr >= 6 {
				continue // theirs adds RP002's DR6 and DR7 to the older plan, whose own end at DR5
			}
			r, err := b.GetDataRate(dr)
			got, there := ours[band.DataRate(dr)]
			if there != (err == nil) {
				t.Errorf("DR%d: ours %t, theirs %t", dr, there, err == nil)
			}
			if err != nil {
				continue
			}
			sf, bandwidth := uint8(r.SpreadFactor), band.Hz(r.Bandwidth)*1000
			if r.Modulation != lora.LoRaModulation {
				sf, bandwidth = 0, 0
			}
			if got.Modulation != string(r.Modulation) || got.SpreadingFactor != sf || got.Bandwidth != bandwidth {
				t.Errorf("DR%d: ours %+v, theirs %+v", dr, got, r)
			}
		}
	})
}

func TestAnswersEqualBrocaars(t *testing.T) {
	eachBrocaarBand(t, func(t *testing.T, b lora.Band, g *band.Group) {
		channels := b.GetUplinkChannelIndices()
		want := len(channels)
		if g.Region == "CN779" {
			want += 3 // the join channels of Regional Parameters 1.0.2 table 19 that are no default channels
		}
		if got := len(g.Describe().JoinChannels); got != want {
			t.Errorf("%d join channels, theirs are %d", got, want)
		}
		for _, i := range channels {
			c, err := b.GetUplinkChannel(i)
			if err != nil {
				t.Fatal(err)
			}
			for dr := c.MinDR; dr <= c.MaxDR; dr++ {
				if _, m := theirRate(t, b, dr); m.SpreadingFactor > 0 { // no join is sent by LR-FHSS
					checkLikeBrocaar(t, b, g, c.Frequency, dr)
				}
			}
		}
	})
}

func checkLikeBrocaar(t *testing.T, b lora.Band, g *band.Group, f uint32, dr int) {
	t.Helper()
	_, m := theirRate(t, b, dr)
	a, ok := g.Answer(band.Hz(f), m, band.MAC1_0_2, true)
	if !ok {
		t.Errorf("%d DR%d is no join channel", f, dr)
		return
	}
	frequency, err := b.GetRX1FrequencyForUplinkFrequency(f)
	if err != nil {
		t.Fatal(err)
	}
	rx1, err := b.GetRX1DataRateIndex(dr, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, rx1Modulation := theirRate(t, b, rx1)
	// Where we offer no RX1, see as923.
	if a.RX1.Delay != 0 && (a.RX1.Frequency != band.Hz(frequency) || int(a.RX1.DataRate) != rx1 || a.RX1.Modulation != rx1Modulation) {
		t.Errorf("%d DR%d: RX1 %+v, theirs %d Hz DR%d", f, dr, a.RX1, frequency, rx1)
	}
	late, _ := g.Answer(band.Hz(f), m, band.MAC1_0_2, false)
	defaults := b.GetDefaults()
	if late.RX2.Frequency != band.Hz(defaults.RX2Frequency) || int(late.RX2.DataRate) != defaults.RX2DataRate || late.RX2.Delay != defaults.JoinAcceptDelay2 {
		t.Errorf("%d DR%d: RX2 %+v, theirs %+v", f, dr, late.RX2, defaults)
	}
	if a.RX1.Delay != 0 && a.RX1.Delay != defaults.JoinAcceptDelay1 {
		t.Errorf("RX1 after %s, theirs after %s", a.RX1.Delay, defaults.JoinAcceptDelay1)
	}
}

// Our CFList, given their channels, is theirs; and theirs reads ours.
func TestCFListsEqualBrocaars(t *testing.T) {
	eachBrocaarBand(t, func(t *testing.T, b lora.Band, g *band.Group) {
		list := answerWithCFList(g)
		if list == nil || g.Region == "ISM2400" {
			return
		}
		var read lorawan.CFList
		if err := read.UnmarshalBinary(list); err != nil {
			t.Fatalf("%x: %v", list, err)
		}
		if channels, ok := read.Payload.(*lorawan.CFListChannelPayload); ok {
			for _, f := range channels.Channels {
				if f == 0 {
					continue
				}
				if err := b.AddChannel(f, 0, 5); err != nil {
					t.Fatal(err)
				}
			}
		}
		theirs := b.GetCFList(lora.LoRaWAN_1_1_0)
		if theirs == nil {
			t.Fatal("they send no CFList")
		}
		octets, err := theirs.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if string(octets) != string(list) {
			t.Errorf("CFList %x, theirs %x", list, octets)
		}
	})
}

// answerWithCFList gives the CFList of a group, nil if it has none.
func answerWithCFList(g *band.Group) []byte {
	for _, m := range allModulations() {
		for _, c := range g.Describe().JoinChannels {
			if a, ok := g.Answer(c.Frequency, m, band.MAC1_1, true); ok && a.CFList != nil {
				return a.CFList
			}
		}
	}
	return nil
}

// Gateway power never exceeds what they send with by more than the antenna gain
// that turns their ERP into EIRP, but where the table says why: CN470 and US915.
func TestPowerIsNearBrocaars(t *testing.T) {
	eachBrocaarBand(t, func(t *testing.T, b lora.Band, g *band.Group) {
		f := g.Describe().JoinChannels[0].RX2.Frequency
		theirs := b.GetDownlinkTXPower(uint32(f))
		for _, m := range allModulations() {
			for _, c := range g.Describe().JoinChannels {
				a, ok := g.Answer(c.Frequency, m, band.MAC1_0_2, false)
				if !ok {
					continue
				}
				more := int(a.RX2.Power) - theirs
				if most := map[string]int{"CN470": 5, "US915": 7}[g.Region]; more < 0 || more > max(2, most) {
					t.Fatalf("RX2 with %d dBm, theirs with %d", a.RX2.Power, theirs)
				}
			}
		}
	})
}
