package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"joingate/band"
	"joingate/sim"
)

// A device of each version joins in each group, on each join channel that it has
// and at each of its data rates, in each window that is offered.
func TestDevicesJoinInEveryBandPlanGroup(t *testing.T) {
	t.Parallel()
	groups, cases := band.Standard(), bandCases()
	var tally bandTally
	t.Run("groups", func(t *testing.T) {
		for i, g := range groups.All() {
			if i >= len(cases) || cases[i].id != g.ID || cases[i].name != g.Name {
				t.Fatalf("group %d %s has no case here", g.ID, g.Name)
			}
			t.Run(g.Name, func(t *testing.T) {
				t.Parallel()
				for _, version := range bandVersions {
					cases[i].trial(t, groups, version, &tally).joinEverywhere()
				}
			})
		}
	})
	t.Logf("%d joins in %d groups, accepted in %d windows", tally.joins.Load(), len(cases), tally.windows.Load())
}

func (tr *bandTrial) joinEverywhere() {
	tr.Helper()
	for _, c := range tr.twins[0].Region().JoinChannels() {
		for _, ago := range []time.Duration{0, pastRX1} {
			tr.nextSettings()
			tr.join(tr.ask(c), ago, tr.expects(c.DataRate, tr.version, ago > 0))
		}
	}
}

// A device that is not held to 400 ms joins at DR0 or DR1, too, and finds its
// answer in RX2, which is at DR2 in every AS923 device. The simulated ones keep
// to 400 ms: they ask at DR2, and the gateway says that it was slower.
func TestSlowJoinsInAS923(t *testing.T) {
	t.Parallel()
	var tally bandTally
	for _, c := range bandCases() {
		if !c.brief {
			continue
		}
		for _, version := range bandVersions {
			tr := c.trial(t, band.Standard(), version, &tally)
			for _, f := range c.keeps {
				for dr := range 2 {
					tr.nextSettings()
					up := tr.ask(sim.Channel{Frequency: f, DataRate: 2})
					up.SpreadingFactor = 12 - dr
					tr.join(up, 0, c.expects(dr, version, false))
				}
			}
		}
	}
	t.Logf("%d joins", tally.joins.Load())
}

// RP002 devices in the groups of Link WAN (doc/bands.md, section "Link WAN").
// They know no DR0, so that the permission has to set DataRate.
func TestRP002DevicesInLinkWANGroups(t *testing.T) {
	t.Parallel()
	dr1 := band.DataRate(1)
	tuned, err := band.Standard().With(band.Config{ID: 102, RX2: &band.RX2Config{DataRate: &dr1}})
	check(t, err)
	var tally bandTally
	for _, c := range []struct {
		name    string
		groups  *band.Groups
		id      band.GroupID
		region  string
		unheard bool
	}{
		{"20B in 101", band.Standard(), 101, "CN470-20B", false},
		{"20A in 102", band.Standard(), 102, "CN470-20A", true},
		{"20A in 102 with RX2 at DR1", tuned, 102, "CN470-20A", false},
	} {
		for _, version := range bandVersions {
			t.Run(c.name+" "+version, func(t *testing.T) {
				tr := bandCase{id: c.id, region: c.region}.trial(t, c.groups, version, &tally)
				tr.rates = tr.rates[2:] // neither none nor 0
				for _, channel := range tr.twins[0].Region().JoinChannels() {
					tr.nextSettings()
					tr.join(tr.ask(channel), 0, expectation{rx1: true, rx2: true, unheard: c.unheard})
				}
			})
		}
	}
	t.Logf("%d joins", tally.joins.Load())
}

// Where a group accepts more than its own devices send.
func acceptedBeyondDevices() map[string][]string {
	// doc/bands.md, section "AS923": the specification expects DR2 to DR5, as the
	// uplink of a device may last 400 ms; where it may last longer, DR0 and DR1
	// serve. TestSlowJoinsInAS923.
	more := map[string][]string{}
	for _, c := range bandCases() {
		for _, f := range c.keeps {
			if c.brief {
				more[c.name] = append(more[c.name], f.String()+" SF12BW125", f.String()+" SF11BW125")
			}
		}
	}
	// doc/bands.md, section "Link WAN": the join channels of RP002 plan 20B, which
	// no Link WAN node has. TestRP002DevicesInLinkWANGroups.
	for _, f := range mhz(479.9, 499.9) {
		for sf := 7; sf <= 11; sf++ {
			more["CN470-SAME"] = append(more["CN470-SAME"], fmt.Sprintf("%s SF%dBW125", f, sf))
		}
	}
	return more
}

// The join channels of devices and server come from two sources. Neither has one
// that the other lacks, but for the differences above.
func TestDevicesAndGroupsHaveTheSameJoinChannels(t *testing.T) {
	t.Parallel()
	groups := band.Standard()
	beyond := acceptedBeyondDevices()
	for _, c := range bandCases() {
		group, ok := groups.Find(c.id)
		if !ok {
			t.Fatalf("there is no group %d", c.id)
		}
		d := newDevice(1, "1.0.2")
		d.region = c.region
		devices, server := joinsOfDevice(t, d.switchOn(t)), joinsOfGroup(group)
		for _, j := range devices {
			if !slices.Contains(server, j) {
				t.Errorf("%s: devices join on %s, the group does not have it", c.name, j)
			}
		}
		extra := slices.DeleteFunc(server, func(j string) bool { return slices.Contains(devices, j) })
		want := beyond[c.name]
		slices.Sort(extra)
		slices.Sort(want)
		if !slices.Equal(extra, want) {
			t.Errorf("%s: the group has %q that devices lack, known is %q", c.name, extra, want)
		}
	}
}

func joinsOfDevice(t *testing.T, d *sim.Device) (all []string) {
	t.Helper()
	for _, c := range d.Region().JoinChannels() {
		up, err := d.JoinRequestOn(c)
		check(t, err)
		all = append(all, fmt.Sprintf("%s %s", up.Frequency, up.Modulation))
	}
	return all
}

// joinsOfGroup asks on every frequency of the group at every LoRa modulation.
func joinsOfGroup(g *band.Group) (all []string) {
	for _, c := range g.Describe().JoinChannels {
		for _, bandwidth := range []band.Hz{125_000, 250_000, 500_000, 812_000} {
			for sf := uint8(5); sf <= 12; sf++ {
				if m := (band.Modulation{SpreadingFactor: sf, Bandwidth: bandwidth}); g.JoinChannel(c.Frequency, m) {
					all = append(all, fmt.Sprintf("%s %s", c.Frequency, m))
				}
			}
		}
	}
	return all
}
