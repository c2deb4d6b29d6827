package egress_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/egress"
	"github.com/seed-13b04e61/gateway/secrets"
)

// nextHop is a proxy that tunnels every CONNECT to one place, or refuses.
type nextHop struct {
	addr    string
	status  int
	to      string
	targets chan string
	auth    chan string
}

func newHop(t *testing.T, status int, to string) *nextHop {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &nextHop{l.Addr().String(), status, to, make(chan string, 8), make(chan string, 8)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.serve(c)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return h
}

// serve handles one connection after the other, which is all the tests need.
func (h *nextHop) serve(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	req, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	h.targets <- req.Method + " " + req.Host
	h.auth <- req.Header.Get("Proxy-Authorization")
	if h.status != http.StatusOK {
		fmt.Fprintf(c, "HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n", h.status)
		return
	}
	// The greeting comes in one segment with the answer and must not be lost.
	fmt.Fprint(c, "HTTP/1.1 200 Connection Established\r\n\r\nhello from "+h.to)
	_, _ = io.Copy(io.Discard, br)
}

func (h *nextHop) url(t *testing.T) *url.URL {
	t.Helper()
	u, err := url.Parse("http://" + h.addr)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestCallsLeaveThroughTheNextHop(t *testing.T) {
	hop := newHop(t, http.StatusOK, "upstream")
	d, err := egress.New(egress.Config{Proxy: hop.url(t), Username: "gw", Password: secrets.New("p:w")})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.DialContext(t.Context(), "tcp", "graph.microsoft.com:443")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, len("hello from upstream"))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "hello from upstream" {
		t.Errorf("read %q, %v; want what came with the hop's answer", buf, err)
	}
	if got := <-hop.targets; got != "CONNECT graph.microsoft.com:443" {
		t.Errorf("hop was asked %q", got)
	}
	if got := <-hop.auth; got != "Basic Z3c6cDp3" {
		t.Errorf("Proxy-Authorization = %q, want Basic of gw:p:w", got)
	}
}

func TestRefusalOfTheNextHopIsNamed(t *testing.T) {
	hop := newHop(t, http.StatusProxyAuthRequired, "")
	d, err := egress.New(egress.Config{Proxy: hop.url(t)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.DialContext(t.Context(), "tcp", "graph.microsoft.com:443")
	var refused *egress.ProxyError
	if !errors.As(err, &refused) || refused.Status != http.StatusProxyAuthRequired {
		t.Errorf("DialContext = %v, want a ProxyError with 407", err)
	}
}

func TestSilentNextHopIsLeftAtTheDeadline(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := egress.New(egress.Config{Proxy: &url.URL{Scheme: "http", Host: l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.DialContext(ctx, "tcp", "graph.microsoft.com:443"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("DialContext = %v, want the context's error", err)
	}
}

func TestBypassIsDialledDirectly(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hop := newHop(t, http.StatusOK, "x")
	d, err := egress.New(egress.Config{Proxy: hop.url(t), Bypass: []string{"10.0.0.0/8", ".inner.test"}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.DialContext(t.Context(), "tcp", l.Addr().String()) // loopback never goes to the hop
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := d.DialContext(t.Context(), "tcp", "no-such-name.inner.test:443"); err == nil || len(hop.targets) != 0 {
		t.Errorf("a bypassed suffix went to the hop (%d calls, error %v)", len(hop.targets), err)
	}
	if _, err := egress.New(egress.Config{Bypass: []string{"10.0.0.0/80"}}); err == nil {
		t.Error("New took a bypass that is no block")
	}
}

func TestForbiddenAddressesAreNotDialled(t *testing.T) {
	d, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	own := netip.MustParseAddrPort(l.Addr().String())
	d.Forbid([]netip.AddrPort{own})
	addrs := []string{
		"169.254.169.254:80", "[::ffff:169.254.169.254]:80", "169.254.0.1:443", "168.63.129.16:80",
		"[fe80::1]:80", "[fd00:ec2::254]:80", "0.0.0.0:80", "[::]:80", "224.0.0.1:80", "255.255.255.255:80",
		"[64:ff9b::a9fe:a9fe]:80", "[2002:a9fe:a9fe::]:80", "[2001::1]:80", "[::169.254.169.254]:80",
		own.String(), fmt.Sprintf("localhost:%d", own.Port()),
	}
	for _, addr := range addrs {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		c, err := d.DialContext(ctx, "tcp", addr)
		cancel()
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, egress.ErrForbidden) {
			// localhost may resolve to ::1 too, where nobody listens.
			if strings.HasPrefix(addr, "localhost") && err != nil && strings.Contains(err.Error(), "refused") {
				continue
			}
			t.Errorf("DialContext(%s) = %v, want ErrForbidden", addr, err)
		}
	}
}

func TestListenerOnEveryAddressIsOwnOnEach(t *testing.T) {
	d, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	d.Forbid([]netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), port)})
	if _, err := d.DialContext(t.Context(), "tcp", l.Addr().String()); !errors.Is(err, egress.ErrForbidden) {
		t.Errorf("DialContext = %v, want ErrForbidden", err)
	}
}

func ExampleDialer() {
	d, err := egress.New(egress.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = d.DialContext(context.Background(), "tcp", "169.254.169.254:80")
	fmt.Println(errors.Is(err, egress.ErrForbidden))
	// Output: true
}

func TestNextHopIsForLibrariesWhatTheDialerUses(t *testing.T) {
	hop := &url.URL{Scheme: "http", Host: "proxy.test:3128"}
	d, err := egress.New(egress.Config{Proxy: hop, Username: "gw", Password: secrets.New("p@ss:word"), Bypass: []string{".internal"}})
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"https://acme.example.com/directory": "http://gw:p%40ss%3Aword@proxy.test:3128",
		"https://ca.internal/directory":      "",
		"http://127.0.0.1:14000/dir":         "",
	} {
		req, err := http.NewRequest(http.MethodGet, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.NextHop(req)
		if err != nil || got == nil && want != "" || got != nil && got.String() != want {
			t.Errorf("NextHop(%s) = %v, %v, want %q", target, got, err, want)
		}
	}
	if hop.User != nil {
		t.Error("the configured URL was changed")
	}
}
