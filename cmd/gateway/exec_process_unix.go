//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// overheard are the signals that are the child's.
type overheard struct{ pass, drop chan os.Signal }

// overhear takes signals from now on, to pass them to a child. Those that are
// ignored stay so, for the child too, as nohup and shells without job control
// want it. A broken pipe must not end the gateway under the child.
func overhear() overheard {
	o := overheard{make(chan os.Signal, 16), make(chan os.Signal, 1)}
	for _, sig := range []os.Signal{
		syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT,
	} {
		if !signal.Ignored(sig) {
			signal.Notify(o.pass, sig)
		}
	}
	if !signal.Ignored(syscall.SIGPIPE) {
		signal.Notify(o.drop, syscall.SIGPIPE)
	}
	return o
}

func (o overheard) close() {
	signal.Stop(o.pass)
	signal.Stop(o.drop)
}

// run runs p with environ and with this process's stdin, stdout and stderr
// until it ends, and returns its exit code. An error means that it was not run.
//
// The child has a process group of its own, and the terminal with it where this
// process had it: so the terminal's Ctrl-C reaches it once, by the terminal, and
// a signal to this process once, through here. When it is stopped, this process
// stops too, so that the shell's job control works as without it. The child is
// killed when this process dies. When ctx ends, it gets SIGTERM.
func (p program) run(ctx context.Context, environ []string, o overheard) (int, error) {
	// The kernel ends the child with the thread that made it, not with the
	// process (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tty := openTerminal()
	defer tty.close()
	attr := &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(attr)
	cmd := &exec.Cmd{Path: p.path, Args: p.args, Env: environ, Stdin: os.Stdin, Stdout: p.stdout(), Stderr: os.Stderr, SysProcAttr: attr}
	if err := cmd.Start(); err != nil {
		var failed *os.PathError
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return 0, err
	}
	defer func() { _ = cmd.Process.Release() }()
	group := cmd.Process.Pid
	tty.give(group)
	defer tty.takeBack()
	changes := make(chan unix.WaitStatus)
	go watchChild(group, changes) // ends with the child
	over := ctx.Done()
	var unstopped <-chan time.Time // when a stop of this process has had no effect
	for {
		select {
		case sig := <-o.pass:
			if sig == syscall.SIGCONT {
				unstopped = nil
				tty.resume(group)
				continue
			}
			_ = cmd.Process.Signal(sig) // one that is gone needs none
		case <-unstopped:
			unstopped = nil
			tty.resume(group)
		case <-over:
			over = nil
			_ = cmd.Process.Signal(syscall.SIGTERM)
		case st := <-changes:
			switch {
			case st.Stopped():
				unstopped = tty.stop(group, st.StopSignal())
			case st.Signaled():
				return exitSignal + int(st.Signal()), nil
			default:
				return st.ExitStatus(), nil
			}
		}
	}
}

// stopTakes is how long at most a signal takes to stop this process.
const stopTakes = 200 * time.Millisecond

// watchChild tells of each time that the child stops, and last of its end.
func watchChild(pid int, changes chan<- unix.WaitStatus) {
	for {
		var st unix.WaitStatus
		_, err := unix.Wait4(pid, &st, unix.WUNTRACED, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			st = unix.WaitStatus(exitNo << 8) // somebody else waited for it
		}
		changes <- st
		if !st.Stopped() {
			return
		}
	}
}

// terminal is the controlling terminal; nil where there is none, and then there
// is no job control either.
type terminal struct{ file *os.File }

func openTerminal() *terminal {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	return &terminal{f}
}

func (t *terminal) close() {
	if t != nil {
		_ = t.file.Close()
	}
}

// holder is the process group that the terminal's keys reach; 0 if unknown.
func (t *terminal) holder() int {
	if t == nil {
		return 0
	}
	group, err := unix.IoctlGetInt(int(t.file.Fd()), unix.TIOCGPGRP)
	if err != nil {
		return 0
	}
	return group
}

// give hands the terminal on to group, if it is this process's to give.
func (t *terminal) give(group int) {
	if t.holder() == unix.Getpgrp() {
		_ = unix.IoctlSetPointerInt(int(t.file.Fd()), unix.TIOCSPGRP, group)
	}
}

// takeBack takes the terminal from a child that has ended, for whoever follows
// in this process's group, such as the rest of a script.
func (t *terminal) takeBack() {
	holder := t.holder()
	if holder == 0 || holder == unix.Getpgrp() || unix.Kill(-holder, 0) == nil {
		return // another job has it, or a process that the child left behind
	}
	// Who changes a terminal from the background is stopped, unless it ignores
	// that (termios(4)). Nothing is started any more that would inherit it.
	if !signal.Ignored(syscall.SIGTTOU) {
		signal.Ignore(syscall.SIGTTOU)
		defer signal.Reset(syscall.SIGTTOU)
	}
	_ = unix.IoctlSetPointerInt(int(t.file.Fd()), unix.TIOCSPGRP, unix.Getpgrp())
}

// resume goes on with a child after this process was continued.
func (t *terminal) resume(group int) {
	t.give(group)
	_ = unix.Kill(-group, unix.SIGCONT)
}

// stop follows a child that sig stopped. One that only wanted the terminal,
// which the shell has meanwhile given to this process, gets it and goes on.
// Otherwise everything in this job stops, and goes on with SIGCONT. In a group
// that no shell watches over, the signal that stops has no effect, and there the
// child must not stay stopped: the channel says when that is certain.
func (t *terminal) stop(group int, sig syscall.Signal) (unstopped <-chan time.Time) {
	holder := t.holder()
	switch {
	case holder == 0:
		return nil // no job control: whoever stopped it continues it
	case (sig == unix.SIGTTIN || sig == unix.SIGTTOU) && (holder == unix.Getpgrp() || holder == group):
		t.resume(group)
		return nil
	}
	_ = unix.Kill(0, unix.SIGTSTP)
	return time.After(stopTakes)
}
