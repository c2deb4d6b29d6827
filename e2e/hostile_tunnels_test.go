package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// inTunnel sends a call by a tunnel to port 80 of a routed host, as Node's fetch
// does for http:// URLs, and returns its status and code.
func inTunnel(t *testing.T, proxy, call string) (status int, code string) {
	t.Helper()
	c, err := net.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "CONNECT graph.microsoft.com:80 HTTP/1.1\r\nHost: graph.microsoft.com:80\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	opened, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil || opened.StatusCode != http.StatusOK {
		t.Fatalf("CONNECT: %v, %+v", err, opened)
	}
	if _, err := io.WriteString(c, call); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Gateway-Error")
}

// martian and goproxy forwarded whatever the call within a tunnel named.
func TestCallsWithinATunnelAreForItsHostAlone(t *testing.T) {
	w, g := startGraph(t, "")
	at := strings.TrimPrefix(g.proxy, "http://")
	for _, tt := range []struct{ first, host, code string }{
		{"GET http://169.254.169.254/v1.0/me", "graph.microsoft.com", "bad_request"},
		{"GET http://graph.microsoft.com/v1.0/me", "graph.microsoft.com", "bad_request"},
		{"GET http://" + g.admin + "/api/tokens", g.admin, "bad_request"},
		{"GET /v1.0/me", "other.example.com", "misdirected"},
		{"GET /v1.0/me", at, "misdirected"},
		{"GET /v1.0/me", "graph.microsoft.com:22", "misdirected"},
		{"CONNECT " + g.admin, g.admin, "method_refused"},
		{"CONNECT graph.microsoft.com:443", "graph.microsoft.com:443", "method_refused"},
		{"TRACE /v1.0/me", "graph.microsoft.com", "method_refused"},
		{"OPTIONS *", "graph.microsoft.com", "bad_request"},
	} {
		status, code := inTunnel(t, at, tt.first+" HTTP/1.1\r\nHost: "+tt.host+"\r\nContent-Length: 0\r\n\r\n")
		if code != tt.code {
			t.Errorf("%s for %s: status %d, code %q; want %s", tt.first, tt.host, status, code, tt.code)
		}
	}
	if n := w.Graph.Counts().Calls; n != 0 {
		t.Errorf("%d calls reached Graph", n)
	}
	if status, code := inTunnel(t, at, "GET /v1.0/users HTTP/1.1\r\nHost: graph.microsoft.com\r\n\r\n"); status != http.StatusOK {
		t.Errorf("a good call: status %d, code %q", status, code)
	}
}
