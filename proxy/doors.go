package proxy

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// door tells by which door a call came and what it asks for. TRACE ends here, and
// so does a CONNECT that is none of [Handler.connect]'s, over HTTP/2 or inside
// of a tunnel: one that reached the hall would be written raw onto a pooled
// connection.
func (h *Handler) door(p *passage, r *http.Request) (gate.Target, *refusal) {
	p.event.Door = audit.Reverse
	if p.tunnel != nil || r.Method == http.MethodConnect {
		p.event.Door = audit.Tunnel
	}
	switch {
	case r.Method == http.MethodConnect:
		p.event.Host = bounded(r.Host)
		return gate.Target{}, &refusal{code: MethodRefused, detail: "CONNECT is taken over HTTP/1.1 alone, and not inside of a tunnel",
			remedy: "open tunnels by HTTP/1.1, on connections of their own"}
	case r.Method == http.MethodTrace:
		return gate.Target{}, &refusal{code: MethodRefused, detail: "TRACE would show the token to the caller",
			remedy: "use another method; what became of a call is on the admin port's page and in gateway logs"}
	case len(r.RequestURI) > maxTarget:
		return gate.Target{}, &refusal{code: URITooLong, detail: "path and query together may have 32 KiB", remedy: longTarget}
	case headerBytes(r.Header) > maxHeader:
		return gate.Target{}, &refusal{code: HeadersTooLarge, detail: "the request's fields together may have 64 KiB", remedy: largeFields}
	}
	path, absolute := escapedPath(r.RequestURI)
	p.event.Path = bounded(path)
	if absolute && p.tunnel == nil {
		p.event.Door = audit.Forward
	}
	if refused := checkTarget(r, path); refused != nil {
		return gate.Target{}, refused
	}
	if refused := h.looped(r); refused != nil {
		return gate.Target{}, refused
	}
	switch {
	case p.tunnel != nil && absolute:
		return gate.Target{}, &refusal{code: BadRequest, detail: "a call inside of a tunnel names no other host in its target",
			remedy: "send the path alone, as to the host itself"}
	case p.tunnel != nil:
		return tunnelDoor(p, r, path)
	case absolute:
		return forwardDoor(p, r, path)
	}
	return reverseDoor(p, r, path)
}

// pingPath is answered by the gateway itself, at every door, to whoever may
// call: gateway doctor proves a way by it without touching an upstream.
const pingPath = "/.gateway/ping"

// pinged tells whether a call is for the gateway itself. Where the path is
// another host's it is taken from routed hosts alone.
func (p *passage) pinged(r *http.Request, t gate.Target) bool {
	if t.Path != pingPath || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	if t.Door == audit.Reverse {
		return true
	}
	_, routed := p.world.gate.Table().Match(t.Authority)
	return routed
}

// pong is the answer to a ping.
func pong(w http.ResponseWriter, r *http.Request) {
	w.Header()["Gateway-Request-Id"] = []string{passageOf(r.Context()).event.RequestID}
	w.Header()["Cache-Control"] = []string{"no-store"}
	w.WriteHeader(http.StatusNoContent)
}

// checkTarget refuses what two parsers might read in two ways.
func checkTarget(r *http.Request, path string) *refusal {
	ambiguous := func(why string) *refusal {
		return &refusal{code: BadRequest, detail: why, remedy: "send a request target as RFC 9112 §3.2 has it, without a fragment"}
	}
	switch {
	case strings.Contains(r.RequestURI, "#"):
		return ambiguous("the request target holds a fragment")
	case !strings.HasPrefix(path, "/"):
		return ambiguous("the path does not begin with a slash")
	case r.URL.User != nil:
		return ambiguous("the request target holds user information")
	}
	return nil
}

// checkSlashes refuses a path of two slashes that could not be sent as it
// stands: net/http would make a host of what follows them. It looks at what is
// left when the mount is gone.
func checkSlashes(path string) *refusal {
	if !strings.HasPrefix(path, "//") {
		return nil
	}
	plain, err := url.PathUnescape(path)
	if u := (url.URL{Path: plain, RawPath: path}); err == nil && u.EscapedPath() == path {
		return nil
	}
	return &refusal{code: BadRequest, detail: "the path begins with two slashes and holds characters that must be percent-encoded",
		remedy: "percent-encode them, or begin the path with one slash"}
}

// forwardDoor is for absolute-form: what follows HTTP_PROXY. The authority of
// the target counts, and Host does not (RFC 9112 §3.2.2).
// A target of https:// is one whose caller keeps its bytes secret, so it is taken
// where the way to the gateway does. HTTP/2 has no absolute form that net/http
// would show, so no forward door: a foreign :authority is misdirected.
func forwardDoor(p *passage, r *http.Request, path string) (gate.Target, *refusal) {
	p.event.Host = bounded(r.URL.Host)
	secure := strings.EqualFold(r.URL.Scheme, "https")
	switch {
	case secure && overTLS(r):
		p.sentTo = "https://"
	case secure, !strings.EqualFold(r.URL.Scheme, "http"):
		return gate.Target{}, &refusal{code: BadRequest, detail: "only http:// targets are taken in absolute form on a listener without TLS",
			remedy: "write http:// in the URL; the gateway's own leg to the upstream is TLS all the same"}
	default:
		p.sentTo = "http://"
	}
	a, err := routes.ParseAuthority(r.URL.Host, 443)
	if err != nil {
		return gate.Target{}, &refusal{code: BadRequest, detail: "the target's host is not one: " + err.Error(),
			remedy: "write a plain host name, with a port if need be"}
	}
	if a.Port == 80 && !secure {
		a.Port = 443 // http://host:80 is http://host, and a token travels over TLS alone
	}
	p.event.Host = a.String()
	return gate.Target{Door: audit.Forward, Authority: a, Path: path}, nil
}

// reverseDoor is for origin-form: the gateway is called by its own name.
func reverseDoor(p *passage, r *http.Request, path string) (gate.Target, *refusal) {
	p.event.Host = bounded(r.Host)
	if !p.world.hosts.answerTo(r.Context(), r.Host) {
		return gate.Target{}, &refusal{code: Misdirected, detail: "the Host field names none of the gateway's hosts",
			remedy: "call by a loopback name, or add this host to listen.hosts; to use the gateway as a proxy, set http_proxy and keep the URL"}
	}
	// A web page can send requests to a loopback port, and read the answers
	// after rebinding a name of its own to it.
	foreign := func(site string) bool { return site != "" && site != "none" }
	if r.Header["Origin"] != nil || slices.ContainsFunc(r.Header["Sec-Fetch-Site"], foreign) {
		return gate.Target{}, &refusal{code: BrowserRefused, detail: "the call came from a page in a browser",
			remedy: "call from a program; the gateway serves no pages"}
	}
	p.sentTo = "http://" + r.Host
	if r.TLS != nil {
		p.sentTo = "https://" + r.Host
	}
	return gate.Target{Door: audit.Reverse, Path: path}, nil
}

// escapedPath cuts the path out of a request target without touching its
// bytes, and tells whether the target is in absolute form.
func escapedPath(target string) (path string, absolute bool) {
	path = target
	if !strings.HasPrefix(target, "/") {
		if _, rest, ok := strings.Cut(target, "://"); ok {
			absolute = true
			path = "/"
			if i := strings.IndexAny(rest, "/?#"); i >= 0 {
				path = rest[i:]
			}
		}
	}
	if i := strings.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	if absolute && path == "" {
		path = "/"
	}
	return path, absolute
}

// hosts are the names that the reverse door answers to, beyond loopback.
type hosts struct {
	exact   map[routes.Authority]bool
	anyPort map[string]bool
}

func newHosts(list []string) hosts {
	h := hosts{exact: map[routes.Authority]bool{}, anyPort: map[string]bool{}}
	for _, s := range list {
		a, err := routes.ParseAuthority(s, 0)
		switch {
		case err != nil: // the table holds canonical hosts only
		case a.Port == 0:
			h.anyPort[a.Host] = true
		default:
			h.exact[a] = true
		}
	}
	return h
}

// answerTo tells whether host is one of ours: a loopback name with any port, a
// configured one, or the very address that the call was sent to. A page's own
// name is none of these, whatever it resolves to.
func (h hosts) answerTo(ctx context.Context, host string) bool {
	a, err := routes.ParseAuthority(host, 80)
	if err != nil {
		return false
	}
	ip, ipErr := netip.ParseAddr(a.Host)
	switch {
	case a.Host == "localhost", ipErr == nil && ip.IsLoopback():
		return true
	case h.exact[a], h.anyPort[a.Host]:
		return true
	}
	local, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || ipErr != nil {
		return false
	}
	at, err := netip.ParseAddrPort(local.String())
	return err == nil && at.Addr().Unmap() == ip
}

func bounded(s string) string {
	if len(s) > maxLoggedPath {
		return s[:maxLoggedPath] + "…"
	}
	return s
}
