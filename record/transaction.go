package record

import (
	"context"
	"database/sql"
	"errors"
	"time"
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

const (
	longestWrite = time.Minute // of a transaction that is not a commit of joins
	overhead     = time.Second // that a commit of joins may take over its locks
)

// inTransaction runs fn in a transaction that is on disk when it returns nil.
func (r *Record) inTransaction(ctx context.Context, fn func(context.Context, *sql.Tx) error) error {
	ctx, cancel := r.bound(ctx, longestWrite)
	defer cancel()
	return r.transact(ctx, r.writer, fn)
}

// beginner is a pool of connections, or one of them.
type beginner interface {
	BeginTx(context.Context, *sql.TxOptions) (*sql.Tx, error)
}

// transact runs fn in a transaction. If the answer to the COMMIT stays
// out, the outcome is not known and counts as a failure.
func (r *Record) transact(ctx context.Context, db beginner, fn func(context.Context, *sql.Tx) error) error {
	tx, err := r.begin(ctx, db)
	if err != nil {
		return explain(err)
	}
	if err := fn(ctx, tx); err != nil {
		_ = tx.Rollback() // the first error is the one that counts
		if ctx.Err() != nil && (errors.Is(err, sql.ErrTxDone) || errors.Is(err, sql.ErrConnDone)) {
			err = ctx.Err() // which ended it
		}
		return explain(err)
	}
	if err := tx.Commit(); err != nil {
		return &commitError{explain(err)}
	}
	return nil
}

// commitError is a COMMIT that failed, or whose outcome is not known.
type commitError struct{ fault error }

func (e *commitError) Error() string {
	if isCutOff(e.fault) || isUnanswered(e.fault) {
		return "whether it was committed is not known: " + e.fault.Error()
	}
	return e.fault.Error()
}

func (e *commitError) Unwrap() error { return e.fault }

// begin takes the write lock of SQLite, for which it waits BusyTimeout at most.
func (r *Record) begin(ctx context.Context, db beginner) (*sql.Tx, error) {
	for deadline := time.Now().Add(r.busyTimeout); ; {
		tx, err := db.BeginTx(ctx, nil)
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
