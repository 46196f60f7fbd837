package record_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

func (w *world) sessions(t testing.TB, f record.SessionFilter) (list []joinserver.Session, total int64) {
	t.Helper()
	if f.Limit == 0 {
		f.Limit = joinserver.NoLimit
	}
	check(t, w.r.View(context.Background(), func(tx *record.Tx) (err error) {
		list, total, err = tx.SessionsOf(f)
		return err
	}))
	return list, total
}

func TestSessionsAreWhatWasOpened(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 0, 1)
		c := w.claim(t, w.r, devEUI(0), 77, w.clock.now())
		c.CFList, c.DLSettings, c.RxDelay = make([]byte, 16), 0x92, 3*time.Second
		g := must[joinserver.Grant](t)(w.commit(c))
		live := must[[]joinserver.Session](t)(w.r.Sessions(context.Background(), devEUI(0)))
		if len(live) != 1 {
			t.Fatalf("%d sessions", len(live))
		}
		if want := c.Opened(g, live[0].Joined); !live[0].Joined.Equal(noon) || !reflect.DeepEqual(live[0], want) {
			t.Errorf("session %+v, not %+v", live[0], want)
		}
		if none := must[[]joinserver.Session](t)(w.r.Sessions(context.Background(), devEUI(5))); len(none) != 0 {
			t.Errorf("sessions of a device that never joined: %+v", none)
		}
	})
}

// The session before stays until the newest is confirmed; its DevAddr is free then.
func TestConfirm(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 0, 70)
		ctx, by := context.Background(), joinserver.Write{Action: "confirm", At: noon}
		w.mustJoin(t, devEUI(0), 1)
		w.mustJoin(t, devEUI(0), 2)
		w.wantLive(t, 2, 1)
		var notNewest *record.NotNewestError
		if err := w.r.Confirm(ctx, by, devEUI(0), 1); !errors.As(err, &notNewest) || notNewest.Newer != 2 {
			t.Errorf("the older session was confirmed: %v", err)
		}
		if err := w.r.Confirm(ctx, by, devEUI(0), 3); !errors.Is(err, joinserver.ErrNotFound) {
			t.Errorf("a session that there is not was confirmed: %v", err)
		}
		w.wantLive(t, 2, 1)
		check(t, w.r.Confirm(ctx, by, devEUI(0), 2))
		w.wantLive(t, 2)
		lines := w.counts(t)["audit"]
		check(t, w.r.Confirm(ctx, by, devEUI(0), 2))
		if n := w.counts(t)["audit"]; n != lines {
			t.Error("what is confirmed already was written once more")
		}
		if s, _ := w.sessions(t, record.SessionFilter{}); !s[0].Confirmed {
			t.Error("the session is not confirmed")
		}
		if err := w.r.Confirm(ctx, by, devEUI(0), 1); !errors.Is(err, joinserver.ErrNotFound) {
			t.Errorf("a session that has ended was confirmed: %v", err)
		}
		w.mustJoin(t, devEUI(0), 3)
		w.wantLive(t, 3, 2)
		// 128 addresses: confirmed sessions leave room for more devices.
		joinAtOnce(t, w, smallest, 1, 61, 10)
		joinAtOnce(t, w, smallest, 1, 61, 11)
		update(t, w.r, func(tx *record.Tx) (err error) {
			for i := 1; i < 61; i++ {
				err = errors.Join(err, tx.Confirm(devEUI(i), 2))
			}
			return err
		})
		joinAtOnce(t, w, smallest, 61, 70, 10)
		joinAtOnce(t, w, smallest, 61, 70, 11)
		if n := w.r.SharedAddresses(); n != 0 {
			t.Errorf("%d addresses shared: those of ended sessions are not free", n)
		}
		if n := one[int](t, w.store.raw(t), `SELECT COUNT(*) - COUNT(DISTINCT dev_addr) FROM sessions WHERE live`); n != 0 {
			t.Errorf("%d live sessions share an address", n)
		}
	})
}

func TestRevoke(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 0, 1)
		ctx, by := context.Background(), joinserver.Write{Action: "revoke", At: noon}
		w.mustJoin(t, devEUI(0), 1)
		w.mustJoin(t, devEUI(0), 2)
		check(t, w.r.Revoke(ctx, by, devEUI(0), 2))
		w.wantLive(t, 1)
		if err := w.r.Revoke(ctx, by, devEUI(0), 2); !errors.Is(err, joinserver.ErrNotFound) {
			t.Errorf("revoked twice: %v", err)
		}
		if g := w.mustJoin(t, devEUI(0), 3); g.JoinNonce != 3 {
			t.Errorf("JoinNonce %d, not 3: it goes on", g.JoinNonce)
		}
		w.wantLive(t, 3, 1)
		check(t, w.r.Revoke(ctx, by, devEUI(0), 0))
		w.wantLive(t)
		if all, _ := w.sessions(t, record.SessionFilter{Ended: true}); len(all) != 2 || all[0].JoinNonce != 3 || all[0].Live {
			t.Errorf("sessions on record: %+v", all)
		}
		if g := w.mustJoin(t, devEUI(0), 4); g.JoinNonce != 4 {
			t.Errorf("JoinNonce %d, not 4", g.JoinNonce)
		}
		if n := one[int](t, w.store.raw(t), `SELECT COUNT(*) FROM audit WHERE action = 'revoke' AND changes LIKE '%revoked%'`); n != 2 {
			t.Errorf("%d audit lines, not 2", n)
		}
	})
}

// Dead sessions do not make their address look free while another device has it.
func TestAddressOfARevokedSession(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		const devices = 64
		w.importNodes(t, w.r, band.MAC1_0_3, 0, devices+1)
		for devNonce := range uint16(2) { // all 128 addresses
			for i := range devices {
				w.joinUnder(t, smallest, devEUI(i), devNonce)
			}
		}
		update(t, w.r, func(tx *record.Tx) error { return tx.Revoke(devEUI(0), 0) })
		w.joinUnder(t, smallest, devEUI(devices), 0)
		w.joinUnder(t, smallest, devEUI(devices), 1) // both are taken again
		shared := w.r.SharedAddresses()
		w.joinUnder(t, smallest, devEUI(0), 5)
		if n := w.r.SharedAddresses(); n != shared+1 {
			t.Errorf("an address that another device has was given as a free one")
		}
	})
}

func TestListOfSessions(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 6)
		for i := range 5 {
			w.mustJoin(t, devEUI(i), 1)
		}
		last := w.mustJoin(t, devEUI(3), 2)
		if list, total := w.sessions(t, record.SessionFilter{Account: owner}); total != 6 || len(list) != 6 {
			t.Errorf("%d sessions of %d", len(list), total)
		}
		if _, total := w.sessions(t, record.SessionFilter{Account: otherOne}); total != 0 {
			t.Errorf("%d sessions of another account", total)
		}
		var seen []joinserver.Session
		for offset := int64(0); offset < 6; offset += 4 {
			page, total := w.sessions(t, record.SessionFilter{Account: owner, Page: joinserver.Page{Limit: 4, Offset: offset}})
			if total != 6 {
				t.Errorf("total %d", total)
			}
			seen = append(seen, page...)
		}
		for i := range seen[1:] {
			a, b := seen[i], seen[i+1]
			if a.DevEUI.String() > b.DevEUI.String() || a.DevEUI == b.DevEUI && a.JoinNonce <= b.JoinNonce {
				t.Errorf("%s-%d comes before %s-%d", a.DevEUI, a.JoinNonce, b.DevEUI, b.JoinNonce)
			}
		}
		if list, _ := w.sessions(t, record.SessionFilter{DevAddr: &last.DevAddr}); len(list) != 1 || list[0].DevEUI != devEUI(3) || list[0].JoinNonce != 2 {
			t.Errorf("by DevAddr: %+v", list)
		}
		device := devEUI(3)
		if list, _ := w.sessions(t, record.SessionFilter{DevEUI: &device}); len(list) != 2 {
			t.Errorf("by DevEUI: %+v", list)
		}
	})
}
