package proxy

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
)

// granted is the answer to a login (RFC 6749 §5.1), as Entra's second endpoint
// words it.
type granted struct {
	Type    string `json:"token_type"`
	Expires int    `json:"expires_in"`
	Ext     int    `json:"ext_expires_in,omitempty"` // Entra's alone
	Access  string `json:"access_token"`
}

// grantedV1 is that of Entra's first endpoint.
type grantedV1 struct {
	Type      string `json:"token_type"`
	Expires   string `json:"expires_in"`
	Ext       string `json:"ext_expires_in"`
	ExpiresOn string `json:"expires_on"` // Unix seconds
	NotBefore string `json:"not_before"`
	Resource  string `json:"resource"`
	Access    string `json:"access_token"`
}

func (l *login) success(placeholder, resource string, expires time.Time) any {
	switch l.style {
	case entraV1:
		life := strconv.Itoa(announcedLife)
		return grantedV1{Type: "Bearer", Expires: life, Ext: life, ExpiresOn: strconv.FormatInt(expires.Unix(), 10),
			NotBefore: strconv.FormatInt(expires.Add(-placeholderLife).Unix(), 10), Resource: resource, Access: placeholder}
	case entraV2:
		return granted{"Bearer", announcedLife, announcedLife, placeholder}
	}
	return granted{"Bearer", announcedLife, 0, placeholder}
}

// metadata is of a token endpoint (RFC 8414 §2), with what OpenID Connect
// Discovery §3 and Microsoft's libraries want to see in it. Of its endpoints the
// gateway stands in for the token endpoint alone.
type metadata struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint,omitempty"`
	Token         string   `json:"token_endpoint"`
	Device        string   `json:"device_authorization_endpoint,omitempty"`
	EndSession    string   `json:"end_session_endpoint,omitempty"`
	Keys          string   `json:"jwks_uri,omitempty"`
	Methods       []string `json:"token_endpoint_auth_methods_supported"`
	Grants        []string `json:"grant_types_supported,omitempty"`
	ResponseTypes []string `json:"response_types_supported"`
	Subjects      []string `json:"subject_types_supported,omitempty"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported,omitempty"`
}

// configuration answers with the metadata of a tenant, whichever is asked: it
// says nothing of what the tenant is. MSAL wants all of its endpoints, and an
// issuer on the host that it asked.
func (l *login) configuration() bool {
	at := l.base + "/" + l.tenant
	m := metadata{
		Issuer: at + "/v2.0", Authorization: at + "/oauth2/v2.0/authorize", Token: at + "/oauth2/v2.0/token",
		Device: at + "/oauth2/v2.0/devicecode", EndSession: at + "/oauth2/v2.0/logout", Keys: at + "/discovery/v2.0/keys",
	}
	if l.style == entraV1 {
		m = metadata{
			Issuer: at + "/", Authorization: at + "/oauth2/authorize", Token: at + "/oauth2/token",
			Device: at + "/oauth2/devicecode", EndSession: at + "/oauth2/logout", Keys: l.base + "/common/discovery/keys",
		}
	}
	m.Methods = []string{"client_secret_post", "private_key_jwt", "client_secret_basic"}
	m.ResponseTypes, m.Subjects, m.Algorithms = []string{"code", "id_token", "code id_token", "id_token token"}, []string{"pairwise"}, []string{"RS256"}
	l.answer(http.StatusOK, m)
	return true
}

// instances is the answer of instance discovery, by which Microsoft's libraries
// ask whether a host is one of Entra's.
type instances struct {
	Discovery string     `json:"tenant_discovery_endpoint"`
	Version   string     `json:"api-version"`
	Metadata  []instance `json:"metadata"`
}

type instance struct {
	Network string   `json:"preferred_network"`
	Cache   string   `json:"preferred_cache"`
	Aliases []string `json:"aliases"`
}

// instance vouches for the host that was asked and for no other: an app then
// logs in there, where the gateway stands in. A question about another host is
// left to whoever comes next.
func (l *login) instance() bool {
	about, err := url.Parse(l.r.URL.Query().Get("authorization_endpoint"))
	if err != nil {
		return false
	}
	a, err := routes.ParseAuthority(about.Host, 443)
	tenant, _, _ := strings.Cut(strings.ToLower(strings.TrimPrefix(about.Path, "/")), "/")
	if err != nil || a != l.host || !tenantShaped(tenant) {
		return false
	}
	name := hostOf(a)
	l.answer(http.StatusOK, instances{
		Discovery: l.base + "/" + tenant + "/v2.0/.well-known/openid-configuration", Version: "1.1",
		Metadata: []instance{{name, name, []string{name}}},
	})
	return true
}

// standInToken is below an issuer's path the token endpoint that the gateway's
// metadata names: which one the issuer has is not for the app to know.
const standInToken = "/.gateway/token"

// plainDesk knows the paths of a server other than Entra: those of its token
// endpoint, or those of its issuer's metadata, where RFC 8414 §3 and OpenID
// Connect Discovery §4 look for it.
func (l *login) plainDesk(path string, c *routes.Credential) func() bool {
	l.style = plainAuth
	if c.TokenEndpoint != "" {
		if u, err := url.Parse(c.TokenEndpoint); err != nil || cmp.Or(u.EscapedPath(), "/") != path {
			return nil
		}
		l.tenant, l.p.event.Template = c.TokenEndpoint, path
		return l.posting(l.token)
	}
	u, err := url.Parse(c.Issuer)
	if err != nil {
		return nil
	}
	below := strings.TrimSuffix(u.EscapedPath(), "/")
	l.tenant = c.Issuer
	switch path {
	case below + standInToken:
		l.p.event.Template = path
		return l.posting(l.token)
	case "/.well-known/oauth-authorization-server" + below, below + "/.well-known/oauth-authorization-server",
		"/.well-known/openid-configuration" + below, below + "/.well-known/openid-configuration":
		l.p.event.Template = path
		return l.reading(func() bool { return l.issuer(c.Issuer) })
	}
	return nil
}

// issuer answers with what client credentials need of an issuer's metadata.
func (l *login) issuer(name string) bool {
	l.answer(http.StatusOK, metadata{
		Issuer: name, Token: strings.TrimSuffix(name, "/") + standInToken,
		Methods: []string{"client_secret_basic", "client_secret_post", "private_key_jwt"},
		Grants:  []string{"client_credentials"}, ResponseTypes: []string{},
	})
	return true
}
