package routes

import (
	"net/url"
	"strings"
)

// opened is a credential with its mapping, for mistakes found later.
type opened struct {
	*Credential
	m *mapping
}

// fallbacks judges who stands in for whom, once all credentials are known.
func (p *parser) fallbacks(list []opened) {
	byName := map[string]*Credential{}
	var names []string
	for _, c := range list {
		byName[c.Name] = c.Credential
		names = append(names, c.Name)
	}
	rings := map[string]bool{} // names in rings that were told
	for _, c := range list {
		e, ok := c.m.items["fallback"]
		if !ok || p.broken[e.at] {
			continue
		}
		next := byName[c.Fallback]
		switch {
		case next == nil && len(names) == 1:
			p.refuse(e.at, finding{"there is no credential " + e.shown(), "there is no other than this one; add it under credentials"})
		case next == nil:
			p.refuse(e.at, finding{"there is no credential " + e.shown(), "there are " + strings.Join(names, ", ")})
		case next == c.Credential:
			p.refuse(e.at, finding{"a credential cannot stand in for itself", "name another one, or leave fallback out"})
		default:
			if ring := ringOf(c.Credential, byName); ring != nil && !rings[c.Name] {
				for _, name := range ring {
					rings[name] = true
				}
				p.refuse(e.at, finding{"the fallbacks run in a ring: " + strings.Join(append(ring, c.Name), ", "), "leave fallback out at the last one"})
			}
			p.standIn(e.at, c.Credential, next)
		}
	}
}

// ringOf lists the names of the ring that c is part of, c first; nil for none.
func ringOf(c *Credential, byName map[string]*Credential) []string {
	names := []string{c.Name}
	for next := byName[c.Fallback]; next != nil && len(names) <= len(byName); next = byName[next.Fallback] {
		if next == c {
			return names
		}
		names = append(names, next.Name)
	}
	return nil
}

// standIn judges next as the one to go on with when c is refused. A token of
// another tenant or server must never be used in the place of c's.
func (p *parser) standIn(where place, c, next *Credential) {
	switch {
	case c.ManagedIdentity != nil:
		p.refuse(where, finding{"a managed identity is never refused as invalid_client", "leave fallback out"})
	case next.ManagedIdentity != nil:
		p.refuse(where, finding{"a managed identity cannot stand in: the tenant of its tokens is not known", "let it prove the same application: federated_token: {managed_identity: {client_id: …}}"})
	case c.AuthorityHost == nowhere || next.AuthorityHost == nowhere || c.server() == nowhere || next.server() == nowhere:
		// a mistake was noted
	case !sameServer(c, next):
		what := "server"
		if c.Entra() && next.Entra() {
			what = "login host"
		}
		p.refuse(where, finding{"the credential " + next.Name + " is of another " + what, "its tokens must not be used in the place of this one's; name a credential of the same " + what})
	case c.Entra() && c.TenantID != next.TenantID:
		p.refuse(where, finding{
			"the credential " + next.Name + " is of another tenant",
			"its tokens must not be used in the place of this one's; if it is one tenant, write the same tenant_id in both, best the GUID",
		})
	default:
		p.standInRemarks(where, c, next)
	}
}

func (p *parser) standInRemarks(where place, c, next *Credential) {
	if !strings.EqualFold(c.ClientID, next.ClientID) && c.ClientID != "" && next.ClientID != "" {
		p.warn(where, finding{"the credential " + next.Name + " is another application, with permissions of its own", "grant it what this one has, or name a credential of the same client_id"})
	}
	same := len(c.TokenParams) == len(next.TokenParams)
	for i := range c.TokenParams {
		same = same && c.TokenParams[i] == next.TokenParams[i]
	}
	if !same {
		p.warn(where, finding{"the credential " + next.Name + " has other token_params, and may get tokens for another audience", "write the same token_params in both"})
	}
}

// server is the URL by which a credential of another server than Entra names
// it; "" for Entra.
func (c *Credential) server() string {
	if c.Issuer != "" {
		return c.Issuer
	}
	return c.TokenEndpoint
}

// sameServer tells whether the tokens of both come from one place: a login
// host under any of its names, or the very same endpoint or issuer. Of a token
// endpoint and an issuer, the issuer's URL must lead to the endpoint's: servers
// with many realms tell them apart by path.
func sameServer(a, b *Credential) bool {
	switch {
	case a.Entra() != b.Entra():
		return false
	case a.Entra():
		return a.AuthorityHost == b.AuthorityHost || cloudOf(a.AuthorityHost) != "" && cloudOf(a.AuthorityHost) == cloudOf(b.AuthorityHost)
	case a.Issuer != "" && b.Issuer != "":
		return a.Issuer == b.Issuer
	case b.Issuer != "":
		a, b = b, a
	}
	from, err := url.Parse(a.server())
	to, err2 := url.Parse(b.server())
	if err != nil || err2 != nil || from.Scheme != to.Scheme || !strings.EqualFold(from.Host, to.Host) {
		return false
	}
	if a.Issuer == "" {
		return from.Path == to.Path
	}
	return strings.HasPrefix(to.Path, strings.TrimSuffix(from.Path, "/")+"/")
}

// standIns adds to used, the credentials that routes name, those that stand in
// for them.
func standIns(t *Table, used map[*Credential]bool) {
	for _, c := range t.Credentials {
		if !used[c] {
			continue
		}
		for next := t.Credential(c.Fallback); next != nil && !used[next]; next = t.Credential(next.Fallback) {
			used[next] = true
		}
	}
}

// twoNames warns of an application that names a tenant once by its GUID and
// once by a domain: tokens are kept for each name apart.
func (p *parser) twoNames(list []opened) {
	type app struct{ client, kind string }
	seen := map[app]string{}
	for _, c := range list {
		e, ok := c.m.items["tenant_id"]
		if !ok || !c.Entra() || c.ClientID == "" || c.TenantID == "" {
			continue
		}
		kind, other := "its domain", "its GUID"
		if guidSyntax.MatchString(c.TenantID) {
			kind, other = other, kind
		}
		client := strings.ToLower(c.ClientID)
		if first, ok := seen[app{client, other}]; ok {
			p.warn(e.at, finding{"the credential " + first + " is the same application, and names its tenant by " + other, "if it is one tenant, write the GUID in both: tokens are kept for each name apart"})
		}
		seen[app{client, kind}] = c.Name
	}
}
