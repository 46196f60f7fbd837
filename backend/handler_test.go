package backend_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/brocaar/lorawan"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/sim"
)

// ledger is the least that the join handler needs beside policies: joins in
// memory, the newest first, of the one device.
type ledger struct {
	*world
	claims []joinserver.Claim
}

func (l *ledger) Gateways(context.Context, []joinserver.EUI64) ([]joinserver.Gateway, error) {
	return nil, nil
}

func (l *ledger) Commit(_ context.Context, c joinserver.Claim) (joinserver.Grant, error) {
	for _, earlier := range l.claims {
		if c.Type == joinserver.Joined && earlier.Type == c.Type && earlier.Request.DevNonce >= c.Request.DevNonce {
			return joinserver.Grant{}, &joinserver.Rejection{Reason: joinserver.DevNonceReplayed, DevEUI: c.Request.DevEUI}
		}
	}
	l.claims = append(l.claims, c)
	grant := joinserver.Grant{JoinNonce: uint32(len(l.claims)), DevAddr: *c.DevAddr}
	l.sessions[c.Request.DevEUI] = append([]joinserver.Session{{
		DevEUI: c.Request.DevEUI, JoinEUI: c.Request.JoinEUI, JoinNonce: grant.JoinNonce, DevNonce: c.Request.DevNonce, NetID: c.NetID,
		DevAddr: grant.DevAddr, MACVersion: c.Policy.Node.MACVersion, Account: c.Policy.Node.Account, DLSettings: c.DLSettings, RxDelay: c.RxDelay, Live: true,
	}}, l.sessions[c.Request.DevEUI]...)
	return grant, nil
}

// realHandler puts the join handler of the product behind the interface.
func realHandler(t *testing.T, version joinserver.MACVersion) *world {
	w := newWorld(t).withASKEK()
	policy := w.policies[device]
	policy.Node.MACVersion, policy.Node.Keys = version, keyring.RootKeys{App: key(t, sNwkHex)}
	if version == band.MAC1_1 {
		policy.Node.Keys.Nwk = key(t, encHex)
	}
	w.policies[device] = policy
	records := &ledger{world: w}
	handler, err := joinserver.NewHandler(joinserver.Config{
		Policies: records, Record: records, Joins: records, Sessions: records, Bands: band.Standard(), NetID: home, Now: w.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.config.Joins = handler
	return w.open()
}

// simulated is the device, with cryptography of its own.
func simulated(t *testing.T, version joinserver.MACVersion) *sim.Device {
	config := sim.DeviceConfig{MACVersion: version.String(), Nonces: sim.NoncesCounted, Region: "EU868", FirstDevNonce: 1}
	var err1, err2, err3, err4 error
	config.DevEUI, err1 = sim.ParseEUI(device.String())
	config.JoinEUI, err2 = sim.ParseEUI(joinEUI.String())
	config.AppKey, err3 = sim.ParseKey(sNwkHex)
	if version == band.MAC1_1 {
		config.NwkKey, err4 = sim.ParseKey(encHex)
	}
	d, err := sim.NewDevice(config)
	for _, err := range []error{err1, err2, err3, err4, err} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// hears gives the device the join-accept in RX2 of EU868.
func hears(t *testing.T, d *sim.Device, phyPayload string) sim.JoinAccept {
	t.Helper()
	accept, err := d.Receive(sim.Downlink{
		PHYPayload: octets(t, phyPayload), Frequency: 869_525_000, Modulation: sim.Modulation{SpreadingFactor: 12, Bandwidth: 125_000},
		Inverted: true, Delay: 6 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return accept
}

// TestNetworkServerJoinsADevice goes the whole way: the device's frame, the join
// handler, the answer on the wire, the device's join-accept; and both sides have
// the same keys.
func TestNetworkServerJoinsADevice(t *testing.T) {
	for version := band.MAC1_0_0; version <= band.MAC1_1; version++ {
		for _, ofServer := range []string{"1.0.3", "1.1"} {
			t.Run(fmt.Sprintf("%s at %s", version, ofServer), func(t *testing.T) {
				w, d := realHandler(t, version), simulated(t, version)
				up, err := d.JoinRequest()
				if err != nil {
					t.Fatal(err)
				}
				asked := joinReq(set("PHYPayload", hex.EncodeToString(up.PHYPayload)), set("MACVersion", ofServer), set("DLSettings", "13"), set("RxDelay", 5))
				answer := w.mustSucceed(asked)
				accept := hears(t, d, answer.PHYPayload)
				if accept.DevAddr != "26000001" || accept.RxDelay != 5 || accept.DataRate != 3 || accept.RX1DROffset != 1 || accept.NetID != netID.String() {
					t.Errorf("the device has %+v", accept)
				}
				both11 := version == band.MAC1_1 && ofServer == "1.1"
				if accept.OptNeg != both11 {
					t.Errorf("OptNeg is %v", accept.OptNeg)
				}
				keys := accept.SessionKeys()
				network := map[*keyEnvelope]sim.Key{answer.NwkSKey: keys.FNwkSIntKey}
				if both11 {
					network = map[*keyEnvelope]sim.Key{answer.FNwkSIntKey: keys.FNwkSIntKey, answer.SNwkSIntKey: keys.SNwkSIntKey, answer.NwkSEncKey: keys.NwkSEncKey}
				}
				for envelope, want := range network {
					if got := envelope.open(t, "ns-kek", kekHex); got != hexOf(want) {
						t.Errorf("a network session key opens to %s, the device has another", got)
					}
				}
				if got := answer.AppSKey.open(t, "as-kek", asKEKHex); got != hexOf(keys.AppSKey) {
					t.Errorf("the AppSKey opens to %s, the device has another", got)
				}

				// The application server asks for it once more.
				id := octets(t, answer.SessionKeyID)
				again := w.mustSucceed(appSKeyReq(id, set("SenderID", "as.example.org")))
				if again.AppSKey.AESKey != answer.AppSKey.AESKey || len(w.confirmed) != 1 {
					t.Errorf("AppSKeyAns %s, confirmed %d", again.body, w.confirmed)
				}
				if at := w.mustSucceed(homeNSReq()); at.HNetID != netID.String() {
					t.Errorf("home is %s", at.HNetID)
				}
				// The request again, and the same frame in another request.
				if repeated := w.mustSucceed(asked); repeated.body != answer.body {
					t.Errorf("repeated: %s", repeated.body)
				}
				asked["TransactionID"] = 1
				w.wantResult(w.send(asked), "FrameReplayed", "dev_nonce_replayed")
				asked["PHYPayload"] = hex.EncodeToString(up.PHYPayload[:22]) + "00"
				w.wantResult(w.send(asked), "MICFailed", "bad_mic")
			})
		}
	}
}

func hexOf(k sim.Key) string {
	o := k.Octets()
	return hex.EncodeToString(o[:])
}

// TestNetworkServerForwardsARejoin: a rejoin-request of type 0, signed with the
// session's key, gives new keys.
func TestNetworkServerForwardsARejoin(t *testing.T) {
	w, d := realHandler(t, band.MAC1_1), simulated(t, band.MAC1_1)
	up, err := d.JoinRequest()
	if err != nil {
		t.Fatal(err)
	}
	joined := w.mustSucceed(joinReq(set("PHYPayload", hex.EncodeToString(up.PHYPayload)), set("MACVersion", "1.1")))
	sNwkSIntKey := hears(t, d, joined.PHYPayload).SessionKeys().SNwkSIntKey

	frame := lorawan.PHYPayload{
		MHDR: lorawan.MHDR{MType: lorawan.RejoinRequest, Major: lorawan.LoRaWANR1},
		MACPayload: &lorawan.RejoinRequestType02Payload{
			RejoinType: lorawan.RejoinRequestType0, NetID: lorawan.NetID(netID), DevEUI: lorawan.EUI64(device), RJCount0: 1,
		},
	}
	if err := frame.SetUplinkJoinMIC(lorawan.AES128Key(sNwkSIntKey.Octets())); err != nil {
		t.Fatal(err)
	}
	phy, err := frame.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	rejoin := joinReq(set("MessageType", "RejoinReq"), set("PHYPayload", hex.EncodeToString(phy)), set("MACVersion", "1.1"))
	answer := w.mustSucceed(rejoin)
	if answer.MessageType != "RejoinAns" || len(answer.PHYPayload) != 34 || answer.SessionKeyID == joined.SessionKeyID ||
		answer.FNwkSIntKey.AESKey == joined.FNwkSIntKey.AESKey || answer.FNwkSIntKey.AESKey == answer.SNwkSIntKey.AESKey {
		t.Errorf("answer: %s", answer.body)
	}
	rejoin["ReceiverID"] = "ffffffffffffffff"
	w.wantResult(w.send(rejoin), "UnkownReceiver", "")
}

// TestRefusalsOfTheRealHandler: the results that an operator sees most.
func TestRefusalsOfTheRealHandler(t *testing.T) {
	for _, c := range []struct {
		name       string
		edit       func(p *joinserver.Policy)
		code, says string
	}{
		{"disabled", func(p *joinserver.Policy) { p.Node.Enabled = false }, "ActivationDisallowed", "device_disabled"},
		{"no group", func(p *joinserver.Policy) { p.Group.ID = 0 }, "ActivationDisallowed", "no_permission"},
		{"permission switched off", func(p *joinserver.Policy) { p.Permission.Enabled = false }, "ActivationDisallowed", "permission_disabled"},
		{"another JoinEUI", func(p *joinserver.Policy) { p.Permission.JoinEUI[7]++ }, "JoinReqFailed", "wrong_join_eui"},
		{"other parameters", func(p *joinserver.Policy) {
			p.Permission.RequireOwn, p.Permission.RxDelay, p.Permission.BandPlanGroup = true, 2*time.Second, 101
		}, "JoinReqFailed", "requires RxDelay 2s"},
		{"another key", func(p *joinserver.Policy) { p.Node.Keys.App = key(t, encHex) }, "MICFailed", "bad_mic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, d := realHandler(t, band.MAC1_0_3), simulated(t, band.MAC1_0_3)
			policy := w.policies[device]
			c.edit(&policy)
			w.policies[device] = policy
			up, err := d.JoinRequest()
			if err != nil {
				t.Fatal(err)
			}
			w.wantResult(w.send(joinReq(set("PHYPayload", hex.EncodeToString(up.PHYPayload)))), c.code, c.says)
			if len(w.sessions[device]) != 0 {
				t.Error("a session was opened")
			}
		})
	}
}
