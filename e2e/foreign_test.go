package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// The secrets hold what form encoding, Basic and percent-decoding disagree on.
// In Basic this server takes the characters of RFC 6749 §A.2 alone.
const (
	basicSecret = `p%41&+: ="x"/?#~`
	postSecret  = `p%41&+: é="x"/?#~`
)

func secretOf(client string) string {
	return map[string]string{"basic": basicSecret, "post": postSecret}[client]
}

// foreign is node-oidc-provider: an authorization server with its own mind.
type foreign struct {
	origin string // https://host:port
	issuer string
	ca     *authority
	client *http.Client // trusts it
	keys   jwt.Keyfunc
}

type foreignClient struct {
	ID     string `json:"id"`
	Secret string `json:"secret,omitempty"`
	Method string `json:"method"`
	Scope  string `json:"scope,omitempty"`
	JWKS   any    `json:"jwks,omitempty"` // for private_key_jwt
	Alg    string `json:"alg,omitempty"`
}

// watcher is the client by which the upstream introspects tokens.
var watcher = foreignClient{ID: "upstream", Secret: "of-the-upstream", Method: "client_secret_basic"}

func startForeign(t testing.TB, clients ...foreignClient) *foreign {
	t.Helper()
	return startForeignAs(t, "", clients...)
}

// startForeignAs starts one in Entra's shape when tenant is not "".
func startForeignAs(t testing.TB, tenant string, clients ...foreignClient) *foreign {
	t.Helper()
	f := &foreign{ca: newAuthority(t)}
	certPEM, keyPEM := f.ca.server(t)
	in, err := json.Marshal(map[string]any{"cert": certPEM, "key": keyPEM, "tenant": tenant, "clients": append(clients, watcher)})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "clients/oidc-server.mjs")
	cmd.Env, cmd.Stdin = bareEnvironment(), strings.NewReader(string(in))
	var stderr transcript
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("oidc-provider: %s", tail(stderr.String(), 3000))
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("oidc-provider does not start: %v\n%s", err, &stderr)
	}
	f.origin = strings.TrimSpace(line)
	f.issuer = f.origin
	if tenant != "" {
		f.issuer += "/" + tenant + "/v2.0"
	}
	pool := x509.NewCertPool()
	pool.AddCert(f.ca.cert)
	f.client = &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	t.Cleanup(f.client.CloseIdleConnections)
	f.fetchKeys(t)
	return f
}

// seen is what an upstream learned of a token.
type seen struct {
	Client, Scope, Audience, Issuer, Format, Proto string
}

// upstream is an API behind TLS that believes what f signed, or what f says
// about a token when asked.
func (f *foreign) upstream(t testing.TB, h2 bool) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		s, err := f.judge(token)
		if !ok || err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			http.Error(w, fmt.Sprint(err), http.StatusUnauthorized)
			return
		}
		s.Proto = r.Proto
		_ = json.NewEncoder(w).Encode(s)
	}))
	srv.EnableHTTP2 = h2
	srv.TLS = f.ca.tls(t, "api.example.com")
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func (f *foreign) judge(token string) (seen, error) {
	if strings.Count(token, ".") != 2 {
		return f.introspect(token)
	}
	claims := jwt.MapClaims{}
	if _, err := jwt.ParseWithClaims(token, claims, f.keys, jwt.WithIssuer(f.issuer), jwt.WithExpirationRequired()); err != nil {
		return seen{}, err
	}
	text := func(name string) string { s, _ := claims[name].(string); return s }
	return seen{Client: text("client_id"), Scope: text("scope"), Audience: text("aud"), Issuer: text("iss"), Format: "jwt"}, nil
}

// introspect asks by RFC 7662.
func (f *foreign) introspect(token string) (seen, error) {
	form := url.Values{"token": {token}}
	req, err := http.NewRequest(http.MethodPost, f.origin+"/token/introspection", strings.NewReader(form.Encode()))
	if err != nil {
		return seen{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(watcher.ID), url.QueryEscape(watcher.Secret))
	resp, err := f.client.Do(req)
	if err != nil {
		return seen{}, err
	}
	defer resp.Body.Close()
	var says struct {
		Active                    bool
		ClientID                  string `json:"client_id"`
		Scope, Aud, Iss, Username string
	}
	if err := json.NewDecoder(resp.Body).Decode(&says); err != nil {
		return seen{}, err
	}
	if !says.Active {
		return seen{}, fmt.Errorf("the token is not active, status %d", resp.StatusCode)
	}
	return seen{Client: says.ClientID, Scope: says.Scope, Audience: says.Aud, Issuer: says.Iss, Format: "opaque"}, nil
}

func TestForeignServersTokensOpenForeignAPIs(t *testing.T) {
	t.Parallel()
	f := startForeign(t,
		foreignClient{ID: "basic", Secret: basicSecret, Method: "client_secret_basic", Scope: "reports audit orders.read orders.write"},
		foreignClient{ID: "post", Secret: postSecret, Method: "client_secret_post", Scope: "reports audit orders.read orders.write"})
	h2, h1 := f.upstream(t, true), f.upstream(t, false)
	const jwtAPI, opaqueAPI = "https://api.example.com/jwt", "https://api.example.com/opaque"
	tests := []struct {
		name, client, resource, scope string
		upstream                      *httptest.Server
		want                          seen
	}{
		{"basic jwt one", "basic", jwtAPI, "orders.read", h2,
			seen{"basic", "orders.read", jwtAPI, f.issuer, "jwt", "HTTP/2.0"}},
		{"post jwt several", "post", jwtAPI, "orders.read orders.write", h1,
			seen{"post", "orders.read orders.write", jwtAPI, f.issuer, "jwt", "HTTP/1.1"}},
		{"basic opaque audience", "basic", opaqueAPI, "orders.write", h1,
			seen{"basic", "orders.write", opaqueAPI, f.issuer, "opaque", "HTTP/1.1"}},
		{"post opaque several", "post", "", "reports audit", h2,
			seen{"post", "reports audit", "", f.issuer, "opaque", "HTTP/2.0"}},
		{"basic opaque none", "basic", "", "", h2,
			seen{"basic", "", "", f.issuer, "opaque", "HTTP/2.0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, f.setup(tt.client, tt.resource, tt.scope, tt.upstream))
			for _, via := range []struct {
				door, url string
				client    *http.Client
			}{
				{"reverse", g.url("/api/things?a=1;b=2"), g.client},
				{"forward", "http://api.example.com/things?a=1;b=2", newClient(&url.URL{Scheme: "http", Host: g.proxy})},
			} {
				a := must(t, via.client, request{url: via.url})
				var got seen
				if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != http.StatusOK || got != tt.want {
					t.Errorf("%s door: status %d, the API saw %+v (%.300s); want %+v", via.door, a.status, got, a.body, tt.want)
				}
			}
		})
	}
}

// setup is a gateway with one route to an API of f's.
func (f *foreign) setup(client, resource, scope string, upstream *httptest.Server) setup {
	params := ""
	if resource != "" {
		params = "\n    token_params: {resource: " + resource + "}"
	}
	if scope != "" {
		scope = "\n    scope: " + scope
	}
	return setup{
		Config: fmt.Sprintf(`version: 1
listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}
credentials:
  idp:
    token_endpoint: %s/token
    client_id: %s
    client_secret: {file: secret}
    token_endpoint_auth_method: client_secret_%s
    ca_file: ca.pem%s
routes:
  - name: api
    hosts: [api.example.com]
    upstream: %s
    tls: {ca_file: ca.pem}%s
`, f.issuer, client, client, params, upstream.URL, scope),
		Files: map[string]string{"secret": secretOf(client), "ca.pem": f.ca.pem},
	}
}

func TestForeignServersRefusalIsNeverTheCallersFault(t *testing.T) {
	t.Parallel()
	f := startForeign(t,
		foreignClient{ID: "basic", Secret: basicSecret, Method: "client_secret_basic", Scope: "reports"},
		foreignClient{ID: "post", Secret: postSecret, Method: "client_secret_post", Scope: "reports"})
	up := f.upstream(t, true)
	for _, tt := range []struct{ name, client, resource, scope, secret string }{
		{"wrong secret by basic", "basic", "", "", "wrong"},
		{"wrong secret by post", "post", "", "", "wrong"},
		{"scope that is not the client's", "post", "", "audit", postSecret},
		{"resource that is no URI", "post", "no-uri", "", postSecret},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := f.setup(tt.client, tt.resource, tt.scope, up)
			s.Files["secret"] = tt.secret
			g := start(t, s)
			p := refused(t, must(t, g.client, request{url: g.url("/api/things")}), http.StatusBadGateway, "token_refused")
			if p.Remedy == "" || p.Route != "api" {
				t.Errorf("problem %+v has no remedy, or not the route", p)
			}
		})
	}
}
