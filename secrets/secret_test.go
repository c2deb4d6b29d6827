package secrets_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
)

func TestSecretShowsItselfUnderNoVerb(t *testing.T) {
	const hidden = "hunter2-hunter2"
	s := secrets.New(hidden)
	type holder struct {
		S secrets.Secret
		P *secrets.Secret
	}
	for _, v := range []any{s, &s, holder{s, &s}, []secrets.Secret{s}, map[string]secrets.Secret{"k": s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3s"} {
			if got := fmt.Sprintf(verb, v); strings.Contains(got, hidden) || strings.Contains(got, fmt.Sprintf("%x", hidden)) {
				t.Errorf("Sprintf(%q, %T) shows the secret: %s", verb, v, got)
			}
		}
		b, err := json.Marshal(v)
		if err != nil || strings.Contains(string(b), hidden) {
			t.Errorf("Marshal(%T) = %s, %v; want no secret", v, b, err)
		}
	}
	if err := fmt.Errorf("got %w: %v", errors.New("x"), s); strings.Contains(err.Error(), hidden) {
		t.Errorf("an error shows the secret: %v", err)
	}
	if s.Reveal() != hidden {
		t.Errorf("Reveal() = %q, want the secret", s.Reveal())
	}
}

func TestEqualSecretsShareAFingerprint(t *testing.T) {
	a, b, c := secrets.New("one"), secrets.New("one"), secrets.New("two")
	if !a.Equal(b) || a.Fingerprint() != b.Fingerprint() {
		t.Error("equal secrets differ")
	}
	if a.Equal(c) || a.Fingerprint() == c.Fingerprint() {
		t.Error("different secrets are equal")
	}
}

func TestRefReadsItsSource(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("GATEWAY_TEST_SECRET", "from-env")
	t.Setenv("GATEWAY_TEST_EMPTY", "")
	tests := []struct {
		name string
		ref  secrets.Ref
		want string // "" for an error
	}{
		{"environment", secrets.Ref{Env: "GATEWAY_TEST_SECRET"}, "from-env"},
		{"unset environment", secrets.Ref{Env: "GATEWAY_TEST_UNSET"}, ""},
		{"empty environment", secrets.Ref{Env: "GATEWAY_TEST_EMPTY"}, ""},
		{"file with line end", secrets.Ref{File: write("lf", "value\n")}, "value"},
		{"file with Windows line end", secrets.Ref{File: write("crlf", "value\r\n")}, "value"},
		{"file with inner spaces", secrets.Ref{File: write("spaces", " a b \n")}, " a b "},
		{"empty file", secrets.Ref{File: write("empty", "\n")}, ""},
		{"missing file", secrets.Ref{File: filepath.Join(dir, "none")}, ""},
		{"huge file", secrets.Ref{File: write("huge", strings.Repeat("x", 1<<20+1))}, ""},
		{"pipe that nobody writes to", secrets.Ref{File: pipe(t)}, ""},
		{"folder", secrets.Ref{File: dir}, ""},
		{"device without end", secrets.Ref{File: "/dev/zero"}, ""},
		{"command", secrets.Ref{Exec: []string{"/bin/sh", "-c", "printf 'a b\\n'"}, MayRun: true}, "a b"},
		{"command without leave", secrets.Ref{Exec: []string{"/bin/sh", "-c", "echo x"}}, ""},
		{"relative command", secrets.Ref{Exec: []string{"sh", "-c", "echo x"}, MayRun: true}, ""},
		{"command that fails", secrets.Ref{Exec: []string{"/bin/sh", "-c", "echo x; exit 3"}, MayRun: true}, ""},
		{"command that is none", secrets.Ref{Exec: []string{"/nonexistent/command"}, MayRun: true}, ""},
		{"command that prints nothing", secrets.Ref{Exec: []string{"/bin/true"}, MayRun: true}, ""},
		{"command that prints on and on", secrets.Ref{Exec: []string{"/bin/sh", "-c", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"}, MayRun: true}, ""},
		{"nothing", secrets.Ref{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.ref.Read()
			if tt.want == "" {
				if !errors.Is(err, secrets.ErrUnresolved) {
					t.Fatalf("Read() error = %v, want ErrUnresolved", err)
				}
				return
			}
			if err != nil || got.Reveal() != tt.want {
				t.Errorf("Read() = %q, %v, want %q", got.Reveal(), err, tt.want)
			}
		})
	}
}

// pipe makes one whose reader waits for ever.
func pipe(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFilesAreReadWholeOrNotAtAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	content := strings.Repeat("x", 1<<20)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := secrets.ReadFile(path); err != nil || string(b) != content {
		t.Errorf("ReadFile of 1 MiB = %d bytes, %v", len(b), err)
	}
	if err := os.WriteFile(path, []byte(content+"x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := secrets.ReadFile(path); err == nil {
		t.Errorf("ReadFile of more than 1 MiB = %d bytes", len(b))
	}
}

func TestCommandEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	began := time.Now()
	_, err := secrets.Ref{Exec: []string{"/bin/sleep", "5"}, MayRun: true}.ReadContext(ctx)
	if took := time.Since(began); !errors.Is(err, context.Canceled) || !errors.Is(err, secrets.ErrUnresolved) || took > 4*time.Second {
		t.Errorf("after %s: %v", took, err)
	}
}

func ExampleReadFile() {
	_, err := secrets.ReadFile("/dev/null")
	fmt.Println(err)
	// Output: /dev/null is no regular file
}

func ExampleSecret() {
	s := secrets.New("correct horse battery staple")
	fmt.Printf("%v %s %q\n", s, s, s)
	// Output: [redacted] [redacted] [redacted]
}

func ExampleRef() {
	fmt.Println(secrets.Ref{File: "/run/secrets/graph"}, secrets.Ref{Env: "AZURE_CLIENT_SECRET"})
	// Output: file /run/secrets/graph env AZURE_CLIENT_SECRET
}
