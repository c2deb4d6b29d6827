package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ask has the shell that is the child run a command, and returns its first line.
func (r *running) ask(t *testing.T, command string) string {
	t.Helper()
	if _, err := fmt.Fprintf(r.stdin, "(%s) 2>&1 | head -n 1\n", command); err != nil {
		t.Fatal(err)
	}
	if !r.lines.Scan() {
		t.Fatalf("the child says nothing to %q: %v\n%s", command, r.lines.Err(), r.Stderr)
	}
	return r.lines.Text()
}

// until asks again until the answer begins with want: a reload takes a moment.
func (r *running) until(t *testing.T, command, want string) {
	t.Helper()
	got := ""
	for range 600 {
		if got = r.ask(t, command); strings.HasPrefix(got, want) {
			return
		}
		pause()
	}
	t.Fatalf("%s says %q, want %q", command, got, want)
}

func TestAReloadReachesARunningChild(t *testing.T) {
	text := strings.Replace(execRoutes, "routes:", "callers: {a: {uid: 4000000}}\nroutes:", 1)
	dir := execFolder(t, text)
	rewrite := func(text string) {
		t.Helper()
		next := filepath.Join(dir, "next.yaml")
		if err := firstOf(os.WriteFile(next, []byte(text), 0o600), os.Rename(next, filepath.Join(dir, "routes.yaml"))); err != nil {
			t.Fatal(err)
		}
	}
	r := startChild(t, dir, "--as", "a", "--", "sh", "-c", "echo ready; exec sh")
	const late = "gateway sandbox app http://late.example.com/"
	if got := r.ask(t, late); got != "403 egress_denied" {
		t.Errorf("before the reload a call comes back with %q, want 403 egress_denied", got)
	}
	count := `grep -c BEGIN "${SSL_CERT_FILE%/*}/ca.pem"`
	if got := r.ask(t, count); got != "1" {
		t.Errorf("before the reload there are %s roots, want 1", got)
	}

	// Another host takes another CA. The one before stays, as programs have it.
	rewrite(strings.Replace(text, "api.example.com]", "api.example.com, late.example.com]", 1))
	r.until(t, late, "503 token_unavailable")
	r.until(t, count, "2")

	// A caller that is gone, and another who is not this child.
	rewrite(strings.Replace(text, "{a: {uid: 4000000}}", "{b: {uid: 4000001}}", 1))
	r.until(t, late, "407 caller_unknown")
	if err := r.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if code := exitCode(t, r.Cmd); code != 0 {
		t.Errorf("exit code %d, want 0\n%s", code, r.Stderr)
	}
	left(t, dir)
}
