package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// smokescreen's deny list missed a host with a final dot, and one in brackets.
// There is no deny list here: a host is brought into one form and then looked up.
func TestCVE_2022_24825_CVE_2022_29188_HostIsJudgedInItsOneForm(t *testing.T) {
	assault(t, entries(t, "forward host graph.microsoft.com", "forward host [", "forward host 1", "forward host 0", "forward host {")...)
}

// smokescreen reached addresses that embed others, those of carriers' networks,
// and itself.
func TestSmokescreen265_277_282_ForbiddenAddressesAreNotDialled(t *testing.T) {
	t.Parallel()
	admin := freePort(t)
	_, port, err := net.SplitHostPort(admin)
	if err != nil {
		t.Fatal(err)
	}
	s := issuerSetup(newIssuer(t, plainToken).URL, serveHTTP(t, shows).URL, "")
	s.Args = []string{"--admin", admin}
	wanted := map[string]string{
		"metadata": "https://169.254.169.254", "wire": "https://168.63.129.16", "ec2": "https://[fd00:ec2::254]", "mapped": "https://[::ffff:169.254.169.254]",
		"nat64": "https://[64:ff9b::a9fe:a9fe]", "nat64-local": "https://[64:ff9b:1::a9fe:a9fe]", "six-to-four": "https://[2002:a9fe:a9fe::1]", "teredo": "https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
		"compatible": "https://[::a9fe:a9fe]", "any": "https://0.0.0.0", "link": "https://[fe80::1]", "multicast": "https://224.0.0.1",
		"admin": "http://127.0.0.1:" + port, "admin-other": "http://127.0.0.2:" + port, "admin-name": "http://localhost:" + port, "admin-mapped": "http://[::ffff:127.0.0.1]:" + port,
	}
	names := map[string]bool{}
	for name, upstream := range wanted {
		one := s
		one.Config += fmt.Sprintf("  - {name: %s, hosts: [%s.example.com], upstream: %q}\n", name, name, upstream)
		one.Dir = ""
		dir := t.TempDir()
		write(t, filepath.Join(dir, "routes.yaml"), one.Config)
		write(t, filepath.Join(dir, "secret"), one.Files["secret"])
		cmd := exec.CommandContext(t.Context(), tool("gateway"), "check", "--config", filepath.Join(dir, "routes.yaml"))
		cmd.Env = bareEnvironment()
		if out, err := cmd.CombinedOutput(); err == nil {
			names[name] = true
			s.Config = one.Config
		} else if !strings.Contains(string(out), name) && !strings.Contains(string(out), "upstream") {
			t.Errorf("%s: check fails for another reason: %s", name, out)
		}
	}
	if len(names) == 0 {
		t.Fatal("no such upstream passes the check, so nothing was tried")
	}
	g := start(t, s)
	g.ready(t)
	for name := range names {
		if name == "admin-other" {
			continue // nothing listens there: another address than the listener's
		}
		a := must(t, g.client, request{url: g.url("/" + name + "/readyz")})
		if p := refused(t, a, http.StatusBadGateway, "upstream_unreachable"); !strings.Contains(p.Detail, "no call may reach") {
			t.Errorf("%s: %s", name, p.Detail)
		}
	}
}

// mitmproxy's clients reached its administration through itself.
func TestCVE_2025_23217_AdminPortIsNotReachedThroughTheProxy(t *testing.T) {
	assault(t, append(entries(t, "forward host {admin}", "forward host {proxy}", "forward host localhost", "CONNECT to the admin", "admin port by", "API of the admin", "health of the admin"),
		hostile{name: "reload", send: "POST http://{admin}/api/reload HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0\r\n\r\n", want: "egress_denied", door: "forward"},
		hostile{name: "purge by the reverse door", send: "POST /api/purge HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0\r\n\r\n", want: "route_unknown", door: "reverse"})...)
}

// Traefik served a route without its protection when the secret for it could
// not be had.
func TestCVE_2026_54762_RouteWithoutItsSecretIsClosed(t *testing.T) {
	t.Parallel()
	up := newTap(t)
	idp := newIssuer(t, plainToken)
	s := issuerSetup(idp.URL, serveHTTP(t, shows).URL, fmt.Sprintf("  - {name: bare, hosts: [bare.example.com], credential: missing, upstream: \"http://%s\"}\n", up.addr))
	s.Config = strings.Replace(s.Config, "routes:\n", fmt.Sprintf("  missing: {token_endpoint: %q, client_id: x, client_secret: {file: not-there}, token_endpoint_auth_method: client_secret_post}\nroutes:\n", idp.URL), 1)
	g := start(t, s)
	a := must(t, g.client, request{url: g.url("/bare/x")})
	if code := a.header.Get("Gateway-Error"); a.status < 500 || code != "token_refused" && code != "token_unavailable" {
		t.Errorf("status %d, code %q; want a refusal for want of a token", a.status, code)
	}
	if raw := up.take(t); len(raw) != 0 {
		t.Errorf("the call went out bare: %q", raw)
	}
	if a := must(t, g.client, request{url: g.url("/api/x")}); a.status != http.StatusOK {
		t.Errorf("the other route: status %d", a.status)
	}
}

// Caddy's administration obeyed pages of other origins, and names that were
// rebound to it; so did coder/agentapi.
func TestCVE_2026_27589_CVE_2025_59956_PagesDoNotSteerTheGateway(t *testing.T) {
	t.Parallel()
	g := start(t, issuerSetup(newIssuer(t, plainToken).URL, serveHTTP(t, shows).URL, ""))
	for _, tt := range []struct {
		name, host string
		header     http.Header
	}{
		{"cross origin", "", http.Header{"Origin": {"http://evil.test"}}},
		{"origin null", "", http.Header{"Origin": {"null"}}},
		{"origin of itself", "", http.Header{"Origin": {"http://" + g.admin}}},
		{"fetched from another site", "", http.Header{"Sec-Fetch-Site": {"cross-site"}}},
		{"rebound", "evil.test", nil},
		{"rebound with the port", "evil.test:8081", nil},
		{"rebound with a name like ours", "localhost.evil.test", nil},
		{"rebound with a form", "evil.test", http.Header{"Content-Type": {"text/plain"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, path := range []string{"/api/reload", "/api/purge"} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.admin+path, strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				req.Host = tt.host
				for name, v := range tt.header {
					req.Header[name] = v
				}
				resp, err := g.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusMisdirectedRequest {
					t.Errorf("%s: status %d, want 403 or 421", path, resp.StatusCode)
				}
				for name := range resp.Header {
					if strings.HasPrefix(name, "Access-Control-") {
						t.Errorf("%s answers with %s", path, name)
					}
				}
			}
		})
	}
}

// Paths that began like an open one, or became one, needed no key.
func TestGO_2026_5408_CVE_2026_45692_KeyIsNeededByExactPath(t *testing.T) {
	t.Parallel()
	s := issuerSetup(newIssuer(t, plainToken).URL, serveHTTP(t, shows).URL, "")
	s.Config = strings.Replace(s.Config, `admin: "127.0.0.1:0"`, `admin: "127.0.0.1:0", admin_key: {file: admin-key}`, 1)
	s.Files["admin-key"] = "key-of-the-operator-0123"
	g := start(t, s)
	for _, path := range []string{"/api/reload", "//api/reload", "/healthz/../api/reload", "/healthz/%2e%2e/api/reload", "/api/reload/", "/API/reload", "/api/reload;x", "/api/reload?x=/healthz", "/healthz/api/reload", "/api/reload%2f..%2f..%2fhealthz"} {
		raw := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\nContent-Length: 0\r\n\r\n", path)
		a := arena{network: "tcp", addr: g.admin}
		got, err := a.exchange(raw, 1)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if answered(got.raw) > 0 || strings.Contains(got.raw, `"ok"`) {
			t.Errorf("%s with a wrong key: %.300q", path, got.raw)
		}
	}
}

// Pomerium showed tokens on a page about the user.
func TestCVE_2024_39315_NoPageOfTheAdminPortShowsAToken(t *testing.T) {
	t.Parallel()
	g := start(t, issuerSetup(newIssuer(t, plainToken).URL, serveHTTP(t, shows).URL, ""))
	if a := must(t, g.client, request{url: g.url("/api/x")}); a.status != http.StatusOK {
		t.Fatalf("status %d", a.status)
	}
	for _, path := range []string{"/", "/healthz", "/readyz", "/readyz?strict", "/metrics", "/api/routes", "/api/credentials", "/api/permissions", "/api/tokens", "/api/requests", "/api/sessions", "/api/status", "/api/explain?method=GET&url=https://api.example.com/x", "/debug/pprof/heap", "/debug/vars"} {
		a := must(t, g.client, request{url: "http://" + g.admin + path})
		if text := fmt.Sprint(a.header, a.body); strings.Contains(text, apiToken) || strings.Contains(text, s0123) {
			t.Errorf("%s shows a secret", path)
		}
	}
}

const s0123 = "of-the-gateway-0123"

// Caddy expanded what an expanded variable held, and so showed the environment.
func TestCVE_2026_30852_VariablesAreExpandedOnce(t *testing.T) {
	t.Parallel()
	s := issuerSetup(newIssuer(t, plainToken).URL, serveHTTP(t, shows).URL, "")
	s.Config = strings.Replace(s.Config, "upstream:", "set_headers: {x-note: \"${OUTER}\"}, upstream:", 1)
	s.Env = []string{"OUTER=a ${INNER} b", "INNER=of-the-environment"}
	g := start(t, s)
	r := request{url: g.url("/api/${INNER}?x=${INNER}"), header: http.Header{"X-Own": {"${INNER}"}}}
	a := must(t, g.client, r)
	if a.status != http.StatusOK || strings.Contains(a.body, "of-the-environment") || !strings.Contains(a.body, "X-Note: a ${INNER} b") {
		t.Errorf("status %d, the upstream saw %s", a.status, a.body)
	}
}

// Microsoft's sidecar could be called from other hosts, by anybody.
func TestSidecar3897_OffLoopbackNeedsCallers(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:8080"} {
		dir := t.TempDir()
		s := issuerSetup("https://idp.example.com/token", "https://10.0.0.1", "")
		s.Config = strings.Replace(s.Config, `proxy: "127.0.0.1:0"`, fmt.Sprintf("plain: true, proxy: %q", listen), 1)
		write(t, filepath.Join(dir, "routes.yaml"), s.Config)
		write(t, filepath.Join(dir, "secret"), s.Files["secret"])
		cmd := exec.CommandContext(t.Context(), tool("gateway"), "serve", "--config", filepath.Join(dir, "routes.yaml"))
		cmd.Env = bareEnvironment()
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "callers") {
			t.Errorf("%s: %v with %s; want a refusal that names callers", listen, err, out)
		}
	}
}

// The sidecar took from a call where to send it, and as whom.
func TestSidecar3794_3871_CallChoosesNeitherHostNorIdentity(t *testing.T) {
	t.Parallel()
	stranger := newTap(t)
	g := start(t, issuerSetup(newIssuer(t, plainToken).URL, serveHTTP(t, shows).URL, ""))
	for _, query := range []string{"optionsOverride.BaseUrl=http://" + stranger.addr, "optionsOverride.RelativePath=/x", "optionsOverride.AcquireTokenOptions.Tenant=other", "AgentIdentity=x", "AgentUsername=y", "baseUrl=http://" + stranger.addr} {
		r := request{url: g.url("/api/x?" + query), header: http.Header{"X-Base-Url": {"http://" + stranger.addr}, "X-Forwarded-Host": {stranger.addr}}}
		a := must(t, g.client, r)
		if a.status != http.StatusOK || !strings.Contains(a.body, "Host: api.example.com\n") || !strings.Contains(a.body, "Authorization: 1, true") {
			t.Errorf("%s: status %d, the upstream saw %s", query, a.status, a.body)
		}
	}
	if raw := stranger.take(t); len(raw) != 0 {
		t.Errorf("a call chose its host: %q", raw)
	}
}

// The sidecar kept what one call had chosen for the calls after it.
func TestSidecar3919_OneCallsFieldsAreNotTheNextCalls(t *testing.T) {
	t.Parallel()
	g := start(t, issuerSetup(newIssuer(t, plainToken).URL, serveHTTP(t, shows).URL, ""))
	for i, a := range together(t, g, 100, func(i int) request {
		h := http.Header{}
		if i%2 == 0 {
			h.Set("X-Of-One-Call", fmt.Sprint("mark-", i))
		}
		return request{url: g.url(fmt.Sprintf("/api/%d", i)), header: h}
	}) {
		if has := strings.Contains(a.body, fmt.Sprintf("X-Of-One-Call: mark-%d\r\n", i)); has != (i%2 == 0) || strings.Count(a.body, "X-Of-One-Call") > 1 || i%2 == 1 && strings.Contains(a.body, "mark-") {
			t.Errorf("call %d arrives as %s", i, a.body)
		}
	}
}

// The sidecar followed redirects, with the token.
func TestSidecar3906_RedirectsAreForTheCaller(t *testing.T) {
	t.Parallel()
	stranger := newTap(t)
	up := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+stranger.addr+"/", http.StatusTemporaryRedirect)
	})
	g := start(t, issuerSetup(newIssuer(t, plainToken).URL, up.URL, ""))
	g.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if a := must(t, g.client, request{url: g.url("/api/x"), body: []byte("x")}); a.status != http.StatusTemporaryRedirect {
		t.Errorf("status %d", a.status)
	}
	if raw := stranger.take(t); len(raw) != 0 {
		t.Errorf("the redirect was followed: %q", raw)
	}
}

// azidentity's managed identities raised privileges before 1.6.
func TestCVE_2024_35255_FixedInModule(t *testing.T) {
	fixedInModule(t, "github.com/Azure/azure-sdk-for-go/sdk/azidentity", "v1.6.0")
}
