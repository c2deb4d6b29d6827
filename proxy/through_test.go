package proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
)

// beside is a TCP server of no route; serve has each of its connections.
func beside(t testing.TB, serve func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func TestAllowedHostsPassThroughUntouched(t *testing.T) {
	addr := beside(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 hello\r\n") // the server speaks first
		b, _ := io.ReadAll(c)                     // until the caller has said all
		_, _ = c.Write(append([]byte("got "), b...))
	})
	g := rigging{alter: allowing(addr)}.newRig(t, plain, newUpstream(t, false, echo))
	c, answer := g.dial(t, addr)
	if answer.StatusCode != 200 {
		t.Fatal(answer.Status)
	}
	if n := g.handler.InFlight(); n.Tunnels != 1 || n.Through != 1 || n.Calls != 0 {
		t.Errorf("in flight: %+v, want one that passes through", n)
	}
	hello := make([]byte, len("220 hello\r\n"))
	if _, err := io.ReadFull(c, hello); err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("\x16\x00anything", 10_000)
	go func() {
		_, _ = io.WriteString(c, large)
		_ = c.(*ahead).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "got "+large {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	e := g.events.the(1)
	if e.Door != audit.Tunnel || e.Method != "CONNECT" || e.Status != 200 || e.Host != addr || e.Code != "" || e.Cause != "" ||
		e.BytesIn != int64(len(large)) || e.BytesOut != int64(len(large)+4+11) || e.Duration <= 0 || e.Route != "" {
		t.Errorf("recorded %+v", e)
	}
	if g.issuer.issued.Load() != 0 {
		t.Error("a token was got for it")
	}
	g.await(t, func(n proxy.InFlight) bool { return n.Tunnels == 0 && n.Connections == 0 })
}

func TestHostThatCannotBeReachedIsSaidBeforeTheTunnel(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	addr := l.Addr().String()
	g := rigging{alter: allowing(addr)}.newRig(t, plain, newUpstream(t, false, echo))
	_, answer := g.dial(t, addr)
	body, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != 502 || answer.Header.Get("Gateway-Error") != "upstream_unreachable" || strings.Contains(string(body), "upstream or") {
		t.Errorf("got %s %s", answer.Status, body)
	}
	if n := g.handler.InFlight(); n.Tunnels != 0 {
		t.Errorf("in flight: %+v", n)
	}
}

// Bounds of what passes through, by a clock that does not wait.
func TestTunnelThatPassesThroughIsBounded(t *testing.T) {
	for _, tt := range []struct {
		name, cause string
		every       time.Duration // that a byte comes
		want        time.Duration
	}{
		{"silent", "nothing moved for 5m0s", 0, 5 * time.Minute},
		{"moving", "it was open for 12h0m0s", 4 * time.Minute, 12 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inTunnelBubble(t, func(t *testing.T, b *bubble) {
				over := make(chan struct{})
				go func() { // the other end
					defer close(over)
					up := <-b.far.conns
					defer up.Close()
					one := make([]byte, 1)
					for tt.every > 0 {
						time.Sleep(tt.every)
						if _, err := up.Write(one); err != nil {
							return
						}
					}
					_, _ = up.Read(one)
				}()
				_, took := b.say(t, "CONNECT other.test:443 HTTP/1.1\r\nHost: x\r\n\r\n")
				e := b.events.the(1)
				if took < tt.want || took > tt.want+5*time.Minute || !strings.Contains(e.Cause, tt.cause) || e.Status != 200 {
					t.Errorf("it was cut off after %s, recorded %+v; want %s", took, e, tt.want)
				}
				<-over
			})
		})
	}
}

func TestPlainCallsToAllowedHostsPassOn(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Gateway-Error"], w.Header()["Alt-Svc"], w.Header()["Set-Cookie"] = []string{"forged"}, []string{"h3=:443"}, []string{"FedAuth=secret"}
		_ = json.NewEncoder(w).Encode(map[string]any{"uri": r.RequestURI, "host": r.Host, "header": r.Header})
	}))
	t.Cleanup(up.Close)
	addr := up.Listener.Addr().String()
	g := guarded(&porter{})
	g.alter = func(table *routes.Table) { withCallers(table); allowing(addr)(table) }
	r := g.newRig(t, plain, newUpstream(t, false, echo))
	got := r.raw(t, "POST http://"+addr+"/a%2Fb?$x=1;y=%zz HTTP/1.1\r\nHost: x\r\nProxy-Authorization: "+basic+"\r\nX-Gateway-Authorization: k\r\nX_Gateway_Authorization: k\r\n"+
		"Authorization: Bearer own\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nContent-Length: 4\r\n\r\nbody")
	for _, want := range []string{"HTTP/1.1 200 ", `"uri":"/a%2Fb?$x=1;y=%zz"`, `"host":"` + addr, `"Authorization":["Bearer own"]`, `"X-Forwarded-For":["1.2.3.4"]`, `"Via":["1.1 gateway-`, "Gateway-Request-Id: ", "Set-Cookie: FedAuth=secret"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in %s", want, got)
		}
	}
	for _, gone := range []string{basic, "Gateway_Auth", "Gateway-Auth", "X-Hop", "forged", "Alt-Svc", "token-1"} {
		if strings.Contains(got, gone) {
			t.Errorf("%s is in %s", gone, got)
		}
	}
	if e := r.events.the(1); e.Door != audit.Forward || e.Host != addr || e.Route != "" || e.Caller != "job" || e.Status != 200 {
		t.Errorf("recorded %+v", e)
	}
	_, via, _ := strings.Cut(got, `"Via":["`)
	via, _, _ = strings.Cut(via, `"`)
	for request, want := range map[string]string{
		"GET http://other.test/ HTTP/1.1\r\nHost: x":                         "403 egress_denied",
		"GET http://" + addr + "/ HTTP/1.1\r\nHost: x\r\nVia: " + via:        "508 loop",
		"GET http://" + addr + "/ HTTP/1.1\r\nHost: x\r\nUpgrade: websocket": "501 not_supported",
		"GET http://" + addr + "//a\"b HTTP/1.1\r\nHost: x":                  "400 bad_request",
		"GET https://" + addr + "/ HTTP/1.1\r\nHost: x":                      "400 bad_request",
		"GET http://example.com:8080/ HTTP/1.1\r\nHost: x":                   "403 egress_denied",
	} {
		if got := r.raw(t, request+"\r\nProxy-Authorization: "+basic+"\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 "+want[:3]) || !strings.Contains(got, "Gateway-Error: "+want[4:]) {
			t.Errorf("%q: %.300s, want %s", request, got, want)
		}
	}
	if r.issuer.issued.Load() != 0 {
		t.Error("a token was got")
	}
}

func TestNobodyElseSpeaksForTheGatewayInTrailers(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Trailer"] = []string{"Gateway-Error, X-Sum"}
		_, _ = io.WriteString(w, "body")
		w.Header()["Gateway-Error"], w.Header()["X-Sum"] = []string{"forged"}, []string{"of-the-body"}
		w.Header()[http.TrailerPrefix+"Gateway-Route"] = []string{"forged"}
	}))
	t.Cleanup(up.Close)
	addr := up.Listener.Addr().String()
	r := rigging{alter: allowing(addr)}.newRig(t, plain, newUpstream(t, false, echo))
	got := r.raw(t, "GET http://"+addr+"/ HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: close\r\n\r\n")
	if !strings.Contains(got, "X-Sum: of-the-body") || strings.Contains(got, "forged") || strings.Contains(got, "Gateway-Error") {
		t.Errorf("got %s", got)
	}
}

func TestPlainCallsOfTwoCallersShareNoConnection(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen[r.RemoteAddr]++
	}))
	t.Cleanup(up.Close)
	addr := up.Listener.Addr().String()
	g := rigging{alter: allowing(addr)}.newRig(t, plain, newUpstream(t, false, echo))
	for range 3 {
		if got := g.raw(t, "GET http://"+addr+"/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
			t.Errorf("got %.200s", got)
		}
	}
	if len(seen) != 3 {
		t.Errorf("calls came by %v, want a connection each", seen)
	}
}

func TestShutdownEndsTunnelsAndTruncatesNothing(t *testing.T) {
	began, release := make(chan struct{}, 100), make(chan struct{})
	// By HTTP/1.1, since uploads would share one window of HTTP/2.
	d := diggingTo(t, rigging{}, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 1))
		began <- struct{}{}
		<-release
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Repeat("x", int(n)))
	}))
	var wg sync.WaitGroup
	const uploads = 10
	for i := range uploads {
		client := d.through(t, nil, i%2 == 0)
		wg.Go(func() {
			resp, err := client.Post("https://example.com/x", "", strings.NewReader(strings.Repeat("x", 3<<20)))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 3<<20-1 {
				t.Errorf("%d bytes of the answer by HTTP/%d, %v", len(b), resp.ProtoMajor, err)
			}
		})
	}
	for range uploads {
		<-began
	}
	for i := range 40 {
		resp, err := d.through(t, nil, i%2 == 0).Head("https://example.com/.gateway/ping")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if n := d.handler.InFlight(); n.Tunnels != 50 || n.Calls != uploads {
		t.Errorf("in flight: %+v, want 50 tunnels and %d calls", n, uploads)
	}
	d.handler.Drain()
	done := make(chan error, 1)
	go func() { done <- d.handler.Shutdown(t.Context()) }()
	d.await(t, func(n proxy.InFlight) bool { return n.Tunnels == uploads })
	close(release)
	wg.Wait()
	if err := <-done; err != nil {
		t.Error(err)
	}
	d.await(t, func(n proxy.InFlight) bool { return n.Tunnels == 0 && n.Calls == 0 && n.Connections == 0 })
}

func TestShutdownLeavesWhatPassesThroughUntilItIsCut(t *testing.T) {
	addr := beside(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
	g := rigging{alter: allowing(addr)}.newRig(t, plain, newUpstream(t, false, echo))
	c, _ := g.dial(t, addr)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.handler.Shutdown(ctx) }()
	if _, err := io.WriteString(c, "still\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "still\n" {
		t.Errorf("got %q, %v", line, err)
	}
	stop()
	if err := <-done; err == nil || g.handler.InFlight().Through != 1 {
		t.Errorf("Shutdown: %v, in flight: %+v; want what is left", err, g.handler.InFlight())
	}
	g.handler.Cut()
	if e := g.events.the(1); !strings.Contains(e.Cause, "the gateway stopped") || e.BytesIn != 6 || e.BytesOut != 6 {
		t.Errorf("recorded %+v", e)
	}
}

func TestHTTP2IsSpokenWithoutTLSOnLoopbackAlone(t *testing.T) {
	g := newRig(t, plain, newUpstream(t, true, echo))
	for addr, want := range map[net.Addr]bool{
		&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}: true, &net.TCPAddr{IP: net.IPv6loopback, Port: 1}: true,
		&net.UnixAddr{Name: "/x", Net: "unix"}: true, &net.TCPAddr{IP: net.IPv4zero, Port: 1}: false, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}: false,
	} {
		srv := g.handler.NewServer()
		if proxy.AllowPlainHTTP2(srv, addr); srv.Protocols.UnencryptedHTTP2() != want {
			t.Errorf("%s: %v, want %v", addr, !want, want)
		}
	}
	srv := g.handler.NewServer()
	srv.ReadHeaderTimeout = 100 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy.AllowPlainHTTP2(srv, l.Addr())
	go func() { _ = srv.Serve(g.handler.Listener(l)) }()
	t.Cleanup(func() { _ = srv.Close() })
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	resp, err := (&http.Client{Transport: tr}).Get("http://" + l.Addr().String() + "/api/x")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Errorf("got %s by HTTP/%d", resp.Status, resp.ProtoMajor)
	}
	// A preface that does not end holds no connection (CVE-2026-56853).
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM")
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("half a preface: %v, want the end", err)
	}
}
