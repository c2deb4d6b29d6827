package authority_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

const (
	tenantA = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
	tenantB = "bbbbcccc-1111-dddd-2222-eeee3333ffff"
)

func TestHintsAreReadAsAzureWritesThem(t *testing.T) {
	tests := map[string]struct {
		lines            []string
		tenant, resource string
	}{
		"Storage":           {[]string{`Bearer authorization_uri=https://login.microsoftonline.com/` + tenantB + `/oauth2/authorize resource_id=https://storage.azure.com`}, tenantB, "https://storage.azure.com"},
		"Key Vault":         {[]string{`Bearer authorization="https://login.microsoftonline.com/` + strings.ToUpper(tenantB) + `", resource="https://vault.azure.net"`}, tenantB, "https://vault.azure.net"},
		"ARM":               {[]string{`Bearer authorization_uri="https://login.windows.net/` + tenantB + `", error="invalid_token", error_description="The access token is from the wrong issuer."`}, tenantB, ""},
		"DevOps":            {[]string{`Bearer authorization_uri=https://login.microsoftonline.com/` + tenantB, `Basic realm="https://dev.azure.com/"`, `TFS-Federated`}, tenantB, ""},
		"DevOps, no tenant": {[]string{`Bearer authorization_uri=https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000`}, "", ""},
		"Graph":             {[]string{`Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000"`}, "", ""},
		"organizations":     {[]string{`Bearer authorization_uri="https://login.microsoftonline.com/organizations/oauth2/v2.0/authorize"`}, "", ""},
		"a domain":          {[]string{`Bearer authorization_uri="https://login.microsoftonline.com/contoso.onmicrosoft.com"`}, "", ""},
		"two tenants":       {[]string{`Bearer authorization_uri="https://login.test/` + tenantA + `"`, `Bearer authorization_uri="https://login.test/` + tenantB + `", resource_id="x"`}, "", "x"},
		"common beside one": {[]string{`Bearer authorization_uri="https://login.test/common", PoP authorization_uri="https://login.test/` + tenantB + `"`}, "", ""},
		"Basic":             {[]string{`Basic authorization_uri="https://login.test/` + tenantB + `"`}, "", ""},
		"not a URL":         {[]string{`Bearer authorization_uri="%zz"`}, "", ""},
		"too long":          {[]string{`Bearer resource_id="x", a="` + strings.Repeat("x", 70<<10) + `"`}, "", ""},
		"nothing":           {nil, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := authority.Hints(tt.lines); got.Tenant != tt.tenant || got.Resource != tt.resource {
				t.Errorf("Hints(%q) = %+v, want %q and %q", tt.lines, got, tt.tenant, tt.resource)
			}
		})
	}
}

func TestOnlyCertainMismatchIsOne(t *testing.T) {
	entra := &routes.Credential{Name: "default", TenantID: tenantA, AuthorityHost: "https://login.microsoftonline.com"}
	domain := &routes.Credential{Name: "default", TenantID: "contoso.onmicrosoft.com", AuthorityHost: "https://login.microsoftonline.com"}
	managed := &routes.Credential{Name: "mi", ManagedIdentity: &routes.ManagedIdentity{}}
	other := &routes.Credential{Name: "kc", TokenEndpoint: "https://kc.test/token"}
	tests := map[string]struct {
		hints       authority.ChallengeHints
		credential  *routes.Credential
		scope, host string
		want        string // in remark and remedy
	}{
		"other tenant":             {authority.ChallengeHints{Tenant: tenantB}, entra, "https://vault.azure.net/.default", "v.vault.azure.net", tenantB},
		"same tenant":              {authority.ChallengeHints{Tenant: tenantA}, entra, "https://vault.azure.net/.default", "v.vault.azure.net", ""},
		"tenant by domain":         {authority.ChallengeHints{Tenant: tenantB}, domain, "https://vault.azure.net/.default", "v.vault.azure.net", ""},
		"managed identity":         {authority.ChallengeHints{Tenant: tenantB}, managed, "https://vault.azure.net/.default", "v.vault.azure.net", ""},
		"other server":             {authority.ChallengeHints{Tenant: tenantB, Resource: "https://vault.azure.net"}, other, "https://storage.azure.com/.default", "x", ""},
		"other resource":           {authority.ChallengeHints{Resource: "https://vault.azure.net"}, entra, "https://storage.azure.com/.default", "v.vault.azure.net", "https://vault.azure.net"},
		"managed, other resource":  {authority.ChallengeHints{Resource: "https://vault.azure.net"}, managed, "https://storage.azure.com/.default", "v.vault.azure.net", "https://vault.azure.net"},
		"other case and slash":     {authority.ChallengeHints{Resource: "https://VAULT.azure.net/"}, entra, "https://vault.azure.net/.default", "v.vault.azure.net", ""},
		"account's own audience":   {authority.ChallengeHints{Resource: "https://storage.azure.com"}, entra, "https://acct.blob.core.windows.net/.default", "acct.blob.core.windows.net", ""},
		"ARM under its older name": {authority.ChallengeHints{Resource: "https://management.core.windows.net/"}, entra, "https://management.azure.com/.default", "management.azure.com", ""},
		"resource by GUID":         {authority.ChallengeHints{Resource: tenantB}, entra, "https://storage.azure.com/.default", "x", ""},
		"scope by api://":          {authority.ChallengeHints{Resource: "https://vault.azure.net"}, entra, "api://x/.default", "x", ""},
		"no hint":                  {authority.ChallengeHints{}, entra, "https://storage.azure.com/.default", "x", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			remark, remedy := tt.hints.Mismatch(tt.credential, tt.scope, tt.host, secrets.New("opaque"))
			if tt.want == "" && remark+remedy != "" || !strings.Contains(remark, tt.want) || !strings.Contains(remedy, tt.want) {
				t.Errorf("Mismatch = %q, %q; want both with %q", remark, remedy, tt.want)
			}
		})
	}
}

func TestTokenThatFitsSpeaksAgainstAMismatch(t *testing.T) {
	c := &routes.Credential{Name: "default", TenantID: tenantA, Fallback: "older"}
	for name, tt := range map[string]struct {
		hints    authority.ChallengeHints
		claims   jwt.MapClaims
		mismatch bool
	}{
		"a fallback's tenant":    {authority.ChallengeHints{Tenant: tenantB}, jwt.MapClaims{"tid": tenantB}, false},
		"the same wrong one":     {authority.ChallengeHints{Tenant: tenantB}, jwt.MapClaims{"tid": tenantA}, true},
		"the audience after all": {authority.ChallengeHints{Resource: "https://cosmos.azure.com"}, jwt.MapClaims{"aud": "https://cosmos.azure.com"}, false},
		"another audience":       {authority.ChallengeHints{Resource: "https://cosmos.azure.com"}, jwt.MapClaims{"aud": "https://vault.azure.net"}, true},
	} {
		access, err := jwt.NewWithClaims(jwt.SigningMethodHS256, tt.claims).SignedString([]byte("k"))
		if err != nil {
			t.Fatal(err)
		}
		remark, _ := tt.hints.Mismatch(c, "https://vault.azure.net/.default", "x.test", secrets.New(access))
		if (remark != "") != tt.mismatch {
			t.Errorf("%s: remark %q, want one: %v", name, remark, tt.mismatch)
		}
	}
}

func TestDeniedNamesTheRolesAndWhereToConsent(t *testing.T) {
	jwtOf := func(roles ...string) secrets.Secret {
		s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"aud": "https://graph.microsoft.com", "roles": roles}).SignedString([]byte("k"))
		if err != nil {
			t.Fatal(err)
		}
		return secrets.New(s)
	}
	app := &routes.Credential{Name: "default", TenantID: tenantA, ClientID: "c1", AuthorityHost: "https://login.microsoftonline.us"}
	const link = "https://login.microsoftonline.us/" + tenantA + "/adminconsent?client_id=c1"
	for name, tt := range map[string]struct {
		credential     *routes.Credential
		access         secrets.Secret
		remark, remedy string
	}{
		"some roles":       {app, jwtOf("User.Read.All", "Mail.Send"), "https://graph.microsoft.com holds the application permissions User.Read.All, Mail.Send", link},
		"no roles":         {app, jwtOf(), "no application permissions", link},
		"many roles":       {app, jwtOf(strings.Split(strings.Repeat("Role.Read.All ", 30), " ")...), "and 11 more", link},
		"huge roles":       {app, jwtOf(strings.Repeat("é", 5000)), "…", link},
		"managed identity": {&routes.Credential{ManagedIdentity: &routes.ManagedIdentity{}}, jwtOf(), "no application permissions", "managed identity"},
		"opaque":           {app, secrets.New("opaque"), "", ""},
		"other server":     {&routes.Credential{TokenEndpoint: "https://kc.test/token"}, jwtOf(), "", ""},
	} {
		remark, remedy := authority.Denied(tt.credential, tt.access).Of("GET", "/beta/users")
		if !strings.Contains(remark, tt.remark) || !strings.Contains(remedy, tt.remedy) || (tt.remark == "") != (remark == "") || len(remark) > 2<<10 {
			t.Errorf("%s: Denied.Of = %q, %q; want %q, %q", name, remark, remedy, tt.remark, tt.remedy)
		}
	}
}

func FuzzHints(f *testing.F) {
	f.Add(`Bearer authorization_uri=https://login.microsoftonline.com/` + tenantB + `/oauth2/authorize resource_id=https://storage.azure.com`)
	f.Add(`Bearer authorization="https://login.test/common", resource="x", PoP`)
	entra := &routes.Credential{Name: "default", TenantID: tenantA}
	f.Fuzz(func(t *testing.T, line string) {
		h := authority.Hints([]string{line})
		remark, remedy := h.Mismatch(entra, "https://graph.microsoft.com/.default", "graph.microsoft.com", secrets.Secret{})
		if (remark == "") != (remedy == "") || strings.ContainsAny(remark+remedy, "\r\n\x00") {
			t.Errorf("Hints(%q) gave %q, %q", line, remark, remedy)
		}
	})
}

func ExampleHints() {
	h := authority.Hints([]string{`Bearer authorization="https://login.microsoftonline.com/` + tenantB + `", resource="https://vault.azure.net"`})
	fmt.Println(h.Tenant, h.Resource)
	// Output: bbbbcccc-1111-dddd-2222-eeee3333ffff https://vault.azure.net
}
