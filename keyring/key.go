// Package keyring is the only folder that touches key bytes: root keys that do
// not print, the integrity codes and ciphers of the join, session keys derived
// from root keys and nonces, sealing at rest, and wrapping for network and
// application servers (RFC 3394).
//
// A key is held behind two pointers in a private field. Package fmt calls no
// method of what lies in a private field of something else: a key held by value
// would print then, and one pointer is followed when the verb does not fit the
// type, as in %s of a struct.
//
// Known to be missing: keys that live in a hardware module.
package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jacobsa/crypto/cmac"
)

// KeySize is the length of every LoRaWAN key: AES-128.
const KeySize = 16

// Key is a LoRaWAN root or session key. The zero Key is no key.
type Key struct{ hidden **[KeySize]byte }

// NewKey copies 16 octets into a Key.
func NewKey(octets []byte) (Key, error) {
	if len(octets) != KeySize {
		return Key{}, fmt.Errorf("key has %d octets, not %d", len(octets), KeySize)
	}
	return hide([KeySize]byte(octets)), nil
}

// ParseKey reads 32 hex digits. Its errors do not quote the text.
func ParseKey(s string) (Key, error) {
	octets, err := hex.DecodeString(s)
	if err != nil || len(octets) != KeySize {
		return Key{}, errors.New("key is not 32 hex digits")
	}
	return hide([KeySize]byte(octets)), nil
}

func hide(octets [KeySize]byte) Key {
	p := &octets
	return Key{&p}
}

func (k Key) octets() []byte { return (*k.hidden)[:] }

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k.hidden == nil }

// Equal compares in constant time.
func (k Key) Equal(other Key) bool {
	if k.IsZero() || other.IsZero() {
		return k.IsZero() == other.IsZero()
	}
	return subtle.ConstantTimeCompare(k.octets(), other.octets()) == 1
}

// RevealHex gives the key as 32 hex digits, "" for the zero Key: for
// `node export --with-keys` and network servers that are allowed keys in the clear,
// and nothing else.
func (k Key) RevealHex() string {
	if k.IsZero() {
		return ""
	}
	return hex.EncodeToString(k.octets())
}

// Format prints a placeholder for every verb.
func (k Key) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(placeholder)) }

// MarshalJSON gives a placeholder too.
func (k Key) MarshalJSON() ([]byte, error) { return []byte(`"` + placeholder + `"`), nil }

const placeholder = "(key)"

// cipher gives AES-128 under the key.
func (k Key) cipher() (cipher.Block, error) {
	if k.IsZero() {
		return nil, errors.New("there is no key")
	}
	return aes.NewCipher(k.octets())
}

// cmacOf returns the AES-CMAC (RFC 4493) of the parts, one after the other.
func (k Key) cmacOf(parts ...[]byte) ([]byte, error) {
	if k.IsZero() {
		return nil, errors.New("there is no key to compute a MIC with")
	}
	hash, err := cmac.New(k.octets())
	if err != nil {
		return nil, err
	}
	for _, part := range parts {
		_, _ = hash.Write(part)
	}
	return hash.Sum(nil), nil
}

// Secret is a text that does not print: the secret of an AccessKey. Package fmt
// follows no pointer to a string.
type Secret struct{ text *string }

// NewSecret holds the text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal gives the text, "" for the zero Secret.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Format prints a placeholder for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(placeholder)) }

// MarshalJSON gives a placeholder too.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + placeholder + `"`), nil }
