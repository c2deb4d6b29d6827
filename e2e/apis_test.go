package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// apiSetup is a gateway with one route, by preset, to each of apis; further
// lines of a route come from extra.
func apiSetup(w *sandbox.World, apis map[sandbox.APIKind]*sandbox.API, extra map[sandbox.APIKind]string) setup {
	s := setup{Files: map[string]string{"client-secret": w.Secret()}}
	s.Config = fmt.Sprintf(`version: 1
listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}
credentials:
  default:
    tenant_id: %s
    client_id: %s
    client_secret: {file: client-secret}
    authority_host: %s
routes:
`, sandbox.TenantDomain, sandbox.ClientID, w.Entra.URL())
	for kind, api := range apis {
		hosts := ""
		if kind != sandbox.DevOps && kind != sandbox.Maps { // whose hosts are nobody's own
			hosts = "hosts: [" + api.Host() + "], "
		}
		s.Config += fmt.Sprintf("  - {preset: %s, %supstream: %q%s}\n", kind, hosts, api.URL(), extra[kind])
	}
	return s
}

func TestPresetsBringWhatEachAPIWantsBesideAToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	apis := map[sandbox.APIKind]*sandbox.API{}
	for _, kind := range []sandbox.APIKind{sandbox.Cosmos, sandbox.Storage, sandbox.DevOps, sandbox.Maps, sandbox.Databricks, sandbox.KeyVault} {
		api, err := sandbox.StartAPI(sandbox.APIOptions{World: w, Kind: kind, Stranger: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(api.Close)
		apis[kind] = api
	}
	w.Entra.AddResource("https://management.azure.com")
	g := start(t, apiSetup(w, apis, map[sandbox.APIKind]string{
		sandbox.Maps:       ", set_headers: {x-ms-client-id: " + sandbox.MapsClientID + "}",
		sandbox.Databricks: ", set_headers: {X-Databricks-Azure-Workspace-Resource-Id: " + sandbox.DatabricksID + "}",
	}))
	g.ready(t)
	for kind, path := range map[sandbox.APIKind]string{
		sandbox.Cosmos: "/dbs", sandbox.Storage: "/?comp=list", sandbox.DevOps: "/contoso/_apis/projects",
		sandbox.Maps: "/search/address/json?query=x", sandbox.Databricks: "/api/2.0/clusters/list", sandbox.KeyVault: "/secrets/one?api-version=7.4",
	} {
		t.Run(string(kind), func(t *testing.T) {
			a := must(t, g.client, request{url: g.url("/" + string(kind) + path)})
			if a.status != http.StatusOK {
				t.Errorf("status %d: %.600s", a.status, a.body)
			}
			for _, c := range apis[kind].Calls() {
				if c.Problem != "" {
					t.Errorf("the API complains: %s", c.Problem)
				}
			}
		})
	}
}

func TestCosmosOfATenantWithoutTheAccountsResourceIsAskedForByItsOtherName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	api, err := sandbox.StartAPI(sandbox.APIOptions{World: w, Kind: sandbox.Cosmos})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	s := apiSetup(w, map[sandbox.APIKind]*sandbox.API{sandbox.Cosmos: api}, nil)
	// Nobody has told this Entra of that account.
	s.Config = strings.Replace(s.Config, api.Host(), "another.documents.azure.com", 1)
	g := start(t, s)
	a := must(t, g.client, request{url: g.url("/cosmos/dbs")})
	if a.status != http.StatusOK {
		t.Errorf("status %d: %.600s", a.status, a.body)
	}
}

// A page to sign in is no answer of an API; renewing would not help.
func TestSignInPageOfDevOpsIsSaidToBeNoAuthentication(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	api, err := sandbox.StartAPI(sandbox.APIOptions{World: w, Kind: sandbox.DevOps})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	s := apiSetup(w, map[sandbox.APIKind]*sandbox.API{sandbox.DevOps: api}, map[sandbox.APIKind]string{
		sandbox.DevOps: `, scope: "https://graph.microsoft.com/.default", set_headers: {X-TFS-FedAuthRedirect: ""}`,
	})
	g := start(t, s)
	g.ready(t)
	a := must(t, g.client, request{url: g.url("/azuredevops/contoso/_apis/projects")})
	if a.status != http.StatusNonAuthoritativeInfo || !strings.Contains(a.body, "Sign in") {
		t.Errorf("status %d: %.300s; want the page as it is", a.status, a.body)
	}
	eventually(t, "the log says so", func() bool { return strings.Contains(g.stdout.String(), "not authenticated") })
	if n := g.metric(t, "gateway_retries_total", `result="sign_in"`); n != 1 {
		t.Errorf("gateway_retries_total of sign_in = %v, want 1", n)
	}
	if n := w.Entra.Requests(); n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}
