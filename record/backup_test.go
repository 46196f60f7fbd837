package record_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

// backup writes one to a new file.
func (w *world) backup(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup.db")
	check(t, w.r.Backup(context.Background(), path))
	return path
}

// restore makes a new record of a backup and gives it with what was done.
func (w *world) restore(t testing.TB, to store, o record.Restoration) (*world, record.Restored) {
	t.Helper()
	to.options.Now, to.options.Sinks = w.clock.now, w.store.options.Sinks
	o.To = to.options
	done := must[record.Restored](t)(record.Restore(context.Background(), o))
	restored := &world{place: w.place, clock: w.clock, store: to}
	restored.r = open(t, to.options)
	return restored, done
}

// freshStore is one on which no record is yet.
func freshStore(t testing.TB, e engine) store {
	t.Helper()
	if e.name == "sqlite" {
		return newSQLite(t)
	}
	return e.new(t)
}

// What is joined after the backup cannot come again: every JoinNonce is beyond what
// was used, for all devices, on both engines.
func TestBackupAndRestore(t *testing.T) {
	onPairs(t, func(t *testing.T, from, to engine) {
		w := newInstallation(t, from)
		w.exec(t, `DELETE FROM restored`)
		const never, later = 70, 71 // devices that had not joined, and that were not registered
		w.importNodes(t, w.r, band.MAC1_0_3, never, never+1)
		path := w.backup(t)
		if info := must[fs.FileInfo](t)(os.Stat(path)); info.Mode().Perm() != 0o600 {
			t.Errorf("the backup has mode %v", info.Mode())
		}
		if left := must[[]os.DirEntry](t)(os.ReadDir(filepath.Dir(path))); len(left) != 1 {
			t.Errorf("%d files are left beside the backup", len(left)-1)
		}
		backedUp := must[[]joinserver.Session](t)(w.r.Sessions(context.Background(), devEUI(35)))

		// Life goes on, and is lost.
		w.clock.advance(time.Hour)
		w.importNodes(t, w.r, band.MAC1_0_3, later, later+1)
		lost := map[int]joinserver.Grant{}
		var log strings.Builder
		for _, i := range []int{0, 35, never, later} {
			lost[i] = w.mustJoin(t, devEUI(i), 1000)
		}
		for _, e := range must[[]joinserver.OutboxEvent](t)(w.r.Pending(context.Background(), 1000)) {
			fmt.Fprintf(&log, "%s\n", e.Payload)
		}

		restored, done := w.restore(t, freshStore(t, to), record.Restoration{Backup: path})
		if done.Devices != 61 || done.Exhausted != 0 || len(done.Findings) != 0 {
			t.Errorf("restored %+v", done)
		}
		restored.importNodes(t, restored.r, band.MAC1_0_3, later, later+1) // registered once more
		for i, was := range lost {
			g := restored.mustJoin(t, devEUI(i), 1000) // the request from then, replayed
			if g.JoinNonce <= was.JoinNonce || g.JoinNonce <= record.DefaultJump {
				t.Errorf("device %d: JoinNonce %d after %d: its keys come again", i, g.JoinNonce, was.JoinNonce)
			}
		}
		live := must[[]joinserver.Session](t)(restored.r.Sessions(context.Background(), devEUI(35)))
		if len(live) != 2 || live[1].JoinNonce != backedUp[0].JoinNonce || live[1].DevAddr != backedUp[0].DevAddr {
			t.Errorf("the session of the backup is gone: %+v", live)
		}
		if findings := must[[]record.Finding](t)(restored.r.Check(context.Background())); len(findings) != 0 {
			t.Errorf("findings %v", findings)
		}

		logged, done := w.restore(t, freshStore(t, to), record.Restoration{Backup: path, Jump: 5, Events: strings.NewReader(log.String() + "{\"reason\":\"bad_mic\"}\n{\"devEui\":\"00")})
		if done.Unreadable != 2 || done.Events < 4 {
			t.Errorf("restored %+v", done)
		}
		logged.clock.advance(time.Minute)
		for _, i := range []int{0, 35, never} {
			logged.refuses(t, logged.claim(t, logged.r, devEUI(i), 1000, logged.clock.now()), "dev_nonce_replayed")
		}
		if g := logged.mustJoin(t, devEUI(0), 1001); g.JoinNonce != lost[0].JoinNonce+6 {
			t.Errorf("JoinNonce %d, not %d", g.JoinNonce, lost[0].JoinNonce+6)
		}
	})
}

// Ids and versions that were given after the backup do not come again.
func TestRestoreRaisesTheRevision(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		path := w.backup(t)
		addPermission := func(w *world, name string) (id int64) {
			update(t, w.r, func(tx *record.Tx) (err error) {
				id, err = tx.InsertPermission(localPermission(name))
				return err
			})
			return id
		}
		lost := addPermission(w, "lost")
		restored, _ := w.restore(t, newSQLite(t), record.Restoration{Backup: path})
		if id := addPermission(restored, "new"); id <= lost {
			t.Errorf("id %d was given before", id)
		}
	})
}

func TestRestoreNeverPassesTheLastJoinNonce(t *testing.T) {
	w := newWorld(t, engines[0])
	w.importNodes(t, w.r, band.MAC1_1, 0, 3)
	w.mustJoin(t, devEUI(0), 1)
	w.exec(t, `UPDATE sessions SET join_nonce = $1`, joinserver.MaxJoinNonce-10)
	restored, done := w.restore(t, newSQLite(t), record.Restoration{Backup: w.backup(t)})
	if done.Exhausted != 1 || done.Devices != 3 || len(done.Findings) != 0 {
		t.Errorf("restored %+v", done)
	}
	restored.clock.advance(time.Minute)
	restored.refuses(t, restored.claim(t, restored.r, devEUI(0), 2, restored.clock.now()), "join_nonce_exhausted")
	again, _ := w.restore(t, newSQLite(t), record.Restoration{Backup: restored.backup(t)}) // once more from there
	if g := again.mustJoin(t, devEUI(1), 1); g.JoinNonce != 2*record.DefaultJump+1 {
		t.Errorf("JoinNonce %d after two restorations", g.JoinNonce)
	}
	again.importNodes(t, again.r, band.MAC1_1, 5, 6)
	if g := again.mustJoin(t, devEUI(5), 1); g.JoinNonce != 2*record.DefaultJump+1 {
		t.Errorf("JoinNonce %d of a new device after two restorations", g.JoinNonce)
	}
}

// Rejoin-requests of the log are refused again; those of types 0 and 2 burn no
// DevNonce.
func TestRestoreTakesOverRejoins(t *testing.T) {
	w := newWorld(t, engines[0])
	w.importNodes(t, w.r, band.MAC1_1, 0, 1)
	w.mustJoin(t, devEUI(0), 1)
	path := w.backup(t)
	line := `{"devEui":"` + devEUI(0).String() + `","joinEui":"` + joinEUI.String() + `","devNonce":%d,"joinNonce":%d,"joinReqType":%d}` + "\n"
	log := fmt.Sprintf(line+line+line+line, 9, 2, 1, 4, 3, 1, 500, 4, 0, 600, 5, 2)
	const unknown, far = 7, 3 * record.DefaultJump // a device that was registered after the backup, and joined often
	log += fmt.Sprintf(`{"devEui":"%s","joinEui":"%s","devNonce":1,"joinNonce":%d,"joinReqType":0}`+"\n", devEUI(unknown), joinEUI, far)
	restored, done := w.restore(t, newSQLite(t), record.Restoration{Backup: path, Events: strings.NewReader(log)})
	if done.Events != 5 {
		t.Errorf("restored %+v", done)
	}
	restored.importNodes(t, restored.r, band.MAC1_1, unknown, unknown+1)
	if g := restored.mustJoin(t, devEUI(unknown), 2); g.JoinNonce <= far {
		t.Errorf("JoinNonce %d after %d: its keys come again", g.JoinNonce, far)
	}
	restored.refuses(t, restored.rejoin(t, joinserver.Rejoin1, devEUI(0), 9), "dev_nonce_replayed")
	must[joinserver.Grant](t)(restored.commit(restored.rejoin(t, joinserver.Rejoin1, devEUI(0), 10)))
	if g := restored.mustJoin(t, devEUI(0), 2); g.JoinNonce != 5+record.DefaultJump+2 {
		t.Errorf("JoinNonce %d", g.JoinNonce)
	}
}

// A backup that could not be restored is none: the file is not there, nor a part of it.
func TestBackupIsVerified(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.exec(t, `UPDATE key_check SET sealed = $1`, []byte("damaged"))
		folder := t.TempDir()
		if err := w.r.Backup(context.Background(), filepath.Join(folder, "backup.db")); err == nil {
			t.Error("a backup that does not open was written")
		}
		if left := must[[]os.DirEntry](t)(os.ReadDir(folder)); len(left) != 0 {
			t.Errorf("%d files are left", len(left))
		}
	})
}

func TestRestoreRefuses(t *testing.T) {
	w := newWorld(t, engines[0])
	w.importNodes(t, w.r, band.MAC1_0_3, 0, 300)
	good := w.backup(t)
	changed := func(change func(db *sql.DB)) string {
		path := filepath.Join(t.TempDir(), "changed.db")
		check(t, os.WriteFile(path, must[[]byte](t)(os.ReadFile(good)), 0o600))
		db := must[*sql.DB](t)(sql.Open("sqlite", path))
		change(db)
		check(t, db.Close())
		return path
	}
	exec := func(statement string) func(*sql.DB) {
		return func(db *sql.DB) { must[sql.Result](t)(db.Exec(statement)) }
	}
	damaged := changed(func(*sql.DB) {})
	octets := must[[]byte](t)(os.ReadFile(damaged))
	copy(octets[len(octets)/2:], make([]byte, 8192))
	check(t, os.WriteFile(damaged, octets, 0o600))
	noRecord := filepath.Join(t.TempDir(), "text")
	check(t, os.WriteFile(noRecord, []byte("no record"), 0o600))

	for name, c := range map[string]struct {
		backup string
		change func(*record.Options)
		want   string
	}{
		"a record in its place": {good, func(o *record.Options) { o.SQLitePath = w.store.options.SQLitePath }, "exists"},
		"another key":           {good, func(o *record.Options) { o.KEK = kekOf("another") }, "kek_file"},
		"a newer schema":        {changed(exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, TRUE)`)), nil, "start the newer program"},
		"a damaged file":        {damaged, nil, "damaged"},
		"another database":      {changed(exec(`DROP TABLE goose_db_version`)), nil, "no record"},
		"no database":           {noRecord, nil, "no record"},
		"no file":               {filepath.Join(t.TempDir(), "none"), nil, "no such file"},
	} {
		to := newSQLite(t).options
		if c.change != nil {
			c.change(&to)
		}
		before, _ := os.ReadFile(to.SQLitePath)
		_, err := record.Restore(context.Background(), record.Restoration{Backup: c.backup, To: to})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, not about %q", name, err, c.want)
		}
		if after, _ := os.ReadFile(to.SQLitePath); string(before) != string(after) {
			t.Errorf("%s: something was written", name)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(to.SQLitePath), ".restore-*")); err != nil || len(left) != 0 {
			t.Errorf("%s: %v is left", name, left)
		}
	}
	if err := w.r.Backup(context.Background(), good); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("a backup over another: %v", err)
	}
}

// A restoration to PostgreSQL puts nothing over an installation.
func TestRestoreToPostgresRefuses(t *testing.T) {
	from, to := newWorld(t, engines[0]), newWorld(t, postgres)
	to.importNodes(t, to.r, band.MAC1_1, 0, 1)
	before := to.counts(t)
	_, err := record.Restore(context.Background(), record.Restoration{Backup: from.backup(t), To: to.store.options})
	if !errors.Is(err, record.ErrOtherData) {
		t.Errorf("restored over another installation: %v", err)
	}
	if after := to.counts(t); !maps.Equal(before, after) {
		t.Errorf("something was written: %v, before %v", after, before)
	}
}

// A backup is of one moment while joins go on: each session in it has its DevNonce
// and its join event.
func TestBackupDuringJoins(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		const devices = 40
		w.importNodes(t, w.r, band.MAC1_0_3, 0, devices)
		claims := make([]joinserver.Claim, devices)
		for i := range claims {
			claims[i] = w.claim(t, w.r, devEUI(i), 0, w.clock.now())
		}
		stop := make(chan struct{})
		var joining sync.WaitGroup
		for _, c := range claims {
			joining.Go(func() {
				for ; ; c.Request.DevNonce++ {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := w.r.Commit(context.Background(), c); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		var paths []string
		for range 3 {
			paths = append(paths, w.backup(t))
		}
		close(stop)
		joining.Wait()
		for _, path := range paths {
			db := sqliteAt(path).raw(t)
			if n := one[int](t, db, `SELECT (SELECT COUNT(*) FROM outbox) - (SELECT COUNT(*) FROM dev_nonces)`); n != 0 {
				t.Errorf("join events and DevNonces differ by %d", n)
			}
			if n := one[int](t, db, `SELECT COUNT(*) FROM (SELECT dev_eui FROM outbox GROUP BY dev_eui
HAVING COUNT(*) <> (SELECT MAX(s.join_nonce) FROM sessions s WHERE s.dev_eui = outbox.dev_eui)) AS gaps`); n != 0 {
				t.Errorf("%d devices have more or fewer events than JoinNonces", n)
			}
		}
	})
}

// A record that a newer program has written is refused.
func TestNewerSchema(t *testing.T) {
	onEachEngine(t, func(t *testing.T, e engine) {
		s := e.new(t)
		check(t, must[*record.Record](t)(record.Open(context.Background(), s.options)).Close())
		db := s.raw(t)
		must[sql.Result](t)(db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, TRUE)`))
		defer func() { must[sql.Result](t)(db.Exec(`DELETE FROM goose_db_version WHERE version_id = 99`)) }()
		_, err := record.Open(context.Background(), s.options)
		if err == nil || !strings.Contains(err.Error(), "newer joingate (schema 99") || !strings.Contains(err.Error(), "start the newer program") {
			t.Errorf("error %v", err)
		}
	})
}

// Any line is a join event or counted as something else.
func FuzzEventLog(f *testing.F) {
	for _, line := range []string{
		`{"devEui":"0102030405060708","joinEui":"0102030405060708","devNonce":1,"joinNonce":2,"joinReqType":255}`,
		`{"devEui":"01","joinEui":"","devNonce":-1,"joinNonce":99999999}`, `[]`, `null`, ``, `{"devNonce":1e3,"joinNonce":1}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var fields map[string]any
		if record.IsJoinEvent(line) && json.Unmarshal(line, &fields) != nil {
			t.Errorf("%q is taken for a join event", line)
		}
	})
}
