package proxy

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// Identifier is the part of [gate.Identifier] that the proxy needs.
type Identifier interface {
	Identify(ctx context.Context, e gate.Evidence) (*routes.Caller, error)
}

// peer is what a connection tells of whoever opened it.
type peer struct {
	source netip.Addr             // zero for a unix socket
	uid    func() (uint32, error) // asks the kernel once; nil where it cannot be asked
}

type peerKey struct{}

// connContext notes the peer of a new connection. Nothing is asked of it yet:
// the handshake is still to come, and most tables have no callers.
func connContext(ctx context.Context, c net.Conn) context.Context {
	p := &peer{source: sourceOf(c.RemoteAddr())}
	for {
		inner, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = inner.NetConn()
	}
	_, isUnix := c.(*net.UnixConn)
	if runtime.GOOS == "linux" && (isUnix || p.source.IsLoopback()) {
		p.uid = sync.OnceValues(func() (uint32, error) { return gate.PeerUID(c) })
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// sourceOf is the address alone, or zero for what is no address of IP.
func sourceOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// identify asks who calls. Where the table has callers nobody is anonymous,
// whatever the identifier says or lacks.
func (h *Handler) identify(p *passage, r *http.Request) *refusal {
	if p.world.callers == nil {
		return nil
	}
	if h.cfg.Identifier == nil {
		return &refusal{code: gate.CallerUnknown, detail: "no caller can be known", cause: "the table has callers, and nothing here identifies them",
			remedy: "give proxy.Config an Identifier"}
	}
	c, err := h.cfg.Identifier.Identify(p, p.evidence(r))
	if err != nil {
		return explain(err)
	}
	if c != nil {
		// A reload may fall between the table that this call began with and the
		// one that the identifier knows; the gate compares callers of its own.
		c = p.world.callers[c.Name]
	}
	if c == nil {
		return &refusal{code: gate.CallerUnknown, detail: "no caller is known by what this call shows",
			remedy: "send the name and key of a caller, as gateway keygen printed them"}
	}
	p.caller, p.event.Caller = c, c.Name
	return nil
}

// evidence is what r shows, or the CONNECT of the tunnel that it came by: a call
// inside cannot change who calls, and whoever is struck off the list is so in
// the middle of a tunnel.
func (p *passage) evidence(r *http.Request) gate.Evidence {
	if p.tunnel != nil {
		return p.tunnel.evidence
	}
	e := gate.Evidence{Door: p.event.Door, Header: r.Header, TLS: r.TLS}
	if at, ok := p.Context.Value(peerKey{}).(*peer); ok {
		e.Source, e.UID = at.source, at.uid
	} else if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		e.Source = a.Addr().Unmap().WithZone("")
	}
	return e
}

// proof is the evidence of a CONNECT as its tunnel keeps it: of the fields, the
// one that counts.
func (p *passage) proof(r *http.Request) gate.Evidence {
	e := p.evidence(r)
	e.Header = nil
	if v, ok := r.Header["Proxy-Authorization"]; ok {
		e.Header = http.Header{"Proxy-Authorization": v}
	}
	return e
}

// invite adds to a refusal's answer how a caller may prove itself: on the
// reverse door by Basic alone, since a Bearer in Authorization is what
// applications send to the upstream.
func invite(head http.Header, door audit.Door) {
	if door == audit.Reverse {
		head["Www-Authenticate"] = []string{`Basic realm="gateway"`}
		return
	}
	head["Proxy-Authenticate"] = []string{`Basic realm="gateway"`, "Bearer"}
}

// byName indexes a table's callers; nil when it has none.
func byName(callers []*routes.Caller) map[string]*routes.Caller {
	if callers == nil {
		return nil
	}
	m := make(map[string]*routes.Caller, len(callers))
	for _, c := range callers {
		m[c.Name] = c
	}
	return m
}

// overTLS tells whether the caller's connection is encrypted, or need not be:
// a unix socket is of this machine.
func overTLS(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	_, isUnix := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr)
	return isUnix
}

// headerBytes is the size of a request's fields as they came, about.
func headerBytes(h http.Header) int {
	n := 0
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v) + len(": \r\n")
		}
	}
	return n
}

// clean returns s if it is short visible ASCII, else "": what an upstream says
// goes into the log's lines.
func clean(s string, limit int) string {
	if len(s) > limit || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return ""
	}
	return s
}
