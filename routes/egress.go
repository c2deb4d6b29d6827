package routes

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// egress reads what happens beyond the routes, which are known by now.
func (p *parser) egress(m *mapping, t *Table) {
	e := p.open(m.items["egress"], "egress")
	t.remember(m, e)
	t.Egress = Egress{
		Proxy:       p.hop(e),
		Allow:       p.allowed(e, t),
		Tunnel:      e.choice("default", "deny", "deny", "tunnel") == "tunnel",
		DenyPrivate: e.flag("deny_private", true),
	}
	p.lintEgress(e, t)
}

// hop reads the next hop; nil for none.
func (p *parser) hop(m *mapping) *EgressProxy {
	item, ok := m.items["proxy"]
	if !ok {
		return nil
	}
	x := p.open(item, "proxy")
	hop := &EgressProxy{Username: x.text("username", ""), Password: x.secret("password")}
	for _, b := range x.list("bypass") {
		hop.Bypass = append(hop.Bypass, p.bypass(b))
	}
	hop.URL = p.nextHop(x)
	if hop.Username == "" && !hop.Password.IsZero() {
		p.refuse(item.at, finding{"password without username", "add username"})
	}
	return hop
}

// nextHop reads the URL of the proxy; nil beside a mistake.
func (p *parser) nextHop(m *mapping) *url.URL {
	e, ok := m.items["url"]
	if !ok {
		p.refuse(m.at, finding{"url is missing", "write http://host:port"})
		return nil
	}
	u, a, err := parseOrigin(p.scalar(e))
	switch {
	case err == nil && (strings.Trim(u.Path, "/") != "" || u.RawQuery != ""):
		err = errors.New("holds more than a host")
	case err == nil && metadata(a.Host):
		err = errors.New("names an address that no call may reach")
	}
	if err != nil {
		p.refuse(e.at, finding{"the next hop's URL " + err.Error(), "write http://host:port, and its user under username and password"})
		return nil
	}
	return &url.URL{Scheme: u.Scheme, Host: originHost(u.Scheme, a)}
}

func (p *parser) bypass(e entry) string {
	v := p.scalar(e)
	if _, err := netip.ParsePrefix(v); strings.Contains(v, "/") && err != nil || v == "" {
		p.refuse(e.at, finding{e.shown() + " is no host, .suffix, address or CIDR block", "write api.internal, .internal, 10.0.0.7 or 10.0.0.0/8"})
	}
	return v
}

// allowed reads egress.allow.
func (p *parser) allowed(m *mapping, t *Table) []HostPattern {
	list := m.list("allow")
	if e, ok := m.items["allow"]; ok && len(list) == 0 {
		p.refuse(e.at, finding{"names no host", "name one, such as login.microsoftonline.com, or leave the key out"})
	}
	var out []HostPattern
	seen := map[HostPattern]bool{}
	for _, e := range list {
		h, ok := p.passable(e)
		switch {
		case !ok:
		case seen[h]:
			p.refuse(e.at, finding{e.shown() + " stands twice", "keep one of the two"})
		default:
			t.lines[fmt.Sprintf("egress.allow[%d]", len(out))] = e.at.line
			out, seen[h] = append(out, h), true
		}
	}
	return out
}

// passable reads one entry of egress.allow. No token goes there, so that more
// may stand here than under the hosts of a route.
func (p *parser) passable(e entry) (HostPattern, bool) {
	raw := p.scalar(e)
	name, wildcard := strings.CutPrefix(raw, "*.")
	a, err := ParseAuthority(name, 443)
	refuse := func(message, remedy string) (HostPattern, bool) {
		p.refuse(e.at, finding{e.shown() + " " + message, remedy})
		return HostPattern{}, false
	}
	switch host, _, found := strings.Cut(raw, "/"); {
	case raw == "*" || strings.HasPrefix(raw, "*:") || raw == "*.*":
		return refuse("stands for every host", "write default: tunnel if all hosts that no route names shall pass")
	case strings.Contains(raw, "://"):
		return refuse("is a URL; what is passed through is known by its host alone", "write the host, with a port if it is not 443")
	case found && host != "":
		return refuse("holds a path or a block; what is passed through is known by its host alone", "write the host; to bound methods and paths, add a route")
	case err != nil || strings.Contains(name, "*"):
		return refuse("is no host", "write a name such as login.microsoftonline.com, with a port if it is not 443, or *.suffix")
	case wildcard && isAddress(a.Host):
		return refuse("is no host: addresses have no suffixes", "write each address by itself")
	case metadata(a.Host):
		return refuse("is an address that no call may reach", "remove it")
	}
	return HostPattern{Host: a.Host, Wildcard: wildcard, Port: a.Port}, true
}

// intercept reads where the CA of the tunnel door is kept.
func (p *parser) intercept(m *mapping, t *Table) {
	e, ok := m.items["intercept"]
	if !ok {
		return
	}
	x := p.open(e, "intercept")
	t.Intercept = &Intercept{CADir: x.path("ca_dir")}
	if !x.has("ca_dir") {
		p.refuse(e.at, finding{"ca_dir is missing", "name the folder of the CA; serve makes one where there is none"})
	}
}

// protocols are those that calls may switch to.
func protocols() []string { return []string{"websocket"} }

// doorways reads what a route does beyond sending calls with a token.
func (p *parser) doorways(r *Route, m *mapping, t *Table) {
	r.Upgrade = p.upgrades(m)
	r.RewriteLinks = m.flag("rewrite_links", false)
	r.Placeholder = m.choice("hand_out", "none", "none", "placeholder") == "placeholder"
	if e, ok := m.items["rewrite_links"]; ok && r.RewriteLinks && r.Mount == "" {
		p.refuse(e.at, finding{"links lead back to the route's mount, and this route has none", "add an exact host as the first of hosts, or leave rewrite_links out"})
	}
	p.lintDoorways(r, m, t)
}

// upgrades reads the protocols of a route; nil when it names none.
func (p *parser) upgrades(m *mapping) []string {
	list := m.list("upgrade")
	if e, ok := m.items["upgrade"]; ok && len(list) == 0 {
		p.refuse(e.at, finding{"names no protocol", "write [websocket], or leave the key out"})
	}
	var out []string
	for _, e := range list {
		name := p.scalar(e)
		switch {
		case !slices.Contains(protocols(), name):
			p.refuse(e.at, finding{e.shown() + " is no protocol that a call may switch to", "there is " + strings.Join(protocols(), ", ")})
		case slices.Contains(out, name):
			p.refuse(e.at, finding{e.shown() + " stands twice", "keep one of the two"})
		default:
			out = append(out, name)
		}
	}
	return out
}
