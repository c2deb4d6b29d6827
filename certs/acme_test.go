package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/seed-13b04e61/gateway/certs"
)

// What a real ACME server and a gateway say to each other is tested in e2e.

const name = "gw.test"

// nobodyAt is a directory's URL at which nobody listens.
func nobodyAt(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String() + "/dir"
}

// ordered is a Keeper's ACME with a directory that is down.
func ordered(t testing.TB) *certs.ACME {
	t.Helper()
	return &certs.ACME{
		Domains: []string{name}, Email: "ops@gw.test", Directory: nobodyAt(t),
		Storage: filepath.Join(t.TempDir(), "acme"), Address: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1},
	}
}

// store puts a certificate where an earlier run would have.
func store(t testing.TB, a *certs.ACME, server *issued) {
	t.Helper()
	issuer := strings.NewReplacer("http://", "", "/", "-").Replace(a.Directory)
	for key, text := range map[string]string{
		certmagic.StorageKeys.SiteCert(issuer, name):       server.chainPEM(),
		certmagic.StorageKeys.SitePrivateKey(issuer, name): server.keyPEM(t),
		certmagic.StorageKeys.SiteMeta(issuer, name):       `{"sans":["` + name + `"],"issuer_data":{}}`,
	} {
		path := filepath.Join(a.Storage, filepath.FromSlash(key))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func only(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{name}, nil }

// seen makes a handshake by the gateway's name and returns what it shows.
func seen(t testing.TB, s *site, roots *issued) *x509.Certificate {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(roots.cert)
	c, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: pool, ServerName: name})
	if err != nil {
		t.Fatalf("%v\n%s", err, s.log)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

func TestStoredCertificateIsServedWhileTheDirectoryIsDown(t *testing.T) {
	root := newCA(t, "root", nil)
	server := newCA(t, "between", root).server(t, only, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(40 * time.Minute) })
	a := ordered(t)
	store(t, a, server)
	s := open(t, certs.Config{ACME: a})
	if err := s.keeper.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := seen(t, s, root); got.SerialNumber.Cmp(server.cert.SerialNumber) != 0 {
		t.Errorf("serial %v is shown, want %v", got.SerialNumber, server.cert.SerialNumber)
	}
	if got := s.keeper.Expiry(); !got.Equal(server.cert.NotAfter) {
		t.Errorf("Expiry() = %s, want %s", got, server.cert.NotAfter)
	}
	if err := s.keeper.Reload(); err != nil {
		t.Errorf("Reload = %v", err)
	}
	if got := s.keeper.Files(); len(got) != 0 {
		t.Errorf("Files() = %v, want none", got)
	}
}

func TestRenewalThatFailsIsAnAlarmAndTheOldCertificateGoesOn(t *testing.T) {
	root := newCA(t, "root", nil)
	// A minute of life, most of it gone: looked at each second, and due.
	server := root.server(t, only, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-45*time.Second), time.Now().Add(15*time.Second)
	})
	a := ordered(t)
	store(t, a, server)
	s := open(t, certs.Config{ACME: a})
	if err := s.keeper.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "error the certificate was not renewed; the old one goes on"
	for range 1000 {
		if strings.Contains(s.log.String(), want) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	got := s.log.String()
	for _, want := range []string{want, "refused", "port 443", "acme.renew", "identifier gw.test"} {
		if !strings.Contains(got, want) {
			t.Errorf("the log does not say %q:\n%s", want, got)
		}
	}
	for _, never := range []string{"PRIVATE", "will retry"} {
		if strings.Contains(got, never) {
			t.Errorf("the log says %q:\n%s", never, got)
		}
	}
	if got := seen(t, s, root); got.SerialNumber.Cmp(server.cert.SerialNumber) != 0 {
		t.Errorf("serial %v is shown, want %v", got.SerialNumber, server.cert.SerialNumber)
	}
}

func TestStartSaysWhyThereIsNoCertificate(t *testing.T) {
	root := newCA(t, "root", nil)
	for state, before := range map[string]func(*certs.ACME){
		"none stored":    func(*certs.ACME) {},
		"expired stored": func(a *certs.ACME) { store(t, a, root.server(t, only, expired)) },
	} {
		t.Run(state, func(t *testing.T) {
			a := ordered(t)
			before(a)
			s := open(t, certs.Config{ACME: a})
			if c, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: name, InsecureSkipVerify: true}); err == nil {
				_ = c.Close()
				t.Error("a handshake without a certificate succeeded")
			}
			if !s.keeper.Expiry().IsZero() {
				t.Errorf("Expiry() = %s, want none", s.keeper.Expiry())
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			err := s.keeper.Start(ctx)
			if err == nil {
				t.Fatal("Start = nil with a directory that is down")
			}
			for _, want := range []string{name, a.Directory, "refused", "see that the directory can be reached"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Start = %v, want it to say %q", err, want)
				}
			}
			if got := s.log.String(); !strings.Contains(got, "there is no certificate yet") || !strings.Contains(got, "info there is no valid certificate in storage") {
				t.Errorf("the log does not tell of the wait:\n%s", got)
			}
		})
	}
}

func TestWrongACMERefusesToStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := folder(t.TempDir()).write(t, "file", "no certificate")
	for want, spoil := range map[string]func(*certs.ACME){
		"acme.domains":    func(a *certs.ACME) { a.Domains = nil },
		"there is none":   func(a *certs.ACME) { a.Storage = "" },
		"acme.storage":    func(a *certs.ACME) { a.Storage = filepath.Join(file, "below") },
		"acme.ca_file":    func(a *certs.ACME) { a.CAFile = "none.pem" },
		"no certificate;": func(a *certs.ACME) { a.CAFile = file },
		"acme.http":       func(a *certs.ACME) { a.HTTP = taken.Addr().String() },
		"no TCP port":     func(a *certs.ACME) { a.Address = &net.UnixAddr{Name: "/run/proxy.sock", Net: "unix"} },
	} {
		t.Run(want, func(t *testing.T) {
			a := ordered(t)
			spoil(a)
			if k, err := certs.Open(certs.Config{ACME: a}); err == nil || k != nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Open = %v, %v; want no Keeper and an error with %q", k, err, want)
			}
		})
	}
}

func TestChallengeListenerAnswersNothingElse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := ordered(t)
	a.HTTP, a.Address = l.Addr().String(), nil // a proxy on a unix socket will do
	_ = l.Close()
	k, err := certs.Open(certs.Config{ACME: a})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	k.Close() // twice is once
	k, err = certs.Open(certs.Config{ACME: a})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, c := range []struct{ method, host, path string }{
		{"GET", name, "/"},
		{"GET", name, "/.well-known/acme-challenge/"},
		{"GET", name, "/.well-known/acme-challenge/token"},
		{"GET", name, "/.well-known/acme-challenge/../../" + name},
		{"GET", name + ":80", "/.well-known/acme-challenge/token"},
		{"GET", "../../../etc/passwd", "/.well-known/acme-challenge/token"},
		{"GET", "other.test", "/.well-known/acme-challenge/token"},
		{"POST", name, "/.well-known/acme-challenge/token"},
		{"CONNECT", name, "/"},
	} {
		req, err := http.NewRequest(c.method, "http://"+a.HTTP+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode < 400 || strings.Contains(string(b), "token") {
			t.Errorf("%s %s of %s: %d %q, want a refusal", c.method, c.path, c.host, resp.StatusCode, b)
		}
	}
}

// A challenge is visible while an order is under way, and to who asks as
// directories do: with one protocol, and a name of ours.
func TestChallengeHandshakesShowNothingWithoutAnOrder(t *testing.T) {
	root := newCA(t, "root", nil)
	a := ordered(t)
	store(t, a, root.server(t, only))
	s := open(t, certs.Config{ACME: a})
	if err := s.keeper.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{name, strings.ToUpper(name), "other.test", "../" + name} {
		c, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: host, NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true})
		if err == nil {
			_ = c.Close()
			t.Errorf("%s: the handshake succeeded", host)
		}
	}
	c, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: name, NextProtos: []string{"acme-tls/1", "http/1.1"}, InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("%q was agreed on, want http/1.1", got)
	}
}
