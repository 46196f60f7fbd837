package record

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"

	"joingate/joinserver"
)

// importChunk is how many nodes are staged in one transaction: small, so that
// joins go on in between.
const importChunk = 500

// KnownNodeError says that an import brings a DevEUI which is registered.
type KnownNodeError struct{ DevEUI joinserver.EUI64 }

func (e *KnownNodeError) Error() string {
	return "DevEUI " + e.DevEUI.String() + " is registered already"
}

// ImportNodes registers all of the nodes or none. They are staged in small
// transactions and come into force together, at once. progress is told how many
// are staged. A known DevEUI, or one that comes twice, is a *KnownNodeError.
func (r *Record) ImportNodes(ctx context.Context, w joinserver.Write, nodes []NewNode, progress func(staged int)) error {
	// In the order in which they lie on disk, so that few pages are written.
	nodes = slices.SortedFunc(slices.Values(nodes), func(a, b NewNode) int { return bytes.Compare(a.DevEUI[:], b.DevEUI[:]) })
	id, err := r.beginImport(ctx)
	if err != nil {
		return fmt.Errorf("begin import: %w", err)
	}
	err = r.stage(ctx, id, nodes, w.At.UnixMilli(), progress)
	if err == nil {
		err = r.bringIntoForce(ctx, id, w, len(nodes))
	}
	if err != nil {
		r.abandon(id)
	}
	return err
}

func (r *Record) beginImport(ctx context.Context) (id int64, err error) {
	err = r.inTransaction(ctx, func(ctx context.Context, sqlTx *sql.Tx) (err error) {
		tx := &Tx{ctx: ctx, tx: sqlTx, record: r}
		if id, err = tx.nextRevision(); err != nil {
			return err
		}
		_, err = tx.exec(`INSERT INTO imports (id, in_force) VALUES ($1, FALSE)`, id)
		return err
	})
	return id, err
}

func (r *Record) stage(ctx context.Context, id int64, nodes []NewNode, nowMillis int64, progress func(int)) error {
	staged := 0
	for chunk := range slices.Chunk(nodes, importChunk) {
		err := r.inTransaction(ctx, func(ctx context.Context, sqlTx *sql.Tx) error {
			if err := take(ctx, sqlTx, r.engine.locks.turn); err != nil {
				return err
			}
			tx := &Tx{ctx: ctx, tx: sqlTx, record: r, revision: id}
			return tx.stageNodes(chunk, nowMillis)
		})
		if err != nil {
			return err
		}
		giveWay()
		staged += len(chunk)
		progress(staged)
	}
	return nil
}

// stageNodes adds nodes that are not in force yet. What an import left behind
// that never came into force is taken over.
func (tx *Tx) stageNodes(nodes []NewNode, nowMillis int64) error {
	insert, err := tx.tx.PrepareContext(tx.ctx, `
INSERT INTO nodes (dev_eui, version, account_id, group_id, enabled, mac_version, sealed_app, sealed_nwk, pin_code, import_id, created_ms, bound_ms)
VALUES ($1, $2, $3, $4, TRUE, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (dev_eui) DO UPDATE SET version = excluded.version, account_id = excluded.account_id, group_id = excluded.group_id,
    enabled = TRUE, mac_version = excluded.mac_version, sealed_app = excluded.sealed_app, sealed_nwk = excluded.sealed_nwk,
    pin_code = excluded.pin_code, import_id = excluded.import_id, created_ms = excluded.created_ms, bound_ms = excluded.bound_ms
WHERE nodes.import_id <> excluded.import_id AND nodes.import_id IN (SELECT id FROM imports WHERE NOT in_force)`)
	if err != nil {
		return err
	}
	defer insert.Close()
	seal, err := tx.sealer()
	if err != nil {
		return err
	}
	for _, n := range nodes {
		bound := nowMillis
		if n.GroupID == 0 {
			bound = 0
		}
		result, err := insert.ExecContext(tx.ctx, n.DevEUI.String(), tx.revision, int64(n.Account), nullZero(n.GroupID), n.MACVersion.String(),
			seal.SealKey(n.Keys.App, placeOf(n.DevEUI, "sealed_app")), seal.SealKey(n.Keys.Nwk, placeOf(n.DevEUI, "sealed_nwk")),
			n.PinCode, tx.revision, nowMillis, bound)
		if err != nil {
			return fmt.Errorf("stage %s: %w", n.DevEUI, err)
		}
		changed, err := result.RowsAffected()
		if err != nil {
			return err
		}
		if changed == 0 {
			return &KnownNodeError{n.DevEUI}
		}
	}
	return tx.startBeyond(nodes)
}

// bringIntoForce ends the staging, if all of it is still there: another import of
// the same devices may have taken some over.
func (r *Record) bringIntoForce(ctx context.Context, id int64, w joinserver.Write, want int) error {
	return r.Update(ctx, w, func(tx *Tx) error {
		var staged int
		if err := tx.row(`SELECT COUNT(*) FROM nodes WHERE import_id = $1`, id).Scan(&staged); err != nil {
			return err
		}
		if staged != want {
			return fmt.Errorf("another import took over %d of the devices while this one ran: nothing was imported, run it again", want-staged)
		}
		if err := tx.mustHaveGroups(id); err != nil {
			return err
		}
		if err := tx.mustChange(`UPDATE imports SET in_force = TRUE WHERE id = $1`, id); err != nil {
			return err
		}
		return tx.Audit(joinserver.Change{Entity: "import", ID: strconv.FormatInt(id, 10), New: fmt.Sprintf(`{"nodes":%d}`, want)})
	})
}

// mustHaveGroups keeps an import from putting nodes into a group that was deleted
// while it ran.
func (tx *Tx) mustHaveGroups(id int64) error {
	var lost int
	err := tx.row(`
SELECT COUNT(*) FROM nodes WHERE import_id = $1 AND group_id IS NOT NULL AND group_id NOT IN (SELECT id FROM node_groups)`, id).Scan(&lost)
	if err == nil && lost > 0 {
		return fmt.Errorf("the node group of %d of the devices was deleted while the import ran: nothing was imported", lost)
	}
	return err
}

// abandon takes back what was staged, in small transactions again. What it cannot
// take back is never in force, and the next import of the same devices takes it
// over; so the import itself goes last.
func (r *Record) abandon(id int64) {
	const takeBack = `DELETE FROM nodes WHERE dev_eui IN (SELECT dev_eui FROM nodes WHERE import_id = $1 LIMIT $2)`
	for left := int64(1); left > 0; giveWay() {
		err := r.inTransaction(context.Background(), func(ctx context.Context, tx *sql.Tx) error {
			if err := take(ctx, tx, r.engine.locks.turn); err != nil {
				return err
			}
			result, err := tx.ExecContext(ctx, takeBack, id, importChunk)
			if err != nil {
				return err
			}
			if left, err = result.RowsAffected(); err != nil || left > 0 {
				return err
			}
			_, err = tx.ExecContext(ctx, `DELETE FROM imports WHERE id = $1`, id)
			return err
		})
		if err != nil {
			return
		}
	}
}
