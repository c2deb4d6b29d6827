package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryTroubleIsExplainedAndToured runs sandbox --once --fail for each
// trouble that the sandbox knows.
func TestEveryTroubleIsExplainedAndToured(t *testing.T) {
	for _, name := range troubles() {
		t.Run(name, func(t *testing.T) {
			d, known := difficulties()[name]
			if !known || (d.try == "") != d.sql || d.expect == "" || d.then == "" || len(d.steps) == 0 {
				t.Fatalf("difficulties()[%q] = %+v, want all of it", name, d)
			}
			var out, errs bytes.Buffer
			if code := run(t.Context(), []string{"sandbox", "--once", "--fail", name}, std{&out, &errs}); code != exitFine {
				t.Errorf("exit code %d, want 0:\n%s%s", code, &out, &errs)
			}
			if !strings.Contains(out.String(), "steps held") || strings.Contains(out.String(), "NO") {
				t.Errorf("the tour said:\n%s", &out)
			}
		})
	}
}

func TestTheWholeTourHolds(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"sandbox", "--once"}, std{&out, &errs}); code != exitFine {
		t.Errorf("exit code %d, want 0:\n%s%s", code, &out, &errs)
	}
	if code := run(t.Context(), []string{"sandbox", "--fail", "nonsense"}, std{&out, &errs}); code != exitUsage {
		t.Errorf("exit code %d for an unknown trouble, want 2", code)
	}
}

func TestTheSandboxGreetsWithTheTroubleAndWhatToExpect(t *testing.T) {
	var out, errs bytes.Buffer
	sc, err := newScene(sandboxFlags{listen: "127.0.0.1:0", admin: "127.0.0.1:0", fail: "throttle"}, std{&out, &errs})
	if err != nil {
		t.Fatal(err)
	}
	defer sc.close()
	sc.greet("throttle", std{&out, &errs})
	sc.obey(strings.NewReader("\noutage\nno-user\nnonsense\nrecover\n"), std{&out, &errs})
	for _, want := range []string{
		"Trouble: throttle", "/graph/v1.0/users", "expect  503 token_unavailable with Retry-After",
		"Trouble: outage", "Trouble: no-user\n  try     tsql -H 127.0.0.1 -p ", `unknown trouble "nonsense"`, "recovered",
	} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("the sandbox does not say %q:\n%s", want, &errs)
		}
	}
}

func TestTheSandboxKeepsItsFilesWhereItIsToldAndRemovesNobodyElses(t *testing.T) {
	var out, errs bytes.Buffer
	taken := t.TempDir()
	if err := os.WriteFile(filepath.Join(taken, "mine"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), []string{"sandbox", "--once", "--dir", taken}, std{&out, &errs}); code != exitNo || !strings.Contains(errs.String(), "holds mine") {
		t.Errorf("exit code %d for a folder in use, want 1 and why: %s", code, &errs)
	}
	if _, err := os.Stat(filepath.Join(taken, "mine")); err != nil {
		t.Error(err)
	}
	dir := filepath.Join(t.TempDir(), "try")
	sc, err := newScene(sandboxFlags{listen: "127.0.0.1:0", admin: "127.0.0.1:0", dir: dir}, std{&out, &errs})
	if err != nil {
		t.Fatal(err)
	}
	sc.greet("", std{&out, &errs})
	if !strings.Contains(errs.String(), "export GATEWAY_CONFIG="+filepath.Join(dir, "routes.yaml")+"\n") {
		t.Errorf("the greeting does not name the file:\n%s", &errs)
	}
	if _, err := os.Stat(filepath.Join(dir, "routes.yaml")); err != nil {
		t.Error(err)
	}
	sc.close()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder is left behind: %v", err)
	}
}
