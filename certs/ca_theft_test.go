package certs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// forged signs a leaf by the issuing key of dir, as a thief of it would.
func forged(t testing.TB, dir string, leaf *x509.Certificate) *tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "issuing.pem"), filepath.Join(dir, "issuing.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf.SerialNumber, leaf.NotBefore, leaf.NotAfter = big.NewInt(serials.Add(1)), time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, leaf, pair.Leaf, &key.PublicKey, pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, pair.Certificate[0]}, PrivateKey: key, Leaf: parsed}
}

func TestWhoStealsTheIssuingKeySpeaksForNobodyElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	ca := opened(t, dir, "graph.microsoft.com")
	if err := trusted(forged(t, dir, &x509.Certificate{DNSNames: []string{"graph.microsoft.com"}}), "graph.microsoft.com", ca.Roots()...); err != nil {
		t.Errorf("the host that is permitted: %v", err)
	}
	for host, leaf := range map[string]*x509.Certificate{
		"login.microsoftonline.com": {DNSNames: []string{"login.microsoftonline.com"}},
		"microsoft.com":             {DNSNames: []string{"microsoft.com"}},
		"10.0.0.1":                  {IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}},
		"2001:db8::1":               {IPAddresses: []net.IP{net.ParseIP("2001:db8::1")}},
	} {
		if trusted(forged(t, dir, leaf), host, ca.Roots()...) == nil {
			t.Errorf("a certificate for %s is accepted", host)
		}
	}
}
