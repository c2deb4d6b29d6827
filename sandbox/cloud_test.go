package sandbox_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

const (
	govTenant   = "11110000-2222-3333-4444-555566667777"
	chinaTenant = "22220000-2222-3333-4444-555566667777"
)

func TestTenantOfAnotherCloudIsRefusedWithThatCloudsName(t *testing.T) {
	w := world(t, sandbox.Options{})
	for _, tt := range []struct {
		foreign sandbox.ForeignTenant
		code    int
		words   string
	}{
		{sandbox.ForeignTenant{ID: govTenant, Domain: "agency.us", Cloud: sandbox.USGov}, 900439, "https://login.microsoftonline.us"},
		{sandbox.ForeignTenant{ID: chinaTenant, Cloud: sandbox.China}, 90038, "partner.microsoftonline.cn"},
		{sandbox.ForeignTenant{ID: chinaTenant, Cloud: sandbox.China, Code: 900382}, 900382, "Cross Cloud"},
		{sandbox.ForeignTenant{ID: govTenant, Cloud: sandbox.USGovDoD, Code: 900432}, 900432, "Cross Cloud"},
		{sandbox.ForeignTenant{ID: "33330000-2222-3333-4444-555566667777", Cloud: sandbox.USGov, Code: 90002}, 90002, "signing into the correct cloud"},
	} {
		if err := w.Entra.AddForeignTenant(tt.foreign); err != nil {
			t.Fatal(err)
		}
		a := post(t, w, tt.foreign.ID, secretForm(w))
		if a.status != http.StatusBadRequest || a.code() != tt.code || !strings.Contains(a.str("error_description"), tt.words) {
			t.Errorf("%+v = %d %s, want AADSTS%d with %q", tt.foreign, a.status, a.raw, tt.code, tt.words)
		}
	}
	if a := post(t, w, "agency.us", secretForm(w)); a.code() != 900439 {
		t.Errorf("by domain = %d %s, want AADSTS900439", a.status, a.raw)
	}
}

func TestDiscoverySendsToTheRightCloud(t *testing.T) {
	w := world(t, sandbox.Options{})
	for _, f := range []sandbox.ForeignTenant{{ID: govTenant, Cloud: sandbox.USGovDoD}, {ID: chinaTenant, Cloud: sandbox.China}} {
		if err := w.Entra.AddForeignTenant(f); err != nil {
			t.Fatal(err)
		}
	}
	for tenant, want := range map[string]map[string]string{
		govTenant: {
			"cloud_instance_name": "microsoftonline.us", "tenant_region_scope": "USGov", "tenant_region_sub_scope": "DOD",
			"msgraph_host": "dod-graph.microsoft.us", "token_endpoint": "https://login.microsoftonline.us/" + govTenant + "/oauth2/v2.0/token",
		},
		chinaTenant: {
			"cloud_instance_name": "partner.microsoftonline.cn", "tenant_region_sub_scope": "",
			"issuer": "https://login.partner.microsoftonline.cn/" + chinaTenant + "/v2.0",
		},
		sandbox.TenantID: {"cloud_instance_name": "microsoftonline.com", "tenant_region_scope": "EU", "tenant_region_sub_scope": ""},
	} {
		a := do(t, request(t, "GET", w.Entra.URL()+"/"+tenant+"/v2.0/.well-known/openid-configuration", ""))
		for name, value := range want {
			if a.str(name) != value {
				t.Errorf("%s of %s = %q, want %q", name, tenant, a.str(name), value)
			}
		}
	}
}

func TestAnEntraOfAnotherCloudSaysSo(t *testing.T) {
	w := world(t, sandbox.Options{})
	if err := w.Entra.SetCloud(sandbox.USGov); err != nil {
		t.Fatal(err)
	}
	a := do(t, request(t, "GET", w.Entra.URL()+"/"+sandbox.TenantID+"/v2.0/.well-known/openid-configuration", ""))
	if a.str("cloud_instance_name") != "microsoftonline.us" || a.str("tenant_region_sub_scope") != "DODCON" ||
		!strings.HasPrefix(a.str("token_endpoint"), w.Entra.URL()) {
		t.Errorf("metadata = %s, want US Government at this address", a.raw)
	}
	if err := w.Entra.AddForeignTenant(sandbox.ForeignTenant{ID: chinaTenant, Cloud: sandbox.Public}); err != nil {
		t.Fatal(err)
	}
	a = post(t, w, chinaTenant, secretForm(w))
	if a.code() != 90038 || !strings.Contains(a.str("error_description"), "Current cloud instance 'microsoftonline.us'") {
		t.Errorf("public tenant = %d %s, want AADSTS90038", a.status, a.raw)
	}
}

func TestCloudsThatDoNotExistAreRefused(t *testing.T) {
	w := world(t, sandbox.Options{})
	if err := w.Entra.SetCloud("germany"); err == nil {
		t.Error("SetCloud(germany) = nil, want an error")
	}
	for _, f := range []sandbox.ForeignTenant{
		{ID: govTenant}, {ID: "x", Cloud: sandbox.USGov}, {ID: govTenant, Cloud: sandbox.USGov, Code: 7000215},
	} {
		if err := w.Entra.AddForeignTenant(f); err == nil {
			t.Errorf("AddForeignTenant(%+v) = nil, want an error", f)
		}
	}
}
