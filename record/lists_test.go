package record_test

import (
	"context"
	"math"
	"reflect"
	"slices"
	"testing"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

func TestPermissionFilters(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		yes, no, instance, none := true, false, "iot-1", ""
		names := []string{"100%", "100x", "A_b", "aXb", `back\slash`, "Ähre"}
		id := map[string]int64{"p": w.permission}
		update(t, w.r, func(tx *record.Tx) error {
			for i, name := range names {
				p := localPermission(name)
				p.CreateMillis = int64(100 - i/2) // pairs are equal
				switch name {
				case "100%":
					p.InstanceID, p.Enabled = instance, false
				case "A_b":
					p.Renter, p.AuthState, p.JoinEUI = otherOne, joinserver.Applying, otherEUI
				case "aXb":
					p.Type, p.Owner, p.Renter = joinserver.Roaming, 0, otherOne
				}
				var err error
				if id[name], err = tx.InsertPermission(p); err != nil {
					return err
				}
			}
			return nil
		})
		all := joinserver.Page{Limit: joinserver.NoLimit}
		cases := []struct {
			name   string
			filter joinserver.PermissionFilter
			want   []string // in order
			total  int64    // 0: as many as wanted
		}{
			{"all", joinserver.PermissionFilter{Page: all}, append([]string{"p"}, names...), 0},
			{"per cent is no wildcard", joinserver.PermissionFilter{NameLike: "0%", Page: all}, []string{"100%"}, 0},
			{"underscore is no wildcard, case is nothing", joinserver.PermissionFilter{NameLike: "a_B", Page: all}, []string{"A_b"}, 0},
			{"backslash", joinserver.PermissionFilter{NameLike: `k\S`, Page: all}, []string{`back\slash`}, 0},
			{"letters beyond ASCII match as they are", joinserver.PermissionFilter{NameLike: "ÄH", Page: all}, []string{"Ähre"}, 0},
			{"ids", joinserver.PermissionFilter{IDs: []int64{id["aXb"], id["p"]}, Page: all}, []string{"p", "aXb"}, 0},
			{"no ids", joinserver.PermissionFilter{IDs: []int64{}, Page: all}, nil, 0},
			{"owner", joinserver.PermissionFilter{Owner: otherOne, Page: all}, nil, 0},
			{"renter", joinserver.PermissionFilter{Renter: otherOne, Page: all}, []string{"A_b", "aXb"}, 0},
			{"state", joinserver.PermissionFilter{AuthState: joinserver.Applying, Page: all}, []string{"A_b"}, 0},
			{"type", joinserver.PermissionFilter{Type: joinserver.Roaming, Page: all}, []string{"aXb"}, 0},
			{"instance", joinserver.PermissionFilter{InstanceID: &instance, Page: all}, []string{"100%"}, 0},
			{"no instance", joinserver.PermissionFilter{InstanceID: &none, NameLike: "100", Page: all}, []string{"100x"}, 0},
			{"disabled", joinserver.PermissionFilter{Enabled: &no, Page: all}, []string{"100%"}, 0},
			{"bound", joinserver.PermissionFilter{Bound: &yes, Page: all}, []string{"p"}, 0},
			{"unbound", joinserver.PermissionFilter{Bound: &no, Page: all}, names, 0},
			{"JoinEUI", joinserver.PermissionFilter{JoinEUILike: "EFFF000002", Page: all}, []string{"A_b"}, 0},
			{"owner's digits", joinserver.PermissionFilter{OwnerLike: "100", Enabled: &no, Page: all}, []string{"100%"}, 0},
			{"the platform", joinserver.PermissionFilter{OwnerLike: "alicloud", Page: all}, []string{"aXb"}, 0},
			{"renter's digits", joinserver.PermissionFilter{RenterLike: "002", Page: all}, []string{"A_b", "aXb"}, 0},
			{"nobody's digits", joinserver.PermissionFilter{RenterLike: "0", Type: joinserver.Local, Page: all}, []string{"A_b"}, 0},
			{"page", joinserver.PermissionFilter{Page: joinserver.Page{Offset: 1, Limit: 2}}, []string{"100%", "100x"}, 7},
			{"page beyond", joinserver.PermissionFilter{Page: joinserver.Page{Offset: 50, Limit: 2}}, nil, 7},
			{"total only", joinserver.PermissionFilter{}, nil, 7},
			{"from the end", joinserver.PermissionFilter{Page: joinserver.Page{Limit: 2, Descending: true}}, []string{"Ähre", `back\slash`}, 7},
			{"by creation", joinserver.PermissionFilter{Page: joinserver.Page{Limit: 4, By: joinserver.ByCreated}}, []string{"p", `back\slash`, "Ähre", "A_b"}, 7},
			{"by creation, newest first", joinserver.PermissionFilter{Page: joinserver.Page{Limit: 3, By: joinserver.ByCreated, Descending: true}}, []string{"100x", "100%", "aXb"}, 7},
			{"the largest page", joinserver.PermissionFilter{Page: joinserver.Page{Offset: 5, Limit: math.MaxInt64}}, []string{`back\slash`, "Ähre"}, 7},
		}
		for _, c := range cases {
			var got []string
			var total int64
			check(t, w.r.View(context.Background(), func(tx *record.Tx) (err error) {
				var list []joinserver.Permission
				list, total, err = tx.Permissions(c.filter)
				for _, p := range list {
					got = append(got, p.Name)
				}
				return err
			}))
			if c.total == 0 {
				c.total = int64(len(c.want))
			}
			if !slices.Equal(got, c.want) || total != c.total {
				t.Errorf("%s: %q of %d, not %q of %d", c.name, got, total, c.want, c.total)
			}
		}
	})
}

func TestGroupFilters(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 3)
		w.exec(t, `INSERT INTO imports (id, in_force) VALUES (1, FALSE)`)
		w.exec(t, `UPDATE nodes SET import_id = 1 WHERE dev_eui = $1`, devEUI(2).String()) // is only staged
		instance := "iot-1"
		update(t, w.r, func(tx *record.Tx) error {
			for i, name := range []string{"b%", "bx", "C"} {
				g := joinserver.Group{Account: owner, Name: name, CreateMillis: int64(10 - i)}
				if name == "C" {
					g.Account, g.InstanceID = otherOne, instance
				}
				if _, err := tx.InsertGroup(g); err != nil {
					return err
				}
			}
			return nil
		})
		all := joinserver.Page{Limit: joinserver.NoLimit}
		cases := []struct {
			name   string
			filter joinserver.GroupFilter
			want   []string
		}{
			{"all", joinserver.GroupFilter{Page: all}, []string{"g", "b%", "bx", "C"}},
			{"account", joinserver.GroupFilter{Account: otherOne, Page: all}, []string{"C"}},
			{"instance", joinserver.GroupFilter{InstanceID: &instance, Page: all}, []string{"C"}},
			{"name", joinserver.GroupFilter{NameLike: "B%", Page: all}, []string{"b%"}},
			{"permission", joinserver.GroupFilter{PermissionIDs: []int64{w.permission, 5}, Page: all}, []string{"g"}},
			{"no permission", joinserver.GroupFilter{PermissionIDs: []int64{}, Page: all}, nil},
			{"JoinEUI", joinserver.GroupFilter{JoinEUILike: "D896", Page: all}, []string{"g"}},
			{"DevEUI", joinserver.GroupFilter{DevEUILike: devEUI(1).String()[3:12], NameLike: "g", Page: all}, []string{"g"}},
			{"DevEUI of another", joinserver.GroupFilter{DevEUILike: devEUI(7).String(), Page: all}, nil},
			{"DevEUI that is staged", joinserver.GroupFilter{DevEUILike: devEUI(2).String(), Page: all}, nil},
			{"by creation", joinserver.GroupFilter{Page: joinserver.Page{Limit: 9, By: joinserver.ByCreated}}, []string{"g", "C", "bx", "b%"}},
		}
		for _, c := range cases {
			var got []string
			check(t, w.r.View(context.Background(), func(tx *record.Tx) error {
				list, total, err := tx.Groups(c.filter)
				for _, g := range list {
					got = append(got, g.Name)
				}
				if total != int64(len(c.want)) {
					t.Errorf("%s: total %d, not %d", c.name, total, len(c.want))
				}
				return err
			}))
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: %q, not %q", c.name, got, c.want)
			}
		}
	})
}

func TestNotifications(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		offline := joinserver.Notification{
			Account: owner, Category: joinserver.NoticeGatewayOffline, NoticeMillis: 10,
			Offline: &joinserver.GatewayState{EUI: gatewayID, ChangedMillis: 9},
		}
		applying := joinserver.Notification{
			Account: owner, Category: joinserver.NoticeAuthApplying, NoticeMillis: 20,
			Auth: &joinserver.NoticedOrder{Order: joinserver.Order{ID: 3, Owner: otherOne, Renter: owner, State: joinserver.OrderApplying}, PermissionName: "p", JoinEUI: joinEUI},
		}
		foreign := joinserver.Notification{Account: otherOne, Category: joinserver.NoticeAuthAccepted, NoticeMillis: 30}
		update(t, w.r, func(tx *record.Tx) (err error) {
			for _, n := range []*joinserver.Notification{&offline, &applying, &foreign} {
				if n.ID, err = tx.InsertNotification(*n); err != nil {
					return err
				}
			}
			offline.HandledMillis = 99
			return tx.UpdateNotification(offline)
		})
		for _, want := range []joinserver.Notification{offline, applying, foreign} {
			if got := view(t, w.r, func(tx *record.Tx) (joinserver.Notification, error) { return tx.Notification(want.ID) }); !reflect.DeepEqual(got, want) {
				t.Errorf("notification reads\n%+v, not\n%+v", got, want)
			}
		}
		yes, no := true, false
		all := joinserver.Page{Limit: 9}
		for name, c := range map[string]struct {
			filter joinserver.NotificationFilter
			want   []int64
		}{
			"account":       {joinserver.NotificationFilter{Account: owner, Page: all}, []int64{offline.ID, applying.ID}},
			"newest first":  {joinserver.NotificationFilter{Account: owner, Page: joinserver.Page{Limit: 9, By: joinserver.ByCreated, Descending: true}}, []int64{applying.ID, offline.ID}},
			"handled":       {joinserver.NotificationFilter{Handled: &yes, Page: all}, []int64{offline.ID}},
			"unhandled":     {joinserver.NotificationFilter{Handled: &no, Page: all}, []int64{applying.ID, foreign.ID}},
			"categories":    {joinserver.NotificationFilter{Categories: []string{joinserver.NoticeAuthApplying, joinserver.NoticeAuthAccepted}, Page: all}, []int64{applying.ID, foreign.ID}},
			"no categories": {joinserver.NotificationFilter{Categories: []string{}, Page: all}, nil},
			"between":       {joinserver.NotificationFilter{BeginMillis: 20, EndMillis: 20, Page: all}, []int64{applying.ID}},
		} {
			var got []int64
			check(t, w.r.View(context.Background(), func(tx *record.Tx) error {
				list, total, err := tx.Notifications(c.filter)
				for _, n := range list {
					got = append(got, n.ID)
				}
				if total != int64(len(c.want)) {
					t.Errorf("%s: total %d", name, total)
				}
				return err
			}))
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: %v, not %v", name, got, c.want)
			}
		}
	})
}
