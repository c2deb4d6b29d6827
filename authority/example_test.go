package authority_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

// A token for one credential, and what a refusal looks like.
func ExampleDirectory() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("scope") != "read" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"invalid_scope"}`)
			return
		}
		_, _ = io.WriteString(w, `{"token_type":"Bearer","expires_in":3600,"access_token":"abc"}`)
	}))
	defer server.Close()
	_ = os.Setenv("EXAMPLE_SECRET", "s")
	defer func() { _ = os.Unsetenv("EXAMPLE_SECRET") }()

	credential := &routes.Credential{
		Name: "keycloak", TokenEndpoint: server.URL, ClientID: "gateway",
		ClientSecret: secrets.Ref{Env: "EXAMPLE_SECRET"}, AuthMethod: "client_secret_basic",
	}
	d := authority.NewDirectory(authority.Options{Version: "1.0"})
	for _, finding := range d.Replace([]*routes.Credential{credential}) {
		fmt.Println(finding.Message)
	}

	token, err := d.Acquire(context.Background(), d.Key(credential, "read"), "")
	fmt.Println(token.Access, err)

	_, err = d.Acquire(context.Background(), d.Key(credential, "write"), "")
	var refusal *authority.Error
	if errors.As(err, &refusal) {
		fmt.Println(refusal.Refused(), refusal.Code, refusal.Hint)
	}
	// Output:
	// [redacted] <nil>
	// true invalid_scope the scope is unknown or not allowed for the client
}

// What a token says of itself, without verification.
func ExampleClaims() {
	// {"aud":"https://graph.microsoft.com","tid":"t1","appid":"a1","roles":["User.Read.All"]}
	token := secrets.New("eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwczovL2dyYXBoLm1pY3Jvc29mdC5jb20iLCJ0aWQiOiJ0MSIsImFwcGlkIjoiYTEiLCJyb2xlcyI6WyJVc2VyLlJlYWQuQWxsIl19.c2ln")
	claims, err := authority.Claims(token)
	fmt.Println(claims.Audience, claims.Roles, err)
	_, err = authority.Claims(secrets.New("opaque"))
	fmt.Println(errors.Is(err, authority.ErrOpaque))
	// Output:
	// [https://graph.microsoft.com] [User.Read.All] <nil>
	// true
}

// A secret that was refused, the fallback in its place, and who hears of it.
func ExampleNewDirectory() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("client_secret") != "older" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"invalid_client"}`)
			return
		}
		_, _ = io.WriteString(w, `{"token_type":"Bearer","expires_in":3600,"access_token":"abc"}`)
	}))
	defer server.Close()
	for name, secret := range map[string]string{"EXAMPLE_NEWER": "mistyped", "EXAMPLE_OLDER": "older"} {
		_ = os.Setenv(name, secret)
		defer func() { _ = os.Unsetenv(name) }()
	}

	newer := &routes.Credential{
		Name: "newer", TokenEndpoint: server.URL, ClientID: "gateway", AuthMethod: "client_secret_post",
		ClientSecret: secrets.Ref{Env: "EXAMPLE_NEWER"}, Fallback: "older",
	}
	older := &routes.Credential{
		Name: "older", TokenEndpoint: server.URL, ClientID: "gateway", AuthMethod: "client_secret_post",
		ClientSecret: secrets.Ref{Env: "EXAMPLE_OLDER"},
	}
	d := authority.NewDirectory(authority.Options{
		Alarm: func(f authority.Finding) { fmt.Println("alarm:", f.Alarm, f.Credential, f.Remedy) },
	})
	d.Replace([]*routes.Credential{newer, older})
	_, err := d.Acquire(context.Background(), d.Key(newer, "read"), "")
	st := d.Status()[0]
	fmt.Println(err, st.Fallback, st.Usable(), st.LastError.Code)
	// Output:
	// alarm: true newer check client_id, its secret or key, and token_endpoint_auth_method
	// <nil> older true invalid_client
}
