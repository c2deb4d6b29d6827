package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent has the kernel kill a child whose gateway died: it would go on
// with a proxy that is not there, or worse, that somebody else is.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// ownUID is the user that the kernel attests for connections of the child.
func ownUID() *uint32 {
	uid := uint32(os.Geteuid())
	return &uid
}

// hideSecrets puts this process's memory and environment out of a child's
// reach, although both are of one user: /proc/PID/mem and environ are root's
// from now on, nobody attaches to it, and no core of it is written (prctl(2),
// PR_SET_DUMPABLE; proc(5)). What the kernel shows as its environment is blanked
// besides, for a child that is root; this process has its own copy.
func hideSecrets() error {
	blankEnvironment()
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("this process cannot be kept from its child's sight: %w", err)
	}
	return nil
}

// blankEnvironment overwrites the environment where the kernel put it for this
// process (proc_pid_stat(5), fields 50 and 51). Where that is not allowed,
// [hideSecrets] has to do without.
func blankEnvironment() {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from field 3 on
	if len(fields) < 49 {
		return
	}
	from, err1 := strconv.ParseInt(string(fields[50-3]), 10, 64)
	to, err2 := strconv.ParseInt(string(fields[51-3]), 10, 64)
	if err1 != nil || err2 != nil || from <= 0 || to <= from || to-from > 64<<20 {
		return
	}
	mem, err := os.OpenFile("/proc/self/mem", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer mem.Close()
	_, _ = mem.WriteAt(make([]byte, to-from), from)
}
