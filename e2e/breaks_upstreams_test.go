package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// secure serves TLS with a certificate for names that ends at until.
func (f *breaker) secure(a *authority, until time.Time, ask tls.ClientAuthType, names ...string) string {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	text, _ := sign(f.t, &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "an upstream"}, NotBefore: until.Add(-2 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: names}, a, key)
	pair, err := tls.X509KeyPair([]byte(text), []byte(privatePEM(f.t, key)))
	if err != nil {
		f.t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: ask}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail as they should
	srv.StartTLS()
	f.t.Cleanup(srv.Close)
	return srv.URL
}

// plainUpstream serves without TLS until the test ends; what it does may hang
// until then.
func (f *breaker) plainUpstream(do func(w http.ResponseWriter, r *http.Request, over <-chan struct{})) string {
	over := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { do(w, r, over) }))
	f.t.Cleanup(srv.Close)
	f.t.Cleanup(func() { close(over) }) // before the server's end, which waits for its calls
	return srv.URL
}

// upstreamRow has the usual credential, and a route of its own.
func (f *breaker) upstreamRow(name string, status int, code, cause, remedy, route string) {
	host, _, _ := strings.Cut(strings.TrimPrefix(route, "hosts: ["), "]")
	f.rows = append(f.rows, breakage{name: name, status: status, code: code, cause: cause, remedy: remedy,
		tells: []string{"explain", "GET", "https://" + host + "/v1.0/users"}, said: "route " + name, does: "sends to"}) // where it is dialled
	f.routes = append(f.routes, fmt.Sprintf("  - {name: %s, scope: %q, credential: default, %s}\n", name, graphScope, route))
}

func brokenUpstreams(t *testing.T) *scene {
	f := newBreaker(t, "upstreams")
	f.secrets = append(f.secrets, f.world.Secret())
	f.files["default.secret"] = f.world.Secret()
	f.ids, f.yaml["default"] = append(f.ids, "default"), identity{keys: f.usual(sandbox.ClientID, "client_secret: {file: default.secret}")}
	own := newAuthority(t)
	f.files["upstream-ca.pem"] = own.pem
	f.networkRows()
	f.tlsRows(own)
	f.answerRows()
	f.roleRows()
	s := f.start()
	eventually(t, "the usual credential has its token", func() bool {
		return must(t, s.client, request{url: s.url("/default/v1.0/users")}).status == http.StatusOK
	})
	return s
}

func (f *breaker) networkRows() {
	f.upstreamRow("upstream-without-address", 502, "upstream_unreachable", "the upstream's name cannot be resolved", "check how it is spelt in hosts or upstream of the route, and this machine's DNS",
		"hosts: [api.contoso.invalid]")
	f.upstreamRow("upstream-refuses-connections", 502, "upstream_unreachable", "the upstream refuses the connection", "see that it is up and listens at this port, or correct hosts or upstream of the route",
		fmt.Sprintf("hosts: [down.contoso.com], upstream: %q", "https://"+closedPort(f.t)))
	f.upstreamRow("upstream-too-slow", 504, "timeout", "the upstream did not answer in time", "raise timeouts.response_header of the route",
		fmt.Sprintf("hosts: [slow.contoso.com], timeouts: {response_header: 1s}, upstream: %q", f.plainUpstream(func(_ http.ResponseWriter, r *http.Request, over <-chan struct{}) {
			select {
			case <-over:
			case <-r.Context().Done():
			}
		})))
	f.upstreamRow("upstream-hangs-up", 502, "upstream_unreachable", "the upstream cannot be reached or broke off", "check the host's name, the network",
		fmt.Sprintf("hosts: [rude.contoso.com], upstream: %q", f.plainUpstream(func(http.ResponseWriter, *http.Request, <-chan struct{}) { panic(http.ErrAbortHandler) })))
	f.upstreamRow("metadata-service", 502, "upstream_unreachable", "address is one that no call may reach", "metadata services, managed identity endpoints, link-local addresses",
		`hosts: [sneaky.contoso.com], upstream: "https://169.254.169.254"`)
}

func (f *breaker) tlsRows(own *authority) {
	later := time.Now().Add(time.Hour)
	at := func(host, address, more string) string {
		return fmt.Sprintf("hosts: [%s], upstream: %q%s", host, address, more)
	}
	trusted := ", tls: {ca_file: upstream-ca.pem}"
	f.upstreamRow("upstream-not-trusted", 502, "upstream_tls", "the upstream's TLS certificate is not trusted", "name that CA's certificate under tls.ca_file of the route",
		at("private.contoso.com", f.secure(own, later, tls.NoClientCert, "private.contoso.com"), ""))
	f.upstreamRow("upstream-certificate-expired", 502, "upstream_tls", "the upstream's TLS certificate has expired", "have its operator renew it; if it is in order, set this machine's clock",
		at("expired.contoso.com", f.secure(own, time.Now().Add(-time.Minute), tls.NoClientCert, "expired.contoso.com"), trusted))
	f.upstreamRow("upstream-certificate-of-another", 502, "upstream_tls", "the upstream's TLS certificate is for another name", "or say its name by tls.server_name",
		at("misnamed.contoso.com", f.secure(own, later, tls.NoClientCert, "other.contoso.com"), trusted))
	f.upstreamRow("upstream-wants-a-certificate", 502, "upstream_tls", "the upstream wants a client certificate, or another than the route's", "tls.client_certificate_file and tls.client_key_file",
		at("mutual.contoso.com", f.secure(own, later, tls.RequireAnyClientCert, "mutual.contoso.com"), trusted))
	silent := f.plainUpstream(func(http.ResponseWriter, *http.Request, <-chan struct{}) {})
	f.upstreamRow("upstream-without-tls", 502, "upstream_tls", "the TLS handshake with the upstream failed", "check that the upstream speaks TLS at this port",
		at("plain.contoso.com", strings.Replace(silent, "http://", "https://", 1), ""))
}

// answerRows are of upstreams whose answers mean more than they say.
func (f *breaker) answerRows() {
	says := func(status int, fields ...string) string {
		return f.plainUpstream(func(w http.ResponseWriter, _ *http.Request, _ <-chan struct{}) {
			for i := 0; i < len(fields); i += 2 {
				w.Header().Set(fields[i], fields[i+1])
			}
			w.WriteHeader(status)
		})
	}
	f.upstreamRow("upstream-proxy-credential", 502, "upstream_proxy", "the upstream asked for proxy authentication", "is a proxy that wants credentials; name it as egress.proxy",
		fmt.Sprintf("hosts: [asks.contoso.com], upstream: %q", says(407, "Proxy-Authenticate", "Basic")))
	f.upstreamRow("upstream-refuses-token", 401, "", "the upstream answered 401 to the token, and to a fresh one as well", "compare aud and tid of gateway token upstream-refuses-token with what the API wants",
		fmt.Sprintf("hosts: [stubborn.contoso.com], upstream: %q", says(401, "WWW-Authenticate", "Bearer")))
	f.upstreamRow("upstream-of-another-tenant", 401, "", "the upstream takes tokens of tenant 77777777-0000-cccc-1111-dddd2222eeee", "give the route a credential with that tenant_id",
		fmt.Sprintf("hosts: [foreign.contoso.com], upstream: %q", says(401, "WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/77777777-0000-cccc-1111-dddd2222eeee", resource="https://graph.microsoft.com"`)))
	const login = "https://login.microsoftonline.com/common/oauth2/authorize"
	f.upstreamRow("upstream-signs-in", 302, "", "not authenticated: the upstream answered 302 with a redirect to the sign-in page", "see that scope and tenant_id fit this upstream",
		fmt.Sprintf("hosts: [visual.contoso.com], upstream: %q", says(302, "Location", login)))
	f.rows[len(f.rows)-1].call = func(t *testing.T, s *scene) answer {
		stays := *s.client
		stays.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		return must(t, &stays, request{url: s.url("/upstream-signs-in/v1.0/users")})
	}
	f.upstreamRow("upstream-echoes-token", 502, "token_reflected", "the upstream's answer contained the token that the gateway had sent", "do not route it (allow of the route), or have its owner mend it",
		fmt.Sprintf("hosts: [mirror.contoso.com], upstream: %q", f.plainUpstream(func(w http.ResponseWriter, r *http.Request, _ <-chan struct{}) {
			_, _ = fmt.Fprint(w, r.Header.Get("Authorization"))
		})))
}

// roleRows are what Graph refuses, and what mends it.
func (f *breaker) roleRows() {
	id, s := f.app("no-role")
	if err := f.world.Entra.Ungrant(id, sandbox.GraphResource); err != nil {
		f.t.Fatal(err)
	}
	f.row(breakage{name: "missing-role", status: 403, cause: "the upstream answered 403; the token for https://graph.microsoft.com holds no application permissions (roles); GET /v1.0/users wants User.ReadBasic.All, or a higher one: User.Read.All", remedy: "az ad app permission add --id",
		tells: []string{"permissions", "--admin", adminAddress}, exit: 1, said: "User.ReadBasic.All", does: "az ad app permission add --id " + id},
		identity{keys: f.usual(id, f.secret("missing-role", s.Value))})
	id, s = f.app("old-token")
	if err := f.world.Entra.Ungrant(id, sandbox.GraphResource); err != nil {
		f.t.Fatal(err)
	}
	f.row(breakage{name: "role-granted-old-token", status: 403, cause: "holds no application permissions (roles)", remedy: "then gateway purge --credential role-granted-old-token",
		broken: func(t *testing.T, s *scene) {
			if a := must(t, s.client, request{url: s.url("/role-granted-old-token/v1.0/users")}); a.status != http.StatusForbidden {
				t.Fatalf("status %d without the role", a.status)
			}
			if err := f.world.Entra.Grant(id, sandbox.GraphResource, "User.Read.All"); err != nil {
				t.Fatal(err)
			}
		},
		after: func(t *testing.T, s *scene, _ answer) {
			if out, code := s.command(t, "purge", "--admin", s.admin, "--credential", "role-granted-old-token"); code != 0 {
				t.Errorf("gateway purge: %d\n%s", code, out)
			}
			if a := must(t, s.client, request{url: s.url("/role-granted-old-token/v1.0/users")}); a.status != http.StatusOK {
				t.Errorf("after gateway purge the status is %d", a.status)
			}
		},
	}, identity{keys: f.usual(id, f.secret("role-granted-old-token", s.Value))})
}

// brokenHop is a gateway behind a proxy that says no.
func brokenHop(t *testing.T) *scene {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Proxy-Authenticate", `Basic realm="corporate"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	t.Cleanup(proxy.Close)
	return hopScene(t, "proxy-407", proxy.URL, "the next hop asks for another credential: status 407", "correct username and password of egress.proxy in routes.yaml", 502, "upstream_proxy")
}

func deadHop(t *testing.T) *scene {
	return hopScene(t, "proxy-down", "http://"+closedPort(t), "the next hop refuses the connection", "see that the proxy of egress.proxy is up and speaks HTTP", 502, "upstream_unreachable")
}

// hopScene has a route whose upstream, and one whose token endpoint is behind a
// proxy.
func hopScene(t *testing.T, name, proxy, cause, remedy string, status int, code string) *scene {
	f := newBreaker(t, name)
	const password = "p4ssw0rd-of-the-pr0xy"
	f.files["proxy.password"], f.files["default.secret"] = password, f.world.Secret()
	f.secrets = append(f.secrets, password, f.world.Secret())
	f.ids, f.yaml["default"] = append(f.ids, "default"), identity{keys: f.usual(sandbox.ClientID, "client_secret: {file: default.secret}")}
	at, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	f.more = fmt.Sprintf("egress: {proxy: {url: %q, username: gw, password: {file: proxy.password}}}\n", "http://"+at.Host)
	f.upstreamRow("upstream-behind-"+name, status, code, cause, remedy, "hosts: [graph.contoso.com]")
	b := refusedToken("endpoint-behind-"+name, cause, remedy)
	b.status, b.code = 503, "token_unavailable"
	f.row(b, identity{keys: fmt.Sprintf("tenant_id: contoso.onmicrosoft.com, client_id: %s, %s", sandbox.ClientID, f.secret("endpoint-behind", "s3cret-that-never-leaves"))})
	return f.start()
}
