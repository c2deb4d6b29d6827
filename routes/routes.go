package routes

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
)

const defaultReplay = 1 << 20

var nameSyntax = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

func (p *parser) routes(m *mapping, t *Table) {
	list := m.list("routes")
	if len(list) == 0 && (m.has("routes") || !m.has("sql")) {
		if _, ok := m.items["routes"]; !ok || len(p.mistakes) == 0 {
			p.refuse(m.at, finding{"there are no routes", "add one, such as routes: [{preset: graph}]"})
		}
		return
	}
	names, mounts := map[string]int{}, map[string]string{}
	var places []place
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
		t.Routes = append(t.Routes, r)
		places = append(places, e.at)
	}
	p.shadowed(t, places)
}

// unused warns of credentials that no route names, nor stand in for one.
func (p *parser) unused(t *Table) {
	used := map[*Credential]bool{}
	for _, r := range t.Routes {
		used[r.Credential] = true
	}
	for _, d := range t.SQL {
		used[d.Credential] = true
	}
	standIns(t, used)
	for _, c := range t.Credentials {
		if where, inFile := p.declared[c]; inFile && !used[c] {
			p.warn(where, finding{"no route uses this credential", "name it under credential in a route or a sql entry, or remove it"})
		}
	}
}

func (p *parser) route(e entry, t *Table) *Route {
	m := p.open(e, "route")
	r := &Route{Line: e.at.line, Lines: linesOf(m), Preset: m.text("preset", "")}
	r.Credential = p.whose(m, t, e.at)
	a := p.preset(r, m)
	r.Name = m.text("name", r.Preset)
	switch item, ok := m.items["name"]; {
	case ok && !nameSyntax.MatchString(r.Name):
		p.refuse(item.at, finding{item.shown() + " is no name", "use up to 64 small letters, digits and hyphens"})
		r.Name = ""
	case !ok && r.Preset == "":
		p.refuse(e.at, finding{"name is missing", "name the route: it is its label in logs and metrics"})
	}
	r.Hosts = p.hosts(m, r, a, e.at)
	r.Scope = m.text("scope", "")
	if a != nil && !m.has("scope") {
		r.Scope = p.presetScope(a, r, m.where("hosts"))
	}
	p.checkScope(r, m, e.at)
	if x, ok := m.items["upstream"]; ok {
		if u, err := url.Parse(p.origin(x)); err == nil {
			r.Upstream = u
			if metadata(u.Hostname()) {
				p.warn(x.at, finding{"is an address that the gateway never dials", "name the API's own address"})
			}
		}
	}
	r.Mount = p.mount(r, m)
	p.transport(r, m)
	p.injection(r, m, a)
	p.policy(r, m, t)
	p.lint(r, m, a, t)
	r.CookiesPass = m.choice("cookies", "affinity", "affinity", "pass") == "pass"
	p.doorways(r, m, t)
	return r
}

// whose is the route's credential: by name, else "default", else the only one.
func (p *parser) whose(m *mapping, t *Table, where place) *Credential {
	nobody := &Credential{TokenEndpoint: nowhere} // only ever beside a mistake
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
		p.refuse(e.at, finding{"there is no credential " + e.shown(), "there are " + strings.Join(names, ", ")})
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
	shown := quote(r.Scope)
	if e, ok := m.items["scope"]; ok {
		where, shown = e.at, e.shown()
	}
	where.field = join(strings.TrimSuffix(where.field, ".scope"), "scope")
	for _, c := range r.Scope {
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			p.refuse(where, finding{"a scope holds printable ASCII alone, without quotes and backslashes (RFC 6749 §3.3)", "write it as the API's documentation has it"})
			return
		}
	}
	if !r.Credential.Entra() {
		return
	}
	audience, ok := strings.CutSuffix(r.Scope, "/.default")
	switch {
	case r.Scope == "" && m.has("preset") && !m.has("scope"): // the preset was refused
	case r.Scope == "":
		p.refuse(where, finding{"scope is missing", "write the API's <audience>/.default, or use a preset"})
	case len(strings.Fields(r.Scope)) > 1:
		p.refuse(where, finding{shown + " asks for more than one resource", "Entra gives a token for exactly one; make a route for each"})
	case strings.TrimSpace(r.Scope) != r.Scope:
		p.refuse(where, finding{shown + " begins or ends with a space", "write the scope alone"})
	case !ok || strings.Trim(audience, "/") == "":
		p.refuse(where, finding{shown + " does not end in /.default", "write <audience>/.default; application permissions are granted in the portal, not asked for here"})
	default:
		if f, never := hopeless(audience, shown); never {
			p.refuse(where, f)
		}
	}
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
	mount := strings.TrimSuffix(p.scalar(e), "/") // "/" itself would take every path, /.gateway/ included
	u := url.URL{Path: mount}
	switch {
	case !strings.HasPrefix(mount, "/") || strings.Contains(mount, "//") || u.EscapedPath() != mount || strings.Contains(mount+"/", "/../") || strings.Contains(mount+"/", "/./"):
		p.refuse(e.at, finding{e.shown() + " is no mount", "write a plain path such as /orders"})
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
	if e, ok := t.items["server_name"]; ok {
		if a, err := ParseAuthority(r.TLS.ServerName, 0); err != nil || a.Port != 0 {
			p.refuse(e.at, finding{e.shown() + " is no host", "write the name in the upstream's certificate"})
		}
	}
	if m.has("tls") && r.Upstream != nil && r.Upstream.Scheme == "http" {
		p.refuse(t.at, finding{"tls is for an upstream that speaks it, and this one is http", "keep one of the two"})
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

var fieldName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

func (p *parser) injection(r *Route, m *mapping, a *api) {
	format := "Bearer {token}"
	if a != nil {
		format = cmp.Or(a.quirk.format, format)
	}
	in := p.open(m.items["inject"], "inject")
	r.Inject = Inject{Header: http.CanonicalHeaderKey(in.text("header", "Authorization")), Format: in.text("format", format)}
	if e, ok := in.items["header"]; ok && (!fieldName.MatchString(r.Inject.Header) || r.Inject.Header != "Authorization" && reserved(r.Inject.Header)) {
		p.refuse(e.at, finding{e.shown() + " cannot carry the token", "choose the field that the API reads it from"})
	}
	if e, ok := in.items["format"]; ok && (strings.Count(r.Inject.Format, "{token}") != 1 || strings.ContainsAny(r.Inject.Format, "\r\n\x00")) {
		p.refuse(e.at, finding{"want {token} once, on one line", `write "Bearer {token}"`})
	}
	p.setHeaders(r, m)
	if a != nil {
		p.quirks(a, r, m)
	}
}

func (p *parser) setHeaders(r *Route, m *mapping) {
	e, ok := m.items["set_headers"]
	if !ok {
		return
	}
	order, items := p.pairs(e.value, e.at)
	seen := map[string]bool{}
	for _, key := range order {
		where, name := items[key].at, http.CanonicalHeaderKey(key)
		value := p.scalar(items[key])
		switch {
		case !fieldName.MatchString(key):
			p.refuse(where, finding{"this is no name of a header field", "use letters, digits and hyphens"})
		case reserved(name) || name == r.Inject.Header:
			p.refuse(where, finding{name + " cannot be set here", "the gateway itself decides about it"})
		case seen[name]:
			p.refuse(where, finding{name + " stands twice: case does not count in field names", "keep one of the two"})
		default:
			r.SetHeaders = append(r.SetHeaders, Param{name, value})
		}
		seen[name] = true
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

// metadata tells whether a host is one that no call may reach: link-local
// addresses, and where clouds tell a machine its own secrets.
func metadata(host string) bool {
	switch host {
	case "168.63.129.16", "fd00:ec2::254", "100.100.100.200", "255.255.255.255", "metadata.google.internal":
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified())
}
