package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryThreatHasAProofThatExists reads the tables of the threat model: each
// line ends with the tests that prove it.
func TestEveryThreatHasAProofThatExists(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "threat-model.md"))
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile("`([^`]+)`")
	lines := 0
	for _, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| threat ") {
			continue
		}
		lines++
		if len(cells) != 3 {
			t.Errorf("%d columns, want 3: %s", len(cells), line)
			continue
		}
		proofs := quoted.FindAllStringSubmatch(cells[2], -1)
		if len(proofs) == 0 {
			t.Errorf("no proof: %s", line)
		}
		for _, p := range proofs {
			path, name, isTest := strings.Cut(p[1], ": ")
			source, err := os.ReadFile(filepath.Join(root, path))
			switch {
			case err != nil:
				t.Errorf("%s: %v", strings.TrimSpace(cells[0]), err)
			case isTest && !strings.Contains(string(source), "\nfunc "+name+"(t *testing.T)"):
				t.Errorf("%s: %s holds no %s", strings.TrimSpace(cells[0]), path, name)
			case !isTest && filepath.Dir(path) != "cmd/gateway/testdata":
				t.Errorf("%s: %s is no script and names no test", strings.TrimSpace(cells[0]), path)
			}
		}
	}
	if lines < 40 {
		t.Errorf("only %d threats were found", lines)
	}
}
