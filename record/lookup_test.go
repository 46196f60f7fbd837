package record_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

// Policies that are read together are those that are read alone, and what is wrong
// with one is not the others' fault.
func TestPoliciesAreReadTogether(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 0, 300)
		broken, unreadable, unknown := devEUI(3), devEUI(5), devEUI(1000)
		w.exec(t, `UPDATE nodes SET sealed_app = sealed_nwk WHERE dev_eui = $1`, broken.String())
		w.exec(t, `UPDATE nodes SET mac_version = '7' WHERE dev_eui = $1`, unreadable.String())
		devices := []joinserver.EUI64{unknown, broken, unreadable}
		for i := range 300 {
			devices = append(devices, devEUI(i), devEUI(i/2))
		}
		policies, errs := w.r.PoliciesTogether(devices)
		for i, device := range devices {
			switch {
			case device == unknown:
				if !errors.Is(errs[i], joinserver.ErrUnknownDevice) {
					t.Errorf("unknown device: %v", errs[i])
				}
			case device == broken || device == unreadable:
				if errs[i] == nil || errors.Is(errs[i], joinserver.ErrUnknownDevice) {
					t.Errorf("node that cannot be read: %v", errs[i])
				}
			case errs[i] != nil:
				t.Errorf("%s: %v", device, errs[i])
			case !reflect.DeepEqual(policies[i], must[joinserver.Policy](t)(w.r.Policy(t.Context(), device))) || policies[i].Node.DevEUI != device:
				t.Fatalf("%s has another policy among others", device)
			}
		}
	})
}

// A policy that is asked for after a write has answered is the one that was written,
// however many are being read.
func TestPolicyReadAmongManyIsNotOld(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 64)
		ctx, stop := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		for i := range 32 {
			readers.Go(func() {
				for ctx.Err() == nil {
					if _, err := w.r.Policy(ctx, devEUI(1+i)); err != nil && ctx.Err() == nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for i := range 30 {
			enabled := i%2 == 1
			update(t, w.r, func(tx *record.Tx) error { return tx.SetNode(devEUI(0), nil, &enabled) })
			if p := must[joinserver.Policy](t)(w.r.Policy(ctx, devEUI(0))); p.Node.Enabled != enabled {
				t.Fatal("an old policy was read after the write had answered")
			}
		}
		stop()
		readers.Wait()
	})
}

func TestDevEUIs(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 50)
		var want []string
		for i := range 50 {
			want = append(want, devEUI(i).String())
		}
		slices.Sort(want)
		list := func(since int64) (got []string, revision int64) {
			revision, err := w.r.DevEUIs(t.Context(), since, func(device joinserver.EUI64) { got = append(got, device.String()) })
			check(t, err)
			return got, revision
		}
		got, revision := list(-1)
		if !slices.Equal(got, want) {
			t.Errorf("listed %v, want %v", got, want)
		}
		if got, again := list(revision); got != nil || again != revision {
			t.Errorf("listed %d at revision %d, although nothing was written since %d", len(got), again, revision)
		}
		w.importNodes(t, w.r, band.MAC1_0_3, 50, 51)
		if got, later := list(revision); len(got) != 51 || later <= revision {
			t.Errorf("listed %d at revision %d after one more", len(got), later)
		}
	})
}
