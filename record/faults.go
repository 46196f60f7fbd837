package record

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"joingate/joinserver"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// faults says what the faults of SQLite mean to an operator, and what to do.
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

// SQLSTATEs of PostgreSQL, its manual's appendix A.
const (
	pgUniqueViolation    = "23505"
	pgReadOnly           = "25006"
	pgIdleInTransaction  = "25P03"
	pgNoSuchUser         = "28000"
	pgWrongPassword      = "28P01"
	pgNoSuchDatabase     = "3D000"
	pgSerialization      = "40001"
	pgDeadlock           = "40P01"
	pgForbidden          = "42501"
	pgDiskFull           = "53100"
	pgOutOfMemory        = "53200"
	pgTooManyConnections = "53300"
	pgLockTimeout        = "55P03"
	pgStatementTimeout   = "57014"
	pgShutdown           = "57P01"
	pgCrash              = "57P02"
	pgStartingOrStopping = "57P03"
)

// postgresFaults says the same of those of PostgreSQL.
var postgresFaults = map[string]string{
	pgReadOnly:           "PostgreSQL takes no writes there: it is a standby, or read-only; let [record] url name the primary",
	pgIdleInTransaction:  "this program stood still in the middle of a write, and PostgreSQL took its locks away; joins go on by themselves",
	pgNoSuchUser:         "PostgreSQL does not let the user in: look at [record] username and at pg_hba.conf",
	pgWrongPassword:      "PostgreSQL refuses the password: look at [record] username and password_file",
	pgNoSuchDatabase:     "there is no such database: make it (CREATE DATABASE … ENCODING 'UTF8')",
	pgSerialization:      "another program wrote at the same time, again and again; joins go on by themselves",
	pgDeadlock:           "another session of PostgreSQL took its locks in another order: end what it does (pg_stat_activity); joins go on by themselves",
	pgForbidden:          "PostgreSQL does not allow it to the user: make the user the owner of the database",
	pgDiskFull:           "PostgreSQL's disk is full: make room; joins go on by themselves",
	pgOutOfMemory:        "PostgreSQL is out of memory: give it more; joins go on by themselves",
	pgTooManyConnections: "PostgreSQL has no connection left: raise max_connections (13 for each instance); joins go on by themselves",
	pgLockTimeout:        "locked by another session of PostgreSQL: end what holds it (pg_stat_activity); joins go on by themselves",
	pgStatementTimeout:   "PostgreSQL did not answer in time: look at its load and disks; joins go on by themselves",
	pgShutdown:           "PostgreSQL is going down; joins go on by themselves when it is back",
	pgCrash:              "PostgreSQL has crashed; joins go on by themselves when it is back",
	pgStartingOrStopping: "PostgreSQL is starting or stopping; joins go on by themselves when it is back",
}

const (
	notThere = "PostgreSQL cannot be reached: look whether it runs, and at [record] url; joins go on by themselves when it is back"
	unread   = "cannot be read: look at [record] url"
	badCert  = "the certificate of PostgreSQL is not trusted: look at sslrootcert, sslmode and the host in [record] url, and at how long the certificate is valid"
	cutOff   = "the connection to PostgreSQL broke; joins go on by themselves when it is back"
	noAnswer = "the answer of PostgreSQL stayed out: look at it and at the network; joins go on by themselves"
)

// explained is a fault with its meaning, in one line.
type explained struct {
	meaning string
	fault   error
}

func (e *explained) Error() string {
	return e.meaning + " (" + strings.Join(strings.Fields(e.fault.Error()), " ") + ")"
}

func (e *explained) Unwrap() error { return e.fault }

// explain puts in front of a fault of the engine what it means and what to do.
// Other errors stay as they are.
func explain(err error) error {
	if meaning := meaningOf(err); meaning != "" {
		return &explained{meaning, err}
	}
	return err
}

func meaningOf(err error) string {
	var fault *sqlite.Error
	if errors.As(err, &fault) {
		return faults[fault.Code()&primaryCode]
	}
	if meaning, known := postgresFaults[sqlState(err)]; known {
		return meaning
	}
	var connect *pgconn.ConnectError
	var unparsed *pgconn.ParseConfigError
	var certificate *tls.CertificateVerificationError
	switch {
	case err == nil || sqlState(err) != "":
		return ""
	case errors.As(err, &unparsed):
		return unread
	case errors.As(err, &certificate):
		return badCert
	case errors.As(err, &connect):
		return notThere
	case isUnanswered(err):
		return noAnswer
	case isCutOff(err):
		return cutOff
	}
	return ""
}

// sqlState is PostgreSQL's code of a fault, "" of any other error.
func sqlState(err error) string {
	var fault *pgconn.PgError
	if errors.As(err, &fault) {
		return fault.Code
	}
	return ""
}

// isUnanswered reports whether an answer stayed out for too long.
func isUnanswered(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err)
}

// isCutOff reports whether a connection is lost that was there.
func isCutOff(err error) bool {
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return false
	}
	var network net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.As(err, &network) && !network.Timeout() || pgconn.SafeToRetry(err)
}

// isUndone reports whether a transaction has failed for what may be over, and has
// certainly left nothing behind, so that it can be tried again.
func isUndone(err error) bool {
	switch sqlState(err) {
	case pgSerialization, pgDeadlock:
		return true
	case pgShutdown, pgCrash, "":
	default:
		return false
	}
	var committing *commitError
	return err != nil && !errors.As(err, &committing) && (sqlState(err) != "" || isCutOff(err))
}

// isPassing reports whether a record that does not open now will soon.
func isPassing(err error) bool { return isBusy(err) || sqlState(err) == pgStartingOrStopping }

func isBusy(err error) bool {
	var fault *sqlite.Error
	return errors.As(err, &fault) && fault.Code()&primaryCode == sqlite3.SQLITE_BUSY
}

// asNotFound and asDuplicate give a fault of the engine its meaning for the API.
func asNotFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return joinserver.ErrNotFound
	}
	return err
}

// After a write that has raised, a transaction of PostgreSQL does nothing more:
// whoever gets ErrDuplicate has to end it.
func asDuplicate(err error) error {
	var fault *sqlite.Error
	if errors.As(err, &fault) && (fault.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || fault.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY) ||
		sqlState(err) == pgUniqueViolation {
		return fmt.Errorf("%w: %w", joinserver.ErrDuplicate, err)
	}
	return err
}
