package sandbox_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // x5t
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// keyFrom returns the key function of a published key set.
func keyFrom(t testing.TB, doc answer) jwt.Keyfunc {
	t.Helper()
	var set struct {
		Keys []struct{ Kid, Kty, N, E string }
	}
	if err := json.Unmarshal(doc.raw, &set); err != nil || len(set.Keys) == 0 {
		t.Fatalf("key set = %d %s", doc.status, doc.raw)
	}
	k := set.Keys[0]
	n, errN := base64.RawURLEncoding.DecodeString(k.N)
	e, errE := base64.RawURLEncoding.DecodeString(k.E)
	if errN != nil || errE != nil || k.Kty != "RSA" {
		t.Fatalf("key = %+v", k)
	}
	return func(tok *jwt.Token) (any, error) {
		if tok.Header["kid"] != k.Kid {
			return nil, jwt.ErrTokenUnverifiable
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
	}
}

// identity is a key with its certificate.
type identity struct {
	key  *rsa.PrivateKey
	cert *x509.Certificate
}

func newIdentity(t testing.TB, notAfter time.Time) identity {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return identity{key: key, cert: certify(t, key, notAfter)}
}

// certify makes a self-signed certificate for key.
func certify(t testing.TB, key *rsa.PrivateKey, notAfter time.Time) *x509.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "app"},
		NotBefore: notAfter.Add(-48 * time.Hour), NotAfter: notAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// draft is an assertion before it is signed, right unless changed.
type draft struct {
	method jwt.SigningMethod
	header map[string]any
	claims jwt.MapClaims
	key    *rsa.PrivateKey
}

func (i identity) draft(w *sandbox.World) *draft {
	sum := sha256.Sum256(i.cert.Raw)
	now := time.Now()
	return &draft{
		method: jwt.SigningMethodPS256, key: i.key,
		header: map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])},
		claims: jwt.MapClaims{
			"aud": w.Entra.TokenURL(sandbox.TenantID), "iss": sandbox.ClientID, "sub": sandbox.ClientID,
			"jti": uuid.NewString(), "nbf": now.Unix(), "iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
		},
	}
}

func (d *draft) sign(t testing.TB) string {
	t.Helper()
	tok := jwt.NewWithClaims(d.method, d.claims)
	for k, v := range d.header {
		tok.Header[k] = v
	}
	raw, err := tok.SignedString(d.key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// present sends an assertion for the app that is there from the start.
func present(t testing.TB, w *sandbox.World, assertion string) answer {
	t.Helper()
	return post(t, w, sandbox.TenantID, url.Values{
		"grant_type": {"client_credentials"}, "client_id": {sandbox.ClientID}, "scope": {graphScope},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {assertion},
	})
}

// assertionCase is one change to a right assertion and what it gets.
type assertionCase struct {
	name   string
	change func(*draft)
	code   int // 0: a token
}

func assertionCases(w *sandbox.World, by identity, other *rsa.PrivateKey) []assertionCase {
	sum1, sum256 := sha1.Sum(by.cert.Raw), sha256.Sum256(by.cert.Raw) //nolint:gosec // x5t
	endpoint := w.Entra.TokenURL(sandbox.TenantID)
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	return []assertionCase{
		{"PS256 and x5t#S256", func(*draft) {}, 0},
		{"thumbprint as MSAL Go writes it", func(d *draft) {
			d.header["x5t#S256"] = base64.StdEncoding.EncodeToString(sum256[:])
		}, 0},
		{"RS256 and x5t", func(d *draft) {
			d.method, d.header = jwt.SigningMethodRS256, map[string]any{"x5t": base64.RawURLEncoding.EncodeToString(sum1[:])}
		}, 0},
		{"dates as strings", func(d *draft) { d.claims["exp"] = "99999999999" }, 0},
		{"RS256 under x5t#S256", func(d *draft) { d.method = jwt.SigningMethodRS256 }, 50027},
		{"PS384", func(d *draft) { d.method = jwt.SigningMethodPS384 }, 50027},
		{"no thumbprint", func(d *draft) { d.header = nil }, 5002723},
		{"another key", func(d *draft) { d.key = other }, 700027},
		{"audience of another tenant name", func(d *draft) { d.claims["aud"] = w.Entra.TokenURL(sandbox.TenantDomain) }, 700023},
		{"audience as a list", func(d *draft) { d.claims["aud"] = []string{endpoint} }, 700023},
		{"issuer is not subject", func(d *draft) { d.claims["sub"] = "someone" }, 50048},
		{"another app", func(d *draft) { d.claims["iss"], d.claims["sub"] = sandbox.TenantID, sandbox.TenantID }, 700021},
		{"expired", func(d *draft) { d.claims["exp"] = in(-time.Second) }, 700024},
		{"not yet valid", func(d *draft) { d.claims["nbf"] = in(time.Hour) }, 700024},
		{"no exp", func(d *draft) { delete(d.claims, "exp") }, 50027},
		{"no jti", func(d *draft) { delete(d.claims, "jti") }, 50027},
	}
}

// withCertificate starts a World whose app has i's certificate.
func withCertificate(t *testing.T, i identity) *sandbox.World {
	t.Helper()
	w := world(t, sandbox.Options{})
	if err := w.Entra.AddCertificate(sandbox.ClientID, i.cert); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestCertificateAssertionsAreVerified(t *testing.T) {
	good, other := newIdentity(t, time.Now().Add(24*time.Hour)), newIdentity(t, time.Now().Add(24*time.Hour))
	w := withCertificate(t, good)
	for _, tt := range assertionCases(w, good, other.key) {
		t.Run(tt.name, func(t *testing.T) {
			d := good.draft(w)
			tt.change(d)
			a := present(t, w, d.sign(t))
			if a.code() != tt.code || (tt.code == 0) != (a.status == http.StatusOK) {
				t.Errorf("answer = %d %s, want AADSTS%d", a.status, a.raw, tt.code)
			}
			if tt.code != 0 && a.str("error") != "invalid_client" {
				t.Errorf("error = %q, want invalid_client", a.str("error"))
			}
		})
	}
}

func TestCertificateMustBeRegisteredAndCurrent(t *testing.T) {
	good := newIdentity(t, time.Now().Add(24*time.Hour))
	old := identity{key: good.key, cert: certify(t, good.key, time.Now().Add(-time.Hour))}
	w := withCertificate(t, old)
	if a := present(t, w, old.draft(w).sign(t)); a.code() != 1000502 {
		t.Errorf("expired certificate: %d %s, want AADSTS1000502", a.status, a.raw)
	}
	if a := present(t, w, good.draft(w).sign(t)); a.code() != 700027 {
		t.Errorf("unregistered certificate: %d %s, want AADSTS700027", a.status, a.raw)
	}
	if err := w.Entra.AddCertificate(sandbox.ClientID, good.cert); err != nil {
		t.Fatal(err)
	}
	if a := present(t, w, good.draft(w).sign(t)); a.status != http.StatusOK {
		t.Errorf("registered: %d %s, want a token", a.status, a.raw)
	}
	if err := w.Entra.RemoveCertificate(sandbox.ClientID, good.cert); err != nil {
		t.Fatal(err)
	}
	if a := present(t, w, good.draft(w).sign(t)); a.code() != 700027 {
		t.Errorf("removed: %d %s, want AADSTS700027", a.status, a.raw)
	}
}

func TestAssertionIsGoodOnce(t *testing.T) {
	good := newIdentity(t, time.Now().Add(24*time.Hour))
	w := withCertificate(t, good)
	raw := good.draft(w).sign(t)
	if a := present(t, w, raw); a.status != http.StatusOK || claimsOf(t, a.str("access_token"))["appidacr"] != "2" {
		t.Errorf("first: %d %s, want a token with appidacr 2", a.status, a.raw)
	}
	if a := present(t, w, raw); a.code() != 50013 {
		t.Errorf("second: %d %s, want AADSTS50013", a.status, a.raw)
	}
	if a := present(t, w, "hello"); a.code() != 50027 {
		t.Errorf("no JWT: %d %s, want AADSTS50027", a.status, a.raw)
	}
}

func TestFederatedAssertions(t *testing.T) {
	w := world(t, sandbox.Options{})
	const sub = "system:serviceaccount:prod:Reports"
	iss := w.Issuer.URL()
	mint := func(sub, aud string, ttl time.Duration) string {
		raw, err := w.FederatedToken(sub, aud, ttl)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	good := mint(sub, sandbox.TokenExchangeAudience, time.Hour)
	if a := present(t, w, good); a.code() != 70021 {
		t.Errorf("with nothing registered: %d %s, want AADSTS70021", a.status, a.raw)
	}
	register := func(f sandbox.Federated) {
		if err := w.Entra.AddFederated(sandbox.ClientID, f); err != nil {
			t.Fatal(err)
		}
	}
	register(sandbox.Federated{Issuer: "HTTP" + strings.TrimPrefix(iss, "http"), Subject: sub})
	if a := present(t, w, good); a.code() != 7002137 {
		t.Errorf("issuer in other case: %d %s, want AADSTS7002137", a.status, a.raw)
	}
	register(sandbox.Federated{Issuer: iss, Subject: sub})
	tampered := good[:len(good)-8] + "AAAAAAAA"
	for _, tt := range []struct {
		name, raw string
		code      int
	}{
		{"right", good, 0},
		{"right, once more: kubelet's file is used for an hour", good, 0},
		{"subject in other case", mint(strings.ToLower(sub), sandbox.TokenExchangeAudience, time.Hour), 7002138},
		{"subject", mint("someone", sandbox.TokenExchangeAudience, time.Hour), 700213},
		{"audience", mint(sub, "api://other", time.Hour), 700212},
		{"expired", mint(sub, sandbox.TokenExchangeAudience, -time.Minute), 700024},
		{"tampered", tampered, 700027},
	} {
		if a := present(t, w, tt.raw); a.code() != tt.code || (tt.code == 0) != (a.status == http.StatusOK) {
			t.Errorf("%s: %d %s, want AADSTS%d", tt.name, a.status, a.raw, tt.code)
		}
	}
}

func TestFederatedIssuerMustBeKnownAndReachable(t *testing.T) {
	w := world(t, sandbox.Options{})
	stranger := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(stranger.Close)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": stranger.URL, "sub": "s", "aud": sandbox.TokenExchangeAudience, "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: w.Issuer.URL(), Subject: "s"}); err != nil {
		t.Fatal(err)
	}
	if a := present(t, w, raw); a.code() != 700211 {
		t.Errorf("unknown issuer: %d %s, want AADSTS700211", a.status, a.raw)
	}
	if err := w.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: stranger.URL, Subject: "s"}); err != nil {
		t.Fatal(err)
	}
	if a := present(t, w, raw); a.code() != 50166 {
		t.Errorf("issuer without documents: %d %s, want AADSTS50166", a.status, a.raw)
	}
}

func TestFederationWorksOverTLS(t *testing.T) {
	w := world(t, sandbox.Options{TLS: true})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(w.CAPEM())
	if err := w.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: w.Issuer.URL(), Subject: "s"}); err != nil {
		t.Fatal(err)
	}
	raw, err := w.FederatedToken("s", sandbox.TokenExchangeAudience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := trusting(pool).PostForm(w.Entra.TokenURL(sandbox.TenantID), url.Values{
		"grant_type": {"client_credentials"}, "client_id": {sandbox.ClientID}, "scope": {graphScope},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {raw},
	})
	if err != nil {
		t.Fatal(err)
	}
	if a := read(t, resp); a.status != http.StatusOK {
		t.Errorf("answer = %d %s, want a token", a.status, a.raw)
	}
}

func ExampleWorld_FederatedToken() {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer w.Close()
	err = w.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: w.Issuer.URL(), Subject: "job"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	// What a platform would put into AZURE_FEDERATED_TOKEN_FILE.
	assertion, err := w.FederatedToken("job", sandbox.TokenExchangeAudience, time.Hour)
	fmt.Println(strings.Count(assertion, "."), err)
	// Output: 2 <nil>
}
