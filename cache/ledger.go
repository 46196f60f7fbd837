package cache

import (
	"cmp"
	"slices"
	"time"

	"joingate/band"
	"joingate/joinserver"
)

// Constants of gateways.
const (
	// packetGuard is how long a gateway needs between the end of one transmission
	// and the start of the next; below it, it refuses the second as
	// COLLISION_PACKET. The just-in-time queues of the packet forwarder for SX1302
	// (sx1302_hal 2.1.0, packet_forwarder/src/jitqueue.c) and of ChirpStack
	// Concentratord 4 (jitqueue.rs) want more than TX_START_DELAY + TX_JIT_DELAY +
	// TX_MARGIN_DELAY = 1.5 + 40 + 1 ms; that for SX1301 (packet_forwarder 4.0.1)
	// has 30 in place of 40.
	packetGuard = 43 * time.Millisecond
	// arrivalJitter is by how much the ways of two frames from a gateway to the server
	// may differ: the ledger goes by when a frame arrived, the gateway by when it was
	// received. Too short, and gateways refuse RX1 and send in RX2 at its slow data
	// rate; too long, and there are fewer places. In the storms of sim, where it is
	// 20 ms at most, 95 % have joined soonest with 10 ms, of 0 to 30.
	arrivalJitter = 10 * time.Millisecond
	// AirtimeGuard is what the ledger leaves between two transmissions.
	AirtimeGuard = packetGuard + arrivalJitter
)

// Constants of the ledger.
const (
	// dutyBucket is the grain in which airtime is kept for the duty cycle.
	dutyBucket = 10 * time.Second
	// dutyBuckets is how many of them an hour can touch.
	dutyBuckets = int64(band.DutyWindow/dutyBucket) + 1
	// airtimePast is how long a transmission is remembered after its end, so that it
	// can be taken out: acks come late.
	airtimePast = 10 * time.Second
	// airtimeAhead is how far ahead a transmission may be planned, and how long it
	// may take. No receive window opens later than 16 s after an uplink, and the
	// longest LoRa frame takes 9 s.
	airtimeAhead = time.Minute
	// maxSpans bounds the transmissions of one gateway. One that sends the shortest
	// join-accepts back to back has half as many between airtimePast and RX2.
	maxSpans = 512
)

// All times of the ledger are microseconds since 1970: integers, which Redis can
// calculate with too.

// span is one transmission of a gateway.
type span struct {
	start, onAir int64
	subBand      int // that it is charged to; notLimited: none
}

const notLimited = -1

func (s span) end() int64 { return s.start + s.onAir }

// order is by start. Two spans that are equal in it are one.
func (s span) order(other span) int {
	return cmp.Or(cmp.Compare(s.start, other.start), cmp.Compare(s.onAir, other.onAir), cmp.Compare(s.subBand, other.subBand))
}

// spanOf reads a transmission. It never takes less airtime than the frame.
func spanOf(t joinserver.Transmission) span {
	onAir := max(t.OnAir, 0) + time.Microsecond - 1
	s := span{start: t.Start.UnixMicro(), onAir: onAir.Microseconds(), subBand: notLimited}
	if t.Duty.Limit > 0 {
		s.subBand = int(t.Duty.SubBand)
	}
	return s
}

// ledger is what one gateway has sent and is planned to send.
type ledger struct {
	spans   []span // by start
	longest int64  // no span lasts longer
	duties  []duty
	until   int64 // end of the last transmission that was ever entered
}

// book enters the transmission if it fits.
func (l *ledger) book(t joinserver.Transmission, now int64) bool {
	l.forget(now)
	s := spanOf(t)
	fits := l.hasRoom(s, now) && !l.meets(s) && l.allows(t, now)
	if fits {
		l.enter(s)
	}
	return fits
}

// allows reports whether the duty cycle leaves room for the transmission.
func (l *ledger) allows(t joinserver.Transmission, now int64) bool {
	s := spanOf(t)
	if s.subBand == notLimited {
		return true
	}
	d := l.duty(s.subBand)
	d.forget(now - airtimeKept)
	return d.fits(s, t.Duty.Limit.Microseconds())
}

// sent enters the transmission as it is. One that is there already is not
// another one: the gateway says that it sends what was booked.
func (l *ledger) sent(t joinserver.Transmission, now int64) {
	l.forget(now)
	s := spanOf(t)
	if _, known := l.find(s); !known && l.hasRoom(s, now) {
		l.enter(s)
	}
}

// release takes out what is equal to the transmission.
func (l *ledger) release(t joinserver.Transmission, now int64) {
	l.forget(now)
	i, known := l.find(spanOf(t))
	if !known || l.spans[i].end() <= now-airtimeKept {
		return
	}
	if s := l.spans[i]; s.subBand != notLimited {
		l.duty(s.subBand).charge(s, -1)
	}
	l.spans = slices.Delete(l.spans, i, i+1)
}

// hasRoom bounds the memory, and keeps out what is too far from now to be judged.
func (l *ledger) hasRoom(s span, now int64) bool {
	const past, ahead = int64(airtimePast / time.Microsecond), int64(airtimeAhead / time.Microsecond)
	return len(l.spans) < maxSpans && s.start > now-past && s.start <= now+ahead && s.onAir <= ahead
}

func (l *ledger) enter(s span) {
	i, _ := l.find(s)
	l.spans = slices.Insert(l.spans, i, s)
	l.longest = max(l.longest, s.onAir)
	l.until = max(l.until, s.end())
	if s.subBand != notLimited {
		l.duty(s.subBand).charge(s, 1)
	}
}

func (l *ledger) find(s span) (int, bool) { return slices.BinarySearchFunc(l.spans, s, span.order) }

// meets reports whether another transmission is nearer than the guard.
func (l *ledger) meets(s span) bool {
	guard := AirtimeGuard.Microseconds()
	first, _ := l.find(span{start: s.start - guard - l.longest})
	for _, other := range l.spans[first:] {
		if other.start >= s.end()+guard {
			return false
		}
		if s.start < other.end()+guard {
			return true
		}
	}
	return false
}

// airtimeKept is how long after its end a transmission can be near another one
// that may still be planned.
const airtimeKept = int64((airtimePast + AirtimeGuard) / time.Microsecond)

// forget drops what has no say any more, once the first has none.
func (l *ledger) forget(now int64) {
	if len(l.spans) > 0 && l.spans[0].end() <= now-airtimeKept {
		l.spans = slices.DeleteFunc(l.spans, func(s span) bool { return s.end() <= now-airtimeKept })
		l.longest = 0
		for _, s := range l.spans {
			l.longest = max(l.longest, s.onAir)
		}
	}
	for i := range l.duties {
		l.duties[i].forget(now - airtimeKept)
	}
}

// idle reports whether nothing that the gateway has sent counts any more.
func (l *ledger) idle(now int64) bool {
	return l.until+(band.DutyWindow+2*dutyBucket+airtimePast).Microseconds() <= now
}

func (l *ledger) duty(subBand int) *duty {
	for i := range l.duties {
		if l.duties[i].subBand == subBand {
			return &l.duties[i]
		}
	}
	l.duties = append(l.duties, duty{subBand: subBand})
	return &l.duties[len(l.duties)-1]
}

// duty is the airtime that a gateway has had in a sub-band. An hour beginning at
// any moment is covered by dutyBuckets buckets, of which all airtime counts: so
// what fits is never more than the rule allows, and at times a little less.
type duty struct {
	subBand int
	buckets []bucket // those with airtime, by number
	total   int64    // of all buckets
}

type bucket struct{ number, airtime int64 }

// bucketOf rounds down, also before 1970.
func bucketOf(at int64) int64 {
	const size = int64(dutyBucket / time.Microsecond)
	return (at - (at%size+size)%size) / size
}

// fits reports whether no hour that touches the transmission would hold more than
// the limit, in microseconds.
func (d *duty) fits(s span, limit int64) bool {
	if d.total+s.onAir <= limit { // no hour holds more than all of them
		return true
	}
	first, last := bucketOf(s.start), bucketOf(s.end())
	for n := first; n <= last; n++ {
		if d.within(n)+s.onAir > limit {
			return false
		}
	}
	for _, b := range d.buckets { // an hour that ends between two of them holds no more
		if b.number > last && b.number < last+dutyBuckets && d.within(b.number)+s.onAir > limit {
			return false
		}
	}
	return true
}

// within gives the airtime of the hour that ends with a bucket.
func (d *duty) within(last int64) (airtime int64) {
	for _, b := range d.buckets {
		if b.number > last-dutyBuckets && b.number <= last {
			airtime += b.airtime
		}
	}
	return airtime
}

// charge adds a transmission, or takes it out with sign -1.
func (d *duty) charge(s span, sign int64) {
	for at := s.start; at < s.end(); {
		n := bucketOf(at)
		next := min((n+1)*dutyBucket.Microseconds(), s.end())
		d.add(n, sign*(next-at))
		at = next
	}
}

func (d *duty) add(number, airtime int64) {
	i, known := slices.BinarySearchFunc(d.buckets, number, func(b bucket, n int64) int { return cmp.Compare(b.number, n) })
	if !known {
		d.buckets = slices.Insert(d.buckets, i, bucket{number: number})
	}
	d.buckets[i].airtime += airtime
	d.total += airtime
	if d.buckets[i].airtime == 0 {
		d.buckets = slices.Delete(d.buckets, i, i+1)
	}
}

// forget drops buckets that no hour after the time touches.
func (d *duty) forget(before int64) {
	oldest := bucketOf(before) - dutyBuckets
	n := 0
	for n < len(d.buckets) && d.buckets[n].number < oldest {
		d.total -= d.buckets[n].airtime
		n++
	}
	d.buckets = slices.Delete(d.buckets, 0, n)
}
