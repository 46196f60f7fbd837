package record_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

// A program that holds the record: joins fail, nothing is lost, and it recovers
// by itself.
func TestLockedRecord(t *testing.T) {
	w := newWorld(t, engine{"sqlite", newSQLite})
	w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
	claim := w.claim(t, w.r, devEUI(0), 1, w.clock.now())
	o := w.store.options
	o.BusyTimeout = 20 * time.Millisecond
	r := open(t, o)

	holder := w.store.raw(t)
	holder.SetMaxOpenConns(1)
	must[sql.Result](t)(holder.Exec(`BEGIN IMMEDIATE`))
	ctx := context.Background()
	if g, err := r.Commit(ctx, claim); err == nil || !strings.Contains(err.Error(), "locked by another program") {
		t.Errorf("commit on a locked record: %+v, %v", g, err)
	}
	if err := r.Ready(ctx); err == nil || !strings.Contains(err.Error(), "locked by another program") {
		t.Errorf("a locked record is ready: %v", err)
	}
	if err := r.Update(ctx, operator, func(*record.Tx) error { return nil }); err == nil {
		t.Error("update on a locked record")
	}
	ended, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := w.r.Ready(ended); err == nil { // its own timeout is far longer
		t.Error("a locked record is ready")
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := w.r.Commit(ctx, claim)
		waiting <- err
	}()
	must[sql.Result](t)(holder.Exec(`ROLLBACK`))
	check(t, <-waiting)
	if n := one[int](t, holder, `SELECT COUNT(*) FROM sessions`); n != 1 {
		t.Errorf("%d sessions, not 1", n)
	}
	check(t, r.Ready(ctx))
}

// A join that waited for the lock until after its deadline burns no nonce.
func TestLockHeldPastTheDeadline(t *testing.T) {
	w := newWorld(t, engine{"sqlite", newSQLite})
	w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
	claim := w.claim(t, w.r, devEUI(0), 1, w.clock.now())
	holder := w.store.raw(t)
	holder.SetMaxOpenConns(1)
	must[sql.Result](t)(holder.Exec(`BEGIN IMMEDIATE`))
	waiting := make(chan error, 1)
	go func() {
		_, err := w.r.Commit(context.Background(), claim)
		waiting <- err
	}()
	w.clock.set(claim.Deadline.Add(time.Second))
	must[sql.Result](t)(holder.Exec(`ROLLBACK`))
	if got := outcome(<-waiting); got != "too_late" {
		t.Errorf("%s, not too_late", got)
	}
	if n := one[int](t, holder, `SELECT COUNT(*) FROM dev_nonces`); n != 0 {
		t.Error("a nonce was burnt")
	}
}

func TestFullDisk(t *testing.T) {
	w := newWorld(t, engine{"sqlite", newSQLite})
	const devices = 400
	w.importNodes(t, w.r, band.MAC1_0_3, 0, devices)
	ctx := context.Background()
	check(t, w.r.LimitPages(ctx, 20))
	granted := map[joinserver.EUI64]joinserver.Grant{}
	var failed error
	for i := range devices {
		g, err := w.join(t, devEUI(i), 1)
		if err != nil {
			failed = err
			continue
		}
		granted[devEUI(i)] = g
	}
	if failed == nil || !strings.Contains(failed.Error(), "disk is full: make room") {
		t.Fatalf("commit on a full disk: %v", failed)
	}
	db := w.store.raw(t)
	onRecord := func() int { return one[int](t, db, `SELECT COUNT(*) FROM sessions`) }
	if onRecord() != len(granted) || len(granted) == 0 {
		t.Errorf("%d sessions on record, %d granted", onRecord(), len(granted))
	}
	if err := w.r.Update(ctx, operator, func(tx *record.Tx) error {
		return tx.Audit(joinserver.Change{New: strings.Repeat("x", 1<<20)})
	}); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("update on a full disk: %v", err)
	}
	check(t, w.r.LimitPages(ctx, -1))
	for i := range devices {
		if _, before := granted[devEUI(i)]; before {
			continue
		}
		if g := w.mustJoin(t, devEUI(i), 1); g.JoinNonce != 1 {
			t.Fatalf("a join that was not granted has used JoinNonce %d", g.JoinNonce-1)
		}
	}
	if onRecord() != devices {
		t.Errorf("%d sessions on record, not %d", onRecord(), devices)
	}
}

// What an operator did wrong gets one clear sentence.
func TestOpenFaults(t *testing.T) {
	write := func(text string) func(*testing.T, *record.Options) {
		return func(t *testing.T, o *record.Options) {
			check(t, os.Remove(o.SQLitePath))
			check(t, os.WriteFile(o.SQLitePath, []byte(text), 0o600))
		}
	}
	cases := []struct {
		name  string
		spoil func(*testing.T, *record.Options)
		want  string
	}{
		{"wrong KEK", func(_ *testing.T, o *record.Options) { o.KEK = kekOf("another") }, "key file is not the one"},
		{"missing KEK", func(_ *testing.T, o *record.Options) { o.KEK = nil }, "kek_file"},
		{"newer schema", func(t *testing.T, o *record.Options) {
			db := must[*sql.DB](t)(sql.Open("sqlite", o.SQLitePath))
			must[sql.Result](t)(db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, TRUE)`))
			check(t, db.Close())
		}, "start the newer program"},
		{"no database", write(strings.Repeat("not a database. ", 300)), "file is damaged"},
		{"half a database", func(t *testing.T, o *record.Options) {
			whole := must[[]byte](t)(os.ReadFile(o.SQLitePath))
			write(string(whole[:len(whole)/2+100]))(t, o)
		}, "file is damaged"},
		{"folder is a file", func(_ *testing.T, o *record.Options) { o.SQLitePath = filepath.Join(o.SQLitePath, "joingate.db") }, "not a directory"},
		{"is a folder", func(_ *testing.T, o *record.Options) { o.SQLitePath = filepath.Dir(o.SQLitePath) }, "cannot be written"},
		{"read-only folder", func(t *testing.T, o *record.Options) {
			folder := filepath.Join(t.TempDir(), "read-only")
			check(t, os.Mkdir(folder, 0o500))
			o.SQLitePath = filepath.Join(folder, "joingate.db")
			if os.Geteuid() == 0 {
				t.Skip("root writes everywhere")
			}
		}, "cannot be written"},
		{"read-only file", func(t *testing.T, o *record.Options) {
			check(t, os.Chmod(o.SQLitePath, 0o400))
			if os.Geteuid() == 0 {
				t.Skip("root writes everywhere")
			}
		}, "cannot be written"},
		{"record in a read-only folder", func(t *testing.T, o *record.Options) {
			folder := filepath.Dir(o.SQLitePath)
			check(t, os.Chmod(folder, 0o500))
			t.Cleanup(func() { check(t, os.Chmod(folder, 0o700)) }) // so that it can be removed
			if os.Geteuid() == 0 {
				t.Skip("root writes everywhere")
			}
		}, "cannot be written"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := newSQLite(t).options
			r := must[*record.Record](t)(record.Open(context.Background(), o))
			check(t, r.Close())
			c.spoil(t, &o)
			r, err := record.Open(context.Background(), o)
			if err == nil {
				check(t, r.Close())
				t.Fatal("opened")
			}
			if text := err.Error(); !strings.Contains(text, c.want) || !strings.Contains(text, o.SQLitePath) || strings.Contains(text, "\n") {
				t.Errorf("not one clear sentence with %q: %s", c.want, text)
			}
			t.Log(err)
		})
	}
}

func TestPathsWithOddCharacters(t *testing.T) {
	for _, name := range []string{"a b.db", "50%.db", "what?.db", "#1.db", "ä&b=c.db"} {
		o := record.Options{SQLitePath: filepath.Join(t.TempDir(), "deep", "er", name), KEK: kekOf("test")}
		open(t, o)
		info, err := os.Stat(o.SQLitePath)
		check(t, err)
		if info.Size() == 0 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %d octets, mode %v", name, info.Size(), info.Mode())
		}
	}
}
