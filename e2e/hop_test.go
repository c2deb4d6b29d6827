package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
)

// hop is a next hop that knows names which no resolver of the machine knows: a
// proxy for CONNECT alone, which keeps the targets it was asked for.
type hop struct {
	addr string

	mu    sync.Mutex // guards both
	names map[string]string
	asked []string
}

// newHop starts one. Names are authorities and the addresses behind them; "*"
// stands for any other.
func newHop(t testing.TB, names map[string]string) *hop {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hop{addr: l.Addr().String(), names: names}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the listener is closed
			}
			go h.serve(conn)
		}
	}()
	return h
}

// targets are what it was asked for since the last time.
func (h *hop) targets() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.asked
	h.asked = nil
	return all
}

func (h *hop) resolve(authority string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Contains(h.asked, authority) {
		h.asked = append(h.asked, authority)
	}
	if addr := h.names[authority]; addr != "" {
		return addr
	}
	return h.names["*"]
}

func (h *hop) serve(near net.Conn) {
	defer near.Close()
	r := bufio.NewReader(near)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	addr := h.resolve(req.RequestURI)
	if req.Method != http.MethodConnect || addr == "" {
		_, _ = io.WriteString(near, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	far, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer far.Close()
	if _, err := io.WriteString(near, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(far, r)
		_ = far.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(near, far)
	_ = near.(*net.TCPConn).CloseWrite()
	<-done
}
