package authority_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

// A server that repeats what it got is met in the wild: debug pages do so.
func TestAServerThatRepeatsTheProofTellsNobody(t *testing.T) {
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		said := r.Header.Get("Authorization") + " " + string(body) + " " + form.Get("client_assertion") + " " + form.Get("client_secret")
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"error": "invalid_client", "error_description": "AADSTS700027: got " + said, "suberror": form.Get("client_secret"),
			"trace_id": form.Get("client_assertion"), "correlation_id": form.Get("client_assertion"),
		})
	}))
	defer echo.Close()
	token := kubernetes(t, time.Hour, "1")
	address, _ := fake(t, github(token))
	google, _ := fake(t, metadata(token))
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(google, "http://"))
	p := certify(t, newRSA(t, 2048), -time.Hour, year)
	for name, change := range map[string]func(c *routes.Credential){
		"post": func(c *routes.Credential) { c.ClientSecret = secretFile(t, marker) },
		"basic": func(c *routes.Credential) {
			c.ClientSecret, c.AuthMethod = secretFile(t, marker), "client_secret_basic"
		},
		"certificate": func(c *routes.Credential) { c.ClientCertificate = &routes.Certificate{File: file(t, p.both(t))} },
		"PKCS#12": func(c *routes.Credential) {
			c.ClientCertificate = &routes.Certificate{File: foreign("modern.p12"), Password: secretFile(t, opener)}
		},
		"client key": func(c *routes.Credential) {
			c.TenantID, c.AuthorityHost, c.TokenEndpoint = "", "", echo.URL
			c.ClientKey = &routes.ClientKey{File: file(t, pkcs8PEM(t, newEC(t)))}
		},
		"file": func(c *routes.Credential) { c.FederatedToken = &routes.FederatedToken{File: file(t, token)} },
		"url":  func(c *routes.Credential) { c.FederatedToken = actions(t, address) },
		"gcp":  func(c *routes.Credential) { c.FederatedToken = &routes.FederatedToken{GCP: &routes.GCPIdentity{}} },
		"exec": func(c *routes.Credential) {
			c.FederatedToken = &routes.FederatedToken{Exec: secrets.Ref{Exec: []string{"/bin/cat", file(t, token)}, MayRun: true}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := entra(t, echo.URL)
			c.ClientSecret, c.AuthMethod = secrets.Ref{}, ""
			change(c)
			d := authority.NewDirectory(authority.Options{})
			discreet(t, d.Replace([]*routes.Credential{c}))
			got := fails(t, d, c) // which looks for secrets and assertions
			if got.Status != http.StatusUnauthorized || !strings.Contains(got.Detail, "AADSTS700027") {
				t.Errorf("error = %s", got.Explain())
			}
			all, err := json.Marshal(d.Status())
			if err != nil {
				t.Fatal(err)
			}
			for _, bad := range []string{"m4rker", opener, "eyJhbGci", token[strings.LastIndex(token, ".")+1:], "PRIVATE KEY"} {
				if strings.Contains(string(all), bad) || strings.Contains(got.Explain(), bad) {
					t.Errorf("%q is in %s\n%s", bad, all, got.Explain())
				}
			}
		})
	}
}
