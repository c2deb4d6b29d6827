package e2e

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/certs"
)

// impostor is a CONNECT proxy that ends every tunnel itself, with whatever
// certificate it has for the host: what somebody could do who has the issuing
// CA's key and the network.
type impostor struct {
	addr  string
	certs map[string]*tls.Certificate // by the tunnel's host

	mu    sync.Mutex // guards asked
	asked map[string]int
}

// deceived is the body of every answer.
const deceived = "the impostor was believed"

func newImpostor(t *testing.T, certs map[string]*tls.Certificate) *impostor {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &impostor{addr: l.Addr().String(), certs: certs, asked: map[string]int{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				p.serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return p
}

// serve answers one tunnel. What fails is the client's to tell.
func (p *impostor) serve(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil || r.Method != http.MethodConnect {
		return
	}
	host, _, err := net.SplitHostPort(r.RequestURI)
	if err != nil || p.certs[host] == nil {
		return
	}
	if _, err := io.WriteString(c, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
		return
	}
	inner := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*p.certs[host]}, MinVersion: tls.VersionTLS12})
	if _, err := http.ReadRequest(bufio.NewReader(inner)); err != nil {
		return
	}
	p.mu.Lock()
	p.asked[host]++
	p.mu.Unlock()
	_, _ = fmt.Fprintf(inner, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(deceived), deceived)
	_ = inner.Close()
}

func (p *impostor) calls(host string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[host]
}

// thief signs leaves with the issuing key of a CA's folder.
type thief struct{ pair tls.Certificate }

func newThief(t *testing.T, dir string) thief {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "issuing.pem"), filepath.Join(dir, "issuing.key"))
	if err != nil {
		t.Fatal(err)
	}
	return thief{pair}
}

func (f thief) sign(t *testing.T, leaf x509.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	leaf.SerialNumber, leaf.NotBefore, leaf.NotAfter = serial, time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, &leaf, f.pair.Leaf, &key.PublicKey, f.pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, f.pair.Certificate[0]}, PrivateKey: key}
}

// believer is a client that trusts the files of trust, and calls by a proxy.
type believer struct {
	name string
	call func(ctx context.Context, host string) ([]byte, error)
}

// trustFiles are PEM and PKCS#12 of the same roots.
type trustFiles struct{ pem, p12, classes string }

func believers(proxy string, trust trustFiles) []believer {
	host, port, _ := net.SplitHostPort(proxy) // a listener's own address
	run := func(name string, env []string, args func(url string) []string) believer {
		return believer{args("")[0] + " " + name, func(ctx context.Context, target string) ([]byte, error) {
			argv := args("https://" + target + "/")
			cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
			cmd.Env = append(untrustingEnvironment(), append(env, "LC_ALL=C.UTF-8")...)
			return cmd.CombinedOutput()
		}}
	}
	via := []string{"https_proxy=http://" + proxy, "HTTPS_PROXY=http://" + proxy, "HTTP_PROXY_URL=http://" + proxy}
	with := func(name string) []string { return append(slices.Clone(via), name+"="+trust.pem) }
	python := func(kind string) func(string) []string {
		return func(u string) []string { return []string{tool("python"), "clients/call.py", kind, "GET", u} }
	}
	java := func(kind string) func(string) []string {
		return func(u string) []string {
			return []string{"java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dhttps.proxyHost=" + host, "-Dhttps.proxyPort=" + port,
				"-Djavax.net.ssl.trustStore=" + trust.p12, "-Djavax.net.ssl.trustStorePassword=" + certs.TrustStorePassword, "-cp", trust.classes, "Call", kind, "GET", u}
		}
	}
	return []believer{
		run("", via, func(u string) []string { return []string{"curl", "-sS", "--cacert", trust.pem, u} }),
		run("by variable", with("SSL_CERT_FILE"), func(u string) []string { return []string{"curl", "-sS", u} }),
		run("", via, func(u string) []string {
			return []string{"wget", "-nv", "-O-", "--tries=1", "--ca-certificate=" + trust.pem, u}
		}),
		run("urllib", with("SSL_CERT_FILE"), python("urllib")),
		run("requests", with("REQUESTS_CA_BUNDLE"), python("requests")),
		run("httpx", with("SSL_CERT_FILE"), python("httpx")),
		run("undici", with("NODE_EXTRA_CA_CERTS"), func(u string) []string { return []string{"node", "clients/call.mjs", "tunnel", "GET", u} }),
		run("https", with("NODE_EXTRA_CA_CERTS"), func(u string) []string { return []string{"node", "clients/ca_call.mjs", u} }),
		run("HttpClient", nil, java("HttpClient")),
		run("HttpURLConnection", nil, java("HttpURLConnection")),
		run("s_client", nil, func(u string) []string { return sClient(proxy, trust.pem, u) }),
		{"Go", func(ctx context.Context, target string) ([]byte, error) { return goCall(ctx, proxy, trust.pem, target) }},
	}
}

// untrustingEnvironment names neither proxies nor roots.
func untrustingEnvironment() []string {
	return slices.DeleteFunc(bareEnvironment(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return strings.HasPrefix(name, "SSL_CERT_") || strings.HasPrefix(name, "NODE_") || strings.HasSuffix(name, "_CA_BUNDLE")
	})
}

// sClient is openssl s_client, which judges a name only if it is told which.
func sClient(proxy, roots, target string) []string {
	u, _ := url.Parse(target) // "" or a test's own
	name := []string{"-servername", u.Hostname(), "-verify_hostname", u.Hostname()}
	if net.ParseIP(u.Hostname()) != nil {
		name = []string{"-verify_ip", u.Hostname()}
	}
	script := `printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -quiet "$@"`
	return append([]string{"sh", "-c", script, "sh", "-proxy", proxy, "-connect", u.Hostname() + ":443", "-verify_return_error", "-CAfile", roots, "-no-CApath"}, name...)
}

func goCall(ctx context.Context, proxy, roots, host string) ([]byte, error) {
	b, err := os.ReadFile(roots)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b)
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: proxy}), TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		return nil, err
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return []byte(err.Error()), err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// The hosts of the test, by what their certificates are.
const (
	routedHost   = "graph.microsoft.com"
	wildcardHost = "api.contoso.com"
	controlHost  = "control.example.net"
	controlIP    = "10.11.12.14"
)

// TestClientsTakeTheCAForRoutedHostsAlone has real clients, which trust the root
// as gateway ca export gives it, meet certificates that the issuing CA's key has
// signed: the gateway's own for routed hosts, and a thief's for others.
func TestClientsTakeTheCAForRoutedHostsAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	ca, err := certs.OpenCA(dir, []string{routedHost, "*.contoso.com"})
	if err != nil {
		t.Fatal(err)
	}
	control := newAuthority(t)
	shown := map[string]*tls.Certificate{
		controlHost: controlCertificate(t, control, x509.Certificate{DNSNames: []string{controlHost}}),
		controlIP:   controlCertificate(t, control, x509.Certificate{IPAddresses: []net.IP{net.ParseIP(controlIP)}}),
	}
	for _, host := range []string{routedHost, wildcardHost} {
		if shown[host], err = ca.Certificate(host); err != nil {
			t.Fatal(err)
		}
	}
	accepted := []string{routedHost, wildcardHost, controlHost, controlIP}
	for host, leaf := range map[string]x509.Certificate{
		"login.microsoftonline.com": {DNSNames: []string{"login.microsoftonline.com"}},
		"microsoft.com":             {DNSNames: []string{"microsoft.com"}},
		"among.example.net":         {DNSNames: []string{routedHost, "among.example.net"}},
		"named.example.net":         {Subject: pkix.Name{CommonName: "named.example.net"}},
		"star.example.net":          {DNSNames: []string{"*.example.net"}},
		"10.11.12.13":               {IPAddresses: []net.IP{net.ParseIP("10.11.12.13")}},
		"10.11.12.15":               {DNSNames: []string{routedHost}, IPAddresses: []net.IP{net.ParseIP("10.11.12.15")}},
	} {
		shown[host] = newThief(t, dir).sign(t, leaf)
	}
	p := newImpostor(t, shown)
	for _, b := range believers(p.addr, trustOf(t, ca, control)) {
		t.Run(strings.TrimSpace(b.name), func(t *testing.T) {
			for host := range shown {
				before := p.calls(host)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				out, err := b.call(ctx, host)
				cancel()
				believed := p.calls(host) > before
				switch want := slices.Contains(accepted, host); {
				case want && (err != nil || !believed || !strings.Contains(string(out), deceived)):
					t.Errorf("%s is refused: %v: %s", host, err, tail(string(out), 600))
				case !want && (believed || err == nil || strings.Contains(string(out), deceived)):
					t.Errorf("%s is accepted: %s", host, tail(string(out), 600))
				case !want && !isRefusal(string(out)):
					t.Errorf("%s failed for another reason than its certificate: %v: %s", host, err, tail(string(out), 600))
				}
			}
		})
	}
}

// isRefusal tells whether a client's words are about a certificate.
func isRefusal(out string) bool {
	out = strings.ToLower(out)
	return slices.ContainsFunc([]string{"certificate", "subtree", "certpath", "pkix", "hostname mismatch", "x509", "altname"}, func(word string) bool {
		return strings.Contains(out, word)
	})
}

// controlCertificate is by an authority without constraints, so that what is
// refused elsewhere is refused for the constraints and nothing else.
func controlCertificate(t *testing.T, a *authority, leaf x509.Certificate) *tls.Certificate {
	t.Helper()
	return thief{tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key, Leaf: a.cert}}.sign(t, leaf)
}

// trustOf writes the roots of ca and control as clients take them, and
// compiles the Java client once.
func trustOf(t *testing.T, ca *certs.CA, control *authority) trustFiles {
	t.Helper()
	dir := t.TempDir()
	f := trustFiles{filepath.Join(dir, "trust.pem"), filepath.Join(dir, "trust.p12"), dir}
	store, err := ca.TrustStore([]*x509.Certificate{control.cert}, certs.TrustStorePassword)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(f.pem, ca.Bundle([]*x509.Certificate{control.cert}), 0o600), os.WriteFile(f.p12, store, 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "javac", "-d", dir, "clients/Call.java").CombinedOutput(); err != nil {
		t.Fatalf("javac: %v\n%s", err, out)
	}
	return f
}

// TestTheCAIsStrictlyWellFormed has OpenSSL hold the chain against RFC 5280 as
// Python 3.13 does by default.
func TestTheCAIsStrictlyWellFormed(t *testing.T) {
	ca, err := certs.NewCA([]string{routedHost})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Certificate(routedHost)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root, between, end := filepath.Join(dir, "root.pem"), filepath.Join(dir, "issuing.pem"), filepath.Join(dir, "leaf.pem")
	write(t, root, string(ca.RootPEM()))
	write(t, between, certificatePEM(leaf.Certificate[1]))
	write(t, end, certificatePEM(leaf.Certificate[0]))
	out, err := exec.CommandContext(t.Context(), "openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", routedHost,
		"-no-CApath", "-no-CAfile", "-no-CAstore", "-CAfile", root, "-untrusted", between, end).CombinedOutput()
	if err != nil {
		t.Errorf("openssl verify: %v\n%s", err, out)
	}
}

func certificatePEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
