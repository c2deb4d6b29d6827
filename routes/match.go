package routes

import (
	"iter"
	"slices"
	"strings"
)

// index finds routes without walking the table. Positions ascend.
type index struct {
	exact  map[Authority][]int // positions of routes
	suffix map[Authority][]int // by "suffix" of "*.suffix"
	routes []*Route
	mounts map[string]*Route
}

func newIndex(list []*Route) index {
	x := index{exact: map[Authority][]int{}, suffix: map[Authority][]int{}, routes: list, mounts: map[string]*Route{}}
	for i, r := range list {
		for _, h := range r.Hosts {
			m, at := x.exact, Authority{h.Host, h.Port}
			if h.Wildcard {
				m = x.suffix
			}
			if held := m[at]; len(held) == 0 || held[len(held)-1] != i {
				m[at] = append(held, i)
			}
		}
		if r.Mount != "" {
			x.mounts[r.Mount] = r
		}
	}
	return x
}

// next is the first position from here on of a route whose hosts hold a, or -1.
func (x *index) next(a Authority, here int) int {
	best := firstFrom(x.exact[a], here)
	for rest := a.Host; len(x.suffix) > 0; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			break
		}
		rest = rest[dot+1:]
		if i := firstFrom(x.suffix[Authority{rest, a.Port}], here); best < 0 || i >= 0 && i < best {
			best = i
		}
	}
	return best
}

// firstFrom is the first of ascending positions that is not before here, or -1.
func firstFrom(positions []int, here int) int {
	if len(positions) > 0 && positions[0] >= here {
		return positions[0]
	}
	if i, _ := slices.BinarySearch(positions, here); i < len(positions) {
		return positions[i]
	}
	return -1
}

// Match returns the first route of the file whose hosts hold a. It is pure and
// allocates nothing.
func (t *Table) Match(a Authority) (*Route, bool) {
	i := t.index.next(a, 0)
	if i < 0 {
		return nil, false
	}
	return t.index.routes[i], true
}

// Candidates yields the routes whose hosts hold a, in the order of the file:
// the first whose paths hold the call's and that admits its caller decides. It
// looks no further than its user does, and allocates nothing.
func (t *Table) Candidates(a Authority) iter.Seq[*Route] {
	return func(yield func(*Route) bool) {
		for i := t.index.next(a, 0); i >= 0; i = t.index.next(a, i+1) {
			if !yield(t.index.routes[i]) {
				return
			}
		}
	}
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

// Caller returns the caller of that name, or nil.
func (t *Table) Caller(name string) *Caller {
	for _, c := range t.Callers {
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
	if x := t.Listen.TLS; x != nil {
		add(x.CertificateFile, x.KeyFile, x.ClientCAFile, x.ClientCRLFile)
		if x.ACME != nil {
			add(x.ACME.CAFile)
		}
	}
	for _, c := range t.Callers {
		if c.JWT != nil {
			add(c.JWT.CAFile)
		}
	}
	for _, r := range t.Routes {
		add(r.TLS.CAFile, r.TLS.ClientCertificateFile, r.TLS.ClientKeyFile)
		if r.Tenant != nil {
			add(r.Tenant.AllowedFile)
		}
	}
	for _, d := range t.SQL {
		add(d.CAFile, d.CertificateFile, d.KeyFile)
	}
	if t.Egress.Proxy != nil {
		add(t.Egress.Proxy.Password.File)
	}
	return out
}
