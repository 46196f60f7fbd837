package record_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

var operator = joinserver.Write{Action: "node import", At: noon}

func (w *world) nodeCount(t testing.TB) int64 {
	t.Helper()
	var n map[int64]int64
	check(t, w.r.View(context.Background(), func(tx *record.Tx) (err error) {
		n, err = tx.NodeCounts([]int64{w.group})
		return err
	}))
	return n[w.group]
}

func TestImport(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		nodes := w.nodes(t, band.MAC1_1, 0, 1200)
		var progress []int
		check(t, w.r.ImportNodes(context.Background(), operator, nodes, func(staged int) {
			progress = append(progress, staged)
			if n := w.nodeCount(t); n != 0 {
				t.Errorf("%d nodes can be seen before the import is in force", n)
			}
			if _, err := w.r.Policy(context.Background(), nodes[0].DevEUI); !errors.Is(err, joinserver.ErrUnknownDevice) {
				t.Errorf("policy of a staged node: %v", err)
			}
		}))
		if len(progress) != 3 || progress[2] != 1200 {
			t.Errorf("progress %v", progress)
		}
		if n := w.nodeCount(t); n != 1200 {
			t.Errorf("%d nodes in force, not 1200", n)
		}
		p := must[joinserver.Policy](t)(w.r.Policy(context.Background(), nodes[7].DevEUI))
		if !p.Node.Keys.App.Equal(nodes[7].Keys.App) || !p.Node.Keys.Nwk.Equal(nodes[7].Keys.Nwk) || p.Node.MACVersion != band.MAC1_1 || !p.Node.Enabled ||
			p.Node.Account != owner || p.Group.ID != w.group || p.Permission.ID != w.permission {
			t.Errorf("policy of an imported node: %+v", p)
		}
		db := w.store.raw(t)
		if got := one[string](t, db, `SELECT changes FROM audit WHERE action = 'node import'`); !strings.Contains(got, `\"nodes\":1200`) {
			t.Errorf("audit line: %s", got)
		}
	})
}

func TestImportAllOrNothing(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
		nodes := w.nodes(t, band.MAC1_0_3, 0, 1600)
		before := w.counts(t)
		var known *record.KnownNodeError
		if err := w.r.ImportNodes(context.Background(), operator, nodes, func(int) {}); !errors.As(err, &known) || known.DevEUI != devEUI(0) {
			t.Fatalf("import of a known DevEUI: %v", err)
		}
		twice := append(w.nodes(t, band.MAC1_0_3, 1, 600), nodes[5])
		if err := w.r.ImportNodes(context.Background(), operator, twice, func(int) {}); !errors.As(err, &known) || known.DevEUI != devEUI(5) {
			t.Fatalf("import of a DevEUI twice: %v", err)
		}
		ended, cancel := context.WithCancel(context.Background())
		if err := w.r.ImportNodes(ended, operator, nodes[1:], func(int) { cancel() }); !errors.Is(err, context.Canceled) {
			t.Fatalf("import that was called off: %v", err)
		}
		after := w.counts(t)
		if before["nodes"] != after["nodes"] || before["imports"] != after["imports"] || before["audit"] != after["audit"] {
			t.Errorf("failed imports left something:\nbefore %v\nafter  %v", before, after)
		}
		w.mustJoin(t, devEUI(0), 1) // the one that was there is as it was
		check(t, w.r.ImportNodes(context.Background(), operator, nodes[1:], func(int) {}))
	})
}

// What a program that died has staged is in nobody's way.
func TestImportTakesOverWhatWasAbandoned(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		nodes := w.nodes(t, band.MAC1_0_3, 0, 700)
		check(t, w.r.ImportNodes(context.Background(), operator, nodes, func(int) {}))
		w.exec(t, `UPDATE imports SET in_force = FALSE`) // as if it had died before the end
		if n := w.nodeCount(t); n != 0 {
			t.Fatalf("%d nodes of a dead import are in force", n)
		}
		check(t, w.r.View(context.Background(), func(tx *record.Tx) error {
			has, err := tx.HasNode(devEUI(3))
			if has {
				t.Error("a staged node counts as registered")
			}
			return err
		}))
		for _, write := range map[string]func(*record.Tx) error{
			"delete": func(tx *record.Tx) error { return tx.DeleteNode(devEUI(3)) },
			"set":    func(tx *record.Tx) error { return tx.SetNode(devEUI(3), nil, new(bool)) },
			"reset":  func(tx *record.Tx) error { return tx.ResetNonces(devEUI(3)) },
		} {
			if err := w.r.Update(context.Background(), operator, write); !errors.Is(err, joinserver.ErrNotFound) {
				t.Errorf("a write to a staged node: %v", err)
			}
		}
		check(t, w.r.ImportNodes(context.Background(), operator, nodes[:300], func(int) {}))
		if n := w.nodeCount(t); n != 300 {
			t.Errorf("%d nodes in force, not 300", n)
		}
	})
}

// Two imports of the same devices at once: one of them, whole.
func TestImportsMeet(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		nodes := w.nodes(t, band.MAC1_0_3, 0, 1200)
		var inner error
		first := true
		outer := w.r.ImportNodes(context.Background(), operator, nodes, func(int) {
			if first { // one chunk is staged
				first = false
				inner = w.r.ImportNodes(context.Background(), operator, nodes[:900], func(int) {})
			}
		})
		if (inner == nil) == (outer == nil) {
			t.Errorf("the outer import: %v; the inner: %v: one of them should have won", outer, inner)
		}
		if n := w.nodeCount(t); inner == nil && n != 900 || outer == nil && n != 1200 {
			t.Errorf("%d nodes in force", n)
		}
	})
}

// An import that lost devices to another one, which is still at it, is not in
// force with the rest of them.
func TestImportLosesDevices(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		nodes := w.nodes(t, band.MAC1_0_3, 0, 600)
		took, goOn, second := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		first := w.r.ImportNodes(context.Background(), operator, nodes, func(staged int) {
			if staged < len(nodes) {
				return
			}
			go func() {
				second <- w.r.ImportNodes(context.Background(), operator, nodes[:10], func(int) {
					close(took)
					<-goOn
				})
			}()
			<-took
		})
		if first == nil || !strings.Contains(first.Error(), "another import took over 10 of the devices") {
			t.Errorf("the first import: %v", first)
		}
		if n := w.nodeCount(t); n != 0 {
			t.Errorf("%d nodes of a failed import in force", n)
		}
		close(goOn)
		check(t, <-second)
		if n := w.nodeCount(t); n != 10 {
			t.Errorf("%d nodes in force, not 10", n)
		}
	})
}

// An import does not stop the joins, and another program's neither.
func TestImportWhileJoinsGoOn(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 50)
		other := open(t, w.store.options)
		imported := make(chan error, 1)
		begun := make(chan struct{})
		go func() {
			once := false
			imported <- other.ImportNodes(context.Background(), operator, w.nodes(t, band.MAC1_0_3, 50, 20_050), func(int) {
				if !once {
					once = true
					close(begun)
				}
			})
		}()
		<-begun
		joins := 0
		for done := false; !done; joins++ {
			select {
			case err := <-imported:
				check(t, err)
				done = true
			default:
			}
			w.mustJoin(t, devEUI(joins%50), uint16(joins/50))
		}
		if joins < 20 {
			t.Errorf("%d joins while 20,000 nodes were imported", joins)
		}
		if n := w.nodeCount(t); n != 20_050 {
			t.Errorf("%d nodes in force, not 20,050", n)
		}
		w.mustJoin(t, devEUI(20_049), 1)
	})
}

// Two programs on one record: what an administrator does in one holds for the
// joins of the other.
func TestTwoRecords(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 200)
		other := open(t, w.store.options)
		claim := w.claim(t, other, devEUI(0), 1, w.clock.now())
		update(t, w.r, func(tx *record.Tx) error {
			p := localPermission("p")
			p.ID, p.Enabled = w.permission, false
			return tx.UpdatePermission(p)
		})
		if _, err := other.Commit(context.Background(), claim); !errors.Is(err, joinserver.ErrPolicyMoved) {
			t.Fatalf("commit after the other program's write: %v", err)
		}
		// The same frames come to both: each is granted once.
		claims := make([]joinserver.Claim, 200)
		for i := range claims {
			claims[i] = w.claim(t, w.r, devEUI(i), 1, w.clock.now())
		}
		granted := make([]bool, 2*len(claims))
		together(len(granted), func(i int) {
			r := w.r
			if i%2 == 1 {
				r = other
			}
			_, err := r.Commit(context.Background(), claims[i/2])
			if err != nil && !errors.Is(err, joinserver.ErrLateCopy) {
				t.Error(err)
			}
			granted[i] = err == nil
		})
		for i := range claims {
			if granted[2*i] == granted[2*i+1] {
				t.Errorf("device %d: granted by both or by none", i)
			}
		}
		if n := one[int](t, w.store.raw(t), `SELECT COUNT(*) - COUNT(DISTINCT dev_addr) FROM sessions WHERE live`); n != 0 {
			t.Errorf("%d live sessions share a DevAddr", n)
		}
	})
}

// Programs that start together on a new record agree.
func TestOpenAtOnce(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			s := e.new(t)
			together(8, func(int) {
				r, err := record.Open(context.Background(), s.options)
				if err != nil {
					t.Error(err)
					return
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
