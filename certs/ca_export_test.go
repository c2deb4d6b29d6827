package certs_test

import (
	"crypto/x509"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/seed-13b04e61/gateway/certs"
)

// environment is one of names and values.
func environment(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func TestABundleHoldsTheRootsThatProgramsTrustedBefore(t *testing.T) {
	dir := t.TempDir()
	system, extra := newCA(t, "system", nil), newCA(t, "corporate proxy", nil)
	systemFile, extraFile := filepath.Join(dir, "system.pem"), filepath.Join(dir, "extra.pem")
	put(t, systemFile, string(asPEM("CERTIFICATE", system.cert.Raw)))
	put(t, extraFile, "# words\n"+string(asPEM("CERTIFICATE", extra.cert.Raw))+string(asPEM("CERTIFICATE", system.cert.Raw)))
	roots, from, err := certs.SystemRoots(environment("SSL_CERT_FILE", systemFile, "NODE_EXTRA_CA_CERTS", extraFile, "REQUESTS_CA_BUNDLE", dir, "GIT_SSL_CAINFO", systemFile))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(from, []string{systemFile, extraFile}) || len(roots) != 2 {
		t.Errorf("%d roots from %v, want 2 of two files", len(roots), from)
	}
	ca := interception(t, "graph.microsoft.com")
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca.Bundle(roots)) {
		t.Fatal("the bundle holds no certificate")
	}
	want := x509.NewCertPool()
	for _, c := range append(ca.Roots(), system.cert, extra.cert) {
		want.AddCert(c)
	}
	if !pool.Equal(want) {
		t.Error("the bundle is not the CA's root and the system's")
	}
}

func ExampleSystemRoots() {
	_, _, err := certs.SystemRoots(func(name string) (string, bool) {
		return map[string]string{"SSL_CERT_FILE": "roots.pem"}[name], name == "SSL_CERT_FILE"
	})
	fmt.Println(err)
	// Output: SSL_CERT_FILE names roots.pem, which is not there; unset it, or have it name a PEM file of roots
}

func FuzzSystemRoots(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Add(asPEM("CERTIFICATE", newCA(f, "a root", nil).cert.Raw))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "roots.pem")
		put(t, path, string(text))
		roots, from, err := certs.SystemRoots(environment("SSL_CERT_FILE", path))
		if (err == nil) != (len(roots) > 0) || len(from) != len(roots[:min(1, len(roots))]) {
			t.Errorf("%d roots from %v, %v", len(roots), from, err)
		}
	})
}

func TestTheSystemsOwnFileIsFound(t *testing.T) {
	roots, from, err := certs.SystemRoots(environment())
	if err != nil {
		t.Fatal(err)
	}
	if len(roots) < 20 || len(from) != 1 {
		t.Errorf("%d roots from %v, want those of the system", len(roots), from)
	}
}

func TestAVariableThatNamesNoRootsIsAnError(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	put(t, empty, "nothing")
	for _, pairs := range [][]string{
		{"SSL_CERT_FILE", filepath.Join(dir, "absent.pem")}, {"SSL_CERT_FILE", dir}, {"REQUESTS_CA_BUNDLE", empty}, {"CURL_CA_BUNDLE", filepath.Join(dir, "absent.pem")},
	} {
		if _, _, err := certs.SystemRoots(environment(pairs...)); err == nil || !strings.Contains(err.Error(), pairs[0]) || !strings.Contains(err.Error(), pairs[1]) {
			t.Errorf("SystemRoots with %v = %v, want an error that names both", pairs, err)
		}
	}
}

func TestATrustStoreHoldsEveryRootUnderItsOwnName(t *testing.T) {
	ca := interception(t, "graph.microsoft.com")
	// Two roots of one name, as systems have them.
	system := []*x509.Certificate{newCA(t, "twins", nil).cert, newCA(t, "twins", nil).cert}
	b, err := ca.TrustStore(system, certs.TrustStorePassword)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pkcs12.DecodeTrustStore(b, certs.TrustStorePassword)
	if err != nil {
		t.Fatal(err)
	}
	if want := append(ca.Roots(), system...); !slices.EqualFunc(all, want, (*x509.Certificate).Equal) {
		t.Errorf("the store holds %d certificates, want %d", len(all), len(want))
	}
}
