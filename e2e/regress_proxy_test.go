package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// Traefik and Oathkeeper removed the field that they had set themselves when a
// client named it in Connection, also in small letters.
func TestCVE_2024_45410_ConnectionDoesNotRemoveTheToken(t *testing.T) {
	assault(t, entries(t, "Connection of Authorization", "Connection of AUTHORIZATION", "Connection of close", "Connection of User-Agent")...)
}

func TestCVE_2026_29054_ConnectionInSmallLettersDoesNotRemoveTheToken(t *testing.T) {
	assault(t, append(entries(t, "Connection of authorization"),
		passes("connection in small letters", "connection: authorization\r\nauthorization: Bearer of-the-caller", "of-the-caller"))...)
}

func TestGHSA_w9mr_28mw_j8hg_ConnectionListDoesNotRemoveTheToken(t *testing.T) {
	assault(t, entries(t, "Connection of keep-alive", "Connection of  ,", "Connection of X-Gateway", "Connection of Host")...)
}

// Traefik forwarded CONNECT on a pooled connection, whose next user got the
// answer of somebody else.
func TestCVE_2026_71324_ConnectReachesNoUpstream(t *testing.T) {
	table := entries(t, "CONNECT ")
	for i := range table {
		table[i].name = "again " + table[i].name
	}
	assault(t, append(table, entries(t, "CONNECT ", "two calls in one write")...)...)
}

// smokescreen did not check the calls within a tunnel. Where none is opened, what
// follows the refused CONNECT counts for itself.
func TestSmokescreen279_CallsBehindAConnectAreJudgedByThemselves(t *testing.T) {
	inner := func(host string) string {
		return "CONNECT graph.microsoft.com:443 HTTP/1.1\r\nHost: graph.microsoft.com:443\r\n\r\n" +
			"GET http://" + host + "/v1.0/me HTTP/1.1\r\nHost: graph.microsoft.com\r\n\r\n"
	}
	assault(t,
		hostile{name: "to a stranger", send: inner("{stranger}"), want: "not_supported"},
		hostile{name: "to the admin port", send: inner("{admin}"), want: "not_supported"},
		hostile{name: "to a metadata service", send: inner("169.254.169.254"), want: "not_supported"})
}

// Traefik's singleflight took two secrets for one when they read the same
// without a border between their parts.
func TestCVE_2026_71326_KeysThatReadTheSameAreTwo(t *testing.T) {
	t.Parallel()
	idp := newIssuer(t, func(form func(string) string) string {
		return base64.RawURLEncoding.EncodeToString([]byte("for " + form("client_id") + "|" + form("client_secret") + "|" + form("scope") + "|" + form("audience")))
	})
	up := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		_, _ = w.Write(b)
	})
	parts := [][4]string{{"ab", "cd", "ef", "gh"}, {"a", "bcd", "ef", "gh"}, {"abc", "d", "ef", "gh"}, {"ab", "cd", "e", "fgh"}, {"ab", "cd", "efg", "h"}, {"ab", "cde", "f", "gh"}}
	s := setup{Config: "version: 1\nlisten: {proxy: \"127.0.0.1:0\", admin: \"127.0.0.1:0\"}\ncredentials:\n", Files: map[string]string{}}
	list := ""
	for i, p := range parts {
		s.Config += fmt.Sprintf("  c%d: {token_endpoint: %q, client_id: %q, client_secret: {file: s%d}, token_endpoint_auth_method: client_secret_post, token_params: {audience: %q}}\n", i, idp.URL, p[0], i, p[3])
		s.Files[fmt.Sprintf("s%d", i)] = p[1]
		list += fmt.Sprintf("  - {name: r%d, hosts: [r%d.example.com], credential: c%d, scope: %q, upstream: %q}\n", i, i, i, p[2], up.URL)
	}
	s.Config += "routes:\n" + list
	g := start(t, s)
	for i, a := range together(t, g, 60, func(i int) request { return request{url: g.url(fmt.Sprintf("/r%d/x", i%len(parts)))} }) {
		p := parts[i%len(parts)]
		if want := "for " + strings.Join(p[:], "|"); a.body != want {
			t.Errorf("call %d went out with a token %q, want %q", i, a.body, want)
		}
	}
}

// Traefik shared a connection that an upstream had bound to one user.
func TestCVE_2026_88007_RoutesShareNoConnection(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	hosts := map[string]map[string]bool{} // by connection
	up := serveHTTP(t, func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if hosts[r.RemoteAddr] == nil {
			hosts[r.RemoteAddr] = map[string]bool{}
		}
		hosts[r.RemoteAddr][r.Host] = true
	})
	g := start(t, issuerSetup(newIssuer(t, plainToken).URL, up.URL, fmt.Sprintf("  - {name: two, hosts: [two.example.com], upstream: %q}\n", up.URL)))
	for range 10 {
		for _, path := range []string{"/api/x", "/two/x"} {
			if a := must(t, g.client, request{url: g.url(path)}); a.status != http.StatusOK {
				t.Fatalf("status %d: %.300s", a.status, a.body)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for conn, of := range hosts {
		if len(of) != 1 {
			t.Errorf("connection %s carries calls to %v", conn, of)
		}
	}
	if len(hosts) < 2 {
		t.Errorf("%d connections for two routes", len(hosts))
	}
}

// oauth2-proxy and Traefik removed X-Forwarded-For and not X_Forwarded_For,
// which servers behind them read as the same.
func TestCVE_2025_64484_CVE_2026_39858_CVE_2026_54763_UnderscoresAreNoWayAround(t *testing.T) {
	assault(t, entries(t, "field X_", "field X-Forwarded_Host", "field x_", "token as Authorization_", "token as _Auth", "token as Proxy_", "token as X-Gateway_", "TE with an underscore")...)
}

// Traefik wrote a field under a name that was not canonical, beside the
// client's.
func TestCVE_2026_33433_OneSpellingOfAFieldIsLeft(t *testing.T) {
	up := serveHTTP(t, shows)
	g := start(t, issuerSetup(newIssuer(t, plainToken).URL, up.URL, fmt.Sprintf(
		"  - {name: odd, hosts: [odd.example.com], upstream: %q, inject: {header: x-api-TOKEN, format: \"{token}\"}, set_headers: {x-ms-VERSION: \"1\"}}\n", up.URL)))
	for _, name := range []string{"x-api-token", "X-Api-Token", "X-API-TOKEN"} {
		a := must(t, g.client, request{url: g.url("/odd/x"), header: http.Header{name: {"of-the-caller"}, "x-ms-version": {"of-the-caller"}}})
		if a.status == http.StatusOK && strings.Contains(a.body, "of-the-caller") {
			t.Errorf("beside %s the upstream sees the caller's value:\n%s", name, strings.ReplaceAll(a.body, apiToken, "…"))
		}
	}
	assault(t, entries(t, "Authorization three times", "token as a", "token as A")...)
}

// Caddy kept the client's identity fields when the authorizer set none.
func TestCVE_2026_30851_CVE_2026_52845_CallersIdentityFieldsAreRemoved(t *testing.T) {
	assault(t, entries(t, "field X-Ms-Client", "field X-MS-", "field X_MS_", "field X-Forwarded-User", "field X-Forwarded-Email", "field X-Forwarded-Access")...)
}

// Traefik took what forwarded fields said for the truth.
func TestCVE_2026_35051_CVE_2026_54764_ForwardedFieldsEndHere(t *testing.T) {
	assault(t, entries(t, "field Forwarded", "field X-Forwarded", "field x-forwarded", "field X-Real", "field True-Client", "field X-Original", "field X-Rewrite")...)
}

// Traefik sent the caller's credentials to the service of error pages, and
// wrote them into its log; Vault's audit log held tokens.
func TestCVE_2022_23469_CVE_2026_41181_CVE_2024_8365_CVE_2026_4525_RefusalsAreMadeHereAndTheLogHoldsNoToken(t *testing.T) {
	assault(t, append(entries(t, "fragment", "TRACE", "upgrade to Web", "token as Authorization", "token as X-Gateway-Auth"),
		hostile{name: "refused with a token", send: "GET http://evil.test/?t=1 HTTP/1.1\r\nHost: evil.test\r\nAuthorization: Bearer of-the-caller\r\nProxy-Authorization: Basic b2YtdGhlLWNhbGxlcg==\r\n\r\n", want: "egress_denied", door: "forward"})...)
}

// Dapr handed the token that a caller had shown on to the app that was called.
func TestCVE_2024_35223_CallersCredentialsGoNoFurther(t *testing.T) {
	assault(t, entries(t, "token as ", "Authorization ")...)
}

// Coder's proxy did not verify the certificate of its upstreams.
func TestCVE_2026_55436_UpstreamOfAnotherCAGetsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{TLS: true})
	for name, ca := range map[string]string{"of the system": "", "of another CA": newAuthority(t).pem} {
		t.Run(name, func(t *testing.T) {
			s := issuerSetup(newIssuer(t, plainToken).URL, w.Graph.URL(), "")
			if ca != "" {
				s.Config = strings.Replace(s.Config, "upstream:", "tls: {ca_file: ca.pem}, upstream:", 1)
				s.Files["ca.pem"] = ca
			}
			g := start(t, s)
			refused(t, must(t, g.client, request{url: g.url("/api/x")}), http.StatusBadGateway, "upstream_tls")
		})
	}
	if n := w.Graph.Counts().Calls; n != 0 {
		t.Errorf("%d calls arrived", n)
	}
}

// goproxy panicked on a request within a tunnel that was none.
func TestCVE_2023_37788_MalformedRequestsCrashNothing(t *testing.T) {
	assault(t, entries(t, "method ", "no method", "another protocol", "TLS to a plain", "HTTP/", "target ", "NUL ", "name ", "line without", "forward host")...)
}

// Pomerium redirected to wherever a link said, with a token in the URL.
func TestCVE_2021_29651_GatewayRedirectsNobody(t *testing.T) {
	t.Parallel()
	g := start(t, issuerSetup(newIssuer(t, plainToken).URL, serveHTTP(t, shows).URL, ""))
	c := newClient(nil)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, path := range []string{"/api", "/api/", "/api//evil.test/", "//evil.test/", "//evil.test/%2f..", "/api/..", "/", "/?redirect_uri=http://evil.test/", "/.gateway/callback?url=//evil.test"} {
		a := must(t, c, request{url: g.url(path)})
		if a.header.Get("Location") != "" || a.status >= 300 && a.status < 400 {
			t.Errorf("%s: status %d, Location %q", path, a.status, a.header.Get("Location"))
		}
	}
}

// tokenizer let a client choose how a secret is printed, and so guess it
// character by character.
func TestGHSA_f28g_86hc_823q_NoCallerShapesTheToken(t *testing.T) {
	t.Parallel()
	g := start(t, issuerSetup(newIssuer(t, plainToken).URL, serveHTTP(t, shows).URL, ""))
	for _, format := range []string{"%.1s", "{token:.1}", "Bearer {token}", "%[1]q", "{{.Token}}", "${TOKEN}"} {
		r := request{url: g.url("/api/x?fmt=" + url.QueryEscape(format)), header: http.Header{
			"X-Format": {format}, "Authorization": {format}, "Proxy-Tokenizer": {`{"fmt":"` + format + `"}`}}}
		if a := must(t, g.client, r); a.status != http.StatusOK || !strings.Contains(a.body, "Authorization: 1, true") {
			t.Errorf("%q: status %d, the upstream saw %s", format, a.status, a.body)
		}
	}
}
