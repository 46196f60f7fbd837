package joinserver_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"joingate/joinserver"
	"joingate/keyring"

	"github.com/brocaar/lorawan"
)

// vectorFile is the part of the vectors that the join handler answers for; the
// keyring has the file, and the tests of the rest.
type vectorFile struct {
	JoinRequest []struct {
		ID       string
		PHY      string
		JoinEUI  joinserver.EUI64 `json:"join_eui"`
		DevEUI   joinserver.EUI64 `json:"dev_eui"`
		DevNonce string           `json:"dev_nonce"`
		MIC      string
		Key      string
		MICValid bool `json:"mic_valid"`
	} `json:"join_request"`
	RejoinRequest []struct {
		ID      string
		PHY     string
		Type    byte
		NetID   string           `json:"net_id"`
		JoinEUI joinserver.EUI64 `json:"join_eui"`
		DevEUI  joinserver.EUI64 `json:"dev_eui"`
		RJCount string           `json:"rj_count"`
		MIC     string
	} `json:"rejoin_request"`
	NetID []struct {
		ID    string
		NetID string `json:"net_id"`
		First string `json:"dev_addr_first"`
		Last  string `json:"dev_addr_last"`
	} `json:"net_id"`
	DevAddr []struct {
		ID       string
		NetID    string `json:"net_id"`
		Bits     uint   `json:"nwk_addr_bits"`
		First    string `json:"dev_addr_first"`
		Last     string `json:"dev_addr_last"`
		LastWire string `json:"last_wire"`

		// One vector goes the other way: from an address to its network.
		DevAddr string `json:"dev_addr"`
		Type    byte
		NwkID   uint32 `json:"nwk_id"`
	} `json:"dev_addr"`
	CFList []struct{ ID, Bytes string } `json:"cf_list"`
}

func vectors(tb testing.TB) (v vectorFile) {
	tb.Helper()
	text, err := os.ReadFile("../keyring/testdata/vectors.json")
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		tb.Fatal(err)
	}
	if len(v.JoinRequest) != 18 || len(v.NetID) != 5 || len(v.DevAddr) != 14 || len(v.CFList) != 9 {
		tb.Fatalf("vectors are missing: %d, %d, %d, %d", len(v.JoinRequest), len(v.NetID), len(v.DevAddr), len(v.CFList))
	}
	return v
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	octets, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return octets
}

// TestJoinRequestVectors: every frame is read, and joins only with a valid MIC.
func TestJoinRequestVectors(t *testing.T) {
	for _, v := range vectors(t).JoinRequest {
		frame := unhex(t, v.PHY)
		got, err := joinserver.ParseJoinRequest(frame)
		want := joinserver.JoinRequest{
			JoinEUI: v.JoinEUI, DevEUI: v.DevEUI,
			DevNonce: binary.BigEndian.Uint16(unhex(t, v.DevNonce)), MIC: [4]byte(unhex(t, v.MIC)),
		}
		if err != nil || got != want || !joinserver.IsJoinRequest(frame) {
			t.Errorf("%s: read %+v, %v; want %+v", v.ID, got, err, want)
		}
		w := newWorld(t)
		policy := w.record.policies[devEUI]
		policy.Node.DevEUI, policy.Permission.JoinEUI = v.DevEUI, v.JoinEUI
		policy.Node.Keys = keyring.RootKeys{App: key(t, v.Key)}
		w.record.policies[v.DevEUI] = policy
		_, err = w.send(frame)
		if v.MICValid && err != nil || !v.MICValid && reasonOf(err) != joinserver.BadMIC {
			t.Errorf("%s: %v, but MIC valid is %v", v.ID, err, v.MICValid)
		}
		if wrote := len(w.joins.claims) == 1; wrote != v.MICValid {
			t.Errorf("%s: wrote %d joins", v.ID, len(w.joins.claims))
		}
	}
}

func TestNetIDVectors(t *testing.T) {
	for _, v := range vectors(t).NetID {
		checkAddresses(t, v.NetID, v.First, v.Last)
	}
}

func TestDevAddrVectors(t *testing.T) {
	for _, v := range vectors(t).DevAddr {
		if v.NetID == "" {
			checkNetwork(t, v.DevAddr, v.Type, v.NwkID)
			continue
		}
		net := checkAddresses(t, v.NetID, v.First, v.Last)
		if net.AddressCount() != 1<<v.Bits {
			t.Errorf("%s: %d addresses, want 2^%d", v.ID, net.AddressCount(), v.Bits)
		}
		wire, err := lorawan.DevAddr(net.Address(net.AddressCount() - 1)).MarshalBinary()
		if err != nil || !bytes.Equal(wire, unhex(t, v.LastWire)) {
			t.Errorf("%s: on the air %x, %v; want %s", v.ID, wire, err, v.LastWire)
		}
	}
}

func checkAddresses(t *testing.T, netID, first, last string) joinserver.NetID {
	t.Helper()
	net, err := joinserver.ParseNetID(netID)
	if err != nil {
		t.Fatal(err)
	}
	n := net.AddressCount()
	if got := net.Address(0).String(); got != first {
		t.Errorf("NetID %s: first address %s, want %s", net, got, first)
	}
	if got := net.Address(n - 1).String(); got != last {
		t.Errorf("NetID %s: last address %s, want %s", net, got, last)
	}
	if net.Address(n) != net.Address(0) || net.Address(1) == net.Address(0) {
		t.Errorf("NetID %s: addresses do not go round", net)
	}
	return net
}

// checkNetwork finds the network of an address of type 0 by its six bits of NwkID.
func checkNetwork(t *testing.T, devAddr string, kind byte, nwkID uint32) {
	t.Helper()
	net := joinserver.NetID{kind << 5, byte(nwkID >> 8), byte(nwkID)}
	want := [4]byte(unhex(t, devAddr))
	if got := net.Address(binary.BigEndian.Uint32(want[:])); got != want {
		t.Errorf("address %s belongs to NetID %s, which makes %s of it", devAddr, net, got)
	}
}

// TestCFListVectors carries every CFList in a join-accept, unchanged.
func TestCFListVectors(t *testing.T) {
	w := newWorld(t)
	claim := w.mustJoin(1).Claim
	for _, v := range vectors(t).CFList {
		claim.CFList = unhex(t, v.Bytes)
		frame, err := w.handler.Accept(claim, joinserver.Grant{JoinNonce: 1})
		if err != nil {
			t.Fatal(err)
		}
		got, err := decrypt(t, frame, rootHex, 1).CFList.MarshalBinary()
		if err != nil || !bytes.Equal(got, claim.CFList) {
			t.Errorf("%s: the device reads CFList %x, %v; want %s", v.ID, got, err, v.Bytes)
		}
	}
}
