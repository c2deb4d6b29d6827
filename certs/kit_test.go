package certs_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seed-13b04e61/gateway/certs"
)

func TestMain(m *testing.M) {
	// The library's keeper of lock files sees within 5 s that its file is gone.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
}

// serials makes certificates differ.
var serials atomic.Int64

// issued is a certificate with its key, and with what is above it.
type issued struct {
	cert  *x509.Certificate
	key   crypto.Signer
	above *issued // nil: self-signed
}

// template is valid for an hour on either side of now.
func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
}

func issue(t testing.TB, c *x509.Certificate, by *issued) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	fresh := *c
	fresh.PublicKey = nil // of a certificate that is made anew
	c = &fresh
	parent, signer := c, crypto.Signer(key)
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{cert, key, by}
}

func newCA(t testing.TB, name string, by *issued, edit ...func(*x509.Certificate)) *issued {
	t.Helper()
	c := template(name)
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	for _, f := range edit {
		f(c)
	}
	return issue(t, c, by)
}

func (ca *issued) server(t testing.TB, edit ...func(*x509.Certificate)) *issued {
	t.Helper()
	c := template("server")
	c.ExtKeyUsage, c.DNSNames = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []string{"localhost", "gw.test"}
	c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	for _, f := range edit {
		f(c)
	}
	return issue(t, c, ca)
}

func (ca *issued) client(t testing.TB, uri string, edit ...func(*x509.Certificate)) *issued {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	c := template("client")
	c.ExtKeyUsage, c.URIs = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, []*url.URL{u}
	for _, f := range edit {
		f(c)
	}
	return issue(t, c, ca)
}

func (ca *issued) certPEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}))
}

// chainPEM leaves out the root, as servers do.
func (ca *issued) chainPEM() string {
	out := ca.certPEM()
	for c := ca.above; c != nil && c.above != nil; c = c.above {
		out += c.certPEM()
	}
	return out
}

func (ca *issued) keyPEM(t testing.TB) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func (ca *issued) pair() tls.Certificate {
	out := tls.Certificate{PrivateKey: ca.key, Leaf: ca.cert}
	for c := ca; c != nil && (c == ca || c.above != nil); c = c.above {
		out.Certificate = append(out.Certificate, c.cert.Raw)
	}
	return out
}

func (ca *issued) list(t testing.TB, edit func(*x509.RevocationList), revoked ...*issued) string {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(serials.Add(1)), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, r := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.cert.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	if edit != nil {
		edit(l)
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, ca.cert, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// expired moves a template's life into the past.
func expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
}

// folder is where a test's files are.
type folder string

func (d folder) path(name string) string { return filepath.Join(string(d), name) }

func (d folder) write(t testing.TB, name, text string) string {
	t.Helper()
	next := d.path(name) + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, d.path(name)); err != nil {
		t.Fatal(err)
	}
	return d.path(name)
}

// journal keeps what a Keeper tells.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Log(level, msg string, kv ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, level+" "+msg+" "+fmt.Sprintln(kv...))
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, string(b))
	return len(b), nil
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "")
}

// site is a server with a Keeper's TLS. It answers with the first URI of the
// caller's certificate, or "nobody".
type site struct {
	addr   string
	keeper *certs.Keeper
	log    *journal // the Keeper's, and that of failed handshakes
}

func open(t testing.TB, cfg certs.Config) *site {
	t.Helper()
	s := &site{log: &journal{}}
	cfg.Log = s.log.Log
	k, err := certs.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.keeper = k
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	srv := &http.Server{ErrorLog: log.New(s.log, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "nobody"
		if chains := r.TLS.VerifiedChains; len(chains) > 0 {
			who = chains[0][0].URIs[0].String()
		}
		for name := range w.Header() { // as proxies do with what is not the upstream's
			delete(w.Header(), name)
		}
		_, _ = io.WriteString(w, who)
	})}
	k.Secure(srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
		k.Close()
	})
	return s
}

// browser is a client that trusts roots and may show a certificate.
func browser(t testing.TB, roots *issued, shows *issued) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(roots.cert)
	conf := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	if shows != nil {
		pair := shows.pair()
		// Whatever CAs the server names, so that it is the server that refuses.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// afresh ends the connections of c, but not its TLS sessions.
func afresh(c *http.Client) *http.Client {
	c.CloseIdleConnections()
	return c
}

type answer struct {
	who   string
	state *tls.ConnectionState
	resp  *http.Response
}

func (s *site) get(c *http.Client) (answer, error) {
	resp, err := c.Get("https://" + s.addr + "/")
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{string(b), resp.TLS, resp}, err
}

// must gets an answer to who.
func (s *site) must(t testing.TB, c *http.Client, who string) answer {
	t.Helper()
	a, err := s.get(c)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.log)
	}
	if a.who != who {
		t.Fatalf("answered to %q, want %q", a.who, who)
	}
	return a
}

// refuses checks that c gets no answer, and that the log says why and the
// caller is not told.
func (s *site) refuses(t testing.TB, c *http.Client, why string) {
	t.Helper()
	a, err := s.get(c)
	if err == nil {
		t.Fatalf("answered to %q, want a failed handshake", a.who)
	}
	if strings.Contains(err.Error(), why) {
		t.Errorf("the caller is told why: %v", err)
	}
	for range 200 {
		if strings.Contains(s.log.String(), why) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("the log does not say %q:\n%s", why, s.log)
}

func serialOf(a answer) *big.Int { return a.state.PeerCertificates[0].SerialNumber }

func setVersion(c *http.Client, v uint16) {
	c.Transport.(*http.Transport).TLSClientConfig.MinVersion = v
	c.Transport.(*http.Transport).TLSClientConfig.MaxVersion = v
}

func onlyHTTP1(c *http.Client) {
	tr := c.Transport.(*http.Transport)
	tr.ForceAttemptHTTP2 = false
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetHTTP1(true)
}

// onlyHTTP2 makes c a client that offers nothing else, and returns it.
func onlyHTTP2(c *http.Client) *http.Client {
	tr := c.Transport.(*http.Transport)
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetHTTP2(true)
	return c
}
