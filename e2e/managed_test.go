package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/seed-13b04e61/gateway/sandbox"
)

// identities are what the hosts of these tests have: one of its own, and one
// that is named.
func identities(t testing.TB, w *sandbox.World) (own, named sandbox.ManagedIdentity) {
	t.Helper()
	var all []sandbox.ManagedIdentity
	for _, system := range []bool{true, false} {
		m, err := w.Entra.AddManagedIdentity(sandbox.ManagedIdentity{Name: fmt.Sprintf("system-%v", system), SystemAssigned: system})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Entra.Grant(m.ClientID, sandbox.GraphResource, "User.Read.All"); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all[0], all[1]
}

func newHost(t testing.TB, o sandbox.HostOptions) *sandbox.Host {
	t.Helper()
	h, err := sandbox.StartHost(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// platforms are the kinds of hosts whose endpoint the environment names.
// Azure Arc has its keys in a folder of the system's, which tests leave alone.
var platforms = []sandbox.HostKind{sandbox.IMDS, sandbox.AppService, sandbox.ContainerApps, sandbox.AzureML}

// diverted sends what is meant for the metadata address to a host instead: the
// library takes no other address for it.
type diverted struct{ host *url.URL }

func (d diverted) Do(req *http.Request) (*http.Response, error) {
	if req.URL.Host == "169.254.169.254" {
		req.URL.Host = d.host.Host
	}
	return newClient(nil).Do(req)
}

func TestMicrosoftsGoLibraryBelievesTheSandboxsHosts(t *testing.T) {
	for _, kind := range platforms {
		for _, byID := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s named=%v", kind, byID), func(t *testing.T) {
				w := newWorld(t, sandbox.Options{})
				own, named := identities(t, w)
				h := newHost(t, sandbox.HostOptions{World: w, Kind: kind, Identities: []sandbox.ManagedIdentity{own, named}})
				for _, kv := range h.Environ() {
					name, value, _ := strings.Cut(kv, "=")
					t.Setenv(name, value)
				}
				host, err := url.Parse(h.URL())
				if err != nil {
					t.Fatal(err)
				}
				opts := &azidentity.ManagedIdentityCredentialOptions{}
				opts.Transport = diverted{host}
				if byID {
					opts.ID = azidentity.ClientID(named.ClientID)
				}
				cred, err := azidentity.NewManagedIdentityCredential(opts)
				if err != nil {
					t.Fatal(err)
				}
				// The library keeps tokens for the whole process, by resource.
				resource := fmt.Sprintf("api://%s-%v", kind, byID)
				w.Entra.AddResource(resource)
				token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{resource + "/.default"}})
				if err != nil {
					t.Fatal(err)
				}
				if token.Token == "" || h.Requests() == 0 || h.Refused() != 0 {
					t.Errorf("%d requests, of which %d were refused", h.Requests(), h.Refused())
				}
			})
		}
	}
}

func TestManagedIdentityOfEachPlatformIsUsedAndLentToNobody(t *testing.T) {
	t.Parallel()
	for _, kind := range append([]sandbox.HostKind{sandbox.ServiceFabric}, platforms...) {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sandbox.Options{})
			own, named := identities(t, w)
			h := newHost(t, sandbox.HostOptions{World: w, Kind: kind, Identities: []sandbox.ManagedIdentity{own, named}})
			endpoint, err := url.Parse(h.URL())
			if err != nil {
				t.Fatal(err)
			}
			pick := "client_id: " + named.ClientID
			if kind == sandbox.ServiceFabric { // whose cluster picks
				pick = ""
			}
			g := start(t, setup{
				Config: fmt.Sprintf(`version: 1
listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}
credentials:
  own: {managed_identity: {}}
  named: {managed_identity: {%s}}
routes:
  - {name: own, preset: graph, credential: own, upstream: %q}
  - {name: named, preset: graph, credential: named, upstream: %q}
  - {name: thief, hosts: ["127.0.0.1:%s"], scope: %s, credential: own, upstream: "http://127.0.0.1:%s"}
`, pick, w.Graph.URL(), w.Graph.URL(), endpoint.Port(), graphScope, endpoint.Port()),
				Env: h.Environ(),
			})
			for _, name := range []string{"own", "named"} {
				if a := must(t, g.client, request{url: g.url("/" + name + "/v1.0/users")}); a.status != http.StatusOK {
					t.Errorf("%s: status %d: %.600s", name, a.status, a.body)
				}
			}
			if h.Refused() != 0 {
				t.Errorf("the host refused %d requests", h.Refused())
			}
			before := h.Requests()
			through := newClient(&url.URL{Scheme: "http", Host: g.proxy})
			path := "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://graph.microsoft.com"
			for _, r := range []request{
				{url: g.url("/thief" + path)},
				{url: "http://127.0.0.1:" + endpoint.Port() + path},
				{url: "http://localhost:" + endpoint.Port() + path},
				{url: "http://169.254.169.254" + path},
				{url: "http://127.0.0.1:40342" + path},
				{url: "http://[::1]:40342" + path},
			} {
				r.header = http.Header{"Metadata": {"true"}, "X-Identity-Header": {"guess"}}
				c := through
				if strings.HasPrefix(r.url, g.url("")) {
					c = g.client
				}
				a := must(t, c, r)
				if a.header.Get("Gateway-Error") == "" || a.status < 400 {
					t.Errorf("%s: status %d, %.300s", r.url, a.status, a.body)
				}
			}
			if n := h.Requests(); n != before {
				t.Errorf("%d calls reached the identity endpoint", n-before)
			}
		})
	}
}
