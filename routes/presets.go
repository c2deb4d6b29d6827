package routes

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// api is one row of the table of presets: a well-known API, what stands in for
// its hosts and its scope in each cloud, and what its calls need beside a token.
type api struct {
	name, doc string
	kind      string // "" is reached by HTTP; sql by TDS; other by a protocol of its own

	public, usgov, dod, china []site // none: not offered there; dod falls back to usgov

	appID       string // of the API's application: an audience in every cloud
	eitherSlash bool   // its audience is taken with and without a slash at the end
	hostToo     bool   // https://<host> is an audience as well
	anyCase     bool   // its paths mean the same in upper and lower case
	quirk       quirk
}

// anyCase tells whether whoever answers at the hosts takes upper and lower case
// in paths for the same, so that rules have to as well.
func anyCase(hosts []HostPattern, cloud string) bool {
	return len(hosts) > 0 && !slices.ContainsFunc(hosts, func(h HostPattern) bool {
		owners, _ := ownersOf(h.Host, cloud)
		return !slices.ContainsFunc(owners, func(a *api) bool { return a.anyCase })
	})
}

// site is an audience with the hosts that take it; see presets_table.go.
type site struct {
	audience string
	hosts    []string
}

func takes(audience string, hosts ...string) []site { return []site{{audience, hosts}} }

// quirk is what calls to an API need beside a bearer token. Names are canonical.
type quirk struct {
	why       string // said of a route that has neither preset nor quirk
	format    string // of the injected field; "" for Bearer
	set       []Param
	fill      []Param // set where the caller sent none
	fillFiles []Param // instead of fill, for hosts of Azure Files
	date      string  // a field for the time of sending
	needs     string  // a field that set_headers or the caller has to send
	signIn    bool
	registry  bool // Entra's token is exchanged for one of the registry's
	ownCA     bool // its certificates are of a CA of the customer's

	// second is a field with a further token, of secondScope by cloud, which
	// a route that sets the field secondWith gets.
	second, secondWith string
	secondScope        map[string]string
}

// apis is the table of presets, made once and never changed.
var apis = sync.OnceValue(catalogue)

func allClouds() []string { return []string{"public", "usgov", "usgov-dod", "china"} }

// in returns the API's sites in a cloud, the default one first; nil where it is
// not offered. "" stands for public.
func (a *api) in(cloud string) []site {
	switch cloud {
	case "", "public":
		return a.public
	case "usgov-dod":
		if a.dod != nil {
			return a.dod
		}
		return a.usgov
	case "usgov":
		return a.usgov
	case "china":
		return a.china
	}
	return nil
}

// fixed are the hosts that the preset fills in; none where each customer has
// hosts of its own.
func (a *api) fixed(cloud string) []string {
	var out []string
	for _, s := range a.in(cloud) {
		for _, h := range s.hosts {
			if !strings.HasPrefix(h, "*.") {
				out = append(out, h)
			}
		}
		if len(out) > 0 {
			break // the sites behind it are for hosts that a route names
		}
	}
	return out
}

// patterns are all hosts and suffixes of the API in a cloud.
func (a *api) patterns(cloud string) []string {
	var out []string
	for _, s := range a.in(cloud) {
		out = append(out, s.hosts...)
	}
	return out
}

// owns tells whether host is one of the API's in a cloud.
func (a *api) owns(cloud, host string) bool {
	return slices.ContainsFunc(a.in(cloud), func(s site) bool { return s.owns(host) })
}

func (s site) owns(host string) bool {
	return slices.ContainsFunc(s.hosts, func(p string) bool { return covers(p, host) })
}

// scope is what a token for host is asked for with: the audience is used as it
// stands. A host that is none of the API's gets the default one.
func (a *api) scope(cloud, host string) string {
	sites := a.in(cloud)
	if len(sites) == 0 {
		return ""
	}
	i := max(0, slices.IndexFunc(sites, func(s site) bool { return s.owns(host) }))
	return strings.ReplaceAll(sites[i].audience, "{host}", host) + "/.default"
}

// covers tells whether host is pattern or lies under it.
func covers(pattern, host string) bool {
	suffix, shared := strings.CutPrefix(pattern, "*")
	if !shared {
		return pattern == host
	}
	if before, after, ok := strings.Cut(suffix, "["); ok {
		set := "0123456789"
		if strings.HasPrefix(after, "region]") {
			set = "abcdefghijklmnopqrstuvwxyz"
		}
		_, after, _ = strings.Cut(after, "]")
		rest, ok := strings.CutSuffix(host, after)
		if !ok {
			return false
		}
		suffix, host = before, strings.TrimRight(rest, set)
	}
	return len(host) > len(suffix) && strings.HasSuffix(host, suffix)
}

// cloudsOf lists the clouds in which host is one of the API's.
func (a *api) cloudsOf(host string) []string {
	return slices.DeleteFunc(allClouds(), func(cloud string) bool { return !a.owns(cloud, host) })
}

// preset returns the row that a route's preset names, or nil: beside a mistake,
// or without a preset.
func (p *parser) preset(r *Route, m *mapping) *api {
	e, ok := m.items["preset"]
	if !ok {
		return nil
	}
	i := slices.IndexFunc(apis(), func(a api) bool { return a.name == r.Preset })
	if i < 0 {
		p.refuse(e.at, finding{"there is no preset " + e.shown(), nearestPreset(r.Preset)})
		return nil
	}
	a := &apis()[i]
	switch cloud := r.Credential.Cloud; {
	case a.kind == "sql":
		p.refuse(e.at, finding{sqlName(a) + " is not reached by HTTP", "it belongs under sql:, as {name: orders-db, listen: 127.0.0.1:1433, server: " + example(a.patterns(cloud)[0]) + "}; docs/sql.md"})
	case a.kind == "other":
		p.refuse(e.at, finding{"preset " + e.shown() + " is not reached by HTTP: there the token is the password of another protocol", "remove the route; the gateway does not speak that protocol"})
	case !r.Credential.Entra() && r.Credential.Name != "":
		p.refuse(e.at, finding{"a preset needs a credential of Entra", "name one under credential"})
	case a.in(cloud) == nil:
		p.refuse(e.at, finding{"preset " + e.shown() + " is not offered in the cloud " + cloud,
			"name a credential of another cloud, or write name, hosts and scope as the API's documentation has them"})
	default:
		return a
	}
	return nil
}

func sqlName(a *api) string {
	if a.name == "sql" {
		return "Azure SQL"
	}
	return "Synapse SQL"
}

// presetNames lists the presets that a route may have.
func presetNames() []string {
	var names []string
	for _, a := range apis() {
		if a.kind == "" {
			names = append(names, a.name)
		}
	}
	return names
}

// nearestPreset is the remedy for a name that is none.
func nearestPreset(name string) string {
	best, near := 3, ""
	bare := strings.ReplaceAll(strings.ToLower(name), "-", "")
	for _, known := range presetNames() {
		if bare == known || bare == "azure"+known || bare == "microsoft"+known {
			return fmt.Sprintf("did you mean %q?", known)
		}
		if d := distance(name, known); d < best && 2*d <= max(len(name), len(known)) {
			best, near = d, known
		}
	}
	if near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "gateway presets lists those that there are"
}

// presetHosts are the hosts that the preset fills in.
func (p *parser) presetHosts(a *api, cloud string, where place) []HostPattern {
	var out []HostPattern
	for _, h := range a.fixed(cloud) {
		out = append(out, HostPattern{Host: h, Port: 443})
	}
	if out == nil {
		suffixes := a.patterns(cloud)
		p.refuse(where, finding{"hosts is missing: every customer has hosts of its own for " + a.name,
			"name yours, such as hosts: [" + example(suffixes[0]) + "]"})
	}
	return out
}

// presetHost judges one host of a route with a preset.
func (p *parser) presetHost(a *api, cloud string, h HostPattern, e entry) bool {
	switch {
	case h.Wildcard:
		p.refuse(e.at, finding{e.shown() + " is a wildcard, and a preset takes exact hosts alone", "name each host, such as " + example(a.patterns(cloud)[0])})
		return false
	case a.owns(cloud, h.Host):
		return true
	}
	if others := a.cloudsOf(h.Host); len(others) > 0 {
		p.refuse(e.at, finding{fmt.Sprintf("this host belongs to the cloud %s, and the credential's cloud is %s", others[0], named(cloud)),
			"name a credential with cloud: " + others[0] + ", or a host of the cloud " + named(cloud)})
		return false
	}
	known := strings.Join(a.patterns(cloud), ", ")
	if len(a.fixed(cloud)) == 0 {
		p.refuse(e.at, finding{e.shown() + " is no host of the preset " + a.name, "its hosts in the cloud " + named(cloud) + " are " + known + "; for others write name, hosts and scope"})
		return false
	}
	p.warn(e.at, finding{e.shown() + " is no host of the preset " + a.name + ", and gets its token all the same", "its hosts are " + known + "; for another API write name, hosts and scope"})
	return true
}

func named(cloud string) string {
	if cloud == "" {
		return "public"
	}
	return cloud
}

// example is a host that pattern covers.
func example(pattern string) string {
	name := strings.NewReplacer("[N]", "4", "[region]", "eu").Replace(pattern)
	if rest, shared := strings.CutPrefix(name, "*"); shared {
		return "contoso" + rest
	}
	return name
}

// presetScope works out the scope of a route that has none of its own.
func (p *parser) presetScope(a *api, r *Route, where place) string {
	scope, of := "", ""
	for _, h := range r.Hosts {
		s := a.scope(r.Credential.Cloud, h.Host)
		if of != "" && s != scope {
			p.refuse(where, finding{fmt.Sprintf("%s and %s need different scopes: %s and %s", of, h.Host, scope, s), "make a route for each, or write the scope that serves both"})
			return scope
		}
		scope, of = s, h.Host
	}
	return scope
}

// quirks adds what the API's calls need. What the route itself sets wins.
func (p *parser) quirks(a *api, r *Route, m *mapping) {
	q, where := a.quirk, m.where("preset")
	has := func(name string) bool { return r.Inject.Header == name || hasHeader(r.SetHeaders, name) }
	for _, h := range q.set {
		if !has(h.Name) {
			r.SetHeaders = append(r.SetHeaders, h)
		}
	}
	for _, h := range q.filling(r.Hosts) {
		if !has(h.Name) {
			r.DefaultHeaders = append(r.DefaultHeaders, h)
		}
	}
	if q.date != "" && !has(q.date) {
		r.DateHeader = q.date
	}
	r.SignIn, r.Registry = q.signIn, q.registry
	if q.second != "" && hasHeader(r.SetHeaders, q.secondWith) {
		r.Second = &SecondToken{Header: q.second, Scope: q.secondScope[named(r.Credential.Cloud)]}
		if has(q.second) {
			p.refuse(m.where("set_headers"), finding{q.second + " cannot be set here", "leave it out: the gateway puts a token of its own there"})
		}
	}
	if q.needs != "" && !has(q.needs) {
		p.warn(where, finding{q.why + ", and set_headers does not have it", "add set_headers: {" + strings.ToLower(q.needs) + ": …}, unless every caller sends it"})
	}
	if q.ownCA && r.TLS.CAFile == "" {
		p.warn(where, finding{q.why, "add tls: {ca_file: …}, with certificate-authority-data of the cluster's kubeconfig as PEM"})
	}
	if files := filesAmong(r.Hosts); q.fillFiles != nil && files > 0 && files < len(r.Hosts) {
		p.warn(where, finding{"calls to Azure Files get x-ms-file-request-intent, and here other hosts get it too", "make a route for the hosts of Azure Files"})
	}
}

func (q quirk) filling(hosts []HostPattern) []Param {
	if q.fillFiles != nil && filesAmong(hosts) > 0 {
		return q.fillFiles
	}
	return q.fill
}

func filesAmong(hosts []HostPattern) int {
	n := 0
	for _, h := range hosts {
		if strings.Contains(h.Host, ".file.core.") || strings.HasSuffix(h.Host, ".file.storage.azure.net") {
			n++
		}
	}
	return n
}

func hasHeader(headers []Param, name string) bool {
	return slices.ContainsFunc(headers, func(h Param) bool { return h.Name == name })
}
