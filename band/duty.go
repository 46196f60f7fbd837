package band

import "time"

// DutyCycle limits what one transmitter may send in a sub-band. The zero
// DutyCycle is no limit.
type DutyCycle struct {
	SubBand uint8         // tells the sub-bands of a region apart
	Limit   time.Duration // most time on air within DutyWindow
}

// DutyWindow is the time that a duty cycle counts in: one hour (ETSI EN 300
// 220-2 V3.2.1, section 4.3.3; EN 300 220-1, section 5.4).
const DutyWindow = time.Hour

// subBand is a part of a region with a duty cycle of its own, both ends included.
type subBand struct {
	from, to Hz
	perMille int64 // of DutyWindow; 0: not limited
}

// DutyCycle is the limit of a gateway that sends on f. The law sets it, not the
// channel plan, so a group of the operator's own has that of its base, unless it
// states none.
func (g *Group) DutyCycle(f Hz) DutyCycle { return g.plan.dutyCycle(f) }

// dutyCycle goes by the first sub-band that holds f, as the plan lists the narrow
// ones first.
func (p *plan) dutyCycle(f Hz) DutyCycle {
	for i, b := range p.duty {
		if b.from <= f && f <= b.to {
			if b.perMille == 0 {
				return DutyCycle{}
			}
			return DutyCycle{SubBand: uint8(i + 1), Limit: DutyWindow / 1000 * time.Duration(b.perMille)}
		}
	}
	return DutyCycle{}
}

// dutyEU868 follows ERC/REC 70-03 annex 1 (h), which ETSI EN 300 220-2 V3.2.1
// annex B repeats: sub-bands K to R. What lies between them is kept for alarms,
// where no LoRaWAN channel belongs; it gets the strictest limit.
func dutyEU868() []subBand {
	return []subBand{
		{863_000_000, 865_000_000, 1},
		{865_000_001, 868_000_000, 10},
		{868_000_001, 868_600_000, 10},
		{868_700_000, 869_200_000, 1},
		{869_400_000, 869_650_000, 100},
		{869_700_000, 870_000_000, 10},
		{863_000_000, 870_000_000, 1},
	}
}

// dutyEU433 follows ERC/REC 70-03 annex 1 (f): 10 mW ERP, 10 %.
func dutyEU433() []subBand { return []subBand{{433_050_000, 434_790_000, 100}} }
