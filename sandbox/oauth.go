package sandbox

import (
	"crypto"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// The client authentication methods of [OAuth], by their registered names.
const (
	SecretBasic = "client_secret_basic"
	SecretPost  = "client_secret_post"
	PrivateKey  = "private_key_jwt"
)

// A MetadataStyle is where an authorization server publishes its metadata.
type MetadataStyle string

// The styles.
const (
	RFC8414    MetadataStyle = ""       // /.well-known/oauth-authorization-server before the issuer's path
	OpenID     MetadataStyle = "openid" // /.well-known/openid-configuration after it
	NoMetadata MetadataStyle = "none"   // nowhere
)

// OAuthOptions shape an [OAuth]. The zero value is a server on its own, over
// plain HTTP, that issues JWTs for any scope and audience.
type OAuthOptions struct {
	World    *World // lends clock, log and TLS; nil: this machine's, none, none
	Path     string // of the issuer, such as /realms/x
	Metadata MetadataStyle
	// Issuer is what the metadata claims; "" is the truth.
	Issuer string
	// Methods, GrantTypes and Algs are those that the metadata lists; nil lists
	// what there is, an empty list leaves the member out.
	Methods, GrantTypes, Algs []string
	// Edit changes the metadata before it is sent.
	Edit func(map[string]any)
	// Scopes and Audiences are all that there are; none: any.
	Scopes, Audiences []string
	// Opaque issues tokens without structure instead of JWTs.
	Opaque bool
	// Lifetime of tokens; 0 is ten minutes.
	Lifetime time.Duration
}

// An OAuthClient may ask for tokens.
type OAuthClient struct {
	ID      string
	Secrets []string // each is good
	// Keys are the public keys for [PrivateKey], by kid.
	Keys map[string]crypto.PublicKey
	// Method is the only one that it may use; "": any for which it has
	// something.
	Method string
	// Scopes it may have, and gets when it asks for none; none: any.
	Scopes []string
}

// A Grant is what a token of [OAuth] stands for.
type Grant struct {
	ClientID        string
	Method          string // by which the client proved itself
	Scopes          []string
	Audience        []string
	Issued, Expires time.Time
}

// OAuth is an OAuth2 authorization server that is not Entra: client
// credentials after RFC 6749, metadata after RFC 8414, assertions after RFC
// 7523, audiences by the parameters audience or resource (RFC 8707). It is
// strict where the RFCs say MUST.
type OAuth struct {
	opts    OAuthOptions
	srv     *server
	clock   *clock
	signing func() (*signer, error) // made at first need
	failing outbreak
	replays replays

	mu       sync.Mutex // guards everything below
	clients  map[string]OAuthClient
	grants   map[string]Grant // by token
	requests int
	observe  func(TokenRequest)
}

// StartOAuth opens an authorization server on loopback, port 0. Close it; the
// World, if it has one, does as well.
func StartOAuth(opts OAuthOptions) (*OAuth, error) {
	if opts.Path != "" && (!strings.HasPrefix(opts.Path, "/") || strings.HasSuffix(opts.Path, "/")) {
		return nil, fmt.Errorf("%w: issuer path %q", ErrName, opts.Path)
	}
	env := opts.World.environment()
	if env == nil {
		env = &surroundings{clock: &clock{}, log: &lineLog{}}
	}
	if opts.Lifetime == 0 {
		opts.Lifetime = 10 * time.Minute
	}
	o := &OAuth{opts: opts, clock: env.clock, clients: map[string]OAuthClient{}, grants: map[string]Grant{}}
	o.signing = sync.OnceValues(func() (*signer, error) { return newSigner("sandbox oauth", env.clock.now()) })
	var err error
	if o.srv, err = serve("oauth", env, http.HandlerFunc(o.route)); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if opts.World != nil {
		opts.World.join(o.srv)
	}
	return o, nil
}

// Close ends the server and the calls in it. It may be called more than once.
func (o *OAuth) Close() { o.srv.close() }

// Issuer returns the issuer identifier.
func (o *OAuth) Issuer() string { return o.srv.url + o.opts.Path }

// TokenURL returns the token endpoint.
func (o *OAuth) TokenURL() string { return o.Issuer() + "/protocol/token" }

// errClient is the refusal of a client that could never authenticate.
var errClient = errors.New("sandbox: not a usable client")

// AddClient registers a client, in place of one with that ID. Rotation is a
// second AddClient.
func (o *OAuth) AddClient(c OAuthClient) error {
	known := []string{"", SecretBasic, SecretPost, PrivateKey}
	if c.ID == "" || !slices.Contains(known, c.Method) || (len(c.Secrets) == 0 && len(c.Keys) == 0) || slices.Contains(c.Secrets, "") {
		return fmt.Errorf("%w: %q", errClient, c.ID)
	}
	c.Secrets, c.Scopes, c.Keys = slices.Clone(c.Secrets), slices.Clone(c.Scopes), maps.Clone(c.Keys)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clients[c.ID] = c
	return nil
}

// Introspect returns what a token stands for; ok is false if it is not one of
// this server, has expired or was revoked.
func (o *OAuth) Introspect(token string) (g Grant, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g, ok = o.grants[token]
	if !ok || !o.clock.now().Before(g.Expires) {
		return Grant{}, false
	}
	return g, true
}

// Revoke makes a token worthless.
func (o *OAuth) Revoke(token string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.grants, token)
}

// Requests returns how often the token endpoint was called.
func (o *OAuth) Requests() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.requests
}

// Observe has f called with each token request before it is judged. Calls may
// overlap. Nil ends it.
func (o *OAuth) Observe(f func(TokenRequest)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.observe = f
}

// FailWith makes the token endpoint misbehave until [OAuth.Recover], until the
// next failure, or for f.Times calls. [WrongSecret] refuses every client,
// whatever its method.
func (o *OAuth) FailWith(f Failure) {
	o.failing.begin(f)
	o.srv.door.shut.Store(f.Kind == Refuse)
}

// Recover ends the failure. Calls that hang get their answer.
func (o *OAuth) Recover() {
	o.failing.end()
	o.srv.door.shut.Store(false)
}

// route tells the endpoints apart.
func (o *OAuth) route(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case o.opts.Path + "/protocol/token":
		o.serveToken(w, r)
	case o.opts.Path + "/jwks":
		if !onlyGET(w, r) {
			return
		}
		keys, err := o.signing()
		if err != nil {
			http.Error(w, "no key", http.StatusInternalServerError)
			return
		}
		writeJSON(w, http.StatusOK, keys.published(""))
	case o.metadataPath():
		if onlyGET(w, r) {
			writeJSON(w, http.StatusOK, o.metadata())
		}
	default:
		http.NotFound(w, r)
	}
}

// metadataPath is where the metadata is; "" is nowhere.
func (o *OAuth) metadataPath() string {
	switch o.opts.Metadata {
	case RFC8414:
		return "/.well-known/oauth-authorization-server" + o.opts.Path
	case OpenID:
		return o.opts.Path + "/.well-known/openid-configuration"
	}
	return ""
}

// MetadataURL returns where the metadata is, "" without.
func (o *OAuth) MetadataURL() string {
	if path := o.metadataPath(); path != "" {
		return o.srv.url + path
	}
	return ""
}

func (o *OAuth) metadata() map[string]any {
	doc := map[string]any{
		"issuer": o.Issuer(), "token_endpoint": o.TokenURL(), "jwks_uri": o.Issuer() + "/jwks",
		"authorization_endpoint": o.Issuer() + "/protocol/auth", "response_types_supported": []string{"code"},
	}
	if o.opts.Issuer != "" {
		doc["issuer"] = o.opts.Issuer
	}
	for name, lists := range map[string][2][]string{
		"token_endpoint_auth_methods_supported":            {o.opts.Methods, {SecretBasic, SecretPost, PrivateKey}},
		"grant_types_supported":                            {o.opts.GrantTypes, {"authorization_code", "client_credentials"}},
		"token_endpoint_auth_signing_alg_values_supported": {o.opts.Algs, assertionAlgs()},
		"scopes_supported":                                 {nil, o.opts.Scopes},
	} {
		list := lists[0]
		if list == nil {
			list = lists[1]
		}
		if len(list) > 0 {
			doc[name] = list
		}
	}
	if o.opts.Edit != nil {
		o.opts.Edit(doc)
	}
	return doc
}

// maxGrants bounds the tokens that are remembered.
const maxGrants = 10_000

// grant issues a token for g.
func (o *OAuth) grant(g Grant) (token string, err error) {
	if o.opts.Opaque {
		token = newSecretValue() + "." + strings.ReplaceAll(uuid.NewString(), "-", "")
	} else {
		keys, err := o.signing()
		if err != nil {
			return "", err
		}
		t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{ // RFC 9068
			"iss": o.Issuer(), "sub": g.ClientID, "client_id": g.ClientID, "aud": g.Audience, "jti": uuid.NewString(),
			"iat": g.Issued.Unix(), "exp": g.Expires.Unix(), "scope": strings.Join(g.Scopes, " "),
		})
		t.Header["kid"], t.Header["typ"] = keys.kid, "at+jwt"
		if token, err = t.SignedString(keys.key); err != nil {
			return "", err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for old, g := range o.grants {
		if len(o.grants) < maxGrants {
			break
		}
		if !o.clock.now().Before(g.Expires) || len(o.grants) >= 2*maxGrants {
			delete(o.grants, old)
		}
	}
	o.grants[token] = g
	return token, nil
}
