package record

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"joingate/joinserver"
)

// Tx is a transaction of the admin side. Its methods run under the context the
// transaction was begun with.
type Tx struct {
	ctx      context.Context
	tx       *sql.Tx
	record   *Record
	revision int64 // of a write
	changes  []joinserver.Change
}

// View runs fn over one consistent snapshot.
func (r *Record) View(ctx context.Context, fn func(*Tx) error) error {
	tx, err := r.reader.BeginTx(ctx, r.engine.view)
	if err != nil {
		return fmt.Errorf("read the record: %w", explain(err))
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	return fn(&Tx{ctx: ctx, tx: tx, record: r})
}

// Update runs fn in one transaction that takes the next revision, keeps the
// signature nonce and writes the audit line. When it returns nil the change is
// on disk. An error of fn rolls back and is returned as it is.
func (r *Record) Update(ctx context.Context, w joinserver.Write, fn func(*Tx) error) error {
	return r.write(ctx, w, fn, r.engine.locks.policies)
}

// write is Update under another lock than that which keeps joins out.
func (r *Record) write(ctx context.Context, w joinserver.Write, fn func(*Tx) error, lock string, args ...any) error {
	return r.inTransaction(ctx, func(ctx context.Context, sqlTx *sql.Tx) error {
		tx := &Tx{ctx: ctx, tx: sqlTx, record: r}
		if _, err := tx.nextRevision(); err != nil { // takes the turn
			return err
		}
		if err := take(ctx, sqlTx, lock, args...); err != nil {
			return err
		}
		if err := tx.useNonce(w); err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return err
		}
		return tx.writeAudit(w)
	})
}

// nextRevision counts the record's revision up. The row it changes makes writers
// wait for each other.
func (tx *Tx) nextRevision() (int64, error) {
	err := tx.row(`UPDATE revision SET value = value + 1 RETURNING value`).Scan(&tx.revision)
	return tx.revision, err
}

// useNonce refuses a signature nonce that was used within NonceLife.
func (tx *Tx) useNonce(w joinserver.Write) error {
	if w.Nonce == "" {
		return nil
	}
	forget := w.At.Add(-joinserver.NonceLife).UnixMilli()
	if _, err := tx.exec(`DELETE FROM signature_nonces WHERE at_ms < $1`, forget); err != nil {
		return err
	}
	n, err := tx.exec(`INSERT INTO signature_nonces (access_key_id, nonce, at_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		w.AccessKeyID, w.Nonce, w.At.UnixMilli())
	if err == nil && n == 0 {
		return joinserver.ErrNonceUsed
	}
	return err
}

// Audit adds a row's change to the audit line of the write.
func (tx *Tx) Audit(c joinserver.Change) error {
	tx.changes = append(tx.changes, c)
	return nil
}

// writeAudit leaves the line of the write. What the server itself observes, such
// as a gateway that comes online, is nobody's write and leaves none.
func (tx *Tx) writeAudit(w joinserver.Write) error {
	if w.Account == 0 && w.User == "" && w.AccessKeyID == "" && len(tx.changes) == 0 {
		return nil
	}
	changes, err := json.Marshal(append([]joinserver.Change{}, tx.changes...)) // [], not null
	if err != nil {
		return err
	}
	_, err = tx.exec(`
INSERT INTO audit (revision, at_ms, account_id, user_name, access_key_id, from_address, action, request_id, changes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		tx.revision, w.At.UnixMilli(), int64(w.Account), w.User, w.AccessKeyID, w.From, w.Action, w.RequestID, string(changes))
	return err
}

func (tx *Tx) row(query string, args ...any) *sql.Row {
	return tx.tx.QueryRowContext(tx.ctx, query, args...)
}

// exec runs a statement and tells how many rows it changed.
func (tx *Tx) exec(query string, args ...any) (int64, error) {
	result, err := tx.tx.ExecContext(tx.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// mustChange is exec for one row that has to be there.
func (tx *Tx) mustChange(query string, args ...any) error {
	n, err := tx.exec(query, args...)
	if err == nil && n == 0 {
		return joinserver.ErrNotFound
	}
	return asDuplicate(err)
}

// rows runs a query and hands each row to scan.
func (tx *Tx) rows(scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := tx.tx.QueryContext(tx.ctx, query, args...)
	return eachRow(rows, err, scan)
}

// filter gathers the conditions of a list.
type filter struct {
	conditions []string
	args       []any
}

// add appends a condition; each ? in it takes one argument.
func (f *filter) add(condition string, args ...any) {
	for _, arg := range args {
		f.args = append(f.args, arg)
		condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(f.args)), 1)
	}
	f.conditions = append(f.conditions, condition)
}

// like adds a substring condition: ASCII letters match in either case, no
// character is a wildcard. An empty text selects all.
func (f *filter) like(column, text string) {
	if text == "" {
		return
	}
	escaped := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(lowerASCII(text))
	f.add("LOWER("+column+`) LIKE ? ESCAPE '\'`, "%"+escaped+"%")
}

// in adds a condition on a set. Nil selects all; an empty set nothing.
func in[T any](f *filter, column string, set []T) {
	if set == nil {
		return
	}
	if len(set) == 0 {
		f.add("FALSE")
		return
	}
	args := make([]any, len(set))
	for i, v := range set {
		args[i] = v
	}
	f.add(column+" IN ("+strings.TrimSuffix(strings.Repeat("?, ", len(set)), ", ")+")", args...)
}

func (f *filter) where() string {
	if len(f.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(f.conditions, " AND ")
}

// order names the columns that a list can be sorted by. All lists have ByID.
type order map[joinserver.SortKey]string

// page gives the ORDER BY, LIMIT and OFFSET of a list.
func (o order) page(p joinserver.Page) string {
	direction := ""
	if p.Descending {
		direction = " DESC"
	}
	by := o[joinserver.ByID] + direction
	if column, known := o[p.By]; known && p.By != joinserver.ByID {
		by = column + direction + ", " + by
	}
	return fmt.Sprintf(" ORDER BY %s LIMIT %d OFFSET %d", by, p.Limit, p.Offset)
}

func lowerASCII(s string) string {
	return strings.Map(func(c rune) rune {
		if 'A' <= c && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}, s)
}
