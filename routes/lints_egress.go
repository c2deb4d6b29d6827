package routes

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// lintDoorways remarks upon programs that would not get through to a route.
func (p *parser) lintDoorways(r *Route, m *mapping, t *Table) {
	login, has := r.LoginHost()
	if has && t.Intercept == nil {
		p.warn(m.where("hand_out"), finding{fmt.Sprintf("without intercept, placeholders come from the managed identity endpoint alone: nobody answers for %s inside tunnels", login.Host), "add intercept: {ca_dir: …}; gateway exec has a CA of its own"})
	}
	if t.Intercept == nil {
		return
	}
	const byName = "the CA signs for names alone, so that no program trusts the tunnel door for "
	for _, h := range r.Hosts {
		if isAddress(h.Host) {
			p.warn(m.where("hosts"), finding{byName + h.Host, "name the host, and dial the address by upstream; the reverse door and http:// URLs work all the same"})
			break
		}
	}
	if has && isAddress(login.Host) && !login.Loopback() {
		p.warn(m.where("hand_out"), finding{byName + "the login host " + login.Host, "name it in authority_host, token_endpoint or issuer of the credential; the managed identity endpoint works all the same"})
	}
}

// lintEgress remarks upon what is passed through.
func (p *parser) lintEgress(m *mapping, t *Table) {
	x := &t.Egress
	if e, ok := m.items["default"]; ok && x.Tunnel && t.Callers == nil && t.Listen.ProxyOffLoopback() {
		p.warn(e.at, finding{"whoever reaches the proxy port can reach every host of the internet by it: there are no callers", "say under callers who may call, or write default: deny and list hosts under allow"})
	}
	if e, ok := m.items["deny_private"]; ok && !x.DenyPrivate {
		f := finding{"callers reach private addresses of this network, and what else listens on this machine, by hosts that no route names", "leave it out; a host that has to be private can have a route"}
		if !x.Tunnel && len(x.Allow) == 0 {
			f = finding{"this changes nothing: nothing is passed through, and routed hosts may be private all the same", "leave it out"}
		}
		p.warn(e.at, f)
	}
	if len(p.mistakes) > 0 {
		return
	}
	// There are no mistakes, so each pattern has its entry.
	for i, e := range m.list("allow") {
		p.lintAllowed(x.Allow[i], e, t)
	}
}

// lintAllowed remarks upon one entry of egress.allow.
func (p *parser) lintAllowed(h HostPattern, e entry, t *Table) {
	for _, r := range t.Routes {
		if !p.spend(len(r.Hosts)) {
			break
		}
		if names(r, h) {
			p.warn(e.at, finding{fmt.Sprintf("route %s names %s too, and routes win: calls get its token, or are refused", r.Name, e.shown()), "remove it here, or from the route"})
			break
		}
	}
	if h.Wildcard && anybodys(h.Host) {
		p.warn(e.at, finding{e.shown() + " covers servers that anybody can run, so that whatever runs behind the gateway can send its data to any of them", "name the hosts exactly"})
	}
	ip, err := netip.ParseAddr(h.Host)
	inside := err == nil && (ip.IsPrivate() || ip.IsLoopback()) || Authority{Host: h.Host}.Loopback() || strings.HasSuffix(h.Host, ".localhost")
	if inside && t.Egress.DenyPrivate {
		p.warn(e.at, finding{e.shown() + " is private, and deny_private refuses it", "give it a route, or remove it"})
	}
	switch h.Port {
	case 22, 23, 25:
		p.warn(e.at, finding{e.shown() + " is no port of the web: whoever may call can log in to other machines, or send mail, from here", "remove it, unless that is meant"})
	}
}

// names tells whether a route takes every host of h, whose port 80 stands for 443.
func names(r *Route, h HostPattern) bool {
	a := Authority{Host: h.Host, Port: h.Port}
	if a.Port == 80 {
		a.Port = 443
	}
	for _, x := range r.Hosts {
		if x.Port == a.Port && x.Host == a.Host && x.Wildcard == h.Wildcard || x.Wildcard && x.Matches(a) {
			return true
		}
	}
	return false
}

// anybodys tells whether anybody can have a server below suffix.
func anybodys(suffix string) bool {
	for rest := suffix; rest != ""; _, rest, _ = strings.Cut(rest, ".") {
		if strings.Contains(customerRun, " "+rest+" ") {
			return true
		}
	}
	ps, _ := publicsuffix.PublicSuffix(suffix)
	return ps == suffix
}
