package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// detourHost is routed, and no resolver of this machine knows it: who calls it
// directly gets nowhere.
const detourHost = "api.contoso.invalid"

// misstep is a row about an app that does not come through the gateway, or does
// not trust it. PROXY in env stands for the gateway's address.
type misstep struct {
	name   string
	found  string // words under which docs/troubleshooting.md has it
	env    []string
	url    string
	exit   int    // of curl
	seen   string // what log and page name as the cause; "": the gateway never hears of it
	does   string // the next step there
	cause  string // doctor's words
	remedy string
}

func missteps() []misstep {
	upper := []string{"HTTPS_PROXY=http://PROXY", "https_proxy=http://PROXY"}
	return []misstep{
		{name: "no-proxy-covers-the-host", found: "NO_PROXY", env: append(slices.Clone(upper), "NO_PROXY=localhost,.contoso.invalid", "no_proxy=localhost,.contoso.invalid"),
			url: "https://" + detourHost + "/", exit: 6, cause: "contoso.invalid", remedy: "NO_PROXY"},
		{name: "proxy-in-upper-case", found: "wrong case", env: []string{"HTTP_PROXY=http://PROXY"}, url: "http://" + detourHost + "/", exit: 6, cause: "HTTP_PROXY", remedy: "http_proxy"},
		{name: "no-proxy-variable", found: "no variable", url: "https://" + detourHost + "/", exit: 6, cause: "neither https_proxy nor HTTPS_PROXY is set", remedy: "gateway exec -- CMD"},
		{name: "proxy-port-wrong", found: "nothing listens", env: []string{"HTTPS_PROXY=http://CLOSED", "https_proxy=http://CLOSED"}, url: "https://" + detourHost + "/", exit: 7,
			cause: "nothing listens there", remedy: "start the gateway, or correct the port"},
		{name: "ca-not-trusted", found: "(60) SSL certificate problem", env: upper, url: "https://" + detourHost + "/", exit: 60, seen: "the client does not trust the gateway's CA", does: "have the client trust the gateway's CA, which gateway ca export prints",
			cause: "it does not trust the gateway's CA, and refuses every call", remedy: "CURL_CA_BUNDLE"},
	}
}

// missingClients is a gateway that apps fail to use.
func missingClients(t *testing.T) *scene {
	w := newWorld(t, sandbox.Options{})
	set := graphSetup(w, fmt.Sprintf("  - {name: api, hosts: [%s], scope: %q, upstream: %q}\nintercept: {ca_dir: ca}\n", detourHost, graphScope, w.Graph.URL()))
	s := &scene{name: "clients", told: map[string]string{}, secrets: []string{w.Secret()}}
	s.gateway = start(t, set)
	s.ready(t)
	return s
}

// environment is that of an app whose machine has curl and nothing else.
func (m misstep) environment(t *testing.T, s *scene, closed string) []string {
	t.Helper()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(curl, filepath.Join(dir, "curl")); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=" + dir, "HOME=" + dir}
	for _, kv := range m.env {
		env = append(env, strings.NewReplacer("http://PROXY", "http://"+s.proxy, "http://CLOSED", "http://"+closed).Replace(kv))
	}
	return env
}

func (m misstep) run(t *testing.T, s *scene) {
	documented(t, m.found)
	env := m.environment(t, s, closedPort(t))
	before := s.metric(t, "gateway_requests_total", "route")
	curl := exec.CommandContext(t.Context(), "curl", "-sS", "--max-time", "20", m.url)
	curl.Env = env
	out, err := curl.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != m.exit {
		t.Fatalf("curl: %v, want exit code %d: %s", err, m.exit, out)
	}
	m.noticed(t, s, before)
	doctor := exec.CommandContext(t.Context(), tool("gateway"), "doctor", detourHost)
	doctor.Env, doctor.Dir = env, t.TempDir()
	told, err := doctor.CombinedOutput()
	s.heard.Write(told)
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("gateway doctor: %v, want exit code 1", err)
	}
	wants(t, "gateway doctor", noLine(string(told), m.cause), m.cause, m.remedy)
}

// noLine are the lines of doctor's report that are NO and hold cause.
func noLine(report, cause string) string {
	var lines strings.Builder
	for line := range strings.Lines(report) {
		if strings.Contains(line, cause) && strings.HasPrefix(line, "NO") {
			lines.WriteString(line)
		}
	}
	return cmp.Or(lines.String(), report)
}

// noticed checks what the gateway itself knows.
func (m misstep) noticed(t *testing.T, s *scene, before float64) {
	t.Helper()
	if m.seen == "" {
		if n := s.metric(t, "gateway_requests_total", "route"); n != before {
			t.Errorf("%v calls reached the gateway", n-before)
		}
		return
	}
	line := s.logged(t, m.seen, func(e entry) bool { return e["message"] == "call" && strings.Contains(e.why(), m.seen) })
	wants(t, "the log's remedy", line.text("remedy"), m.does)
	breakage{code: line.text("code") + line.text("error.type")}.remembered(t, s, line.requestID(), line.why(), line.text("remedy"))
	s.looks = append(s.looks, look{Row: m.name, Filter: line.requestID(), Where: "#detail-words", Words: []string{line.why(), line.text("remedy")}})
}
