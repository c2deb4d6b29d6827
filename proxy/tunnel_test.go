package proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
)

func TestConnectIsRefusedBeforeAnythingIsOpened(t *testing.T) {
	var calls atomic.Int64
	const last = "Connection: close\r\n\r\n"
	d := digging(t, rigging{alter: func(table *routes.Table) {
		allowing("[::1]:443")(table)
		table.Egress.DenyPrivate = true
	}}, plain, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	own := d.front.Listener.Addr().String()
	_, port, _ := net.SplitHostPort(own)
	const after = "GET /x HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"
	for _, tt := range []struct{ name, request, want string }{
		{"path", "CONNECT /api/x HTTP/1.1\r\nHost: localhost\r\n" + last, "400 bad_request"},
		{"no port", "CONNECT example.com HTTP/1.1\r\nHost: example.com\r\n" + last, "400 bad_request"},
		{"empty port", "CONNECT example.com: HTTP/1.1\r\nHost: example.com\r\n" + last, "400 bad_request"},
		{"user information", "CONNECT a:b@example.com:443 HTTP/1.1\r\nHost: example.com\r\n" + last, "400 bad_request"},
		{"odd address", "CONNECT 2130706433:443 HTTP/1.1\r\nHost: x\r\n" + last, "400 bad_request"},
		{"query", "CONNECT example.com:443?x HTTP/1.1\r\nHost: x\r\n" + last, "400"},
		{"length", "CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\nContent-Length: " + fmt.Sprint(len(after)) + "\r\n\r\n" + after, "400 bad_request"},
		{"chunks", "CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + after, "400 bad_request"},
		{"long fields", "CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n" + last, "431 headers_too_large"},
		{"no route", "CONNECT other.test:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "403 egress_denied"},
		{"other port", "CONNECT example.com:22 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "403 egress_denied"},
		{"the gateway itself", "CONNECT " + own + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "405 method_refused"},
		{"the gateway by name", "CONNECT LOCALHOST.:" + port + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "405 method_refused"},
		{"loopback, private", "CONNECT [::1]:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "502 upstream_unreachable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := d.raw(t, tt.request)
			status, code, _ := strings.Cut(tt.want, " ")
			if !strings.HasPrefix(got, "HTTP/1.1 "+status) || code != "" && !strings.Contains(got, "Gateway-Error: "+code+"\r\n") || strings.Count(got, "HTTP/1.1 ") != 1 {
				t.Errorf("got %.600s, want %s alone", got, tt.want)
			}
		})
	}
	if n := d.handler.InFlight(); calls.Load() != 0 || n.Tunnels != 0 {
		t.Errorf("%d calls went upstream, %d tunnels are open", calls.Load(), n.Tunnels)
	}
}

func TestLoopOfConnectsIsRefused(t *testing.T) {
	d := digging(t, rigging{}, plain, echo)
	_, body := d.get(t, "/api/x")
	_, via, _ := strings.Cut(body, `"Via":["`)
	via, _, _ = strings.Cut(via, `"`)
	if _, answer := d.dial(t, "example.com:443", "Via", "1.1 other, "+via); answer.StatusCode != 508 || answer.Header.Get("Gateway-Error") != "loop" {
		t.Errorf("CONNECT by %q got %s", via, answer.Status)
	}
}

func TestTunnelOfHTTP10IsTaken(t *testing.T) {
	d := digging(t, rigging{}, plain, echo)
	got := d.raw(t, "CONNECT example.com:80 HTTP/1.0\r\n\r\nGET /x HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
	head, rest, _ := strings.Cut(got, "\r\n\r\n")
	if head != "HTTP/1.1 200 Connection Established" || !strings.HasPrefix(rest, "HTTP/1.1 200 OK\r\n") || !strings.Contains(rest, `"token":1`) {
		t.Errorf("got %.600s", got)
	}
	if e := d.events.the(1); e.Door != audit.Tunnel || e.Method != "GET" || e.Host != "example.com:443" || e.Route != "api" || e.Status != 200 {
		t.Errorf("recorded %+v, want the call and not its CONNECT", e)
	}
}

func TestHelloBehindTheConnectIsKept(t *testing.T) {
	d := digging(t, rigging{}, plain, echo)
	c, err := net.Dial("tcp", d.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tc := tls.Client(&hasty{Conn: c, first: "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", skip: len("HTTP/1.1 200 Connection Established\r\n\r\n")},
		d.ca.trust("example.com"))
	if got, _ := say(t, tc, "GET /x HTTP/1.1\r\nHost: example.com\r\n\r\n"); got != "200" {
		t.Errorf("got %s", got)
	}
}

// hasty sends first with the first bytes of its own, and overlooks the answer to it.
type hasty struct {
	net.Conn
	first string
	skip  int
}

func (h *hasty) Write(b []byte) (int, error) {
	if h.first != "" {
		b = append([]byte(h.first), b...)
		n := len(h.first)
		h.first = ""
		m, err := h.Conn.Write(b)
		return m - n, err
	}
	return h.Conn.Write(b)
}

func (h *hasty) Read(b []byte) (int, error) {
	if h.skip > 0 {
		n, err := io.ReadFull(h.Conn, make([]byte, h.skip))
		if h.skip -= n; err != nil {
			return 0, err
		}
	}
	return h.Conn.Read(b)
}

func TestTunnelsNeedACA(t *testing.T) {
	g := newRig(t, plain, newUpstream(t, false, echo))
	_, answer := g.dial(t, "example.com:443")
	body, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != 501 || answer.Header.Get("Gateway-Error") != "not_supported" || !strings.Contains(string(body), "intercept.ca_dir") {
		t.Errorf("without a CA: %s %s", answer.Status, body)
	}
	c, answer := g.dial(t, "example.com:80")
	if answer.StatusCode != 200 {
		t.Fatalf("port 80 without a CA: %s", answer.Status)
	}
	err := tls.Client(c, &tls.Config{ServerName: "example.com"}).Handshake()
	if err == nil || !strings.Contains(err.Error(), "handshake failure") {
		t.Errorf("TLS without a CA: %v, want an alert", err)
	}
	if e := g.events.the(2); e.Code != "not_supported" || e.Method != "CONNECT" || !strings.Contains(e.Remedy, "intercept.ca_dir") {
		t.Errorf("recorded %+v", e)
	}
	d := digging(t, rigging{}, strings.Replace(plain, "example.com]", "example.com, 192.0.2.1]", 1), echo)
	if _, answer := d.dial(t, "192.0.2.1:443"); answer.StatusCode != 501 {
		t.Errorf("an address, which no certificate is made for: %s", answer.Status)
	}
}

func TestTunnelsAreLimitedAndCountedApart(t *testing.T) {
	d := digging(t, rigging{
		config: proxy.Config{Tunnels: 4, Identifier: &porter{}}, // half of them for one caller
		alter: func(table *routes.Table) {
			withCallers(table)
			table.Callers[0].Limits.Concurrency = 1
		},
	}, plain, echo)
	var open []net.Conn
	for i := range 2 {
		c, answer := d.dial(t, "example.com:443", "Proxy-Authorization", basic)
		if answer.StatusCode != 200 {
			t.Fatalf("tunnel %d: %s", i, answer.Status)
		}
		open = append(open, c)
	}
	if n := d.handler.InFlight(); n.Tunnels != 2 || n.Through != 0 || n.Calls != 0 || n.Connections < 2 {
		t.Errorf("in flight: %+v, want two tunnels and no call", n)
	}
	if _, answer := d.dial(t, "example.com:443", "Proxy-Authorization", basic); answer.StatusCode != 503 || answer.Header.Get("Retry-After") == "" {
		t.Errorf("a tunnel too many: %s", answer.Status)
	}
	for _, c := range open {
		_ = c.(*ahead).Conn.Close()
	}
	d.await(t, func(n proxy.InFlight) bool { return n.Tunnels == 0 && n.Connections == 1 })
	if _, answer := d.dial(t, "example.com:443", "Proxy-Authorization", basic); answer.StatusCode != 200 {
		t.Errorf("afterwards: %s", answer.Status)
	}
}

func TestTunnelsOfAnyoneAreLimitedTogether(t *testing.T) {
	d := digging(t, rigging{config: proxy.Config{Tunnels: 1}}, plain, echo)
	for i, want := range []int{200, 503} {
		if _, answer := d.dial(t, "example.com:443"); answer.StatusCode != want {
			t.Errorf("tunnel %d: %s, want %d", i, answer.Status, want)
		}
	}
}

// await waits until what is in flight is as wanted.
func (g *rig) await(t testing.TB, want func(proxy.InFlight) bool) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); !want(g.handler.InFlight()); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("in flight: %+v", g.handler.InFlight())
		}
	}
}

func TestCallerOfATunnelIsIdentifiedAnewByItsConnect(t *testing.T) {
	p := &porter{}
	d := digging(t, guarded(p), plain, echo)
	if _, answer := d.dial(t, "example.com:443"); answer.StatusCode != 407 || answer.Close || len(answer.Header["Proxy-Authenticate"]) != 2 {
		t.Errorf("without a key: %s %v, want 407 on an open connection", answer.Status, answer.Header)
	}
	d.events.the(1)
	before := len(p.asked())
	c := d.secure(t, "example.com", d.ca.trust("example.com"), "Proxy-Authorization", basic)
	for range 2 {
		got, body := say(t, c, "GET /x HTTP/1.1\r\nHost: example.com\r\nProxy-Authorization: Basic eDp5\r\nX-Gateway-Authorization: no\r\n\r\n")
		if got != "200" || strings.Contains(body, "eDp5") || strings.Contains(body, "X-Gateway") {
			t.Errorf("got %s %.300s", got, body)
		}
	}
	asked := p.asked()[before:]
	if len(asked) != 3 {
		t.Fatalf("who calls was asked %d times, want once for the CONNECT and for each call", len(asked))
	}
	for _, e := range asked {
		if e.Door != audit.Tunnel || e.Header.Get("Proxy-Authorization") != basic || e.TLS != nil || !e.Source.IsLoopback() {
			t.Errorf("evidence %+v, want that of the CONNECT", e)
		}
		checkUID(t, e, e)
	}
	if e := d.events.the(3); e.Caller != "job" {
		t.Errorf("recorded %+v", e)
	}
}

func TestCallerWhoIsStruckOffIsSoInTheMiddleOfATunnel(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		up := newUpstream(t, true, echo)
		d := digging(t, guarded(&porter{}), plain, echo)
		client := d.through(t, basicUser, protocol == "h2")
		for i, want := range []string{"200 ", "407 caller_unknown"} {
			resp, err := client.Get("https://example.com/x")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if got := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Gateway-Error")); got != want || protocol == "http/1.1" && resp.Close != (i == 1) {
				t.Errorf("%s: got %s (closed: %v), want %s", protocol, got, resp.Close, want)
			}
			d.alter = func(table *routes.Table) { table.Callers = []*routes.Caller{{Name: "other"}} }
			d.use(t, plain, up)
		}
		d.await(t, func(n proxy.InFlight) bool { return n.Tunnels == 0 })
	}
}

func TestTableMayChangeDuringATunnel(t *testing.T) {
	up := newUpstream(t, false, echo)
	d := digging(t, rigging{}, plain, echo)
	c := d.secure(t, "example.com", d.ca.trust("example.com"))
	const request = "GET /x HTTP/1.1\r\nHost: example.com\r\n\r\n"
	if got, _ := say(t, c, request); got != "200" {
		t.Fatalf("before: %s", got)
	}
	d.use(t, strings.Replace(plain, "name: api", "name: other", 1), up)
	if got, _ := say(t, c, request); got != "200" || d.events.the(2).Route != "other" {
		t.Errorf("by the new table: %s, route %s", got, d.events.the(2).Route)
	}
	d.alter = func(table *routes.Table) { table.Egress.Tunnel = true }
	d.use(t, strings.Replace(plain, "example.com", "other.test", 1), up)
	if got, _ := say(t, c, request); got != "403 egress_denied" {
		t.Errorf("a host no longer routed: %s", got)
	}
}

func TestConnectOverHTTP2ReachesNobody(t *testing.T) {
	var calls atomic.Int64
	o := rigging{config: proxy.Config{Certifier: newForger(t)}}
	g := overTLS(t, o, newUpstream(t, false, func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	tr := &http.Transport{TLSClientConfig: trusting(t, g, "h2"), ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, "GET /x HTTP/1.1\r\nHost: example.com\r\n\r\n")
		_ = w.Close()
	}()
	req, err := http.NewRequest(http.MethodConnect, g.front.URL, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "example.com:443"
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 405 || resp.Header.Get("Gateway-Error") != "method_refused" || resp.ProtoMajor != 2 || calls.Load() != 0 {
		t.Errorf("got %s by HTTP/%d, %d calls upstream", resp.Status, resp.ProtoMajor, calls.Load())
	}
}

func TestPingIsAnsweredAtEveryDoorWithoutTheUpstream(t *testing.T) {
	var calls atomic.Int64
	d := digging(t, guarded(&porter{}), plain, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	pong := func(door, answer string) {
		t.Helper()
		if !strings.HasPrefix(answer, "HTTP/1.1 204 ") || !strings.Contains(answer, "Gateway-Request-Id: ") {
			t.Errorf("%s: %.300s", door, answer)
		}
	}
	pong("reverse", d.raw(t, "GET /.gateway/ping HTTP/1.1\r\nHost: localhost\r\nAuthorization: "+basic+"\r\nConnection: close\r\n\r\n"))
	pong("forward", d.raw(t, "GET http://example.com/.gateway/ping HTTP/1.1\r\nHost: x\r\nProxy-Authorization: "+basic+"\r\nConnection: close\r\n\r\n"))
	tunnelled := d.raw(t, "CONNECT example.com:80 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: "+basic+"\r\n\r\nGET /.gateway/ping HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
	pong("tunnel", strings.TrimPrefix(tunnelled, "HTTP/1.1 200 Connection Established\r\n\r\n"))
	for request, want := range map[string]string{
		"GET /.gateway/ping HTTP/1.1\r\nHost: localhost\r\n":                                                  "401",
		"GET http://example.com/.gateway/ping HTTP/1.1\r\nHost: x\r\n":                                        "407",
		"GET http://other.test/.gateway/ping HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + basic + "\r\n":   "403",
		"POST /.gateway/ping HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + basic + "\r\n":                 "404",
		"GET /.gateway/pings HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + basic + "\r\n":                 "404",
		"GET http://example.com/.gateway/other HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + basic + "\r\n": "200",
		"POST http://example.com/.gateway/ping HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + basic + "\r\n": "200",
		"GET /.gateway/ping HTTP/1.1\r\nHost: evil.test\r\nAuthorization: " + basic + "\r\n":                  "421",
		"GET /.gateway/ping?x HTTP/1.1\r\nHost: localhost\r\nOrigin: x\r\nAuthorization: " + basic + "\r\n":   "403",
	} {
		if got := d.raw(t, request+"Connection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 "+want) {
			t.Errorf("%q: %.100s, want %s", request, got, want)
		}
	}
	if calls.Load() != 2 {
		t.Errorf("%d calls reached the upstream, want the two that were for it", calls.Load())
	}
}

func FuzzTargetOfConnectIsOneHostOrNone(f *testing.F) {
	for _, seed := range []string{"example.com:443", "EXAMPLE.com.:443", "/x", "a@example.com:443", "[::1]:443", "example.com", "http://example.com:443/", "0x7f.1:443", "ｅxample.com:443", "example.com:0443", "%65xample.com:443"} {
		f.Add(seed)
	}
	var asked atomic.Pointer[routes.Authority]
	g := rigging{
		config: proxy.Config{Certifier: newForger(f)},
		judge:  func(g *gate.Gate) proxy.Gate { return listening{decided{g}, &asked} },
	}.newRig(f, plain, newUpstream(f, false, echo))
	f.Fuzz(func(t *testing.T, target string) {
		asked.Store(nil)
		answer := sent(t, g.front.Listener.Addr().String(), "CONNECT "+target+" HTTP/1.1\r\nHost: x\r\n\r\n")
		a := asked.Load()
		if a == nil {
			if strings.HasPrefix(answer, "HTTP/1.1 200 Connection") {
				t.Errorf("%q was opened and nobody decided it", target)
			}
			return
		}
		again, err := routes.ParseAuthority(a.String(), 0)
		if err != nil || again != *a || strings.ContainsAny(target, "/@ \t\r\n") && !strings.Contains(target, " HTTP/1.") {
			t.Errorf("%q is taken for %s", target, a)
		}
	})
}

// listening is a gate that tells what was asked of it.
type listening struct {
	decided
	asked *atomic.Pointer[routes.Authority]
}

func (l listening) Tunnel(ctx context.Context, t gate.Target) (gate.Way, routes.Authority, error) {
	l.asked.Store(&t.Authority)
	return l.decided.Tunnel(ctx, t)
}
