package sandbox

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// exchange is one call of an Entra endpoint with what its answer will repeat.
type exchange struct {
	r           *http.Request
	tenant      string // as in the path
	origin      string // scheme and host that the client used
	form        url.Values
	trace       string
	correlation string
	now         time.Time
}

func newExchange(e *Entra, r *http.Request, tenant string) *exchange {
	x := &exchange{r: r, tenant: tenant, origin: e.srv.publicURL(r), trace: uuid.NewString(), now: e.clock.now()}
	x.correlation = r.Header.Get("client-request-id")
	if uuid.Validate(x.correlation) != nil {
		x.correlation = uuid.NewString()
	}
	return x
}

// dress sets the headers that every answer of the token service has.
func (x *exchange) dress(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store, no-cache")
	h.Set("Pragma", "no-cache")
	h.Set("Expires", "-1")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("x-ms-request-id", x.trace)
	if strings.EqualFold(x.r.Header.Get("return-client-request-id"), "true") {
		h.Set("client-request-id", x.correlation)
	}
}

// isMeta reports a name that stands for no tenant of its own.
func isMeta(name string) bool {
	return slices.Contains([]string{"common", "organizations", "consumers"}, strings.ToLower(name))
}

// findTenant resolves the tenant of the path.
func (e *Entra) findTenant(x *exchange) (*tenant, *refusal) {
	e.mu.RLock()
	t, ok := e.dir.tenants[strings.ToLower(x.tenant)]
	e.mu.RUnlock()
	switch {
	case ok:
		return t, nil
	case isMeta(x.tenant):
		return nil, refuse("invalid_request", 50059,
			"No tenant-identifying information found in either the request or implied by any provided credentials.")
	case !tenantSyntax(x.tenant) || (!strings.Contains(x.tenant, ".") && uuid.Validate(x.tenant) != nil):
		return nil, refuse("invalid_request", 900023,
			"Specified tenant identifier '%s' is neither a valid DNS name, nor a valid external domain.", clip(x.tenant, 255))
	}
	return nil, refuse("invalid_request", 90002,
		"Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. "+
			"Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant.",
		x.tenant)
}

// onlyGET answers anything but GET and HEAD, and reports whether it did not.
func onlyGET(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	return false
}

// serveMetadata answers OpenID Connect discovery (RFC 8414 shape). For a
// tenant every address holds its GUID, whichever name was asked; for common
// they keep the name, and the issuer has the real service's placeholder. For a
// tenant of another cloud they are that cloud's.
func (e *Entra) serveMetadata(w http.ResponseWriter, x *exchange) {
	if !onlyGET(w, x.r) {
		return
	}
	e.mu.RLock()
	cloud, _ := e.cloud.facts()
	e.mu.RUnlock()
	id, issuerID, origin := strings.ToLower(x.tenant), "{tenantid}", x.origin
	if !isMeta(x.tenant) {
		t, no := e.findTenant(x)
		if no != nil {
			no.write(w, x)
			return
		}
		id, issuerID = t.id, t.id
		if t.foreign != nil {
			cloud, _ = t.foreign.Cloud.facts()
			origin = "https://" + cloud.login
		}
	}
	x.dress(w)
	w.Header().Set("Access-Control-Allow-Origin", "*")
	writeJSON(w, http.StatusOK, metadata(cloud, origin, id, issuerID))
}

// metadata is the document of one tenant at origin.
func metadata(cloud cloudFacts, origin, id, issuerID string) map[string]any {
	base := origin + "/" + id
	doc := map[string]any{
		"token_endpoint": base + "/oauth2/v2.0/token",
		"token_endpoint_auth_methods_supported": []string{
			"client_secret_post", "private_key_jwt", "client_secret_basic"},
		"jwks_uri":                              base + "/discovery/v2.0/keys",
		"response_modes_supported":              []string{"query", "fragment", "form_post"},
		"subject_types_supported":               []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"response_types_supported":              []string{"code", "id_token", "code id_token", "id_token token"},
		"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
		"issuer":                                origin + "/" + issuerID + "/v2.0",
		"request_uri_parameter_supported":       false,
		"userinfo_endpoint":                     "https://" + cloud.msgraph + "/oidc/userinfo",
		"authorization_endpoint":                base + "/oauth2/v2.0/authorize",
		"device_authorization_endpoint":         base + "/oauth2/v2.0/devicecode",
		"http_logout_supported":                 true,
		"frontchannel_logout_supported":         true,
		"end_session_endpoint":                  base + "/oauth2/v2.0/logout",
		"claims_supported": []string{"sub", "iss", "cloud_instance_name", "cloud_instance_host_name",
			"cloud_graph_host_name", "msgraph_host", "aud", "exp", "iat", "auth_time", "acr", "nonce",
			"preferred_username", "name", "tid", "ver", "at_hash", "c_hash", "email"},
		"tenant_region_scope":   cloud.region,
		"cloud_instance_name":   cloud.instance,
		"cloud_graph_host_name": cloud.graph,
		"msgraph_host":          cloud.msgraph,
		"rbac_url":              cloud.rbac,
		"kerberos_endpoint":     base + "/kerberos",
	}
	if cloud.subRegion != "" {
		doc["tenant_region_sub_scope"] = cloud.subRegion
	}
	return doc
}

// serveKeys answers the signing keys.
func (e *Entra) serveKeys(w http.ResponseWriter, x *exchange) {
	if !onlyGET(w, x.r) {
		return
	}
	if _, no := e.findTenant(x); no != nil && !isMeta(x.tenant) {
		no.write(w, x)
		return
	}
	x.dress(w)
	writeJSON(w, http.StatusOK, e.keys.published(x.origin+"/"+clip(x.tenant, 255)+"/v2.0"))
}

// network is one entry of instance discovery.
type network struct {
	Preferred string   `json:"preferred_network"`
	Cache     string   `json:"preferred_cache"`
	Aliases   []string `json:"aliases"`
}

// networks are this host and the login hosts of Microsoft's clouds.
func networks(own string) []network {
	public := []string{"login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"}
	return []network{
		{own, own, []string{own}},
		{"login.microsoftonline.com", "login.windows.net", public},
		{"login.partner.microsoftonline.cn", "login.partner.microsoftonline.cn", []string{"login.partner.microsoftonline.cn", "login.chinacloudapi.cn"}},
		{"login.microsoftonline.us", "login.microsoftonline.us", []string{"login.microsoftonline.us", "login.usgovcloudapi.net"}},
	}
}

// serveInstance answers instance discovery, by which MSAL asks whether a host
// is a Microsoft cloud: this one is, and those of the clouds are.
func (e *Entra) serveInstance(w http.ResponseWriter, x *exchange) {
	if !onlyGET(w, x.r) {
		return
	}
	asked, err := url.Parse(x.r.URL.Query().Get("authorization_endpoint"))
	own, _ := url.Parse(x.origin)
	if err != nil || own == nil || !slices.ContainsFunc(networks(own.Host), func(n network) bool { return slices.Contains(n.Aliases, asked.Host) }) {
		refuse("invalid_instance", 50049, "Unknown or invalid instance.").write(w, x)
		return
	}
	tenant, _, _ := strings.Cut(strings.TrimPrefix(asked.Path, "/"), "/")
	x.dress(w)
	writeJSON(w, http.StatusOK, map[string]any{
		"tenant_discovery_endpoint": asked.Scheme + "://" + asked.Host + "/" + clip(tenant, 255) + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata":                  networks(own.Host),
	})
}
