package proxy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

// registry is a container registry of Azure: it exchanges Entra's tokens, and
// takes its own alone, each for what it was issued for.
type registry struct {
	mu        sync.Mutex // guards what follows
	wrong     []string   // what no client may send
	exchanged []string   // Entra's tokens
	asked     []string   // scopes of access tokens
	tokens    int
	revoked   int // up to which own tokens are refused
	strict    int // up to which of Entra's are
	broken    int // status of the exchange, if not 0
}

func (g *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	const scopes = "GET /v2/ |GET /v2/_catalog registry:catalog:*|GET /v2/app/web/tags/list repository:app/web:pull|" +
		"HEAD /v2/app/web/manifests/latest repository:app/web:pull|PUT /v2/app/web/manifests/latest repository:app/web:pull,push|" +
		"POST /v2/app/web/blobs/uploads/ repository:app/web:pull,push repository:base:pull|DELETE /v2/app/web/manifests/x repository:app/web:delete|" +
		"GET /acr/v1/app/web/_tags repository:app/web:metadata_read|PATCH /acr/v1/app/web repository:app/web:metadata_write"
	switch r.URL.Path {
	case "/oauth2/exchange":
		g.exchange(w, r)
		return
	case "/oauth2/token":
		g.token(w, r)
		return
	}
	var n int
	var scope string
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer access-")
	number, scope, _ := strings.Cut(token, "|")
	_, _ = fmt.Sscan(number, &n)
	for want := range strings.SplitSeq(scopes, "|") {
		if call, s, _ := strings.Cut(strings.Replace(want, " ", "\x00", 1), " "); strings.Replace(call, "\x00", " ", 1) == r.Method+" "+r.URL.Path && strings.ReplaceAll(s, " ", "+") != scope {
			n = 0
		}
	}
	if n <= g.revoked {
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="https://%s/oauth2/token",service=%q,error="invalid_token"`, r.Host, r.Host))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (g *registry) exchange(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	entra := r.PostForm.Get("access_token")
	want := url.Values{"grant_type": {"access_token"}, "service": {"contoso.azurecr.io"}, "tenant": {"aaaabbbb-0000-cccc-1111-dddd2222eeee"}, "access_token": {entra}}
	if r.Method != http.MethodPost || r.PostForm.Encode() != want.Encode() || r.Header.Get("Authorization") != "" {
		g.wrong = append(g.wrong, fmt.Sprint(r.Method, r.PostForm, r.Header))
	}
	g.exchanged = append(g.exchanged, entra)
	n := number("Bearer " + entra)
	switch {
	case g.broken != 0:
		w.WriteHeader(g.broken)
		_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"no ` + entra + `"}]}`))
	case n <= g.strict:
		w.WriteHeader(http.StatusUnauthorized)
	default:
		_ = json.NewEncoder(w).Encode(map[string]string{"refresh_token": fmt.Sprintf("refresh-%d", n)})
	}
}

func (g *registry) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	if r.PostForm.Get("grant_type") != "refresh_token" || r.PostForm.Get("service") != "contoso.azurecr.io" || !strings.HasPrefix(r.PostForm.Get("refresh_token"), "refresh-") {
		g.wrong = append(g.wrong, fmt.Sprint(r.PostForm))
	}
	g.tokens++
	g.asked = append(g.asked, r.PostForm.Get("scope"))
	_ = json.NewEncoder(w).Encode(map[string]string{"access_token": fmt.Sprintf("access-%d|%s", g.tokens, strings.ReplaceAll(r.PostForm.Get("scope"), " ", "+"))})
}

const registryRoute = `
routes:
  - {preset: acr, hosts: [contoso.azurecr.io], upstream: "{upstream}", tls: {ca_file: "{ca}", server_name: example.com}}
`

func newRegistry(t *testing.T) (*registry, *rig) {
	t.Helper()
	g := &registry{}
	return g, rigging{
		creds: "\ncredentials:\n  default: {tenant_id: aaaabbbb-0000-cccc-1111-dddd2222eeee, client_id: 00001111-aaaa-2222-bbbb-3333cccc4444, client_secret: {env: UNUSED}}\n",
		alter: func(table *routes.Table) {
			if !table.Routes[0].Registry {
				t.Error("preset acr stands for no registry")
			}
		},
	}.newRig(t, registryRoute, newUpstream(t, false, g.ServeHTTP))
}

func (g *rig) status(t *testing.T, method, path string) int {
	t.Helper()
	req, err := http.NewRequest(method, g.front.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := g.front.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestARegistryGetsItsOwnTokenForEachRepositoryAndAction(t *testing.T) {
	r, g := newRegistry(t)
	for range 2 { // the second round is from the cache
		for _, call := range []string{
			"GET /v2/", "GET /v2/_catalog", "GET /v2/app/web/tags/list", "HEAD /v2/app/web/manifests/latest", "PUT /v2/app/web/manifests/latest",
			"POST /v2/app/web/blobs/uploads/?mount=sha256:0&from=base", "DELETE /v2/app/web/manifests/x", "GET /acr/v1/app/web/_tags", "PATCH /acr/v1/app/web",
		} {
			method, path, _ := strings.Cut(call, " ")
			if status := g.status(t, method, "/acr"+path); status != http.StatusOK {
				t.Errorf("%s: status %d", call, status)
			}
		}
	}
	if len(r.exchanged) != 1 || len(r.asked) != 8 || len(r.wrong) != 0 {
		t.Errorf("%d exchanges, access tokens for %q, wrong: %q; want one, eight and none", len(r.exchanged), r.asked, r.wrong)
	}
}

func TestARegistrysRefusalCostsOneTokenAndOneMoreTry(t *testing.T) {
	r, g := newRegistry(t)
	g.status(t, http.MethodGet, "/acr/v2/_catalog")
	r.mu.Lock()
	r.revoked = r.tokens
	r.mu.Unlock()
	if status := g.status(t, http.MethodGet, "/acr/v2/_catalog"); status != http.StatusOK || r.tokens != 2 || len(r.exchanged) != 1 {
		t.Errorf("status %d with %d access tokens and %d exchanges", status, r.tokens, len(r.exchanged))
	}
}

func TestAnExchangeThatIsRefusedRenewsEntrasToken(t *testing.T) {
	r, g := newRegistry(t)
	r.strict = 1
	if status := g.status(t, http.MethodGet, "/acr/v2/_catalog"); status != http.StatusOK || g.issuer.issued.Load() != 2 {
		t.Errorf("status %d after %d tokens of Entra", status, g.issuer.issued.Load())
	}
}

func TestARegistryThatRefusesIsNamedAndTheTokenIsNot(t *testing.T) {
	r, g := newRegistry(t)
	r.broken = http.StatusForbidden
	resp, err := g.front.Client().Get(g.front.URL + "/acr/v2/_catalog")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var problem struct{ Code, Detail, Remedy string }
	if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusBadGateway || problem.Code != "token_refused" || !strings.Contains(problem.Detail+problem.Remedy, "AcrPull") {
		t.Errorf("status %d: %+v", resp.StatusCode, problem)
	}
	if all := fmt.Sprint(problem, g.log.String(), g.events.the(1)); strings.Contains(all, "token-1.") {
		t.Errorf("a token shows: %.300s", all)
	}
	if n := len(r.asked); n != 0 {
		t.Errorf("%d access tokens were asked for", n)
	}
}
