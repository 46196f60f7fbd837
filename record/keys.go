package record

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"joingate/joinserver"
	"joingate/keyring"
)

// kekCheck is what key_check holds, sealed for its place.
const (
	kekCheck      = "joingate"
	keyCheckPlace = "key_check"
)

var errWrongKEK = errors.New("the key file is not the one that this record was sealed with: put the right one in place ([keys] kek_file, or what kek_command prints)")

// checkKEK compares the key encryption keys with the one the record was made with.
func (r *Record) checkKEK(ctx context.Context) error {
	return r.inTransaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO key_check (only_row, sealed) VALUES (1, $1) ON CONFLICT DO NOTHING`, r.sealer.Seal([]byte(kekCheck), keyCheckPlace))
		if err != nil {
			return err
		}
		return r.mustKnowKEK(ctx, tx)
	})
}

// mustKnowKEK opens key_check, by which the Sealer learns a key that came to the
// record while this program runs.
func (r *Record) mustKnowKEK(ctx context.Context, tx *sql.Tx) error {
	return mustOpenCheck(ctx, tx, r.sealer)
}

func mustOpenCheck(ctx context.Context, db rowQuerier, sealer *keyring.Sealer) error {
	var sealed []byte
	if err := db.QueryRowContext(ctx, `SELECT sealed FROM key_check`).Scan(&sealed); err != nil {
		return err
	}
	if _, err := sealer.Open(sealed, keyCheckPlace); err != nil {
		return fmt.Errorf("%w (%w)", errWrongKEK, err)
	}
	return nil
}

// rowQuerier is a database or a transaction.
type rowQuerier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// sealer gives what a write seals with. A rotation begins with key_check: a program
// that does not know the new key yet learns it here, before it would seal under one
// that is about to be taken out.
func (tx *Tx) sealer() (*keyring.Sealer, error) {
	return tx.record.sealer, tx.record.mustKnowKEK(tx.ctx, tx.tx)
}

// sealedTable is a table that holds sealed values.
type sealedTable struct {
	name    string
	key     string // its primary key as one text, by which it is gone through
	columns []string
	place   func(key, column string) string
}

// sealedTables are all of them but key_check. Their places are those of placeOf,
// placeOfSecret and placeOfKEK.
var sealedTables = []sealedTable{
	{"nodes", "dev_eui", []string{"sealed_app", "sealed_nwk"}, func(key, column string) string { return "nodes." + column + " " + key }},
	{"access_keys", "id", []string{"sealed_secret"}, func(key, _ string) string { return placeOfSecret(key) }},
	{"account_keks", "(CAST(account_id AS TEXT) || ' ' || recipient)", []string{"sealed_kek"}, func(key, _ string) string { return "account_keks.sealed_kek " + key }},
}

// Rotate seals under the first key of the Sealer all that is sealed under an older
// one, in small transactions between which joins and other writes go on. Other
// programs on the record must be able to read the new key where they read the
// older one, and learn it by themselves. A rotation that was broken off goes on when
// it is started again. progress is told how many rows are looked through.
//
// When it returns nil, nothing on record needs an older key. Only then may that be
// taken out of the key file.
func (r *Record) Rotate(ctx context.Context, w joinserver.Write, progress func(done, total int)) error {
	if err := r.sealer.Learn(); err != nil {
		return err
	}
	// First of all: whoever seals something from now on knows the new key.
	err := r.Update(ctx, w, func(tx *Tx) error {
		if err := tx.resealKeyCheck(); err != nil {
			return err
		}
		return tx.Audit(joinserver.Change{Entity: "key encryption key", New: `"replaced"`})
	})
	if err != nil {
		return err
	}
	total, err := r.countSealed(ctx)
	if err != nil {
		return err
	}
	done := 0
	for _, t := range sealedTables {
		if err := r.resealTable(ctx, t, func(rows int) { done += rows; progress(done, max(done, total)) }); err != nil {
			return fmt.Errorf("seal %s under the new key: %w", t.name, err)
		}
	}
	return r.View(ctx, func(tx *Tx) error {
		for _, t := range sealedTables {
			err := tx.eachSealed(ctx, t, func(key string, older bool, err error) error {
				if err == nil && older {
					err = errors.New("still needs the older key: another program writes with a key file of its own; give it the same one and rotate once more")
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (tx *Tx) resealKeyCheck() error {
	var sealed []byte
	if err := tx.row(`SELECT sealed FROM key_check`).Scan(&sealed); err != nil {
		return err
	}
	fresh, err := tx.record.sealer.Reseal(sealed, keyCheckPlace)
	if err != nil {
		return errWrongKEK
	}
	if fresh == nil {
		return nil
	}
	return tx.mustChange(`UPDATE key_check SET sealed = $1`, fresh)
}

func (r *Record) countSealed(ctx context.Context) (total int, err error) {
	for _, t := range sealedTables {
		var n int
		if err := r.reader.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+t.name).Scan(&n); err != nil {
			return 0, explain(err)
		}
		total += n
	}
	return total, nil
}

// resealChunk is how many rows are sealed anew in one transaction.
const resealChunk = 500

// resealTable goes through a table by its key. Rows that come behind it are sealed
// under the new key already.
func (r *Record) resealTable(ctx context.Context, t sealedTable, progress func(rows int)) error {
	for last, more := "", true; more; giveWay() {
		var rows []sealedRow
		err := r.inTransaction(ctx, func(ctx context.Context, sqlTx *sql.Tx) (err error) {
			if err := take(ctx, sqlTx, r.engine.locks.turn); err != nil {
				return err
			}
			tx := &Tx{ctx: ctx, tx: sqlTx, record: r}
			if rows, err = tx.sealedRows(t, last, resealChunk); err != nil {
				return err
			}
			for _, row := range rows {
				if err := tx.reseal(t, row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if more = len(rows) == resealChunk; len(rows) > 0 {
			last = rows[len(rows)-1].key
			progress(len(rows))
		}
	}
	return nil
}

// sealedRow is a row of a sealedTable: its key and what its columns hold.
type sealedRow struct {
	key    string
	sealed [][]byte
}

// sealedRows reads the rows behind a key, at most limit.
func (tx *Tx) sealedRows(t sealedTable, after string, limit int) (list []sealedRow, err error) {
	columns := t.key
	for _, c := range t.columns {
		columns += ", " + c
	}
	err = tx.rows(func(rows *sql.Rows) error {
		row := sealedRow{sealed: make([][]byte, len(t.columns))}
		to := []any{&row.key}
		for i := range row.sealed {
			to = append(to, &row.sealed[i])
		}
		err := rows.Scan(to...)
		list = append(list, row)
		return err
	}, fmt.Sprintf(`SELECT %s FROM %s WHERE %s > $1 ORDER BY %s LIMIT %d`, columns, t.name, t.key, t.key, limit), after)
	return list, err
}

// reseal does not move the row's version: the keys stay what they are.
func (tx *Tx) reseal(t sealedTable, row sealedRow) error {
	for i, column := range t.columns {
		fresh, err := tx.record.sealer.Reseal(row.sealed[i], t.place(row.key, column))
		if err != nil {
			return err
		}
		if fresh == nil {
			continue
		}
		if err := tx.mustChange(`UPDATE `+t.name+` SET `+column+` = $1 WHERE `+t.key+` = $2`, fresh, row.key); err != nil {
			return err
		}
	}
	return nil
}

// eachSealed tells of every row whether it is sealed under an older key, or does not
// open.
func (tx *Tx) eachSealed(ctx context.Context, t sealedTable, fn func(key string, older bool, err error) error) error {
	for last, more := "", true; more; {
		rows, err := tx.sealedRows(t, last, resealChunk)
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		for _, row := range rows {
			older, err := tx.isOlder(t, row)
			if err := fn(row.key, older, err); err != nil {
				return fmt.Errorf("%s %s: %w", t.name, row.key, err)
			}
		}
		if more = len(rows) == resealChunk; more {
			last = rows[len(rows)-1].key
		}
	}
	return nil
}

func (tx *Tx) isOlder(t sealedTable, row sealedRow) (older bool, err error) {
	for i, column := range t.columns {
		fresh, err := tx.record.sealer.Reseal(row.sealed[i], t.place(row.key, column))
		if err != nil {
			return false, err
		}
		older = older || fresh != nil
	}
	return older, nil
}
