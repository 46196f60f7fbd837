package keyring

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// KEKSource gives key encryption keys of 32 octets each: the first seals, the
// others are older and only open. A Sealer asks it again for a key that it does not
// know.
type KEKSource func() ([][]byte, error)

const (
	kekSize = 32
	mostKEK = 8 // a rotation needs two; more are a file of something else
)

// KEKFile reads a key file: a line of 64 hex digits for each key. Where there is
// none the first call makes one, mode 0600, but only if create is set.
func KEKFile(path string, create bool) KEKSource {
	return func() ([][]byte, error) {
		keks, err := readKEKs(path)
		if errors.Is(err, fs.ErrNotExist) && create {
			keks, err = makeKEK(path)
		}
		create = false // a key file that is lost later is not replaced by another key
		return keks, err
	}
}

// KEKText reads what read gives: what else is in a key file. from names its source in
// errors.
func KEKText(from string, read func() ([]byte, error)) KEKSource {
	return func() ([][]byte, error) {
		text, err := read()
		if err != nil {
			return nil, err
		}
		return parseKEKs(text, from)
	}
}

// KEKDescriptor reads what else is in a key file from a file descriptor that was
// inherited, and closes it. It can be read once, so keys stay as they are for as
// long as the program runs.
func KEKDescriptor(fd uintptr) KEKSource {
	name := fmt.Sprintf("file descriptor %d", fd)
	return sync.OnceValues(func() ([][]byte, error) {
		file := os.NewFile(fd, name)
		if file == nil {
			return nil, fmt.Errorf("%s is none: let what starts joingate open it with the key in it", name)
		}
		text, err := io.ReadAll(io.LimitReader(file, mostKEKText))
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("read the key from %s: %w", name, err)
		}
		return parseKEKs(text, name)
	})
}

const mostKEKText = 4096 // octets

// LoadKEK reads the key that seals from a key file; see KEKFile.
func LoadKEK(path string, create bool) ([]byte, error) {
	keks, err := KEKFile(path, create)()
	if err != nil {
		return nil, err
	}
	return keks[0], nil
}

// readKEKs reads a key file. Its error is fs.ErrNotExist where there is none.
func readKEKs(path string) ([][]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("key file %s is missing: put the file back that this record was sealed with (%w)", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	return parseKEKs(text, "key file "+path)
}

// parseKEKs reads the lines of a key file. Its errors do not quote them.
func parseKEKs(text []byte, from string) (keks [][]byte, err error) {
	for n, line := range strings.Fields(string(text)) {
		kek, err := hex.DecodeString(line)
		if err != nil || len(kek) != kekSize {
			return nil, fmt.Errorf("%s: key %d is not %d hex digits", from, n+1, 2*kekSize)
		}
		keks = append(keks, kek)
	}
	if len(keks) == 0 || len(keks) > mostKEK {
		return nil, fmt.Errorf("%s holds %d keys, not 1 to %d lines of %d hex digits", from, len(keks), mostKEK, 2*kekSize)
	}
	return keks, nil
}

func newKEK() []byte {
	kek := make([]byte, kekSize)
	_, _ = rand.Read(kek) // never fails
	return kek
}

// makeKEK writes a new key file so that it exists whole or not at all: two programs
// that start together agree on the one that was first.
func makeKEK(path string) ([][]byte, error) {
	draft, err := draftKEKs(path, [][]byte{newKEK()})
	if err != nil {
		return nil, cannotMake(err)
	}
	defer os.Remove(draft)
	if err := os.Link(draft, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, cannotMake(err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return nil, cannotMake(err)
	}
	return readKEKs(path)
}

// cannotMake says what is left to do: some network volumes have no hard links.
func cannotMake(err error) error {
	return fmt.Errorf("make key file: %w: let its folder be written to, or put a file with a line of %d hex digits there", err, 2*kekSize)
}

// draftKEKs writes a key file beside its place, mode 0600, and gives its name.
func draftKEKs(path string, keks [][]byte) (name string, err error) {
	draft, err := os.CreateTemp(filepath.Dir(path), ".kek-*") // mode 0600
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, kek := range keks {
		text.WriteString(hex.EncodeToString(kek) + "\n")
	}
	_, err = draft.WriteString(text.String())
	if err := errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return "", errors.Join(err, os.Remove(draft.Name()))
	}
	return draft.Name(), nil
}

// AddKEK puts a new key before those of a key file, so that it seals from now on
// and they only open. Where there is more than one key already, a rotation was
// broken off: its new key is there, none is added, and added is false.
//
// The file is replaced as a whole, mode 0600, and keeps its owner.
func AddKEK(path string) (added bool, err error) {
	err = replaceKEKs(path, func(keks [][]byte) [][]byte {
		if len(keks) > 1 {
			return keks
		}
		added = true
		return slices.Insert(keks, 0, newKEK())
	})
	return added && err == nil, err
}

// DropOldKEKs leaves in a key file the key that seals, and tells how many it took
// out. What is still sealed under one of those can never be opened again: sealing is
// the key that all is known to be sealed under. Where it is not the first of the
// file any more, another rotation has begun, and all keys stay.
func DropOldKEKs(path string, sealing []byte) (dropped int, err error) {
	moved := false
	err = replaceKEKs(path, func(keks [][]byte) [][]byte {
		if moved = !slices.Equal(keks[0], sealing); moved {
			return keks
		}
		dropped = len(keks) - 1
		return keks[:1]
	})
	if err == nil && moved {
		err = fmt.Errorf("key file %s has got another new key meanwhile, and what is on record still needs the older ones: run joingate keys rotate once more", path)
	}
	return dropped, err
}

// replaceKEKs replaces a key file, also one that is reached by a symbolic link, so
// that the old or the new one is there at any moment. Of programs that do it at
// once, one waits for the other.
func replaceKEKs(path string, change func([][]byte) [][]byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("replace key file: %w", err)
	}
	folder := filepath.Dir(path)
	release, err := lockFolder(folder)
	if err != nil {
		return fmt.Errorf("replace key file %s: %w", path, err)
	}
	defer release()
	had, err := readKEKs(path)
	if err != nil {
		return err
	}
	keks := change(slices.Clone(had))
	if slices.EqualFunc(had, keks, slices.Equal) {
		return nil
	}
	draft, err := draftKEKs(path, keks)
	if err != nil {
		return fmt.Errorf("replace key file: %w: let the user of this command write to its folder, or write the lines yourself", err)
	}
	defer os.Remove(draft) // after the renaming there is none
	if err := errors.Join(keepOwner(path, draft), os.Rename(draft, path), syncFolder(folder)); err != nil {
		return fmt.Errorf("replace key file: %w", err)
	}
	return nil
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
