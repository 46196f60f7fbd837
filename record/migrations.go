package record

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"joingate/keyring"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date, but not that of a record that is sealed with
// another key: nobody could go on with it, neither this program nor the older one.
func migrate(ctx context.Context, db *sql.DB, e *engine, sealer *keyring.Sealer) error {
	provider, err := newProvider(db, e)
	if err != nil {
		return err
	}
	has, err := provider.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema version: %w", err)
	}
	knows := newestOf(provider)
	if err := mustBeKnown(has, knows); err != nil {
		return err
	}
	if has == knows {
		return nil
	}
	if has > 0 {
		if err := mustOpenCheck(ctx, db, sealer); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	if _, err := provider.Up(ctx); err != nil {
		// Another program may have done it in the meantime.
		if has, again := provider.GetDBVersion(ctx); again == nil && has == knows {
			return nil
		}
		return fmt.Errorf("bring the schema from %d to %d: %w", has, knows, err)
	}
	return nil
}

func newProvider(db *sql.DB, e *engine) (*goose.Provider, error) {
	files, err := fs.Sub(schemaFiles{migrations, e.schema}, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(e.dialect, db, files)
}

// newestOf is the schema version that this program knows.
func newestOf(provider *goose.Provider) int64 {
	sources := provider.ListSources()
	return sources[len(sources)-1].Version
}

func mustBeKnown(has, knows int64) error {
	if has > knows {
		return fmt.Errorf("written by a newer joingate (schema %d; this one knows %d): start the newer program", has, knows)
	}
	return nil
}

// schemaFiles shows an engine the files as it reads them.
type schemaFiles struct {
	fs.FS
	schema func([]byte) []byte
}

// Open implements fs.FS.
func (f schemaFiles) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || info.IsDir() {
		return file, err
	}
	text, err := io.ReadAll(file)
	return schemaFile{file, bytes.NewReader(f.schema(text))}, err
}

type schemaFile struct {
	fs.File
	text *bytes.Reader
}

// Read implements fs.File.
func (f schemaFile) Read(p []byte) (int, error) { return f.text.Read(p) }
