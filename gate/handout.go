package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

// Why a stand-in login hands nothing out.
var (
	ErrNoTenant = errors.New("no route of this caller hands out placeholders for this tenant")
	ErrNoScope  = errors.New("no route of this caller hands out placeholders for this scope in this tenant")
)

// Login is what an app asks of a token endpoint that the gateway stands in for.
type Login struct {
	// Host is the one that was asked. Zero asks the routes of every login host,
	// and those without one, for whatever tenant each has, as a managed
	// identity endpoint does; Tenant is then not looked at.
	Host routes.Authority
	// Tenant is the GUID or domain that the app wrote, in lower case. At servers
	// other than Entra, the token endpoint or issuer that was asked, as the
	// credential has it.
	Tenant string
	// Scopes are one scope in the spellings that it may have, the likeliest
	// first.
	Scopes []string
	// ClientID picks among routes that would do all the same; one that is no
	// credential's picks none. "" picks the first.
	ClientID string
}

// HandOut finds the route by which caller may have a placeholder, and what is to
// be sealed but for its end. It is the first of the table that admits the
// caller, hands out placeholders, has the scope verbatim, and whose token would
// be of the tenant: the credential's own, or one that the caller may choose
// where calls of the route choose it. The words openid, offline_access and
// profile, which MSAL for Go adds to every scope, may stand beside it.
//
// It stamps the event in ctx. The error wraps [ErrNoTenant] or [ErrNoScope].
func (g *Gate) HandOut(ctx context.Context, caller *routes.Caller, l Login) (*routes.Route, Placeholder, error) {
	who := g.recognise(caller)
	var of []*routes.Route // that have the tenant
	for _, r := range g.table.Routes {
		if r.Placeholder && g.plan(r).admits(who) && atHost(r, l.Host) && g.hasTenant(r, who, l) {
			of = append(of, r)
		}
	}
	if len(of) == 0 {
		return nil, Placeholder{}, g.nothingFor(ErrNoTenant, caller)
	}
	r := pick(of, l)
	if r == nil {
		return nil, Placeholder{}, g.nothingFor(ErrNoScope, caller)
	}
	p := Placeholder{Tenant: g.sealedTenant(r, who, l), Scope: r.Scope}
	if who >= 0 {
		p.Caller = g.table.Callers[who].Name
	}
	event := audit.From(ctx)
	event.Route, event.Credential = r.Name, r.Credential.Name
	if r.Tenant != nil {
		event.Tenant = p.Tenant
	}
	return r, p, nil
}

// LoginsAt are the routes that admit the caller and hand out placeholders at the
// login host, in the order of the file.
func (g *Gate) LoginsAt(caller *routes.Caller, host routes.Authority) []*routes.Route {
	who := g.recognise(caller)
	return slices.DeleteFunc(g.table.Login(host), func(r *routes.Route) bool { return !g.plan(r).admits(who) })
}

func (g *Gate) nothingFor(err error, caller *routes.Caller) error {
	if caller == nil {
		return err
	}
	return fmt.Errorf("caller %s: %w", caller.Name, err)
}

func atHost(r *routes.Route, host routes.Authority) bool {
	if host == (routes.Authority{}) {
		return true
	}
	at, ok := r.LoginHost()
	return ok && at == host
}

// hasTenant tells whether the route's token would be of the tenant that l names.
func (g *Gate) hasTenant(r *routes.Route, who ordinal, l Login) bool {
	if l.Host == (routes.Authority{}) {
		return true
	}
	c := r.Credential
	if !c.Entra() {
		return l.Tenant != "" && (l.Tenant == c.TokenEndpoint || l.Tenant == c.Issuer)
	}
	if r.Tenant == nil {
		return l.Tenant == c.TenantID
	}
	tenant, ok := canonicalTenant(l.Tenant)
	if !ok || g.keys == nil || r.Registry {
		return false // a token of another tenant is not to be had
	}
	rules := g.plan(r).tenants
	if own := g.only(who); rules.byCaller && own != tenant {
		return false
	}
	d := decision{gate: g, who: who}
	return d.mayHave(rules, tenant) == ""
}

// only is the caller's one tenant, or "".
func (g *Gate) only(who ordinal) string {
	if who < 0 {
		return ""
	}
	if own := g.table.Callers[who].Tenants; len(own) == 1 {
		return own[0]
	}
	return ""
}

// sealedTenant is the tenant of a placeholder.
func (g *Gate) sealedTenant(r *routes.Route, who ordinal, l Login) string {
	switch {
	case !r.Credential.Entra():
		return ""
	case l.Host != (routes.Authority{}):
		return l.Tenant
	case r.Tenant == nil:
		return r.Credential.TenantID
	case r.Tenant.ByCaller:
		return g.only(who)
	}
	return ""
}

// pick takes the first route that has the likeliest spelling of the scope, and
// the client's among several.
func pick(of []*routes.Route, l Login) *routes.Route {
	for _, scope := range l.Scopes {
		fits := func(r *routes.Route) bool { return r.Scope == scope || r.Scope == withoutSignIn(scope) }
		at := slices.IndexFunc(of, fits)
		if at < 0 {
			continue
		}
		for _, r := range of[at:] {
			if l.ClientID != "" && fits(r) && strings.EqualFold(clientOf(r.Credential), l.ClientID) {
				return r
			}
		}
		return of[at]
	}
	return nil
}

// clientOf is the client that a credential is, as far as the table knows.
func clientOf(c *routes.Credential) string {
	if c.ManagedIdentity != nil {
		return c.ManagedIdentity.ClientID
	}
	return c.ClientID
}

// withoutSignIn takes the words of OpenID Connect Core §5.4 and §11 off a scope,
// which only mean something where a user signs in.
func withoutSignIn(scope string) string {
	words := slices.DeleteFunc(strings.Fields(scope), func(w string) bool {
		return w == "openid" || w == "offline_access" || w == "profile"
	})
	return strings.Join(words, " ")
}
