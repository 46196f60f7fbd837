package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/record"
	"joingate/sim"
)

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
