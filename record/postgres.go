package record

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"joingate/keyring"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// postgresEngine holds a record for several programs on several machines.
//
// Transactions that write are READ COMMITTED: each statement sees what was
// committed when it began. That suffices because whatever decides is read by a
// statement that begins when the locks are held which keep it as it is. A join
// holds the joins lock, so no policy, group, permission or gateway changes until
// its commit, and all administrative writes that have answered are seen; it holds
// the rows of its nodes, so no other program decides on a nonce of the same
// device; it holds the addresses lock when it looks which DevAddrs are free.
//
// Joins and administrative writes exclude each other by advisory locks and not by
// FOR SHARE on the rows. Those of PostgreSQL queue, so that an administrator gets
// a turn between the joins of several programs; a row that is never without a
// share lock would let no writer in. They cover the gateways, groups and
// permissions whatever order a write goes through them, and write nothing to disk.
var postgresEngine = engine{
	dialect: goose.DialectPostgres,
	schema:  compareOctets,
	view:    &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},

	arrays: true,
	among:  `= ANY($1)`,
	list:   func(texts []string) any { return texts },
	remote: true,
	// A statement costs both sides several times what a policy costs, and joins have
	// the time: most ask while their copies are still coming in.
	lookupPause: 5 * time.Millisecond,
	locks: locks{
		turn:       `SELECT value FROM revision FOR UPDATE`,
		policies:   `SELECT pg_advisory_xact_lock(` + policyLock + `)`,
		joins:      `SELECT pg_advisory_xact_lock_shared(` + policyLock + `)`,
		devices:    `SELECT 1 FROM nodes WHERE dev_eui = ANY($1) ORDER BY dev_eui FOR NO KEY UPDATE`,
		addresses:  `SELECT pg_advisory_xact_lock(` + addressLock + `)`,
		deliveries: `SELECT pg_advisory_xact_lock(` + deliveryLock + `)`,
	},
}

// Advisory locks are numbers that belong to a database. The first of each pair
// says that they are ours: "join".
const (
	policyLock    = `1785686382, 1`
	addressLock   = `1785686382, 2`
	deliveryLock  = `1785686382, 3`
	migrationLock = `1785686382, 4`
)

// compareOctets makes text compare and sort octet by octet, and LOWER know ASCII
// only, as SQLite does, whatever the locale of the database. Nor does an index
// depend on the version of the system's locales.
func compareOctets(text []byte) []byte {
	return bytes.ReplaceAll(text, []byte(" TEXT"), []byte(` TEXT COLLATE "C"`))
}

// connectTimeout holds where the URL has no connect_timeout. Joins do not wait so
// long: they end with the time that they have.
const connectTimeout = 5 * time.Second

const statements = 512 // that a connection keeps prepared; there are fewer

const writers = 4 // connections for all writes but joins; more of them only wait for each other

// openPostgres brings the database up to date and opens three pools to it.
func openPostgres(ctx context.Context, o Options) (p pools, err error) {
	config, err := postgresConfig(o)
	if err != nil {
		return p, err
	}
	if err := preparePostgres(ctx, config, o.Sealer); err != nil {
		return p, err
	}
	lock := milliseconds(o.BusyTimeout)
	return pools{
		joins: connect(with(config, byKey, map[string]string{
			"lock_timeout": lock, "statement_timeout": milliseconds(o.BusyTimeout + overhead/2), "idle_in_transaction_session_timeout": standstill,
		}), 1, stdlib.OptionShouldPing(never)),
		writer: connect(with(config, map[string]string{
			"lock_timeout": lock, "statement_timeout": milliseconds(longestWrite), "idle_in_transaction_session_timeout": standstill,
		}), writers),
		reader: connect(with(config, map[string]string{"lock_timeout": lock}), readers),
	}, nil
}

// postgresConfig reads the URL. A commit is on disk before it returns, and on that
// of the synchronous standbys if there are any. Without one, a failover may go back
// behind joins that were answered: their nonces can then come twice.
func postgresConfig(o Options) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(o.PostgresURL)
	if err != nil {
		return nil, err
	}
	if o.Username != "" {
		config.User = o.Username
	}
	if o.Password != "" {
		config.Password = o.Password
	}
	if config.RuntimeParams["synchronous_commit"] != "remote_apply" {
		config.RuntimeParams["synchronous_commit"] = "on"
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "joingate"
	}
	config.RuntimeParams["default_transaction_isolation"] = "read committed"
	// Arguments that are arrays go in the types of statements that are prepared.
	config.DefaultQueryExecMode, config.StatementCacheCapacity = pgx.QueryExecModeCacheStatement, statements
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.ValidateConnect == nil { // of several hosts, the one that is no standby
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return config, nil
}

// standstill is how long a program may hold locks and do nothing: past it, one
// that was stopped, or is cut off, is in nobody's way any more.
const standstill = "2s"

// byKey makes the statements of joins find their rows by key. In a storm of joins
// tables grow faster than PostgreSQL counts them, and it would go on reading whole
// ones that were small when it planned.
var byKey = map[string]string{
	"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "enable_material": "off", "jit": "off",
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// never spares a commit the round trip in which pgx asks a connection that was idle
// whether it is still there: if it is not, the commit is tried again.
func never(context.Context, stdlib.ShouldPingParams) bool { return false }

// with gives a copy that has the settings too.
func with(config *pgx.ConnConfig, settings ...map[string]string) *pgx.ConnConfig {
	c := config.Copy()
	for _, some := range settings {
		maps.Copy(c.RuntimeParams, some)
	}
	return c
}

// connect opens a pool of at most so many connections.
func connect(config *pgx.ConnConfig, most int, options ...stdlib.OptionOpenDB) *sql.DB {
	db := stdlib.OpenDB(*config, options...)
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most)
	return db
}

// preparePostgres brings the schema up to date, of programs that start together
// one after the other.
func preparePostgres(ctx context.Context, config *pgx.ConnConfig, sealer *keyring.Sealer) error {
	db := connect(with(config, map[string]string{"lock_timeout": milliseconds(longestWrite)}), 3)
	err := func() error {
		lock, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer lock.Close() // ends with the pool, and the lock with it
		if _, err := lock.ExecContext(ctx, `SELECT pg_advisory_lock(`+migrationLock+`)`); err != nil {
			return err
		}
		var encoding string
		if err := lock.QueryRowContext(ctx, `SHOW server_encoding`).Scan(&encoding); err != nil {
			return err
		}
		if encoding != "UTF8" {
			return fmt.Errorf("encodes text as %s: make the database with ENCODING 'UTF8'", encoding)
		}
		return migrate(ctx, db, &postgresEngine, sealer)
	}()
	return errors.Join(err, db.Close())
}
