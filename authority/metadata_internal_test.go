package authority

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

// keyHolder is a prover that remembers whom it was to prove itself to.
type keyHolder struct{ to *target }

func (k keyHolder) prove(_ context.Context, to target) (proof, error) {
	*k.to = to
	return assertionProof("gateway", "an.assertion.here", ""), nil
}

func TestAProverIsToldWhatTheServersMetadataSays(t *testing.T) {
	var methods string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = io.WriteString(w, `{"token_type":"Bearer","expires_in":60,"access_token":"abc"}`)
			return
		}
		fmt.Fprintf(w, `{"issuer":"http://%s","token_endpoint":"http://%s/Token"%s}`, r.Host, r.Host, methods)
	}))
	defer server.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(server.URL, "http://")
	for _, tt := range []struct {
		method, members string
		algs            []string
		refused         bool
	}{
		{keyMethod, ``, nil, false},
		{keyMethod, `,"token_endpoint_auth_signing_alg_values_supported":["PS256","ES256"]`, []string{"PS256", "ES256"}, false},
		{"", `,"token_endpoint_auth_methods_supported":["private_key_jwt"],"token_endpoint_auth_signing_alg_values_supported":["RS256"]`, []string{"RS256"}, false},
		{"", `,"token_endpoint_auth_methods_supported":["client_secret_basic"]`, nil, true},
		{"", ``, nil, true},
	} {
		methods = tt.members
		c := &routes.Credential{Name: "k", Issuer: server.URL, ClientID: "gateway", ClientSecret: secrets.Ref{File: secret}, AuthMethod: tt.method}
		d := NewDirectory(Options{})
		d.Replace([]*routes.Credential{c})
		id := d.current.Load().named("k")
		var to target
		id.kind, id.prover = "client_key", keyHolder{&to}
		_, err := d.Acquire(t.Context(), d.Key(c, "s"), "")
		if (err != nil) != tt.refused {
			t.Errorf("method %q, metadata %s: %v", tt.method, tt.members, err)
			continue
		}
		if tt.refused {
			if !strings.Contains(err.Error(), "the server takes client_secret_basic, and a client_key can do private_key_jwt") || to.endpoint != "" {
				t.Errorf("error = %v, proven to %+v", err, to)
			}
			continue
		}
		if to.endpoint != "http://"+host+"/Token" || !slices.Equal(to.algs, tt.algs) {
			t.Errorf("metadata %s: proven to %+v, want %v", tt.members, to, tt.algs)
		}
	}
}

func TestWhereMetadataIs(t *testing.T) {
	for issuer, want := range map[string][2]string{
		"https://a.test":        {"https://a.test/.well-known/oauth-authorization-server", "https://a.test/.well-known/openid-configuration"},
		"https://a.test/":       {"https://a.test/.well-known/oauth-authorization-server", "https://a.test/.well-known/openid-configuration"},
		"https://a.test:8443/b": {"https://a.test:8443/.well-known/oauth-authorization-server/b", "https://a.test:8443/b/.well-known/openid-configuration"},
		"https://a.test/b/c/":   {"https://a.test/.well-known/oauth-authorization-server/b/c", "https://a.test/b/c/.well-known/openid-configuration"},
		"https://a.test/b%20c":  {"https://a.test/.well-known/oauth-authorization-server/b%20c", "https://a.test/b%20c/.well-known/openid-configuration"},
	} {
		got, err := metadataURLs(issuer)
		if err != nil || got != want {
			t.Errorf("metadataURLs(%q) = %q, %v; want %q", issuer, got, err, want)
		}
		for _, address := range got {
			if u, err := url.Parse(address); err != nil || u.Scheme != "https" {
				t.Errorf("%s: %v", address, err)
			}
		}
	}
}
