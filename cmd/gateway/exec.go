package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/certs"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/spf13/cobra"
)

// execFlags are the flags of exec.
type execFlags struct {
	config  config
	as      string // "" where the file has no callers
	java    bool
	logFile string // "": the log goes to stderr, from warnings on
}

// execCaller is the child's name where the file has no callers.
const execCaller = "exec"

// exitStatus ends the program with a child's exit code, or with that of the
// shells for a command that cannot be run (POSIX.1-2024, XCU 2.8.2).
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// The exit codes for a command that cannot be run, and the first of those for
// one that a signal ended.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128
)

func newExec(s std) *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use:   "exec [flags] -- CMD ARG…",
		Short: "Run a program whose calls get tokens, with nothing installed and no secret in its environment",
		Long: `Runs CMD beside a gateway of its own, by routes.yaml: a proxy that takes this
program alone, a CA that lives as long, and the variables that have every common
runtime use both (gateway env lists them). Variables that hold the gateway's own
secrets are taken away. The SQL doors of routes.yaml stay shut here: a running
gateway has them.

Where routes.yaml names callers, --as says which of them the program is: its
routes, tenants and limits hold.

Java reads no proxy variables, and says so on stderr where JAVA_TOOL_OPTIONS
tells it: that is set with --java, and unasked when CMD is a Java tool (java, mvn,
gradle, sbt and their like).

Signals are passed on. Exit codes: that of CMD, 128 and the signal's number where
one ended it, 127 for a CMD that is not found, 126 for one that cannot be run, 1
for a gateway that cannot start: then CMD is not run.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.config = configOf(cmd)
			c, err := findProgram(args)
			if err != nil {
				fmt.Fprintf(s.err, "gateway exec: %v\n", err)
				return exitStatusOf(err)
			}
			if !cmd.Flags().Changed("java") {
				f.java = javaTool(args[0])
			}
			environ := os.Environ()
			if err := hideSecrets(); err != nil {
				return no(fmt.Errorf("gateway exec: %w", err))
			}
			return no(f.run(cmd.Context(), c, environ, s))
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows CMD is CMD's
	cmd.Flags().StringVar(&f.as, "as", "", "the caller that the program is, where routes.yaml names callers")
	cmd.Flags().BoolVar(&f.java, "java", false, "set JAVA_TOOL_OPTIONS, which Java announces on stderr; true unless set, when CMD is a Java tool")
	cmd.Flags().StringVar(&f.logFile, "log-file", "", "append the gateway's log to this file, as the log section says, instead of its warnings to stderr")
	_ = cmd.RegisterFlagCompletionFunc("as", cobra.NoFileCompletions) // the flag is there
	addAllowExec(cmd)
	return cmd
}

// program is what is run: a file, and its words, the first of which is its name.
type program struct {
	path string
	args []string
	out  *os.File // nil: this process's stdout
}

func (p program) stdout() *os.File {
	if p.out != nil {
		return p.out
	}
	return os.Stdout
}

func findProgram(args []string) (program, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		var failed *exec.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return program{}, fmt.Errorf("%s: %w; nothing was run", args[0], err)
	}
	return program{path: path, args: args}, nil
}

// exitStatusOf is that of a program that could not be run.
func exitStatusOf(err error) exitStatus {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrDot) {
		return exitNotFound
	}
	return exitNotExecutable
}

// run runs c beside a gateway of its own, and returns nil or c's [exitStatus];
// any other error is that of a gateway that could not start. Nothing of either
// is left.
func (f execFlags) run(ctx context.Context, c program, environ []string, s std) error {
	signals := overhear()
	defer signals.close()
	file, key, err := f.open()
	if err != nil {
		return err
	}
	out, closeLog, err := f.openLog(s.err)
	if err != nil {
		return err
	}
	defer closeLog()
	conf := file.Table().Log
	log, err := audit.NewLog(out, audit.LogConfig{Level: conf.Level, Format: conf.Format, Access: conf.Access})
	if err != nil {
		return err
	}
	ca, err := certs.NewCA(file.Table().InterceptedHosts())
	if err != nil {
		return err
	}
	t, err := newTrustFolder(lookupIn(environ), ca, f.java)
	if err != nil {
		return err
	}
	defer t.remove()
	g, err := startPrivate(file, log, ca)
	if err != nil {
		return err
	}
	defer g.Close()
	if err := t.follow(g.engine); err != nil {
		return err
	}
	e := f.surround(file.Table(), environ, shown(g.proxyL), key)
	for _, w := range append(t.warnings, e.remarks(ctx, c, file.Table())...) {
		fmt.Fprintf(s.err, "gateway exec: warning: %s\n", w)
	}
	status, err := c.run(ctx, e.childEnviron(t), signals)
	if err != nil {
		fmt.Fprintf(s.err, "gateway exec: %s: %v\n", c.path, err)
		return exitStatusOf(err)
	}
	if status != exitFine {
		return exitStatus(status)
	}
	return nil
}

// open reads the file as it is for the child alone, and makes the child's key.
func (f execFlags) open() (*routes.File, keyJSON, error) {
	file, err := f.config.open()
	if err != nil {
		return nil, keyJSON{}, err
	}
	if err := f.mayBe(file.Table()); err != nil {
		return nil, keyJSON{}, err
	}
	key, err := newKey(f.caller())
	if err != nil {
		return nil, keyJSON{}, err
	}
	proof := routes.Caller{APIKeys: [][sha256.Size]byte{sha256.Sum256([]byte(key.Key))}}
	if f.java {
		proof.UID = ownUID() // Java shows no key unless the program is written to
	}
	return file.Derive(func(t *routes.Table) *routes.Table {
		as, _ := t.As(f.caller(), proof)                            // a caller that is gone after a reload may call nowhere
		as.Listen, as.Intercept, as.SQL = routes.Listen{}, nil, nil // one door, which nobody else may use
		if f.logFile == "" {
			as.Warnings = nil // gateway check tells them
			if quiet := []string{"error", "fatal", "panic", "disabled"}; !slices.Contains(quiet, as.Log.Level) {
				as.Log.Level = "warn"
			}
		}
		return as
	}), key, nil
}

func (f execFlags) caller() string { return cmp.Or(f.as, execCaller) }

// mayBe says why the child cannot be the caller that --as names.
func (f execFlags) mayBe(t *routes.Table) error {
	if t.Callers == nil {
		if f.as != "" {
			return fmt.Errorf("--as %s: %s names no callers; leave --as out", f.as, t.Name)
		}
		return nil
	}
	var names []string
	for _, c := range t.Callers {
		names = append(names, c.Name)
	}
	switch {
	case f.as == "":
		return fmt.Errorf("%s names callers; say which of them the program is: --as %s", t.Name, names[0])
	case !slices.Contains(names, f.as):
		return fmt.Errorf("--as %s: %s names no such caller; its callers are %s", f.as, t.Name, someOf(names))
	}
	return nil
}

// openLog is where the gateway's log goes: never to the child's stdout.
func (f execFlags) openLog(stderr io.Writer) (io.Writer, func(), error) {
	if f.logFile == "" {
		return withoutRecords{stderr}, func() {}, nil
	}
	file, err := os.OpenFile(f.logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("--log-file: %w", err)
	}
	return file, func() { _ = file.Close() }, nil
}

// withoutRecords passes a log on without the audit records that go where it
// goes when routes.yaml names no place for them: on a terminal they would drown
// what the child says.
type withoutRecords struct{ to io.Writer }

func (w withoutRecords) Write(line []byte) (int, error) {
	if bytes.HasPrefix(line, []byte(`{"kind":"audit"`)) {
		return len(line), nil
	}
	return w.to.Write(line)
}

// startPrivate opens a proxy port for one program on this machine, and no other
// door.
func startPrivate(file *routes.File, log *audit.Log, ca *certs.CA) (*gateway, error) {
	g, err := start(file, doors{Listen: routes.Listen{Proxy: privateAddress()}, ca: ca}, log)
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return start(file, doors{Listen: routes.Listen{Proxy: "127.0.0.1:0"}, ca: ca}, log)
	}
	return g, err
}

// privateAddress is a loopback address that no other program is likely to have
// a listener on or to guess: on Linux all of 127.0.0.0/8 is there.
func privateAddress() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1:0"
	}
	return fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}
