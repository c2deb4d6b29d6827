package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty opens a terminal: who sits before it, and who runs in it.
func pty(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	raw, err := person.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	var unlocked, numbered error
	if err := raw.Control(func(fd uintptr) {
		unlocked = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		number, numbered = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	}); err != nil || unlocked != nil || numbered != nil {
		t.Fatal(err, unlocked, numbered)
	}
	if program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return person, program
}

// session is a program with a terminal that is all its own.
type session struct {
	*exec.Cmd
	person *os.File
	screen *bufio.Reader
}

func startSession(t *testing.T, cmd *exec.Cmd) *session {
	t.Helper()
	person, program := pty(t)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := program.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // may be over
		_ = cmd.Wait()
	})
	return &session{cmd, person, bufio.NewReader(person)}
}

func (s *session) typed(t *testing.T, keys string) {
	t.Helper()
	if _, err := io.WriteString(s.person, keys); err != nil {
		t.Fatal(err)
	}
}

// shows waits for text on the screen, and returns what stood before it.
func (s *session) shows(t *testing.T, text string) string {
	t.Helper()
	var seen strings.Builder
	if err := s.person.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for !strings.HasSuffix(seen.String(), text) {
		b, err := s.screen.ReadByte()
		if err != nil {
			t.Fatalf("the screen ends (%v) without %q:\n%s", err, text, &seen)
		}
		seen.WriteByte(b)
	}
	return seen.String()
}

func TestCtrlCReachesTheChildOnce(t *testing.T) {
	s := startSession(t, execProcess(t, execFolder(t, execRoutes), "--", "witness"))
	s.shows(t, "ready")
	s.typed(t, "\x03")
	s.shows(t, "heard interrupt")
	// One that came by way of the gateway too would be heard before this.
	if err := s.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if seen := s.shows(t, "heard user defined signal 1"); strings.Contains(seen, "interrupt") {
		t.Errorf("the child heard Ctrl-C twice: %q", seen)
	}
	s.typed(t, "\x04")
	if code := exitCode(t, s.Cmd); code != 5 {
		t.Errorf("exit code %d, want 5", code)
	}
}

// Where no shell controls jobs, as in a container's terminal, Ctrl-Z must not
// stop a program that nobody could continue.
func TestWithoutAShellCtrlZStopsNothing(t *testing.T) {
	s := startSession(t, execProcess(t, execFolder(t, execRoutes), "--", "witness"))
	s.shows(t, "ready")
	s.typed(t, "\x1a")
	s.shows(t, "heard continued")
	s.typed(t, "\x03")
	s.shows(t, "heard interrupt")
}

func TestAShellsJobControlWorksAsWithoutTheGateway(t *testing.T) {
	dir := execFolder(t, execRoutes)
	like := execProcess(t, dir)
	shell := exec.Command("bash", "--norc", "--noprofile", "-i")
	shell.Dir, shell.Env = dir, append(like.Env, "PS1=prompt-$((40+2))> ", "HISTFILE=", "TERM=dumb")
	s := startSession(t, shell)
	s.shows(t, "prompt-42> ")
	s.typed(t, "gateway exec -- witness 2>/dev/null\n")
	s.shows(t, "ready")
	s.typed(t, "\x1a")
	s.shows(t, "Stopped")
	s.shows(t, "prompt-42> ")
	s.typed(t, "fg\n")
	s.shows(t, "heard continued")
	s.typed(t, "\x03")
	s.shows(t, "heard interrupt")
	s.typed(t, "\x1a")
	s.shows(t, "Stopped")
	s.shows(t, "prompt-42> ")
	// It reads, so that the background stops it until it is brought forward.
	s.typed(t, "bg\n")
	s.shows(t, "prompt-42> ")
	for s.typed(t, "jobs\n"); !strings.Contains(s.shows(t, "prompt-42> "), "Stopped"); {
		s.typed(t, "jobs\n")
	}
	s.typed(t, "fg\n")
	s.shows(t, "heard continued")
	s.typed(t, "\x04")
	s.shows(t, "prompt-42> ")
	s.typed(t, "echo code=$?\n")
	s.shows(t, "code=5")
	// The terminal is the shell's again, and what it runs has it.
	s.typed(t, "sh -c 'gateway exec -- true 2>/dev/null; read x; echo got=$x'\n")
	s.shows(t, "\n")
	s.typed(t, "word\n")
	s.shows(t, "got=word")
}

// TestTheChildCannotLookIntoItsGateway runs both as one user who is not root.
func TestTheChildCannotLookIntoItsGateway(t *testing.T) {
	dir := execFolder(t, execRoutes)
	look := `cat /proc/$PPID/environ || echo no environ; cat /proc/$PPID/mem || echo no memory; ls /proc/$PPID/fd || echo no files; echo me=$(id -u)`
	cmd := execProcess(t, dir, "--", "sh", "-c", look)
	want := fmt.Sprintf("me=%d", os.Getuid())
	if os.Getuid() == 0 {
		want = "me=65534"
		asNobody(t, dir, cmd)
	}
	seen := observe(t, cmd)
	if strings.Contains(seen, "the-idp-secret") {
		t.Errorf("the child sees a secret in its parent: %s", seen)
	}
	for _, w := range []string{"no environ", "no memory", "no files", want} {
		if !strings.Contains(seen, w) {
			t.Errorf("the child does not say %q: %s", w, seen)
		}
	}
}

// asNobody has cmd run as user 65534, who may reach what it needs.
func asNobody(t *testing.T, dir string, cmd *exec.Cmd) {
	t.Helper()
	program, err := os.ReadFile(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.MkdirTemp("/tmp", "nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	routes, err := os.ReadFile(filepath.Join(dir, "routes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path, cmd.Dir = filepath.Join(home, "gateway"), home
	if err := firstOf(os.WriteFile(cmd.Path, program, 0o700), os.WriteFile(filepath.Join(home, "routes.yaml"), routes, 0o600),
		os.Chown(home, 65534, 65534), os.Chown(cmd.Path, 65534, 65534), os.Chown(filepath.Join(home, "routes.yaml"), 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, "TMPDIR="+home, "HOME="+home, "GATEWAY_CONFIG="+filepath.Join(home, "routes.yaml"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}
