package keyring

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// wrapIV is the default initial value of RFC 3394, section 2.2.3.1.
var wrapIV = [8]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}

// wrapRounds is fixed by RFC 3394, section 2.2.1.
const wrapRounds = 6

// WrappingKey is a key encryption key that a server has registered: 16, 24 or 32
// octets. The zero WrappingKey is no key. It does not print.
type WrappingKey struct{ hidden **[]byte }

// NewWrappingKey copies the octets.
func NewWrappingKey(octets []byte) (WrappingKey, error) {
	if n := len(octets); n != 16 && n != 24 && n != 32 {
		return WrappingKey{}, fmt.Errorf("key encryption key has %d octets, not 16, 24 or 32", n)
	}
	p := new([]byte)
	*p = append(*p, octets...)
	return WrappingKey{&p}, nil
}

// ParseWrappingKey reads 32, 48 or 64 hex digits. Its errors do not quote the text.
func ParseWrappingKey(s string) (WrappingKey, error) {
	octets, err := hex.DecodeString(s)
	if err != nil {
		return WrappingKey{}, errors.New("key encryption key is not hex digits")
	}
	return NewWrappingKey(octets)
}

// IsZero reports whether there is no key.
func (w WrappingKey) IsZero() bool { return w.hidden == nil }

// Format prints a placeholder for every verb.
func (w WrappingKey) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(placeholder)) }

// MarshalJSON gives a placeholder too.
func (w WrappingKey) MarshalJSON() ([]byte, error) { return []byte(`"` + placeholder + `"`), nil }

// SealWrapping and OpenWrapping keep a WrappingKey at rest; the zero one is nil.
func (s *Sealer) SealWrapping(w WrappingKey, place string) []byte {
	if w.IsZero() {
		return nil
	}
	return s.Seal(**w.hidden, place)
}

// OpenWrapping reads what SealWrapping made.
func (s *Sealer) OpenWrapping(sealed []byte, place string) (WrappingKey, error) {
	if len(sealed) == 0 {
		return WrappingKey{}, nil
	}
	octets, err := s.Open(sealed, place)
	if err != nil {
		return WrappingKey{}, err
	}
	return NewWrappingKey(octets)
}

// WrapUnder encrypts a key for the server that registered the key encryption key:
// RFC 3394, section 2.2.1. The result has 24 octets.
func (k Key) WrapUnder(w WrappingKey) ([]byte, error) {
	if w.IsZero() {
		return nil, errors.New("no key encryption key to wrap under")
	}
	return k.Wrap(**w.hidden)
}

// Wrap is WrapUnder with the octets of the key encryption key.
func (k Key) Wrap(kek []byte) ([]byte, error) {
	if k.IsZero() {
		return nil, errors.New("no key to wrap")
	}
	return wrap(kek, k.octets())
}

// UnwrapKey reverses Wrap; it refuses what was wrapped under another key.
func UnwrapKey(kek, wrapped []byte) (Key, error) {
	octets, err := unwrap(kek, wrapped)
	if err != nil {
		return Key{}, err
	}
	return NewKey(octets)
}

func wrap(kek, plain []byte) ([]byte, error) {
	if len(plain) < 16 || len(plain)%8 != 0 {
		return nil, fmt.Errorf("RFC 3394 wraps 16 octets or more in steps of 8, not %d", len(plain))
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, fmt.Errorf("key encryption key: %w", err)
	}
	n := len(plain) / 8
	out := append(wrapIV[:], plain...)
	var b [aes.BlockSize]byte
	copy(b[:8], wrapIV[:])
	for j := range wrapRounds {
		for i := 1; i <= n; i++ {
			copy(b[8:], out[8*i:])
			block.Encrypt(b[:], b[:])
			xorCounter(b[:8], uint64(n*j+i))
			copy(out[8*i:8*i+8], b[8:])
		}
	}
	copy(out, b[:8])
	return out, nil
}

func unwrap(kek, wrapped []byte) ([]byte, error) {
	if len(wrapped) < 24 || len(wrapped)%8 != 0 {
		return nil, fmt.Errorf("wrapped key has %d octets: not RFC 3394", len(wrapped))
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, fmt.Errorf("key encryption key: %w", err)
	}
	n := len(wrapped)/8 - 1
	out := append([]byte(nil), wrapped...)
	var b [aes.BlockSize]byte
	copy(b[:8], out)
	for j := wrapRounds - 1; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			xorCounter(b[:8], uint64(n*j+i))
			copy(b[8:], out[8*i:8*i+8])
			block.Decrypt(b[:], b[:])
			copy(out[8*i:], b[8:])
		}
	}
	if subtle.ConstantTimeCompare(b[:8], wrapIV[:]) != 1 {
		return nil, errors.New("wrapped key does not open: another key encryption key, or damaged")
	}
	return out[8:], nil
}

func xorCounter(a []byte, t uint64) {
	binary.BigEndian.PutUint64(a, binary.BigEndian.Uint64(a)^t)
}
