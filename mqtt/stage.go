package mqtt

import (
	"time"

	"joingate/band"
)

// party is in whose line a frame waits: a gateway's EUI, or an account's number.
type party [8]byte

// stage lets a bounded number of frames be worked on at a time and a bounded
// number wait. It is a state machine without a clock or lock of its own, and costs
// no allocation per frame.
//
// Each party has a line of its own. Frames that can still be answered in RX1 come
// before those that can only be in RX2, and within these two classes the lines take
// turns. When there is no room, the longest line gives up the frame that it would
// be served last. So whoever floods waits for himself and loses what is his: a
// party that wants no more than its share neither waits nor loses for him.
type stage struct {
	slots int           // most frames that are worked on
	room  int           // most frames that wait
	lead  time.Duration // before a window opens, its command must have left

	running  int
	waiting  int
	lines    map[party]*line // those that have frames
	spare    list[line]      // lines without frames, to be used again
	turns    [classes]list[line]
	byLength []list[line] // index: frames in the line
	longest  int          // no line has more frames
}

// class is the window that a waiting frame can still be answered in.
type class uint8

const (
	forRX1 class = iota
	forRX2
	classes
)

// line is the waiting frames of one party, each class in the order in which they
// came. Frames change over to RX2 when somebody looks at their line.
type line struct {
	who    party
	length int
	frames [classes]list[frame]
	turn   [classes]node[line] // in turns, while it has frames of the class
	rank   node[line]          // in byLength, or in spare
}

// waiting is where a frame waits.
type waiting struct {
	line  *line // nil: nowhere
	class class
	place node[frame]
}

func newStage(slots, room int, lead time.Duration) *stage {
	return &stage{slots: slots, room: room, lead: lead, lines: make(map[party]*line)}
}

// enter lets a frame run at once or wait. With no room left another one, or this
// one, is shed: it neither runs nor waits.
func (s *stage) enter(now time.Time, who party, f *frame) (runs bool, shed *frame) {
	if s.running < s.slots {
		s.running++
		return true, nil
	}
	s.put(now, who, f)
	if s.waiting > s.room {
		shed = s.shed(now)
	}
	return false, shed
}

// next tells who is finished with a frame which one to go on with; nil: none waits.
func (s *stage) next(now time.Time) *frame {
	f := s.pick(now)
	if f == nil {
		s.running--
		return nil
	}
	l, c := f.waiting.line, f.waiting.class
	s.take(f)
	if !l.frames[c].empty() {
		s.turns[c].remove(&l.turn[c])
		s.turns[c].push(&l.turn[c], l)
	}
	return f
}

func (s *stage) pick(now time.Time) *frame {
	for !s.turns[forRX1].empty() {
		l := s.turns[forRX1].first.of
		s.settle(now, l)
		if first := l.frames[forRX1].first; first != nil {
			return first.of
		}
	}
	if s.turns[forRX2].empty() {
		return nil
	}
	return s.turns[forRX2].first.of.frames[forRX2].first.of
}

// offer puts a waiting frame into another party's line if it is better off there:
// any gateway that has heard it may stand in for it.
func (s *stage) offer(now time.Time, who party, f *frame) {
	length := 0
	if l := s.lines[who]; l != nil {
		length = l.length
	}
	if length+1 < f.waiting.line.length {
		s.take(f)
		s.put(now, who, f)
	}
}

// shed takes out the frame of the longest line that would be served last, or one
// that nothing can be done for any more.
func (s *stage) shed(now time.Time) *frame {
	l := s.byLength[s.longest].first.of
	s.settle(now, l)
	oldest, last := l.frames[forRX2].first, l.frames[forRX2].last
	switch {
	case last == nil:
		last = l.frames[forRX1].last
	case !oldest.of.reaches(now.Add(s.lead), band.JoinAcceptDelay2):
		last = oldest
	}
	f := last.of
	s.take(f)
	return f
}

// settle moves the frames of a line that can no longer reach RX1 to the others
// that cannot.
func (s *stage) settle(now time.Time, l *line) {
	for first := l.frames[forRX1].first; first != nil; first = l.frames[forRX1].first {
		f := first.of
		if f.reaches(now.Add(s.lead), band.JoinAcceptDelay1) {
			return
		}
		s.unlink(f)
		s.link(l, forRX2, f)
	}
}

func (s *stage) put(now time.Time, who party, f *frame) {
	l := s.lineOf(who)
	s.settle(now, l)
	s.setLength(l, l.length+1)
	s.waiting++
	c := forRX1
	if !f.reaches(now.Add(s.lead), band.JoinAcceptDelay1) {
		c = forRX2
	}
	s.link(l, c, f)
}

// take takes a frame out of its line.
func (s *stage) take(f *frame) {
	l := f.waiting.line
	s.unlink(f)
	s.setLength(l, l.length-1)
	s.waiting--
	f.waiting.line = nil
}

// link puts a frame at the end of its class in the line.
func (s *stage) link(l *line, c class, f *frame) {
	if l.frames[c].empty() {
		s.turns[c].push(&l.turn[c], l)
	}
	f.waiting.line, f.waiting.class = l, c
	l.frames[c].push(&f.waiting.place, f)
}

func (s *stage) unlink(f *frame) {
	l, c := f.waiting.line, f.waiting.class
	l.frames[c].remove(&f.waiting.place)
	if l.frames[c].empty() {
		s.turns[c].remove(&l.turn[c])
	}
}

// lineOf finds the line of a party or opens one.
func (s *stage) lineOf(who party) *line {
	l, known := s.lines[who]
	if known {
		return l
	}
	if s.spare.empty() {
		l = new(line)
	} else {
		l = s.spare.first.of
		s.spare.remove(&l.rank)
	}
	l.who = who
	s.lines[who] = l
	return l
}

// setLength keeps the lines sorted by length, which changes by one only. An empty
// line is closed.
func (s *stage) setLength(l *line, length int) {
	if l.length > 0 {
		s.byLength[l.length].remove(&l.rank)
	}
	l.length = length
	if length == 0 {
		delete(s.lines, l.who)
		s.spare.push(&l.rank, l)
	} else {
		for len(s.byLength) <= length {
			s.byLength = append(s.byLength, list[line]{})
		}
		s.byLength[length].push(&l.rank, l)
	}
	s.longest = max(s.longest, length)
	for s.longest > 0 && s.byLength[s.longest].empty() {
		s.longest--
	}
}
