package keyring

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/brocaar/lorawan"
)

// octets are written as hex in the vectors; null is nil.
type octets []byte

func (o *octets) UnmarshalText(text []byte) (err error) {
	*o, err = hex.DecodeString(string(text))
	return err
}

func (o octets) key(t *testing.T) Key {
	t.Helper()
	if o == nil {
		return Key{}
	}
	key, err := NewKey(o)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (o octets) number() uint32 {
	return binary.BigEndian.Uint32(append(make([]byte, 4-len(o)), o...))
}

// eui gives the octets as an EUI, zero for null.
func (o octets) eui() (e [8]byte) {
	copy(e[:], o)
	return e
}

func (o octets) nonce() uint16 { return uint16(o.number()) }

type vectorFile struct {
	JoinRequest []struct {
		ID          string
		PHY         octets
		Key         octets
		MICValid    bool   `json:"mic_valid"`
		ExpectedMIC octets `json:"expected_mic"`
	} `json:"join_request"`
	JoinAccept []joinAcceptVector `json:"join_accept"`
	Keys       []struct {
		ID         string
		MACVersion string `json:"mac_version"`
		RootKeys   struct {
			App octets `json:"app_key"`
			Nwk octets `json:"nwk_key"`
		} `json:"root_keys"`
		DevEUI    octets `json:"dev_eui"`
		JoinEUI   octets `json:"join_eui"`
		NetID     octets `json:"net_id"`
		JoinNonce octets `json:"join_nonce"`
		DevNonce  octets `json:"dev_nonce"`
		Expected  map[string]octets
	}
	RejoinRequest []struct {
		ID  string
		PHY octets
		Key octets
	} `json:"rejoin_request"`
	KeyWrap []struct {
		ID         string
		KEK        octets
		Plaintext  octets
		Ciphertext octets
		UnwrapOK   bool `json:"unwrap_ok"`
	} `json:"key_wrap"`
	CMAC []struct {
		ID      string
		Key     octets
		Message octets
		CMAC    octets
	}
}

type joinAcceptVector struct {
	ID          string
	JoinReqType byte   `json:"join_req_type"`
	AppKey      octets `json:"app_key"`
	NwkKey      octets `json:"nwk_key"`
	DevEUI      octets `json:"dev_eui"`
	JoinEUI     octets `json:"join_eui"`
	DevNonce    octets `json:"dev_nonce"`
	JoinNonce   octets `json:"join_nonce"`
	NetID       octets `json:"net_id"`
	DevAddr     octets `json:"dev_addr"`
	DLSettings  octets `json:"dl_settings"`
	RxDelay     octets `json:"rx_delay"`
	CFList      octets `json:"cf_list"`
	MICForm     string `json:"mic_form"`
	MICKey      octets `json:"mic_key"`
	EncKey      octets `json:"enc_key"`
	EncKeyName  string `json:"enc_key_name"`
	MICInput    octets `json:"mic_input"`
	MIC         octets
	Plain       octets
	PHY         octets
}

func (v joinAcceptVector) ids() JoinIDs {
	return JoinIDs{JoinEUI: v.JoinEUI.eui(), DevEUI: v.DevEUI.eui(), DevNonce: v.DevNonce.nonce()}
}

// sendable reports whether a server may send the frame: some of the vectors set
// bits that are RFU, or pair a MIC form with the wrong OptNeg.
func (v joinAcceptVector) sendable() bool {
	optNeg := v.DLSettings[0]&0x80 != 0
	return v.RxDelay[0] <= 0x0f && optNeg == (v.MICForm == "1.1")
}

func (v joinAcceptVector) payload() lorawan.JoinAcceptPayload {
	p := lorawan.JoinAcceptPayload{
		JoinNonce: lorawan.JoinNonce(v.JoinNonce.number()),
		HomeNetID: lorawan.NetID(v.NetID),
		DevAddr:   lorawan.DevAddr(v.DevAddr),
		DLSettings: lorawan.DLSettings{
			OptNeg:      v.DLSettings[0]&0x80 != 0,
			RX1DROffset: v.DLSettings[0] >> 4 & 0x07,
			RX2DataRate: v.DLSettings[0] & 0x0f,
		},
		RXDelay: v.RxDelay[0],
	}
	if v.CFList != nil {
		p.CFList = &lorawan.CFList{
			CFListType: lorawan.CFListType(v.CFList[15]),
			Payload:    &lorawan.DataPayload{Bytes: v.CFList[:15]},
		}
	}
	return p
}

// The vectors come from several sources and were recomputed by an implementation
// that is not this one; the file says which and where.
func vectors(t *testing.T) (v vectorFile) {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestCMACVectors(t *testing.T) {
	for _, v := range vectors(t).CMAC {
		for cut := range len(v.Message) + 1 {
			got, err := v.Key.key(t).cmacOf(v.Message[:cut], v.Message[cut:])
			if err != nil || !bytes.Equal(got, v.CMAC) {
				t.Errorf("%s in two parts at %d: CMAC %x, %v; want %x", v.ID, cut, got, err, v.CMAC)
			}
		}
	}
}

func TestJoinRequestVectors(t *testing.T) {
	for _, v := range vectors(t).JoinRequest {
		ok, err := RootKeys{App: v.Key.key(t)}.VerifyJoinRequest(v.PHY)
		if err != nil || ok != v.MICValid {
			t.Errorf("%s: MIC valid %v, %v; want %v", v.ID, ok, err, v.MICValid)
		}
		if v.ExpectedMIC == nil {
			continue
		}
		mended := append(bytes.Clone(v.PHY[:len(v.PHY)-micSize]), v.ExpectedMIC...)
		if ok, err := v.Key.key(t).VerifyMIC(mended); err != nil || !ok {
			t.Errorf("%s: MIC %x not valid, %v", v.ID, v.ExpectedMIC, err)
		}
	}
}

func TestRejoinRequestVectors(t *testing.T) {
	for _, v := range vectors(t).RejoinRequest {
		key := v.Key.key(t)
		if ok, err := key.VerifyMIC(v.PHY); err != nil || !ok {
			t.Errorf("%s: MIC not valid, %v", v.ID, err)
		}
		for i := range v.PHY {
			damaged := bytes.Clone(v.PHY)
			damaged[i] ^= 0x10
			if ok, _ := key.VerifyMIC(damaged); ok {
				t.Errorf("%s: MIC valid with octet %d changed", v.ID, i)
			}
		}
	}
}

// TestJoinAcceptVectors seals every join-accept: those that a server may send
// from their fields, all of them from their octets.
func TestJoinAcceptVectors(t *testing.T) {
	for _, v := range vectors(t).JoinAccept {
		frame := append([]byte{0x20}, v.Plain[:len(v.Plain)-micSize]...)
		var context []byte
		if v.MICForm == "1.1" {
			context = answerContext(lorawan.JoinType(v.JoinReqType), v.ids())
		}
		if got := append(bytes.Clone(context), frame...); !bytes.Equal(got, v.MICInput) {
			t.Errorf("%s: the MIC covers %x, want %x", v.ID, got, v.MICInput)
		}
		got, err := signAndEncrypt(frame, context, v.MICKey.key(t), v.EncKey.key(t))
		if err != nil || !bytes.Equal(got, v.PHY) {
			t.Errorf("%s: sealed %x, %v; want %x", v.ID, got, err, v.PHY)
		}
		if plain := deviceOpens(t, v.EncKey, got); !bytes.Equal(plain, v.Plain) {
			t.Errorf("%s: the device reads %x, want %x", v.ID, plain, v.Plain)
		}
		if !v.sendable() {
			continue
		}
		got, err = sealJoinAccept(v.payload(), lorawan.JoinType(v.JoinReqType), v.ids(), v.MICKey.key(t), v.EncKey.key(t))
		if err != nil || !bytes.Equal(got, v.PHY) {
			t.Errorf("%s: sealed from fields %x, %v; want %x", v.ID, got, err, v.PHY)
		}
	}
}

// TestJoinAcceptVectorsFromRootKeys takes the way of the join handler: JSIntKey
// and the key of the cipher follow from the root keys.
func TestJoinAcceptVectorsFromRootKeys(t *testing.T) {
	sealed := 0
	for _, v := range vectors(t).JoinAccept {
		answersRejoin := v.JoinReqType != 0xff
		standIn := v.MICForm == "1.1" && bytes.Equal(v.MICKey, v.EncKey) // no JSIntKey behind it
		if !v.sendable() || answersRejoin || standIn {
			continue
		}
		keys := RootKeys{App: v.AppKey.key(t), Nwk: v.NwkKey.key(t)}
		got, err := keys.SealJoinAccept(v.payload(), v.ids())
		if err != nil || !bytes.Equal(got, v.PHY) {
			t.Errorf("%s: sealed %x, %v; want %x", v.ID, got, err, v.PHY)
		}
		sealed++
	}
	if sealed < 10 {
		t.Errorf("only %d vectors were sealed from root keys", sealed)
	}
}

// TestRejoinAnswerVectors derives the keys of answers to rejoin-requests.
func TestRejoinAnswerVectors(t *testing.T) {
	for _, v := range vectors(t).JoinAccept {
		if v.EncKeyName != "JSEncKey" {
			continue
		}
		enc, err := JSEncKey(v.NwkKey.key(t), v.DevEUI.eui())
		if err != nil || !enc.Equal(v.EncKey.key(t)) {
			t.Errorf("%s: other JSEncKey, %v", v.ID, err)
		}
		mic, err := JSIntKey(v.NwkKey.key(t), v.DevEUI.eui())
		if err != nil || !mic.Equal(v.MICKey.key(t)) {
			t.Errorf("%s: other JSIntKey, %v", v.ID, err)
		}
	}
}

// TestRejoinAnswerVectorsFromRootKeys takes the way of the join handler.
func TestRejoinAnswerVectorsFromRootKeys(t *testing.T) {
	sealed := 0
	for _, v := range vectors(t).JoinAccept {
		if v.JoinReqType == 0xff || !v.sendable() || v.EncKeyName != "JSEncKey" {
			continue
		}
		keys := RootKeys{App: v.AppKey.key(t), Nwk: v.NwkKey.key(t)}
		got, err := keys.SealRejoinAccept(v.payload(), v.JoinReqType, v.ids())
		if err != nil || !bytes.Equal(got, v.PHY) {
			t.Errorf("%s: sealed %x, %v; want %x", v.ID, got, err, v.PHY)
		}
		sealed++
		bare := v.payload()
		bare.DLSettings.OptNeg = false
		if _, err := keys.SealRejoinAccept(bare, v.JoinReqType, v.ids()); err == nil {
			t.Errorf("%s: sealed with OptNeg unset", v.ID)
		}
		if _, err := (RootKeys{App: keys.App}).SealRejoinAccept(v.payload(), v.JoinReqType, v.ids()); err == nil {
			t.Errorf("%s: sealed without a NwkKey", v.ID)
		}
	}
	if sealed < 2 {
		t.Errorf("only %d vectors were sealed from root keys", sealed)
	}
}

// TestVerifyRejoinRequest1 signs as the device does, from its NwkKey.
func TestVerifyRejoinRequest1(t *testing.T) {
	nwk, other := hide([KeySize]byte{1, 2, 3}), hide([KeySize]byte{9})
	dev := [8]byte{8, 7, 6, 5, 4, 3, 2, 1}
	signing, err := JSIntKey(nwk, dev)
	if err != nil {
		t.Fatal(err)
	}
	body := []byte{0xc0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 1, 0}
	sum, err := signing.cmacOf(body)
	if err != nil {
		t.Fatal(err)
	}
	frame := append(bytes.Clone(body), sum[:micSize]...)
	for name, c := range map[string]struct {
		keys RootKeys
		dev  [8]byte
		want bool
	}{
		"the device":      {RootKeys{App: other, Nwk: nwk}, dev, true},
		"another device":  {RootKeys{Nwk: nwk}, [8]byte{1}, false},
		"another NwkKey":  {RootKeys{App: nwk, Nwk: other}, dev, false},
		"a 1.0.x device":  {RootKeys{App: nwk}, dev, false},
		"without any key": {RootKeys{}, dev, false},
	} {
		if ok, err := c.keys.VerifyRejoinRequest1(frame, c.dev); err != nil || ok != c.want {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
	}
	if ok, err := (RootKeys{Nwk: nwk}).VerifyRejoinRequest1([]byte{1}, dev); ok || err == nil {
		t.Errorf("a frame without MIC: %t, %v", ok, err)
	}
}

// deviceOpens is the device's side of the cipher.
func deviceOpens(t *testing.T, key, phy []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	if len(phy)%aes.BlockSize != 1 {
		t.Fatalf("join-accept of %d octets", len(phy))
	}
	plain := bytes.Clone(phy[1:])
	for i := 0; i < len(plain); i += aes.BlockSize {
		block.Encrypt(plain[i:], plain[i:])
	}
	return plain
}

func TestKeyVectors(t *testing.T) {
	for _, v := range vectors(t).Keys {
		roots := RootKeys{App: v.RootKeys.App.key(t), Nwk: v.RootKeys.Nwk.key(t)}
		ids := JoinIDs{JoinEUI: v.JoinEUI.eui(), DevEUI: v.DevEUI.eui(), DevNonce: v.DevNonce.nonce()}
		var session SessionKeys
		var err error
		switch {
		case v.JoinNonce == nil: // only the keys of a device's life
		case v.NetID != nil:
			session, err = roots.SessionKeys10(v.JoinNonce.number(), [3]byte(v.NetID), ids.DevNonce)
		default:
			session, err = roots.SessionKeys11(v.JoinNonce.number(), ids)
		}
		if err != nil {
			t.Errorf("%s: %v", v.ID, err)
			continue
		}
		jsInt, _ := JSIntKey(roots.Nwk, ids.DevEUI)
		jsEnc, _ := JSEncKey(roots.Nwk, ids.DevEUI)
		derived := map[string]Key{
			"app_s_key": session.AppSKey, "nwk_s_key": session.NwkSEncKey,
			"f_nwk_s_int_key": session.FNwkSIntKey, "s_nwk_s_int_key": session.SNwkSIntKey, "nwk_s_enc_key": session.NwkSEncKey,
			"js_int_key": jsInt, "js_enc_key": jsEnc,
		}
		for name, want := range v.Expected {
			if got, known := derived[name]; !known || !got.Equal(want.key(t)) {
				t.Errorf("%s: other %s", v.ID, name)
			}
		}
	}
}

func TestKeyWrapVectors(t *testing.T) {
	for _, v := range vectors(t).KeyWrap {
		plain, err := unwrap(v.KEK, v.Ciphertext)
		if v.UnwrapOK != (err == nil) || !bytes.Equal(plain, v.Plaintext) {
			t.Errorf("%s: unwrapped %x, %v; want %x", v.ID, plain, err, v.Plaintext)
		}
		if !v.UnwrapOK {
			continue
		}
		if wrapped, err := wrap(v.KEK, v.Plaintext); err != nil || !bytes.Equal(wrapped, v.Ciphertext) {
			t.Errorf("%s: wrapped %x, %v; want %x", v.ID, wrapped, err, v.Ciphertext)
		}
		if len(v.Plaintext) != KeySize {
			continue
		}
		if key, err := UnwrapKey(v.KEK, v.Ciphertext); err != nil || !key.Equal(v.Plaintext.key(t)) {
			t.Errorf("%s: another key unwrapped, %v", v.ID, err)
		}
	}
}

// TestVectorsAreAllThere guards against a file that parses to nothing.
func TestVectorsAreAllThere(t *testing.T) {
	v := vectors(t)
	for name, n := range map[string][2]int{
		"join_request": {len(v.JoinRequest), 18}, "join_accept": {len(v.JoinAccept), 21}, "keys": {len(v.Keys), 16},
		"rejoin_request": {len(v.RejoinRequest), 5}, "key_wrap": {len(v.KeyWrap), 7}, "cmac": {len(v.CMAC), 4},
	} {
		if n[0] != n[1] {
			t.Errorf("%s: %d vectors, want %d", name, n[0], n[1])
		}
	}
}
