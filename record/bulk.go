package record

import (
	"context"
	"database/sql"
	"strings"
)

// bulkSizes are the numbers of rows that a bulk statement is prepared for, from
// many to one. One statement over many rows costs a fraction of many statements,
// and on a network one round trip instead of many.
var bulkSizes = [...]int{16, 4, 1}

// maxBulkArgs bounds the arguments of one statement of several rows: the SQLite
// driver looks through all of them for each.
const maxBulkArgs = 96

// bulk is a statement that takes any number of rows as its arguments.
type bulk struct {
	columns int // arguments of a row
	sized   [len(bulkSizes)]*sql.Stmt
}

// prepareBulk prepares a statement in whose text {rows} stands for the rows. In
// row, each ? is an argument. There may be no others: SQLite finds these by their
// place, PostgreSQL will want them numbered.
func prepareBulk(ctx context.Context, db *sql.DB, text, row string) (b bulk, err error) {
	b.columns = strings.Count(row, "?")
	for i, size := range bulkSizes {
		if size > 1 && size*b.columns > maxBulkArgs {
			continue
		}
		rows := row + strings.Repeat(", "+row, size-1)
		if b.sized[i], err = db.PrepareContext(ctx, strings.Replace(text, "{rows}", rows, 1)); err != nil {
			return b, err
		}
	}
	return b, nil
}

// each runs the largest statements that the arguments fill.
func (b bulk) each(tx *sql.Tx, args []any, run func(*sql.Stmt, []any) error) error {
	for i, size := range bulkSizes {
		if b.sized[i] == nil {
			continue
		}
		for n := size * b.columns; len(args) >= n; args = args[n:] {
			if err := run(tx.Stmt(b.sized[i]), args[:n]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b bulk) exec(tx *sql.Tx, args []any) error {
	return b.each(tx, args, func(s *sql.Stmt, args []any) error {
		_, err := s.Exec(args...)
		return err
	})
}

// query hands each row of the answers to scan.
func (b bulk) query(tx *sql.Tx, args []any, scan func(*sql.Rows) error) error {
	return b.each(tx, args, func(s *sql.Stmt, args []any) error {
		rows, err := s.Query(args...)
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
