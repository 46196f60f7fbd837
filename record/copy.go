package record

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// copiedTables are all tables that hold what an installation has, each with its
// primary key. key_check is left out: both records have their own.
var copiedTables = []copiedTable{
	{"accounts", "id"},
	{"users", "account_id, name"},
	{"access_keys", "id"},
	{"account_keks", "account_id, recipient"},
	{"join_permissions", "id"},
	{"node_groups", "id"},
	{"orders", "id"},
	{"imports", "id"},
	{"nodes", "dev_eui"},
	{"gateways", "gw_eui"},
	{"gateway_states", "gw_eui, changed_ms"},
	{"notifications", "id"},
	{"dev_nonces", "dev_eui, join_eui, dev_nonce"},
	{"rejoin_counts", "dev_eui, join_eui"},
	{"sessions", "dev_eui, slot"},
	{"outbox", "committed_ms, dev_eui, join_nonce"},
	{"outbox_sinks", "sink, committed_ms, dev_eui, join_nonce"},
	{"audit", "revision"},
	{"signature_nonces", "access_key_id, nonce"},
	{"restored", "only_row"},
}

type copiedTable struct{ name, key string }

// copyChunk is how many rows are copied in one transaction.
const copyChunk = 2000

// ErrOtherData says that the record to copy to holds what the other does not.
var ErrOtherData = errors.New("holds other data already: name an empty database")

// Copy moves an installation from one record to another, which may be on another
// engine: all rows as they are, keys sealed. Both are sealed with the same key
// encryption key. Nothing may write to either meanwhile: stop joingate first.
//
// Rows go in chunks, in the order of their keys; a copy that was broken off goes
// on where it was when it is started again. In the end every row of the two is
// compared; nil means that they are equal. progress is told how many rows of which
// table are there.
//
// Errors: ErrOtherData, before anything is written; others say what to do.
func Copy(ctx context.Context, from, to *Record, progress func(table string, rows int64)) error {
	snapshot, err := from.reader.BeginTx(ctx, from.engine.view)
	if err != nil {
		return fmt.Errorf("read the record to copy: %w", explain(err))
	}
	defer func() { _ = snapshot.Rollback() }() // nothing was written
	if err := to.mustOpenKeysOf(ctx, snapshot); err != nil {
		return err
	}
	for _, t := range copiedTables {
		if err := t.mustHoldNothingElse(ctx, snapshot, to); err != nil {
			return err
		}
	}
	for _, t := range copiedTables {
		if err := t.copyRows(ctx, snapshot, to, func(rows int64) { progress(t.name, rows) }); err != nil {
			return fmt.Errorf("copy %s: %w", t.name, explain(err))
		}
	}
	if err := copyRevision(ctx, snapshot, to); err != nil {
		return fmt.Errorf("copy the revision: %w", explain(err))
	}
	for _, t := range copiedTables {
		if err := t.mustBeEqual(ctx, snapshot, to); err != nil {
			return err
		}
	}
	return nil
}

// mustOpenKeysOf compares the key encryption keys of the records.
func (r *Record) mustOpenKeysOf(ctx context.Context, other *sql.Tx) error {
	var sealed []byte
	if err := other.QueryRowContext(ctx, `SELECT sealed FROM key_check`).Scan(&sealed); err != nil {
		return fmt.Errorf("read the record to copy: %w", explain(err))
	}
	if _, err := r.sealer.Open(sealed, keyCheckPlace); err != nil {
		return errors.New("the records are sealed with different keys: open both with the key file of the one to copy ([keys] kek_file)")
	}
	return nil
}

func (t copiedTable) rows(ctx context.Context, db querier) (*rowReader, error) {
	rows, err := db.QueryContext(ctx, `SELECT * FROM `+t.name+` ORDER BY `+t.key)
	if err != nil {
		return nil, err
	}
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, errors.Join(err, rows.Close())
	}
	r := &rowReader{Rows: rows}
	for _, c := range types {
		r.columns = append(r.columns, c.Name())
		r.boolean = append(r.boolean, c.DatabaseTypeName() == "BOOLEAN")
	}
	return r, nil
}

// types gives those that the columns have in the record to copy to.
func (t copiedTable) types(ctx context.Context, to *Record, columns []string) ([]string, error) {
	rows, err := to.reader.QueryContext(ctx, `SELECT `+strings.Join(columns, ", ")+` FROM `+t.name+` LIMIT 0`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all, err := rows.ColumnTypes()
	types := make([]string, len(all))
	for i, c := range all {
		types[i] = c.DatabaseTypeName()
	}
	return types, err
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// rowReader reads whole rows of a table.
type rowReader struct {
	*sql.Rows
	columns []string
	boolean []bool // of SQLite: the column's numbers are truth values
}

// next gives the values of the next row, io.EOF after the last.
func (r *rowReader) next() ([]any, error) {
	if !r.Next() {
		if err := r.Err(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	values, to := make([]any, len(r.columns)), make([]any, len(r.columns))
	for i := range values {
		to[i] = &values[i]
	}
	err := r.Scan(to...)
	for i, value := range values {
		if number, ok := value.(int64); ok && r.boolean[i] {
			values[i] = number != 0
		}
	}
	return values, err
}

// mustHoldNothingElse goes through the rows that are there already: each has to be
// a row of the record to copy.
func (t copiedTable) mustHoldNothingElse(ctx context.Context, from *sql.Tx, to *Record) error {
	there, err := t.rows(ctx, to.reader)
	if err != nil {
		return err
	}
	defer there.Close()
	row, err := there.next()
	if errors.Is(err, io.EOF) {
		return nil
	}
	all, err1 := t.rows(ctx, from)
	if err := errors.Join(err, err1); err != nil {
		return err
	}
	defer all.Close()
	for err == nil {
		var candidate []any
		if candidate, err = all.next(); errors.Is(err, io.EOF) {
			return fmt.Errorf("%s of the record to copy to: %w", t.name, ErrOtherData)
		}
		if err == nil && bytes.Equal(octetsOf(row), octetsOf(candidate)) {
			row, err = there.next()
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (t copiedTable) copyRows(ctx context.Context, from *sql.Tx, to *Record, progress func(int64)) error {
	rows, err := t.rows(ctx, from)
	if err != nil {
		return err
	}
	defer rows.Close()
	types, err := t.types(ctx, to, rows.columns)
	if err != nil {
		return err
	}
	insert, err := to.engine.prepareBulk(ctx, to.writer,
		`INSERT INTO `+t.name+` (`+strings.Join(rows.columns, ", ")+`) {rows} ON CONFLICT DO NOTHING`, types...)
	if err != nil {
		return err
	}
	defer insert.close()
	for done, more := int64(0), true; more; {
		var args []any
		for n := 0; n < copyChunk && more; n++ {
			row, err := rows.next()
			if more = !errors.Is(err, io.EOF); more && err != nil {
				return err
			}
			args = append(args, row...)
		}
		if err := to.inTransaction(ctx, func(ctx context.Context, tx *sql.Tx) error { return insert.exec(ctx, tx, args) }); err != nil {
			return err
		}
		done += int64(len(args) / len(rows.columns))
		progress(done)
	}
	return nil
}

// copyRevision comes last: from then on the copy can be written to, with ids and
// versions that were never used.
func copyRevision(ctx context.Context, from *sql.Tx, to *Record) error {
	var revision int64
	if err := from.QueryRowContext(ctx, `SELECT value FROM revision`).Scan(&revision); err != nil {
		return err
	}
	return to.inTransaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE revision SET value = $1 WHERE value < $2`, revision, revision)
		return err
	})
}

// mustBeEqual counts the rows of both and compares a checksum of all of them.
func (t copiedTable) mustBeEqual(ctx context.Context, from *sql.Tx, to *Record) error {
	want, wantSum, err1 := t.checksum(ctx, from)
	got, gotSum, err2 := t.checksum(ctx, to.reader)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("compare %s: %w", t.name, explain(err))
	}
	if want != got || wantSum != gotSum {
		return fmt.Errorf("%s differ after the copy (%d rows, %d in the copy): something wrote to one of the records meanwhile; stop joingate and copy to an empty database", t.name, want, got)
	}
	return nil
}

func (t copiedTable) checksum(ctx context.Context, db querier) (n int64, sum [sha256.Size]byte, err error) {
	rows, err := t.rows(ctx, db)
	if err != nil {
		return 0, sum, err
	}
	defer rows.Close()
	hash := sha256.New()
	for {
		row, err := rows.next()
		if errors.Is(err, io.EOF) {
			hash.Sum(sum[:0])
			return n, sum, nil
		}
		if err != nil {
			return 0, sum, err
		}
		n++
		_, _ = hash.Write(octetsOf(row)) // a hash takes all
	}
}

// octetsOf writes a row in octets that are the same on all engines, and of no two
// rows alike.
func octetsOf(row []any) []byte {
	var b []byte
	for _, value := range row {
		switch v := value.(type) {
		case nil:
			b = append(b, 'n')
		case bool:
			b = append(b, 'b', 0)
			if v {
				b[len(b)-1] = 1
			}
		case int64:
			b = binary.BigEndian.AppendUint64(append(b, 'i'), uint64(v))
		case float64:
			b = binary.BigEndian.AppendUint64(append(b, 'f'), math.Float64bits(v))
		case string:
			b = append(binary.BigEndian.AppendUint64(append(b, 's'), uint64(len(v))), v...)
		case []byte:
			b = append(binary.BigEndian.AppendUint64(append(b, 'o'), uint64(len(v))), v...)
		default:
			b = fmt.Appendf(append(b, 'x'), "%T %v", v, v)
		}
	}
	return b
}
