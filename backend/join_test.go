package backend_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"joingate/backend"
	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
)

// TestJoin10 is the whole answer to a JoinReq of a 1.0.x device.
func TestJoin10(t *testing.T) {
	w := newWorld(t).withASKEK()
	w.config.Lifetime = time.Hour
	w.open()
	answer := w.mustSucceed(joinReq(set("SenderToken", "0xABcd"), set("SenderNSID", "1122334455667788"), set("Novel", msg{"a": []int{1}})))
	if answer.MessageType != "JoinAns" || answer.TransactionID != 4294967295 || answer.ProtocolVersion != "1.1" ||
		answer.SenderID != joinEUI.String() || answer.ReceiverID != "000013" || answer.ReceiverToken != "0xABcd" || answer.ReceiverNSID != "1122334455667788" {
		t.Errorf("common fields: %s", answer.body)
	}
	if answer.PHYPayload != "20010203" || answer.Lifetime == nil || *answer.Lifetime != 3600 || answer.SessionKeyID != device.String()+"010203" {
		t.Errorf("answer: %s", answer.body)
	}
	if got := answer.NwkSKey.open(t, "ns-kek", kekHex); got != nwkSKey {
		t.Errorf("NwkSKey opens to %s", got)
	}
	if got := answer.AppSKey.open(t, "as-kek", asKEKHex); got != appSKey {
		t.Errorf("AppSKey opens to %s", got)
	}
	if answer.FNwkSIntKey != nil || answer.SNwkSIntKey != nil || answer.NwkSEncKey != nil {
		t.Errorf("a 1.0.x answer has keys of 1.1: %s", answer.body)
	}

	asked := w.asked[0]
	want := joinserver.NetworkRequest{
		Server: "ns", NetID: netID, PHYPayload: asked.PHYPayload, DevEUI: device, MACVersion: band.MAC1_0_3,
		DevAddr: joinserver.DevAddr{0x26, 0, 0, 1}, DLSettings: 3, RxDelay: time.Second, Received: start,
	}
	if hex.EncodeToString(asked.PHYPayload) != joinFrame || !equal(asked, want) {
		t.Errorf("JoinFor was asked %+v, want %+v", asked, want)
	}
	if o := w.seen[0]; o.MessageType != "JoinReq" || o.Result != backend.Success || o.Server != "ns" || o.Rejection != nil {
		t.Errorf("observed %+v", o)
	}
}

func equal(a, b joinserver.NetworkRequest) bool {
	return a.Server == b.Server && a.NetID == b.NetID && string(a.PHYPayload) == string(b.PHYPayload) && a.DevEUI == b.DevEUI &&
		a.MACVersion == b.MACVersion && a.DevAddr == b.DevAddr && a.DLSettings == b.DLSettings && a.RxDelay == b.RxDelay &&
		string(a.CFList) == string(b.CFList) && a.Received.Equal(b.Received)
}

func TestJoin11(t *testing.T) {
	w := newWorld(t).withASKEK()
	w.join = func(r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) { return w.granted(r, true), nil }
	w.open()
	cfList := "184f84e85684b85e84886684586e8400"
	answer := w.mustSucceed(joinReq(set("MACVersion", "1.1"), set("CFList", cfList), set("RxDelay", 15), set("DLSettings", "0x83")))
	for _, c := range []struct {
		name      string
		envelope  *keyEnvelope
		want      string
		label, in string
	}{
		{"FNwkSIntKey", answer.FNwkSIntKey, nwkSKey, "ns-kek", kekHex},
		{"SNwkSIntKey", answer.SNwkSIntKey, sNwkHex, "ns-kek", kekHex},
		{"NwkSEncKey", answer.NwkSEncKey, encHex, "ns-kek", kekHex},
		{"AppSKey", answer.AppSKey, appSKey, "as-kek", asKEKHex},
	} {
		if got := c.envelope.open(t, c.label, c.in); got != c.want {
			t.Errorf("%s opens to %s", c.name, got)
		}
	}
	if answer.NwkSKey != nil || *answer.Lifetime != 0 {
		t.Errorf("answer: %s", answer.body)
	}
	asked := w.asked[0]
	if hex.EncodeToString(asked.CFList) != cfList || asked.RxDelay != 15*time.Second || asked.DLSettings != 0x83 || asked.MACVersion != band.MAC1_1 {
		t.Errorf("JoinFor was asked %+v", asked)
	}
}

// TestKeyEnvelopeVectors holds envelopes against RFC 3394 and what other join
// servers send.
func TestKeyEnvelopeVectors(t *testing.T) {
	tried := 0
	for _, v := range readVectors(t).KeyWrap {
		if !v.OK || len(v.Plaintext) != 32 {
			continue
		}
		tried++
		w := newWorld(t)
		w.ns().KEK.KEK = wrappingKey(t, v.KEK)
		w.join = func(r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
			answer := w.granted(r, false)
			answer.Keys.FNwkSIntKey = key(t, v.Plaintext)
			return answer, nil
		}
		if got := w.open().mustSucceed(joinReq()).NwkSKey; got.KEKLabel != "ns-kek" || got.AESKey != v.Ciphertext {
			t.Errorf("%s: envelope %+v, want %s", v.ID, got, v.Ciphertext)
		}
	}
	if tried < 3 {
		t.Errorf("only %d vectors", tried)
	}
}

// TestWhoGetsTheAppSKey: wrapped if the account has registered a key, in the clear
// only where the configuration says so, else not at all.
func TestWhoGetsTheAppSKey(t *testing.T) {
	for _, c := range []struct {
		name        string
		kek, clear  bool // of the network server
		as          bool
		nwk, app    string // label, or "clear", or "none"
		cannotBegin bool
	}{
		{"both wrapped", true, false, true, "ns-kek", "as-kek", false},
		{"no application server's key", true, false, false, "ns-kek", "none", false},
		{"wrapped, and in the clear for want of a key", true, true, false, "ns-kek", "clear", false},
		{"in the clear", false, true, false, "clear", "clear", false},
		{"in the clear, and wrapped", false, true, true, "clear", "as-kek", false},
		{"neither", false, false, true, "", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.ns().KeysInClear = c.clear
			if !c.kek {
				w.ns().KEK = joinserver.KeyEncryption{}
			}
			if c.as {
				w.withASKEK()
			}
			if c.cannotBegin {
				if _, err := backend.New(w.config); err == nil {
					t.Error("a server was made that cannot send keys")
				}
				return
			}
			answer := w.open().mustSucceed(joinReq())
			if got := sealing(answer.NwkSKey, nwkSKey); got != c.nwk {
				t.Errorf("NwkSKey is %s, want %s", got, c.nwk)
			}
			if got := sealing(answer.AppSKey, appSKey); got != c.app {
				t.Errorf("AppSKey is %s, want %s", got, c.app)
			}
			if (answer.SessionKeyID == "") != (c.app == "clear") {
				t.Errorf("SessionKeyID is %q: who has the key in the clear needs none, all others do", answer.SessionKeyID)
			}
		})
	}
}

// sealing is the label of an envelope, "clear" for one that holds the key as it
// is, "none" for no envelope.
func sealing(e *keyEnvelope, keyHex string) string {
	switch {
	case e == nil:
		return "none"
	case e.KEKLabel == "" && e.AESKey == keyHex:
		return "clear"
	case len(e.AESKey) != 48 || strings.Contains(e.AESKey, keyHex):
		return "broken"
	}
	return e.KEKLabel
}

// TestReasons: every reason has a result in both versions, and the description
// says which reason it was and what to do.
func TestReasons(t *testing.T) {
	want := map[joinserver.Reason][2]string{ // 1.0, 1.1
		joinserver.Malformed:          {"MalformedRequest", "MalformedMessage"},
		joinserver.UnknownDevice:      {"UnknownDevEUI", "UnknownDevEUI"},
		joinserver.DeviceDisabled:     {"ActivationDisallowed", "ActivationDisallowed"},
		joinserver.NoPermission:       {"ActivationDisallowed", "ActivationDisallowed"},
		joinserver.PermissionDisabled: {"ActivationDisallowed", "ActivationDisallowed"},
		joinserver.WrongJoinEUI:       {"JoinReqFailed", "JoinReqFailed"},
		joinserver.WrongBandPlan:      {"JoinReqFailed", "JoinReqFailed"},
		joinserver.GatewayNotAllowed:  {"JoinReqFailed", "JoinReqFailed"},
		joinserver.BadMIC:             {"MICFailed", "MICFailed"},
		joinserver.DevNonceReplayed:   {"JoinReqFailed", "FrameReplayed"},
		joinserver.JoinNonceExhausted: {"JoinReqFailed", "JoinReqFailed"},
		joinserver.RateLimited:        {"JoinReqFailed", "JoinReqFailed"},
		joinserver.TooLate:            {"JoinReqFailed", "JoinReqFailed"},
		joinserver.NoAirtime:          {"JoinReqFailed", "JoinReqFailed"},
		joinserver.Overloaded:         {"JoinReqFailed", "JoinReqFailed"},
		joinserver.NoSession:          {"JoinReqFailed", "JoinReqFailed"},
		joinserver.WrongNetID:         {"JoinReqFailed", "JoinReqFailed"},
		joinserver.WrongParameters:    {"JoinReqFailed", "JoinReqFailed"},
	}
	for _, reason := range joinserver.Reasons() {
		codes, decided := want[reason]
		if !decided {
			t.Errorf("%s has no result here: decide on one", reason)
			continue
		}
		w := newWorld(t)
		w.join = func(joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
			return joinserver.NetworkAnswer{}, &joinserver.Rejection{Reason: reason, DevEUI: device, JoinEUI: joinEUI, Account: account, Detail: "the detail"}
		}
		w.open()
		for i, version := range []string{"1.0", "1.1"} {
			answer := w.send(joinReq(set("ProtocolVersion", version)))
			w.wantResult(answer, codes[i], reason.String()+" (the detail): ")
			if answer.ProtocolVersion != version || !strings.Contains(answer.Result.Description, reason.Remedy()) {
				t.Errorf("%s: %s", reason, answer.body)
			}
			if o := w.seen[i]; o.Rejection == nil || o.Rejection.Reason != reason {
				t.Errorf("%s: observed %+v", reason, o)
			}
		}
		if !strings.Contains(w.logged(), `"reason":"`+reason.String()+`"`) {
			t.Errorf("%s is not in the log: %s", reason, w.logged())
		}
	}
}

func TestJoinFaults(t *testing.T) {
	secret := errors.New("disk of db7.internal is full")
	w := newWorld(t)
	w.join = func(joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
		return joinserver.NetworkAnswer{}, secret
	}
	answer := w.open().send(joinReq())
	w.wantResult(answer, "Other", "its log says why")
	if strings.Contains(answer.body, "db7") || !strings.Contains(w.logged(), "db7") {
		t.Errorf("the fault belongs into the log and nowhere else: %s; %s", answer.body, w.logged())
	}

	w.join = func(joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) { panic(secret) }
	w.wantResult(w.send(joinReq()), "Other", "")
	w.join = func(joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
		return joinserver.NetworkAnswer{}, joinserver.ErrLateCopy
	}
	w.wantResult(w.send(joinReq()), "FrameReplayed", "answered before")

	w.join = func(r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) { return w.granted(r, false), nil }
	w.fault = secret
	w.wantResult(w.send(joinReq()), "Other", "")
	w.fault = nil
	w.join = func(r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
		answer := w.granted(r, false)
		answer.Keys = keyring.SessionKeys{}
		return answer, nil
	}
	w.wantResult(w.send(joinReq(set("TransactionID", 2))), "Other", "")
}

// TestFrameOfAnotherMessage: the frame and the message around it must agree.
func TestFrameOfAnotherMessage(t *testing.T) {
	for _, c := range []struct {
		name         string
		edit         func(msg)
		code, detail string
	}{
		{"short frame", set("PHYPayload", joinFrame[:44]), "FrameSizeError", "22 octets, not 23"},
		{"long frame", set("PHYPayload", joinFrame+"00"), "FrameSizeError", "24 octets, not 23"},
		{"no frame", set("PHYPayload", ""), "FrameSizeError", "0 octets"},
		{"data frame", set("PHYPayload", "40"+joinFrame[2:]), "MalformedMessage", "MHDR 40"},
		{"another device", set("DevEUI", "0203040502030406"), "MalformedMessage", "DevEUI is not the one"},
		{"another JoinEUI", set("ReceiverID", "0102030401020305"), "UnkownReceiver", "JoinEUI of the frame"},
		{"NetID as receiver", set("ReceiverID", "000013"), "MalformedMessage", "no JoinEUI"},
		{"other parameters", set("MACVersion", "1.2"), "MalformedMessage", "MACVersion"},
		{"no DevAddr", without("DevAddr"), "MalformedMessage", "DevAddr"},
		{"DevAddr of 3 octets", set("DevAddr", "260000"), "MalformedMessage", "DevAddr has 3 octets"},
		{"RxDelay as text", set("RxDelay", "1"), "MalformedMessage", "RxDelay"},
		{"RxDelay of 16", set("RxDelay", 16), "MalformedMessage", "0 to 15"},
		{"RxDelay of 1.5", set("RxDelay", 1.5), "MalformedMessage", "RxDelay"},
		{"negative RxDelay", set("RxDelay", -1), "MalformedMessage", "RxDelay"},
		{"DLSettings of 2 octets", set("DLSettings", "0003"), "MalformedMessage", "DLSettings"},
		{"CFList of 15 octets", set("CFList", strings.Repeat("00", 15)), "MalformedMessage", "CFList has 15"},
		{"CFList of 17 octets", set("CFList", strings.Repeat("00", 17)), "MalformedMessage", "CFList"},
		{"odd digits", set("PHYPayload", joinFrame[1:]), "MalformedMessage", "no hex"},
		{"null", set("DevEUI", nil), "MalformedMessage", "DevEUI is missing"},
		{"object for text", set("DevEUI", msg{}), "MalformedMessage", "DevEUI is no text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t).open()
			w.wantResult(w.send(joinReq(c.edit)), c.code, strings.Replace(c.detail, "no hex", "not hex", 1))
			if len(w.asked) != 0 {
				t.Error("JoinFor was asked")
			}
		})
	}
	// What is allowed beside the strict form.
	w := newWorld(t).open()
	for i, edit := range []func(msg){
		set("CFList", ""), set("CFList", nil), set("MACVersion", "1.0"), set("MACVersion", "1.1.0"), set("MACVersion", "1.1.1"),
		set("PHYPayload", "0x"+joinFrame), set("DevEUI", "0X"+strings.ToUpper(device.String())), set("ReceiverID", strings.ToUpper(joinEUI.String())),
	} {
		w.mustSucceed(joinReq(edit, set("TransactionID", i)))
	}
}

func TestRejoin(t *testing.T) {
	for _, v := range readVectors(t).Rejoin {
		t.Run(v.ID, func(t *testing.T) {
			w := newWorld(t)
			w.join = func(r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) { return w.granted(r, true), nil }
			w.open()
			dev, err := joinserver.ParseEUI64(v.DevEUI)
			if err != nil {
				t.Fatal(err)
			}
			named := joinEUI.String() // of the session, where the frame names none
			if v.JoinEUI != nil {
				named = *v.JoinEUI
			}
			rejoin := func(edits ...func(msg)) msg {
				m := joinReq(set("MessageType", "RejoinReq"), set("PHYPayload", v.PHY), set("DevEUI", v.DevEUI), set("MACVersion", "1.1"), set("ReceiverID", named))
				for _, edit := range edits {
					edit(m)
				}
				return m
			}
			w.sessions[dev] = []joinserver.Session{{DevEUI: dev, JoinEUI: joinEUI, Live: true}}
			answer := w.mustSucceed(rejoin())
			if answer.MessageType != "RejoinAns" || answer.FNwkSIntKey.open(t, "ns-kek", kekHex) != nwkSKey {
				t.Errorf("answer: %s", answer.body)
			}
			w.wantResult(w.send(rejoin(set("ReceiverID", "ffffffffffffffff"))), "UnkownReceiver", "JoinEUI")
			w.wantResult(w.send(rejoin(set("MessageType", "JoinReq"))), "FrameSizeError", "")
			w.wantResult(w.send(rejoin(set("PHYPayload", v.PHY[:2]+"03"+v.PHY[4:]))), map[int]string{0: "MalformedMessage", 1: "FrameSizeError", 2: "MalformedMessage"}[v.Type], "")

			// Without a session it is for JoinFor to say so.
			delete(w.sessions, dev)
			w.join = func(joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
				return joinserver.NetworkAnswer{}, &joinserver.Rejection{Reason: joinserver.NoSession, DevEUI: dev}
			}
			w.wantResult(w.send(rejoin(set("TransactionID", 2))), "JoinReqFailed", "no_session")
			w.fault = errors.New("out of order")
			if v.Type != 1 {
				w.wantResult(w.send(rejoin(set("TransactionID", 3))), "Other", "")
			}
		})
	}
}

// TestAccountsOfANetworkServer: devices of other accounts are refused before
// anything is decided.
func TestAccountsOfANetworkServer(t *testing.T) {
	w := newWorld(t)
	w.ns().Accounts = []joinserver.AccountID{8, account}
	w.open().mustSucceed(joinReq())

	w = newWorld(t)
	w.ns().Accounts = []joinserver.AccountID{8}
	w.open()
	w.wantResult(w.send(joinReq()), "NoRoamingAgreement", "account")
	if len(w.asked) != 0 {
		t.Error("JoinFor was asked")
	}
	delete(w.policies, device)
	w.join = func(joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
		return joinserver.NetworkAnswer{}, &joinserver.Rejection{Reason: joinserver.UnknownDevice, DevEUI: device}
	}
	w.wantResult(w.send(joinReq()), "UnknownDevEUI", "unknown_device")
}
