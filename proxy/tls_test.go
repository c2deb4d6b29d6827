package proxy_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/proxy"
)

// overTLS is a rig whose front speaks TLS and asks for client certificates.
func overTLS(t *testing.T, o rigging, upstream *httptest.Server) *rig {
	t.Helper()
	o.tls = &tls.Config{Certificates: []tls.Certificate{certificate(t, "localhost")}, ClientAuth: tls.RequestClientCert}
	return o.newRig(t, plain, upstream)
}

// trusting is the client's side; protocol "" leaves it open.
func trusting(t *testing.T, g *rig, protocol string) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(g.front.TLS.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(leaf)
	c := &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: []tls.Certificate{certificate(t, "job.test")}}
	if protocol != "" {
		c.NextProtos = []string{protocol}
	}
	return c
}

// rawTLS sends bytes over TLS and returns all that comes back.
func (g *rig) rawTLS(t *testing.T, request string) string {
	t.Helper()
	c, err := tls.Dial("tcp", g.front.Listener.Addr().String(), trusting(t, g, "http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(bufio.NewReader(c))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDoorsOverTLS(t *testing.T) {
	p := &porter{}
	g := overTLS(t, guarded(p), newUpstream(t, false, echo))
	for _, tt := range []struct{ name, request, want, location string }{
		{"forward, http", "GET http://example.com/x HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + basic, "200", "http://example.com/next?x=1"},
		{"forward, https", "GET https://example.com/x HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + basic, "200", "https://example.com/next?x=1"},
		{"forward, https and its port", "GET HTTPS://example.com:443/x HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + basic, "200", "https://example.com/next?x=1"},
		{"forward, https at port 80", "GET https://example.com:80/x HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + basic, "403", ""},
		{"forward, another scheme", "GET ftp://example.com/x HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + basic, "400", ""},
		{"forward, a stranger", "GET https://example.com/x HTTP/1.1\r\nHost: x", "407", ""},
		{"reverse", "GET /api/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + basic, "200", "https://localhost/api/next?x=1"},
	} {
		got := g.rawTLS(t, tt.request+"\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
		if err != nil {
			t.Fatalf("%s: %v: %q", tt.name, err, got)
		}
		if fmt.Sprint(resp.StatusCode) != tt.want || resp.Header.Get("Location") != tt.location {
			t.Errorf("%s: %d, Location %q; want %s, %q", tt.name, resp.StatusCode, resp.Header.Get("Location"), tt.want, tt.location)
		}
	}
	for _, e := range p.asked() {
		if e.TLS == nil || len(e.TLS.PeerCertificates) != 1 || e.TLS.PeerCertificates[0].DNSNames[0] != "job.test" {
			t.Error("the evidence lacks the client's certificate")
		}
	}
}

func TestReverseDoorSpeaksHTTP2OverTLS(t *testing.T) {
	p := &porter{}
	g := overTLS(t, guarded(p), newUpstream(t, true, echo))
	at, err := url.Parse(g.front.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{"h2", "http/1.1"} {
		for _, tt := range []struct {
			name, url, field, want string
			proxied                bool
		}{
			{"forward", "http://example.com/x", "Proxy-Authorization", "200 1 http://example.com/next?x=1", true},
			{"forward, a stranger", "http://example.com/x", "X-Nothing", "407 caller_unknown", true},
			{"another host", "https://example.com/x", "Proxy-Authorization", "421 misdirected", false},
			{"reverse", g.front.URL + "/api/x", "Authorization", "200 1 " + g.front.URL + "/api/next?x=1", false},
			{"reverse, a stranger", g.front.URL + "/api/x", "Proxy-Authorization", "401 caller_unknown", false},
		} {
			tr := &http.Transport{TLSClientConfig: trusting(t, g, protocol), ForceAttemptHTTP2: protocol == "h2"}
			tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, at.Host)
			}
			if tt.proxied {
				tr.Proxy = http.ProxyURL(at)
				if protocol == "h2" { // as curl --proxy-http2 would
					tt.want = "421 misdirected"
					tr.Proxy, tr.Protocols = nil, new(http.Protocols)
					tr.Protocols.SetUnencryptedHTTP2(true)
					tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
						return (&tls.Dialer{Config: trusting(t, g, protocol)}).DialContext(ctx, network, at.Host)
					}
				}
			}
			req, err := http.NewRequest(http.MethodPost, tt.url, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(tt.field, basic)
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatalf("%s by %s: %v", tt.name, protocol, err)
			}
			var e echoed
			err = json.NewDecoder(resp.Body).Decode(&e)
			resp.Body.Close()
			got := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Gateway-Error"))
			if resp.StatusCode == 200 {
				got = fmt.Sprint(resp.StatusCode, " ", e.Token, " ", resp.Header.Get("Location"))
			}
			if err != nil || got != tt.want || resp.ProtoMajor != map[string]int{"h2": 2, "http/1.1": 1}[protocol] {
				t.Errorf("%s by %s: HTTP/%d %s, %v; want %s", tt.name, protocol, resp.ProtoMajor, got, err, tt.want)
			}
			if strings.Contains(fmt.Sprint(e.Header), basic[6:]) {
				t.Errorf("%s by %s: the upstream saw the caller's key", tt.name, protocol)
			}
			tr.CloseIdleConnections()
		}
	}
	for _, e := range p.asked() {
		if e.TLS == nil || len(e.TLS.PeerCertificates) != 1 || e.TLS.PeerCertificates[0].DNSNames[0] != "job.test" {
			t.Errorf("the evidence at the %s door lacks the client's certificate", e.Door)
		}
		checkUID(t, e, e)
	}
}

func TestConnectionTooManyIsToldSoInTLS(t *testing.T) {
	g := overTLS(t, rigging{config: proxy.Config{Connections: 1}}, newUpstream(t, false, echo))
	first, err := tls.Dial("tcp", g.front.Listener.Addr().String(), trusting(t, g, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if n := g.handler.InFlight().Connections; n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	if second, err := tls.Dial("tcp", g.front.Listener.Addr().String(), trusting(t, g, "")); err == nil {
		second.Close()
		t.Error("a second connection was served")
	}
}

// jwtOf is an unsigned token that claims what payload says.
func jwtOf(payload string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + enc([]byte(payload)) + "." + enc([]byte("signature"))
}

func TestEventsCanBeJoinedToTheLogsOfOthers(t *testing.T) {
	sum := func(s string) string {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:8])
	}
	long := jwtOf(`{"uti":"` + strings.Repeat("x", 65) + `"}`)
	control := jwtOf(`{"uti":"a\nb"}`)
	for _, tt := range []struct{ name, token, wantToken, field, value, wantRequest string }{
		{"uti", jwtOf(`{"uti":"8e-_Sj0RZE"}`), "8e-_Sj0RZE", "request-id", "5a1b-77", "5a1b-77"},
		{"opaque", "opaque-token", sum("opaque-token"), "x-ms-request-id", "77", "77"},
		{"long uti", long, sum(long), "x-ms-correlation-request-id", "c1", "c1"},
		{"uti with a line feed", control, sum(control), "x-request-id", "r1", "r1"},
		{"no uti", jwtOf(`{}`), sum(jwtOf(`{}`)), "request-id", strings.Repeat("x", 129), ""},
		{"uti that is a number", jwtOf(`{"uti":1}`), sum(jwtOf(`{"uti":1}`)), "request-id", "two words", ""},
		{"request-id that is not ASCII", "t", sum("t"), "request-id", "\u00fc", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := rigging{always: tt.token}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set(tt.field, tt.value)
			}))
			for i := range 2 {
				g.get(t, "/api/x")
				if e := g.events.the(i + 1); e.TokenID != tt.wantToken || e.UpstreamRequest != tt.wantRequest {
					t.Errorf("token %q, upstream's request %q; want %q and %q", e.TokenID, e.UpstreamRequest, tt.wantToken, tt.wantRequest)
				}
			}
		})
	}
}
