package certs_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/certs"
)

func ExampleNewCA() {
	ca, err := certs.NewCA([]string{"graph.microsoft.com", "*.contoso.com"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, host := range []string{"graph.microsoft.com", "api.contoso.com", "login.microsoftonline.com"} {
		cert, err := ca.Certificate(host)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(cert.Leaf.DNSNames)
	}
	// Output:
	// [graph.microsoft.com]
	// [api.contoso.com]
	// the interception CA does not sign for this host: "login.microsoftonline.com" is no host of a route
}

func interception(t testing.TB, hosts ...string) *certs.CA {
	t.Helper()
	ca, err := certs.NewCA(hosts)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// shown is the certificate for host.
func shown(t testing.TB, ca *certs.CA, host string) *tls.Certificate {
	t.Helper()
	c, err := ca.Certificate(host)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// use changes the hosts, and tells whether there is a new root.
func use(t testing.TB, ca *certs.CA, hosts ...string) bool {
	t.Helper()
	renewed, err := ca.Use(hosts)
	if err != nil {
		t.Fatal(err)
	}
	return renewed
}

// trusted judges a chain for host as a client does that trusts roots alone.
func trusted(c *tls.Certificate, host string, roots ...*x509.Certificate) error {
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	for _, der := range c.Certificate[1:] {
		between.AppendCertsFromPEM(asPEM("CERTIFICATE", der))
	}
	_, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: pool, Intermediates: between, CurrentTime: time.Now()})
	return err
}

func TestALeafNamesOneHostAndIsShortLived(t *testing.T) {
	ca := interception(t, "graph.microsoft.com", "api.contoso.com")
	c := shown(t, ca, "graph.microsoft.com")
	leaf := c.Leaf
	if len(c.Certificate) != 2 {
		t.Errorf("the chain has %d certificates, want leaf and issuing CA", len(c.Certificate))
	}
	if !slices.Equal(leaf.DNSNames, []string{"graph.microsoft.com"}) || len(leaf.IPAddresses)+len(leaf.EmailAddresses)+len(leaf.URIs) > 0 {
		t.Errorf("names = %v %v %v %v, want the host alone", leaf.DNSNames, leaf.IPAddresses, leaf.EmailAddresses, leaf.URIs)
	}
	san := slices.IndexFunc(leaf.Extensions, func(e extension) bool { return e.Id.String() == "2.5.29.17" })
	if leaf.Subject.String() != "" || san < 0 || !leaf.Extensions[san].Critical {
		t.Errorf("subject = %q, want none and a critical subjectAltName", leaf.Subject)
	}
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
		t.Errorf("CA %t, usage %v %v, want a server's", leaf.IsCA, leaf.KeyUsage, leaf.ExtKeyUsage)
	}
	if life := time.Until(leaf.NotAfter); life > 48*time.Hour || life < 47*time.Hour || time.Since(leaf.NotBefore) < 59*time.Minute {
		t.Errorf("valid from %s to %s, want from an hour ago for 48 h", leaf.NotBefore, leaf.NotAfter)
	}
	if bits := leaf.SerialNumber.BitLen(); leaf.SerialNumber.Sign() <= 0 || bits > 127 || bits < 64 {
		t.Errorf("the serial number has %d bits, want 127 random ones", bits)
	}
	other := shown(t, ca, "api.contoso.com")
	if !c.PrivateKey.(*ecdsa.PrivateKey).Equal(other.PrivateKey) || leaf.SerialNumber.Cmp(other.Leaf.SerialNumber) == 0 {
		t.Error("two leaves have different keys or one serial number")
	}
	if err := trusted(c, "graph.microsoft.com", ca.Roots()...); err != nil {
		t.Error(err)
	}
}

func TestTheConstraintsPermitTheHostsAndNothingElse(t *testing.T) {
	ca := interception(t, "graph.microsoft.com", "*.contoso.com", "api.contoso.com")
	g := ca.Generations()[0]
	for _, c := range []*x509.Certificate{g.Root, g.Issuing} {
		if got := fmt.Sprint(c.PermittedDNSDomains, c.PermittedDNSDomainsCritical, c.ExcludedIPRanges); got != "[api.contoso.com contoso.com graph.microsoft.com] true [0.0.0.0/0 ::/0]" {
			t.Errorf("%s: constraints = %s", c.Subject, got)
		}
		if c.KeyUsage != x509.KeyUsageCertSign || !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
			t.Errorf("%s: usage = %v %v", c.Subject, c.KeyUsage, c.ExtKeyUsage)
		}
	}
	if g.Root.MaxPathLen != 1 || g.Issuing.MaxPathLen != 0 || !g.Issuing.MaxPathLenZero {
		t.Errorf("path lengths = %d, %d, want 1, 0", g.Root.MaxPathLen, g.Issuing.MaxPathLen)
	}
	if bytes.Equal(g.Root.RawSubject, interception(t, "graph.microsoft.com").Roots()[0].RawSubject) {
		t.Error("two roots share a name")
	}
}

func TestWithoutHostsNothingIsPermitted(t *testing.T) {
	ca := interception(t)
	g := ca.Generations()[0]
	if len(g.Permitted) != 1 || !strings.HasSuffix(g.Permitted[0], ".invalid") || !g.Issuing.PermittedDNSDomainsCritical {
		t.Errorf("permitted = %q, want a name that nobody has", g.Permitted)
	}
	for _, host := range []string{"graph.microsoft.com", g.Permitted[0]} {
		if _, err := ca.Certificate(host); !errors.Is(err, certs.ErrNotSigned) {
			t.Errorf("Certificate(%q) = %v, want ErrNotSigned", host, err)
		}
	}
	if !use(t, ca, "graph.microsoft.com") {
		t.Error("a host was added and there is no new root")
	}
	shown(t, ca, "graph.microsoft.com")
}

func TestOnlyRoutedHostsAreSignedFor(t *testing.T) {
	ca := interception(t, "graph.microsoft.com", "*.contoso.com", "xn--bcher-kva.example")
	for _, host := range []string{"graph.microsoft.com", "a.contoso.com", "a.b.contoso.com", "xn--bcher-kva.example"} {
		if err := trusted(shown(t, ca, host), host, ca.Roots()...); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{
		"", ".", "*", "*.contoso.com", "contoso.com", ".contoso.com", "a..contoso.com", "evilcontoso.com", "sub.graph.microsoft.com",
		"graph.microsoft.com.", "GRAPH.microsoft.com", "graph.microsoft.com:443", "graph.microsoft.com\x00", "a b.contoso.com", "a/.contoso.com",
		"10.0.0.1", "::1", "[::1]", "127.0.0.1.contoso.com.10", "login.microsoftonline.com", strings.Repeat("a.", 130) + "contoso.com",
	} {
		if _, err := ca.Certificate(host); !errors.Is(err, certs.ErrNotSigned) {
			t.Errorf("Certificate(%q) = %v, want ErrNotSigned", host, err)
		}
	}
	for _, host := range []string{"", "*", "*.", "10.0.0.1", "127.0.0.2", "::2", "[::1]", "*.127.0.0.1", "API.contoso.com", "api.contoso.com.", "*.*.com", ".com"} {
		if _, err := ca.Use([]string{"graph.microsoft.com", host}); !errors.Is(err, certs.ErrNotSigned) {
			t.Errorf("Use(%q) = %v, want ErrNotSigned", host, err)
		}
	}
	shown(t, ca, "a.contoso.com") // as it was
}

func TestUnchangedHostsKeepTheirRoot(t *testing.T) {
	ca := interception(t, "graph.microsoft.com", "api.contoso.com")
	leaf := shown(t, ca, "graph.microsoft.com")
	if use(t, ca, "api.contoso.com", "graph.microsoft.com", "api.contoso.com") {
		t.Error("the same hosts in another order make a new root")
	}
	if len(ca.Roots()) != 1 || shown(t, ca, "graph.microsoft.com") != leaf {
		t.Error("a Use of the same hosts changed something")
	}
	if !ca.Fits([]string{"graph.microsoft.com", "api.contoso.com"}) || ca.Fits([]string{"graph.microsoft.com"}) {
		t.Error("Fits is wrong about the hosts that the CA was made for")
	}
}

func TestClientsOfTheOldRootGoOnWhenHostsChange(t *testing.T) {
	ca := interception(t, "graph.microsoft.com", "api.contoso.com")
	old := ca.Roots()[0]
	if !use(t, ca, "graph.microsoft.com", "vault.azure.net") {
		t.Fatal("a host was added and there is no new root")
	}
	roots := ca.Roots()
	if len(roots) != 2 || !roots[1].Equal(old) {
		t.Fatalf("there are %d roots, want the new one and the old", len(roots))
	}
	if err := trusted(shown(t, ca, "graph.microsoft.com"), "graph.microsoft.com", old); err != nil {
		t.Errorf("a client that trusts the old root: %v", err)
	}
	added := shown(t, ca, "vault.azure.net")
	if trusted(added, "vault.azure.net", old) == nil || trusted(added, "vault.azure.net", roots[0]) != nil {
		t.Error("the host that was added is not signed for by the new CA alone")
	}
	if _, err := ca.Certificate("api.contoso.com"); !errors.Is(err, certs.ErrNotSigned) {
		t.Errorf("the host that was removed: %v, want ErrNotSigned, though the old CA permits it", err)
	}
	if use(t, ca, "graph.microsoft.com", "api.contoso.com") {
		t.Error("hosts that a CA in force permits need a new root")
	}
	if err := trusted(shown(t, ca, "api.contoso.com"), "api.contoso.com", old); err != nil {
		t.Error(err)
	}
}

func TestRootsDoNotPileUp(t *testing.T) {
	ca := interception(t, "graph.microsoft.com")
	for i := range 40 {
		use(t, ca, "graph.microsoft.com", fmt.Sprintf("h%d.contoso.com", i))
	}
	if n := len(ca.Roots()); n > 32 {
		t.Errorf("there are %d roots, want 32 at most", n)
	}
	if err := trusted(shown(t, ca, "h39.contoso.com"), "h39.contoso.com", ca.Roots()[0]); err != nil {
		t.Error(err)
	}
}

func TestACAIsRenewedAtTwoThirdsOfItsLifeAndGoesOnToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := interception(t, "graph.microsoft.com")
		old := ca.Roots()[0]
		time.Sleep(4 * 24 * time.Hour)
		if use(t, ca, "graph.microsoft.com") {
			t.Error("renewed after 4 of 7 days")
		}
		time.Sleep(24 * time.Hour)
		if !use(t, ca, "graph.microsoft.com") || use(t, ca, "graph.microsoft.com") {
			t.Error("not renewed just once after 5 of 7 days")
		}
		leaf := shown(t, ca, "graph.microsoft.com")
		if err := trusted(leaf, "graph.microsoft.com", old); err != nil {
			t.Errorf("a client that trusts the old root: %v", err)
		}
		time.Sleep(47 * time.Hour)
		if err := trusted(shown(t, ca, "graph.microsoft.com"), "graph.microsoft.com", ca.Roots()[0]); err != nil {
			t.Errorf("at the old CA's end: %v", err)
		}
		if n := len(ca.Roots()); n != 1 {
			t.Errorf("there are %d roots, want 1: the old one ends", n)
		}
		time.Sleep(10 * 24 * time.Hour)
		if _, err := ca.Certificate("graph.microsoft.com"); !errors.Is(err, certs.ErrNotSigned) || len(ca.Roots()) > 0 || !ca.Expiry().IsZero() {
			t.Errorf("after the end of every CA: %v, want ErrNotSigned and no root", err)
		}
	})
}

func TestALeafNeverOutlivesItsIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := interception(t, "graph.microsoft.com")
		time.Sleep(6 * 24 * time.Hour)
		if leaf := shown(t, ca, "graph.microsoft.com").Leaf; leaf.NotAfter.After(ca.Expiry()) {
			t.Errorf("the leaf ends %s, its issuer %s", leaf.NotAfter, ca.Expiry())
		}
	})
}

func TestALeafIsRenewedBehindTheCallAtTwoThirdsOfItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := interception(t, "graph.microsoft.com")
		first := shown(t, ca, "graph.microsoft.com")
		time.Sleep(31 * time.Hour)
		if shown(t, ca, "graph.microsoft.com") != first {
			t.Error("another leaf after 31 of 48 h")
		}
		time.Sleep(2 * time.Hour)
		if shown(t, ca, "graph.microsoft.com") != first {
			t.Error("a call waited for the renewal")
		}
		synctest.Wait()
		second := shown(t, ca, "graph.microsoft.com")
		if second == first {
			t.Error("the same leaf after 33 of 48 h")
		}
		time.Sleep(49 * time.Hour)
		if third := shown(t, ca, "graph.microsoft.com"); third == second || time.Now().After(third.Leaf.NotAfter) {
			t.Error("a leaf that has ended is shown")
		}
	})
}

func TestHoweverManyAskOneLeafIsMinted(t *testing.T) {
	ca := interception(t, "graph.microsoft.com")
	var asking sync.WaitGroup
	got := make([]*tls.Certificate, 64)
	begin := make(chan struct{})
	for i := range got {
		asking.Go(func() {
			<-begin
			got[i], _ = ca.Certificate("graph.microsoft.com")
		})
	}
	close(begin)
	asking.Wait()
	serials := map[string]bool{}
	for _, c := range got {
		if c == nil {
			t.Fatal("somebody got none")
		}
		serials[c.Leaf.SerialNumber.String()] = true
	}
	if len(serials) != 1 {
		t.Errorf("%d leaves were minted, want 1", len(serials))
	}
}

func TestACachedLeafCostsNothing(t *testing.T) {
	ca := interception(t, "graph.microsoft.com")
	shown(t, ca, "graph.microsoft.com")
	if n := testing.AllocsPerRun(100, func() { _, _ = ca.Certificate("graph.microsoft.com") }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func TestRealHandshakesTakeTheChain(t *testing.T) {
	ca := interception(t, "graph.microsoft.com")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.RootPEM())
	near, far := net.Pipe()
	server := tls.Server(far, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return ca.Certificate(h.ServerName) }})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := tls.Client(near, &tls.Config{ServerName: "graph.microsoft.com", RootCAs: pool}).Handshake(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func BenchmarkCertificateAtHand(b *testing.B) {
	ca := interception(b, "graph.microsoft.com")
	shown(b, ca, "graph.microsoft.com")
	b.ReportAllocs()
	for b.Loop() {
		_, _ = ca.Certificate("graph.microsoft.com")
	}
}

func BenchmarkCertificateMinted(b *testing.B) {
	ca := interception(b, "*.contoso.com")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		shown(b, ca, fmt.Sprintf("h%d.contoso.com", i))
	}
}

func FuzzCertificate(f *testing.F) {
	for _, host := range []string{"graph.microsoft.com", "a.contoso.com", "contoso.com", "*.contoso.com", "1.contoso.com", "::1", "a.contoso.com\x00"} {
		f.Add(host)
	}
	ca := interception(f, "graph.microsoft.com", "*.contoso.com")
	roots := ca.Roots()
	f.Fuzz(func(t *testing.T, host string) {
		c, err := ca.Certificate(host)
		below, ok := strings.CutSuffix(host, ".contoso.com")
		routed := host == "graph.microsoft.com" || ok && below != ""
		switch {
		case err != nil && !errors.Is(err, certs.ErrNotSigned):
			t.Errorf("Certificate(%q) = %v, want ErrNotSigned or none", host, err)
		case err == nil && (!routed || trusted(c, host, roots...) != nil):
			t.Errorf("Certificate(%q) is given, and no client would take it for a routed host", host)
		}
	})
}

type extension = pkix.Extension

func asPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
