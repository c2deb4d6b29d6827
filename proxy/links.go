package proxy

import (
	"net/url"
	"strings"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

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
//
// On the reverse door a link without a host is one to the upstream too, whose
// root is the mount there. In a tunnel with TLS, links lead back as they are.
func (p *passage) lead(link string) string {
	reverse := p.event.Door == audit.Reverse
	if !reverse && strings.HasPrefix(p.sentTo, "https:") {
		return link
	}
	if reverse && strings.HasPrefix(link, "/") && !strings.HasPrefix(link, "//") {
		return p.pass.Route.Mount + link
	}
	u, err := url.Parse(link)
	if err != nil || u.User != nil || u.Scheme != "https" && !(reverse && u.Scheme == "" && u.Host != "") {
		return link
	}
	a, err := routes.ParseAuthority(u.Host, 443)
	if err != nil {
		return link
	}
	if !reverse {
		if r, ok := p.world.gate.Table().Match(a); !ok || r != p.pass.Route {
			return link
		}
		u.Scheme = "http"
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
