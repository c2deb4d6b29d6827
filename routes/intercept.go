package routes

import "slices"

// InterceptedHosts are the names that the interception CA may sign for: the
// hosts of the routes, a wildcard as "*.suffix", the login hosts of routes that
// hand out placeholders, and the names of SQL doors that show its certificates
// ([SQL.ShownNames]). Sorted, each once. No addresses are among them but the two
// of loopback, and those for SQL doors alone: the CA permits no other.
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
	if t.Intercept != nil {
		for _, d := range t.SQL {
			out = append(out, d.ShownNames()...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ShownNames are the names, and the addresses of loopback, that a certificate
// must have to be shown by the door in the place of one from a file: localhost,
// and its servers, by whose names a client may reach the door. They are none
// where the door shows no certificate, or one from a file.
func (d *SQL) ShownNames() []string {
	if d.ClientTLS == ClientTLSOff || d.CertificateFile != "" {
		return nil
	}
	out := []string{"localhost", "127.0.0.1", "::1"}
	for _, s := range d.Servers {
		if !isAddress(s.Host) && s.Host != "localhost" {
			out = append(out, s.Host)
		}
	}
	return out
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
