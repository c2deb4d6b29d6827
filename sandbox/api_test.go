package sandbox_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

func api(t testing.TB, opts sandbox.APIOptions) *sandbox.API {
	t.Helper()
	a, err := sandbox.StartAPI(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// tokenFor gets a token of the app for an audience.
func tokenFor(t testing.TB, w *sandbox.World, audience string) string {
	t.Helper()
	form := secretForm(w)
	form.Set("scope", audience+"/.default")
	a := post(t, w, sandbox.TenantID, form)
	if a.status != http.StatusOK {
		t.Fatalf("token for %s = %d %s", audience, a.status, a.raw)
	}
	return a.str("access_token")
}

// apiCase is one change to a call that is right, and what it gets.
type apiCase struct {
	name   string
	change func(http.Header)
	status int
	words  string // in body or WWW-Authenticate
}

// runAPI makes a right call to path with header, and then each case.
func runAPI(t *testing.T, a *sandbox.API, path string, header map[string]string, cases []apiCase) {
	t.Helper()
	for _, tt := range append([]apiCase{{"right", func(http.Header) {}, 200, ""}}, cases...) {
		r := request(t, "GET", a.URL()+path, "")
		for name, value := range header {
			r.Header.Set(name, value)
		}
		tt.change(r.Header)
		got := do(t, r)
		all := string(got.raw) + strings.Join(got.header.Values("WWW-Authenticate"), "\n") + got.header.Get("Location")
		if got.status != tt.status || !strings.Contains(all, tt.words) {
			t.Errorf("%s = %d %s, want %d with %q", tt.name, got.status, all, tt.status, tt.words)
		}
		if strings.Contains(all, "eyJ") {
			t.Errorf("%s: the answer holds a token", tt.name)
		}
		calls := a.Calls()
		last := calls[len(calls)-1]
		if last.Status != tt.status || (last.Problem == "") != (tt.status == 200) {
			t.Errorf("%s: recorded as %+v", tt.name, last)
		}
	}
}

func set(pairs ...string) func(http.Header) {
	return func(h http.Header) {
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
			if pairs[i+1] == "" {
				h.Del(pairs[i])
			}
		}
	}
}

func TestCosmosWantsItsOwnHeaderForm(t *testing.T) {
	w := world(t, sandbox.Options{})
	a := api(t, sandbox.APIOptions{World: w, Kind: sandbox.Cosmos})
	sig := func(audience string) string {
		return url.QueryEscape("type=aad&ver=1.0&sig=" + tokenFor(t, w, audience))
	}
	good := tokenFor(t, w, a.Audience())
	runAPI(t, a, "/dbs", map[string]string{
		"Authorization": sig(a.Audience()), "x-ms-date": time.Now().UTC().Format(http.TimeFormat), "x-ms-version": "2018-12-31",
	}, []apiCase{
		{"the common audience", set("Authorization", sig("https://cosmos.azure.com")), 200, ""},
		{"audience with a slash", set("Authorization", sig("https://cosmos.azure.com/")), 401, "audience"},
		{"none", set("Authorization", ""), 401, "is missing"},
		{"Bearer", set("Authorization", "Bearer "+good), 401, "format"},
		{"not encoded", set("Authorization", "type=aad&ver=1.0&sig="+good), 401, "format"},
		{"a master key's form", set("Authorization", url.QueryEscape("type=master&ver=1.0&sig="+good)), 401, "format"},
		{"no date", set("x-ms-date", ""), 401, "date"},
		{"an old date", set("x-ms-date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)), 401, "date"},
		{"date not in RFC 1123", set("x-ms-date", time.Now().Format(time.RFC3339)), 401, "date"},
		{"no version", set("x-ms-version", ""), 400, "x-ms-version"},
		{"Graph's token", set("Authorization", url.QueryEscape("type=aad&ver=1.0&sig="+token(t, w, ""))), 401, "audience"},
	})
}

func TestStorageWantsAVersionThatKnowsBearer(t *testing.T) {
	w := world(t, sandbox.Options{})
	a := api(t, sandbox.APIOptions{World: w, Kind: sandbox.Storage})
	runAPI(t, a, "/?comp=list", map[string]string{"Authorization": "Bearer " + tokenFor(t, w, a.Audience()), "x-ms-version": "2021-12-02"}, []apiCase{
		{"the account's audience", set("Authorization", "Bearer "+tokenFor(t, w, "https://"+a.Host())), 200, ""},
		{"first version", set("x-ms-version", "2017-11-09"), 200, ""},
		{"older version", set("x-ms-version", "2017-07-29"), 403, "Bearer is not supported in this version"},
		{"no version", set("x-ms-version", ""), 403, "<Code>AuthenticationFailed</Code>"},
		{"none", set("Authorization", ""), 401, "Bearer authorization_uri=" + w.Entra.URL() + "/" + sandbox.TenantID + "/oauth2/authorize resource_id=https://storage.azure.com"},
		{"Graph's token", set("Authorization", "Bearer "+token(t, w, "")), 401, "InvalidAuthenticationInfo"},
	})
}

func TestDevOpsSendsStrangersToItsSignInPage(t *testing.T) {
	w := world(t, sandbox.Options{})
	a := api(t, sandbox.APIOptions{World: w, Kind: sandbox.DevOps})
	runAPI(t, a, "/contoso/_apis/projects", map[string]string{"Authorization": "Bearer " + tokenFor(t, w, a.Audience())}, []apiCase{
		{"right, suppressed", set("X-TFS-FedAuthRedirect", "Suppress"), 200, ""},
		{"none", set("Authorization", ""), 302, "/oauth2/authorize?"},
		{"none, suppressed", set("Authorization", "", "X-TFS-FedAuthRedirect", "Suppress"), 401, "TFS-Federated"},
		{"Graph's token", set("Authorization", "Bearer "+token(t, w, "")), 203, "Sign In"},
		{"Graph's token, suppressed", set("Authorization", "Bearer "+token(t, w, ""), "X-TFS-FedAuthRedirect", "Suppress"), 401, "Bearer authorization_uri="},
	})
}

func TestMapsWantsTheAccountsClientID(t *testing.T) {
	w := world(t, sandbox.Options{})
	a := api(t, sandbox.APIOptions{World: w, Kind: sandbox.Maps})
	runAPI(t, a, "/search/address/json", map[string]string{
		"Authorization": "Bearer " + tokenFor(t, w, a.Audience()), "x-ms-client-id": sandbox.MapsClientID,
	}, []apiCase{
		{"no client ID", set("x-ms-client-id", ""), 400, "x-ms-client-id is required"},
		{"another client ID", set("x-ms-client-id", sandbox.ClientID), 403, "another account"},
		{"no token", set("Authorization", ""), 401, "credentials were incorrect"},
	})
}

func TestDatabricksWantsASecondTokenOfStrangers(t *testing.T) {
	w := world(t, sandbox.Options{})
	known := api(t, sandbox.APIOptions{World: w, Kind: sandbox.Databricks})
	bearer := map[string]string{"Authorization": "Bearer " + tokenFor(t, w, known.Audience())}
	runAPI(t, known, "/api/2.0/clusters/list", bearer, []apiCase{
		{"Graph's token", set("Authorization", "Bearer "+token(t, w, "")), 403, "Invalid access token"},
	})
	stranger := api(t, sandbox.APIOptions{World: w, Kind: sandbox.Databricks, Stranger: true})
	const second, workspace = "X-Databricks-Azure-SP-Management-Token", "X-Databricks-Azure-Workspace-Resource-Id"
	bearer[second], bearer[workspace] = tokenFor(t, w, "https://management.core.windows.net/"), sandbox.DatabricksID
	runAPI(t, stranger, "/api/2.0/clusters/list", bearer, []apiCase{
		{"ARM by its newer name", set(second, tokenFor(t, w, "https://management.azure.com")), 200, ""},
		{"no second token", set(second, ""), 403, second},
		{"second token for Graph", set(second, token(t, w, "")), 403, "not one for ARM"},
		{"no workspace", set(workspace, ""), 403, workspace},
	})
}

func TestVaultNamesItsTenantAndResource(t *testing.T) {
	w := world(t, sandbox.Options{})
	a := api(t, sandbox.APIOptions{World: w, Kind: sandbox.KeyVault})
	runAPI(t, a, "/secrets/db?api-version=7.4", map[string]string{"Authorization": "Bearer " + tokenFor(t, w, a.Audience())}, []apiCase{
		{"none", set("Authorization", ""), 401, `Bearer authorization="` + w.Entra.URL() + "/" + sandbox.TenantID + `", resource="https://vault.azure.net"`},
		{"no bearer", set("Authorization", "Basic eA=="), 401, "AKV10032"},
	})
	r := request(t, "GET", a.URL()+"/secrets/db", "")
	r.Header.Set("Authorization", "Bearer "+tokenFor(t, w, a.Audience()))
	if got := do(t, r); got.status != http.StatusBadRequest {
		t.Errorf("without api-version = %d %s, want 400", got.status, got.raw)
	}
}

func TestAPIsBelieveNoTokenThatHasExpiredOrIsForged(t *testing.T) {
	w := world(t, sandbox.Options{})
	a := api(t, sandbox.APIOptions{World: w, Kind: sandbox.KeyVault})
	good := tokenFor(t, w, a.Audience())
	w.Skew(2 * time.Hour)
	runAPI(t, a, "/secrets/db?api-version=7.4", map[string]string{"Authorization": "Bearer " + tokenFor(t, w, a.Audience())}, []apiCase{
		{"expired", set("Authorization", "Bearer "+good), 401, "lifetime"},
		{"forged", set("Authorization", "Bearer "+good[:len(good)-8]+"AAAAAAAA"), 401, "signature"},
	})
	calls := a.Calls()
	if calls[0].ClientID != sandbox.ClientID || calls[1].ClientID != "" || calls[0].Path != "/secrets/db" {
		t.Errorf("Calls() = %+v, want the app for the believed one alone", calls)
	}
}

func TestAPIThatDoesNotExist(t *testing.T) {
	w := world(t, sandbox.Options{})
	for _, o := range []sandbox.APIOptions{{World: w, Kind: "graph"}, {Kind: sandbox.Maps}} {
		if _, err := sandbox.StartAPI(o); err == nil {
			t.Errorf("StartAPI(%q) = nil, want an error", o.Kind)
		}
	}
}

func FuzzAPIAuthorization(f *testing.F) {
	w := world(f, sandbox.Options{})
	var all []*sandbox.API
	for _, kind := range []sandbox.APIKind{sandbox.Cosmos, sandbox.Storage, sandbox.DevOps, sandbox.Maps, sandbox.Databricks, sandbox.KeyVault} {
		all = append(all, api(f, sandbox.APIOptions{World: w, Kind: kind, Stranger: true}))
	}
	f.Add(uint8(0), "type%3Daad%26ver%3D1.0%26sig%3Da.b.c", "2018-12-31", "Fri, 01 Jan 2027 00:00:00 GMT")
	f.Add(uint8(1), "Bearer a.b.c", "2021-12-02", "x")
	f.Add(uint8(4), "bearer eyJhbGciOiJub25lIn0.e30.", "%", "")
	f.Fuzz(func(t *testing.T, which uint8, authorization, version, date string) {
		r := request(t, "GET", all[int(which)%len(all)].URL()+"/x", "")
		for name, value := range map[string]string{"Authorization": authorization, "x-ms-version": version, "x-ms-date": date} {
			r.Header.Set(name, printable(value))
		}
		if a := do(t, r); a.status == http.StatusOK || a.status >= 500 {
			t.Errorf("%q = %d %q, want a refusal", authorization, a.status, a.raw)
		}
	})
}

func ExampleStartAPI() {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer w.Close()
	vault, err := sandbox.StartAPI(sandbox.APIOptions{World: w, Kind: sandbox.KeyVault})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer vault.Close()
	fmt.Println(vault.Host(), vault.Audience())
	// Output: sandbox.vault.azure.net https://vault.azure.net
}
