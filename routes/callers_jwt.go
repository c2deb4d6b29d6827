package routes

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// callerJWT reads what a caller's token must say; nil when the key is absent.
func (p *parser) callerJWT(m *mapping) *CallerJWT {
	e, ok := m.items["jwt"]
	if !ok {
		return nil
	}
	x := p.open(e, "jwt")
	j := &CallerJWT{Audience: x.text("audience", ""), CAFile: x.path("ca_file"), Claims: p.claimRules(x), Algorithms: p.algorithms(x)}
	if i, ok := x.items["issuer"]; ok {
		j.Issuer = p.issuer(i, "issuer", "keys that tell a true token from a false one would travel in clear text")
		p.sharedIssuer(j, i)
	} else {
		p.refuse(e.at, finding{"issuer is missing", "write the token's iss to the letter, such as https://token.actions.githubusercontent.com"})
	}
	if j.Audience == "" {
		p.refuse(x.where("audience"), finding{"audience is missing", "write the token's aud to the letter: the name by which tokens are meant for this gateway"})
	}
	return j
}

// issuer reads a URL that is compared with, or asked, as it is written: https,
// or http for loopback. clear says what would be lost over http.
func (p *parser) issuer(e entry, key, clear string) string {
	raw := p.scalar(e)
	u, a, err := parseOrigin(raw)
	switch {
	case err != nil:
		p.refuse(e.at, finding{key + " " + err.Error(), "write an https URL"})
	case u.Scheme == "http" && !a.Loopback():
		p.refuse(e.at, finding{clear, "write https; http is for loopback addresses alone"})
	case metadata(a.Host):
		p.refuse(e.at, finding{key + " names an address that no call may reach", "name the server's own host"})
	case u.RawQuery != "" || u.ForceQuery:
		p.refuse(e.at, finding{key + " holds a query", "write the URL alone"})
	case cloudOf("https://"+a.Host) != "" && noTenant(strings.SplitN(strings.Trim(u.Path, "/"), "/", 2)[0]):
		p.refuse(e.at, finding{key + " names no tenant, and every token of Entra does", "write the tenant's GUID in its place, as the token's iss has it"})
	default:
		return raw
	}
	return ""
}

// ownerClaims are, for an issuer that gives a token with any audience to any
// customer who asks, the claims that tell one customer from another; nil for
// other issuers.
func ownerClaims(issuer string) []string {
	switch strings.TrimSuffix(issuer, "/") {
	case "https://token.actions.githubusercontent.com":
		return []string{"repository", "sub", "repository_id", "repository_owner", "repository_owner_id", "enterprise", "enterprise_id", "job_workflow_ref"}
	case "https://gitlab.com":
		return []string{"project_path", "sub", "project_id", "namespace_path", "namespace_id", "user_id", "user_login"}
	case "https://accounts.google.com":
		return []string{"sub", "email", "azp", "hd"}
	case "https://app.terraform.io":
		return []string{"sub", "terraform_organization_id", "terraform_organization_name", "terraform_workspace_id", "terraform_project_id"}
	case "https://agent.buildkite.com":
		return []string{"sub", "organization_slug", "organization_id", "pipeline_id"}
	}
	return nil
}

// sharedIssuer refuses callers that the whole world could be, and remarks upon
// those that everybody of an issuer is.
func (p *parser) sharedIssuer(j *CallerJWT, e entry) {
	owners := ownerClaims(j.Issuer)
	owned := slices.ContainsFunc(j.Claims, func(r ClaimRule) bool { return slices.Contains(owners, r.Name) })
	switch {
	case j.Issuer == "":
	case owners != nil && !owned:
		p.refuse(e.at, finding{"anybody can get a token of this issuer, for any audience", "add a claim that names what is yours: " + some(owners)})
	case len(j.Claims) == 0:
		p.warn(e.at, finding{"every token of this issuer for this audience proves the caller", "add claims, such as {sub: …}, unless that is meant"})
	}
}

// claimRules reads what claims must be, in the order of the file.
func (p *parser) claimRules(m *mapping) []ClaimRule {
	e, ok := m.items["claims"]
	if !ok {
		return nil
	}
	order, items := p.pairs(e.value, e.at)
	if len(order) == 0 {
		p.refuse(e.at, finding{"names no claim", "name one, such as {sub: …}, or leave the key out"})
	}
	var out []ClaimRule
	for _, name := range order {
		x := items[name]
		switch name {
		case "iss", "aud", "exp", "nbf", "iat":
			p.refuse(x.at, finding{"this claim is always checked", "leave it out; issuer and audience have keys of their own"})
			continue
		case "":
			p.refuse(x.at, finding{"a claim has a name", "write the name before the colon"})
			continue
		}
		list := []entry{x}
		if x.value.Kind == yaml.SequenceNode {
			list = p.entries(x)
		}
		rule := ClaimRule{Name: name}
		for _, v := range list {
			value := p.scalar(v)
			if value == "" {
				p.refuse(v.at, finding{"a claim that is empty proves nothing", "write the value that it must have"})
			}
			rule.Values = append(rule.Values, value)
		}
		if len(list) == 0 {
			p.refuse(x.at, finding{"names no value", "write the values that the claim may have"})
		}
		out = append(out, rule)
	}
	return out
}

// algorithms reads which signatures count. Only those of key pairs do: who
// could check an HMAC could make one.
func (p *parser) algorithms(m *mapping) []string {
	if _, ok := m.items["algorithms"]; !ok {
		return []string{"RS256", "PS256", "ES256"}
	}
	known := []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	list := m.list("algorithms")
	if len(list) == 0 {
		p.refuse(m.items["algorithms"].at, finding{"names no algorithm", "write one that the issuer signs with, or leave the key out"})
	}
	var out []string
	for _, e := range list {
		alg := p.scalar(e)
		switch {
		case strings.HasPrefix(strings.ToUpper(alg), "HS"):
			p.refuse(e.at, finding{e.shown() + " is signed with a secret that whoever checks it has too", "write one of " + strings.Join(known, ", ")})
		case strings.EqualFold(alg, "none"):
			p.refuse(e.at, finding{e.shown() + " is no signature", "write one of " + strings.Join(known, ", ")})
		case !slices.Contains(known, alg):
			p.refuse(e.at, finding{e.shown() + " is not one of " + strings.Join(known, ", "), "write what the header of the issuer's tokens has under alg"})
		case !slices.Contains(out, alg):
			out = append(out, alg)
		}
	}
	return out
}

// canonicalClaims is the same for rules that hold for the same tokens.
func (j *CallerJWT) canonicalClaims() []string {
	var out []string
	for _, r := range j.Claims {
		values := slices.Compact(slices.Sorted(slices.Values(r.Values)))
		out = append(out, fmt.Sprintf("%q %q", r.Name, values))
	}
	slices.Sort(out)
	return out
}

// admits tells whether every token that proves other proves j as well.
func (j *CallerJWT) admits(other *CallerJWT) bool {
	if j.Issuer != other.Issuer || j.Audience != other.Audience {
		return false
	}
	return !slices.ContainsFunc(j.Claims, func(want ClaimRule) bool {
		return !slices.ContainsFunc(other.Claims, func(r ClaimRule) bool {
			return r.Name == want.Name && !slices.ContainsFunc(r.Values, func(v string) bool { return !slices.Contains(want.Values, v) })
		})
	})
}

// overshadowed warns of callers whose tokens prove one above them first.
func (p *parser) overshadowed(list []*Caller) {
	type server struct{ issuer, audience string }
	seen := map[server][]*Caller{}
	for _, c := range list {
		if c.JWT == nil || c.JWT.Issuer == "" {
			continue
		}
		key := server{c.JWT.Issuer, c.JWT.Audience}
		for _, before := range seen[key] {
			if !p.spend(len(c.JWT.Claims) + 1) {
				return
			}
			if before.JWT.admits(c.JWT) && !slices.Equal(before.JWT.canonicalClaims(), c.JWT.canonicalClaims()) {
				p.warn(p.named[c], finding{"its tokens prove the caller " + before.Name + " above as well, which comes first", "move this caller up: the narrower claims first"})
				break
			}
		}
		seen[key] = append(seen[key], c)
	}
}

// spend counts comparisons that are made for remarks alone, and tells whether
// there may be more: a file may hold more callers and rules than can be
// compared with each other.
func (p *parser) spend(n int) bool {
	p.spent += n
	return p.spent <= maxSpent
}

const maxSpent = 2_000_000
