package band

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode"
)

// FirstOwnGroup is the lowest id of a group that an operator makes.
const FirstOwnGroup GroupID = 10_000

// Config makes a group of the operator's own, or changes a built-in one. What is
// left out stays as the base, or the built-in group, has it.
//
// A built-in group can be changed in CFList, RX1DROffset, PowerDBm and
// DwellLimit, and groups 101 and 102 in the data rate of RX2.
type Config struct {
	// ID is 10000 or more for a group of one's own, or that of a built-in group.
	ID GroupID `toml:"id"`
	// Name is 1 to 64 printable characters that no other group has.
	Name string `toml:"name"`
	// Base names the group from which a group of one's own starts: its region,
	// data rates and all that is not given here. Required for these.
	Base string `toml:"base"`
	// Channels are the join channels, instead of all those of the base. Where the
	// base numbers its channels as its CFList does (US915, AU915, CN470-RP1), the
	// CFList announces the ones chosen.
	Channels []ChannelConfig `toml:"channels"`
	// CFList is what the join-accept announces.
	CFList *CFListConfig `toml:"cf_list"`
	// RX2 is the second window of the join. Devices wait where their firmware
	// says until they have joined, so this must be what they are built to. It is
	// not the window after the join: that is the permission's DataRate.
	RX2 *RX2Config `toml:"rx2"`
	// RX1DROffset is set in DLSettings, for the time after the join. At most 3 in
	// US915, 7 in AS923 and IN865, 5 elsewhere. Default 0.
	RX1DROffset *uint8 `toml:"rx1_dr_offset"`
	// PowerDBm is the EIRP of the gateway in both windows, 0 or more. On a
	// frequency where less is allowed it is lowered to that.
	PowerDBm *int8 `toml:"power_dbm"`
	// DwellLimit false lifts the limit on the length of a downlink (400 ms in
	// AS923, 1 s in RP002's CN470 plans), where the country has none.
	DwellLimit *bool `toml:"dwell_limit"`
	// DutyCycle false lifts the duty cycles of the gateways (EU868, EU433), where the
	// country has none, or the gateways listen before they talk. Groups of one's own
	// only. Default true.
	DutyCycle *bool `toml:"duty_cycle"`
}

// ChannelConfig is one join channel.
type ChannelConfig struct {
	// Frequency of the join-request, Hz.
	Frequency Hz `toml:"frequency"`
	// MinDataRate and MaxDataRate bound what is accepted. Default: as the base
	// has it on this channel, or on its first one.
	MinDataRate *DataRate `toml:"min_data_rate"`
	MaxDataRate *DataRate `toml:"max_data_rate"`
	// RX1Frequency, Hz. Default: as the base answers this channel. Required for a
	// channel that the base lacks, unless the base answers on the same frequency.
	RX1Frequency Hz `toml:"rx1_frequency"`
}

// CFListConfig is off, or the group's own list, or one of the two here: which
// one depends on the region.
type CFListConfig struct {
	// Enabled false sends no CFList. Default true.
	Enabled *bool `toml:"enabled"`
	// Frequencies are one to five uplink channels, Hz, in the regions that
	// announce frequencies (type 0).
	Frequencies []Hz `toml:"frequencies"`
	// Channels are the numbers of the channels that are on, in the regions that
	// announce a mask (type 1: US915, AU915, CN470).
	Channels []int `toml:"channels"`
}

// RX2Config is the second window of the join.
type RX2Config struct {
	Frequency Hz        `toml:"frequency"` // Hz; groups of one's own only
	DataRate  *DataRate `toml:"data_rate"`
}

// With returns these groups and the operator's, with the changes to built-in
// ones. The receiver stays as it is. The error names every field that is wrong,
// as "band plan group 10000: rx2.data_rate: …", one to a line.
func (gs *Groups) With(own ...Config) (*Groups, error) {
	groups, names := maps.Clone(gs.byID), map[string]GroupID{}
	for _, g := range gs.ordered {
		names[g.Name] = g.ID
	}
	var problems []error
	configured := map[GroupID]bool{}
	for _, c := range own {
		d := gs.draft(c)
		if configured[c.ID] {
			d.wrong("id", "is given to two groups")
		}
		configured[c.ID] = true
		if id, taken := names[d.plan.name]; taken && id != c.ID {
			d.wrong("name", "%q is the name of group %d", c.Name, id)
		} else if d.plan.name != "" {
			names[d.plan.name] = c.ID
		}
		if problems = append(problems, d.problems...); d.problems == nil {
			groups[c.ID] = newGroup(d.plan)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return newGroups(slices.Collect(maps.Values(groups))), nil
}

// draft is a plan while a Config is applied to it.
type draft struct {
	plan     plan
	base     *Group
	problems []error
}

func (d *draft) wrong(field, format string, args ...any) {
	d.problems = append(d.problems, fmt.Errorf("band plan group %d: %s: %s", d.plan.id, field, fmt.Sprintf(format, args...)))
}

func (gs *Groups) draft(c Config) *draft {
	d := &draft{plan: plan{id: c.ID, name: c.Name}}
	if c.ID < FirstOwnGroup {
		d.base = gs.byID[c.ID]
		if d.base == nil {
			d.wrong("id", "is no built-in group; those of your own start at %d", FirstOwnGroup)
			return d
		}
		d.refuseForBuiltIn(c)
	} else if d.base = gs.named(c.Base); d.base == nil {
		d.wrong("base", "%q is no group; take one such as EU868, US915-FSB2 or AS923-1", c.Base)
		return d
	}
	d.plan = d.base.plan
	if c.ID >= FirstOwnGroup {
		d.plan.id, d.plan.name = c.ID, c.Name
		d.checkName(c.Name)
	}
	d.setDwellLimit(c.DwellLimit)
	d.setDutyCycle(c.DutyCycle)
	d.setChannels(c.Channels, c.RX2)
	d.setRX2(c.RX2)
	d.setCFList(c.CFList)
	d.setRX1DROffset(c.RX1DROffset)
	d.setPower(c.PowerDBm)
	return d
}

func (gs *Groups) named(name string) *Group {
	i := slices.IndexFunc(gs.ordered, func(g *Group) bool { return g.Name == name })
	if i < 0 {
		return nil
	}
	return gs.ordered[i]
}

// refuseForBuiltIn names what a built-in group has to keep, so that its id means
// the same to devices and gateways everywhere.
func (d *draft) refuseForBuiltIn(c Config) {
	const advice = "cannot be changed in a built-in group; make one of your own with base = %q"
	name := d.base.Name
	if c.Name != "" {
		d.wrong("name", advice, name)
	}
	if c.Base != "" {
		d.wrong("base", advice, name)
	}
	if c.Channels != nil {
		d.wrong("channels", advice, name)
	}
	if c.DutyCycle != nil {
		d.wrong("duty_cycle", advice, name)
	}
	if c.RX2 != nil && c.RX2.Frequency != 0 {
		d.wrong("rx2.frequency", advice, name)
	}
	if c.RX2 != nil && c.RX2.DataRate != nil && !d.base.plan.tunableRX2 {
		d.wrong("rx2.data_rate", advice, name)
	}
}

func (d *draft) checkName(name string) {
	if n := len([]rune(name)); n == 0 || n > 64 {
		d.wrong("name", "has %d characters, want 1 to 64", n)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			d.wrong("name", "%q has a character that does not print", name)
			return
		}
	}
}

func (d *draft) setDwellLimit(limit *bool) {
	if limit != nil && !*limit {
		d.plan.dwell = 0
	}
}

func (d *draft) setDutyCycle(limit *bool) {
	if limit != nil && !*limit {
		d.plan.duty = nil
	}
}

func (d *draft) setRX2(c *RX2Config) {
	if c == nil {
		return
	}
	// Only the rows at the group's own data rate: the RP002 plan 20B channels of
	// group 101 are not those that the setting is about.
	moves := d.plan.rx2DR
	d.plan.joins = slices.Clone(d.plan.joins)
	if c.Frequency != 0 {
		d.checkFrequency("rx2.frequency", c.Frequency)
	}
	if c.DataRate != nil {
		d.checkJoinAcceptRate("rx2.data_rate", *c.DataRate)
	}
	for i := range d.plan.joins {
		r := &d.plan.joins[i]
		if c.Frequency != 0 {
			r.rx2 = c.Frequency
		}
		if c.DataRate != nil && r.rx2DR == moves {
			r.rx2DR = *c.DataRate
		}
	}
}

// checkJoinAcceptRate wants a LoRa downlink rate that carries a join-accept
// within the dwell limit: a group whose RX2 is never offered would leave joins
// unanswered.
func (d *draft) checkJoinAcceptRate(field string, dr DataRate) {
	switch {
	case !d.plan.rates.downlink(dr) || d.plan.rates[dr].kind != "LORA":
		d.wrong(field, "%s has no LoRa downlink data rate %d", d.plan.region, dr)
	case !d.plan.carries(d.plan.rates[dr].modulation, joinAcceptOctets):
		d.wrong(field, "a join-accept at data rate %d lasts longer than %s", dr, d.plan.dwell)
	}
}

func (d *draft) setRX1DROffset(offset *uint8) {
	if offset == nil {
		return
	}
	if *offset > d.plan.maxOffset {
		d.wrong("rx1_dr_offset", "is %d; %s has 0 to %d", *offset, d.plan.region, d.plan.maxOffset)
	}
	d.plan.offset = *offset
}

func (d *draft) setPower(dBm *int8) {
	if dBm == nil {
		return
	}
	d.plan.power = slices.Clone(d.plan.power)
	most := int8(0)
	for i := range d.plan.power {
		at := &d.plan.power[i]
		most = max(most, at.max)
		at.dBm = min(*dBm, at.max)
	}
	if *dBm < 0 || *dBm > most {
		d.wrong("power_dbm", "is %d; %s allows 0 to %d dBm EIRP", *dBm, d.plan.region, most)
	}
}

func (d *draft) checkFrequency(field string, f Hz) {
	low, high := d.plan.limits[0], d.plan.limits[1]
	if int64(f) < low*1_000_000 || int64(f) > high*1_000_000 {
		d.wrong(field, "%s is outside of the %d to %d MHz of %s", f, low, high, d.plan.region)
	}
}
