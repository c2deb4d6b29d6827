package authority_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

func federated(t testing.TB, host, path string) *routes.Credential {
	t.Helper()
	c := entra(t, host)
	c.ClientSecret, c.FederatedToken = secrets.Ref{}, &routes.FederatedToken{File: path}
	return c
}

func TestAFederatedTokenIsReadAnewForEachAcquisition(t *testing.T) {
	e := serve(t, nil)
	first, second := kubernetes(t, time.Hour, "1"), kubernetes(t, time.Hour, "2")
	path := file(t, first+"\n")
	c := federated(t, e.URL, path)
	d := loaded(t, c)
	key := d.Key(c, graphScope)
	succeeds(t, d, c)
	overwrite(t, path, second)
	succeeds(t, d, c)
	all := e.sent()
	if got := []string{all[0].Get("client_assertion"), all[1].Get("client_assertion")}; got[0] != first || got[1] != second {
		t.Errorf("assertions = %q, want first and second", got)
	}
	if got := all[0].Get("client_id"); got != c.ClientID {
		t.Errorf("client_id = %q", got)
	}
	d.Replace([]*routes.Credential{c})
	if got := d.Key(c, graphScope); got != key {
		t.Errorf("key = %v after rotation, want %v: rotation drops no tokens", got, key)
	}
}

func TestAnUnfitFederatedTokenIsNamedBeforeItIsSent(t *testing.T) {
	missing := t.TempDir() + "/none"
	for _, tt := range []struct{ name, file, want string }{
		{"stale", file(t, kubernetes(t, -3*time.Minute-time.Second, "1")), "federated token file is stale: expired 3m ago"},
		{"missing", missing, "cannot be read"},
		{"empty", file(t, ""), "is empty"},
		{"no JWT", file(t, "hunter2"), "is no JWT"},
		{"broken base64", file(t, "a.b!.c"), "is no JWT"},
		{"payload is a list", file(t, "e30.W10.c2ln"), "is no JWT"},
		{"payload is null", file(t, "e30.bnVsbA.c2ln"), "is no JWT"},
		{"too large", file(t, strings.Repeat("a", 64<<10+1)), "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := serve(t, nil)
			c := federated(t, e.URL, tt.file)
			d := authority.NewDirectory(authority.Options{})
			f := d.Replace([]*routes.Credential{c})
			if len(f) != 1 || !strings.Contains(f[0].Message, tt.want) || f[0].Remedy == "" {
				t.Errorf("findings = %+v, want %q", f, tt.want)
			}
			got := fails(t, d, c)
			if !got.Refused() || !strings.Contains(got.Error(), tt.want) || strings.Contains(got.Explain(), "hunter2") {
				t.Errorf("error = %v, want %q", got, tt.want)
			}
			if f := got.Failure(); f.Wait != 5*time.Second {
				t.Errorf("wait = %s, want 5s", f.Wait)
			}
			if st := condition(t, d); st.Ready || st.Kind != "federated_token" {
				t.Errorf("status = %+v", st)
			}
			if n := len(e.sent()); n != 0 {
				t.Errorf("requests = %d, want none", n)
			}
		})
	}
}

func TestAFederatedTokenThatAppearsHealsWithoutReload(t *testing.T) {
	e := serve(t, nil)
	path := t.TempDir() + "/token"
	c := federated(t, e.URL, path)
	d := authority.NewDirectory(authority.Options{})
	d.Replace([]*routes.Credential{c})
	key := d.Key(c, graphScope)
	fails(t, d, c)
	overwrite(t, path, kubernetes(t, time.Hour, "1"))
	if _, err := d.Acquire(t.Context(), key, ""); err != nil {
		t.Fatal(err)
	}
	if st := condition(t, d); !st.Ready || st.LastError != nil {
		t.Errorf("status = %+v, want ready", st)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fails(t, d, c)
	if st := condition(t, d); st.Ready {
		t.Errorf("status = %+v, want not ready", st)
	}
}

func TestAnInheritedStateForgetsWhatReloadHealed(t *testing.T) {
	path := file(t, kubernetes(t, -time.Minute, "1"))
	c := federated(t, "https://login.example.com", path)
	d := authority.NewDirectory(authority.Options{})
	d.Replace([]*routes.Credential{c})
	overwrite(t, path, kubernetes(t, time.Hour, "2"))
	if f := d.Replace([]*routes.Credential{c}); len(f) != 0 {
		t.Errorf("findings = %+v", f)
	}
	if st := condition(t, d); !st.Ready || st.LastError != nil {
		t.Errorf("status = %+v, want ready", st)
	}
}

func TestARefusedFederatedTokenTellsWhatThePortalMustHave(t *testing.T) {
	e := serve(t, says(400, `{"error":"invalid_request","error_description":"AADSTS70021: No matching federated identity record found.","error_codes":[70021]}`))
	c := federated(t, e.URL, file(t, kubernetes(t, time.Hour, "1")))
	got := fails(t, loaded(t, c), c)
	for _, want := range []string{"https://oidc.example/7c1f/", "system:serviceaccount:shop:orders", "api://AzureADTokenExchange"} {
		if !strings.Contains(got.Detail, want) {
			t.Errorf("detail = %q, want %q in it", got.Detail, want)
		}
		if strings.Contains(got.Error(), want) {
			t.Errorf("%q is in the text for callers: %v", want, got)
		}
	}
}

func TestAFederatedTokenRotatedUnderwayIsTriedOnceMore(t *testing.T) {
	first, second := kubernetes(t, time.Hour, "1"), kubernetes(t, time.Hour, "2")
	for _, tt := range []struct {
		name    string
		rotate  bool
		request int
	}{{"rotated", true, 2}, {"unchanged", false, 1}} {
		t.Run(tt.name, func(t *testing.T) {
			path := file(t, first)
			e := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if tt.rotate {
					_ = os.WriteFile(path, []byte(second), 0o600)
				}
				says(401, `{"error":"invalid_client"}`)(w, nil)
			})
			c := federated(t, e.URL, path)
			fails(t, loaded(t, c), c)
			if n := len(e.sent()); n != tt.request {
				t.Errorf("requests = %d, want %d", n, tt.request)
			}
		})
	}
}

func FuzzFederatedToken(f *testing.F) {
	for _, seed := range []string{"", "a.b.c", "e30.e30.c2ln", "e30.eyJleHAiOjF9.c2ln", "e30.eyJleHAiOiIxZTMwOCIsImF1ZCI6W10sImlzcyI6N30.c2ln", kubernetes(f, time.Hour, "1")} {
		f.Add(seed)
	}
	path := file(f, "")
	f.Fuzz(func(t *testing.T, token string) {
		overwrite(t, path, token)
		c := federated(t, "https://login.example.com", path)
		d := authority.NewDirectory(authority.Options{Dialer: nobody{t}})
		findings := d.Replace([]*routes.Credential{c})
		if st := condition(t, d); st.Ready == (len(findings) > 0 && findings[0].Message == st.Reason) || !st.Ready && st.Remedy == "" {
			t.Errorf("status = %+v, findings = %+v", st, findings)
		}
	})
}
