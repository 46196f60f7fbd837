package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Rule is what a history has to keep to. Its text is stable.
type Rule string

// The rules, with the promise that each comes from.
const (
	// A DevNonce was accepted twice: two sessions for one frame (promises 2 and 4).
	DevNonceTwice Rule = "dev_nonce_twice"
	// A JoinNonce was used for two frames of a device (promise 2).
	JoinNonceTwice Rule = "join_nonce_twice"
	// Two live sessions have one DevAddr (promise 8).
	DevAddrTwice Rule = "dev_addr_twice"
	// A join was committed with an older RxDelay or DataRate after an update was
	// answered (promise 1).
	StalePolicy Rule = "stale_policy"
	// A join was committed after "disabled" was answered (promise 1).
	JoinedWhileDisabled Rule = "joined_while_disabled"
	// A join was refused as disabled although all of its decision lay after
	// "enabled" was answered (promise 1).
	RefusedWhileEnabled Rule = "refused_while_enabled"
	// An accepted join, or a session, has no join event (promise 2).
	EventMissing Rule = "event_missing"
	// A join-accept or an event has no session (promise 2).
	SessionMissing Rule = "session_missing"
	// Device, event and record tell different things of one join.
	AccountsDiffer Rule = "accounts_differ"
	// An event is still in the outbox, or was taken off it and never heard.
	EventLost Rule = "event_lost"
	// A call was answered with success and the record does not show it.
	WriteLost Rule = "write_lost"
)

// Reasons of refusals that rest on what an administrator switches off.
const (
	permissionDisabled = "permission_disabled"
	deviceDisabled     = "device_disabled"
)

// Violation is a rule that was not kept, and how one can tell.
type Violation struct {
	Rule   Rule   `json:"rule"`
	Detail string `json:"detail"`
}

// String gives "rule: detail".
func (v Violation) String() string { return string(v.Rule) + ": " + v.Detail }

// Counts say what a history holds: a check of nothing proves nothing.
type Counts struct {
	Calls, Unknown   int // writes of administrators; of these, with unknown outcome
	Accepts          int // join-accepts taken by devices
	Refusals         int
	Events, Repeated int // join events; of these, heard once more
	Sessions         int
	Faults           int
}

// String is for people.
func (c Counts) String() string {
	return fmt.Sprintf("%d calls (%d with unknown outcome), %d joins accepted, %d refused, %d join events (%d came again), %d sessions, %d faults",
		c.Calls, c.Unknown, c.Accepts, c.Refusals, c.Events, c.Repeated, c.Sessions, c.Faults)
}

// Check finds the violations in a history.
func Check(lines []Line) ([]Violation, Counts) {
	h := gather(lines)
	for _, rule := range []func(){h.nonces, h.addresses, h.policies, h.refusals, h.completeness, h.delivery, h.durability} {
		rule()
	}
	return h.found, h.counts
}

// checked is a history with its lines sorted by kind.
type checked struct {
	calls    []*Call
	accepts  []*Accept
	refused  []*Refusal
	sessions []*Session
	states   []*State
	missed   []*Missed
	events   []*Event // of several that tell of one join, what is known of all
	counts   Counts
	found    []Violation

	registers map[field]register
	event     map[joinID]*Event
	session   map[joinID]*Session
	oldest    map[string]uint32 // lowest JoinNonce of a device's sessions
}

// joinID names a session.
type joinID struct {
	devEUI    string
	joinNonce uint32
}

func (j Join) id() joinID { return joinID{j.DevEUI, j.JoinNonce} }

// String names the join for people.
func (j Join) String() string {
	return fmt.Sprintf("join %d of %s (DevNonce %d, DevAddr %s, RxDelay %d, DataRate %d)", j.JoinNonce, j.DevEUI, j.DevNonce, j.DevAddr, j.RxDelay, j.DataRate)
}

func gather(lines []Line) *checked {
	h := &checked{event: map[joinID]*Event{}, session: map[joinID]*Session{}, oldest: map[string]uint32{}}
	for _, l := range lines {
		switch {
		case l.Call != nil:
			h.calls = append(h.calls, l.Call)
		case l.Accept != nil:
			h.accepts = append(h.accepts, l.Accept)
		case l.Refusal != nil:
			h.refused = append(h.refused, l.Refusal)
		case l.Event != nil:
			h.addEvent(*l.Event)
		case l.Session != nil:
			h.addSession(l.Session)
		case l.State != nil:
			h.states = append(h.states, l.State)
		case l.Missed != nil:
			h.missed = append(h.missed, l.Missed)
		case l.Fault != nil:
			h.counts.Faults++
		}
	}
	h.registers = registers(h.calls, h.states)
	h.count()
	return h
}

func (h *checked) count() {
	c := &h.counts
	c.Calls, c.Accepts, c.Refusals, c.Events, c.Sessions = len(h.calls), len(h.accepts), len(h.refused), len(h.event), len(h.session)
	for _, call := range h.calls {
		if call.Outcome == Unknown {
			c.Unknown++
		}
	}
}

// addEvent puts together what the listener and the record know of an event. Two
// that differ are kept both: the rules will find them.
func (h *checked) addEvent(e Event) {
	known := h.event[e.id()]
	if known == nil || known.Join != e.Join {
		h.events = append(h.events, &e)
		if known == nil {
			h.event[e.id()] = &e
		}
		return
	}
	if !known.Heard.IsZero() && !e.Heard.IsZero() {
		h.counts.Repeated++
	}
	known.Heard = earlier(known.Heard, e.Heard)
	known.Written = earlier(known.Written, e.Written)
	known.Removed = earlier(known.Removed, e.Removed)
	known.Permission, known.Time = cmp.Or(known.Permission, e.Permission), earlier(known.Time, e.Time)
}

func (h *checked) addSession(s *Session) {
	h.sessions = append(h.sessions, s)
	known := h.session[s.id()]
	if known == nil || known.Committed.IsZero() {
		h.session[s.id()] = s
	}
	if lowest, any := h.oldest[s.DevEUI]; !any || s.JoinNonce < lowest {
		h.oldest[s.DevEUI] = s.JoinNonce
	}
}

// earlier is the first of two times; the zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (h *checked) violates(rule Rule, format string, args ...any) {
	h.found = append(h.found, Violation{rule, fmt.Sprintf(format, args...)})
}

// joins gives every account of a join that there is: the device's, the event's and
// the record's.
func (h *checked) joins(each func(j Join, told string)) {
	for _, a := range h.accepts {
		each(a.Join, "device")
	}
	for _, e := range h.events {
		each(e.Join, "event")
	}
	for _, s := range h.sessions {
		each(s.Join, "record")
	}
}

// nonces: a frame opens one session, and a JoinNonce serves one frame.
func (h *checked) nonces() {
	type frame struct {
		devEUI, joinEUI string
		devNonce        uint16
	}
	byFrame, bySession := map[frame]Join{}, map[joinID]Join{}
	reported := map[[2]Join]bool{}
	h.joins(func(j Join, told string) {
		f := frame{j.DevEUI, j.JoinEUI, j.DevNonce}
		first, again := byFrame[f]
		if again && first.JoinNonce != j.JoinNonce && !reported[[2]Join{first, j}] {
			reported[[2]Join{first, j}] = true
			h.violates(DevNonceTwice, "DevNonce %d of %s opened two sessions, %d and %d (%s)", j.DevNonce, j.DevEUI, first.JoinNonce, j.JoinNonce, told)
		}
		if !again {
			byFrame[f] = j
		}
		before, again := bySession[j.id()]
		if !again {
			bySession[j.id()] = j
			return
		}
		switch {
		case before == j || reported[[2]Join{before, j}]:
			return
		case before.DevNonce != j.DevNonce || before.JoinEUI != j.JoinEUI:
			h.violates(JoinNonceTwice, "%s and %s (%s)", before, j, told)
		default:
			h.violates(AccountsDiffer, "%s, but the %s tells of %s", before, told, j)
		}
		reported[[2]Join{before, j}] = true
	})
}

// addresses: the live sessions of the end have DevAddrs of their own.
func (h *checked) addresses() {
	live := map[string]Join{}
	for _, s := range h.sessions {
		if !s.Live {
			continue
		}
		if other, taken := live[s.DevAddr]; taken && other.id() != s.id() {
			h.violates(DevAddrTwice, "%s and %s are both live", other, s.Join)
		}
		live[s.DevAddr] = s.Join
	}
}

// decided is when a join was committed, as exactly as the history can tell: by the
// clock of the database, else as the event says.
func (h *checked) decided(e *Event) time.Time {
	if s := h.session[e.id()]; s != nil && !s.Committed.IsZero() {
		return s.Committed
	}
	return e.Time
}

// policies: a join is committed by a policy that no answered call has replaced.
func (h *checked) policies() {
	for _, e := range h.events {
		at := h.decided(e)
		for _, f := range []struct {
			name  string
			value int
			rule  Rule
		}{{RxDelay, e.RxDelay, StalePolicy}, {DataRate, e.DataRate, StalePolicy}, {Enabled, 1, JoinedWhileDisabled}} {
			r, written := h.registers[field{e.Permission, f.name}]
			if written && !r.had(f.value, at, at) {
				h.violates(f.rule, "%s, committed %s: %s of %s was not %d any more", e.Join, clock(at), f.name, e.Permission, f.value)
			}
		}
		node, written := h.registers[field{"node " + e.DevEUI, Enabled}]
		if written && !node.had(1, at, at) {
			h.violates(JoinedWhileDisabled, "%s, committed %s: the node was disabled", e.Join, clock(at))
		}
	}
}

// refusals: who is refused as disabled, was so at some moment of the decision.
func (h *checked) refusals() {
	for _, r := range h.refused {
		if r.Reason != permissionDisabled && r.Reason != deviceDisabled {
			continue
		}
		enabled, written := h.registers[field{r.Target, Enabled}]
		if written && !enabled.had(0, r.Sent, r.Heard) {
			h.violates(RefusedWhileEnabled, "%s refused %s as %s, sent %s, told %s", r.Target, r.DevEUI, r.Reason, clock(r.Sent), clock(r.Heard))
		}
	}
}

// completeness: join-accept, session and event belong together. A record that keeps
// the last sessions only cannot tell of those before.
func (h *checked) completeness() {
	missing := map[joinID]bool{}
	h.joins(func(j Join, told string) {
		if missing[j.id()] {
			return
		}
		oldest, any := h.oldest[j.DevEUI]
		if h.session[j.id()] == nil && (!any || j.JoinNonce > oldest) {
			h.violates(SessionMissing, "%s: the %s tells of it, no session is on record", j, told)
			missing[j.id()] = true
		}
		if h.event[j.id()] == nil {
			h.violates(EventMissing, "%s: the %s tells of it, there is no join event", j, told)
			missing[j.id()] = true
		}
	})
}

// A listener that was cut off may miss what the broker had taken shortly before.
const onTheWay = 2 * time.Second

// delivery: what left the outbox was heard, unless nobody could listen; in the end
// the outbox is empty. Only a history that shows the outbox tells.
func (h *checked) delivery() {
	for _, e := range h.events {
		switch {
		case e.Written.IsZero() || !e.Heard.IsZero():
		case e.Removed.IsZero():
			h.violates(EventLost, "the event of %s is still in the outbox", e.Join)
		case !h.couldMiss(e):
			h.violates(EventLost, "the event of %s was taken off the outbox %s, and nobody heard it", e.Join, clock(e.Removed))
		}
	}
}

func (h *checked) couldMiss(e *Event) bool {
	return slices.ContainsFunc(h.missed, func(m *Missed) bool {
		return m.From.Add(-onTheWay).Before(e.Removed) && m.To.After(e.Written)
	})
}

// durability: what was answered is on record. Only a history that shows the states
// of a row tells.
func (h *checked) durability() {
	byTarget := map[string][]*State{}
	for _, s := range h.states {
		byTarget[s.Target] = append(byTarget[s.Target], s)
	}
	for _, c := range h.calls {
		if rows := byTarget[c.Target]; c.Outcome == Done && rows != nil && !onRecord(c, rows) {
			h.violates(WriteLost, "%s was set to %v from %s to %s, and the record does not show it", c.Target, c.Set, clock(c.Begin), clock(c.End))
		}
	}
}

// onRecord reports whether the row had the values of a call that was answered
// while the call was under way.
func onRecord(c *Call, rows []*State) bool {
	var before *State // its begin
	for _, s := range rows {
		if s.shows(c) && within(s.Committed, c.Begin, c.End) {
			return true
		}
		if s.Committed.Before(c.Begin) && (before == nil || s.Committed.After(before.Committed)) {
			before = s
		}
	}
	return before != nil && before.shows(c)
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000000") }
