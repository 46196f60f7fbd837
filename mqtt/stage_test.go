package mqtt

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"joingate/band"
)

// stageModel drives a stage and checks what it promises after each step.
type stageModel struct {
	*stage
	now    time.Time
	heard  int            // frames so far
	number map[*frame]int // order of arrival
	newest map[party]time.Time
	lines  map[party][]*frame      // who waits, oldest first, classes aside
	passed map[party]map[party]int // how often each party was served since the other had its last turn
}

func newStageModel(slots, room int) *stageModel {
	return &stageModel{
		stage: newStage(slots, room, 100*time.Millisecond), now: start,
		number: map[*frame]int{}, newest: map[party]time.Time{}, lines: map[party][]*frame{}, passed: map[party]map[party]int{},
	}
}

func partyN(n int) (p party) {
	binary.BigEndian.PutUint64(p[:], uint64(n))
	return p
}

func (m *stageModel) arrive(t *rapid.T, who party, age time.Duration) {
	m.heard++
	f := &frame{first: m.now.Add(-age)}
	if last := m.newest[who]; f.first.Before(last) {
		f.first = last // in each line the oldest comes first
	}
	m.newest[who] = f.first
	m.number[f] = m.heard
	free, longest := m.running < m.slots, 0
	runs, shed := m.enter(m.now, who, f)
	if runs != free {
		t.Fatalf("frame runs: %t, with %d of %d slots taken", runs, m.running, m.slots)
	}
	if runs {
		return
	}
	m.lines[who] = append(m.lines[who], f)
	for _, line := range m.lines {
		longest = max(longest, len(line))
	}
	if shed == nil {
		return
	}
	if m.total() != m.room+1 {
		t.Fatalf("a frame was shed with %d of %d waiting", m.total(), m.room)
	}
	from := m.drop(t, shed)
	if len(m.lines[from])+1 != longest {
		t.Fatalf("a line of %d had to shed, the longest had %d", len(m.lines[from])+1, longest)
	}
}

// finish has somebody finish, and checks whose turn it is.
func (m *stageModel) finish(t *rapid.T) {
	if m.running == 0 {
		return
	}
	f := m.next(m.now)
	if f == nil {
		if m.total() != 0 {
			t.Fatalf("a slot stays free and %d wait", m.total())
		}
		return
	}
	inRX1 := f.reaches(m.now.Add(m.lead), band.JoinAcceptDelay1)
	who := m.drop(t, f)
	for other, line := range m.lines {
		best := m.class(line)
		if best == forRX1 && !inRX1 {
			t.Fatal("a frame for RX2 was served before one for RX1")
		}
		if other != who && best == forRX1 {
			if m.passed[other] == nil {
				m.passed[other] = map[party]int{}
			}
			if m.passed[other][who]++; m.passed[other][who] > 1 {
				t.Fatalf("party %x was served twice while %x waited for its turn", who, other)
			}
		}
	}
	delete(m.passed, who)
	for _, earlier := range m.lines[who] {
		if m.number[earlier] < m.number[f] && earlier.reaches(m.now.Add(m.lead), band.JoinAcceptDelay1) == inRX1 {
			t.Fatalf("frame %d overtook frame %d in its line", m.number[f], m.number[earlier])
		}
	}
}

// pass lets time pass. Who has nothing for RX1 any more has no turn there to wait for.
func (m *stageModel) pass(d time.Duration) {
	m.now = m.now.Add(d)
	for who, line := range m.lines {
		if m.class(line) != forRX1 {
			delete(m.passed, who)
		}
	}
}

// class is the best class of a line.
func (m *stageModel) class(line []*frame) class {
	for _, f := range line {
		if f.reaches(m.now.Add(m.lead), band.JoinAcceptDelay1) {
			return forRX1
		}
	}
	return forRX2
}

func (m *stageModel) drop(t *rapid.T, f *frame) party {
	for who, line := range m.lines {
		for i, waits := range line {
			if waits == f {
				if m.lines[who] = append(line[:i:i], line[i+1:]...); len(m.lines[who]) == 0 {
					delete(m.lines, who)
					delete(m.passed, who)
				}
				return who
			}
		}
	}
	t.Fatalf("frame %d came out and was not in", m.number[f])
	return party{}
}

func (m *stageModel) total() (n int) {
	for _, line := range m.lines {
		n += len(line)
	}
	return n
}

func (m *stageModel) check(t *rapid.T) {
	if m.waiting != m.total() || m.waiting > m.room || m.running > m.slots || len(m.stage.lines) != len(m.lines) {
		t.Fatalf("%d wait and %d lines, want %d and %d; %d run", m.waiting, len(m.stage.lines), m.total(), len(m.lines), m.running)
	}
	longest := 0
	for who, line := range m.lines {
		longest = max(longest, len(line))
		if m.stage.lines[who].length != len(line) {
			t.Fatalf("line of %x has length %d, want %d", who, m.stage.lines[who].length, len(line))
		}
	}
	if m.longest != longest {
		t.Fatalf("longest line %d, want %d", m.longest, longest)
	}
}

// Property: whoever comes and goes, nobody waits while a slot is free; RX1 goes
// before RX2 and old before new; parties take turns; only the longest line sheds,
// and only with all room taken.
func TestStageIsFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newStageModel(rapid.IntRange(1, 4).Draw(t, "slots"), rapid.IntRange(1, 30).Draw(t, "room"))
		parties := rapid.IntRange(1, 6).Draw(t, "parties")
		t.Repeat(map[string]func(*rapid.T){
			"arrive": func(t *rapid.T) {
				age := time.Duration(rapid.SampledFrom([]int{0, 0, 0, 4800, 5500}).Draw(t, "age")) * time.Millisecond
				m.arrive(t, partyN(rapid.IntRange(1, parties).Draw(t, "party")), age)
			},
			"flood": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "frames") {
					m.arrive(t, partyN(1), 0)
				}
			},
			"finish": m.finish,
			"pass": func(t *rapid.T) {
				m.pass(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			},
			"": m.check,
		})
	})
}

// Property: with one party that floods, each other one that wants no more than its
// share gets all it wants.
func TestFloodTakesNoMoreThanItsShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		quiet := rapid.IntRange(1, 8).Draw(t, "quiet parties")
		s := newStage(1, 4*(quiet+1), 100*time.Millisecond)
		s.enter(start, partyN(0), &frame{first: start})
		shedOfQuiet, servedOfQuiet, heardOfQuiet := 0, 0, 0
		owner := map[*frame]int{}
		enter := func(n int) {
			f := &frame{first: start}
			owner[f] = n
			if _, shed := s.enter(start, partyN(n), f); shed != nil && owner[shed] != 0 {
				shedOfQuiet++
			}
		}
		for range rapid.IntRange(1, 50).Draw(t, "rounds") {
			for range rapid.IntRange(0, 40).Draw(t, "flood") {
				enter(0)
			}
			for n := 1; n <= quiet; n++ {
				enter(n)
				heardOfQuiet++
			}
			for range quiet + 1 { // what one round can serve
				if f := s.next(start); f != nil && owner[f] != 0 {
					servedOfQuiet++
				}
				if s.running == 0 {
					s.running++ // the slot stays taken
				}
			}
		}
		for f := s.next(start); f != nil; f = s.next(start) {
			if owner[f] != 0 {
				servedOfQuiet++
			}
		}
		if shedOfQuiet != 0 || servedOfQuiet != heardOfQuiet {
			t.Fatalf("of %d frames of quiet parties %d were served and %d shed", heardOfQuiet, servedOfQuiet, shedOfQuiet)
		}
	})
}

// A frame that is past RX2 goes before one that can be answered.
func TestShedsWhatIsTooLateFirst(t *testing.T) {
	s := newStage(1, 2, 100*time.Millisecond)
	s.enter(start, partyN(1), new(frame))
	dead, alive, fresh := &frame{first: at(-5950)}, &frame{first: at(-5000)}, &frame{first: at(0)}
	for _, f := range []*frame{dead, alive} {
		s.enter(at(0), partyN(1), f)
	}
	if _, shed := s.enter(at(0), partyN(1), fresh); shed != dead {
		t.Errorf("shed %+v, want the one that nothing can be done for", shed)
	}
	if _, shed := s.enter(at(0), partyN(1), &frame{first: at(0)}); shed != alive {
		t.Errorf("shed %+v, want the one that would be served last", shed)
	}
}

// The memory follows what waits, not who was ever heard.
func TestStageForgetsParties(t *testing.T) {
	s := newStage(1, 100, 0)
	s.enter(start, partyN(0), new(frame))
	for i := range 100_000 {
		s.enter(start, partyN(i), &frame{first: start})
		if i%3 == 0 {
			s.next(start)
		}
	}
	kept := len(s.lines)
	for n := s.spare.first; n != nil; n = n.next {
		kept++
	}
	if kept > s.room+1 || len(s.byLength) > s.room+2 {
		t.Errorf("%d lines are kept for %d frames", kept, s.waiting)
	}
}

func BenchmarkStage(b *testing.B) {
	for _, parties := range []int{1, 1000, 30_000} {
		b.Run(fmt.Sprint(parties), func(b *testing.B) {
			s := newStage(1, 32<<10, 0)
			frames := make([]frame, 64<<10)
			for i := range frames[:30_001] {
				frames[i].first = start
				s.enter(start, partyN(i%parties), &frames[i])
			}
			b.ReportAllocs()
			for i := 30_001; b.Loop(); i++ {
				f := &frames[i%len(frames)]
				f.first = start
				s.enter(start, partyN(i%parties), f)
				s.next(start)
			}
		})
	}
}
