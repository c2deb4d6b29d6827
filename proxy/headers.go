package proxy

import (
	"net/http"
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

// hidden are fields of an answer that never pass, before it, in it or after it:
// those that only the gateway speaks under, and what would lead the caller past
// it. A caller that upgrades to HTTP/3 leaves the gateway.
func hidden(name string) bool {
	switch name {
	case "Alt-Svc", "Alternate-Protocol", "Proxy-Authenticate", "Proxy-Authentication-Info":
		return true
	}
	return strings.HasPrefix(name, "Gateway-")
}

// cleanResponse removes from an upstream's answer what would lead the caller
// past the gateway, or hand it what belongs to the gateway alone.
func (p *passage) cleanResponse(h http.Header) {
	for name := range h {
		if hidden(name) {
			delete(h, name)
		}
	}
	if p.event.Door == audit.Reverse || !strings.HasPrefix(p.sentTo, "https:") {
		delete(h, "Strict-Transport-Security") // the caller's leg must stay usable
	}
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

// cleanEarly does the same for the fields of an answer before the answer, which
// ReverseProxy copies as they came. Such an answer is none that may fail, so of
// one that contains a token no field passes.
func (p *passage) cleanEarly(h http.Header) {
	if p.sent.withinFields(h) {
		clear(h)
		return
	}
	p.cleanResponse(h)
	for name := range h {
		if hopByHop(name) {
			delete(h, name)
		}
	}
}

// cleanTrailer removes from an answer's trailers what must not pass in fields,
// and what has no meaning after the body.
func cleanTrailer(h http.Header) {
	for name := range h {
		if hidden(name) || hopByHop(name) || strings.HasPrefix(name, "Proxy-") ||
			name == "Strict-Transport-Security" || name == "Set-Cookie" || name == "Location" || name == "Link" {
			delete(h, name)
		}
	}
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
