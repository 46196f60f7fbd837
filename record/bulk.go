package record

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
)

// bulk is a statement that takes any number of rows as its arguments. One
// statement over many rows costs a fraction of many statements, and on a network
// one round trip instead of many.
type bulk struct {
	columns int              // arguments of a row
	arrays  string           // the statement, where each column is one argument; empty:
	sized   []sizedStatement // … several, where each value is one
}

// sizedStatement is a bulk statement for a number of rows.
type sizedStatement struct {
	rows int
	*sql.Stmt
}

// prepareBulk prepares a statement in whose text {rows} stands for a query that gives
// the rows, as column1, column2 and so on. Other arguments there may be none. The
// types are those of the columns, in PostgreSQL's terms.
func (e *engine) prepareBulk(ctx context.Context, db *sql.DB, text string, types ...string) (bulk, error) {
	b := bulk{columns: len(types)}
	if e.arrays { // the driver prepares it, on each connection that meets it
		b.arrays = strings.Replace(text, "{rows}", unnested(types), 1)
		return b, nil
	}
	row := "(?" + strings.Repeat(", ?", len(types)-1) + ")"
	for _, size := range e.bulkSizes {
		if size > 1 && size*len(types) > e.maxBulkArgs {
			continue
		}
		rows := "VALUES " + row + strings.Repeat(", "+row, size-1)
		statement, err := db.PrepareContext(ctx, strings.Replace(text, "{rows}", rows, 1))
		if err != nil {
			return b, err
		}
		b.sized = append(b.sized, sizedStatement{size, statement})
	}
	return b, nil
}

// unnested makes rows of an array for each column.
func unnested(types []string) string {
	arrays, names := make([]string, len(types)), make([]string, len(types))
	for i, t := range types {
		n := strconv.Itoa(i + 1)
		arrays[i], names[i] = "$"+n+"::"+t+"[]", "column"+n
	}
	return "SELECT * FROM unnest(" + strings.Join(arrays, ", ") + ") AS r(" + strings.Join(names, ", ") + ")"
}

func (b bulk) close() {
	for _, s := range b.sized {
		_ = s.Close() // it was used or not; what it did is done
	}
}

// each runs the largest statements that the arguments fill, row by row.
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

// byColumn makes arrays of rows.
func (b bulk) byColumn(args []any) []any {
	arrays, rows := make([]any, b.columns), len(args)/b.columns
	for c := range arrays {
		array := make([]any, rows)
		for r := range array {
			array[r] = args[r*b.columns+c]
		}
		arrays[c] = array
	}
	return arrays
}

func (b bulk) exec(ctx context.Context, tx *sql.Tx, args []any) error {
	if b.arrays != "" && len(args) > 0 {
		_, err := tx.ExecContext(ctx, b.arrays, b.byColumn(args)...)
		return err
	}
	return b.each(ctx, tx, args, func(s *sql.Stmt, args []any) error {
		_, err := s.ExecContext(ctx, args...)
		return err
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
