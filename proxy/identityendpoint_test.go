package proxy_test

import (
	"fmt"

	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
)

const (
	identity   = "/.gateway/identity/token"
	graphAsked = identity + "?api-version=2019-08-01&resource=https%3A%2F%2Fgraph.microsoft.com"
)

func TestManagedIdentityEndpointHandsOutAPlaceholder(t *testing.T) {
	d := newDesk(t, nil)
	for _, tt := range []struct {
		name, path, header, key string
		want                    gate.Placeholder
		client                  string
	}{
		{"App Service", graphAsked, "X-Identity-Header", key,
			gate.Placeholder{Caller: "job", Tenant: "contoso.com", Scope: "https://graph.microsoft.com/.default"}, "the-app"},
		{"with a slash", graphAsked + "/", "X-Identity-Header", key,
			gate.Placeholder{Caller: "job", Tenant: "contoso.com", Scope: "https://graph.microsoft.com/.default"}, "the-app"},
		{"another caller", graphAsked, "X-Identity-Header", "k3y-0f-other",
			gate.Placeholder{Caller: "other", Tenant: "contoso.com", Scope: "https://graph.microsoft.com/.default"}, "the-app"},
		{"an audience that ends in a slash", identity + "?api-version=2019-08-01&resource=https://database.windows.net", "X-Identity-Header", key,
			gate.Placeholder{Caller: "job", Tenant: "contoso.com", Scope: "https://database.windows.net//.default"}, "the-app"},
		{"a client that picks", graphAsked + "&client_id=another-app", "X-Identity-Header", key,
			gate.Placeholder{Caller: "job", Tenant: "contoso.com", Scope: "https://graph.microsoft.com/.default"}, "another-app"},
		{"a client of where the app ran before", graphAsked + "&client_id=0000", "X-Identity-Header", key,
			gate.Placeholder{Caller: "job", Tenant: "contoso.com", Scope: "https://graph.microsoft.com/.default"}, "0000"},
		{"an object", graphAsked + "&object_id=1&mi_res_id=/subscriptions/x", "X-Identity-Header", key,
			gate.Placeholder{Caller: "job", Tenant: "contoso.com", Scope: "https://graph.microsoft.com/.default"}, "the-app"},
		{"2017", identity + "?api-version=2017-09-01&resource=https://graph.microsoft.com&clientid=another-app", "Secret", key,
			gate.Placeholder{Caller: "job", Tenant: "contoso.com", Scope: "https://graph.microsoft.com/.default"}, "another-app"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := d.get(t, tt.path, tt.header, tt.key)
			if resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "no-store" {
				t.Fatalf("status %d: %.400s", resp.StatusCode, body)
			}
			got := d.opened(t, body)
			answer := document[map[string]string](t, body)
			on, err := strconv.ParseInt(answer["expires_on"], 10, 64)
			if err != nil || on != got.Expires.Unix() || time.Until(got.Expires) < 59*time.Minute {
				t.Errorf("expires_on = %q, sealed %s", answer["expires_on"], got.Expires)
			}
			if answer["token_type"] != "Bearer" || answer["client_id"] != tt.client || !strings.HasPrefix(answer["resource"], "https://") {
				t.Errorf("the answer is %s", body)
			}
			if got.Expires = (time.Time{}); got != tt.want {
				t.Errorf("it is %+v, want %+v", got, tt.want)
			}
		})
	}
	if n := d.issuer.issued.Load(); n != 0 {
		t.Errorf("%d tokens were got for placeholders", n)
	}
	e := d.events.the(1)
	if e.Door != audit.Reverse || e.Template != identity || e.Caller != "job" || e.Route != "api" || e.Status != 200 {
		t.Errorf("the record is %+v", e)
	}
}

func TestManagedIdentityEndpointRefuses(t *testing.T) {
	d := newDesk(t, nil)
	ask := func(method, target string, fields ...string) string {
		return method + " " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + strings.Join(append(fields, "\r\n"), "\r\n")
	}
	shown := "X-IDENTITY-HEADER: " + key
	for _, tt := range []struct{ name, request, want, code string }{
		{"no key", ask("GET", graphAsked), "400", "bad_request"},
		{"an empty key", ask("GET", graphAsked, "X-IDENTITY-HEADER: "), "400", "bad_request"},
		{"a wrong key", ask("GET", graphAsked, "X-IDENTITY-HEADER: guess"), "401", "caller_unknown"},
		{"a wrong key beside a right one", ask("GET", graphAsked, "X-IDENTITY-HEADER: guess", "X-Gateway-Authorization: Bearer "+key), "401", "caller_unknown"},
		{"two keys", ask("GET", graphAsked, shown, shown), "401", "caller_unknown"},
		{"a key elsewhere", ask("GET", graphAsked, "X-Gateway-Authorization: Bearer "+key), "400", "bad_request"},
		{"POST", ask("POST", graphAsked, shown, "Content-Length: 0"), "405", "method_refused"},
		{"HEAD", ask("HEAD", graphAsked, shown), "405", "method_refused"},
		{"a page", ask("GET", graphAsked, shown, "Origin: http://evil.test"), "403", "browser_refused"},
		{"a page's image", ask("GET", graphAsked, shown, "Sec-Fetch-Site: cross-site"), "403", "browser_refused"},
		{"a name that was rebound", strings.Replace(ask("GET", graphAsked, shown), "localhost", "evil.test", 1), "421", "misdirected"},
		{"no resource", ask("GET", identity+"?api-version=2019-08-01", shown), "400", "bad_request"},
		{"two resources", ask("GET", graphAsked+"&resource=x", shown), "400", "bad_request"},
		{"no version", ask("GET", identity+"?resource=x", shown), "400", "bad_request"},
		{"the version of a metadata service", ask("GET", identity+"?api-version=2018-02-01&resource=x", shown), "400", "bad_request"},
		{"a query that is none", ask("GET", graphAsked+"&x=%zz", shown), "400", "bad_request"},
		{"an unknown resource", ask("GET", identity+"?api-version=2019-08-01&resource=https://vault.azure.net", shown), "400", "caller_forbidden"},
		{"a resource of another caller", ask("GET", identity+"?api-version=2019-08-01&resource=https://database.windows.net/", "X-IDENTITY-HEADER: k3y-0f-other"), "400", "caller_forbidden"},
		{"the forward door", ask("GET", "http://localhost"+graphAsked, shown), "407", "caller_unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := d.raw(t, tt.request)
			if !strings.HasPrefix(got, "HTTP/1.1 "+tt.want+" ") || strings.Contains(got, gate.PlaceholderPrefix) {
				t.Fatalf("got %.300s, want %s", got, tt.want)
			}
			if e := d.events.last(); e.Code != tt.code || e.Cause == "" || strings.Contains(e.Cause+e.Remedy, key) {
				t.Errorf("the record says %s, %q, %q; want %s", e.Code, e.Cause, e.Remedy, tt.code)
			}
			if _, body, _ := strings.Cut(got, "\r\n\r\n"); tt.want == "400" || tt.want == "401" {
				answer := document[struct {
					StatusCode int
					Message    string
				}](t, body)
				if strconv.Itoa(answer.StatusCode) != tt.want || answer.Message == "" {
					t.Errorf("the answer is not of App Service's shape: %s", body)
				}
			}
		})
	}
}

func TestManagedIdentityEndpointSaysWhoMayAskAsEveryDoorDoes(t *testing.T) {
	d := newDesk(t, nil)
	resp, body := d.get(t, graphAsked, "X-Identity-Header", "guess")
	answer := document[map[string]any](t, body)
	if resp.StatusCode != 401 || resp.Header.Get("Gateway-Error") != "caller_unknown" || resp.Header.Get("Www-Authenticate") == "" ||
		resp.Header.Get("Content-Type") != "application/problem+json" || answer["code"] != "caller_unknown" || answer["statusCode"] != 401.0 {
		t.Errorf("got %d %v %s", resp.StatusCode, resp.Header, body)
	}
	if message, _ := answer["message"].(string); !strings.Contains(message, "caller_unknown") || !strings.Contains(message, "IDENTITY_HEADER") {
		t.Errorf("the message that SDKs show is %q", message)
	}
}

// Any other spelling of the path, and any other below it, is nobody's.
func TestManagedIdentityEndpointHasOnePath(t *testing.T) {
	d := newDesk(t, nil)
	for _, path := range []string{identity + "/", "/.gateway/%69dentity/token", "//.gateway/identity/token", "/.gateway/identity", "/.gateway/identity/TOKEN"} {
		resp, body := d.get(t, path+"?api-version=2019-08-01&resource=https://graph.microsoft.com", "X-Identity-Header", key, "X-Gateway-Authorization", basic)
		if resp.StatusCode != 404 || resp.Header.Get("Gateway-Error") != "route_unknown" {
			t.Errorf("%s: status %d: %.200s", path, resp.StatusCode, body)
		}
	}
}

func TestManagedIdentityEndpointWithoutCallersStillWantsTheField(t *testing.T) {
	sealer, err := gate.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	for handsOut, want := range map[bool]int{true: 200, false: 400} {
		o := rigging{creds: servers, config: proxy.Config{Sealer: sealer}, alter: func(table *routes.Table) { table.Routes[0].Placeholder = handsOut }}
		g := o.newRig(t, `routes: [{name: api, hosts: [example.com], credential: graph, scope: "https://graph.microsoft.com/.default"}]`, nil)
		resp, body := g.get(t, graphAsked, "X-Identity-Header", "any word")
		if resp.StatusCode != want {
			t.Errorf("hands out %v: status %d, want %d: %s", handsOut, resp.StatusCode, want, body)
		}
		if handsOut {
			if p, ok := sealer.Open(document[map[string]string](t, body)["access_token"]); !ok || p.Caller != "" {
				t.Errorf("it is %+v, %v", p, ok)
			}
		}
		if resp, _ := g.get(t, graphAsked); resp.StatusCode != 400 {
			t.Errorf("without the field: status %d, want 400", resp.StatusCode)
		}
	}
}

func TestManagedIdentityEndpointHoldsOffWhoGuesses(t *testing.T) {
	d := newDesk(t, nil)
	for range 20 {
		resp, _ := d.get(t, graphAsked, "X-Identity-Header", "guess")
		if resp.StatusCode == http.StatusTooManyRequests {
			if resp.Header.Get("Retry-After") == "" {
				t.Error("it does not say for how long")
			}
			if resp, _ := d.get(t, graphAsked, "X-Identity-Header", key); resp.StatusCode != 200 {
				t.Errorf("the right key gets %d meanwhile, want 200", resp.StatusCode)
			}
			return
		}
	}
	t.Error("20 wrong keys were answered at once")
}

func TestPlaceholderIsReplacedForItsCallerAndRefusedForAnother(t *testing.T) {
	d := newDesk(t, nil)
	hold := func(caller string, life time.Duration) string {
		text, err := d.sealer.Seal(gate.Placeholder{Caller: caller, Scope: "s", Expires: time.Now().Add(life)})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	foreign, err := gate.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	unread, err := foreign.Seal(gate.Placeholder{Caller: "other", Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, authorization string
		want                int
	}{
		{"its own", "Bearer " + hold("job", time.Hour), 200},
		{"another's", "Bearer " + hold("other", time.Hour), 403},
		{"another's, otherwise spelled", "bearer   " + hold("other", time.Hour), 403},
		{"another's, after its end", "Bearer " + hold("other", -time.Second), 200},
		{"that of another gateway", "Bearer " + unread, 200},
		{"of a table without callers", "Bearer " + hold("", time.Hour), 200},
		{"no placeholder", "Bearer mine", 200},
	} {
		for door, fields := range map[string]string{
			"/api/x":               "X-Gateway-Authorization: " + basic,
			"http://example.com/x": "Proxy-Authorization: " + basic,
		} {
			t.Run(tt.name+" "+door, func(t *testing.T) {
				got := d.raw(t, "GET "+door+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+fields+"\r\nAuthorization: "+tt.authorization+"\r\n\r\n")
				if !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", tt.want)) {
					t.Fatalf("got %.400s, want %d", got, tt.want)
				}
				if strings.Contains(got, gate.PlaceholderPrefix) {
					t.Error("the placeholder reached the upstream")
				}
				if tt.want == 200 {
					if !strings.Contains(got, `"token":1`) {
						t.Errorf("the upstream got no token: %.400s", got)
					}
					return
				}
				e := d.events.last()
				if e.Code != "caller_forbidden" || !strings.HasSuffix(e.Cause, ": caller job shows a placeholder that was handed out to caller other") || e.Remedy == "" || !strings.Contains(got, "Gateway-Error: caller_forbidden") {
					t.Errorf("the record says %s, %q: %.300s", e.Code, e.Cause, got)
				}
				if _, body, _ := strings.Cut(got, "\r\n\r\n"); strings.Contains(body, "other\"") || strings.Contains(body, "caller other") {
					t.Errorf("the answer tells whose it is: %s", body)
				}
			})
		}
	}
}

// The second of two fields is looked at too.
func TestPlaceholderOfAnotherIsFoundInAnyField(t *testing.T) {
	d := newDesk(t, nil)
	text, err := d.sealer.Seal(gate.Placeholder{Caller: "other", Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	resp, body := d.get(t, "/api/x", "X-Gateway-Authorization", basic, "Authorization", "Bearer mine", "Authorization", "Bearer "+text)
	if resp.StatusCode != 403 {
		t.Errorf("status %d: %s", resp.StatusCode, body)
	}
}
