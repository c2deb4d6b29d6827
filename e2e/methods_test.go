package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// clientKey is a key pair of private_key_jwt, as each side has it.
type clientKey struct {
	alg, pem string
	jwk      map[string]string
}

func newClientKey(t testing.TB, alg string) clientKey {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	var key crypto.Signer
	var err error
	jwk := map[string]string{"use": "sig", "kid": "key-of-" + alg}
	switch alg {
	case "RS256", "PS256":
		var k *rsa.PrivateKey
		k, err = rsa.GenerateKey(rand.Reader, 2048)
		if err == nil {
			jwk["kty"], jwk["n"], jwk["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
		}
		key = k
	case "ES256":
		var k *ecdsa.PrivateKey
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err == nil {
			point, _ := k.PublicKey.Bytes() // 4, x, y
			jwk["kty"], jwk["crv"], jwk["x"], jwk["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
		}
		key = k
	default:
		var public ed25519.PublicKey
		var k ed25519.PrivateKey
		public, k, err = ed25519.GenerateKey(rand.Reader)
		jwk["kty"], jwk["crv"], jwk["x"] = "OKP", "Ed25519", b64(public)
		key = k
	}
	if err != nil {
		t.Fatal(err)
	}
	return clientKey{alg, privatePEM(t, key), jwk}
}

func (k clientKey) client() foreignClient {
	return foreignClient{
		ID: strings.ToLower(k.alg), Method: "private_key_jwt", Alg: k.alg, Scope: "orders.read",
		JWKS: map[string]any{"keys": []any{k.jwk}},
	}
}

// answers calls the one route of g and returns what the API saw.
func answers(t testing.TB, g *gateway) seen {
	t.Helper()
	a := must(t, g.client, request{url: g.url("/api/things")})
	var got seen
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != http.StatusOK {
		t.Errorf("status %d: %.600s", a.status, a.body)
	}
	return got
}

func TestEveryMethodIsTakenByAForeignServerFoundByEndpointOrByIssuer(t *testing.T) {
	t.Parallel()
	clients := []foreignClient{
		{ID: "basic", Secret: basicSecret, Method: "client_secret_basic", Scope: "orders.read"},
		{ID: "post", Secret: postSecret, Method: "client_secret_post", Scope: "orders.read"},
	}
	keys := map[string]clientKey{}
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		k := newClientKey(t, alg)
		keys[strings.ToLower(alg)], clients = k, append(clients, k.client())
	}
	f := startForeign(t, clients...)
	up := f.upstream(t, true)
	for _, c := range clients {
		for _, by := range []string{"token_endpoint: " + f.issuer + "/token", "issuer: " + f.issuer} {
			kind, _, _ := strings.Cut(by, ":")
			t.Run(c.ID+" by "+kind, func(t *testing.T) {
				s := f.setup(c.ID, "https://api.example.com/jwt", "orders.read", up)
				s.Config = strings.Replace(s.Config, "token_endpoint: "+f.issuer+"/token", by, 1)
				if k, signs := keys[c.ID]; signs {
					s.Config = strings.Replace(s.Config, "client_secret: {file: secret}", fmt.Sprintf("client_key: {file: key.pem, kid: key-of-%s, alg: %s}", k.alg, k.alg), 1)
					s.Config = strings.Replace(s.Config, "token_endpoint_auth_method: client_secret_"+c.ID, "token_endpoint_auth_method: private_key_jwt", 1)
					s.Files["key.pem"] = k.pem
				}
				want := seen{c.ID, "orders.read", "https://api.example.com/jwt", f.issuer, "jwt", "HTTP/2.0"}
				if got := answers(t, start(t, s)); got != want {
					t.Errorf("the API saw %+v, want %+v", got, want)
				}
			})
		}
	}
}

func TestMetadataOfAnotherIssuerIsRefusedWithBothNames(t *testing.T) {
	t.Parallel()
	f := startForeign(t, foreignClient{ID: "basic", Secret: basicSecret, Method: "client_secret_basic"})
	up := f.upstream(t, true)
	s := f.setup("basic", "", "", up)
	wrong := strings.Replace(f.issuer, "127.0.0.1", "localhost", 1) // the same server by another name
	s.Config = strings.Replace(s.Config, "token_endpoint: "+f.issuer+"/token", "issuer: "+wrong, 1)
	g := start(t, s)
	p := refused(t, must(t, g.client, request{url: g.url("/api/things")}), http.StatusBadGateway, "token_refused")
	if p.Remedy == "" {
		t.Errorf("problem %+v has no remedy", p)
	}
	out, code := g.command(t, "check", "--live")
	if code != 1 || !strings.Contains(out, f.issuer) || !strings.Contains(out, wrong) {
		t.Errorf("check --live: exit %d without both issuers:\n%s", code, out)
	}
}

// entraTenant is any tenant: the server below knows this one alone.
const entraTenant = "11112222-bbbb-3333-cccc-4444dddd5555"

func TestForeignServerInEntrasShapeTakesEveryProof(t *testing.T) {
	t.Parallel()
	app := newAppCertificate(t)
	b64 := base64.RawURLEncoding.EncodeToString
	jwk := map[string]any{
		"kty": "RSA", "use": "sig", "kid": "app", "n": b64(app.key.N.Bytes()), "e": b64(big.NewInt(int64(app.key.E)).Bytes()),
		"x5c": []string{base64.StdEncoding.EncodeToString(app.cert.Raw)},
	}
	const scope = graphScope
	f := startForeignAs(t, entraTenant,
		foreignClient{ID: "basic", Secret: basicSecret, Method: "client_secret_basic", Scope: scope},
		foreignClient{ID: "post", Secret: postSecret, Method: "client_secret_post", Scope: scope},
		foreignClient{ID: "certificate", Method: "private_key_jwt", Alg: "PS256", Scope: scope, JWKS: map[string]any{"keys": []any{jwk}}})
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := f.introspect(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(s)
	}))
	up.TLS = f.ca.tls(t, "graph.microsoft.com")
	up.StartTLS()
	t.Cleanup(up.Close)
	for client, proof := range map[string]string{
		"basic":       "client_secret: {file: secret}\n    token_endpoint_auth_method: client_secret_basic",
		"post":        "client_secret: {file: secret}",
		"certificate": "client_certificate: {file: app.pem}",
	} {
		t.Run(client, func(t *testing.T) {
			s := setup{
				Config: fmt.Sprintf(`version: 1
listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}
credentials:
  default:
    tenant_id: %s
    client_id: %s
    %s
    authority_host: %s
    ca_file: ca.pem
routes:
  - {preset: graph, name: api, upstream: %q, tls: {ca_file: ca.pem}}
`, entraTenant, client, proof, f.origin, up.URL),
				Files: map[string]string{"secret": secretOf(client), "ca.pem": f.ca.pem, "app.pem": app.certPEM + app.keyPEM},
			}
			if s.Files["secret"] == "" {
				delete(s.Files, "secret")
			}
			got := answers(t, start(t, s))
			if got.Client != client || got.Scope != scope {
				t.Errorf("the API saw %+v, want client %s with scope %s", got, client, scope)
			}
		})
	}
}
