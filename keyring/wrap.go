package keyring

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// wrapIV is the default initial value of RFC 3394, section 2.2.3.1.
var wrapIV = [8]byte{0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6, 0xa6}

// wrapRounds is fixed by RFC 3394, section 2.2.1.
const wrapRounds = 6

// Wrap encrypts a key for a server under the key encryption key that it
// registered (16, 24 or 32 octets): RFC 3394, section 2.2.1. The result has 24
// octets.
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
