// Package proxy is the centre of the gateway: the HTTP doors, the hall that
// they share, and the transport that injects a token and tries once more when
// it is refused.
package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

const (
	// defaultReplayBudget is what all calls together may keep for a second
	// try, in bytes, when Config does not say: two hundred uploads of 1 MiB that
	// are refused at once, as when a token is revoked under load, fit.
	defaultReplayBudget = 256 << 20
	// maxTarget bounds path and query together, in bytes.
	maxTarget = 32 << 10
	// maxHeader bounds the fields of a request, in bytes. The server's own bound
	// is above it, since it answers in plain text.
	maxHeader       = 64 << 10
	maxServerHeader = 96 << 10
	// maxLoggedPath bounds what of a path goes into the log, in bytes.
	maxLoggedPath = 2 << 10
)

// Config is what a [Handler] needs. Tokens, Recorder and Log are required.
type Config struct {
	Tokens     TokenSource
	Recorder   audit.Recorder
	Log        Log
	Identifier Identifier // who calls, where the table has callers; nil knows nobody
	// Certifier has the certificates by which TLS inside tunnels is ended; nil:
	// tunnels to routed hosts take plain HTTP alone.
	Certifier Certifier
	// Sealer makes and knows placeholders; nil: no stand-in logins.
	Sealer       *gate.Sealer
	ReplayBudget int64 // bytes; 0 for 256 MiB
	InFlight     int64 // calls under way at once; 0 for 4096
	Tunnels      int64 // open at once; 0 for 10 000
	Connections  int64 // open at once, see [Handler.Listener]; 0 for 20 000
	PerSource    int   // connections of one source; 0 for 256
}

// Certifier is the part of [certs.CA] that the proxy needs.
type Certifier interface {
	Certificate(host string) (*tls.Certificate, error)
}

// Handler serves the doors of one proxy listener. It answers 503 until the
// first [Handler.Use]. It is safe for concurrent use.
type Handler struct {
	cfg     Config
	answers map[gate.Code]Answer
	hall    *httputil.ReverseProxy
	through *httputil.ReverseProxy // for hosts that no route names
	buffers *bufferPool
	inner   *inner // of tunnels
	tunnels tunnels
	budget  *budget
	acr     *registries
	via     []string // this instance's entry of the Via field (RFC 9110 §7.6.3)

	running, streams, connections atomic.Int64 // see [InFlight]
	draining                      atomic.Bool
	switches                      switches
	wholes                        wholePool

	changing sync.Mutex // one Use at a time
	world    atomic.Pointer[world]
}

// Gate is the part of [gate.Gate] that the proxy needs; see batchJudge too.
type Gate interface {
	Admit(ctx context.Context, t gate.Target) (gate.Pass, error)
	Key(r *routes.Route) tokens.Key
	Table() *routes.Table
	Tunnel(ctx context.Context, t gate.Target) (gate.Way, routes.Authority, error)
	Through(ctx context.Context, t gate.Target) error
}

// world is what one table makes of the handler. It is immutable; a call keeps
// the one that it began with.
type world struct {
	gate         Gate
	dialer       Dialer
	onward       *http.Transport           // to hosts that no route names
	upstreams    map[string]*upstream      // by route
	callers      map[string]*routes.Caller // by name; nil when the table has none
	ofRoute      map[*routes.Route]*quota  // of those with limits
	ofCaller     map[*routes.Caller]*quota
	hosts        hosts
	debugHeaders bool
	via          []string
}

func (w *world) debug() bool { return w.debugHeaders }

// New makes a handler without a table.
func New(cfg Config) *Handler {
	cfg.ReplayBudget = cmp.Or(cfg.ReplayBudget, defaultReplayBudget)
	cfg.InFlight = cmp.Or(cfg.InFlight, defaultInFlight)
	cfg.Connections = cmp.Or(cfg.Connections, defaultConnections)
	cfg.PerSource = cmp.Or(cfg.PerSource, defaultPerSource)
	cfg.Tunnels = cmp.Or(cfg.Tunnels, defaultTunnels)
	h := &Handler{
		cfg: cfg, answers: statuses(), budget: &budget{limit: cfg.ReplayBudget},
		via:     []string{fmt.Sprintf("1.1 gateway-%08x", rand.Uint32())},
		buffers: &bufferPool{}, tunnels: tunnels{open: map[*tunnel]struct{}{}, held: map[string]int64{}},
	}
	h.acr = newRegistries(h, cfg.Tokens)
	h.hall, h.through, h.inner = h.newHall(), h.newThrough(), h.newInner()
	return h
}

// Use makes g decide all later calls, which leave through dialer; calls under
// way end as they began. Connections to upstreams are kept where nothing about
// them changed, the dialer included, and what is used of limits is kept by the
// names of routes and callers. The findings name routes whose TLS files cannot be
// used; such a route refuses its calls, or goes on with the files as they were
// read before.
func (h *Handler) Use(g Gate, dialer Dialer) (findings []error) {
	h.changing.Lock()
	defer h.changing.Unlock()
	old := h.world.Load()
	table := g.Table()
	next := &world{
		gate: g, dialer: dialer, upstreams: make(map[string]*upstream, len(table.Routes)), via: h.via,
		hosts: newHosts(table.Listen.Hosts), debugHeaders: table.Log.DebugHeaders, callers: byName(table.Callers),
	}
	next.setQuotas(table, old)
	next.onward = next.newOnward()
	for _, r := range table.Routes {
		var before *upstream
		if old != nil {
			before = old.upstreams[r.Name]
		}
		u, err := newUpstream(r, dialer, before)
		if err != nil {
			findings = append(findings, err)
		}
		next.upstreams[r.Name] = u
	}
	h.world.Store(next)
	if old != nil {
		for name, u := range old.upstreams {
			kept := next.upstreams[name]
			if u.transport != nil && (kept == nil || kept.transport != u.transport) {
				u.transport.CloseIdleConnections() // calls under way keep theirs
			}
		}
	}
	return findings
}

// Purge forgets the tokens of container registries whose key matches: its
// Credential and Tenant are those of the token that was exchanged. It returns
// how many there were.
func (h *Handler) Purge(match func(tokens.Key) bool) int { return h.acr.store.Purge(match) }

// Close ends all tunnels and the calls inside and those that switched to another
// protocol, closes idle connections to upstreams, and forgets their tokens. No
// other call may be under way, and no tunnel is opened any more.
func (h *Handler) Close() {
	h.tunnels.cut(true)
	h.inner.close()
	h.switches.cut()
	h.acr.store.Close()
	if w := h.world.Load(); w != nil {
		for _, u := range w.upstreams {
			if u.transport != nil {
				u.transport.CloseIdleConnections()
			}
		}
	}
}

// Kept is the number of bytes that calls under way keep for a second try.
func (h *Handler) Kept() int64 { return h.budget.used.Load() }

// ServeHTTP lets a call in, and closes the books on it whatever happens. It must
// be the outermost handler: it alone takes CONNECT.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect && r.ProtoMajor == 1 {
		h.connect(w, r)
		return
	}
	h.serve(w, r, nil)
}

// begin opens the books on a call, which came inside of t unless that is nil.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, t *tunnel) *passage {
	p := &passage{Context: r.Context(), world: h.world.Load(), tunnel: t}
	p.in.w, p.in.h2 = w, r.ProtoMajor >= 2
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		p.in.src = r.Body
	}
	p.meter = meter{ResponseWriter: w, h2: p.in.h2, in: &p.in, draining: &h.draining}
	p.event.Start = time.Now()
	p.event.RequestID = requestID()
	p.event.TraceID = traceID(r.Header.Get("Traceparent"))
	p.event.Method, p.event.Remote = r.Method, r.RemoteAddr
	return p
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, t *tunnel) {
	p := h.begin(w, r, t)
	h.running.Add(1)
	defer h.finish(p)
	next, refused := h.enter(p, r)
	if refused != nil {
		h.refuse(&p.meter, p, refused)
		return
	}
	next.ServeHTTP(&p.meter, r.WithContext(p))
}

// finish records the call. A panic that is ours becomes a 500 if nothing was
// sent yet; http.ErrAbortHandler is how ReverseProxy cuts a broken answer off,
// and goes on.
func (h *Handler) finish(p *passage) {
	v := recover()
	if err, ok := v.(error); v != nil && (!ok || !errors.Is(err, http.ErrAbortHandler)) {
		h.defect(p, v)
		v = http.ErrAbortHandler
		if p.meter.status == 0 {
			h.refuse(&p.meter, p, &refusal{code: Internal, detail: "see the gateway's log for this request_id",
				remedy: "report the log line with its stack"})
			v = nil // whoever aborts takes the answer back
		}
	}
	h.leave(p)
	h.cfg.Recorder.Record(p.end())
	h.switches.remove(p.meter.switched)
	if v != nil {
		panic(http.ErrAbortHandler)
	}
}

// defect logs a panic of ours, from within the deferred function that met it.
func (h *Handler) defect(p *passage, v any) {
	h.cfg.Log.Error("defect", "gateway.request_id", p.event.RequestID, "exception.type", fmt.Sprintf("%T", v),
		"exception.stacktrace", string(debug.Stack()))
}

// leave gives back what the call held, and bounds what net/http still writes
// and reads of it.
func (h *Handler) leave(p *passage) {
	p.in.close()
	p.meter.leave()
	p.leave()
	h.budget.give(p.kept)
	if p.stream {
		h.streams.Add(-1)
	}
	h.running.Add(-1)
}

// enter brings a call from the door through the gate, so that what it returns
// can serve it, or says why not.
func (h *Handler) enter(p *passage, r *http.Request) (http.Handler, *refusal) {
	if p.world == nil {
		return nil, starting()
	}
	target, refused := h.door(p, r)
	if refused != nil {
		return nil, refused
	}
	if h.running.Load() > h.cfg.InFlight {
		return nil, busy("the gateway has as many calls under way as it takes", "the number of gateways")
	}
	if target.Door == audit.Reverse && target.Path == identityPath && h.cfg.Sealer != nil {
		return h.identityEndpoint(p, r), nil
	}
	if refused := h.identify(p, r); refused != nil {
		return nil, refused
	}
	if p.pinged(r, target) {
		return http.HandlerFunc(pong), nil
	}
	target.Method, target.Query, target.Header, target.Caller = r.Method, r.URL.RawQuery, r.Header, p.caller
	if next, refused := h.beyond(p, r, target); next != nil || refused != nil {
		return next, refused
	}
	pass, err := p.world.gate.Admit(p, target)
	if err != nil {
		return nil, explain(err)
	}
	p.pass, p.up = pass, p.world.upstreams[pass.Route.Name]
	if refused := h.foreignPlaceholder(p, r); refused != nil {
		return nil, refused
	}
	if refused := checkSlashes(pass.Path); refused != nil {
		return nil, refused
	}
	if refused := p.admit(p.world.ofCaller[p.caller], p.world.ofRoute[pass.Route]); refused != nil {
		return nil, refused
	}
	return h.hall, h.ready(p, r)
}

func starting() *refusal {
	return &refusal{code: TokenUnavailable, detail: "the gateway is starting", retryAfter: time.Second,
		remedy: "call again after Retry-After; GET /readyz at the admin port tells when it is ready"}
}

// ready is the rest of enter: the way is known.
func (h *Handler) ready(p *passage, r *http.Request) *refusal {
	if p.up.err != nil {
		return &refusal{code: UpstreamTLS, detail: "the route's TLS files cannot be used", cause: p.up.err.Error(),
			remedy: "put the files in place that tls of the route names; they are read again at once"}
	}
	if refused := p.wish(r); refused != nil {
		return refused
	}
	if p.in.limit = p.pass.Route.Limits.MaxBody; p.in.limit > 0 && r.ContentLength > p.in.limit {
		return tooLarge()
	}
	if refused := h.relinkRequest(p, r); refused != nil {
		return refused
	}
	if p.pass.Batch {
		return h.judgeBatch(p, r)
	}
	if p.in.src != nil {
		var src io.Reader = &p.in
		if p.whole != nil {
			src = p.whole
		}
		p.body = newBody(src, p.pass.Route.Replay, r.ContentLength, h.budget)
	}
	return nil
}

// requestID is 128 random bits in hex: enough to find one call in a log.
func requestID() string {
	var b [16]byte
	for i := 0; i < len(b); i += 8 {
		v := rand.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	return hex.EncodeToString(b[:])
}

// traceID takes the trace-id out of a W3C traceparent field, or nothing.
func traceID(parent string) string {
	parts := strings.Split(parent, "-")
	if len(parts) < 4 || len(parts[1]) != 32 {
		return ""
	}
	if _, err := hex.DecodeString(parts[1]); err != nil {
		return ""
	}
	return parts[1]
}

var _ context.Context = (*passage)(nil)
