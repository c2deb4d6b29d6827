package authority_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

const marker = "m4rker%&+: é-s3cret-value"

// seen is a token request as the endpoint got it.
type seen struct {
	form   url.Values
	header http.Header
	user   string
	pass   string
}

// endpoint answers every token request with status, header and body.
func endpoint(t testing.TB, status int, header map[string]string, body string) (string, *[]seen) {
	t.Helper()
	var got []seen
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		form, err := url.ParseQuery(string(raw))
		if err != nil {
			t.Errorf("form %q: %v", raw, err)
		}
		user, pass, _ := r.BasicAuth()
		got = append(got, seen{form, r.Header, user, pass})
		for k, v := range header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, &got
}

const good = `{"token_type":"Bearer","expires_in":3599,"access_token":"abc.def.ghi"}`

func secretFile(t testing.TB, content string) secrets.Ref {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return secrets.Ref{File: path}
}

func entra(t testing.TB, host string) *routes.Credential {
	t.Helper()
	return &routes.Credential{
		Name: "c", TenantID: "contoso.test", Cloud: "public", AuthorityHost: host, ClientID: "client-1",
		ClientSecret: secretFile(t, marker+"\n"), AuthMethod: "client_secret_post",
	}
}

func acquire(t testing.TB, c *routes.Credential, scope string) (tokens.Token, *authority.Error) {
	t.Helper()
	d := authority.NewDirectory(authority.Options{})
	d.Replace([]*routes.Credential{c})
	defer d.Replace(nil) // which closes its connections: a fuzzer has a directory for each input
	tok, err := d.Acquire(context.Background(), d.Key(c, scope), "")
	var refused *authority.Error
	if err != nil && !errors.As(err, &refused) {
		t.Fatalf("error of type %T: %v", err, err)
	}
	if refused != nil {
		for _, text := range []string{refused.Error(), refused.Explain(), fmt.Sprintf("%+v", *refused)} {
			if strings.Contains(text, "m4rker") {
				t.Errorf("the error shows the secret: %s", text)
			}
		}
	}
	return tok, refused
}

func TestSecretIsPostedAsEntraWantsIt(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	host, got := endpoint(t, 200, nil, good)
	tok, err := acquire(t, entra(t, host), "https://database.windows.net//.default")
	if err != nil || tok.Access.Reveal() != "abc.def.ghi" {
		t.Fatalf("Acquire = %v", err)
	}
	if left := time.Until(tok.Expires); left < 3590*time.Second || left > 3600*time.Second {
		t.Errorf("expires in %v, want 3599 s", left)
	}
	r := (*got)[0]
	want := url.Values{"grant_type": {"client_credentials"}, "client_id": {"client-1"}, "client_secret": {marker}, "scope": {"https://database.windows.net//.default"}}
	if r.form.Encode() != want.Encode() {
		t.Errorf("form = %v, want %v", r.form, want)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/x-www-form-urlencoded;charset=utf-8", "Accept": "application/json",
		"Return-Client-Request-Id": "true", "X-Ms-Lib-Capability": "retry-after, h429",
	} {
		if r.header.Get(name) != value {
			t.Errorf("%s = %q, want %q", name, r.header.Get(name), value)
		}
	}
	if r.header.Get("Client-Request-Id") == "" {
		t.Error("no client-request-id")
	}
}

func TestBasicEncodesBothHalves(t *testing.T) {
	host, got := endpoint(t, 200, nil, good)
	c := &routes.Credential{Name: "c", TokenEndpoint: host + "/token", ClientID: "id:with/odd&chars", ClientSecret: secretFile(t, marker),
		AuthMethod: "client_secret_basic", TokenParams: []routes.Param{{Name: "audience", Value: "https://api"}}}
	if _, err := acquire(t, c, ""); err != nil {
		t.Fatal(err)
	}
	r := (*got)[0]
	user, _ := url.QueryUnescape(r.user)
	pass, _ := url.QueryUnescape(r.pass)
	if user != c.ClientID || pass != marker {
		t.Errorf("Basic = %q, %q; want both halves form-encoded (RFC 6749 §2.3.1)", r.user, r.pass)
	}
	if r.form.Encode() != "audience=https%3A%2F%2Fapi&grant_type=client_credentials" {
		t.Errorf("form = %v; want no client_id, no scope", r.form)
	}
}

func certificate(t testing.TB, bits int, notAfter time.Time) (path string, leaf *x509.Certificate) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app"}, NotBefore: notAfter.Add(-365 * 24 * time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(crypto.PrivateKey(key))
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "app.pem")
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	leaf, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return path, leaf
}

func TestCertificateAssertionIsWhatEntraVerifies(t *testing.T) {
	host, got := endpoint(t, 200, nil, good)
	path, leaf := certificate(t, 2048, time.Now().Add(90*24*time.Hour))
	c := entra(t, host)
	c.ClientSecret, c.ClientCertificate = secrets.Ref{}, &routes.Certificate{File: path}
	if _, err := acquire(t, c, "a/.default"); err != nil {
		t.Fatal(err)
	}
	form := (*got)[0].form
	claims := jwt.MapClaims{}
	tok, err := jwt.ParseWithClaims(form.Get("client_assertion"), claims, func(*jwt.Token) (any, error) { return leaf.PublicKey, nil }, jwt.WithValidMethods([]string{"PS256"}))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(leaf.Raw)
	if tok.Header["x5t#S256"] != base64.RawURLEncoding.EncodeToString(sum[:]) || tok.Header["typ"] != "JWT" {
		t.Errorf("header = %v", tok.Header)
	}
	if claims["aud"] != host+"/contoso.test/oauth2/v2.0/token" || claims["iss"] != "client-1" || claims["sub"] != "client-1" || claims["jti"] == "" {
		t.Errorf("claims = %v; aud must be one string, the endpoint", claims)
	}
	if claims["exp"].(float64)-claims["nbf"].(float64) != 600 {
		t.Errorf("lives from %v to %v, want 600 s", claims["nbf"], claims["exp"])
	}
	if form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || form.Has("client_secret") {
		t.Errorf("form = %v", form)
	}
}

func TestUnusableCredentialIsNotReadyAndNothingIsSent(t *testing.T) {
	expired, _ := certificate(t, 2048, time.Now().Add(-time.Hour))
	stale, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"exp": time.Now().Add(-3 * time.Minute).Unix(), "iss": "i", "sub": "s", "aud": "a"}).SignedString([]byte("k"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		change func(c *routes.Credential)
		want   string
	}{
		"missing secret": {func(c *routes.Credential) { c.ClientSecret = secrets.Ref{File: "/nonexistent/secret"} }, "no such file"},
		"empty secret":   {func(c *routes.Credential) { c.ClientSecret = secretFile(t, "\n") }, "empty"},
		"expired certificate": {func(c *routes.Credential) {
			c.ClientSecret, c.ClientCertificate = secrets.Ref{}, &routes.Certificate{File: expired}
		}, "expired"},
		"stale federated token": {func(c *routes.Credential) {
			c.ClientSecret, c.FederatedToken = secrets.Ref{}, &routes.FederatedToken{File: secretFile(t, stale).File}
		}, "stale"},
		"no JWT": {func(c *routes.Credential) {
			c.ClientSecret, c.FederatedToken = secrets.Ref{}, &routes.FederatedToken{File: secretFile(t, "not a token").File}
		}, "JWT"},
		"incomplete environment": {func(c *routes.Credential) { c.Missing = "AZURE_TENANT_ID is not set" }, "AZURE_TENANT_ID"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			host, got := endpoint(t, 200, nil, good)
			c := entra(t, host)
			tt.change(c)
			_, refused := acquire(t, c, "a/.default")
			if refused == nil || !refused.Refused() || !strings.Contains(refused.Explain(), tt.want) {
				t.Errorf("error = %v, want a refusal that says %q", refused, tt.want)
			}
			if len(*got) != 0 {
				t.Error("something was sent")
			}
		})
	}
}

func TestOddAnswersAreErrors(t *testing.T) {
	for name, body := range map[string]string{
		"HTML": "<html><body>Sign in</body></html>", "empty": "", "error in 200": `{"error":"invalid_client"}`,
		"2 MiB": `{"access_token":"` + strings.Repeat("x", 2<<20) + `","token_type":"Bearer"}`, "newline": `{"token_type":"Bearer","access_token":"a\nb","expires_in":60}`,
		"array": `[1,2]`, "no token": `{"token_type":"Bearer","expires_in":60}`, "other type": `{"token_type":"mac","access_token":"abc","expires_in":60}`,
		"zero": `{"token_type":"Bearer","access_token":"abc","expires_in":0}`, "huge": `{"token_type":"Bearer","access_token":"abc","expires_in":99999999999}`,
		"truncated": `{"access_token":"ab`,
	} {
		t.Run(name, func(t *testing.T) {
			host, _ := endpoint(t, 200, nil, body)
			if tok, err := acquire(t, entra(t, host), "a/.default"); err == nil {
				t.Errorf("took %d bytes for a token", len(tok.Access.Reveal()))
			}
		})
	}
	host, _ := endpoint(t, 200, nil, `{"token_type":"bearer","access_token":"abc"}`)
	tok, err := acquire(t, entra(t, host), "a/.default")
	if left := time.Until(tok.Expires); err != nil || left > 5*time.Minute || left < 4*time.Minute {
		t.Errorf("without expires_in: %v, %v; want five minutes", left, err)
	}
}

func TestRefusalsAreClassed(t *testing.T) {
	tests := map[string]struct {
		status int
		header map[string]string
		body   string
		want   tokens.Failure
		aadsts int
	}{
		"wrong secret":    {401, nil, `{"error":"invalid_client","error_description":"AADSTS7000215: bad","error_codes":[7000215]}`, tokens.Failure{Nature: tokens.Refused, Reach: tokens.ReachCredential}, 7000215},
		"unknown app":     {400, nil, `{"error":"unauthorized_client","error_description":"AADSTS700016: x"}`, tokens.Failure{Nature: tokens.Propagating}, 700016},
		"bad scope":       {400, nil, `{"error":"invalid_scope","error_codes":[70011]}`, tokens.Failure{Nature: tokens.Refused}, 70011},
		"throttled":       {429, map[string]string{"Retry-After": "17"}, "Too Many Requests", tokens.Failure{Nature: tokens.Throttled, Reach: tokens.ReachCredential, Wait: 17 * time.Second}, 0},
		"throttled, mute": {429, nil, "Too Many Requests", tokens.Failure{Nature: tokens.Throttled, Reach: tokens.ReachCredential, Wait: time.Minute}, 0},
		"busy":            {503, map[string]string{"Retry-After": "9999999"}, "<html>", tokens.Failure{Nature: tokens.Throttled, Reach: tokens.ReachCredential, Wait: time.Hour}, 0},
		"down":            {500, nil, "<html>", tokens.Failure{Nature: tokens.Transient}, 0},
		"redirect":        {302, map[string]string{"Location": "https://elsewhere.test/"}, "", tokens.Failure{Nature: tokens.Transient}, 0},
		"loop":            {400, nil, `{"error":"invalid_grant","error_codes":[50196]}`, tokens.Failure{Nature: tokens.Throttled, Reach: tokens.ReachCredential, Wait: time.Minute}, 50196},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			host, got := endpoint(t, tt.status, tt.header, tt.body)
			_, err := acquire(t, entra(t, host), "a/.default")
			if err == nil || err.Failure() != tt.want || err.AADSTS != tt.aadsts || err.Remedy == "" {
				t.Errorf("failure = %+v, AADSTS %d, remedy %q; want %+v, %d and a remedy", err.Failure(), err.AADSTS, err.Remedy, tt.want, tt.aadsts)
			}
			if len(*got) != 1 {
				t.Errorf("%d requests, want 1", len(*got))
			}
		})
	}
}

func TestReplaceKeepsTheLastGoodSecretAndFollowsANewOne(t *testing.T) {
	host, got := endpoint(t, 200, nil, good)
	c := entra(t, host)
	d := authority.NewDirectory(authority.Options{})
	d.Replace([]*routes.Credential{c})
	first := d.Key(c, "a/.default")
	if err := os.Remove(c.ClientSecret.File); err != nil {
		t.Fatal(err)
	}
	findings := d.Replace([]*routes.Credential{c})
	if len(findings) == 0 || !findings[0].Alarm || d.Key(c, "a/.default") != first {
		t.Errorf("findings = %+v; want an alarm and the same key", findings)
	}
	if err := os.WriteFile(c.ClientSecret.File, []byte("00001111-aaaa-2222-bbbb-3333cccc4444"), 0o600); err != nil {
		t.Fatal(err)
	}
	findings = d.Replace([]*routes.Credential{c})
	if len(findings) == 0 || !strings.Contains(findings[0].Message, "GUID") && !strings.Contains(findings[0].Message, "ID") || d.Key(c, "a/.default") == first {
		t.Errorf("findings = %+v; want a warning of a secret ID and another key", findings)
	}
	if _, err := d.Acquire(context.Background(), d.Key(c, "a/.default"), ""); err != nil || (*got)[0].form.Get("client_secret") != "00001111-aaaa-2222-bbbb-3333cccc4444" {
		t.Errorf("Acquire = %v, sent the old secret", err)
	}
}
