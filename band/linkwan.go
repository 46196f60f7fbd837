package band

// linkWAN are the three groups that Link WAN documents. Alibaba publishes no
// channel list for them: channels and windows are those of the node SDK that it
// published (AliOS-Things 4.4.2, linkwan/region/RegionCN470A.h) and certified
// (ASR 6501, 6505 and 6601).
func linkWAN() []plan { return []plan{cn470Same(), cn470Diff(), as923CN()} }

// linkWANBands are the 16 bands of 8 channels, in the order of the bits of a
// node's band mask: 1A1, 1A2, 2A1 … 4A2, then 1B1 … 4B2. Bands 8 apart are
// paired.
func linkWANBands() [16]comb {
	var bands [16]comb
	for i, first := range [16]Hz{
		470_300_000, 471_900_000, 473_500_000, 475_100_000, 490_300_000, 491_900_000, 493_500_000, 495_100_000,
		483_900_000, 485_500_000, 487_100_000, 488_700_000, 503_500_000, 505_100_000, 506_700_000, 508_300_000,
	} {
		bands[i] = comb{first, raster, 8}
	}
	return bands
}

// cn470 is what all CN470 plans before RP002 share. Power: 50 mW ERP, 19.15 dBm
// EIRP. China allows 1 s for one transmission since 2021, and a join-accept at
// DR0 lasts longer; that is where these devices listen in RX2, so it stays, and
// RX1 is the window to use.
func cn470() plan {
	return plan{
		region: "CN470", country: "CN", limits: [2]int64{470, 510},
		rates: ratesSF12to7(), rx1DR: sameRates(), maxOffset: 5, settable: span{0, 5},
		power: everywhere(19, 19),
	}
}

// cn470Same is group 101: the answer comes on the uplink's frequency, and in
// RX2 on the last channel of its band. Nodes of most SDKs wait there at DR0,
// those of AliOS 4.4.2 at DR2.
//
// It sends no CFList: the nodes read any as frequencies of channels they do not
// have. The size of 64 is that of RP002's 20 MHz plans, for operators who have
// such devices only.
//
// The two join channels of RP002 plan 20B lie outside of the 16 bands, so its
// devices are served too.
func cn470Same() plan {
	p := cn470()
	p.id, p.name, p.tunableRX2 = 101, "CN470-SAME", true
	p.list = cfList{size: 64}
	for _, b := range linkWANBands() {
		p.joins = append(p.joins, row{up: b, dr: span{0, 5}, rx2: b.last()})
	}
	p.joins = append(p.joins, joins20B()...)
	return p
}

// cn470Diff is group 102: the answer comes on the paired band, and in RX2 on
// the last channel of that. The join channels of RP002 plan 20A are among
// these, with the same windows; only their RX2 is at DR1.
func cn470Diff() plan {
	p := cn470()
	p.id, p.name, p.tunableRX2 = 102, "CN470-DIFF", true
	p.list = cfList{size: 64}
	bands := linkWANBands()
	for i, b := range bands {
		pair := bands[(i+8)%16]
		p.joins = append(p.joins, row{up: b, dr: span{0, 5}, down: pair, rx2: pair.last()})
	}
	return p
}

// as923CN is group 201. No Link WAN code for AS923 is known; the nodes run plain
// AS923-1. All of its channels lie in the 923 to 925 MHz that the API states,
// and so does the "CN".
func as923CN() plan {
	p := as923(0)
	p.id, p.name, p.region = 201, "AS923-CN", "AS923-1"
	p.country, p.limits, p.settable = "CN", [2]int64{923, 925}, span{0, 5}
	return p
}
