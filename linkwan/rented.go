package linkwan

import (
	"joingate/joinserver"
)

// rented looks up a permission that is granted to the caller.
func (c call) rented(tx Tx) (joinserver.Permission, error) {
	p, err := c.findPermission(tx, "NonExistent")
	if err == nil && (p.AuthState != joinserver.Accepted || p.Renter != c.account.ID) {
		return p, fail("NotResourceOwner")
	}
	return p, err
}

// rentedFilter selects what is granted to the caller by the call's filters.
func (c call) rentedFilter() joinserver.PermissionFilter {
	return joinserver.PermissionFilter{
		Renter:      c.account.ID,
		AuthState:   joinserver.Accepted,
		Type:        joinserver.PermissionType(c.text("Type")),
		Enabled:     c.optionalFlag("Enabled"),
		Bound:       c.optionalFlag("BoundNodeGroup"),
		NameLike:    c.text("FuzzyJoinPermissionName"),
		JoinEUILike: c.text("FuzzyJoinEui"),
		OwnerLike:   c.text("FuzzyOwnerAliyunId"),
		Page:        c.page(sortByCreation),
	}
}

// rentedPermission is the wire form of a permission in a renter's list. Its
// numbers are strings here.
type rentedPermission struct {
	JoinPermissionId    string
	JoinPermissionName  string
	JoinEui             string
	ClassMode           string
	Type                string
	OwnerAliyunId       string
	FreqBandPlanGroupId string
	RxDelay             string
	DataRate            string
	Enabled             bool
	BoundNodeGroup      bool
	BoundNodeGroupId    string
	BoundNodeGroupName  string
	DataDispatchConfig  *dataDispatchConfig `json:",omitempty"`
}

func (c call) rentedWire(p joinserver.Permission, group joinserver.Group) rentedPermission {
	row := rentedPermission{
		JoinPermissionId:    idText(p.ID),
		JoinPermissionName:  p.Name,
		JoinEui:             p.JoinEUI.String(),
		ClassMode:           p.ClassMode,
		Type:                string(p.Type),
		OwnerAliyunId:       ownerText(p.Owner),
		FreqBandPlanGroupId: idText(int64(p.BandPlanGroup)),
		RxDelay:             idText(seconds(p.RxDelay)),
		DataRate:            idText(int64(c.dataRateInForce(p))),
		Enabled:             p.Enabled,
	}
	if group.ID != 0 {
		row.BoundNodeGroup = true
		row.BoundNodeGroupId = idText(group.ID)
		row.BoundNodeGroupName = group.Name
		row.DataDispatchConfig = dispatchWire(group.Dispatch)
	}
	return row
}

func listRentedJoinPermissions(c call, tx Tx) (any, error) {
	permissions, total, err := tx.Permissions(c.rentedFilter())
	if err != nil {
		return nil, err
	}
	groups, err := groupsOf(tx, permissions)
	if err != nil {
		return nil, err
	}
	rows := make([]rentedPermission, 0, len(permissions))
	for _, p := range permissions {
		rows = append(rows, c.rentedWire(p, groups[p.ID]))
	}
	return list[rentedPermission]{total, rows}, nil
}

// groupsOf finds the node groups that the permissions are bound to, by the
// permissions' ids.
func groupsOf(tx Tx, permissions []joinserver.Permission) (map[int64]joinserver.Group, error) {
	ids := make([]int64, 0, len(permissions))
	for _, p := range permissions {
		ids = append(ids, p.ID)
	}
	groups, _, err := tx.Groups(joinserver.GroupFilter{PermissionIDs: ids, Page: joinserver.Page{Limit: joinserver.NoLimit}})
	if err != nil {
		return nil, err
	}
	byPermission := make(map[int64]joinserver.Group, len(groups))
	for _, g := range groups {
		byPermission[g.PermissionID] = g
	}
	return byPermission, nil
}

func countRentedJoinPermissions(c call, tx Tx) (any, error) {
	if kind := joinserver.PermissionType(c.text("Type")); kind != "" && kind != joinserver.Local && kind != joinserver.Roaming {
		return nil, invalid("Type")
	}
	_, total, err := tx.Permissions(c.rentedFilter())
	return total, err
}

func getRentedJoinPermission(c call, tx Tx) (any, error) {
	p, err := c.rented(tx)
	if err != nil {
		return nil, err
	}
	group, _, err := boundGroup(tx, p.ID)
	if err != nil {
		return nil, err
	}
	nodes, err := nodeCount(tx, group.ID)
	if err != nil {
		return nil, err
	}
	return struct {
		JoinPermissionId    string
		JoinPermissionName  string
		JoinEui             string
		ClassMode           string
		Type                string
		FreqBandPlanGroupId int64
		RxDelay             int64
		DataRate            int64
		Enabled             bool
		BoundNodeGroupId    string
		BoundNodeGroupName  string
		NodesCnt            int64
		CreateMillis        int64
		sums
	}{
		JoinPermissionId:    idText(p.ID),
		JoinPermissionName:  p.Name,
		JoinEui:             p.JoinEUI.String(),
		ClassMode:           p.ClassMode,
		Type:                string(p.Type),
		FreqBandPlanGroupId: int64(p.BandPlanGroup),
		RxDelay:             seconds(p.RxDelay),
		DataRate:            int64(c.dataRateInForce(p)),
		Enabled:             p.Enabled,
		BoundNodeGroupId:    optionalID(group.ID),
		BoundNodeGroupName:  group.Name,
		NodesCnt:            nodes,
		CreateMillis:        p.CreateMillis,
	}, nil
}

// returnJoinPermission gives a permission back. A LOCAL one is NEW again; one of
// the platform is gone.
func returnJoinPermission(c call, tx Tx) (any, error) {
	kind := joinserver.PermissionType(c.text("JoinPermissionType"))
	if kind != joinserver.Local && kind != joinserver.Roaming {
		return nil, invalid("JoinPermissionType")
	}
	p, err := c.rented(tx)
	if err != nil {
		return nil, err
	}
	if p.Type != kind {
		return nil, fail("NonExistent")
	}
	_, bound, err := boundGroup(tx, p.ID)
	if err != nil {
		return nil, err
	}
	if bound {
		return nil, fail("JoinPermissionAlreadyBoundNodeGroup")
	}
	if kind == joinserver.Roaming {
		return nil, tx.DeletePermission(p.ID)
	}
	p.AuthState, p.Renter = joinserver.New, 0
	return nil, tx.UpdatePermission(p)
}
