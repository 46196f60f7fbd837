package band

import "time"

func cn470Plans() []plan { return append(cn470RP002(), cn470RP1()) }

// cn470RP1 follows Regional Parameters 1.0.2, section 2.6 "CN470-510MHz Band",
// the plan before RP002 that most devices outside of Link WAN still have: 96
// uplink channels, answered on 48. RX2 is at DR0, see cn470.
func cn470RP1() plan {
	p := cn470()
	p.id, p.name = 1019, "CN470-RP1"
	p.joins = []row{{
		up: comb{470_300_000, raster, 96}, dr: span{0, 5},
		down: comb{500_300_000, raster, 48}, rx2: 505_300_000,
	}}
	p.list = cfList{size: 96, channels: run(0, 96)}
	return p
}

// cn470RP002 follows RP002-1.0.4, section "CN470-510 MHz Band": four plans, one
// for each antenna on the market, which a device tries by turns on the 20 common
// join channels. There is no DR0: at SF12 no frame keeps the limit of 1 s. The
// CFList has all channels of the plan on. Power: 19.15 dBm EIRP.
func cn470RP002() []plan {
	base := cn470()
	base.rates[0] = rate{}
	base.rates[6], base.rates[7] = lora(7, kHz500), fsk()
	base.rx2DR, base.settable, base.dwell = 1, span{1, 7}, time.Second

	variants := []struct {
		id       GroupID
		name     string
		joins    []row
		channels int
	}{
		{1020, "CN470-20A", joins20A(), 64},
		{1021, "CN470-20B", joins20B(), 64},
		{1026, "CN470-26A", joins26(470_300_000, 492_500_000), 48},
		{1027, "CN470-26B", joins26(480_300_000, 502_500_000), 48},
	}
	plans := make([]plan, len(variants))
	for i, v := range variants {
		plans[i] = base
		plans[i].id, plans[i].name, plans[i].joins = v.id, v.name, v.joins
		plans[i].list = cfList{size: v.channels, channels: run(0, v.channels)}
	}
	return plans
}

// joins20A are common join channels 0 to 7: RX1 is 13.6 MHz up from the lower
// half and 13.2 MHz down from the upper one, RX2 0.8 MHz above RX1.
func joins20A() []row {
	halves := []struct{ up, down comb }{
		{comb{470_900_000, 1_600_000, 4}, comb{484_500_000, 1_600_000, 4}},
		{comb{504_100_000, 1_600_000, 4}, comb{490_900_000, 1_600_000, 4}},
	}
	var rows []row
	for _, h := range halves {
		for i := range h.up.count {
			down := h.down.part(i, 1)
			rows = append(rows, row{up: h.up.part(i, 1), dr: span{1, 5}, down: down, rx2: down.first + 4*raster, rx2DR: 1})
		}
	}
	return rows
}

// joins20B are common join channels 8 and 9, answered on their own frequency.
func joins20B() []row {
	return append(
		single(span{1, 5}, 478_300_000, 1, 479_900_000),
		single(span{1, 5}, 498_300_000, 1, 499_900_000)...)
}

// joins26 are five common join channels, 10 to 14 or 15 to 19, which share one
// frequency for both windows; the rule for data, index mod 24, is not theirs.
func joins26(first, down Hz) []row {
	return []row{{
		up: comb{first, 2_000_000, 5}, dr: span{1, 5},
		down: comb{first: down, count: 1}, rx2: down, rx2DR: 1,
	}}
}
