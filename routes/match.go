package routes

import (
	"iter"
	"strings"
)

// index finds routes without walking the table. The lower position wins.
type index struct {
	exact  map[Authority]int // position of the route
	suffix map[Authority]int // by "suffix" of "*.suffix"
	routes []*Route
	mounts map[string]*Route
}

func newIndex(list []*Route) index {
	x := index{exact: map[Authority]int{}, suffix: map[Authority]int{}, routes: list, mounts: map[string]*Route{}}
	for i, r := range list {
		for _, h := range r.Hosts {
			m := x.exact
			if h.Wildcard {
				m = x.suffix
			}
			if _, taken := m[Authority{h.Host, h.Port}]; !taken {
				m[Authority{h.Host, h.Port}] = i
			}
		}
		if r.Mount != "" {
			x.mounts[r.Mount] = r
		}
	}
	return x
}

// first is the position of the first route that holds h whole, or -1.
func (x *index) first(h HostPattern) int {
	best := len(x.routes)
	at := Authority{h.Host, h.Port}
	if h.Wildcard {
		if i, ok := x.suffix[at]; ok {
			best = i
		}
	} else if i, ok := x.exact[at]; ok {
		best = i
	}
	for rest := h.Host; len(x.suffix) > 0; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			break
		}
		rest = rest[dot+1:]
		if i, ok := x.suffix[Authority{rest, h.Port}]; ok {
			best = min(best, i)
		}
	}
	if best == len(x.routes) {
		return -1
	}
	return best
}

// Match returns the first route of the file whose hosts hold a. It is pure and
// allocates nothing.
func (t *Table) Match(a Authority) (*Route, bool) {
	i := t.index.first(HostPattern{Host: a.Host, Port: a.Port})
	if i < 0 {
		return nil, false
	}
	return t.index.routes[i], true
}

// Candidates yields the routes whose hosts hold a, in the order of the file.
func (t *Table) Candidates(a Authority) iter.Seq[*Route] {
	return func(yield func(*Route) bool) {
		i := t.index.first(HostPattern{Host: a.Host, Port: a.Port})
		if i < 0 {
			return
		}
		for _, r := range t.index.routes[i:] {
			if r.holds(a) && !yield(r) {
				return
			}
		}
	}
}

// holds tells whether one of the route's hosts covers a.
func (r *Route) holds(a Authority) bool {
	for _, h := range r.Hosts {
		if h.Port != a.Port {
			continue
		}
		if !h.Wildcard && h.Host == a.Host || h.Wildcard && strings.HasSuffix(a.Host, "."+h.Host) {
			return true
		}
	}
	return false
}

// Mounted returns the route with the longest mount that the path begins with,
// on a segment's border, and the rest of the path: the same bytes, beginning
// with a slash. Paths under /.gateway/ are nobody's.
func (t *Table) Mounted(escapedPath string) (r *Route, rest string, ok bool) {
	for end := len(escapedPath); end > 0; {
		if r, ok := t.index.mounts[escapedPath[:end]]; ok {
			rest := escapedPath[end:]
			if rest == "" {
				rest = "/"
			}
			return r, rest, true
		}
		end = strings.LastIndexByte(escapedPath[:end], '/')
	}
	return nil, "", false
}

// Credential returns the credential of that name, or nil.
func (t *Table) Credential(name string) *Credential {
	for _, c := range t.Credentials {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Files lists every file whose change matters, each once: routes.yaml itself
// and all that it names.
func (t *Table) Files() []string {
	var out []string
	seen := map[string]bool{"": true}
	add := func(paths ...string) {
		for _, p := range paths {
			if !seen[p] {
				seen[p], out = true, append(out, p)
			}
		}
	}
	add(t.path, t.Listen.AdminKey.File)
	for _, c := range t.Credentials {
		add(c.ClientSecret.File, c.CAFile)
		if x := c.ClientCertificate; x != nil {
			add(x.File, x.KeyFile, x.Password.File)
		}
		if c.ClientKey != nil {
			add(c.ClientKey.File)
		}
		if x := c.FederatedToken; x != nil {
			add(x.File)
			if x.URL != nil {
				add(x.URL.Secret.File)
			}
		}
	}
	for _, r := range t.Routes {
		add(r.TLS.CAFile, r.TLS.ClientCertificateFile, r.TLS.ClientKeyFile)
	}
	if t.Egress.Proxy != nil {
		add(t.Egress.Proxy.Password.File)
	}
	return out
}
