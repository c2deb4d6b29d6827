package tds_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

func TestTLSIsAsOldInsidePreloginAsPeersExpect(t *testing.T) {
	f := newFar().start(t)
	if _, err := connect(t, targetOf(f)); err != nil {
		t.Fatal(err)
	}
	if v := f.seen()[0]; v.version != tls.VersionTLS12 || v.sni != "sql.example.test" || v.alpn != "" {
		t.Errorf("TLS %#x for %q with ALPN %q, want 1.2 for sql.example.test without", v.version, v.sni, v.alpn)
	}
	s := newFar()
	s.strict = true
	s.start(t)
	if _, err := connect(t, targetOf(s)); err != nil {
		t.Fatal(err)
	}
	if v := s.seen()[0]; v.version != tls.VersionTLS13 || v.sni != "sql.example.test" || v.alpn != "tds/8.0" {
		t.Errorf("TLS %#x for %q with ALPN %q, want 1.3 for sql.example.test with tds/8.0", v.version, v.sni, v.alpn)
	}
}

func TestServersThatDoNotEncryptNeverSeeALogin(t *testing.T) {
	for _, encryption := range []int{0, 2, 0x82, 9, -1} {
		f := newFar()
		f.encryption = encryption
		f.start(t)
		e := loginErr(t, targetOf(f))
		if e.Phase != tds.PhasePrelogin || !strings.Contains(e.Error(), "does not encrypt") {
			t.Errorf("ENCRYPTION %d: error = %v", encryption, e)
		}
		if v := f.seen()[0]; v.loginSeen || v.tlsEnd {
			t.Errorf("ENCRYPTION %d: the server got on to %+v", encryption, v)
		}
	}
	f := newFar()
	f.encryption = 3
	if _, err := connect(t, targetOf(f.start(t))); err != nil {
		t.Errorf("ENCRYPT_REQ: %v", err)
	}
	f = newFar()
	f.strict, f.encryption = true, 2
	if _, err := connect(t, targetOf(f.start(t))); err != nil {
		t.Errorf("under strict TLS the option has no meaning: %v", err)
	}
}

func TestCertificateIsVerifiedForTheServersName(t *testing.T) {
	for _, strict := range []bool{false, true} {
		for _, c := range []struct {
			name   string
			leaf   tls.Certificate
			roots  *x509.CertPool
			reason string
		}{
			{"unknown authority", farTrust().leaf, x509.NewCertPool(), "tls.ca_file"},
			{"another name", farTrust().named("other.example.test"), farTrust().pool, "other.example.test"},
			{"expired", farTrust().expired, farTrust().pool, "expired"},
		} {
			t.Run(fmt.Sprintf("%s, strict %v", c.name, strict), func(t *testing.T) {
				f := newFar()
				f.strict, f.conf = strict, &tls.Config{Certificates: []tls.Certificate{c.leaf}}
				target := targetOf(f.start(t))
				target.Roots = c.roots
				e := loginErr(t, target)
				if e.Phase != tds.PhaseTLS || !strings.Contains(e.Error(), c.reason) || !strings.Contains(e.Error(), "sql.example.test:1433") {
					t.Errorf("error = %v, want the server and %q", e, c.reason)
				}
				if f.seen()[0].loginSeen {
					t.Error("the login was sent")
				}
			})
		}
	}
}

// serverHello is TLS of an old server, which chooses its version whatever the
// client offers.
func serverHello(version byte) []byte {
	body := append([]byte{3, version}, make([]byte, 32)...) // random
	body = append(body, 0, 0, 0x2f, 0)                      // no session, AES in CBC, no compression
	hello := append([]byte{2, 0, 0, byte(len(body))}, body...)
	return append([]byte{22, 3, version, 0, byte(len(hello))}, hello...)
}

func TestServersWithTLSBefore12AreRefusedAndSaidToBe(t *testing.T) {
	alert, chosen := newFar(), newFar()
	alert.conf = &tls.Config{Certificates: []tls.Certificate{farTrust().leaf}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	strict := newFar()
	strict.strict, strict.conf = true, alert.conf.Clone()
	chosen.onPrelogin = func(conn net.Conn) {
		_, _ = conn.Write(farFrame(4, chosen.prelogin()))
		_, _, _ = farPacket(conn)
		_, _ = conn.Write(farFrame(4, serverHello(1)))
		_, _ = io.Copy(io.Discard, conn)
	}
	for name, f := range map[string]*farServer{"an alert": alert, "strict": strict, "TLS 1.0 chosen": chosen} {
		e := loginErr(t, targetOf(f.start(t)))
		if e.Phase != tds.PhaseTLS || !strings.Contains(e.Cause(), "TLS of version 1.2") || !strings.Contains(e.Remedy(), "turn TLS 1.2 on") {
			t.Errorf("%s: %s; %s", name, e.Cause(), e.Remedy())
		}
		if f.seen()[0].loginSeen {
			t.Errorf("%s: the login was sent", name)
		}
	}
}

func TestServersThatAskForACertificateGetNone(t *testing.T) {
	for _, strict := range []bool{false, true} {
		for asks, want := range map[tls.ClientAuthType]bool{tls.RequestClientCert: true, tls.RequireAnyClientCert: false} {
			f := newFar()
			f.strict, f.conf = strict, &tls.Config{Certificates: []tls.Certificate{farTrust().leaf}, ClientAuth: asks}
			_, err := connect(t, targetOf(f.start(t)))
			if (err == nil) != want {
				t.Errorf("strict %t, %s: %v", strict, asks, err)
			}
			if f.seen()[0].loginSeen != want {
				t.Errorf("strict %t, %s: the login was sent: %t", strict, asks, !want)
			}
		}
	}
}
