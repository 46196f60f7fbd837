package band

import (
	"fmt"
	"slices"
)

func (d *draft) setChannels(configs []ChannelConfig, rx2 *RX2Config) {
	if len(configs) == 0 {
		return
	}
	d.announceChosen(configs)
	var rows []row
	seen := map[Hz]bool{}
	for i, c := range configs {
		field := fmt.Sprintf("channels[%d]", i)
		if seen[c.Frequency] {
			d.wrong(field+".frequency", "%s is there twice", c.Frequency)
		}
		seen[c.Frequency] = true
		d.checkFrequency(field+".frequency", c.Frequency)
		r := d.start(field, c, rx2 != nil && rx2.Frequency != 0)
		d.setDataRates(field, &r, c)
		if c.RX1Frequency != 0 {
			d.checkFrequency(field+".rx1_frequency", c.RX1Frequency)
			r.down = comb{first: c.RX1Frequency, count: 1}
		}
		rows = append(rows, r)
	}
	d.plan.joins = rows
}

// start gives the base's row for a frequency, or one like its first. That needs
// to be told what does not follow from the base: RX1 where it lies elsewhere,
// RX2 where it depends on the channel.
func (d *draft) start(field string, c ChannelConfig, rx2Given bool) row {
	for _, r := range d.plan.joins {
		for i := range r.up.count {
			if r.up.at(i) == c.Frequency {
				return row{up: r.up.part(i, 1), dr: r.dr, down: comb{first: r.rx1(i), count: 1}, rx2: r.rx2, rx2DR: r.rx2DR}
			}
		}
	}
	first := d.plan.joins[0]
	if first.down.count > 0 && c.RX1Frequency == 0 {
		d.wrong(field+".rx1_frequency", "is missing: %s is no channel of %s, which answers on another frequency", c.Frequency, d.base.Name)
	}
	if !rx2Given && slices.ContainsFunc(d.plan.joins, func(r row) bool { return r.rx2 != first.rx2 }) {
		d.wrong("rx2.frequency", "is missing: %s is no channel of %s, whose RX2 depends on the channel", c.Frequency, d.base.Name)
	}
	return row{up: comb{first: c.Frequency, count: 1}, dr: first.dr, rx2: first.rx2, rx2DR: first.rx2DR}
}

func (d *draft) setDataRates(field string, r *row, c ChannelConfig) {
	if c.MinDataRate != nil {
		r.dr.low = *c.MinDataRate
	}
	if c.MaxDataRate != nil {
		r.dr.high = *c.MaxDataRate
	}
	if r.dr.low > r.dr.high {
		d.wrong(field+".max_data_rate", "is %d, below the lowest, %d", r.dr.high, r.dr.low)
	}
	if bad := slices.IndexFunc([]DataRate{r.dr.low, r.dr.high}, func(dr DataRate) bool { return !d.joinable(dr) }); bad >= 0 {
		name := []string{".min_data_rate", ".max_data_rate"}[bad]
		d.wrong(field+name, "%s has no join at data rate %d", d.plan.region, []DataRate{r.dr.low, r.dr.high}[bad])
	}
}

// joinable reports whether a join can be sent at dr: LoRa, and with an RX1.
func (d *draft) joinable(dr DataRate) bool {
	p := &d.plan
	return int(dr) < len(p.rates) && p.rates[dr].up && p.rates[dr].kind == "LORA" && p.rates.downlink(p.rx1DR[dr])
}

// announceChosen narrows a mask that has one channel for each join channel of
// the base to the channels chosen, so that devices stay on what is received.
func (d *draft) announceChosen(configs []ChannelConfig) {
	numbers := d.plan.numbers()
	if numbers == nil {
		return
	}
	var chosen []int
	for _, c := range configs {
		if n, ok := numbers[c.Frequency]; ok {
			chosen = append(chosen, n)
		}
	}
	d.plan.list.channels = chosen
}

// numbers gives the CFList's number of each join channel, in the regions where
// joins use the same channels as data; nil in the others. Such a plan lists its
// join channels in the order of its mask.
func (p *plan) numbers() map[Hz]int {
	numbers := map[Hz]int{}
	for _, r := range p.joins {
		for i := range r.up.count {
			if at := len(numbers); at < len(p.list.channels) {
				numbers[r.up.at(i)] = p.list.channels[at]
			} else {
				return nil
			}
		}
	}
	if len(numbers) != len(p.list.channels) {
		return nil
	}
	return numbers
}

func (d *draft) setCFList(c *CFListConfig) {
	if c == nil {
		return
	}
	own := len(c.Frequencies) > 0 || len(c.Channels) > 0
	switch {
	case c.Enabled != nil && !*c.Enabled:
		if own {
			d.wrong("cf_list.enabled", "is false, but there is a list")
		}
		d.plan.list.frequencies, d.plan.list.channels = nil, nil
	case own:
		d.checkFrequencies(c.Frequencies)
		d.checkMask(c.Channels)
		d.plan.list.frequencies, d.plan.list.channels = slices.Clone(c.Frequencies), slices.Clone(c.Channels)
	case d.plan.list.encode() == nil:
		field := "cf_list.frequencies"
		if d.plan.list.masks() {
			field = "cf_list.channels"
		}
		d.wrong(field, "is missing: %s has no list of its own", d.base.Name)
	}
}

func (d *draft) checkFrequencies(list []Hz) {
	if len(list) > 0 && d.plan.list.masks() {
		d.wrong("cf_list.frequencies", "%s announces channel numbers; give cf_list.channels", d.plan.region)
		return
	}
	if len(list) > cfListFrequencies {
		d.wrong("cf_list.frequencies", "has %d, a CFList holds %d", len(list), cfListFrequencies)
	}
	for i, f := range list {
		field := fmt.Sprintf("cf_list.frequencies[%d]", i)
		d.checkFrequency(field, f)
		if f%d.plan.list.unit != 0 {
			d.wrong(field, "%s is no multiple of %d Hz", f, d.plan.list.unit)
		}
		if slices.Contains(list[:i], f) {
			d.wrong(field, "%s is there twice", f)
		}
	}
}

func (d *draft) checkMask(list []int) {
	if len(list) > 0 && !d.plan.list.masks() {
		d.wrong("cf_list.channels", "%s announces frequencies; give cf_list.frequencies", d.plan.region)
		return
	}
	for i, c := range list {
		field := fmt.Sprintf("cf_list.channels[%d]", i)
		if c < 0 || c >= d.plan.list.size {
			d.wrong(field, "is %d; %s has 0 to %d", c, d.plan.region, d.plan.list.size-1)
		}
		if slices.Contains(list[:i], c) {
			d.wrong(field, "%d is there twice", c)
		}
	}
}
