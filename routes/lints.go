package routes

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// lint remarks upon a route of an Entra credential that could be read and will
// not work, or not as it is meant. What can never work is refused. a is the
// row of the route's preset, or nil.
func (p *parser) lint(r *Route, m *mapping, a *api, t *Table) {
	if !r.Credential.Entra() || r.Credential.Name == "" {
		return
	}
	said := p.lintScope(r, m)
	p.lintHosts(r, m, a, said)
	p.lintSharePoint(r, m, t)
}

// hopeless says of an audience that no call with it could succeed. shown is the
// scope as the file has it, in quotes.
func hopeless(audience, shown string) (finding, bool) {
	u, err := url.Parse(audience)
	if err != nil || u.Host == "" {
		return finding{}, false
	}
	host := strings.ToLower(u.Hostname())
	scope := strings.TrimSuffix(strings.Trim(shown, `"`), "/.default")
	if why := closed(host); why != "" {
		return finding{shown + " " + why, "ask for the API's audience in the cloud that you moved to"}, true
	}
	for _, a := range apis() {
		for _, cloud := range allClouds() {
			right := a.scope(cloud, host)
			switch {
			case a.kind == "sql" && u.Path == "" && right == "https://"+host+"//.default":
				return finding{shown + " asks for the wrong audience", "Azure SQL's audience ends in a slash; write " + scope + "//.default"}, true
			case a.kind == "sql" && (a.owns(cloud, host) || u.Path == "" && slices.Contains(a.patterns(cloud), "*."+host)):
				return finding{shown + " asks for the wrong audience: Azure SQL has one for all servers", "write " + right}, true
			case a.name == "cosmos" && u.Path == "/" && (a.owns(cloud, host) || host == "cosmos.azure.com"):
				return finding{shown + " asks for an audience that ends in a slash, which Cosmos DB refuses", "write " + strings.TrimSuffix(scope, "/") + "/.default"}, true
			}
		}
	}
	return finding{}, false
}

// closed says why nobody answers at a host any more, or "".
func closed(host string) string {
	for _, suffix := range []string{".cloudapi.de", ".microsoftazure.de", ".azure.de", "login.microsoftonline.de", "graph.microsoft.de"} {
		if strings.HasSuffix(host, suffix) {
			return "belongs to the Microsoft Cloud Germany, which closed in October 2021"
		}
	}
	return ""
}

// takers is who takes an audience: the names of presets, by cloud, and whether
// one of them takes it with just these slashes at its end.
type takers struct {
	byCloud map[string][]*api
	exact   map[string]bool // by cloud
}

func takersOf(audience string) takers {
	x := takers{map[string][]*api{}, map[string]bool{}}
	audience = strings.ToLower(audience)
	bare := strings.TrimRight(audience, "/")
	host := strings.TrimPrefix(bare, "https://")
	for i := range apis() {
		a := &apis()[i]
		for _, cloud := range allClouds() {
			fits := a.appID == bare && a.in(cloud) != nil
			exact := fits && audience == bare || a.eitherSlash
			for _, s := range a.in(cloud) {
				known := strings.ReplaceAll(s.audience, "{host}", host)
				if strings.TrimRight(known, "/") == bare && (known == s.audience || s.owns(host)) {
					fits, exact = true, exact || audience == known
				}
			}
			if a.hostToo && a.owns(cloud, host) {
				fits, exact = true, true
			}
			if fits {
				x.byCloud[cloud], x.exact[cloud] = append(x.byCloud[cloud], a), x.exact[cloud] || exact
			}
		}
	}
	return x
}

// cloud is the first in which somebody takes the audience, or "".
func (x takers) cloud() string {
	for _, cloud := range allClouds() {
		if len(x.byCloud[cloud]) > 0 {
			return cloud
		}
	}
	return ""
}

// lintScope looks at a scope of the route's own, and tells whether it has said
// that no API takes it.
func (p *parser) lintScope(r *Route, m *mapping) bool {
	e, own := m.items["scope"]
	audience, ok := strings.CutSuffix(r.Scope, "/.default")
	if !own || !ok {
		return false
	}
	x, cloud := takersOf(audience), named(r.Credential.Cloud)
	bare := strings.TrimRight(strings.ToLower(audience), "/")
	switch {
	case bare == "https://graph.windows.net" || bare == "00000002-0000-0000-c000-000000000000":
		p.warn(e.at, finding{e.shown() + " asks for Azure AD Graph, which is retired", "use preset: graph, which is Microsoft Graph"})
	case bare == "https://outlook.office.com":
		p.warn(e.at, finding{e.shown() + " asks for an audience that Exchange does not take from applications", "write https://outlook.office365.com/.default, or use preset: exchange"})
	case x.cloud() == "":
		return false
	case x.byCloud[cloud] == nil:
		a := x.byCloud[x.cloud()][0]
		remedy := "name a credential with cloud: " + x.cloud()
		if moved := a.scope(cloud, "{host}"); moved != "" && !strings.Contains(moved, "{host}") && !hostsIn(r, x.cloud()) {
			remedy = "write " + moved + ", or " + remedy
		}
		p.warn(e.at, finding{fmt.Sprintf("%s asks for an audience of the cloud %s, and the credential's cloud is %s", e.shown(), x.cloud(), cloud), remedy})
	case strings.HasSuffix(audience, "//"), !x.exact[cloud]:
		p.lintSlash(e, audience, x.byCloud[cloud][0], cloud)
		return false
	default:
		return false
	}
	return true
}

// hostsIn tells whether one of the route's hosts belongs to a cloud.
func hostsIn(r *Route, cloud string) bool {
	return slices.ContainsFunc(r.Hosts, func(h HostPattern) bool { _, home := ownersOf(h.Host, cloud); return home == cloud })
}

// lintSlash says how the audience of a ends.
func (p *parser) lintSlash(e entry, audience string, a *api, cloud string) {
	right := a.in(cloud)[0].audience
	what := "ends in a slash, and that of " + a.name + " does not"
	switch {
	case strings.HasSuffix(audience, "//"):
		what = "ends in more than one slash"
	case strings.HasSuffix(right, "/"):
		what = "lacks the slash at its end that " + a.name + " expects"
	}
	p.warn(e.at, finding{e.shown() + " asks for an audience that " + what, "write " + right + "/.default; everything before the last slash is the audience"})
}

// lintHosts compares a route's hosts with what is known of them. Each kind of
// remark is made once a route, of the first host that it fits;
// none of the scope where scopeSaid.
func (p *parser) lintHosts(r *Route, m *mapping, a *api, scopeSaid bool) {
	where, cloud := m.where("hosts"), named(r.Credential.Cloud)
	audience := strings.TrimSuffix(r.Scope, "/.default")
	x := takersOf(audience)
	said := map[string]bool{"scope": scopeSaid || r.Scope == ""}
	once := func(kind string, at place, f finding) {
		if !said[kind] {
			p.warn(at, f)
		}
		said[kind] = true
	}
	for _, h := range r.Hosts {
		if why := closed(h.Host); why != "" {
			p.refuse(where, finding{h.Host + " " + why, "name the API's host in the cloud that you moved to"})
			continue
		}
		if h.Host == "graph.windows.net" {
			p.refuse(where, finding{"graph.windows.net is Azure AD Graph, which is retired", "use preset: graph, which is Microsoft Graph"})
			continue
		}
		owners, home := ownersOf(h.Host, cloud)
		switch {
		case home != "" && home != cloud:
			if a == nil {
				once("cloud", where, finding{fmt.Sprintf("%s belongs to the cloud %s, and the credential's cloud is %s", h.Host, home, cloud), "name a credential with cloud: " + home})
			}
		case len(owners) == 0:
		case owners[0].kind == "sql":
			once("kind", where, finding{h.Host + " is not reached by HTTP, but by a database's own protocol", "remove the route, and name it as server of a door under sql:; docs/sql.md"})
		case owners[0].kind != "":
			once("kind", where, finding{h.Host + " is not reached by HTTP", "remove the route; gateway presets says how " + owners[0].name + " is reached"})
		default:
			if right := wrongScope(owners, h.Host, cloud, x); right != "" {
				once("scope", m.where("scope"), finding{h.Host + " does not take a token for " + shownAudience(m, r) + "; the API will refuse it", "write " + right + ", or use preset: " + owners[0].name + " without a scope"})
			}
			if f, lacks := lacking(r, owners[0]); lacks && a == nil {
				once("quirk", where, f)
			}
		}
	}
}

// shownAudience is the scope for a message: as the file has it.
func shownAudience(m *mapping, r *Route) string {
	if e, ok := m.items["scope"]; ok {
		return e.shown()
	}
	return quote(r.Scope)
}

// ownersOf lists the APIs that have host in the cloud, and where it is at home:
// in that cloud, else in the first that has it; "" if it is not known.
func ownersOf(host, cloud string) (owners []*api, home string) {
	for i := range apis() {
		if a := &apis()[i]; a.owns(cloud, host) {
			owners, home = append(owners, a), cloud
		} else if clouds := a.cloudsOf(host); home == "" && len(clouds) > 0 {
			home = clouds[0]
		}
	}
	if home != "" {
		return owners, home
	}
	for _, x := range []struct{ suffix, cloud string }{
		{".usgovcloudapi.net", "usgov"}, {".azure.us", "usgov"}, {".chinacloudapi.cn", "china"}, {".azure.cn", "china"},
	} {
		if strings.HasSuffix(host, x.suffix) && !(x.cloud == "usgov" && cloud == "usgov-dod") {
			return nil, x.cloud
		}
	}
	return nil, ""
}

// wrongScope returns the scope that host takes if none of its owners takes the
// audience asked for, else "". An audience that nobody is known to take is left
// alone where many customers share a suffix.
func wrongScope(owners []*api, host, cloud string, x takers) string {
	for _, a := range owners {
		if slices.Contains(x.byCloud[cloud], a) {
			return ""
		}
	}
	if x.cloud() == "" && !slices.Contains(owners[0].patterns(cloud), host) {
		return ""
	}
	return owners[0].scope(cloud, host)
}

// lacking says what a route without preset does not send to an API that wants
// more than a bearer token.
func lacking(r *Route, a *api) (finding, bool) {
	q := a.quirk
	lacks := q.registry || q.format != "" && r.Inject.Format != q.format || q.needs != "" && !hasHeader(r.SetHeaders, q.needs)
	for _, h := range slices.Concat(q.set, q.filling(r.Hosts)) {
		lacks = lacks || !hasHeader(r.SetHeaders, h.Name)
	}
	lacks = lacks || q.ownCA && r.TLS.CAFile == ""
	remedy := "use preset: " + a.name + ", which adds what is missing, unless every caller sends it"
	switch {
	case q.registry:
		remedy = "use preset: " + a.name + ", which exchanges it"
	case q.ownCA:
		remedy = "add tls: {ca_file: …}, with certificate-authority-data of the cluster's kubeconfig as PEM"
	case q.needs != "":
		remedy = "add set_headers: {" + strings.ToLower(q.needs) + ": …}, unless every caller sends it"
	}
	return finding{q.why, remedy}, lacks && q.why != ""
}

// lintSharePoint: SharePoint answers a token got by a secret with "Unsupported
// app only token".
func (p *parser) lintSharePoint(r *Route, m *mapping, t *Table) {
	i := slices.IndexFunc(apis(), func(a api) bool { return a.name == "sharepoint" })
	if !slices.ContainsFunc(r.Hosts, func(h HostPattern) bool { return len(apis()[i].cloudsOf(h.Host)) > 0 }) {
		return
	}
	for c, steps := r.Credential, 0; c != nil && steps <= len(t.Credentials); c, steps = t.Credential(c.Fallback), steps+1 {
		if !c.ClientSecret.IsZero() {
			p.warn(m.where("credential"), finding{fmt.Sprintf("route %s gets its token by the secret of credential %s, and SharePoint refuses those (\"Unsupported app only token\")", r.Name, c.Name),
				"give the credential client_certificate or federated_token instead"})
			return
		}
	}
}

// shadowed warns of hosts that earlier routes take from all callers of a
// route, and of routes that no request can reach.
func (p *parser) shadowed(t *Table, places []place) {
	x := taken{}
	for i, r := range t.Routes {
		by := ""
		if r.Mount != "" {
			by = "; only the reverse door's " + r.Mount + " gets here"
		}
		count, first, listed := 0, map[int]bool{}, map[HostPattern]bool{}
		var said []finding
		for _, h := range r.Hosts {
			if n := x.by(h, admitted(r, t)); n >= 0 {
				count, first[n] = count+1, true
				said = append(said, finding{fmt.Sprintf("%s is taken by route %s above", h, t.Routes[n].Name), "move this route up, or remove the host" + by})
			}
			if listed[h] {
				said = append(said, finding{h.String() + " is listed twice", "keep one of the two"})
			}
			listed[h] = true
		}
		all := count > 0 && count == len(r.Hosts)
		for n := range first {
			if twin := t.Routes[n]; all && len(first) == 1 && hostSet(twin) == hostSet(r) {
				said = []finding{{"all its hosts are taken by route " + twin.Name + " above, which has the same", "give this route other hosts, or remove it" + by}}
			}
		}
		if all && r.Mount == "" {
			said = append(said, finding{"no request can reach this route", "move it up, or remove it"})
		}
		for _, f := range said {
			p.warn(places[i], f)
		}
		x.add(r, i)
	}
}

// hostSet is the same text for routes with the same hosts.
func hostSet(r *Route) string {
	var hosts []string
	for _, h := range r.Hosts {
		hosts = append(hosts, h.String())
	}
	slices.Sort(hosts)
	return strings.Join(slices.Compact(hosts), " ")
}
