package sim

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// The tables are a device's: LoRaWAN RP002-1.0.4 as Semtech's device stack
// implements it (Lora-net/LoRaMac-node, src/mac/region), and for 101 and 102
// the rules of the node SDKs that Alibaba published (AliOS-Things, RegionCN470A).

// regionTables builds all regions once; nothing changes them afterwards.
var regionTables = sync.OnceValue(func() map[string]*Region {
	all := map[string]*Region{}
	for _, list := range [][]*Region{
		dynamicRegions(), as923Regions(), fixedRegions("US915", us915), fixedRegions("AU915", au915),
		cn470Regions(), linkWANRegions(),
		{ism2400()},
	} {
		for _, r := range list {
			all[r.Name] = r
		}
	}
	return all
})

// lora125 is DR0 to DR5 of most regions: SF12 to SF7 in 125 kHz.
func lora125() map[int]dataRate {
	rates := map[int]dataRate{}
	for dr := range 6 {
		rates[dr] = dataRate{Modulation{12 - dr, 125_000}, true, true}
	}
	return rates
}

// lora125AndFast adds DR6 (SF7, 250 kHz) and DR7 (FSK).
func lora125AndFast() map[int]dataRate {
	rates := lora125()
	rates[6] = dataRate{Modulation{7, 250_000}, true, true}
	rates[7] = dataRate{Modulation{0, 0}, true, true}
	return rates
}

// anyChannel draws channel and data rate.
func anyChannel(r *rand.Rand, reg *Region, _ int) (int, int) {
	i := r.IntN(reg.first)
	c := reg.join[i]
	return i, c.low + r.IntN(c.top-c.low+1)
}

// dynamic makes a region whose devices answer and ask on the same frequency and
// learn more channels from a list of frequencies. The first defaults of the
// join channels stay in use.
func dynamic(name string, joins []Hz, defaults int, rx2 Hz, rx2DR int, low, high Hz) *Region {
	reg := &Region{
		Name: name, rates: lora125AndFast(), rx2DR: rx2DR, offsets: 5, habit: anyChannel, first: len(joins),
		cfList: cfListRule{kind: cfListFrequencies, unit: 100, low: low, high: high, defaults: joins[:defaults]},
	}
	for _, f := range joins {
		reg.join = append(reg.join, joinChannel{f, 0, 5, f, rx2})
	}
	return reg
}

// dynamicRegions are EU863-870, EU433, KR920-923, IN865-867 and RU864-870 of
// RP002-1.0.4, and CN779-787 of RP002-1.0.3, the last to have it. CN779 has three
// default channels and three more for joins only (Regional Parameters 1.0.2).
func dynamicRegions() []*Region {
	in865 := dynamic("IN865", []Hz{865_062_500, 865_402_500, 865_985_000}, 3, 866_550_000, 2, 865_000_000, 867_000_000)
	in865.offsets = 7
	delete(in865.rates, 6)
	kr920 := dynamic("KR920", []Hz{922_100_000, 922_300_000, 922_500_000}, 3, 921_900_000, 0, 920_900_000, 923_300_000)
	kr920.rates = lora125()
	return []*Region{
		in865, kr920,
		dynamic("EU868", []Hz{868_100_000, 868_300_000, 868_500_000}, 3, 869_525_000, 0, 863_000_000, 870_000_000),
		dynamic("EU433", []Hz{433_175_000, 433_375_000, 433_575_000}, 3, 434_665_000, 0, 433_050_000, 434_790_000),
		dynamic("RU864", []Hz{868_900_000, 869_100_000}, 2, 869_100_000, 0, 864_000_000, 870_000_000),
		dynamic("CN779", []Hz{779_500_000, 779_700_000, 779_900_000, 780_500_000, 780_700_000, 780_900_000}, 3, 786_000_000, 0, 779_000_000, 787_000_000),
	}
}

// ism2400 is Semtech's proposal for 2.4 GHz; no part of RP002. Its CFList counts
// in 200 Hz.
func ism2400() *Region {
	reg := dynamic("ISM2400", []Hz{2_403_000_000, 2_425_000_000, 2_479_000_000}, 3, 2_423_000_000, 0, 2_400_000_000, 2_483_500_000)
	reg.cfList.unit = 200
	reg.codeRate = "CR_LI_4_8"
	for dr := range 8 {
		reg.rates[dr] = dataRate{Modulation{12 - dr, 812_000}, true, true}
	}
	for i := range reg.join {
		reg.join[i].top = 7
	}
	return reg
}

// as923Regions are AS923 of RP002-1.0.4: four groups, each an offset from
// the first, and Link WAN's group 201, which is AS923-1 within 923 to 925 MHz.
// The 400 ms bound keeps devices off DR0 and DR1 and holds for downlinks too
// until a TxParamSetupReq lifts it.
func as923Regions() []*Region {
	at := func(name string, first Hz) *Region {
		reg := dynamic(name, []Hz{first, first + 200_000}, 2, first, 2, 915_000_000, 928_000_000)
		reg.offsets, reg.dwell = 7, 400*time.Millisecond
		for i := range reg.join {
			reg.join[i].low = 2
		}
		return reg
	}
	group201 := at("201", 923_200_000)
	group201.cfList.low, group201.cfList.high = 923_000_000, 925_000_000
	return []*Region{
		group201, at("AS923-1", 923_200_000), at("AS923-2", 921_400_000),
		at("AS923-3", 916_600_000), at("AS923-4", 917_300_000),
	}
}

// fixedPlan is what US915 and AU915 differ in.
type fixedPlan struct {
	first, first500 Hz
	low, top, dr500 int // data rates of joins in 125 kHz, and the one in 500 kHz
	rates           map[int]dataRate
	rx1DR           map[int]int
	offsets         int
	each500         int // one join-request in this many goes out in 500 kHz
}

// fixedDown is DR8 to DR13 of both: SF12 to SF7 in 500 kHz, downlink only.
func fixedDown(up map[int]dataRate) map[int]dataRate {
	for dr := 8; dr <= 13; dr++ {
		up[dr] = dataRate{Modulation{20 - dr, 500_000}, false, true}
	}
	return up
}

// us915 is US902-928 of RP002-1.0.4: joins alternate between 125 and 500 kHz.
func us915() fixedPlan {
	rates := map[int]dataRate{4: {Modulation{8, 500_000}, true, false}}
	for dr := range 4 {
		rates[dr] = dataRate{Modulation{10 - dr, 125_000}, true, false}
	}
	return fixedPlan{
		first: 902_300_000, first500: 903_000_000, low: 0, top: 3, dr500: 4, rates: fixedDown(rates),
		rx1DR: map[int]int{0: 10, 1: 11, 2: 12, 3: 13, 4: 13}, offsets: 3, each500: 2,
	}
}

// au915 is AU915-928 of RP002-1.0.4: eight joins at DR2, then one in 500 kHz.
func au915() fixedPlan {
	rates := map[int]dataRate{6: {Modulation{8, 500_000}, true, false}}
	for dr := range 6 {
		rates[dr] = dataRate{Modulation{12 - dr, 125_000}, true, false}
	}
	return fixedPlan{
		first: 915_200_000, first500: 915_900_000, low: 0, top: 5, dr500: 6, rates: fixedDown(rates),
		rx1DR: map[int]int{0: 8, 1: 9, 2: 10, 3: 11, 4: 12, 5: 13, 6: 13}, offsets: 5, each500: 9,
	}
}

// channels lists 64 channels of 125 kHz and 8 of 500 kHz.
func (p fixedPlan) channels() []Hz {
	all := make([]Hz, 0, 72)
	for n := range Hz(64) {
		all = append(all, p.first+200_000*n)
	}
	for n := range Hz(8) {
		all = append(all, p.first500+1_600_000*n)
	}
	return all
}

// region keeps the join channels for which serves holds, by channel number.
func (p fixedPlan) region(name string, serves func(n int) bool) *Region {
	reg := &Region{
		Name: name, rates: p.rates, rx1DR: p.rx1DR, rx2DR: 8, offsets: p.offsets,
		cfList: cfListRule{kind: cfListMask, channels: p.channels()},
	}
	for n, f := range p.channels() {
		if !serves(n) {
			continue
		}
		c := joinChannel{f, p.low, p.top, 923_300_000 + 600_000*Hz(n%8), 923_300_000}
		if n >= 64 {
			c.low, c.top = p.dr500, p.dr500
		} else {
			reg.first++ // the 500 kHz channels stand last
		}
		reg.join = append(reg.join, c)
	}
	reg.habit = func(r *rand.Rand, reg *Region, try int) (int, int) {
		if try%p.each500 == p.each500-1 {
			return reg.first + r.IntN(len(reg.join)-reg.first), p.dr500
		}
		return r.IntN(reg.first), p.joinDR()
	}
	return reg
}

// joinDR is the data rate of joins in 125 kHz: DR0 in US915, DR2 in AU915, both
// SF10, the slowest that the 400 ms uplink bound allows.
func (p fixedPlan) joinDR() int {
	for dr := p.low; dr <= p.top; dr++ {
		if p.rates[dr].SpreadingFactor == 10 {
			return dr
		}
	}
	return p.low
}

// fixedRegions makes the whole band and its eight sub-bands.
func fixedRegions(name string, plan func() fixedPlan) []*Region {
	all := []*Region{plan().region(name, func(int) bool { return true })}
	for fsb := range 8 {
		all = append(all, plan().region(fmt.Sprintf("%s-FSB%d", name, fsb+1), func(n int) bool {
			return n/8 == fsb || n == 64+fsb
		}))
	}
	return all
}

// raster lists n channels 200 kHz apart.
func raster(first Hz, n int) []Hz {
	all := make([]Hz, n)
	for i := range all {
		all[i] = first + 200_000*Hz(i)
	}
	return all
}

// cn470Regions are the one plan of Regional Parameters 1.0.2 and the four
// antenna plans of RP002-1.0.4, whose joins have frequencies of their own (table of common join channels; LoRaMac-node RegionCN470.h,
// CN470_COMMON_JOIN_CHANNELS; RX2 of join channel 6 by the arithmetic of the
// plan, 494.9 MHz, where RegionCN470A20.h has the slip 494.0).
func cn470Regions() []*Region {
	rp1 := &Region{
		Name: "CN470-RP1", rates: lora125(), rx2DR: 0, offsets: 5, habit: anyChannel, first: 96,
		cfList: cfListRule{kind: cfListMask, channels: raster(470_300_000, 96)},
	}
	for n, f := range rp1.cfList.channels {
		rp1.join = append(rp1.join, joinChannel{f, 0, 5, 500_300_000 + 200_000*Hz(n%48), 505_300_000})
	}
	return []*Region{
		rp1,
		cn470Plan("CN470-20A", append(raster(470_300_000, 32), raster(503_500_000, 32)...), []joinChannel{
			{470_900_000, 1, 5, 484_500_000, 485_300_000},
			{472_500_000, 1, 5, 486_100_000, 486_900_000},
			{474_100_000, 1, 5, 487_700_000, 488_500_000},
			{475_700_000, 1, 5, 489_300_000, 490_100_000},
			{504_100_000, 1, 5, 490_900_000, 491_700_000},
			{505_700_000, 1, 5, 492_500_000, 493_300_000},
			{507_300_000, 1, 5, 494_100_000, 494_900_000},
			{508_900_000, 1, 5, 495_700_000, 496_500_000},
		}),
		cn470Plan("CN470-20B", append(raster(476_900_000, 32), raster(496_900_000, 32)...), []joinChannel{
			{479_900_000, 1, 5, 479_900_000, 478_300_000},
			{499_900_000, 1, 5, 499_900_000, 498_300_000},
		}),
		cn470Plan("CN470-26A", raster(470_300_000, 48), joins26(470_300_000, 492_500_000)),
		cn470Plan("CN470-26B", raster(480_300_000, 48), joins26(480_300_000, 502_500_000)),
	}
}

// joins26 is five channels 2 MHz apart with one frequency for both windows.
func joins26(first, down Hz) []joinChannel {
	var all []joinChannel
	for n := range Hz(5) {
		all = append(all, joinChannel{first + 2_000_000*n, 1, 5, down, down})
	}
	return all
}

// cn470Plan is one antenna plan: no DR0, DR6 in 500 kHz, DR7 FSK.
func cn470Plan(name string, channels []Hz, joins []joinChannel) *Region {
	rates := lora125AndFast()
	delete(rates, 0)
	rates[6] = dataRate{Modulation{7, 500_000}, true, true}
	return &Region{
		Name: name, join: joins, rates: rates, rx2DR: 1, offsets: 5, habit: anyChannel, first: len(joins),
		cfList: cfListRule{kind: cfListMask, channels: channels},
	}
}

// linkWANBands are the first frequencies of the 16 bands of 8 channels, in the
// order of the node's band mask: 1A1 1A2 2A1 2A2 3A1 3A2 4A1 4A2, then 1B1 to 4B2.
func linkWANBands() []Hz {
	return []Hz{
		470_300_000, 471_900_000, 473_500_000, 475_100_000, 490_300_000, 491_900_000, 493_500_000, 495_100_000,
		483_900_000, 485_500_000, 487_100_000, 488_700_000, 503_500_000, 505_100_000, 506_700_000, 508_300_000,
	}
}

// linkWANRegions are groups 101 (up and down on the same frequency) and 102
// (down in the paired band: A with B). RX2 is the last channel of the downlink
// band, DR0 before the join. A node tries its default band, 1A2, first at DR3,
// then at DR2, and takes no CFList.
func linkWANRegions() []*Region {
	bands := linkWANBands()
	make16 := func(name string, pair func(band int) int) *Region {
		reg := &Region{Name: name, rates: lora125(), rx2DR: 0, offsets: 5, first: 8}
		for _, b := range []int{1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} {
			down := bands[pair(b)]
			for n, f := range raster(bands[b], 8) {
				reg.join = append(reg.join, joinChannel{f, 0, 5, down + 200_000*Hz(n), down + 1_400_000})
			}
		}
		reg.habit = func(r *rand.Rand, reg *Region, try int) (int, int) {
			if try == 0 {
				return r.IntN(reg.first), 3
			}
			return r.IntN(reg.first), 2
		}
		return reg
	}
	return []*Region{
		make16("101", func(band int) int { return band }),
		make16("102", func(band int) int { return (band + 8) % 16 }),
	}
}
