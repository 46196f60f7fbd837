package record_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/record"
)

func wrappingKey(t testing.TB, label string, fill byte) joinserver.KeyEncryption {
	t.Helper()
	return joinserver.KeyEncryption{Label: label, KEK: must[keyring.WrappingKey](t)(keyring.NewWrappingKey(bytes.Repeat([]byte{fill}, 16)))}
}

// keysOfLastEvent are those in the join event that was committed last.
func (w *world) keysOfLastEvent(t testing.TB) *joinserver.WrappedKeys {
	t.Helper()
	events := must[[]joinserver.OutboxEvent](t)(w.r.Pending(context.Background(), 1000))
	var last struct {
		Keys *joinserver.WrappedKeys `json:"keys"`
	}
	check(t, json.Unmarshal(events[len(events)-1].Payload, &last))
	return last.Keys
}

// Session keys go into the join event for the servers that the account has
// registered keys for, from the next join on, and only for that account.
func TestRecipients(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
		update(t, w.r, func(tx *record.Tx) error { return tx.InsertAccount(joinserver.Account{ID: otherOne, Name: "other"}) })
		set := func(account joinserver.AccountID, which record.Recipient, key joinserver.KeyEncryption) {
			t.Helper()
			update(t, w.r, func(tx *record.Tx) error { return tx.SetRecipient(account, which, key) })
		}
		w.mustJoin(t, devEUI(0), 0)
		if keys := w.keysOfLastEvent(t); keys != nil {
			t.Errorf("keys for nobody: %+v", keys)
		}
		set(otherOne, record.NetworkServer, wrappingKey(t, "other", 3))
		w.mustJoin(t, devEUI(0), 1)
		if keys := w.keysOfLastEvent(t); keys != nil {
			t.Errorf("keys for another account's server: %+v", keys)
		}
		set(owner, record.NetworkServer, wrappingKey(t, "old", 9))
		set(owner, record.NetworkServer, wrappingKey(t, "ns", 1))
		set(owner, record.ApplicationServer, wrappingKey(t, "as", 2))
		c := w.claim(t, w.r, devEUI(0), 2, w.clock.now())
		grant := must[joinserver.Grant](t)(w.commit(c))
		keys := must[keyring.SessionKeys](t)(c.SessionKeys(grant))
		wrapped := w.keysOfLastEvent(t)
		if wrapped == nil || wrapped.Network.KEKLabel != "ns" || wrapped.Application.KEKLabel != "as" {
			t.Fatalf("keys %+v", wrapped)
		}
		if got := must[keyring.Key](t)(keyring.UnwrapKey(bytes.Repeat([]byte{2}, 16), must[[]byte](t)(hex.DecodeString(wrapped.Application.AppSKey)))); !got.Equal(keys.AppSKey) {
			t.Error("the AppSKey is another")
		}
		if got := must[keyring.Key](t)(keyring.UnwrapKey(bytes.Repeat([]byte{1}, 16), must[[]byte](t)(hex.DecodeString(wrapped.Network.NwkSKey)))); !got.Equal(keys.FNwkSIntKey) {
			t.Error("the NwkSKey is another")
		}
		set(owner, record.ApplicationServer, joinserver.KeyEncryption{})
		w.mustJoin(t, devEUI(0), 3)
		if wrapped := w.keysOfLastEvent(t); wrapped == nil || wrapped.Application != nil || wrapped.Network == nil {
			t.Errorf("keys %+v after one was taken back", wrapped)
		}
		check(t, w.r.View(context.Background(), func(tx *record.Tx) error {
			to, err := tx.Recipients(owner)
			if to.Network.Label != "ns" || to.Network.KEK.IsZero() || !to.Application.KEK.IsZero() {
				t.Errorf("recipients %+v", to)
			}
			return err
		}))
		err := w.r.Update(context.Background(), joinserver.Write{}, func(tx *record.Tx) error {
			if err := tx.SetRecipient(owner, "xs", wrappingKey(t, "l", 1)); err == nil {
				t.Error("a recipient that there is not")
			}
			return tx.SetRecipient(4711, record.NetworkServer, wrappingKey(t, "l", 1))
		})
		if !errors.Is(err, joinserver.ErrNotFound) {
			t.Errorf("a key for no account: %v", err)
		}
	})
}

// A key that does not open costs its account the joins, and nobody else.
func TestDamagedRecipient(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 2)
		update(t, w.r, func(tx *record.Tx) error {
			return tx.SetRecipient(owner, record.NetworkServer, wrappingKey(t, "ns", 1))
		})
		w.exec(t, `UPDATE account_keks SET label = 'other', sealed_kek = $1`, []byte("damaged"))
		claims := []joinserver.Claim{w.claim(t, w.r, devEUI(0), 1, w.clock.now()), w.claim(t, w.r, devEUI(1), 1, w.clock.now())}
		claims[1].Policy.Node.Account = otherOne
		_, errs := w.r.CommitTogether(claims)
		if !errors.Is(errs[0], keyring.ErrWrongKEK) || errs[1] != nil {
			t.Errorf("outcomes %v", errs)
		}
		if n := one[int](t, w.store.raw(t), `SELECT COUNT(*) FROM sessions`); n != 1 {
			t.Errorf("%d sessions, not 1", n)
		}
	})
}

// Each sink has its own queue, filled by the same transaction and emptied for
// itself.
func TestSinks(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			w := newWorldWith(t, e, record.Options{Sinks: []string{"webhook", "stream", record.MQTT}})
			ctx := context.Background()
			w.importNodes(t, w.r, band.MAC1_0_3, 0, 3)
			for i := range 3 {
				w.mustJoin(t, devEUI(i), 1)
				w.clock.advance(1000)
				w.mustJoin(t, devEUI(i), 2)
			}
			want := must[[]joinserver.OutboxEvent](t)(w.r.Pending(ctx, 100))
			same := func(a, b joinserver.OutboxEvent) bool {
				return a.DevEUI == b.DevEUI && a.JoinNonce == b.JoinNonce && a.Account == b.Account && bytes.Equal(a.Payload, b.Payload) && a.CommittedMillis == b.CommittedMillis
			}
			for _, sink := range []string{record.MQTT, "webhook", "stream"} {
				outbox := must[*record.Outbox](t)(w.r.Outbox(sink))
				<-outbox.Notify()
				if got := must[[]joinserver.OutboxEvent](t)(outbox.Pending(ctx, 100)); len(got) != 6 || !slices.EqualFunc(got, want, same) {
					t.Errorf("%s has %d events", sink, len(got))
				}
			}
			webhook, stream := must[*record.Outbox](t)(w.r.Outbox("webhook")), must[*record.Outbox](t)(w.r.Outbox("stream"))
			check(t, webhook.Delivered(ctx, want[:4]))
			check(t, webhook.Delivered(ctx, want[:4]))
			check(t, w.r.Delivered(ctx, want))
			if b := must[record.Backlog](t)(webhook.Backlog(ctx)); b.Events != 2 || b.Oldest.UnixMilli() != want[4].CommittedMillis {
				t.Errorf("backlog %+v", b)
			}
			if b := must[record.Backlog](t)(stream.Backlog(ctx)); b.Events != 6 || b.Oldest.UnixMilli() != want[0].CommittedMillis {
				t.Errorf("backlog %+v", b)
			}
			mqtt := must[*record.Outbox](t)(w.r.Outbox(record.MQTT))
			if b := must[record.Backlog](t)(mqtt.Backlog(ctx)); b.Events != 0 || !b.Oldest.IsZero() {
				t.Errorf("backlog %+v", b)
			}
			if _, err := w.r.Outbox("other"); err == nil {
				t.Error("an outbox of no sink")
			}
		})
	}
}

// The events of a sink that is gone are forgotten in more than one transaction, those
// of the others stay.
func TestDropSink(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			w := newWorldWith(t, e, record.Options{Sinks: []string{"stream", "webhook"}})
			ctx, by := context.Background(), joinserver.Write{Action: "drop", At: noon}
			w.importNodes(t, w.r, band.MAC1_0_3, 0, 1)
			w.mustJoin(t, devEUI(0), 1)
			w.exec(t, `INSERT INTO outbox_sinks (sink, committed_ms, dev_eui, join_nonce, account_id, payload)
WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
SELECT o.sink, o.committed_ms, o.dev_eui, n.i, o.account_id, o.payload FROM outbox_sinks o, n WHERE o.sink = 'stream'`)
			for _, inUse := range []string{"stream", record.MQTT} {
				if _, err := w.r.DropSink(ctx, by, inUse); err == nil {
					t.Errorf("%s was dropped, which is in use", inUse)
				}
			}
			o := w.store.options
			o.Sinks = []string{"webhook"}
			r := open(t, o)
			if n := must[int64](t)(r.DropSink(ctx, by, "stream")); n != 2500 {
				t.Errorf("%d events dropped, not 2500", n)
			}
			if after := w.counts(t); after["outbox_sinks"] != 1 || after["outbox"] != 1 {
				t.Errorf("left: %v", after)
			}
			if n := one[int](t, w.store.raw(t), `SELECT COUNT(*) FROM audit WHERE action = 'drop' AND changes LIKE '%2500%'`); n != 1 {
				t.Errorf("%d audit lines, not 1", n)
			}
			if n := must[int64](t)(r.DropSink(ctx, by, "stream")); n != 0 {
				t.Errorf("%d events dropped the second time", n)
			}
		})
	}
}
