package record

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"regexp"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(sqliteFiles{migrations}, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files)
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

// sqliteFiles shows SQLite what the files hold for it in comments that begin
// with the word sqlite; to other engines they are comments.
type sqliteFiles struct{ fs.FS }

var forSQLite = regexp.MustCompile(`/\* sqlite (.*?) \*/`)

// Open implements fs.FS.
func (f sqliteFiles) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || info.IsDir() {
		return file, err
	}
	text, err := io.ReadAll(file)
	return sqliteFile{file, bytes.NewReader(forSQLite.ReplaceAll(text, []byte("$1")))}, err
}

type sqliteFile struct {
	fs.File
	text *bytes.Reader
}

// Read implements fs.File.
func (f sqliteFile) Read(p []byte) (int, error) { return f.text.Read(p) }
