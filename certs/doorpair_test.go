package certs_test

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/certs"
)

func TestADoorsPairIsReadAgainAndABadOneChangesNothing(t *testing.T) {
	root := newCA(t, "root", nil)
	_, cfg := filed(t, root.server(t))
	p, err := certs.OpenPair("sql[0]", cfg.CertificateFile, cfg.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	first := p.Certificate()
	if err := p.Reload(); err != nil || p.Certificate() != first {
		t.Errorf("Reload of the same files = %v and another certificate, want none and the same", err)
	}
	next := root.server(t)
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(cfg.CertificateFile, next.chainPEM())
	if err := p.Reload(); err == nil || !strings.Contains(err.Error(), "sql[0].certificate_file") || p.Certificate() != first {
		t.Errorf("Reload of a certificate without its key = %v, want an error that names sql[0].certificate_file, and the one before", err)
	}
	write(cfg.KeyFile, next.keyPEM(t))
	if err := p.Reload(); err != nil || p.Certificate() == first {
		t.Errorf("Reload of a new pair = %v and the one before, want none and the new one", err)
	}
}

func TestADoorsPairThatEndsSoonSaysSo(t *testing.T) {
	root := newCA(t, "root", nil)
	for name, test := range map[string]struct {
		left time.Duration
		want bool
	}{"a day": {24 * time.Hour, true}, "a year": {365 * 24 * time.Hour, false}} {
		_, cfg := filed(t, root.server(t, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-365*24*time.Hour), time.Now().Add(test.left)
		}))
		p, err := certs.OpenPair("sql[0]", cfg.CertificateFile, cfg.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		if end, soon := p.EndsSoon(); soon != test.want || !end.Equal(p.Certificate().Leaf.NotAfter) {
			t.Errorf("%s left: EndsSoon() = %s, %t, want its end and %t", name, end, soon, test.want)
		}
	}
}

func TestASelfMadeCertificateIsOfThisMachineAndRSA(t *testing.T) {
	c, err := certs.SelfMade()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if err := c.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if key, ok := c.PrivateKey.(*rsa.PrivateKey); !ok || key.N.BitLen() != 2048 {
		t.Errorf("the key is %T, want RSA of 2048 bits", c.PrivateKey)
	}
}

func ExampleOpenPair() {
	_, err := certs.OpenPair("sql[0]", "orders-door.pem", "")
	fmt.Println(err)
	// Output: sql[0].certificate_file cannot be read: stat orders-door.pem: no such file or directory; name a file that this process may read
}
