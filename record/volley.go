package record

import (
	"context"
	"database/sql"
	"fmt"

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

// newVolley makes one that runs each statement at once, unless they take arrays.
func (e *engine) newVolley(ctx context.Context, tx *sql.Tx, conn *sql.Conn) *volley {
	v := &volley{ctx: ctx, tx: tx, conn: conn}
	if e.arrays {
		v.waits = &pgx.Batch{}
	}
	return v
}

// take takes a lock until the transaction ends; empty: the engine has none.
func (v *volley) take(lock string, args ...any) {
	if lock != "" {
		v.waits.Queue(lock, args...)
	}
}

// write writes rows of something. What fails says what it was.
func (v *volley) write(what string, b bulk, args []any) error {
	failed := func(err error) error {
		if err != nil {
			err = fmt.Errorf("write %s: %w", what, err)
		}
		return err
	}
	switch {
	case len(args) == 0:
		return nil
	case v.waits == nil:
		return failed(b.exec(v.ctx, v.tx, args))
	}
	v.waits.Queue(b.arrays, b.byColumn(args)...).Fn = func(answers pgx.BatchResults) error {
		_, err := answers.Exec()
		return failed(err)
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
	return v.each(b.arrays, scan, b.byColumn(args)...)
}

// each hands each row of the answer to scan.
func (v *volley) each(statement string, scan func(row) error, args ...any) error {
	if v.waits == nil {
		rows, err := v.tx.QueryContext(v.ctx, statement, args...)
		return eachRow(rows, err, func(rows *sql.Rows) error { return scan(rows) })
	}
	v.waits.Queue(statement, args...).Query(func(rows pgx.Rows) error {
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
