//go:build unix

package keyring

import (
	"os"
	"syscall"
)

// lockFolder makes programs that replace a key file in the folder wait for each
// other. A program that ends, however it does, lets go.
func lockFolder(path string) (release func(), err error) {
	folder, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		_ = folder.Close()
		return nil, err
	}
	return func() { _ = folder.Close() }, nil
}

// keepOwner gives a file the owner of another: root may replace the key file of a
// service that runs as another user.
func keepOwner(of, to string) error {
	info, err := os.Stat(of)
	if err != nil {
		return err
	}
	had, known := info.Sys().(*syscall.Stat_t)
	if !known || int(had.Uid) == os.Geteuid() {
		return nil
	}
	return os.Chown(to, int(had.Uid), int(had.Gid))
}
