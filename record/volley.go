package record

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// volley runs the statements of a transaction. Over a network those that answer
// nothing wait for the next one that answers, or for send, and go with it: in their
// order, in one round trip.
type volley struct {
	ctx   context.Context
	tx    *sql.Tx
	conn  *sql.Conn // that tx is on
	waits *pgx.Batch
}

// row is a row of an answer.
type row interface{ Scan(to ...any) error }

// newVolley makes one that runs each statement at once, unless a network lies between.
func (e *engine) newVolley(ctx context.Context, tx *sql.Tx, conn *sql.Conn) *volley {
	v := &volley{ctx: ctx, tx: tx, conn: conn}
	if e.remote {
		v.waits = &pgx.Batch{}
	}
	return v
}

// take takes a lock until the transaction ends.
func (v *volley) take(lock string, args ...any) error {
	if lock == "" || v.waits == nil {
		return take(v.ctx, v.tx, lock, args...)
	}
	v.waits.Queue(lock, args...)
	return nil
}

// exec writes rows.
func (v *volley) exec(b bulk, args []any) error {
	if v.waits == nil {
		return b.exec(v.ctx, v.tx, args)
	}
	if len(args) > 0 {
		v.waits.Queue(b.arrays, b.byColumn(args)...)
	}
	return nil
}

// query hands each row of the answers to scan.
func (v *volley) query(b bulk, args []any, scan func(row) error) error {
	switch {
	case len(args) == 0:
		return nil
	case v.waits == nil:
		return b.each(v.ctx, v.tx, args, func(s *sql.Stmt, args []any) error {
			rows, err := s.QueryContext(v.ctx, args...)
			return eachRow(rows, err, func(rows *sql.Rows) error { return scan(rows) })
		})
	}
	v.waits.Queue(b.arrays, b.byColumn(args)...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return nil // rows.Err() is seen to by pgx
	})
	return v.send()
}

// send sends what waits.
func (v *volley) send() error {
	if v.waits == nil || v.waits.Len() == 0 {
		return nil
	}
	batch := v.waits
	v.waits = &pgx.Batch{}
	return v.conn.Raw(func(driver any) error {
		return driver.(*stdlib.Conn).Conn().SendBatch(v.ctx, batch).Close()
	})
}
