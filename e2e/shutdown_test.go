package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455 asks for it
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// What is open when the gateway is told to end, and how long it may take then:
// its drain_timeout (egress reference §6.3).
const (
	openTunnels, openSocketsWS, openUploads = 50, 10, 5
	drainTimeout                            = 25 * time.Second
	half                                    = 64 << 10 // of an answer or an upload
)

// stage is an upstream whose calls stop half way until they are let go on.
type stage struct {
	held    atomic.Int64  // calls that wait
	sockets atomic.Int64  // that are switched
	goOn    chan struct{} // closed when all may go on
}

func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/answer":
		_, _ = w.Write(bytes.Repeat([]byte("1"), half))
		_ = http.NewResponseController(w).Flush()
		s.held.Add(1)
		<-s.goOn
		_, _ = w.Write(bytes.Repeat([]byte("2"), half))
	case "/upload":
		s.held.Add(1)
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, " ", err)
	case "/socket":
		s.socket(w, r)
	default:
		_, _ = io.WriteString(w, "idle")
	}
}

// socket switches to WebSocket (RFC 6455), and answers a close frame with one.
func (s *stage) socket(w http.ResponseWriter, r *http.Request) {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	_ = rw.Flush()
	s.sockets.Add(1)
	if opcode, _, err := readFrame(rw.Reader); err == nil && opcode == 8 {
		_, _ = conn.Write([]byte{0x88, 0})
	}
}

// readFrame reads one short frame of RFC 6455 §5.2.
func readFrame(r io.Reader) (opcode byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	mask := make([]byte, 4*(head[1]>>7))
	if _, err := io.ReadFull(r, mask); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, head[1]&0x7f)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, err
	}
	for i := range payload {
		if len(mask) > 0 {
			payload[i] ^= mask[i%4]
		}
	}
	return head[0] & 0x0f, payload, nil
}

// audience are the callers at the end, each of whom reports once how it went.
type audience struct {
	g    *gateway
	conf *tls.Config
	wg   sync.WaitGroup
	goOn chan struct{} // closed when uploads may go on

	mu    sync.Mutex // guards wrong
	wrong []error
}

func (a *audience) report(who string, err error) {
	if err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.wrong = append(a.wrong, fmt.Errorf("%s: %w", who, err))
	}
}

// asks makes a call through a tunnel of its own and wants both halves of its
// answer.
func (a *audience) asks(conn *tls.Conn) error {
	if _, err := io.WriteString(conn, "GET /answer HTTP/1.1\r\nHost: "+apiName+"\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(resp.Body)
	if err == nil && len(b) != 2*half {
		err = fmt.Errorf("%d bytes, want %d", len(b), 2*half)
	}
	return err
}

// uploads sends half of a body, and the other half when it may go on.
func (a *audience) uploads(c *http.Client) error {
	body, more := io.Pipe()
	go func() {
		_, _ = more.Write(make([]byte, half))
		<-a.goOn
		_, _ = more.Write(make([]byte, half))
		_ = more.Close()
	}()
	resp, err := c.Post("https://"+apiName+"/upload", "application/octet-stream", body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if want := fmt.Sprint(2*half, " ", nil); err == nil && string(b) != want {
		err = fmt.Errorf("status %d %.200q, want %q", resp.StatusCode, b, want)
	}
	return err
}

// listens switches to WebSocket inside a tunnel and wants to be told that the
// gateway goes away (RFC 6455 §7.4.1: 1001). It leaves once the gateway has
// (§7.1.1).
func (a *audience) listens(conn *tls.Conn) error {
	_, err := io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: "+apiName+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("%v, %w", resp, err)
	}
	opcode, payload, err := readFrame(r)
	if err != nil {
		return err
	}
	if opcode != 8 || len(payload) < 2 || binary.BigEndian.Uint16(payload) != 1001 {
		return fmt.Errorf("opcode %d with %x, want a close with 1001", opcode, payload)
	}
	if _, err = conn.Write([]byte{0x88, 0x82, 0, 0, 0, 0, payload[0], payload[1]}); err != nil {
		return err
	}
	if _, err = io.Copy(io.Discard, r); err != nil {
		return err
	}
	return conn.Close()
}

// TestShutdownWithTunnelsSocketsAndUploadsTruncatesNothing ends a gateway amid
// calls of every kind: none is cut, and it is gone before its drain timeout.
func TestShutdownWithTunnelsSocketsAndUploadsTruncatesNothing(t *testing.T) {
	t.Parallel()
	up := &stage{goOn: make(chan struct{})}
	srv := serveHTTP(t, up.ServeHTTP)
	g := start(t, intercepting{hosts: apiName, upstream: srv.URL, more: "upgrade: [websocket]"}.setup(t))
	g.ready(t)
	a := &audience{g: g, conf: &tls.Config{RootCAs: g.interceptionRoots(t), ServerName: apiName}, goOn: make(chan struct{})}
	var idle []net.Conn
	busy := openTunnels / 2
	for i := range openTunnels + openSocketsWS {
		conn, err := g.insideTLS(t, a.conf)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case i < busy:
			a.wg.Go(func() { a.report("a call", a.asks(conn)) })
		case i < openTunnels:
			if got := sends(t, conn, "GET /idle HTTP/1.1\r\nHost: "+apiName+"\r\n\r\n"); got.body != "idle" {
				t.Fatalf("status %d %.200q", got.status, got.body)
			}
			idle = append(idle, conn)
		default:
			a.wg.Go(func() { a.report("a WebSocket", a.listens(conn)) })
		}
	}
	client := g.tunnelClient(t, false)
	for range openUploads {
		a.wg.Go(func() { a.report("an upload", a.uploads(client)) })
	}
	eventually(t, "all are under way", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.wrong) > 0 || up.held.Load() == int64(busy+openUploads) && up.sockets.Load() == openSocketsWS
	})
	began := time.Now()
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for _, conn := range idle {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); err == nil || timedOut(err) {
			t.Errorf("an idle tunnel is not closed: %v", err)
		}
	}
	close(up.goOn)
	close(a.goOn)
	a.wg.Wait()
	for _, err := range a.wrong {
		t.Error(err)
	}
	select {
	case <-g.exited:
	case <-time.After(2 * patience):
		t.Fatal("the gateway is still there")
	}
	if took := time.Since(began); g.err != nil || took >= drainTimeout {
		t.Errorf("the gateway ended after %v with %v, want less than %v", took, g.err, drainTimeout)
	}
}

func timedOut(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// TestPostsOutliveIdleConnectionsThatTheUpstreamCloses: of a call that met a
// connection at its end and has written nothing yet, nobody hears. One that was
// on its way already may have been carried out, so it is not sent again.
func TestPostsOutliveIdleConnectionsThatTheUpstreamCloses(t *testing.T) {
	t.Parallel()
	up := newIdleCutter(t)
	g := start(t, issuerSetup(newIssuer(t, plainToken).URL, "http://"+up.addr, ""))
	g.ready(t)
	const workers, each = 8, 125
	var failed atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range each {
				a, err := call(t.Context(), g.client, request{url: g.url("/api/orders"), body: []byte("one order")})
				switch {
				case err == nil && a.status == http.StatusBadGateway && a.header.Get("Gateway-Error") == "upstream_unreachable":
					failed.Add(1)
				case err != nil || a.status != http.StatusOK || a.body != "9":
					t.Errorf("call %d: status %d %.300q, %v", i, a.status, a.body, err)
				}
			}
		})
	}
	wg.Wait()
	g.end(t) // which closes its connections
	up.conns.Wait()
	t.Logf("of %d calls %d met an end that they could not know of", workers*each, failed.Load())
	if n := failed.Load(); n > up.late.Load() || n > workers*each/4 {
		t.Errorf("%d calls failed, and only %d had been written when the upstream was gone", n, up.late.Load())
	}
	if n := up.seen.Load(); n != workers*each-failed.Load() {
		t.Errorf("the upstream carried out %d calls, want %d: each that was answered, once", n, workers*each-failed.Load())
	}
}
