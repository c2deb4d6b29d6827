package authority

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// travels tells whether an application may get tokens for tenants other than
// its own: one of Entra that is no managed identity, which has the tenant of
// its subscription.
func travels(c *routes.Credential) bool { return c.Entra() && c.ManagedIdentity == nil }

// endpointOf is the token endpoint of a tenant at a login host of Entra.
func endpointOf(login, tenant string) string {
	return login + "/" + url.PathEscape(tenant) + "/oauth2/v2.0/token"
}

// KeyFor is [Directory.Key] for another tenant of c's application.
// [Directory.Acquire] serves it for credentials of Entra that are no managed
// identity, and no other.
func (d *Directory) KeyFor(c *routes.Credential, scope, tenant string) tokens.Key {
	id := d.current.Load().loadedFor(c)
	if id == nil || !travels(c) {
		k := d.Key(c, scope)
		k.Tenant = tenant
		if travels(c) {
			k.Authority = endpointOf(canonicalEndpoint(c.AuthorityHost), tenant)
		}
		return k
	}
	return tokens.Key{
		Authority:   endpointOf(id.login, tenant),
		Tenant:      tenant,
		Credential:  c.Name,
		Fingerprint: id.fingerprint,
		Scope:       scope,
		CAE:         c.CAE,
	}
}

// in is id as it asks for tokens of another tenant, or nil if it cannot. It
// shows the same proof; an assertion is made for the tenant's own endpoint. What
// one tenant refuses is no news of the credential, so that it takes no notes:
// whoever may choose a tenant could put it out of use otherwise.
func (id *identity) in(tenant string) *identity {
	if !travels(&id.credential) {
		return nil
	}
	abroad := *id
	abroad.home = id.atHome()
	abroad.credential.TenantID = tenant
	abroad.endpoint = endpointOf(id.login, tenant)
	abroad.authority = abroad.endpoint
	abroad.state = &state{}
	abroad.state.setSkew(id.state.clockSkew())
	abroad.state.setCosmos(id.state.cosmosIsGeneral())
	return &abroad
}

// as is id in the tenant for which other asks; nil if it cannot go there.
func (id *identity) as(other *identity) *identity {
	if other.home == nil {
		return id
	}
	return id.in(other.credential.TenantID)
}

// atHome is id in the credential's own tenant.
func (id *identity) atHome() *identity {
	if id.home != nil {
		return id.home
	}
	return id
}

// order is that in which to try the members of id's chain. Another tenant's
// begins with the one that works at home, and takes no turn at a test.
func (id *identity) order(chain []*identity, now time.Time) []*identity {
	if id.home == nil {
		return id.history.order(chain, now)
	}
	used, _ := id.history.inUse(chain)
	at := max(0, position(chain, used))
	return slices.Concat(chain[at:], chain[:at])
}

// notLoaded says why there is no identity for k; held is that of its name.
func notLoaded(k tokens.Key, held *identity) string {
	if held != nil && k.Tenant != held.credential.TenantID && !travels(&held.credential) {
		return fmt.Sprintf("it has no tokens of tenant %s, only of its own", k.Tenant)
	}
	return "it is not loaded, or no longer"
}

// chainOf is chain in the tenant for which id asks. Members that cannot go
// there are left out.
func (s *snapshot) chainOf(id *identity) []*identity {
	chain := s.chain(id.atHome())
	if id.home == nil {
		return chain
	}
	abroad := []*identity{id}
	for _, member := range chain[1:] {
		if member = member.as(id); member != nil {
			abroad = append(abroad, member)
		}
	}
	return abroad
}

// of names the tenant in e that id asked for, if that is not its own.
func (e *Error) of(id *identity) *Error {
	if id.home == nil {
		return e
	}
	named := *e
	named.Hint = "for tenant " + id.credential.TenantID
	if e.Hint != "" {
		named.Hint += ": " + e.Hint
	}
	return &named
}

// loadedFor is same, which finds at once what c itself was loaded into: it is
// asked for each call whose tenant is chosen.
func (s *snapshot) loadedFor(c *routes.Credential) *identity {
	for _, id := range s.identities {
		if id.origin == c {
			return id
		}
	}
	return s.same(c)
}
