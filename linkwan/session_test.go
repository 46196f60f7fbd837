package linkwan

import (
	"context"
	"errors"
	"testing"

	"joingate/joinserver"
)

// fakeSessions are the live sessions of nodes, and which were confirmed, the last by
// whose word.
type fakeSessions struct {
	live      map[joinserver.EUI64][]joinserver.Session
	confirmed []uint32
	by        joinserver.Write
	fault     error
}

func (s *fakeSessions) Sessions(_ context.Context, device joinserver.EUI64) ([]joinserver.Session, error) {
	return s.live[device], s.fault
}

func (s *fakeSessions) confirm(_ context.Context, by joinserver.Write, device joinserver.EUI64, joinNonce uint32) error {
	if s.by = by; by.Account != alice || device != mustEUI(devEUI) {
		return joinserver.ErrNotFound
	}
	s.confirmed = append(s.confirmed, joinNonce)
	return s.fault
}

// joined gives alice a node with two live sessions and returns its parameters.
func joined(w *world) []string {
	eui := mustEUI(w.node("alice", devEUI, w.group("alice", "meters")))
	w.sessions.live = map[joinserver.EUI64][]joinserver.Session{eui: {
		{DevEUI: eui, JoinNonce: 8, DevAddr: joinserver.DevAddr{0x01, 0xab, 2, 3}},
		{DevEUI: eui, JoinNonce: 7, DevAddr: joinserver.DevAddr{0x01, 0xab, 2, 4}},
	}}
	return []string{"DevEui=" + devEUI, "JoinNonce=8"}
}

func TestConfirmNodeSession(t *testing.T) {
	w := newWorld(t)
	joined(w)
	for _, c := range []struct {
		params    []string
		code      string // "": confirmed
		confirmed uint32
	}{
		{params: []string{"JoinNonce=8"}, confirmed: 8},
		{params: []string{"JoinNonce=8"}, confirmed: 8}, // said again
		{params: []string{"JoinNonce=7"}, confirmed: 7},
		{params: []string{"DevAddr=01AB0204"}, confirmed: 7},
		{params: []string{"DevAddr=01ab0203", "JoinNonce=8"}, confirmed: 8},
		{params: []string{"DevAddr=01ab0203", "JoinNonce=7"}, code: "NonExistent"},
		{params: []string{"JoinNonce=6"}, code: "NonExistent"},
		{params: []string{"DevAddr=ffffffff"}, code: "NonExistent"},
		{code: "MissingParameter"},
		{params: []string{"JoinNonce=16777216"}, code: "InvalidParameter"},
		{params: []string{"JoinNonce=-1"}, code: "InvalidParameter"},
		{params: []string{"DevAddr=01ab02"}, code: "InvalidParameter"},
		{params: []string{"DevAddr=01ab02zz"}, code: "InvalidParameter"},
	} {
		w.sessions.confirmed = nil
		params := append([]string{"DevEui=" + devEUI}, c.params...)
		if c.code != "" {
			w.fails(c.code, "alice", "ConfirmNodeSession", params...)
		} else {
			w.must("alice", "ConfirmNodeSession", params...)
		}
		if got := w.sessions.confirmed; c.code != "" && len(got) != 0 || c.code == "" && (len(got) != 1 || got[0] != c.confirmed) {
			t.Errorf("%v confirmed %v", c.params, got)
		}
	}
	if by := w.sessions.by; by.AccessKeyID == "" || by.From == "" || by.Action != "ConfirmNodeSession" || by.RequestID == "" || by.Nonce == "" || by.At.IsZero() {
		t.Errorf("confirmed by the word of %+v", by)
	}
}

func TestConfirmNodeSessionWithoutSessions(t *testing.T) {
	w := newWorld(t)
	sample := joined(w)
	for code, fault := range map[string]error{
		"NonExistent":        joinserver.ErrNotFound, // it was replaced a moment ago
		"SignatureNonceUsed": joinserver.ErrNonceUsed,
	} {
		w.server.ConfirmSession = func(context.Context, joinserver.Write, joinserver.EUI64, uint32) error { return fault }
		w.fails(code, "alice", "ConfirmNodeSession", sample...)
	}
	w.sessions.fault = errors.New("the database is away")
	w.fails("InternalError", "alice", "ConfirmNodeSession", sample...)
	w.server.ConfirmSession = nil
	w.fails("InvalidAction.NotFound", "alice", "ConfirmNodeSession", sample...)
}

// A network server may confirm a whole fleet at once.
func TestConfirmationsAreNotThrottledAsOthers(t *testing.T) {
	w := newWorld(t)
	sample := joined(w)
	for range 3 * callsPerSecond {
		if _, err := w.client("alice").Call(t.Context(), "ConfirmNodeSession", args(sample...)); err != nil {
			t.Fatal(err)
		}
	}
}
