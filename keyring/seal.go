package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Sealer keeps secrets at rest: AES-256-GCM under the key encryption key (KEK).
// What is sealed is bound to the place it belongs to, so that it cannot be moved
// to another row or column.
type Sealer struct{ gcm cipher.AEAD }

const kekSize = 32

// NewSealer makes a Sealer of a KEK of 32 octets.
func NewSealer(kek []byte) (*Sealer, error) {
	if len(kek) != kekSize {
		return nil, fmt.Errorf("key encryption key has %d octets, not %d", len(kek), kekSize)
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Sealer{gcm}, nil
}

// Seal encrypts the secret for the place. Nil stays nil.
func (s *Sealer) Seal(secret []byte, place string) []byte {
	if secret == nil {
		return nil
	}
	return s.gcm.Seal(nil, nil, secret, []byte(place))
}

// ErrWrongKEK says that a sealed secret does not open: it was sealed under
// another key, or for another place.
var ErrWrongKEK = errors.New("sealed under another key encryption key, or moved from another place")

// Open decrypts what Seal made for the same place.
func (s *Sealer) Open(sealed []byte, place string) ([]byte, error) {
	if sealed == nil {
		return nil, nil
	}
	secret, err := s.gcm.Open(nil, nil, sealed, []byte(place))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", place, ErrWrongKEK)
	}
	return secret, nil
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

// LoadKEK reads a KEK file: 64 hex digits. Where there is none it makes one, mode
// 0600, but only if create is set.
func LoadKEK(path string, create bool) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		return makeKEK(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("key file %s is missing: put the file back that this record was sealed with", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	kek, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(kek) != kekSize {
		return nil, fmt.Errorf("key file %s does not hold %d hex digits", path, 2*kekSize)
	}
	return kek, nil
}

// makeKEK writes a new KEK so that it exists whole or not at all: two programs
// that start together agree on the one that was first.
func makeKEK(path string) ([]byte, error) {
	kek := make([]byte, kekSize)
	_, _ = rand.Read(kek)
	draft, err := os.CreateTemp(filepath.Dir(path), ".kek-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	defer os.Remove(draft.Name())
	_, err = draft.WriteString(hex.EncodeToString(kek) + "\n")
	if err := errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	if err := os.Link(draft.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	return LoadKEK(path, false)
}

// syncFolder makes a new name durable: a record that outlives its KEK in a power
// cut could never be opened again.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
