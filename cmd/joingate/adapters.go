package main

import (
	"context"

	"joingate/band"
	"joingate/joinserver"
	"joingate/linkwan"
	"joingate/record"
)

// adminRecord gives the record to the admin API: the two folders do not know
// each other.
type adminRecord struct{ *record.Record }

func (r adminRecord) View(ctx context.Context, fn func(linkwan.Tx) error) error {
	return r.Record.View(ctx, func(tx *record.Tx) error { return fn(tx) })
}

func (r adminRecord) Update(ctx context.Context, w joinserver.Write, fn func(linkwan.Tx) error) error {
	return r.Record.Update(ctx, w, func(tx *record.Tx) error { return fn(tx) })
}

// bandPlans tells the admin API what it needs of the band plan groups.
func bandPlans(groups *band.Groups) []linkwan.BandPlan {
	var plans []linkwan.BandPlan
	for _, g := range groups.All() {
		plan := g.Plan()
		plans = append(plans, linkwan.BandPlan{
			ID: g.ID, RegionID: plan.FrequencyRegionId, SameFrequency: plan.FrequencyType == "SAME_FREQUENCY",
			BeginMHz: plan.BeginFrequency, EndMHz: plan.EndFrequency,
			DataRates: downlinkRates(g), DefaultRX2Rate: g.RX2DataRate(),
		})
	}
	return plans
}

func downlinkRates(g *band.Group) (rates []band.DataRate) {
	for dr := band.DataRate(0); dr <= 15; dr++ {
		if g.DownlinkDataRate(dr) {
			rates = append(rates, dr)
		}
	}
	return rates
}
