package record_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/record"
)

// keyFile is a key file that records are opened with.
type keyFile struct{ path string }

func newKeyFile(t testing.TB) keyFile {
	t.Helper()
	return keyFile{filepath.Join(t.TempDir(), "kek")}
}

func (k keyFile) sealer(t testing.TB) *keyring.Sealer {
	t.Helper()
	return must[*keyring.Sealer](t)(keyring.OpenSealer(keyring.KEKFile(k.path, true)))
}

// dropOld leaves the key that seals.
func (k keyFile) dropOld(t testing.TB) {
	t.Helper()
	must[int](t)(keyring.DropOldKEKs(k.path, must[[]byte](t)(keyring.LoadKEK(k.path, false))))
}

var rotating = joinserver.Write{Action: "keys rotate", At: noon}

// newSealedWorld is a record with something sealed in every table that has it, and
// a second program on it. Both read the same key file.
func newSealedWorld(t *testing.T, e engine, nodes int) (w *world, other *record.Record, file keyFile) {
	t.Helper()
	file = newKeyFile(t)
	w = &world{clock: newClock(), store: e.new(t)}
	w.store.options.Now, w.store.options.KEK, w.store.options.Sealer = w.clock.now, nil, file.sealer(t)
	if e.name == postgres.name {
		w.exec(t, `DELETE FROM key_check`) // of the key that the empty record was made with
	}
	w.r = open(t, w.store.options)
	w.place = newPlace(t, w.r)
	w.importNodes(t, w.r, band.MAC1_1, 0, nodes)
	w.addSecrets(t, w.r, "LTAI1")
	o := w.store.options
	o.Sealer = file.sealer(t)
	return w, open(t, o), file
}

func (w *world) addSecrets(t testing.TB, r *record.Record, id string) {
	t.Helper()
	update(t, r, func(tx *record.Tx) error {
		return errors.Join(
			tx.InsertAccessKey(joinserver.AccessKey{ID: id, Account: owner, Secret: keyring.NewSecret("secret of " + id), Enabled: true}),
			tx.SetRecipient(owner, record.NetworkServer, wrappingKey(t, id, 7)),
		)
	})
}

// mustOpen reads all that is sealed.
func (w *world) mustOpen(t testing.TB, r *record.Record, id string, nodes int) {
	t.Helper()
	check(t, r.View(context.Background(), func(tx *record.Tx) error {
		n := 0
		err1 := tx.EachNode(0, true, func(record.Node) error { n++; return nil })
		key, err2 := tx.AccessKey(id)
		to, err3 := tx.Recipients(owner)
		if n != nodes || key.Secret.Reveal() != "secret of "+id || to.Network.KEK.IsZero() {
			t.Errorf("%d nodes, AccessKey %q, recipients %+v", n, key.ID, to)
		}
		return errors.Join(err1, err2, err3)
	}))
}

// A rotation while another program runs: that one goes on reading and writing, no
// version moves, and afterwards the new key alone opens everything.
func TestRotate(t *testing.T) {
	onEachEngine(t, func(t *testing.T, e engine) {
		const nodes = 603
		w, other, file := newSealedWorld(t, e, nodes)
		ctx := context.Background()
		before := w.claim(t, other, devEUI(0), 1, w.clock.now())
		if !must[bool](t)(keyring.AddKEK(file.path)) {
			t.Fatal("no key was added")
		}
		var told []int
		check(t, w.r.Rotate(ctx, rotating, func(done, total int) {
			if total != nodes+2 {
				t.Errorf("total %d, not %d", total, nodes+2)
			}
			told = append(told, done)
		}))
		if len(told) != 4 || told[3] != nodes+2 {
			t.Errorf("progress %v", told)
		}
		must[joinserver.Grant](t)(other.Commit(ctx, before)) // the policy has not moved
		w.mustOpen(t, other, "LTAI1", nodes)
		file.dropOld(t)
		w.addSecrets(t, other, "LTAI2") // by a program that started with the old key
		o := w.store.options
		o.Sealer = file.sealer(t) // the new key alone
		fresh := open(t, o)
		w.mustOpen(t, fresh, "LTAI1", nodes)
		w.mustOpen(t, fresh, "LTAI2", nodes)
		if findings := must[[]record.Finding](t)(fresh.Check(ctx)); len(findings) != 0 {
			t.Errorf("findings %v", findings)
		}
	})
}

// A program that has opened nothing since the rotation began does not seal under the
// key that is about to go.
func TestSealingDuringRotation(t *testing.T) {
	onEachEngine(t, func(t *testing.T, e engine) {
		w, other, file := newSealedWorld(t, e, 3)
		must[bool](t)(keyring.AddKEK(file.path))
		check(t, w.r.Rotate(context.Background(), rotating, func(int, int) {}))
		file.dropOld(t)
		w.addSecrets(t, other, "LTAI2")
		w.importNodes(t, other, band.MAC1_0_4, 3, 6)
		o := w.store.options
		o.Sealer = file.sealer(t)
		w.mustOpen(t, open(t, o), "LTAI2", 6)
	})
}

// A rotation that is broken off goes on with the key that it has begun with.
func TestRotationGoesOn(t *testing.T) {
	onEachEngine(t, func(t *testing.T, e engine) {
		const nodes = 600
		w, _, file := newSealedWorld(t, e, nodes)
		must[bool](t)(keyring.AddKEK(file.path))
		ended, cancel := context.WithCancel(context.Background())
		if err := w.r.Rotate(ended, rotating, func(int, int) { cancel() }); !errors.Is(err, context.Canceled) {
			t.Fatalf("a rotation that was called off: %v", err)
		}
		if findings := must[[]record.Finding](t)(w.r.Check(context.Background())); len(findings) == 0 || !strings.Contains(findings[0].Remedy, "keys rotate") {
			t.Errorf("findings %v", findings)
		}
		if must[bool](t)(keyring.AddKEK(file.path)) {
			t.Error("a second rotation has begun before the first has ended")
		}
		check(t, w.r.Rotate(context.Background(), rotating, func(int, int) {}))
		file.dropOld(t)
		o := w.store.options
		o.Sealer = file.sealer(t)
		w.mustOpen(t, open(t, o), "LTAI1", nodes)
	})
}

// A program with a key file of its own, which does not learn the new key, is told
// what is wrong, and writes nothing under the old one.
func TestForeignKeyFile(t *testing.T) {
	onEachEngine(t, func(t *testing.T, e engine) {
		w, _, file := newSealedWorld(t, e, 3)
		kek := must[[]byte](t)(keyring.LoadKEK(file.path, false))
		o := w.store.options
		o.Sealer, o.KEK = nil, bytes.Clone(kek)
		apart := open(t, o)
		must[bool](t)(keyring.AddKEK(file.path))
		check(t, w.r.Rotate(context.Background(), rotating, func(int, int) {}))
		before := w.counts(t)
		err := apart.Update(context.Background(), joinserver.Write{Action: "test"}, func(tx *record.Tx) error {
			return tx.InsertAccessKey(joinserver.AccessKey{ID: "LTAI9", Account: owner, Secret: keyring.NewSecret("s")})
		})
		if err == nil || !strings.Contains(err.Error(), "kek_file") {
			t.Errorf("sealed under a key that is gone: %v", err)
		}
		if after := w.counts(t); after["access_keys"] != before["access_keys"] {
			t.Error("something was written")
		}
		if r, err := record.Open(context.Background(), o); err == nil || !strings.Contains(err.Error(), "kek_file") {
			check(t, r.Close())
			t.Errorf("opened with the old key alone: %v", err)
		}
	})
}

// A program that knows the new key but goes on sealing under the old one keeps the
// rotation from ending: the old key would be taken out, and what it sealed be lost.
func TestRotationSeesWhatStaysOld(t *testing.T) {
	onEachEngine(t, func(t *testing.T, e engine) {
		w, _, file := newSealedWorld(t, e, 3)
		must[bool](t)(keyring.AddKEK(file.path))
		keks := must[[][]byte](t)(keyring.KEKFile(file.path, false)())
		o := w.store.options
		o.Sealer = must[*keyring.Sealer](t)(keyring.NewSealer(keks[1], keks[0]))
		apart := open(t, o)
		err := w.r.Rotate(context.Background(), rotating, func(done, total int) {
			if done == total { // every table was gone through
				w.addSecrets(t, apart, "LTAI2")
			}
		})
		if err == nil || !strings.Contains(err.Error(), "LTAI2") || !strings.Contains(err.Error(), "older key") {
			t.Errorf("a rotation that has left something behind: %v", err)
		}
		check(t, w.r.Rotate(context.Background(), rotating, func(int, int) {}))
		file.dropOld(t)
		o.Sealer = file.sealer(t)
		w.mustOpen(t, open(t, o), "LTAI2", 3)
	})
}

// Two rotations at once, by two programs, while a third writes: all that is sealed
// opens under the new key alone.
func TestRotationsMeet(t *testing.T) {
	onEachEngine(t, func(t *testing.T, e engine) {
		const nodes, more = 600, 8
		w, _, file := newSealedWorld(t, e, nodes)
		o := w.store.options
		o.BusyTimeout = time.Minute // they wait for each other, on whatever machine
		var programs [3]*record.Record
		for i := range programs {
			o.Sealer = file.sealer(t)
			programs[i] = open(t, o)
		}
		must[bool](t)(keyring.AddKEK(file.path))
		together(3, func(i int) {
			if i < 2 {
				if err := programs[i].Rotate(context.Background(), rotating, func(int, int) {}); err != nil {
					t.Error(err)
				}
				return
			}
			for n := range more {
				w.importNodes(t, programs[2], band.MAC1_1, nodes+n, nodes+n+1)
			}
		})
		file.dropOld(t)
		o.Sealer = file.sealer(t)
		fresh := open(t, o)
		w.mustOpen(t, fresh, "LTAI1", nodes+more)
		if findings := must[[]record.Finding](t)(fresh.Check(context.Background())); len(findings) != 0 {
			t.Errorf("findings %v", findings)
		}
	})
}

// onEachEngine is onEngines for tests that open the record themselves.
func onEachEngine(t *testing.T, test func(*testing.T, engine)) {
	t.Helper()
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			test(t, e)
		})
	}
}
