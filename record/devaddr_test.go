package record_test

import (
	"encoding/binary"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"
)

// smallest is a NetID of type 7: 128 addresses.
var smallest = joinserver.NetID{0xe0, 0, 1}

// joinUnder commits a join under a NetID.
func (w *world) joinUnder(t testing.TB, id joinserver.NetID, device joinserver.EUI64, devNonce uint16) joinserver.Grant {
	t.Helper()
	c := w.claim(t, w.r, device, devNonce, w.clock.now())
	c.NetID = id
	return must[joinserver.Grant](t)(w.commit(c))
}

func TestDevAddrBelongsToTheNetID(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 8)
		for kind := range 8 {
			id := joinserver.NetID{byte(kind << 5), 0, 0x2a}
			addr := w.joinUnder(t, id, devEUI(kind), 1).DevAddr
			zero := id.Address(0)
			if n := binary.BigEndian.Uint32(addr[:]) - binary.BigEndian.Uint32(zero[:]); n >= id.AddressCount() || id.Address(n) != addr {
				t.Errorf("NetID %s: DevAddr %s is not of its network", id, addr)
			}
		}
	})
}

// In a space with room no two live sessions share an address, however small it
// is: 64 devices with two sessions each fill 128 addresses, and go on joining.
func TestDevAddrsFillTheSpace(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		const devices = 64
		w.importNodes(t, w.r, band.MAC1_0_3, 0, devices)
		db := w.store.raw(t)
		last := map[int]joinserver.DevAddr{}
		for devNonce := range uint16(4) {
			for i := range devices {
				addr := w.joinUnder(t, smallest, devEUI(i), devNonce).DevAddr
				if addr == last[i] {
					t.Fatalf("device %d has got %s twice running", i, addr)
				}
				last[i] = addr
			}
			if n := one[int](t, db, `SELECT COUNT(*) - COUNT(DISTINCT dev_addr) FROM sessions WHERE live`); n != 0 {
				t.Fatalf("%d live sessions share an address in a space with room", n)
			}
		}
		if n := w.r.SharedAddresses(); n != 0 {
			t.Errorf("%d addresses counted as shared", n)
		}
	})
}

func TestDevAddrSharedWhenFull(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		const addresses = 128
		w.importNodes(t, w.r, band.MAC1_0_3, 0, addresses+2)
		got := map[joinserver.DevAddr]int{}
		for i := range addresses {
			got[w.joinUnder(t, smallest, devEUI(i), 1).DevAddr] = i
			w.clock.advance(time.Second)
		}
		if len(got) != addresses || w.r.SharedAddresses() != 0 {
			t.Fatalf("%d addresses for %d devices, %d shared", len(got), addresses, w.r.SharedAddresses())
		}
		w.clock.advance(time.Second)
		for i := range 2 { // the oldest, then the next
			shared := w.joinUnder(t, smallest, devEUI(addresses+i), 1).DevAddr
			if owner := got[shared]; owner != i {
				t.Errorf("shared the address of device %d, not of device %d", owner, i)
			}
			w.clock.advance(time.Second)
		}
		if n := w.r.SharedAddresses(); n != 2 {
			t.Errorf("%d addresses counted as shared, not 2", n)
		}
		// A node that goes gives its address back.
		update(t, w.r, func(tx *record.Tx) error { return tx.DeleteNode(devEUI(50)) })
		if addr := w.joinUnder(t, smallest, devEUI(51), 2).DevAddr; got[addr] != 50 {
			t.Errorf("got the address of device %d, not the free one of device 50", got[addr])
		}
		if n := w.r.SharedAddresses(); n != 2 {
			t.Errorf("%d addresses counted as shared, not 2", n)
		}
	})
}

// More joins at once than there are addresses: they are shared evenly.
func TestDevAddrsOfOneBigRound(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		const devices = 512
		w.importNodes(t, w.r, band.MAC1_0_3, 0, devices)
		claims := make([]joinserver.Claim, devices)
		for i := range claims {
			claims[i] = w.claim(t, w.r, devEUI(i), 1, w.clock.now())
			claims[i].NetID = smallest
		}
		together(devices, func(i int) {
			if _, err := w.commit(claims[i]); err != nil {
				t.Error(err)
			}
		})
		db := w.store.raw(t)
		if n := one[int](t, db, `SELECT COUNT(DISTINCT dev_addr) FROM sessions`); n != 128 {
			t.Errorf("%d addresses in use, not all 128", n)
		}
		if n := one[int](t, db, `SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM sessions GROUP BY dev_addr) AS counted`); n > 8 {
			t.Errorf("one address is shared by %d sessions, where 4 would do", n)
		}
		if n := w.r.SharedAddresses(); n != devices-128 {
			t.Errorf("%d addresses counted as shared, not %d", n, devices-128)
		}
	})
}
