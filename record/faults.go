package record

import (
	"database/sql"
	"errors"
	"fmt"

	"joingate/joinserver"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// faults says what the engine's faults mean to an operator, and what to do.
var faults = map[int]string{
	sqlite3.SQLITE_BUSY:     "locked by another program: end what holds it; joins go on by themselves",
	sqlite3.SQLITE_FULL:     "disk is full: make room; joins go on by themselves",
	sqlite3.SQLITE_IOERR:    "disk does not read or write: look at the system's log",
	sqlite3.SQLITE_NOTADB:   "file is damaged, or is no record: put a backup in its place",
	sqlite3.SQLITE_CORRUPT:  "file is damaged: put a backup in its place",
	sqlite3.SQLITE_READONLY: notWritable,
	sqlite3.SQLITE_CANTOPEN: notWritable,
	sqlite3.SQLITE_PERM:     notWritable,
}

// primaryCode masks the kind of fault in an extended result code.
const primaryCode = 0xff

const notWritable = "cannot be written: let the user that runs joingate write to the file and to its folder"

// explain puts in front of a fault of the engine what it means and what to do.
// Other errors stay as they are.
func explain(err error) error {
	var fault *sqlite.Error
	if !errors.As(err, &fault) {
		return err
	}
	if meaning, known := faults[fault.Code()&primaryCode]; known {
		return fmt.Errorf("%s (%w)", meaning, err)
	}
	return err
}

// asNotFound and asDuplicate give a fault of the engine its meaning for the API.
func asNotFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return joinserver.ErrNotFound
	}
	return err
}

func asDuplicate(err error) error {
	var fault *sqlite.Error
	if errors.As(err, &fault) && (fault.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || fault.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY) {
		return fmt.Errorf("%w: %w", joinserver.ErrDuplicate, err)
	}
	return err
}
