package record

import (
	"database/sql"
	"time"

	"joingate/joinserver"
)

const permissionColumns = `p.id, p.version, p.type, p.owner_id, p.renter_id, p.name, p.instance_id, p.enabled, p.auth_state,
    p.join_eui, p.band_plan_group, p.class_mode, p.rx_delay_s, p.data_rate, p.require_own, p.created_ms`

func scanPermission(scan func(...any) error) (p joinserver.Permission, err error) {
	var joinEUI string
	var rxDelay int64
	var dataRate sql.NullInt64
	err = scan(&p.ID, &p.Version, &p.Type, &p.Owner, &p.Renter, &p.Name, &p.InstanceID, &p.Enabled, &p.AuthState,
		&joinEUI, &p.BandPlanGroup, &p.ClassMode, &rxDelay, &dataRate, &p.RequireOwn, &p.CreateMillis)
	if err != nil {
		return p, asNotFound(err)
	}
	p.RxDelay, p.DataRate = time.Duration(rxDelay)*time.Second, dataRateOf(dataRate)
	p.JoinEUI, err = joinserver.ParseEUI64(joinEUI)
	return p, err
}

// Permission reads a join permission. ErrNotFound.
func (tx *Tx) Permission(id int64) (joinserver.Permission, error) {
	return scanPermission(tx.row(`SELECT `+permissionColumns+` FROM join_permissions p WHERE p.id = $1`, id).Scan)
}

var permissionOrder = order{joinserver.ByID: "p.id", joinserver.ByCreated: "p.created_ms"}

// Permissions lists join permissions, and counts all that match.
func (tx *Tx) Permissions(f joinserver.PermissionFilter) (list []joinserver.Permission, total int64, err error) {
	w := permissionWhere(f)
	from := ` FROM join_permissions p` + w.where()
	if err := tx.row(`SELECT COUNT(*)`+from, w.args...).Scan(&total); err != nil {
		return nil, 0, err
	}
	err = tx.rows(func(rows *sql.Rows) error {
		p, err := scanPermission(rows.Scan)
		list = append(list, p)
		return err
	}, `SELECT `+permissionColumns+from+permissionOrder.page(f.Page), w.args...)
	return list, total, err
}

func permissionWhere(f joinserver.PermissionFilter) *filter {
	w := &filter{}
	in(w, "p.id", f.IDs)
	if f.Owner != 0 {
		w.add("p.owner_id = ?", int64(f.Owner))
	}
	if f.Renter != 0 {
		w.add("p.renter_id = ?", int64(f.Renter))
	}
	if f.AuthState != "" {
		w.add("p.auth_state = ?", string(f.AuthState))
	}
	if f.Type != "" {
		w.add("p.type = ?", string(f.Type))
	}
	if f.InstanceID != nil {
		w.add("p.instance_id = ?", *f.InstanceID)
	}
	if f.Enabled != nil {
		w.add("p.enabled = ?", *f.Enabled)
	}
	if f.Bound != nil {
		w.add("EXISTS (SELECT 1 FROM node_groups b WHERE b.permission_id = p.id) = ?", *f.Bound)
	}
	w.like("p.name", f.NameLike)
	w.like("p.join_eui", f.JoinEUILike)
	w.like("CASE p.owner_id WHEN 0 THEN '"+joinserver.PlatformOwner+"' ELSE CAST(p.owner_id AS TEXT) END", f.OwnerLike)
	w.like("CASE p.renter_id WHEN 0 THEN '' ELSE CAST(p.renter_id AS TEXT) END", f.RenterLike)
	return w
}

// InsertPermission records a new permission and returns the id it got.
// ErrDuplicate: the account has one of this name.
func (tx *Tx) InsertPermission(p joinserver.Permission) (int64, error) {
	id, err := tx.nextRevision()
	if err != nil {
		return 0, err
	}
	_, err = tx.exec(`
INSERT INTO join_permissions (id, version, type, owner_id, renter_id, name_account_id, name, instance_id, enabled, auth_state,
    join_eui, band_plan_group, class_mode, rx_delay_s, data_rate, require_own, created_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
		id, id, string(p.Type), int64(p.Owner), int64(p.Renter), int64(p.Account()), p.Name, p.InstanceID, p.Enabled, string(p.AuthState),
		p.JoinEUI.String(), int64(p.BandPlanGroup), p.ClassMode, seconds(p.RxDelay), dataRateNumber(p.DataRate), p.RequireOwn, p.CreateMillis)
	return id, asDuplicate(err)
}

// UpdatePermission replaces all but ID and Version, and moves the version.
// ErrNotFound, ErrDuplicate.
func (tx *Tx) UpdatePermission(p joinserver.Permission) error {
	return tx.mustChange(`
UPDATE join_permissions SET version = $1, type = $2, owner_id = $3, renter_id = $4, name_account_id = $5, name = $6, instance_id = $7,
    enabled = $8, auth_state = $9, join_eui = $10, band_plan_group = $11, class_mode = $12, rx_delay_s = $13, data_rate = $14, require_own = $15, created_ms = $16
WHERE id = $17`,
		tx.revision, string(p.Type), int64(p.Owner), int64(p.Renter), int64(p.Account()), p.Name, p.InstanceID,
		p.Enabled, string(p.AuthState), p.JoinEUI.String(), int64(p.BandPlanGroup), p.ClassMode, seconds(p.RxDelay), dataRateNumber(p.DataRate), p.RequireOwn,
		p.CreateMillis, p.ID)
}

// DeletePermission removes a permission. ErrNotFound.
func (tx *Tx) DeletePermission(id int64) error {
	return tx.mustChange(`DELETE FROM join_permissions WHERE id = $1`, id)
}

const orderColumns = `id, permission_id, owner_id, renter_id, state, applying_ms, accepted_ms, rejected_ms, canceled_ms`

// Order reads an authorisation order. ErrNotFound.
func (tx *Tx) Order(id int64) (o joinserver.Order, err error) {
	err = tx.row(`SELECT `+orderColumns+` FROM orders WHERE id = $1`, id).
		Scan(&o.ID, &o.PermissionID, &o.Owner, &o.Renter, &o.State, &o.ApplyingMillis, &o.AcceptedMillis, &o.RejectedMillis, &o.CanceledMillis)
	return o, asNotFound(err)
}

// InsertOrder records a new order and returns the id it got.
func (tx *Tx) InsertOrder(o joinserver.Order) (int64, error) {
	id, err := tx.nextRevision()
	if err != nil {
		return 0, err
	}
	_, err = tx.exec(`INSERT INTO orders (`+orderColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		id, o.PermissionID, int64(o.Owner), int64(o.Renter), string(o.State), o.ApplyingMillis, o.AcceptedMillis, o.RejectedMillis, o.CanceledMillis)
	return id, err
}

// UpdateOrder replaces all but the ID. ErrNotFound.
func (tx *Tx) UpdateOrder(o joinserver.Order) error {
	return tx.mustChange(`
UPDATE orders SET permission_id = $1, owner_id = $2, renter_id = $3, state = $4, applying_ms = $5, accepted_ms = $6, rejected_ms = $7, canceled_ms = $8
WHERE id = $9`,
		o.PermissionID, int64(o.Owner), int64(o.Renter), string(o.State), o.ApplyingMillis, o.AcceptedMillis, o.RejectedMillis, o.CanceledMillis, o.ID)
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }
