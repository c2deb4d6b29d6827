package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// hunt collects what must not be seen, and whatever may be seen.
type hunt struct {
	mu     sync.Mutex
	hidden map[string]string // value to its name
	open   strings.Builder
}

func (h *hunt) hide(name, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(value) >= 12 {
		h.hidden[value] = name
	}
}

func (h *hunt) see(texts ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range texts {
		h.open.WriteString(s + "\n")
	}
}

// seeAdmin looks at all that the admin port shows.
func (h *hunt) seeAdmin(t *testing.T, g *gateway) {
	t.Helper()
	for _, path := range []string{
		"/metrics", "/readyz", "/healthz", "/", "/api/routes", "/api/credentials", "/api/tokens", "/api/requests?limit=1000",
		"/api/sessions", "/api/status", "/api/explain?method=GET&url=https://graph.microsoft.com/v1.0/users",
	} {
		a := must(t, g.client, request{url: "http://" + g.admin + path})
		if strings.HasPrefix(path, "/api/") && a.status != http.StatusOK {
			t.Errorf("%s: status %d %.300s", path, a.status, a.body)
		}
		h.see(fmt.Sprint(a.header), a.body)
	}
}

// over looks for every twelve characters in a row of each hidden value, and
// for anything that looks like a JWT.
func (h *hunt) over(t *testing.T) {
	t.Helper()
	text := h.open.String()
	if len(text) < 1000 {
		t.Fatalf("only %d bytes to hunt in", len(text))
	}
	for value, name := range h.hidden {
		for i := 0; i+12 <= len(value); i++ {
			if at := strings.Index(text, value[i:i+12]); at >= 0 {
				t.Errorf("%s shows: …%.80s…", name, text[max(0, at-40):])
				break
			}
		}
	}
	if at := jwtIn(text); at >= 0 {
		t.Errorf("a JWT shows: …%.120s…", text[max(0, at-60):])
	}
}

func TestNothingSecretShowsInLogsAnswersMetricsOrCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	app := newAppCertificate(t)
	if err := w.Entra.AddCertificate(sandbox.ClientID, app.cert); err != nil {
		t.Fatal(err)
	}
	h := &hunt{hidden: map[string]string{}}
	const wrong, password, adminKey = "a-wrong-secret-of-nobody", "of-the-next-hop-0123", "key-of-the-admin-port-0123"
	for name, value := range map[string]string{
		"the secret": w.Secret(), "the wrong secret": wrong, "the password": password, "the admin key": adminKey,
		"the private key": strings.ReplaceAll(app.keyPEM, "-----", ""),
	} {
		h.hide(name, value)
	}
	w.Entra.Observe(func(r sandbox.TokenRequest) {
		h.hide("an assertion", r.Form.Get("client_assertion"))
		h.hide("a Basic header", strings.TrimPrefix(r.Header.Get("Authorization"), "Basic "))
	})
	s := graphSetup(w, `  - {name: by-certificate, hosts: [certificate.example.com], credential: certificate, scope: "https://graph.microsoft.com/.default", upstream: "`+w.Graph.URL()+`"}
  - {name: refused, hosts: [refused.example.com], credential: refused, scope: "https://graph.microsoft.com/.default", upstream: "`+w.Graph.URL()+`"}
  - {name: basic, hosts: [basic.example.com], credential: basic, scope: "https://graph.microsoft.com/.default", upstream: "`+w.Graph.URL()+`"}
log: {level: trace, debug_headers: true}
egress: {proxy: {url: "http://127.0.0.1:9", username: gateway, password: {file: password}}}
`)
	credential := func(name, proof string) string {
		return fmt.Sprintf("  %s: {tenant_id: %s, client_id: %s, authority_host: %q, %s}\n", name, sandbox.TenantDomain, sandbox.ClientID, w.Entra.URL(), proof)
	}
	s.Config = strings.Replace(s.Config, "routes:\n", credential("certificate", "client_certificate: {file: app.pem}")+
		credential("refused", "client_secret: {file: wrong}")+
		credential("basic", "client_secret: {file: client-secret}, token_endpoint_auth_method: client_secret_basic")+"routes:\n", 1)
	s.Config = strings.Replace(s.Config, `admin: "127.0.0.1:0"`, `admin: "127.0.0.1:0", admin_key: {file: admin-key}`, 1)
	for name, text := range map[string]string{"app.pem": app.certPEM + app.keyPEM, "wrong": wrong, "password": password, "admin-key": adminKey} {
		s.Files[name] = text
	}
	g := start(t, s)
	visit := func(path string, headers ...string) {
		r := request{url: g.url(path), header: http.Header{}}
		for i := 0; i+1 < len(headers); i += 2 {
			r.header.Set(headers[i], headers[i+1])
		}
		a := must(t, g.client, r)
		h.see(fmt.Sprint(a.status, a.header), a.body)
	}
	round := func() {
		for _, path := range []string{"/graph/v1.0/users", "/by-certificate/v1.0/users", "/basic/v1.0/users", "/refused/v1.0/users", "/nowhere", "/graph/v1.0/$echo/x"} {
			visit(path)
			visit(path, "Authorization", "Bearer of-the-caller-itself-0123", "X-Gateway-Authorization", "Bearer of-the-caller-itself-0123")
		}
	}
	h.hide("the caller's own", "of-the-caller-itself-0123")
	round()
	w.Graph.RevokeTokens()
	round()
	if err := w.Graph.RequireClaims(sandbox.Challenge{}); err != nil {
		t.Fatal(err)
	}
	round()
	w.Graph.RequireNothing()
	w.Entra.Fail(sandbox.ErrorIn200)
	for _, args := range [][]string{
		{"check"}, {"check", "--live"}, {"check", "--live", "--json"}, {"token", "graph"}, {"token", "refused"},
		{"explain", "GET", "https://graph.microsoft.com/v1.0/users"}, {"purge", "--admin", g.admin, "--admin-key-file", filepath.Join(g.dir, "admin-key")},
	} {
		out, _ := g.command(t, args...)
		h.see(out)
	}
	round()
	w.Entra.Recover()
	write(t, g.config, strings.Replace(s.Config, "{file: client-secret}", wrong, 1)) // a secret where a reference belongs
	out, code := g.command(t, "reload", "--admin", g.admin, "--admin-key-file", filepath.Join(g.dir, "admin-key"))
	if code != 1 {
		t.Errorf("reload of a literal secret: exit %d", code)
	}
	h.see(out)
	h.seeAdmin(t, g)
	for _, args := range [][]string{{"logs", "--once", "-n", "1000"}, {"logs", "--once", "-n", "1000", "--json"}} {
		out, code := g.command(t, append(args, "--admin", g.admin, "--admin-key-file", filepath.Join(g.dir, "admin-key"))...)
		if code != 0 || !strings.Contains(out, "/graph/v1.0/users") {
			t.Errorf("%v: exit %d, %.300s", args, code, out)
		}
		h.see(out)
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	h.see(string(cmdline), g.stdout.String(), g.stderr.String())
	h.over(t)
}

// jwtIn is where a JWT begins in text, or -1. The random ID of a token, which is
// no secret, has 22 characters and may hold the same first three.
func jwtIn(text string) int {
	if at := regexp.MustCompile(`eyJ[A-Za-z0-9_-]{20}`).FindStringIndex(text); at != nil {
		return at[0]
	}
	return -1
}
