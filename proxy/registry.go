package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

// A container registry of Azure takes no token of Entra's. It gives a refresh
// token of its own for one (POST /oauth2/exchange), and for that an access token
// for each repository and action (POST /oauth2/token), as Azure/acr's AAD-OAuth
// document has it. Both are tokens like any other here: cached, coalesced and
// renewed by a store, whose acquirer asks the registry.
const (
	registryTimeout = 30 * time.Second
	registryAnswer  = 64 << 10 // bytes
	// refreshLifetime is assumed of a refresh token that does not say: the
	// registry's are good for three hours.
	refreshLifetime = time.Hour
	accessLifetime  = 5 * time.Minute
	// registryEntries bounds how many tokens of registries are kept.
	registryEntries = 10_000
	registryMemory  = 64 << 20 // bytes
	// refreshScope is no scope of a registry: it stands for the refresh token.
	refreshScope = "refresh token"
)

// registries is the [tokens.Acquirer] of the registries' own tokens.
type registries struct {
	handler *Handler
	entra   TokenSource
	store   *tokens.Store
}

func newRegistries(h *Handler, entra TokenSource) *registries {
	g := &registries{handler: h, entra: entra}
	store, err := tokens.New(tokens.Config{Acquirer: g, Entries: registryEntries, Memory: registryMemory})
	if err != nil { // the configuration above is fixed
		panic(err)
	}
	g.store = store
	return g
}

// registryKey names the token of a call to a registry. Its Authority is
// the route and the registry's host; the rest is that of Entra's token.
func (p *passage) registryKey(req *http.Request) tokens.Key {
	k := p.pass.Key
	k.Authority = p.pass.Route.Name + " " + p.pass.Authority.String()
	k.Scope = registryScope(req.Method, req.URL)
	return k
}

// registryScope is what a call has to be allowed (the distribution project's
// token scope syntax); "" where any token will do.
func registryScope(method string, u *url.URL) string {
	path := strings.TrimSuffix(u.Path, "/")
	switch path {
	case "/v2/_catalog", "/acr/v1/_catalog":
		return "registry:catalog:*"
	}
	if name, ok := strings.CutPrefix(path, "/acr/v1/"); ok {
		return metadataScope(method, name)
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return ""
	}
	name := repository(rest)
	if name == "" {
		return ""
	}
	switch method {
	case http.MethodGet, http.MethodHead:
		return "repository:" + name + ":pull"
	case http.MethodDelete:
		return "repository:" + name + ":delete"
	}
	scope := "repository:" + name + ":pull,push"
	if from := u.Query().Get("from"); from != "" && strings.HasSuffix(path, "/blobs/uploads") && repositoryName(from) {
		scope += " repository:" + from + ":pull" // a blob is mounted from there
	}
	return scope
}

// metadataScope is for the registry's own API below /acr/v1/.
func metadataScope(method, rest string) string {
	name, _, _ := strings.Cut(rest, "/_")
	if !repositoryName(name) {
		return ""
	}
	action := "metadata_read"
	switch method {
	case http.MethodDelete:
		action = "delete"
	case http.MethodPatch:
		action = "metadata_write"
	}
	return "repository:" + name + ":" + action
}

// repository is the name in a path below /v2/: it ends before the last segment
// that the distribution specification reserves.
func repository(rest string) string {
	end := -1
	for _, kind := range []string{"/manifests/", "/blobs/", "/tags/", "/referrers/"} {
		end = max(end, strings.LastIndex(rest, kind))
	}
	if end < 0 || !repositoryName(rest[:end]) {
		return ""
	}
	return rest[:end]
}

// repositoryName keeps what might be read as another scope out of one.
func repositoryName(name string) bool {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("._-/", c) {
			return false
		}
	}
	return name != "" && len(name) <= 255
}

// Acquire implements [tokens.Acquirer]. Registries know no claims challenges.
func (g *registries) Acquire(ctx context.Context, k tokens.Key, _ string) (tokens.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, registryTimeout)
	defer cancel()
	name, host, _ := strings.Cut(k.Authority, " ")
	x := exchange{ctx: ctx, key: k, host: strings.TrimSuffix(host, ":443")}
	w := g.handler.world.Load()
	for _, r := range w.gate.Table().Routes {
		if r.Name == name {
			x.route, x.up = r, w.upstreams[name]
		}
	}
	if x.route == nil || x.up.transport == nil {
		return tokens.Token{}, x.fail(nil, "its route is no longer in force", "call again")
	}
	if k.Scope == refreshScope {
		return g.exchange(x, w.gate.Key(x.route))
	}
	base := k
	base.Scope = refreshScope
	refresh, _, err := g.store.Token(ctx, base)
	if err != nil {
		return tokens.Token{}, causeOf(err)
	}
	t, failed := x.access(refresh)
	if failed != nil && failed.Status == http.StatusUnauthorized {
		if refresh, _, err = g.store.Renew(ctx, base, refresh, ""); err == nil {
			t, failed = x.access(refresh)
		}
	}
	if failed != nil {
		return tokens.Token{}, failed
	}
	return t, nil
}

// exchange gets a refresh token for Entra's, which is renewed if refused.
func (g *registries) exchange(x exchange, k tokens.Key) (tokens.Token, error) {
	entra, _, err := g.entra.Token(x.ctx, k)
	if err != nil {
		return tokens.Token{}, causeOf(err)
	}
	t, failed := x.refresh(entra)
	if failed != nil && failed.Status == http.StatusUnauthorized {
		if entra, _, err = g.entra.Renew(x.ctx, k, entra, ""); err == nil {
			t, failed = x.refresh(entra)
		}
	}
	if failed != nil {
		return tokens.Token{}, failed
	}
	return t, nil
}

// causeOf is why a store has no token: the store that asked has a hold-off of
// its own.
func causeOf(err error) error {
	var none *tokens.Unavailable
	if errors.As(err, &none) {
		return none.Err
	}
	return err
}

// exchange is one conversation with a registry.
type exchange struct {
	ctx   context.Context
	key   tokens.Key
	host  string // of the registry, without its usual port
	route *routes.Route
	up    *upstream
}

func (x exchange) refresh(entra tokens.Token) (tokens.Token, *authority.Error) {
	return x.post("/oauth2/exchange", "refresh_token", refreshLifetime, url.Values{
		"grant_type": {"access_token"}, "service": {x.host}, "tenant": {x.route.Credential.TenantID}, "access_token": {entra.Access.Reveal()},
	})
}

func (x exchange) access(refresh tokens.Token) (tokens.Token, *authority.Error) {
	form := url.Values{"grant_type": {"refresh_token"}, "service": {x.host}, "refresh_token": {refresh.Access.Reveal()}}
	if x.key.Scope != "" {
		form["scope"] = []string{x.key.Scope}
	}
	return x.post("/oauth2/token", "access_token", accessLifetime, form)
}

// post sends form and returns the token in the answer's member. No redirect is
// followed, and nothing of the answer gets into an error but its code.
func (x exchange) post(path, member string, lifetime time.Duration, form url.Values) (tokens.Token, *authority.Error) {
	u := &url.URL{Scheme: x.up.scheme, Host: x.host, Path: path}
	req, err := http.NewRequestWithContext(x.ctx, http.MethodPost, u.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return tokens.Token{}, x.fail(err, "the request cannot be made", "report this: it is a defect of the gateway")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	asked := time.Now()
	resp, err := x.up.transport.RoundTrip(req)
	if err != nil {
		return tokens.Token{}, x.fail(err, "the registry cannot be reached", "check that this machine may reach "+x.host)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, registryAnswer+1))
	if err != nil || len(body) > registryAnswer {
		return tokens.Token{}, x.fail(err, "the registry's answer cannot be read", "see whether something in between answers for "+x.host)
	}
	if resp.StatusCode != http.StatusOK {
		return tokens.Token{}, x.refused(resp.StatusCode, path, body)
	}
	var answer map[string]any
	_ = json.Unmarshal(body, &answer) // what is no object holds no token
	access, _ := answer[member].(string)
	if !headerSafe(access) {
		return tokens.Token{}, x.fail(nil, "the registry's answer holds no "+member, "see whether "+x.host+" is a container registry of Azure")
	}
	t := tokens.Token{Access: secrets.New(access), Expires: asked.Add(lifetime)}
	if claims, err := authority.Claims(t.Access); err == nil && claims.Expires.After(asked) {
		t.Expires = claims.Expires
	}
	return t, nil
}

// headerSafe tells whether a token can stand in a header field as it is.
func headerSafe(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// refused is a registry's no.
func (x exchange) refused(status int, path string, body []byte) *authority.Error {
	e := x.fail(nil, fmt.Sprintf("the registry %s refused to exchange the token at %s", x.host, path),
		"see that the registry trusts this tenant, and that the application has the role AcrPull or AcrPush on it")
	e.Status, e.Nature = status, tokens.Refused
	var answer struct {
		Errors []struct{ Code string }
	}
	if err := json.Unmarshal(body, &answer); err == nil && len(answer.Errors) > 0 && plainCode(answer.Errors[0].Code) {
		e.Code = answer.Errors[0].Code
	}
	switch {
	case status == http.StatusTooManyRequests:
		e.Nature = tokens.Throttled
	case status >= http.StatusInternalServerError:
		e.Nature = tokens.Transient
	}
	return e
}

func plainCode(s string) bool {
	return len(s) <= 64 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == ""
}

func (x exchange) fail(err error, hint, remedy string) *authority.Error {
	e := &authority.Error{Credential: x.key.Credential, Scope: x.key.Scope, Host: x.host, Hint: hint, Remedy: remedy, Nature: tokens.Transient}
	if err != nil {
		e.Detail = err.Error()
	}
	return e
}
