package record

import (
	"database/sql"
	"errors"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
)

// NewNode is a device to register.
type NewNode struct {
	DevEUI     joinserver.EUI64
	Keys       keyring.RootKeys
	MACVersion joinserver.MACVersion
	PinCode    string
	Account    joinserver.AccountID // 0: into stock
	GroupID    int64                // 0: in no group
}

// Node is a device as operators see it.
type Node struct {
	NewNode
	Enabled bool
	Group   string // NodeGroupName
}

// inForce keeps out the nodes of an import that is still being staged.
const inForce = `(n.import_id IS NULL OR EXISTS (SELECT 1 FROM imports i WHERE i.id = n.import_id AND i.in_force))`

// EachNode hands all nodes to fn, in the order of their DevEUIs: the account's,
// or with account 0 those of all and of the stock. Root keys are opened only if
// withKeys is set.
func (tx *Tx) EachNode(account joinserver.AccountID, withKeys bool, fn func(Node) error) error {
	return tx.rows(func(rows *sql.Rows) error {
		n, err := tx.scanNode(rows, withKeys)
		if err != nil {
			return err
		}
		return fn(n)
	}, `
SELECT n.dev_eui, n.account_id, COALESCE(n.group_id, 0), COALESCE(g.name, ''), n.enabled, n.mac_version, n.pin_code, n.sealed_app, n.sealed_nwk
FROM nodes n LEFT JOIN node_groups g ON g.id = n.group_id
WHERE (CAST($1 AS BIGINT) = 0 OR n.account_id = $1) AND `+inForce+` ORDER BY n.dev_eui`, int64(account))
}

func (tx *Tx) scanNode(rows *sql.Rows, withKeys bool) (n Node, err error) {
	var devEUI, mac string
	var app, nwk []byte
	if err := rows.Scan(&devEUI, &n.Account, &n.GroupID, &n.Group, &n.Enabled, &mac, &n.PinCode, &app, &nwk); err != nil {
		return n, err
	}
	var err1, err2, err3 error
	n.DevEUI, err1 = joinserver.ParseEUI64(devEUI)
	n.MACVersion, err2 = band.ParseMACVersion(mac)
	if withKeys {
		n.Keys, err3 = tx.record.openRootKeys(n.DevEUI, app, nwk)
	}
	return n, errors.Join(err1, err2, err3)
}

const deviceColumns = `n.dev_eui, n.account_id, COALESCE(n.group_id, 0), n.enabled, n.mac_version, n.pin_code, n.created_ms, n.bound_ms,
    COALESCE(s.dev_addr, -1), COALESCE(s.joined_ms, 0)`

// A session that ended with its node's removal is none of the node that was
// imported again.
const deviceFrom = ` FROM nodes n LEFT JOIN sessions s ON s.dev_eui = n.dev_eui AND s.live
    AND s.join_nonce = (SELECT MAX(m.join_nonce) FROM sessions m WHERE m.dev_eui = n.dev_eui AND m.live)`

var deviceOrder = order{joinserver.ByID: "n.dev_eui", joinserver.ByCreated: "n.bound_ms", joinserver.ByLastJoin: "COALESCE(s.joined_ms, 0)"}

func scanDevice(scan func(...any) error) (d joinserver.Device, err error) {
	var devEUI, mac string
	var addr int64
	err = scan(&devEUI, &d.Account, &d.GroupID, &d.Enabled, &mac, &d.PinCode, &d.CreateMillis, &d.BoundMillis, &addr, &d.LastJoinMillis)
	if err != nil {
		return d, asNotFound(err)
	}
	if addr != noAddress {
		a := addrOf(addr)
		d.DevAddr = &a
	}
	var err1, err2 error
	d.DevEUI, err1 = joinserver.ParseEUI64(devEUI)
	d.MACVersion, err2 = band.ParseMACVersion(mac)
	return d, errors.Join(err1, err2)
}

// Device reads a node. ErrNotFound.
func (tx *Tx) Device(device joinserver.EUI64) (joinserver.Device, error) {
	return scanDevice(tx.row(`SELECT `+deviceColumns+deviceFrom+` WHERE n.dev_eui = $1 AND `+inForce, device.String()).Scan)
}

// Devices lists nodes, and counts all that match.
func (tx *Tx) Devices(f joinserver.DeviceFilter) (list []joinserver.Device, total int64, err error) {
	w := &filter{conditions: []string{inForce}}
	if f.Account != 0 {
		w.add("n.account_id = ?", int64(f.Account))
	}
	if f.GroupID != 0 {
		w.add("n.group_id = ?", f.GroupID)
	}
	w.like("n.dev_eui", f.DevEUILike)
	if err := tx.row(`SELECT COUNT(*) FROM nodes n`+w.where(), w.args...).Scan(&total); err != nil || f.Limit == 0 {
		return nil, total, err
	}
	err = tx.rows(func(rows *sql.Rows) error {
		d, err := scanDevice(rows.Scan)
		list = append(list, d)
		return err
	}, `SELECT `+deviceColumns+deviceFrom+w.where()+deviceOrder.page(f.Page), w.args...)
	return list, total, err
}

// UpdateDevice sets account, group, enabling state and the time it came into its
// group, and moves the version. ErrNotFound.
func (tx *Tx) UpdateDevice(d joinserver.Device) error {
	if err := tx.mustHaveNode(d.DevEUI); err != nil {
		return err
	}
	return tx.mustChange(`UPDATE nodes SET version = $1, account_id = $2, group_id = $3, enabled = $4, bound_ms = $5 WHERE dev_eui = $6`,
		tx.revision, int64(d.Account), nullZero(d.GroupID), d.Enabled, d.BoundMillis, d.DevEUI.String())
}

// HasNode reports whether a DevEUI is registered and in force.
func (tx *Tx) HasNode(device joinserver.EUI64) (has bool, err error) {
	err = tx.row(`SELECT EXISTS (SELECT 1 FROM nodes n WHERE n.dev_eui = $1 AND `+inForce+`)`, device.String()).Scan(&has)
	return has, err
}

// mustHaveNode keeps writes off nodes that are being staged. ErrNotFound.
func (tx *Tx) mustHaveNode(device joinserver.EUI64) error {
	has, err := tx.HasNode(device)
	if err == nil && !has {
		return joinserver.ErrNotFound
	}
	return err
}

// ResetNonces forgets the DevNonces of a device and its RJcount1, so that it may
// use them again. Its JoinNonce goes on counting. ErrNotFound.
func (tx *Tx) ResetNonces(device joinserver.EUI64) error {
	if err := tx.mustHaveNode(device); err != nil {
		return err
	}
	return tx.forgetCounts(`= $1`, device.String())
}

// forgetCounts leaves RJcount0, whose row has no JoinEUI: it ends with its session.
func (tx *Tx) forgetCounts(devices string, arg any) error {
	for _, forget := range []string{`DELETE FROM dev_nonces WHERE dev_eui `, `DELETE FROM rejoin_counts WHERE join_eui <> '' AND dev_eui `} {
		if _, err := tx.exec(forget+devices, arg); err != nil {
			return err
		}
	}
	return nil
}

// ResetNoncesOfPermission does the same for all devices that join by a permission,
// and tells how many they are. ErrNotFound.
func (tx *Tx) ResetNoncesOfPermission(permission int64) (devices int64, err error) {
	if _, err := tx.Permission(permission); err != nil {
		return 0, err
	}
	const joining = ` FROM nodes n JOIN node_groups g ON g.id = n.group_id WHERE g.permission_id = $1 AND ` + inForce
	if err := tx.row(`SELECT COUNT(*)`+joining, permission).Scan(&devices); err != nil {
		return 0, err
	}
	return devices, tx.forgetCounts(`IN (SELECT n.dev_eui`+joining+`)`, permission)
}

// DeleteNode forgets a device and ends its sessions. Its DevNonces and its
// JoinNonce are kept for when it is registered again. ErrNotFound.
func (tx *Tx) DeleteNode(device joinserver.EUI64) error {
	if err := tx.mustHaveNode(device); err != nil {
		return err
	}
	if err := tx.mustChange(`DELETE FROM nodes WHERE dev_eui = $1`, device.String()); err != nil {
		return err
	}
	_, err := tx.exec(`UPDATE sessions SET live = FALSE WHERE dev_eui = $1`, device.String())
	return err
}

// ErrKeysDoNotFit says that a device has not the root keys of the version that it
// should be set to.
var ErrKeysDoNotFit = errors.New("a 1.1 device has an app_key and a nwk_key, an older one only an app_key: import it again with the keys of that version")

// SetNode changes version and enabling state of a device; nil leaves one as it
// is. ErrNotFound, ErrKeysDoNotFit.
func (tx *Tx) SetNode(device joinserver.EUI64, version *joinserver.MACVersion, enabled *bool) error {
	if err := tx.mustHaveNode(device); err != nil {
		return err
	}
	var mac sql.NullString
	if version != nil {
		mac = sql.NullString{String: version.String(), Valid: true}
		var hasNwkKey bool
		if err := tx.row(`SELECT sealed_nwk IS NOT NULL FROM nodes WHERE dev_eui = $1`, device.String()).Scan(&hasNwkKey); err != nil {
			return err
		}
		if hasNwkKey != (*version >= band.MAC1_1) {
			return ErrKeysDoNotFit
		}
	}
	return tx.mustChange(`
UPDATE nodes SET version = $1, mac_version = COALESCE($2, mac_version), enabled = COALESCE($3, enabled) WHERE dev_eui = $4`,
		tx.revision, mac, enabled, device.String())
}
