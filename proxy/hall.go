package proxy

import (
	"context"
	"errors"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

// statusClientGone is logged when the caller left before its answer; nothing
// goes over the wire. The number is nginx's.
const statusClientGone = 499

// newHall builds the one proxy that all doors lead to.
func (h *Handler) newHall() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      secondTry{h.cfg.Tokens, h.acr},
		FlushInterval:  0, // streams are flushed at once anyway; -1 breaks gRPC's errors (golang/go#56317)
		BufferPool:     &bufferPool{},
		ModifyResponse: h.modify,
		ErrorHandler:   h.fail,
		ErrorLog:       log.New(proxyLog{h.cfg.Log}, "", 0),
	}
}

// rewrite makes the upstream's request of the caller's. Hop-by-hop fields are
// gone by now, so a caller cannot have the token removed by naming it in
// Connection.
func rewrite(pr *httputil.ProxyRequest) {
	p := passageOf(pr.In.Context())
	out := pr.Out
	p.meter.early = p.cleanEarly
	cleanRequest(out.Header, p.pass.Route)
	if p.upgrade != "" { // ReverseProxy set Connection
		out.Header["Upgrade"] = []string{p.upgrade}
	}
	if p.relinks() {
		// What is encoded could not be changed.
		out.Header["Accept-Encoding"] = []string{"identity"}
	}
	if p.pass.Drop != "" {
		delete(out.Header, http.CanonicalHeaderKey(p.pass.Drop))
	}
	p.dated = p.up.injection.dress(out.Header)
	if earlier := out.Header["Via"]; earlier == nil {
		out.Header["Via"] = p.world.via
	} else {
		out.Header["Via"] = append(earlier[:len(earlier):len(earlier)], p.world.via...)
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // or net/http would add its own
	}
	out.Trailer = nil // announced names would go out with empty values
	out.Host = ""
	*out.URL = target(p, pr.In.URL)
}

// target is the upstream's URL. Path and query are the caller's bytes:
// ReverseProxy would drop parameters with ';' or a bad '%', which OData uses,
// and net/url would encode anew what it would have encoded otherwise.
func target(p *passage, in *url.URL) url.URL {
	u := url.URL{Scheme: p.up.scheme, Host: hostOf(p.pass.Authority), RawQuery: in.RawQuery, ForceQuery: in.ForceQuery}
	u.Path, _ = url.PathUnescape(p.pass.Path) // well-formed, or the door had refused it
	u.RawPath = p.pass.Path
	if u.EscapedPath() != p.pass.Path {
		u.Opaque = p.pass.Path // sent as it stands; checkSlashes lets no "//" in here
	}
	return u
}

// hostOf is a as the Host field has it: without the port that https implies.
func hostOf(a routes.Authority) string {
	if a.Port != 443 {
		return a.String()
	}
	s := a.String()
	return s[:len(s)-len(":443")]
}

// modify is called with each answer of the upstream.
func (h *Handler) modify(resp *http.Response) error {
	p := passageOf(resp.Request.Context())
	if resp.StatusCode == http.StatusProxyAuthRequired {
		return &refusal{code: UpstreamProxy, detail: "the upstream asked for proxy authentication",
			remedy: "something between the gateway and the upstream is a proxy that wants credentials; name it as egress.proxy"}
	}
	if p.sent.withinFields(resp.Header) {
		return h.reflected(p)
	}
	p.event.UpstreamRequest = upstreamRequest(resp.Header)
	if refused := h.admitAnswer(resp, p); refused != nil {
		return refused
	}
	h.remark(resp, p)
	p.cleanResponse(resp.Header)
	cleanTrailer(resp.Trailer)
	if p.relinks() {
		p.relink(resp)
	}
	resp.Header["Gateway-Request-Id"] = []string{p.event.RequestID}
	resp.Header["Via"] = append(resp.Header["Via"], p.world.via...)
	if p.world.debug() {
		debugHeaders(resp.Header, &p.event)
	}
	return nil
}

// admitAnswer makes the body of an answer ready for its way back, or says why it
// may not go there.
func (h *Handler) admitAnswer(resp *http.Response, p *passage) *refusal {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return h.switchOver(resp, p)
	}
	if resp.ContentLength < 0 && !p.stream {
		p.stream = true
		h.streams.Add(1)
	}
	p.in.answered(resp.StatusCode)
	return h.watch(resp, p)
}

// fail is called when there is no answer of the upstream, or one that modify
// refused.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := passageOf(r.Context())
	if cut := p.in.verdict(); cut != nil {
		h.refuse(w, p, cut) // first: net/http takes a missed deadline for a caller that left
		return
	}
	if r.Context().Err() != nil && errors.Is(r.Context().Err(), context.Canceled) {
		p.event.Status, p.event.Cause = statusClientGone, "the caller left"
		panic(http.ErrAbortHandler)
	}
	h.refuse(w, p, explain(err))
}

// bufferPool lends the buffers by which answers are copied.
type bufferPool struct{ pool sync.Pool }

const copyBuffer = 32 << 10

func (b *bufferPool) Get() []byte {
	if p, ok := b.pool.Get().(*[copyBuffer]byte); ok {
		return p[:]
	}
	return make([]byte, copyBuffer)
}

func (b *bufferPool) Put(p []byte) {
	if len(p) == copyBuffer {
		b.pool.Put((*[copyBuffer]byte)(p))
	}
}

// proxyLog takes what ReverseProxy and http.Server have to say: broken copies
// and handshakes, of interest when one looks for a fault.
type proxyLog struct{ log Log }

func (l proxyLog) Write(b []byte) (int, error) {
	l.log.Debug("http", "detail", strconv.Quote(string(b)))
	return len(b), nil
}

// Log is the part of audit.Log that the proxy needs.
type Log interface {
	Debug(msg string, kv ...any)
	Warn(msg string, kv ...any)
	Error(msg string, kv ...any)
}

var _ Log = (*audit.Log)(nil)
