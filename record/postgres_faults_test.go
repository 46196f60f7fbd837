package record_test

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

// kill -9 of the server in a storm, twice: joins fail meanwhile, all that were
// granted are on record, none twice, and joins go on by themselves.
func TestPostgresKilled(t *testing.T) {
	t.Parallel()
	c := ownCluster(t)
	w := newWorld(t, engine{"postgres", func(t testing.TB) store { return c.store(t, c.newDatabase(t)) }})
	const devices = 32
	w.importNodes(t, w.r, band.MAC1_0_3, 0, devices)
	claims := make([]joinserver.Claim, devices)
	for i := range claims {
		claims[i] = w.claim(t, w.r, devEUI(i), 0, w.clock.now())
	}
	var mu sync.Mutex
	granted := map[joinserver.EUI64]map[uint32]uint16{} // JoinNonce and DevNonce
	next := make([]uint16, devices)
	for range 2 {
		var grants atomic.Int64
		var killing sync.Once
		together(devices, func(i int) {
			for {
				g, err := w.commit(withNonce(claims[i], &next[i]))
				if err != nil {
					if !strings.Contains(err.Error(), "joins go on by themselves") {
						t.Errorf("commit on a killed server: %v", err)
					}
					return
				}
				mu.Lock()
				if granted[devEUI(i)] == nil {
					granted[devEUI(i)] = map[uint32]uint16{}
				}
				if _, twice := granted[devEUI(i)][g.JoinNonce]; twice {
					t.Errorf("JoinNonce %d twice", g.JoinNonce)
				}
				granted[devEUI(i)][g.JoinNonce] = next[i]
				mu.Unlock()
				if grants.Add(1) > 300 {
					killing.Do(c.kill)
				}
			}
		})
		if err := w.r.Ready(context.Background()); err == nil {
			t.Error("ready without a server")
		}
		check(t, c.start())
		check(t, w.r.Ready(context.Background()))
		for i := range devices {
			g := must[joinserver.Grant](t)(w.commit(withNonce(claims[i], &next[i])))
			granted[devEUI(i)][g.JoinNonce] = next[i]
		}
	}
	db := w.store.raw(t)
	for device, nonces := range granted {
		for joinNonce, devNonce := range nonces {
			if n := one[int](t, db, `SELECT COUNT(*) FROM outbox o JOIN dev_nonces d USING (dev_eui)
WHERE o.dev_eui = $1 AND o.join_nonce = $2 AND d.dev_nonce = $3`, device.String(), int64(joinNonce), int64(devNonce)); n != 1 {
				t.Errorf("join %d of %s was granted and is not on record", joinNonce, device)
			}
		}
	}
}

// withNonce gives the claim its next DevNonce.
func withNonce(c joinserver.Claim, last *uint16) joinserver.Claim {
	*last++
	c.Request.DevNonce = *last
	return c
}

// A session that holds a table: joins fail after BusyTimeout and burn no nonce.
func TestPostgresLocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, postgres)
	w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
	claim := w.claim(t, w.r, devEUI(0), 1, w.clock.now())
	o := w.store.options
	o.BusyTimeout = 100 * time.Millisecond
	r := open(t, o)
	ctx := context.Background()
	for _, table := range []string{"sessions", "nodes", "gateways", "revision"} {
		holder := must[*sql.Tx](t)(w.store.raw(t).BeginTx(ctx, nil))
		must[sql.Result](t)(holder.ExecContext(ctx, `LOCK TABLE `+table+` IN ACCESS EXCLUSIVE MODE`))
		if table == "revision" {
			if err := r.Update(ctx, operator, func(*record.Tx) error { return nil }); err == nil || !strings.Contains(err.Error(), "locked by another session") {
				t.Errorf("update: %v", err)
			}
		} else if _, err := r.Commit(ctx, claim); err == nil || !strings.Contains(err.Error(), "locked by another session") {
			t.Errorf("commit with %s locked: %v", table, err)
		}
		if table == "nodes" {
			if _, err := r.Policy(ctx, devEUI(0)); err == nil {
				t.Error("a policy from a locked table")
			}
		}
		check(t, holder.Rollback())
	}
	if g := must[joinserver.Grant](t)(r.Commit(ctx, claim)); g.JoinNonce != 1 {
		t.Errorf("JoinNonce %d: those that failed were counted", g.JoinNonce)
	}
}

// A confirmation does not wait for joins that are under way, nor they for it, but for
// those of its own device.
func TestConfirmKeepsNoJoinOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, postgres)
	w.importNodes(t, w.r, band.MAC1_1, 0, 2)
	o := w.store.options
	o.BusyTimeout = 100 * time.Millisecond
	r := open(t, o)
	ctx, by := context.Background(), joinserver.Write{Action: "confirm", At: noon}
	for i := range 2 {
		w.mustJoin(t, devEUI(i), 1)
	}
	join := must[*sql.Tx](t)(w.store.raw(t).BeginTx(ctx, nil)) // of the second device
	for _, lock := range []string{`SELECT pg_advisory_xact_lock_shared(1785686382, 1)`, `SELECT 1 FROM nodes WHERE dev_eui = '` + devEUI(1).String() + `' FOR NO KEY UPDATE`} {
		must[sql.Result](t)(join.ExecContext(ctx, lock))
	}
	if err := r.Update(ctx, operator, func(*record.Tx) error { return nil }); err == nil {
		t.Error("an administrative write has not waited for the join")
	}
	check(t, r.Confirm(ctx, by, devEUI(0), 1))
	if err := r.Confirm(ctx, by, devEUI(1), 1); err == nil || !strings.Contains(err.Error(), "locked by another session") {
		t.Errorf("a session was confirmed while its device joined: %v", err)
	}
	check(t, join.Rollback())
	check(t, r.Confirm(ctx, by, devEUI(1), 1))
	if n := one[int](t, w.store.raw(t), `SELECT COUNT(*) FROM audit WHERE action = 'confirm'`); n != 2 {
		t.Errorf("%d audit lines, not 2", n)
	}
}

// A program that stands still in a write, with all locks held, loses them; the
// joins that waited are granted.
func TestPostgresStandstill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, postgres)
	w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
	claim := w.claim(t, w.r, devEUI(0), 1, w.clock.now())
	other := open(t, w.store.options)
	still, granted, failed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		failed <- other.Update(context.Background(), operator, func(tx *record.Tx) error {
			close(still)
			<-granted
			return tx.DeleteNode(devEUI(0))
		})
	}()
	<-still
	_, err := w.commit(claim)
	close(granted)
	if err != nil {
		t.Errorf("the join that waited: %v", err)
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "stood still") && !strings.Contains(err.Error(), "broke") {
		t.Errorf("the write that stood still: %v", err)
	}
	if !view(t, w.r, func(tx *record.Tx) (bool, error) { return tx.HasNode(devEUI(0)) }) {
		t.Error("the write that stood still was carried out")
	}
}

// A deadlock with a session of somebody else: the whole batch is tried again, and
// granted. An administrator who waits for the joins keeps them out until somebody else
// has come to an end, so that there is no second one.
func TestPostgresDeadlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, postgres)
	w.importNodes(t, w.r, band.MAC1_0_3, 0, 2)
	first, second := devEUI(0), devEUI(1)
	if bytes.Compare(first[:], second[:]) > 0 {
		first, second = second, first
	}
	claims := []joinserver.Claim{w.claim(t, w.r, first, 1, w.clock.now()), w.claim(t, w.r, second, 1, w.clock.now())}
	ctx := context.Background()
	db := w.store.raw(t)
	somebody := must[*sql.Tx](t)(db.BeginTx(ctx, nil))
	lock := func(device joinserver.EUI64) error {
		_, err := somebody.ExecContext(ctx, `SELECT 1 FROM nodes WHERE dev_eui = $1 FOR UPDATE`, device.String())
		return err
	}
	must[sql.Result](t)(somebody.ExecContext(ctx, `SET LOCAL deadlock_timeout = '1min'`)) // it is not the one that gives in
	check(t, lock(second))
	outcomes, admitted := make(chan error, 1), make(chan error, 1)
	go func() {
		_, errs := w.r.CommitTogether(claims)
		outcomes <- errors.Join(errs...)
	}()
	awaitLock(t, db, 1, outcomes)
	administrator := must[*sql.Tx](t)(db.BeginTx(ctx, nil))
	go func() {
		_, err := administrator.ExecContext(ctx, `SELECT pg_advisory_xact_lock(1785686382, 1)`)
		admitted <- err
	}()
	awaitLock(t, db, 2, outcomes, admitted)
	check(t, lock(first)) // waits until the joins have given in
	check(t, <-admitted)
	check(t, somebody.Commit())
	check(t, administrator.Commit())
	check(t, <-outcomes)
}

// What PostgreSQL raises in the middle of a commit: a conflict of transactions is tried
// again, and costs nothing; a disk that is full fails the join and says what to do. Nothing is
// left of what failed: its DevNonce is good when the fault is gone.
func TestPostgresRaises(t *testing.T) {
	t.Parallel()
	const always = 1 << 30
	for name, c := range map[string]struct {
		state string
		times int
		want  string // of the error; empty: granted
	}{
		"serialization failure":              {"40001", 1, ""},
		"two serialization failures":         {"40001", 2, ""},
		"three serialization failures":       {"40001", 3, "again and again; joins go on by themselves"},
		"serialization failures without end": {"40001", always, "joins go on by themselves"},
		"disk full":                          {"53100", always, "disk is full: make room; joins go on by themselves (write DevNonces: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, postgres)
			w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
			db := w.store.raw(t)
			t.Cleanup(func() { // the next test has this database
				_, err := db.Exec(`DROP FUNCTION IF EXISTS raises() CASCADE; DROP SEQUENCE IF EXISTS raised`)
				check(t, err)
			})
			for _, statement := range []string{
				`CREATE SEQUENCE raised`, // which no rollback takes back
				fmt.Sprintf(`CREATE FUNCTION raises() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
					IF nextval('raised') <= %d THEN RAISE EXCEPTION 'raised by a test' USING ERRCODE = '%s'; END IF; RETURN NULL; END $$`, c.times, c.state),
				`CREATE TRIGGER raises BEFORE INSERT ON dev_nonces FOR EACH STATEMENT EXECUTE FUNCTION raises()`,
			} {
				must[sql.Result](t)(db.Exec(statement))
			}
			before := w.counts(t)
			claim := w.claim(t, w.r, devEUI(0), 7, w.clock.now())
			_, err := w.commit(claim)
			if c.want == "" {
				check(t, err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the commit says %v, not %q", err, c.want)
			}
			if now := w.counts(t); !maps.Equal(now, before) {
				t.Errorf("rows %v, before %v", now, before)
			}
			must[sql.Result](t)(db.Exec(`DROP TRIGGER raises ON dev_nonces`))
			must[joinserver.Grant](t)(w.commit(claim))
		})
	}
}

// With no connection left a program says so, and goes on when there is one.
func TestPostgresConnectionLimit(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, "max_connections = 16", "superuser_reserved_connections = 0", "max_wal_senders = 0", "autovacuum = off")
	w := newWorld(t, engine{"postgres", func(t testing.TB) store { return c.store(t, c.newDatabase(t)) }})
	w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
	ctx := context.Background()
	var holders []*sql.Conn
	var err error
	for db := c.connect(t, "postgres"); err == nil; {
		var conn *sql.Conn
		if conn, err = db.Conn(ctx); err == nil {
			holders = append(holders, conn)
		}
	}
	w.mustJoin(t, devEUI(0), 1) // who has a connection goes on
	o := w.store.options
	o.BusyTimeout = 100 * time.Millisecond
	if _, err := record.Open(ctx, o); err == nil || !strings.Contains(err.Error(), "no connection left") {
		t.Errorf("open with no connection left: %v", err)
	}
	for _, conn := range holders {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // ends it
	}
	r := open(t, w.store.options)
	must[joinserver.Grant](t)(r.Commit(ctx, w.claim(t, r, devEUI(0), 2, w.clock.now())))
}

// The network goes away in the middle of a join. It counts as not granted, also
// when only the answer to the COMMIT is lost; then joins go on by themselves.
func TestPostgresCutOff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		from string // what the program sends when the network goes away
		on   int    // sessions that are on record all the same
		want string
	}{
		{"before the joins are read", "FOR NO KEY UPDATE", 0, "stayed out"},
		{"at the COMMIT", sentCommit, 1, "whether it was committed is not known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, postgres)
			w.importNodes(t, w.r, band.MAC1_0_3, 0, 2)
			claims := []joinserver.Claim{w.claim(t, w.r, devEUI(0), 1, w.clock.now()), w.claim(t, w.r, devEUI(1), 1, w.clock.now())}
			wire := newWire(t, w.store.options.PostgresURL)
			o := w.store.options
			o.PostgresURL, o.BusyTimeout = wire.url, time.Second
			r := open(t, o)
			wire.cutAt(c.from)
			if g, err := r.Commit(context.Background(), claims[0]); err == nil || g != (joinserver.Grant{}) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("commit: %+v, %v", g, err)
			}
			if n := one[int](t, w.store.raw(t), `SELECT COUNT(*) FROM sessions`); n != c.on {
				t.Errorf("%d sessions on record, not %d", n, c.on)
			}
			wire.cutAt("")
			must[joinserver.Grant](t)(r.Commit(context.Background(), claims[1]))
		})
	}
}

// The clock is read when all locks are held: a join that has waited for them until its
// device no longer listens is refused. A DevAddr that a network server brings waits too.
func TestPostgresLockedUntilTooLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, postgres)
	w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
	db := w.store.raw(t)
	for i, addr := range []*joinserver.DevAddr{nil, {1, 2, 3, 4}} {
		c := w.claim(t, w.r, devEUI(0), uint16(i), w.clock.now())
		c.DevAddr = addr
		somebody := must[*sql.Tx](t)(db.BeginTx(context.Background(), nil))
		must[sql.Result](t)(somebody.Exec(`SELECT pg_advisory_xact_lock(1785686382, 2)`)) // of the addresses
		ended := make(chan error, 1)
		go func() {
			_, err := w.commit(c)
			ended <- err
		}()
		awaitLock(t, db, 1, ended)
		w.clock.set(c.Deadline.Add(time.Second))
		check(t, somebody.Commit())
		if got := outcome(<-ended); got != "too_late" {
			t.Errorf("DevAddr %v: %s", addr, got)
		}
	}
}

// awaitLock waits until so many sessions wait for a lock; none of them may end.
func awaitLock(t *testing.T, db *sql.DB, n int, ended ...<-chan error) {
	t.Helper()
	for one[int](t, db, `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) != n {
		for _, end := range ended {
			select {
			case err := <-end:
				t.Fatalf("one waits for nobody: %v", err)
			default:
			}
		}
	}
}

// The time of a commit runs out between two of its statements: that is said, and the
// next join is granted.
func TestPostgresTimeRunsOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, postgres)
	w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
	db := w.store.raw(t)
	var slow atomic.Bool
	o := w.store.options
	o.BusyTimeout = 100 * time.Millisecond
	o.Now = func() time.Time {
		for slow.Load() && one[int](t, db, `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`) > 0 {
		}
		return w.clock.now()
	}
	r := open(t, o)
	c := w.claim(t, r, devEUI(0), 1, w.clock.now())
	c.DevAddr = &joinserver.DevAddr{1, 2, 3, 4} // none is asked for
	slow.Store(true)
	if _, err := r.Commit(context.Background(), c); err == nil || !strings.Contains(err.Error(), "stayed out") {
		t.Errorf("the commit says %v", err)
	}
	slow.Store(false)
	must[joinserver.Grant](t)(r.Commit(context.Background(), c))
}

// However the URL would have statements run, joins are committed.
func TestPostgresStatementsArePrepared(t *testing.T) {
	t.Parallel()
	w := newWorld(t, postgres)
	w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
	for i, setting := range []string{"default_query_exec_mode=exec", "default_query_exec_mode=simple_protocol", "statement_cache_capacity=0"} {
		o := w.store.options
		u := must[*url.URL](t)(url.Parse(o.PostgresURL))
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+setting, "&")
		o.PostgresURL = u.String()
		r := open(t, o)
		must[joinserver.Grant](t)(r.Commit(context.Background(), w.claim(t, r, devEUI(0), uint16(i), w.clock.now())))
	}
}

// What waits for no answer of its own costs no round trip: a commit is BEGIN, the locks
// with what decides, the DevAddrs in use, what is written, and COMMIT.
func TestPostgresRoundTrips(t *testing.T) {
	t.Parallel()
	w := newWorld(t, postgres)
	w.importNodes(t, w.r, band.MAC1_0_3, 0, 20)
	wire := newWire(t, w.store.options.PostgresURL)
	o := w.store.options
	o.PostgresURL = wire.url
	r := open(t, o)
	must[joinserver.Grant](t)(r.Commit(context.Background(), w.claim(t, w.r, devEUI(0), 1, w.clock.now()))) // prepares the statements
	var claims []joinserver.Claim
	for i := range 20 {
		claims = append(claims, w.claim(t, w.r, devEUI(i), 2, w.clock.now()))
	}
	before := wire.trips.Load()
	_, errs := r.CommitTogether(claims)
	check(t, errors.Join(errs...))
	if n := wire.trips.Load() - before; n != 5 {
		t.Errorf("a commit of %d joins took %d round trips", len(claims), n)
	}
}
