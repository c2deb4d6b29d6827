package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
)

// h2c upgrade smuggling: what is asked for inside of a switched connection is
// seen by nobody, and no bound of the gateway's holds for it.
func TestCallThatPassesThroughSwitchesNotToHTTP2(t *testing.T) {
	sent := make(chan http.Header, 1)
	addr := beside(t, func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		sent <- r.Header
		if r.Header.Get("Upgrade") != "" {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nsmuggled")
			_, _ = io.Copy(io.Discard, c)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
	})
	g := rigging{alter: allowing(addr)}.newRig(t, plain, newUpstream(t, false, echo))
	c, err := net.Dial("tcp", g.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, body := say(t, c, "GET http://"+addr+"/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
	if answer != "200" || body != "ok" {
		t.Errorf("got %s %q, want an answer of HTTP/1.1", answer, body)
	}
	if h := <-sent; h.Get("Upgrade") != "" || h.Get("Http2-Settings") != "" || strings.Contains(strings.ToLower(h.Get("Connection")), "upgrade") {
		t.Errorf("the host was asked to switch: %v", h)
	}
}

// Calls that HTTP_PROXY passes on are limited; a CONNECT is no way around it.
func TestTunnelsThatPassThroughAreUnderTheCallersLimits(t *testing.T) {
	addr := beside(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
	o := guarded(&porter{})
	o.alter = func(table *routes.Table) {
		withCallers(table)
		allowing(addr)(table)
		for _, c := range table.Callers {
			c.Limits.Concurrency = 1
		}
	}
	g := o.newRig(t, plain, newUpstream(t, false, echo))
	first, answer := g.dial(t, addr, "Proxy-Authorization", basic)
	if answer.StatusCode != 200 {
		t.Fatalf("the first tunnel got %s", answer.Status)
	}
	for range 2 { // a refusal takes no place
		_, answer = g.dial(t, addr, "Proxy-Authorization", basic)
		if code := answer.Header.Get("Gateway-Error"); answer.StatusCode != 503 || code != "overloaded" {
			t.Errorf("a second tunnel got %s %s, want 503 overloaded", answer.Status, code)
		}
	}
	if n := g.handler.InFlight(); n.Tunnels != 1 {
		t.Errorf("in flight: %+v, want one tunnel", n)
	}
	_ = first.Close()
	g.await(t, func(proxy.InFlight) bool { // the place is given back soon after the tunnel is counted no more
		c, answer := g.dial(t, addr, "Proxy-Authorization", basic)
		_ = c.Close()
		return answer.StatusCode == 200
	})
}
