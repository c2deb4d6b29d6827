package authority_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
)

// server is a token endpoint whose answers a test writes. Unlike endpoint it
// may be asked by many at once.
type server struct {
	*httptest.Server
	mu    sync.Mutex // guards forms
	forms []url.Values
}

// serve starts a server. answer may be nil for a good token.
func serve(t testing.TB, answer http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(s.record(answer))
	t.Cleanup(s.Close)
	return s
}

func (s *server) record(answer http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(raw))
		s.mu.Lock()
		s.forms = append(s.forms, form)
		s.mu.Unlock()
		if answer == nil {
			_, _ = io.WriteString(w, good)
			return
		}
		answer(w, r)
	})
}

// sent returns the forms that arrived so far.
func (s *server) sent() []url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]url.Values(nil), s.forms...)
}

// says answers with a status and a text.
func says(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

// file puts content into a new file.
func file(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	overwrite(t, path, content)
	return path
}

func overwrite(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// loaded is a directory of creds, none of which gave a finding.
func loaded(t testing.TB, creds ...*routes.Credential) *authority.Directory {
	t.Helper()
	d := authority.NewDirectory(authority.Options{Version: "1.2.3"})
	for _, f := range d.Replace(creds) {
		t.Fatalf("finding: %+v", f)
	}
	return d
}

const graphScope = "https://graph.microsoft.com/.default"

// succeeds sees that c gets a token.
func succeeds(t testing.TB, d *authority.Directory, c *routes.Credential) {
	t.Helper()
	if _, err := d.Acquire(t.Context(), d.Key(c, graphScope), ""); err != nil {
		t.Fatal(err)
	}
}

// fails returns the Error that there must be, having looked for secrets in it.
func fails(t testing.TB, d *authority.Directory, c *routes.Credential) *authority.Error {
	t.Helper()
	token, err := d.Acquire(t.Context(), d.Key(c, graphScope), "")
	var e *authority.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is a %T: %v; want *authority.Error", err, err)
	}
	if !token.Access.IsZero() {
		t.Error("a token beside an error")
	}
	all, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{e.Error(), e.Explain(), string(all)} {
		for _, bad := range []string{"m4rker", "s3cret", url.QueryEscape(marker), base64.StdEncoding.EncodeToString([]byte(marker)), "eyJhbGci"} {
			if strings.Contains(text, bad) {
				t.Errorf("%q is in %q", bad, text)
			}
		}
	}
	return e
}

// condition is the status of a directory's only credential.
func condition(t testing.TB, d *authority.Directory) authority.Status {
	t.Helper()
	all := d.Status()
	if len(all) != 1 {
		t.Fatalf("statuses = %d, want 1", len(all))
	}
	return all[0]
}

// pair is a key and a certificate for it.
type pair struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func (p pair) certPEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw}))
}

func (p pair) keyPEM(t testing.TB) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func (p pair) both(t testing.TB) string {
	t.Helper()
	return p.certPEM() + p.keyPEM(t)
}

func newRSA(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newEC(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certify signs a certificate for key by itself, valid from and to around now.
func certify(t testing.TB, key crypto.Signer, from, to time.Duration) pair {
	t.Helper()
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "reports"},
		NotBefore: now.Add(from), NotAfter: now.Add(to),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return pair{key, cert}
}

// kubernetes is a federated token that nobody verifies.
func kubernetes(t testing.TB, expiresIn time.Duration, id string) string {
	t.Helper()
	payload, err := json.Marshal(map[string]any{
		"iss": "https://oidc.example/7c1f/", "sub": "system:serviceaccount:shop:orders",
		"aud": []string{"api://AzureADTokenExchange"}, "exp": time.Now().Add(expiresIn).Unix(), "jti": id,
	})
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return b64([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + b64(payload) + "." + b64([]byte("signature"))
}
