package sim

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"testing"
)

// The vectors were checked by an implementation that is not this one; the file
// says where each comes from.
type vectorFile struct {
	JoinRequest []struct {
		ID, PHY, Key, MIC string
		JoinEUI           string `json:"join_eui"`
		DevEUI            string `json:"dev_eui"`
		DevNonce          string `json:"dev_nonce"`
		MICValid          bool   `json:"mic_valid"`
	} `json:"join_request"`
	JoinAccept []struct {
		ID, MIC, Plain, PHY string
		MACVersion          string `json:"mac_version"`
		OptNeg              bool   `json:"opt_neg"`
		JoinReqType         int    `json:"join_req_type"`
		AppKey              string `json:"app_key"`
		NwkKey              string `json:"nwk_key"`
		DevEUI              string `json:"dev_eui"`
		JoinEUI             string `json:"join_eui"`
		DevNonce            string `json:"dev_nonce"`
		MICForm             string `json:"mic_form"`
		MICKey              string `json:"mic_key"`
		EncKey              string `json:"enc_key"`
	} `json:"join_accept"`
	Keys []struct {
		ID         string
		MACVersion string            `json:"mac_version"`
		RootKeys   map[string]string `json:"root_keys"`
		DevEUI     string            `json:"dev_eui"`
		JoinEUI    string            `json:"join_eui"`
		NetID      string            `json:"net_id"`
		JoinNonce  string            `json:"join_nonce"`
		DevNonce   string            `json:"dev_nonce"`
		Expected   map[string]string
	}
	CFList []struct {
		ID, Bytes   string
		Type        int
		UnitHz      Hz    `json:"unit_hz"`
		Frequencies []Hz  `json:"frequencies_hz"`
		Enabled     []int `json:"enabled_channels"`
	} `json:"cf_list"`
	CMAC []struct{ ID, Key, Message, CMAC string }
}

func readTestdata(t testing.TB, name string, into any) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func vectors(t testing.TB) (v vectorFile) {
	readTestdata(t, "vectors.json", &v)
	return v
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func key(t testing.TB, s string) Key {
	t.Helper()
	if s == "" {
		return Key{}
	}
	k, err := ParseKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func eui(t testing.TB, s string) EUI {
	t.Helper()
	if s == "" {
		return 0
	}
	e, err := ParseEUI(s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func number(t testing.TB, s string) uint32 {
	t.Helper()
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

func keyHex(k Key) string {
	octets := k.Octets()
	return hex.EncodeToString(octets[:])
}

func TestCMACVectors(t *testing.T) {
	for _, v := range vectors(t).CMAC {
		mac := cmac(key(t, v.Key), unhex(t, v.Message))
		if got := hex.EncodeToString(mac[:]); got != v.CMAC {
			t.Errorf("%s: CMAC %s, want %s", v.ID, got, v.CMAC)
		}
	}
}

func TestJoinRequestVectors(t *testing.T) {
	for _, v := range vectors(t).JoinRequest {
		d, err := NewDevice(DeviceConfig{
			DevEUI: eui(t, v.DevEUI), JoinEUI: eui(t, v.JoinEUI), AppKey: key(t, v.Key),
			Nonces: NoncesCounted, FirstDevNonce: uint16(number(t, v.DevNonce)),
		})
		if err != nil {
			t.Fatal(err)
		}
		up, err := d.JoinRequest()
		if err != nil {
			t.Fatal(err)
		}
		if equal := hex.EncodeToString(up.PHYPayload) == v.PHY; equal != v.MICValid {
			t.Errorf("%s: frame %x, vector %s, want equal %v", v.ID, up.PHYPayload, v.PHY, v.MICValid)
		}
	}
}

func TestJoinAcceptVectors(t *testing.T) {
	for _, v := range vectors(t).JoinAccept {
		plain := decryptAccept(key(t, v.EncKey), unhex(t, v.PHY))
		if got := hex.EncodeToString(plain[1:]); got != v.Plain {
			t.Errorf("%s: decrypted %s, want %s", v.ID, got, v.Plain)
		}
		if v.JoinReqType != joinReqType {
			continue // the answer to a rejoin-request, which devices here do not send
		}
		sum := acceptMIC(key(t, v.MICKey), plain)
		if v.MICForm == "1.1" {
			sum = acceptMIC11(key(t, v.MICKey), eui(t, v.JoinEUI), uint16(number(t, v.DevNonce)), plain)
		}
		if got := hex.EncodeToString(sum[:]); got != v.MIC {
			t.Errorf("%s: MIC %s, want %s", v.ID, got, v.MIC)
		}
	}
}

func TestKeyVectors(t *testing.T) {
	for _, v := range vectors(t).Keys {
		appKey, nwkKey := key(t, v.RootKeys["app_key"]), key(t, v.RootKeys["nwk_key"])
		got := map[string]string{}
		if !nwkKey.IsZero() {
			got["js_int_key"] = keyHex(jsIntKey(nwkKey, eui(t, v.DevEUI)))
		}
		nonce, devNonce := number(t, v.JoinNonce), uint16(number(t, v.DevNonce))
		if v.MACVersion == "1.1.0" {
			s := sessionKeys11(appKey, nwkKey, nonce, eui(t, v.JoinEUI), devNonce)
			got["app_s_key"], got["f_nwk_s_int_key"] = keyHex(s.AppSKey), keyHex(s.FNwkSIntKey)
			got["s_nwk_s_int_key"], got["nwk_s_enc_key"] = keyHex(s.SNwkSIntKey), keyHex(s.NwkSEncKey)
		} else {
			root := appKey
			if root.IsZero() {
				root = nwkKey // a 1.1 device on a 1.0 network
			}
			s := sessionKeys10(root, nonce, number(t, v.NetID), devNonce)
			got["app_s_key"], got["nwk_s_key"] = keyHex(s.AppSKey), keyHex(s.FNwkSIntKey)
		}
		for name, want := range v.Expected {
			if name != "js_enc_key" && got[name] != want { // only rejoins use JSEncKey
				t.Errorf("%s: %s is %s, want %s", v.ID, name, got[name], want)
			}
		}
	}
}
