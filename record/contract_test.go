package record_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/record"
)

var (
	_ joinserver.Policies = (*record.Record)(nil)
	_ joinserver.Joins    = (*record.Record)(nil)
	_ joinserver.Sessions = (*record.Record)(nil)
)

const (
	owner     joinserver.AccountID = 1001
	otherOne  joinserver.AccountID = 1002
	planGroup band.GroupID         = 101
)

var (
	joinEUI   = joinserver.EUI64{0xd8, 0x96, 0xe0, 0xef, 0xff, 0, 0, 1}
	otherEUI  = joinserver.EUI64{0xd8, 0x96, 0xe0, 0xef, 0xff, 0, 0, 2}
	gatewayID = joinserver.EUI64{0, 0, 0, 0, 0, 0, 0xaa, 1}
	noon      = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// clock is a time that tests set.
type clock struct{ millis atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.set(noon)
	return c
}

func (c *clock) set(t time.Time)         { c.millis.Store(t.UnixMilli()) }
func (c *clock) advance(d time.Duration) { c.millis.Add(d.Milliseconds()) }
func (c *clock) now() time.Time          { return time.UnixMilli(c.millis.Load()) }

func kekOf(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// engines are the databases that the contract holds on.
var engines = []engine{{"sqlite", newSQLite}, {"postgres", newPostgres}}

// engine is a kind of database.
type engine struct {
	name string
	new  func(testing.TB) store // an empty one
}

// store is a database that records can be opened on, several at once.
type store struct {
	options record.Options             // of a Record on it; Now is set by the test
	raw     func(t testing.TB) *sql.DB // a connection past the Record
}

func newSQLite(t testing.TB) store {
	t.Helper()
	return sqliteAt(filepath.Join(t.TempDir(), "joingate.db"))
}

func sqliteAt(path string) store {
	var once sync.Once
	var db *sql.DB
	return store{
		options: record.Options{SQLitePath: path, KEK: kekOf("test")},
		raw: func(t testing.TB) *sql.DB {
			t.Helper()
			once.Do(func() {
				db = must[*sql.DB](t)(sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)"))
				t.Cleanup(func() { check(t, db.Close()) })
			})
			return db
		},
	}
}

// world is an open record with a place in it.
type world struct {
	place
	clock *clock
	store store
	r     *record.Record
}

// onEngines runs a test of the contract on a fresh record of each engine.
func onEngines(t *testing.T, test func(*testing.T, *world)) {
	t.Helper()
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel() // the engines wait for different things
			test(t, newWorld(t, e))
		})
	}
}

func newWorld(t testing.TB, e engine) *world {
	t.Helper()
	return newWorldWith(t, e, record.Options{})
}

// newWorldWith opens the record with sinks.
func newWorldWith(t testing.TB, e engine, o record.Options) *world {
	t.Helper()
	w := &world{clock: newClock(), store: e.new(t)}
	w.store.options.Now, w.store.options.Sinks = w.clock.now, o.Sinks
	w.r = open(t, w.store.options)
	w.place = newPlace(t, w.r)
	return w
}

func open(t testing.TB, o record.Options) *record.Record {
	t.Helper()
	r, err := record.Open(context.Background(), o)
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	return r
}

var tables = []string{
	"revision", "key_check", "accounts", "users", "access_keys", "join_permissions", "node_groups", "orders", "imports",
	"nodes", "gateways", "gateway_states", "notifications", "dev_nonces", "rejoin_counts", "sessions", "outbox", "outbox_sinks", "audit",
	"signature_nonces", "account_keks", "restored",
}

// counts gives the number of rows of every table.
func (w *world) counts(t testing.TB) map[string]int {
	t.Helper()
	var of []string
	for _, table := range tables {
		of = append(of, "SELECT '"+table+"', COUNT(*) FROM "+table)
	}
	rows := must[*sql.Rows](t)(w.store.raw(t).Query(strings.Join(of, " UNION ALL ")))
	defer rows.Close()
	counts := map[string]int{}
	for rows.Next() {
		var table string
		var n int
		check(t, rows.Scan(&table, &n))
		counts[table] = n
	}
	check(t, rows.Err())
	return counts
}

// one reads a single value past the Record.
func one[T any](t testing.TB, db *sql.DB, query string, args ...any) (v T) {
	t.Helper()
	check(t, db.QueryRow(query, args...).Scan(&v))
	return v
}

func (w *world) exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	must[sql.Result](t)(w.store.raw(t).Exec(statement, args...))
}

// update is a write of an operator's command.
func update(t testing.TB, r *record.Record, fn func(*record.Tx) error) {
	t.Helper()
	check(t, r.Update(context.Background(), joinserver.Write{Action: "test", At: noon}, fn))
}

// devEUI numbers devices in an order that is not that of their numbers, as
// devices in the field come.
func devEUI(i int) (e joinserver.EUI64) {
	binary.BigEndian.PutUint64(e[:], uint64(i)*0x9e3779b97f4a7c15)
	return e
}

func rootKey(t testing.TB, i int) keyring.Key {
	t.Helper()
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("root key"), uint64(i)))
	return must[keyring.Key](t)(keyring.NewKey(sum[:keyring.KeySize]))
}

// place is an account with a permission, a group bound to it and a gateway.
type place struct {
	account           joinserver.AccountID
	permission, group int64
	gateway           joinserver.EUI64
}

func newPlace(t testing.TB, r *record.Record) place {
	t.Helper()
	p := place{account: owner, gateway: gatewayID}
	update(t, r, func(tx *record.Tx) (err error) {
		if err := tx.InsertAccount(joinserver.Account{ID: owner, Name: "owner", CreateMillis: 1}); err != nil {
			return err
		}
		if p.permission, err = tx.InsertPermission(localPermission("p")); err != nil {
			return err
		}
		if p.group, err = tx.InsertGroup(joinserver.Group{Account: owner, Name: "g", PermissionID: p.permission}); err != nil {
			return err
		}
		return tx.InsertGateway(record.NewGateway{EUI: gatewayID, Account: owner, BandPlanGroup: planGroup})
	})
	return p
}

func localPermission(name string) joinserver.Permission {
	return joinserver.Permission{
		JoinPermission: joinserver.JoinPermission{
			Type: joinserver.Local, Owner: owner, Enabled: true, JoinEUI: joinEUI,
			BandPlanGroup: planGroup, ClassMode: "A", RxDelay: time.Second,
		},
		Name: name, AuthState: joinserver.New,
	}
}

// importNodes registers the devices from first to before end in the place's group.
func (p place) importNodes(t testing.TB, r *record.Record, v joinserver.MACVersion, first, end int) {
	t.Helper()
	check(t, r.ImportNodes(context.Background(), joinserver.Write{Action: "import", At: noon}, p.nodes(t, v, first, end), func(int) {}))
}

func (p place) nodes(t testing.TB, v joinserver.MACVersion, first, end int) []record.NewNode {
	nodes := make([]record.NewNode, 0, end-first)
	for i := first; i < end; i++ {
		n := record.NewNode{DevEUI: devEUI(i), MACVersion: v, Account: p.account, GroupID: p.group, PinCode: "123456"}
		n.Keys.App = rootKey(t, i)
		if v >= band.MAC1_1 {
			n.Keys.Nwk = rootKey(t, -i)
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// claim makes the claim of a join-request that has just arrived, from the policy
// that is now on record.
func (p place) claim(t testing.TB, r *record.Record, device joinserver.EUI64, devNonce uint16, at time.Time) joinserver.Claim {
	t.Helper()
	ctx := context.Background()
	policy := must[joinserver.Policy](t)(r.Policy(ctx, device))
	gateways := must[[]joinserver.Gateway](t)(r.Gateways(ctx, []joinserver.EUI64{p.gateway}))
	if len(gateways) != 1 {
		t.Fatalf("%d gateways, not 1", len(gateways))
	}
	return claimOf(policy, gateways[0], devNonce, at)
}

func claimOf(policy joinserver.Policy, via joinserver.Gateway, devNonce uint16, at time.Time) joinserver.Claim {
	device := policy.Node.DevEUI
	return joinserver.Claim{
		Request: joinserver.JoinRequest{
			JoinEUI: policy.Permission.JoinEUI, DevEUI: device, DevNonce: devNonce,
			MIC: [4]byte{device[6], device[7], byte(devNonce >> 8), byte(devNonce)},
		},
		Policy: policy, Gateway: via, NetID: joinserver.NetID{0, 0, 0x13},
		Received: at, Deadline: at.Add(5800 * time.Millisecond),
		DLSettings: 0x02, RxDelay: policy.Permission.RxDelay,
		Receptions: []joinserver.Reception{{Gateway: via.EUI, Frequency: 470_300_000, RSSI: -70, SNR: 7}},
	}
}
