package record_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

func (w *world) commit(c joinserver.Claim) (joinserver.Grant, error) {
	return w.r.Commit(context.Background(), c)
}

// join commits a join-request that arrives now.
func (w *world) join(t testing.TB, device joinserver.EUI64, devNonce uint16) (joinserver.Grant, error) {
	t.Helper()
	return w.commit(w.claim(t, w.r, device, devNonce, w.clock.now()))
}

func (w *world) mustJoin(t testing.TB, device joinserver.EUI64, devNonce uint16) joinserver.Grant {
	t.Helper()
	return must[joinserver.Grant](t)(w.join(t, device, devNonce))
}

// outcome names what a commit came to: a reason, an error of the contract, or
// "granted".
func outcome(err error) string {
	var refused *joinserver.Rejection
	switch {
	case err == nil:
		return "granted"
	case errors.Is(err, joinserver.ErrPolicyMoved):
		return "policy moved"
	case errors.Is(err, joinserver.ErrLateCopy):
		return "late copy"
	case errors.As(err, &refused):
		return refused.Reason.String()
	}
	return err.Error()
}

// refuses asserts the outcome, and that nothing was granted or written.
func (w *world) refuses(t testing.TB, c joinserver.Claim, want string) {
	t.Helper()
	before := w.counts(t)
	grant, err := w.commit(c)
	if got := outcome(err); got != want {
		t.Errorf("commit: %s, not %s", got, want)
	}
	if grant != (joinserver.Grant{}) {
		t.Errorf("a refused claim has the grant %+v", grant)
	}
	if after := w.counts(t); !maps.Equal(before, after) {
		t.Errorf("a refused claim was written:\nbefore %v\nafter  %v", before, after)
	}
}

func TestCommitRecordsSessionNonceAndEvent(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 0, 1)
		c := w.claim(t, w.r, devEUI(0), 7, w.clock.now())
		c.CFList = slices.Repeat([]byte{0xcf}, 16)
		grant := must[joinserver.Grant](t)(w.commit(c))
		if grant.JoinNonce != 1 {
			t.Errorf("first JoinNonce is %d", grant.JoinNonce)
		}
		db := w.store.raw(t)
		if n := one[int](t, db, `SELECT COUNT(*) FROM sessions WHERE live AND dev_eui = $1 AND join_nonce = 1 AND dev_nonce = 7 AND join_eui = $2
AND gateway = $3 AND group_id = $4 AND permission_id = $5 AND account_id = $6 AND mac_version = '1.1' AND class_mode = 'A' AND net_id = '000013'
AND rx_delay_s = 1 AND dl_settings = 2 AND band_plan_group = 101 AND cf_list = $7 AND joined_ms = $8`,
			devEUI(0).String(), joinEUI.String(), gatewayID.String(), w.group, w.permission, int64(owner), c.CFList, noon.UnixMilli()); n != 1 {
			t.Errorf("%d sessions with what was sent, not 1", n)
		}
		if n := one[int](t, db, `SELECT COUNT(*) FROM dev_nonces WHERE dev_eui = $1 AND join_eui = $2 AND dev_nonce = 7 AND answer_until_ms = $3`,
			devEUI(0).String(), joinEUI.String(), noon.Add(6*time.Second).UnixMilli()); n != 1 {
			t.Errorf("%d DevNonces, not 1", n)
		}
		events := must[[]joinserver.OutboxEvent](t)(w.r.Pending(context.Background(), 10))
		want := must[[]byte](t)(json.Marshal(must[joinserver.JoinEvent](t)(c.Event(grant, noon, joinserver.Recipients{}))))
		if len(events) != 1 || events[0].DevEUI != devEUI(0) || events[0].JoinNonce != 1 || events[0].Account != owner || string(events[0].Payload) != string(want) {
			t.Errorf("outbox holds %+v", events)
		}
	})
}

func TestOutbox(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 5)
		for i := range 5 {
			w.mustJoin(t, devEUI(i), 1)
			w.clock.advance(-time.Second) // events keep their place all the same
		}
		w.clock.set(noon.Add(time.Second))
		w.mustJoin(t, devEUI(0), 2) // the lowest DevEUI of all
		<-w.r.Notify()
		ctx := context.Background()
		first := must[[]joinserver.OutboxEvent](t)(w.r.Pending(ctx, 2))
		if len(first) != 2 {
			t.Fatalf("%d events, not 2", len(first))
		}
		check(t, w.r.Delivered(ctx, first))
		check(t, w.r.Delivered(ctx, first)) // twice does no harm
		rest := must[[]joinserver.OutboxEvent](t)(w.r.Pending(ctx, 10))
		if len(rest) != 4 {
			t.Fatalf("%d events left, not 4", len(rest))
		}
		if last := rest[3]; last.DevEUI != devEUI(0) || last.JoinNonce != 2 {
			t.Errorf("the last event is %s with JoinNonce %d, not that of the last join", last.DevEUI, last.JoinNonce)
		}
		for _, e := range rest[:3] {
			if e.CommittedMillis != noon.UnixMilli() {
				t.Errorf("an event has the place of %v: events overtake each other when the clock goes back", time.UnixMilli(e.CommittedMillis))
			}
		}
	})
}

// An administrator's success means that no join is committed by the policy that
// was before.
func TestPolicyMoved(t *testing.T) {
	disabled := false
	v104 := band.MAC1_0_4
	cases := []struct {
		name string
		move func(*testing.T, *world)
	}{
		{"node disabled", func(t *testing.T, w *world) {
			update(t, w.r, func(tx *record.Tx) error { return tx.SetNode(devEUI(0), nil, &disabled) })
		}},
		{"node's version", func(t *testing.T, w *world) {
			update(t, w.r, func(tx *record.Tx) error { return tx.SetNode(devEUI(0), &v104, nil) })
		}},
		{"node removed", func(t *testing.T, w *world) {
			update(t, w.r, func(tx *record.Tx) error { return tx.DeleteNode(devEUI(0)) })
		}},
		{"node removed and imported again", func(t *testing.T, w *world) {
			update(t, w.r, func(tx *record.Tx) error { return tx.DeleteNode(devEUI(0)) })
			w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
		}},
		{"node left its group", func(t *testing.T, w *world) {
			w.exec(t, `UPDATE nodes SET group_id = NULL`) // without a new version: the link counts
		}},
		{"group updated", func(t *testing.T, w *world) {
			update(t, w.r, func(tx *record.Tx) error {
				return tx.UpdateGroup(joinserver.Group{NodeGroup: joinserver.NodeGroup{ID: w.group}, Account: owner, Name: "g", PermissionID: w.permission})
			})
		}},
		{"group unbound", func(t *testing.T, w *world) { w.exec(t, `UPDATE node_groups SET permission_id = NULL`) }},
		{"group bound to another permission", func(t *testing.T, w *world) {
			update(t, w.r, func(tx *record.Tx) error {
				other, err := tx.InsertPermission(localPermission("other"))
				if err != nil {
					return err
				}
				return tx.UpdateGroup(joinserver.Group{NodeGroup: joinserver.NodeGroup{ID: w.group}, Account: owner, Name: "g", PermissionID: other})
			})
		}},
		{"permission updated", func(t *testing.T, w *world) {
			update(t, w.r, func(tx *record.Tx) error {
				p := localPermission("p")
				p.ID, p.RxDelay = w.permission, 3*time.Second
				return tx.UpdatePermission(p)
			})
		}},
		{"permission deleted", func(t *testing.T, w *world) {
			update(t, w.r, func(tx *record.Tx) error { return tx.DeletePermission(w.permission) })
		}},
		{"gateway removed", func(t *testing.T, w *world) {
			update(t, w.r, func(tx *record.Tx) error { return tx.DeleteGateway(gatewayID) })
		}},
		{"gateway removed and added again", func(t *testing.T, w *world) {
			update(t, w.r, func(tx *record.Tx) error { return tx.DeleteGateway(gatewayID) })
			update(t, w.r, func(tx *record.Tx) error {
				return tx.InsertGateway(record.NewGateway{EUI: gatewayID, Account: owner, BandPlanGroup: planGroup})
			})
		}},
		{"roaming switch of the gateway's account", func(t *testing.T, w *world) {
			update(t, w.r, func(tx *record.Tx) error {
				return tx.UpdateAccount(joinserver.Account{ID: owner, Name: "owner", RoamingGateways: true})
			})
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			onEngines(t, func(t *testing.T, w *world) {
				w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
				claim := w.claim(t, w.r, devEUI(0), 1, w.clock.now())
				c.move(t, w)
				w.refuses(t, claim, "policy moved")
			})
		})
	}
}

// What does not concern the policy does not disturb the joins.
func TestPolicyUnmoved(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 2)
		claim := w.claim(t, w.r, devEUI(0), 1, w.clock.now())
		update(t, w.r, func(tx *record.Tx) error { return tx.DeleteNode(devEUI(1)) })
		update(t, w.r, func(tx *record.Tx) error {
			_, err := tx.InsertPermission(localPermission("another"))
			return err
		})
		update(t, w.r, func(tx *record.Tx) error { return tx.ResetNonces(devEUI(0)) })
		must[joinserver.Grant](t)(w.commit(claim))
	})
}

func TestDevNonce(t *testing.T) {
	type step struct {
		devNonce uint16
		want     string
	}
	random := []step{{5, "granted"}, {3, "granted"}, {65535, "granted"}, {5, "dev_nonce_replayed"}, {3, "dev_nonce_replayed"}, {0, "granted"}, {0, "dev_nonce_replayed"}}
	rising := []step{{5, "granted"}, {3, "dev_nonce_replayed"}, {5, "dev_nonce_replayed"}, {6, "granted"}, {65535, "granted"}, {0, "dev_nonce_replayed"}, {65535, "dev_nonce_replayed"}}
	cases := map[joinserver.MACVersion][]step{
		band.MAC1_0_0: random, band.MAC1_0_1: random, band.MAC1_0_2: random, band.MAC1_0_3: random,
		band.MAC1_0_4: rising, band.MAC1_1: rising,
	}
	for version, steps := range cases {
		t.Run(version.String(), func(t *testing.T) {
			onEngines(t, func(t *testing.T, w *world) {
				w.importNodes(t, w.r, version, 0, 1)
				for _, s := range steps {
					w.clock.advance(time.Minute) // past the RX2 of the one before
					claim := w.claim(t, w.r, devEUI(0), s.devNonce, w.clock.now())
					if s.want != "granted" {
						w.refuses(t, claim, s.want)
					} else if _, err := w.commit(claim); err != nil {
						t.Errorf("DevNonce %d: %v", s.devNonce, err)
					}
				}
			})
		})
	}
}

// Each JoinEUI has a history of its own.
func TestDevNoncePerJoinEUI(t *testing.T) {
	for _, version := range []joinserver.MACVersion{band.MAC1_0_3, band.MAC1_0_4} {
		t.Run(version.String(), func(t *testing.T) {
			onEngines(t, func(t *testing.T, w *world) {
				w.importNodes(t, w.r, version, 0, 1)
				w.mustJoin(t, devEUI(0), 9)
				w.clock.advance(time.Minute)
				update(t, w.r, func(tx *record.Tx) error {
					p := localPermission("p")
					p.ID, p.JoinEUI = w.permission, otherEUI
					return tx.UpdatePermission(p)
				})
				if g := w.mustJoin(t, devEUI(0), 9); g.JoinNonce != 2 {
					t.Errorf("JoinNonce %d, not 2: it counts for the device", g.JoinNonce)
				}
				w.clock.advance(time.Minute)
				w.refuses(t, w.claim(t, w.r, devEUI(0), 9, w.clock.now()), "dev_nonce_replayed")
			})
		})
	}
}

func TestLateCopy(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_4, 0, 1)
		copied := w.claim(t, w.r, devEUI(0), 4, w.clock.now())
		must[joinserver.Grant](t)(w.commit(copied))
		forged := copied
		forged.Request.MIC[0]++
		copied.Received = noon.Add(5 * time.Second) // a copy that was long under way
		copied.Deadline = noon.Add(time.Hour)
		forged.Deadline = noon.Add(time.Hour)

		w.refuses(t, forged, "dev_nonce_replayed")
		w.clock.set(noon.Add(6 * time.Second)) // the RX2 of the frame that was answered
		w.refuses(t, copied, "late copy")
		update(t, w.r, func(tx *record.Tx) error { // a copy stays a copy when the policy moves
			return tx.UpdateAccount(joinserver.Account{ID: owner, Name: "owner"})
		})
		w.refuses(t, copied, "late copy")
		update(t, w.r, func(tx *record.Tx) error { return tx.DeleteNode(devEUI(0)) })
		w.refuses(t, copied, "late copy")
		w.importNodes(t, w.r, band.MAC1_0_4, 0, 1)
		w.clock.advance(time.Millisecond)
		fresh := w.claim(t, w.r, devEUI(0), 4, w.clock.now())
		w.refuses(t, fresh, "dev_nonce_replayed")
	})
}

func TestJoinNonceGoesOn(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_4, 0, 1)
		next := uint32(0)
		joins := func(devNonce uint16) {
			t.Helper()
			next++
			if g := w.mustJoin(t, devEUI(0), devNonce); g.JoinNonce != next {
				t.Fatalf("JoinNonce %d, not %d", g.JoinNonce, next)
			}
			w.clock.advance(time.Minute)
		}
		joins(10)
		joins(11)
		update(t, w.r, func(tx *record.Tx) error { return tx.ResetNonces(devEUI(0)) })
		joins(1)
		update(t, w.r, func(tx *record.Tx) error { return tx.DeleteNode(devEUI(0)) })
		w.importNodes(t, w.r, band.MAC1_0_4, 0, 1)
		w.refuses(t, w.claim(t, w.r, devEUI(0), 1, w.clock.now()), "dev_nonce_replayed") // the history is kept
		joins(2)
		update(t, w.r, func(tx *record.Tx) error { return tx.DeleteNode(devEUI(0)) })
		w.importNodes(t, w.r, band.MAC1_0_4, 0, 1)
		update(t, w.r, func(tx *record.Tx) error { return tx.ResetNonces(devEUI(0)) })
		joins(0)
	})
}

func TestJoinNonceExhausted(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
		w.mustJoin(t, devEUI(0), 1)
		w.mustJoin(t, devEUI(0), 2) // both slots are taken
		w.exec(t, `UPDATE sessions SET join_nonce = $1 WHERE join_nonce = 1`, joinserver.MaxJoinNonce-2)
		w.exec(t, `UPDATE sessions SET join_nonce = $1 WHERE join_nonce = 2`, joinserver.MaxJoinNonce-1)
		if g := w.mustJoin(t, devEUI(0), 3); g.JoinNonce != joinserver.MaxJoinNonce {
			t.Fatalf("JoinNonce %d, not %d", g.JoinNonce, joinserver.MaxJoinNonce)
		}
		w.refuses(t, w.claim(t, w.r, devEUI(0), 4, w.clock.now()), "join_nonce_exhausted")
		w.refuses(t, w.claim(t, w.r, devEUI(0), 5, w.clock.now()), "join_nonce_exhausted")
	})
}

func TestTooLate(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
		claim := w.claim(t, w.r, devEUI(0), 1, w.clock.now())
		w.clock.set(claim.Deadline.Add(time.Millisecond))
		w.refuses(t, claim, "too_late")
		w.clock.set(claim.Deadline)
		must[joinserver.Grant](t)(w.commit(claim))
	})
}
