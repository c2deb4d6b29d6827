package sandbox_test

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// claimsOf decodes a token without judging it.
func claimsOf(t testing.TB, raw string) jwt.MapClaims {
	t.Helper()
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(raw, claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestTokenHasTheClaimsOfAnAppOnlyToken(t *testing.T) {
	w := world(t, sandbox.Options{})
	c := claimsOf(t, token(t, w, ""))
	want := map[string]string{
		"aud": sandbox.GraphResource, "iss": "https://sts.windows.net/" + sandbox.TenantID + "/",
		"tid": sandbox.TenantID, "appid": sandbox.ClientID, "idtyp": "app", "ver": "1.0", "app_displayname": sandbox.AppName,
	}
	for name, value := range want {
		if c[name] != value {
			t.Errorf("%s = %v, want %s", name, c[name], value)
		}
	}
	if c["oid"] == "" || c["oid"] != c["sub"] || c["uti"] == "" {
		t.Errorf("oid, sub, uti = %v, %v, %v", c["oid"], c["sub"], c["uti"])
	}
	roles, _ := json.Marshal(c["roles"])
	if string(roles) != `["Group.Read.All","User.Read.All"]` {
		t.Errorf("roles = %s", roles)
	}
	if exp, iat := c["exp"].(float64), c["iat"].(float64); exp-iat != 3599 {
		t.Errorf("exp - iat = %v, want 3599", exp-iat)
	}
	if _, ok := c["xms_cc"]; ok {
		t.Error("xms_cc is there, want it only for cp1")
	}
}

func TestEveryTokenIsAnother(t *testing.T) {
	w := world(t, sandbox.Options{})
	first, second := token(t, w, ""), token(t, w, "")
	if first == second {
		t.Error("two requests got one token")
	}
	if got := w.Entra.Issued(); got != 2 {
		t.Errorf("Issued() = %d, want 2", got)
	}
}

func TestTokenIsSignedByThePublishedKeys(t *testing.T) {
	w := world(t, sandbox.Options{})
	keys := do(t, request(t, "GET", w.Entra.URL()+"/"+sandbox.TenantID+"/discovery/v2.0/keys", ""))
	raw := token(t, w, "")
	if _, err := jwt.Parse(raw, keyFrom(t, keys), jwt.WithValidMethods([]string{"RS256"}),
		jwt.WithAudience(sandbox.GraphResource), jwt.WithExpirationRequired()); err != nil {
		t.Errorf("Parse = %v, want a valid token", err)
	}
}

func TestAudienceIsAllBeforeTheLastSlash(t *testing.T) {
	w := world(t, sandbox.Options{})
	for scope, want := range map[string]string{
		"https://database.windows.net//.default":            "https://database.windows.net/",
		"https://database.windows.net/.default":             "https://database.windows.net",
		sandbox.GraphAppID + "/.default":                    sandbox.GraphAppID,
		"api://" + sandbox.ClientID + "/.default":           "api://" + sandbox.ClientID,
		sandbox.ClientID + "/.default":                      sandbox.ClientID,
		"openid offline_access profile " + graphScope + " ": sandbox.GraphResource,
		"https://management.core.windows.net//.default":     "https://management.core.windows.net/",
		"https://management.azure.com/.default":             "https://management.azure.com",
	} {
		form := secretForm(w)
		form.Set("scope", scope)
		a := post(t, w, sandbox.TenantID, form)
		if a.status != http.StatusOK {
			t.Errorf("scope %q = %d %s", scope, a.status, a.raw)
			continue
		}
		if c := claimsOf(t, a.str("access_token")); c["aud"] != want {
			t.Errorf("scope %q: aud = %v, want %v", scope, c["aud"], want)
		}
	}
}

func TestRolesFollowGrantsPerResource(t *testing.T) {
	w := world(t, sandbox.Options{})
	form := secretForm(w)
	form.Set("scope", "https://management.azure.com/.default")
	if c := claimsOf(t, post(t, w, sandbox.TenantID, form).str("access_token")); c["roles"] != nil {
		t.Errorf("roles for ARM = %v, want no such member", c["roles"])
	}
	if err := w.Entra.Grant(sandbox.ClientID, sandbox.GraphAppID, "Mail.Send"); err != nil {
		t.Fatal(err)
	}
	if c := claimsOf(t, token(t, w, "")); len(c["roles"].([]any)) != 3 {
		t.Errorf("roles = %v, want three after a grant by the other name", c["roles"])
	}
	if err := w.Entra.Ungrant(sandbox.ClientID, sandbox.GraphResource); err != nil {
		t.Fatal(err)
	}
	if c := claimsOf(t, token(t, w, "")); c["roles"] != nil {
		t.Errorf("roles = %v, want none after Ungrant", c["roles"])
	}
}

func TestRefusalsOfTheTokenEndpoint(t *testing.T) {
	w := world(t, sandbox.Options{})
	expired, err := w.Entra.AddSecret(sandbox.ClientID, sandbox.Secret{Expires: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		tenant string
		change url.Values // nil values delete
		status int
		oauth  string
		code   int
	}{
		{"wrong secret", "", url.Values{"client_secret": {"nope"}}, 401, "invalid_client", 7000215},
		{"secret ID", "", url.Values{"client_secret": {expired.KeyID}}, 401, "invalid_client", 7000215},
		{"expired secret", "", url.Values{"client_secret": {expired.Value}}, 401, "invalid_client", 7000222},
		{"empty secret", "", url.Values{"client_secret": {""}}, 401, "invalid_client", 7000218},
		{"no credential", "", url.Values{"client_secret": nil}, 401, "invalid_client", 7000216},
		{"unknown app", "", url.Values{"client_id": {sandbox.TenantID}}, 400, "unauthorized_client", 700016},
		{"no client_id", "", url.Values{"client_id": nil}, 400, "invalid_request", 900144},
		{"unknown tenant", "fabrikam.onmicrosoft.com", nil, 400, "invalid_request", 90002},
		{"unknown tenant GUID", sandbox.ClientID, nil, 400, "invalid_request", 90002},
		{"malformed tenant", "no_such", nil, 400, "invalid_request", 900023},
		{"common", "common", nil, 400, "invalid_request", 50059},
		{"no grant", "", url.Values{"grant_type": nil}, 400, "invalid_request", 900144},
		{"other grant", "", url.Values{"grant_type": {"password"}}, 400, "unsupported_grant_type", 70003},
		{"no scope", "", url.Values{"scope": nil}, 400, "invalid_request", 900144},
		{"scope without .default", "", url.Values{"scope": {"https://graph.microsoft.com/User.Read.All"}}, 400, "invalid_scope", 1002012},
		{"two resources", "", url.Values{"scope": {graphScope + " https://vault.azure.net/.default"}}, 400, "invalid_scope", 28000},
		{"scope twice", "", url.Values{"scope": {graphScope + " " + graphScope}}, 400, "invalid_scope", 70011},
		{"scope without resource", "", url.Values{"scope": {"/.default"}}, 400, "invalid_scope", 70011},
		{"unknown resource", "", url.Values{"scope": {"https://api.example/.default"}}, 400, "invalid_resource", 500011},
		{"slashes without end", "", url.Values{"scope": {"https://graph.microsoft.com///.default"}}, 400, "invalid_resource", 500011},
		{"resource parameter", "", url.Values{"resource": {sandbox.GraphResource}}, 400, "invalid_request", 901002},
		{"parameter twice", "", url.Values{"scope": {graphScope, graphScope}}, 400, "invalid_request", 9002313},
		{"claims no JSON", "", url.Values{"claims": {"eyJhY2Nlc3M"}}, 400, "invalid_request", 9002313},
		{"secret and assertion", "", url.Values{"client_assertion": {"a.b.c"}}, 400, "invalid_request", 9002313},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			form := secretForm(w)
			for k, v := range tt.change {
				if form[k] = v; v == nil {
					delete(form, k)
				}
			}
			a := post(t, w, cmp.Or(tt.tenant, sandbox.TenantID), form)
			if a.status != tt.status || a.str("error") != tt.oauth || a.code() != tt.code {
				t.Errorf("answer = %d %s, want %d %s %d", a.status, a.raw, tt.status, tt.oauth, tt.code)
			}
			if strings.Contains(string(a.raw), w.Secret()) {
				t.Error("the answer repeats a secret")
			}
		})
	}
}

func TestRefusalHasTheWholeErrorBody(t *testing.T) {
	w := world(t, sandbox.Options{})
	const id = "12345678-1234-4234-8234-123456789abc"
	r := request(t, "POST", w.Entra.TokenURL(sandbox.TenantID), "grant_type=client_credentials")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("client-request-id", id)
	r.Header.Set("return-client-request-id", "true")
	a := do(t, r)
	if a.str("correlation_id") != id || a.header.Get("client-request-id") != id {
		t.Errorf("correlation = %q, header %q, want the client's", a.str("correlation_id"), a.header.Get("client-request-id"))
	}
	if a.str("trace_id") == "" || a.str("trace_id") != a.header.Get("x-ms-request-id") {
		t.Errorf("trace_id = %q, x-ms-request-id = %q, want one value", a.str("trace_id"), a.header.Get("x-ms-request-id"))
	}
	if a.str("error_uri") != w.Entra.URL()+"/error?code=900144" {
		t.Errorf("error_uri = %q", a.str("error_uri"))
	}
	if _, err := time.Parse("2006-01-02 15:04:05Z", a.str("timestamp")); err != nil {
		t.Error(err)
	}
	want := regexp.MustCompile(`^AADSTS900144: .* Trace ID: [0-9a-f-]{36} Correlation ID: ` + id + ` Timestamp: .*Z$`)
	if !want.MatchString(a.str("error_description")) {
		t.Errorf("error_description = %q", a.str("error_description"))
	}
}

func TestBodiesThatAreNoFormAreRefused(t *testing.T) {
	w := world(t, sandbox.Options{})
	for _, tt := range []struct {
		method, kind, body string
		code               int
	}{
		{"GET", "", "", 900561},
		{"POST", "application/json", `{"grant_type":"client_credentials"}`, 900144},
		{"POST", "application/x-www-form-urlencoded", "a=%zz", 9002313},
		{"POST", "application/x-www-form-urlencoded", strings.Repeat("a", 2<<20), 9002313},
	} {
		r := request(t, tt.method, w.Entra.TokenURL(sandbox.TenantID), tt.body)
		r.Header.Set("Content-Type", tt.kind)
		if a := do(t, r); a.code() != tt.code || a.status != http.StatusBadRequest {
			t.Errorf("%s %s = %d %s, want %d", tt.method, tt.kind, a.status, a.raw, tt.code)
		}
	}
}

func TestBasicHalvesAreFormEncoded(t *testing.T) {
	w := world(t, sandbox.Options{})
	s, err := w.Entra.AddSecret(sandbox.ClientID, sandbox.Secret{Value: "a%b&c+d: é/=~"})
	if err != nil {
		t.Fatal(err)
	}
	send := func(user, password, extra string) answer {
		r := request(t, "POST", w.Entra.TokenURL(sandbox.TenantID),
			"grant_type=client_credentials&scope="+url.QueryEscape(graphScope)+extra)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(user, password)
		return do(t, r)
	}
	if a := send(sandbox.ClientID, url.QueryEscape(s.Value), ""); a.status != http.StatusOK {
		t.Errorf("encoded: %d %s, want 200", a.status, a.raw)
	}
	if a := send(sandbox.ClientID, s.Value, ""); a.status != http.StatusUnauthorized {
		t.Errorf("not encoded: %d %s, want 401", a.status, a.raw)
	}
	if a := send(sandbox.ClientID, url.QueryEscape(s.Value), "&client_secret=x"); a.code() != 9002313 {
		t.Errorf("Basic and body: %d %s, want AADSTS9002313", a.status, a.raw)
	}
}

func TestSecretsRotate(t *testing.T) {
	w := world(t, sandbox.Options{})
	old := w.Secret()
	next, err := w.Entra.AddSecret(sandbox.ClientID, sandbox.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	form := secretForm(w)
	for _, s := range []string{old, next.Value} {
		form.Set("client_secret", s)
		if a := post(t, w, sandbox.TenantID, form); a.status != http.StatusOK {
			t.Errorf("with both registered: %d %s", a.status, a.raw)
		}
	}
	if err := w.Entra.RemoveSecret(sandbox.ClientID, old); err != nil {
		t.Fatal(err)
	}
	form.Set("client_secret", old)
	if a := post(t, w, sandbox.TenantID, form); a.code() != 7000215 {
		t.Errorf("removed secret: %d %s, want AADSTS7000215", a.status, a.raw)
	}
	w.Skew(3 * 365 * 24 * time.Hour)
	form.Set("client_secret", next.Value)
	if a := post(t, w, sandbox.TenantID, form); a.code() != 7000222 {
		t.Errorf("three years on: %d %s, want AADSTS7000222", a.status, a.raw)
	}
}

func TestAppIsKnownOnlyInItsTenants(t *testing.T) {
	w := world(t, sandbox.Options{})
	const other = "bbbbcccc-1111-dddd-2222-eeee3333ffff"
	if err := w.Entra.AddTenant(other, "fabrikam.com"); err != nil {
		t.Fatal(err)
	}
	if a := post(t, w, "fabrikam.com", secretForm(w)); a.code() != 700016 {
		t.Errorf("foreign tenant: %d %s, want AADSTS700016", a.status, a.raw)
	}
	id, err := w.Entra.RegisterApp(sandbox.App{Name: "both", Tenants: []string{sandbox.TenantDomain, "fabrikam.com"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.Entra.AddSecret(id, sandbox.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	form := secretForm(w)
	form.Set("client_id", strings.ToUpper(id))
	form.Set("client_secret", s.Value)
	oids := map[any]bool{}
	for tenant, tid := range map[string]string{"FABRIKAM.com": other, sandbox.TenantID: sandbox.TenantID} {
		c := claimsOf(t, post(t, w, tenant, form).str("access_token"))
		if c["tid"] != tid {
			t.Errorf("%s: tid = %v, want %s", tenant, c["tid"], tid)
		}
		oids[c["oid"]] = true
	}
	if len(oids) != 2 {
		t.Errorf("object IDs = %v, want one for each tenant", oids)
	}
}

func TestAdministrationRefusesWhatIsNotThere(t *testing.T) {
	w := world(t, sandbox.Options{})
	if _, err := w.Entra.AddSecret("nobody", sandbox.Secret{}); err == nil {
		t.Error("AddSecret(nobody) = nil, want ErrNoApp")
	}
	if _, err := w.Entra.RegisterApp(sandbox.App{Tenants: []string{"nowhere"}}); err == nil {
		t.Error("RegisterApp(nowhere) = nil, want ErrNoTenant")
	}
	if _, err := w.Entra.RegisterApp(sandbox.App{ClientID: "x"}); err == nil {
		t.Error("RegisterApp(x) = nil, want ErrName")
	}
	if err := w.Entra.AddTenant("contoso", ""); err == nil {
		t.Error("AddTenant(contoso) = nil, want ErrName")
	}
}

func TestRequestsAreCountedAndObserved(t *testing.T) {
	w := world(t, sandbox.Options{})
	var mu sync.Mutex
	var seen []sandbox.TokenRequest
	w.Entra.Observe(func(r sandbox.TokenRequest) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r)
	})
	token(t, w, "")
	form := secretForm(w)
	form.Set("client_id", "stranger")
	post(t, w, sandbox.TenantID, form)
	if got := w.Entra.Requests(); got != 2 {
		t.Errorf("Requests() = %d, want 2", got)
	}
	if own, other := w.Entra.RequestsFor(sandbox.ClientID), w.Entra.RequestsFor("stranger"); own != 1 || other != 0 {
		t.Errorf("RequestsFor = %d and %d, want 1 for the app, 0 for a stranger", own, other)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 2 || seen[0].Form.Get("scope") != graphScope || seen[0].URL != w.Entra.TokenURL(sandbox.TenantDomain) {
		t.Errorf("observed = %+v", seen)
	}
}

func TestLifetimeAndRefreshInAreConfigurable(t *testing.T) {
	w := world(t, sandbox.Options{})
	a := post(t, w, sandbox.TenantID, secretForm(w))
	if a.json["expires_in"] != 3599.0 || a.json["refresh_in"] != nil || a.str("token_type") != "Bearer" {
		t.Errorf("answer = %v, want 3599 s, Bearer and no refresh_in", a.json)
	}
	w.Entra.SetLifetime(10 * time.Minute)
	w.Entra.SetRefreshIn(5 * time.Minute)
	a = post(t, w, sandbox.TenantID, secretForm(w))
	if a.json["expires_in"] != 600.0 || a.json["refresh_in"] != 300.0 || a.json["ext_expires_in"] != 600.0 {
		t.Errorf("answer = %v, want 600 and 300", a.json)
	}
}

func TestDeclaringCP1GivesALongTokenThatSaysSo(t *testing.T) {
	w := world(t, sandbox.Options{})
	form := secretForm(w)
	form.Set("claims", `{"access_token":{"xms_cc":{"values":["CP1"]}}}`)
	a := post(t, w, sandbox.TenantID, form)
	if a.json["expires_in"] != 86400.0 || a.json["refresh_in"] != 43200.0 {
		t.Errorf("answer = %v, want a day and half of it", a.json)
	}
	cc, _ := claimsOf(t, a.str("access_token"))["xms_cc"].([]any)
	if !slices.Equal(cc, []any{"cp1"}) {
		t.Errorf("xms_cc = %v, want [cp1]", cc)
	}
}

func TestDateFollowsTheSkew(t *testing.T) {
	w := world(t, sandbox.Options{})
	w.Skew(-time.Hour)
	a := post(t, w, sandbox.TenantID, secretForm(w))
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(date); d < 59*time.Minute || d > 61*time.Minute {
		t.Errorf("Date is %v behind, want an hour", d)
	}
}

func FuzzTokenRequest(f *testing.F) {
	w := world(f, sandbox.Options{})
	f.Add("grant_type=client_credentials&client_id="+sandbox.ClientID+"&scope=a%2F.default&client_assertion=a.b.c&client_assertion_type=x", "a", "b")
	f.Add("claims={\"access_token\":{\"xms_cc\":1}}", "%zz", "\xff")
	f.Add(secretForm(w).Encode()+"&claims=%7B%22access_token%22%3A%7B%22nbf%22%3Anull%7D%7D", "", "")
	f.Fuzz(func(t *testing.T, body, user, password string) {
		r := request(t, "POST", w.Entra.TokenURL(sandbox.TenantID), body)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if user != "" {
			r.SetBasicAuth(user, password)
		}
		a := do(t, r)
		if a.status != 200 && a.code() == 0 {
			t.Errorf("body %q = %d %q, want a token or an AADSTS code", body, a.status, a.raw)
		}
	})
}
