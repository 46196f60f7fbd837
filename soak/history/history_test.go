package history_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"joingate/soak/history"

	"pgregory.net/rapid"
)

// at is a moment of the hand-made histories, in seconds from their begin.
func at(seconds float64) time.Time {
	return time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

const (
	device     = "d896e0ffff000001"
	node       = "node " + device
	permission = "permission 1003"
)

// join is the nth of the device, with a DevNonce of 100 + n.
func join(n, rxDelay, dataRate int) history.Join {
	return history.Join{
		DevEUI: device, JoinEUI: "d896e0efff000000", DevNonce: uint16(100 + n), JoinNonce: uint32(n),
		DevAddr: "0000000" + string(rune('0'+n)), RxDelay: rxDelay, DataRate: dataRate,
	}
}

// tale is a history that grows.
type tale []history.Line

func (t tale) with(lines ...history.Line) tale { return append(slices.Clone(t), lines...) }

func call(target, field string, value int, begin, end float64, o history.Outcome) history.Line {
	return history.Line{Call: &history.Call{Target: target, Set: map[string]int{field: value}, Begin: at(begin), End: at(end), Outcome: o}}
}

func done(field string, value int, begin, end float64) history.Line {
	return call(permission, field, value, begin, end, history.Done)
}

func unknown(field string, value int, begin, end float64) history.Line {
	return call(permission, field, value, begin, end, history.Unknown)
}

// accept, event and session tell of a join that was committed at a moment.
func accept(j history.Join, t float64) history.Line {
	return history.Line{Accept: &history.Accept{Join: j, Sent: at(t - 0.5), Received: at(t + 0.1)}}
}

func event(j history.Join, t float64) history.Line {
	return history.Line{Event: &history.Event{Join: j, Permission: permission, Time: at(t), Heard: at(t + 0.2)}}
}

func session(j history.Join, t float64) history.Line {
	return history.Line{Session: &history.Session{Join: j, Committed: at(t)}}
}

func all(j history.Join, t float64) []history.Line {
	return []history.Line{accept(j, t), event(j, t), session(j, t)}
}

func refusal(target, reason string, sent, heard float64) history.Line {
	return history.Line{Refusal: &history.Refusal{DevEUI: device, Target: target, Reason: reason, Sent: at(sent), Heard: at(heard)}}
}

// state is the row of the permission as it was made, but for one field.
func state(field string, value int, committed float64) history.Line {
	row := map[string]int{history.RxDelay: 1, history.DataRate: 0, history.Enabled: 1}
	row[field] = value
	return history.Line{State: &history.State{Target: permission, Set: row, Committed: at(committed)}}
}

// made is the permission as it was made, long before.
func made() tale {
	return tale{
		done(history.RxDelay, 1, -10, -9.9), done(history.DataRate, 0, -10, -9.9), done(history.Enabled, 1, -10, -9.9),
		call(node, history.Enabled, 1, -10, -9.9, history.Done),
	}
}

// Each history and the rules it breaks: none for good ones.
func TestCheck(t *testing.T) {
	good := made().with(all(join(1, 1, 0), 1)...).with(all(join(2, 1, 0), 2)...)
	changed := func(change func(*history.Join)) history.Join {
		j := join(2, 1, 0)
		change(&j)
		return j
	}
	outbox := func(written, removed, heard time.Time) history.Line {
		return history.Line{Event: &history.Event{Join: join(3, 1, 0), Permission: permission, Time: at(3), Written: written, Removed: removed, Heard: heard}}
	}
	third := []history.Line{accept(join(3, 1, 0), 3), session(join(3, 1, 0), 3)}
	live := func(j history.Join) history.Line {
		return history.Line{Session: &history.Session{Join: j, Live: true}}
	}
	for _, c := range []struct {
		name  string
		tale  tale
		rules []history.Rule
	}{
		{"nothing", nil, nil},
		{"two joins", good, nil},
		{"an event came twice", good.with(event(join(2, 1, 0), 2)), nil},
		{"an answer that the device never had", made().with(event(join(1, 1, 0), 1), session(join(1, 1, 0), 1)), nil},
		{"only the last sessions are known", made().with(accept(join(1, 1, 0), 1), event(join(1, 1, 0), 1)).with(all(join(2, 1, 0), 2)...), nil},

		{"a DevNonce is accepted twice", good.with(all(changed(func(j *history.Join) { j.JoinNonce, j.DevAddr = 3, "00000003" }), 3)...), []history.Rule{history.DevNonceTwice}},
		{"the same DevNonce with another JoinEUI", good.with(all(changed(func(j *history.Join) { j.JoinNonce, j.JoinEUI, j.DevAddr = 3, "0000000000000000", "00000003" }), 3)...), nil},
		{"a JoinNonce is used twice", good.with(all(changed(func(j *history.Join) { j.DevNonce, j.DevAddr = 103, "00000003" }), 3)...), []history.Rule{history.JoinNonceTwice}},
		{"the device decrypted another DevAddr", made().with(accept(changed(func(j *history.Join) { j.DevAddr = "0000000f" }), 2), event(join(2, 1, 0), 2), session(join(2, 1, 0), 2)), []history.Rule{history.AccountsDiffer}},
		{"the device decrypted another RxDelay", made().with(accept(join(2, 2, 0), 2), event(join(2, 1, 0), 2), session(join(2, 1, 0), 2)), []history.Rule{history.AccountsDiffer}},
		{"DevAddrs collide", good.with(live(join(1, 1, 0)), live(changed(func(j *history.Join) { j.DevEUI, j.DevAddr = "d896e0ffff000002", "00000001" }))), []history.Rule{
			history.DevAddrTwice, history.EventMissing,
		}},
		{"live sessions of the end", good.with(live(join(1, 1, 0)), live(join(2, 1, 0))), nil},

		{"an update, then a join by it", good.with(done(history.RxDelay, 5, 2.5, 2.6)).with(all(join(3, 5, 0), 3)...), nil},
		{"a join by the older RxDelay after success", good.with(done(history.RxDelay, 5, 2.5, 2.6)).with(all(join(3, 1, 0), 3)...), []history.Rule{history.StalePolicy}},
		{"a join by the older DataRate after success", good.with(done(history.DataRate, 5, 2.5, 2.6)).with(all(join(3, 1, 0), 3)...), []history.Rule{history.StalePolicy}},
		{"a join by the older RxDelay while the update is under way", good.with(done(history.RxDelay, 5, 2.5, 3.1)).with(all(join(3, 1, 0), 3)...), nil},
		{"a join by the newer RxDelay while the update is under way", good.with(done(history.RxDelay, 5, 2.5, 3.1)).with(all(join(3, 5, 0), 3)...), nil},
		{"a join by an RxDelay before it was asked for", good.with(done(history.RxDelay, 5, 3.5, 3.6)).with(all(join(3, 5, 0), 3)...), []history.Rule{history.StalePolicy}},
		{"a join by an RxDelay that was refused", good.with(call(permission, history.RxDelay, 5, 2.5, 2.6, history.Refused)).with(all(join(3, 5, 0), 3)...), []history.Rule{history.StalePolicy}},
		{"a stale join, received before the update's answer but committed after", good.with(done(history.RxDelay, 5, 2.5, 2.6)).with(accept(join(3, 1, 0), 2.4), event(join(3, 1, 0), 2.4), session(join(3, 1, 0), 2.7)), []history.Rule{history.StalePolicy}},
		{"an instance whose clock is 40 s ahead", good.with(done(history.RxDelay, 5, 2.5, 2.6)).with(accept(join(3, 1, 0), 2.4), event(join(3, 1, 0), 42.4), session(join(3, 1, 0), 2.4)), nil},
		{"of overlapping updates either counts", good.with(done(history.RxDelay, 5, 2.2, 2.6), done(history.RxDelay, 7, 2.3, 2.5)).with(all(join(3, 5, 0), 3)...), nil},
		{"an update that was replaced", good.with(done(history.RxDelay, 5, 2.2, 2.3), done(history.RxDelay, 7, 2.4, 2.5)).with(all(join(3, 5, 0), 3)...), []history.Rule{history.StalePolicy}},

		{"an update of unknown outcome, carried out", good.with(unknown(history.RxDelay, 5, 2.5, 2.6)).with(all(join(3, 5, 0), 3)...), nil},
		{"an update of unknown outcome, not carried out", good.with(unknown(history.RxDelay, 5, 2.5, 2.6)).with(all(join(3, 1, 0), 3)...), nil},
		{"unknown, and the record shows that it was carried out later", good.with(unknown(history.RxDelay, 5, 2.5, 2.6), state(history.RxDelay, 1, -9.95), state(history.RxDelay, 5, 4)).with(all(join(3, 1, 0), 3)...), nil},
		{"unknown, and the record shows that it was not", good.with(unknown(history.RxDelay, 5, 2.5, 2.6), state(history.RxDelay, 1, -9.95)).with(all(join(3, 5, 0), 3)...), []history.Rule{history.StalePolicy}},
		{"unknown, carried out, and a later join by the one before", good.with(unknown(history.RxDelay, 5, 2.5, 2.6), state(history.RxDelay, 1, -9.95), state(history.RxDelay, 5, 2.8)).with(all(join(3, 1, 0), 3)...), []history.Rule{history.StalePolicy}},
		{"the record forgot an answered update", good.with(done(history.RxDelay, 5, 2.5, 2.6), state(history.RxDelay, 1, -9.95)), []history.Rule{history.WriteLost}},
		{"an update that changed nothing", good.with(done(history.RxDelay, 1, 2.5, 2.6), state(history.RxDelay, 1, -9.95)), nil},

		{"a join after disabled", good.with(done(history.Enabled, 0, 2.5, 2.6)).with(all(join(3, 1, 0), 3)...), []history.Rule{history.JoinedWhileDisabled}},
		{"a join while disabling", good.with(done(history.Enabled, 0, 2.5, 3.1)).with(all(join(3, 1, 0), 3)...), nil},
		{"a join after enabled again", good.with(done(history.Enabled, 0, 2.5, 2.6), done(history.Enabled, 1, 2.7, 2.8)).with(all(join(3, 1, 0), 3)...), nil},
		{"a join of a disabled node", good.with(call(node, history.Enabled, 0, 2.5, 2.6, history.Done)).with(all(join(3, 1, 0), 3)...), []history.Rule{history.JoinedWhileDisabled}},
		{"a refusal while disabled", good.with(done(history.Enabled, 0, 2.5, 2.6), refusal(permission, "permission_disabled", 3, 3.3)), nil},
		{"a refusal across enabling", good.with(done(history.Enabled, 0, 2.5, 2.6), done(history.Enabled, 1, 3.1, 3.2), refusal(permission, "permission_disabled", 3, 3.5)), nil},
		{"a refusal after enabled", good.with(done(history.Enabled, 0, 2.5, 2.6), done(history.Enabled, 1, 2.7, 2.8), refusal(permission, "permission_disabled", 3, 3.3)), []history.Rule{history.RefusedWhileEnabled}},
		{"a refusal before it was ever disabled", good.with(refusal(permission, "permission_disabled", 3, 3.3)), []history.Rule{history.RefusedWhileEnabled}},
		{"a refusal after an unknown disabling", good.with(unknown(history.Enabled, 0, 2.5, 2.6), refusal(permission, "permission_disabled", 3, 3.3)), nil},
		{"a refused node that is enabled", good.with(refusal(node, "device_disabled", 3, 3.3)), []history.Rule{history.RefusedWhileEnabled}},
		{"other refusals", good.with(refusal("", "bad_mic", 3, 3.3)), nil},

		{"an accepted join without event", made().with(accept(join(1, 1, 0), 1), session(join(1, 1, 0), 1)), []history.Rule{history.EventMissing}},
		{"a session without event", good.with(session(join(3, 1, 0), 3)), []history.Rule{history.EventMissing}},
		{"an event without session", good.with(event(join(3, 1, 0), 3)), []history.Rule{history.SessionMissing}},
		{"a join-accept without session and event", good.with(accept(join(3, 1, 0), 3)), []history.Rule{history.SessionMissing, history.EventMissing}},
		{"an event that was delivered", good.with(third...).with(outbox(at(3), at(3.1), at(3.1))), nil},
		{"an event that nobody heard", good.with(third...).with(outbox(at(3), at(3.1), time.Time{})), []history.Rule{history.EventLost}},
		{"an event that nobody could hear", good.with(third...).with(outbox(at(3), at(3.1), time.Time{}), history.Line{Missed: &history.Missed{From: at(4), To: at(5)}}), nil},
		{"an event that waits", good.with(third...).with(outbox(at(3), time.Time{}, time.Time{})), []history.Rule{history.EventLost}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 3 { // in any order
				rand.Shuffle(len(c.tale), func(i, j int) { c.tale[i], c.tale[j] = c.tale[j], c.tale[i] })
				if got := rulesOf(c.tale); !slices.Equal(got, sorted(c.rules)) {
					found, _ := history.Check(c.tale)
					t.Fatalf("found %v, want %v", found, c.rules)
				}
			}
		})
	}
}

// rulesOf gives the rules that a history breaks, each once.
func rulesOf(lines []history.Line) (rules []history.Rule) {
	found, _ := history.Check(lines)
	for _, v := range found {
		rules = append(rules, v.Rule)
	}
	return slices.Compact(sorted(rules))
}

func sorted(rules []history.Rule) []history.Rule {
	rules = slices.Clone(rules)
	slices.Sort(rules)
	return rules
}

// Histories of a server that keeps its promises, made by a model of one: nothing is
// found. With one join moved behind the answer of the update that replaced its
// policy, that is found.
func TestCheckOfModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := made()
		now, value, joins := 0.0, 1, 0
		step := func() float64 { now += rapid.Float64Range(0.001, 0.5).Draw(t, "step"); return now }
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "update") {
				begin, committed := step(), step()
				outcome := rapid.SampledFrom([]history.Outcome{history.Done, history.Done, history.Unknown}).Draw(t, "outcome")
				value = value%15 + 1
				lines = lines.with(call(permission, history.RxDelay, value, begin, step(), outcome), state(history.RxDelay, value, committed))
				continue
			}
			joins++
			lines = lines.with(all(join(joins, value, 0), step())...)
		}
		lines = lines.with(state(history.RxDelay, 1, -9.95))
		if found, _ := history.Check(lines); len(found) > 0 {
			t.Fatalf("a good history has violations: %v", found)
		}
		begin, committed, next := step(), step(), value%15+1
		stale := lines.with(done(history.RxDelay, next, begin, step()), state(history.RxDelay, next, committed)).with(all(join(joins+1, value, 0), step())...)
		if got := rulesOf(stale); !slices.Equal(got, []history.Rule{history.StalePolicy}) {
			t.Fatalf("a stale join: found %v", got)
		}
	})
}

func TestReadWhatWasWritten(t *testing.T) {
	lines := made().with(all(join(1, 1, 0), 1)...).with(refusal(permission, "permission_disabled", 3, 3.5), state(history.Enabled, 0, 3),
		history.Line{Missed: &history.Missed{From: at(1), To: at(2)}}, history.Line{Fault: &history.Fault{What: "Redis: FLUSHALL", From: at(1), To: at(2)}})
	var file bytes.Buffer
	w := history.NewWriter(&file)
	for _, l := range lines {
		w.Write(l)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	again, err := history.Read(&file)
	if err != nil || len(again) != len(lines) {
		t.Fatalf("%d lines of %d were read: %v", len(again), len(lines), err)
	}
	before, n := history.Check(lines)
	after, m := history.Check(again)
	if !slices.Equal(before, after) || n != m {
		t.Errorf("%v %v, but read again %v %v", before, n, after, m)
	}
}

func TestReadRefuses(t *testing.T) {
	for text, want := range map[string]string{"{}\n": "line 1", "{\"call\":{}}\nx\n": "line 2", "{\"strange\":{}}\n": "line 1"} {
		if _, err := history.Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"accept":{"dev_eui":"d896e0ffff000001","dev_nonce":1,"join_nonce":1,"sent":"2026-01-02T03:04:05Z"}}`))
	f.Add([]byte(`{"call":{"target":"permission 1003","set":{"enabled":0},"outcome":"unknown"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if lines, err := history.Read(bytes.NewReader(text)); err == nil {
			history.Check(lines) // whatever it says, it comes to an end
		}
	})
}
