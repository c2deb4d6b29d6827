package sandbox_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

func TestMetadataNamesTheTenantByGUID(t *testing.T) {
	w := world(t, sandbox.Options{})
	for _, tenant := range []string{sandbox.TenantID, sandbox.TenantDomain, strings.ToUpper(sandbox.TenantID)} {
		a := do(t, request(t, "GET", w.Entra.URL()+"/"+tenant+"/v2.0/.well-known/openid-configuration", ""))
		base := w.Entra.URL() + "/" + sandbox.TenantID
		for name, want := range map[string]string{
			"issuer": base + "/v2.0", "token_endpoint": base + "/oauth2/v2.0/token", "jwks_uri": base + "/discovery/v2.0/keys",
			"authorization_endpoint": base + "/oauth2/v2.0/authorize",
			"tenant_region_scope":    "EU", "cloud_instance_name": "microsoftonline.com",
		} {
			if a.str(name) != want {
				t.Errorf("%s of %s = %q, want %q", name, tenant, a.str(name), want)
			}
		}
		keyFrom(t, do(t, request(t, "GET", a.str("jwks_uri"), "")))
	}
}

func TestMetadataOfCommonHasAPlaceholderForItsIssuer(t *testing.T) {
	w := world(t, sandbox.Options{})
	a := do(t, request(t, "GET", w.Entra.URL()+"/common/v2.0/.well-known/openid-configuration", ""))
	if want := w.Entra.URL() + "/{tenantid}/v2.0"; a.str("issuer") != want {
		t.Errorf("issuer = %q, want %q", a.str("issuer"), want)
	}
}

func TestMetadataOfUnknownTenantIsRefused(t *testing.T) {
	w := world(t, sandbox.Options{})
	for _, path := range []string{"/nowhere.example/v2.0/.well-known/openid-configuration", "/nowhere.example/discovery/v2.0/keys"} {
		if a := do(t, request(t, "GET", w.Entra.URL()+path, "")); a.code() != 90002 || a.status != http.StatusBadRequest {
			t.Errorf("%s = %d %s, want AADSTS90002", path, a.status, a.raw)
		}
	}
}

func TestAddressesFollowTheNameThatTheClientUsed(t *testing.T) {
	w := world(t, sandbox.Options{})
	r := request(t, "GET", w.Entra.URL()+"/"+sandbox.TenantID+"/v2.0/.well-known/openid-configuration", "")
	r.Host = "login.microsoftonline.com"
	if got, want := do(t, r).str("issuer"), "https://login.microsoftonline.com/"+sandbox.TenantID+"/v2.0"; got != want {
		t.Errorf("issuer = %q, want %q", got, want)
	}
}

func TestInstanceDiscoveryKnowsThisHostAndTheClouds(t *testing.T) {
	w := world(t, sandbox.Options{})
	ask := func(endpoint string) answer {
		return do(t, request(t, "GET", w.Entra.URL()+"/common/discovery/instance?api-version=1.1&authorization_endpoint="+
			url.QueryEscape(endpoint), ""))
	}
	for _, host := range []string{w.Entra.URL(), "https://login.microsoftonline.com", "https://login.usgovcloudapi.net", "https://login.partner.microsoftonline.cn"} {
		a := ask(host + "/" + sandbox.TenantID + "/oauth2/v2.0/authorize")
		want := host + "/" + sandbox.TenantID + "/v2.0/.well-known/openid-configuration"
		meta, _ := a.json["metadata"].([]any)
		if a.str("tenant_discovery_endpoint") != want || len(meta) != 4 {
			t.Errorf("answer for %s = %s, want %s and four networks", host, a.raw, want)
		}
	}
	if a := ask("https://login.example/x/oauth2/v2.0/authorize"); a.str("error") != "invalid_instance" || a.code() != 50049 {
		t.Errorf("foreign host = %d %s, want invalid_instance", a.status, a.raw)
	}
}

func TestDiscoveryOnlyAnswersGET(t *testing.T) {
	w := world(t, sandbox.Options{})
	for _, path := range []string{
		"/common/discovery/instance", "/" + sandbox.TenantID + "/discovery/v2.0/keys",
		"/" + sandbox.TenantID + "/v2.0/.well-known/openid-configuration",
	} {
		if a := do(t, request(t, "POST", w.Entra.URL()+path, "")); a.status != http.StatusMethodNotAllowed {
			t.Errorf("POST %s = %d, want 405", path, a.status)
		}
	}
	if a := do(t, request(t, "GET", w.Entra.URL()+"/elsewhere", "")); a.status != http.StatusNotFound {
		t.Errorf("unknown path = %d, want 404", a.status)
	}
}
