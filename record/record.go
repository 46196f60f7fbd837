// Package record is the durable truth: accounts, join permissions, nodes,
// gateways, nonces, sessions and the join events that wait for delivery.
//
// The record is SQL. SQLite (pure Go, in the program) serves one machine;
// PostgreSQL serves several programs on several. The statements and the schema are
// the same; what differs is in engine. Times are UNIX milliseconds.
//
// Promised: Commit and Update return after their transaction is on disk; root
// keys and secrets are on disk only sealed.
package record

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"joingate/keyring"
)

// Options says where the record is and what it is opened with.
type Options struct {
	SQLitePath string // the database file; its folder is made when missing
	// PostgresURL, if it is set, names a PostgreSQL database in place of the file:
	// postgres://user@host:port/database, its parameters those of libpq. A pooler
	// in between has to give each connection a session of its own: connections are
	// set up, and statements prepared, once.
	PostgresURL string
	Username    string // of PostgreSQL, in place of the URL's
	Password    string // of PostgreSQL, in place of the URL's
	// Sealer seals the root keys and secrets on record.
	Sealer *keyring.Sealer
	KEK    []byte // key encryption key of 32 octets, to be used where Sealer is nil
	// Sinks are to get join events besides MQTT, each from a queue of its own; see
	// Outbox. All programs on one record are given the same.
	Sinks []string
	Now   func() time.Time
	// BusyTimeout is how long a write waits for another program's, and a join for
	// an answer of PostgreSQL. Default 5 s: past it a join is late anyhow.
	BusyTimeout time.Duration
	// Observe is told how many joins each group commit held and how long it took;
	// nil: nobody asks.
	Observe func(joins int, took time.Duration)
}

// Record is an open record. It is safe for concurrent use, also by several
// programs on one SQLite file or one PostgreSQL database.
type Record struct {
	engine    *engine
	committer *sql.DB // of the commit loop alone
	writer    *sql.DB // SQLite: the committer; one connection, so that writes queue here
	reader    *sql.DB
	sealer    *keyring.Sealer
	now       func() time.Time

	busyTimeout time.Duration
	sqlitePath  string // empty: another engine

	policies    *policyStatements
	lookups     *queue[*lookup]
	joins       *joinStatements
	commits     *queue[*pendingJoin]
	checkpoints *checkpoints
	observe     func(joins int, took time.Duration)
	sinks       []string // besides MQTT
	outboxes    map[string]*Outbox

	delivered, sinkDelivered bulk // of outbox and outbox_sinks

	lastCommit      time.Time // of the commit loop alone
	addrCursor      int64     // of the commit loop alone
	sharedAddresses atomic.Uint64

	closing sync.Once
	stop    chan struct{}
	stopped sync.WaitGroup
}

// Open opens the record, makes it when it is new, and brings an older one up to
// date. It refuses a record of a newer program, and one that was sealed with
// another key encryption key.
func Open(ctx context.Context, o Options) (*Record, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observe == nil {
		o.Observe = func(int, time.Duration) {}
	}
	if o.BusyTimeout == 0 {
		o.BusyTimeout = 5 * time.Second
	}
	if o.Sealer == nil {
		var err error
		if o.Sealer, err = keyring.NewSealer(o.KEK); err != nil {
			return nil, fmt.Errorf("record %s: %w: look at [keys] kek_file", o.name(), err)
		}
	}
	// Programs that start together get in each other's way where SQLite does not wait.
	for deadline := time.Now().Add(o.BusyTimeout); ; time.Sleep(lockPoll) {
		r, err := open(ctx, o)
		if err == nil {
			r.stopped.Go(r.commitLoop)
			r.stopped.Go(func() { r.checkpoints.run(r.stop) })
			for range lookupLoops {
				r.stopped.Go(r.lookupLoop)
			}
			return r, nil
		}
		if !isPassing(err) || time.Now().After(deadline) {
			return nil, fmt.Errorf("record %s: %w", o.name(), explain(err))
		}
	}
}

// name tells people which record is meant; no password is in it.
func (o Options) name() string {
	if o.PostgresURL == "" {
		return o.SQLitePath
	}
	if u, err := url.Parse(o.PostgresURL); err == nil {
		u.RawQuery = ""
		return u.Redacted()
	}
	return "on PostgreSQL"
}

func open(ctx context.Context, o Options) (*Record, error) {
	e, connect := &sqliteEngine, openSQLite
	if o.PostgresURL != "" {
		e, connect = &postgresEngine, openPostgres
	}
	p, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	r := &Record{
		engine: e, committer: p.joins, writer: p.writer, reader: p.reader, sealer: o.Sealer, now: o.Now, observe: o.Observe, busyTimeout: o.BusyTimeout,
		sqlitePath:  o.SQLitePath,
		checkpoints: newCheckpoints(p.checkpoints),
		commits:     newQueue[*pendingJoin](0), lookups: newQueue[*lookup](e.lookupPause), stop: make(chan struct{}),
		addrCursor: rand.Int64N(1 << 25), // programs on one record begin apart
	}
	r.sinks = slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(o.Sinks))), func(sink string) bool { return sink == MQTT })
	if err := r.prepare(ctx); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return r, nil
}

func (r *Record) prepare(ctx context.Context) error {
	if err := r.checkKEK(ctx); err != nil {
		return err
	}
	var err1, err2, err3 error
	r.policies, err1 = r.engine.preparePolicies(ctx, r.reader)
	r.joins, err2 = r.engine.prepareJoins(ctx, r.committer)
	err3 = r.prepareOutboxes(ctx)
	return errors.Join(err1, err2, err3, r.committer.PingContext(ctx)) // its connection is there before others take all
}

// Close finishes the joins under way and closes the record.
func (r *Record) Close() error {
	r.closing.Do(func() {
		r.commits.close()
		r.lookups.close()
		close(r.stop)
	})
	r.stopped.Wait()
	return pools{joins: r.committer, writer: r.writer, reader: r.reader, checkpoints: r.checkpoints.db}.close()
}

// Ready reports whether the record can be written, by writing.
func (r *Record) Ready(ctx context.Context) error {
	err := r.inTransaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE key_check SET only_row = only_row`)
		return err
	})
	if err != nil {
		return fmt.Errorf("record cannot be written: %w", err)
	}
	return nil
}
