package record_test

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

// rejoin makes the claim of a rejoin-request that has just arrived. Types 0 and 2
// are sent in the device's newest live session.
func (w *world) rejoin(t testing.TB, kind joinserver.JoinType, device joinserver.EUI64, count uint16) joinserver.Claim {
	t.Helper()
	c := w.claim(t, w.r, device, count, w.clock.now())
	c.Type, c.DLSettings = kind, 0x80
	c.Request.MIC[0] = ^c.Request.MIC[0] // no rejoin-request has the MIC of a join-request
	if live := must[[]joinserver.Session](t)(w.r.Sessions(context.Background(), device)); len(live) > 0 && kind != joinserver.Rejoin1 {
		c.Session = live[0].JoinNonce
	}
	return c
}

// live gives the JoinNonces of a device's live sessions, the newest first.
func (w *world) live(t testing.TB, device joinserver.EUI64) (nonces []uint32) {
	t.Helper()
	for _, s := range must[[]joinserver.Session](t)(w.r.Sessions(context.Background(), device)) {
		nonces = append(nonces, s.JoinNonce)
	}
	return nonces
}

func (w *world) wantLive(t testing.TB, want ...uint32) {
	t.Helper()
	if got := w.live(t, devEUI(0)); !slices.Equal(got, want) {
		t.Errorf("live sessions %v, not %v", got, want)
	}
}

// RJcount1 never goes back for a JoinEUI, whatever sessions there are, and has
// nothing to do with DevNonces.
func TestRejoinCount1(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 0, 1)
		w.mustJoin(t, devEUI(0), 5)
		for _, s := range []struct {
			count uint16
			want  string
		}{{5, "granted"}, {5, "dev_nonce_replayed"}, {0, "dev_nonce_replayed"}, {6, "granted"}, {65535, "granted"}, {0, "dev_nonce_replayed"}, {65535, "dev_nonce_replayed"}} {
			w.clock.advance(time.Minute)
			c := w.rejoin(t, joinserver.Rejoin1, devEUI(0), s.count)
			if s.want != "granted" {
				w.refuses(t, c, s.want)
			} else if _, err := w.commit(c); err != nil {
				t.Errorf("RJcount1 %d: %v", s.count, err)
			}
		}
		if g := w.mustJoin(t, devEUI(0), 6); g.JoinNonce != 5 {
			t.Errorf("JoinNonce %d, not 5: it counts all", g.JoinNonce)
		}
		w.clock.advance(time.Minute)
		w.refuses(t, w.claim(t, w.r, devEUI(0), 6, w.clock.now()), "dev_nonce_replayed")

		other := w.rejoin(t, joinserver.Rejoin1, devEUI(0), 0) // each JoinEUI has its own
		other.Request.JoinEUI = otherEUI
		must[joinserver.Grant](t)(w.commit(other))

		w.clock.advance(time.Minute)
		update(t, w.r, func(tx *record.Tx) error { return tx.ResetNonces(devEUI(0)) }) // a device that has lost its memory
		must[joinserver.Grant](t)(w.commit(w.rejoin(t, joinserver.Rejoin1, devEUI(0), 0)))
	})
}

// RJcount0 is that of types 0 and 2 together, never goes back within a session, and
// begins anew in the next.
func TestRejoinCount0(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 0, 1)
		w.mustJoin(t, devEUI(0), 1)
		in := func(session uint32, kind joinserver.JoinType, count uint16) joinserver.Claim {
			t.Helper()
			w.clock.advance(time.Minute)
			c := w.rejoin(t, kind, devEUI(0), count)
			c.Session = session
			return c
		}
		must[joinserver.Grant](t)(w.commit(in(1, joinserver.Rejoin0, 0))) // opens 2
		w.refuses(t, in(1, joinserver.Rejoin0, 0), "dev_nonce_replayed")
		w.refuses(t, in(1, joinserver.Rejoin2, 0), "dev_nonce_replayed")
		must[joinserver.Grant](t)(w.commit(in(1, joinserver.Rejoin2, 1))) // opens 3: the device has not heard 2
		w.wantLive(t, 3, 1)
		w.refuses(t, in(1, joinserver.Rejoin0, 1), "dev_nonce_replayed")
		w.refuses(t, in(2, joinserver.Rejoin0, 5), "no_session")
		must[joinserver.Grant](t)(w.commit(in(3, joinserver.Rejoin0, 0))) // it has heard 3: anew; opens 4
		w.wantLive(t, 4, 3)
		w.refuses(t, in(1, joinserver.Rejoin0, 9), "no_session") // an old session's request, replayed
		w.refuses(t, in(3, joinserver.Rejoin2, 0), "dev_nonce_replayed")
		update(t, w.r, func(tx *record.Tx) error { return tx.Revoke(devEUI(0), 3) })
		w.refuses(t, in(3, joinserver.Rejoin0, 9), "no_session")
		update(t, w.r, func(tx *record.Tx) error { return tx.ResetNonces(devEUI(0)) }) // concerns the root keys only
		must[joinserver.Grant](t)(w.commit(in(4, joinserver.Rejoin0, 0)))
		w.refuses(t, in(4, joinserver.Rejoin0, 0), "dev_nonce_replayed")
	})
}

// A program of the version before writes sessions without knowing RJcount0 or
// confirmations: both hold for their own session only.
func TestOlderProgramsSessions(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 0, 1)
		w.mustJoin(t, devEUI(0), 1)
		w.mustJoin(t, devEUI(0), 2)
		update(t, w.r, func(tx *record.Tx) error { return tx.Confirm(devEUI(0), 2) })
		must[joinserver.Grant](t)(w.commit(w.rejoin(t, joinserver.Rejoin0, devEUI(0), 7))) // opens 3
		w.exec(t, `UPDATE sessions SET join_nonce = 4, live = TRUE, dev_nonce = 3 WHERE join_nonce = 2`)
		live := must[[]joinserver.Session](t)(w.r.Sessions(context.Background(), devEUI(0)))
		if len(live) != 2 || live[0].JoinNonce != 4 || live[0].Confirmed || live[1].Confirmed {
			t.Errorf("sessions %+v", live)
		}
		w.clock.advance(time.Minute)
		must[joinserver.Grant](t)(w.commit(w.rejoin(t, joinserver.Rejoin0, devEUI(0), 0))) // opens 5
		w.wantLive(t, 5, 4)
		must[joinserver.Grant](t)(w.commit(w.rejoin(t, joinserver.Rejoin1, devEUI(0), 0)))
		w.wantLive(t, 6, 5) // 4 was not confirmed, the one before it in its slot was
	})
}

// A rejoin-request of type 1 belongs to no session: the confirmed one stays until
// the device is known to use another.
func TestRejoin1KeepsTheConfirmedSession(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 0, 1)
		w.mustJoin(t, devEUI(0), 1)
		update(t, w.r, func(tx *record.Tx) error { return tx.Confirm(devEUI(0), 1) })
		for count := range uint16(3) {
			must[joinserver.Grant](t)(w.commit(w.rejoin(t, joinserver.Rejoin1, devEUI(0), count)))
		}
		w.wantLive(t, 4, 1)
		w.mustJoin(t, devEUI(0), 2) // a device that joins has left its session
		w.wantLive(t, 5, 4)
	})
}

func TestLateCopyOfRejoin(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 0, 1)
		w.mustJoin(t, devEUI(0), 1)
		for _, kind := range []joinserver.JoinType{joinserver.Rejoin0, joinserver.Rejoin1, joinserver.Rejoin2} {
			at := w.clock.now()
			copied := w.rejoin(t, kind, devEUI(0), 3)
			must[joinserver.Grant](t)(w.commit(copied))
			copied.Deadline = at.Add(time.Hour)
			forged := copied
			forged.Request.MIC[1]++
			w.refuses(t, forged, "dev_nonce_replayed")
			w.clock.set(at.Add(6 * time.Second)) // the RX2 of the frame that was answered
			w.refuses(t, copied, "late copy")
			w.clock.advance(time.Millisecond)
			w.refuses(t, copied, "dev_nonce_replayed")
		}
	})
}

// A network server's join needs no gateway, and brings its own DevAddr.
func TestNetworkServersClaim(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 0, 3)
		ask := func(device int, devNonce uint16) joinserver.Claim {
			c := w.claim(t, w.r, devEUI(device), devNonce, w.clock.now())
			c.Gateway, c.Server, c.NetID = joinserver.Gateway{}, "ns.example", joinserver.NetID{0xc0, 0, 1}
			c.DevAddr = &joinserver.DevAddr{0xfc, 1, 2, 3}
			return c
		}
		c := ask(0, 1)
		update(t, w.r, func(tx *record.Tx) error { // nor does one named like none matter
			return tx.InsertGateway(record.NewGateway{Account: owner, BandPlanGroup: planGroup})
		})
		if g := must[joinserver.Grant](t)(w.commit(c)); g.DevAddr != *c.DevAddr {
			t.Errorf("DevAddr %s", g.DevAddr)
		}
		if g := must[joinserver.Grant](t)(w.commit(ask(1, 1))); g.DevAddr != *c.DevAddr { // the network server knows what it does
			t.Errorf("DevAddr %s", g.DevAddr)
		}
		if n := w.r.SharedAddresses(); n != 0 {
			t.Errorf("%d addresses counted as shared", n)
		}
		live := must[[]joinserver.Session](t)(w.r.Sessions(context.Background(), devEUI(0)))
		if len(live) != 1 || live[0].Gateway != (joinserver.EUI64{}) || live[0].DevAddr != *c.DevAddr || live[0].NetID != c.NetID {
			t.Errorf("sessions %+v", live)
		}
		moved := ask(2, 1)
		update(t, w.r, func(tx *record.Tx) error {
			p := localPermission("p")
			p.ID, p.RxDelay = w.permission, 3*time.Second
			return tx.UpdatePermission(p)
		})
		w.refuses(t, moved, "policy moved")
	})
}

// An address that a network server brings is not given to another device, and does
// not disturb the giving of others, in the same round and later.
func TestBroughtAddressIsNotGiven(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		const devices = 50 // of 128 addresses
		w.importNodes(t, w.r, band.MAC1_0_3, 0, devices)
		claims := make([]joinserver.Claim, devices)
		model := w.claim(t, w.r, devEUI(0), 1, w.clock.now())
		brought := smallest.Address(0)
		for round := range uint16(3) {
			for i := range claims {
				claims[i] = model
				claims[i].NetID, claims[i].Request.DevNonce = smallest, round
				claims[i].Request.DevEUI, claims[i].Policy.Node.DevEUI = devEUI(i), devEUI(i)
			}
			addr := smallest.Address(uint32(10*round + 5))
			claims[7].Gateway, claims[7].DevAddr = joinserver.Gateway{}, &addr
			grants, errs := w.r.CommitTogether(claims)
			for i, err := range errs {
				check(t, err)
				if i != 7 && grants[i].DevAddr == addr {
					t.Errorf("round %d: the address that a network server brought was given away", round)
				}
				if n := binary.BigEndian.Uint32(grants[i].DevAddr[:]) - binary.BigEndian.Uint32(brought[:]); n >= 128 {
					t.Errorf("DevAddr %s", grants[i].DevAddr)
				}
			}
			if n := one[int](t, w.store.raw(t), `SELECT COUNT(*) - COUNT(DISTINCT dev_addr) FROM sessions WHERE live AND dev_eui <> $1`, devEUI(7).String()); n != 0 {
				t.Errorf("round %d: %d live sessions share a DevAddr", round, n)
			}
		}
	})
}

// The events of a device keep the order of its joins when the clocks of two
// programs differ; a clock that was far ahead for once is not followed.
func TestEventsInOrderBetweenClocks(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 2)
		ahead := w.store.options
		ahead.Now = func() time.Time { return w.clock.now().Add(20 * time.Second) }
		wrong := w.store.options
		wrong.Now = func() time.Time { return w.clock.now().Add(24 * 365 * time.Hour) }
		joinBy := func(o record.Options, device int, devNonce uint16) {
			c := w.claim(t, w.r, devEUI(device), devNonce, w.clock.now())
			c.Deadline = w.clock.now().Add(24 * 366 * time.Hour)
			must[joinserver.Grant](t)(open(t, o).Commit(context.Background(), c))
		}
		joinBy(ahead, 0, 1)
		joinBy(w.store.options, 0, 2)
		joinBy(wrong, 1, 1)
		joinBy(w.store.options, 1, 2)
		var order []uint32
		for _, e := range must[[]joinserver.OutboxEvent](t)(w.r.Pending(context.Background(), 10)) {
			if e.DevEUI == devEUI(0) {
				order = append(order, e.JoinNonce)
			}
		}
		if !slices.Equal(order, []uint32{1, 2}) {
			t.Errorf("JoinNonces in the order of delivery: %v", order)
		}
		if s := must[[]joinserver.Session](t)(w.r.Sessions(context.Background(), devEUI(1))); !s[0].Joined.Equal(noon) {
			t.Errorf("joined at %v: a wrong clock lasts for ever", s[0].Joined)
		}
	})
}
