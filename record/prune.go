package record

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// pruneChunk is how many gateways or notifications are looked at in one
// transaction.
const pruneChunk = 200

// Prune forgets what is older: online states of gateways, but for the last one of
// each, and notifications that were handled. It does so in small transactions, and
// joins go on. The audit is never pruned. Removed counts the rows.
func (r *Record) Prune(ctx context.Context, olderThan time.Time) (removed int64, err error) {
	states, err := r.pruneByKey(ctx, "gateways", "gw_eui", `
DELETE FROM gateway_states WHERE gw_eui > $1 AND gw_eui <= $2 AND changed_ms < $3
AND changed_ms < (SELECT MAX(l.changed_ms) FROM gateway_states l WHERE l.gw_eui = gateway_states.gw_eui)`, "", olderThan)
	if err != nil {
		return states, fmt.Errorf("forget states of gateways: %w", err)
	}
	notifications, err := r.pruneByKey(ctx, "notifications", "id", `
DELETE FROM notifications WHERE id > $1 AND id <= $2 AND handled_ms <> 0 AND handled_ms < $3`, int64(0), olderThan)
	if err != nil {
		return states, fmt.Errorf("forget notifications: %w", err)
	}
	return states + notifications, nil
}

// pruneByKey goes through a table by its key and runs the statement for each part
// of it, with the key before the part, its last key and the time.
func (r *Record) pruneByKey(ctx context.Context, table, key, statement string, first any, olderThan time.Time) (removed int64, err error) {
	next := fmt.Sprintf(`SELECT MAX(k), COUNT(*) FROM (SELECT %s AS k FROM %s WHERE %s > $1 ORDER BY %s LIMIT %d) AS part`, key, table, key, key, pruneChunk)
	for last, more := first, true; more; giveWay() {
		err := r.inTransaction(ctx, func(ctx context.Context, sqlTx *sql.Tx) error {
			if err := take(ctx, sqlTx, r.engine.locks.turn); err != nil {
				return err
			}
			tx := &Tx{ctx: ctx, tx: sqlTx, record: r}
			var end any
			var n int
			if err := tx.row(next, last).Scan(&end, &n); err != nil || n == 0 {
				more = false
				return err
			}
			gone, err := tx.exec(statement, last, end, olderThan.UnixMilli())
			removed, last, more = removed+gone, end, n == pruneChunk
			return err
		})
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}
