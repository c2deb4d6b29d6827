package proxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/certs/alert"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

const (
	// recordHandshake is the first byte of TLS (RFC 8446 §5.1).
	recordHandshake = 0x16
	// refusedTLS is a fatal alert, handshake_failure, for a peer that expects a
	// handshake.
	refusedTLS = "\x15\x03\x01\x00\x02\x02\x28"
	// distrustWait is how soon after its handshake a tunnel is closed without a
	// call by clients that look at certificates only then, as Node and GnuTLS.
	distrustWait = 5 * time.Second
	// anAlert is more than an encrypted alert has, in bytes, and less than a call.
	anAlert = 64
	// distrustInterval is how often the log says so of one host, and
	// distrustHosts how many hosts it remembers.
	distrustInterval = time.Minute
	distrustHosts    = 1024
)

// errOtherName ends a handshake.
var errOtherName = errors.New("the TLS client asks for another name than its CONNECT")

// tunnelKey is the context key of the tunnel that a connection came by.
type tunnelKey struct{}

// handed is a listener of connections that others accepted.
type handed struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// Accept implements [net.Listener].
func (l *handed) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (l *handed) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements [net.Listener].
func (*handed) Addr() net.Addr { return &net.UnixAddr{Name: "tunnels", Net: "tunnel"} }

// inner is the server of the calls inside of tunnels. Its goroutine begins with
// the first of them, and ends with close.
type inner struct {
	srv   *http.Server
	tls   *tls.Config
	conns *handed
	once  sync.Once

	mu   sync.Mutex           // guards said
	said map[string]time.Time // by host: when the log was last told that a client does not trust the CA
}

func (h *Handler) newInner() *inner {
	in := &inner{
		srv:   h.NewServer(),
		conns: &handed{conns: make(chan net.Conn), done: make(chan struct{})},
		said:  map[string]time.Time{},
	}
	in.srv.Handler = inside{h}
	// What is handed over is a *tls.Conn itself, or http.Server would not speak
	// HTTP/2; the tunnel is beneath it.
	in.srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if secured, ok := c.(*tls.Conn); ok {
			c = secured.NetConn()
		}
		return context.WithValue(ctx, tunnelKey{}, c)
	}
	in.tls = innerTLS(h.cfg.Certifier)
	return in
}

// innerTLS is one configuration for all tunnels: its ticket keys are shared, so
// that sessions are resumed in tunnels to come. A session is resumed for the
// name alone that it was begun for (RFC 6066 §3); one of a client that names
// none, never.
func innerTLS(c Certifier) *tls.Config {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	var near *tls.Config
	// Here, since a resumed session asks for no certificate.
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		t, ok := hello.Conn.(*tunnel)
		if !ok {
			return nil, errOtherName
		}
		if hello.ServerName == "" {
			return t.curves(hello, near), nil
		}
		a, err := routes.ParseAuthority(hello.ServerName, t.asked.Port)
		if err != nil || a.Host != t.asked.Host {
			return nil, fmt.Errorf("%w: %q in a tunnel to %s", errOtherName, bounded(hello.ServerName), t.asked.Host)
		}
		return t.curves(hello, near), nil
	}
	conf.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		t, ok := hello.Conn.(*tunnel)
		if !ok || c == nil {
			return nil, errOtherName
		}
		t.shown.Store(true)
		return c.Certificate(t.at.Host)
	}
	conf.WrapSession = func(cs tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
		s.Extra = append(s.Extra, []byte(cs.ServerName))
		return conf.EncryptTicket(cs, s)
	}
	conf.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		s, err := conf.DecryptTicket(ticket, cs)
		if err != nil || s == nil || cs.ServerName == "" || len(s.Extra) != 1 || !bytes.Equal(s.Extra[0], []byte(cs.ServerName)) {
			return nil, err
		}
		return s, nil
	}
	near = conf.Clone()
	near.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
	return conf
}

// curves is near for a client on this machine that knows one of its curves, or
// nil, which leaves the choice to the one configuration of all. A post-quantum
// key exchange is a quarter of what a new tunnel costs, and helps against whoever
// records the connection now to read it in years: nobody can who is not on this
// machine, and who may record its loopback may read its memory. Tickets are
// sealed by the one configuration in either case.
func (t *tunnel) curves(hello *tls.ClientHelloInfo, near *tls.Config) *tls.Config {
	if _, isUnix := t.RemoteAddr().(*net.UnixAddr); !isUnix && !sourceOf(t.RemoteAddr()).IsLoopback() {
		return nil
	}
	for _, known := range hello.SupportedCurves {
		if slices.Contains(near.CurvePreferences, known) {
			return near
		}
	}
	return nil
}

// take serves c, a tunnel or TLS upon it, or closes it when the end has come.
func (in *inner) take(c net.Conn) {
	in.once.Do(func() { go func() { _ = in.srv.Serve(in.conns) }() }) // ends with in.conns
	select {
	case in.conns.conns <- c:
	case <-in.conns.done:
		_ = c.Close()
	}
}

func (in *inner) close() {
	_ = in.conns.Close()
	_ = in.srv.Close()
}

// intercept finds out what is spoken in the tunnel, and has its calls served.
// The first byte decides, which no later one can gainsay.
func (h *Handler) intercept(t *tunnel) {
	first, err := t.peek()
	switch {
	case err != nil:
		if errors.Is(err, context.DeadlineExceeded) {
			t.fail(&refusal{code: SlowRequest, cause: "nothing came through the tunnel for " + firstByteWait.String(),
				remedy: "speak TLS or HTTP at once in a tunnel"})
		}
		_ = t.Close()
	case first == recordHandshake:
		h.secure(t)
	case 'A' <= first && first <= 'Z':
		h.inner.take(t)
	default:
		t.fail(&refusal{code: BadRequest, cause: fmt.Sprintf("neither TLS nor HTTP is spoken in the tunnel: its first byte is %#02x", first),
			remedy: "hosts of routes are reached by HTTPS or HTTP alone; another protocol may pass through to hosts under egress.allow"})
		_ = t.Close()
	}
}

// peek returns the first byte without taking it. A deadline that passes is
// context.DeadlineExceeded.
func (t *tunnel) peek() (byte, error) {
	if len(t.early) == 0 {
		var b [1]byte
		_ = t.SetReadDeadline(time.Now().Add(firstByteWait))
		if _, err := io.ReadFull(t, b[:]); err != nil {
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				err = context.DeadlineExceeded
			}
			return 0, err
		}
		_ = t.SetReadDeadline(time.Time{})
		t.early = b[:]
	}
	return t.early[0], nil
}

// secure does the handshake here, since http.Server would not tell what became
// of it.
func (h *Handler) secure(t *tunnel) {
	if h.cfg.Certifier == nil {
		_ = t.SetWriteDeadline(time.Now().Add(answerWait))
		_, _ = io.WriteString(t.Conn, refusedTLS)
		t.fail(noInterception())
		_ = t.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), firstByteWait)
	defer cancel()
	c := tls.Server(t, h.inner.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		t.fail(h.explainHandshake(t, err))
		_ = t.Close()
		return
	}
	t.secured.Store(time.Now().UnixNano())
	h.inner.take(c)
}

// explainHandshake says what a failed handshake means.
func (h *Handler) explainHandshake(t *tunnel, err error) *refusal {
	cause := "the TLS handshake in the tunnel failed: " + bounded(err.Error())
	number, isAlert := alert.Sent(err)
	if !isAlert && t.bare != 0 {
		number, isAlert = t.bare, true
	}
	switch {
	case errors.Is(err, errOtherName):
		return &refusal{code: Misdirected, cause: err.Error(), remedy: "open a tunnel of its own for each host"}
	case isAlert && alert.Doubt(number) != "":
		return t.distrusted("the client does not trust the gateway's CA: it answered the certificate with the alert " + alert.Doubt(number))
	case !isAlert && t.shown.Load() && alert.Ended(err):
		return t.distrusted("the client closed the tunnel when it saw the certificate, as clients do that do not trust the gateway's CA")
	case errors.Is(err, context.DeadlineExceeded):
		return &refusal{code: SlowRequest, cause: "the TLS handshake in the tunnel took longer than " + firstByteWait.String(),
			remedy: "see whether the client hangs, or the network between it and the gateway drops packets"}
	}
	return &refusal{code: BadRequest, cause: cause, remedy: "see whether the client speaks TLS 1.2 or 1.3; gateway doctor, run where the client runs, tells more"}
}

// trustRemedy is for clients of every kind.
const trustRemedy = "have the client trust the gateway's CA, which gateway ca export prints: SSL_CERT_FILE, NODE_EXTRA_CA_CERTS, REQUESTS_CA_BUNDLE or javax.net.ssl.trustStore names it; or run the program by gateway exec -- CMD. gateway doctor, run where the client runs, tells which"

// distrusted warns of a client that does not trust the CA, which never looks
// like one: its user sees an error of TLS, or none at all.
func (t *tunnel) distrusted(cause string) *refusal {
	if t.h.inner.mayWarn(t.asked.Host) {
		t.h.cfg.Log.Warn("a client does not trust the gateway's CA", "server.address", t.asked.String(),
			"client.address", t.event.Remote, "gateway.caller", t.event.Caller, "cause", cause, "remedy", trustRemedy)
	}
	return &refusal{cause: cause, remedy: trustRemedy}
}

func (in *inner) mayWarn(host string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	now := time.Now()
	if last, ok := in.said[host]; ok && now.Sub(last) < distrustInterval {
		return false
	}
	if len(in.said) >= distrustHosts {
		clear(in.said)
	}
	in.said[host] = now
	return true
}

// remarkLeaving records a client that went away right after the handshake and
// made no call. It may have had other reasons, so the log says what was seen.
func (t *tunnel) remarkLeaving() {
	at := t.secured.Load()
	if at == 0 || !t.shown.Load() || t.calls.Load() > 0 || t.said.Load() > anAlert || time.Since(time.Unix(0, at)) > distrustWait {
		return
	}
	if t.reason() != "" || t.h.draining.Load() {
		return // the gateway's doing
	}
	t.fail(t.distrusted("the client closed the tunnel right after the handshake and made no call, as clients do that do not trust the gateway's CA"))
}

// fail records what became of an intercepted tunnel in which no call was made.
// What its CONNECT got was 200; the status here says what it would have got.
func (t *tunnel) fail(r *refusal) {
	e := t.event
	e.Duration = time.Since(e.Start)
	e.Code, e.Cause, e.Remedy, e.Status = string(r.code), r.told(), r.remedy, statusClientGone
	if a, ok := t.h.answers[r.code]; ok {
		e.Status, e.Remedy = a.Status, cmp.Or(r.remedy, a.Remedy)
	}
	t.h.cfg.Recorder.Record(&e)
}

// inside lets in the calls of tunnels.
type inside struct{ h *Handler }

// ServeHTTP implements [http.Handler].
func (i inside) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, ok := r.Context().Value(tunnelKey{}).(*tunnel)
	if !ok {
		panic("a call inside of no tunnel")
	}
	t.calls.Add(1)
	i.h.serve(w, r, t)
}

// tunnelDoor is for what is called inside of an intercepted tunnel: by
// origin-form, and for the tunnel's own authority. Browsers may call here: no
// page can have a browser open tunnels.
func tunnelDoor(p *passage, r *http.Request, path string) (gate.Target, *refusal) {
	t := p.tunnel
	p.event.Host = t.at.String()
	p.sentTo = "http://"
	port := t.asked.Port
	if r.TLS != nil {
		p.sentTo = "https://"
	}
	if port != 443 && port != 80 {
		port = 0 // which a Host without a port is then, and so another one
	}
	a, err := routes.ParseAuthority(r.Host, port)
	if err != nil || a != t.asked {
		return gate.Target{}, &refusal{code: Misdirected, detail: "Host is not the host that the tunnel was opened to",
			cause:  fmt.Sprintf("Host is %q in a tunnel to %s", bounded(r.Host), t.asked),
			remedy: "open a tunnel of its own for each host; a Host without a port is that of port 443 or 80"}
	}
	return gate.Target{Door: audit.Tunnel, Authority: t.at, Path: path}, nil
}

// atLogin serves a call inside of a tunnel to a login host: the stand-in first,
// then whoever egress lets it go to.
func (h *Handler) atLogin(p *passage, r *http.Request, t gate.Target) (http.Handler, *refusal) {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if h.standIn(p, r, t.Authority) {
			return
		}
		next, refused := h.passOn(p, r, t, "https")
		if refused != nil {
			h.refuse(w, p, refused)
			return
		}
		next.ServeHTTP(w, r.WithContext(p))
	}), nil
}
