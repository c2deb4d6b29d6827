package sandbox

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
)

// cosmos judges a call of the SQL API: the token travels in a form of its own,
// URL-encoded as a whole.
func (v *visit) cosmos() {
	deny := func(status int, code, problem string) {
		v.refuseJSON(status, problem, map[string]string{"code": code, "message": problem + "\r\nActivityId: " + uuid.NewString()})
	}
	lines := v.r.Header.Values("Authorization")
	if len(lines) == 0 {
		deny(http.StatusUnauthorized, "Unauthorized", "Required Header authorization is missing. Ensure a valid Authorization token is passed.")
		return
	}
	decoded, err := url.QueryUnescape(lines[0])
	token, aad := strings.CutPrefix(decoded, "type=aad&ver=1.0&sig=")
	if err != nil || !aad || len(lines) > 1 || strings.Contains(lines[0], "=") {
		deny(http.StatusUnauthorized, "Unauthorized",
			"Authorization header doesn't confirm to the required format. Please verify and try again.")
		return
	}
	date, err := time.Parse(http.TimeFormat, v.r.Header.Get("x-ms-date"))
	if off := v.a.clock.now().Sub(date); err != nil || off > 15*time.Minute || off < -15*time.Minute {
		deny(http.StatusUnauthorized, "Unauthorized", "The input date header is invalid format, or more than 15 minutes off.")
		return
	}
	if !apiDate().MatchString(v.r.Header.Get("x-ms-version")) {
		deny(http.StatusBadRequest, "BadRequest", "The header x-ms-version is missing or invalid.")
		return
	}
	if _, err := v.verify(token, v.a.facts.audiences); err != nil {
		deny(http.StatusUnauthorized, "Unauthorized", "The given token is not accepted: "+err.Error())
		return
	}
	writeJSON(v.w, http.StatusOK, map[string]any{"_rid": "", "Databases": []any{}, "_count": 0})
}

// apiDate is the syntax of x-ms-version.
func apiDate() *regexp.Regexp { return regexp.MustCompile(`^20\d\d-[01]\d-[0-3]\d$`) }

// minStorageVersion is the first one that takes Bearer tokens.
const minStorageVersion = "2017-11-09"

// storage judges a call of the Blob service.
func (v *visit) storage() {
	v.w.Header().Set("x-ms-request-id", uuid.NewString())
	if version := v.r.Header.Get("x-ms-version"); version != "" {
		v.w.Header().Set("x-ms-version", clip(version, 32))
	}
	deny := func(status int, code, problem string) {
		type body struct {
			XMLName xml.Name `xml:"Error"`
			Code    string
			Message string
			Detail  string `xml:"AuthenticationErrorDetail,omitempty"`
		}
		message := "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature."
		raw, _ := xml.Marshal(body{Code: code, Message: message, Detail: problem}) // strings only
		v.w.Header().Set("x-ms-error-code", code)
		v.refuse(status, problem, "application/xml", xml.Header+string(raw))
	}
	challenge := "Bearer authorization_uri=" + v.a.entra.URL() + "/" + TenantID + "/oauth2/authorize resource_id=https://storage.azure.com"
	version := v.r.Header.Get("x-ms-version")
	if v.r.Header.Get("Authorization") == "" {
		v.w.Header().Set("WWW-Authenticate", challenge)
		deny(http.StatusUnauthorized, "NoAuthenticationInformation", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.")
		return
	}
	if !apiDate().MatchString(version) || version < minStorageVersion {
		deny(http.StatusForbidden, "AuthenticationFailed", "Authentication scheme Bearer is not supported in this version.")
		return
	}
	if _, err := v.bearer(); err != nil {
		v.w.Header().Set("WWW-Authenticate", challenge)
		deny(http.StatusUnauthorized, "InvalidAuthenticationInfo", err.Error())
		return
	}
	v.w.Header().Set("Content-Type", "application/xml")
	_, _ = v.w.Write([]byte(xml.Header + `<EnumerationResults><Containers/></EnumerationResults>`))
}

// devOps judges a call of Azure DevOps, whose front door is made for people.
func (v *visit) devOps() {
	_, err := v.bearer()
	switch {
	case err == nil:
		writeJSON(v.w, http.StatusOK, map[string]any{"count": 0, "value": []any{}})
		return
	case strings.EqualFold(v.r.Header.Get("X-TFS-FedAuthRedirect"), "Suppress"):
		v.w.Header().Add("WWW-Authenticate", "Bearer authorization_uri="+v.a.entra.URL()+"/"+TenantID)
		v.w.Header().Add("WWW-Authenticate", `Basic realm="https://dev.azure.com/"`)
		v.w.Header().Add("WWW-Authenticate", "TFS-Federated")
		v.refuse(http.StatusUnauthorized, err.Error(), htmlType, "<html><head><title>Access Denied: the resource cannot be accessed without authentication</title></head></html>")
		return
	}
	v.call.Problem = err.Error()
	if v.r.Header.Get("Authorization") == "" {
		redirectToSignIn(v.w, v.a.entra.URL(), v.a.srv.publicURL(v.r)+v.r.URL.EscapedPath())
		return
	}
	v.refuse(http.StatusNonAuthoritativeInfo, err.Error(), htmlType,
		"<!DOCTYPE html><html><head><title>Azure DevOps Services | Sign In</title></head><body>Sign in to your account</body></html>")
}

// maps judges a call of Azure Maps.
func (v *visit) maps() {
	deny := func(status int, code, problem string) {
		v.refuseJSON(status, problem, map[string]any{"error": map[string]string{"code": code, "message": problem}})
	}
	if _, err := v.bearer(); err != nil {
		v.w.Header().Set("WWW-Authenticate", `Bearer realm="`+v.a.facts.host+`"`)
		deny(http.StatusUnauthorized, "401 Unauthorized", "The provided credentials were incorrect or account resource does not exist.")
		v.call.Problem = err.Error()
		return
	}
	switch id := v.r.Header.Get("x-ms-client-id"); {
	case id == "":
		deny(http.StatusBadRequest, "400 BadRequest", "The header x-ms-client-id is required with Microsoft Entra authentication.")
	case !strings.EqualFold(id, MapsClientID):
		deny(http.StatusForbidden, "403 Forbidden", "The header x-ms-client-id names another account.")
	default:
		writeJSON(v.w, http.StatusOK, map[string]any{"summary": map[string]int{"numResults": 0}, "results": []any{}})
	}
}

// databricks judges a call of a workspace.
func (v *visit) databricks() {
	deny := func(status int, problem string) {
		v.refuseJSON(status, problem, map[string]any{"error_code": status, "message": problem})
	}
	claims, err := v.bearer()
	if err != nil {
		deny(http.StatusForbidden, "Invalid access token.")
		v.call.Problem = err.Error()
		return
	}
	if !v.a.opts.Stranger {
		writeJSON(v.w, http.StatusOK, map[string]any{"clusters": []any{}})
		return
	}
	second := v.r.Header.Get("X-Databricks-Azure-SP-Management-Token")
	if second == "" {
		deny(http.StatusForbidden, "The service principal is not in the workspace: X-Databricks-Azure-SP-Management-Token is missing.")
		return
	}
	arm, err := v.verify(second, []string{managementForData, managementForData + "/", "https://management.azure.com", "https://management.azure.com/"})
	switch {
	case err != nil || text(arm, "oid") != text(claims, "oid"):
		deny(http.StatusForbidden, "The management token is not one for ARM of the same service principal.")
	case v.r.Header.Get("X-Databricks-Azure-Workspace-Resource-Id") != DatabricksID:
		deny(http.StatusForbidden, "X-Databricks-Azure-Workspace-Resource-Id is missing or names another workspace.")
	default:
		writeJSON(v.w, http.StatusOK, map[string]any{"clusters": []any{}})
	}
}

// keyVault judges a call of a vault.
func (v *visit) keyVault() {
	deny := func(status int, code, message string) {
		v.refuseJSON(status, message, map[string]any{"error": map[string]string{"code": code, "message": message}})
	}
	if _, err := v.bearer(); err != nil {
		v.w.Header().Set("WWW-Authenticate", `Bearer authorization="`+v.a.entra.URL()+"/"+TenantID+`", resource="https://vault.azure.net"`)
		message := "AKV10032: Invalid token. " + err.Error()
		if v.r.Header.Get("Authorization") == "" {
			message = "AKV10000: Request is missing a Bearer or PoP token."
		}
		deny(http.StatusUnauthorized, "Unauthorized", message)
		return
	}
	if v.r.URL.Query().Get("api-version") == "" {
		deny(http.StatusBadRequest, "BadParameter", "api-version must be specified")
		return
	}
	name := strings.TrimPrefix(v.r.URL.Path, "/secrets/")
	writeJSON(v.w, http.StatusOK, map[string]any{
		"value": "a secret of the sandbox", "id": "https://" + VaultHost + "/secrets/" + clip(name, 127) + "/0123456789abcdef0123456789abcdef",
		"attributes": map[string]any{"enabled": true},
	})
}
