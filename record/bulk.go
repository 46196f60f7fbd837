package record

import (
	"context"
	"database/sql"
	"strings"
)

// bulk is a statement that takes any number of rows as its arguments. One
// statement over many rows costs a fraction of many statements, and on a network
// one round trip instead of many.
type bulk struct {
	columns int // arguments of a row
	sized   []sizedStatement
}

// sizedStatement is a bulk statement for a number of rows.
type sizedStatement struct {
	rows int
	*sql.Stmt
}

// prepareBulk prepares a statement in whose text {rows} stands for the rows. In
// row, each ? is an argument. There may be no others.
func (e *engine) prepareBulk(ctx context.Context, db *sql.DB, text, row string) (bulk, error) {
	b := bulk{columns: strings.Count(row, "?")}
	for _, size := range e.bulkSizes {
		if size > 1 && size*b.columns > e.maxBulkArgs {
			continue
		}
		rows := row + strings.Repeat(", "+row, size-1)
		statement, err := db.PrepareContext(ctx, e.statement(strings.Replace(text, "{rows}", rows, 1)))
		if err != nil {
			return b, err
		}
		b.sized = append(b.sized, sizedStatement{size, statement})
	}
	return b, nil
}

func (b bulk) close() {
	for _, s := range b.sized {
		_ = s.Close() // it was used or not; what it did is done
	}
}

// each runs the largest statements that the arguments fill.
func (b bulk) each(ctx context.Context, tx *sql.Tx, args []any, run func(*sql.Stmt, []any) error) error {
	for _, s := range b.sized {
		for n := s.rows * b.columns; len(args) >= n; args = args[n:] {
			if err := run(tx.StmtContext(ctx, s.Stmt), args[:n]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b bulk) exec(ctx context.Context, tx *sql.Tx, args []any) error {
	return b.each(ctx, tx, args, func(s *sql.Stmt, args []any) error {
		_, err := s.ExecContext(ctx, args...)
		return err
	})
}

// query hands each row of the answers to scan.
func (b bulk) query(ctx context.Context, tx *sql.Tx, args []any, scan func(*sql.Rows) error) error {
	return b.each(ctx, tx, args, func(s *sql.Stmt, args []any) error {
		rows, err := s.QueryContext(ctx, args...)
		return eachRow(rows, err, scan)
	})
}

// eachRow hands the rows of an answer to scan and closes it.
func eachRow(rows *sql.Rows, err error, scan func(*sql.Rows) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
