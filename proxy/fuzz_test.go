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
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		f.Add(seed)
	}
	var wrong atomic.Pointer[string]
	// A call may still reach the upstream when its connection is gone and the
	// next input is at work, so whose call it was is told by the answer.
	const mark = "X-From-Upstream"
	g := guarded(&porter{}).newRig(f, plain, newUpstream(f, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(mark, "yes")
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
	f.Fuzz(func(t *testing.T, request string) {
		c, err := net.Dial("tcp", g.front.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, request)
		if half, ok := c.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
		answer, _ := io.ReadAll(c)
		if strings.Contains(string(answer), "token-1") {
			t.Errorf("%q brought the token: %q", request, answer)
		}
		if seen := wrong.Load(); seen != nil {
			t.Errorf("%q, or the input before it, went upstream as %s", request, *seen)
		}
		if !strings.Contains(request, key) && !strings.Contains(request, basic[6:]) && strings.Contains(string(answer), mark) {
			t.Errorf("%q went upstream without a key", request)
		}
	})
}
