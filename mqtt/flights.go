package mqtt

import (
	"time"

	"joingate/joinserver"
)

const (
	// maxDownlinkID: bridges tell commands apart by their id modulo 65,536, over
	// all their gateways. So ours have 16 bits; 0 makes a v3 bridge invent one.
	maxDownlinkID = 1<<16 - 1
	// ackLife is how long a bridge (3.14, 4.1) keeps a command to match a TX_ACK
	// with. Until then its id is taken; after that no ack can come.
	ackLife = 15 * time.Second
)

// flight is one downlink command: from before it is published until no ack of
// it can come any more.
type flight struct {
	id       uint32
	gateway  joinserver.EUI64
	launched time.Time
	until    time.Time // RX2: from then on nothing can be done
	settled  bool      // its outcome is known: by an ack, or it never left

	sending *sending // nil once it is settled, so that its memory is free
	shot    shot
}

// flights knows the commands whose acks may still come. It is a state machine
// without a clock or lock of its own.
//
// Its own ids are given in turn and return in that order, so the id that comes
// next is always the one that was used longest ago.
type flights struct {
	next  uint32 // own id for the next launch
	byID  map[uint32]*flight
	order queue[*flight] // by launch
}

// newFlights begins with an id that should be drawn at random: another server on
// the same bridge may be using ids, or this one before it was started again.
func newFlights(firstID uint16) *flights {
	return &flights{next: max(1, uint32(firstID)), byID: make(map[uint32]*flight)}
}

// nextID gives an id of its own.
func (fs *flights) nextID() uint32 {
	id := fs.next
	fs.next = fs.next%maxDownlinkID + 1
	return id
}

// launch registers a command under its id. It is to be called before the command
// is published, or a quick ack would meet a stranger. An id that is in use is used
// again: the acks of its old commands cannot be told from the new one's any more, so
// these are lost.
func (fs *flights) launch(now time.Time, id uint32, gateway joinserver.EUI64, s *sending, shot shot) (f *flight, lost []*flight) {
	if fs.order.len() == maxDownlinkID {
		oldest := fs.order.pop()
		fs.forget(oldest)
		lost = append(lost, oldest)
	}
	if old, taken := fs.byID[id]; taken {
		lost = append(lost, old)
	}
	f = &flight{id: id, gateway: gateway, launched: now, until: s.frame.rx2(), sending: s, shot: shot}
	fs.byID[f.id] = f
	fs.order.push(f)
	return f, lost
}

// settle notes that the outcome of a flight is known and returns what was sent; nil:
// it was known before.
func (f *flight) settle() *sending {
	s := f.sending
	f.settled, f.sending = true, nil
	return s
}

// forget frees the id of a flight, unless a later one has it.
func (fs *flights) forget(f *flight) {
	if fs.byID[f.id] == f {
		delete(fs.byID, f.id)
	}
}

// landing says what an ack is about.
type landing uint8

const (
	landedUnknown   landing = iota + 1 // no command of ours, or of long ago
	landedElsewhere                    // the command with this id was another gateway's
	landedAgain                        // its command was acknowledged before
	landedAccepted                     // the gateway has queued the frame
	landedRefused                      // the gateway will not send it
)

// land finds the flight that an ack is about. Acks may come twice, and another
// server's on the same bridge may have our id.
func (fs *flights) land(a ack) (*flight, landing) {
	f, known := fs.byID[a.ID]
	switch {
	case !known:
		return nil, landedUnknown
	case f.gateway != a.Gateway:
		return nil, landedElsewhere
	case f.settled:
		return f, landedAgain
	case a.ok():
		return f, landedAccepted
	}
	return f, landedRefused
}

// due forgets the flights whose ack can no longer come, and returns those that
// nobody has acknowledged. What became of them is unknown: silence does not
// prove that nothing was sent, so nothing is sent again.
func (fs *flights) due(now time.Time) (silent []*flight) {
	for fs.order.len() > 0 && !now.Before(fs.order.front().launched.Add(ackLife)) {
		f := fs.order.pop()
		fs.forget(f)
		if !f.settled {
			silent = append(silent, f)
		}
	}
	return silent
}

// nextDue is when due has something to do again; false: never, until a launch.
func (fs *flights) nextDue() (time.Time, bool) {
	if fs.order.len() == 0 {
		return time.Time{}, false
	}
	return fs.order.front().launched.Add(ackLife), true
}

// underWay reports whether a gateway has still to say what becomes of a command
// before its RX2. Only the ack proves that the command got there, and a refusal
// may send another gateway's.
func (fs *flights) underWay(now time.Time) bool {
	for _, f := range fs.order.all() {
		if !f.settled && now.Before(f.until) {
			return true
		}
	}
	return false
}
