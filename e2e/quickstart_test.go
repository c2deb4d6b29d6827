package e2e

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// newcomer follows README.md to the letter, but for the ports, which are free ones.
type newcomer struct {
	dir     string // a clone, as far as make build can tell
	said    *strings.Replacer
	exports []string // of the terminal, so far
	keys    io.Writer
	screen  transcript // of terminal 1
}

// readme is a section of README.md.
func readme(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return sectionOf(t, string(text), heading)
}

// clone makes a folder that has of the repository what builds it.
func clone(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == ".git" || e.Name() == "bin" || e.Name() == "try" {
			continue
		}
		if err := os.Symlink(filepath.Join(root, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// opens runs what terminal 1 shows, of which the last line stays.
func (r *newcomer) opens(t *testing.T, block, proxy, admin string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(block), "\n")
	last := len(lines) - 1
	lines[last] = "exec " + lines[last] + " --listen " + proxy + " --admin " + admin
	cmd := exec.Command("sh", "-ec", strings.Join(lines, "\n"))
	cmd.Dir, cmd.Env = r.dir, bareEnvironment()
	cmd.Stdout, cmd.Stderr = io.Discard, &r.screen
	keys, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.keys = keys
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it ends by a signal
		close(over)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-over
		if _, err := os.Stat(filepath.Join(r.dir, "try")); !os.IsNotExist(err) {
			t.Errorf("the sandbox left its folder behind: %v", err)
		}
	})
	eventually(t, "the sandbox greets", func() bool {
		select {
		case <-over:
			t.Fatalf("it ended:\n%s", &r.screen)
		default:
		}
		return strings.Contains(r.screen.String(), "Ctrl-C ends all")
	})
}

// types types a line in terminal 1.
func (r *newcomer) types(t *testing.T, line, answer string) {
	t.Helper()
	if _, err := io.WriteString(r.keys, line+"\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the sandbox says "+answer, func() bool { return strings.Contains(r.screen.String(), answer) })
}

// pastes runs a block in terminal 2 and returns what that prints.
func (r *newcomer) pastes(t *testing.T, block string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", strings.Join(r.exports, "\n")+"\n"+r.said.Replace(block))
	cmd.Dir, cmd.Env = r.dir, bareEnvironment()
	out, err := cmd.CombinedOutput() // the last command may well answer no
	if ctx.Err() != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for line := range strings.Lines(block) {
		if strings.HasPrefix(line, "export ") {
			r.exports = append(r.exports, strings.TrimSpace(line))
		}
	}
	return string(out)
}

// sees pastes a block until all of want is on the screen: a call is in the log
// a moment after its answer.
func (r *newcomer) sees(t *testing.T, block string, want ...string) {
	t.Helper()
	var out string
	defer func() {
		if t.Failed() {
			t.Logf("%s\nprints:\n%s", block, out)
		}
	}()
	eventually(t, strings.Join(want, " and "), func() bool {
		out = r.pastes(t, block)
		for _, w := range want {
			if !strings.Contains(onBlanks(out), onBlanks(w)) {
				return false
			}
		}
		return true
	})
}

// onBlanks has one blank where there are several: how wide a column is depends on
// what else stands in it.
func onBlanks(s string) string { return strings.Join(strings.Fields(s), " ") }

// linesOf are those of a screen, each as far as the document shows it.
func linesOf(screen string) (lines []string) {
	for line := range strings.Lines(screen) {
		shown, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "…")
		lines = append(lines, shown)
	}
	return lines
}

func TestQuickstartOfTheReadmeHoldsWordForWord(t *testing.T) {
	text := readme(t, "A failing call, explained")
	blocks, screens := blocksOf(text, "sh"), blocksOf(text, "text")
	if len(blocks) != 5 || len(screens) != 3 {
		t.Fatalf("the section has %d blocks and %d screens; this test follows 5 and 3", len(blocks), len(screens))
	}
	proxy, admin := freePort(t), freePort(t)
	r := &newcomer{dir: clone(t), said: strings.NewReplacer("127.0.0.1:8080", proxy, "127.0.0.1:8081", admin)}
	if !strings.Contains(text, "<http://127.0.0.1:8081/>") {
		t.Error("the section does not say where the live page is")
	}
	r.opens(t, blocks[0], proxy, admin)
	if !strings.Contains(r.screen.String(), "http://"+admin+"/\n") {
		t.Errorf("the sandbox does not say where the live page is:\n%s", &r.screen)
	}
	r.sees(t, blocks[1], "Adele Vance", `"code":"rule_denied"`)
	r.sees(t, blocks[2], append(linesOf(screens[0]), "403 DELETE")...)
	// Pasted until the log has it; the edit is made once, as it finds nothing to do again.
	r.sees(t, blocks[3], append(linesOf(screens[1]), "is in force", "Authorization_RequestDenied")...)
	for _, word := range []string{"expired-secret", "recover"} {
		if !strings.Contains(text, "`"+word+"`") {
			t.Errorf("the section does not have one type %s", word)
		}
	}
	r.types(t, "expired-secret", "Trouble: expired-secret")
	r.sees(t, blocks[4], append(linesOf(screens[2]), `"code":"token_refused"`, `"aadsts":7000222`)...)
	r.types(t, "recover", "recovered")
	r.sees(t, "gateway purge\n"+blocks[1], "Adele Vance")
}

// TestUseOfTheReadmeHolds follows the section that wants a tenant of one's own
// with the sandbox's.
func TestUseOfTheReadmeHolds(t *testing.T) {
	text := readme(t, "Use it")
	blocks, files := blocksOf(text, "sh"), blocksOf(text, "yaml")
	if len(blocks) != 2 || len(files) != 1 {
		t.Fatalf("the section has %d blocks and %d files; this test follows 2 and 1", len(blocks), len(files))
	}
	w := newWorld(t, sandbox.Options{})
	values := []string{sandbox.TenantDomain, sandbox.ClientID, w.Secret()}
	first := blocks[0]
	for _, v := range values {
		first = strings.Replace(first, "=…", "="+v, 1)
	}
	first, serve, ok := strings.Cut(first, "gateway serve")
	if !ok || strings.Contains(first, "…") || !strings.Contains(first, "gateway check --live") {
		t.Fatalf("the first block is\n%s", blocks[0])
	}
	env := []string{
		"AZURE_TENANT_ID=" + values[0], "AZURE_CLIENT_ID=" + values[1], "AZURE_CLIENT_SECRET=" + values[2], "AZURE_AUTHORITY_HOST=" + w.Entra.URL(),
	}
	listen := "listen: {proxy: \"127.0.0.1:0\", admin: \"127.0.0.1:0\"}\n"
	g := start(t, setup{Config: strings.Replace(files[0], "version: 1\n", "version: 1\n"+listen, 1) + "    upstream: " + w.Graph.URL() + "\n", Env: env})
	g.ready(t)
	report, err := os.ReadFile(filepath.Join("..", "docs", "recipes", "python.md"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(g.dir, "report.py"), blocksOf(sectionOf(t, string(report), "urllib"), "python")[0])
	r := &newcomer{dir: g.dir, said: strings.NewReplacer("127.0.0.1:8080", g.proxy), exports: []string{
		"export PATH=" + filepath.Dir(tool("gateway")) + ":$PATH AZURE_AUTHORITY_HOST=" + w.Entra.URL(),
	}}
	if out := r.pastes(t, first); !strings.Contains(out, "ok  credential environment") {
		t.Errorf("gateway check --live says\n%s\nbefore %q", out, serve)
	}
	for command := range strings.Lines(blocks[1]) {
		r.sees(t, command, "Adele Vance")
	}
	noneBare(t, w)
}
