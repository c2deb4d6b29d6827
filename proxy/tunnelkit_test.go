package proxy_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// forger is a CA in memory that signs for every name but addresses.
type forger struct {
	key  *ecdsa.PrivateKey
	root *x509.Certificate

	mu     sync.Mutex // guards leaves
	leaves map[string]*tls.Certificate
}

func newForger(t testing.TB) *forger {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := &forger{key: key, leaves: map[string]*tls.Certificate{}}
	f.root = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "forger"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, f.root, f.root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if f.root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return f
}

var errAddress = errors.New("the CA signs for no address")

func (f *forger) Certificate(host string) (*tls.Certificate, error) {
	if net.ParseIP(host) != nil {
		return nil, errAddress
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.leaves[host]; c != nil {
		return c, nil
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, f.root, f.key.Public(), f.key)
	if err != nil {
		return nil, err
	}
	f.leaves[host] = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: f.key}
	return f.leaves[host], nil
}

// trust is what a client trusts that was told of the CA; protocols are its ALPN.
func (f *forger) trust(host string, protocols ...string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(f.root)
	return &tls.Config{RootCAs: pool, ServerName: host, NextProtos: protocols}
}

// basicUser is the user information by which basic is shown.
var basicUser = url.UserPassword("job", key)

// decided is a gate whose tunnels are decided by the table alone, whoever calls.
type decided struct{ *gate.Gate }

func (d decided) Tunnel(ctx context.Context, t gate.Target) (gate.Way, routes.Authority, error) {
	a := t.Authority
	if a.Port == 80 {
		a.Port = 443
	}
	if _, routed := d.Table().Match(a); routed || len(d.Table().Login(a)) > 0 {
		return gate.Intercepted, a, nil
	}
	return gate.Through, t.Authority, d.Through(ctx, t)
}

func (d decided) Through(_ context.Context, t gate.Target) error {
	if !d.Table().Egress.Passes(t.Authority) {
		return &gate.Refusal{Code: gate.EgressDenied, Detail: "no route names it"}
	}
	return nil
}

// dug is a rig that intercepts.
type dug struct {
	*rig
	ca *forger
}

// digging makes a rig of o that intercepts, in front of upstream by text.
func digging(t testing.TB, o rigging, text string, h http.HandlerFunc) dug {
	t.Helper()
	return diggingTo(t, o, text, newUpstream(t, true, h))
}

// diggingTo is digging in front of a server that there is.
func diggingTo(t testing.TB, o rigging, text string, upstream *httptest.Server) dug {
	t.Helper()
	d := dug{ca: newForger(t)}
	o.config.Certifier = d.ca
	d.rig = o.newRig(t, text, upstream)
	return d
}

// dial opens a tunnel to target, over which answer is what the CONNECT got.
func (g *rig) dial(t testing.TB, target string, headers ...string) (c net.Conn, answer *http.Response) {
	t.Helper()
	c, err := net.Dial("tcp", g.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	request := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n"
	for i := 0; i+1 < len(headers); i += 2 {
		request += headers[i] + ": " + headers[i+1] + "\r\n"
	}
	if _, err := io.WriteString(c, request+"\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	answer, err = http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatal(err)
	}
	return &ahead{c, r}, answer
}

// ahead is a connection of which something was read already.
type ahead struct {
	net.Conn
	r *bufio.Reader
}

func (a *ahead) Read(p []byte) (int, error) { return a.r.Read(p) }
func (a *ahead) CloseWrite() error          { return a.Conn.(*net.TCPConn).CloseWrite() }

// secure opens a tunnel to host:443 and speaks TLS in it.
func (d dug) secure(t testing.TB, host string, conf *tls.Config, headers ...string) *tls.Conn {
	t.Helper()
	c, answer := d.dial(t, host+":443", headers...)
	if answer.StatusCode != 200 {
		t.Fatalf("CONNECT got %s", answer.Status)
	}
	return tls.Client(c, conf)
}

// say sends a request and returns status, code and body of its answer.
func say(t testing.TB, c net.Conn, request string) (answer, body string) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(resp.Status[:3] + " " + resp.Header.Get("Gateway-Error")), string(b)
}

// through is a client whose HTTPS_PROXY is the gateway; proof is its user information.
func (d dug) through(t testing.TB, proof *url.Userinfo, h2 bool) *http.Client {
	t.Helper()
	at, err := url.Parse(d.front.URL)
	if err != nil {
		t.Fatal(err)
	}
	at.User = proof
	conf := d.ca.trust("")
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	tr := &http.Transport{Proxy: http.ProxyURL(at), TLSClientConfig: conf, ForceAttemptHTTP2: h2, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// allowing is a table whose egress allows hosts, private or not.
func allowing(hosts ...string) func(*routes.Table) {
	return func(table *routes.Table) {
		for _, h := range hosts {
			a, err := routes.ParseAuthority(h, 443)
			if err != nil {
				panic(err)
			}
			table.Egress.Allow = append(table.Egress.Allow, routes.HostPattern{Host: a.Host, Port: a.Port})
		}
		table.Egress.DenyPrivate = false
	}
}
