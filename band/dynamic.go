package band

// dynamicRegions are the regions in which a device knows two or three channels
// and is told the others: joins are answered on the frequency they came on, at
// the data rate they came with.
func dynamicRegions() []plan {
	return []plan{eu868(), eu433(), in865(), kr920(), ru864(), cn779(), ism2400()}
}

// eu868 follows RP002-1.0.4, section "EU863-870 MHz Band". The CFList is the
// eight-channel plan that gateways are sold with; the specification leaves it
// open. Power: ERC/REC 70-03 annex 1 allows 14 dBm ERP (16.15 dBm EIRP), and
// 27 dBm ERP (29.15 dBm EIRP) from 869.40 to 869.65 MHz, where RX2 lies.
func eu868() plan {
	r := ratesWithFSK()
	r[8], r[9], r[10], r[11] = lrFHSS(), lrFHSS(), lrFHSS(), lrFHSS()
	return plan{
		id: 1000, name: "EU868", region: "EU868", country: "EU", limits: [2]int64{863, 870},
		rates: r, rx1DR: sameRates(), maxOffset: 5, settable: span{0, 7},
		joins: single(span{0, 5}, 869_525_000, 0, 868_100_000, 868_300_000, 868_500_000),
		power: []power{{869_400_000, 869_650_000, 29, 29}, {863_000_000, 870_000_000, 16, 16}},
		duty:  dutyEU868(),
		list:  frequencies(867_100_000, 867_300_000, 867_500_000, 867_700_000, 867_900_000),
	}
}

// eu433 follows RP002-1.0.4, section "EU433 MHz Band". The CFList is the
// eight-channel plan of The Things Network. Power: 10 dBm ERP (12.15 dBm EIRP).
func eu433() plan {
	return plan{
		id: 1001, name: "EU433", region: "EU433", country: "EU", limits: [2]int64{433, 435},
		rates: ratesWithFSK(), rx1DR: sameRates(), maxOffset: 5, settable: span{0, 7},
		joins: single(span{0, 5}, 434_665_000, 0, 433_175_000, 433_375_000, 433_575_000),
		power: everywhere(12, 12),
		duty:  dutyEU433(),
		list:  frequencies(433_775_000, 433_975_000, 434_175_000, 434_375_000, 434_575_000),
	}
}

// in865 follows RP002-1.0.4, section "IN865-867 MHz Band"; DR6 is RFU. There is
// no plan in common use beyond the three default channels, hence no CFList.
// Power: 30 dBm EIRP is allowed, 27 dBm is what common gateways can send.
func in865() plan {
	r := ratesSF12to7()
	r[7] = fsk()
	return plan{
		id: 1002, name: "IN865", region: "IN865", country: "IN", limits: [2]int64{865, 867},
		rates: r, rx1DR: sameRates(), maxOffset: 7, settable: span{0, 7}, rx2DR: 2,
		joins: single(span{0, 5}, 866_550_000, 2, 865_062_500, 865_402_500, 865_985_000),
		power: everywhere(27, 30),
		list:  frequencies(),
	}
}

// kr920 follows RP002-1.0.4, section "KR920-923 MHz Band". The CFList is the
// seven-channel plan of The Things Network. Power: 23 dBm EIRP for gateways, on
// RX2 too, where devices are held to 10 dBm.
func kr920() plan {
	return plan{
		id: 1003, name: "KR920", region: "KR920", country: "KR", limits: [2]int64{920, 924},
		rates: ratesSF12to7(), rx1DR: sameRates(), maxOffset: 5, settable: span{0, 5},
		joins: single(span{0, 5}, 921_900_000, 0, 922_100_000, 922_300_000, 922_500_000),
		power: everywhere(23, 23),
		list:  frequencies(922_700_000, 922_900_000, 923_100_000, 923_300_000),
	}
}

// ru864 follows RP002-1.0.4, section "RU864-870 MHz Band". The CFList is the
// plan of The Things Network. Power: 16 dBm EIRP.
func ru864() plan {
	return plan{
		id: 1004, name: "RU864", region: "RU864", country: "RU", limits: [2]int64{864, 870},
		rates: ratesWithFSK(), rx1DR: sameRates(), maxOffset: 5, settable: span{0, 7},
		joins: single(span{0, 5}, 869_100_000, 0, 868_900_000, 869_100_000),
		power: everywhere(16, 16),
		list:  frequencies(864_100_000, 864_300_000, 864_500_000, 864_700_000, 864_900_000),
	}
}

// cn779 follows RP002-1.0.3, the last with section "CN779-787 MHz Band". The
// band is withdrawn in China; old devices remain. Regional Parameters 1.0.2
// table 19 lets a device join on six channels, of which it keeps three, so the
// CFList announces the other three. Power: 10 dBm ERP (12.15 dBm EIRP).
func cn779() plan {
	return plan{
		id: 1005, name: "CN779", region: "CN779", country: "CN", limits: [2]int64{779, 787},
		rates: ratesWithFSK(), rx1DR: sameRates(), maxOffset: 5, settable: span{0, 7},
		joins: single(span{0, 5}, 786_000_000, 0,
			779_500_000, 779_700_000, 779_900_000, 780_500_000, 780_700_000, 780_900_000),
		power: everywhere(12, 12),
		list:  frequencies(780_500_000, 780_700_000, 780_900_000),
	}
}

// ism2400 follows Semtech's "Physical Layer Proposal 2.4GHz"; RP002 has no such
// band. A CFList counts in steps of 200 Hz there, but the three channels are
// all there is. Power: 10 dBm EIRP.
func ism2400() plan {
	var r rates
	for dr := range DataRate(8) {
		r[dr] = lora(12-uint8(dr), bandwidth2400)
	}
	return plan{
		id: 1006, name: "ISM2400", region: "ISM2400", country: "WW", limits: [2]int64{2400, 2484},
		rates: r, rx1DR: sameRates(), maxOffset: 5, settable: span{0, 7},
		joins: single(span{0, 7}, 2_423_000_000, 0, 2_403_000_000, 2_425_000_000, 2_479_000_000),
		power: everywhere(10, 10),
		list:  cfList{unit: 200},
	}
}

// frequencies announces up to five channels, in the unit of all bands below
// 1 GHz.
func frequencies(f ...Hz) cfList { return cfList{unit: 100, frequencies: f} }
