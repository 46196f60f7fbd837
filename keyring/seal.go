package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Sealer keeps secrets at rest: AES-256-GCM under a key encryption key (KEK).
// What is sealed is bound to the place it belongs to, so that it cannot be moved
// to another row or column.
//
// A Sealer may have several KEKs: the first seals, all of them open. So a KEK can
// be replaced while programs run. What is sealed does not say under which KEK: the
// right one is the one that opens it. A value that none opens makes the Sealer ask
// its source for the KEKs again, at most once a second.
type Sealer struct {
	keys   atomic.Pointer[sealingKeys]
	source KEKSource // nil: the KEKs stay as they are

	learning sync.Mutex
	asked    time.Time // when an unknown KEK last made it ask the source
}

// sealingKeys are the ciphers of the KEKs, and the KEKs to tell a change by.
type sealingKeys struct {
	keks    [][]byte
	ciphers []cipher.AEAD
}

// learnPause bounds how often a value that does not open costs a look at the
// source: rows that are damaged must not become reads of a file, or runs of a
// command, at the rate of joins.
const learnPause = time.Second

// NewSealer makes a Sealer of KEKs of 32 octets each: the first seals, the others
// open what was sealed before.
func NewSealer(keks ...[]byte) (*Sealer, error) {
	s := new(Sealer)
	return s, s.take(keks)
}

// OpenSealer makes a Sealer of the KEKs that a source has now, and learns those
// that it has later.
func OpenSealer(source KEKSource) (*Sealer, error) {
	s := &Sealer{source: source}
	return s, s.Learn()
}

// Learn asks the source for its KEKs. On an error those known stay in use.
func (s *Sealer) Learn() error {
	if s.source == nil {
		return nil
	}
	s.learning.Lock()
	defer s.learning.Unlock()
	return s.learn()
}

func (s *Sealer) learn() error {
	keks, err := s.source()
	if err != nil {
		return err
	}
	return s.take(keks)
}

func (s *Sealer) take(keks [][]byte) error {
	if len(keks) == 0 {
		return errors.New("there is no key encryption key")
	}
	keys := &sealingKeys{}
	for _, kek := range keks {
		sealing, err := newCipher(kek)
		if err != nil {
			return err
		}
		keys.keks, keys.ciphers = append(keys.keks, slices.Clone(kek)), append(keys.ciphers, sealing)
	}
	s.keys.Store(keys)
	return nil
}

func newCipher(kek []byte) (cipher.AEAD, error) {
	if len(kek) != kekSize {
		return nil, fmt.Errorf("key encryption key has %d octets, not %d", len(kek), kekSize)
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal encrypts the secret for the place. Nil stays nil.
func (s *Sealer) Seal(secret []byte, place string) []byte {
	if secret == nil {
		return nil
	}
	return s.keys.Load().ciphers[0].Seal(nil, nil, secret, []byte(place))
}

// ErrWrongKEK says that a sealed secret does not open: it was sealed under
// another key, or for another place.
var ErrWrongKEK = errors.New("sealed under another key encryption key, or moved from another place")

// Open decrypts what Seal made for the same place.
func (s *Sealer) Open(sealed []byte, place string) ([]byte, error) {
	if sealed == nil {
		return nil, nil
	}
	secret, _, err := s.open(sealed, place)
	return secret, err
}

// Reseal seals anew what is sealed under an older KEK. fresh is nil if it is
// sealed under the first one already.
func (s *Sealer) Reseal(sealed []byte, place string) (fresh []byte, err error) {
	if sealed == nil {
		return nil, nil
	}
	secret, older, err := s.open(sealed, place)
	if err != nil || !older {
		return nil, err
	}
	return s.Seal(secret, place), nil
}

// open tells beside the secret whether an older KEK has opened it.
func (s *Sealer) open(sealed []byte, place string) (secret []byte, older bool, err error) {
	known := s.keys.Load()
	if secret, by := known.open(sealed, place); by >= 0 {
		return secret, by > 0, nil
	}
	learned, err := s.learnedSince(known)
	if err != nil {
		return nil, false, fmt.Errorf("open %s: %w; nor can the keys be read again: %w", place, ErrWrongKEK, err)
	}
	if learned {
		if secret, by := s.keys.Load().open(sealed, place); by >= 0 {
			return secret, by > 0, nil
		}
	}
	return nil, false, fmt.Errorf("open %s: %w", place, ErrWrongKEK)
}

// open gives the secret and the number of the KEK that opened it, -1: none did.
func (k *sealingKeys) open(sealed []byte, place string) ([]byte, int) {
	for i, c := range k.ciphers {
		if secret, err := c.Open(nil, nil, sealed, []byte(place)); err == nil {
			return secret, i
		}
	}
	return nil, -1
}

// learnedSince reports whether there are other KEKs than those that did not open
// something: another call has learned them, or they are learned now.
func (s *Sealer) learnedSince(known *sealingKeys) (bool, error) {
	if s.source == nil {
		return false, nil
	}
	s.learning.Lock()
	defer s.learning.Unlock()
	if now := s.keys.Load(); now != known {
		return !slices.EqualFunc(now.keks, known.keks, slices.Equal), nil
	}
	if time.Since(s.asked) < learnPause {
		return false, nil
	}
	s.asked = time.Now()
	if err := s.learn(); err != nil {
		return false, err
	}
	return !slices.EqualFunc(s.keys.Load().keks, known.keks, slices.Equal), nil
}

// SealKey and OpenKey do the same for a Key; the zero Key is nil at rest.
func (s *Sealer) SealKey(k Key, place string) []byte {
	if k.IsZero() {
		return nil
	}
	return s.Seal(k.octets(), place)
}

// OpenKey reads what SealKey made.
func (s *Sealer) OpenKey(sealed []byte, place string) (Key, error) {
	if len(sealed) == 0 {
		return Key{}, nil
	}
	octets, err := s.Open(sealed, place)
	if err != nil {
		return Key{}, err
	}
	return NewKey(octets)
}

// SealSecret and OpenSecret do the same for a Secret.
func (s *Sealer) SealSecret(secret Secret, place string) []byte {
	return s.Seal([]byte(secret.Reveal()), place)
}

// OpenSecret reads what SealSecret made.
func (s *Sealer) OpenSecret(sealed []byte, place string) (Secret, error) {
	text, err := s.Open(sealed, place)
	if err != nil {
		return Secret{}, err
	}
	return NewSecret(string(text)), nil
}
