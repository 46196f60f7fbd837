package record_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

// What is wrong is found, with its number, an example and what to do.
func TestCheck(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 0, 4)
		w.mustJoin(t, devEUI(0), 1)
		w.mustJoin(t, devEUI(0), 2)
		w.mustJoin(t, devEUI(1), 1)
		must[joinserver.Grant](t)(w.commit(w.rejoin(t, joinserver.Rejoin0, devEUI(1), 1)))
		w.addSecrets(t, w.r, "LTAI1")
		w.addGateways(t, roof())
		w.setState(t, true, 20)
		find := func() []record.Finding {
			t.Helper()
			return must[[]record.Finding](t)(w.r.Check(context.Background()))
		}
		if findings := find(); len(findings) != 0 {
			t.Fatalf("findings in a record that is right: %v", findings)
		}
		device := devEUI(1).String()
		for _, c := range []struct{ wrong, right, want string }{
			{`UPDATE nodes SET group_id = 5 WHERE group_id IS NOT NULL`, `UPDATE nodes SET group_id = (SELECT id FROM node_groups) WHERE group_id = 5`, "nodes in a node group"},
			{`UPDATE nodes SET account_id = 5`, `UPDATE nodes SET account_id = 1001`, "nodes of an account"},
			{`INSERT INTO imports (id, in_force) VALUES (5, FALSE); UPDATE nodes SET import_id = 5 WHERE dev_eui = '` + device + `'`, `UPDATE nodes SET import_id = NULL; DELETE FROM imports`, "never came into force"},
			{`UPDATE node_groups SET permission_id = 5`, `UPDATE node_groups SET permission_id = (SELECT id FROM join_permissions)`, "node groups bound"},
			{`UPDATE access_keys SET account_id = 5`, `UPDATE access_keys SET account_id = 1001`, "AccessKeys of an account"},
			{`UPDATE gateway_states SET gw_eui = 'x'`, `DELETE FROM gateway_states`, "states of gateways"},
			{`UPDATE dev_nonces SET dev_nonce = 70000 WHERE dev_nonce = 2`, `UPDATE dev_nonces SET dev_nonce = 2 WHERE dev_nonce = 70000`, "DevNonces that are none"},
			{`UPDATE outbox SET join_nonce = join_nonce + 100`, `UPDATE outbox SET join_nonce = join_nonce - 100`, "join events that are ahead"},
			{`UPDATE rejoin_counts SET session = session + 100`, `UPDATE rejoin_counts SET session = session - 100`, "rejoin-requests of sessions"},
			{`UPDATE dev_nonces SET dev_eui = 'f' WHERE dev_nonce = 2`, `DELETE FROM dev_nonces WHERE dev_eui = 'f'`, "JoinNonce is lost"},
			{`UPDATE sessions SET confirmed_nonce = join_nonce WHERE join_nonce = 2`, `UPDATE sessions SET confirmed_nonce = 0`, "beside a newer one"},
			{`UPDATE revision SET value = value - 1000`, `UPDATE revision SET value = value + 1000`, "ahead of the revision"},
			{`INSERT INTO outbox_sinks (sink, committed_ms, dev_eui, join_nonce, account_id, payload) VALUES ('old', 1, '` + device + `', 1, 1, 'x')`, `DELETE FROM outbox_sinks`, "not configured"},
			{`UPDATE access_keys SET sealed_secret = 'x'`, `DELETE FROM access_keys`, "do not open"},
			{`UPDATE nodes SET sealed_app = sealed_nwk`, ``, "do not open"},
		} {
			w.exec(t, c.wrong)
			findings := find()
			if !slices.ContainsFunc(findings, func(f record.Finding) bool {
				return strings.Contains(f.What, c.want) && f.Rows > 0 && f.Example != "" && f.Remedy != ""
			}) {
				t.Errorf("%s: found %v, nothing about %q", c.wrong, findings, c.want)
			}
			if c.right != "" {
				w.exec(t, c.right)
				if findings := find(); len(findings) != 0 {
					t.Errorf("after %s: %v", c.right, findings)
				}
			}
		}
	})
}

func TestNearExhaustion(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 2)
		w.importNodes(t, w.r, band.MAC1_1, 2, 5)
		for devNonce := range uint16(20) {
			w.mustJoin(t, devEUI(0), 3*devNonce)
		}
		w.mustJoin(t, devEUI(1), 65535) // drawn at random: one of 65,536
		w.mustJoin(t, devEUI(2), 65000)
		w.mustJoin(t, devEUI(3), 9)
		must[joinserver.Grant](t)(w.commit(w.rejoin(t, joinserver.Rejoin1, devEUI(3), 65535)))
		w.mustJoin(t, devEUI(4), 9)
		w.exec(t, `UPDATE sessions SET join_nonce = $1 WHERE dev_eui = $2`, joinserver.MaxJoinNonce-100, devEUI(4).String())
		near := must[[]record.Exhaustion](t)(w.r.NearExhaustion(context.Background(), 0.9, 10))
		var got []string
		for _, e := range near {
			if e.Account != owner {
				t.Errorf("account %d", e.Account)
			}
			got = append(got, e.DevEUI.String()+" "+e.Counter)
		}
		if want := []string{devEUI(3).String() + " RJcount1", devEUI(4).String() + " JoinNonce", devEUI(2).String() + " DevNonce"}; !slices.Equal(got, want) {
			t.Errorf("near exhaustion: %v, not %v", got, want)
		}
		near = must[[]record.Exhaustion](t)(w.r.NearExhaustion(context.Background(), 0.0002, 4))
		if len(near) != 4 || near[3].DevEUI != devEUI(0) || near[3].Used != 20 || near[3].Of != 65536 || near[3].JoinEUI != joinEUI {
			t.Errorf("near exhaustion: %+v", near)
		}
	})
}

func TestPrune(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.addGateways(t, roof())
		w.setState(t, true, 10)
		w.setState(t, false, 20)
		w.setState(t, true, 30)
		old, young := noon.Add(-time.Hour).UnixMilli(), noon.Add(time.Hour).UnixMilli()
		update(t, w.r, func(tx *record.Tx) (err error) {
			for i := range 450 {
				handled := []int64{0, old, young}[i%3]
				_, failed := tx.InsertNotification(joinserver.Notification{Account: owner, Category: "c", NoticeMillis: 1, HandledMillis: handled})
				err = errors.Join(err, failed)
			}
			return err
		})
		audit := w.counts(t)["audit"]
		if n := must[int64](t)(w.r.Prune(context.Background(), noon)); n != 2+150 {
			t.Errorf("%d rows removed, not 152", n)
		}
		after := w.counts(t)
		if after["gateway_states"] != 1 || after["notifications"] != 300 || after["audit"] != audit {
			t.Errorf("left: %v", after)
		}
		if n := must[int64](t)(w.r.Prune(context.Background(), noon)); n != 0 {
			t.Errorf("%d rows removed the second time", n)
		}
	})
}
