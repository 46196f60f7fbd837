package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"joingate/band"
	"joingate/config"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/record"
	"joingate/sim"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
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

// joinDesk is the product's join handler over one policy, with a record that
// only counts, and a clock that stands.
type joinDesk struct {
	policy  joinserver.Policy
	gateway joinserver.Gateway
	handler *joinserver.Handler
	now     time.Time
	granted uint32
}

func newJoinDesk(t testing.TB, groups *band.Groups, id band.GroupID, d device) *joinDesk {
	t.Helper()
	const owner joinserver.AccountID = 7
	node := nodeOf(t, d)
	k := &joinDesk{
		now:     time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		gateway: joinserver.Gateway{EUI: joinserver.EUI64{7: 1}, Owner: owner, Enabled: true, BandPlanGroup: id},
		policy: joinserver.Policy{
			Node:  joinserver.Node{DevEUI: node.DevEUI, Account: owner, Enabled: true, MACVersion: node.MACVersion, Keys: node.Keys},
			Group: joinserver.NodeGroup{ID: 1},
			Permission: joinserver.JoinPermission{
				ID: 1, Type: joinserver.Local, Owner: owner, Enabled: true, JoinEUI: joinEUIOf(t, d), BandPlanGroup: id, ClassMode: "A",
			},
		},
	}
	var err error
	k.handler, err = joinserver.NewHandler(joinserver.Config{
		Policies: k, Record: k, Joins: k, Bands: groups, NetID: joinserver.NetID{0, 0, 0x13}, Now: func() time.Time { return k.now },
	})
	check(t, err)
	return k
}

// nodeOf is a device as the record has it.
func nodeOf(t testing.TB, d device) (n record.NewNode) {
	t.Helper()
	var errs [4]error
	n.DevEUI, errs[0] = joinserver.ParseEUI64(d.eui.String())
	n.MACVersion, errs[1] = band.ParseMACVersion(d.version)
	n.Keys.App, errs[2] = keyring.ParseKey(d.appKey)
	if d.nwkKey != "" {
		n.Keys.Nwk, errs[3] = keyring.ParseKey(d.nwkKey)
	}
	check(t, errors.Join(errs[:]...))
	return n
}

func joinEUIOf(t testing.TB, d device) joinserver.EUI64 {
	t.Helper()
	eui, err := joinserver.ParseEUI64(d.joinEUI.String())
	check(t, err)
	return eui
}

func (k *joinDesk) Policy(context.Context, joinserver.EUI64) (joinserver.Policy, error) {
	return k.policy, nil
}

func (k *joinDesk) Gateways(context.Context, []joinserver.EUI64) ([]joinserver.Gateway, error) {
	return []joinserver.Gateway{k.gateway}, nil
}

func (k *joinDesk) Commit(_ context.Context, c joinserver.Claim) (joinserver.Grant, error) {
	k.granted++
	return joinserver.Grant{JoinNonce: k.granted, DevAddr: c.NetID.Address(k.granted)}, nil
}

// answer has the server answer a frame that came some time ago.
func (k *joinDesk) answer(ctx context.Context, up sim.Uplink, ago time.Duration) (joinserver.Downlink, error) {
	return k.handler.Join(ctx, joinserver.Uplink{PHYPayload: up.PHYPayload, Receptions: []joinserver.Reception{{
		Gateway: k.gateway.EUI, Received: k.now.Add(-ago), Frequency: band.Hz(up.Frequency), RSSI: -80, SNR: 7,
		Modulation: band.Modulation{SpreadingFactor: uint8(up.SpreadingFactor), Bandwidth: band.Hz(up.Bandwidth)},
	}}})
}

// pastRX1 is when RX1 can no longer be reached, and RX2 well can.
const pastRX1 = band.JoinAcceptDelay1 - 100*time.Millisecond

// bandTrial is a desk and two devices before it that are equal down to their
// DevNonces, so that one frame is of both: the first listens in RX1 only, the
// second in RX2 only, and each window of an answer is tried.
type bandTrial struct {
	*testing.T
	bandCase
	version string
	desk    *joinDesk
	twins   [2]*sim.Device
	tally   *bandTally

	rates []*band.DataRate // that the permission takes by turns
	rate  int              // expected of the one in force
	turn  int
}

// bandTally counts what was tried.
type bandTally struct{ joins, windows atomic.Int64 }

func (c bandCase) trial(t *testing.T, groups *band.Groups, version string, tally *bandTally) *bandTrial {
	t.Helper()
	d := newDevice(int(c.id), version).counting(0)
	d.region = c.region
	tr := &bandTrial{
		T: t, bandCase: c, version: version, desk: newJoinDesk(t, groups, c.id, d), tally: tally,
		twins: [2]*sim.Device{d.switchOn(t), d.switchOn(t)}, rates: []*band.DataRate{nil},
	}
	group, _ := groups.Find(c.id)
	for dr := range band.DataRate(16) {
		if group.DownlinkDataRate(dr) {
			tr.rates = append(tr.rates, &dr)
		}
	}
	return tr
}

// nextSettings takes the next RxDelay and DataRate that a permission may have.
func (tr *bandTrial) nextSettings() {
	tr.turn++
	permission := &tr.desk.policy.Permission
	permission.RxDelay = time.Duration(tr.turn%16) * time.Second
	permission.DataRate = tr.rates[tr.turn%len(tr.rates)]
	tr.rate = tr.bandCase.rate
	if permission.DataRate != nil {
		tr.rate = int(*permission.DataRate)
	}
}

// ask lets both twins ask with the same frame.
func (tr *bandTrial) ask(c sim.Channel) sim.Uplink {
	tr.Helper()
	up, err1 := tr.twins[0].JoinRequestOn(c)
	same, err2 := tr.twins[1].JoinRequestOn(c)
	check(tr, errors.Join(err1, err2))
	if !bytes.Equal(up.PHYPayload, same.PHYPayload) {
		tr.Fatalf("the twins ask with %x and %x", up.PHYPayload, same.PHYPayload)
	}
	return up
}

// join makes a join on a channel, or says what is wrong with it.
func (tr *bandTrial) join(up sim.Uplink, ago time.Duration, want expectation) {
	tr.Helper()
	down, err := tr.desk.answer(tr.Context(), up, ago)
	if err != nil {
		tr.Errorf("%s %s %s: %v", tr.version, up.Frequency, up.Modulation, err)
		return
	}
	tr.tally.joins.Add(1)
	route := down.Routes[0]
	err1 := tr.window(1, route.RX1, want.rx1, down, want.cfList)
	err2 := tr.window(2, route.RX2, want.rx2, down, want.cfList)
	switch {
	case !want.unheard:
	case errors.Is(err2, sim.ErrNotHeard):
		err2 = nil
	default:
		err2 = fmt.Errorf("RX2 should not be heard, but: %v", err2)
	}
	if err := errors.Join(err1, err2); err != nil {
		tr.Errorf("%s %s %s, %s ago: %v", tr.version, up.Frequency, up.Modulation, ago, err)
	}
}

// window tries one window of an answer: what is offered, and nothing else, is
// heard by the device, which reads what the policy says.
func (tr *bandTrial) window(number int, w band.Window, offered bool, down joinserver.Downlink, cfList bool) error {
	if is := w != (band.Window{}); is != offered {
		return fmt.Errorf("RX%d is offered: %t, want %t", number, is, offered)
	}
	if !offered {
		return nil
	}
	accept, err := tr.twins[number-1].Receive(sim.Downlink{
		PHYPayload: down.PHYPayload, Frequency: sim.Hz(w.Frequency), Inverted: true, Delay: w.Delay,
		Modulation: sim.Modulation{SpreadingFactor: int(w.Modulation.SpreadingFactor), Bandwidth: sim.Hz(w.Modulation.Bandwidth)},
	})
	if err != nil {
		return fmt.Errorf("RX%d: %w", number, err)
	}
	tr.tally.windows.Add(1)
	if err := tr.compare(accept, number, down.Grant, cfList); err != nil {
		return fmt.Errorf("RX%d: %w", number, err)
	}
	return nil
}

// compare holds what a device read against the policy and the commit.
func (tr *bandTrial) compare(accept sim.JoinAccept, window int, grant joinserver.Grant, cfList bool) error {
	type content struct {
		window, rxDelay, rate, offset int
		devAddr, netID                string
		joinNonce                     uint32
		optNeg, cfList                bool
	}
	got := content{
		accept.Window, accept.RxDelay, accept.DataRate, accept.RX1DROffset, accept.DevAddr, accept.NetID,
		accept.JoinNonce, accept.OptNeg, accept.CFList != "",
	}
	want := content{
		window, max(1, tr.turn%16), tr.rate, 0, grant.DevAddr.String(), "000013",
		grant.JoinNonce, tr.version == "1.1", cfList,
	}
	if got != want {
		return fmt.Errorf("the device read %+v, want %+v", got, want)
	}
	if channels := tr.uplinkChannels(cfList); channels != nil && !slices.Equal(accept.Channels, channels) {
		return fmt.Errorf("the device has channels %v, want %v", accept.Channels, channels)
	}
	return nil
}

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

// The detail of wrong_band_plan says where the device belongs.
func TestWrongBandPlanNamesTheGroupsThatFit(t *testing.T) {
	t.Parallel()
	at := func(f float64, dr int) sim.Channel { return sim.Channel{Frequency: mhz(f)[0], DataRate: dr} }
	for _, c := range []struct {
		permission band.GroupID
		region     string
		on         sim.Channel
		detail     string
	}{
		{1027, "CN470-26A", at(470.3, 2), "470.3 MHz SF10BW125 is no join channel of 1027 CN470-26B; " +
			"470.3 MHz is a join channel of 101 CN470-SAME, 102 CN470-DIFF, 1019 CN470-RP1, 1026 CN470-26A"},
		{1000, "KR920", at(922.1, 5), "922.1 MHz SF7BW125 is no join channel of 1000 EU868; 922.1 MHz is a join channel of 1003 KR920"},
		{1004, "EU868", at(868.3, 0), "868.3 MHz SF12BW125 is no join channel of 1004 RU864; 868.3 MHz is a join channel of 1000 EU868"},
		{1101, "US915-FSB2", at(904.6, 4), "904.6 MHz SF8BW500 is no join channel of 1101 US915-FSB1; " +
			"904.6 MHz is a join channel of 1100 US915, 1102 US915-FSB2"},
		{1020, "102", at(470.9, 0), "470.9 MHz SF12BW125 is no join channel of 1020 CN470-20A; " + // there is no DR0
			"470.9 MHz is a join channel of 101 CN470-SAME, 102 CN470-DIFF, 1019 CN470-RP1"},
		{1, "EU868", at(868.1, 0), "band plan group 1 of join permission 1 is not configured"},
	} {
		d := newDevice(1, "1.0.4").counting(0)
		d.region = c.region
		desk := newJoinDesk(t, band.Standard(), c.permission, d)
		up, err := d.switchOn(t).JoinRequestOn(c.on)
		check(t, err)
		if detail := desk.wrongBandPlan(t, up); detail != c.detail {
			t.Errorf("%q, want %q", detail, c.detail)
		}
	}
}

// The same for a device of every group, and for a frequency of none.
func TestWrongBandPlanInEveryBandPlanGroup(t *testing.T) {
	t.Parallel()
	for _, c := range bandCases() {
		other := band.GroupID(1000)
		if c.id == other {
			other = 1003
		}
		d := newDevice(1, "1.1").counting(0)
		d.region = c.region
		desk := newJoinDesk(t, band.Standard(), other, d)
		up, err := d.switchOn(t).JoinRequest()
		check(t, err)
		name := fmt.Sprintf("%d %s", c.id, c.name)
		if detail := desk.wrongBandPlan(t, up); !strings.HasSuffix(detail, name) && !strings.Contains(detail, name+",") {
			t.Errorf("a device of %s is told %q", name, detail)
		}
		up.Frequency += 1
		if detail := desk.wrongBandPlan(t, up); !strings.HasSuffix(detail, "nor of any other group") {
			t.Errorf("1 Hz beside the channel: %q", detail)
		}
	}
}

// wrongBandPlan sends a frame that has to be refused so, and gives the detail.
func (k *joinDesk) wrongBandPlan(t *testing.T, up sim.Uplink) string {
	t.Helper()
	_, err := k.answer(t.Context(), up, 0)
	var refused *joinserver.Rejection
	if !errors.As(err, &refused) || refused.Reason != joinserver.WrongBandPlan || k.granted != 0 {
		t.Fatalf("%s %s in group %d: %v, %d joins committed", up.Frequency, up.Modulation, k.gateway.BandPlanGroup, err, k.granted)
	}
	return refused.Detail
}

// One site in each group, with a device of each version, all at one server.
func TestDevicesJoinInEveryBandPlanGroupOverMQTT(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.DataDir = t.TempDir()
	c.MQTT.EmbeddedListen, c.API.Listen, c.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Join.CollectWindow = 10 * time.Millisecond
	s, err := startServer(t.Context(), c, zap.NewNop())
	check(t, err)
	t.Cleanup(func() { check(t, s.close()) })

	sites := bandSites()
	registerSites(t, s.record, sites)
	results := make([][]sim.Result, len(sites))
	var running errgroup.Group
	running.SetLimit(4) // a machine that is busy otherwise answers these in time
	for i, site := range sites {
		devices := switchAllOn(t, site.devices)
		running.Go(func() (err error) {
			results[i], err = sim.Simulate(t.Context(), sim.Options{
				Broker: s.brokerURL, QoS: 1, Devices: devices, GatewayEUIs: []sim.EUI{site.gateway}, Timeout: patience,
			})
			return err
		})
	}
	check(t, running.Wait())
	joins := 0
	for i, site := range sites {
		for j, r := range results[i] {
			if !r.Joined || r.RxDelay != 3 || r.DataRate != site.rate || r.CFList != "" && !slices.Equal(r.Channels, site.uplinkChannels(true)) {
				t.Errorf("%s, %s: %+v", site.name, site.devices[j].version, r)
			}
			joins++
		}
	}
	t.Logf("%d joins", joins)
}

// bandSite is one gateway and devices of one band plan group.
type bandSite struct {
	bandCase
	gateway sim.EUI
	devices []device
}

func bandSites() (sites []bandSite) {
	for _, c := range bandCases() {
		site := bandSite{bandCase: c, gateway: sim.EUI(0xb0000 + c.id)}
		for i, version := range bandVersions {
			d := newDevice(int(c.id)*10+i, version)
			d.region = c.region
			site.devices = append(site.devices, d)
		}
		sites = append(sites, site)
	}
	return sites
}

// registerSites writes to the record what the admin API would, which takes only
// five calls a second.
func registerSites(t *testing.T, r *record.Record, sites []bandSite) {
	t.Helper()
	var nodes []record.NewNode
	check(t, r.Update(t.Context(), operator("test"), func(tx *record.Tx) error {
		if _, err := createAccount(tx, "acme", ""); err != nil {
			return err
		}
		account, err := accountNamed(tx, "acme")
		if err != nil {
			return err
		}
		for _, site := range sites {
			permission, err1 := tx.InsertPermission(joinserver.Permission{
				JoinPermission: joinserver.JoinPermission{
					Type: joinserver.Local, Owner: account.ID, Enabled: true, JoinEUI: joinEUIOf(t, site.devices[0]),
					BandPlanGroup: site.id, ClassMode: "A", RxDelay: 3 * time.Second,
				},
				Name: site.name, AuthState: joinserver.Accepted, Renter: account.ID,
			})
			group, err2 := tx.InsertGroup(joinserver.Group{Account: account.ID, Name: site.name, PermissionID: permission})
			gateway, err3 := joinserver.ParseEUI64(site.gateway.String())
			if err := errors.Join(err1, err2, err3, addGateway(tx, gateway, "acme", site.id)); err != nil {
				return err
			}
			for _, d := range site.devices {
				n := nodeOf(t, d)
				n.Account, n.GroupID = account.ID, group
				nodes = append(nodes, n)
			}
		}
		return nil
	}))
	check(t, r.ImportNodes(t.Context(), operator("test"), nodes, func(int) {}))
}

// ownGroup has four narrow channels and the wide one of a US915 sub-band.
const ownGroup = `
[[band_plan_groups]]
id = 10000
name = "half of FSB2"
base = "US915-FSB2"
rx1_dr_offset = 2
channels = [
  { frequency = 903900000 }, { frequency = 904100000 }, { frequency = 904300000, max_data_rate = 2 }, { frequency = 904500000 },
  { frequency = 904600000 },
]
`

// An operator's own group: the commands show it, a permission can be of it, and
// devices join in it, on its channels and no others.
func TestOperatorsOwnBandPlanGroup(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m = m.with("JOINGATE_CONFIG=" + m.write("joingate.toml", ownGroup))
	m.run("config", "check")
	if out := m.run("band", "list"); !strings.Contains(out, "10000  half of FSB2  US915\n") {
		t.Errorf("band list:\n%s", out)
	}
	var shown band.Description
	check(t, json.Unmarshal([]byte(m.run("band", "show", "10000", "--json")), &shown))
	mask := "000f0000000000000200000000000001" // channels 8 to 11 and 65
	if len(shown.JoinChannels) != 5 || shown.CFList["1.0.4"] != mask || shown.CFList["1.0.2"] != "" {
		t.Errorf("band show: %d join channels, CFLists %v", len(shown.JoinChannels), shown.CFList)
	}

	d := m.serve()
	c := d.account("acme")
	if out := c.keys().run("call", "ListFreqBandPlanGroups"); !strings.Contains(out, "10000") {
		t.Errorf("ListFreqBandPlanGroups lacks the group: %s", out)
	}
	c.group("meters", c.permission("own_group", "10000", "RxDelay=4"))
	c.gateways("half of FSB2", gatewayA)
	meter := newDevice(1, "1.0.4")
	meter.region = "US915-FSB2"
	c.register("meters", meter)
	listening := newEar(t, d.broker)
	field, switchedOn := d.field(gatewayA), meter.switchOn(t)
	for _, channel := range []sim.Channel{{Frequency: 904_300_000, DataRate: 2}, {Frequency: 904_600_000, DataRate: 4}} {
		r, err := field.air.JoinOn(t.Context(), switchedOn, channel)
		check(t, err)
		if !r.Joined || r.RxDelay != 4 || r.DataRate != 8 || r.RX1DROffset != 2 || r.CFList != mask ||
			!slices.Equal(r.Channels, mhz(903.9, 904.1, 904.3, 904.5, 904.6)) {
			t.Errorf("%v: %+v", channel, r)
		}
	}

	refused := map[sim.Channel]string{
		{Frequency: 905_300_000, DataRate: 0}: "905.3 MHz SF10BW125 is no join channel of 10000 half of FSB2; 905.3 MHz is a join channel of 1100 US915, 1102 US915-FSB2",
		{Frequency: 904_300_000, DataRate: 3}: "904.3 MHz SF7BW125 is no join channel of 10000 half of FSB2; 904.3 MHz is a join channel of 1100 US915, 1102 US915-FSB2",
	}
	for channel, detail := range refused {
		up, err := switchedOn.JoinRequestOn(channel)
		check(t, err)
		field.hears(gatewayA, up)
		eventually(t, "event and log say "+detail, func() bool {
			told := slices.ContainsFunc(listening.heard("/event/reject"), func(m message) bool {
				var event struct{ Reason, Detail string }
				return json.Unmarshal(m.payload, &event) == nil && event.Reason == "wrong_band_plan" && event.Detail == detail
			})
			return told && slices.ContainsFunc(d.logged("join refused"), func(l logLine) bool {
				return l.Reason == "wrong_band_plan" && l.Detail == detail
			})
		})
	}
}

// A mistake in a group of one's own is named with its field.
func TestConfigCheckNamesTheFieldOfABandPlanGroup(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for i, c := range []struct{ old, new, says string }{
		{"id = 10000", "id = 5000", "band plan group 5000: id: "},
		{`"half of FSB2"`, `"EU868"`, `band plan group 10000: name: "EU868" is the name of group 1000`},
		{`"US915-FSB2"`, `"US915-FSB9"`, `band plan group 10000: base: "US915-FSB9" is no group`},
		{"rx1_dr_offset = 2", "rx1_dr_offset = 4", "band plan group 10000: rx1_dr_offset: is 4; US915 has 0 to 3"},
		{"rx1_dr_offset = 2", "power_dbm = 40", "band plan group 10000: power_dbm: "},
		{"rx1_dr_offset = 2", "rx2 = { data_rate = 0 }", "band plan group 10000: rx2.data_rate: "},
		{"rx1_dr_offset = 2", "cf_list = { channels = [72] }", "band plan group 10000: cf_list.channels[0]: "},
		{"904100000", "868100000", "band plan group 10000: channels[1].frequency: 868.1 MHz is outside of the 902 to 928 MHz of US915"},
		{"max_data_rate = 2", "max_data_rate = 9", "band plan group 10000: channels[2].max_data_rate: "},
		{"rx1_dr_offset = 2", "rx1_offset = 2", "rx1_offset"},
		{"id = 10000", `id = "ten thousand"`, "id"},
	} {
		text := strings.Replace(ownGroup, c.old, c.new, 1)
		path := m.write(fmt.Sprintf("%d.toml", i), text)
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), []string{"config", "check", "--config", path}, m.environ, &stdout, &stderr)
		if status != 1 || stdout.Len() > 0 || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%s: exit status %d, %q, %q; want %q", c.new, status, stdout.String(), stderr.String(), c.says)
		}
	}
}
