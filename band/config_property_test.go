package band_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"joingate/band"
)

// drawConfig makes a group that is right in most fields and wrong in some.
func drawConfig(r *rapid.T, standard []*band.Group) (band.Config, *band.Group) {
	base := rapid.SampledFrom(standard).Draw(r, "base")
	d := base.Describe()
	some := func(label string) band.Hz {
		c := rapid.SampledFrom(d.JoinChannels).Draw(r, label)
		return rapid.SampledFrom([]band.Hz{c.Frequency, c.Frequency + 200_000, c.RX2.Frequency, 1}).Draw(r, label)
	}
	maybe := func(label string) bool { return rapid.Bool().Draw(r, label) }
	dr := func(label string) *band.DataRate {
		if !maybe(label) {
			return nil
		}
		dr := band.DataRate(rapid.IntRange(0, 16).Draw(r, label))
		return &dr
	}
	c := band.Config{ID: band.FirstOwnGroup, Name: "own", Base: base.Name}
	for range rapid.IntRange(0, 3).Draw(r, "channels") {
		channel := band.ChannelConfig{Frequency: some("frequency"), MinDataRate: dr("min"), MaxDataRate: dr("max")}
		if maybe("rx1") {
			channel.RX1Frequency = some("rx1")
		}
		c.Channels = append(c.Channels, channel)
	}
	if maybe("rx2") {
		c.RX2 = &band.RX2Config{Frequency: some("rx2"), DataRate: dr("rx2 data rate")}
	}
	if maybe("cf_list") {
		on := maybe("enabled")
		c.CFList = &band.CFListConfig{
			Enabled:     &on,
			Frequencies: rapid.SliceOfN(rapid.SampledFrom([]band.Hz{0, some("list"), 867_100_000}), 0, 2).Draw(r, "frequencies"),
			Channels:    rapid.SliceOfN(rapid.IntRange(-1, 96), 0, 3).Draw(r, "numbers"),
		}
	}
	if maybe("dwell") {
		off := false
		c.DwellLimit = &off
	}
	if maybe("power") {
		power := int8(rapid.IntRange(-1, 37).Draw(r, "power"))
		c.PowerDBm = &power
	}
	return c, base
}

// Whatever is accepted answers soundly: no window out of the region, at no data
// rate it lacks, and never none.
func TestAcceptedConfigsAnswerSoundly(t *testing.T) {
	standard := band.Standard()
	accepted := 0
	rapid.Check(t, func(r *rapid.T) {
		c, base := drawConfig(r, standard.All())
		gs, err := standard.With(c)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "band plan group 10000: ") {
				r.Fatalf("error without a group: %v", err)
			}
			return
		}
		accepted++
		g, plan := find(t, gs, c.ID), base.Plan()
		var limit time.Duration
		if isAS923(base) && c.DwellLimit == nil {
			limit = 400 * time.Millisecond
		}
		checkSound(t, g, band.Hz(plan.BeginFrequency)*1_000_000, band.Hz(plan.EndFrequency)*1_000_000, limit)
		if t.Failed() {
			r.Fatalf("config %+v", c)
		}
	})
	if accepted == 0 {
		t.Error("no configuration was accepted")
	}
}
