package sandbox_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

func TestManagedIdentityProvesAnAppRegistration(t *testing.T) {
	w := world(t, sandbox.Options{})
	_, one, two := identities(t, w)
	h := host(t, sandbox.HostOptions{World: w, Kind: sandbox.IMDS, Identities: []sandbox.ManagedIdentity{one, two}})
	assertion := identityToken(t, h, sandbox.IMDS, sandbox.TokenExchangeAudience, "client_id", one.ClientID).str("access_token")
	if a := present(t, w, assertion); a.code() != 70021 {
		t.Errorf("not registered = %d %s, want AADSTS70021", a.status, a.raw)
	}
	err := w.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: w.Entra.URL() + "/" + sandbox.TenantID + "/v2.0", Subject: one.ObjectID})
	if err != nil {
		t.Fatal(err)
	}
	a := present(t, w, assertion)
	if a.status != http.StatusOK || claimsOf(t, a.str("access_token"))["appid"] != sandbox.ClientID {
		t.Errorf("registered = %d %s, want a token of the app", a.status, a.raw)
	}
	other := identityToken(t, h, sandbox.IMDS, sandbox.TokenExchangeAudience, "client_id", two.ClientID).str("access_token")
	if a := present(t, w, other); a.code() != 700213 {
		t.Errorf("another identity = %d %s, want AADSTS700213", a.status, a.raw)
	}
}

func TestEachCloudHasItsAudienceOfFederation(t *testing.T) {
	w := world(t, sandbox.Options{})
	_, one, _ := identities(t, w)
	h := host(t, sandbox.HostOptions{World: w, Kind: sandbox.IMDS, Identities: []sandbox.ManagedIdentity{one}})
	const gov = "api://AzureADTokenExchangeUSGov"
	assertion := identityToken(t, h, sandbox.IMDS, gov).str("access_token")
	f := sandbox.Federated{Issuer: w.Entra.URL() + "/" + sandbox.TenantID + "/v2.0", Subject: one.ObjectID}
	for aud, want := range map[string]int{"": 700212, gov: 0} {
		id, err := w.Entra.RegisterApp(sandbox.App{Name: "gov" + aud})
		if err != nil {
			t.Fatal(err)
		}
		f.Audience = aud
		if err := w.Entra.AddFederated(id, f); err != nil {
			t.Fatal(err)
		}
		a := post(t, w, sandbox.TenantID, url.Values{
			"grant_type": {"client_credentials"}, "client_id": {id}, "scope": {graphScope}, "client_assertion": {assertion},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		})
		if a.code() != want || (want == 0) != (a.status == http.StatusOK) {
			t.Errorf("audience %q = %d %s, want AADSTS%d", aud, a.status, a.raw, want)
		}
	}
}

func TestOnlyAnAppOfTheSameTenantIsProvenByAnIdentity(t *testing.T) {
	w := world(t, sandbox.Options{})
	const other = "bbbbcccc-1111-dddd-2222-eeee3333ffff"
	if err := w.Entra.AddTenant(other, ""); err != nil {
		t.Fatal(err)
	}
	stranger, err := w.Entra.AddManagedIdentity(sandbox.ManagedIdentity{Tenant: other})
	if err != nil {
		t.Fatal(err)
	}
	vm := host(t, sandbox.HostOptions{World: w, Kind: sandbox.IMDS, Identities: []sandbox.ManagedIdentity{stranger}})
	shell := host(t, sandbox.HostOptions{World: w, Kind: sandbox.CloudShell})
	for _, tt := range []struct {
		assertion string
		code      int
	}{
		{identityToken(t, vm, sandbox.IMDS, sandbox.TokenExchangeAudience).str("access_token"), 700236},
		{identityToken(t, shell, sandbox.CloudShell, sandbox.TokenExchangeAudience).str("access_token"), 700229},
	} {
		c := claimsOf(t, tt.assertion)
		err := w.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: c["iss"].(string), Subject: c["sub"].(string)})
		if err != nil {
			t.Fatal(err)
		}
		if a := present(t, w, tt.assertion); a.code() != tt.code {
			t.Errorf("answer = %d %s, want AADSTS%d", a.status, a.raw, tt.code)
		}
	}
}
