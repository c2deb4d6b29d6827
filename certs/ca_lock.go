//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package certs

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks f for itself, or among readers, unless another process has it.
// The kernel ends a lock with its process.
func tryLock(f *os.File, own bool) (bool, error) {
	how := syscall.LOCK_SH
	if own {
		how = syscall.LOCK_EX
	}
	err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return false, nil
	}
	return err == nil, err
}
