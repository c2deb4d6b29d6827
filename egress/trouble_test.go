package egress_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/egress"
)

// refusing is an address at which nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// shown is what a client that trusts roots alone, or nobody, says of a server
// whose certificate ended at until.
func shown(t *testing.T, name string, until time.Time, trusted bool) error {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: until.Add(-time.Hour), NotAfter: until, DNSNames: []string{name}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if trusted {
		roots.AddCert(cert)
	}
	near, far := net.Pipe()
	go func() { // ends with the handshake
		_ = tls.Server(far, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}).Handshake()
		far.Close()
	}()
	defer near.Close()
	if err = tls.Client(near, &tls.Config{ServerName: "api.example", RootCAs: roots}).Handshake(); err == nil {
		t.Fatal("the certificate was taken")
	}
	return err
}

func TestEveryConnectionThatFailsHasItsCauseAndNextStep(t *testing.T) {
	direct, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	dial := func(d *egress.Dialer, addr string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			conn.Close()
			t.Fatalf("%s was reached", addr)
		}
		return fmt.Errorf("wrapped: %w", err)
	}
	by := func(hop string) error {
		d, err := egress.New(egress.Config{Proxy: &url.URL{Scheme: "http", Host: hop}})
		if err != nil {
			t.Fatal(err)
		}
		return dial(d, "api.example:443")
	}
	later, before := time.Now().Add(time.Hour), time.Now().Add(-time.Minute)
	for _, tt := range []struct {
		name         string
		err          error
		what, remedy string
		kind         egress.Trouble // but for its words
	}{
		{"no such name", dial(direct, "api.example.invalid:443"), "its name cannot be resolved", "how it is spelt in host", egress.Trouble{}},
		{"nobody listens", dial(direct, refusing(t)), "it refuses the connection", "listens at this port, or correct host", egress.Trouble{}},
		{"metadata", dial(direct, "169.254.169.254:80"), "one that no call may reach", "correct host", egress.Trouble{}},
		{"no answer", &net.OpError{Op: "dial", Err: context.DeadlineExceeded}, "no connection to it came about in time", "firewall", egress.Trouble{Late: true}},
		{"an answer too late", context.DeadlineExceeded, "", "", egress.Trouble{Late: true}},
		{"expired", shown(t, "api.example", before, true), "its TLS certificate has expired", "renew it", egress.Trouble{TLS: true}},
		{"another name", shown(t, "other.example", later, true), "is for another name", "say its name by sni", egress.Trouble{TLS: true}},
		{"unknown CA", shown(t, "api.example", later, false), "is not trusted", "under ca", egress.Trouble{TLS: true}},
		{"hop wants another credential", by(newHop(t, 407, "").addr), "the next hop asks for another credential: status 407", "username and password of egress.proxy", egress.Trouble{Hop: true}},
		{"hop forbids", by(newHop(t, 403, "").addr), "refused a tunnel with status 403", "let CONNECT to this host pass", egress.Trouble{Hop: true}},
		{"hop is down", by(refusing(t)), "the next hop refuses the connection", "egress.proxy is up", egress.Trouble{Hop: true}},
		{"hop without address", by("proxy.invalid:3128"), "the next hop's name cannot be resolved", "correct its url", egress.Trouble{Hop: true}},
		{"anything", fmt.Errorf("broken"), "", "", egress.Trouble{}},
	} {
		got := egress.Explain(tt.err, egress.Peer{Name: "it", Of: "its", Keys: "host", CA: "ca", SNI: "sni"})
		if (tt.what == "") != (got.What == "") || !strings.Contains(got.What, tt.what) || !strings.Contains(got.Remedy, tt.remedy) {
			t.Errorf("%s: Explain(%v) = %q, %q; want %q, %q", tt.name, tt.err, got.What, got.Remedy, tt.what, tt.remedy)
		}
		if got.What, got.Remedy = "", ""; got != tt.kind {
			t.Errorf("%s: Explain(%v) = %+v, want %+v", tt.name, tt.err, got, tt.kind)
		}
	}
}
