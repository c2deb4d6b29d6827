package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Whatever bytes come, calls reach the route's own host with the gateway's token
// alone, without the caller's key, and only of callers who showed it.
func FuzzNoBytesTakeAKeyOrATokenElsewhere(f *testing.F) {
	forward := "Host: x\r\nProxy-Authorization: " + basic + "\r\n"
	reverse := "Host: localhost\r\nX-Gateway-Authorization: Bearer " + key + "\r\n"
	for _, seed := range []string{
		"GET http://example.com/x HTTP/1.1\r\n" + forward + "\r\n",
		"GET /api/x HTTP/1.1\r\n" + reverse + "\r\n",
		"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api/y HTTP/1.1\r\n" + reverse + "\r\n",
		"POST /api/x HTTP/1.1\r\n" + reverse + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/z HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"POST /api/x HTTP/1.1\r\n" + reverse + "Transfer-Encoding: chunked\r\nTrailer: X-Gateway-Authorization\r\n\r\n1\r\nx\r\n0\r\nX-Gateway-Authorization: " + basic + "\r\n\r\n",
		"GET http://example.com@evil.test/ HTTP/1.1\r\n" + forward + "\r\n",
		"GET http://example.com:443\\@evil.test/ HTTP/1.1\r\n" + forward + "\r\n",
		"CONNECT example.com:443 HTTP/1.1\r\n" + forward + "\r\nGET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"GET /api/x HTTP/1.1\r\n" + reverse + "Connection: X-Gateway-Authorization, Authorization\r\nX_Gateway_Authorization: " + basic + "\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\n" + reverse + "\r\n",
		"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		f.Add(seed)
	}
	var wrong atomic.Pointer[string]
	var calls atomic.Int64
	g := guarded(&porter{}).newRig(f, plain, newUpstream(f, false, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		along := len(r.Trailer) > 0
		for name := range r.Header {
			switch strings.ToLower(strings.ReplaceAll(name, "_", "-")) {
			case "proxy-authorization", "x-gateway-authorization":
				along = true
			}
		}
		if number2(r) != "1" || r.Host != "example.com" || along {
			seen := fmt.Sprint(r.Header, r.Trailer, r.RequestURI, r.Host)
			wrong.Store(&seen)
		}
	}))
	addr := g.front.Listener.Addr().String()
	// On a busy machine the first call may take longer than its client waits.
	good, deadline := "", time.Now().Add(10*time.Second)
	for !strings.HasPrefix(good, "HTTP/1.1 200 ") && time.Now().Before(deadline) {
		good = sent(f, addr, "GET /api/x HTTP/1.1\r\n"+reverse+"\r\n")
	}
	if calls.Load() == 0 || !strings.HasPrefix(good, "HTTP/1.1 200 ") {
		f.Fatalf("a good call was sent %d times and brought %q", calls.Load(), good)
	}
	f.Fuzz(func(t *testing.T, request string) {
		wrong.Store(nil)
		before := calls.Load()
		answer := sent(t, addr, request)
		if strings.Contains(answer, "token-1") {
			t.Errorf("%q brought the token: %q", request, answer)
		}
		if seen := wrong.Load(); seen != nil {
			t.Errorf("%q went upstream as %s", request, *seen)
		}
		if strings.Contains(request, key) || strings.Contains(request, basic[6:]) {
			return
		}
		// A call of the input before may arrive this late, when its client went
		// away. What passes without a key passes every time.
		for range 5 {
			if calls.Load() == before {
				return
			}
			before = calls.Load()
			sent(t, addr, request)
		}
		t.Errorf("%q went upstream without a key", request)
	})
}

// sent is what comes back for bytes after which nothing more follows. That is
// said only when answers stopped coming: the call of a client that goes away is
// given up, and would prove nothing.
func sent(t testing.TB, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, request)
	answer, part := []byte{}, make([]byte, 4096)
	for wait := 20 * time.Millisecond; ; wait = 3 * time.Millisecond {
		if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(part)
		answer = append(answer, part[:n]...)
		if err != nil {
			break
		}
	}
	if half, ok := c.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
	if err := c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(c)
	return string(append(answer, rest...))
}
