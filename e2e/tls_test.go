package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// caller makes a client's certificate.
func (a *authority) caller(t testing.TB, serial int64) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, cert := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "caller"}, DNSNames: []string{"billing.corp.test"},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a, key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// newClientAuthority is one that may sign revocation lists.
func newClientAuthority(t testing.TB) *authority {
	t.Helper()
	a := newAuthority(t)
	template := *a.cert
	template.KeyUsage |= x509.KeyUsageCRLSign
	template.SubjectKeyId = []byte{1, 2, 3, 4}
	a.pem, a.cert = sign(t, &template, a, a.key)
	return a
}

// list makes a revocation list, the number of which tells how new it is.
func (a *authority) list(t testing.TB, number int64, revoked ...int64) string {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, serial := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// withTLS is a gateway with a certificate of ca's from files, and what else
// the section holds.
func withTLS(t testing.TB, w *sandbox.World, ca *authority, more string) setup {
	t.Helper()
	s := graphSetup(w, "")
	s.Config = strings.Replace(s.Config, `admin: "127.0.0.1:0"}`, `admin: "127.0.0.1:0", tls: {certificate_file: tls.pem, key_file: tls.key`+more+`}}`, 1)
	s.Files["tls.pem"], s.Files["tls.key"] = ca.server(t)
	return s
}

// trusting makes a client that trusts ca and may show a certificate.
func trusting(t testing.TB, ca *authority, shows *tls.Certificate) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	conf := &tls.Config{RootCAs: pool, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	if shows != nil {
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return shows, nil }
	}
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Timeout: patience, Transport: tr}
}

func (g *gateway) secureURL(path string) string { return "https://" + g.proxy + path }

func TestBothDoorsAreServedOverTLSOfOurOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	ca := newAuthority(t)
	g := start(t, withTLS(t, w, ca, ""))
	g.ready(t)
	if !strings.Contains(g.stderr.String(), "curl https://"+g.proxy) {
		t.Errorf("the greeting shows no https address:\n%s", &g.stderr)
	}
	root := filepath.Join(t.TempDir(), "root.pem")
	write(t, root, ca.pem)
	for name, args := range map[string][]string{
		"reverse, either":   {"--http2", "--cacert", root, "-w", "%{http_version}", g.secureURL("/graph/v1.0/users")},
		"reverse, HTTP/1.1": {"--http1.1", "--cacert", root, "-w", "%{http_version}", g.secureURL("/graph/v1.0/users")},
		"forward":           {"--proxy-cacert", root, "-x", "https://" + g.proxy, "-w", "%{http_version}", "http://graph.microsoft.com/v1.0/users"},
	} {
		cmd := exec.CommandContext(t.Context(), "curl", append([]string{"-sS", "--max-time", "20"}, args...)...)
		cmd.Env = bareEnvironment()
		out, err := cmd.CombinedOutput()
		const want = "1.1"
		if err != nil || !strings.Contains(string(out), "displayName") || !strings.HasSuffix(string(out), want) {
			t.Errorf("%s: curl: %v, %.400s; want users by HTTP/%s", name, err, out, want)
		}
	}
	plain := must(t, g.client, request{url: g.url("/graph/v1.0/users")})
	if plain.status == http.StatusOK {
		t.Error("the TLS port answers without TLS")
	}
	noneBare(t, w)
}

func TestCertificateFilesAreFollowedUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	ca, next := newAuthority(t), newAuthority(t)
	g := start(t, withTLS(t, w, ca, ""))
	g.ready(t)
	kept := trusting(t, ca, nil)
	users := request{url: g.secureURL("/graph/v1.0/users")}
	serving := func() {
		if a := must(t, kept, users); a.status != http.StatusOK {
			t.Fatalf("over the open connection: status %d: %.300s", a.status, a.body)
		}
	}
	serving()
	certPEM, keyPEM := next.server(t)
	replaceFile(t, filepath.Join(g.dir, "tls.pem"), certPEM)
	eventually(t, "the log tells of half a pair", func() bool {
		serving()
		return strings.Contains(g.stdout.String(), "no pair")
	})
	if a := must(t, trusting(t, ca, nil), users); a.status != http.StatusOK {
		t.Errorf("half a pair: status %d, want the old certificate and 200", a.status)
	}
	replaceFile(t, filepath.Join(g.dir, "tls.key"), keyPEM)
	eventually(t, "the new certificate is shown", func() bool {
		serving()
		a, err := call(t.Context(), trusting(t, next, nil), users)
		return err == nil && a.status == http.StatusOK
	})
	serving()
}

func TestRevokedClientCertificateIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	ca, clients := newAuthority(t), newClientAuthority(t)
	s := withTLS(t, w, ca, ", client_ca_file: clients.pem, client_crl_file: clients.crl")
	s.Files["clients.pem"], s.Files["clients.crl"] = clients.pem, clients.list(t, 1)
	g := start(t, s)
	g.ready(t)
	good, bad, strange := clients.caller(t, 71), clients.caller(t, 72), newClientAuthority(t).caller(t, 73)
	users := request{url: g.secureURL("/graph/v1.0/users")}
	for name, c := range map[string]*http.Client{"good": trusting(t, ca, &good), "bad": trusting(t, ca, &bad), "none": trusting(t, ca, nil)} {
		if a := must(t, c, users); a.status != http.StatusOK {
			t.Errorf("%s: status %d: %.300s", name, a.status, a.body)
		}
	}
	if _, err := call(t.Context(), trusting(t, ca, &strange), users); err == nil {
		t.Error("a certificate of an unknown CA was taken")
	}
	// Newer by a second, as lists are dated.
	replaceFile(t, filepath.Join(g.dir, "clients.crl"), clients.list(t, 2, 72))
	resumed := trusting(t, ca, &bad)
	eventually(t, "the revoked certificate is refused", func() bool {
		_, err := call(t.Context(), resumed, users)
		resumed.CloseIdleConnections()
		return err != nil
	})
	eventually(t, "the log says why", func() bool { return strings.Contains(g.stdout.String(), "was revoked") })
	if a := must(t, trusting(t, ca, &good), users); a.status != http.StatusOK {
		t.Errorf("the other certificate: status %d", a.status)
	}
	replaceFile(t, filepath.Join(g.dir, "clients.crl"), "gone wrong")
	eventually(t, "the log tells of the damaged list", func() bool { return strings.Contains(g.stdout.String(), "no revocation list") })
	if _, err := call(t.Context(), trusting(t, ca, &bad), users); err == nil {
		t.Error("a damaged list let the revoked certificate in")
	}
}

// CVE-2026-27586: where the CA file could not be read, Caddy served all the
// same, and believed the system's roots.
func TestCVE202627586MissingClientCARefusesToStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	clients := newClientAuthority(t)
	for want, more := range map[string]string{
		"client_ca_file":  ", client_ca_file: none.pem",
		"client_crl_file": ", client_ca_file: clients.pem, client_crl_file: none.crl",
	} {
		s := withTLS(t, w, newAuthority(t), more)
		s.Files["clients.pem"] = clients.pem
		dir := t.TempDir()
		for name, text := range s.Files {
			write(t, filepath.Join(dir, name), text)
		}
		write(t, filepath.Join(dir, "routes.yaml"), s.Config)
		cmd := exec.CommandContext(t.Context(), tool("gateway"), "serve", "--config", filepath.Join(dir, "routes.yaml"))
		cmd.Env = bareEnvironment()
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "refusing to start") || !strings.Contains(string(out), want) {
			t.Errorf("gateway serve: %v\n%s\nwant a refusal that names %s", err, out, fmt.Sprint(want))
		}
	}
}

// The words: a revoked certificate is refused, the reason in the log
// and not in the answer. A connection that was open before is no way around it.
func TestRevokedCallerIsNobodyOnItsOpenConnectionToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	ca, clients := newAuthority(t), newClientAuthority(t)
	s := withTLS(t, w, ca, ", client_ca_file: clients.pem, client_crl_file: clients.crl")
	s.Config = strings.Replace(s.Config, "credentials:\n", "callers:\n  billing: {client_certificate: {dns_san: billing.corp.test}}\ncredentials:\n", 1)
	s.Files["clients.pem"], s.Files["clients.crl"] = clients.pem, clients.list(t, 1)
	g := start(t, s)
	g.ready(t)
	cert := clients.caller(t, 81)
	users := request{url: g.secureURL("/graph/v1.0/users")}
	refused(t, must(t, trusting(t, ca, nil), users), http.StatusUnauthorized, "caller_unknown")
	open := trusting(t, ca, &cert)
	if a := must(t, open, users); a.status != http.StatusOK {
		t.Fatalf("with a certificate: status %d: %.300s", a.status, a.body)
	}
	eventually(t, "the log names the caller", func() bool { return strings.Contains(g.stdout.String(), `"gateway.caller":"billing"`) })
	before := w.Graph.Counts().Calls
	replaceFile(t, filepath.Join(g.dir, "clients.crl"), clients.list(t, 2, 81))
	var last answer
	eventually(t, "the open connection's caller is nobody", func() bool {
		a, err := call(t.Context(), open, users)
		if err != nil {
			t.Fatalf("the connection ended before its caller was told: %v", err)
		}
		last = a
		before += map[bool]int{true: 1}[a.status == http.StatusOK]
		return a.status != http.StatusOK
	})
	refused(t, last, http.StatusUnauthorized, "caller_unknown")
	if strings.Contains(last.body, "revoked") {
		t.Errorf("the answer says why: %s", last.body)
	}
	eventually(t, "the log says why", func() bool { return strings.Contains(g.stdout.String(), "was revoked") })
	if _, err := call(t.Context(), open, users); err == nil {
		t.Error("the connection was not closed, or a new one was made with the revoked certificate")
	}
	if n := w.Graph.Counts().Calls; n != before {
		t.Errorf("%d calls reached Graph, want %d: none of a revoked caller", n, before)
	}
}
