package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"joingate/band"
	"joingate/joinserver"
	"joingate/sim"
)

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
