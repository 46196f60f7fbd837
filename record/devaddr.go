package record

import (
	"encoding/binary"
	"maps"
	"slices"

	"joingate/joinserver"
)

// noAddress stands for the DevAddr of a session that is not there.
const noAddress = -1

const (
	sqlLiveAddresses = `SELECT DISTINCT dev_addr FROM sessions WHERE live AND dev_addr >= $1 AND dev_addr < $2 ORDER BY dev_addr`
	sqlHolders       = `SELECT COUNT(*) FROM sessions WHERE live AND dev_addr = $1`
	sqlOldest        = `
SELECT dev_addr FROM sessions WHERE live AND dev_addr >= $1 AND dev_addr < $2
GROUP BY dev_addr ORDER BY MAX(joined_ms), dev_addr LIMIT $3`
)

// addressSpace gives the DevAddrs of one NetID to the joins of one round.
//
// It walks through the space from where the last round ended, so that an address
// rests as long as possible before it is given again, and that addresses given
// one after the other lie side by side on disk. A round looks at each address
// once at most: in a full space it costs one walk, whatever its size.
type addressSpace struct {
	round      *joinRound
	first, end int64
	from       int64 // where to look next
	unseen     int64 // addresses that this round has not looked at
	width      int64 // how many to look at next
	free       []int64
	given      map[int64]bool // in this round; their sessions are not written yet
	released   map[int64]int  // by how many sessions that are over since this round
	stack      []int64        // of the released ones, to look at when nothing is free
	oldest     []int64        // of a full space, unused for longest first
}

const maxWidth = 8192

func newAddressSpace(round *joinRound, netID joinserver.NetID, roundSize int) *addressSpace {
	first, count := addrNumber(netID.Address(0)), int64(netID.AddressCount())
	return &addressSpace{
		round: round, first: first, end: first + count, from: first + round.record.addrCursor%count, unseen: count,
		width: min(int64(2*roundSize+16), maxWidth), given: make(map[int64]bool, roundSize), released: map[int64]int{},
	}
}

// bring notes that a claim of the round has an address already.
func (a *addressSpace) bring(addr int64) {
	if a.has(addr) {
		a.given[addr] = true
	}
}

func (a *addressSpace) has(addr int64) bool { return a.first <= addr && addr < a.end }

// allocate gives a node an address that no live session has and that is not last,
// the node's own. The session that ends makes room for the new one. When the space
// is full, the address unused for longest is shared, and counted.
func (a *addressSpace) allocate(last int64, ends sessionOnRecord) (int64, error) {
	if ends.live && a.has(ends.devAddr) {
		a.released[ends.devAddr]++
		a.stack = append(a.stack, ends.devAddr)
	}
	addr, err := a.takeFree(last)
	if err == nil && addr == noAddress {
		addr, err = a.takeReleased(last)
	}
	if err == nil && addr == noAddress {
		addr, err = a.share(last)
		a.round.shared++
	}
	a.given[addr] = true
	return addr, err
}

// takeFree gives the next free address but own, or noAddress.
func (a *addressSpace) takeFree(own int64) (int64, error) {
	for {
		if i := slices.IndexFunc(a.free, func(addr int64) bool { return addr != own && !a.given[addr] }); i >= 0 {
			addr := a.free[i]
			a.free = slices.Delete(a.free, i, i+1)
			a.round.record.addrCursor = addr + 1 - a.first
			return addr, nil
		}
		if a.unseen == 0 {
			return noAddress, nil
		}
		if err := a.look(); err != nil {
			return noAddress, err
		}
	}
}

// look finds what is free in the next part of the space.
func (a *addressSpace) look() error {
	to := min(a.from+min(a.width, a.unseen), a.end)
	next := a.from
	freeUntil := func(end int64) {
		for ; next < end; next++ {
			if !a.given[next] {
				a.free = append(a.free, next)
			}
		}
	}
	err := a.query(sqlLiveAddresses, func(live int64) {
		freeUntil(live)
		next = live + 1
	}, a.from, to)
	if err != nil {
		return err
	}
	freeUntil(to)
	a.unseen -= to - a.from
	a.width = min(2*a.width, maxWidth)
	if a.from = to; to == a.end {
		a.from = a.first
	}
	return nil
}

// takeReleased gives an address but own that only sessions had which are over
// since this round, or noAddress.
func (a *addressSpace) takeReleased(own int64) (int64, error) {
	for i := len(a.stack) - 1; i >= 0; i-- {
		addr := a.stack[i]
		if addr == own {
			continue
		}
		a.stack = slices.Delete(a.stack, i, i+1)
		if a.given[addr] {
			continue
		}
		var holders int
		if err := a.round.volley.each(sqlHolders, func(r row) error { return r.Scan(&holders) }, addr); err != nil {
			return noAddress, err
		}
		if holders == a.released[addr] {
			return addr, nil
		}
	}
	return noAddress, nil
}

// share gives the address unused for longest but own. Those given in this round
// come last, so that a round larger than the space goes round in it.
func (a *addressSpace) share(own int64) (int64, error) {
	if a.oldest == nil {
		err := a.query(sqlOldest, func(addr int64) {
			if !a.given[addr] {
				a.oldest = append(a.oldest, addr)
			}
		}, a.first, a.end, 2*maxBatch)
		if err != nil {
			return noAddress, err
		}
		a.oldest = slices.AppendSeq(a.oldest, maps.Keys(a.given))
	}
	i := 0
	if a.oldest[i] == own {
		i++
	}
	addr := a.oldest[i]
	a.oldest = append(slices.Delete(a.oldest, i, i+1), addr)
	return addr, nil
}

// query runs a statement that answers with addresses.
func (a *addressSpace) query(statement string, add func(int64), args ...any) error {
	return a.round.volley.each(statement, func(r row) error {
		var addr int64
		if err := r.Scan(&addr); err != nil {
			return err
		}
		add(addr)
		return nil
	}, args...)
}

// SharedAddresses counts the DevAddrs that were given while another live session
// had them, since the record was opened: the NetID has too few for its devices.
func (r *Record) SharedAddresses() uint64 { return r.sharedAddresses.Load() }

func addrNumber(a joinserver.DevAddr) int64 { return int64(binary.BigEndian.Uint32(a[:])) }

func addrOf(number int64) (a joinserver.DevAddr) {
	binary.BigEndian.PutUint32(a[:], uint32(number))
	return a
}
