package sandbox

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/golang-jwt/jwt/v5"
)

// An APIKind is a Microsoft API with manners of its own about tokens.
type APIKind string

// The kinds. [APIKind]'s names are those of the presets for them.
const (
	// Cosmos wants the header form type=aad&ver=1.0&sig=, URL-encoded, with
	// x-ms-date and x-ms-version, and refuses an audience that ends in a slash.
	Cosmos APIKind = "cosmos"
	// Storage wants x-ms-version 2017-11-09 or later with a Bearer token, and
	// answers in XML, its challenge with values that are not quoted.
	Storage APIKind = "storage"
	// DevOps sends whoever it does not believe to a sign-in page: 302 without a
	// token, 203 with a bad one; 401 if X-TFS-FedAuthRedirect is Suppress.
	DevOps APIKind = "azuredevops"
	// Maps wants x-ms-client-id, the account's client ID.
	Maps APIKind = "maps"
	// Databricks wants a second token, for ARM, and the workspace's resource
	// ID, of a principal that is not in the workspace; see APIOptions.Stranger.
	Databricks APIKind = "databricks"
	// KeyVault tells by its challenge which tenant and resource to ask for.
	KeyVault APIKind = "keyvault"
)

// APIOptions shape an [API].
type APIOptions struct {
	World *World
	Kind  APIKind
	// Stranger makes the caller of Databricks one that is not in the workspace.
	Stranger bool
}

// What an [API] of each kind is called and knows of itself.
const (
	CosmosAccount     = "sandbox.documents.azure.com"
	StorageAccount    = "sandbox.blob.core.windows.net"
	MapsClientID      = "aaaabbbb-6666-cccc-7777-dddd8888eeee"
	DatabricksAppID   = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"
	DatabricksHost    = "adb-1234567890123456.7.azuredatabricks.net"
	DatabricksID      = "/subscriptions/11112222-bbbb-3333-cccc-4444dddd5555/resourceGroups/sandbox/providers/Microsoft.Databricks/workspaces/sandbox"
	VaultHost         = "sandbox.vault.azure.net"
	managementForData = "https://management.core.windows.net"
)

// apiFacts are the name in the cloud and the audiences of a kind, best first.
type apiFacts struct {
	host      string
	audiences []string
}

func (k APIKind) facts() (apiFacts, bool) {
	switch k {
	case Cosmos:
		return apiFacts{CosmosAccount, []string{"https://" + CosmosAccount, "https://cosmos.azure.com"}}, true
	case Storage:
		return apiFacts{StorageAccount, []string{"https://storage.azure.com", "https://" + StorageAccount}}, true
	case DevOps:
		return apiFacts{"dev.azure.com", []string{devOpsAppID}}, true
	case Maps:
		return apiFacts{"atlas.microsoft.com", []string{"https://atlas.microsoft.com"}}, true
	case Databricks:
		return apiFacts{DatabricksHost, []string{DatabricksAppID}}, true
	case KeyVault:
		return apiFacts{VaultHost, []string{"https://vault.azure.net"}}, true
	}
	return apiFacts{}, false
}

// An APICall is one call as the API judged it.
type APICall struct {
	Method, Path string
	ClientID     string // of a token that was believed
	Status       int
	Problem      string // "": none
}

// An API is one of Microsoft's with manners of its own. It believes no token
// before it has verified it by the keys of the World's Entra, and serves any
// path.
type API struct {
	opts  APIOptions
	facts apiFacts
	srv   *server
	entra *Entra
	clock *clock
	keys  map[string]*rsa.PublicKey

	mu    sync.Mutex // guards calls
	calls []APICall
}

// StartAPI opens an API on loopback, port 0, and makes its audiences known to
// Entra. Close it, or the World.
func StartAPI(opts APIOptions) (*API, error) {
	facts, ok := opts.Kind.facts()
	env := opts.World.environment()
	if !ok || env == nil {
		return nil, fmt.Errorf("%w: API %q", ErrOptions, opts.Kind)
	}
	a := &API{opts: opts, facts: facts, entra: opts.World.Entra, clock: env.clock, keys: opts.World.Graph.keys}
	for _, aud := range facts.audiences {
		a.entra.AddResource(aud)
	}
	var err error
	if a.srv, err = serve(string(opts.Kind), env, http.HandlerFunc(a.serve)); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	opts.World.join(a.srv)
	return a, nil
}

// Close ends the API and the calls in it. It may be called more than once.
func (a *API) Close() { a.srv.close() }

// URL returns scheme, host and port, with no slash at the end.
func (a *API) URL() string { return a.srv.url }

// Host returns the name that this API has in the cloud.
func (a *API) Host() string { return a.facts.host }

// Audience returns what a token has to be for; "/.default" makes it a scope.
func (a *API) Audience() string { return a.facts.audiences[0] }

// Calls returns the latest calls, oldest first.
func (a *API) Calls() []APICall {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls)
}

// visit is one call on its way through.
type visit struct {
	a    *API
	w    http.ResponseWriter
	r    *http.Request
	call *APICall
}

func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w, status: http.StatusOK}
	v := &visit{a: a, w: rec, r: r, call: &APICall{Method: clip(r.Method, 16), Path: clip(r.URL.EscapedPath(), 1024)}}
	switch a.opts.Kind {
	case Cosmos:
		v.cosmos()
	case Storage:
		v.storage()
	case DevOps:
		v.devOps()
	case Maps:
		v.maps()
	case Databricks:
		v.databricks()
	case KeyVault:
		v.keyVault()
	}
	v.call.Status = rec.status
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.calls) >= maxSeen {
		a.calls = slices.Clone(a.calls[maxSeen/2:])
	}
	a.calls = append(a.calls, *v.call)
}

// errToken is the verdict on a token; what wraps it says why.
var errToken = errors.New("token refused")

// bearer returns the claims of the request's bearer token.
func (v *visit) bearer() (jwt.MapClaims, error) {
	lines := v.r.Header.Values("Authorization")
	scheme, raw, _ := strings.Cut(strings.Join(lines, ","), " ")
	if len(lines) != 1 || !strings.EqualFold(scheme, "Bearer") || raw == "" {
		return nil, fmt.Errorf("%w: no bearer token", errToken)
	}
	return v.verify(raw, v.a.facts.audiences)
}

// verify judges a token of Entra for one of audiences, letter by letter.
func (v *visit) verify(raw string, audiences []string) (jwt.MapClaims, error) {
	claims, err := verifyRS256(raw, v.a.keys)
	if err != nil {
		return nil, fmt.Errorf("%w: signature", errToken)
	}
	switch why := v.a.entra.flaw(claims); {
	case why != "":
		return nil, fmt.Errorf("%w: %s", errToken, why)
	case !slices.Contains(audiences, text(claims, "aud")):
		return nil, fmt.Errorf("%w: audience %q", errToken, clip(text(claims, "aud"), 255))
	}
	v.call.ClientID = text(claims, "appid")
	return claims, nil
}

// refuse notes the problem and answers with a body of that type.
func (v *visit) refuse(status int, problem, contentType, body string) {
	v.call.Problem = problem
	v.w.Header().Set("Content-Type", contentType)
	v.w.WriteHeader(status)
	_, _ = v.w.Write([]byte(body))
}

// refuseJSON is refuse with JSON made of doc.
func (v *visit) refuseJSON(status int, problem string, doc any) {
	raw, err := json.Marshal(doc)
	if err != nil { // doc is always made in this package
		panic(fmt.Sprintf("sandbox: answer: %v", err))
	}
	v.refuse(status, problem, "application/json", string(raw))
}
