package proxy_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

const tenant = "aaaabbbb-0000-cccc-1111-dddd2222eeee"

// entra makes the route's credential one of Entra, with scope.
func entra(scope string) func(*routes.Table) {
	return func(table *routes.Table) {
		c := *table.Credentials[0]
		c.TokenEndpoint, c.TenantID, c.AuthorityHost, c.ClientID = "", tenant, "https://login.microsoftonline.com", "client-1"
		table.Credentials[0], table.Routes[0].Credential, table.Routes[0].Scope = &c, &c, scope
	}
}

// devOps is a route to an API that is known for its sign-in pages.
func devOps(table *routes.Table) {
	entra("499b84ac-1321-427f-aa17-267ca6975798/.default")(table)
	table.Routes[0].SignIn = true
}

func TestSignInPageIsToldFromOtherAnswers(t *testing.T) {
	plainRoute := entra("api://x/.default")
	tests := []struct {
		name     string
		alter    func(*routes.Table)
		status   int
		location string
		want     string // in the remark; "" for none
	}{
		{"203 of Azure DevOps", devOps, 203, "", "answered 203 with a sign-in page instead of 401"},
		{"203 elsewhere", plainRoute, 203, "", ""},
		{"200", devOps, 200, "https://login.microsoftonline.com/", ""},
		{"public cloud", plainRoute, 302, "https://login.microsoftonline.com/common/oauth2/authorize?client_id=x", "sign-in page at login.microsoftonline.com"},
		{"in capitals, with a port", plainRoute, 307, "HTTPS://LOGIN.MicrosoftOnline.com:443/", "login.microsoftonline.com"},
		{"over http", plainRoute, 303, "http://login.microsoftonline.com/", "login.microsoftonline.com"},
		{"US Government", plainRoute, 303, "https://login.microsoftonline.us/x", "login.microsoftonline.us"},
		{"China", plainRoute, 307, "https://login.partner.microsoftonline.cn/x", "login.partner.microsoftonline.cn"},
		{"China's older name", plainRoute, 302, "https://login.chinacloudapi.cn/x", "login.chinacloudapi.cn"},
		{"consumers", devOps, 302, "https://login.live.com/oauth20_authorize.srf", "login.live.com"},
		{"older name", plainRoute, 302, "https://login.windows.net/common", "login.windows.net"},
		{"External ID", plainRoute, 302, "https://contoso.ciamlogin.com/contoso", "contoso.ciamlogin.com"},
		{"no host is meant", plainRoute, 302, "//login.microsoftonline.com/x", "login.microsoftonline.com"},
		{"DevOps", devOps, 302, "https://spsprodeus21.vssps.visualstudio.com/_signin?realm=dev.azure.com", "spsprodeus21.vssps.visualstudio.com"},
		{"DevOps seen from a plain route", plainRoute, 302, "https://app.vssps.visualstudio.com/_signin", "app.vssps.visualstudio.com"},
		{"an organization's", plainRoute, 302, "https://contoso.visualstudio.com/_SignIn", "contoso.visualstudio.com"},
		{"DevOps, relative", devOps, 302, "/contoso/_signin?x=1", "example.com"},
		{"relative elsewhere", plainRoute, 302, "/_signin", ""},
		{"another page of DevOps", devOps, 302, "https://dev.azure.com/contoso/_projects", ""},
		{"another host", plainRoute, 302, "https://example.org/login.microsoftonline.com", ""},
		{"host that only ends alike", plainRoute, 302, "https://evil-login.microsoftonline.com.example.org/", ""},
		{"no Location", plainRoute, 302, "", ""},
		{"no host", plainRoute, 302, "https://login_x.test/", ""},
		{"304", devOps, 304, "https://login.microsoftonline.com/", ""},
		{"the token endpoint's host", nil, 302, "https://login.test/realms/x/auth", "login.test"},
		{"another port of it", nil, 302, "https://login.test:8443/", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int64
			g := rigging{alter: tt.alter}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				if tt.location != "" {
					w.Header().Set("Location", tt.location)
				}
				w.WriteHeader(tt.status)
			}))
			resp, _ := g.get(t, "/api/x")
			e := g.events.the(1)
			if resp.StatusCode != tt.status || resp.Header.Get("Gateway-Error") != "" || calls.Load() != 1 || g.issuer.issued.Load() != 1 {
				t.Errorf("status %d after %d calls and %d tokens, want %d after 1 and 1", resp.StatusCode, calls.Load(), g.issuer.issued.Load(), tt.status)
			}
			if strings.HasPrefix(tt.location, "https://") && resp.Header.Get("Location") != tt.location {
				t.Errorf("Location = %q, want %q untouched", resp.Header.Get("Location"), tt.location)
			}
			marked := e.Retry == audit.SignInPage && strings.HasPrefix(e.Remark, "not authenticated: ") && e.Remedy != ""
			if tt.want == "" && e.Remark+e.Remedy+string(e.Retry) != "" || tt.want != "" && (!marked || !strings.Contains(e.Remark, tt.want)) {
				t.Errorf("remark %q, remedy %q, retry %q; want %q", e.Remark, e.Remedy, e.Retry, tt.want)
			}
			if logged := strings.Contains(g.log.String(), "not authenticated"); logged != (tt.want != "") {
				t.Errorf("log: %s", g.log)
			}
		})
	}
}

func TestRouteIsRemarkedOnOnceAMinuteAndEachCallInItsLine(t *testing.T) {
	up := newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNonAuthoritativeInfo) })
	g := rigging{alter: devOps}.newRig(t, plain, up)
	for i := range 5 {
		g.get(t, "/api/x")
		if e := g.events.the(i + 1); e.Remark == "" || e.Code != "" {
			t.Errorf("call %d: remark %q, code %q; want a remark alone", i, e.Remark, e.Code)
		}
		if i == 3 {
			g.use(t, plain, up) // a reload is no reason to repeat it
		}
	}
	line := g.log.String()
	if n := strings.Count(line, "not authenticated"); n != 1 || !strings.Contains(line, `"level":"warn"`) || !strings.Contains(line, `"gateway.route":"api"`) || !strings.Contains(line, "client-1") {
		t.Errorf("%d remarks in the log, want 1 with route and client_id: %s", n, line)
	}
}

func TestSignInPageAfterARenewalIsARefusalOfBothTokens(t *testing.T) {
	g := rigging{alter: devOps}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		if number(r.Header.Get("Authorization")) == 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusNonAuthoritativeInfo)
	}))
	g.get(t, "/api/x")
	if e := g.events.the(1); e.Retry != audit.RefusedAgain || e.Remark == "" {
		t.Errorf("retry %q, remark %q; want refused_again and a remark", e.Retry, e.Remark)
	}
}

func TestRefusalForAnotherTenantOrAudienceIsNotAnsweredByARenewal(t *testing.T) {
	const elsewhere = "bbbbcccc-1111-dddd-2222-eeee3333ffff"
	const claims = `, error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnt9fQ=="`
	vault := `Bearer authorization="https://login.microsoftonline.com/` + elsewhere + `", resource="https://vault.azure.net"`
	tests := []struct {
		name, scope string
		challenge   string
		issued      int64
		want        string // in the remark
	}{
		{"other tenant", "https://vault.azure.net/.default", vault, 1, elsewhere},
		{"other audience", "https://storage.azure.com/.default", strings.ReplaceAll(vault, elsewhere, tenant), 1, "https://vault.azure.net"},
		{"unquoted", "https://graph.microsoft.com/.default", `Bearer authorization_uri=https://login.microsoftonline.com/` + tenant + `/oauth2/authorize resource_id=https://storage.azure.com`, 1, "https://storage.azure.com"},
		{"neither", "https://vault.azure.net/.default", strings.ReplaceAll(vault, elsewhere, tenant), 2, ""},
		{"common", "https://vault.azure.net/.default", strings.ReplaceAll(vault, elsewhere, "common"), 2, ""},
		{"no challenge", "https://vault.azure.net/.default", "", 2, ""},
		{"a claims challenge counts first", "https://vault.azure.net/.default", vault + claims, 2, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := rigging{alter: entra(tt.scope)}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
				if tt.challenge != "" {
					w.Header().Set("WWW-Authenticate", tt.challenge)
				}
				w.WriteHeader(http.StatusUnauthorized)
			}))
			resp, _ := g.get(t, "/api/x")
			e := g.events.the(1)
			if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != tt.challenge || g.issuer.issued.Load() != tt.issued {
				t.Errorf("%d %q after %d tokens, want the upstream's 401 after %d", resp.StatusCode, resp.Header.Get("WWW-Authenticate"), g.issuer.issued.Load(), tt.issued)
			}
			const general = "the upstream answered 401 to the token, and to a fresh one as well"
			if tt.want == "" && (e.Remark != general || !strings.Contains(e.Remedy, "gateway token api") || e.Retry != audit.RefusedAgain) {
				t.Errorf("remark %q, remedy %q, retry %q; want %q and refused_again", e.Remark, e.Remedy, e.Retry, general)
			}
			if tt.want != "" && (!strings.Contains(e.Remark, tt.want) || e.Remedy == "" || e.Retry != audit.Mismatch || !strings.Contains(g.log.String(), tt.want)) {
				t.Errorf("remark %q, remedy %q, retry %q, log %s; want %q named", e.Remark, e.Remedy, e.Retry, g.log, tt.want)
			}
		})
	}
}

func TestSameTokenAgainMeansThe401Passes(t *testing.T) {
	var calls atomic.Int64
	g := rigging{always: "the platform's one token"}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	for i := range 3 {
		resp, _ := g.get(t, "/api/x")
		if resp.StatusCode != 401 || resp.Header.Get("Gateway-Error") != "" {
			t.Errorf("call %d: %d %s, want the upstream's own 401", i, resp.StatusCode, resp.Header.Get("Gateway-Error"))
		}
		if e := g.events.the(i + 1); e.Retry != audit.HeldBack {
			t.Errorf("call %d: retry %q, want held_back", i, e.Retry)
		}
	}
	if calls.Load() != 3 || g.issuer.issued.Load() != 2 {
		t.Errorf("%d calls and %d tokens, want 3 and 2: the same token is not tried twice nor asked for again", calls.Load(), g.issuer.issued.Load())
	}
}

func TestForbiddenCallIsRemarkedOnAndNeverRenewed(t *testing.T) {
	access, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"aud": "https://graph.microsoft.com", "roles": []string{"User.Read.All"}}).SignedString([]byte("k"))
	if err != nil {
		t.Fatal(err)
	}
	forbid := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"error":{"code":"Authorization_RequestDenied"}}`))
	}
	for name, tt := range map[string]struct {
		rigging
		path           string
		remark, remedy string
	}{
		"a call of Graph that is known": {rigging{always: access, alter: entra("https://graph.microsoft.com/.default")}, "/api/v1.0/users/u1/messages",
			"User.Read.All; GET /v1.0/users/{id}/messages wants Mail.ReadBasic.All", "az ad app permission add --id client-1 --api 00000003-0000-0000-c000-000000000000 --api-permissions "},
		"roles":        {rigging{always: access, alter: entra("https://graph.microsoft.com/.default")}, "/api/x", "User.Read.All", "https://login.microsoftonline.com/" + tenant + "/adminconsent?client_id=client-1"},
		"opaque":       {rigging{always: "opaque", alter: entra("https://graph.microsoft.com/.default")}, "/api/x", "", ""},
		"other server": {rigging{always: access}, "/api/v1.0/users", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := tt.newRig(t, plain, newUpstream(t, false, forbid))
			for i := range 3 {
				resp, body := g.get(t, tt.path)
				e := g.events.the(i + 1)
				if resp.StatusCode != 403 || !strings.Contains(body, "Authorization_RequestDenied") || e.Retry != "" {
					t.Errorf("%d %q, retry %q; want the upstream's own 403", resp.StatusCode, body, e.Retry)
				}
				if !strings.Contains(e.Remark, tt.remark) || !strings.Contains(e.Remedy, tt.remedy) || (tt.remark == "") != (e.Remark == "") {
					t.Errorf("remark %q, remedy %q; want %q, %q", e.Remark, e.Remedy, tt.remark, tt.remedy)
				}
			}
			log := g.log.String()
			if n := strings.Count(log, "answered 403"); n != 1 && tt.remark != "" || n != 0 && tt.remark == "" {
				t.Errorf("%d remarks in the log: %s", n, log)
			}
			if strings.Contains(log, access) || g.issuer.issued.Load() != 1 {
				t.Errorf("the log holds the token, or %d were issued", g.issuer.issued.Load())
			}
		})
	}
}
