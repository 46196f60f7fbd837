package record

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/pressly/goose/v3"
)

// engine is what differs between the databases that can hold a record.
type engine struct {
	dialect goose.Dialect
	schema  func([]byte) []byte // a migration as the engine reads it

	view        *sql.TxOptions // of a transaction that reads one snapshot
	arrays      bool           // a bulk statement takes arrays, and waits for others (volley); else it has one of these sizes
	bulkSizes   []int          // rows per statement, from many to one
	maxBulkArgs int            // of a statement of several rows

	among string             // condition that a column is in the list, which is $1
	list  func([]string) any // the list as an argument

	locks  locks
	remote bool // a network lies between, on which answers can stay out

	lookupPause time.Duration // the least from a statement that reads several policies to the next
}

// locks are the statements by which writers wait for each other, in the order in
// which they are taken. Empty: BEGIN has taken the lock already.
//
// An administrative write takes turn, then policies; one that confirms a session
// turn, then devices. A group commit takes joins, devices, addresses. Whoever holds a lock waits only for locks further down the
// list, and joins and policies exclude each other; so nobody waits in a circle.
//
// Long writes go in parts, each with turn alone: imports that stage their nodes,
// rotations of the key, the forgetting of what is old. Nodes come in the order of
// their DevEUIs, as in joins that lock the same rows. Deliveries take a lock of
// their own, and what they take off nobody else changes.
type locks struct {
	turn       string // one administrative write at a time
	policies   string // no join is being decided, and none begins
	joins      string // no policy changes; held together with other joins
	devices    string // $1: the DevEUIs whose nonces and sessions are ours until the end
	addresses  string // DevAddrs are given by one at a time
	deliveries string // join events are taken off by one at a time
}

// take takes a lock until the transaction ends.
func take(ctx context.Context, tx *sql.Tx, lock string, args ...any) error {
	if lock == "" {
		return nil
	}
	_, err := tx.ExecContext(ctx, lock, args...)
	return err
}

// pools are the connections to a database. Joins have one of their own, so that
// no other write keeps them waiting for it.
type pools struct {
	joins, writer, reader *sql.DB
	checkpoints           *sql.DB // nil: the engine makes its own
}

func (p pools) close() error {
	var err error
	if p.checkpoints != nil {
		err = p.checkpoints.Close()
	}
	return errors.Join(err, p.reader.Close(), p.joins.Close(), p.writer.Close())
}

// bound ends a context when an answer has stayed out for too long. What is on
// this machine always answers.
func (r *Record) bound(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if !r.engine.remote {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, limit)
}
