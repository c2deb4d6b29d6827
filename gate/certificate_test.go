package gate_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// ca signs certificates.
type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t testing.TB) *ca {
	t.Helper()
	c := &ca{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	c.key, c.cert = mint(t, template, template, nil)
	return c
}

func mint(t testing.TB, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// issue signs a leaf whose alternative names are these, written as they stand.
func (c *ca) issue(t testing.TB, cn string, uris, dns []string) tls.Certificate {
	t.Helper()
	var names []asn1.RawValue
	for _, u := range uris {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(u)})
	}
	for _, d := range dns {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(d)})
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: cn},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if len(names) > 0 {
		san, err := asn1.Marshal(names)
		if err != nil {
			t.Fatal(err)
		}
		template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}}
	}
	key, leaf := mint(t, template, c.cert, c.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

func verified(c *ca, leaf *x509.Certificate) gate.Evidence {
	return gate.Evidence{Door: audit.Forward, Source: netip.MustParseAddr("192.0.2.7"), TLS: &tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{leaf},
		VerifiedChains:   [][]*x509.Certificate{{leaf, c.cert}},
	}}
}

func certCallers() []*routes.Caller {
	return []*routes.Caller{
		{Name: "billing", CertificateURI: "spiffe://contoso/billing"},
		{Name: "urn", CertificateURI: "urn:app:orders"},
		{Name: "path", CertificateURI: "https://contoso.com/Apps/a%2Fb"},
		{Name: "host", CertificateDNS: "app.contoso.com"},
		{Name: "both", CertificateURI: "urn:app:both", CertificateDNS: "both.contoso.com"},
	}
}

func TestCertificateIsKnownByItsExactNames(t *testing.T) {
	c := newCA(t)
	i := inForce(t, nil, certCallers()...)
	for name, tt := range map[string]struct {
		cn        string
		uris, dns []string
		want      string
	}{
		"spiffe":                      {"", []string{"spiffe://contoso/billing"}, nil, "billing"},
		"spiffe with dns beside":      {"", []string{"spiffe://contoso/billing"}, []string{"pod.svc"}, "billing"},
		"urn":                         {"", []string{"urn:app:orders"}, nil, "urn"},
		"urn among others":            {"", []string{"urn:x:1", "urn:app:orders"}, nil, "urn"},
		"escapes as they stand":       {"", []string{"https://contoso.com/Apps/a%2Fb"}, nil, "path"},
		"dns":                         {"", nil, []string{"app.contoso.com"}, "host"},
		"dns in upper case":           {"", nil, []string{"x.test", "APP.Contoso.com"}, "host"},
		"both names of one":           {"", []string{"urn:app:both"}, []string{"both.contoso.com"}, "both"},
		"nothing":                     {"", nil, nil, ""},
		"common name of a caller":     {"billing", nil, nil, ""},
		"common name as uri":          {"spiffe://contoso/billing", nil, nil, ""},
		"common name as dns":          {"app.contoso.com", nil, []string{"other.test"}, ""},
		"uri as dns":                  {"", nil, []string{"spiffe-contoso-billing"}, ""},
		"dns as uri":                  {"", []string{"https://app.contoso.com"}, nil, ""},
		"below":                       {"", []string{"spiffe://contoso/billing/x"}, nil, ""},
		"above":                       {"", []string{"spiffe://contoso/bill"}, nil, ""},
		"final slash":                 {"", []string{"spiffe://contoso/billing/"}, nil, ""},
		"empty fragment":              {"", []string{"spiffe://contoso/billing#"}, nil, ""},
		"empty query":                 {"", []string{"spiffe://contoso/billing?"}, nil, ""},
		"dot segment":                 {"", []string{"spiffe://contoso/x/../billing"}, nil, ""},
		"escaped letter":              {"", []string{"spiffe://contoso/%62illing"}, nil, ""},
		"scheme in upper case":        {"", []string{"SPIFFE://contoso/billing"}, nil, ""},
		"trust domain in upper case":  {"", []string{"spiffe://Contoso/billing"}, nil, ""},
		"other trust domain":          {"", []string{"spiffe://contoso.evil/billing"}, nil, ""},
		"two spiffe names":            {"", []string{"spiffe://contoso/billing", "spiffe://contoso/other"}, nil, ""},
		"spiffe and a further uri":    {"", []string{"urn:app:orders", "spiffe://contoso/other"}, nil, ""},
		"two callers by uri":          {"", []string{"urn:app:orders", "urn:app:both"}, nil, ""},
		"two callers, by uri and dns": {"", []string{"urn:app:orders"}, []string{"app.contoso.com"}, ""},
		"two callers by dns":          {"", nil, []string{"app.contoso.com", "both.contoso.com"}, ""},
		"wildcard":                    {"", nil, []string{"*.contoso.com"}, ""},
		"dns with final dot":          {"", nil, []string{"app.contoso.com."}, ""},
		"dns below":                   {"", nil, []string{"x.app.contoso.com"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := identify(t, i, verified(c, c.issue(t, tt.cn, tt.uris, tt.dns).Leaf))
			if got.caller != tt.want {
				t.Errorf("Identify = %q (%s), want %q", got.caller, got.cause, tt.want)
			}
			if tt.want != "" && got.how != "client_certificate" || tt.want == "" && (got.code != gate.CallerUnknown || got.cause == "") {
				t.Errorf("how = %q, code = %q, cause = %q", got.how, got.code, got.cause)
			}
		})
	}
}

func TestCertificateThatNobodyVerifiedProvesNothing(t *testing.T) {
	c := newCA(t)
	leaf := c.issue(t, "", []string{"spiffe://contoso/billing"}, nil).Leaf
	uid := uint32(1001)
	i := inForce(t, nil, append(certCallers(), &routes.Caller{Name: "backup", UID: &uid})...)
	for name, state := range map[string]*tls.ConnectionState{
		"no chains":    {PeerCertificates: []*x509.Certificate{leaf}},
		"empty chains": {PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{}},
		"empty chain":  {PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{}}},
	} {
		e := gate.Evidence{Door: audit.Forward, TLS: state, UID: func() (uint32, error) { return 1001, nil }}
		if got := identify(t, i, e); got.caller != "" || !strings.Contains(got.cause, "not verified") {
			t.Errorf("Identify(%s) = %q, cause %q; want nobody, not even by uid", name, got.caller, got.cause)
		}
	}
	bare := gate.Evidence{Door: audit.Forward, TLS: &tls.ConnectionState{}, UID: func() (uint32, error) { return 1001, nil }}
	if got := identify(t, i, bare); got.caller != "backup" {
		t.Errorf("Identify(TLS without a certificate) = %q (%s), want backup by uid", got.caller, got.cause)
	}
}

func TestCertificateThatExpiresOnAnOpenConnectionIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCA(t)
		i := inForce(t, nil, certCallers()...)
		e := verified(c, c.issue(t, "", []string{"spiffe://contoso/billing"}, nil).Leaf)
		for _, want := range []string{"billing", "", ""} {
			if got := identify(t, i, e); got.caller != want {
				t.Errorf("Identify = %q (%s), want %q", got.caller, got.cause, want)
			}
			time.Sleep(time.Hour + time.Second)
		}
	})
}

// What crypto/tls hands over is what is understood here.
func TestCertificateOfARealHandshakeIsKnown(t *testing.T) {
	c := newCA(t)
	i := inForce(t, nil, certCallers()...)
	pool := x509.NewCertPool()
	pool.AddCert(c.cert)
	server := c.issue(t, "", nil, []string{"gw.test"})
	for want, client := range map[string][]tls.Certificate{
		"billing": {c.issue(t, "", []string{"spiffe://contoso/billing"}, nil)},
		"":        nil,
	} {
		a, b := net.Pipe()
		s := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven})
		done := make(chan error, 1)
		go func() {
			err := tls.Client(b, &tls.Config{InsecureSkipVerify: true, Certificates: client}).Handshake()
			if err == nil {
				_, err = b.Read(make([]byte, 1)) // takes the session ticket
			}
			done <- err
		}()
		if err := s.Handshake(); err != nil {
			t.Fatal(err)
		}
		state := s.ConnectionState()
		got := identify(t, i, gate.Evidence{Door: audit.Reverse, Header: http.Header{}, TLS: &state})
		if got.caller != want {
			t.Errorf("Identify = %q (%s), want %q", got.caller, got.cause, want)
		}
		a.Close()
		b.Close()
		<-done
	}
}

// CVE-2026-27586: a CA file that is gone must not mean the system's roots.
func TestUnreadableCAOfAnIssuerKeepsTheTableOut(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{"missing": dir + "/missing.pem", "empty": dir + "/empty.pem", "folder": dir, "large": dir + "/large.pem"}
	if err := os.WriteFile(files["empty"], []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files["large"], make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			i := gate.NewIdentifier(gate.IdentifierOptions{})
			bad := jwtCaller("ci")
			bad.JWT.CAFile = file
			refused := func(want string) {
				t.Helper()
				errs := i.Use(&routes.Table{Callers: []*routes.Caller{keyCaller("new", otherKey), bad}})
				if len(errs) != 1 || !strings.Contains(errs[0].Error(), `caller "ci": ca_file`) {
					t.Fatalf("Use = %v, want one error that names the caller", errs)
				}
				if got := identify(t, i, viaForward(basic("job", jobKey))); got.caller != want {
					t.Errorf("Identify = %q (%s), want %q", got.caller, got.cause, want)
				}
				if got := identify(t, i, viaForward(basic("new", otherKey))); got.caller != "" {
					t.Errorf("Identify = %q of the table that was refused", got.caller)
				}
			}
			refused("")
			use(t, i, keyCaller("job", jobKey))
			refused("job")
		})
	}
}
