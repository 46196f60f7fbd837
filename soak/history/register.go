package history

import (
	"slices"
	"time"
)

// register is one field of one row, with all that was written to it. Which value
// it had at a moment is known but for writes that were under way.
type register struct {
	writes []write // by the time of their begin
}

// write is one write to a register.
type write struct {
	value      int
	begin, end time.Time
	sure       bool // it was carried out, by its end at the latest
}

// had reports whether the register can have had the value at some moment from one
// time to another. A write counts from its begin, and as long as none that began
// after its end had ended before: writes that overlap may take effect in either
// order. Before the first write that is sure, any value is possible.
func (r register) had(value int, from, to time.Time) bool {
	settled := false
	for _, w := range r.writes {
		if w.begin.After(to) {
			break
		}
		if w.value == value && !r.overwritten(w, from) {
			return true
		}
		settled = settled || w.sure && w.end.Before(from)
	}
	return !settled
}

// overwritten reports whether another write has replaced w before the time.
func (r register) overwritten(w write, by time.Time) bool {
	if !w.sure {
		return false
	}
	first, _ := slices.BinarySearchFunc(r.writes, w.end, func(other write, end time.Time) int { return other.begin.Compare(end) })
	for _, other := range r.writes[first:] {
		if !other.begin.Before(by) {
			return false
		}
		if other.sure && other.begin.After(w.end) && other.end.Before(by) {
			return true
		}
	}
	return false
}

// field names a register.
type field struct{ target, name string }

// registers gathers the writes of all calls. What became of an unknown call can be
// told where the record shows every state of its row.
func registers(calls []*Call, states []*State) map[field]register {
	byTarget := map[string][]*State{}
	for _, s := range states {
		byTarget[s.Target] = append(byTarget[s.Target], s)
	}
	all := map[field]register{}
	for _, c := range calls {
		w := write{begin: c.Begin, end: c.End, sure: c.Outcome == Done}
		if c.Outcome == Refused {
			continue
		}
		if rows := byTarget[c.Target]; c.Outcome == Unknown && rows != nil {
			committed := carriedOut(c, calls, rows)
			if committed.IsZero() {
				continue
			}
			w.end, w.sure = committed, true
		}
		for name, value := range c.Set {
			w.value = value
			r := all[field{c.Target, name}]
			r.writes = append(r.writes, w)
			all[field{c.Target, name}] = r
		}
	}
	for _, r := range all {
		slices.SortStableFunc(r.writes, func(a, b write) int { return a.begin.Compare(b.begin) })
	}
	return all
}

// carriedOut is when an unknown call took effect, the zero time for never: the
// first state with its values that came after its begin and is not that of another
// call which was answered.
func carriedOut(c *Call, calls []*Call, rows []*State) (first time.Time) {
	for _, s := range rows {
		mine := s.shows(c) && !s.Committed.Before(c.Begin) && !slices.ContainsFunc(calls, func(other *Call) bool {
			return other.Outcome == Done && other.Target == c.Target && s.shows(other) && within(s.Committed, other.Begin, other.End)
		})
		if mine && (first.IsZero() || s.Committed.Before(first)) {
			first = s.Committed
		}
	}
	return first
}

// shows reports whether the row has the values that the call sets.
func (s *State) shows(c *Call) bool {
	for name, value := range c.Set {
		if has, known := s.Set[name]; !known || has != value {
			return false
		}
	}
	return true
}

func within(t, from, to time.Time) bool { return !t.Before(from) && !t.After(to) }
