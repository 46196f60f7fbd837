package backend_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"joingate/backend"
	"joingate/joinserver"
	"joingate/keyring"
)

// TestAppSKeyVectors derives the AppSKey of every vector again, for the 1.0.x
// devices and those of 1.1.
func TestAppSKeyVectors(t *testing.T) {
	tried := 0
	for _, v := range readVectors(t).Keys {
		if v.Expected.AppSKey == "" {
			continue
		}
		tried++
		t.Run(v.ID, func(t *testing.T) {
			w := newWorld(t).withASKEK()
			is11 := v.NetID == nil
			policy := w.policies[device]
			policy.Node.Keys = keyring.RootKeys{App: optionalKey(t, v.Root.App), Nwk: optionalKey(t, v.Root.Nwk)}
			session := joinserver.Session{DevEUI: device, JoinEUI: joinEUI, Account: account, Live: true}
			session.JoinNonce = number(t, *v.JoinNonce)
			session.DevNonce = uint16(number(t, *v.DevNonce))
			if is11 {
				session.DLSettings = 0x80
				copy(session.JoinEUI[:], octets(t, *v.JoinEUI))
			} else {
				copy(session.NetID[:], octets(t, *v.NetID))
			}
			w.policies[device], w.sessions[device] = policy, []joinserver.Session{session}
			answer := w.open().mustSucceed(appSKeyReq(joinserver.SessionKeyID(device, session.JoinNonce), set("ReceiverID", session.JoinEUI.String())))
			if got := answer.AppSKey.open(t, "as-kek", asKEKHex); got != v.Expected.AppSKey {
				t.Errorf("AppSKey opens to %s, want %s", got, v.Expected.AppSKey)
			}
			if answer.MessageType != "AppSKeyAns" || answer.DevEUI != device.String() || answer.SessionKeyID != device.String()+(*v.JoinNonce) {
				t.Errorf("answer: %s", answer.body)
			}
		})
	}
	if tried < 10 {
		t.Errorf("only %d vectors", tried)
	}
}

func optionalKey(t *testing.T, digits *string) keyring.Key {
	if digits == nil {
		return keyring.Key{}
	}
	return key(t, *digits)
}

func octets(t *testing.T, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func number(t *testing.T, digits string) uint32 {
	b := octets(t, digits)
	return binary.BigEndian.Uint32(append(make([]byte, 4-len(b)), b...))
}

// withSessions gives the device its newest session and the one before.
func (w *world) withSessions() *world {
	session := func(joinNonce uint32) joinserver.Session {
		return joinserver.Session{DevEUI: device, JoinEUI: joinEUI, JoinNonce: joinNonce, NetID: netID, Account: account, Live: true}
	}
	w.sessions[device] = []joinserver.Session{session(6), session(5)}
	return w
}

// TestAskingConfirms: who asks for the key of the newest session has heard the
// device use it.
func TestAskingConfirms(t *testing.T) {
	w := newWorld(t).withASKEK().withSessions().open()
	w.mustSucceed(appSKeyReq(joinserver.SessionKeyID(device, 5)))
	if len(w.confirmed) != 0 {
		t.Errorf("the session before was confirmed: %d", w.confirmed)
	}
	w.mustSucceed(appSKeyReq(joinserver.SessionKeyID(device, 6), set("SenderID", "as.example.org")))
	if !slices.Equal(w.confirmed, []uint32{6}) {
		t.Errorf("confirmed: %d", w.confirmed)
	}
	w.sessions[device][0].Confirmed = true
	w.mustSucceed(appSKeyReq(joinserver.SessionKeyID(device, 6)))
	if len(w.confirmed) != 1 {
		t.Errorf("confirmed again: %d", w.confirmed)
	}

	// A key that is not given out confirms nothing; a confirmation that fails keeps
	// no key back.
	w = newWorld(t).withSessions().open()
	w.wantResult(w.send(appSKeyReq(joinserver.SessionKeyID(device, 6))), "Other", "no key encryption key")
	if len(w.confirmed) != 0 {
		t.Errorf("confirmed: %d", w.confirmed)
	}
	w = newWorld(t).withASKEK().withSessions()
	w.config.Confirm = nil
	w.open().mustSucceed(appSKeyReq(joinserver.SessionKeyID(device, 6)))
}

func TestAppSKeyRefused(t *testing.T) {
	id := joinserver.SessionKeyID(device, 6)
	other := joinserver.NetID{9, 9, 9}
	clear := func(w *world) { w.ns().KeysInClear, w.keks = true, joinserver.Recipients{} }
	for _, c := range []struct {
		name       string
		edit       func(w *world)
		m          msg
		code, says string
	}{
		{"unknown device", nil, appSKeyReq(id, set("DevEUI", "ffffffffffffffff")), "UnknownDevEUI", "registered"},
		{"unknown session", nil, appSKeyReq(joinserver.SessionKeyID(device, 4)), "Other", "SessionKeyID"},
		{"empty SessionKeyID", nil, appSKeyReq(nil), "Other", "SessionKeyID"},
		{"session of another device", nil, appSKeyReq(joinserver.SessionKeyID(joinserver.EUI64{1}, 6)), "Other", "SessionKeyID"},
		{"session that ended", func(w *world) { w.sessions[device][0].Live = false }, appSKeyReq(id), "Other", "SessionKeyID"},
		{"another JoinEUI", nil, appSKeyReq(id, set("ReceiverID", "ffffffffffffffff")), "UnkownReceiver", "JoinEUI"},
		{"no SessionKeyID", nil, appSKeyReq(id, without("SessionKeyID")), "MalformedMessage", "SessionKeyID"},
		{"long SessionKeyID", nil, appSKeyReq(make([]byte, 65)), "MalformedMessage", "SessionKeyID"},
		{"AS-ID of another", nil, appSKeyReq(id, set("SenderID", "as.example.com")), "UnknownSender", "SenderID"},
		{"account of another", func(w *world) { w.ns().Accounts = []joinserver.AccountID{8} }, appSKeyReq(id), "NoRoamingAgreement", "account"},
		{"another network's, in the clear", func(w *world) { clear(w); w.sessions[device][0].NetID = other }, appSKeyReq(id), "NoRoamingAgreement", "in the clear"},
		{"fault of the record", func(w *world) { w.fault = errors.New("out of order") }, appSKeyReq(id), "Other", "log"},
		{"no root key", func(w *world) {
			p := w.policies[device]
			p.Node.Keys = keyring.RootKeys{}
			w.policies[device] = p
		}, appSKeyReq(id), "Other", "log"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t).withASKEK().withSessions()
			if c.edit != nil {
				c.edit(w)
			}
			w.open()
			w.wantResult(w.send(c.m), c.code, c.says)
			if len(w.confirmed) != 0 {
				t.Errorf("confirmed: %d", w.confirmed)
			}
		})
	}

	w := newWorld(t).withSessions()
	clear(w)
	if answer := w.open().mustSucceed(appSKeyReq(id)); answer.AppSKey.KEKLabel != "" || len(answer.AppSKey.AESKey) != 32 {
		t.Errorf("in the clear, by its name: %s", answer.body)
	}
	w = newWorld(t).withASKEK().withSessions()
	w.sessions[device][0].NetID = other
	if answer := w.open().mustSucceed(appSKeyReq(id)); answer.AppSKey.KEKLabel != "as-kek" {
		t.Errorf("wrapped, another network may carry it: %s", answer.body)
	}
}

func TestConfirmationThatFails(t *testing.T) {
	w := newWorld(t).withASKEK().withSessions()
	w.config.Confirm = confirmFails
	w.open().mustSucceed(appSKeyReq(joinserver.SessionKeyID(device, 6)))
	if w.seen[0].Result != backend.Success || !strings.Contains(w.logged(), "record is busy") {
		t.Errorf("observed %+v; %s", w.seen, w.logged())
	}
}

func TestHomeNS(t *testing.T) {
	w := newWorld(t).open()
	if answer := w.mustSucceed(homeNSReq()); answer.HNetID != home.String() || answer.MessageType != "HomeNSAns" {
		t.Errorf("never joined: %s", answer.body)
	}
	w.withSessions()
	w.sessions[device][1].NetID = joinserver.NetID{9, 9, 9}
	if answer := w.mustSucceed(homeNSReq()); answer.HNetID != netID.String() {
		t.Errorf("joined: %s", answer.body)
	}
	w.wantResult(w.send(homeNSReq(set("ReceiverID", "ffffffffffffffff"))), "UnkownReceiver", "JoinEUI")
	w.wantResult(w.send(homeNSReq(set("DevEUI", "01"))), "MalformedMessage", "DevEUI")
	policy := w.policies[device]
	policy.Permission = joinserver.JoinPermission{}
	w.policies[device] = policy
	w.wantResult(w.send(homeNSReq()), "ActivationDisallowed", "no join permission")
	w.fault = errors.New("out of order")
	w.wantResult(w.send(homeNSReq()), "Other", "")
}
