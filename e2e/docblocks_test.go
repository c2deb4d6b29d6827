package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// shell runs what a document shows in dir, where gateway is the built one, and
// stops at the first command that fails.
func shell(t *testing.T, dir, script string, env ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", script)
	cmd.Dir = dir
	cmd.Env = append(append(bareEnvironment(), "PATH="+filepath.Dir(tool("gateway"))+":"+os.Getenv("PATH")), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s\nsays\n%s", err, script, out)
	}
	return string(out)
}

// shownIn are the sh blocks below a heading of a document in docs; those above
// all headings for "".
func shownIn(t *testing.T, name, heading string, want int) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	section, _, _ := strings.Cut(string(text), "\n## ")
	if heading != "" {
		section = sectionOf(t, string(text), heading)
	}
	blocks := blocksOf(section, "sh")
	if len(blocks) != want {
		t.Fatalf("docs/%s, %q has %d blocks of sh, and %d are run", name, heading, len(blocks), want)
	}
	return blocks
}

// TestCommandsOfTheCADoWhatTheDocumentSays runs the block of docs/interception.md,
// and that of docs/exec.md which uses what it made.
func TestCommandsOfTheCADoWhatTheDocumentSays(t *testing.T) {
	w, dir := newWorld(t, sandbox.Options{}), t.TempDir()
	s := graphSetup(w, "intercept: {ca_dir: ca}\n")
	write(t, filepath.Join(dir, "routes.yaml"), strings.Replace(s.Config, `proxy: "127.0.0.1:0"`, `proxy: "127.0.0.1:8080"`, 1))
	write(t, filepath.Join(dir, "client-secret"), w.Secret())
	config := "GATEWAY_CONFIG=" + filepath.Join(dir, "routes.yaml")
	said := shell(t, dir, "gateway ca init\n"+shownIn(t, "interception.md", "", 1)[0], config)
	if !strings.Contains(said, "graph.microsoft.com") {
		t.Errorf("gateway ca show does not name the routed host:\n%s", said)
	}
	for _, name := range []string{"gateway-root.pem", "gateway-bundle.pem", "gateway-trust.p12"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s was not made: %v", name, err)
		}
	}
	bundle := filepath.Join(dir, "gateway-bundle.pem")
	block := strings.ReplaceAll(shownIn(t, "exec.md", "For a gateway that runs already: gateway env", 1)[0], "/etc/gateway/bundle.pem", bundle)
	said = shell(t, dir, block+"\nprintenv HTTPS_PROXY SSL_CERT_FILE\n", config)
	if !strings.Contains(said, "http://127.0.0.1:8080\n"+bundle) && !strings.Contains(said, "http://127.0.0.1:8080\ngateway-bundle.pem") {
		t.Errorf("the shell has not the variables:\n%s", said)
	}
	env, err := os.ReadFile(filepath.Join(dir, "proxy.env"))
	if err != nil || !strings.Contains(string(env), "HTTPS_PROXY") {
		t.Errorf("proxy.env holds %q, %v", env, err)
	}
}

// TestCommandsOfInstallAndUpgradeHold lays an archive out as a release has it.
func TestCommandsOfInstallAndUpgradeHold(t *testing.T) {
	w, dir := newWorld(t, sandbox.Options{}), t.TempDir()
	name := "gateway_VERSION_linux_amd64"
	page, err := filepath.Abs(filepath.Join("..", "docs", "reference", "gateway.1"))
	if err != nil {
		t.Fatal(err)
	}
	s := graphSetup(w, "")
	write(t, filepath.Join(dir, "routes.yaml"), s.Config)
	write(t, filepath.Join(dir, "client-secret"), w.Secret())
	shell(t, dir, fmt.Sprintf(`mkdir -p %[1]s/completions
cp %[2]q %[1]s/gateway
cp %[3]q %[1]s/gateway.1
gateway completion bash > %[1]s/completions/gateway.bash
tar -czf %[1]s.tar.gz %[1]s && rm -r %[1]s
sha256sum %[1]s.tar.gz > SHA256SUMS
echo "%[4]s  gateway_VERSION_darwin_arm64.tar.gz" >> SHA256SUMS
`, name, tool("gateway"), page, strings.Repeat("0", 64)))
	here := strings.NewReplacer("sudo ", "", "/usr/local", filepath.Join(dir, "usr"), "/etc/gateway", dir)
	install := here.Replace(shownIn(t, "install.md", "", 1)[0])
	said := shell(t, dir, "mkdir -p usr/bin\n"+install+"ls "+filepath.Join(dir, "usr", "share", "man", "man1")+"\n")
	if !strings.Contains(said, ".tar.gz: OK") || !strings.Contains(said, "gateway.1") {
		t.Errorf("docs/install.md says\n%s", said)
	}
	before := here.Replace(shownIn(t, "upgrade.md", "Before", 1)[0])
	said = shell(t, dir, "cp usr/bin/gateway .\n"+before)
	if !strings.Contains(said, "ok  credential default") {
		t.Errorf("docs/upgrade.md, before the upgrade, says\n%s", said)
	}
	shell(t, dir, here.Replace(shownIn(t, "upgrade.md", "Downgrade", 1)[0]))
}

// TestIdentityEndpointOfTheDocumentAnswers runs the two blocks of docs/standin.md
// against its own routes.yaml.
func TestIdentityEndpointOfTheDocumentAnswers(t *testing.T) {
	w := newWorld(t, sandbox.Options{})
	text, err := os.ReadFile(filepath.Join("..", "docs", "standin.md"))
	if err != nil {
		t.Fatal(err)
	}
	k := &kitchen{world: w}
	k.makeKey(t)
	config := strings.NewReplacer(append(k.words(), // k.key is the second's
		"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", k.digests[1],
		"tenant_id: 11111111-aaaa-2222-bbbb-333333333333", fmt.Sprintf("tenant_id: %s\n    authority_host: %q", sandbox.TenantDomain, w.Entra.URL()),
		"preset: graph,", fmt.Sprintf("preset: graph, upstream: %q,", w.Graph.URL()))...).Replace(whole(blocksOf(string(text), "yaml")[0]))
	g := start(t, setup{Config: config, Files: map[string]string{"client-secret": w.Secret()}})
	blocks := shownIn(t, "standin.md", "Managed identity endpoint", 2)
	said := shell(t, g.dir, strings.ReplaceAll(strings.Join(blocks, ""), "127.0.0.1:8080", g.proxy), "KEY="+k.key)
	if !strings.Contains(said, `"access_token"`) || !strings.Contains(said, `"resource":"https://graph.microsoft.com"`) {
		t.Errorf("the endpoint answers\n%s", tail(said, 1000))
	}
}

// TestRestartEndsCallsAndKeepsTheCA goes the way of docs/upgrade.md: the old
// process lets a call end while the new one serves at the same address.
func TestRestartEndsCallsAndKeepsTheCA(t *testing.T) {
	w := newWorld(t, sandbox.Options{})
	inside, release := make(chan struct{}), make(chan struct{})
	s := graphSetup(w, "intercept: {ca_dir: ca}\n")
	s.Config = strings.Replace(s.Config, w.Graph.URL(), newSlowUpstream(t, inside, release), 1)
	s.Config = strings.Replace(s.Config, `proxy: "127.0.0.1:0"`, fmt.Sprintf("proxy: %q", freePort(t)), 1)
	s.Dir = t.TempDir()
	old := start(t, s)
	old.ready(t)
	root := readRoot(t, s.Dir)
	type result struct {
		a   answer
		err error
	}
	done := make(chan result, 1)
	go func() {
		a, err := call(t.Context(), old.client, request{url: old.url("/graph/v1.0/slow")})
		done <- result{a, err}
	}()
	<-inside
	if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old process has closed its doors", func() bool {
		conn, err := net.Dial("tcp", old.proxy)
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	fresh := start(t, s) // as its port is free again
	fresh.ready(t)
	if fresh.proxy != old.proxy {
		t.Fatalf("the new process serves at %s, the old at %s", fresh.proxy, old.proxy)
	}
	select {
	case <-old.exited:
		t.Error("the old process ended with a call under way")
	default:
	}
	close(release)
	if r := <-done; r.err != nil || r.a.status != http.StatusOK || r.a.body != "begun, and ended" {
		t.Errorf("the call under way got %d %q, %v; want its whole answer", r.a.status, r.a.body, r.err)
	}
	if got := readRoot(t, s.Dir); got != root {
		t.Error("the restart made a new root")
	}
}

func readRoot(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "ca", "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
