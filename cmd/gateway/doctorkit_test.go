package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"software.sslmate.com/src/go-pkcs12"
)

const doctorHost = "graph.microsoft.com"

// peer stands for the gateway, or for something in its place.
type peer struct {
	*httptest.Server
	root    *x509.Certificate
	issuing *x509.Certificate
	key     string                         // that callers must show, as NAME:KEY; "": none
	connect func(http.ResponseWriter) bool // answers a CONNECT; false: it is opened
	plain   func(http.ResponseWriter) bool // answers anything else; false: as the gateway
	inner   func(http.ResponseWriter)      // answers inside the tunnel; nil: as the gateway
	leaf    tls.Certificate

	mu    sync.Mutex // guards what follows
	paths []string   // what was asked for inside tunnels
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{}
	p.authorities(t, []string{doctorHost}, time.Now())
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

// authorities makes the two CAs and a leaf, as certs.CA does.
func (p *peer) authorities(t *testing.T, hosts []string, now time.Time) {
	t.Helper()
	_, all4, _ := net.ParseCIDR("0.0.0.0/0")
	_, all6, _ := net.ParseCIDR("::/0")
	ca := func(name string, length int) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, MaxPathLen: length, MaxPathLenZero: length == 0, KeyUsage: x509.KeyUsageCertSign,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, PermittedDNSDomains: hosts, PermittedDNSDomainsCritical: true,
			ExcludedIPRanges: []*net.IPNet{all4, all6},
		}
	}
	rootKey, issuingKey, leafKey := newTestKey(t), newTestKey(t), newTestKey(t)
	p.root = signed(t, ca("gateway root", 1), nil, rootKey, rootKey)
	p.issuing = signed(t, ca("gateway issuing", 0), p.root, issuingKey, rootKey)
	leaf := signed(t, &x509.Certificate{
		SerialNumber: big.NewInt(7), DNSNames: []string{doctorHost}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(12 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, p.issuing, leafKey, issuingKey)
	p.leaf = tls.Certificate{Certificate: [][]byte{leaf.Raw, p.issuing.Raw}, PrivateKey: leafKey}
}

func newTestKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signed is template for key, signed by parent's key, or by itself.
func signed(t *testing.T, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *peer) addr() string { return p.Listener.Addr().String() }

// url is how apps are told of the peer.
func (p *peer) url() string {
	if p.key == "" {
		return "http://" + p.addr()
	}
	return "http://" + p.key + "@" + p.addr()
}

func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		if p.plain == nil || !p.plain(w) {
			w.Header().Set("Gateway-Request-Id", "outer")
			w.WriteHeader(http.StatusUnauthorized)
		}
		return
	}
	if p.key != "" && r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(p.key)) {
		w.Header().Set("Gateway-Request-Id", "outer")
		w.Header().Set("Proxy-Authenticate", `Basic realm="gateway"`)
		refuse(w, http.StatusProxyAuthRequired, "caller_unknown", "no caller has this key", "show the right one")
		return
	}
	if p.connect != nil && p.connect(w) {
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
		return
	}
	p.serveInner(tls.Server(&buffered{conn, rw.Reader}, &tls.Config{Certificates: []tls.Certificate{p.leaf}, NextProtos: []string{"http/1.1"}}))
}

// serveInner answers one request in a tunnel.
func (p *peer) serveInner(c *tls.Conn) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	p.mu.Lock()
	p.paths = append(p.paths, r.Method+" "+r.Host+r.URL.Path)
	p.mu.Unlock()
	w := httptest.NewRecorder()
	if p.inner != nil {
		p.inner(w)
	} else {
		w.Header().Set("Gateway-Request-Id", "inner")
		w.WriteHeader(http.StatusNoContent)
	}
	resp := w.Result()
	resp.Header.Set("Connection", "close")
	_ = resp.Write(c)
}

func (p *peer) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.paths...)
}

// buffered reads first what the server had read ahead.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// refuse answers as the gateway does.
func refuse(w http.ResponseWriter, status int, code, detail, remedy string) {
	w.Header().Set("Gateway-Request-Id", "outer")
	w.Header().Set("Gateway-Error", code)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"code":"`+code+`","detail":"`+detail+`","remedy":"`+remedy+`"}`)
}

// patient is a doctor in an environment that holds nothing but vars.
func patient(t *testing.T, vars map[string]string) *doctor {
	t.Helper()
	set := map[string]string{"PATH": t.TempDir(), "HOME": t.TempDir()}
	for k, v := range vars {
		set[k] = v
	}
	d := &doctor{patience: 2 * time.Minute, hosts: []routes.Authority{{Host: doctorHost, Port: 443}}}
	d.env = func(name string) (string, bool) { v, ok := set[name]; return v, ok }
	for k, v := range set {
		d.environ = append(d.environ, k+"="+v)
	}
	return d
}

// examined runs all checks without a routes.yaml, with t's PATH for LookPath.
func examined(t *testing.T, vars map[string]string) *doctor {
	t.Helper()
	d := patient(t, vars)
	t.Setenv("PATH", d.value("PATH"))
	t.Chdir(t.TempDir())
	t.Setenv("GATEWAY_CONFIG", "")
	d.examine(context.Background(), config{})
	return d
}

// both sets a proxy as it should be.
func both(url string) map[string]string {
	return map[string]string{"https_proxy": url, "HTTPS_PROXY": url}
}

// has tells whether the report has a line with these words, in this order.
func (d *doctor) has(verdict, check string, words ...string) bool {
	for _, f := range d.findings {
		rest, all := f.sentence(), f.Verdict == verdict && f.Check == check
		for _, w := range words {
			_, after, ok := strings.Cut(rest, w)
			all, rest = all && ok, after
		}
		if all {
			return true
		}
	}
	return false
}

// want fails unless the report has such a line.
func (d *doctor) want(t *testing.T, verdict, check string, words ...string) {
	t.Helper()
	if !d.has(verdict, check, words...) {
		t.Errorf("report lacks %s %s %q:\n%s", verdict, check, words, d.text())
	}
}

// never fails if the report has such a line.
func (d *doctor) never(t *testing.T, verdict, check string, words ...string) {
	t.Helper()
	if d.has(verdict, check, words...) {
		t.Errorf("report has %s %s %q:\n%s", verdict, check, words, d.text())
	}
}

// text is the report as it is printed, and as JSON.
func (d *doctor) text() string {
	var b strings.Builder
	_ = d.tell(std{&b, io.Discard}, false) // its error is the exit code
	_ = d.tell(std{&b, io.Discard}, true)
	return b.String()
}

// pemFile writes certificates and returns the path.
func pemFile(t *testing.T, name string, all ...*x509.Certificate) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	var b []byte
	for _, c := range all {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// storeFile writes a trust store for Java.
func storeFile(t *testing.T, all ...*x509.Certificate) string {
	t.Helper()
	b, err := pkcs12.Modern.EncodeTrustStore(all, "changeit")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "trust.p12")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// publicRoot stands for the system's roots: a CA that is held to nothing.
func publicRoot(t *testing.T) *x509.Certificate {
	t.Helper()
	key := newTestKey(t)
	return signed(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "some public root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, key, key)
}
