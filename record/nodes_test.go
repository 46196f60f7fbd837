package record_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

func TestDevices(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 6)
		euis := make([]joinserver.EUI64, 6)
		for i := range euis {
			euis[i] = devEUI(i)
		}
		slices.SortFunc(euis, func(a, b joinserver.EUI64) int { return slices.Compare(a[:], b[:]) })
		device := func(i int) joinserver.Device {
			t.Helper()
			return view(t, w.r, func(tx *record.Tx) (joinserver.Device, error) { return tx.Device(euis[i]) })
		}
		want := joinserver.Device{DevEUI: euis[0], Account: owner, GroupID: w.group, Enabled: true, MACVersion: band.MAC1_0_3, PinCode: "123456", CreateMillis: noon.UnixMilli(), BoundMillis: noon.UnixMilli()}
		if got := device(0); !reflect.DeepEqual(got, want) {
			t.Errorf("a new device reads %+v", got)
		}
		w.mustJoin(t, euis[0], 1)
		w.clock.advance(time.Minute)
		grant := w.mustJoin(t, euis[0], 2)
		want.DevAddr, want.LastJoinMillis = &grant.DevAddr, w.clock.now().UnixMilli()
		if got := device(0); !reflect.DeepEqual(got, want) {
			t.Errorf("a device that joined twice reads %+v", got)
		}
		w.mustJoin(t, euis[5], 1)
		update(t, w.r, func(tx *record.Tx) error { return tx.DeleteNode(euis[5]) })
		check(t, w.r.ImportNodes(context.Background(), operator, []record.NewNode{{DevEUI: euis[5], MACVersion: band.MAC1_0_3, Account: owner, GroupID: w.group}}, func(int) {}))
		if got := device(5); got.DevAddr != nil || got.LastJoinMillis != 0 {
			t.Errorf("a device imported again has the session of the former one: %+v", got)
		}
		update(t, w.r, func(tx *record.Tx) error {
			d, err := tx.Device(euis[1])
			check(t, err)
			d.Account, d.GroupID, d.Enabled, d.BoundMillis = otherOne, 0, false, 0
			return tx.UpdateDevice(d)
		})
		if got := device(1); got.Account != otherOne || got.GroupID != 0 || got.Enabled || got.BoundMillis != 0 {
			t.Errorf("an updated device reads %+v", got)
		}
		list := func(f joinserver.DeviceFilter) (found []joinserver.EUI64, total int64) {
			check(t, w.r.View(context.Background(), func(tx *record.Tx) (err error) {
				var page []joinserver.Device
				page, total, err = tx.Devices(f)
				for _, d := range page {
					found = append(found, d.DevEUI)
				}
				return err
			}))
			return found, total
		}
		if got, total := list(joinserver.DeviceFilter{GroupID: w.group, Page: joinserver.Page{Offset: 1, Limit: 2}}); total != 5 || !slices.Equal(got, euis[2:4]) {
			t.Errorf("a page of the group: %v of %d", got, total)
		}
		if got, total := list(joinserver.DeviceFilter{Account: otherOne, Page: joinserver.Page{Limit: 9}}); total != 1 || got[0] != euis[1] {
			t.Errorf("the account's: %v of %d", got, total)
		}
		if got, total := list(joinserver.DeviceFilter{Account: owner}); total != 5 || got != nil {
			t.Errorf("count alone: %v of %d", got, total)
		}
		if got, _ := list(joinserver.DeviceFilter{DevEUILike: fmt.Sprintf("%X", euis[3][2:6]), Page: joinserver.Page{Limit: 9}}); !slices.Contains(got, euis[3]) || len(got) > 2 {
			t.Errorf("by part of the DevEUI: %v", got)
		}
		if got, _ := list(joinserver.DeviceFilter{Page: joinserver.Page{Limit: 1, By: joinserver.ByLastJoin, Descending: true}}); got[0] != euis[0] {
			t.Errorf("last to join: %v", got)
		}
		if got, _ := list(joinserver.DeviceFilter{Page: joinserver.Page{Limit: 1, By: joinserver.ByCreated}}); got[0] != euis[1] {
			t.Errorf("first bound: %v", got)
		}
	})
}

func TestDeleteGroup(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 2)
		claim := w.claim(t, w.r, devEUI(0), 1, w.clock.now())
		update(t, w.r, func(tx *record.Tx) error { return tx.DeleteGroup(w.group) })
		w.refuses(t, claim, "policy moved")
		d := view(t, w.r, func(tx *record.Tx) (joinserver.Device, error) { return tx.Device(devEUI(0)) })
		if d.GroupID != 0 || d.BoundMillis != 0 || d.Account != owner {
			t.Errorf("a node of the deleted group reads %+v", d)
		}
		p := must[joinserver.Policy](t)(w.r.Policy(context.Background(), devEUI(0)))
		if p.Group.ID != 0 || p.Permission.ID != 0 || p.Node.Version == claim.Policy.Node.Version {
			t.Errorf("its policy reads %+v", p)
		}
	})
}

func TestImportIntoAGroupThatGoes(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		gone := false
		err := w.r.ImportNodes(context.Background(), operator, w.nodes(t, band.MAC1_0_3, 0, 600), func(int) {
			if !gone {
				gone = true
				update(t, w.r, func(tx *record.Tx) error { return tx.DeleteGroup(w.group) })
			}
		})
		if err == nil {
			t.Error("nodes were imported into a group that is gone")
		}
		if n := w.counts(t)["nodes"]; n != 0 {
			t.Errorf("%d nodes left", n)
		}
	})
}

func TestEachNode(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 1, 4)
		for _, withKeys := range []bool{false, true} {
			nodes := 0
			check(t, w.r.View(context.Background(), func(tx *record.Tx) error {
				return tx.EachNode(owner, withKeys, func(n record.Node) error {
					nodes++
					if n.Keys.App.IsZero() == withKeys || n.Keys.Nwk.IsZero() == withKeys || n.Group != "g" || !n.Enabled || n.PinCode != "123456" {
						t.Errorf("with keys %v: %+v", withKeys, n)
					}
					return nil
				})
			}))
			if nodes != 3 {
				t.Errorf("%d nodes, not 3", nodes)
			}
		}
		check(t, w.r.View(context.Background(), func(tx *record.Tx) error {
			return tx.EachNode(otherOne, false, func(n record.Node) error {
				t.Errorf("another account's node %s", n.DevEUI)
				return nil
			})
		}))
	})
}
