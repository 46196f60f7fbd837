package band

import (
	"cmp"
	"slices"
	"time"
)

// plan is one group as data: all that is written down about it by hand. A Group
// is compiled from it, so adding a group means adding a plan.
type plan struct {
	id      GroupID
	name    string
	region  string   // channel plan, RP002 common name without the upper limit
	country string   // FrequencyRegionId of the admin API
	limits  [2]int64 // MHz, lowest and highest; every frequency of the plan lies within

	rates     rates
	joins     []row
	rx1DR     rx1Rates
	maxOffset uint8         // largest RX1DROffset of the region
	offset    uint8         // RX1DROffset that the join-accept sets for the time after the join
	rx2DR     DataRate      // for DLSettings when nobody chose one
	settable  span          // data rates that a permission may set, where they exist downlink
	dwell     time.Duration // longest transmission of the gateway; 0: no limit
	power     []power
	duty      []subBand // empty: no duty cycle
	list      cfList

	tunableRX2 bool // devices differ in the RX2 data rate of the join: see Config.RX2
}

// rate is one data rate of a region. The zero rate is one the region leaves RFU.
type rate struct {
	kind       string // LORA, FSK or LR_FHSS
	modulation Modulation
	up, down   bool
}

// rates are the data rates of a region by their index.
type rates [16]rate

// downlink reports whether the gateway can send at dr.
func (r *rates) downlink(dr DataRate) bool { return int(dr) < len(r) && r[dr].down }

// uplink finds the index of a modulation that devices send with. FSK and
// LR-FHSS are never found: no join comes that way.
func (r *rates) uplink(m Modulation) (DataRate, bool) {
	if m.SpreadingFactor == 0 {
		return 0, false
	}
	for dr := range r {
		if r[dr].up && r[dr].modulation == m {
			return DataRate(dr), true
		}
	}
	return 0, false
}

// rx1Rates gives the data rate of RX1 by that of the uplink, at RX1DROffset 0,
// which is the one that every join uses (TS001-1.0.4 section 6.2.6).
type rx1Rates [16]DataRate

// span is a range of data rates, both ends included.
type span struct{ low, high DataRate }

func (s span) has(dr DataRate) bool { return s.low <= dr && dr <= s.high }

// comb is a row of equally spaced frequencies.
type comb struct {
	first, step Hz
	count       int
}

func (c comb) at(i int) Hz { return c.first + Hz(i)*c.step }

func (c comb) last() Hz { return c.at(c.count - 1) }

// part gives count frequencies of the comb from index i on.
func (c comb) part(i, count int) comb { return comb{c.at(i), c.step, count} }

// row is a run of join channels that are answered by one rule: RX1 on the
// frequency of down with the same index (counted round when down is shorter),
// or on the uplink's own when down is empty.
type row struct {
	up    comb
	dr    span
	down  comb
	rx2   Hz
	rx2DR DataRate
}

func (r row) rx1(i int) Hz {
	if r.down.count == 0 {
		return r.up.at(i)
	}
	return r.down.at(i % r.down.count)
}

// single makes one row of each frequency, all answered on their own frequency
// and in one RX2.
func single(dr span, rx2 Hz, rx2DR DataRate, ups ...Hz) []row {
	rows := make([]row, len(ups))
	for i, f := range ups {
		rows[i] = row{up: comb{first: f, count: 1}, dr: dr, rx2: rx2, rx2DR: rx2DR}
	}
	return rows
}

// power is what the gateway sends with between two frequencies, both included.
type power struct {
	from, to Hz
	dBm      int8 // EIRP used
	max      int8 // EIRP allowed; the operator may go up to it
}

// channel is one join channel, compiled: what is answered to a join on it.
type channel struct {
	frequency          Hz
	dr                 span
	rx1, rx2           Hz
	rx2DR              DataRate
	rx1Power, rx2Power int8
	rx1Duty, rx2Duty   DutyCycle
}

// compile lays the join channels out by frequency.
func (p *plan) compile() []channel {
	var channels []channel
	for _, r := range p.joins {
		for i := range r.up.count {
			c := channel{frequency: r.up.at(i), dr: r.dr, rx1: r.rx1(i), rx2: r.rx2, rx2DR: r.rx2DR}
			channels = append(channels, p.limit(c))
		}
	}
	slices.SortFunc(channels, func(a, b channel) int { return cmp.Compare(a.frequency, b.frequency) })
	return channels
}

// limit adds what the law says of the channel's two downlink frequencies.
func (p *plan) limit(c channel) channel {
	c.rx1Power, c.rx2Power = p.powerAt(c.rx1), p.powerAt(c.rx2)
	c.rx1Duty, c.rx2Duty = p.dutyCycle(c.rx1), p.dutyCycle(c.rx2)
	return c
}

// powerAt gives the EIRP to send with, 0 dBm where the plan says nothing.
func (p *plan) powerAt(f Hz) int8 {
	for _, at := range p.power {
		if at.from <= f && f <= at.to {
			return at.dBm
		}
	}
	return 0
}

// everywhere is one power for the whole band.
func everywhere(dBm, most int8) []power { return []power{{0, 1<<32 - 1, dBm, most}} }
