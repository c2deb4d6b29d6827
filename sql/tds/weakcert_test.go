package tds_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

// weakServer is a certificate that a trusted CA has signed with SHA-1.
func weakServer(t *testing.T) (leaf tls.Certificate, roots *x509.CertPool) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "old CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{"sql.example.test"}, SignatureAlgorithm: x509.SHA1WithRSA,
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, server, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(root)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

func TestACertificateSignedWithSHA1IsRefusedAndSaidToBe(t *testing.T) {
	leaf, roots := weakServer(t)
	for _, strict := range []bool{false, true} {
		f := newFar()
		f.strict, f.conf = strict, &tls.Config{Certificates: []tls.Certificate{leaf}}
		target := targetOf(f.start(t))
		target.Roots = roots
		e := loginErr(t, target)
		if e.Phase != tds.PhaseTLS || !strings.Contains(e.Cause(), "SHA-1") || strings.Contains(e.Remedy(), "ca_file") {
			t.Errorf("strict %t: %s; %s", strict, e.Cause(), e.Remedy())
		}
		if f.seen()[0].loginSeen {
			t.Error("the login was sent")
		}
	}
}
