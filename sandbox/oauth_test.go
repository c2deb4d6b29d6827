package sandbox_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/seed-13b04e61/gateway/sandbox"
)

func oauth(t testing.TB, opts sandbox.OAuthOptions, clients ...sandbox.OAuthClient) *sandbox.OAuth {
	t.Helper()
	o, err := sandbox.StartOAuth(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	for _, c := range clients {
		if err := o.AddClient(c); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// client with two secrets, the older of which needs encoding in Basic.
func secretive() sandbox.OAuthClient {
	return sandbox.OAuthClient{ID: "gate way:1", Secrets: []string{"a%b&c+d: é/=~", "new"}}
}

// oauthForm is a right request by client_secret_post.
func oauthForm(more ...string) url.Values {
	f := url.Values{"grant_type": {"client_credentials"}, "client_id": {"gate way:1"}, "client_secret": {"new"}}
	for i := 0; i < len(more); i += 2 {
		f.Add(more[i], more[i+1])
	}
	return f
}

func postOAuth(t testing.TB, o *sandbox.OAuth, form url.Values, change func(*http.Request)) answer {
	t.Helper()
	r := request(t, "POST", o.TokenURL(), form.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if change != nil {
		change(r)
	}
	return do(t, r)
}

func TestOAuthTakesSecretsBothWays(t *testing.T) {
	o := oauth(t, sandbox.OAuthOptions{}, secretive())
	for _, secret := range secretive().Secrets {
		form := oauthForm("scope", "read write")
		form.Set("client_secret", secret)
		a := postOAuth(t, o, form, nil)
		g, ok := o.Introspect(a.str("access_token"))
		if a.status != http.StatusOK || !ok || g.Method != sandbox.SecretPost || !slices.Equal(g.Scopes, []string{"read", "write"}) || g.ClientID != "gate way:1" {
			t.Errorf("post = %d %s, grant %+v", a.status, a.raw, g)
		}
		if a.str("token_type") != "Bearer" || a.json["expires_in"] != 600.0 || a.str("scope") != "read write" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("post = %s, want Bearer, 600, the scope and no-store", a.raw)
		}
		form = url.Values{"grant_type": {"client_credentials"}}
		a = postOAuth(t, o, form, func(r *http.Request) { r.SetBasicAuth(url.QueryEscape("gate way:1"), url.QueryEscape(secret)) })
		if g, ok = o.Introspect(a.str("access_token")); a.status != http.StatusOK || !ok || g.Method != sandbox.SecretBasic {
			t.Errorf("basic = %d %s, grant %+v", a.status, a.raw, g)
		}
	}
	if got := o.Requests(); got != 4 {
		t.Errorf("Requests() = %d, want 4", got)
	}
}

func TestOAuthRefusals(t *testing.T) {
	o := oauth(t, sandbox.OAuthOptions{Scopes: []string{"read", "write"}, Audiences: []string{"https://api.example"}}, secretive(),
		sandbox.OAuthClient{ID: "basic", Secrets: []string{"s"}, Method: sandbox.SecretBasic, Scopes: []string{"read"}})
	basic := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	alone := url.Values{"grant_type": {"client_credentials"}}
	for _, tt := range []struct {
		name   string
		form   url.Values
		change func(*http.Request)
		status int
		code   string
	}{
		{"wrong secret", url.Values{"grant_type": {"client_credentials"}, "client_id": {"gate way:1"}, "client_secret": {"x"}}, nil, 401, "invalid_client"},
		{"unknown client", url.Values{"grant_type": {"client_credentials"}, "client_id": {"x"}, "client_secret": {"x"}}, nil, 401, "invalid_client"},
		{"no authentication", url.Values{"grant_type": {"client_credentials"}, "client_id": {"basic"}}, nil, 401, "invalid_client"},
		{"Basic not encoded", alone, basic("gate way:1", "a%b&c+d: é/=~"), 401, "invalid_client"},
		{"Basic and body", oauthForm(), basic("basic", "s"), 400, "invalid_request"},
		{"Basic for another client_id", url.Values{"grant_type": {"client_credentials"}, "client_id": {"x"}}, basic("basic", "s"), 401, "invalid_client"},
		{"Bearer", alone, func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, 401, "invalid_client"},
		{"not its method", url.Values{"grant_type": {"client_credentials"}, "client_id": {"basic"}, "client_secret": {"s"}}, nil, 401, "invalid_client"},
		{"no grant", url.Values{}, basic("basic", "s"), 400, "invalid_request"},
		{"other grant", url.Values{"grant_type": {"password"}}, basic("basic", "s"), 400, "unsupported_grant_type"},
		{"unknown scope", oauthForm("scope", "delete"), nil, 400, "invalid_scope"},
		{"scope of others", url.Values{"grant_type": {"client_credentials"}, "scope": {"write"}}, basic("basic", "s"), 400, "invalid_scope"},
		{"unknown audience", oauthForm("audience", "https://other.example"), nil, 400, "invalid_target"},
		{"relative resource", oauthForm("resource", "api"), nil, 400, "invalid_target"},
		{"scope twice", oauthForm("scope", "read", "scope", "write"), nil, 400, "invalid_request"},
		{"no form", oauthForm(), func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, 400, "invalid_request"},
		{"GET", oauthForm(), func(r *http.Request) { r.Method = "GET" }, 405, "invalid_request"},
		{"secret in the URL", oauthForm(), func(r *http.Request) { r.URL.RawQuery = "client_secret=new" }, 400, "invalid_request"},
	} {
		a := postOAuth(t, o, tt.form, tt.change)
		if a.status != tt.status || a.str("error") != tt.code || a.str("error_description") == "" || a.json["access_token"] != nil {
			t.Errorf("%s = %d %s, want %d %s", tt.name, a.status, a.raw, tt.status, tt.code)
		}
		challenged := strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic ")
		if strings.HasPrefix(tt.name, "Basic not") && !challenged {
			t.Errorf("%s: no WWW-Authenticate, want one (RFC 6749 §5.2)", tt.name)
		}
	}
}

func TestOAuthAudienceComesByEitherParameter(t *testing.T) {
	o := oauth(t, sandbox.OAuthOptions{Path: "/realms/x"}, secretive())
	for _, tt := range []struct {
		form url.Values
		want []any
	}{
		{oauthForm(), []any{o.Issuer()}},
		{oauthForm("audience", "api"), []any{"api"}},
		{oauthForm("resource", "https://a.example", "resource", "https://b.example"), []any{"https://a.example", "https://b.example"}},
	} {
		a := postOAuth(t, o, tt.form, nil)
		c := claimsOf(t, a.str("access_token"))
		if aud, _ := c["aud"].([]any); !slices.Equal(aud, tt.want) || c["iss"] != o.Issuer() {
			t.Errorf("%v: claims = %v, want aud %v", tt.form, c, tt.want)
		}
	}
}

// assertionKeys is one key of each kind, by kid.
func assertionKeys(t testing.TB) (private map[string]crypto.Signer, public map[string]crypto.PublicKey) {
	t.Helper()
	private, public = map[string]crypto.Signer{}, map[string]crypto.PublicKey{}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private["rsa"] = r
	for kid, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		if private[kid], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private["ed"] = ed
	for kid, k := range private {
		public[kid] = k.Public()
	}
	return private, public
}

// proof signs a private_key_jwt for client "keyed", right unless changed.
func proof(t testing.TB, o *sandbox.OAuth, alg, kid string, key crypto.Signer, change func(jwt.MapClaims)) string {
	t.Helper()
	now := time.Now()
	claims := jwt.MapClaims{
		"iss": "keyed", "sub": "keyed", "aud": o.TokenURL(), "jti": uuid.NewString(), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	if change != nil {
		change(claims)
	}
	tok := jwt.NewWithClaims(jwt.GetSigningMethod(alg), claims)
	if kid != "" {
		tok.Header["kid"] = kid
	}
	raw, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func proofForm(assertion string) url.Values {
	return url.Values{
		"grant_type":            {"client_credentials"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {assertion},
	}
}

func TestOAuthVerifiesPrivateKeyJWTs(t *testing.T) {
	private, public := assertionKeys(t)
	o := oauth(t, sandbox.OAuthOptions{Path: "/tenant"}, sandbox.OAuthClient{ID: "keyed", Keys: public})
	for alg, kid := range map[string]string{
		"RS256": "rsa", "RS384": "rsa", "RS512": "rsa", "PS256": "rsa", "PS384": "rsa", "PS512": "rsa",
		"ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed",
	} {
		a := postOAuth(t, o, proofForm(proof(t, o, alg, kid, private[kid], nil)), nil)
		if g, ok := o.Introspect(a.str("access_token")); a.status != http.StatusOK || !ok || g.Method != sandbox.PrivateKey {
			t.Errorf("%s = %d %s", alg, a.status, a.raw)
		}
	}
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for name, change := range map[string]func(jwt.MapClaims){
		"right by issuer":   func(c jwt.MapClaims) { c["aud"] = o.Issuer() },
		"right in a list":   func(c jwt.MapClaims) { c["aud"] = []string{"x", o.TokenURL()} },
		"another audience":  func(c jwt.MapClaims) { c["aud"] = "https://other.example/token" },
		"another issuer":    func(c jwt.MapClaims) { c["iss"] = "x" },
		"another subject":   func(c jwt.MapClaims) { c["sub"] = "x" },
		"expired":           func(c jwt.MapClaims) { c["exp"] = in(-time.Second) },
		"without exp":       func(c jwt.MapClaims) { delete(c, "exp") },
		"an hour":           func(c jwt.MapClaims) { c["exp"] = in(time.Hour) },
		"from the future":   func(c jwt.MapClaims) { c["nbf"] = in(5 * time.Minute) },
		"without jti":       func(c jwt.MapClaims) { delete(c, "jti") },
		"issued in an hour": func(c jwt.MapClaims) { c["iat"] = in(time.Hour) },
	} {
		a := postOAuth(t, o, proofForm(proof(t, o, "PS256", "rsa", private["rsa"], change)), nil)
		if right := strings.HasPrefix(name, "right"); right != (a.status == http.StatusOK) || (!right && (a.status != 401 || a.str("error") != "invalid_client")) {
			t.Errorf("%s = %d %s", name, a.status, a.raw)
		}
	}
}

func TestOAuthTakesAnAssertionOnceAndByTheRightKey(t *testing.T) {
	private, public := assertionKeys(t)
	o := oauth(t, sandbox.OAuthOptions{}, sandbox.OAuthClient{ID: "keyed", Keys: public})
	once := proof(t, o, "ES256", "p256", private["p256"], nil)
	for i, want := range []int{200, 401} {
		if a := postOAuth(t, o, proofForm(once), nil); a.status != want {
			t.Errorf("time %d = %d %s, want %d", i+1, a.status, a.raw, want)
		}
	}
	for name, raw := range map[string]string{
		"no kid among many": proof(t, o, "ES256", "", private["p256"], nil),
		"unknown kid":       proof(t, o, "ES256", "other", private["p256"], nil),
		"kid of another":    proof(t, o, "PS256", "ed", private["rsa"], nil),
		"HMAC":              "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJrZXllZCJ9.AAAA",
		"none":              "eyJhbGciOiJub25lIn0.eyJzdWIiOiJrZXllZCJ9.",
	} {
		if a := postOAuth(t, o, proofForm(raw), nil); a.status != 401 || a.str("error") != "invalid_client" {
			t.Errorf("%s = %d %s, want 401", name, a.status, a.raw)
		}
	}
	form := proofForm(proof(t, o, "ES256", "p256", private["p256"], nil))
	form.Set("client_assertion_type", "x")
	if a := postOAuth(t, o, form, nil); a.status != 400 {
		t.Errorf("another type = %d %s, want 400", a.status, a.raw)
	}
	single := sandbox.OAuthClient{ID: "keyed", Keys: map[string]crypto.PublicKey{"only": public["p256"]}, Method: sandbox.SecretPost}
	if err := o.AddClient(single); err != nil {
		t.Fatal(err)
	}
	if a := postOAuth(t, o, proofForm(proof(t, o, "ES256", "", private["p256"], nil)), nil); a.status != 401 {
		t.Errorf("not its method = %d, want 401", a.status)
	}
	single.Method = sandbox.PrivateKey
	if err := o.AddClient(single); err != nil {
		t.Fatal(err)
	}
	if a := postOAuth(t, o, proofForm(proof(t, o, "ES256", "", private["p256"], nil)), nil); a.status != 200 {
		t.Errorf("no kid, one key = %d %s, want 200", a.status, a.raw)
	}
}

func TestOAuthTakesOnlyTheAlgorithmsItLists(t *testing.T) {
	private, public := assertionKeys(t)
	o := oauth(t, sandbox.OAuthOptions{Algs: []string{"ES256"}}, sandbox.OAuthClient{ID: "keyed", Keys: public})
	if a := postOAuth(t, o, proofForm(proof(t, o, "PS256", "rsa", private["rsa"], nil)), nil); a.status != 401 {
		t.Errorf("PS256 = %d, want 401", a.status)
	}
	if a := postOAuth(t, o, proofForm(proof(t, o, "ES256", "p256", private["p256"], nil)), nil); a.status != 200 {
		t.Errorf("ES256 = %d %s, want 200", a.status, a.raw)
	}
}

func TestOAuthMetadata(t *testing.T) {
	for _, tt := range []struct {
		name string
		opts sandbox.OAuthOptions
		path string
		want map[string]string // member to its JSON; "" is absent
	}{
		{"at the root", sandbox.OAuthOptions{}, "/.well-known/oauth-authorization-server", map[string]string{
			"grant_types_supported":                 `["authorization_code","client_credentials"]`,
			"token_endpoint_auth_methods_supported": `["client_secret_basic","client_secret_post","private_key_jwt"]`,
			"scopes_supported":                      "",
		}},
		{"before the path", sandbox.OAuthOptions{Path: "/realms/x", Scopes: []string{"read"}}, "/.well-known/oauth-authorization-server/realms/x",
			map[string]string{"scopes_supported": `["read"]`}},
		{"after the path", sandbox.OAuthOptions{Path: "/realms/x", Metadata: sandbox.OpenID}, "/realms/x/.well-known/openid-configuration", nil},
		{"another issuer", sandbox.OAuthOptions{Issuer: "https://evil.example"}, "/.well-known/oauth-authorization-server",
			map[string]string{"issuer": `"https://evil.example"`}},
		{"no client credentials", sandbox.OAuthOptions{GrantTypes: []string{"authorization_code"}, Methods: []string{}}, "/.well-known/oauth-authorization-server",
			map[string]string{"grant_types_supported": `["authorization_code"]`, "token_endpoint_auth_methods_supported": ""}},
		{"unusual methods", sandbox.OAuthOptions{Methods: []string{"tls_client_auth", "none"}}, "/.well-known/oauth-authorization-server",
			map[string]string{"token_endpoint_auth_methods_supported": `["tls_client_auth","none"]`}},
		{"edited", sandbox.OAuthOptions{Edit: func(m map[string]any) { delete(m, "token_endpoint") }}, "/.well-known/oauth-authorization-server",
			map[string]string{"token_endpoint": ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := oauth(t, tt.opts)
			at := strings.TrimSuffix(o.Issuer(), tt.opts.Path) + tt.path
			if got := o.MetadataURL(); got != at {
				t.Errorf("MetadataURL() = %s, want %s", got, at)
			}
			a := do(t, request(t, "GET", at, ""))
			want := map[string]string{"issuer": `"` + o.Issuer() + `"`, "token_endpoint": `"` + o.TokenURL() + `"`}
			for name, value := range tt.want {
				want[name] = value
			}
			for name, value := range want {
				got, _ := json.Marshal(a.json[name])
				if _, there := a.json[name]; there != (value != "") || (value != "" && string(got) != value) {
					t.Errorf("%s = %s, want %s", name, got, value)
				}
			}
		})
	}
	o := oauth(t, sandbox.OAuthOptions{Metadata: sandbox.NoMetadata})
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", ""} {
		if a := do(t, request(t, "GET", o.Issuer()+path, "")); a.status != http.StatusNotFound || o.MetadataURL() != "" {
			t.Errorf("%q = %d, want 404", path, a.status)
		}
	}
}

func TestOAuthTokensAreVerifiableOrOpaque(t *testing.T) {
	o := oauth(t, sandbox.OAuthOptions{}, secretive())
	tok := postOAuth(t, o, oauthForm(), nil).str("access_token")
	if _, err := jwt.Parse(tok, keyFrom(t, do(t, request(t, "GET", o.Issuer()+"/jwks", ""))), jwt.WithIssuer(o.Issuer())); err != nil {
		t.Errorf("Parse = %v, want a valid token", err)
	}
	o.Revoke(tok)
	if _, ok := o.Introspect(tok); ok {
		t.Error("a revoked token is active")
	}
	w := world(t, sandbox.Options{})
	opaque := oauth(t, sandbox.OAuthOptions{World: w, Opaque: true, Lifetime: time.Minute}, secretive())
	tok = postOAuth(t, opaque, oauthForm(), nil).str("access_token")
	if _, ok := opaque.Introspect(tok); !ok || strings.Count(tok, ".") != 1 {
		t.Errorf("token %q is active = %t, want an opaque one", tok, ok)
	}
	w.Skew(time.Hour)
	if _, ok := opaque.Introspect(tok); ok {
		t.Error("an expired token is active")
	}
}

func TestOAuthCanFail(t *testing.T) {
	o := oauth(t, sandbox.OAuthOptions{}, secretive())
	var bodies []string
	o.Observe(func(r sandbox.TokenRequest) { bodies = append(bodies, r.Form.Get("grant_type")) })
	for kind, want := range map[sandbox.Fault]int{sandbox.Throttle: 429, sandbox.Outage: 503, sandbox.WrongSecret: 401, sandbox.Redirect: 307} {
		o.FailWith(sandbox.Failure{Kind: kind})
		if a := postOAuth(t, o, oauthForm(), nil); a.status != want {
			t.Errorf("%s = %d, want %d", kind, a.status, want)
		}
	}
	o.FailWith(sandbox.Failure{Kind: sandbox.NoExpiry, Times: 1})
	for i, there := range []bool{false, true} {
		if a := postOAuth(t, o, oauthForm(), nil); a.status != 200 || (a.json["expires_in"] != nil) != there {
			t.Errorf("call %d = %s, want expires_in %t", i+1, a.raw, there)
		}
	}
	o.Recover()
	if len(bodies) != 6 || bodies[0] != "client_credentials" {
		t.Errorf("observed = %q, want six requests", bodies)
	}
}

func TestOAuthSpeaksTLSInATLSWorld(t *testing.T) {
	w := world(t, sandbox.Options{TLS: true})
	o := oauth(t, sandbox.OAuthOptions{World: w}, secretive())
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(w.CAPEM())
	resp, err := trusting(pool).PostForm(o.TokenURL(), oauthForm())
	if err != nil {
		t.Fatal(err)
	}
	if a := read(t, resp); a.status != http.StatusOK || !strings.HasPrefix(o.Issuer(), "https://") {
		t.Errorf("%s = %d %s, want a token", o.Issuer(), a.status, a.raw)
	}
}

func TestOAuthRefusesUnusableOptionsAndClients(t *testing.T) {
	for _, path := range []string{"x", "/x/"} {
		if _, err := sandbox.StartOAuth(sandbox.OAuthOptions{Path: path}); err == nil {
			t.Errorf("StartOAuth(%q) = nil, want an error", path)
		}
	}
	o := oauth(t, sandbox.OAuthOptions{})
	for _, c := range []sandbox.OAuthClient{
		{Secrets: []string{"s"}}, {ID: "a"}, {ID: "a", Secrets: []string{""}}, {ID: "a", Secrets: []string{"s"}, Method: "none"},
	} {
		if err := o.AddClient(c); err == nil {
			t.Errorf("AddClient(%+v) = nil, want an error", c)
		}
	}
}

func FuzzOAuthRequest(f *testing.F) {
	_, public := assertionKeys(f)
	o := oauth(f, sandbox.OAuthOptions{Opaque: true}, secretive(), sandbox.OAuthClient{ID: "keyed", Keys: public})
	f.Add(oauthForm("scope", "a b", "resource", "https://x#y").Encode(), "", "")
	f.Add(proofForm("eyJhbGciOiJQUzI1NiIsImtpZCI6InJzYSJ9.eyJzdWIiOiJrZXllZCJ9.AA").Encode(), "", "")
	f.Add("grant_type=client_credentials&a=%zz", "gate+way%3A1", "%")
	f.Fuzz(func(t *testing.T, body, user, password string) {
		r := request(t, "POST", o.TokenURL(), body)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if user != "" {
			r.SetBasicAuth(user, password)
		}
		if a := do(t, r); (a.status == 200) != (a.str("access_token") != "") || (a.status != 200 && a.str("error") == "") {
			t.Errorf("body %q = %d %q, want a token or an error", body, a.status, a.raw)
		}
	})
}

func ExampleStartOAuth() {
	o, err := sandbox.StartOAuth(sandbox.OAuthOptions{Path: "/realms/x"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer o.Close()
	err = o.AddClient(sandbox.OAuthClient{ID: "gateway", Secrets: []string{"s3cret"}, Method: sandbox.SecretBasic})
	fmt.Println(strings.HasSuffix(o.MetadataURL(), "/.well-known/oauth-authorization-server/realms/x"), err)
	// Output: true <nil>
}
