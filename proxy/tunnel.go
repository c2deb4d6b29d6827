package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/certs/alert"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

const (
	// defaultTunnels is how many tunnels may be open when Config does not say.
	defaultTunnels = 10_000
	// established is the whole answer to a CONNECT that is taken (RFC 9110
	// §9.3.6), whatever version of HTTP/1 asked: as other proxies have it.
	established = "HTTP/1.1 200 Connection Established\r\n\r\n"
	// firstByteWait is how long an intercepted tunnel may be silent at first,
	// and how long its handshake may take (CVE-2026-22045, CVE-2026-26999).
	firstByteWait = 10 * time.Second
	// answerWait is how long a caller may take to accept those few bytes.
	answerWait = 10 * time.Second
	// lingerAfter is how long after a write a caller may still be reading,
	// lingerWait how long it may then take, and lingerLook how often one looks.
	lingerAfter = 5 * time.Second
	lingerWait  = 10 * time.Second
	lingerLook  = 50 * time.Millisecond
)

// tunnel is a connection whose CONNECT was answered by 200. TLS of the calls
// inside is spoken upon it. It counts until it is closed.
type tunnel struct {
	net.Conn // the caller's
	h        *Handler
	asked    routes.Authority // as the CONNECT named it
	at       routes.Authority // that its calls are for
	way      gate.Way
	// evidence is what the CONNECT showed. Every call inside is identified by it
	// anew, and by nothing of its own.
	evidence gate.Evidence
	holder   string      // the caller's name, by whose share it counts; "" for anyone
	event    audit.Event // of the CONNECT
	far      net.Conn    // the other end of what is passed through; nil when intercepted

	early   []byte       // came before it was wanted; read first
	shown   atomic.Bool  // the certificate was
	bare    uint8        // the alert that came unsealed after it; 0: none
	secured atomic.Int64 // when the handshake was over, Unix time in ns; 0: it was not
	said    atomic.Int64 // bytes that came after it
	calls   atomic.Int64 // that came inside
	writing atomic.Int64 // writes under way
	wrote   atomic.Int64 // when the last one ended, Unix time in ns
	left    atomic.Bool

	mu  sync.Mutex // guards why
	why string     // the gateway ended it; "" when it did not
}

// Read implements [net.Conn], for one reader at a time.
func (t *tunnel) Read(b []byte) (int, error) {
	if len(t.early) > 0 {
		n := copy(b, t.early)
		if t.early = t.early[n:]; len(t.early) == 0 {
			t.early = nil
		}
		return n, nil
	}
	n, err := t.Conn.Read(b)
	switch {
	case t.secured.Load() != 0:
		t.said.Add(int64(n))
	case t.shown.Load():
		t.bare = alert.Bare(b[:n])
	}
	return n, err
}

// CloseWrite lets either side say that it has said all.
func (t *tunnel) CloseWrite() error { return closeWrite(t.Conn) }

// closeWrite closes one direction, or the whole connection where it has no
// directions: who waits for its end must not wait for ever.
func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// Write implements [net.Conn].
func (t *tunnel) Write(b []byte) (int, error) {
	t.writing.Add(1)
	n, err := t.Conn.Write(b)
	t.wrote.Store(time.Now().UnixNano())
	t.writing.Add(-1)
	return n, err
}

// Close implements [net.Conn]. It may be called again. Where something was just
// written the connection goes on for a while: http.Server closes those of HTTP/2
// a second after their last call, and what a slow caller has not read by then
// would be lost, in its buffers and in the system's.
func (t *tunnel) Close() error {
	if !t.left.CompareAndSwap(false, true) {
		return nil
	}
	if t.secured.Load() != 0 && t.unread() && t.reason() == "" {
		go t.linger() // ends by lingerWait
		return nil
	}
	return t.close()
}

func (t *tunnel) close() error {
	t.h.tunnels.leave(t)
	if t.far != nil {
		_ = t.far.Close()
	}
	err := t.Conn.Close()
	t.remarkLeaving()
	return err
}

// unread tells whether the caller may not have read all.
func (t *tunnel) unread() bool {
	return t.writing.Load() > 0 || time.Since(time.Unix(0, t.wrote.Load())) < lingerAfter
}

// linger closes once the caller has, which reads to the end, or is too slow.
func (t *tunnel) linger() {
	defer t.close()
	until := time.Now().Add(lingerWait)
	for half := false; time.Now().Before(until); {
		_ = t.Conn.SetReadDeadline(time.Now().Add(lingerLook))
		_, err := io.CopyN(io.Discard, t.Conn, drainBytes)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if !half && t.writing.Load() == 0 && time.Since(time.Unix(0, t.wrote.Load())) >= lingerLook {
			if half = true; t.CloseWrite() != nil {
				return
			}
		}
	}
}

// end closes the tunnel at once, and keeps why, if nobody gave a reason before.
func (t *tunnel) end(why string) {
	t.mu.Lock()
	if t.why == "" {
		t.why = why
	}
	t.mu.Unlock()
	_ = t.Close()
	_ = t.Conn.Close() // it may linger
}

func (t *tunnel) reason() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.why
}

// connect answers a CONNECT over HTTP/1, and serves what comes of it until it is
// handed to the inner server or has ended.
func (h *Handler) connect(w http.ResponseWriter, r *http.Request) {
	p := h.begin(w, r, nil)
	p.event.Door, p.event.Host = audit.Tunnel, bounded(r.RequestURI)
	defer p.leave()
	var t *tunnel
	defer func() {
		if v := recover(); v != nil {
			h.defect(p, v)
			if t != nil {
				_ = t.Close()
			}
			panic(http.ErrAbortHandler)
		}
	}()
	t, refused := h.dig(p, r)
	if refused != nil {
		p.hangUp = r.ContentLength != 0 // nobody knows where the next request begins
		h.refuse(&p.meter, p, refused)
		p.in.close()
		p.meter.leave()
		h.cfg.Recorder.Record(p.end())
		return
	}
	if t.way == gate.Through {
		t.pass()
		return
	}
	h.intercept(t)
}

// dig opens the tunnel that r asks for, or says why not.
func (h *Handler) dig(p *passage, r *http.Request) (*tunnel, *refusal) {
	if p.world == nil {
		return nil, starting()
	}
	asked, refused := h.connectTarget(r)
	if refused != nil {
		return nil, refused
	}
	p.event.Host = asked.String()
	if refused := h.identify(p, r); refused != nil {
		return nil, refused
	}
	if p.world.hosts.own(r.Context(), asked) {
		return nil, toItself()
	}
	way, at, err := p.world.gate.Tunnel(p, gate.Target{Door: audit.Tunnel, Authority: asked, Method: r.Method, Caller: p.caller})
	if err != nil {
		return nil, explain(err)
	}
	if way == gate.Through { // a call under way, as long as it is open; those inside of others are counted one by one
		if refused := p.admit(p.world.ofCaller[p.caller], nil); refused != nil {
			return nil, refused
		}
	}
	t := &tunnel{h: h, asked: asked, at: at, way: way, evidence: p.proof(r), holder: p.event.Caller}
	if refused := t.canBeRead(); refused != nil {
		return nil, refused
	}
	if !h.tunnels.reserve(t.holder, h.cfg.Tunnels) {
		return nil, busy("as many tunnels are open as the gateway takes, or half of them by this caller", "the number of gateways")
	}
	if refused := t.open(p); refused != nil {
		h.tunnels.release(t.holder)
		return nil, refused
	}
	return t, nil
}

// canBeRead refuses to intercept what the gateway has no certificate for. At
// port 80 plain HTTP is to be expected: Node's fetch asks for tunnels to
// http:// URLs.
func (t *tunnel) canBeRead() *refusal {
	if t.way == gate.Through || t.asked.Port == 80 {
		return nil
	}
	if t.h.cfg.Certifier == nil {
		return noInterception()
	}
	if _, err := t.h.cfg.Certifier.Certificate(t.at.Host); err != nil {
		return noCertificate(err)
	}
	return nil
}

func noCertificate(err error) *refusal {
	return &refusal{code: NotSupported, detail: "the gateway has no certificate to show for this host", cause: err.Error(),
		remedy: "addresses cannot be intercepted: call by the host's name, or http://HOST/… by HTTP_PROXY, or the reverse door; gateway ca show tells what the CA may sign for"}
}

func toItself() *refusal {
	return &refusal{code: MethodRefused, detail: "the target of CONNECT is the gateway itself",
		remedy: "call the gateway without a proxy: name its host in NO_PROXY"}
}

func noInterception() *refusal {
	return &refusal{code: NotSupported, detail: "the gateway has no CA by which it could read this tunnel, and the host needs a token",
		remedy: "set intercept.ca_dir in routes.yaml (gateway ca init makes the CA) and have clients trust what gateway ca export prints; or run the program by gateway exec -- CMD; or call http://HOST/… by HTTP_PROXY"}
}

// open dials what is passed through, takes the connection over and says so.
func (t *tunnel) open(p *passage) *refusal {
	if t.way == gate.Through {
		far, err := p.world.dial(p, t.at)
		if err != nil {
			return explainThrough(err)
		}
		t.far = far
	}
	conn, buffered, err := http.NewResponseController(p.meter.ResponseWriter).Hijack()
	if err != nil {
		if t.far != nil {
			_ = t.far.Close()
		}
		return &refusal{code: Internal, detail: "the connection cannot be taken over", cause: err.Error(), remedy: "report this with its request_id: it is a defect of the gateway"}
	}
	t.Conn = conn
	// Clients that do not wait for the answer send their hello behind the CONNECT.
	if n := buffered.Reader.Buffered(); n > 0 {
		t.early, _ = buffered.Reader.Peek(n)
		t.early = append([]byte(nil), t.early...)
	}
	p.event.Status = http.StatusOK
	t.event = p.event
	if !t.h.tunnels.enter(t) {
		t.end("the gateway stopped")
		return nil
	}
	_ = conn.SetWriteDeadline(time.Now().Add(answerWait))
	if _, err := io.WriteString(conn, established); err != nil {
		_ = t.Close()
		return nil
	}
	_ = conn.SetWriteDeadline(time.Time{})
	return nil
}

// connectTarget reads the target of a CONNECT: authority-form with a port (RFC
// 9112 §3.2.3), and a request that has nothing else to say.
func (h *Handler) connectTarget(r *http.Request) (routes.Authority, *refusal) {
	bad := func(why string) (routes.Authority, *refusal) {
		return routes.Authority{}, &refusal{code: BadRequest, detail: why, remedy: "send CONNECT host:port HTTP/1.1, without a body"}
	}
	switch {
	case len(r.RequestURI) > maxTarget:
		return routes.Authority{}, &refusal{code: URITooLong, detail: "the target may have 32 KiB", remedy: longTarget}
	case headerBytes(r.Header) > maxHeader:
		return routes.Authority{}, &refusal{code: HeadersTooLarge, detail: "the request's fields together may have 64 KiB", remedy: largeFields}
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return bad("a CONNECT has no body")
	}
	a, err := routes.ParseAuthority(r.RequestURI, 0)
	switch {
	case err != nil:
		return bad("the target of CONNECT is no host and port: " + bounded(err.Error()))
	case a.Port == 0:
		return bad("the target of CONNECT names no port")
	}
	return a, h.looped(r)
}

// looped refuses a call that went out by this gateway.
func (h *Handler) looped(r *http.Request) *refusal {
	for _, via := range r.Header["Via"] {
		if strings.Contains(via, h.via[0]) {
			return &refusal{code: Loop, detail: "the call came through this gateway already",
				remedy: "no upstream of a route may lead back to the gateway; look at hosts, upstream and egress.proxy"}
		}
	}
	return nil
}

// own tells whether a is where the connection of ctx came in, or another name
// of it: a tunnel to there would only lead to another door.
func (h hosts) own(ctx context.Context, a routes.Authority) bool {
	if h.exact[a] {
		return true
	}
	local, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	at, err := netip.ParseAddrPort(local.String())
	if err != nil || at.Port() != a.Port {
		return false
	}
	ip, err := netip.ParseAddr(a.Host)
	return h.anyPort[a.Host] || a.Loopback() || err == nil && ip == at.Addr().Unmap()
}
