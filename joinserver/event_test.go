package joinserver_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
)

const (
	nsKEK = "00112233445566778899aabbccddeeff"
	asKEK = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
)

func wrapping(t *testing.T, label, hex string) joinserver.KeyEncryption {
	t.Helper()
	kek, err := keyring.ParseWrappingKey(hex)
	if err != nil {
		t.Fatal(err)
	}
	return joinserver.KeyEncryption{Label: label, KEK: kek}
}

// opens unwraps with the server's key, as its server does, and compares.
func opens(t *testing.T, name, kek, wrapped string, want keyring.Key) {
	t.Helper()
	got, err := keyring.UnwrapKey(unhex(t, kek), unhex(t, wrapped))
	if err != nil || !got.Equal(want) {
		t.Errorf("%s unwraps to another key, %v", name, err)
	}
}

// TestKeysForServers: each server gets its keys under its own key encryption key,
// and nothing where none is registered.
func TestKeysForServers(t *testing.T) {
	for _, v := range []band.MACVersion{band.MAC1_0_3, band.MAC1_1} {
		w := newWorld(t)
		down, err := w.send(joinRequest(t, w.setVersion(v), 1))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := down.Claim.SessionKeys(down.Grant)
		if err != nil {
			t.Fatal(err)
		}
		ns, as := wrapping(t, "ns-1", nsKEK), wrapping(t, "as-1", asKEK)
		event, err := down.Claim.Event(down.Grant, start, joinserver.Recipients{Network: ns, Application: as})
		if err != nil {
			t.Fatal(err)
		}
		got := event.Keys
		if got.Network.KEKLabel != "ns-1" || got.Application.KEKLabel != "as-1" {
			t.Errorf("%s: labels %s, %s", v, got.Network.KEKLabel, got.Application.KEKLabel)
		}
		opens(t, "AppSKey", asKEK, got.Application.AppSKey, keys.AppSKey)
		if v == band.MAC1_1 {
			opens(t, "FNwkSIntKey", nsKEK, got.Network.FNwkSIntKey, keys.FNwkSIntKey)
			opens(t, "SNwkSIntKey", nsKEK, got.Network.SNwkSIntKey, keys.SNwkSIntKey)
			opens(t, "NwkSEncKey", nsKEK, got.Network.NwkSEncKey, keys.NwkSEncKey)
		} else {
			opens(t, "NwkSKey", nsKEK, got.Network.NwkSKey, keys.FNwkSIntKey)
		}
		text, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		if both := strings.Contains(string(text), `"nwkSKey"`) == strings.Contains(string(text), `"fNwkSIntKey"`); both {
			t.Errorf("%s: %s", v, text)
		}
		for _, key := range []keyring.Key{keys.AppSKey, keys.FNwkSIntKey, keys.SNwkSIntKey, keys.NwkSEncKey} {
			if strings.Contains(string(text), key.RevealHex()) {
				t.Errorf("%s: a session key is in clear in %s", v, text)
			}
		}
		for name, to := range map[string]joinserver.Recipients{"ns": {Network: ns}, "as": {Application: as}, "": {}} {
			event, err := down.Claim.Event(down.Grant, start, to)
			if err != nil {
				t.Fatal(err)
			}
			if (event.Keys != nil) != (name != "") || event.Keys != nil && ((event.Keys.Network != nil) != (name == "ns") || (event.Keys.Application != nil) != (name == "as")) {
				t.Errorf("%s: for %q alone the event has %+v", v, name, event.Keys)
			}
		}
	}
}

// TestEventWithoutRootKeys is a fault, not an event without its keys.
func TestEventWithoutRootKeys(t *testing.T) {
	down := newWorld(t).mustJoin(1)
	down.Claim.Policy.Node.Keys = keyring.RootKeys{}
	if _, err := down.Claim.Event(down.Grant, start, joinserver.Recipients{Network: wrapping(t, "ns-1", nsKEK)}); err == nil {
		t.Error("keys were made of nothing")
	}
}

// TestGoldenOutcomes pins the JSON that subscribers read.
func TestGoldenOutcomes(t *testing.T) {
	down := newWorld(t).mustJoin(1)
	at := start.Add(250 * time.Millisecond)
	refused := joinserver.TxAckSeen{Gateway: gatewayA, Statuses: []string{"COLLISION_PACKET", "TOO_LATE"}}
	taken := joinserver.TxAckSeen{Gateway: gatewayB, Statuses: []string{"OK", "IGNORED"}}
	outcomes := []joinserver.OutcomeEvent{
		down.Outcome(joinserver.OutcomeSent, gatewayB, joinserver.WindowRX1, []joinserver.TxAckSeen{refused, taken}, at),
		down.Outcome(joinserver.OutcomeRefused, gatewayA, "", []joinserver.TxAckSeen{refused}, at),
		down.Outcome(joinserver.OutcomeUnknown, gatewayA, "", nil, at),
		down.Outcome(joinserver.OutcomeUnsent, joinserver.EUI64{}, "", nil, at),
	}
	text, err := json.MarshalIndent(outcomes, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/outcome_events.golden.json", append(text, '\n'))
	if event := eventOf(t, down); event.ID != outcomes[0].ID {
		t.Errorf("the outcome is of %s, the join %s", outcomes[0].ID, event.ID)
	}
}

// TestOpened: the session that a join opens has the keys that the join has.
func TestOpened(t *testing.T) {
	for _, v := range []band.MACVersion{band.MAC1_0_4, band.MAC1_1} {
		w := newWorld(t)
		down, err := w.send(joinRequest(t, w.setVersion(v), 1))
		if err != nil {
			t.Fatal(err)
		}
		s := down.Claim.Opened(down.Grant, start)
		keys, err := s.Keys(w.record.policies[devEUI].Node.Keys)
		want, err2 := down.Claim.SessionKeys(down.Grant)
		if err != nil || err2 != nil || !keys.AppSKey.Equal(want.AppSKey) || !keys.SNwkSIntKey.Equal(want.SNwkSIntKey) {
			t.Errorf("%s: the session has other keys, %v, %v", v, err, err2)
		}
		if s.OptNeg() != (v == band.MAC1_1) {
			t.Errorf("%s: DLSettings %02x", v, s.DLSettings)
		}
		opened := joinserver.Session{
			DevEUI: devEUI, JoinEUI: joinEUI, JoinNonce: 1, DevNonce: 1, NetID: netID, DevAddr: down.Grant.DevAddr, MACVersion: v,
			Account: account, GroupID: 3, PermissionID: 4, Gateway: gatewayA, ClassMode: "A", BandPlanGroup: 101,
			RxDelay: 3 * time.Second, DLSettings: down.Claim.DLSettings, CFList: down.Claim.CFList, Joined: start, Live: true,
		}
		if !reflect.DeepEqual(s, opened) {
			t.Errorf("%s: opened %+v, want %+v", v, s, opened)
		}
	}
}
