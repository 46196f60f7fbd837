package main

import (
	"io/fs"
	"syscall"
)

// File systems that lose a record, or that SQLite cannot lock on: linux/magic.h.
var unsafeFileSystems = map[int64]string{
	0x6969: "NFS", 0xff534d42: "CIFS", 0xfe534d42: "SMB", 0x517b: "SMB", 0x01021994: "tmpfs, which is memory", 0x858458f6: "ramfs, which is memory",
}

// freeSpace gives the octets that are free for this user, and what kind of file
// system it is if a record must not be there.
func freeSpace(dir string) (free uint64, unsafeKind string, err error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return 0, "", err
	}
	return stat.Bavail * uint64(stat.Bsize), unsafeFileSystems[int64(stat.Type)&0xffffffff], nil
}

// clockSynchronised asks the kernel: adjtimex(2), STA_UNSYNC.
func clockSynchronised() (synchronised, known bool) {
	const unsynchronised = 0x0040
	var t syscall.Timex
	if _, err := syscall.Adjtimex(&t); err != nil {
		return false, false
	}
	return t.Status&unsynchronised == 0, true
}

func mostOpenFiles() (most uint64, known bool) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return limit.Cur, err == nil
}

func ownerOf(info fs.FileInfo) (user int, known bool) {
	stat, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, false
	}
	return int(stat.Uid), true
}
