package keyring_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"joingate/keyring"

	"github.com/brocaar/lorawan"
)

func TestParseKey(t *testing.T) {
	for text, ok := range map[string]bool{
		keyHex:                  true,
		strings.ToUpper(keyHex): true,
		"":                      false,
		keyHex[:30]:             false,
		keyHex + "00":           false,
		" " + keyHex:            false,
		keyHex[:31] + "g":       false,
	} {
		key, err := keyring.ParseKey(text)
		if (err == nil) != ok {
			t.Errorf("ParseKey(%q): %v", text, err)
		}
		if ok && key.RevealHex() != keyHex || !ok && !key.IsZero() {
			t.Errorf("ParseKey(%q) gives another key", text)
		}
	}
}

func TestNewKeyCopies(t *testing.T) {
	octets, _ := hex.DecodeString(keyHex)
	key, err := keyring.NewKey(octets)
	if err != nil {
		t.Fatal(err)
	}
	octets[0] ^= 0xff
	if key.RevealHex() != keyHex {
		t.Error("the key changed with the octets it was made of")
	}
}

func TestZeroKeyIsNoKey(t *testing.T) {
	var none keyring.Key
	some := secretKey(t)
	if !none.IsZero() || some.IsZero() || none.RevealHex() != "" {
		t.Error("the zero Key counts as a key")
	}
	if !none.Equal(keyring.Key{}) || none.Equal(some) || some.Equal(none) || !some.Equal(secretKey(t)) {
		t.Error("keys compare wrongly")
	}
	frame := make([]byte, 23)
	if _, err := (keyring.RootKeys{}).VerifyJoinRequest(frame); err == nil {
		t.Error("a MIC was checked without a key")
	}
	if _, err := (keyring.RootKeys{}).SealJoinAccept(lorawan.JoinAcceptPayload{}, keyring.JoinIDs{}); err == nil {
		t.Error("a join-accept was sealed without a key")
	}
	if _, err := (keyring.RootKeys{}).SessionKeys10(1, [3]byte{}, 1); err == nil {
		t.Error("session keys were derived without a key")
	}
	if _, err := (keyring.RootKeys{App: some}).SessionKeys11(1, keyring.JoinIDs{}); err == nil {
		t.Error("session keys of 1.1 were derived without a NwkKey")
	}
	if _, err := none.Wrap(make([]byte, 16)); err == nil {
		t.Error("no key was wrapped")
	}
	if _, err := some.WrapUnder(keyring.WrappingKey{}); err == nil {
		t.Error("a key was wrapped under none")
	}
}

func TestVerifyMICOfShortFrames(t *testing.T) {
	for size := range 4 {
		if _, err := secretKey(t).VerifyMIC(make([]byte, size)); err == nil {
			t.Errorf("a frame of %d octets has a MIC", size)
		}
	}
}

func TestJoinAcceptThatCannotBeEncoded(t *testing.T) {
	keys := keyring.RootKeys{App: secretKey(t)}
	if _, err := keys.SealJoinAccept(lorawan.JoinAcceptPayload{RXDelay: 16}, keyring.JoinIDs{}); err == nil {
		t.Error("an RxDelay of 16 s was sealed")
	}
}

func TestWrapRefusals(t *testing.T) {
	key, kek := secretKey(t), make([]byte, 16)
	wrapped, err := key.Wrap(kek)
	if err != nil || len(wrapped) != 24 {
		t.Fatalf("wrapped %d octets, %v", len(wrapped), err)
	}
	if _, err := key.Wrap(make([]byte, 15)); err == nil {
		t.Error("wrapped under 15 octets")
	}
	for i := range wrapped {
		damaged := bytes.Clone(wrapped)
		damaged[i] ^= 1
		if _, err := keyring.UnwrapKey(kek, damaged); err == nil {
			t.Errorf("unwrapped with octet %d changed", i)
		}
	}
}

func FuzzUnwrapKey(f *testing.F) {
	kek, _ := hex.DecodeString("000102030405060708090a0b0c0d0e0f")
	good, _ := hex.DecodeString("1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5") // RFC 3394 section 4.1
	f.Add(kek, good)
	f.Add(kek, good[:23])
	f.Add(kek, append(good, good...))
	f.Add(kek[:15], good)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, kek, wrapped []byte) {
		before := bytes.Clone(wrapped)
		key, err := keyring.UnwrapKey(kek, wrapped)
		if !bytes.Equal(before, wrapped) {
			t.Error("the input was changed")
		}
		if err != nil {
			if !key.IsZero() {
				t.Error("a key beside an error")
			}
			return
		}
		again, err := key.Wrap(kek)
		if err != nil || !bytes.Equal(again, wrapped) {
			t.Errorf("what unwraps does not wrap to the same octets: %x, %v", again, err)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(keyHex)
	f.Add("")
	f.Add(keyHex[:31] + "é")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := keyring.ParseKey(text)
		if err == nil && key.RevealHex() != strings.ToLower(text) {
			t.Errorf("%q became %s", text, key.RevealHex())
		}
	})
}

func BenchmarkVerifyJoinRequest(b *testing.B) {
	frame, _ := hex.DecodeString("00040302010403020105040302050403022d106a990e12")
	key, _ := keyring.ParseKey("01010101010101010101010101010101")
	keys := keyring.RootKeys{App: key}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := keys.VerifyJoinRequest(frame); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkSealJoinAccept(b *testing.B) {
	key, _ := keyring.ParseKey(keyHex)
	keys := keyring.RootKeys{App: key, Nwk: key}
	for _, version := range []string{"1.0", "1.1"} {
		accept := lorawan.JoinAcceptPayload{JoinNonce: 7, RXDelay: 1, DLSettings: lorawan.DLSettings{OptNeg: version == "1.1"}}
		b.Run(version, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := keys.SealJoinAccept(accept, keyring.JoinIDs{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
