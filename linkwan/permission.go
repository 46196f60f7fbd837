package linkwan

import (
	"time"

	"joingate/band"
	"joingate/joinserver"
)

// findPermission looks the permission up that a parameter names, or fails with
// the code.
func (c call) findPermission(tx Tx, code string) (joinserver.Permission, error) {
	id, ok := parseID(c.text("JoinPermissionId"))
	if !ok {
		return joinserver.Permission{}, fail(code)
	}
	p, err := tx.Permission(id)
	return p, asFailure(err, joinserver.ErrNotFound, code)
}

// ownedPermission looks up a permission that the caller owns. What lies in
// another instance of the caller is not seen.
func (c call) ownedPermission(tx Tx) (joinserver.Permission, error) {
	p, err := c.findPermission(tx, "NonExistent")
	switch {
	case err != nil:
		return p, err
	case p.Owner != c.account.ID:
		return p, fail("NotResourceOwner")
	case p.InstanceID != c.account.InstanceID:
		return p, fail("NonExistent")
	}
	return p, nil
}

// promised reports whether the permission is offered or granted to an account
// other than its owner, which ties the owner's hands.
func promised(p joinserver.Permission) bool {
	return p.AuthState != joinserver.New && p.Renter != p.Owner
}

// boundGroup finds the node group that a permission is bound to.
func boundGroup(tx Tx, permission int64) (group joinserver.Group, bound bool, err error) {
	groups, _, err := tx.Groups(joinserver.GroupFilter{PermissionIDs: []int64{permission}, Page: joinserver.Page{Limit: 1}})
	if err != nil || len(groups) == 0 {
		return joinserver.Group{}, false, err
	}
	return groups[0], true, nil
}

func createLocalJoinPermission(c call, tx Tx) (any, error) {
	eui := c.DefaultJoinEUI
	if !c.flag("UseDefaultJoinEui") {
		if !c.has("JoinEui") {
			return nil, missing("JoinEui")
		}
		var err error
		if eui, err = c.eui("JoinEui"); err != nil {
			return nil, err
		}
	}
	return c.createLocal(tx, eui)
}

// createCustomLocalJoinPermission is the older form, which only SDKs know.
func createCustomLocalJoinPermission(c call, tx Tx) (any, error) {
	eui, err := c.eui("JoinEui")
	if err != nil {
		return nil, err
	}
	return c.createLocal(tx, eui)
}

// createLocal makes a LOCAL permission of the call's other parameters.
func (c call) createLocal(tx Tx, eui joinserver.EUI64) (any, error) {
	p, err := c.newPermission(joinserver.Local, eui)
	if err != nil {
		return nil, err
	}
	p.Owner, p.AuthState = c.account.ID, joinserver.New
	_, owned, err := tx.Permissions(joinserver.PermissionFilter{Owner: c.account.ID, Type: joinserver.Local})
	if err != nil {
		return nil, err
	}
	if owned >= c.account.LocalJoinPermissionLimit {
		return nil, fail("ExceedLocalJoinPermissionLimit")
	}
	return insertPermission(tx, p)
}

// newPermission gives an enabled permission of the call's parameters.
func (c call) newPermission(kind joinserver.PermissionType, eui joinserver.EUI64) (joinserver.Permission, error) {
	p := joinserver.Permission{
		JoinPermission: joinserver.JoinPermission{Type: kind, Enabled: true, JoinEUI: eui, ClassMode: c.text("ClassMode")},
		Name:           c.text("JoinPermissionName"),
		InstanceID:     c.account.InstanceID,
		CreateMillis:   c.now.UnixMilli(),
	}
	if err := checkName(p.Name); err != nil {
		return p, err
	}
	return p, c.setRadio(&p)
}

func insertPermission(tx Tx, p joinserver.Permission) (any, error) {
	id, err := tx.InsertPermission(p)
	if err != nil {
		return nil, asFailure(err, joinserver.ErrDuplicate, "JoinPermissionNameDuplicated")
	}
	return idText(id), nil
}

// setRadio sets band plan group, RxDelay and DataRate from the parameters that
// are given, and holds what results together.
func (c call) setRadio(p *joinserver.Permission) (err error) {
	plan, known := c.bands.find(p.BandPlanGroup)
	if c.has("FreqBandPlanGroupId") {
		if plan, err = c.bandPlan(); err != nil {
			return err
		}
	} else if !known {
		return fail("InvalidFreqBandPlan")
	}
	p.BandPlanGroup = plan.ID
	if p.RxDelay == 0 {
		p.RxDelay = defaultRxDelaySeconds * time.Second
	}
	if p.RxDelay, err = c.rxDelay(p.RxDelay); err != nil {
		return err
	}
	p.DataRate, err = c.dataRate(plan, p.DataRate)
	return err
}

func updateOwnedLocalJoinPermission(c call, tx Tx) (any, error) {
	p, err := c.ownedPermission(tx)
	if err != nil {
		return nil, err
	}
	if promised(p) {
		return nil, fail("JoinPermissionAlreadyAuthorized")
	}
	if err := c.change(&p); err != nil {
		return nil, err
	}
	return nil, asFailure(tx.UpdatePermission(p), joinserver.ErrDuplicate, "JoinPermissionNameDuplicated")
}

// change applies the given parameters of an update; one left out changes
// nothing.
func (c call) change(p *joinserver.Permission) (err error) {
	if c.has("JoinPermissionName") {
		p.Name = c.text("JoinPermissionName")
		if err := checkName(p.Name); err != nil {
			return err
		}
	}
	if c.has("ClassMode") {
		p.ClassMode = c.text("ClassMode")
	}
	if c.has("JoinEui") {
		if p.JoinEUI, err = c.eui("JoinEui"); err != nil {
			return err
		}
	}
	return c.setRadio(p)
}

func updateOwnedEnablingState(c call, tx Tx) (any, error) {
	p, err := c.ownedPermission(tx)
	if err != nil {
		return nil, err
	}
	p.Enabled = c.flag("Enabled")
	return nil, tx.UpdatePermission(p)
}

func deleteLocalJoinPermission(c call, tx Tx) (any, error) {
	p, err := c.ownedPermission(tx)
	if err != nil {
		return nil, err
	}
	_, bound, err := boundGroup(tx, p.ID)
	if err != nil {
		return nil, err
	}
	if bound || promised(p) {
		return nil, fail("JoinPermissionAlreadyAuthorized")
	}
	return nil, tx.DeletePermission(p.ID)
}

// ownedPermission is the wire form of a permission for its owner.
type ownedPermission struct {
	JoinPermissionId    string
	JoinPermissionName  string
	JoinEui             string
	ClassMode           string
	FreqBandPlanGroupId int64
	RxDelay             int64
	DataRate            int64
	Enabled             bool
	AuthState           string
	RenterAliyunId      string
}

func (c call) ownedWire(p joinserver.Permission) ownedPermission {
	return ownedPermission{
		JoinPermissionId:    idText(p.ID),
		JoinPermissionName:  p.Name,
		JoinEui:             p.JoinEUI.String(),
		ClassMode:           p.ClassMode,
		FreqBandPlanGroupId: int64(p.BandPlanGroup),
		RxDelay:             seconds(p.RxDelay),
		DataRate:            int64(c.dataRateInForce(p)),
		Enabled:             p.Enabled,
		AuthState:           string(p.AuthState),
		RenterAliyunId:      accountText(p.Renter),
	}
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// dataRateInForce is the permission's own DataRate or its band plan's default.
func (c call) dataRateInForce(p joinserver.Permission) band.DataRate {
	if p.DataRate != nil {
		return *p.DataRate
	}
	plan, _ := c.bands.find(p.BandPlanGroup)
	return plan.DefaultRX2Rate
}

// accountText is the wire form of an account id, "" for none.
func accountText(id joinserver.AccountID) string {
	if id == 0 {
		return ""
	}
	return id.String()
}

// ownerText is the wire form of a permission's owner.
func ownerText(owner joinserver.AccountID) string {
	if owner == 0 {
		return joinserver.PlatformOwner
	}
	return owner.String()
}

// sums are counters of data packets. They are 0: this module sees joins only.
type sums struct {
	RxDailySum int64
	RxMonthSum int64
	TxDailySum int64
	TxMonthSum int64
}

func getOwnedJoinPermission(c call, tx Tx) (any, error) {
	p, err := c.ownedPermission(tx)
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
		ownedPermission
		NodesCnt int64
		sums
		CreateMillis            int64
		DataDispatchDestination string `json:",omitempty"`
		BoundProductName        string `json:",omitempty"`
		MulticastEnabled        bool
		MulticastNodeCapacity   int32
	}{
		ownedPermission:         c.ownedWire(p),
		NodesCnt:                nodes,
		CreateMillis:            p.CreateMillis,
		DataDispatchDestination: group.Dispatch.Destination,
		BoundProductName:        group.Dispatch.ProductName,
	}, nil
}

// list is the wire form of one page.
type list[T any] struct {
	TotalCount int64
	List       []T
}

// sortByCreation is what most lists can be sorted by.
var sortByCreation = map[string]joinserver.SortKey{"CREATED_MILLIS": joinserver.ByCreated}

// ownedFilter selects the caller's own permissions by the call's filters.
func (c call) ownedFilter() joinserver.PermissionFilter {
	return joinserver.PermissionFilter{
		Owner:       c.account.ID,
		InstanceID:  &c.account.InstanceID,
		Enabled:     c.optionalFlag("Enabled"),
		NameLike:    c.text("FuzzyJoinPermissionName"),
		JoinEUILike: c.text("FuzzyJoinEui"),
		RenterLike:  c.text("FuzzyRenterAliyunId"),
		Page:        c.page(sortByCreation),
	}
}

func listOwnedJoinPermissions(c call, tx Tx) (any, error) {
	permissions, total, err := tx.Permissions(c.ownedFilter())
	if err != nil {
		return nil, err
	}
	return list[ownedPermission]{total, each(permissions, c.ownedWire)}, nil
}

func countOwnedJoinPermissions(c call, tx Tx) (any, error) {
	_, total, err := tx.Permissions(c.ownedFilter())
	return total, err
}
