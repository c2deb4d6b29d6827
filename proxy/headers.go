package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

// dropped are request fields that end here: the caller's own authorization and
// what tells the upstream of an inner address, another method, another path or
// an identity (egress reference §4.1). Names are canonical.
func dropped(name string) bool {
	switch name {
	case "Authorization", "Proxy-Authorization", "Proxy-Connection", "X-Gateway-Authorization",
		"Forwarded", "X-Real-Ip", "True-Client-Ip",
		"X-Http-Method", "X-Http-Method-Override", "X-Method-Override",
		"X-Original-Url", "X-Rewrite-Url", "Upgrade", "Http2-Settings":
		return true
	}
	for _, prefix := range []string{"X-Forwarded-", "X-Ms-Client-Principal", "X-Ms-Token-", "Gateway-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	// Some servers take X_Forwarded_For for X-Forwarded-For.
	return strings.IndexByte(name, '_') >= 0
}

// cleanRequest removes from h what must not reach the upstream.
func cleanRequest(h http.Header, r *routes.Route) {
	for name := range h {
		if dropped(name) {
			delete(h, name)
		}
	}
	if r.CookiesPass {
		return
	}
	if cookies, ok := h["Cookie"]; ok {
		if kept := affinityCookies(cookies); kept != "" {
			h["Cookie"] = []string{kept}
		} else {
			delete(h, "Cookie")
		}
	}
}

// affinity tells whether a cookie only binds a caller to one of the upstream's
// machines, as Azure's load balancers do. Any other cookie may stand for a
// session of the application's identity, which is as good as its token.
func affinity(name string) bool {
	return strings.HasPrefix(name, "ARRAffinity") || strings.HasPrefix(name, "ApplicationGatewayAffinity")
}

func affinityCookies(lines []string) string {
	var kept []string
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") {
			pair = strings.TrimSpace(pair)
			if name, _, _ := strings.Cut(pair, "="); affinity(name) {
				kept = append(kept, pair)
			}
		}
	}
	return strings.Join(kept, "; ")
}

// cleanResponse removes from an upstream's answer what would lead the caller
// past the gateway, or hand it what belongs to the gateway alone.
func cleanResponse(resp *http.Response, p *passage) {
	h := resp.Header
	for name := range h {
		if strings.HasPrefix(name, "Gateway-") {
			delete(h, name) // only the gateway speaks under these names
		}
	}
	delete(h, "Alt-Svc") // a caller that upgrades to HTTP/3 leaves the gateway
	delete(h, "Alternate-Protocol")
	delete(h, "Strict-Transport-Security") // the caller's leg may be plain here, and must stay usable
	delete(h, "Proxy-Authenticate")
	delete(h, "Proxy-Authentication-Info")
	if cookies := h["Set-Cookie"]; len(cookies) > 0 && !p.pass.Route.CookiesPass {
		var kept []string
		for _, c := range cookies {
			if name, _, _ := strings.Cut(strings.TrimSpace(c), "="); affinity(name) {
				kept = append(kept, c)
			}
		}
		if delete(h, "Set-Cookie"); kept != nil {
			h["Set-Cookie"] = kept
		}
	}
	for _, name := range []string{"Location", "Content-Location", "Operation-Location", "Azure-Asyncoperation"} {
		if v, ok := h[name]; ok && len(v) == 1 {
			h[name] = []string{p.lead(v[0])}
		}
	}
	if lines, ok := h["Link"]; ok {
		led := make([]string, len(lines))
		for i, line := range lines {
			led[i] = p.leadLinks(line)
		}
		h["Link"] = led
	}
}

// leadLinks leads the targets of a Link field's line (RFC 8288 §3) as
// [passage.lead] does. Parameters stay as they are, the URLs in them included.
func (p *passage) leadLinks(line string) string {
	var b strings.Builder
	quoted, done := false, 0
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '<' && !quoted:
			length := strings.IndexByte(line[i:], '>')
			if length < 0 {
				return b.String() + line[done:]
			}
			b.WriteString(line[done : i+1])
			b.WriteString(p.lead(line[i+1 : i+length]))
			i += length
			done = i
		}
	}
	return b.String() + line[done:]
}

// lead turns a link to the call's own upstream into one that leads back through
// the gateway. Any other link is left alone: what an upstream hands out for
// other hosts is often authorized by itself and must not get a token.
func (p *passage) lead(link string) string {
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "https" || u.User != nil {
		return link
	}
	a, err := routes.ParseAuthority(u.Host, 443)
	if err != nil {
		return link
	}
	if p.event.Door == audit.Forward {
		if r, ok := p.world.gate.Table().Match(a); !ok || r != p.pass.Route {
			return link
		}
		u.Scheme = strings.TrimSuffix(p.sentTo, "://")
		return u.String()
	}
	if a != p.pass.Authority {
		return link
	}
	back := p.sentTo + p.pass.Route.Mount + u.EscapedPath()
	if u.RawQuery != "" || u.ForceQuery {
		back += "?" + u.RawQuery
	}
	if u.Fragment != "" {
		back += "#" + u.EscapedFragment()
	}
	return back
}

// debugHeaders says how a call was served, where the operator asked for it.
func debugHeaders(h http.Header, e *audit.Event) {
	if e.Route != "" {
		h.Set("Gateway-Route", e.Route)
	}
	if e.TokenSource != "" {
		h.Set("Gateway-Token-Source", e.TokenSource)
	}
	if e.Retry == audit.Recovered || e.Retry == audit.RefusedAgain {
		h.Set("Gateway-Retry", "1")
	}
}
