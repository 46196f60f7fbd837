package tlsfile

import (
	"os"
	"slices"
	"sync"
)

// watched is a value read from files, and read again when one of them changes.
type watched[T any] struct {
	read   func() (T, error)
	report func(error)
	files  []string

	mu    sync.Mutex
	seen  []os.FileInfo // the files when they were last read, or tried
	value T
}

// watch reads the value for the first time.
func watch[T any](report func(error), read func() (T, error), files ...string) (*watched[T], error) {
	w := &watched[T]{read: read, report: report, files: files}
	w.seen = w.look()
	var err error
	w.value, err = read()
	return w, err
}

// get gives the value as the files have it now. Files that cannot be read leave
// the value as it was: a certificate is often half replaced for a moment.
func (w *watched[T]) get() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Looked at before it is read: what changes meanwhile is seen the next time.
	found := w.look()
	if slices.EqualFunc(found, w.seen, same) {
		return w.value
	}
	w.seen = found
	value, err := w.read()
	if err != nil {
		w.report(err)
		return w.value
	}
	w.value = value
	return value
}

// look gives nil for a file that is not there.
func (w *watched[T]) look() []os.FileInfo {
	found := make([]os.FileInfo, len(w.files))
	for i, file := range w.files {
		if info, err := os.Stat(file); err == nil {
			found[i] = info
		}
	}
	return found
}

func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
