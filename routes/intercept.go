package routes

import "slices"

// InterceptedHosts are the names that the interception CA may sign for: the
// hosts of the routes, a wildcard as "*.suffix", and the login hosts of routes
// that hand out placeholders. Sorted, each once. Addresses are none of them: the
// CA excludes all.
func (t *Table) InterceptedHosts() []string {
	var out []string
	for _, r := range t.Routes {
		for _, h := range r.Hosts {
			switch {
			case h.Wildcard:
				out = append(out, "*."+h.Host)
			case !isAddress(h.Host):
				out = append(out, h.Host)
			}
		}
		if a, ok := r.LoginHost(); ok && !isAddress(a.Host) {
			out = append(out, a.Host)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// LoginHost is where SDKs would get this route's token, if it hands out
// placeholders.
func (r *Route) LoginHost() (Authority, bool) {
	if !r.Placeholder {
		return Authority{}, false
	}
	raw := r.Credential.Endpoint()
	if raw == "" {
		raw = r.Credential.Issuer
	}
	_, a, err := parseOrigin(raw)
	return a, err == nil // a managed identity has none
}

// Login are the routes whose login host a is, in the order of the file.
func (t *Table) Login(a Authority) []*Route {
	var out []*Route
	for _, r := range t.Routes {
		if at, ok := r.LoginHost(); ok && at == a {
			out = append(out, r)
		}
	}
	return out
}
