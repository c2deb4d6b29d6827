package certs_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/seed-13b04e61/gateway/certs"
)

const job = "spiffe://contoso/billing"

// guarded is a site that lets callers of ca show certificates. list may be "".
func guarded(t testing.TB, ca *issued, list string) (*site, folder, *issued) {
	t.Helper()
	root := newCA(t, "server root", nil)
	d, cfg := filed(t, root.server(t))
	cfg.ClientCAFile = d.write(t, "clients.pem", ca.certPEM())
	if list != "" {
		cfg.ClientCRLFile = d.write(t, "clients.crl", list)
	}
	return open(t, cfg), d, root
}

func TestCallersMayShowACertificate(t *testing.T) {
	ca := newCA(t, "clients", nil)
	s, _, root := guarded(t, ca, "")
	s.must(t, browser(t, root, nil), "nobody")
	s.must(t, browser(t, root, ca.client(t, job)), job)
	s.must(t, browser(t, root, newCA(t, "between", ca).client(t, job)), job)
}

func TestWrongClientCertificatesFailTheHandshake(t *testing.T) {
	ca := newCA(t, "clients", nil)
	s, _, root := guarded(t, ca, "")
	tooDeep := newCA(t, "narrow", ca, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	for name, c := range map[string]struct {
		shows *issued
		why   string
	}{
		"unknown CA":              {newCA(t, "clients", nil).client(t, job), "unknown authority"},
		"self-signed":             {issue(t, ca.client(t, job).cert, nil), "unknown authority"},
		"the server's own CA":     {root.client(t, job), "unknown authority"},
		"expired":                 {ca.client(t, job, expired), "expired or is not yet valid"},
		"of the future":           {ca.client(t, job, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), "expired or is not yet valid"},
		"a server's":              {ca.server(t), "key usage"},
		"below one that is no CA": {ca.client(t, "spiffe://contoso/first").client(t, job), "x509: "},
		"below too short a path":  {newCA(t, "deeper", tooDeep).client(t, job), "x509: "},
	} {
		t.Run(name, func(t *testing.T) { s.refuses(t, browser(t, root, c.shows), c.why) })
	}
}

func TestWrongClientCAsRefuseToStart(t *testing.T) {
	ca := newCA(t, "clients", nil)
	d, cfg := filed(t, newCA(t, "root", nil).server(t))
	for name, c := range map[string]struct{ file, want string }{
		"empty":       {"", "holds no certificate"},
		"a leaf":      {ca.client(t, job).certPEM(), "no CA certificate"},
		"expired":     {newCA(t, "old", nil, expired).certPEM(), "has expired"},
		"damaged":     {strings.Replace(ca.certPEM(), "MII", "MIA", 1), "damaged"},
		"not PEM":     {string(ca.cert.Raw), "holds no certificate"},
		"only a list": {ca.list(t, nil), "holds no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			cfg.ClientCAFile = d.write(t, "clients.pem", c.file)
			if _, err := certs.Open(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open = %v, want an error with %q", err, c.want)
			}
		})
	}
}

// stripe/smokescreen#293: lists that were loaded before their CAs were silently
// not enforced.
func TestSmokescreen293RevokedClientIsRefused(t *testing.T) {
	ca := newCA(t, "clients", nil)
	good, bad := ca.client(t, job), ca.client(t, job)
	s, _, root := guarded(t, ca, ca.list(t, nil, bad))
	s.must(t, browser(t, root, good), job)
	s.must(t, browser(t, root, nil), "nobody")
	s.refuses(t, browser(t, root, bad), "was revoked")
}

func TestRevocationIsFollowedAtEveryLevelAndInEveryEncoding(t *testing.T) {
	ca := newCA(t, "clients", nil)
	between := newCA(t, "between", ca)
	leaf := between.client(t, job)
	root := newCA(t, "server root", nil)
	der := func(text string) string {
		b, _ := pem.Decode([]byte(text))
		return string(b.Bytes)
	}
	older := func(l *x509.RevocationList) { l.ThisUpdate = time.Now().Add(-2 * time.Hour) }
	for name, c := range map[string]struct{ cas, lists, why string }{
		"both lists, nothing revoked":  {ca.certPEM() + between.certPEM(), ca.list(t, nil) + between.list(t, nil), ""},
		"list as DER":                  {between.certPEM(), der(between.list(t, nil, leaf)), "was revoked"},
		"leaf":                         {ca.certPEM() + between.certPEM(), ca.list(t, nil) + between.list(t, nil, leaf), "was revoked"},
		"intermediate":                 {ca.certPEM() + between.certPEM(), ca.list(t, nil, between) + between.list(t, nil), "was revoked"},
		"intermediate of another name": {ca.certPEM(), ca.list(t, nil), "has no list of"},
		"no list of the root":          {ca.certPEM() + between.certPEM(), between.list(t, nil), ""}, // the intermediate is trusted by itself
		"no list of the issuer":        {ca.certPEM() + between.certPEM(), ca.list(t, nil), "has no list of"},
		"newer list clears":            {between.certPEM(), between.list(t, older, leaf) + between.list(t, nil), ""},
		"older list does not":          {between.certPEM(), between.list(t, nil, leaf) + between.list(t, older), "was revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			d, cfg := filed(t, root.server(t))
			cfg.ClientCAFile, cfg.ClientCRLFile = d.write(t, "cas.pem", c.cas), d.write(t, "crl", c.lists)
			s := open(t, cfg)
			if c.why == "" {
				s.must(t, browser(t, root, leaf), job)
				return
			}
			s.refuses(t, browser(t, root, leaf), c.why)
		})
	}
}

// wrongLists are files that must not be believed, by what is said of them.
func wrongLists(t testing.TB, ca *issued) map[string]string {
	stranger := newCA(t, "clients", nil) // of the same name
	return map[string]string{
		"no revocation list":     "",
		"is damaged":             string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("\x30\x03abc")})),
		"ended":                  ca.list(t, func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(-time.Second) }),
		"valid only from":        ca.list(t, func(l *x509.RevocationList) { l.ThisUpdate = time.Now().Add(time.Minute) }),
		"no CA of client_ca":     stranger.list(t, nil),
		"critical extension":     ca.list(t, func(l *x509.RevocationList) { l.ExtraExtensions = critical(2, 5, 29, 28) }),
		"an entry of the list":   ca.list(t, func(l *x509.RevocationList) { l.RevokedCertificateEntries[0].ExtraExtensions = critical(2, 5, 29, 29) }, ca),
		"a list is damaged: x50": "\x30\x03abc",
	}
}

func critical(id ...int) []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier(id), Critical: true, Value: []byte{0x30, 0}}}
}

func TestListsThatMustNotBeBelievedRefuseToStart(t *testing.T) {
	ca := newCA(t, "clients", nil)
	d, cfg := filed(t, newCA(t, "root", nil).server(t))
	cfg.ClientCAFile = d.write(t, "clients.pem", ca.certPEM())
	for want, list := range wrongLists(t, ca) {
		t.Run(want, func(t *testing.T) {
			cfg := cfg
			cfg.ClientCRLFile = d.write(t, "crl", list)
			if _, err := certs.Open(cfg); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "client_crl_file") {
				t.Errorf("Open = %v, want an error with %q", err, want)
			}
		})
	}
}

func TestReloadKeepsTheLastGoodList(t *testing.T) {
	ca := newCA(t, "clients", nil)
	good, bad := ca.client(t, job), ca.client(t, job)
	s, d, root := guarded(t, ca, ca.list(t, nil, bad))
	for want, list := range wrongLists(t, ca) {
		d.write(t, "clients.crl", list)
		if err := s.keeper.Reload(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Reload = %v, want an error with %q", err, want)
		}
		s.must(t, browser(t, root, good), job)
		s.refuses(t, browser(t, root, bad), "was revoked")
	}
}

func TestABrokenCertificateDoesNotHoldUpARevocation(t *testing.T) {
	ca := newCA(t, "clients", nil)
	caller := ca.client(t, job)
	s, d, root := guarded(t, ca, ca.list(t, nil))
	d.write(t, "tls.pem", "half a fi")
	d.write(t, "clients.crl", ca.list(t, nil, caller))
	if err := s.keeper.Reload(); err == nil || !strings.Contains(err.Error(), "certificate_file") {
		t.Errorf("Reload = %v, want an error that names certificate_file", err)
	}
	s.refuses(t, browser(t, root, caller), "was revoked")
}

func TestAListThatEndsRefusesItsCAsCallers(t *testing.T) {
	ca := newCA(t, "clients", nil)
	end := time.Now().Add(2 * time.Second)
	s, _, root := guarded(t, ca, ca.list(t, func(l *x509.RevocationList) { l.NextUpdate = end }))
	c := browser(t, root, ca.client(t, job))
	s.must(t, c, job)
	// Certificates carry whole seconds, and TLS sessions real ones: there is no
	// bubble of false time around sockets.
	for time.Now().Before(end) {
		time.Sleep(50 * time.Millisecond)
	}
	if a, err := s.get(c); err == nil && a.who != "nobody" {
		t.Errorf("an old connection is still answered to %q", a.who)
	}
	s.refuses(t, afresh(c), "ended")
}

func TestResumedSessionsAreJudgedAnew(t *testing.T) {
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			ca := newCA(t, "clients", nil)
			caller := ca.client(t, job)
			s, d, root := guarded(t, ca, ca.list(t, nil))
			c := browser(t, root, caller)
			setVersion(c, version)
			s.must(t, c, job)
			if a := s.must(t, afresh(c), job); !a.state.DidResume {
				t.Fatal("the session was not resumed; the test proves nothing")
			}
			d.write(t, "clients.crl", ca.list(t, nil, caller))
			if err := s.keeper.Reload(); err != nil {
				t.Fatal(err)
			}
			s.refuses(t, afresh(c), "was revoked")
		})
	}
}

func TestSessionsOfACAThatWasTakenOutAreNotResumed(t *testing.T) {
	ca, next := newCA(t, "clients", nil), newCA(t, "next clients", nil)
	s, d, root := guarded(t, ca, "")
	c := browser(t, root, ca.client(t, job))
	s.must(t, c, job)
	d.write(t, "clients.pem", next.certPEM())
	if err := s.keeper.Reload(); err != nil {
		t.Fatal(err)
	}
	s.refuses(t, afresh(c), "unknown authority")
	s.must(t, browser(t, root, next.client(t, job)), job)
}

func TestAnOpenConnectionLosesItsIdentityWithItsCertificate(t *testing.T) {
	for name, protos := range map[string]int{"HTTP/1.1": 1, "HTTP/2": 2} {
		t.Run(name, func(t *testing.T) {
			ca := newCA(t, "clients", nil)
			caller, other := ca.client(t, job), ca.client(t, "spiffe://contoso/other")
			s, d, root := guarded(t, ca, ca.list(t, nil))
			c, peer := browser(t, root, caller), browser(t, root, other)
			if protos == 1 {
				onlyHTTP1(c)
			} else {
				onlyHTTP2(c)
			}
			if a := s.must(t, c, job); a.resp.ProtoMajor != protos {
				t.Fatalf("HTTP/%d is spoken, want %d", a.resp.ProtoMajor, protos)
			}
			s.must(t, peer, "spiffe://contoso/other")
			d.write(t, "clients.crl", ca.list(t, nil, caller))
			if err := s.keeper.Reload(); err != nil {
				t.Fatal(err)
			}
			// The answer is that to nobody, and the connection ends with it.
			s.must(t, c, "nobody")
			s.refuses(t, c, "was revoked")
			s.must(t, peer, "spiffe://contoso/other")

			d.write(t, "clients.pem", newCA(t, "next", nil).certPEM())
			d.write(t, "clients.crl", "")
			if err := s.keeper.Reload(); err == nil {
				t.Error("Reload = nil, want an error of the empty list")
			}
			s.must(t, peer, "spiffe://contoso/other") // CAs and lists change together, or not at all
		})
	}
}

func TestRefusedClientCertificatesDoNotFloodTheLog(t *testing.T) {
	ca := newCA(t, "clients", nil)
	s, _, root := guarded(t, ca, "")
	strange := newCA(t, "clients", nil).client(t, job)
	for range 30 {
		s.refuses(t, browser(t, root, strange), "unknown authority")
	}
	if got := strings.Count(s.log.String(), "a client certificate was refused"); got < 10 || got > 20 {
		t.Errorf("30 refusals are told of %d times, want 10, or 20 on a slow machine", got)
	}
}

// net/http leaves out a request's TLS where HTTP/2's :scheme says http, and a
// handler may then ask the connection itself.
func TestSchemeOfHTTP2DoesNotHideARevocation(t *testing.T) {
	ca := newCA(t, "clients", nil)
	caller := ca.client(t, job)
	s, d, root := guarded(t, ca, ca.list(t, nil))
	pool := x509.NewCertPool()
	pool.AddCert(root.cert)
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: pool, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{caller.pair()}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h2 := newH2(t, conn)
	for _, scheme := range []string{"https", "http"} {
		if got := h2.get(t, scheme, s.addr); got != job {
			t.Errorf("%s: answered to %q, want %q", scheme, got, job)
		}
	}
	d.write(t, "clients.crl", ca.list(t, nil, caller))
	if err := s.keeper.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := h2.get(t, "http", s.addr); got != "nobody" {
		t.Errorf("after the revocation: answered to %q, want nobody", got)
	}
}

// h2 speaks frames, since no client of net/http sends another scheme.
type h2 struct {
	framer *http2.Framer
	stream uint32
}

func newH2(t testing.TB, conn *tls.Conn) *h2 {
	t.Helper()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return &h2{framer: f, stream: 1}
}

// get returns the answer's body.
func (h *h2) get(t testing.TB, scheme, host string) string {
	t.Helper()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", scheme}, {":authority", host}, {":path", "/"}} {
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	id := h.stream
	h.stream += 2
	if err := h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := h.framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = h.framer.WriteSettingsAck()
			}
		case *http2.DataFrame:
			if f.StreamID == id && len(f.Data()) > 0 {
				return string(f.Data())
			}
		}
	}
}
