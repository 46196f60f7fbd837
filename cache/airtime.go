package cache

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"joingate/joinserver"
)

const (
	// airtimeShards is how many parts of a ledger can be written at a time.
	airtimeShards = 64
	// gatewaysPerShard bounds the memory: 131,072 gateways that have sent within the
	// hour. Beyond that the duty cycle of some begins anew.
	gatewaysPerShard = 2048
	// sweepEvery is how often gateways are looked for that have not sent for long.
	sweepEvery = time.Minute
)

// Airtime is the ledger of one instance: which of its gateways sends when, and how
// much each has sent within the last hour. A gateway that has not sent for over an
// hour costs nothing.
//
// It promises, for what it has been told of:
//
//   - What Book enters begins at least AirtimeGuard after the end of every other
//     transmission of its gateway, and ends as long before the next.
//   - What Book enters makes no hour (band.DutyWindow) hold more airtime in its
//     sub-band than the limit. Airtime is kept in buckets of ten seconds and
//     counted as a whole, so it refuses up to ten seconds too long.
//   - Book enters the first option of which both hold.
//
// A transmission may be planned a minute ahead. What Sent enters may overlap and
// exceed; what is booked after it keeps to both rules.
type Airtime struct {
	now    func() time.Time
	shards [airtimeShards]airtimeShard
}

type airtimeShard struct {
	mu       sync.Mutex
	gateways map[joinserver.EUI64]*ledger
	swept    int64
}

var _ joinserver.Airtime = (*Airtime)(nil)

// NewAirtime takes the clock to go by: the one that transmissions are planned by.
func NewAirtime(now func() time.Time) *Airtime { return &Airtime{now: now} }

// Book implements joinserver.Airtime.
func (a *Airtime) Book(_ context.Context, options []joinserver.Transmission) int {
	now := a.now().UnixMicro()
	for i, t := range options {
		if a.shard(t.Gateway).book(t, now) {
			return i
		}
	}
	return -1
}

// Release implements joinserver.Airtime.
func (a *Airtime) Release(_ context.Context, t joinserver.Transmission) {
	a.shard(t.Gateway).release(t, a.now().UnixMicro())
}

// Sent implements joinserver.Airtime.
func (a *Airtime) Sent(_ context.Context, t joinserver.Transmission) {
	a.shard(t.Gateway).sent(t, a.now().UnixMicro())
}

// shard spreads gateways whose EUIs follow one another.
func (a *Airtime) shard(gateway joinserver.EUI64) *airtimeShard {
	const golden = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: Knuth, TAOCP 6.4
	return &a.shards[binary.BigEndian.Uint64(gateway[:])*golden>>(64-6)]
}

func (s *airtimeShard) book(t joinserver.Transmission, now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger(t.Gateway, now).book(t, now)
}

// allowed gives the indexes of the options that the duty cycle allows.
func (a *Airtime) allowed(options []joinserver.Transmission) []int {
	now := a.now().UnixMicro()
	indexes := make([]int, 0, len(options))
	for i, t := range options {
		if a.shard(t.Gateway).allows(t, now) {
			indexes = append(indexes, i)
		}
	}
	return indexes
}

func (s *airtimeShard) allows(t joinserver.Transmission, now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.gateways[t.Gateway]
	return l == nil || l.allows(t, now)
}

func (s *airtimeShard) sent(t joinserver.Transmission, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger(t.Gateway, now).sent(t, now)
}

func (s *airtimeShard) release(t joinserver.Transmission, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.gateways[t.Gateway]; l != nil {
		l.release(t, now)
	}
}

// ledger finds a gateway's, or begins it.
func (s *airtimeShard) ledger(gateway joinserver.EUI64, now int64) *ledger {
	if now-s.swept >= sweepEvery.Microseconds() || now < s.swept {
		s.sweep(now)
	}
	l := s.gateways[gateway]
	if l == nil {
		if len(s.gateways) >= gatewaysPerShard {
			s.makeRoom()
		}
		l = new(ledger)
		if s.gateways == nil {
			s.gateways = make(map[joinserver.EUI64]*ledger)
		}
		s.gateways[gateway] = l
	}
	return l
}

// sweep forgets gateways that have not sent for so long that it does not count.
func (s *airtimeShard) sweep(now int64) {
	s.swept = now
	for gateway, l := range s.gateways {
		if l.idle(now) {
			delete(s.gateways, gateway)
		}
	}
}

// makeRoom forgets the gateway that has not sent for longest, of a few.
func (s *airtimeShard) makeRoom() {
	const few = 16
	var oldest joinserver.EUI64
	var until int64
	seen := 0
	for gateway, l := range s.gateways { // at random
		if seen == 0 || l.until < until {
			oldest, until = gateway, l.until
		}
		if seen++; seen == few {
			break
		}
	}
	delete(s.gateways, oldest)
}
