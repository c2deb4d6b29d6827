package authority_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

const declared = `{"access_token":{"xms_cc":{"values":["cp1"]}}}`

func TestClaimsAreMergedAndTheChallengeWins(t *testing.T) {
	const nbf = `{"access_token":{"nbf":{"essential":true, "value":"1657834417"}}}`
	for _, tt := range []struct {
		name            string
		cae             bool
		challenge, want string
	}{
		{"nothing", false, "", ""},
		{"declared", true, "", declared},
		{"challenge alone", false, nbf, nbf},
		{"both", true, nbf, `{"access_token":{"nbf":{"essential":true,"value":"1657834417"},"xms_cc":{"values":["cp1"]}}}`},
		{"another member", true, `{"id_token":{"acrs":null}}`, `{"access_token":{"xms_cc":{"values":["cp1"]}},"id_token":{"acrs":null}}`},
		{"beside the leaf", true, `{"access_token":{"xms_cc":{"essential":true}}}`, `{"access_token":{"xms_cc":{"essential":true,"values":["cp1"]}}}`},
		{"the same leaf", true, `{"access_token":{"xms_cc":{"values":["cp2"]}}}`, `{"access_token":{"xms_cc":{"values":["cp2"]}}}`},
		{"no object where one is", true, `{"access_token":null}`, `{"access_token":null}`},
		{"large numbers", true, `{"a":12345678901234567890}`, `{"a":12345678901234567890,"access_token":{"xms_cc":{"values":["cp1"]}}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, nil)
			c := entra(t, s.URL)
			c.CAE = tt.cae
			d := loaded(t, c)
			k := d.Key(c, graphScope)
			if k.CAE != tt.cae {
				t.Errorf("key = %+v", k)
			}
			if _, err := d.Acquire(t.Context(), k, tt.challenge); err != nil {
				t.Fatal(err)
			}
			if got := s.sent()[0].Get("claims"); got != tt.want {
				t.Errorf("claims = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestClaimsThatAreNoObjectAreNotSent(t *testing.T) {
	s := serve(t, nil)
	c := entra(t, s.URL)
	d := loaded(t, c)
	for _, claims := range []string{"x", "[]", "null", `{"a":`} {
		_, err := d.Acquire(t.Context(), d.Key(c, graphScope), claims)
		if f, ok := err.(tokens.Failer); !ok || f.Failure().Nature != tokens.Refused || f.Failure().Reach != tokens.ReachKey {
			t.Errorf("claims %q: %v", claims, err)
		}
	}
	if n := len(s.sent()); n != 0 {
		t.Errorf("requests = %d, want none", n)
	}
}

func TestCAEIsForEntraAlone(t *testing.T) {
	s := serve(t, nil)
	c := &routes.Credential{Name: "k", TokenEndpoint: s.URL, ClientID: "x", ClientSecret: secretFile(t, "s"), AuthMethod: "client_secret_post", CAE: true}
	d := loaded(t, c)
	if k := d.Key(c, ""); k.CAE {
		t.Error("the key says that cp1 was declared")
	}
	succeeds(t, d, c)
	if got := s.sent()[0].Get("claims"); got != "" {
		t.Errorf("claims = %q", got)
	}
}

func TestALongLivedRevocableTokenIsRefreshedAtHalfItsLife(t *testing.T) {
	for _, tt := range []struct {
		cae     bool
		members string
		want    time.Duration // 0: left to the store
	}{
		{true, `"expires_in":86400`, 12 * time.Hour},
		{true, `"expires_in":86400,"refresh_in":50000`, 50000 * time.Second},
		{true, `"expires_in":7199`, 0},
		{false, `"expires_in":86400`, 0},
		{false, `"expires_in":86400,"refresh_in":50000`, 50000 * time.Second},
	} {
		s := serve(t, says(200, `{"token_type":"Bearer","access_token":"abc",`+tt.members+`}`))
		c := entra(t, s.URL)
		c.CAE = tt.cae
		d := loaded(t, c)
		now := time.Now()
		got, err := d.Acquire(t.Context(), d.Key(c, graphScope), "")
		if err != nil {
			t.Fatal(err)
		}
		if got.RefreshAt.IsZero() != (tt.want == 0) || tt.want != 0 && (got.RefreshAt.Sub(now)-tt.want).Abs() > 3*time.Second {
			t.Errorf("cae %v, %s: refresh at %s, want in %s", tt.cae, tt.members, got.RefreshAt, tt.want)
		}
	}
}

func TestClaimsThatTheEndpointWantsAreAPolicyNobodyCanMeet(t *testing.T) {
	for _, code := range []string{"interaction_required", "invalid_client", "invalid_grant"} {
		s := serve(t, says(400, fmt.Sprintf(`{"error":%q,"error_codes":[53003],"claims":"{\"access_token\":{\"capolids\":{\"values\":[\"9\"]}}}"}`, code)))
		creds := chained(t, "newer", "older")
		for _, c := range creds {
			c.AuthorityHost = s.URL
		}
		d := loaded(t, creds...)
		got := fails(t, d, creds[0])
		if got.Failure() != (tokens.Failure{Nature: tokens.Refused}) || !strings.Contains(got.Error(), "Conditional Access blocks") || !strings.Contains(got.Remedy, "Conditional Access") {
			t.Errorf("%s: %s, %+v", code, got.Explain(), got.Failure())
		}
		if n := len(s.sent()); n != 1 {
			t.Errorf("%s: requests = %d, want 1: neither a second try nor the fallback", code, n)
		}
	}
}

func TestCosmosFallsBackToItsCommonAudience(t *testing.T) {
	const account = "https://orders.documents.azure.com/.default"
	s := &server{}
	s.Server = listen(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		s.mu.Lock()
		s.forms = append(s.forms, r.Form)
		s.mu.Unlock()
		if scope := r.FormValue("scope"); scope != "https://cosmos.azure.com/.default" {
			says(400, `{"error":"invalid_resource","error_codes":[500011]}`)(w, nil)
			return
		}
		says(200, good)(w, nil)
	})
	c := entra(t, s.URL)
	d := loaded(t, c)
	get := func(scope string) error {
		_, err := d.Acquire(t.Context(), d.Key(c, scope), "")
		return err
	}
	asked := func() string {
		var list []string
		for _, f := range s.sent() {
			list = append(list, f.Get("scope"))
		}
		s.forms = nil
		return strings.Join(list, " ")
	}
	if err := get(account); err != nil {
		t.Fatal(err)
	}
	if got := asked(); got != account+" https://cosmos.azure.com/.default" {
		t.Errorf("asked for %s", got)
	}
	if err := get("https://stock.documents.azure.cn/.default"); err != nil || asked() != "https://cosmos.azure.com/.default" {
		t.Errorf("the common audience was not remembered: %v", err)
	}
	for _, scope := range []string{"https://orders.documents.azure.com//.default", "https://api.contoso.com/.default", "https://evil.test/x.documents.azure.com/.default"} {
		if err := get(scope); err == nil || asked() != scope {
			t.Errorf("%s was taken for an account of Cosmos DB", scope)
		}
	}
}

func FuzzClaims(f *testing.F) {
	for _, s := range []string{declared, `{"access_token":{"nbf":{"essential":true}}}`, `{"access_token":[]}`, `{"a":1,"a":2}`, `null`, `{`} {
		f.Add(s)
	}
	var claims string
	s := listen(f, func(w http.ResponseWriter, r *http.Request) {
		claims = r.FormValue("claims")
		_, _ = io.WriteString(w, good)
	})
	c := entra(f, s.URL)
	c.CAE = true
	d := loaded(f, c)
	f.Fuzz(func(t *testing.T, challenge string) {
		claims = ""
		_, err := d.Acquire(t.Context(), d.Key(c, graphScope), challenge)
		var asked, got map[string]any
		usable := challenge == "" || json.Unmarshal([]byte(challenge), &asked) == nil && asked != nil
		if (err == nil) != usable {
			t.Fatalf("claims %q: %v", challenge, err)
		}
		if err != nil {
			return
		}
		if err := json.Unmarshal([]byte(claims), &got); err != nil {
			t.Fatalf("claims %q were sent as %q: %v", challenge, claims, err)
		}
		for name := range asked {
			if _, ok := got[name]; !ok {
				t.Errorf("claims %q were sent as %q without %q", challenge, claims, name)
			}
		}
	})
}
