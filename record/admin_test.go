package record_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/linkwan"
	"joingate/record"
)

var _ linkwan.Tx = (*record.Tx)(nil)

var errRollBack = errors.New("roll back")

// view reads one thing from the record.
func view[T any](t testing.TB, r *record.Record, fn func(*record.Tx) (T, error)) (v T) {
	t.Helper()
	check(t, r.View(context.Background(), func(tx *record.Tx) (err error) {
		v, err = fn(tx)
		return err
	}))
	return v
}

func TestUpdateRollsBack(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
		before := w.counts(t)
		claim := w.claim(t, w.r, devEUI(0), 1, w.clock.now())
		write := joinserver.Write{Action: "test", AccessKeyID: "key", Nonce: "n", At: noon}
		err := w.r.Update(context.Background(), write, func(tx *record.Tx) error {
			for _, err := range []error{
				tx.InsertAccount(joinserver.Account{ID: otherOne, Name: "other"}),
				tx.DeletePermission(w.permission),
				tx.DeleteGroup(w.group),
				tx.DeleteNode(devEUI(0)),
				tx.DeleteGateway(gatewayID),
				tx.Audit(joinserver.Change{Entity: "permission"}),
			} {
				check(t, err)
			}
			return errRollBack
		})
		if err != errRollBack { //nolint:errorlint // as it is
			t.Errorf("the error of the function came back as %v", err)
		}
		after := w.counts(t)
		if !reflect.DeepEqual(before, after) {
			t.Errorf("rolled back:\nbefore %v\nafter  %v", before, after)
		}
		must[joinserver.Grant](t)(w.commit(claim)) // nothing has moved
		check(t, w.r.Update(context.Background(), write, func(*record.Tx) error { return nil }))
	})
}

func TestSignatureNonces(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		use := func(key, nonce string, at time.Time) error {
			ran := false
			err := w.r.Update(context.Background(), joinserver.Write{AccessKeyID: key, Nonce: nonce, At: at}, func(*record.Tx) error {
				ran = true
				return nil
			})
			if ran != (err == nil) {
				t.Errorf("nonce %s: the function ran: %v, error: %v", nonce, ran, err)
			}
			return err
		}
		check(t, use("a", "1", noon))
		check(t, use("b", "1", noon))
		check(t, use("a", "2", noon))
		check(t, use("a", "", noon))
		check(t, use("a", "", noon))
		for _, at := range []time.Time{noon, noon.Add(-time.Minute), noon.Add(joinserver.NonceLife)} {
			if err := use("a", "1", at); !errors.Is(err, joinserver.ErrNonceUsed) {
				t.Errorf("nonce again at %v: %v", at, err)
			}
		}
		check(t, use("a", "1", noon.Add(joinserver.NonceLife+time.Millisecond)))
		if n := one[int](t, w.store.raw(t), `SELECT COUNT(*) FROM signature_nonces`); n != 1 {
			t.Errorf("%d nonces kept, not the one that is left", n)
		}
	})
}

func TestAuditLine(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		write := joinserver.Write{
			Account: owner, User: "ada", AccessKeyID: "LTAI5", From: "192.0.2.1", Action: "DeleteLocalJoinPermission",
			RequestID: "6A0B", Nonce: "n1", At: noon,
		}
		changes := []joinserver.Change{{Entity: "permission", ID: "7", Old: `{"name":"x"}`}, {Entity: "group", ID: "8", New: `{}`}}
		check(t, w.r.Update(context.Background(), write, func(tx *record.Tx) error {
			return errors.Join(tx.Audit(changes[0]), tx.Audit(changes[1]))
		}))
		check(t, w.r.Update(context.Background(), joinserver.Write{Account: otherOne, At: noon.Add(time.Hour)}, func(*record.Tx) error { return nil }))
		// What the server observes is no line.
		check(t, w.r.Update(context.Background(), joinserver.Write{Action: "GatewayStateChanged", At: noon.Add(time.Hour)}, func(*record.Tx) error { return nil }))
		lines := func(account joinserver.AccountID, since time.Time) (found []record.AuditLine) {
			check(t, w.r.View(context.Background(), func(tx *record.Tx) error {
				return tx.EachAudit(account, since, func(l record.AuditLine) error {
					found = append(found, l)
					return nil
				})
			}))
			return found
		}
		got := lines(owner, noon)
		if len(got) != 1 {
			t.Fatalf("%d audit lines of the account, not 1", len(got))
		}
		write.Nonce = "" // is no part of the line
		got[0].At = got[0].At.UTC()
		if !reflect.DeepEqual(got[0].Write, write) || !reflect.DeepEqual(got[0].Changes, changes) {
			t.Errorf("audit line %+v", got[0])
		}
		if got := lines(0, noon.Add(time.Minute)); len(got) != 1 || got[0].Account != otherOne || got[0].Changes == nil || len(got[0].Changes) != 0 {
			t.Errorf("audit lines since then: %+v", got)
		}
	})
}

func TestNotFoundAndDuplicate(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		v := band.MAC1_0_4
		cases := map[string]struct {
			do   func(*record.Tx) error
			want error
		}{
			"account":         {func(tx *record.Tx) error { _, err := tx.Account(9); return err }, joinserver.ErrNotFound},
			"account by name": {func(tx *record.Tx) error { _, err := tx.AccountByName("Owner"); return err }, joinserver.ErrNotFound},
			"access key":      {func(tx *record.Tx) error { _, err := tx.AccessKey("x"); return err }, joinserver.ErrNotFound},
			"enable key":      {func(tx *record.Tx) error { return tx.SetAccessKeyEnabled("x", true) }, joinserver.ErrNotFound},
			"user":            {func(tx *record.Tx) error { _, err := tx.User(owner, "x"); return err }, joinserver.ErrNotFound},
			"permission":      {func(tx *record.Tx) error { _, err := tx.Permission(9); return err }, joinserver.ErrNotFound},
			"group":           {func(tx *record.Tx) error { _, err := tx.Group(9); return err }, joinserver.ErrNotFound},
			"order":           {func(tx *record.Tx) error { _, err := tx.Order(9); return err }, joinserver.ErrNotFound},
			"device":          {func(tx *record.Tx) error { _, err := tx.Device(devEUI(9)); return err }, joinserver.ErrNotFound},
			"gateway":         {func(tx *record.Tx) error { _, err := tx.Gateway(devEUI(9)); return err }, joinserver.ErrNotFound},
			"gateway account": {func(tx *record.Tx) error { _, err := tx.GatewayAccount(devEUI(9)); return err }, joinserver.ErrNotFound},
			"notification":    {func(tx *record.Tx) error { _, err := tx.Notification(9); return err }, joinserver.ErrNotFound},
			"update account":  {func(tx *record.Tx) error { return tx.UpdateAccount(joinserver.Account{ID: 9, Name: "x"}) }, joinserver.ErrNotFound},
			"update perm.":    {func(tx *record.Tx) error { return tx.UpdatePermission(localPermission("x")) }, joinserver.ErrNotFound},
			"update group":    {func(tx *record.Tx) error { return tx.UpdateGroup(joinserver.Group{}) }, joinserver.ErrNotFound},
			"update order":    {func(tx *record.Tx) error { return tx.UpdateOrder(joinserver.Order{}) }, joinserver.ErrNotFound},
			"update device":   {func(tx *record.Tx) error { return tx.UpdateDevice(joinserver.Device{DevEUI: devEUI(9)}) }, joinserver.ErrNotFound},
			"update gateway":  {func(tx *record.Tx) error { return tx.UpdateGateway(joinserver.GatewayInfo{}) }, joinserver.ErrNotFound},
			"gateway state":   {func(tx *record.Tx) error { return tx.SetGatewayState(joinserver.GatewayState{}) }, joinserver.ErrNotFound},
			"claim gateway": {func(tx *record.Tx) error {
				return tx.ClaimGateway(record.NewGateway{EUI: gatewayID, Account: otherOne})
			}, joinserver.ErrNotFound},
			"update notice":   {func(tx *record.Tx) error { return tx.UpdateNotification(joinserver.Notification{}) }, joinserver.ErrNotFound},
			"delete perm.":    {func(tx *record.Tx) error { return tx.DeletePermission(9) }, joinserver.ErrNotFound},
			"delete group":    {func(tx *record.Tx) error { return tx.DeleteGroup(9) }, joinserver.ErrNotFound},
			"delete gateway":  {func(tx *record.Tx) error { return tx.DeleteGateway(devEUI(9)) }, joinserver.ErrNotFound},
			"delete node":     {func(tx *record.Tx) error { return tx.DeleteNode(devEUI(9)) }, joinserver.ErrNotFound},
			"set node":        {func(tx *record.Tx) error { return tx.SetNode(devEUI(9), &v, nil) }, joinserver.ErrNotFound},
			"reset nonces":    {func(tx *record.Tx) error { return tx.ResetNonces(devEUI(9)) }, joinserver.ErrNotFound},
			"account name":    {func(tx *record.Tx) error { return tx.InsertAccount(joinserver.Account{ID: 9, Name: "owner"}) }, joinserver.ErrDuplicate},
			"account id":      {func(tx *record.Tx) error { return tx.InsertAccount(joinserver.Account{ID: owner, Name: "x"}) }, joinserver.ErrDuplicate},
			"permission name": {func(tx *record.Tx) error { _, err := tx.InsertPermission(localPermission("p")); return err }, joinserver.ErrDuplicate},
			"group name": {func(tx *record.Tx) error {
				_, err := tx.InsertGroup(joinserver.Group{Account: owner, Name: "g"})
				return err
			}, joinserver.ErrDuplicate},
			"bound permission": {func(tx *record.Tx) error {
				_, err := tx.InsertGroup(joinserver.Group{Account: owner, Name: "x", PermissionID: w.permission})
				return err
			}, joinserver.ErrDuplicate},
			"known gateway": {func(tx *record.Tx) error { return tx.InsertGateway(record.NewGateway{EUI: gatewayID}) }, joinserver.ErrDuplicate},
			"names differ in case": {func(tx *record.Tx) error {
				_, err := tx.InsertPermission(localPermission("P"))
				return err
			}, nil},
			"name of another account": {func(tx *record.Tx) error {
				_, err := tx.InsertGroup(joinserver.Group{Account: otherOne, Name: "g"})
				return err
			}, nil},
			"roaming permission under the renter's names": {func(tx *record.Tx) error {
				p := localPermission("p")
				p.Type, p.Owner, p.Renter = joinserver.Roaming, 0, otherOne
				_, err := tx.InsertPermission(p)
				return err
			}, nil},
		}
		for name, c := range cases {
			err := w.r.Update(context.Background(), operator, func(tx *record.Tx) error {
				if err := c.do(tx); err != nil {
					return err
				}
				return errRollBack
			})
			if want := c.want; !errors.Is(err, want) && !(want == nil && errors.Is(err, errRollBack)) {
				t.Errorf("%s: %v, not %v", name, err, want)
			}
		}
	})
}

// Every update moves the version, and no version comes again.
func TestVersionsMove(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
		enabled := true
		updates := []func(*record.Tx) error{
			func(tx *record.Tx) error {
				p := localPermission("p")
				p.ID = w.permission
				return tx.UpdatePermission(p)
			},
			func(tx *record.Tx) error {
				return tx.UpdateGroup(joinserver.Group{NodeGroup: joinserver.NodeGroup{ID: w.group}, Account: owner, Name: "g", PermissionID: w.permission})
			},
			func(tx *record.Tx) error { return tx.SetNode(devEUI(0), nil, &enabled) },
			func(tx *record.Tx) error {
				d, err := tx.Device(devEUI(0))
				return errors.Join(err, tx.UpdateDevice(d))
			},
			func(tx *record.Tx) error { return tx.UpdateAccount(joinserver.Account{ID: owner, Name: "owner"}) },
			func(tx *record.Tx) error {
				g, err := tx.Gateway(gatewayID)
				return errors.Join(err, tx.UpdateGateway(g))
			},
		}
		seen := map[int64]bool{}
		versions := func() joinserver.PolicyVersions { return w.claim(t, w.r, devEUI(0), 1, noon).Versions() }
		for round := range 2 {
			for i, fn := range updates {
				before := versions()
				update(t, w.r, fn)
				after := versions()
				if before == after {
					t.Fatalf("update %d of round %d moved no version", i, round)
				}
				for _, pair := range [][2]int64{{before.Node, after.Node}, {before.NodeGroup, after.NodeGroup}, {before.Permission, after.Permission}, {before.Gateway, after.Gateway}} {
					if pair[0] != pair[1] && seen[pair[1]] {
						t.Errorf("version %d came again", pair[1])
					}
					seen[pair[1]] = true
				}
			}
		}
		before := versions()
		update(t, w.r, func(tx *record.Tx) error {
			return tx.SetGatewayState(joinserver.GatewayState{EUI: gatewayID, Online: true, ChangedMillis: 5})
		})
		if before != versions() {
			t.Error("the online state of a gateway moved a version")
		}
	})
}

func TestRoundTrips(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		rate := band.DataRate(0)
		permission := joinserver.Permission{
			JoinPermission: joinserver.JoinPermission{
				Type: joinserver.Roaming, Enabled: true, JoinEUI: otherEUI, BandPlanGroup: 201, ClassMode: "C", RxDelay: 15 * time.Second, DataRate: &rate,
			},
			Name: "äöü 'quoted' \\%_", InstanceID: "iot-1", AuthState: joinserver.Accepted, Renter: otherOne, CreateMillis: 5,
		}
		group := joinserver.Group{
			Account: otherOne, Name: "second", InstanceID: "iot-1",
			Dispatch: joinserver.DataDispatch{Enabled: true, Destination: "ONS", UplinkTopic: "up", DebugSwitch: true}, CreateMillis: 6,
		}
		order := joinserver.Order{PermissionID: 3, Owner: owner, Renter: otherOne, State: joinserver.OrderApplying, ApplyingMillis: 1, AcceptedMillis: 2, RejectedMillis: 3, CanceledMillis: 4}
		account := joinserver.Account{
			ID: otherOne, Name: "other", InstanceID: "iot-1", ProductActivated: true, Features: []string{"A", "B"}, RiskControl: true, RoamingGateways: true,
			LocalJoinPermissionLimit: 7, NodeLimit: 8, GatewayLimit: 9, CreateMillis: 10,
		}
		user := joinserver.User{Account: otherOne, Name: "ada", Policy: `{"Version":"1"}`}
		update(t, w.r, func(tx *record.Tx) (err error) {
			permission.ID, err = tx.InsertPermission(permission)
			check(t, err)
			group.PermissionID = permission.ID
			group.ID, err = tx.InsertGroup(group)
			check(t, err)
			order.ID, err = tx.InsertOrder(order)
			check(t, err)
			return errors.Join(tx.InsertAccount(account), tx.InsertUser(user))
		})
		same := func(what string, got, want any) {
			t.Helper()
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s reads\n%+v, not\n%+v", what, got, want)
			}
		}
		readAll := func() {
			t.Helper()
			p := view(t, w.r, func(tx *record.Tx) (joinserver.Permission, error) { return tx.Permission(permission.ID) })
			permission.Version = p.Version
			same("permission", p, permission)
			g := view(t, w.r, func(tx *record.Tx) (joinserver.Group, error) { return tx.Group(group.ID) })
			group.Version = g.Version
			same("group", g, group)
			same("order", view(t, w.r, func(tx *record.Tx) (joinserver.Order, error) { return tx.Order(order.ID) }), order)
			same("account", view(t, w.r, func(tx *record.Tx) (joinserver.Account, error) { return tx.AccountByName("other") }), account)
			same("user", view(t, w.r, func(tx *record.Tx) (joinserver.User, error) { return tx.User(otherOne, "ada") }), user)
		}
		readAll()
		permission.DataRate, permission.Enabled, permission.RxDelay, permission.AuthState = nil, false, time.Second, joinserver.New
		group.PermissionID, group.Name = 0, "third"
		order.State, order.AcceptedMillis = joinserver.OrderAccepted, 99
		account.Features, account.RiskControl, account.NodeLimit = nil, false, 0
		update(t, w.r, func(tx *record.Tx) error {
			return errors.Join(tx.UpdatePermission(permission), tx.UpdateGroup(group), tx.UpdateOrder(order), tx.UpdateAccount(account))
		})
		readAll()
		if all := view(t, w.r, (*record.Tx).Accounts); len(all) != 2 || all[0].ID != owner || all[1].ID != otherOne {
			t.Errorf("accounts: %+v", all)
		}
	})
}

// A View sees one state of the record, whatever is written meanwhile.
func TestViewIsASnapshot(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		check(t, w.r.View(context.Background(), func(tx *record.Tx) error {
			before, _, err := tx.Permissions(joinserver.PermissionFilter{Page: joinserver.Page{Limit: 10}})
			check(t, err)
			update(t, w.r, func(tx *record.Tx) error {
				_, err := tx.InsertPermission(localPermission("new"))
				return err
			})
			after, total, err := tx.Permissions(joinserver.PermissionFilter{Page: joinserver.Page{Limit: 10}})
			if len(after) != len(before) || total != int64(len(before)) {
				t.Errorf("%d permissions, then %d", len(before), len(after))
			}
			return err
		}))
	})
}
