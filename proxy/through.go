package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/egress"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

const (
	// throughIdle is how long a tunnel that is passed through may be silent both
	// ways, and throughLife how long it may last at all.
	throughIdle = 5 * time.Minute
	throughLife = 12 * time.Hour
	// smallBuffer is what an idle direction keeps.
	smallBuffer = 2 << 10
)

// dial opens the connection to a host that is passed through.
func (w *world) dial(ctx context.Context, a routes.Authority) (net.Conn, error) {
	return w.dialThrough(ctx, "tcp", a.String())
}

// dialThrough is for hosts that no route names: deny_private holds for them.
func (w *world) dialThrough(ctx context.Context, network, addr string) (net.Conn, error) {
	if !w.gate.Table().Egress.DenyPrivate {
		return w.dialer.DialContext(ctx, network, addr)
	}
	public, ok := w.dialer.(PublicDialer)
	if !ok {
		return nil, fmt.Errorf("%w: there is no way out for what is passed through", egress.ErrForbidden)
	}
	return public.DialPublic(ctx, network, addr)
}

// explainThrough is [explain] where no route decides.
func explainThrough(err error) *refusal {
	r := explain(err)
	switch {
	case errors.Is(err, egress.ErrForbidden):
		r.remedy = "private addresses are reached by egress.deny_private: false alone; metadata services, managed identity endpoints, link-local addresses and the gateway's own listeners never"
	case r.code == Timeout:
		r.remedy = "see whether the host answers, and whether the gateway's network lets it through"
	case r.code == UpstreamUnreachable:
		r.remedy = "check the host's name, the network, and egress.proxy in routes.yaml"
	case r.code == UpstreamTLS:
		r.remedy = "hosts that no route names are verified by the system's roots alone"
	}
	return r
}

// pass copies both ways, untouched, until both sides have said all, one of them
// broke off, or a bound is reached. It records the tunnel.
func (t *tunnel) pass() {
	f := &flow{tunnel: t, died: time.Now().Add(throughLife)}
	f.moved.Store(time.Now().UnixNano())
	f.watch = time.AfterFunc(throughIdle, f.look)
	done := make(chan struct{})
	go func() { // ends with the tunnel
		defer close(done)
		f.copy(t, t.far, &f.out)
	}()
	f.copy(t.far, t, &f.in)
	<-done
	f.watch.Stop()
	_ = t.Close()
	e := t.event
	e.Duration = time.Since(e.Start)
	e.BytesIn, e.BytesOut = f.in.Load(), f.out.Load()
	if why := t.reason(); why != "" {
		e.Cause = "the tunnel was cut off: " + why
	}
	t.h.record(&e, t.span)
}

// flow is what moves through an opaque tunnel.
type flow struct {
	tunnel  *tunnel
	in, out atomic.Int64 // bytes of the caller's, and for it
	moved   atomic.Int64 // when something last did, Unix time in ns
	died    time.Time    // when it has lasted long enough
	watch   *time.Timer
}

// look ends the tunnel when it is time to, and else comes again.
func (f *flow) look() {
	now := time.Now()
	idle := throughIdle - now.Sub(time.Unix(0, f.moved.Load()))
	life := f.died.Sub(now)
	switch {
	case life <= 0:
		f.tunnel.end("it was open for " + throughLife.String())
	case idle <= 0:
		f.tunnel.end("nothing moved for " + throughIdle.String())
	default:
		f.watch.Reset(min(idle, life))
	}
}

// copy moves what src says to dst, and its end. What breaks off ends both ways.
func (f *flow) copy(dst, src net.Conn, count *atomic.Int64) {
	pool := f.tunnel.h.buffers
	small := make([]byte, smallBuffer)
	b := small
	defer func() {
		if len(b) > len(small) {
			pool.Put(b)
		}
	}()
	for {
		n, err := src.Read(b)
		if n > 0 {
			f.moved.Store(time.Now().UnixNano())
			m, werr := dst.Write(b[:n])
			count.Add(int64(m))
			if werr != nil {
				_ = f.tunnel.Close()
				return
			}
			f.moved.Store(time.Now().UnixNano())
		}
		switch {
		case errors.Is(err, io.EOF):
			if closeWrite(dst) != nil {
				_ = f.tunnel.Close()
			}
			return
		case err != nil:
			_ = f.tunnel.Close()
			return
		case n == len(small) && len(b) == n:
			b = pool.Get() // more of it is to come
		case n < len(small) && len(b) > len(small):
			pool.Put(b)
			b = small
		}
	}
}

// beyond finds who serves a call to a host that no route names; nil leaves it
// to the gate, which refuses it.
func (h *Handler) beyond(p *passage, r *http.Request, t gate.Target) (http.Handler, *refusal) {
	table := p.world.gate.Table()
	if t.Door == audit.Reverse {
		return nil, nil
	}
	if _, routed := table.Match(t.Authority); routed {
		return nil, nil
	}
	if t.Door == audit.Tunnel {
		if len(table.Login(t.Authority)) == 0 {
			return nil, nil // a route named it when the tunnel was opened
		}
		return h.atLogin(p, r, t)
	}
	if p.sentTo != "http://" {
		return nil, nil
	}
	asked, err := routes.ParseAuthority(r.URL.Host, 80)
	if err != nil {
		return nil, explain(err)
	}
	t.Authority, p.event.Host = asked, asked.String()
	return h.passOn(p, r, t, "http")
}

// passOn has a call go on to t.Authority by scheme as it is, without a token,
// if egress says so.
func (h *Handler) passOn(p *passage, r *http.Request, t gate.Target, scheme string) (http.Handler, *refusal) {
	if err := p.world.gate.Through(p, t); err != nil {
		return nil, explain(err)
	}
	if refused := checkSlashes(t.Path); refused != nil {
		return nil, refused
	}
	if refused := p.admit(p.world.ofCaller[p.caller], nil); refused != nil {
		return nil, refused
	}
	for _, u := range r.Header["Upgrade"] {
		if u != "" && !strings.EqualFold(u, "h2c") {
			return nil, &refusal{code: NotSupported, detail: "what is passed through by HTTP_PROXY switches to no other protocol",
				remedy: "open a tunnel by CONNECT, as clients do for https:// and wss:// URLs"}
		}
	}
	delete(r.Header, "Upgrade") // h2c may be ignored (RFC 9110 §7.8), and nobody would see what is asked for after it
	p.pass = gate.Pass{Authority: t.Authority, Path: t.Path}
	p.up = &upstream{scheme: scheme}
	return h.through, nil
}

// newThrough builds the proxy of calls that are passed on without a token.
func (h *Handler) newThrough() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        rewriteThrough,
		Transport:      onward{},
		BufferPool:     h.buffers,
		ModifyResponse: h.modifyThrough,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var known *refusal
			if !errors.As(err, &known) && r.Context().Err() == nil {
				err = explainThrough(err)
			}
			h.fail(w, r, err)
		},
		ErrorLog: log.New(proxyLog{h.cfg.Log}, "", 0),
	}
}

// rewriteThrough makes the request as the caller sent it, but for what was meant
// for the gateway. Its Authorization is the caller's own.
func rewriteThrough(pr *httputil.ProxyRequest) {
	p := passageOf(pr.In.Context())
	out := pr.Out
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := pr.In.Header[name]; ok { // ReverseProxy took them out
			out.Header[name] = v
		}
	}
	for name := range out.Header {
		// Some servers take X_Gateway_Authorization for X-Gateway-Authorization.
		switch http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")) {
		case "Proxy-Authorization", "Proxy-Connection", "X-Gateway-Authorization", "Http2-Settings":
			delete(out.Header, name)
		}
	}
	earlier := out.Header["Via"]
	out.Header["Via"] = append(earlier[:len(earlier):len(earlier)], p.world.via...)
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // or net/http would add its own
	}
	out.Trailer = nil // announced names would go out with empty values
	if out.Body != nil && p.in.src != nil {
		out.Body = struct {
			io.Reader
			io.Closer
		}{&p.in, out.Body}
	}
	*out.URL = target(p, pr.In.URL)
	out.Host = ""
	out.URL.Host = p.pass.Authority.String()
	if a := p.pass.Authority; a.Port == 80 && p.up.scheme == "http" || a.Port == 443 && p.up.scheme == "https" {
		out.Host = out.URL.Host[:strings.LastIndexByte(out.URL.Host, ':')]
	}
}

// onward sends each call by the way out of its own table.
type onward struct{}

// RoundTrip implements [http.RoundTripper]. The fields that traces go by are as
// little touched as any other.
func (onward) RoundTrip(req *http.Request) (*http.Response, error) {
	p := passageOf(req.Context())
	try := p.try(req)
	began := time.Now()
	resp, err := p.world.onward.RoundTrip(req)
	p.event.Upstream = time.Since(began)
	tried(try, resp, err)
	return resp, err
}

// newOnward has a connection for each call: what an upstream binds to one, as
// NTLM does, is its caller's alone.
func (w *world) newOnward() *http.Transport {
	return &http.Transport{
		Proxy:                  nil, // the next hop is the dialer's affair, never the environment's
		DialContext:            w.dialThrough,
		DisableKeepAlives:      true,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  120 * time.Second,
		ExpectContinueTimeout:  time.Second,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 256 << 10,
	}
}

// modifyThrough leaves an answer as it is, but for what only the gateway says
// and what would lead past it.
func (h *Handler) modifyThrough(resp *http.Response) error {
	p := passageOf(resp.Request.Context())
	if resp.StatusCode == http.StatusProxyAuthRequired {
		return &refusal{code: UpstreamProxy, detail: "the host asked for proxy authentication",
			remedy: "something between the gateway and the host is a proxy that wants credentials; name it as egress.proxy"}
	}
	deleteHidden(resp.Header)
	deleteHidden(resp.Trailer) // what was announced
	resp.Body = trailed{resp.Body, resp}
	if resp.ContentLength < 0 && !p.stream {
		p.stream = true
		h.streams.Add(1)
	}
	resp.Header["Gateway-Request-Id"] = []string{p.event.RequestID}
	resp.Header["Via"] = append(resp.Header["Via"], p.world.via...)
	return nil
}

// trailed is the body of an answer that is passed on: its end brings trailers,
// announced or not.
type trailed struct {
	io.ReadCloser
	resp *http.Response
}

// Read implements [io.Reader].
func (t trailed) Read(b []byte) (int, error) {
	n, err := t.ReadCloser.Read(b)
	if errors.Is(err, io.EOF) {
		deleteHidden(t.resp.Trailer)
	}
	return n, err
}

func deleteHidden(h http.Header) {
	for name := range h {
		if hidden(name) {
			delete(h, name)
		}
	}
}
