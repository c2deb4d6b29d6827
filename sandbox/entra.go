package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultLifetime is what most app-only tokens get from Entra.
const DefaultLifetime = 3599 * time.Second

// Entra is a small Microsoft Entra token service: the v2.0 token endpoint for
// client credentials, the discovery documents and the keys. A tenant is
// addressed by its GUID or by its domain.
//
// Secrets, assertions, scopes and permissions are verified; refusals carry the
// codes and bodies of the real service. Where the real service's order of
// checks is not known, this one looks at tenant, parameters, scope syntax,
// app, credential, resource, in that order.
type Entra struct {
	clock *clock
	srv   *server
	keys  *signer
	web   *http.Client // fetches the keys of federated issuers

	serial  atomic.Uint64 // of the last token issued
	failing outbreak
	replays replays

	mu        sync.RWMutex // guards everything below
	dir       directory
	accepted  []Assertion
	ordered   map[string]int // client ID to the AADSTS number it gets
	cloud     Cloud
	lifetime  time.Duration // 0: the default
	refreshIn time.Duration
	requests  int
	byClient  map[string]int
	observe   func(TokenRequest)
}

// A TokenRequest is one call of the token endpoint as it came in, secrets and
// assertions included: for tests, never for logs.
type TokenRequest struct {
	URL    string // as the client addressed it
	Header http.Header
	Form   url.Values // nil if the body was no form
}

func startEntra(env *surroundings, caPEM []byte) (*Entra, error) {
	keys, err := newSigner("sandbox token signing", env.clock.now())
	if err != nil {
		return nil, err
	}
	e := &Entra{
		clock: env.clock, keys: keys, web: issuerClient(caPEM),
		dir: newDirectory(), byClient: map[string]int{},
		ordered: map[string]int{},
	}
	if e.srv, err = serve("entra", env, http.HandlerFunc(e.route)); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Entra) close() {
	e.srv.close()
	e.web.CloseIdleConnections()
}

// URL returns the authority host as an operator would write it, such as
// http://127.0.0.1:41234, with no slash at the end.
func (e *Entra) URL() string { return e.srv.url }

// TokenURL returns the token endpoint of a tenant.
func (e *Entra) TokenURL(tenant string) string {
	return e.srv.url + "/" + tenant + "/oauth2/v2.0/token"
}

// SetLifetime sets how long tokens issued from now on live; 0 is
// [DefaultLifetime], and a day for tokens that were asked with cp1.
func (e *Entra) SetLifetime(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lifetime = d
}

// SetRefreshIn makes answers carry refresh_in from now on; 0 leaves it out of
// all but a day's tokens, where it is half their life.
func (e *Entra) SetRefreshIn(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refreshIn = d
}

// Requests returns how often the token endpoint was called, refused and failed
// calls included. Connections turned away by [Refuse] are not calls.
func (e *Entra) Requests() int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.requests
}

// RequestsFor returns how many of [Entra.Requests] named this registered app.
func (e *Entra) RequestsFor(clientID string) int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.byClient[strings.ToLower(clientID)]
}

// Issued returns how many tokens were issued.
func (e *Entra) Issued() int { return int(e.serial.Load()) }

// Observe has f called with each token request before it is judged, though
// after a failure has been chosen for it. Calls may overlap. Nil ends it.
func (e *Entra) Observe(f func(TokenRequest)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.observe = f
}

// note counts a request and shows it to the observer.
func (e *Entra) note(r TokenRequest, clientID string) {
	e.mu.Lock()
	e.requests++
	if _, ok := e.dir.apps[strings.ToLower(clientID)]; ok {
		e.byClient[strings.ToLower(clientID)]++
	}
	f := e.observe
	e.mu.Unlock()
	if f != nil {
		f(r)
	}
}

// route tells the endpoints apart. All hang below a tenant, as on the real
// host; only instance discovery belongs to "common" alone.
func (e *Entra) route(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("x-ms-ests-server", "2.1.0 - SANDBOX")
	tenant, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	x := newExchange(e, r, tenant)
	switch {
	case rest == "oauth2/v2.0/token":
		e.serveToken(w, x)
	case rest == "v2.0/.well-known/openid-configuration":
		e.serveMetadata(w, x)
	case rest == "discovery/v2.0/keys":
		e.serveKeys(w, x)
	case tenant == "common" && rest == "discovery/instance":
		e.serveInstance(w, x)
	default:
		http.NotFound(w, r)
	}
}

// writeJSON writes v as the whole answer, ampersands as they are: links in
// answers of the real services are not escaped either.
func writeJSON(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil { // v is always made in this package
		panic(fmt.Sprintf("sandbox: answer: %v", err))
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	w.WriteHeader(status)
	_, _ = w.Write(bytes.TrimSpace(body.Bytes())) // a client that left is no concern of ours
}
