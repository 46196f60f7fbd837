package linkwan

import (
	"slices"

	"joingate/band"
)

// BandPlan is what the API needs to know of a frequency band plan group.
type BandPlan struct {
	ID             band.GroupID
	RegionID       string // FrequencyRegionId: CN for Link WAN's groups, also for 201 (sic)
	SameFrequency  bool   // up and down on the same frequencies
	BeginMHz       int64
	EndMHz         int64
	DataRates      []band.DataRate // that a permission's DataRate may take
	DefaultRX2Rate band.DataRate   // of a permission that leaves DataRate out
}

// bandPlans holds the groups in order of their ids.
type bandPlans []BandPlan

func newBandPlans(plans []BandPlan) bandPlans {
	sorted := slices.Clone(plans)
	slices.SortFunc(sorted, func(a, b BandPlan) int { return int(a.ID - b.ID) })
	return sorted
}

func (b bandPlans) find(id band.GroupID) (BandPlan, bool) {
	for _, plan := range b {
		if plan.ID == id {
			return plan, true
		}
	}
	return BandPlan{}, false
}

// freqBandPlanGroup is the wire form of a BandPlan.
type freqBandPlanGroup struct {
	GroupId           int64
	FrequencyRegionId string
	FrequencyType     string
	BeginFrequency    int64
	EndFrequency      int64
}

func (p BandPlan) wire() freqBandPlanGroup {
	kind := "DIFF_FREQUENCY"
	if p.SameFrequency {
		kind = "SAME_FREQUENCY"
	}
	return freqBandPlanGroup{int64(p.ID), p.RegionID, kind, p.BeginMHz, p.EndMHz}
}

func listFreqBandPlanGroups(c call, _ Tx) (any, error) {
	return each(c.bands, BandPlan.wire), nil
}

func getFreqBandPlanGroup(c call, _ Tx) (any, error) {
	plan, known := c.bands.find(band.GroupID(c.integer("GroupId")))
	if !known {
		return nil, fail("NonExistent")
	}
	return plan.wire(), nil
}
