package band

import "strconv"

// fixedPlan is a region of 64 channels of 125 kHz and 8 of 500 kHz above them in
// number, answered on 8 downlink channels: channel n on downlink n mod 8, which
// holds for the wide ones too, since 64 is a multiple of 8.
type fixedPlan struct {
	narrow, wide, down comb
	narrowDR, wideDR   span
}

// Both regions answer on the same channels.
func downlinks915() comb { return comb{923_300_000, 600_000, 8} }

// us915Plans follow RP002-1.0.4, section "US902-928 MHz ISM Band". A device
// joins at DR0 and DR4 by turns; those in the field also use DR1 to DR3. Power:
// FCC part 15.247 allows 36 dBm EIRP (30 dBm conducted, 6 dBi); 27 dBm is the
// most that common gateways can send, and more would only be refused.
func us915Plans() []plan {
	us := fixedPlan{
		narrow: comb{902_300_000, raster, 64}, narrowDR: span{0, 3},
		wide: comb{903_000_000, 1_600_000, 8}, wideDR: span{4, 4},
		down: downlinks915(),
	}
	return us.groups(plan{
		id: 1100, name: "US915", region: "US915", country: "US", limits: [2]int64{902, 928},
		rates: rates{
			0: lora(10, kHz125).uplinkOnly(), 1: lora(9, kHz125).uplinkOnly(), 2: lora(8, kHz125).uplinkOnly(),
			3: lora(7, kHz125).uplinkOnly(), 4: lora(8, kHz500).uplinkOnly(), 5: lrFHSS(), 6: lrFHSS(),
			8: lora(12, kHz500).downlinkOnly(), 9: lora(11, kHz500).downlinkOnly(), 10: lora(10, kHz500).downlinkOnly(),
			11: lora(9, kHz500).downlinkOnly(), 12: lora(8, kHz500).downlinkOnly(), 13: lora(7, kHz500).downlinkOnly(),
		},
		rx1DR: rx1Rates{0: 10, 1: 11, 2: 12, 3: 13, 4: 13}, maxOffset: 3,
		rx2DR: 8, settable: span{8, 13}, power: everywhere(27, 36),
	})
}

// au915Plans follow RP002-1.0.4, section "AU915-928 MHz Band". Devices join at
// DR2 (DR0 before Regional Parameters 1.0.2 revision B) and DR6; DR0 to DR5 are
// accepted. The dwell limit is one of uplinks. Power: 30 dBm EIRP is allowed,
// 27 dBm is what common gateways can send.
func au915Plans() []plan {
	au := fixedPlan{
		narrow: comb{915_200_000, raster, 64}, narrowDR: span{0, 5},
		wide: comb{915_900_000, 1_600_000, 8}, wideDR: span{6, 6},
		down: downlinks915(),
	}
	return au.groups(plan{
		id: 1200, name: "AU915", region: "AU915", country: "AU", limits: [2]int64{915, 928},
		rates: rates{
			0: lora(12, kHz125).uplinkOnly(), 1: lora(11, kHz125).uplinkOnly(), 2: lora(10, kHz125).uplinkOnly(),
			3: lora(9, kHz125).uplinkOnly(), 4: lora(8, kHz125).uplinkOnly(), 5: lora(7, kHz125).uplinkOnly(),
			6: lora(8, kHz500).uplinkOnly(), 7: lrFHSS(),
			8: lora(12, kHz500).downlinkOnly(), 9: lora(11, kHz500).downlinkOnly(), 10: lora(10, kHz500).downlinkOnly(),
			11: lora(9, kHz500).downlinkOnly(), 12: lora(8, kHz500).downlinkOnly(), 13: lora(7, kHz500).downlinkOnly(),
		},
		rx1DR: rx1Rates{0: 8, 1: 9, 2: 10, 3: 11, 4: 12, 5: 13, 6: 13}, maxOffset: 5,
		rx2DR: 8, settable: span{8, 13}, power: everywhere(27, 30),
	})
}

// groups makes the group of all channels and those of the eight sub-bands, each
// 8 channels of 125 kHz and one of 500 kHz, which its CFList announces.
func (f fixedPlan) groups(base plan) []plan {
	all := base
	all.joins = []row{f.row(f.narrow, f.narrowDR, f.down, base.rx2DR), f.row(f.wide, f.wideDR, f.down, base.rx2DR)}
	all.list = cfList{size: 72, channels: run(0, 72)}
	plans := []plan{all}
	for sub := range 8 {
		p := base
		p.id += GroupID(sub + 1)
		p.name += "-FSB" + strconv.Itoa(sub+1)
		p.joins = []row{
			f.row(f.narrow.part(8*sub, 8), f.narrowDR, f.down, base.rx2DR),
			f.row(f.wide.part(sub, 1), f.wideDR, f.down.part(sub, 1), base.rx2DR),
		}
		p.list = cfList{size: 72, channels: append(run(8*sub, 8), 64+sub)}
		plans = append(plans, p)
	}
	return plans
}

// row answers in RX2 on the first downlink channel, as both regions have it.
func (f fixedPlan) row(up comb, dr span, down comb, rx2DR DataRate) row {
	return row{up: up, dr: dr, down: down, rx2: f.down.first, rx2DR: rx2DR}
}
