package authority

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/google/uuid"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

// ChallengeHints is whose tokens an API says it takes, as Azure's services do
// in WWW-Authenticate. A member is "" when the API does not say, says it in a
// way that excludes nothing, or says two things.
type ChallengeHints struct {
	Tenant   string // GUID, lower case; never a domain, common, organizations or consumers
	Resource string // the audience as it stands
}

// Hints reads the lines of WWW-Authenticate as tolerantly as [ParseChallenge]:
// authorization_uri (ARM, Storage) or authorization (Key Vault) holds the
// tenant, resource_id (Storage) or resource (Key Vault) the audience.
func Hints(lines []string) ChallengeHints {
	var tenants, resources []string
	for _, line := range lines {
		if len(line) > maxChallenge {
			return ChallengeHints{}
		}
		for _, c := range challenges(line) {
			if c.scheme != "bearer" && c.scheme != "pop" {
				continue
			}
			for _, name := range []string{"authorization_uri", "authorization"} {
				if value, ok := c.params[name]; ok {
					tenants = append(tenants, tenantOf(value))
				}
			}
			for _, name := range []string{"resource_id", "resource"} {
				if value, ok := c.params[name]; ok {
					resources = append(resources, value)
				}
			}
		}
	}
	return ChallengeHints{Tenant: onlyHint(tenants), Resource: onlyHint(resources)}
}

// onlyHint returns what all of values say, or "".
func onlyHint(values []string) string {
	for _, v := range values {
		if v != values[0] {
			return ""
		}
	}
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// tenantOf returns the GUID that the path of a login URL begins with, or "".
func tenantOf(login string) string {
	u, err := url.Parse(login)
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	first = strings.ToLower(first)
	switch first {
	case "00000000-0000-0000-0000-000000000000", // Azure DevOps: no tenant
		"9188040d-6c67-4c5b-b112-36a304b66dad", // consumers
		"f8cdef31-a31e-4b4a-93e4-5f571e91255a": // Microsoft's own services
		return ""
	}
	if !tenantGUID(first) {
		return ""
	}
	return first
}

func tenantGUID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }

// Mismatch says, for the operator, that no token of c for scope can ever do
// where h came from, access being the one that was refused, and what to do about
// it. Both are "" unless that is certain: c's tenant is another GUID, or scope is
// for a resource of another host, which is neither another name of the resource
// nor host, the upstream's own (Storage and Cosmos DB take the account's URL for
// an audience too). What access says of itself may speak against it: a fallback
// of c may be of the right tenant.
func (h ChallengeHints) Mismatch(c *routes.Credential, scope, host string, access secrets.Secret) (remark, remedy string) {
	if !c.Entra() || h == (ChallengeHints{}) {
		return "", ""
	}
	token, err := Claims(access)
	if err != nil {
		token = Inspected{} // opaque: it says nothing
	}
	if tenant := strings.ToLower(c.TenantID); h.Tenant != "" && tenantGUID(tenant) && tenant != h.Tenant && !strings.EqualFold(token.TenantID, h.Tenant) {
		return fmt.Sprintf("the upstream takes tokens of tenant %s, and credential %q is of tenant %s", h.Tenant, c.Name, tenant),
			fmt.Sprintf("if the resource belongs to tenant %s, give the route a credential with that tenant_id; otherwise correct hosts of the route", h.Tenant)
	}
	wanted, ok1 := hostOfResource(h.Resource)
	asked, ok2 := hostOfResource(strings.TrimSuffix(scope, "/.default"))
	if !ok1 || !ok2 || asked == host || resourceName(wanted) == resourceName(asked) {
		return "", ""
	}
	for _, audience := range token.Audience {
		if has, ok := hostOfResource(audience); ok && resourceName(has) == resourceName(wanted) {
			return "", ""
		}
	}
	return fmt.Sprintf("the upstream takes tokens for https://%s, and the route asks for scope %s", wanted, scope),
		fmt.Sprintf("write scope: https://%s/.default", wanted)
}

// hostOfResource returns the canonical host of a resource that is a URL.
func hostOfResource(resource string) (string, bool) {
	u, err := url.Parse(resource)
	if err != nil || u.Scheme != "https" || u.User != nil {
		return "", false
	}
	a, err := routes.ParseAuthority(u.Host, 443)
	return a.Host, err == nil
}

// resourceName gives the names of one resource their one name.
func resourceName(host string) string {
	switch host {
	case "management.core.windows.net":
		return "management.azure.com"
	case "management.core.usgovcloudapi.net":
		return "management.usgovcloudapi.net"
	case "management.core.chinacloudapi.cn":
		return "management.chinacloudapi.cn"
	case "api.loganalytics.azure.com":
		return "api.loganalytics.io"
	case "eventhubs.azure.net", "relay.azure.net":
		return "servicebus.azure.net"
	}
	return host
}

// maxRoles bounds how many roles [Denied] lists.
const maxRoles = 20

// Denial is what is known of a token that an API answered with 403. It holds no
// token; the zero Denial knows nothing.
type Denial struct {
	credential     *routes.Credential
	remark, remedy string
	graph          bool
	roles          []string
	principal      string // oid
}

// Denied reads what permissions access holds, a token of c. The Denial is zero
// when c is not Entra's, or the token opaque. Nothing is verified.
func Denied(c *routes.Credential, access secrets.Secret) Denial {
	if !c.Entra() {
		return Denial{}
	}
	claims, err := Claims(access)
	if err != nil {
		return Denial{}
	}
	d := Denial{credential: c, graph: claims.Graph(), roles: claims.Roles, principal: claims.Principal()}
	d.remark = fmt.Sprintf("the token for %s holds ", boundedRemark(strings.Join(claims.Audience, " ")))
	switch roles := claims.Roles; {
	case len(roles) == 0:
		d.remark += "no application permissions (roles)"
	case len(roles) > maxRoles:
		d.remark += fmt.Sprintf("%s and %d more", boundedRemark(strings.Join(roles[:maxRoles], ", ")), len(roles)-maxRoles)
	default:
		d.remark += "the application permissions " + boundedRemark(strings.Join(roles, ", "))
	}
	link := consentLink(c)
	if link == "" {
		d.remedy = "grant the managed identity the app role or role assignment that this call needs; the platform keeps its tokens for up to a day"
		return d
	}
	d.remedy = fmt.Sprintf("if this call needs another permission, an administrator adds it and consents at %s, then run gateway purge; APIs that go by role assignments want one for the application %s", link, c.ClientID)
	return d
}

// Of says, for the operator, what the token holds, what the call wants if it
// is one of Graph's that [FindGraphCall] knows, and what to do. path is escaped
// and without a query. Both are "" for the zero Denial.
func (d Denial) Of(method, path string) (remark, remedy string) {
	if !d.graph {
		return d.remark, d.remedy
	}
	call, ok := FindGraphCall(method, path)
	if !ok {
		return d.remark, d.remedy
	}
	remark = d.remark + "; " + call.Wants()
	if held := call.Held(d.roles); held != "" {
		return remark + ", so " + held + " suffices and something narrower refuses", Narrower
	}
	remedy = GrantGraph(d.credential, d.principal, call.Roles[0])
	if link := consentLink(d.credential); link != "" && d.credential.ManagedIdentity == nil {
		remedy += "; the page to consent is " + link
	}
	return remark, remedy
}

// Narrower is what to do about a 403 that no permission mends.
const Narrower = "read the code in the answer's body: see to properties that want more than the call itself, to policies that narrow permissions " +
	"(of applications in Exchange and Teams, of sites), and to licences; gateway permissions counts such answers"

// mostWanted bounds how many roles [GraphCall.Wants] names.
const mostWanted = 4

// Wants says in words which roles the call wants.
func (c *GraphCall) Wants() string {
	text := c.Method + " " + c.Path + " wants " + c.Roles[0]
	if more := c.Roles[1:]; len(more) > 0 {
		text += ", or a higher one: " + strings.Join(more[:min(len(more), mostWanted)], ", ")
		if len(more) > mostWanted {
			text += fmt.Sprintf(" and %d others", len(more)-mostWanted)
		}
	}
	return text
}

// boundedRemark keeps a remark within a line.
func boundedRemark(s string) string {
	const limit = 1 << 10
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
