package record

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"joingate/keyring"

	"github.com/pressly/goose/v3"
)

// Backup writes the record as it is at one moment to a new SQLite file, while joins
// and other writes go on, and verifies it: the file is whole, and its keys open. It
// never replaces a file. Keys and secrets in it are sealed: it is worth nothing
// without the key file, which has to be kept apart from it.
func (r *Record) Backup(ctx context.Context, path string) error {
	if err := mustNotExist(path); err != nil {
		return fmt.Errorf("back up the record: %w", err)
	}
	part, err := newPart(path)
	if err != nil {
		return fmt.Errorf("back up the record: %w", err)
	}
	defer removeSQLite(part)
	write := r.vacuumInto
	if r.engine.remote {
		write = r.copyInto
	}
	if err := write(ctx, part); err != nil {
		return fmt.Errorf("back up the record: %w", explain(err))
	}
	if err := verifyFile(ctx, part, r.sealer); err != nil {
		return fmt.Errorf("the backup that was written is no good: %w", err)
	}
	if err := putInPlace(part, path); err != nil {
		return fmt.Errorf("back up the record: %w", err)
	}
	return nil
}

// vacuumInto has SQLite write a copy of one snapshot.
func (r *Record) vacuumInto(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", sqliteDSN(r.sqlitePath, r.busyTimeout, "deferred"))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `VACUUM INTO $1`, path)
	return errors.Join(err, db.Close())
}

// copyInto writes one snapshot of another engine to a record on SQLite.
func (r *Record) copyInto(ctx context.Context, path string) error {
	to, err := Open(ctx, Options{SQLitePath: path, Sealer: r.sealer, Now: r.now})
	if err != nil {
		return err
	}
	return errors.Join(Copy(ctx, r, to, func(string, int64) {}), to.Close())
}

// verifyFile looks whether a SQLite file is a whole record of this version or an
// older one, sealed with a known key. It changes nothing.
func verifyFile(ctx context.Context, path string, sealer *keyring.Sealer) error {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	// Nobody writes to it: without immutable SQLite would put files beside it.
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "mode=ro&immutable=1"}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return err
	}
	defer db.Close()
	if err := integrity(ctx, db); err != nil {
		return err
	}
	if err := mustKnowSchema(ctx, db, &sqliteEngine); err != nil {
		return err
	}
	err = mustOpenCheck(ctx, db, sealer)
	if errors.Is(err, errWrongKEK) {
		return fmt.Errorf("it is sealed with another key: put in place the key file that was in use when it was written ([keys] kek_file) (%w)", keyring.ErrWrongKEK)
	}
	if err != nil {
		return fmt.Errorf("it holds no record: %w", err)
	}
	return nil
}

// integrity has SQLite look through the whole file.
func integrity(ctx context.Context, db *sql.DB) error {
	var said string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&said); err != nil {
		return explain(err)
	}
	if said != "ok" {
		return fmt.Errorf("it is damaged: %s", said)
	}
	return nil
}

func mustKnowSchema(ctx context.Context, db *sql.DB, e *engine) error {
	provider, err := newProvider(db, e)
	if err != nil {
		return err
	}
	// The library makes its table where there is none, and this must write nothing.
	var has int64
	if err := db.QueryRowContext(ctx, `SELECT MAX(version_id) FROM `+goose.DefaultTablename).Scan(&has); err != nil {
		return fmt.Errorf("it holds no record: %w", err)
	}
	return mustBeKnown(has, newestOf(provider))
}

func mustNotExist(path string) error {
	_, err := os.Lstat(path)
	if err == nil {
		return fmt.Errorf("%s exists: name a new file", path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// newPart makes an empty private file beside the path, to become it.
func newPart(path string) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*") // mode 0600
	if err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

// removeSQLite removes a database file and those beside it. What is not there any
// more, or in its place, is none.
func removeSQLite(path string) {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		_ = os.Remove(path + suffix)
	}
}

// putInPlace gives a file that was closed its name, durably. It never replaces one.
func putInPlace(part, path string) error {
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(part, path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(os.Remove(part), folder.Sync(), folder.Close())
}

// copyFile writes a copy of a file over another.
func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}
