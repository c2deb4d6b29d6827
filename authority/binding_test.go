package authority_test

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sandbox"
)

// cluster starts a token proxy of AKS: TLS for the name example.com, and what
// is below /base goes to handler.
func cluster(t testing.TB, handler http.Handler) (s *httptest.Server, ca string, got *requests) {
	t.Helper()
	got = &requests{}
	s = httptest.NewUnstartedServer(http.StripPrefix("/base", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.add(r)
		handler.ServeHTTP(w, r)
	})))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that turn away are the point
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})), got
}

// bind sets the variables of an identity binding, and takes the others away.
func bind(t *testing.T, proxy, sni, caFile, caData string) {
	t.Helper()
	t.Setenv("AZURE_KUBERNETES_TOKEN_PROXY", proxy)
	t.Setenv("AZURE_KUBERNETES_SNI_NAME", sni)
	t.Setenv("AZURE_KUBERNETES_CA_FILE", caFile)
	t.Setenv("AZURE_KUBERNETES_CA_DATA", caData)
}

func bound(t testing.TB, host, token string) *routes.Credential {
	t.Helper()
	return by(t, host, &routes.FederatedToken{File: file(t, token), IdentityBinding: true})
}

func TestAnIdentityBindingSendsTokenRequestsThroughTheCluster(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("https_proxy", "http://127.0.0.1:1")
	w := city(t)
	const subject, audience = "system:serviceaccount:shop:orders", "api://AKSIdentityBinding"
	if err := w.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: w.Issuer.URL(), Subject: subject, Audience: audience}); err != nil {
		t.Fatal(err)
	}
	token, err := w.FederatedToken(subject, audience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	entraURL, err := url.Parse(w.Entra.URL())
	if err != nil {
		t.Fatal(err)
	}
	s, ca, got := cluster(t, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(entraURL) }})
	for name, set := range map[string]func(t *testing.T){
		"CA file": func(t *testing.T) { bind(t, s.URL+"/base", "example.com", file(t, ca), "") },
		"CA data": func(t *testing.T) { bind(t, s.URL+"/base/", "example.com", "", ca) },
		"no SNI":  func(t *testing.T) { bind(t, s.URL+"/base", "", "", ca) },
	} {
		t.Run(name, func(t *testing.T) {
			set(t)
			c := resident(w)
			c.AuthorityHost = "https://login.example.com"
			c.FederatedToken = &routes.FederatedToken{File: file(t, token), IdentityBinding: true}
			d := authority.NewDirectory(authority.Options{Dialer: nobody{t}})
			if f := d.Replace([]*routes.Credential{c}); len(f) != 0 {
				t.Fatalf("findings = %+v", f)
			}
			before := len(got.list())
			succeeds(t, d, c)
			all := got.list()[before:]
			if len(all) != 1 {
				t.Fatalf("%d requests at the proxy, want 1", len(all))
			}
			r := all[0]
			sni := "example.com"
			if name == "no SNI" {
				sni = "" // an address is no name
			}
			if r.Method != "POST" || r.URL.Path != "/"+sandbox.TenantID+"/oauth2/v2.0/token" || r.TLS.ServerName != sni || r.Host != "login.example.com" {
				t.Errorf("%s %s for %s, SNI %q; want the token endpoint's path below the proxy's", r.Method, r.URL, r.Host, r.TLS.ServerName)
			}
			if st := condition(t, d); !st.Ready || st.Host != s.Listener.Addr().String() {
				t.Errorf("status = %+v, want the proxy's host", st)
			}
			if k := d.Key(c, graphScope); k.Authority != "https://login.example.com/"+sandbox.TenantID+"/oauth2/v2.0/token" {
				t.Errorf("key = %+v", k)
			}
		})
	}
}

func TestTheClustersCAIsReadAnew(t *testing.T) {
	s, ca, got := cluster(t, says(200, good))
	stranger := certify(t, newEC(t), -time.Hour, year).certPEM()
	path := file(t, stranger)
	bind(t, s.URL+"/base", "example.com", path, "")
	c := bound(t, "https://login.example.com", kubernetes(t, time.Hour, "1"))
	d := loaded(t, c)
	err := fails(t, d, c)
	if err.Refused() || !strings.Contains(err.Error(), "is not trusted") || !strings.Contains(err.Detail, "AZURE_KUBERNETES_TOKEN_PROXY") || !strings.Contains(err.Remedy, "AZURE_KUBERNETES_CA_FILE") {
		t.Errorf("error = %s", err.Explain())
	}
	if n := len(got.list()); n != 0 {
		t.Errorf("%d requests reached a proxy that is not trusted", n)
	}
	overwrite(t, path, ca)
	succeeds(t, d, c)
	for _, between := range []string{"", "not PEM"} { // as in the middle of a rotation
		overwrite(t, path, between)
		succeeds(t, d, c)
	}
	overwrite(t, path, stranger)
	if err := fails(t, d, c); err.Refused() || !strings.Contains(err.Error(), "is not trusted") {
		t.Errorf("error = %s, want the old CA trusted no longer", err.Explain())
	}
}

func TestMistakesInABindingsVariablesAreNamed(t *testing.T) {
	ca := certify(t, newEC(t), -time.Hour, year).certPEM()
	for _, tt := range []struct {
		name                       string
		proxy, sni, caFile, caData string
		want                       string
	}{
		{"nothing", "", "", "", "", "AZURE_KUBERNETES_TOKEN_PROXY is not set"},
		{"no proxy", "", "example.com", file(t, ca), "", "AZURE_KUBERNETES_TOKEN_PROXY is not set"},
		{"http", "http://127.0.0.1", "", "", "", "AZURE_KUBERNETES_TOKEN_PROXY is not https"},
		{"no host", "https://", "", "", "", "AZURE_KUBERNETES_TOKEN_PROXY is not an absolute URL"},
		{"no URL", "https://%zz", "", "", "", "AZURE_KUBERNETES_TOKEN_PROXY is not an absolute URL"},
		{"user", "https://u:m4rker@host", "", "", "", "AZURE_KUBERNETES_TOKEN_PROXY has a user name"},
		{"query", "https://host/?q=m4rker", "", "", "", "AZURE_KUBERNETES_TOKEN_PROXY has a query"},
		{"empty query", "https://host/?", "", "", "", "AZURE_KUBERNETES_TOKEN_PROXY has a query"},
		{"fragment", "https://host/#m4rker", "", "", "", "AZURE_KUBERNETES_TOKEN_PROXY has a fragment"},
		{"both", "https://host", "", file(t, ca), ca, "AZURE_KUBERNETES_CA_FILE and AZURE_KUBERNETES_CA_DATA are both set"},
		{"no file", "https://host", "", "/nonexistent/ca.pem", "", "AZURE_KUBERNETES_CA_FILE: open /nonexistent/ca.pem"},
		{"empty file", "https://host", "", file(t, ""), "", "AZURE_KUBERNETES_CA_FILE: no certificate"},
		{"bad data", "https://host", "", "", "m4rker", "AZURE_KUBERNETES_CA_DATA: no certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bind(t, tt.proxy, tt.sni, tt.caFile, tt.caData)
			c := bound(t, "https://login.example.com", kubernetes(t, time.Hour, "1"))
			d := authority.NewDirectory(authority.Options{Dialer: nobody{t}})
			f := d.Replace([]*routes.Credential{c})
			if len(f) != 1 || !f[0].Alarm || !strings.Contains(f[0].Message, tt.want) || f[0].Remedy == "" {
				t.Errorf("findings = %+v, want %q", f, tt.want)
			}
			discreet(t, f)
			if got := fails(t, d, c); !got.Refused() || !strings.Contains(got.Error(), tt.want) {
				t.Errorf("error = %v", got)
			}
		})
	}
}

func TestWithoutABindingTheVariablesMeanNothing(t *testing.T) {
	bind(t, "http://nonsense?", "", "", "")
	e := serve(t, nil)
	c := federated(t, e.URL, file(t, kubernetes(t, time.Hour, "1")))
	succeeds(t, loaded(t, c), c)
}

func TestATokenForABindingThatIsNotSetIsAFinding(t *testing.T) {
	w := city(t)
	for audience, want := range map[string]int{"api://AKSIdentityBinding": 1, sandbox.TokenExchangeAudience: 0} {
		token, err := w.FederatedToken("s", audience, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		c := federated(t, "https://login.example.com", file(t, token))
		f := authority.NewDirectory(authority.Options{}).Replace([]*routes.Credential{c})
		if len(f) != want || want == 1 && (f[0].Alarm || !strings.Contains(f[0].Remedy, "identity_binding: true")) {
			t.Errorf("%s: findings = %+v", audience, f)
		}
	}
}

func TestACAFileBesideABindingIsAFinding(t *testing.T) {
	s, ca, _ := cluster(t, says(200, good))
	bind(t, s.URL+"/base", "", "", ca)
	c := bound(t, "https://login.example.com", kubernetes(t, time.Hour, "1"))
	c.CAFile = file(t, ca)
	d := authority.NewDirectory(authority.Options{})
	f := d.Replace([]*routes.Credential{c})
	if len(f) != 1 || f[0].Alarm || !strings.Contains(f[0].Message, "ca_file is not used") || f[0].Remedy == "" {
		t.Errorf("findings = %+v", f)
	}
	succeeds(t, d, c)
}
