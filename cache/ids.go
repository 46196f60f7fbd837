package cache

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// maxID: bridges tell commands apart by their id modulo 65,536, over all their
	// gateways, and take 0 for none.
	maxID = 1<<16 - 1
	// idLife is for how long bridges (3.14, 4.1) remember a command.
	idLife = 15 * time.Second
	// numbersAhead is what is left out when instances begin to go alone, and when
	// they come together again: what all of them may use in half a second, until each
	// has seen it.
	numbersAhead = 2048
	// slotLife is how long an instance keeps its slot without a command, and
	// slotRenewal how often it asks for it.
	slotLife, slotRenewal = time.Minute, 10 * time.Second
	// sampleEvery is how often an instance remembers which number it had.
	sampleEvery = 100 * time.Millisecond
)

// DownlinkIDs gives downlink commands ids that do not collide between the
// instances behind one broker.
type DownlinkIDs interface {
	// Next gives an id, 1 to 65,535. It cannot fail. Ask once per command, before it
	// is published. It takes a round trip, and at most Timeout.
	//
	// Ids are given out one by one from a counter that all share, so that one comes
	// again after all others have: no earlier than 15 seconds, which is how long
	// bridges remember a command, up to 4,369 commands a second over all instances.
	// Beyond that the oldest is used again, and the event Reused observed.
	//
	// When the counter is lost, each instance goes on alone, with every third id, or
	// every fifteenth when more than three instances share it: they still do not
	// collide, up to 1,100 or 220 commands a second of each. Of more than 15
	// instances the others draw at random, and so does one that had no command in
	// the minute before the loss.
	Next(ctx context.Context) uint16
}

// counter gives out numbers, each once.
type counter interface {
	// take gives the next number. It is greater than least, and than every other one
	// since the counter was lost last.
	take(ctx context.Context, least int64) (int64, error)
	// slot claims a slot for the name, or keeps it, and tells which are in use: all
	// are below highest+1. There are idSlots; -1: none is free.
	slot(ctx context.Context, name string) (slot, highest int, err error)
}

// Slots divide the ids when instances go alone. Both numbers divide maxID, so that
// ids fall to the same slot again after a turn; and one divides the other.
const fewSlots, idSlots = 3, 15

// sharedIDs are one instance's.
type sharedIDs struct {
	counter counter
	name    string
	now     func() time.Time
	reused  func() // is told of an id that is used again too early

	mu      sync.Mutex
	last    int64 // the greatest number seen
	alone   bool
	slot    int64 // own slot of slots; -1: none
	slots   int64
	renewed time.Time // of the slot
	samples []sample  // of the last idLife, and one older
}

// sample says which number was current once.
type sample struct {
	at     time.Time
	number int64
}

func newSharedIDs(c counter, name string, now func() time.Time, reused func()) *sharedIDs {
	return &sharedIDs{counter: c, name: name, now: now, reused: reused, slot: -1, last: -1}
}

// Next implements DownlinkIDs.
func (s *sharedIDs) Next(ctx context.Context) uint16 {
	s.renew(ctx)
	number, err := s.counter.take(ctx, s.seen())
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		number = s.nextAlone()
	} else {
		s.alone = false
	}
	s.last = max(s.last, number)
	if s.isEarly(number) {
		s.reused()
	}
	return idOf(number)
}

func (s *sharedIDs) seen() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// renew keeps the slot. Who finds it due asks for all, and nobody waits for him.
func (s *sharedIDs) renew(ctx context.Context) {
	if !s.isRenewalDue() {
		return
	}
	slot, highest, err := s.counter.slot(ctx, s.name)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slot, s.slots = int64(slot), idSlots
	if highest < fewSlots {
		s.slots = fewSlots
	}
}

func (s *sharedIDs) isRenewalDue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	due := !s.alone && (s.renewed.IsZero() || now.Sub(s.renewed) >= slotRenewal)
	if due {
		s.renewed = now
	}
	return due
}

// nextAlone gives the next number of the own slot. It begins well ahead of what
// the others may have taken; and without a slot, anywhere.
func (s *sharedIDs) nextAlone() int64 {
	if !s.alone {
		s.alone = true
		if s.slot < 0 || s.now().Sub(s.renewed) >= slotLife {
			s.slot, s.slots = 0, 1
			s.last += rand.Int64N(maxID)
		}
		s.last += numbersAhead
	}
	number := s.last + 1
	return number + ((s.slot-number)%s.slots+s.slots)%s.slots
}

// isEarly reports whether the number's id surely was another number's within
// idLife, by what this instance has seen of the counter.
func (s *sharedIDs) isEarly(number int64) bool {
	now := s.now()
	for len(s.samples) > 1 && now.Sub(s.samples[1].at) >= idLife {
		s.samples = s.samples[1:]
	}
	if n := len(s.samples); n == 0 || now.Sub(s.samples[n-1].at) >= sampleEvery {
		s.samples = append(s.samples, sample{now, number})
	}
	return len(s.samples) > 1 && number-maxID >= s.samples[1].number
}

// idOf maps numbers in turn to ids in turn.
func idOf(number int64) uint16 { return uint16((number%maxID+maxID)%maxID + 1) }

// MemoryIDs counts within one process: for one instance, and for tests of several.
type MemoryIDs struct {
	now  func() time.Time
	mu   sync.Mutex
	next int64
}

// NewMemoryIDs takes the clock to go by. It begins at random: another server on
// the same bridge may be using ids, or this one before it was started again.
func NewMemoryIDs(now func() time.Time) *MemoryIDs {
	return &MemoryIDs{now: now, next: rand.Int64N(maxID)}
}

// DownlinkIDs gives the ids of one instance.
func (m *MemoryIDs) DownlinkIDs() DownlinkIDs { return newSharedIDs(m, "", m.now, func() {}) }

func (m *MemoryIDs) take(_ context.Context, least int64) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.next <= least {
		m.next = least + numbersAhead
	}
	m.next++
	return m.next - 1, nil
}

// slot is of no use here: what is in memory is not lost.
func (m *MemoryIDs) slot(context.Context, string) (slot, highest int, err error) { return -1, -1, nil }
