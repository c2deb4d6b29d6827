package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
)

// manages is a service manager at a socket of that name: heard gives its
// messages one by one.
func manages(t *testing.T, socket string) (heard func() string) {
	t.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return func() string {
		t.Helper()
		if err := l.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

// sockets are a path, and where there are such, an abstract name.
func sockets(t *testing.T) map[string]string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nt") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	all := map[string]string{"a path": filepath.Join(dir, "s")}
	if runtime.GOOS == "linux" {
		all["an abstract socket"] = fmt.Sprintf("@gateway-test-%d", os.Getpid())
	}
	return all
}

func TestServiceManagerHearsOfStartReloadsAndEnd(t *testing.T) {
	for name, socket := range sockets(t) {
		t.Run(name, func(t *testing.T) {
			heard := manages(t, socket)
			_, credentials := sandboxed(t)
			dir := t.TempDir()
			path, ready := filepath.Join(dir, "routes.yaml"), filepath.Join(dir, "ready")
			good := []byte(quietPorts + credentials + "routes:\n  - preset: graph\n")
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("gateway", "serve", "--config", path, "--ready-file", ready)
			cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := false
			t.Cleanup(func() {
				if !ended {
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
				}
			})
			if got, want := heard(), "READY=1\nSTATUS=serving; routes: 1, SQL doors: 0"; got != want {
				t.Fatalf("first message = %q, want %q", got, want)
			}
			if _, err := os.Stat(ready); err != nil {
				t.Errorf("READY=1 came before the doors were open: %v", err)
			}
			signalled := monotonic()
			if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			reloadHeard(t, heard, signalled, "is in force as it stands")
			// A change of the file is followed by a reload, with no signal.
			if err := os.WriteFile(path+".new", []byte("version: 1\nnonsense: true\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
			reloadHeard(t, heard, signalled, "has mistakes")
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			for got := heard(); got != "STOPPING=1\nSTATUS=draining"; got = heard() {
				if strings.Contains(got, "STOPPING") {
					t.Fatalf("last message = %q", got)
				}
			}
			ended = true
			if err := cmd.Wait(); err != nil {
				t.Errorf("serve: %v\n%s", err, errs.String())
			}
		})
	}
}

// reloadHeard wants RELOADING=1 with a time after since, and READY=1 with
// status after it.
func reloadHeard(t *testing.T, heard func() string, since time.Duration, status string) {
	t.Helper()
	first := heard()
	at, ok := strings.CutPrefix(first, "RELOADING=1\nMONOTONIC_USEC=")
	usec, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil {
		t.Fatalf("message = %q, want RELOADING=1 with a time", first)
	}
	if usec < since.Microseconds() {
		t.Errorf("MONOTONIC_USEC=%d is before the signal at %d: the manager would wait on", usec, since.Microseconds())
	}
	if got := heard(); !strings.HasPrefix(got, "READY=1\nSTATUS=") || !strings.Contains(got, status) {
		t.Fatalf("message = %q, want READY=1 with %q", got, status)
	}
}

func TestGatewayServesOnWhenTheServiceManagerDoesNotHear(t *testing.T) {
	for name, tt := range map[string]struct{ socket, want string }{
		"nobody listens":       {filepath.Join(t.TempDir(), "s"), "no such file or directory"},
		"another kind of name": {"vsock:2:1234", "neither a path nor an abstract socket"},
	} {
		t.Run(name, func(t *testing.T) {
			_, credentials := sandboxed(t)
			g, out := opened(t, doors{}, quietPorts+credentials+"routes:\n  - preset: graph\n")
			g.tellOf(managerOf(tt.socket, g.log))
			if got := out.String(); !strings.Contains(got, "the service manager was not told") || !strings.Contains(got, tt.want) {
				t.Errorf("the log has %q, want that the manager was not told: %s", got, tt.want)
			}
			if r := g.Reload(); !r.OK {
				t.Errorf("Reload() = %+v, want it taken", r)
			}
		})
	}
}

func TestNothingIsSaidAfterTheEndBegan(t *testing.T) {
	socket := sockets(t)["a path"]
	heard := manages(t, socket)
	log, err := audit.NewLog(&logged{}, audit.LogConfig{Level: "debug", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	m := managerOf(socket, log)
	m.stopping()
	m.reloading()(true)
	another := managerOf(socket, log)
	another.ready(2, 1)
	if got := heard(); got != "STOPPING=1\nSTATUS=draining" {
		t.Errorf("first message = %q, want STOPPING=1", got)
	}
	if got := heard(); got != "READY=1\nSTATUS=serving; routes: 2, SQL doors: 1" {
		t.Errorf("second message = %q, want that of another manager: nothing more of the first", got)
	}
}
