package main

import (
	"fmt"
	"math"
	"slices"

	"joingate/band"
	"joingate/sim"
)

// bandCase is what doc/bands.md promises of one band plan group, written down
// once more by hand, so that the server's table is not its own judge. The other
// judge is the device, which has the windows from tables of its own.
type bandCase struct {
	id        band.GroupID
	name      string
	region    string   // of the devices, as package sim names it
	rate      int      // RX2DataRate where the permission sets none
	keeps     []sim.Hz // uplink channels of a device without CFList; nil: the 8 of its Link WAN band
	announced []sim.Hz // by the CFList; nil: there is none
	mask      bool     // the CFList is a mask (type 1), which 1.0.2 does not know
	brief     bool     // a downlink may last 400 ms
}

func bandCases() []bandCase {
	cases := []bandCase{
		{id: 101, name: "CN470-SAME", region: "101"},
		{id: 102, name: "CN470-DIFF", region: "102"},
		as923Case(201, "AS923-CN", "201", 923.2),
		frequencyCase(1000, "EU868", 0, mhz(868.1, 868.3, 868.5), mhz(867.1, 867.3, 867.5, 867.7, 867.9)),
		frequencyCase(1001, "EU433", 0, mhz(433.175, 433.375, 433.575), mhz(433.775, 433.975, 434.175, 434.375, 434.575)),
		frequencyCase(1002, "IN865", 2, mhz(865.0625, 865.4025, 865.985), nil),
		frequencyCase(1003, "KR920", 0, mhz(922.1, 922.3, 922.5), mhz(922.7, 922.9, 923.1, 923.3)),
		frequencyCase(1004, "RU864", 0, mhz(868.9, 869.1), mhz(864.1, 864.3, 864.5, 864.7, 864.9)),
		frequencyCase(1005, "CN779", 0, mhz(779.5, 779.7, 779.9), mhz(780.5, 780.7, 780.9)),
		frequencyCase(1006, "ISM2400", 0, mhz(2403, 2425, 2479), nil),
		as923Case(1011, "AS923-1", "AS923-1", 923.2),
		as923Case(1012, "AS923-2", "AS923-2", 921.4),
		as923Case(1013, "AS923-3", "AS923-3", 916.6),
		as923Case(1014, "AS923-4", "AS923-4", 917.3),
		maskCase(1019, "CN470-RP1", 0, spaced(470.3, 0.2, 96)),
		maskCase(1020, "CN470-20A", 1, slices.Concat(spaced(470.3, 0.2, 32), spaced(503.5, 0.2, 32))),
		maskCase(1021, "CN470-20B", 1, slices.Concat(spaced(476.9, 0.2, 32), spaced(496.9, 0.2, 32))),
		maskCase(1026, "CN470-26A", 1, spaced(470.3, 0.2, 48)),
		maskCase(1027, "CN470-26B", 1, spaced(480.3, 0.2, 48)),
	}
	for _, fixed := range []bandCase{
		maskCase(1100, "US915", 8, slices.Concat(spaced(902.3, 0.2, 64), spaced(903.0, 1.6, 8))),
		maskCase(1200, "AU915", 8, slices.Concat(spaced(915.2, 0.2, 64), spaced(915.9, 1.6, 8))),
	} {
		cases = append(cases, fixed)
		for n := range 8 {
			part := fixed
			part.id += band.GroupID(n + 1)
			part.name = fmt.Sprintf("%s-FSB%d", fixed.name, n+1)
			part.region = part.name
			part.announced = append(slices.Clone(fixed.keeps[8*n:8*n+8]), fixed.keeps[64+n])
			cases = append(cases, part)
		}
	}
	return cases
}

func frequencyCase(id band.GroupID, name string, rate int, keeps, announced []sim.Hz) bandCase {
	return bandCase{id: id, name: name, region: name, rate: rate, keeps: keeps, announced: announced}
}

func maskCase(id band.GroupID, name string, rate int, channels []sim.Hz) bandCase {
	return bandCase{id: id, name: name, region: name, rate: rate, keeps: channels, announced: channels, mask: true}
}

func as923Case(id band.GroupID, name, region string, first float64) bandCase {
	c := frequencyCase(id, name, 2, spaced(first, 0.2, 2), spaced(first+0.4, 0.2, 5))
	c.region, c.brief = region, true
	return c
}

func mhz(values ...float64) []sim.Hz {
	all := make([]sim.Hz, len(values))
	for i, v := range values {
		all[i] = sim.Hz(math.Round(v * 1e6))
	}
	return all
}

func spaced(first, step float64, n int) []sim.Hz {
	all := make([]float64, n)
	for i := range all {
		all[i] = first + float64(i)*step
	}
	return mhz(all...)
}

// bandVersions are the LoRaWAN versions of the devices. With 1.0.3 came the mask.
var bandVersions = []string{"1.0.2", "1.0.3", "1.0.4", "1.1"}

// expectation is how doc/bands.md has one join answered.
type expectation struct {
	rx1, rx2, cfList bool
	unheard          bool // RX2 is sent where the device does not listen
}

// expects: with 400 ms (doc/bands.md, section "AS923: 400 ms") the CFList goes
// with joins at DR3 and faster, in RX1 alone; RX1 at DR0 and DR1 is too long.
func (c bandCase) expects(dr int, version string, late bool) expectation {
	e := expectation{rx1: !late, rx2: true, cfList: c.announced != nil && !(c.mask && version == "1.0.2")}
	if c.brief {
		e.rx1 = !late && dr >= 2
		e.cfList = !late && dr >= 3
		e.rx2 = !e.cfList
	}
	return e
}

// uplinkChannels are those that a device has in use after the join.
func (c bandCase) uplinkChannels(cfList bool) []sim.Hz {
	switch {
	case !cfList:
		return c.keeps
	case c.mask:
		return c.announced
	}
	return slices.Concat(c.keeps, c.announced)
}
