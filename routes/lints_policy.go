package routes

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// lintPolicy remarks upon what a route says of its callers and rules.
func (p *parser) lintPolicy(r *Route, m *mapping, t *Table) {
	if e, ok := m.items["mode"]; ok && r.Report && !m.has("allow") {
		p.warn(e.at, finding{"mode: report reports what allow would refuse, and there is no allow", "add allow, or leave mode out"})
	}
	if t.Callers != nil {
		p.lintCallers(r, m, t)
	}
}

// lintCallers warns of a route that nobody can use.
func (p *parser) lintCallers(r *Route, m *mapping, t *Table) {
	callers := admitted(r, t)
	if len(callers) == 0 {
		return // the mistake is said
	}
	usable := func(c *Caller) bool { return c.usable(t.Listen) }
	allowed := func(c *Caller) bool {
		return r.Tenant.Allowed == nil && len(c.Tenants) > 0 || slices.ContainsFunc(c.Tenants, func(id string) bool { return slices.Contains(r.Tenant.Allowed, id) })
	}
	switch {
	case !slices.ContainsFunc(callers, usable):
		if r.Callers != nil {
			p.warn(m.where("callers"), finding{"no caller of this route can prove itself at listen.proxy: the kernel names the uid of peers on this machine alone", "give one an api_key, a jwt or a client_certificate"})
		}
	case r.Tenant != nil && r.Tenant.AllowedFile == "" && !slices.ContainsFunc(callers, allowed):
		p.warn(m.where("tenant"), finding{"no caller of this route has a tenant that it allows", "list under the callers' tenants those that they may choose"})
	}
}

// usable tells whether a caller can prove itself at the proxy port.
func (c *Caller) usable(l Listen) bool {
	certificate := c.CertificateURI != "" || c.CertificateDNS != ""
	return len(c.APIKeys) > 0 || c.JWT != nil || certificate && l.TLS != nil || c.UID != nil && !remoteOnly(l.Proxy)
}

// remoteOnly tells whether an address cannot be reached by way of loopback.
func remoteOnly(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || !offLoopback(addr) {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && !ip.IsUnspecified()
}

// idle warns of callers that no route admits, and of those that cannot prove
// themselves.
func (p *parser) idle(t *Table) {
	used := t.admittedBy(func(*Route) bool { return true })
	atDoors := map[*Caller]bool{} // those who can prove themselves at a SQL door
	for _, d := range t.SQL {
		for _, c := range d.admitted(t) {
			used[c], atDoors[c] = true, atDoors[c] || c.usableAt(d)
		}
	}
	chooses := t.admittedBy(func(r *Route) bool { return r.Tenant != nil })
	certificates := false
	for _, c := range t.Callers {
		certificates = certificates || c.CertificateURI != "" || c.CertificateDNS != ""
		switch {
		case !used[c]:
			p.warn(p.named[c], finding{"no route admits this caller", "name it under callers in a route or a sql entry, or remove it"})
		case !c.usable(t.Listen) && !atDoors[c]:
			p.warn(p.named[c], finding{"this caller cannot prove itself at listen.proxy: the kernel names the uid of peers on this machine alone", "give it an api_key, a jwt or a client_certificate"})
		case c.Tenants != nil && !chooses[c]:
			p.warn(p.named[c], finding{"its tenants bound nothing: no route that admits it lets a call choose one", "give such a route the key tenant, or leave tenants out; a route without goes to its credential's own tenant"})
		}
	}
	if l := t.Listen.TLS; l != nil && l.ClientCAFile != "" && !certificates {
		p.warn(p.clientCA, finding{"callers are asked for certificates, and none is known by one", "add a caller with client_certificate, or leave client_ca_file out"})
	}
}

// admittedBy are the callers that one of those routes admits.
func (t *Table) admittedBy(those func(*Route) bool) map[*Caller]bool {
	set := map[*Caller]bool{}
	for _, r := range t.Routes {
		if !those(r) {
			continue
		}
		for _, c := range admitted(r, t) {
			set[c] = true
		}
		if r.Callers == nil {
			break // admits all
		}
	}
	return set
}

// lintRules warns of rules that change nothing. There are no mistakes so far,
// so each rule has its source, and each path its entry.
func (p *parser) lintRules(r *Route, sources []ruleSource) {
	for i := range r.Allow {
		rule := &r.Allow[i]
		for j := range r.Allow[:i] {
			if !p.spend(1 + len(rule.Paths)*len(r.Allow[j].Paths)) {
				return
			}
			if r.Allow[j].covers(rule, r.FoldPaths) {
				p.warn(sources[i].at, finding{fmt.Sprintf("the rule of line %d allows all of this already", r.Allow[j].Line), "remove this rule, or narrow the one before"})
				break
			}
		}
		p.lintReach(r, rule, sources[i])
	}
}

// lintReach warns of a rule, or of some of its paths, that never come to the
// route.
func (p *parser) lintReach(r *Route, rule *Rule, source ruleSource) {
	if r.Paths == nil || rule.Paths == nil || !p.spend(len(r.Paths)*len(rule.Paths)) {
		return
	}
	var outside []entry
	for i, q := range rule.Paths {
		if !slices.ContainsFunc(r.Paths, func(x Pattern) bool { return x.meets(q, r.FoldPaths) }) {
			outside = append(outside, source.paths[i])
		}
	}
	if len(outside) == len(rule.Paths) {
		p.warn(source.at, finding{"this rule can never match: all its paths are outside of the route's", "widen the route's paths, or remove the rule"})
		return
	}
	for _, e := range outside {
		p.warn(e.at, finding{e.shown() + " can never match: it is outside of the route's paths", "widen the route's paths, or remove it"})
	}
}

// taken tells which hosts earlier routes take for which callers. A route with
// paths of its own takes none: others may come to the routes below.
type taken map[claim]int // the first position

// claim is a host for a caller; nil is anybody.
type claim struct {
	host   HostPattern
	caller *Caller
}

func (x taken) add(r *Route, i int) {
	if r.Paths != nil {
		return
	}
	callers := r.Callers
	if callers == nil {
		callers = []*Caller{nil}
	}
	for _, h := range r.Hosts {
		for _, c := range callers {
			if _, held := x[claim{h, c}]; !held {
				x[claim{h, c}] = i
			}
		}
	}
}

// by is the position of the route that takes h from the callers, the last of
// them where there are several; -1 if one of the callers is left.
func (x taken) by(h HostPattern, callers []*Caller) int {
	last := x.first(h, nil)
	if last >= 0 {
		return last
	}
	for _, c := range callers {
		i := x.first(h, c)
		if i < 0 {
			return -1
		}
		last = max(last, i)
	}
	return last
}

// first is the position of the first route that takes h whole from a caller, or -1.
func (x taken) first(h HostPattern, c *Caller) int {
	best, ok := x[claim{h, c}]
	if !ok {
		best = -1
	}
	for rest := h.Host; ; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			return best
		}
		rest = rest[dot+1:]
		if i, ok := x[claim{HostPattern{Host: rest, Wildcard: true, Port: h.Port}, c}]; ok && (best < 0 || i < best) {
			best = i
		}
	}
}
