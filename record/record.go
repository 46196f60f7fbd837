// Package record is the durable truth: accounts, join permissions, nodes,
// gateways, nonces, sessions and the join events that wait for delivery.
//
// The record is SQL. SQLite (pure Go, in the program) serves one machine; the
// statements are written so that PostgreSQL takes them too. Times are UNIX
// milliseconds.
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
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"joingate/keyring"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Options says where the record is and what it is opened with.
type Options struct {
	SQLitePath string // the database file; its folder is made when missing
	KEK        []byte // key encryption key, 32 octets
	Now        func() time.Time
	// BusyTimeout is how long a write waits for another program's. Default 5 s:
	// past it a join is late anyhow.
	BusyTimeout time.Duration
	// Observe is told how many joins each group commit held and how long it took;
	// nil: nobody asks.
	Observe func(joins int, took time.Duration)
}

// Record is an open record. It is safe for concurrent use, also by several
// programs on one SQLite file.
type Record struct {
	writer *sql.DB // SQLite: one connection, so that writes queue here
	reader *sql.DB
	sealer *keyring.Sealer
	now    func() time.Time

	busyTimeout time.Duration

	policies *policyStatements
	joins    *joinStatements
	commits  chan *pendingJoin
	observe  func(joins int, took time.Duration)
	added    chan struct{} // holds an element when the outbox has grown

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
	sealer, err := keyring.NewSealer(o.KEK)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w: look at [keys] kek_file", o.SQLitePath, err)
	}
	// Programs that start together get in each other's way where SQLite does not wait.
	for deadline := time.Now().Add(o.BusyTimeout); ; time.Sleep(lockPoll) {
		r, err := open(ctx, o, sealer)
		if err == nil {
			r.stopped.Go(r.commitLoop)
			return r, nil
		}
		if !isBusy(err) || time.Now().After(deadline) {
			return nil, fmt.Errorf("record %s: %w", o.SQLitePath, explain(err))
		}
	}
}

func open(ctx context.Context, o Options, sealer *keyring.Sealer) (*Record, error) {
	if err := prepareSQLite(ctx, o.SQLitePath, o.BusyTimeout); err != nil {
		return nil, err
	}
	writer, reader, err := openSQLite(o.SQLitePath, o.BusyTimeout)
	if err != nil {
		return nil, err
	}
	r := &Record{
		writer: writer, reader: reader, sealer: sealer, now: o.Now, observe: o.Observe, busyTimeout: o.BusyTimeout,
		commits: make(chan *pendingJoin), added: make(chan struct{}, 1), stop: make(chan struct{}),
		addrCursor: rand.Int64N(1 << 25), // programs on one record begin apart
	}
	if err := r.prepare(ctx); err != nil {
		return nil, errors.Join(err, writer.Close(), reader.Close())
	}
	return r, nil
}

func (r *Record) prepare(ctx context.Context) error {
	if err := r.checkKEK(ctx); err != nil {
		return err
	}
	var err1, err2 error
	r.policies, err1 = preparePolicies(ctx, r.reader)
	r.joins, err2 = prepareJoins(ctx, r.writer)
	return errors.Join(err1, err2)
}

// Close finishes the joins under way and closes the record.
func (r *Record) Close() error {
	r.closing.Do(func() { close(r.stop) })
	r.stopped.Wait()
	return errors.Join(r.reader.Close(), r.writer.Close())
}

// Ready reports whether the record can be written, by writing.
func (r *Record) Ready(ctx context.Context) error {
	err := r.inTransaction(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE key_check SET only_row = only_row`)
		return err
	})
	if err != nil {
		return fmt.Errorf("record cannot be written: %w", err)
	}
	return nil
}

// sqliteDSN names the file as the driver wants it. synchronous=FULL puts a commit
// on disk before it returns.
func sqliteDSN(path string, busy time.Duration, txLock string, pragmas ...string) string {
	u := url.URL{Scheme: "file", OmitHost: true, Path: path}
	u.RawQuery = url.Values{"_txlock": {txLock}, "_pragma": append(pragmas,
		fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()), "journal_mode(WAL)", "synchronous(FULL)", "temp_store(MEMORY)")}.Encode()
	return u.String()
}

// openSQLite opens the file twice: one connection that writes, some that read
// beside it (write-ahead log). The one that writes waits for other programs
// itself, in begin. The log may grow to 64 MB before it goes into the file: in a
// storm of joins the same pages are written again and again.
func openSQLite(path string, busy time.Duration) (writer, reader *sql.DB, err error) {
	if writer, err = sql.Open("sqlite", sqliteDSN(path, 0, "immediate", "wal_autocheckpoint(16000)", "cache_size(-65536)")); err != nil {
		return nil, nil, err
	}
	writer.SetMaxOpenConns(1)
	if reader, err = sql.Open("sqlite", sqliteDSN(path, busy, "deferred", "query_only(1)", "cache_size(-16384)")); err != nil {
		return nil, nil, err
	}
	reader.SetMaxOpenConns(readers)
	reader.SetMaxIdleConns(readers)
	return writer, reader, nil
}

// prepareSQLite makes the file when it is new, and brings its schema up to date.
func prepareSQLite(ctx context.Context, path string, busy time.Duration) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make its folder: %w", err)
	}
	if err := createPrivate(path); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", sqliteDSN(path, busy, "immediate"))
	if err != nil {
		return err
	}
	return errors.Join(migrate(ctx, db), db.Close())
}

// readers bounds the connections that read: more of them do not read faster.
const readers = 8

// createPrivate makes the file readable for its owner only; SQLite gives its log
// files the same mode.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("%s (%w)", notWritable, err)
	}
	return f.Close()
}

const kekCheck = "joingate"

// checkKEK compares the key encryption key with the one the record was made with.
func (r *Record) checkKEK(ctx context.Context) error {
	const place = "key_check"
	var sealed []byte
	err := r.inTransaction(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO key_check (only_row, sealed) VALUES (1, $1) ON CONFLICT DO NOTHING`, r.sealer.Seal([]byte(kekCheck), place))
		if err != nil {
			return err
		}
		return tx.QueryRow(`SELECT sealed FROM key_check`).Scan(&sealed)
	})
	if err != nil {
		return err
	}
	if _, err := r.sealer.Open(sealed, place); err != nil {
		return errors.New("the key file is not the one that this record was sealed with: put the right one in place ([keys] kek_file)")
	}
	return nil
}
