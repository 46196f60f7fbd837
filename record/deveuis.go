package record

import (
	"context"
	"database/sql"
	"fmt"

	"joingate/joinserver"
)

// DevEUIs hands the DevEUI of each node to fn, in order, and gives the revision as of
// which they are these. With the revision of an earlier call it hands over nothing if
// no administrator has written since.
func (r *Record) DevEUIs(ctx context.Context, since int64, fn func(joinserver.EUI64)) (revision int64, err error) {
	err = r.View(ctx, func(tx *Tx) error {
		if err := tx.row(`SELECT value FROM revision`).Scan(&revision); err != nil || revision == since {
			return err
		}
		return tx.rows(func(rows *sql.Rows) error {
			var text string
			if err := rows.Scan(&text); err != nil {
				return err
			}
			device, err := joinserver.ParseEUI64(text)
			fn(device)
			return err
		}, `SELECT n.dev_eui FROM nodes n WHERE `+inForce+` ORDER BY n.dev_eui`)
	})
	if err != nil {
		return since, fmt.Errorf("list DevEUIs: %w", explain(err))
	}
	return revision, nil
}
