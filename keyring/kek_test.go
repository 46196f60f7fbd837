package keyring_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"joingate/keyring"
)

func kekOf(first byte) []byte { return append([]byte{first}, make([]byte, 31)...) }

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// The first key seals, all of them open.
func TestSeveralKEKs(t *testing.T) {
	older, both := newSealer(t, 1), must[*keyring.Sealer](t)(keyring.NewSealer(kekOf(2), kekOf(1)))
	newer := newSealer(t, 2)
	before := older.Seal([]byte("secret"), "p")
	if got, err := both.Open(before, "p"); err != nil || string(got) != "secret" {
		t.Errorf("what the older key sealed opens to %q, %v", got, err)
	}
	if _, err := both.Open(before, "q"); !errors.Is(err, keyring.ErrWrongKEK) {
		t.Errorf("it opens in another place: %v", err)
	}
	fresh := must[[]byte](t)(both.Reseal(before, "p"))
	for name, sealed := range map[string][]byte{"sealed": both.Seal([]byte("secret"), "p"), "sealed anew": fresh} {
		if got, err := newer.Open(sealed, "p"); err != nil || string(got) != "secret" {
			t.Errorf("%s: the newer key opens %q, %v", name, got, err)
		}
		if again, err := both.Reseal(sealed, "p"); err != nil || again != nil {
			t.Errorf("%s: it is sealed anew once more: %v, %v", name, again, err)
		}
	}
	if again, err := both.Reseal(nil, "p"); again != nil || err != nil {
		t.Errorf("nothing was sealed anew to %v, %v", again, err)
	}
	if _, err := newer.Reseal(before, "p"); !errors.Is(err, keyring.ErrWrongKEK) {
		t.Errorf("without the older key: %v", err)
	}
	if _, err := keyring.NewSealer(); err == nil {
		t.Error("a Sealer without a key")
	}
}

// A Sealer learns a key that came into its file while it runs, and forgets none
// when the file cannot be read.
func TestSealerLearns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	running := must[*keyring.Sealer](t)(keyring.OpenSealer(keyring.KEKFile(path, true)))
	before := running.Seal([]byte("before"), "p")
	if added := must[bool](t)(keyring.AddKEK(path)); !added {
		t.Fatal("no key was added")
	}
	started := must[*keyring.Sealer](t)(keyring.OpenSealer(keyring.KEKFile(path, false)))
	after := started.Seal([]byte("after"), "p")
	if got, err := running.Open(after, "p"); err != nil || string(got) != "after" {
		t.Fatalf("a key that was added is not learned: %q, %v", got, err)
	}
	if got, err := running.Open(before, "p"); err != nil || string(got) != "before" {
		t.Errorf("the older key is forgotten: %q, %v", got, err)
	}
	if n := must[int](t)(keyring.DropOldKEKs(path, firstKEK(t, path))); n != 1 {
		t.Errorf("%d keys were taken out, not 1", n)
	}
	onlyNew := must[*keyring.Sealer](t)(keyring.OpenSealer(keyring.KEKFile(path, false)))
	if _, err := onlyNew.Open(before, "p"); !errors.Is(err, keyring.ErrWrongKEK) {
		t.Errorf("the key that was taken out still opens: %v", err)
	}
	if got, err := onlyNew.Open(must[[]byte](t)(running.Reseal(before, "p")), "p"); err != nil || string(got) != "before" {
		t.Errorf("what was sealed anew opens to %q, %v", got, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := running.Learn(); err == nil || !strings.Contains(err.Error(), "put the file back") {
		t.Errorf("the key file is gone: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("another key file was made in the place of one that was lost")
	}
	if _, err := running.Open(before, "p"); err != nil {
		t.Errorf("known keys are forgotten with the file: %v", err)
	}
}

// Of calls that meet an unknown key at once one asks the source, and all go by what
// it has learned.
func TestSealerLearnsForAll(t *testing.T) {
	var times atomic.Int64
	asked, answer := make(chan struct{}), make(chan struct{})
	sealer := must[*keyring.Sealer](t)(keyring.OpenSealer(func() ([][]byte, error) {
		if times.Add(1) == 1 {
			return [][]byte{kekOf(1)}, nil
		}
		close(asked) // a third time would panic
		<-answer
		return [][]byte{kekOf(2), kekOf(1)}, nil
	}))
	fresh := newSealer(t, 2).Seal([]byte("secret"), "p")
	open := func() {
		if got, err := sealer.Open(fresh, "p"); err != nil || string(got) != "secret" {
			t.Errorf("opened %q, %v", got, err)
		}
	}
	var all sync.WaitGroup
	all.Go(open)
	<-asked // it waits for the source
	var ready sync.WaitGroup
	for range 16 {
		ready.Add(1)
		all.Go(func() { ready.Done(); open() })
	}
	ready.Wait()
	close(answer)
	all.Wait()
}

// Damaged values do not become reads of the source at their own rate, and the
// error says when the source fails.
func TestSealerAsksSeldom(t *testing.T) {
	var asked atomic.Int64
	sealer := must[*keyring.Sealer](t)(keyring.OpenSealer(func() ([][]byte, error) {
		if asked.Add(1) > 1 {
			return nil, errors.New("vault is shut")
		}
		return [][]byte{kekOf(1)}, nil
	}))
	if _, err := sealer.Open([]byte("damaged"), "p"); !errors.Is(err, keyring.ErrWrongKEK) || !strings.Contains(err.Error(), "vault is shut") {
		t.Errorf("error: %v", err)
	}
	for range 100 {
		if _, err := sealer.Open([]byte("damaged"), "p"); !errors.Is(err, keyring.ErrWrongKEK) {
			t.Fatal(err)
		}
	}
	if n := asked.Load(); n > 3 { // at the start, and once a second
		t.Errorf("the source was asked %d times", n)
	}
}

func TestReplacingKEKs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	first := must[[]byte](t)(keyring.LoadKEK(path, true))
	link := path + "-link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	var added atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			is, err := keyring.AddKEK(link)
			if err != nil {
				t.Error(err)
			}
			if is {
				added.Add(1)
			}
		})
	}
	all.Wait()
	keks := must[[][]byte](t)(keyring.KEKFile(link, false)())
	if added.Load() != 1 || len(keks) != 2 || bytes.Equal(keks[0], first) || !bytes.Equal(keks[1], first) {
		t.Errorf("%d of 8 rotations added a key; the file holds %d", added.Load(), len(keks))
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 { // a file still, not the link's target moved
		t.Errorf("key file has mode %v, %v", info.Mode(), err)
	}
	if n := must[int](t)(keyring.DropOldKEKs(link, firstKEK(t, link))); n != 1 {
		t.Errorf("%d keys taken out", n)
	}
	if n := must[int](t)(keyring.DropOldKEKs(link, firstKEK(t, link))); n != 0 {
		t.Errorf("%d keys taken out of one", n)
	}
	if got := must[[]byte](t)(keyring.LoadKEK(path, false)); !bytes.Equal(got, keks[0]) {
		t.Error("the key that seals was taken out")
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 2 {
		t.Errorf("%d files are left in the folder", len(left))
	}
	if _, err := keyring.AddKEK(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a key was added to no file")
	}
}

// A key file keeps its owner: root may rotate the key of a service that runs as
// another user.
func TestReplacedKEKKeepsItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	path := filepath.Join(t.TempDir(), "kek")
	must[[]byte](t)(keyring.LoadKEK(path, true))
	if err := os.Chown(path, 4711, 4712); err != nil {
		t.Fatal(err)
	}
	must[bool](t)(keyring.AddKEK(path))
	info := must[os.FileInfo](t)(os.Stat(path))
	if has, known := info.Sys().(*syscall.Stat_t); !known || has.Uid != 4711 || has.Gid != 4712 || info.Mode() != 0o600 {
		t.Errorf("the key file is of %+v, mode %v", has, info.Mode())
	}
}

func TestKEKText(t *testing.T) {
	text := strings.Repeat("ab", 32) + "\n"
	keks, err := keyring.KEKText("vault", func() ([]byte, error) { return []byte(text), nil })()
	if err != nil || len(keks) != 1 || keks[0][0] != 0xab {
		t.Errorf("%d keys, %v", len(keks), err)
	}
	if _, err := keyring.KEKText("vault", func() ([]byte, error) { return []byte(text[:62]), nil })(); err == nil || !strings.Contains(err.Error(), "vault") {
		t.Errorf("error %v does not name where the key came from", err)
	}
	shut := errors.New("vault is shut")
	if _, err := keyring.KEKText("vault", func() ([]byte, error) { return nil, shut })(); !errors.Is(err, shut) {
		t.Errorf("error: %v", err)
	}
}

func firstKEK(t testing.TB, path string) []byte {
	t.Helper()
	return must[[]byte](t)(keyring.LoadKEK(path, false))
}

// A rotation that is late takes out nothing that a later one needs: the record is
// still sealed under the key that is the second now.
func TestLateRotationDropsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	must[[]byte](t)(keyring.LoadKEK(path, true))
	must[bool](t)(keyring.AddKEK(path))
	sealing := firstKEK(t, path)
	must[int](t)(keyring.DropOldKEKs(path, sealing)) // of another program that rotates
	must[bool](t)(keyring.AddKEK(path))              // of a third, which has sealed nothing yet
	if n, err := keyring.DropOldKEKs(path, sealing); n != 0 || err == nil || !strings.Contains(err.Error(), "keys rotate") {
		t.Errorf("%d keys taken out, %v", n, err)
	}
	keks := must[[][]byte](t)(keyring.KEKFile(path, false)())
	if len(keks) != 2 || !bytes.Equal(keks[1], sealing) {
		t.Error("the key that the record is sealed under is gone")
	}
}

func TestKEKDescriptor(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString(strings.Repeat("ab", 32) + "\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	copied := must[int](t)(syscall.Dup(int(r.Fd()))) // for the source to close
	source := keyring.KEKDescriptor(uintptr(copied))
	for range 2 { // the second time from memory
		if keks, err := source(); err != nil || len(keks) != 1 || keks[0][0] != 0xab {
			t.Errorf("%d keys, %v", len(keks), err)
		}
	}
	if _, err := keyring.KEKDescriptor(1 << 20)(); err == nil {
		t.Error("a key came from a descriptor that is not open")
	}
}

// Whatever is in a key file: keys of 32 octets, or an error that does not quote it.
func FuzzKEKFile(f *testing.F) {
	good := strings.Repeat("0123456789abcdef", 4)
	for _, text := range []string{good, good + "\n" + good + "\n", "", "\x00", good[1:], strings.Repeat(good+"\n", 9)} {
		f.Add(text)
	}
	folder := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(folder, "kek")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		keks, err := keyring.KEKFile(path, true)()
		if (err == nil) != (len(keks) > 0) || len(keks) > 8 {
			t.Errorf("%d keys, %v", len(keks), err)
		}
		for _, kek := range keks {
			if len(kek) != 32 {
				t.Errorf("a key of %d octets", len(kek))
			}
		}
		if err != nil && len(text) >= 60 && strings.Contains(err.Error(), text[:60]) {
			t.Errorf("the error quotes the file: %v", err)
		}
	})
}
