package broker

import (
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// lookEvery is how often files are looked at, at most, and only while somebody needs
// what is in them.
const lookEvery = time.Second

// kept is what was read from files, read again when they have changed. What cannot
// be read any more, or makes no sense, leaves the last in force.
type kept[T any] struct {
	read  func() (T, error)
	files []string
	what  string // for people
	log   *zap.Logger
	now   func() time.Time

	mu     sync.Mutex
	value  T
	looked time.Time
	stamp  string
}

// looker is a kept of whatever type.
type looker interface{ lookAgain() }

// lookAgain makes the next get look at the files.
func (k *kept[T]) lookAgain() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looked = time.Time{}
}

// time is that of the clock by which files are looked at.
func (k *kept[T]) time() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now()
}

// keep reads for the first time.
func keep[T any](what string, log *zap.Logger, read func() (T, error), files ...string) (*kept[T], error) {
	k := &kept[T]{read: read, files: files, what: what, log: log, now: time.Now}
	k.looked, k.stamp = k.now(), stampOf(files)
	var err error
	k.value, err = read()
	return k, err
}

// get gives what is in force.
func (k *kept[T]) get() T {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if now.Sub(k.looked) < lookEvery {
		return k.value
	}
	k.looked = now
	stamp := stampOf(k.files)
	if stamp == k.stamp {
		return k.value
	}
	k.stamp = stamp
	value, err := k.read()
	if err != nil {
		k.log.Error("embedded broker goes on with the old "+k.what, zap.Error(err))
		return k.value
	}
	k.log.Info("embedded broker has new " + k.what)
	k.value = value
	return k.value
}

// stampOf changes when the files do.
func stampOf(files []string) (stamp string) {
	for _, name := range files {
		if file, err := os.Stat(name); err == nil {
			stamp += fmt.Sprint(file.ModTime().UnixNano(), file.Size(), " ")
		}
	}
	return stamp
}
