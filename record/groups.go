package record

import (
	"database/sql"
	"encoding/json"

	"joingate/joinserver"
)

const groupColumns = `g.id, g.version, g.account_id, g.name, g.instance_id, COALESCE(g.permission_id, 0), g.dispatch, g.created_ms`

func scanGroup(scan func(...any) error) (g joinserver.Group, err error) {
	var dispatch []byte
	if err := scan(&g.ID, &g.Version, &g.Account, &g.Name, &g.InstanceID, &g.PermissionID, &dispatch, &g.CreateMillis); err != nil {
		return g, asNotFound(err)
	}
	return g, json.Unmarshal(dispatch, &g.Dispatch)
}

// Group reads a node group. ErrNotFound.
func (tx *Tx) Group(id int64) (joinserver.Group, error) {
	return scanGroup(tx.row(`SELECT `+groupColumns+` FROM node_groups g WHERE g.id = $1`, id).Scan)
}

var groupOrder = order{joinserver.ByID: "g.id", joinserver.ByCreated: "g.created_ms"}

// Groups lists node groups, and counts all that match.
func (tx *Tx) Groups(f joinserver.GroupFilter) (list []joinserver.Group, total int64, err error) {
	w := groupWhere(f)
	from := ` FROM node_groups g` + w.where()
	if err := tx.row(`SELECT COUNT(*)`+from, w.args...).Scan(&total); err != nil {
		return nil, 0, err
	}
	err = tx.rows(func(rows *sql.Rows) error {
		g, err := scanGroup(rows.Scan)
		list = append(list, g)
		return err
	}, `SELECT `+groupColumns+from+groupOrder.page(f.Page), w.args...)
	return list, total, err
}

func groupWhere(f joinserver.GroupFilter) *filter {
	w := &filter{}
	if f.Account != 0 {
		w.add("g.account_id = ?", int64(f.Account))
	}
	if f.InstanceID != nil {
		w.add("g.instance_id = ?", *f.InstanceID)
	}
	in(w, "g.permission_id", f.PermissionIDs)
	w.like("g.name", f.NameLike)
	w.like("(SELECT p.join_eui FROM join_permissions p WHERE p.id = g.permission_id)", f.JoinEUILike)
	if f.DevEUILike != "" {
		nodes := &filter{args: w.args}
		nodes.like("n.dev_eui", f.DevEUILike)
		w.args = nodes.args
		w.conditions = append(w.conditions, "EXISTS (SELECT 1 FROM nodes n WHERE n.group_id = g.id AND "+inForce+" AND "+nodes.conditions[0]+")")
	}
	return w
}

// InsertGroup records a new node group and returns the id it got. ErrDuplicate:
// the account has one of this name, or the permission is bound to another.
func (tx *Tx) InsertGroup(g joinserver.Group) (int64, error) {
	id, err := tx.nextRevision()
	if err != nil {
		return 0, err
	}
	dispatch, err := json.Marshal(g.Dispatch)
	if err != nil {
		return 0, err
	}
	_, err = tx.exec(`
INSERT INTO node_groups (id, version, account_id, name, instance_id, permission_id, dispatch, created_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		id, id, int64(g.Account), g.Name, g.InstanceID, nullZero(g.PermissionID), string(dispatch), g.CreateMillis)
	return id, asDuplicate(err)
}

// UpdateGroup replaces all but ID and Version, and moves the version.
// ErrNotFound, ErrDuplicate.
func (tx *Tx) UpdateGroup(g joinserver.Group) error {
	dispatch, err := json.Marshal(g.Dispatch)
	if err != nil {
		return err
	}
	return tx.mustChange(`
UPDATE node_groups SET version = $1, account_id = $2, name = $3, instance_id = $4, permission_id = $5, dispatch = $6, created_ms = $7
WHERE id = $8`,
		tx.revision, int64(g.Account), g.Name, g.InstanceID, nullZero(g.PermissionID), string(dispatch), g.CreateMillis, g.ID)
}

// DeleteGroup removes a node group and takes its nodes out of it; their versions
// move. ErrNotFound.
func (tx *Tx) DeleteGroup(id int64) error {
	if err := tx.mustChange(`DELETE FROM node_groups WHERE id = $1`, id); err != nil {
		return err
	}
	_, err := tx.exec(`UPDATE nodes SET version = $1, group_id = NULL, bound_ms = 0 WHERE group_id = $2`, tx.revision, id)
	return err
}

// NodeCounts tells how many nodes each of the groups has.
func (tx *Tx) NodeCounts(groups []int64) (map[int64]int64, error) {
	counts := make(map[int64]int64, len(groups))
	for _, id := range groups {
		var n int64
		err := tx.row(`
SELECT COUNT(*) FROM nodes n WHERE n.group_id = $1 AND `+inForce, id).Scan(&n)
		if err != nil {
			return nil, err
		}
		counts[id] = n
	}
	return counts, nil
}

func nullZero(id int64) sql.NullInt64 { return sql.NullInt64{Int64: id, Valid: id != 0} }
