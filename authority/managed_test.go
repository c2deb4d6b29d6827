package authority_test

import (
	"crypto/sha1"
	"encoding/hex"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

func onHost(want routes.ManagedIdentity) *routes.Credential {
	return &routes.Credential{Name: "mi", Cloud: "public", ManagedIdentity: &want}
}

func TestEachPlatformIsAskedAsItsDocumentationSays(t *testing.T) {
	var (
		none     = routes.ManagedIdentity{}
		client   = routes.ManagedIdentity{ClientID: userID}
		object   = routes.ManagedIdentity{ObjectID: userID}
		resource = routes.ManagedIdentity{ResourceID: resourceID}
	)
	imds := func(p *platform) map[string]string {
		return map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": p.URL + "/"}
	}
	app := func(p *platform) map[string]string {
		return map[string]string{"IDENTITY_ENDPOINT": p.URL + "/msi/token", "IDENTITY_HEADER": headerSecret}
	}
	ml := func(p *platform) map[string]string {
		return map[string]string{"MSI_ENDPOINT": p.URL + "/MSI/auth", "MSI_SECRET": headerSecret}
	}
	mlWithDefault := func(p *platform) map[string]string {
		env := ml(p)
		env["DEFAULT_IDENTITY_CLIENT_ID"] = "default-1"
		return env
	}
	for _, tt := range []struct {
		name string
		fake *platform
		env  func(p *platform) map[string]string
		want routes.ManagedIdentity
		host string
	}{
		{"IMDS", newIMDS(graph), imds, none, "imds"},
		{"IMDS, client", newIMDS(graph, "client_id", userID), imds, client, "imds"},
		{"IMDS, object", newIMDS(graph, "object_id", userID), imds, object, "imds"},
		{"IMDS, resource", newIMDS(graph, "msi_res_id", resourceID), imds, resource, "imds"},
		{"App Service", newAppService(graph), app, none, "app_service"},
		{"App Service, client", newAppService(graph, "client_id", userID), app, client, "app_service"},
		{"App Service, object", newAppService(graph, "object_id", userID), app, object, "app_service"},
		{"App Service, resource", newAppService(graph, "mi_res_id", resourceID), app, resource, "app_service"},
		{"Azure ML", newAzureML(graph), ml, none, "azure_ml"},
		{"Azure ML, default", newAzureML(graph, "clientid", "default-1"), mlWithDefault, none, "azure_ml"},
		{"Azure ML, client", newAzureML(graph, "clientid", userID), mlWithDefault, client, "azure_ml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			elsewhere(t)
			t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
			t.Setenv("http_proxy", "http://127.0.0.1:1")
			for name, value := range tt.env(tt.fake.start(t)) {
				t.Setenv(name, value)
			}
			c := onHost(tt.want)
			d := loaded(t, c)
			if st := condition(t, d); !st.Ready || st.Kind != "managed_identity" || st.Host != tt.host || st.Fingerprint == "" {
				t.Errorf("status = %+v, want ready on %s", st, tt.host)
			}
			token, err := d.Acquire(t.Context(), d.Key(c, graph+"/.default"), "")
			requests, wrong := tt.fake.seen()
			if err != nil || token.Access.Reveal() != "abc.def.ghi" {
				t.Fatalf("Acquire = %v; the host found wrong: %q", err, wrong)
			}
			probes := map[bool]int{true: 1}[tt.host == "imds"]
			if len(requests) != 1+probes || len(wrong) != probes {
				t.Errorf("requests = %d, wrong = %q; want 1 and %d probes", len(requests), wrong, probes)
			}
			if st := condition(t, d); st.LastError != nil {
				t.Errorf("status = %+v after a token", st)
			}
		})
	}
}

// serviceFabric is one whose certificate has the thumbprint that env says.
func serviceFabric(t testing.TB, resource string) (p *platform, env map[string]string) {
	t.Helper()
	p = newServiceFabric(resource)
	p.Server = httptest.NewTLSServer(p)
	p.Server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(p.Close)
	sum := sha1.Sum(p.Certificate().Raw)
	return p, map[string]string{
		"IDENTITY_ENDPOINT": p.URL + "/metadata/identity/oauth2/token", "IDENTITY_HEADER": headerSecret,
		"IDENTITY_SERVER_THUMBPRINT": strings.ToUpper(hex.EncodeToString(sum[:])),
	}
}

func TestServiceFabricIsTrustedByItsThumbprintAlone(t *testing.T) {
	p, env := serviceFabric(t, graph)
	m := managed(t, authority.Machine{Env: env}, routes.ManagedIdentity{})
	if _, e := m.Token(t.Context(), graph); e != nil {
		_, wrong := p.seen()
		t.Fatalf("Token = %v; the host found wrong: %q", e, wrong)
	}
	env["IDENTITY_SERVER_THUMBPRINT"] = strings.Repeat("0a:", 19) + "0a"
	m = managed(t, authority.Machine{Env: env}, routes.ManagedIdentity{})
	_, e := m.Token(t.Context(), graph)
	if e == nil || !strings.Contains(e.Hint, "IDENTITY_SERVER_THUMBPRINT") {
		t.Fatalf("Token = %v, want a refusal of the certificate", e)
	}
	quiet(t, e)
	if requests, _ := p.seen(); len(requests) != 1 {
		t.Errorf("requests = %d, want none over an untrusted connection", len(requests)-1)
	}
}

func TestAnEndpointWithAnUnknownCertificateGetsNoSecret(t *testing.T) {
	p := newAppService(graph)
	p.Server = httptest.NewTLSServer(p)
	p.Server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(p.Close)
	m := onAppService(t, p)
	_, e := m.Token(t.Context(), graph)
	if e == nil || !strings.Contains(e.Hint, "not trusted") {
		t.Fatalf("Token = %v, want that its certificate is not trusted", e)
	}
	quiet(t, e)
	if requests, _ := p.seen(); len(requests) != 0 {
		t.Error("a request was sent all the same")
	}
}

func TestTheScopeBecomesTheResource(t *testing.T) {
	for _, tt := range []struct{ scope, resource string }{
		{"https://database.windows.net//.default", "https://database.windows.net/"},
		{"https://vault.azure.net/.default", "https://vault.azure.net"},
		{"api://" + userID + "/.default", "api://" + userID},
		{"api://odd&name=+%/.default", "api://odd&name=+%"},
		{"api://AzureADTokenExchange", "api://AzureADTokenExchange"},
	} {
		elsewhere(t)
		p := newIMDS(tt.resource).start(t)
		t.Setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", p.URL)
		c := onHost(routes.ManagedIdentity{})
		d := loaded(t, c)
		if _, err := d.Acquire(t.Context(), d.Key(c, tt.scope), ""); err != nil {
			_, wrong := p.seen()
			t.Errorf("Acquire(%q) = %v; the host found wrong: %q", tt.scope, err, wrong)
		}
	}
}

func TestAScopeThatIsNoSingleAudienceIsNotSent(t *testing.T) {
	p := newIMDS(graph).start(t)
	m := onIMDS(t, p.URL)
	for _, resource := range []string{"", graph + " https://vault.azure.net", "a\nb"} {
		_, e := m.Token(t.Context(), resource)
		if e == nil || e.Nature != tokens.Refused || e.Reach != tokens.ReachKey {
			t.Errorf("Token(%q) = %v, want a refusal of this scope", resource, e)
			continue
		}
		quiet(t, e)
	}
	if requests, _ := p.seen(); len(requests) != 0 {
		t.Errorf("requests = %d, want none", len(requests))
	}
}

func TestAHostThatRedirectsIsNotFollowed(t *testing.T) {
	other := newAppService(graph).start(t)
	p := newAppService(graph)
	p.answer = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.String(), http.StatusFound)
	}
	p.start(t)
	m := onAppService(t, p)
	_, e := m.Token(t.Context(), graph)
	if e == nil || !strings.Contains(e.Hint, "redirect") {
		t.Fatalf("Token = %v, want that it redirects", e)
	}
	quiet(t, e)
	if requests, _ := other.seen(); len(requests) != 0 {
		t.Error("the redirect was followed, with the secret")
	}
}

func TestIdentitiesOfOneHostHaveKeysOfTheirOwn(t *testing.T) {
	elsewhere(t)
	seen := map[tokens.Key]bool{}
	all := []routes.ManagedIdentity{{}, {ClientID: userID}, {ObjectID: userID}, {ResourceID: resourceID}}
	for _, want := range all {
		c := onHost(want)
		seen[loaded(t, c).Key(c, graphScope)] = true
	}
	if len(seen) != len(all) {
		t.Errorf("%d keys for %d identities", len(seen), len(all))
	}
	c := onHost(routes.ManagedIdentity{})
	d := loaded(t, c)
	before := d.Key(c, graphScope)
	if f := d.Replace([]*routes.Credential{onHost(routes.ManagedIdentity{})}); len(f) != 0 || d.Key(c, graphScope) != before {
		t.Errorf("findings %+v, key %v after a reload; want none and %v", f, d.Key(c, graphScope), before)
	}
}

// The host keeps tokens for a day, so a renewal after a 401 finds the same one.
func TestARenewalThatCannotHelpIsNoticedByTheStore(t *testing.T) {
	elsewhere(t)
	p := newIMDS(graph).start(t)
	t.Setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", p.URL)
	c := onHost(routes.ManagedIdentity{})
	d := loaded(t, c)
	store, err := tokens.New(tokens.Config{Acquirer: d, Entries: 10, Memory: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	key := d.Key(c, graphScope)
	token, _, err := store.Token(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(token.RefreshAt); left < 11*time.Hour || left > 13*time.Hour {
		t.Errorf("refreshed in %s, want half of a day's life", left)
	}
	if _, _, err := store.Renew(t.Context(), key, token, ""); err != tokens.ErrSameToken {
		t.Errorf("Renew = %v, want ErrSameToken", err)
	}
}
