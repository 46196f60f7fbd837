package record

import (
	"context"
	"database/sql"
	"fmt"

	"joingate/joinserver"
)

// Notify holds an element when join events have come since Pending was asked.
func (r *Record) Notify() <-chan struct{} { return r.added }

func (r *Record) signalOutbox() {
	select {
	case r.added <- struct{}{}:
	default:
	}
}

// Pending gives the oldest join events that wait for delivery, at most limit.
func (r *Record) Pending(ctx context.Context, limit int) ([]joinserver.OutboxEvent, error) {
	ctx, cancel := r.bound(ctx, r.busyTimeout)
	defer cancel()
	rows, err := r.reader.QueryContext(ctx, `
SELECT committed_ms, dev_eui, join_nonce, account_id, payload FROM outbox
ORDER BY committed_ms, dev_eui, join_nonce LIMIT $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("read join events: %w", explain(err))
	}
	defer rows.Close()
	var events []joinserver.OutboxEvent
	for rows.Next() {
		var e joinserver.OutboxEvent
		var devEUI string
		if err := rows.Scan(&e.CommittedMillis, &devEUI, &e.JoinNonce, &e.Account, &e.Payload); err != nil {
			return nil, fmt.Errorf("read join events: %w", err)
		}
		if e.DevEUI, err = joinserver.ParseEUI64(devEUI); err != nil {
			return nil, fmt.Errorf("read join events: %w", err)
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

const (
	sqlDelivered    = `DELETE FROM outbox WHERE (committed_ms, dev_eui, join_nonce) IN (VALUES {rows})`
	sqlDeliveredRow = `(CAST(? AS BIGINT), ?, CAST(? AS BIGINT))`
)

// Delivered takes events off the outbox. Those of a transaction that fails are
// delivered once more.
func (r *Record) Delivered(ctx context.Context, events []joinserver.OutboxEvent) error {
	args := make([]any, 0, len(events)*r.delivered.columns)
	for _, e := range events {
		args = append(args, e.CommittedMillis, e.DevEUI.String(), int64(e.JoinNonce))
	}
	return r.inTransaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := take(ctx, tx, r.engine.locks.deliveries); err != nil {
			return err
		}
		return r.delivered.exec(ctx, tx, args)
	})
}
