package record_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

// postgres is the engine of tests that only several programs on a server have.
var postgres = engine{"postgres", newPostgres}

// Programs that start together on an empty database make one schema.
func TestOpenPostgresAtOnce(t *testing.T) {
	t.Parallel()
	c := sharedCluster(t)
	s := c.store(t, c.newDatabase(t))
	together(6, func(int) {
		r, err := record.Open(context.Background(), s.options)
		if err != nil {
			t.Error(err)
			return
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	db := s.raw(t)
	if n := one[int](t, db, `SELECT COUNT(*) FROM goose_db_version WHERE version_id > 0`); n == 0 {
		t.Error("no migration was counted")
	}
	// Text is compared octet by octet in every column, whatever the database's locale.
	if n := one[int](t, db, `SELECT COUNT(*) FROM information_schema.columns
WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'`); n != 0 {
		t.Errorf("%d text columns compare by locale", n)
	}
}

// Programs that decide joins of the same devices at once: every JoinNonce once.
func TestProgramsShareDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t, postgres)
	const devices, frames = 30, 6
	w.importNodes(t, w.r, band.MAC1_0_3, 0, devices)
	records := []*record.Record{w.r, open(t, w.store.options), open(t, w.store.options)}
	var mu sync.Mutex
	nonces := map[joinserver.EUI64][]uint32{}
	claims := make([]joinserver.Claim, devices)
	for i := range claims {
		claims[i] = w.claim(t, w.r, devEUI(i), 0, w.clock.now())
	}
	together(devices*len(records), func(i int) {
		program := i % len(records)
		for frame := range frames {
			c := claims[i/len(records)]
			c.Request.DevNonce = uint16(frame*len(records) + program)
			g, err := records[program].Commit(context.Background(), c)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			nonces[c.Request.DevEUI] = append(nonces[c.Request.DevEUI], g.JoinNonce)
			mu.Unlock()
		}
	})
	for device, got := range nonces {
		slices.Sort(got)
		if len(slices.Compact(got)) != frames*len(records) || got[len(got)-1] != frames*uint32(len(records)) {
			t.Errorf("JoinNonces of %s: %v", device, got)
		}
	}
}

// Programs that give DevAddrs of one space at once, each to devices of its own: no
// two live sessions have the same, though nearly all are taken.
func TestProgramsShareAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, postgres)
	const devices, frames = 60, 10 // 120 live sessions in 128 addresses
	w.importNodes(t, w.r, band.MAC1_0_3, 0, devices)
	records := []*record.Record{w.r, open(t, w.store.options), open(t, w.store.options)}
	claims := make([]joinserver.Claim, devices)
	for i := range claims {
		claims[i] = w.claim(t, w.r, devEUI(i), 0, w.clock.now())
		claims[i].NetID = smallest
	}
	db := w.store.raw(t)
	for frame := range uint16(frames) {
		together(devices, func(i int) {
			c := claims[i]
			c.Request.DevNonce = frame
			if _, err := records[i%len(records)].Commit(context.Background(), c); err != nil {
				t.Error(err)
			}
		})
		if n := one[int](t, db, `SELECT COUNT(*) - COUNT(DISTINCT dev_addr) FROM sessions WHERE live`); n != 0 {
			t.Fatalf("%d live sessions share a DevAddr", n)
		}
	}
	for _, r := range records {
		if n := r.SharedAddresses(); n != 0 {
			t.Errorf("%d DevAddrs counted as shared", n)
		}
	}
}

// The history of an administrator who changes a permission again and again while
// two other programs join by it: when a change has answered, no join is committed
// by the JoinEUI from before. DevNonces tell, for they are kept with theirs.
func TestNoJoinByTheOlderPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, postgres)
	const devices, changes = 40, 25
	w.importNodes(t, w.r, band.MAC1_0_3, 0, devices)
	db := w.store.raw(t)
	euiOf := func(change int) (e joinserver.EUI64) {
		binary.BigEndian.PutUint64(e[:], 0xd896e0efff000000+uint64(change))
		return e
	}
	committedBy := func(change int) int {
		return one[int](t, db, `SELECT COUNT(*) FROM dev_nonces WHERE join_eui = $1`, euiOf(change).String())
	}
	change := func(number int) {
		update(t, w.r, func(tx *record.Tx) error {
			p := localPermission("p")
			p.ID, p.JoinEUI = w.permission, euiOf(number)
			return tx.UpdatePermission(p)
		})
	}
	change(0)
	var done atomic.Bool
	var joining sync.WaitGroup
	var granted, moved atomic.Int64
	grants := make(chan struct{})
	for program := range 2 {
		r := open(t, w.store.options)
		for i := range devices {
			joining.Go(func() {
				for n := uint16(program); !done.Load(); n += 2 {
					_, err := r.Commit(context.Background(), w.claim(t, r, devEUI(i), n, w.clock.now()))
					switch {
					case err == nil:
						granted.Add(1)
						select {
						case grants <- struct{}{}:
						default:
						}
					case errors.Is(err, joinserver.ErrPolicyMoved):
						moved.Add(1)
					default:
						t.Error(err)
						return
					}
				}
			})
		}
	}
	before := make([]int, changes)
	for number := 1; number <= changes; number++ {
		for range 10 { // joins are under way
			<-grants
		}
		change(number)
		before[number-1] = committedBy(number - 1)
	}
	done.Store(true)
	joining.Wait()
	for number, n := range before {
		if now := committedBy(number); now != n {
			t.Errorf("%d joins were committed by policy %d after the next one had answered", now-n, number)
		}
	}
	if granted.Load() == 0 || moved.Load() == 0 {
		t.Errorf("%d joins granted, %d by a policy that had moved: nothing was tried", granted.Load(), moved.Load())
	}
	t.Logf("%d joins granted, %d decided again", granted.Load(), moved.Load())
}

// Administrators of several programs, imports and deliveries meet; nobody waits in
// a circle.
func TestProgramsMeet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, postgres)
	const devices = 200
	w.importNodes(t, w.r, band.MAC1_0_3, 0, devices)
	other := open(t, w.store.options)
	ctx := context.Background()
	work := []func(r *record.Record, n int) error{
		func(r *record.Record, n int) error { // a join of each device
			for i := range devices {
				c := w.claim(t, r, devEUI(i), uint16(n), w.clock.now())
				if _, err := r.Commit(ctx, c); err != nil && !errors.Is(err, joinserver.ErrPolicyMoved) && !errors.Is(err, joinserver.ErrLateCopy) {
					return err
				}
			}
			return nil
		},
		func(r *record.Record, _ int) error { // all nodes, in the order opposite to that of joins
			return r.Update(ctx, operator, func(tx *record.Tx) error {
				enabled := true
				for i := devices - 1; i >= 0; i-- {
					if err := tx.SetNode(devEUI(i), nil, &enabled); err != nil {
						return err
					}
				}
				return tx.UpdateAccount(joinserver.Account{ID: owner, Name: "owner"})
			})
		},
		func(r *record.Record, _ int) error {
			events, err := r.Pending(ctx, 500)
			return errors.Join(err, r.Delivered(ctx, events))
		},
		func(r *record.Record, n int) error {
			first := 1000 * (n + 1)
			if r == other {
				first += 500_000
			}
			return r.ImportNodes(ctx, operator, w.nodes(t, band.MAC1_0_3, first, first+100), func(int) {})
		},
		func(r *record.Record, _ int) error { return r.Ready(ctx) },
	}
	together(2*len(work), func(i int) {
		r := []*record.Record{w.r, other}[i%2]
		for n := range 4 {
			if err := work[i/2](r, n); err != nil {
				t.Errorf("work %d: %v", i/2, err)
			}
		}
	})
}

// Filters fold ASCII only, on every engine.
func TestFiltersFoldASCIIOnly(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		g := roof()
		g.City = "KÖLN"
		w.addGateways(t, g)
		all := joinserver.Page{Limit: joinserver.NoLimit}
		for text, want := range map[string]int{"kÖln": 1, "KÖLN": 1, "köln": 0, "Ö": 1, "ö": 0} {
			if got, _ := gatewaysOf(t, w, joinserver.GatewayFilter{CityLike: text, Page: all}); len(got) != want {
				t.Errorf("%q finds %d gateways in KÖLN, not %d", text, len(got), want)
			}
		}
	})
}

func TestOpenPostgresRefuses(t *testing.T) {
	t.Parallel()
	c := sharedCluster(t)
	admin := c.connect(t, "postgres")
	must[sql.Result](t)(admin.ExecContext(context.Background(), `CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`))
	own := newPostgres(t).options
	newer := c.store(t, c.newDatabase(t))
	check(t, must[*record.Record](t)(record.Open(context.Background(), newer.options)).Close())
	must[sql.Result](t)(newer.raw(t).ExecContext(context.Background(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, TRUE)`))
	port, err := freePort()
	check(t, err)
	cases := []struct{ name, url, user, want string }{
		{"no server", "postgres://joingate:secret@127.0.0.1:" + port + "/x", "", "cannot be reached"},
		{"no database", c.url("nowhere"), "", "there is no such database"},
		{"latin", c.url("latin"), "", "ENCODING 'UTF8'"},
		{"no user", own.PostgresURL, "nobody", "let the user in"},
		{"newer schema", newer.options.PostgresURL, "", "start the newer program"},
		{"no URL", "postgres://joingate:secret@[", "", "[record] url"},
	}
	for _, refused := range cases {
		t.Run(refused.name, func(t *testing.T) {
			o := record.Options{PostgresURL: refused.url, Username: refused.user, Password: "secret", KEK: kekOf("test"), BusyTimeout: time.Second}
			r, err := record.Open(context.Background(), o)
			if err == nil {
				check(t, r.Close())
				t.Fatal("opened")
			}
			if text := err.Error(); !strings.Contains(text, refused.want) || strings.Contains(text, "secret") || strings.Contains(text, "\n") {
				t.Errorf("not one clear sentence with %q: %s", refused.want, text)
			}
			t.Log(err)
		})
	}
	t.Run("another KEK", func(t *testing.T) {
		o := newPostgres(t).options
		check(t, must[*record.Record](t)(record.Open(context.Background(), o)).Close())
		o.KEK = kekOf("another")
		if _, err := record.Open(context.Background(), o); err == nil || !strings.Contains(err.Error(), "kek_file") {
			t.Errorf("opened with another KEK: %v", err)
		}
	})
}
