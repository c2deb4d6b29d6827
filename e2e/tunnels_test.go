package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// The names of two routed hosts. They resolve nowhere.
const apiName, otherName = "api.example.com", "other.example.com"

// startTunnels is a gateway that intercepts both, before one upstream.
func startTunnels(t testing.TB, upstream http.Handler, sections string) *gateway {
	t.Helper()
	srv := httptest.NewServer(upstream)
	t.Cleanup(srv.Close)
	g := start(t, intercepting{hosts: apiName + ", " + otherName, upstream: srv.URL, sections: sections}.setup(t))
	g.ready(t)
	return g
}

// insideTLS opens a tunnel to apiName and TLS in it, with what conf asks for.
func (g *gateway) insideTLS(t testing.TB, conf *tls.Config) (*tls.Conn, error) {
	t.Helper()
	raw, err := openTunnel(g.proxy, apiName+":443", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	conn := tls.Client(raw, conf)
	return conn, conn.HandshakeContext(t.Context())
}

// sends writes a request by hand and reads its answer.
func sends(t testing.TB, conn net.Conn, text string) answer {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: string(b)}
}

func TestNothingButItsOwnHostsCallsIsTakenInsideATunnel(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	g := startTunnels(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }), "")
	roots := g.interceptionRoots(t)
	for _, c := range []struct {
		name, line, host string
		want             []int
	}{
		{"absolute form", "GET https://api.example.com/x", apiName, []int{400}},
		{"absolute form of another", "GET http://other.example.com/x", otherName, []int{400, 421}},
		{"CONNECT", "CONNECT other.example.com:443", otherName + ":443", []int{400, 405}},
		{"TRACE", "TRACE /x", apiName, []int{405}},
		{"asterisk", "OPTIONS *", apiName, []int{400}},
		{"another routed host", "GET /x", otherName, []int{421}},
		{"another port", "GET /x", apiName + ":8443", []int{421}},
		{"an address", "GET /x", "127.0.0.1", []int{421}},
	} {
		conn, err := g.insideTLS(t, &tls.Config{RootCAs: roots, ServerName: apiName})
		if err != nil {
			t.Fatal(err)
		}
		a := sends(t, conn, c.line+" HTTP/1.1\r\nHost: "+c.host+"\r\nConnection: close\r\n\r\n")
		if fmt.Sprint(c.want) != fmt.Sprint([]int{a.status}) && (len(c.want) < 2 || c.want[1] != a.status && c.want[0] != a.status) {
			t.Errorf("%s: status %d %.200s, want one of %d", c.name, a.status, a.body, c.want)
		}
	}
	for _, host := range []string{otherName, apiName + ":8443"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+apiName+"/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := g.tunnelClient(t, true).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusMisdirectedRequest || resp.ProtoMajor != 2 {
			t.Errorf("HTTP/2 with :authority %s: %s %d, want HTTP/2 421", host, resp.Proto, resp.StatusCode)
		}
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls reached the upstream", n)
	}
}

// A stream that is a CONNECT carries its body, so that whoever hands it on
// hands on a request in it too (CVE-2026-71324).
func TestConnectOverHTTP2IsRefusedAtTheListenerAndInATunnel(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer upstream.Close()
	ca := newAuthority(t)
	s := intercepting{hosts: apiName, upstream: upstream.URL}.setup(t)
	s.Config = strings.Replace(s.Config, `admin: "127.0.0.1:0"}`, `admin: "127.0.0.1:0", tls: {certificate_file: tls.pem, key_file: tls.key}}`, 1)
	s.Files["tls.pem"], s.Files["tls.key"] = ca.server(t)
	g := start(t, s)
	outer, err := tls.Dial("tcp", g.proxy, &tls.Config{RootCAs: poolOf(ca), ServerName: "localhost", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer outer.Close()
	connectOverH2(t, "the listener", outer)

	near, err := tls.Dial("tcp", g.proxy, &tls.Config{RootCAs: poolOf(ca), ServerName: "localhost", NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	if _, err := fmt.Fprintf(near, "CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\n\r\n", apiName, apiName); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(near), &http.Request{Method: http.MethodConnect})
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("CONNECT over TLS: %v, %v", resp, err)
	}
	inner := tls.Client(near, &tls.Config{RootCAs: g.interceptionRoots(t), ServerName: apiName, NextProtos: []string{"h2"}})
	if err := inner.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	connectOverH2(t, "a tunnel", inner)
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls reached the upstream", n)
	}
}

// connectOverH2 opens a stream by CONNECT, with a request in its body.
func connectOverH2(t *testing.T, where string, conn *tls.Conn) {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols), DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	tr.Protocols.SetHTTP2(true)
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodConnect, "https://"+apiName+":443", strings.NewReader("GET /smuggled HTTP/1.1\r\nHost: "+apiName+"\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	_ = resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Errorf("%s speaks %s", where, resp.Proto)
	}
	if resp.StatusCode != http.StatusMethodNotAllowed && (where == "the listener" || resp.StatusCode != http.StatusBadRequest) {
		t.Errorf("%s: status %d, want 405", where, resp.StatusCode)
	}
}

// A ticket of one tunnel's host must open no tunnel of another's.
func TestTicketOfOneHostIsNoWayIntoAnothersTunnel(t *testing.T) {
	t.Parallel()
	g := startTunnels(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the upstream") }), "")
	tickets := &oneTicket{cache: tls.NewLRUClientSessionCache(1)}
	conf := &tls.Config{RootCAs: g.interceptionRoots(t), ServerName: apiName, ClientSessionCache: tickets}
	for resumed, call := false, "GET / HTTP/1.1\r\nHost: "+apiName+"\r\n\r\n"; ; resumed = true {
		conn, err := g.insideTLS(t, conf)
		if err != nil {
			t.Fatal(err)
		}
		if a := sends(t, conn, call); a.status != http.StatusOK || conn.ConnectionState().DidResume != resumed {
			t.Fatalf("status %d, resumed %v; want 200, %v", a.status, conn.ConnectionState().DidResume, resumed)
		}
		if resumed {
			break
		}
	}
	other := conf.Clone()
	other.ServerName = otherName
	if conn, err := g.insideTLS(t, other); err == nil {
		t.Errorf("a tunnel to %s takes %s, resumed: %v", apiName, otherName, conn.ConnectionState().DidResume)
	}
}

// oneTicket gives the same ticket for every name.
type oneTicket struct{ cache tls.ClientSessionCache }

func (o *oneTicket) Get(string) (*tls.ClientSessionState, bool)  { return o.cache.Get("") }
func (o *oneTicket) Put(_ string, state *tls.ClientSessionState) { o.cache.Put("", state) }

// thousandQueries are made of the pieces that parsers trip over.
func thousandQueries() []string {
	pieces := []string{"$select=id", "$top=5", ";", "&", "%", "%zz", "%20", "+", "'", "''", "(", ")", "=", "==", "$expand=members($select=id;$top=5)",
		"startswith(displayName,'A')", "%C3%BC", "%F0%9F%98%80", "%00", "%2f", "%2F", "?", "/", "//", ",", "a", "$count=true", "%26", "%3b", "~", "!", "@", ":", "*", "|", "\\", "^", "`", "{}", "[]", "\""}
	rnd := rand.New(rand.NewPCG(11, 18))
	all := make([]string, 1000)
	for i := range all {
		var b strings.Builder
		for range 1 + rnd.IntN(12) {
			b.WriteString(pieces[rnd.IntN(len(pieces))])
		}
		all[i] = fmt.Sprintf("n=%d&%s", i, b.String())
	}
	return all
}

func TestThousandQueriesArriveByteForByteThroughEveryDoor(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := ""
	g := startTunnels(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, got, _ = strings.Cut(r.RequestURI, "?")
	}), "log: {access: false}\n")
	queries := thousandQueries()
	forward := newClient(parsedURL(t, "http://"+g.proxy))
	defer forward.CloseIdleConnections()
	for door, d := range map[string]struct {
		client *http.Client
		base   string
	}{
		"reverse": {g.client, g.url("/api/v1.0/users")}, "forward": {forward, "http://" + apiName + "/v1.0/users"},
		"tunnel": {g.tunnelClient(t, false), "https://" + apiName + "/v1.0/users"}, "tunnel, HTTP/2": {g.tunnelClient(t, true), "https://" + apiName + "/v1.0/users"},
	} {
		wrong := 0
		for _, q := range queries {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.base, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.URL.RawQuery = q
			resp, err := d.client.Do(req)
			if err != nil {
				t.Fatalf("%s: %q: %v", door, q, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			mu.Lock()
			if got != q || resp.StatusCode != http.StatusOK {
				wrong++
				if wrong < 5 {
					t.Errorf("%s: status %d; the upstream got %q, want %q", door, resp.StatusCode, got, q)
				}
			}
			mu.Unlock()
		}
		if wrong > 0 {
			t.Errorf("%s: %d of %d queries are wrong", door, wrong, len(queries))
		}
	}
}

func TestTokenThatComesBackIsKeptFromTheCaller(t *testing.T) {
	t.Parallel()
	g := startTunnels(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/header":
			w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		case "/body":
			w.Header().Set("Content-Type", "text/plain")
			for name, values := range r.Header {
				_, _ = fmt.Fprintf(w, "%s: %s\n", name, strings.Join(values, ", "))
			}
		}
	}), "")
	for _, h2 := range []bool{false, true} {
		for _, path := range []string{"/header", "/body"} {
			a := must(t, g.tunnelClient(t, h2), request{url: "https://" + apiName + path})
			p := refused(t, a, http.StatusBadGateway, "token_reflected")
			if strings.Contains(a.body+fmt.Sprint(a.header)+fmt.Sprint(p), apiToken) {
				t.Errorf("%s: the token reaches the caller", path)
			}
		}
	}
	if !strings.Contains(g.stdout.String(), "token_reflected") {
		t.Error("the log does not tell of it")
	}
}
