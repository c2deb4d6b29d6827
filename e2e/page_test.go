package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pageScripts copies the scripts of the live page to where Node takes them for
// modules, and returns the folder.
func pageScripts(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	scripts, err := filepath.Glob("../admin/page/*.js")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("the page has %d scripts (%v)", len(scripts), err)
	}
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, filepath.Base(script)), string(text))
	}
	write(t, filepath.Join(dir, "package.json"), `{"type": "module"}`)
	return dir
}

func TestPageSaysInWordsWhatBecameOfCalls(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "node", "--test", "clients/page/words.test.mjs")
	cmd.Env = append(os.Environ(), "PAGE="+pageScripts(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// browse looks at the admin port at address in Chromium.
func browse(t *testing.T, what, address string, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", "clients/page/browse.mjs", what, address)
	cmd.Env = append(os.Environ(), append(env, "BROWSER="+tool("chromium"))...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "ok "+what) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPageInABrowser(t *testing.T) {
	const key = "admin-key-of-this-test"
	_, g := startGraph(t, "")
	for what, needs := range map[string]string{"troubled": "", "keyboard": "", "live": "", "key": key} {
		t.Run(what, func(t *testing.T) {
			browse(t, what, newFakeAdmin(t, g.admin, needs), "ADMIN_KEY="+key)
		})
	}
	t.Run("crowd", func(t *testing.T) { browse(t, "crowd", newCrowdedAdmin(t, g.admin)) })
}
