package linkwan

import (
	"joingate/joinserver"
)

// findGroup looks up a node group of the caller, or fails with the code when
// there is none.
func (c call) findGroup(tx Tx, code string) (joinserver.Group, error) {
	id, ok := parseID(c.text("NodeGroupId"))
	if !ok {
		return joinserver.Group{}, fail(code)
	}
	g, err := tx.Group(id)
	switch {
	case err != nil:
		return g, asFailure(err, joinserver.ErrNotFound, code)
	case g.Account != c.account.ID:
		return g, fail("NotResourceOwner")
	case g.InstanceID != c.account.InstanceID:
		return g, fail(code)
	}
	return g, nil
}

// nodeCount is how many nodes a group has; group 0 has none.
func nodeCount(tx Tx, group int64) (int64, error) {
	if group == 0 {
		return 0, nil
	}
	counts, err := tx.NodeCounts([]int64{group})
	return counts[group], err
}

func createNodeGroup(c call, tx Tx) (any, error) {
	g := joinserver.Group{
		Account: c.account.ID, Name: c.text("NodeGroupName"), InstanceID: c.account.InstanceID, CreateMillis: c.now.UnixMilli(),
	}
	if err := checkGroupName(g.Name); err != nil {
		return nil, err
	}
	if c.has("JoinPermissionId") {
		p, err := c.bindable(tx)
		if err != nil {
			return nil, err
		}
		g.PermissionID = p.ID
	}
	id, err := tx.InsertGroup(g)
	if err != nil {
		return nil, asFailure(err, joinserver.ErrDuplicate, "NodeGroupNameDuplicated")
	}
	return idText(id), nil
}

func bindJoinPermissionToNodeGroup(c call, tx Tx) (any, error) {
	g, err := c.findGroup(tx, "NodeGroupDoesNotExist")
	if err != nil {
		return nil, err
	}
	if g.PermissionID != 0 {
		return nil, fail("NodeGroupAlreadyBoundJoinPermission")
	}
	p, err := c.bindable(tx)
	if err != nil {
		return nil, err
	}
	g.PermissionID = p.ID
	return nil, tx.UpdateGroup(g)
}

// bindable looks up a permission that the caller may bind now: one that is
// granted to it. The caller's own one that is granted to nobody is granted to
// the caller on the way.
func (c call) bindable(tx Tx) (joinserver.Permission, error) {
	p, err := c.findPermission(tx, "JoinPermissionDoesNotExist")
	if err != nil {
		return p, err
	}
	if p.Owner == c.account.ID && p.InstanceID != c.account.InstanceID {
		return p, fail("JoinPermissionDoesNotExist")
	}
	held := p.AuthState == joinserver.Accepted && p.Renter == c.account.ID
	own := p.AuthState == joinserver.New && p.Owner == c.account.ID
	if !held && !own {
		return p, fail("NotResourceOwner")
	}
	_, bound, err := boundGroup(tx, p.ID)
	if err != nil {
		return p, err
	}
	if bound {
		return p, fail("JoinPermissionAlreadyBoundNodeGroup")
	}
	if own {
		p.AuthState, p.Renter = joinserver.Accepted, c.account.ID
		return p, tx.UpdatePermission(p)
	}
	return p, nil
}

func unbindJoinPermissionFromNodeGroup(c call, tx Tx) (any, error) {
	g, err := c.findGroup(tx, "NonExistent")
	if err != nil {
		return nil, err
	}
	p, err := c.rented(tx)
	if err != nil {
		return nil, err
	}
	if g.PermissionID != p.ID {
		return nil, fail("NonExistent")
	}
	g.PermissionID = 0
	return nil, tx.UpdateGroup(g)
}

func updateNodeGroup(c call, tx Tx) (any, error) {
	g, err := c.findGroup(tx, "NonExistent")
	if err != nil {
		return nil, err
	}
	g.Name = c.text("NodeGroupName")
	if err := checkGroupName(g.Name); err != nil {
		return nil, err
	}
	return nil, asFailure(tx.UpdateGroup(g), joinserver.ErrDuplicate, "NodeGroupNameDuplicated")
}

func deleteNodeGroup(c call, tx Tx) (any, error) {
	g, err := c.findGroup(tx, "NonExistent")
	if err != nil {
		return nil, err
	}
	if g.PermissionID != 0 {
		return nil, fail("NodeGroupAlreadyBoundJoinPermission")
	}
	return nil, tx.DeleteGroup(g.ID)
}

// nodeGroup is the wire form of a node group. RxDailySum, which the API gives as
// a string when one group is asked for, is beside it.
type nodeGroup struct {
	NodeGroupId                 string
	NodeGroupName               string
	JoinPermissionId            string
	JoinPermissionName          string
	JoinPermissionOwnerAliyunId string
	JoinPermissionType          string
	JoinPermissionEnabled       bool
	JoinEui                     string
	ClassMode                   string
	FreqBandPlanGroupId         int64
	NodesCnt                    int64
	CreateMillis                int64
	RxMonthSum                  int64 // these three, and RxDailySum, are 0: this module sees joins only
	TxDailySum                  int64
	TxMonthSum                  int64
	DataDispatchEnabled         bool
	DataDispatchConfig          *dataDispatchConfig `json:",omitempty"`
	Locks                       []struct{}          // never any: only other Alibaba products lock groups
}

// groupWire gives a group with its permission, which has ID 0 if it is bound to
// none, and the number of its nodes.
func groupWire(g joinserver.Group, p joinserver.Permission, nodes int64) nodeGroup {
	row := nodeGroup{
		NodeGroupId:         idText(g.ID),
		NodeGroupName:       g.Name,
		NodesCnt:            nodes,
		CreateMillis:        g.CreateMillis,
		DataDispatchEnabled: g.Dispatch.Enabled,
		DataDispatchConfig:  dispatchWire(g.Dispatch),
		Locks:               []struct{}{},
	}
	if p.ID != 0 {
		row.JoinPermissionId = idText(p.ID)
		row.JoinPermissionName = p.Name
		row.JoinPermissionOwnerAliyunId = ownerText(p.Owner)
		row.JoinPermissionType = string(p.Type)
		row.JoinPermissionEnabled = p.Enabled
		row.JoinEui = p.JoinEUI.String()
		row.ClassMode = p.ClassMode
		row.FreqBandPlanGroupId = int64(p.BandPlanGroup)
	}
	return row
}

// permissionOf finds the permission that a group is bound to; its ID is 0 if
// there is none.
func permissionOf(tx Tx, g joinserver.Group) (joinserver.Permission, error) {
	if g.PermissionID == 0 {
		return joinserver.Permission{}, nil
	}
	return tx.Permission(g.PermissionID)
}

func getNodeGroup(c call, tx Tx) (any, error) {
	g, err := c.findGroup(tx, "NonExistent")
	if err != nil {
		return nil, err
	}
	p, err := permissionOf(tx, g)
	if err != nil {
		return nil, err
	}
	nodes, err := nodeCount(tx, g.ID)
	if err != nil {
		return nil, err
	}
	return struct {
		nodeGroup
		RxDailySum            string
		MulticastEnabled      bool
		MulticastNodeCapacity int32
	}{nodeGroup: groupWire(g, p, nodes), RxDailySum: "0"}, nil
}

func (c call) groupFilter() joinserver.GroupFilter {
	return joinserver.GroupFilter{
		Account:     c.account.ID,
		InstanceID:  &c.account.InstanceID,
		NameLike:    c.text("FuzzyName"),
		JoinEUILike: c.text("FuzzyJoinEui"),
		DevEUILike:  c.text("FuzzyDevEui"),
		Page:        c.page(sortByCreation),
	}
}

// listedGroup is a node group in a list, where RxDailySum is a number.
type listedGroup struct {
	nodeGroup
	RxDailySum int64
}

func listNodeGroups(c call, tx Tx) (any, error) {
	groups, total, err := tx.Groups(c.groupFilter())
	if err != nil {
		return nil, err
	}
	permissions, err := permissionsOf(tx, groups)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, 0, len(groups))
	for _, g := range groups {
		ids = append(ids, g.ID)
	}
	nodes, err := tx.NodeCounts(ids)
	if err != nil {
		return nil, err
	}
	rows := make([]listedGroup, 0, len(groups))
	for _, g := range groups {
		rows = append(rows, listedGroup{nodeGroup: groupWire(g, permissions[g.PermissionID], nodes[g.ID])})
	}
	return list[listedGroup]{total, rows}, nil
}

// permissionsOf finds the permissions that the groups are bound to, by id.
func permissionsOf(tx Tx, groups []joinserver.Group) (map[int64]joinserver.Permission, error) {
	ids := make([]int64, 0, len(groups))
	for _, g := range groups {
		if g.PermissionID != 0 {
			ids = append(ids, g.PermissionID)
		}
	}
	permissions, _, err := tx.Permissions(joinserver.PermissionFilter{IDs: ids, Page: joinserver.Page{Limit: joinserver.NoLimit}})
	if err != nil {
		return nil, err
	}
	byID := make(map[int64]joinserver.Permission, len(permissions))
	for _, p := range permissions {
		byID[p.ID] = p
	}
	return byID, nil
}

func countNodeGroups(c call, tx Tx) (any, error) {
	_, total, err := tx.Groups(c.groupFilter())
	return total, err
}
