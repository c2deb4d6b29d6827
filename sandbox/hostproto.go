package sandbox

import (
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// protocol is what a request to one platform has to look like.
type protocol struct {
	method, path string
	version      string            // api-version; "": the parameter is unknown
	secret       string            // header of the host's secret; "": Metadata: true instead
	ids          map[string]string // parameters that name an identity, and what each names
}

// The three things by which a request may name an identity.
const (
	byClient   = "client"
	byObject   = "object"
	byResource = "resource"
)

// protocolOf returns the protocol of a platform, as its documentation has it.
func protocolOf(k HostKind) (protocol, bool) {
	appService := protocol{
		method: http.MethodGet, path: "/msi/token", version: "2019-08-01", secret: "X-IDENTITY-HEADER",
		ids: map[string]string{"client_id": byClient, "object_id": byObject, "principal_id": byObject, "mi_res_id": byResource},
	}
	switch k {
	case IMDS:
		return protocol{
			method: http.MethodGet, path: "/metadata/identity/oauth2/token", version: "2018-02-01",
			ids: map[string]string{"client_id": byClient, "object_id": byObject, "msi_res_id": byResource},
		}, true
	case AppService:
		appService.path = "/msi/token/" // with the slash at the end, as on Linux workers
		return appService, true
	case ContainerApps:
		return appService, true
	case ServiceFabric:
		return protocol{method: http.MethodGet, path: "/metadata/identity/oauth2/token", version: "2019-07-01-preview", secret: "Secret"}, true
	case AzureML:
		return protocol{
			method: http.MethodGet, path: "/MSI/auth", version: "2017-09-01", secret: "Secret",
			ids: map[string]string{"clientid": byClient},
		}, true
	case CloudShell:
		return protocol{method: http.MethodPost, path: "/oauth2/token"}, true
	case Arc:
		return protocol{method: http.MethodGet, path: "/metadata/identity/oauth2/token", version: "2020-06-01"}, true
	}
	return protocol{}, false
}

// A complaint is what a host finds wrong with a request.
type complaint string

const (
	wrongMethod  complaint = "method"
	wrongPath    complaint = "path"
	forwarded    complaint = "forwarded"
	noMetadata   complaint = "no metadata header"
	noSecret     complaint = "no secret"
	wrongSecret  complaint = "wrong secret"
	wrongVersion complaint = "api-version"
	badQuery     complaint = "query"
	unknownParam complaint = "unknown parameter"
	noAudience   complaint = "no resource"
	twoIDs       complaint = "two ids"
	noIdentity   complaint = "no such identity"
	many         complaint = "several identities"
	noKey        complaint = "no key"
	wrongKey     complaint = "wrong key"
)

// asking is a request that was found right.
type asking struct {
	resource string
	identity ManagedIdentity
}

// judge holds a request against the platform's protocol.
func (h *Host) judge(r *http.Request) (asking, complaint) {
	switch {
	case r.URL.Path != h.proto.path:
		return asking{}, wrongPath
	case r.Method != h.proto.method:
		return asking{}, wrongMethod
	case hopped(r):
		return asking{}, forwarded
	}
	if why := h.judgeHeader(r); why != "" {
		return asking{}, why
	}
	params, why := h.parameters(r)
	if why != "" {
		return asking{}, why
	}
	if h.proto.version != "" && params.Get("api-version") != h.proto.version {
		return asking{}, wrongVersion
	}
	for name := range params {
		if _, id := h.proto.ids[name]; !id && name != "resource" && (name != "api-version" || h.proto.version == "") {
			return asking{}, unknownParam
		}
	}
	a := asking{resource: params.Get("resource")}
	if a.resource == "" {
		return a, noAudience
	}
	if h.opts.Kind == CloudShell {
		return a, ""
	}
	a.identity, why = h.pick(params)
	return a, why
}

// hopped reports whether a request came through a proxy, which no platform
// lets pass that guards against forged requests.
func hopped(r *http.Request) bool {
	return slices.ContainsFunc([]string{"X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Via"}, func(name string) bool {
		return len(r.Header.Values(name)) > 0
	})
}

// judgeHeader looks for the header that proves that no browser and no forged
// request is asking.
func (h *Host) judgeHeader(r *http.Request) complaint {
	if h.proto.secret == "" {
		if got := r.Header.Values("Metadata"); len(got) != 1 || !strings.EqualFold(got[0], "true") {
			return noMetadata
		}
	} else {
		switch got := r.Header.Values(h.proto.secret); {
		case len(got) == 0:
			return noSecret
		case len(got) != 1 || got[0] != h.header:
			return wrongSecret
		}
	}
	// Arc's key is the one other secret that belongs here.
	if len(r.Header.Values("Authorization")) > 0 && h.opts.Kind != Arc {
		return badQuery
	}
	return ""
}

// parameters returns those of the query, or of the form for Cloud Shell, each
// of which may come once.
func (h *Host) parameters(r *http.Request) (url.Values, complaint) {
	raw := r.URL.RawQuery
	body, err := io.ReadAll(io.LimitReader(r.Body, maxForm))
	switch {
	case err != nil:
		return nil, badQuery
	case h.proto.method == http.MethodPost:
		kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if raw != "" || kind != "application/x-www-form-urlencoded" {
			return nil, badQuery
		}
		raw = string(body)
	case len(body) > 0:
		return nil, badQuery
	}
	params, err := url.ParseQuery(raw)
	if err != nil {
		return nil, badQuery
	}
	for _, values := range params {
		if len(values) != 1 {
			return nil, badQuery
		}
	}
	return params, ""
}

// pick finds the identity that the request means.
func (h *Host) pick(params url.Values) (ManagedIdentity, complaint) {
	var named []string
	for name := range h.proto.ids {
		if params.Has(name) {
			named = append(named, name)
		}
	}
	if len(named) > 1 {
		return ManagedIdentity{}, twoIDs
	}
	if len(named) == 1 {
		for _, m := range h.opts.Identities {
			is := map[string]string{byClient: m.ClientID, byObject: m.ObjectID, byResource: m.ResourceID}[h.proto.ids[named[0]]]
			if strings.EqualFold(is, params.Get(named[0])) {
				return m, ""
			}
		}
		return ManagedIdentity{}, noIdentity
	}
	for _, m := range h.opts.Identities {
		if m.SystemAssigned {
			return m, ""
		}
	}
	// App Service and Arc mean the system-assigned one when none is named.
	onlySystem := h.opts.Kind == AppService || h.opts.Kind == ContainerApps || h.opts.Kind == Arc
	switch {
	case len(h.opts.Identities) == 0 || onlySystem:
		return ManagedIdentity{}, noIdentity
	case len(h.opts.Identities) > 1:
		return ManagedIdentity{}, many
	}
	return h.opts.Identities[0], ""
}

// answer is the platform's token response.
func (h *Host) answer(t managedToken, a asking) map[string]any {
	left := int64(t.expires.Sub(h.clock.now()).Seconds())
	unix := func(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
	out := map[string]any{
		"access_token": t.raw, "token_type": "Bearer", "resource": a.resource,
		"expires_on": h.expiresOn(t.expires),
	}
	switch h.opts.Kind {
	case IMDS:
		maps.Copy(out, map[string]any{
			"client_id": a.identity.ClientID, "expires_in": strconv.FormatInt(left, 10),
			"ext_expires_in": strconv.FormatInt(left, 10), "not_before": unix(t.issued),
		})
	case Arc, CloudShell:
		out["expires_in"], out["not_before"] = strconv.FormatInt(left, 10), unix(t.issued)
	case AppService, ContainerApps, AzureML:
		out["client_id"] = strings.ToUpper(a.identity.ClientID)
	}
	if h.opts.RefreshIn > 0 {
		out["refresh_in"] = strconv.FormatInt(int64(h.opts.RefreshIn.Seconds()), 10)
	}
	if h.opts.Expiry == ExpiryAbsent {
		delete(out, "expires_on")
		out["expires_in"] = strconv.FormatInt(left, 10)
	}
	return out
}

func (h *Host) expiresOn(at time.Time) any {
	at = at.UTC().Truncate(time.Second)
	switch h.opts.Expiry {
	case ExpiryNumber:
		return at.Unix()
	case ExpiryDate:
		return at.Format("01/02/2006 15:04:05 -07:00")
	case ExpiryRFC3339:
		return at.Format(time.RFC3339)
	case "":
		if h.opts.Kind == ServiceFabric {
			return at.Unix()
		}
	}
	return strconv.FormatInt(at.Unix(), 10)
}

// words are status, code and text of a complaint in IMDS, and, with few
// exceptions, elsewhere.
func (c complaint) words(k HostKind) (status int, code, text string) {
	bad := http.StatusBadRequest
	switch c {
	case wrongMethod:
		return http.StatusMethodNotAllowed, "method_not_allowed", "Method not allowed"
	case wrongPath:
		return http.StatusNotFound, "not_found", "The requested resource was not found"
	case forwarded:
		return bad, "invalid_request", "The request came through a proxy (X-Forwarded-For, Forwarded or Via)"
	case noMetadata:
		return bad, "invalid_request", "Required metadata header not specified"
	case noSecret:
		if k == ServiceFabric {
			return bad, "SecretHeaderNotFound", "Secret is not found in the request headers."
		}
		return http.StatusUnauthorized, "unauthorized", "The secret's header is missing"
	case wrongSecret:
		return http.StatusUnauthorized, "unauthorized", "The secret is not that of this host"
	case wrongVersion:
		return bad, "InvalidApiVersion", "The api-version is missing or not supported."
	case badQuery:
		return bad, "invalid_request", "The request is malformed"
	case unknownParam:
		return bad, "invalid_request", "The request has a parameter that is not supported"
	case noAudience:
		if k == ServiceFabric {
			return bad, "ArgumentNullOrEmpty", "The parameter 'resource' should not be null or empty string."
		}
		return bad, "invalid_request", "Required audience parameter not specified"
	case twoIDs:
		return bad, "invalid_request", "Only one of the parameters that name an identity may be specified"
	case many:
		return bad, "invalid_request", "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"
	case noKey:
		return http.StatusUnauthorized, "unauthorized_client", "Missing Basic Authorization header"
	case wrongKey:
		return http.StatusUnauthorized, "unauthorized_client", "The key in the Basic Authorization header is not valid"
	}
	if k == ServiceFabric {
		return http.StatusNotFound, "ManagedIdentityNotFound", "The managed identity for application was not found."
	}
	if k == AppService || k == ContainerApps {
		return bad, "", "No Managed Identity found for specified ClientId/ResourceId/PrincipalId."
	}
	return bad, "invalid_request", "Identity not found"
}

// complain answers in the platform's shape of error. no, if there, is what
// Entra said to the platform.
func (h *Host) complain(w http.ResponseWriter, why complaint, no *refusal) {
	status, code, text := why.words(h.opts.Kind)
	if no != nil {
		status, code, text = no.status, no.oauth, "AADSTS"+strconv.Itoa(no.code)+": "+no.text
	}
	id := uuid.NewString()
	switch h.opts.Kind {
	case AppService, ContainerApps:
		writeJSON(w, status, map[string]any{"statusCode": status, "message": text, "correlationId": id})
	case ServiceFabric:
		writeJSON(w, status, map[string]any{"error": map[string]string{"correlationId": id, "code": code, "message": text}})
	case AzureML:
		writeJSON(w, status, map[string]any{"error": map[string]string{"code": "UserError", "message": text}, "correlation": id})
	default:
		if why == wrongVersion {
			writeJSON(w, status, map[string]any{
				"error": "Bad request. api-version is invalid or was not specified in the request.", "newest-versions": []string{h.proto.version},
			})
			return
		}
		writeJSON(w, status, map[string]string{"error": code, "error_description": text})
	}
}
