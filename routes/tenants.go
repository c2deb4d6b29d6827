package routes

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// maxTenants bounds a list of tenants, which an alias can give to any number of
// callers and routes.
const maxTenants = 10_000

// tenants reads a list of GUIDs and domains.
func (p *parser) tenants(m *mapping, key string) []string {
	list := m.list(key)
	if len(list) == 0 {
		p.refuse(m.items[key].at, finding{"names no tenant", "write their GUIDs or domains, or leave the key out"})
	}
	if len(list) > maxTenants {
		p.refuse(m.items[key].at, finding{fmt.Sprintf("names more than %d tenants", maxTenants), "write them into a file, as a route's allowed_file"})
		return nil
	}
	var out []string
	seen := map[string]bool{}
	for _, e := range list {
		tenant := strings.ToLower(p.scalar(e))
		switch {
		case noTenant(tenant):
			p.refuse(e.at, finding{e.shown() + " is not a tenant: client credentials need one directory", directoryID})
		case !IsTenant(tenant):
			p.refuse(e.at, finding{e.shown() + " is no tenant", "write the tenant's GUID or domain"})
		case !seen[tenant]:
			out, seen[tenant] = append(out, tenant), true
		}
	}
	return out
}

// IsTenant tells whether id, in lower case, has the form of one tenant: a GUID
// or a domain. What Entra takes for several tenants is none.
func IsTenant(id string) bool {
	return len(id) <= maxHost && (guidSyntax.MatchString(id) || strings.Contains(id, ".") && tenantSyntax.MatchString(id))
}

// tenant reads how a call may say whose token it gets; nil when the key is absent.
func (p *parser) tenant(m *mapping, r *Route, t *Table) *TenantChoice {
	e, ok := m.items["tenant"]
	if !ok {
		return nil
	}
	x := p.open(e, "tenant")
	c := &TenantChoice{ByCaller: x.flag("by_caller", false), AllowedFile: x.path("allowed_file")}
	if x.has("allowed") {
		c.Allowed = p.tenants(x, "allowed")
	}
	ways := len(x.present("header", "path"))
	if c.ByCaller {
		ways++
	}
	if ways != 1 {
		p.refuse(e.at, finding{"want exactly one of header, path and by_caller: true", "write how a call says which tenant it is for, such as {header: X-Tenant-Id, allowed: [contoso.com]}"})
	}
	switch {
	case r.Credential.Name == "": // the mistake is said
	case !r.Credential.Entra():
		p.refuse(e.at, finding{"tenants are Entra's, and the credential is of another server", "leave tenant out"})
	case r.Credential.ManagedIdentity != nil:
		p.refuse(e.at, finding{"a managed identity has the tenant of its subscription alone", "name a credential with client_id and tenant_id, or leave tenant out"})
	}
	p.tenantHeader(c, x, r)
	p.tenantPath(c, x)
	if c.ByCaller {
		p.onlyTenant(x.where("by_caller"), r, t)
	}
	if !x.has("allowed") && c.AllowedFile == "" && t.Callers == nil {
		p.refuse(e.at, finding{"nothing says which tenants may be chosen", "add allowed or allowed_file, or callers with tenants of their own"})
	}
	return c
}

func (p *parser) tenantHeader(c *TenantChoice, m *mapping, r *Route) {
	e, ok := m.items["header"]
	if !ok {
		return
	}
	name := p.scalar(e)
	c.Header = http.CanonicalHeaderKey(name)
	same := func(h Param) bool { return h.Name == c.Header }
	switch {
	case !fieldName.MatchString(name):
		p.refuse(e.at, finding{e.shown() + " is no name of a header field", "use letters, digits and hyphens, such as X-Tenant-Id"})
	case reserved(c.Header) || meaningful(c.Header):
		p.refuse(e.at, finding{e.shown() + " means something else already, and the field goes no further", "choose a field of your own, such as X-Tenant-Id"})
	case c.Header == r.Inject.Header || slices.ContainsFunc(slices.Concat(r.SetHeaders, r.DefaultHeaders), same) || c.Header == r.DateHeader || r.Second != nil && c.Header == r.Second.Header:
		p.refuse(e.at, finding{e.shown() + " is a field that this route sets itself", "choose another, such as X-Tenant-Id"})
	}
}

// meaningful tells whether a field has a meaning to servers in general, which
// they would miss.
func meaningful(name string) bool {
	switch name {
	case "Age", "Cookie", "Date", "Forwarded", "From", "Max-Forwards", "Origin", "Pragma", "Prefer", "Priority", "Range", "Referer", "Set-Cookie",
		"Te", "Traceparent", "Tracestate", "User-Agent", "Cache-Control", "X-Http-Method", "X-Http-Method-Override", "X-Method-Override":
		return true
	}
	for _, prefix := range []string{"Accept", "Access-Control-", "Content-", "If-", "Sec-", "X-Forwarded-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// tenantPath reads a template with {tenant} as one of its segments.
func (p *parser) tenantPath(c *TenantChoice, m *mapping) {
	e, ok := m.items["path"]
	if !ok {
		return
	}
	c.Path = strings.TrimSuffix(p.scalar(e), "/")
	pattern, err := ParsePattern(c.Path)
	tenants, others := strings.Count(c.Path+"/", "/{tenant}/"), 0
	for _, s := range pattern.segments {
		if s.any {
			others++
		}
	}
	if err != nil || pattern.open || tenants != 1 || others != 1 {
		p.refuse(e.at, finding{e.shown() + " is no template of a tenant's path", "write plain segments and {tenant} once, such as /t/{tenant}; they begin the path and go no further"})
	}
}

// onlyTenant refuses callers of a route whose tenant theirs is to be, and who
// have none or several.
func (p *parser) onlyTenant(where place, r *Route, t *Table) {
	if t.Callers == nil {
		p.refuse(where, finding{"by_caller wants callers, and there are none", "name them under callers, each with one tenant"})
		return
	}
	var wrong []string
	for _, c := range admitted(r, t) {
		if len(c.Tenants) != 1 {
			wrong = append(wrong, c.Name)
		}
	}
	if len(wrong) > 0 {
		p.refuse(where, finding{"by_caller wants callers with exactly one tenant each; none or several have: " + some(wrong), "give each one tenant under tenants, or name others under the route's callers"})
	}
}

// admitted are the callers that a route names, or all.
func admitted(r *Route, t *Table) []*Caller {
	if r.Callers != nil {
		return r.Callers
	}
	return t.Callers
}

// some lists the first few of names.
func some(names []string) string {
	const few = 5
	if len(names) > few {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
	}
	return strings.Join(names, ", ")
}
