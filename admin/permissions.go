package admin

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
)

// Permissions answers /api/permissions: what credentials hold and what the
// calls since the start made of it.
type Permissions struct {
	Since time.Time `json:"since"`
	APIs  []APIUse  `json:"apis"` // by credential, then scope
}

// APIUse is one credential at one API.
type APIUse struct {
	Credential string   `json:"credential"`
	Scope      string   `json:"scope"`
	Routes     []string `json:"routes"`
	// Token is "read", "opaque" when it cannot be read, or "none" when none was
	// got yet.
	Token   string `json:"token"`
	Graph   bool   `json:"graph"`             // for Microsoft Graph, of which a table of calls is known
	Tenants int    `json:"tenants,omitempty"` // of which tokens were got, when there is more than one
	Roles   []Role `json:"roles"`             // by name
	// Denied are the calls that were answered 403, most often first.
	Denied []DeniedCall `json:"denied"`
	Calls  []CallCount  `json:"calls"` // most often first
	// Unknown counts calls that were served and that the table does not know:
	// they may have used any role.
	Unknown int64  `json:"unknown_calls"`
	Remark  string `json:"remark,omitempty"`
}

// Role is an application permission that tokens hold.
type Role struct {
	Name string `json:"name"`
	ID   string `json:"id,omitempty"` // of the app role, for those of Graph's table
	// Use is "used" by a call that was served, "unused", or "unclear" when
	// calls were made of which it is not known what they use.
	Use     string     `json:"use"`
	Calls   int64      `json:"calls"` // that it was the least held permission for
	Last    *time.Time `json:"last,omitempty"`
	Tenants int        `json:"tenants,omitempty"` // that granted it, when tokens of more than one were got
}

// The words of [Role.Use].
const (
	Used    = "used"
	Unused  = "unused"
	Unclear = "unclear"
)

// DeniedCall is a kind of call that the API answered with 403.
type DeniedCall struct {
	Route    string    `json:"route"`
	Method   string    `json:"method"`
	Template string    `json:"template"`
	Denied   int64     `json:"denied"`
	Last     time.Time `json:"last"`
	Missing  string    `json:"missing,omitempty"`    // the least permission that would do, if none of those is held
	ID       string    `json:"missing_id,omitempty"` // its app role ID
	Also     []string  `json:"also,omitempty"`       // higher permissions that do, too
	Held     string    `json:"held,omitempty"`       // that suffices, and yet the API refused
	Remark   string    `json:"remark"`
	Remedy   string    `json:"remedy"`
}

// CallCount is a kind of call. An empty Template stands for kinds beyond those
// that are told apart.
type CallCount struct {
	Route    string    `json:"route"`
	Method   string    `json:"method"`
	Template string    `json:"template"`
	Served   int64     `json:"served"` // below 400
	Denied   int64     `json:"denied"` // 403
	Failed   int64     `json:"failed"` // otherwise
	Last     time.Time `json:"last"`
	Role     string    `json:"role,omitempty"` // the least held one that does
}

// Missing tells whether calls were refused for want of a permission that is
// known and not held now.
func (p Permissions) Missing() bool {
	return slices.ContainsFunc(p.APIs, func(a APIUse) bool {
		return slices.ContainsFunc(a.Denied, func(d DeniedCall) bool { return d.Missing != "" })
	})
}

// Report sums up for the routes of t.
func (u *Usage) Report(t *routes.Table) Permissions {
	type at struct{ credential, scope string }
	found := map[at]*use{}
	of := map[string]*use{} // by route
	for _, r := range t.Routes {
		key := at{r.Credential.Name, r.Scope}
		if found[key] == nil {
			found[key] = &use{credential: r.Credential, api: APIUse{Credential: key.credential, Scope: key.scope, Token: "none",
				Roles: []Role{}, Denied: []DeniedCall{}, Calls: []CallCount{}}}
		}
		of[r.Name] = found[key]
		of[r.Name].api.Routes = append(of[r.Name].api.Routes, r.Name)
	}
	u.mu.RLock()
	for k, h := range u.held {
		if x := found[at{k.credential, k.scope}]; x != nil {
			x.hold(h)
		}
	}
	for _, c := range u.calls {
		if x := of[c.route]; x != nil && x.api.Credential == c.credential {
			x.tallies = append(x.tallies, c)
		}
	}
	u.mu.RUnlock()
	p := Permissions{Since: u.since, APIs: []APIUse{}}
	for _, x := range found {
		p.APIs = append(p.APIs, x.sum())
	}
	slices.SortFunc(p.APIs, func(a, b APIUse) int {
		return cmp.Or(strings.Compare(a.Credential, b.Credential), strings.Compare(a.Scope, b.Scope))
	})
	return p
}

// use is an APIUse in the making.
type use struct {
	credential *routes.Credential
	api        APIUse
	tokens     []heldRoles
	roles      []string       // of all tokens
	granted    map[string]int // in how many tenants
	newest     time.Time
	principal  string
	tallies    []*tally
}

func (x *use) hold(h heldRoles) {
	x.tokens = append(x.tokens, h)
	x.api.Graph = x.api.Graph || h.graph
	if h.at.After(x.newest) {
		x.newest, x.principal = h.at, h.principal
	}
	switch {
	case h.opaque && x.api.Token == "none":
		x.api.Token = "opaque"
	case !h.opaque:
		x.api.Token = "read"
	}
	for _, r := range h.roles {
		if x.granted == nil {
			x.granted = map[string]int{}
		}
		x.granted[r]++
	}
}

func (x *use) sum() APIUse {
	x.roles = slices.Sorted(maps.Keys(x.granted))
	if len(x.tokens) > 1 {
		x.api.Tenants = len(x.tokens)
	}
	used := map[string]*Role{}
	for _, c := range x.tallies {
		x.count(c, used)
	}
	for _, name := range x.roles {
		r := Role{Name: name, Use: Unused}
		if x.api.Graph {
			r.ID = authority.GraphRoleID(name)
		}
		if u := used[name]; u != nil {
			r.Use, r.Calls, r.Last = Used, u.Calls, u.Last
		} else if x.api.Unknown > 0 {
			r.Use = Unclear
		}
		if x.api.Tenants > 1 {
			r.Tenants = x.granted[name]
		}
		x.api.Roles = append(x.api.Roles, r)
	}
	slices.SortFunc(x.api.Calls, func(a, b CallCount) int {
		return cmp.Or(cmp.Compare(b.Served+b.Denied+b.Failed, a.Served+a.Denied+a.Failed), strings.Compare(a.Template, b.Template),
			strings.Compare(a.Method, b.Method), strings.Compare(a.Route, b.Route))
	})
	slices.SortFunc(x.api.Denied, func(a, b DeniedCall) int {
		return cmp.Or(cmp.Compare(b.Denied, a.Denied), strings.Compare(a.Template, b.Template), strings.Compare(a.Method, b.Method),
			strings.Compare(a.Route, b.Route))
	})
	x.api.Remark = x.remark()
	return x.api
}

// count adds c to the calls, to the role that it used, and to those denied.
func (x *use) count(c *tally, used map[string]*Role) {
	n := CallCount{Route: c.route, Method: c.method, Template: c.template, Served: c.served.Load(), Denied: c.denied.Load(),
		Failed: c.failed.Load(), Last: time.Unix(0, c.last.Load()).UTC()}
	known := c.known
	if !x.api.Graph {
		known = nil
	}
	if known != nil {
		n.Role = known.Held(x.roles)
	}
	switch {
	case n.Served == 0:
	case n.Role == "":
		x.api.Unknown += n.Served
	default:
		r := used[n.Role]
		if r == nil {
			r = &Role{Last: &n.Last}
			used[n.Role] = r
		}
		r.Calls += n.Served
		if n.Last.After(*r.Last) {
			r.Last = &n.Last
		}
	}
	x.api.Calls = append(x.api.Calls, n)
	if n.Denied > 0 {
		x.api.Denied = append(x.api.Denied, x.deny(c, n, known))
	}
}

func (x *use) deny(c *tally, n CallCount, known *authority.GraphCall) DeniedCall {
	d := DeniedCall{Route: n.Route, Method: n.Method, Template: n.Template, Denied: n.Denied, Last: time.Unix(0, c.lastDenied.Load()).UTC()}
	switch {
	case known == nil:
		d.Remark = "which permission it wants is not known here"
		d.Remedy = "compare the API's documentation of this call with what the token holds; APIs that go by role assignments want one instead"
	case n.Role == "":
		d.Missing, d.Also, d.ID = known.Roles[0], known.Roles[1:], authority.GraphRoleID(known.Roles[0])
		d.Remark, d.Remedy = known.Wants()+", and the token holds nothing of that", authority.GrantGraph(x.credential, x.principal, d.Missing)
	case d.Last.Before(x.newest):
		d.Held = n.Role
		d.Remark = fmt.Sprintf("%s; a token got since then holds %s", known.Wants(), n.Role)
		d.Remedy = "none if the permission was granted meanwhile; else " + authority.Narrower
	default:
		d.Held = n.Role
		d.Remark, d.Remedy = known.Wants()+", so "+n.Role+" suffices and something narrower refuses", authority.Narrower
	}
	return d
}

// remark is what the numbers do not say.
func (x *use) remark() string {
	switch {
	case x.api.Token == "none":
		return "no token was got yet, so it is not known what it holds"
	case x.api.Token == "opaque":
		return "the token is opaque, so it is not known what it holds"
	case !x.credential.Entra():
		return "roles are what the token claims; which call uses which is not known for this API"
	case len(x.roles) == 0:
		return "the token holds no application permissions (roles); expect 403 unless this API goes by role assignments"
	case !x.api.Graph:
		return "which call uses which role is known for Microsoft Graph alone"
	case x.api.Unknown > 0:
		return fmt.Sprintf("%d calls were served that the table of Graph's calls does not know, or for other roles than it names: before you take a role away, see to those", x.api.Unknown)
	}
	return ""
}
