package band

import (
	"cmp"
	"slices"
)

// Groups are the band plan groups in force. They do not change; With makes new
// ones.
type Groups struct {
	ordered []*Group
	byID    map[GroupID]*Group
}

// Standard gives all built-in groups.
func Standard() *Groups {
	plans := slices.Concat(linkWAN(), dynamicRegions(), as923Regions(), cn470Plans(), us915Plans(), au915Plans())
	groups := make([]*Group, len(plans))
	for i, p := range plans {
		groups[i] = newGroup(p)
	}
	return newGroups(groups)
}

// newGroups orders by id, which puts Link WAN's own 101, 102 and 201 first.
func newGroups(groups []*Group) *Groups {
	slices.SortFunc(groups, func(a, b *Group) int { return cmp.Compare(a.ID, b.ID) })
	gs := &Groups{ordered: groups, byID: make(map[GroupID]*Group, len(groups))}
	for _, g := range groups {
		gs.byID[g.ID] = g
	}
	return gs
}

// Find returns the group of this id.
func (gs *Groups) Find(id GroupID) (*Group, bool) {
	g, ok := gs.byID[id]
	return g, ok
}

// All returns the groups: 101, 102 and 201, then the others by id.
func (gs *Groups) All() []*Group { return slices.Clone(gs.ordered) }

// Fitting returns the groups of which this is a join channel, in the order of
// All. It tells an operator which group a device belongs to whose joins are
// refused as wrong_band_plan.
func (gs *Groups) Fitting(f Hz, m Modulation) []*Group {
	var fitting []*Group
	for _, g := range gs.ordered {
		if g.JoinChannel(f, m) {
			fitting = append(fitting, g)
		}
	}
	return fitting
}
