package record

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// sqliteEngine takes the one write lock when a transaction begins, so it needs no
// others: writers come one after the other.
var sqliteEngine = engine{
	dialect: goose.DialectSQLite3,
	schema:  func(text []byte) []byte { return forSQLite.ReplaceAll(text, []byte("$1")) },
	// The driver looks through all arguments of a statement for each of them.
	bulkSizes: []int{16, 4, 1}, maxBulkArgs: 96,
	among: `IN (SELECT value FROM json_each($1))`,
	list:  func(texts []string) any { return `["` + strings.Join(texts, `","`) + `"]` },
}

// forSQLite finds what the migrations hold for SQLite in comments that begin with
// the word sqlite; to other engines they are comments.
var forSQLite = regexp.MustCompile(`/\* sqlite (.*?) \*/`)

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
// storm of joins the same pages are written again and again. A page in a cache takes
// twice its size; a reader loses all of its cache with each commit of a writer.
func openSQLite(ctx context.Context, o Options) (p pools, err error) {
	path, busy := o.SQLitePath, o.BusyTimeout
	if err := prepareSQLite(ctx, o); err != nil {
		return p, err
	}
	if p.writer, err = sql.Open("sqlite", sqliteDSN(path, 0, "immediate", "wal_autocheckpoint(16000)", "cache_size(-32768)")); err != nil {
		return p, err
	}
	p.writer.SetMaxOpenConns(1)
	if p.reader, err = sql.Open("sqlite", sqliteDSN(path, busy, "deferred", "query_only(1)", "cache_size(-2048)")); err != nil {
		return p, err
	}
	p.reader.SetMaxOpenConns(readers)
	p.reader.SetMaxIdleConns(readers)
	if p.checkpoints, err = sql.Open("sqlite", sqliteDSN(path, 0, "deferred")); err != nil {
		return p, err
	}
	p.checkpoints.SetMaxOpenConns(1)
	p.joins = p.writer
	return p, nil
}

// prepareSQLite makes the file when it is new, and brings its schema up to date.
func prepareSQLite(ctx context.Context, o Options) error {
	path := o.SQLitePath
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make its folder: %w", err)
	}
	if err := createPrivate(path); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", sqliteDSN(path, o.BusyTimeout, "immediate"))
	if err != nil {
		return err
	}
	return errors.Join(migrate(ctx, db, &sqliteEngine, o.Sealer), db.Close())
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
