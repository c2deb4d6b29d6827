package proxy_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/proxy"
)

func TestCallsInTunnelsGetTheToken(t *testing.T) {
	d := digging(t, rigging{}, plain, echo)
	for _, h2 := range []bool{false, true} {
		for _, url := range []string{"https://example.com/a%2Fb?$x=1;y", "https://EXAMPLE.com:443/x"} {
			resp, err := d.through(t, nil, h2).Get(url)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 200 || resp.ProtoMajor != map[bool]int{false: 1, true: 2}[h2] || !strings.Contains(string(body), `"token":1`) || resp.Header.Get("Gateway-Request-Id") == "" {
				t.Errorf("%s by HTTP/%d: %s %s", url, resp.ProtoMajor, resp.Status, body)
			}
			if strings.Contains(url, "%2F") && !strings.Contains(string(body), `"uri":"/a%2Fb?$x=1;y"`) {
				t.Errorf("%s arrived as %s", url, body)
			}
		}
	}
	for n := range 4 {
		if e := d.events.the(n + 1); e.Door != audit.Tunnel || e.Host != "example.com:443" || e.Route != "api" || e.Method != "GET" {
			t.Errorf("recorded %+v, want calls alone", e)
		}
	}
}

func TestCallsInTunnelsAreForTheTunnelsHost(t *testing.T) {
	var calls atomic.Int64
	text := strings.Replace(plain, "example.com]", "example.com, other.test, \"example.com:8443\"]", 1)
	d := digging(t, rigging{}, text, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	for _, tt := range []struct{ tunnel, request, want string }{
		{"example.com:443", "GET /x HTTP/1.1\r\nHost: example.com", "200"},
		{"example.com:443", "GET /x HTTP/1.1\r\nHost: EXAMPLE.com.:443", "200"},
		{"example.com:80", "GET /x HTTP/1.1\r\nHost: example.com", "200"},
		{"example.com:80", "GET /x HTTP/1.1\r\nHost: example.com:80", "200"},
		{"example.com:8443", "GET /x HTTP/1.1\r\nHost: example.com:8443", "200"},
		{"example.com:443", "GET /x HTTP/1.1\r\nHost: example.com\r\nOrigin: https://a.test\r\nSec-Fetch-Site: cross-site", "200"},
		{"example.com:8443", "GET /x HTTP/1.1\r\nHost: example.com", "421 misdirected"},
		{"example.com:443", "GET /x HTTP/1.1\r\nHost: example.com:8443", "421 misdirected"},
		{"example.com:80", "GET /x HTTP/1.1\r\nHost: example.com:443", "421 misdirected"},
		{"example.com:443", "GET /x HTTP/1.1\r\nHost: other.test", "421 misdirected"},
		{"example.com:443", "GET /x HTTP/1.1\r\nHost: localhost", "421 misdirected"},
		{"example.com:443", "GET /x HTTP/1.1\r\nHost: example.com@other.test", "400 "},
		{"example.com:443", "GET http://example.com/x HTTP/1.1\r\nHost: example.com", "400 bad_request"},
		{"example.com:443", "GET http://other.test/x HTTP/1.1\r\nHost: example.com", "400 bad_request"},
		{"example.com:443", "OPTIONS * HTTP/1.1\r\nHost: example.com", "400 bad_request"},
		{"example.com:443", "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443", "405 method_refused"},
		{"example.com:443", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443", "405 method_refused"},
		{"example.com:443", "TRACE /x HTTP/1.1\r\nHost: example.com", "405 method_refused"},
	} {
		for _, secured := range []bool{false, true} {
			before := calls.Load()
			c, answer := d.dial(t, tt.tunnel)
			if answer.StatusCode != 200 {
				t.Fatalf("CONNECT %s: %s", tt.tunnel, answer.Status)
			}
			if secured {
				c = tls.Client(c, d.ca.trust("example.com"))
			}
			got, _ := say(t, c, tt.request+"\r\nConnection: close\r\n\r\n")
			went := calls.Load() - before
			if got != strings.TrimSpace(tt.want) || (went == 1) != (tt.want == "200") {
				t.Errorf("%q in a tunnel to %s (TLS: %v): %s, %d calls upstream; want %s", tt.request, tt.tunnel, secured, got, went, tt.want)
			}
			_ = c.Close()
		}
	}
	for _, authority := range []string{"other.test", "example.com:8443"} {
		tr := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c := d.secure(t, "example.com", d.ca.trust("example.com", "h2"))
			return c, c.HandshakeContext(ctx)
		}}
		req, err := http.NewRequest(http.MethodGet, "https://example.com/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = authority
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 421 || resp.ProtoMajor != 2 || resp.Header.Get("Gateway-Error") != "misdirected" {
			t.Errorf("%s over HTTP/%d: %s", authority, resp.ProtoMajor, resp.Status)
		}
		tr.CloseIdleConnections()
	}
}

func TestHandshakeIsForTheTunnelsHost(t *testing.T) {
	text := strings.Replace(plain, "example.com]", "example.com, other.test]", 1)
	d := digging(t, rigging{}, text, echo)
	for at, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conf := d.ca.trust("example.com", "http/1.1")
		conf.MaxVersion = version
		conf.ClientSessionCache = anyName{tls.NewLRUClientSessionCache(1)}
		for i, want := range []bool{false, true} {
			c := d.secure(t, "example.com", conf)
			if got, _ := say(t, c, "GET /x HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"); got != "200" || c.ConnectionState().DidResume != want {
				t.Errorf("%#x, tunnel %d: %s, resumed: %v", version, i, got, c.ConnectionState().DidResume)
			}
			_, _ = io.Copy(io.Discard, c)
		}
		other := conf.Clone()
		other.ServerName = "other.test"
		other.InsecureSkipVerify = true // else this client would not offer another name's session
		if err := d.secure(t, "example.com", other).Handshake(); err == nil {
			t.Errorf("%#x: a session was resumed in a tunnel to example.com with the name other.test", version)
		}
		e := d.events.the(4*at + 3)
		if e.Code != "misdirected" || e.Method != "CONNECT" || !strings.Contains(e.Cause, "other.test") || e.Host != "example.com:443" {
			t.Errorf("%#x: recorded %+v", version, e)
		}
		c := d.secure(t, "other.test", other)
		if err := c.Handshake(); err != nil || c.ConnectionState().DidResume {
			t.Errorf("%#x: the session of example.com was resumed in a tunnel to other.test (%v)", version, err)
		}
		nameless := d.ca.trust("")
		nameless.InsecureSkipVerify, nameless.MaxVersion = true, version
		if got, _ := say(t, d.secure(t, "example.com", nameless), "GET /x HTTP/1.1\r\nHost: example.com\r\n\r\n"); got != "200" {
			t.Errorf("%#x: a client that names no host got %s", version, got)
		}
	}
}

// anyName has one session for every name.
type anyName struct{ tls.ClientSessionCache }

func (a anyName) Get(string) (*tls.ClientSessionState, bool) { return a.ClientSessionCache.Get("") }
func (a anyName) Put(_ string, s *tls.ClientSessionState)    { a.ClientSessionCache.Put("", s) }

func TestClientThatDoesNotTrustTheCAIsNamed(t *testing.T) {
	late := func(c *tls.Conn) error { // as Node and GnuTLS do
		if err := c.Handshake(); err != nil {
			return err
		}
		return c.Close()
	}
	abrupt := func(c *tls.Conn) error {
		if err := c.Handshake(); err != nil {
			return err
		}
		return c.NetConn().Close()
	}
	for _, tt := range []struct {
		name, cause string
		alter       func(*tls.Config)
		do          func(*tls.Conn) error
		refused     bool
	}{
		{"alert of TLS 1.3", "bad_certificate", func(*tls.Config) {}, (*tls.Conn).Handshake, true},
		{"alert of TLS 1.2", "bad_certificate", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, (*tls.Conn).Handshake, true},
		{"alert of TLS 1.3, as OpenSSL sends it", "unknown_ca", func(c *tls.Config) { c.InsecureSkipVerify = true }, unsealed, true},
		{"closed in the handshake", "when it saw the certificate", func(c *tls.Config) { c.InsecureSkipVerify = true }, dropping, true},
		{"closed after it", "right after the handshake", func(c *tls.Config) { c.InsecureSkipVerify = true }, late, false},
		{"dropped after it", "right after the handshake", func(c *tls.Config) { c.InsecureSkipVerify = true }, abrupt, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := digging(t, rigging{}, plain, echo)
			for i := range 2 {
				conf := &tls.Config{ServerName: "example.com", RootCAs: x509.NewCertPool()}
				tt.alter(conf)
				if err := tt.do(d.secure(t, "example.com", conf)); (err != nil) != tt.refused {
					t.Fatalf("the client says %v", err)
				}
				e := d.events.the(i + 1)
				if e.Method != "CONNECT" || e.Status != 499 || !strings.Contains(e.Cause, tt.cause) || !strings.Contains(e.Remedy, "gateway ca export") || e.Door != audit.Tunnel {
					t.Errorf("recorded %+v, want the cause %q", e, tt.cause)
				}
			}
			if said := d.log.String(); strings.Count(said, "does not trust the gateway's CA\"") != 1 || !strings.Contains(said, "NODE_EXTRA_CA_CERTS") || !strings.Contains(said, `"server.address":"example.com","server.port":443`) {
				t.Errorf("the log says %s, want it once", said)
			}
		})
	}
}

// unsealed refuses the certificate before its own keys for writing are in use.
func unsealed(c *tls.Conn) error {
	raw := c.NetConn().(*ahead)
	return tls.Client(raw, &tls.Config{InsecureSkipVerify: true, VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error {
		_, _ = raw.Conn.Write([]byte{21, 3, 3, 0, 2, 2, 48})
		_ = raw.CloseWrite()
		return errHangsUp
	}}).Handshake()
}

var errHangsUp = errors.New("hangs up")

// dropping closes the connection beneath before an alert could be sent.
func dropping(c *tls.Conn) error {
	raw := c.NetConn().(*ahead)
	return tls.Client(raw, &tls.Config{InsecureSkipVerify: true, VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error {
		_ = raw.Conn.Close()
		return errHangsUp
	}}).Handshake()
}

func TestClientThatTrustsAndLeavesIsNotAccused(t *testing.T) {
	d := digging(t, rigging{}, plain, echo)
	conf := d.ca.trust("example.com")
	c := d.secure(t, "example.com", conf)
	if got, _ := say(t, c, "GET /x HTTP/1.1\r\nHost: example.com\r\n\r\n"); got != "200" {
		t.Fatal(got)
	}
	_ = c.Close()
	idle, _ := d.dial(t, "example.com:443") // a client that opens one too many
	_ = idle.Close()
	d.await(t, func(n proxy.InFlight) bool { return n.Tunnels == 0 })
	if e := d.events.last(); e.Method != "GET" || d.log.String() != "" {
		t.Errorf("recorded %+v, logged %s", e, d.log.String())
	}
}

func TestOtherProtocolsInAnInterceptedTunnelEndIt(t *testing.T) {
	d := digging(t, rigging{}, plain, echo)
	for i, first := range []string{"SSH-2.0-x\r\n", "\x00\x00", "ehlo x\r\n", "\x16"} {
		c, _ := d.dial(t, "example.com:443")
		if _, err := io.WriteString(c, first); err != nil {
			t.Fatal(err)
		}
		if first == "\x16" {
			_ = c.(*ahead).CloseWrite()
		}
		rest, err := io.ReadAll(c)
		if first[0] == 'S' {
			if !strings.HasPrefix(string(rest), "HTTP/1.1 400 ") {
				t.Errorf("%q brought %q, %v", first, rest, err)
			}
			continue
		}
		if len(rest) > 0 && rest[0] != 0x15 {
			t.Errorf("%q brought %q", first, rest)
		}
		if e := d.events.the(i); e.Code != "bad_request" || e.Method != "CONNECT" || e.Cause == "" {
			t.Errorf("%q: recorded %+v", first, e)
		}
	}
	if n := d.issuer.issued.Load(); n != 0 {
		t.Errorf("%d tokens were got", n)
	}
}

func TestAnswersStreamThroughTunnels(t *testing.T) {
	release := make(chan struct{})
	d := digging(t, rigging{}, plain, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "one")
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = io.Copy(w, r.Body)
	})
	for _, h2 := range []bool{false, true} {
		release = make(chan struct{})
		resp, err := d.through(t, nil, h2).Post("https://example.com/x", "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 3)
		if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "one" {
			t.Errorf("first came %q, %v", first, err)
		}
		close(release)
		rest, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || len(rest) != 1<<20 {
			t.Errorf("then came %d bytes, %v", len(rest), err)
		}
	}
}
