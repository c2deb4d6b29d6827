package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// witness is a program that says which signals reach it. It ends with its
// input, and with code 5.
func witness() {
	heard := make(chan os.Signal, 16)
	signal.Notify(heard, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT, syscall.SIGWINCH)
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	fmt.Println("ready")
	for {
		select {
		case s := <-heard:
			fmt.Println("heard", s)
		case <-ended:
			os.Exit(5)
		}
	}
}

const execRoutes = `version: 1
credentials:
  default:
    token_endpoint: http://127.0.0.1:1/token
    client_id: gateway
    client_secret: {env: IDP_SECRET}
routes: [{name: api, hosts: [api.example.com], scope: x}]
`

// execFolder is a folder with a routes.yaml, and an empty tmp.
func execFolder(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "routes.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// execProcess is gateway exec as a process of its own, not started yet.
func execProcess(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("gateway") // the test itself, under another name
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"exec"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(dir, "tmp"), "GATEWAY_CONFIG="+filepath.Join(dir, "routes.yaml"),
		"IDP_SECRET=the-idp-secret", "AZURE_CLIENT_SECRET=the-azure-secret")
	cmd.Stderr = &bytes.Buffer{}
	return cmd
}

// running is a started gateway exec whose child is ready.
type running struct {
	*exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

func startWitness(t *testing.T, dir string) *running {
	t.Helper()
	return startChild(t, dir, "--", "witness")
}

// startChild returns once the child has said that it is ready.
func startChild(t *testing.T, dir string, args ...string) *running {
	t.Helper()
	cmd := execProcess(t, dir, args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait() // may have been waited for
	})
	r := &running{cmd, stdin, bufio.NewScanner(out)}
	r.want(t, "ready")
	return r
}

func (r *running) want(t *testing.T, line string) {
	t.Helper()
	if !r.lines.Scan() || r.lines.Text() != line {
		t.Fatalf("the child says %q (%v), want %q\n%s", r.lines.Text(), r.lines.Err(), line, r.Stderr)
	}
}

// left fails if anything is left of a gateway exec that ran in dir.
func left(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "tmp"))
	if err != nil || len(entries) > 0 {
		t.Errorf("files are left in the temporary folder: %v, %v", entries, err)
	}
}

func exitCode(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	_ = cmd.Wait() // the code says all
	return cmd.ProcessState.ExitCode()
}

func TestEachSignalReachesTheChildOnce(t *testing.T) {
	dir := execFolder(t, execRoutes)
	r := startWitness(t, dir)
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGTERM} {
		if err := r.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		r.want(t, "heard "+sig.String())
	}
	if err := r.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if r.lines.Scan() {
		t.Errorf("the child heard more than was sent: %q", r.lines.Text())
	}
	if code := exitCode(t, r.Cmd); code != 5 {
		t.Errorf("exit code %d, want the child's, 5\n%s", code, r.Stderr)
	}
	left(t, dir)
}

func TestTheChildDiesWithItsGateway(t *testing.T) {
	r := startWitness(t, execFolder(t, execRoutes))
	if err := r.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Its output ends only when it is gone: its input is open still.
	if r.lines.Scan() {
		t.Errorf("the child says %q, want its end", r.lines.Text())
	}
}

func TestAChildEndedByASignalIsTold(t *testing.T) {
	for sig, want := range map[string]int{"TERM": 143, "KILL": 137, "INT": 130} {
		dir := execFolder(t, execRoutes)
		cmd := execProcess(t, dir, "--", "sh", "-c", "kill -"+sig+" $$")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if code := exitCode(t, cmd); code != want {
			t.Errorf("exit code %d for SIG%s, want %d\n%s", code, sig, want, cmd.Stderr)
		}
		left(t, dir)
	}
}

// The gateway's end of a broken pipe must not be the child's end.
func TestAnUnreadStderrDoesNotEndTheChild(t *testing.T) {
	dir := execFolder(t, execRoutes)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := execProcess(t, dir, "--", "gateway", "sandbox", "app", "http://unrouted.example/")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, write
	if err := firstOf(read.Close(), cmd.Start(), write.Close()); err != nil {
		t.Fatal(err)
	}
	if code := exitCode(t, cmd); code != 0 || !strings.HasPrefix(out.String(), "403 egress_denied") {
		t.Errorf("exit code %d, the child says %q; want 0, and 403 egress_denied", code, &out)
	}
	left(t, dir)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestExecLeavesNothingBehindInItsProcess(t *testing.T) {
	dir := execFolder(t, execRoutes)
	t.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
	t.Setenv("IDP_SECRET", "the-idp-secret")
	stale := goleak.IgnoreCurrent()
	var errs bytes.Buffer
	f := execFlags{config: config{path: filepath.Join(dir, "routes.yaml")}, java: true}
	c, err := findProgram([]string{"sh", "-c", "exit 3"})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.run(t.Context(), c, os.Environ(), std{io.Discard, &errs}); err != exitStatus(3) {
		t.Errorf("run() = %v, want exit status 3\n%s", err, &errs)
	}
	goleak.VerifyNone(t, stale, goleak.IgnoreTopFunction("os/signal.loop"))
	left(t, dir)
}

// observe runs a child that writes a file of what it sees, and returns it.
func observe(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, cmd.Stderr)
	}
	return string(out)
}

func TestNoSecretIsInTheChildsSight(t *testing.T) {
	dir := execFolder(t, execRoutes)
	cmd := execProcess(t, dir, "--", "sh", "-c", `env; cat /proc/self/environ; cat /proc/$PPID/environ 2>/dev/null; cat "$(dirname "$SSL_CERT_FILE")"/*`)
	for _, name := range []string{"AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_PASSWORD", "IDENTITY_HEADER", "MSI_SECRET", "GATEWAY_ANYTHING"} {
		cmd.Env = append(cmd.Env, name+"=hush-"+name)
	}
	cmd.Env = append(cmd.Env, "AZURE_TENANT_ID=contoso.example", "APP_KEY=the-apps-own")
	seen := observe(t, cmd)
	for _, secret := range []string{"the-idp-secret", "the-azure-secret", "hush-", "IDP_SECRET", "GATEWAY_", "PRIVATE KEY"} {
		if strings.Contains(seen, secret) {
			t.Errorf("the child sees %q:\n%s", secret, seen)
		}
	}
	for _, own := range []string{"AZURE_TENANT_ID=contoso.example", "APP_KEY=the-apps-own", "BEGIN CERTIFICATE"} {
		if !strings.Contains(seen, own) {
			t.Errorf("the child does not see %q", own)
		}
	}
}

func TestEveryChildHasAKeyAndAnAddressOfItsOwn(t *testing.T) {
	dir := execFolder(t, execRoutes)
	print := []string{"--", "sh", "-c", `printf %s "$HTTPS_PROXY"`}
	first, second := observe(t, execProcess(t, dir, print...)), observe(t, execProcess(t, dir, print...))
	for _, proxy := range []string{first, second} {
		key, ok := strings.CutPrefix(proxy, "http://exec:")
		key, address, _ := strings.Cut(key, "@")
		if !ok || len(key) < 22 || strings.Trim(key, urlSafe) != "" || !strings.HasPrefix(address, "127.") {
			t.Errorf("HTTPS_PROXY=%s; want http://exec:KEY@127.…, the key of 128 bits or more, in base64url", proxy)
		}
	}
	if first == second {
		t.Errorf("two children were given %s", first)
	}
}

func TestOnlyTheChildsKeyOpensItsGateway(t *testing.T) {
	dir := execFolder(t, execRoutes)
	for name, c := range map[string]struct{ change, want string }{
		"its key":     {`:`, "403 egress_denied"},
		"another key": {`http_proxy=$(printf %s "$http_proxy" | sed 's/:[^:]*@/:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA@/'); export http_proxy HTTP_PROXY=$http_proxy`, "407 caller_unknown"},
		"no key":      {`http_proxy=$(printf %s "$http_proxy" | sed 's/exec:[^@]*@//'); export http_proxy HTTP_PROXY=$http_proxy`, "407 caller_unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			got := observe(t, execProcess(t, dir, "--", "sh", "-c", c.change+`; gateway sandbox app http://unrouted.example/`))
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("the call comes back with %q, want %q", got, c.want)
			}
		})
	}
}

func TestTheChildIsTheCallerThatAsNames(t *testing.T) {
	sum := sha256.Sum256([]byte("the key of the file"))
	text := strings.Replace(execRoutes, "routes: [{name: api, hosts: [api.example.com], scope: x}]\n", "", 1) +
		"callers: {a: {uid: 4000000}, b: {api_key: {sha256: " + hex.EncodeToString(sum[:]) + "}}}\n" +
		"routes:\n  - {name: api, hosts: [api.example.com], scope: x, callers: [a]}\n  - {name: other, hosts: [other.example.com], scope: y, callers: [b]}\n"
	dir := execFolder(t, text)
	// A call that is admitted fails for want of a token, which nobody gives here.
	for as, want := range map[string][2]string{"a": {"503 token_unavailable", "403 caller_forbidden"}, "b": {"403 caller_forbidden", "503 token_unavailable"}} {
		for i, host := range []string{"api", "other"} {
			got := observe(t, execProcess(t, dir, "--as", as, "--", "gateway", "sandbox", "app", "http://"+host+".example.com/"))
			if !strings.HasPrefix(got, want[i]) {
				t.Errorf("as %s, %s answers %.60q, want %q", as, host, got, want[i])
			}
		}
	}
	// What proves b to others does not to this gateway.
	got := observe(t, execProcess(t, dir, "--as", "a", "--", "sh", "-c",
		`http_proxy=$(printf %s "$http_proxy" | sed 's/a:[^@]*@/b:the%20key%20of%20the%20file@/') HTTP_PROXY= gateway sandbox app http://other.example.com/`))
	if !strings.HasPrefix(got, "407 caller_unknown") {
		t.Errorf("with the key of b the child gets %.60q, want 407 caller_unknown", got)
	}
	for _, wrong := range [][]string{{"--", "true"}, {"--as", "c", "--", "true"}} {
		cmd := execProcess(t, dir, wrong...)
		err := cmd.Run()
		if errs := fmt.Sprint(cmd.Stderr); cmd.ProcessState.ExitCode() != exitNo || !strings.Contains(errs, "--as") {
			t.Errorf("exec %v: %v, %s; want 1, and a word on --as", wrong, err, errs)
		}
	}
}
