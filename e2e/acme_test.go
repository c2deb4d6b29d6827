package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

const (
	// pebbleModule is Let's Encrypt's small ACME server, with the DNS server
	// that goes with it. Go fetches and builds it.
	pebbleModule = "github.com/letsencrypt/pebble/v2"
	pebbleAt     = "v2.10.1"
	// gatewayName is what certificates are ordered for. Only the DNS server of
	// pebble knows it.
	gatewayName = "gw.corp.test"
	// certificateLife is short, so that renewal can be waited for. A gateway
	// renews after two thirds, or when pebble's renewal information says so:
	// any time before.
	certificateLife = 45 * time.Second
)

// installPebble builds pebble's programs and returns their folder.
func installPebble(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "install", pebbleModule+"/cmd/pebble@"+pebbleAt, pebbleModule+"/cmd/pebble-challtestsrv@"+pebbleAt)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go install: %v\n%s", err, out)
	}
	return dir
}

// pebble is an ACME server that validates names at tlsPort and httpPort of
// this machine.
type pebble struct {
	bin, dir           string
	addr, admin, dns   string
	caFile             string // trust for pebble's own listeners
	client             *http.Client
	log                transcript
	cmd                *exec.Cmd
	tlsPort, httpPort  int
	certFile, certsKey string
}

func newPebble(t testing.TB, bin, tlsAddr, httpAddr string) *pebble {
	t.Helper()
	ca := newAuthority(t)
	certPEM, keyPEM := ca.server(t)
	p := &pebble{bin: bin, dir: t.TempDir(), addr: freePort(t), admin: freePort(t), dns: freePort(t), tlsPort: portOf(t, tlsAddr), httpPort: portOf(t, httpAddr)}
	p.caFile, p.certFile, p.certsKey = filepath.Join(p.dir, "ca.pem"), filepath.Join(p.dir, "cert.pem"), filepath.Join(p.dir, "key.pem")
	write(t, p.caFile, ca.pem)
	write(t, p.certFile, certPEM)
	write(t, p.certsKey, keyPEM)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	p.client = &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	p.configure(t)
	dns := exec.Command(filepath.Join(bin, "pebble-challtestsrv"), "-dnsserver", p.dns, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", freePort(t))
	dns.Stdout, dns.Stderr = &p.log, &p.log
	if err := dns.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dns.Process.Kill()
		_ = dns.Wait()
		p.stop()
		if t.Failed() {
			t.Logf("pebble:\n%s", tail(p.log.String(), 4000))
		}
	})
	p.start(t)
	return p
}

func (p *pebble) configure(t testing.TB) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": p.addr, "managementListenAddress": p.admin,
		"certificate": p.certFile, "privateKey": p.certsKey,
		"httpPort": p.httpPort, "tlsPort": p.tlsPort,
		"retryAfter": map[string]int{"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "short", "validityPeriod": int(certificateLife / time.Second)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.dir, "pebble.json"), string(b))
}

// start runs it, with an empty memory and a root of its own each time.
func (p *pebble) start(t testing.TB) {
	t.Helper()
	p.cmd = exec.Command(filepath.Join(p.bin, "pebble"), "-strict", "-config", filepath.Join(p.dir, "pebble.json"), "-dnsserver", p.dns)
	p.cmd.Env = append(bareEnvironment(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0") // each order is validated
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pebble answers", func() bool {
		a, err := call(t.Context(), p.client, request{url: p.directory()})
		return err == nil && a.status == http.StatusOK
	})
}

func (p *pebble) stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}

func (p *pebble) directory() string { return "https://" + p.addr + "/dir" }

// roots are those of the certificates that it issues now.
func (p *pebble) roots(t testing.TB) *x509.CertPool {
	t.Helper()
	a := must(t, p.client, request{url: "https://" + p.admin + "/roots/0"})
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(a.body)) {
		t.Fatalf("no root: %.200q", a.body)
	}
	return pool
}

func portOf(t testing.TB, addr string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// byACME is a gateway at addr whose certificate is ordered from p. more is
// further keys of the section.
func byACME(w *sandbox.World, p *pebble, addr, storage, more string) setup {
	s := graphSetup(w, "")
	s.Config = strings.Replace(s.Config, `{proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}`, fmt.Sprintf(`
  proxy: %s
  admin: "127.0.0.1:0"
  hosts: [%s]
  tls:
    acme: {domains: [%s], email: ops@corp.test, directory: %q, ca_file: %q, storage: %q%s}`,
		addr, gatewayName, gatewayName, p.directory(), p.caFile, storage, more), 1)
	return s
}

// secureClient calls the gateway by its name, wherever that leads, and trusts
// roots alone.
func secureClient(addr string, roots *x509.CertPool) *http.Client {
	h2 := new(http.Protocols)
	h2.SetHTTP2(true)
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		Protocols: h2, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		},
	}}
}

const namedUsers = "https://" + gatewayName + "/graph/v1.0/users"

// shownSerial makes a call over a new connection and returns the serial of the
// certificate that the gateway showed.
func shownSerial(t testing.TB, addr string, roots *x509.CertPool) *big.Int {
	t.Helper()
	c := secureClient(addr, roots)
	defer c.CloseIdleConnections()
	resp, err := c.Get(namedUsers)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		t.Fatalf("status %d over HTTP/%d, want 200 over HTTP/2", resp.StatusCode, resp.ProtoMajor)
	}
	return resp.TLS.PeerCertificates[0].SerialNumber
}

// within is eventually for what takes the life of a certificate.
func within(t testing.TB, limit time.Duration, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s waited in vain until %s", limit, what)
		}
	}
}

func TestCertificatesByACME(t *testing.T) {
	t.Parallel()
	bin := installPebble(t)
	t.Run("TLS-ALPN-01, renewal and an outage", func(t *testing.T) {
		t.Parallel()
		testRenewal(t, bin)
	})
	t.Run("HTTP-01, and a restart without a directory", func(t *testing.T) {
		t.Parallel()
		testHTTP01(t, bin)
	})
}

// testRenewal has one open connection call all the while, through renewal, and
// through an outage of the directory.
func testRenewal(t *testing.T, bin string) {
	addr := freePort(t)
	p := newPebble(t, bin, addr, freePort(t))
	w := newWorld(t, sandbox.Options{})
	g := start(t, byACME(w, p, addr, filepath.Join(t.TempDir(), "acme"), ""))
	if !strings.Contains(g.stderr.String(), "https://"+gatewayName) {
		t.Errorf("the greeting shows no https address:\n%s", &g.stderr)
	}
	roots := p.roots(t)
	first := shownSerial(t, addr, roots)
	kept := secureClient(addr, roots)
	defer kept.CloseIdleConnections()
	calls := 0
	serving := func() {
		if a := must(t, kept, request{url: namedUsers}); a.status != http.StatusOK {
			t.Fatalf("status %d: %.300s", a.status, a.body)
		}
		calls++
	}
	second := first
	within(t, certificateLife, "the certificate is renewed", func() bool {
		serving()
		second = shownSerial(t, addr, roots)
		return second.Cmp(first) != 0
	})

	p.stop()
	within(t, certificateLife, "the log says that renewal fails", func() bool {
		serving()
		shownSerial(t, addr, roots)
		return strings.Contains(g.stdout.String(), "the certificate was not renewed; the old one goes on")
	})
	p.start(t) // it knows neither account nor order any more
	fresh := p.roots(t)
	within(t, certificateLife, "the certificate is renewed after the outage", func() bool {
		serving()
		c := secureClient(addr, fresh)
		defer c.CloseIdleConnections()
		a, err := call(t.Context(), c, request{url: namedUsers})
		return err == nil && a.status == http.StatusOK
	})
	if calls < 50 {
		t.Errorf("%d calls over the open connection; that is no load", calls)
	}
	noneBare(t, w)
	if log := g.stdout.String(); strings.Contains(log, "PRIVATE KEY") || jwtIn(log) >= 0 {
		t.Error("a private key or a token is in the log")
	}
}

func testHTTP01(t *testing.T, bin string) {
	addr, challenges := freePort(t), freePort(t)
	p := newPebble(t, bin, addr, challenges)
	w := newWorld(t, sandbox.Options{})
	storage := filepath.Join(t.TempDir(), "acme")
	s := byACME(w, p, addr, storage, ", http: "+challenges)
	s.Dir = t.TempDir()
	g := start(t, s)
	roots := p.roots(t)
	first := shownSerial(t, addr, roots)
	for _, path := range []string{"/", "/graph/v1.0/users", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/x"} {
		for _, host := range []string{gatewayName, "127.0.0.1"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+challenges+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			resp, err := g.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusNotFound {
				t.Errorf("the challenge listener answers %s of %s with %d, want 404", path, host, resp.StatusCode)
			}
		}
	}
	g.end(t)
	p.stop()
	private(t, storage)

	again := start(t, s)
	if serial := shownSerial(t, addr, roots); serial.Cmp(first) != 0 {
		t.Errorf("after a restart serial %v is shown, want %v from storage", serial, first)
	}
	again.ready(t)
}

// private checks that nobody else may read what storage holds, and that it
// holds a key.
func private(t testing.TB, storage string) {
	t.Helper()
	var kinds []string
	err := filepath.WalkDir(storage, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = errors.New(path + " has mode " + info.Mode().String())
		}
		kinds = append(kinds, filepath.Ext(path))
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if !slices.Contains(kinds, ".key") || !slices.Contains(kinds, ".crt") {
		t.Errorf("storage holds %v, want a certificate and its key", kinds)
	}
}
