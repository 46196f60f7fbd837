package linkwan

import (
	"crypto/subtle"

	"joingate/joinserver"
)

// standardAuth is the AuthTypes of every node and gateway: the other types are
// tariffs of Alibaba. It is a string; their SDKs cannot read a list here.
const standardAuth = "STANDARD"

// pinMatches compares in constant time. Nothing matches what has no PIN.
func pinMatches(pin, given string) bool {
	return pin != "" && subtle.ConstantTimeCompare([]byte(pin), []byte(given)) == 1
}

// findNode looks up a node of the caller, or fails with the code. Those in stock
// are not seen.
func (c call) findNode(tx NodeTx, code string) (joinserver.Device, error) {
	eui, err := c.eui("DevEui")
	if err != nil {
		return joinserver.Device{}, err
	}
	d, err := tx.Device(eui)
	switch {
	case err != nil:
		return d, asFailure(err, joinserver.ErrNotFound, code)
	case d.Account == 0:
		return d, fail(code)
	case d.Account != c.account.ID:
		return d, fail("NotResourceOwner")
	}
	return d, nil
}

// addNodeToGroup claims a node from stock by its PIN, or moves one of the
// caller's that is in no group.
func addNodeToGroup(c call, tx Tx) (any, error) {
	g, err := c.findGroup(tx, "NodeGroupDoesNotExist")
	if err != nil {
		return nil, err
	}
	eui, err := c.eui("DevEui")
	if err != nil {
		return nil, err
	}
	d, err := tx.Device(eui)
	if err != nil {
		return nil, asFailure(err, joinserver.ErrNotFound, "NodeDoesNotExist")
	}
	if err := c.mayAdd(tx, d, g); err != nil {
		return nil, err
	}
	d.Account, d.GroupID, d.BoundMillis = c.account.ID, g.ID, c.now.UnixMilli()
	return nil, tx.UpdateDevice(d)
}

// mayAdd decides whether the caller may put the device into the group. A node
// that was imported for the caller without a PIN needs none.
func (c call) mayAdd(tx NodeTx, d joinserver.Device, g joinserver.Group) error {
	own := d.Account == c.account.ID
	switch {
	case d.Account != 0 && !own:
		return fail("NotResourceOwner")
	case !pinMatches(d.PinCode, c.text("PinCode")) && !(own && d.PinCode == ""):
		return fail("InvalidPinCode")
	case own && d.GroupID == g.ID:
		return fail("DevEuiDuplicated")
	case own && d.GroupID != 0:
		return fail("NodeAlreadyAdded")
	case own:
		return nil
	}
	_, nodes, err := tx.Devices(joinserver.DeviceFilter{Account: c.account.ID})
	if err == nil && c.account.NodeLimit > 0 && nodes >= c.account.NodeLimit {
		return fail("ExceedNodeLimit")
	}
	return err
}

// removeNodeFromGroup leaves the node with its account.
func removeNodeFromGroup(c call, tx Tx) (any, error) {
	g, err := c.findGroup(tx, "NodeGroupDoesNotExist")
	if err != nil {
		return nil, err
	}
	d, err := c.findNode(tx, "NodeDoesNotExist")
	if err != nil {
		return nil, err
	}
	if d.GroupID != g.ID {
		return nil, fail("NonExistent")
	}
	d.GroupID, d.BoundMillis = 0, 0
	return nil, tx.UpdateDevice(d)
}

func updateNodeEnablingState(c call, tx Tx) (any, error) {
	d, err := c.findNode(tx, "NonExistent")
	if err != nil {
		return nil, err
	}
	d.Enabled = c.flag("IsEnable")
	return nil, tx.UpdateDevice(d)
}

// nodeCore is what every answer on a node holds.
type nodeCore struct {
	DevEui         string
	DevAddr        string
	ClassMode      string
	BoundMillis    int64
	LastJoinMillis int64
}

// nodeWire gives a node with the permission of its group, which has ID 0 if
// there is none.
func nodeWire(d joinserver.Device, p joinserver.Permission) nodeCore {
	row := nodeCore{DevEui: d.DevEUI.String(), ClassMode: p.ClassMode, BoundMillis: d.BoundMillis, LastJoinMillis: d.LastJoinMillis}
	if d.DevAddr != nil {
		row.DevAddr = d.DevAddr.String()
	}
	return row
}

func getNode(c call, tx Tx) (any, error) {
	d, err := c.findNode(tx, "NonExistent")
	if err != nil {
		return nil, err
	}
	var p joinserver.Permission
	if d.GroupID != 0 {
		g, err := tx.Group(d.GroupID)
		if err != nil {
			return nil, err
		}
		if p, err = permissionOf(tx, g); err != nil {
			return nil, err
		}
	}
	return struct {
		nodeCore
		AuthTypes string
	}{nodeWire(d, p), standardAuth}, nil
}

var sortNodes = map[string]joinserver.SortKey{"CREATED_MILLIS": joinserver.ByCreated, "LAST_JOIN_MILLIS": joinserver.ByLastJoin}

// nodesIn lists the nodes of a group, by the call's filters; group 0 has none.
func (c call) nodesIn(tx NodeTx, group int64) (devices []joinserver.Device, total int64, err error) {
	if group == 0 {
		return nil, 0, nil
	}
	return tx.Devices(joinserver.DeviceFilter{GroupID: group, DevEUILike: c.text("FuzzyDevEui"), Page: c.page(sortNodes)})
}

// listedNode is a node in the list of its group. Its keys are never shown.
type listedNode struct {
	nodeCore
	JoinEui   string
	AuthTypes string
}

func listNodesByNodeGroupId(c call, tx Tx) (any, error) {
	g, err := c.findGroup(tx, "NonExistent")
	if err != nil {
		return nil, err
	}
	p, err := permissionOf(tx, g)
	if err != nil {
		return nil, err
	}
	devices, total, err := c.nodesIn(tx, g.ID)
	if err != nil {
		return nil, err
	}
	eui := ""
	if p.ID != 0 {
		eui = p.JoinEUI.String()
	}
	rows := make([]listedNode, 0, len(devices))
	for _, d := range devices {
		rows = append(rows, listedNode{nodeWire(d, p), eui, standardAuth})
	}
	return list[listedNode]{total, rows}, nil
}

func countNodesByNodeGroupId(c call, tx Tx) (any, error) {
	g, err := c.findGroup(tx, "NonExistent")
	if err != nil {
		return nil, err
	}
	_, total, err := c.nodesIn(tx, g.ID)
	return total, err
}

// nodesByPermission lists the nodes that use a permission which the caller owns,
// whoever rents it.
func (c call) nodesByPermission(tx Tx) (p joinserver.Permission, devices []joinserver.Device, total int64, err error) {
	if p, err = c.ownedPermission(tx); err != nil {
		return p, nil, 0, err
	}
	g, _, err := boundGroup(tx, p.ID)
	if err != nil {
		return p, nil, 0, err
	}
	devices, total, err = c.nodesIn(tx, g.ID)
	return p, devices, total, err
}

func listNodesByOwnedJoinPermissionId(c call, tx Tx) (any, error) {
	p, devices, total, err := c.nodesByPermission(tx)
	if err != nil {
		return nil, err
	}
	rows := make([]nodeCore, 0, len(devices))
	for _, d := range devices {
		rows = append(rows, nodeWire(d, p))
	}
	return list[nodeCore]{total, rows}, nil
}

func countNodesByOwnedJoinPermissionId(c call, tx Tx) (any, error) {
	_, _, total, err := c.nodesByPermission(tx)
	return total, err
}
