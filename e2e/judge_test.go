package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// goInstall builds programs, given as package@version, and returns their
// folder. Go's own caches make the second time short.
func goInstall(t testing.TB, programs ...string) string {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", append([]string{"install"}, programs...)...)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go install: %v\n%s", err, out)
	}
	return dir
}

// secureUpstream is a server over TLS, HTTP/2 or HTTP/1.1, for names.
func secureUpstream(t testing.TB, ca *authority, h http.Handler, names ...string) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = ca.tls(t, names...)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

// intercepting is a gateway that ends the TLS of hosts, calls to which go to
// upstream with the token apiToken. More is further keys of that route, which is
// named api, and sections are further ones of the file.
type intercepting struct {
	hosts, upstream, more, sections string
	ca                              *authority // of the upstream, nil: it is plain
}

func (i intercepting) setup(t testing.TB) setup {
	t.Helper()
	s := issuerSetup(newIssuer(t, plainToken).URL, i.upstream, "intercept: {ca_dir: ca}\n"+i.sections)
	trust := ""
	if i.ca != nil {
		trust = "tls: {ca_file: upstream-ca.pem}\n    "
		s.Files["upstream-ca.pem"] = i.ca.pem
	}
	s.Config = strings.Replace(s.Config, fmt.Sprintf("  - {name: api, hosts: [api.example.com], upstream: %q}", i.upstream),
		fmt.Sprintf("  - name: api\n    hosts: [%s]\n    upstream: %q\n    %s%s", i.hosts, i.upstream, trust, strings.TrimSpace(i.more)), 1)
	return s
}

// forwarder carries the bytes of each connection through a tunnel of its own,
// for a program that knows nothing of proxies and needs one all the same.
type forwarder struct {
	addr             string
	proxy, authority string        // set by to
	ready            chan struct{} // closed by to
}

func newForwarder(t testing.TB) *forwarder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	f := &forwarder{addr: l.Addr().String(), ready: make(chan struct{})}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return // the listener is closed
			}
			go f.carry(near)
		}
	}()
	return f
}

// to says once where the tunnels lead: what came before waits for it.
func (f *forwarder) to(proxy, authority string) {
	f.proxy, f.authority = proxy, authority
	close(f.ready)
}

// carry copies both ways until both ends are done.
func (f *forwarder) carry(near net.Conn) {
	defer near.Close()
	<-f.ready
	far, err := openTunnel(f.proxy, f.authority, "")
	if err != nil {
		return
	}
	defer far.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(far, near)
		_ = far.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(near, far)
	_ = near.(*net.TCPConn).CloseWrite()
	<-done
}

// openTunnel asks the proxy for a tunnel to authority, with further fields that
// each end in CRLF. The answer has to be 200; nothing behind it is read.
func openTunnel(proxy, authority, fields string) (net.Conn, error) {
	conn, err := net.Dial("tcp", proxy)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", authority, authority, fields); err != nil {
		_ = conn.Close()
		return nil, err
	}
	head := make([]byte, 0, 256)
	for one := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n") && len(head) < 16<<10; head = append(head, one[0]) {
		if _, err := io.ReadFull(conn, one); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("CONNECT %s: %w after %.300q", authority, err, head)
		}
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 200 ") {
		_ = conn.Close()
		return nil, fmt.Errorf("CONNECT %s is answered %.300q", authority, head)
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}

// interceptionRoots is what gateway ca export prints.
func (g *gateway) interceptionRoots(t testing.TB) *x509.CertPool {
	t.Helper()
	out, code := g.command(t, "ca", "export")
	pool := x509.NewCertPool()
	if code != 0 || !pool.AppendCertsFromPEM([]byte(out)) {
		t.Fatalf("gateway ca export exits %d: %s", code, out)
	}
	return pool
}

// tunnelClient calls through the gateway's tunnel door and trusts its
// interception CA alone; h2 has it speak HTTP/2 inside.
func (g *gateway) tunnelClient(t testing.TB, h2 bool) *http.Client {
	t.Helper()
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: g.interceptionRoots(t)}, MaxIdleConnsPerHost: 64,
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: g.proxy}), Protocols: new(http.Protocols),
	}
	tr.Protocols.SetHTTP1(!h2)
	tr.Protocols.SetHTTP2(h2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 2 * patience}
}

func poolOf(a *authority) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func parsedURL(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// idleCutter is an upstream that ends each connection without a word when it
// has answered one call, and looks at what comes over it even so.
type idleCutter struct {
	addr  string
	seen  atomic.Int64 // calls
	late  atomic.Int64 // connections over which more came after their end
	conns sync.WaitGroup
}

func newIdleCutter(t testing.TB) *idleCutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	u := &idleCutter{addr: l.Addr().String()}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the listener is closed
			}
			u.conns.Go(func() { u.serve(conn) })
		}
	}()
	return u
}

func (u *idleCutter) serve(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	r := bufio.NewReader(conn)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	n, err := io.Copy(io.Discard, req.Body)
	if err != nil {
		return
	}
	u.seen.Add(1)
	body := fmt.Sprint(n)
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	_ = conn.(*net.TCPConn).CloseWrite()
	if n, _ := io.Copy(io.Discard, r); n > 0 {
		u.late.Add(1)
	}
}
