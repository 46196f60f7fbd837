package record_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/record"
)

// newOlderRecord is one of the first schema, with a permission and a node in it.
func newOlderRecord(t *testing.T, e engine) (s store, db *sql.DB) {
	t.Helper()
	if s = newSQLite(t); e.name == postgres.name {
		c := sharedCluster(t)
		s = c.store(t, c.newDatabase(t))
	}
	db = s.raw(t)
	check(t, record.MigrateTo(context.Background(), db, e.name == postgres.name, 1))
	must[sql.Result](t)(db.Exec(`INSERT INTO key_check (only_row, sealed) VALUES (1, $1)`, must[*keyring.Sealer](t)(keyring.NewSealer(s.options.KEK)).Seal([]byte("joingate"), "key_check")))
	insertAsBefore(t, db, 900, "older")
	return s, db
}

// insertAsBefore writes a permission with its group, a node and a session as the
// program of the first schema does.
func insertAsBefore(t *testing.T, db *sql.DB, id int, name string) {
	t.Helper()
	for _, write := range []struct {
		statement string
		args      []any
	}{
		{`INSERT INTO join_permissions (id, version, type, owner_id, renter_id, name_account_id, name, instance_id, enabled, auth_state,
    join_eui, band_plan_group, class_mode, rx_delay_s, data_rate, created_ms)
VALUES ($1, 900, 'LOCAL', 1001, 0, 1001, $2, '', TRUE, 'NEW', $3, 101, 'A', 1, NULL, 0)`, []any{id, name, joinEUI.String()}},
		{`INSERT INTO node_groups (id, version, account_id, name, instance_id, permission_id, dispatch, created_ms)
VALUES ($1, 900, 1001, $2, '', $1, '{}', 0)`, []any{id, name}},
		{`INSERT INTO nodes (dev_eui, version, account_id, group_id, enabled, mac_version, pin_code, created_ms, bound_ms)
VALUES ($1, 900, 1001, $2, TRUE, '1.1', '', 0, 0)`, []any{devEUI(id).String(), id}},
		{`INSERT INTO sessions (dev_eui, slot, join_nonce, dev_addr, live, join_eui, dev_nonce, account_id, group_id, permission_id,
    gateway, mac_version, class_mode, band_plan_group, net_id, rx_delay_s, dl_settings, cf_list, joined_ms)
VALUES ($1, 1, 1, $2, TRUE, $3, 0, 1001, $2, $2, $1, '1.1', 'A', 101, '000000', 1, 0, NULL, 0)`, []any{devEUI(id).String(), id, joinEUI.String()}},
		{`INSERT INTO outbox (committed_ms, dev_eui, join_nonce, account_id, payload) VALUES (1, $1, 1, 1001, 'x')`, []any{devEUI(id).String()}},
	} {
		must[sql.Result](t)(db.Exec(write.statement, write.args...))
	}
}

// A record of the first schema is brought up to date, and what a program of that
// schema goes on writing beside is right.
func TestUpgrade(t *testing.T) {
	onEachEngine(t, func(t *testing.T, e engine) {
		s, db := newOlderRecord(t, e)
		r := open(t, s.options)
		insertAsBefore(t, db, 901, "beside")
		for _, id := range []int{900, 901} {
			policy := must[joinserver.Policy](t)(r.Policy(context.Background(), devEUI(id)))
			if policy.Permission.ID != int64(id) || policy.Permission.RequireOwn || policy.Node.MACVersion != band.MAC1_1 {
				t.Errorf("policy %+v", policy)
			}
			live := must[[]joinserver.Session](t)(r.Sessions(context.Background(), devEUI(id)))
			if len(live) != 1 || live[0].JoinNonce != 1 || live[0].Confirmed {
				t.Errorf("sessions %+v", live)
			}
		}
		if n := len(must[[]joinserver.OutboxEvent](t)(r.Pending(context.Background(), 10))); n != 2 {
			t.Errorf("%d events wait, not 2", n)
		}
	})
}

// With the wrong key an older record stays what it is, so that the program of before
// can still open it.
func TestNoUpgradeWithTheWrongKey(t *testing.T) {
	onEachEngine(t, func(t *testing.T, e engine) {
		s, db := newOlderRecord(t, e)
		s.options.KEK = kekOf("another")
		_, err := record.Open(context.Background(), s.options)
		if err == nil || !strings.Contains(err.Error(), "kek_file") {
			t.Errorf("error %v", err)
		}
		if v := one[int](t, db, `SELECT MAX(version_id) FROM goose_db_version`); v != 1 {
			t.Errorf("schema %d, not 1", v)
		}
	})
}

func TestRequireOwn(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 0, 1)
		required := func() bool {
			return must[joinserver.Policy](t)(w.r.Policy(context.Background(), devEUI(0))).Permission.RequireOwn
		}
		if required() {
			t.Error("required by default")
		}
		p := localPermission("p")
		p.ID, p.RequireOwn = w.permission, true
		update(t, w.r, func(tx *record.Tx) error { return tx.UpdatePermission(p) })
		var id int64
		update(t, w.r, func(tx *record.Tx) (err error) {
			p.Name = "another"
			id, err = tx.InsertPermission(p)
			return err
		})
		check(t, w.r.View(context.Background(), func(tx *record.Tx) error {
			for _, id := range []int64{id, w.permission} {
				if p, err := tx.Permission(id); err != nil || !p.RequireOwn {
					t.Errorf("permission %d: %+v, %v", id, p, err)
				}
			}
			return nil
		}))
		if !required() {
			t.Error("the policy does not say so")
		}
	})
}
