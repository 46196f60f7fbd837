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

// An address that two sessions share is free when both are over, not before.
func TestSharedDevAddrIsNotFree(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		const addresses = 128
		w.importNodes(t, w.r, band.MAC1_0_3, 0, addresses+1)
		first := w.joinUnder(t, smallest, devEUI(0), 1).DevAddr
		w.clock.advance(time.Second)
		joinAtOnce(t, w, smallest, 1, addresses, 1)
		w.clock.advance(time.Second)
		if got := w.joinUnder(t, smallest, devEUI(addresses), 1).DevAddr; got != first {
			t.Fatalf("shared %s, not the oldest, %s", got, first)
		}
		for devNonce := range uint16(2) { // in the end, device 0 has the shared address no more, the last device still has it
			w.clock.advance(time.Second)
			w.joinUnder(t, smallest, devEUI(0), 2+devNonce)
		}
		if n := w.r.SharedAddresses(); n != 3 {
			t.Errorf("%d addresses counted as shared, not 3", n)
		}
	})
}

// The address of a session that is over is not free if it was shared with
// another device in the same round.
func TestDevAddrSharedAndReleasedInOneRound(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		const addresses = 128
		w.importNodes(t, w.r, band.MAC1_0_3, 0, addresses)
		for devNonce := range uint16(2) { // the first address of device 1 becomes the oldest
			w.joinUnder(t, smallest, devEUI(1), devNonce)
			w.clock.advance(time.Second)
		}
		joinAtOnce(t, w, smallest, 2, addresses, 0)
		w.clock.advance(time.Second)
		both := joinAtOnce(t, w, smallest, 0, 2, 2)
		if both[0] == both[1] {
			t.Errorf("both devices got %s", both[0])
		}
		if n := w.r.SharedAddresses(); n != 2 {
			t.Errorf("%d addresses counted as shared, not 2", n)
		}
	})
}

// An address that has become free rests while there are others.
func TestDevAddrRests(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 100)
		given := map[joinserver.DevAddr]bool{}
		for i := range 100 {
			addr := w.joinUnder(t, smallest, devEUI(i), 1).DevAddr
			if given[addr] {
				t.Fatalf("join %d got %s, which was just given back", i, addr)
			}
			given[addr] = true
			update(t, w.r, func(tx *record.Tx) error { return tx.DeleteNode(devEUI(i)) })
		}
	})
}

// A node that was removed and imported again does not get its last address, even
// if that is the only free one; another does.
func TestDevAddrAfterRemoval(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		const addresses = 128
		w.importNodes(t, w.r, band.MAC1_0_3, 0, addresses+1)
		last := joinAtOnce(t, w, smallest, 0, addresses, 1)[5]
		update(t, w.r, func(tx *record.Tx) error { return tx.DeleteNode(devEUI(5)) })
		w.importNodes(t, w.r, band.MAC1_0_3, 5, 6)
		if got := w.joinUnder(t, smallest, devEUI(5), 2).DevAddr; got == last {
			t.Errorf("got %s twice running", got)
		}
		if got := w.joinUnder(t, smallest, devEUI(addresses), 1).DevAddr; got != last {
			t.Errorf("got %s, not the free %s", got, last)
		}
		if n := w.r.SharedAddresses(); n != 1 {
			t.Errorf("%d addresses counted as shared, not 1", n)
		}
	})
}

// More joins at once than there are addresses: they are shared evenly.
func TestDevAddrsOfOneBigRound(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		const devices, addresses = 512, 128
		w.importNodes(t, w.r, band.MAC1_0_3, 0, devices)
		holders := map[joinserver.DevAddr]int{}
		for _, addr := range joinAtOnce(t, w, smallest, 0, devices, 1) {
			holders[addr]++
		}
		for addr, n := range holders {
			if n != devices/addresses {
				t.Errorf("%s is shared by %d sessions, not by %d", addr, n, devices/addresses)
			}
		}
		if n := w.r.SharedAddresses(); n != devices-addresses {
			t.Errorf("%d addresses counted as shared, not %d", n, devices-addresses)
		}
	})
}
