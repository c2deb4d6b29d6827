package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/certs"
)

// filed is a folder with a server's certificate and key.
func filed(t testing.TB, server *issued) (folder, certs.Config) {
	t.Helper()
	d := folder(t.TempDir())
	return d, certs.Config{
		CertificateFile: d.write(t, "tls.pem", server.chainPEM()),
		KeyFile:         d.write(t, "tls.key", server.keyPEM(t)),
	}
}

func TestServesHTTP2AndHTTP1WithTheWholeChain(t *testing.T) {
	root := newCA(t, "root", nil)
	server := newCA(t, "between", root).server(t)
	_, cfg := filed(t, server)
	s := open(t, cfg)
	a := s.must(t, onlyHTTP2(browser(t, root, nil)), "nobody")
	if a.resp.ProtoMajor != 2 || len(a.state.PeerCertificates) != 2 {
		t.Errorf("HTTP/%d with %d certificates, want HTTP/2 with the leaf and the intermediate", a.resp.ProtoMajor, len(a.state.PeerCertificates))
	}
	if got := s.keeper.Expiry(); !got.Equal(server.cert.NotAfter) {
		t.Errorf("Expiry() = %s, want %s", got, server.cert.NotAfter)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root.cert)
	for offered, want := range map[string]string{"h2,http/1.1": "http/1.1", "h2": "h2", "http/1.1": "http/1.1", "": ""} {
		conf := &tls.Config{RootCAs: pool}
		if offered != "" {
			conf.NextProtos = strings.Split(offered, ",")
		}
		c, err := tls.Dial("tcp", s.addr, conf)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().NegotiatedProtocol; got != want {
			t.Errorf("offered %q, got %q, want %q", offered, got, want)
		}
		_ = c.Close()
	}
	if c, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11}); err == nil {
		_ = c.Close()
		t.Error("TLS 1.1 was spoken")
	}
	if c, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: pool, NextProtos: []string{"acme-tls/1"}, ServerName: "gw.test"}); err == nil {
		_ = c.Close()
		t.Error("a challenge was answered without ACME")
	}
}

func TestOneFileMayHoldCertificateAndKey(t *testing.T) {
	root := newCA(t, "root", nil)
	server := root.server(t)
	d := folder(t.TempDir())
	s := open(t, certs.Config{CertificateFile: d.write(t, "both.pem", server.keyPEM(t)+server.certPEM())})
	s.must(t, browser(t, root, nil), "nobody")
	if got := s.keeper.Files(); len(got) != 1 || got[0] != d.path("both.pem") {
		t.Errorf("Files() = %v, want the one file", got)
	}
}

func TestWhatNoClientWouldAcceptRefusesToStart(t *testing.T) {
	root := newCA(t, "root", nil)
	between := newCA(t, "between", root)
	server, other := between.server(t), root.server(t)
	for name, c := range map[string]struct{ cert, key, want string }{
		"key of another":     {server.chainPEM(), other.keyPEM(t), "no pair"},
		"leaf last":          {between.certPEM() + server.certPEM(), server.keyPEM(t), "put the leaf first"},
		"foreign chain":      {server.certPEM() + newCA(t, "stranger", root).certPEM(), server.keyPEM(t), "did not issue"},
		"no certificate":     {server.keyPEM(t), server.keyPEM(t), "no pair"},
		"no key":             {server.certPEM(), server.certPEM(), "no pair"},
		"empty":              {"", "", "no pair"},
		"not PEM":            {"\x30\x82\x01\x01", "\x30", "no pair"},
		"encrypted key":      {server.certPEM(), "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "store it without a password"},
		"damaged":            {strings.Replace(server.certPEM(), "M", "A", 3), server.keyPEM(t), "certificate_file"},
		"a client's":         {root.client(t, "spiffe://x/y").certPEM(), "", "not one of a server"},
		"of nobody":          {"", "", ""},
		"expired":            {"", "", ""},
		"of the future":      {"", "", ""},
		"larger than it may": {strings.Repeat("#", 1<<20+1), "", "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			leaf := (*issued)(nil)
			switch name {
			case "a client's":
				leaf = root.client(t, "spiffe://x/y")
			case "of nobody":
				leaf = root.server(t, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil })
				c.want = "names no host"
			case "expired":
				leaf, c.want = root.server(t, expired), "expired"
			case "of the future":
				leaf = root.server(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
				c.want = "valid only from"
			}
			if leaf != nil {
				c.cert, c.key = leaf.certPEM(), leaf.keyPEM(t)
			}
			d := folder(t.TempDir())
			_, err := certs.Open(certs.Config{CertificateFile: d.write(t, "tls.pem", c.cert), KeyFile: d.write(t, "tls.key", c.key)})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), string(d)) {
				t.Errorf("Open = %v, want an error with %q and the file", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("the error holds content: %v", err)
			}
		})
	}
}

func TestSelfSignedServerCertificateIsTheOperatorsChoice(t *testing.T) {
	self := issue(t, newCA(t, "any", nil).server(t).cert, nil)
	_, cfg := filed(t, self)
	open(t, cfg).must(t, browser(t, self, nil), "nobody")
}

func TestFilesThatCannotBeReadRefuseToStart(t *testing.T) {
	root := newCA(t, "root", nil)
	d, good := filed(t, root.server(t))
	d.write(t, "ca.pem", root.certPEM())
	for name, c := range map[string]struct {
		edit func(*certs.Config)
		want string
	}{
		"certificate":      {func(c *certs.Config) { c.CertificateFile = d.path("none") }, "certificate_file"},
		"key":              {func(c *certs.Config) { c.KeyFile = d.path("none") }, "key_file"},
		"folder":           {func(c *certs.Config) { c.KeyFile = string(d) }, "is not a file"},
		"client CA":        {func(c *certs.Config) { c.ClientCAFile = d.path("none") }, "client_ca_file"}, // CVE-2026-27586
		"client CRL":       {func(c *certs.Config) { c.ClientCAFile, c.ClientCRLFile = d.path("ca.pem"), d.path("none") }, "client_crl_file"},
		"CRL without CA":   {func(c *certs.Config) { c.ClientCRLFile = d.path("ca.pem") }, "client_ca_file"},
		"nothing":          {func(c *certs.Config) { c.CertificateFile = "" }, "exactly one"},
		"two certificates": {func(c *certs.Config) { c.ACME = &certs.ACME{} }, "exactly one"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			c.edit(&cfg)
			if k, err := certs.Open(cfg); err == nil || k != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open = %v, %v; want no Keeper and an error with %q", k, err, c.want)
			}
		})
	}
}

func TestCertificateIsSwappedUnderLoadWithoutADroppedConnection(t *testing.T) {
	root := newCA(t, "root", nil)
	first := root.server(t)
	d, cfg := filed(t, first)
	s := open(t, cfg)
	idle := browser(t, root, nil)
	before := s.must(t, idle, "nobody")

	var wg sync.WaitGroup
	var calls atomic.Int64
	var failed sync.Map
	stop := make(chan struct{})
	for range 4 {
		c := browser(t, root, nil)
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if i%3 == 0 {
					afresh(c)
				}
				if _, err := s.get(c); err != nil {
					failed.Store(err.Error(), true)
				}
				calls.Add(1)
			}
		})
	}
	last := first
	for range 20 {
		// Each swap has calls on both of its sides, however slow the machine.
		for seen := calls.Load(); calls.Load() < seen+2; {
			time.Sleep(time.Millisecond)
		}
		last = root.server(t)
		// The pair is no pair for a moment, as when two files are copied.
		d.write(t, "tls.pem", last.chainPEM())
		if err := s.keeper.Reload(); err == nil || !strings.Contains(err.Error(), "no pair") {
			t.Fatalf("Reload between the two files = %v, want an error", err)
		}
		d.write(t, "tls.key", last.keyPEM(t))
		if err := s.keeper.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	failed.Range(func(what, _ any) bool {
		t.Errorf("under load: %v", what)
		return true
	})
	if after := s.must(t, idle, "nobody"); serialOf(after).Cmp(serialOf(before)) != 0 {
		t.Error("the idle connection was not kept")
	}
	if fresh := s.must(t, browser(t, root, nil), "nobody"); serialOf(fresh).Cmp(last.cert.SerialNumber) != 0 {
		t.Errorf("a new connection shows serial %v, want %v", serialOf(fresh), last.cert.SerialNumber)
	}
}

func TestReloadKeepsTheLastGoodCertificate(t *testing.T) {
	root := newCA(t, "root", nil)
	first := root.server(t)
	d, cfg := filed(t, first)
	s := open(t, cfg)
	for name, spoil := range map[string]func(){
		"expired": func() {
			x := root.server(t, expired)
			d.write(t, "tls.pem", x.chainPEM())
			d.write(t, "tls.key", x.keyPEM(t))
		},
		"gone": func() { _ = os.Remove(d.path("tls.key")) },
	} {
		spoil()
		if err := s.keeper.Reload(); err == nil {
			t.Errorf("%s: Reload = nil, want an error", name)
		}
		if a := s.must(t, browser(t, root, nil), "nobody"); serialOf(a).Cmp(first.cert.SerialNumber) != 0 {
			t.Errorf("%s: another certificate is served", name)
		}
	}
}

func TestCertificateThatEndsSoonIsWarnedOf(t *testing.T) {
	root := newCA(t, "root", nil)
	warning := "warn the certificate of the proxy port ends soon"
	_, cfg := filed(t, root.server(t))
	if got := open(t, cfg).log.String(); strings.Contains(got, warning) {
		t.Errorf("half of the life is left, and the log is %q", got)
	}
	_, cfg = filed(t, root.server(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(5 * time.Minute) }))
	s := open(t, cfg)
	if err := s.keeper.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(s.log.String(), warning); got != 1 {
		t.Errorf("warned %d times, want once for one certificate", got)
	}
}

func ExampleOpen() {
	_, err := certs.Open(certs.Config{CertificateFile: "tls.pem", KeyFile: "tls.key", ClientCAFile: "clients-ca.pem"})
	fmt.Println(err)
	// Output: listen.tls.client_ca_file cannot be read: stat clients-ca.pem: no such file or directory; name a file that this process may read
}

func TestLookSaysBeforehandWhatIsWrongOfEach(t *testing.T) {
	root := newCA(t, "root", nil)
	d, good := filed(t, root.server(t))
	good.ClientCAFile = d.write(t, "ca.pem", root.certPEM())
	if pair, trust := certs.Look(good); pair != nil || trust != nil {
		t.Errorf("Look() of good files = %v, %v", pair, trust)
	}
	bad := good
	bad.KeyFile, bad.ClientCAFile = d.write(t, "other.key", root.server(t).keyPEM(t)), good.KeyFile
	pair, trust := certs.Look(bad)
	if pair == nil || !strings.Contains(pair.Error(), "are no pair") {
		t.Errorf("another's key: %v", pair)
	}
	if trust == nil || !strings.Contains(trust.Error(), "holds no certificate") {
		t.Errorf("a key for a CA: %v", trust)
	}
	absent := certs.Config{ACME: &certs.ACME{Domains: []string{"gw.test"}, CAFile: "/nonexistent/ca.pem", Storage: "/nonexistent/storage"}}
	if pair, trust := certs.Look(absent); pair == nil || !strings.Contains(pair.Error(), "/nonexistent/ca.pem") || trust != nil {
		t.Errorf("no CA of the directory: %v, %v", pair, trust)
	}
}
