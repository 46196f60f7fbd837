package keyring_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"joingate/keyring"
)

func newSealer(t *testing.T, first byte) *keyring.Sealer {
	t.Helper()
	kek := make([]byte, 32)
	kek[0] = first
	sealer, err := keyring.NewSealer(kek)
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

func TestSealing(t *testing.T) {
	sealer := newSealer(t, 1)
	sealed := sealer.Seal([]byte("secret"), "nodes/1")
	for name, c := range map[string]struct {
		by     *keyring.Sealer
		sealed []byte
		place  string
		opens  bool
	}{
		"as it was":        {sealer, sealed, "nodes/1", true},
		"same key anew":    {newSealer(t, 1), sealed, "nodes/1", true},
		"other key":        {newSealer(t, 2), sealed, "nodes/1", false},
		"other place":      {sealer, sealed, "nodes/2", false},
		"damaged":          {sealer, append([]byte{sealed[0] ^ 1}, sealed[1:]...), "nodes/1", false},
		"cut short":        {sealer, sealed[:5], "nodes/1", false},
		"empty, not given": {sealer, []byte{}, "nodes/1", false},
	} {
		secret, err := c.by.Open(c.sealed, c.place)
		if c.opens && (err != nil || string(secret) != "secret") {
			t.Errorf("%s: opened %q, %v", name, secret, err)
		}
		if !c.opens && (!errors.Is(err, keyring.ErrWrongKEK) || secret != nil) {
			t.Errorf("%s: opened %q, %v", name, secret, err)
		}
	}
}

func TestSealingTwiceDiffers(t *testing.T) {
	sealer := newSealer(t, 1)
	if bytes.Equal(sealer.Seal([]byte("secret"), "p"), sealer.Seal([]byte("secret"), "p")) {
		t.Error("equal secrets can be told at rest")
	}
}

func TestSealedKeysAndSecrets(t *testing.T) {
	sealer, key := newSealer(t, 1), secretKey(t)
	if sealer.SealKey(keyring.Key{}, "p") != nil || sealer.Seal(nil, "p") != nil {
		t.Error("nothing was sealed to something")
	}
	if none, err := sealer.OpenKey(nil, "p"); err != nil || !none.IsZero() {
		t.Errorf("nothing opened to a key, %v", err)
	}
	if got, err := sealer.OpenKey(sealer.SealKey(key, "p"), "p"); err != nil || !got.Equal(key) {
		t.Errorf("another key opened, %v", err)
	}
	if _, err := sealer.OpenKey(sealer.SealKey(key, "p"), "q"); !errors.Is(err, keyring.ErrWrongKEK) {
		t.Errorf("a key opened in another place: %v", err)
	}
	if _, err := sealer.OpenKey(sealer.Seal([]byte("short"), "p"), "p"); err == nil {
		t.Error("five octets opened to a key")
	}
	secret := sealer.SealSecret(keyring.NewSecret(secretText), "p")
	if got, err := sealer.OpenSecret(secret, "p"); err != nil || got.Reveal() != secretText {
		t.Errorf("another secret opened, %v", err)
	}
	if _, err := sealer.OpenSecret(secret, "q"); !errors.Is(err, keyring.ErrWrongKEK) {
		t.Errorf("a secret opened in another place: %v", err)
	}
}

func TestKEKIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	keks := make([][]byte, 8)
	var all sync.WaitGroup
	for i := range keks {
		all.Go(func() {
			kek, err := keyring.LoadKEK(path, true)
			if err != nil {
				t.Error(err)
			}
			keks[i] = kek
		})
	}
	all.Wait()
	for _, kek := range keks {
		if len(kek) != 32 || !bytes.Equal(kek, keks[0]) {
			t.Error("programs that start together have different keys")
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file has mode %v, %v; want 0600", info.Mode(), err)
	}
	left, _ := os.ReadDir(filepath.Dir(path))
	if len(left) != 1 {
		t.Errorf("%d files are left in the folder", len(left))
	}
}

func TestLoadKEK(t *testing.T) {
	good := strings.Repeat("0123456789abcdef", 4)
	for name, c := range map[string]struct{ text, fault string }{
		"good":          {good, ""},
		"with new line": {"\n" + good + "\r\n", ""},
		"empty":         {"", "64 hex digits"},
		"too short":     {good[:62], "64 hex digits"},
		"not hex":       {"x" + good[1:], "64 hex digits"},
		"binary":        {strings.Repeat("\x00", 32), "64 hex digits"},
	} {
		path := filepath.Join(t.TempDir(), "kek")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		kek, err := keyring.LoadKEK(path, true)
		if c.fault == "" {
			if err != nil || hex.EncodeToString(kek) != good {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.fault) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v must name %s and %q", name, err, path, c.fault)
		}
		if err != nil && strings.Contains(err.Error(), good[2:60]) {
			t.Errorf("%s: error quotes the key", name)
		}
	}
}

func TestMissingKEK(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	if _, err := keyring.LoadKEK(path, false); err == nil || !strings.Contains(err.Error(), "put the file back") {
		t.Errorf("missing key file: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a key file was made for a record that was sealed with another")
	}
	if _, err := keyring.LoadKEK(filepath.Join(path, "no", "folder"), true); err == nil || !strings.Contains(err.Error(), "let its folder be written to") {
		t.Errorf("a key file in no folder: %v", err)
	}
}
