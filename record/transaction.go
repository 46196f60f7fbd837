package record

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Programs that share a record take turns. SQLite has no queue for its write
// lock, and asks for one that is held ever more seldom (every 100 ms in the end),
// so that a busy program would keep the others out.
const (
	lockPoll    = time.Millisecond       // how often a held lock is asked for
	longestHold = 100 * time.Millisecond // of a program that writes without a pause
)

// giveWay lets another program that waits for the write lock have it.
func giveWay() { time.Sleep(2 * lockPoll) }

// inTransaction runs fn in a transaction that is on disk when it returns nil.
func (r *Record) inTransaction(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := r.begin(ctx)
	if err != nil {
		return explain(err)
	}
	if err := fn(tx); err != nil {
		_ = tx.Rollback() // the first error is the one that counts
		return explain(err)
	}
	return explain(tx.Commit())
}

// begin takes the write lock, for which it waits BusyTimeout at most.
func (r *Record) begin(ctx context.Context) (*sql.Tx, error) {
	for deadline := time.Now().Add(r.busyTimeout); ; {
		tx, err := r.writer.BeginTx(ctx, nil)
		if !isBusy(err) || time.Now().After(deadline) {
			return tx, err
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func isBusy(err error) bool {
	var fault *sqlite.Error
	return errors.As(err, &fault) && fault.Code()&primaryCode == sqlite3.SQLITE_BUSY
}
