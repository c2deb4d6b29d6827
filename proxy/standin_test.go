package proxy_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
)

// The servers that logins stand in for, the apps that call, and what they ask.
const (
	servers = `
credentials:
  graph: {tenant_id: contoso.com, client_id: the-app, client_secret: {env: UNUSED}}
  other: {tenant_id: contoso.com, client_id: another-app, client_secret: {env: UNUSED}}
  keycloak: {token_endpoint: "https://idp.test/realms/x/token", client_id: gw, client_secret: {env: UNUSED}}
  issuer: {issuer: "https://issuer.test/tenant/1", client_id: gw, client_secret: {env: UNUSED}}
`
	handing = `
callers:
  job: {api_key: {sha256: %x}}
  other: {api_key: {sha256: %x}}
routes:
  - {name: api, hosts: [example.com], credential: graph, scope: "https://graph.microsoft.com/.default", upstream: "{upstream}", tls: {ca_file: "{ca}"}}
  - {name: second, hosts: [second.test], credential: other, scope: "https://graph.microsoft.com/.default", callers: [job]}
  - {name: sql, hosts: [sql.test], credential: graph, scope: "https://database.windows.net//.default", callers: [job]}
  - {name: keycloak, hosts: [kc.test], credential: keycloak, scope: "read write", callers: [job]}
  - {name: issuer, hosts: [issued.test], credential: issuer, scope: read, callers: [job]}
`
	secretOfApp = "n0t-l00ked-at"
	graphLogin  = "grant_type=client_credentials&client_id=dummy&client_secret=" + secretOfApp + "&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"
)

var (
	microsoft = routes.Authority{Host: "login.microsoftonline.com", Port: 443}
	keycloak  = routes.Authority{Host: "idp.test", Port: 443}
	issuing   = routes.Authority{Host: "issuer.test", Port: 443}
)

// desk is a rig whose routes hand out placeholders, and a server that answers as
// the login hosts do inside of tunnels.
type desk struct {
	*rig
	sealer *gate.Sealer
	login  *httptest.Server // fields Caller and Host say whose login it is and where
}

// leftAlone is the status of what the stand-in left to others, whose body
// is given back.
const leftAlone = http.StatusTeapot

func newDesk(t testing.TB, alter func(*routes.Table)) *desk {
	t.Helper()
	sealer, err := gate.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	who := gate.NewIdentifier(gate.IdentifierOptions{})
	o := rigging{creds: servers, config: proxy.Config{Sealer: sealer, Identifier: who}, alter: func(table *routes.Table) {
		for _, r := range table.Routes {
			r.Placeholder = true
		}
		if alter != nil {
			alter(table)
		}
		if errs := who.Use(table); len(errs) > 0 {
			t.Fatal(errs)
		}
	}}
	text := fmt.Sprintf(handing, sha256.Sum256([]byte(key)), sha256.Sum256([]byte("k3y-0f-other")))
	d := &desk{rig: o.newRig(t, text, newUpstream(t, false, echo)), sealer: sealer}
	d.login = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, err := routes.ParseAuthority(r.Host, 443)
		if err != nil {
			t.Error(err)
		}
		if d.handler.StandIn(w, r, r.Header.Get("Caller"), a) {
			return
		}
		w.WriteHeader(leftAlone)
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(d.login.Close)
	return d
}

// asking is a call to a login host. A body makes it a POST.
type asking struct {
	caller string
	host   routes.Authority
	path   string
	form   string
	header http.Header
}

func (d *desk) ask(t testing.TB, a asking) (*http.Response, string) {
	t.Helper()
	method, body := http.MethodGet, io.Reader(nil)
	if a.form != "" {
		method, body = http.MethodPost, strings.NewReader(a.form)
	}
	req, err := http.NewRequest(method, d.login.URL+a.path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = a.host.Host
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, values := range a.header {
		req.Header[name] = values
	}
	req.Header.Set("Caller", a.caller)
	resp, err := d.client(t, false).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// document reads an answer's JSON.
func document[T any](t testing.TB, body string) (doc T) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatalf("%v: %.300s", err, body)
	}
	return doc
}

// oauthAnswer is what a token endpoint may say.
type oauthAnswer struct {
	AccessToken      string `json:"access_token"`
	Error            string `json:"error"`
	ErrorDescription string `json:"error_description"`
	ErrorCodes       []int  `json:"error_codes"`
	TraceID          string `json:"trace_id"`
	CorrelationID    string `json:"correlation_id"`
	Timestamp        string `json:"timestamp"`
	ErrorURI         string `json:"error_uri"`
}

// opened is the placeholder of an answer.
func (d *desk) opened(t testing.TB, body string) gate.Placeholder {
	t.Helper()
	text := document[oauthAnswer](t, body).AccessToken
	p, ok := d.sealer.Open(text)
	if !ok {
		t.Fatalf("%q is no placeholder of ours: %.300s", text, body)
	}
	return p
}

func TestClientCredentialsGetAPlaceholder(t *testing.T) {
	d := newDesk(t, nil)
	for _, tt := range []struct {
		name string
		ask  asking
		want gate.Placeholder
	}{
		{"secret", asking{"job", microsoft, "/contoso.com/oauth2/v2.0/token", graphLogin, nil},
			gate.Placeholder{Caller: "job", Tenant: "contoso.com", Scope: "https://graph.microsoft.com/.default"}},
		{"another caller", asking{"other", microsoft, "/contoso.com/oauth2/v2.0/token", graphLogin, nil},
			gate.Placeholder{Caller: "other", Tenant: "contoso.com", Scope: "https://graph.microsoft.com/.default"}},
		{"upper case, and MSAL for Go", asking{"job", microsoft, "/CONTOSO.com/OAuth2/v2.0/token?x=1", graphLogin + "+openid+offline_access+profile", nil},
			gate.Placeholder{Caller: "job", Tenant: "contoso.com", Scope: "https://graph.microsoft.com/.default"}},
		{"assertion", asking{"job", microsoft, "/contoso.com/oauth2/v2.0/token", "grant_type=client_credentials&client_assertion=a.b.c&client_assertion_type=x&scope=https://database.windows.net//.default", nil},
			gate.Placeholder{Caller: "job", Tenant: "contoso.com", Scope: "https://database.windows.net//.default"}},
		{"first endpoint", asking{"job", microsoft, "/contoso.com/oauth2/token", "grant_type=client_credentials&resource=https://database.windows.net/", nil},
			gate.Placeholder{Caller: "job", Tenant: "contoso.com", Scope: "https://database.windows.net//.default"}},
		{"first endpoint, with a slash more", asking{"job", microsoft, "/contoso.com/oauth2/token", "grant_type=client_credentials&resource=https://graph.microsoft.com/", nil},
			gate.Placeholder{Caller: "job", Tenant: "contoso.com", Scope: "https://graph.microsoft.com/.default"}},
		{"another server, Basic", asking{"job", keycloak, "/realms/x/token", "grant_type=client_credentials&scope=read+write", http.Header{"Authorization": {basic}}},
			gate.Placeholder{Caller: "job", Scope: "read write"}},
		{"an issuer", asking{"job", issuing, "/tenant/1/.gateway/token", "grant_type=client_credentials&scope=read", nil},
			gate.Placeholder{Caller: "job", Scope: "read"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := time.Now()
			resp, body := d.ask(t, tt.ask)
			if resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Gateway-Request-Id") == "" {
				t.Fatalf("status %d %v: %.500s", resp.StatusCode, resp.Header, body)
			}
			got := d.opened(t, body)
			if life := got.Expires.Sub(before); life < time.Hour-2*time.Second || life > time.Hour+2*time.Second {
				t.Errorf("it lives for %s, want an hour", life)
			}
			if got.Expires = (time.Time{}); got != tt.want {
				t.Errorf("it is %+v, want %+v", got, tt.want)
			}
			answer := document[map[string]any](t, body)
			if answer["token_type"] != "Bearer" || fmt.Sprint(answer["expires_in"]) != "3599" {
				t.Errorf("the answer is %.300s", body)
			}
		})
	}
	if n := d.issuer.issued.Load(); n != 0 {
		t.Errorf("%d tokens were got for placeholders", n)
	}
	e := d.events.the(1)
	if e.Door != audit.Tunnel || e.Template != "/{tenant}/oauth2/v2.0/token" || e.Status != 200 || e.Route != "api" || e.Credential != "graph" || e.Code != "" {
		t.Errorf("the record is %+v", e)
	}
}

func TestFirstEndpointCountsInText(t *testing.T) {
	d := newDesk(t, nil)
	_, body := d.ask(t, asking{caller: "job", host: microsoft, path: "/contoso.com/oauth2/token", form: "grant_type=client_credentials&resource=https://graph.microsoft.com"})
	answer := document[map[string]string](t, body)
	on, err := strconv.ParseInt(answer["expires_on"], 10, 64)
	if err != nil || time.Until(time.Unix(on, 0)) < 59*time.Minute || answer["resource"] != "https://graph.microsoft.com" {
		t.Errorf("the answer is %s", body)
	}
}

func TestClientIDPicksAmongRoutesThatWouldDoAllTheSame(t *testing.T) {
	d := newDesk(t, nil)
	d.ask(t, asking{caller: "job", host: microsoft, path: "/contoso.com/oauth2/v2.0/token", form: strings.Replace(graphLogin, "dummy", "ANOTHER-app", 1)})
	if e := d.events.the(1); e.Route != "second" {
		t.Errorf("route %q, want second", e.Route)
	}
}

func TestLoginThatNoRouteGivesGetsAnOAuthError(t *testing.T) {
	d := newDesk(t, nil)
	token := "/contoso.com/oauth2/v2.0/token"
	for _, tt := range []struct {
		name string
		ask  asking
		want string // error, number of Entra's, code of the log
	}{
		{"unknown tenant", asking{"job", microsoft, "/fabrikam.com/oauth2/v2.0/token", graphLogin, nil}, "invalid_request 90002 tenant_denied"},
		{"common", asking{"job", microsoft, "/common/oauth2/v2.0/token", graphLogin, nil}, "invalid_request 90002 tenant_denied"},
		{"unknown resource", asking{"job", microsoft, token, "grant_type=client_credentials&scope=api://x/.default", nil}, "invalid_resource 500011 caller_forbidden"},
		{"a resource of another caller", asking{"other", microsoft, token, "grant_type=client_credentials&scope=https://database.windows.net//.default", nil}, "invalid_resource 500011 caller_forbidden"},
		{"a permission", asking{"job", microsoft, token, "grant_type=client_credentials&scope=User.Read", nil}, "invalid_scope 70011 caller_forbidden"},
		{"two scopes", asking{"job", microsoft, token, graphLogin + "+x/.default", nil}, "invalid_scope 70011 caller_forbidden"},
		{"no scope", asking{"job", microsoft, token, "grant_type=client_credentials", nil}, "invalid_request 900144 caller_forbidden"},
		{"no grant", asking{"job", microsoft, token, "scope=x", nil}, "invalid_request 900144 bad_request"},
		{"a password", asking{"job", microsoft, token, "grant_type=password&username=u&password=" + secretOfApp + "&scope=x", nil}, "unsupported_grant_type 70003 not_supported"},
		{"a code", asking{"job", microsoft, token, "grant_type=authorization_code&code=" + secretOfApp, nil}, "unsupported_grant_type 70003 not_supported"},
		{"a refresh", asking{"job", microsoft, token, "grant_type=refresh_token&refresh_token=" + secretOfApp, nil}, "unsupported_grant_type 70003 not_supported"},
		{"on behalf", asking{"job", microsoft, token, "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=" + secretOfApp, nil}, "unsupported_grant_type 70003 not_supported"},
		{"two grants", asking{"job", microsoft, token, graphLogin + "&grant_type=password", nil}, "invalid_request 9002313 bad_request"},
		{"no form", asking{"job", microsoft, token, graphLogin + "&x=%zz", nil}, "invalid_request 9002313 bad_request"},
		{"JSON", asking{"job", microsoft, token, graphLogin, http.Header{"Content-Type": {"application/json"}}}, "invalid_request 9002313 bad_request"},
		{"encoded", asking{"job", microsoft, token, graphLogin, http.Header{"Content-Encoding": {"gzip"}}}, "invalid_request 9002313 bad_request"},
		{"another server", asking{"job", keycloak, "/realms/x/token", "grant_type=client_credentials&scope=read", nil}, "invalid_scope 0 caller_forbidden"},
		{"another server, no scope", asking{"job", keycloak, "/realms/x/token", "grant_type=client_credentials", nil}, "invalid_scope 0 caller_forbidden"},
		{"another server, a password", asking{"job", keycloak, "/realms/x/token", "grant_type=password", nil}, "unsupported_grant_type 0 not_supported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := d.ask(t, tt.ask)
			answer := document[oauthAnswer](t, body)
			number := 0
			if len(answer.ErrorCodes) == 1 {
				number = answer.ErrorCodes[0]
				if !strings.HasPrefix(answer.ErrorDescription, fmt.Sprintf("AADSTS%d: ", number)) || answer.TraceID == "" || answer.CorrelationID == "" ||
					answer.Timestamp == "" || answer.ErrorURI != fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", number) {
					t.Errorf("the answer is not of Entra's shape: %s", body)
				}
			}
			e := d.events.last()
			if got := fmt.Sprint(answer.Error, " ", number, " ", e.Code); got != tt.want || resp.StatusCode != 400 || answer.ErrorDescription == "" {
				t.Errorf("got %d %s, want 400 %s: %s", resp.StatusCode, got, tt.want, body)
			}
			if e.Remedy == "" || e.Cause == "" || e.Route != "" {
				t.Errorf("the record says cause %q, remedy %q, route %q", e.Cause, e.Remedy, e.Route)
			}
			if strings.Contains(body+e.Cause+e.Remedy+d.log.String(), secretOfApp) {
				t.Error("the app's secret is in the answer or the log")
			}
			if resp.Header.Get("Gateway-Error") != "" {
				t.Error("an OAuth error calls itself a refusal of the gateway's")
			}
		})
	}
}

func TestErrorEchoesTheClientsOwnRequestID(t *testing.T) {
	d := newDesk(t, nil)
	const id = "0a0b0c0d-1111-2222-3333-444455556666"
	for sent, want := range map[string]bool{id: true, "x\"y": false, "": false, strings.Repeat("a", 36): false} {
		_, body := d.ask(t, asking{"job", microsoft, "/x.com/oauth2/v2.0/token", graphLogin, http.Header{"Client-Request-Id": {sent}}})
		got := document[oauthAnswer](t, body)
		if (got.CorrelationID == sent) != want || len(got.CorrelationID) != 36 || len(got.TraceID) != 36 {
			t.Errorf("client-request-id %q: correlation_id %q, trace_id %q", sent, got.CorrelationID, got.TraceID)
		}
	}
}

func TestDiscoveryDocumentsLeadBackToTheStandIn(t *testing.T) {
	d := newDesk(t, nil)
	authorize := url.QueryEscape("https://login.microsoftonline.com/contoso.com/oauth2/v2.0/authorize")
	for _, tt := range []struct {
		ask   asking
		names map[string]string
	}{
		{asking{host: microsoft, path: "/contoso.com/v2.0/.well-known/openid-configuration"}, map[string]string{
			"issuer": "https://login.microsoftonline.com/contoso.com/v2.0", "token_endpoint": "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token",
			"authorization_endpoint": "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/authorize", "jwks_uri": "https://login.microsoftonline.com/contoso.com/discovery/v2.0/keys"}},
		{asking{host: microsoft, path: "/contoso.com/v2.0/.well-known/openid-configuration?slice=x"}, map[string]string{"token_endpoint": "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token"}},
		{asking{host: microsoft, path: "/organizations/v2.0/.well-known/openid-configuration"}, map[string]string{"token_endpoint": "https://login.microsoftonline.com/organizations/oauth2/v2.0/token"}},
		{asking{host: microsoft, path: "/contoso.com/.well-known/openid-configuration"}, map[string]string{"token_endpoint": "https://login.microsoftonline.com/contoso.com/oauth2/token"}},
		{asking{host: microsoft, path: "/common/discovery/instance?api-version=1.1&authorization_endpoint=" + authorize}, map[string]string{
			"tenant_discovery_endpoint": "https://login.microsoftonline.com/contoso.com/v2.0/.well-known/openid-configuration"}},
		{asking{host: issuing, path: "/.well-known/oauth-authorization-server/tenant/1"}, map[string]string{"issuer": "https://issuer.test/tenant/1", "token_endpoint": "https://issuer.test/tenant/1/.gateway/token"}},
		{asking{host: issuing, path: "/tenant/1/.well-known/openid-configuration"}, map[string]string{"issuer": "https://issuer.test/tenant/1"}},
	} {
		tt.ask.caller = "job"
		resp, body := d.ask(t, tt.ask)
		if resp.StatusCode != 200 {
			t.Errorf("%s: status %d", tt.ask.path, resp.StatusCode)
			continue
		}
		answer := document[map[string]any](t, body)
		for name, want := range tt.names {
			if answer[name] != want {
				t.Errorf("%s: %s = %v, want %s", tt.ask.path, name, answer[name], want)
			}
		}
	}
	_, body := d.ask(t, asking{caller: "job", host: microsoft, path: "/common/discovery/instance?api-version=1.1&authorization_endpoint=" + authorize})
	if !strings.Contains(body, `"aliases":["login.microsoftonline.com"]`) {
		t.Errorf("the app may be led to another host: %s", body)
	}
}

func TestStandInLeavesAloneWhatIsNoLoginOfItsRoutes(t *testing.T) {
	d := newDesk(t, func(table *routes.Table) {
		table.Egress.Allow = []routes.HostPattern{{Host: keycloak.Host, Port: 443}}
	})
	other := url.QueryEscape("https://login.partner.microsoftonline.cn/x/oauth2/v2.0/authorize")
	for name, a := range map[string]asking{
		"a sign-in page":                  {"job", microsoft, "/contoso.com/oauth2/v2.0/authorize?client_id=x", "", nil},
		"a device's login":                {"job", microsoft, "/contoso.com/oauth2/v2.0/devicecode", "client_id=x", nil},
		"the realm of a user":             {"job", microsoft, "/common/userrealm/a@b.c?api-version=1.0", "", nil},
		"keys":                            {"job", microsoft, "/contoso.com/discovery/v2.0/keys", "", nil},
		"a token asked for by GET":        {"job", microsoft, "/contoso.com/oauth2/v2.0/token", "", nil},
		"a tenant that is none":           {"job", microsoft, "/con%74oso.com/oauth2/v2.0/token", graphLogin, nil},
		"a tenant with a slash":           {"job", microsoft, "//oauth2/v2.0/token", graphLogin, nil},
		"instances of another host":       {"job", microsoft, "/common/discovery/instance?authorization_endpoint=" + other, "", nil},
		"instances of nothing":            {"job", microsoft, "/common/discovery/instance", "", nil},
		"another realm":                   {"job", keycloak, "/realms/y/token", graphLogin, nil},
		"Entra's paths at another server": {"job", keycloak, "/contoso.com/oauth2/v2.0/token", graphLogin, nil},
		"a caller without a route there":  {"other", keycloak, "/realms/x/token", "grant_type=client_credentials&scope=read+write", nil},
		"nobody":                          {"", microsoft, "/contoso.com/oauth2/v2.0/token", graphLogin, nil},
		"another port":                    {"job", routes.Authority{Host: "login.microsoftonline.com:8443"}, "/contoso.com/oauth2/v2.0/token", graphLogin, nil},
		"a password where egress passes":  {"job", keycloak, "/realms/x/token", "grant_type=password&username=u", nil},
	} {
		resp, body := d.ask(t, a)
		if resp.StatusCode != leftAlone || body != a.form {
			t.Errorf("%s: status %d with %.200q; want it left alone, with its body whole", name, resp.StatusCode, body)
		}
		if e := d.events.last(); e.Template != "" || e.Route != "" || e.Code != "" {
			t.Errorf("%s: the record is stamped %q, %q, %q", name, e.Template, e.Route, e.Code)
		}
	}
}

func TestLongLoginIsRefused(t *testing.T) {
	d := newDesk(t, nil)
	resp, body := d.ask(t, asking{"job", microsoft, "/contoso.com/oauth2/v2.0/token", graphLogin + "&client_assertion=" + strings.Repeat("x", 64<<10), nil})
	if resp.StatusCode != 413 || resp.Header.Get("Gateway-Error") != "too_large" {
		t.Errorf("got %d: %.200s", resp.StatusCode, body)
	}
	resp, body = d.ask(t, asking{"job", microsoft, "/contoso.com/oauth2/v2.0/token", graphLogin + "&client_assertion=" + strings.Repeat("x", 60<<10), nil})
	if resp.StatusCode != 200 {
		t.Errorf("a long assertion got %d: %.200s", resp.StatusCode, body)
	}
}

func TestRoutesWithoutPlaceholdersHaveNoStandIn(t *testing.T) {
	d := newDesk(t, func(table *routes.Table) {
		for _, r := range table.Routes {
			r.Placeholder = false
		}
	})
	if resp, _ := d.ask(t, asking{"job", microsoft, "/contoso.com/oauth2/v2.0/token", graphLogin, nil}); resp.StatusCode != leftAlone {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// FuzzStandIn: whatever is asked, no answer but a login's holds a placeholder,
// and it is the caller's own.
func FuzzStandIn(f *testing.F) {
	d := newDesk(f, nil)
	f.Add("/contoso.com/oauth2/v2.0/token", graphLogin)
	f.Add("/contoso.com/oauth2/token", "grant_type=client_credentials&resource=https://graph.microsoft.com")
	f.Add("/common/discovery/instance?authorization_endpoint=https://login.microsoftonline.com/x/y", "")
	f.Add("/x/v2.0/.well-known/openid-configuration", "")
	f.Add("//", "grant_type=password")
	f.Fuzz(func(t *testing.T, path, form string) {
		if !strings.HasPrefix(path, "/") || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return
		}
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		method := http.MethodGet
		if form != "" {
			method = http.MethodPost
		}
		r := httptest.NewRequest(method, "http://login.microsoftonline.com/", strings.NewReader(form))
		r.URL, r.RequestURI = u, path
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		served := d.handler.StandIn(w, r, "job", microsoft)
		body := w.Body.String()
		switch {
		case !served && body != "":
			t.Errorf("%q wrote %q and was not served", path, body)
		case served && w.Code != 200 && w.Code != 400 && w.Code != 413:
			t.Errorf("%q: status %d", path, w.Code)
		case strings.Contains(body, gate.PlaceholderPrefix):
			form, err := url.ParseQuery(form)
			if p := d.opened(t, body); p.Caller != "job" || err != nil || form.Get("grant_type") != "client_credentials" {
				t.Errorf("%q, %q: %s", path, form, body)
			}
		}
	})
}
