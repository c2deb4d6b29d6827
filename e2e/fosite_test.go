package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v3"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/storage"
)

// fositeServer is ory/fosite, the engine of Hydra: it wants a jti once only,
// an exact audience, and halves of Basic that are form-encoded.
type fositeServer struct {
	*httptest.Server
	ca       *authority
	provider fosite.OAuth2Provider
}

func startFosite(t testing.TB, clients ...foreignClient) *fositeServer {
	t.Helper()
	f := &fositeServer{ca: newAuthority(t)}
	mux := http.NewServeMux()
	f.Server = httptest.NewUnstartedServer(mux)
	f.TLS = f.ca.tls(t)
	f.StartTLS()
	t.Cleanup(f.Close)
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	config := &fosite.Config{
		GlobalSecret: secret, AccessTokenLifespan: 10 * time.Minute, TokenURL: f.URL + "/oauth2/token",
		HashCost: 4, ScopeStrategy: fosite.ExactScopeStrategy,
	}
	store := storage.NewMemoryStore()
	for _, c := range clients {
		store.Clients[c.ID] = f.client(t, config, c)
	}
	f.provider = compose.Compose(config, store, compose.NewOAuth2HMACStrategy(config),
		compose.OAuth2ClientCredentialsGrantFactory, compose.OAuth2TokenIntrospectionFactory)
	mux.HandleFunc("POST /oauth2/token", f.token)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": f.URL, "token_endpoint": f.URL + "/oauth2/token", "grant_types_supported": []string{"client_credentials"},
			"token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic", "private_key_jwt"},
		})
	})
	return f
}

func (f *fositeServer) client(t testing.TB, config *fosite.Config, c foreignClient) fosite.Client {
	t.Helper()
	plain := &fosite.DefaultClient{ID: c.ID, GrantTypes: []string{"client_credentials"}, Scopes: strings.Fields(c.Scope)}
	out := &fosite.DefaultOpenIDConnectClient{DefaultClient: plain, TokenEndpointAuthMethod: c.Method, TokenEndpointAuthSigningAlgorithm: c.Alg}
	if c.JWKS == nil {
		hash, err := (&fosite.BCrypt{Config: config}).Hash(context.Background(), []byte(c.Secret))
		if err != nil {
			t.Fatal(err)
		}
		plain.Secret = hash
		return out
	}
	b, err := json.Marshal(c.JWKS)
	if err != nil {
		t.Fatal(err)
	}
	out.JSONWebKeys = &jose.JSONWebKeySet{}
	if err := json.Unmarshal(b, out.JSONWebKeys); err != nil {
		t.Fatal(err)
	}
	return out
}

func (f *fositeServer) token(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	request, err := f.provider.NewAccessRequest(ctx, r, &fosite.DefaultSession{})
	if err != nil {
		f.provider.WriteAccessError(ctx, w, request, err)
		return
	}
	for _, s := range request.GetRequestedScopes() {
		request.GrantScope(s)
	}
	response, err := f.provider.NewAccessResponse(ctx, request)
	if err != nil {
		f.provider.WriteAccessError(ctx, w, request, err)
		return
	}
	f.provider.WriteAccessResponse(ctx, w, request, response)
}

// upstream is an API that asks f about each token.
func (f *fositeServer) upstream(t testing.TB) *httptest.Server {
	t.Helper()
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		_, says, err := f.provider.IntrospectToken(r.Context(), token, fosite.AccessToken, &fosite.DefaultSession{})
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(seen{Client: says.GetClient().GetID(), Scope: strings.Join(says.GetGrantedScopes(), " ")})
	}))
	up.TLS = f.ca.tls(t, "api.example.com")
	up.StartTLS()
	t.Cleanup(up.Close)
	return up
}

func TestFositeTakesEveryMethod(t *testing.T) {
	t.Parallel()
	rs, es := newClientKey(t, "RS256"), newClientKey(t, "ES256")
	clients := []foreignClient{
		{ID: "basic", Secret: postSecret, Method: "client_secret_basic", Scope: "orders.read"},
		{ID: "post", Secret: postSecret, Method: "client_secret_post", Scope: "orders.read"},
		rs.client(), es.client(),
	}
	f := startFosite(t, clients...)
	up := f.upstream(t)
	for _, c := range clients {
		for _, by := range []string{"token_endpoint: " + f.URL + "/oauth2/token", "issuer: " + f.URL} {
			kind, _, _ := strings.Cut(by, ":")
			t.Run(c.ID+" by "+kind, func(t *testing.T) {
				proof, files := "client_secret: {file: secret}", map[string]string{"ca.pem": f.ca.pem, "secret": postSecret}
				if c.JWKS != nil {
					key := map[string]clientKey{"RS256": rs, "ES256": es}[c.Alg]
					proof, files["secret"] = fmt.Sprintf("client_key: {file: key.pem, kid: %s}", key.jwk["kid"]), "unused"
					files["key.pem"] = key.pem
				}
				g := start(t, setup{Config: fmt.Sprintf(`version: 1
listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}
credentials:
  idp:
    %s
    client_id: %s
    %s
    token_endpoint_auth_method: %s
    ca_file: ca.pem
routes:
  - {name: api, hosts: [api.example.com], scope: orders.read, upstream: %q, tls: {ca_file: ca.pem}}
`, by, c.ID, proof, c.Method, up.URL), Files: files})
				// A second acquisition shows that no assertion is sent twice.
				for range 2 {
					if got := answers(t, g); got.Client != c.ID || got.Scope != "orders.read" {
						t.Errorf("the API saw %+v, want client %s", got, c.ID)
					}
					if out, code := g.command(t, "purge", "--admin", g.admin); code != 0 {
						t.Errorf("gateway purge: exit %d with %s", code, out)
					}
				}
			})
		}
	}
}
