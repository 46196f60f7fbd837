package record_test

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/record"
)

// newInstallation is a record with something in every table.
func newInstallation(t *testing.T, e engine) *world {
	t.Helper()
	w := newWorldWith(t, e, record.Options{Sinks: []string{"webhook", "stream"}})
	w.importNodes(t, w.r, band.MAC1_1, 0, 30)
	w.importNodes(t, w.r, band.MAC1_0_3, 30, 60)
	w.addGateways(t, roof())
	w.setState(t, true, 20)
	update(t, w.r, func(tx *record.Tx) error {
		_, err1 := tx.InsertOrder(joinserver.Order{PermissionID: w.permission, Owner: owner, State: joinserver.OrderApplying})
		_, err2 := tx.InsertNotification(joinserver.Notification{Account: owner, Category: "c", NoticeMillis: 3})
		return errors.Join(err1, err2, tx.InsertUser(joinserver.User{Account: owner, Name: "ädä", Policy: `{}`}),
			tx.InsertAccessKey(joinserver.AccessKey{ID: "LTAI5", Account: owner, Secret: keyring.NewSecret("s"), Enabled: true}),
			tx.SetRecipient(owner, record.NetworkServer, wrappingKey(t, "ns", 1)), tx.SetRecipient(owner, record.ApplicationServer, wrappingKey(t, "as", 2)))
	})
	check(t, w.r.Update(context.Background(), joinserver.Write{AccessKeyID: "LTAI5", Nonce: "n", At: noon}, func(*record.Tx) error { return nil }))
	for devNonce := range uint16(3) {
		for i := range 60 {
			c := w.claim(t, w.r, devEUI(i), devNonce, w.clock.now())
			if i%2 == 0 {
				c.CFList = slices.Repeat([]byte{0xcf}, 16)
			}
			must[joinserver.Grant](t)(w.commit(c))
		}
	}
	must[joinserver.Grant](t)(w.commit(w.rejoin(t, joinserver.Rejoin1, devEUI(0), 0)))
	w.exec(t, `INSERT INTO restored (only_row, join_nonce_floor) VALUES (1, 7)`)
	for table, n := range w.counts(t) {
		if n == 0 {
			t.Fatalf("%s is empty", table)
		}
	}
	return w
}

func nobody(string, int64) {}

// onPairs runs a test for each way to move an installation.
func onPairs(t *testing.T, test func(t *testing.T, from, to engine)) {
	t.Helper()
	for _, from := range engines {
		for _, to := range engines {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				t.Parallel()
				test(t, from, to)
			})
		}
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	onPairs(t, func(t *testing.T, from, to engine) {
		w := newInstallation(t, from)
		copied := &world{place: w.place, clock: w.clock, store: to.new(t)}
		copied.store.options.Now = w.clock.now
		copied.r = open(t, copied.store.options)
		rows := map[string]int64{}
		check(t, record.Copy(context.Background(), w.r, copied.r, func(table string, n int64) { rows[table] = n }))
		if want, got := w.counts(t), copied.counts(t); !maps.Equal(want, got) {
			t.Errorf("copied\n%v, not\n%v", got, want)
		}
		for table, n := range w.counts(t) { // what the schema has, the copy has told of
			if table != "revision" && table != "key_check" && rows[table] != int64(n) {
				t.Errorf("%d rows of %s, not %d", rows[table], table, n)
			}
		}
		for i := range 60 {
			want := must[joinserver.Policy](t)(w.r.Policy(context.Background(), devEUI(i)))
			got := must[joinserver.Policy](t)(copied.r.Policy(context.Background(), devEUI(i)))
			if !got.Node.Keys.App.Equal(want.Node.Keys.App) || got.Permission.Version != want.Permission.Version {
				t.Errorf("the policy of %s differs", devEUI(i))
			}
		}
		copied.clock.advance(time.Minute)
		copied.refuses(t, copied.claim(t, copied.r, devEUI(0), 2, copied.clock.now()), "dev_nonce_replayed")
		if g := copied.mustJoin(t, devEUI(0), 3); g.JoinNonce != 5 {
			t.Errorf("JoinNonce %d, not 5: it goes on", g.JoinNonce)
		}
		update(t, copied.r, func(tx *record.Tx) error { // ids go on too
			_, err := tx.InsertPermission(localPermission("after the copy"))
			return err
		})
	})
}

// Every table of the schema is copied, also one that is added later.
func TestCopyKnowsAllTables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, engines[0])
	rows := must[*sql.Rows](t)(w.store.raw(t).Query(`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'goose_db_version'`))
	defer rows.Close()
	copied := append(record.CopiedTables(), "revision", "key_check")
	for rows.Next() {
		var name string
		check(t, rows.Scan(&name))
		if !slices.Contains(copied, name) {
			t.Errorf("%s is not copied", name)
		}
	}
	check(t, rows.Err())
}

// A copy that was broken off goes on when it is started again.
func TestCopyGoesOn(t *testing.T) {
	t.Parallel()
	onPairs(t, func(t *testing.T, from, to engine) {
		w := newInstallation(t, from)
		r := open(t, to.new(t).options)
		for _, table := range []string{"users", "nodes", "sessions"} {
			ended, cancel := context.WithCancel(context.Background())
			err := record.Copy(ended, w.r, r, func(name string, _ int64) {
				if name == table {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("a copy that was called off: %v", err)
			}
		}
		check(t, record.Copy(context.Background(), w.r, r, nobody))
		check(t, record.Copy(context.Background(), w.r, r, nobody)) // once more compares only
	})
}

func TestCopyRefuses(t *testing.T) {
	t.Parallel()
	onPairs(t, func(t *testing.T, from, to engine) {
		w := newInstallation(t, from)
		ctx := context.Background()
		t.Run("other data", func(t *testing.T) {
			other := newInstallation(t, to)
			before := other.counts(t)
			if err := record.Copy(ctx, w.r, other.r, nobody); !errors.Is(err, record.ErrOtherData) {
				t.Errorf("copy over another installation: %v", err)
			}
			if after := other.counts(t); !maps.Equal(before, after) {
				t.Errorf("something was written: %v, before %v", after, before)
			}
		})
		t.Run("another key", func(t *testing.T) {
			o := to.new(t).options
			o.KEK = kekOf("another")
			r := open(t, o)
			if err := record.Copy(ctx, w.r, r, nobody); err == nil || !strings.Contains(err.Error(), "kek_file") {
				t.Error("copied to a record that is sealed with another key")
			}
		})
		t.Run("written meanwhile", func(t *testing.T) {
			s := to.new(t)
			r := open(t, s.options)
			changed := false
			err := record.Copy(ctx, w.r, r, func(table string, _ int64) {
				if table == "nodes" && !changed {
					changed = true
					must[sql.Result](t)(s.raw(t).Exec(`UPDATE nodes SET pin_code = '0' WHERE dev_eui = $1`, devEUI(7).String()))
				}
			})
			if err == nil || !strings.Contains(err.Error(), "nodes differ") {
				t.Errorf("a copy that differs: %v", err)
			}
		})
	})
}
