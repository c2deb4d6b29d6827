package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// row is a client of the table in docs/recipes/clients.md. It is run as its
// recipe shows it, word for word.
type row struct {
	name    string
	node    string // its major release, "": none is needed
	module  [2]string
	git     bool   // it calls the git server
	refused string // what it says of a 403 to its CONNECT
}

func rows() []row {
	return []row{
		{name: "curl", refused: "403"},
		{name: "wget", refused: "Forbidden"},
		{name: "git", git: true, refused: "403"},
		{name: "Python urllib", refused: "403"},
		{name: "Python requests", refused: "403"},
		{name: "Python httpx", refused: "403"},
		{name: "Python aiohttp", refused: "403"},
		{name: "Node 24 fetch", node: "24", refused: "403"},
		{name: "Node 24 https", node: "24", refused: "403"},
		{name: "Node 24 got", node: "24", refused: "403"},
		{name: "Node 24 undici 7", node: "24", refused: "403"},
		{name: "Node 24 axios", node: "24", refused: "403"},
		{name: "Node 24 Graph SDK", node: "24", refused: "403"},
		{name: "Node 24 Azure SDK", node: "24", refused: "403"},
		{name: "Node 24 @azure/identity", node: "24", refused: "403"},
		{name: "Node 20 undici 7", node: "20", refused: "403"},
		{name: "Node 20 undici 6", node: "20", refused: "403", module: [2]string{"'undici'", "'undici6'"}},
		{name: "Node 20 axios", node: "20", refused: "403"},
		{name: "Node 20 Azure SDK", node: "20", refused: "403"},
		{name: "Node 20 @azure/identity", node: "20", refused: "403"},
		{name: "Node 20 Graph SDK", node: "20", refused: "403"},
		{name: "Go net/http", refused: "Forbidden"},
		{name: "Java HttpClient", refused: "403"},
		{name: "Java HttpURLConnection", refused: "403"},
	}
}

// shown is a recipe as the documents have it.
type shown struct{ command, program string }

// recipesOf reads the table and what its rows link to.
func recipesOf(t *testing.T) map[string]shown {
	t.Helper()
	dir := filepath.Join("..", "docs", "recipes")
	table, err := os.ReadFile(filepath.Join(dir, "clients.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]shown{}
	link := regexp.MustCompile(`\[([^\]]+)\]\((\w+\.md)#[\w-]+\) \|$`)
	for line := range strings.Lines(string(table)) {
		cells := strings.Split(line, "|")
		m := link.FindStringSubmatch(strings.TrimSpace(line))
		if len(cells) < 4 || m == nil {
			continue
		}
		doc, err := os.ReadFile(filepath.Join(dir, m[2]))
		if err != nil {
			t.Fatal(err)
		}
		preface, _, _ := strings.Cut(string(doc), "\n## ")
		section := sectionOf(t, string(doc), m[1])
		var s shown
		for _, command := range append(blocksOf(section, "sh"), blocksOf(preface, "sh")...) {
			s.command = strings.TrimSpace(command)
			break
		}
		for _, language := range []string{"python", "js", "go", "java"} {
			if blocks := blocksOf(section, language); len(blocks) == 1 {
				s.program = blocks[0]
			}
		}
		all[strings.TrimSpace(cells[1])] = s
	}
	return all
}

func TestTheTableOfClientsIsTheOneThatIsTested(t *testing.T) {
	documented := recipesOf(t)
	for _, r := range rows() {
		s, ok := documented[r.name]
		if !ok || !strings.HasPrefix(s.command, "gateway exec ") {
			t.Errorf("docs/recipes/clients.md has %q for %s, want a command with gateway exec", s.command, r.name)
		}
		delete(documented, r.name)
	}
	for name := range documented {
		t.Errorf("%s is in docs/recipes/clients.md, and no test runs it", name)
	}
}

// field is where the rows run: Entra, Graph and a git server behind a hop that
// alone knows their names, and a stranger whom the machine can reach by a name.
type field struct {
	world    *sandbox.World
	git      *gitServer
	hop      *hop
	stranger *tap
	name     string // the stranger's authority
	dir      string // of routes.yaml
	recipes  map[string]shown
}

func newField(t *testing.T) *field {
	t.Helper()
	f := &field{world: newWorld(t, sandbox.Options{TLS: true}), git: startGit(t), stranger: newTap(t), dir: t.TempDir(), recipes: recipesOf(t)}
	f.hop = newHop(t, map[string]string{
		"login.microsoftonline.com:443": strings.TrimPrefix(f.world.Entra.URL(), "https://"),
		"graph.microsoft.com:443":       strings.TrimPrefix(f.world.Graph.URL(), "https://"),
		gitName + ":443":                f.git.addr,
	})
	_, port, _ := net.SplitHostPort(f.stranger.addr)
	f.name = net.JoinHostPort(loopbackName(t), port)
	write(t, filepath.Join(f.dir, "secret"), f.world.Secret())
	write(t, filepath.Join(f.dir, "ca.pem"), string(f.world.CAPEM()))
	write(t, filepath.Join(f.dir, "git-ca.pem"), f.git.ca.pem)
	write(t, filepath.Join(f.dir, "routes.yaml"), fmt.Sprintf(`version: 1
credentials:
  default: {tenant_id: %s, client_id: %s, client_secret: {file: secret}, ca_file: ca.pem}
routes:
  - {preset: graph, tls: {ca_file: ca.pem}, hand_out: placeholder}
  - {name: git, hosts: [%s], scope: %q, tls: {ca_file: git-ca.pem}}
egress: {proxy: {url: "http://%s"}}
`, sandbox.TenantDomain, sandbox.ClientID, gitName, graphScope, f.hop.addr))
	return f
}

// loopbackName is a name of this machine, other than localhost, at the address
// where taps listen. Nothing that clients know of loopback spares it the proxy.
func loopbackName(t *testing.T) string {
	t.Helper()
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(hosts)) {
		line, _, _ = strings.Cut(line, "#")
		names := strings.Fields(line)
		if len(names) < 2 || names[0] != "127.0.0.1" {
			continue
		}
		for _, n := range names[1:] {
			if !strings.Contains(n, "localhost") {
				return n
			}
		}
	}
	t.Fatal(`/etc/hosts has no name but localhost for 127.0.0.1; add one, such as "127.0.0.1 stranger.test"`)
	return ""
}

// recipe makes a folder in which r's command runs, with words changed both in
// it and in the program.
func (f *field) recipe(t *testing.T, r row, words ...string) (dir, command string) {
	t.Helper()
	s := f.recipes[r.name]
	change := strings.NewReplacer(append(words, r.module[0], r.module[1])...)
	if r.module[0] == "" {
		change = strings.NewReplacer(words...)
	}
	dir = t.TempDir()
	if s.program != "" {
		parts := strings.Fields(s.command)
		write(t, filepath.Join(dir, parts[len(parts)-1]), change.Replace(s.program))
	}
	modules, err := filepath.Abs("node_modules")
	if err == nil {
		err = os.Symlink(modules, filepath.Join(dir, "node_modules"))
	}
	bin := filepath.Join(dir, "bin")
	programs := map[string]string{"gateway": tool("gateway"), "python3": tool("python")}
	if r.node != "" {
		arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
		programs["node"] = filepath.Join(modules, "node"+r.node+"-"+arch, "bin", "node")
	}
	if err == nil {
		err = os.Mkdir(bin, 0o700)
	}
	for name, path := range programs {
		if err == nil {
			err = os.Symlink(path, filepath.Join(bin, name))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, change.Replace(s.command)
}

// run runs a command as a shell does, in dir, and returns all that it says.
func (f *field) run(t *testing.T, dir, command string, env ...string) (out string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(bareEnvironment(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "GATEWAY_CONFIG="+filepath.Join(f.dir, "routes.yaml"),
		"LC_ALL=C.UTF-8", "GIT_TERMINAL_PROMPT=0", "HOME="+dir, "GOCACHE="+goCache(t))
	cmd.Env = append(cmd.Env, env...)
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// goCache is where Go keeps what it built, which go run wants to know when
// there is another HOME.
func goCache(t *testing.T) string {
	t.Helper()
	b, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// TestEveryClientOfTheTableGoesThroughExec runs each recipe with a route, and
// then against a host without one that it would reach if it went around.
func TestEveryClientOfTheTableGoesThroughExec(t *testing.T) {
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			f := newField(t)
			f.withRoute(t, r)
			f.withoutRoute(t, r)
		})
	}
}

func (f *field) withRoute(t *testing.T, r row) {
	t.Helper()
	dir, command := f.recipe(t, r)
	out, err := f.run(t, dir, command)
	want := "Adele"
	if r.git {
		want = "refs/heads/main"
	}
	if err != nil || !strings.Contains(out, want) {
		t.Fatalf("%s: %v; its output lacks %s:\n%s", command, err, want, tail(out, 3000))
	}
	if r.git {
		f.git.judge(t)
		return
	}
	noneBare(t, f.world)
	if n := f.world.Graph.Counts().Calls; n == 0 {
		t.Error("no call reached Graph")
	}
	for _, s := range f.world.Graph.Seen() {
		if s.ClientID != sandbox.ClientID {
			t.Errorf("Graph saw a token of %q", s.ClientID)
		}
	}
}

func (f *field) withoutRoute(t *testing.T, r row) {
	t.Helper()
	f.hop.targets()
	// Not in the scope that @azure/identity asks for: that one has a route.
	words := []string{"graph.microsoft.com/v1.0", f.name + "/v1.0", "graph.microsoft.com/'", f.name + "/'", gitName + "/", f.name + "/"}
	dir, command := f.recipe(t, r, words...)
	out, err := f.run(t, dir, command)
	if err == nil || !strings.Contains(out, r.refused) {
		t.Errorf("%s: %v; its output lacks %s:\n%s", command, err, r.refused, tail(out, 3000))
	}
	if raw := f.stranger.take(t); len(raw) != 0 {
		t.Errorf("the stranger got %d connections", len(raw))
	}
	for _, target := range f.hop.targets() {
		if !slices.Contains([]string{"login.microsoftonline.com:443", "graph.microsoft.com:443"}, target) {
			t.Errorf("the hop was asked for %s", target)
		}
	}
	// The same program without the gateway reaches the stranger: it would be seen.
	if strings.Contains(r.name, "identity") {
		return // it asks Entra first, whom nobody here may ask
	}
	_, direct, _ := strings.Cut(command, " -- ")
	out, err = f.run(t, dir, direct)
	if raw := f.stranger.take(t); err == nil || len(raw) == 0 {
		t.Errorf("%s does not reach the stranger by itself, %v:\n%s", direct, err, tail(out, 2000))
	}
}

// TestExecWarnsOfABypass has NO_PROXY name a routed host.
func TestExecWarnsOfABypass(t *testing.T) {
	t.Parallel()
	f := newField(t)
	dir, _ := f.recipe(t, row{name: "curl"})
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		out, err := f.run(t, dir, "gateway exec -- true", name+"=.corp.test,graph.microsoft.com")
		if err != nil || !strings.Contains(out, "NO_PROXY") && !strings.Contains(out, "no_proxy") || !strings.Contains(out, "graph.microsoft.com") {
			t.Errorf("with %s of a routed host: %v, and no warning that names both: %s", name, err, out)
		}
	}
	if out, err := f.run(t, dir, "gateway exec -- true", "NO_PROXY=.corp.test"); err != nil || strings.Contains(out, "graph.microsoft.com") {
		t.Errorf("with NO_PROXY of another host: %v, %s", err, out)
	}
}
