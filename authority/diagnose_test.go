package authority_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
)

const tenantGUID = "0f1e2d3c-4b5a-4697-8877-665544332211"

// homes answers for login hosts: the discovery document of a tenant by host,
// and AADSTS90002 for any other.
func homes(t testing.TB, off time.Duration, documents map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodGet || len(body) > 0 || r.Header.Get("Authorization") != "" || !strings.HasSuffix(r.URL.Path, "/v2.0/.well-known/openid-configuration") {
			t.Errorf("asked %s %s with %d bytes", r.Method, r.URL, len(body))
		}
		w.Header().Set("Date", time.Now().Add(-off).UTC().Format(http.TimeFormat))
		doc, ok := documents[r.Host]
		if !ok {
			w.WriteHeader(400)
			doc = `{"error":"invalid_tenant","error_description":"AADSTS90002: Tenant 'contoso.example' not found."}`
		}
		_, _ = io.WriteString(w, doc)
	}
}

// tenantAt is the document that Entra publishes of a tenant.
func tenantAt(host, cloud, scope string) string {
	return fmt.Sprintf(`{"issuer":"https://%s/%s/v2.0","token_endpoint":"https://%s/%s/oauth2/v2.0/token","cloud_instance_name":%q,"tenant_region_sub_scope":%s}`,
		host, tenantGUID, host, tenantGUID, cloud, scope)
}

func TestADiagnosisTellsWhereTheTenantIsAtHome(t *testing.T) {
	w := newWorld(t, "login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn")
	const pub, gov, cn = "login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"
	for _, tt := range []struct {
		name, cloud string
		documents   map[string]string
		off         time.Duration
		want        []string
	}{
		{"at home", "public", map[string]string{pub: tenantAt(pub, "microsoftonline.com", "null")}, 0, []string{
			"this machine's clock agrees with " + pub,
			"the tenant contoso.example has the ID " + tenantGUID,
			"the tenant contoso.example belongs to the public cloud, as configured",
		}},
		{"government, told by the public host", "public", map[string]string{pub: tenantAt(gov, "microsoftonline.us", `"DODCON"`)}, 0, []string{
			"the tenant contoso.example belongs to the US Government cloud: set cloud: usgov (usgov-dod for the Department of Defense); this credential has cloud: public",
		}},
		{"defense", "usgov", map[string]string{gov: tenantAt(gov, "microsoftonline.us", `"DOD"`)}, 0, []string{
			"the tenant contoso.example belongs to the Department of Defense: set cloud: usgov-dod; this credential has cloud: usgov",
		}},
		{"defense as configured", "usgov-dod", map[string]string{gov: tenantAt(gov, "microsoftonline.us", `"DOD"`)}, 0, []string{
			"the tenant contoso.example belongs to the US Government cloud, as configured",
		}},
		{"in another cloud alone", "public", map[string]string{cn: tenantAt(cn, "partner.microsoftonline.cn", "null")}, 0, []string{
			pub + " knows no tenant contoso.example",
			"the tenant contoso.example belongs to the cloud of 21Vianet in China: set cloud: china; this credential has cloud: public",
		}},
		{"nowhere", "china", nil, 0, []string{
			cn + " knows no tenant contoso.example",
			"no other cloud knows the tenant contoso.example either: check tenant_id",
		}},
		{"a clock behind", "public", nil, -10 * time.Minute, []string{"s behind " + pub + ": turn on time synchronisation"}},
		{"no document", "public", map[string]string{pub: `[]`}, 0, []string{
			pub + " has no discovery document for the tenant contoso.example: status 200",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.answer = homes(t, tt.off, tt.documents)
			host := loginHosts()[strings.TrimSuffix(tt.cloud, "-dod")]
			c := entra(t, "https://"+host)
			c.TenantID, c.Cloud, c.CAFile = "contoso.example", tt.cloud, file(t, w.ca)
			d := w.directory()
			d.Replace([]*routes.Credential{c})
			got := d.Diagnose(t.Context(), "c")
			known := !strings.Contains(strings.Join(got, "\n"), "knows no tenant")
			link := "an administrator grants the application's permissions at https://" + host + "/contoso.example/adminconsent?client_id=client-1"
			if slices.Contains(got, link) != known {
				t.Errorf("Diagnose = %q, want the link to consent: %v", got, known)
			}
			for _, want := range tt.want {
				if !slices.ContainsFunc(got, func(s string) bool { return strings.HasSuffix(s, want) }) {
					t.Errorf("Diagnose = %q, want %q", got, want)
				}
			}
			for _, s := range got {
				if strings.Contains(s, "m4rker") || strings.Contains(s, "\n") {
					t.Errorf("said %q", s)
				}
			}
		})
	}
}

func TestADiagnosisTellsWhatIsShown(t *testing.T) {
	w := newWorld(t, "login.microsoftonline.com")
	w.answer = homes(t, 0, map[string]string{"login.microsoftonline.com": tenantAt("login.microsoftonline.com", "microsoftonline.com", "null")})
	const host = "https://login.microsoftonline.com"
	p := certify(t, newRSA(t, 2048), -time.Hour, year)
	cert := certified(t, host, routes.Certificate{File: file(t, p.both(t))})
	token := kubernetes(t, time.Hour, "1")
	fed := federated(t, host, file(t, token))
	stale := federated(t, host, file(t, kubernetes(t, -time.Hour, "1")))
	guid := entra(t, host)
	overwrite(t, guid.ClientSecret.File, tenantGUID)
	unready := entra(t, host)
	overwrite(t, unready.ClientSecret.File, "")
	for name, tt := range map[string]struct {
		c    *routes.Credential
		want []string
	}{
		"certificate":   {cert, []string{p.cert.NotAfter.UTC().Format(time.DateOnly), "as SHA-1", "as SHA-256"}},
		"federated":     {fed, []string{"https://oidc.example/7c1f/", "system:serviceaccount:shop:orders", "api://AzureADTokenExchange", "the federated token expires in 59m"}},
		"stale":         {stale, []string{"no federated token to show", "expired 1h", "ago"}},
		"secret's ID":   {guid, []string{"shape of a GUID"}},
		"not ready":     {unready, []string{"it cannot be shown: client_secret", "put the secret's value into"}},
		"unknown login": {entra(t, "https://127.0.0.1:1"), []string{"127.0.0.1:1 cannot be asked for the tenant: it refuses the connection"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := *tt.c
			c.Name = "it"
			if name != "unknown login" {
				c.CAFile = file(t, w.ca)
			}
			d := w.directory()
			if name == "unknown login" {
				d = loaded(t)
			}
			d.Replace([]*routes.Credential{&c})
			got := strings.Join(d.Diagnose(t.Context(), "it"), "\n")
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("Diagnose = %s, want %s", got, want)
				}
			}
			for _, bad := range []string{"m4rker", token, strings.Split(token, ".")[1]} {
				if strings.Contains(got, bad) {
					t.Errorf("%s is in the diagnosis", bad)
				}
			}
		})
	}
}

func TestADiagnosisDoesNotRepeatTheRefusalBeforeIt(t *testing.T) {
	w := newWorld(t, "login.microsoftonline.com")
	document := tenantAt("login.microsoftonline.com", "microsoftonline.com", "null")
	refusal := ""
	w.answer = func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			says(401, refusal)(rw, r)
			return
		}
		_, _ = io.WriteString(rw, document)
	}
	const host = "https://login.microsoftonline.com"
	p := certify(t, newRSA(t, 2048), -time.Hour, year)
	guid := entra(t, host)
	overwrite(t, guid.ClientSecret.File, tenantGUID)
	for _, tt := range []struct {
		name, refusal string
		c             *routes.Credential
		told          string // in the error, and so not in the diagnosis
	}{
		{"certificate", `{"error":"invalid_client","error_codes":[700027]}`, certified(t, host, routes.Certificate{File: file(t, p.both(t))}), "as SHA-1"},
		{"secret's ID", `{"error":"invalid_client","error_codes":[7000215]}`, guid, "shape of a GUID"},
		{"federated token", `{"error":"invalid_client","error_codes":[70021]}`, federated(t, host, file(t, kubernetes(t, time.Hour, "1"))), "oidc.example"},
		{"consent", `{"error":"unauthorized_client","error_codes":[700016]}`, entra(t, host), "adminconsent"},
		{"a wrong secret", `{"error":"invalid_client","error_codes":[7000222]}`, entra(t, host), "adminconsent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refusal = tt.refusal
			tt.c.CAFile = file(t, w.ca)
			d := w.directory()
			d.Replace([]*routes.Credential{tt.c})
			fails(t, d, tt.c)
			if got := strings.Join(d.Diagnose(t.Context(), tt.c.Name), "\n"); strings.Contains(got, tt.told) || !strings.Contains(got, "as configured") {
				t.Errorf("Diagnose = %s, want the tenant's home, and not %q again", got, tt.told)
			}
		})
	}
}

func TestADiagnosisOfAnIssuerNamesItsEndpoint(t *testing.T) {
	i := newIDP(t, "")
	i.set(rfc8414, document(i.issuer, `,"token_endpoint_auth_methods_supported":["private_key_jwt"]`))
	c := issued(t, i.issuer)
	d := loaded(t, c)
	got := strings.Join(d.Diagnose(t.Context(), "idp"), "\n")
	for _, want := range []string{i.issuer + "/oauth/token, which takes private_key_jwt", "a client_secret can do client_secret_basic or client_secret_post"} {
		if !strings.Contains(got, want) {
			t.Errorf("Diagnose = %s, want %s", got, want)
		}
	}
	if asked := i.log(); strings.Contains(asked, "POST") {
		t.Errorf("asked %s", asked)
	}
	if got := d.Diagnose(t.Context(), "nobody"); got != nil {
		t.Errorf("Diagnose of nobody = %q", got)
	}
}
