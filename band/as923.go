package band

import "time"

// as923 follows RP002-1.0.4, section "AS923 MHz Band", for one of its four
// variants, which differ by a frequency offset only. A join-request at DR0 or
// DR1 lasts longer than the 400 ms of the region, so devices join at DR2 to DR5;
// one that is not held to the limit may use the slower two, so all six are
// accepted. Power: 16 dBm EIRP.
//
// The gateway keeps the 400 ms too. Which data rate a device listens at in RX1
// after a join at DR0 or DR1 depends on a switch inside it (DownlinkDwellTime;
// stacks differ in the default): DR2 with it, DR0 or DR1 without. Neither of
// these two could be sent in 400 ms, so such a join is answered in RX2 only,
// where every device listens at DR2.
func as923(offset Hz) plan {
	join := []Hz{923_200_000 - offset, 923_400_000 - offset}
	list := frequencies()
	for i := range Hz(cfListFrequencies) {
		list.frequencies = append(list.frequencies, join[1]+(i+1)*raster)
	}
	return plan{
		rates: ratesWithFSK(), rx1DR: sameRates(), maxOffset: 7, settable: span{0, 7}, rx2DR: 2,
		joins: single(span{0, 5}, join[0], 2, join...),
		power: everywhere(16, 16),
		dwell: 400 * time.Millisecond,
		list:  list,
	}
}

// as923Regions are the four variants. The limits are those in which RP002-1.0.4
// places the countries of each; AS923-4 is Israel's.
func as923Regions() []plan {
	variants := []struct {
		offset  Hz
		limits  [2]int64
		country string
	}{
		{0, [2]int64{915, 928}, "AS"},
		{1_800_000, [2]int64{920, 923}, "AS"},
		{6_600_000, [2]int64{915, 921}, "AS"},
		{5_900_000, [2]int64{917, 920}, "IL"},
	}
	plans := make([]plan, len(variants))
	for i, v := range variants {
		p := as923(v.offset)
		p.id, p.name = GroupID(1011+i), "AS923-"+string(rune('1'+i))
		p.region, p.limits, p.country = p.name, v.limits, v.country
		plans[i] = p
	}
	return plans
}
