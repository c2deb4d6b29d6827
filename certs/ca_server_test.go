package certs_test

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/certs"
)

// doorNames are what a SQL door before one server asks for.
func doorNames() []string {
	return []string{"localhost", "127.0.0.1", "::1", "orders-srv.database.windows.net"}
}

func ExampleCA_ServerCertificate() {
	names := []string{"localhost", "127.0.0.1", "::1"}
	ca, err := certs.NewCA(append(names, "graph.microsoft.com"))
	if err != nil {
		fmt.Println(err)
		return
	}
	cert, err := ca.ServerCertificate(names)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cert.Leaf.DNSNames, cert.Leaf.IPAddresses)
	// Output: [localhost] [127.0.0.1 ::1]
}

// server is the certificate for hosts.
func server(t testing.TB, ca *certs.CA, hosts ...string) *tls.Certificate {
	t.Helper()
	c, err := ca.ServerCertificate(hosts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestADoorsCertificateHoldsAllItsNamesUnderAnRSAKey(t *testing.T) {
	ca := interception(t, append(doorNames(), "graph.microsoft.com")...)
	c := server(t, ca, doorNames()...)
	key, ok := c.PrivateKey.(*rsa.PrivateKey)
	if !ok || key.N.BitLen() != 2048 || len(c.Certificate) != 2 {
		t.Fatalf("key = %T, chain of %d; want RSA of 2048 bits, leaf and issuing CA", c.PrivateKey, len(c.Certificate))
	}
	for _, host := range doorNames() {
		if err := trusted(c, host, ca.Roots()...); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if c.Leaf.Subject.CommonName != "localhost" || c.Leaf.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment {
		t.Errorf("subject %q, usage %v; want localhost, and a key that old clients may encrypt to", c.Leaf.Subject, c.Leaf.KeyUsage)
	}
	if err := trusted(c, "graph.microsoft.com", ca.Roots()...); err == nil {
		t.Error("the door's certificate is good for a routed host")
	}
	if again := server(t, ca, doorNames()...); again != c {
		t.Error("a second call made another certificate")
	}
	if !server(t, ca, "localhost").PrivateKey.(*rsa.PrivateKey).Equal(key) {
		t.Error("another door has another key: each costs a start a good part of a second")
	}
}

func TestTheDoorsCertificateServesAHandshakeByAddress(t *testing.T) {
	ca := interception(t, doorNames()...)
	c := server(t, ca, doorNames()...)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.RootPEM())
	for _, name := range []string{"localhost", "127.0.0.1", "orders-srv.database.windows.net"} {
		near, far := net.Pipe()
		done := make(chan error, 1)
		go func() { // ends with the handshake
			done <- tls.Server(far, &tls.Config{Certificates: []tls.Certificate{*c}, MaxVersion: tls.VersionTLS12}).Handshake()
		}()
		if err := tls.Client(near, &tls.Config{RootCAs: pool, ServerName: name}).Handshake(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-done; err != nil {
			t.Errorf("%s: the server's side: %v", name, err)
		}
		_ = near.Close()
		_ = far.Close()
	}
}

func TestOnlyLoopbackIsSignedForByAddressAndOnlyForDoors(t *testing.T) {
	with, without := interception(t, doorNames()...), interception(t, "localhost", "orders-srv.database.windows.net")
	for _, hosts := range [][]string{nil, {}, {""}, {"localhost", "10.0.0.1"}, {"127.0.0.2"}, {"::2"}, {"[::1]"}, {"localhost", "graph.microsoft.com"}, {"*.database.windows.net"}} {
		if _, err := with.ServerCertificate(hosts); !errors.Is(err, certs.ErrNotSigned) {
			t.Errorf("ServerCertificate(%q) = %v, want ErrNotSigned", hosts, err)
		}
	}
	if _, err := without.ServerCertificate([]string{"localhost", "127.0.0.1"}); !errors.Is(err, certs.ErrNotSigned) {
		t.Errorf("without a door that asks for addresses: %v, want ErrNotSigned", err)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		if _, err := with.Certificate(host); !errors.Is(err, certs.ErrNotSigned) {
			t.Errorf("Certificate(%q) = %v: the tunnel door shows none for addresses", host, err)
		}
	}
}

func TestAddressesOfLoopbackArePermittedWhereADoorNeedsThem(t *testing.T) {
	ca := interception(t, "graph.microsoft.com")
	if !use(t, ca, append(doorNames(), "graph.microsoft.com")...) {
		t.Fatal("the first door needs no new root")
	}
	g := ca.Generations()
	for i, want := range []string{"[127.0.0.1/32 ::1/128] []", "[] [0.0.0.0/0 ::/0]"} {
		for _, c := range []*x509.Certificate{g[i].Root, g[i].Issuing} {
			if got := fmt.Sprint(c.PermittedIPRanges, c.ExcludedIPRanges); got != want {
				t.Errorf("%s: permitted and excluded addresses = %s, want %s", c.Subject, got, want)
			}
		}
	}
	if !slices.Contains(g[0].Permitted, "127.0.0.1") || !slices.Contains(g[0].Permitted, "::1") || slices.Contains(g[1].Permitted, "::1") {
		t.Errorf("permitted = %v and %v, want the addresses in the newer alone", g[0].Permitted, g[1].Permitted)
	}
	if err := trusted(server(t, ca, doorNames()...), "127.0.0.1", g[0].Root); err != nil {
		t.Errorf("the root that permits the addresses: %v", err)
	}
	if err := trusted(shown(t, ca, "graph.microsoft.com"), "graph.microsoft.com", g[1].Root); err != nil {
		t.Errorf("a routed host goes on under the root that clients have: %v", err)
	}
	if !ca.Fits([]string{"graph.microsoft.com"}) || !ca.Fits(append(doorNames(), "graph.microsoft.com")) || ca.Fits([]string{"graph.microsoft.com", "::1"}) {
		t.Error("Fits() does not tell which of the two has the addresses")
	}
	use(t, ca, "graph.microsoft.com")
	if _, err := ca.ServerCertificate([]string{"127.0.0.1"}); !errors.Is(err, certs.ErrNotSigned) {
		t.Errorf("after the door is gone: %v, want ErrNotSigned", err)
	}
}

func TestWhoStealsTheKeyOfADoorsCASpeaksForLoopbackAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	ca := opened(t, dir, doorNames()...)
	forge := func(address string) error {
		return trusted(forged(t, dir, &x509.Certificate{IPAddresses: []net.IP{net.ParseIP(address)}}), address, ca.Roots()...)
	}
	for _, own := range []string{"127.0.0.1", "::1"} {
		if err := forge(own); err != nil {
			t.Errorf("%s: %v", own, err)
		}
	}
	for _, other := range []string{"127.0.0.2", "10.0.0.1", "0.0.0.0", "::2", "2001:db8::1", "fe80::1"} {
		if forge(other) == nil {
			t.Errorf("a certificate for %s is accepted", other)
		}
	}
	if again := opened(t, dir, doorNames()...); !slices.EqualFunc(again.Roots(), ca.Roots(), (*x509.Certificate).Equal) {
		t.Error("the CA in the folder was not taken for our own")
	}
}

func TestACAThatPermitsOtherAddressesIsReplaced(t *testing.T) {
	block := func(cidr string) *net.IPNet {
		_, n, err := net.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	both := []*net.IPNet{block("127.0.0.1/32"), block("::1/128")}
	for name, ranges := range map[string][]*net.IPNet{
		"ours":      both,
		"one alone": both[:1],
		"all of 127": {
			block("127.0.0.0/8"), both[1],
		},
		"a further one": {both[0], both[1], block("10.0.0.1/32")},
	} {
		dir := filepath.Join(t.TempDir(), "ca")
		madeByHand(t, dir, func(c *x509.Certificate) {
			c.PermittedDNSDomains = []string{"localhost"}
			c.PermittedIPRanges, c.ExcludedIPRanges = ranges, nil
		})
		kept := opened(t, dir, "localhost", "127.0.0.1", "::1").Roots()[0].Subject.CommonName == "Gateway interception root made by hand"
		if kept != (name == "ours") {
			t.Errorf("%s: kept %t", name, kept)
		}
	}
}

func TestADoorsCertificateIsRenewedBehindTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := interception(t, doorNames()...)
		first := server(t, ca, doorNames()...)
		time.Sleep(40 * time.Hour)
		if server(t, ca, doorNames()...) != first {
			t.Error("the certificate at hand is good still, and was not shown")
		}
		synctest.Wait()
		next := server(t, ca, doorNames()...)
		if next == first || !next.Leaf.NotAfter.After(first.Leaf.NotAfter) {
			t.Error("no new certificate was made behind the call")
		}
	})
}
