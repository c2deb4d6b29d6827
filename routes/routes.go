package routes

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
)

const defaultReplay = 1 << 20

var nameSyntax = regexp.MustCompile(`^[a-z0-9-]+$`)

func (p *parser) routes(m *mapping, t *Table) {
	list := m.list("routes")
	if len(list) == 0 {
		if _, ok := m.items["routes"]; !ok || len(p.mistakes) == 0 {
			p.refuse(m.at, finding{"there are no routes", "add one, such as routes: [{preset: graph}]"})
		}
		return
	}
	names, mounts := map[string]int{}, map[string]string{}
	for _, e := range list {
		r := p.route(e, t)
		if before, twice := names[r.Name]; twice && r.Name != "" {
			p.refuse(e.at, finding{fmt.Sprintf("the name %q is taken by the route of line %d", r.Name, before), "give one of them another name"})
		}
		names[r.Name] = e.at.line
		if other, twice := mounts[r.Mount]; twice && r.Mount != "" {
			p.refuse(e.at, finding{fmt.Sprintf("the mount %s is taken by route %s", r.Mount, other), "give one of them another mount"})
		}
		mounts[r.Mount] = r.Name
		p.shadowed(t.Routes, r, e.at)
		t.Routes = append(t.Routes, r)
	}
}

func (p *parser) route(e entry, t *Table) *Route {
	m := p.open(e, "route")
	r := &Route{Line: e.at.line, Preset: m.text("preset", "")}
	r.Credential = p.whose(m, t, e.at)
	preset := p.preset(r, m)
	r.Name = m.text("name", r.Preset)
	switch item, ok := m.items["name"]; {
	case ok && !nameSyntax.MatchString(r.Name):
		p.refuse(item.at, finding{quote(r.Name) + " is no name", "use small letters, digits and hyphens"})
	case !ok && r.Preset == "":
		p.refuse(e.at, finding{"name is missing", "name the route: it is its label in logs and metrics"})
	}
	r.Hosts = p.hosts(m, preset, e.at)
	r.Scope = m.text("scope", preset.scope)
	p.checkScope(r, m, e.at)
	if x, ok := m.items["upstream"]; ok {
		if u, err := url.Parse(p.origin(x)); err == nil {
			r.Upstream = u
		}
	}
	r.Mount = p.mount(r, m)
	p.transport(r, m)
	p.injection(r, m)
	r.CookiesPass = m.choice("cookies", "affinity", "affinity", "pass") == "pass"
	m.only("mode", "enforce")
	m.only("hand_out", "none")
	m.only("rewrite_links", "false")
	return r
}

// whose is the route's credential: by name, else "default", else the only one.
func (p *parser) whose(m *mapping, t *Table, where place) *Credential {
	nobody := &Credential{TokenEndpoint: "https://invalid.invalid"} // only ever beside a mistake
	e, named := m.items["credential"]
	want := "default"
	if named {
		want = p.scalar(e)
	}
	var names []string
	for _, c := range t.Credentials {
		if c.Name == want {
			return c
		}
		names = append(names, c.Name)
	}
	switch {
	case named:
		p.refuse(e.at, finding{"there is no credential " + quote(want), "there are " + strings.Join(names, ", ")})
	case len(t.Credentials) == 1:
		return t.Credentials[0]
	case len(t.Credentials) > 1:
		p.refuse(where, finding{"credential is missing, and none is named default", "there are " + strings.Join(names, ", ")})
	}
	return nobody
}

// checkScope refuses scopes that the credential's server would refuse, or for
// which it would issue a token that the API does not take. Nothing is
// normalised: the slashes of an audience count.
func (p *parser) checkScope(r *Route, m *mapping, where place) {
	if e, ok := m.items["scope"]; ok {
		where = e.at
	}
	where.field = join(strings.TrimSuffix(where.field, ".scope"), "scope")
	for _, c := range r.Scope {
		if c < 0x20 || c == 0x7f || c == '"' || c == '\\' {
			p.refuse(where, finding{"a scope cannot hold this character (RFC 6749 §3.3)", ""})
			return
		}
	}
	if !r.Credential.Entra() {
		return
	}
	audience, ok := strings.CutSuffix(r.Scope, "/.default")
	u, _ := url.Parse(audience)
	switch {
	case r.Scope == "":
		p.refuse(where, finding{"scope is missing", "write the API's <audience>/.default, or use a preset"})
	case len(strings.Fields(r.Scope)) != 1 || strings.TrimSpace(r.Scope) != r.Scope:
		p.refuse(where, finding{quote(r.Scope) + " asks for more than one resource", "Entra gives a token for exactly one; make a route for each"})
	case !ok:
		p.refuse(where, finding{quote(r.Scope) + " does not end in /.default", "write <audience>/.default; application permissions are granted in the portal, not asked for here"})
	case u != nil && sqlAudience(u.Host) && u.Path == "":
		p.refuse(where, finding{quote(r.Scope) + " asks for the wrong audience", "Azure SQL's audience ends in a slash; write " + audience + "//.default"})
	}
}

func sqlAudience(host string) bool {
	switch host {
	case "database.windows.net", "database.usgovcloudapi.net", "database.chinacloudapi.cn":
		return true
	}
	return false
}

func (p *parser) mount(r *Route, m *mapping) string {
	exact := false
	for _, h := range r.Hosts {
		exact = exact || !h.Wildcard
	}
	e, ok := m.items["mount"]
	if !ok {
		if exact && r.Name != "" {
			return "/" + r.Name
		}
		return ""
	}
	mount := strings.TrimSuffix(p.scalar(e), "/")
	u := url.URL{Path: mount}
	switch {
	case !strings.HasPrefix(mount, "/") || strings.Contains(mount, "//") || u.EscapedPath() != mount || strings.Contains(mount+"/", "/../") || strings.Contains(mount+"/", "/./"):
		p.refuse(e.at, finding{quote(mount) + " is no mount", "write a plain path such as /orders"})
	case mount == "/.gateway" || strings.HasPrefix(mount, "/.gateway/"):
		p.refuse(e.at, finding{"/.gateway/ is reserved", "choose another path"})
	case !exact:
		p.refuse(e.at, finding{"a mount stands for one host, and this route has wildcards only", "add an exact host as the first of hosts"})
	}
	return mount
}

func (p *parser) transport(r *Route, m *mapping) {
	t := p.open(m.items["tls"], "tls")
	r.TLS = TLS{CAFile: t.path("ca_file"), ClientCertificateFile: t.path("client_certificate_file"), ClientKeyFile: t.path("client_key_file"), ServerName: t.text("server_name", "")}
	if r.TLS.ClientKeyFile != "" && r.TLS.ClientCertificateFile == "" {
		p.refuse(t.items["client_key_file"].at, finding{"a key without its certificate", "add client_certificate_file"})
	}
	r.Replay = defaultReplay
	if retry := p.open(m.items["retry"], "retry"); retry.items["replay"].present() {
		if v := strings.ToLower(retry.items["replay"].value.Value); v == "off" || v == "false" {
			r.Replay = 0
		} else {
			r.Replay = retry.size("replay", defaultReplay, 1<<30)
		}
	}
	r.ResponseHeaderTimeout = p.open(m.items["timeouts"], "timeouts").duration("response_header", 120*time.Second)
}

var fieldName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^`|~-]+$")

func (p *parser) injection(r *Route, m *mapping) {
	in := p.open(m.items["inject"], "inject")
	r.Inject = Inject{Header: http.CanonicalHeaderKey(in.text("header", "Authorization")), Format: in.text("format", "Bearer {token}")}
	if e, ok := in.items["header"]; ok && (!fieldName.MatchString(r.Inject.Header) || r.Inject.Header != "Authorization" && reserved(r.Inject.Header)) {
		p.refuse(e.at, finding{quote(r.Inject.Header) + " cannot carry the token", "choose the field that the API reads it from"})
	}
	if e, ok := in.items["format"]; ok && (strings.Count(r.Inject.Format, "{token}") != 1 || strings.ContainsAny(r.Inject.Format, "\r\n\x00")) {
		p.refuse(e.at, finding{"want {token} once, on one line", `write "Bearer {token}"`})
	}
	for _, s := range m.params("set_headers") {
		where := m.items["set_headers"].at
		where.field = join(where.field, s.Name)
		name := http.CanonicalHeaderKey(s.Name)
		switch {
		case !fieldName.MatchString(s.Name):
			p.refuse(where, finding{quote(s.Name) + " is no field name", ""})
		case reserved(name) || name == r.Inject.Header:
			p.refuse(where, finding{name + " cannot be set here", "the gateway itself decides about it"})
		case strings.ContainsAny(s.Value, "\r\n\x00"):
			p.refuse(where, finding{"a value must be on one line", ""})
		default:
			r.SetHeaders = append(r.SetHeaders, Param{name, s.Value})
		}
	}
}

// reserved are fields that belong to the connection or to the gateway.
func reserved(name string) bool {
	switch name {
	case "Authorization", "Connection", "Content-Length", "Expect", "Host", "Http2-Settings", "Keep-Alive", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "Via", "X-Gateway-Authorization":
		return true
	}
	return strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "Gateway-")
}

// shadowed warns of a route whose every host an earlier route takes.
func (p *parser) shadowed(earlier []*Route, r *Route, where place) {
	if len(earlier) == 0 || len(r.Hosts) == 0 {
		return
	}
	for _, h := range r.Hosts {
		taken := ""
		for _, b := range earlier {
			for _, bh := range b.Hosts {
				if bh.covers(h) {
					taken = b.Name
				}
			}
		}
		if taken == "" {
			return
		}
		p.warn(where, finding{fmt.Sprintf("%s is taken by route %s above", h, taken), "calls by HTTP_PROXY never get here; move this route up, or remove the host"})
	}
}

// covers tells whether every authority of h is one of p.
func (p HostPattern) covers(h HostPattern) bool {
	if p.Port != h.Port {
		return false
	}
	if !p.Wildcard {
		return !h.Wildcard && p.Host == h.Host
	}
	return strings.HasSuffix(h.Host, "."+p.Host) || h.Wildcard && h.Host == p.Host
}

// metadata tells whether a literal address is one that no call may reach.
func metadata(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || host == "168.63.129.16")
}
