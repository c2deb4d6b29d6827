//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package certs_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/seed-13b04e61/gateway/certs"
)

func TestAFolderThatStaysLockedIsAnErrorAndNoHang(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	opened(t, dir, "graph.microsoft.com")
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		for what, err := range map[string]error{"OpenCA": second(certs.OpenCA(dir, nil)), "ReadCA": second(certs.ReadCA(dir))} {
			if err == nil || !strings.Contains(err.Error(), "keeps") || !strings.Contains(err.Error(), "locked") {
				t.Errorf("%s = %v, want a word on the lock", what, err)
			}
		}
	})
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	if _, err := certs.ReadCA(dir); err != nil {
		t.Errorf("readers keep each other out: %v", err)
	}
}
