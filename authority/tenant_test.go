package authority_test

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

const fabrikam = "fabrikam.onmicrosoft.com"

// paths answers with good tokens, but for paths with bad in them, and keeps
// where it was asked.
func paths(t testing.TB, refuses func(path string) string) (s *server, seen func() []string) {
	t.Helper()
	var mu sync.Mutex // guards all
	var all []string
	s = serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		all = append(all, r.URL.Path)
		mu.Unlock()
		if no := refuses(r.URL.Path); no != "" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, no)
			return
		}
		_, _ = io.WriteString(w, good)
	})
	return s, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), all...)
	}
}

func TestTokensOfAnotherTenantComeFromItsEndpoint(t *testing.T) {
	s, seen := paths(t, func(string) string { return "" })
	p := certify(t, newRSA(t, 2048), -time.Hour, 365*24*time.Hour)
	c := entra(t, s.URL)
	c.ClientSecret, c.ClientCertificate = secrets.Ref{}, &routes.Certificate{File: file(t, p.both(t))}
	d := loaded(t, c)
	home, k := d.Key(c, graphScope), d.KeyFor(c, graphScope, fabrikam)
	want := home
	want.Tenant, want.Authority = fabrikam, s.URL+"/"+fabrikam+"/oauth2/v2.0/token"
	if k != want {
		t.Errorf("KeyFor = %+v, want %+v", k, want)
	}
	if own := d.KeyFor(c, graphScope, c.TenantID); own != home {
		t.Errorf("KeyFor(own tenant) = %+v, want %+v", own, home)
	}
	if _, err := d.Acquire(t.Context(), k, ""); err != nil {
		t.Fatal(err)
	}
	if got := seen(); len(got) != 1 || got[0] != "/"+fabrikam+"/oauth2/v2.0/token" {
		t.Errorf("asked %v, want the tenant's endpoint alone", got)
	}
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(s.sent()[0].Get("client_assertion"), &claims); err != nil {
		t.Fatal(err)
	}
	if len(claims.Audience) != 1 || claims.Audience[0] != want.Authority {
		t.Errorf("aud = %v, want %s", claims.Audience, want.Authority)
	}
}

func TestWhatOneTenantRefusesNamesItAndIsNoNewsOfTheCredential(t *testing.T) {
	s, _ := paths(t, func(path string) string {
		if strings.Contains(path, fabrikam) {
			return `{"error":"invalid_client","error_description":"AADSTS7000229: The client application is missing service principal in the tenant."}`
		}
		return ""
	})
	c, spare := entra(t, s.URL), entra(t, s.URL)
	c.Fallback, spare.Name = "spare", "spare"
	spare.ClientID = "22223333-bbbb-4444-cccc-5555dddd6666"
	var alarms []authority.Finding
	d := authority.NewDirectory(authority.Options{Alarm: func(f authority.Finding) { alarms = append(alarms, f) }})
	d.Replace([]*routes.Credential{c, spare})
	succeeds(t, d, c)
	_, err := d.Acquire(t.Context(), d.KeyFor(c, graphScope, fabrikam), "")
	if err == nil || !strings.Contains(err.Error(), "for tenant "+fabrikam) {
		t.Errorf("error = %v, want one that names %s", err, fabrikam)
	}
	for _, st := range d.Status() {
		if st.LastError != nil || st.Fallback != "" || !st.Usable() {
			t.Errorf("status = %+v, want that of before", st)
		}
	}
	if len(alarms) > 0 {
		t.Errorf("alarms = %v, want none", alarms)
	}
	succeeds(t, d, c)
}

func TestTheFallbackStandsInAtAnotherTenantToo(t *testing.T) {
	var s *server
	s = serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if sent := s.sent(); sent[len(sent)-1].Get("client_id") == "client-1" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"invalid_client","error_description":"AADSTS7000222: expired"}`)
			return
		}
		_, _ = io.WriteString(w, good)
	})
	c, spare := entra(t, s.URL), entra(t, s.URL)
	c.Fallback, spare.Name = "spare", "spare"
	spare.ClientID = "22223333-bbbb-4444-cccc-5555dddd6666"
	d := loaded(t, c, spare)
	for range 2 {
		if _, err := d.Acquire(t.Context(), d.KeyFor(c, graphScope, fabrikam), ""); err != nil {
			t.Fatal(err)
		}
	}
	if st := d.Status()[0]; st.Fallback != "" {
		t.Errorf("fallback = %q, want none: it was another tenant", st.Fallback)
	}
}

func TestARotatedSecretIsReadForAnotherTenantToo(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	overwrite(t, secret, "old")
	var s *server
	s = serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if sent := s.sent(); sent[len(sent)-1].Get("client_secret") == "old" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"invalid_client","error_description":"AADSTS7000222: expired"}`)
			return
		}
		_, _ = io.WriteString(w, good)
	})
	c := entra(t, s.URL)
	c.ClientSecret = secrets.Ref{File: secret}
	d := loaded(t, c)
	k := d.KeyFor(c, graphScope, fabrikam)
	overwrite(t, secret, "new")
	if _, err := d.Acquire(t.Context(), k, ""); err != nil {
		t.Fatal(err)
	}
	if after := d.KeyFor(c, graphScope, fabrikam); after.Fingerprint == k.Fingerprint {
		t.Error("the key is that of the old secret")
	}
}

func TestCredentialsOfOneTenantGetNoTokensOfAnother(t *testing.T) {
	s := serve(t, nil)
	other := &routes.Credential{Name: "other", TokenEndpoint: s.URL + "/token", ClientID: "gw", ClientSecret: secretFile(t, "s3cret"), AuthMethod: "client_secret_post"}
	machine := &routes.Credential{Name: "machine", Cloud: "public", AuthorityHost: "https://login.microsoftonline.com", ManagedIdentity: &routes.ManagedIdentity{}}
	d := authority.NewDirectory(authority.Options{})
	d.Replace([]*routes.Credential{other, machine})
	for _, c := range []*routes.Credential{other, machine} {
		token, err := d.Acquire(t.Context(), d.KeyFor(c, graphScope, fabrikam), "")
		if err == nil || !token.Access.IsZero() || !strings.Contains(err.Error(), fabrikam) {
			t.Errorf("Acquire(%s) = %v, %v, want an error that names %s", c.Name, token, err, fabrikam)
		}
	}
	if n := len(s.sent()); n != 0 {
		t.Errorf("%d requests were sent, want none", n)
	}
}

func TestAKeyOfATenantIsServedForThatTenantAlone(t *testing.T) {
	s := serve(t, nil)
	c := entra(t, s.URL)
	d := loaded(t, c)
	k := d.KeyFor(c, graphScope, fabrikam)
	for name, change := range map[string]func(*tokens.Key){
		"another tenant's endpoint": func(k *tokens.Key) { k.Authority = d.Key(c, graphScope).Authority },
		"another tenant":            func(k *tokens.Key) { k.Tenant = "litware.onmicrosoft.com" },
		"no tenant":                 func(k *tokens.Key) { k.Tenant = "" },
	} {
		forged := k
		change(&forged)
		if _, err := d.Acquire(t.Context(), forged, ""); err == nil {
			t.Errorf("%s: a token", name)
		}
	}
	if n := len(s.sent()); n != 0 {
		t.Errorf("%d requests were sent, want none", n)
	}
}

func BenchmarkKeyFor(b *testing.B) {
	c := entra(b, "https://login.microsoftonline.com")
	d := loaded(b, c)
	b.ReportAllocs()
	for b.Loop() {
		d.KeyFor(c, graphScope, fabrikam)
	}
}
