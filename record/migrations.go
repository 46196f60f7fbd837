package record

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date.
func migrate(ctx context.Context, db *sql.DB, e *engine) error {
	files, err := fs.Sub(schemaFiles{migrations, e.schema}, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(e.dialect, db, files)
	if err != nil {
		return err
	}
	has, err := provider.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema version: %w", err)
	}
	sources := provider.ListSources()
	knows := sources[len(sources)-1].Version
	if has > knows {
		return fmt.Errorf("written by a newer joingate (schema %d; this one knows %d): start the newer program", has, knows)
	}
	if has == knows {
		return nil
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
