package authority

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

// The kinds of credentials, named as in routes.yaml.
const (
	kindSecret      = "client_secret"
	kindCertificate = "client_certificate"
	kindFederated   = "federated_token"
	kindManaged     = "managed_identity"
)

// trust tells one set of roots from another: the digest of the CA file, or
// zero for the system's roots.
type trust [sha256.Size]byte

// identity is one credential, loaded. A nil prover means that it is not ready.
type identity struct {
	credential  routes.Credential
	origin      *routes.Credential // that it was loaded for, to be found by it at once
	login       string             // AuthorityHost, in lower case
	kind        string
	authority   string // as in its keys: the token endpoint, or the issuer
	endpoint    string // the token endpoint, host in lower case; "" until an issuer's metadata told
	host        string // of the endpoint or the issuer, with a port if it names one
	fingerprint string
	aliases     []string // fingerprints that it had before it was read anew
	prover      prover
	algs        []string         // signing algorithms that the endpoint says it takes; nil: unknown
	managed     *managedIdentity // instead of prover; its host is asked and no endpoint
	leaf        *Leaf
	guid        bool // the secret looks like a secret's ID

	roots     *x509.CertPool // nil: the system's
	trust     trust
	transport *http.Transport
	dialer    Dialer      // of the directory
	binding   *tokenProxy // instead of transport; nil for none

	reason, remedy string // why not ready, or why the last good one is in use
	state          *state
	history        *history   // shared by all generations of the credential
	home           *identity  // in its own tenant; nil for that itself
	discovery      *discovery // nil without an issuer
}

// usable tells whether there is anything to show to a token endpoint.
func (id *identity) usable() bool { return id.prover != nil || id.managed != nil }

// state is what acquisitions taught about an identity.
type state struct {
	mu        sync.Mutex // guards what follows
	lastError *Error
	unproven  *Error    // the latest proof could not even be made; nil once it could
	expires   time.Time // of the federated token that was sent last; zero: unknown
	cosmos    bool      // accounts of Cosmos DB have no audience of their own here
	skew      time.Duration
}

// note keeps the outcome of an acquisition; nil is a success.
func (s *state) note(e *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastError = e
	s.unproven = nil
	if e != nil && e.Status == 0 && e.Refused() {
		s.unproven = e
	}
}

// inherit takes over what the same credential learned before a reload, save
// that a proof which can be made now is no longer unproven.
func (s *state) inherit(old *state) {
	old.mu.Lock()
	lastError, unproven, skew := old.lastError, old.unproven, old.skew
	expires, cosmos := old.expires, old.cosmos
	old.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew, s.cosmos = skew, cosmos
	if s.expires.IsZero() {
		s.expires = expires
	}
	if s.lastError == nil && unproven == nil {
		s.lastError = lastError
	}
}

func (s *state) setSkew(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = d
}

func (s *state) clockSkew() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.skew
}

// noteExpiry keeps when a federated token of a file ends.
func (id *identity) noteExpiry(token secrets.Secret) {
	if claims, err := Claims(token); err == nil {
		id.state.setExpires(claims.Expires)
	}
}

func (s *state) setExpires(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expires = t
}

func (s *state) setCosmos(general bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cosmos = general
}

func (s *state) cosmosIsGeneral() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cosmos
}

// A trouble is why a credential cannot be used, found before anything was
// sent. Its text is fit for callers: it names files and variables, no values.
type trouble struct {
	what   string
	remedy string
	cause  error // may be nil
}

func (t *trouble) Error() string {
	if t.cause == nil {
		return t.what
	}
	return t.what + ": " + t.cause.Error()
}

func (t *trouble) Unwrap() error { return t.cause }

func remedyOf(err error) string {
	if t, ok := errors.AsType[*trouble](err); ok {
		return t.remedy
	}
	return ""
}

// load reads all that c names. The findings are warnings; an error is a
// [trouble] and means that c cannot be used.
func load(c *routes.Credential, dialer Dialer, now time.Time) (*identity, []Finding, error) {
	if c.Missing != "" {
		return nil, nil, &trouble{
			what:   c.Missing,
			remedy: "set these variables, or describe the credential under credentials: in routes.yaml",
		}
	}
	id := &identity{
		credential: *c,
		authority:  authorityOf(c),
		endpoint:   canonicalEndpoint(c.Endpoint()),
		dialer:     dialer,
		state:      &state{},
		history:    newHistory(time.Time{}),
	}
	if c.Issuer != "" {
		id.discovery = &discovery{issuer: c.Issuer}
	}
	if c.ManagedIdentity == nil {
		if err := id.loadAddress(); err != nil {
			return nil, nil, err
		}
	}
	if err := checkParams(c.TokenParams); err != nil {
		return nil, nil, err
	}
	if err := id.loadTrust(); err != nil {
		return nil, nil, err
	}
	findings, err := id.loadProof(now)
	if err != nil {
		return nil, nil, err
	}
	if f := c.FederatedToken; f != nil && f.File != "" {
		if token, err := (secrets.Ref{File: f.File}).Read(); err == nil {
			id.noteExpiry(token)
		}
	}
	return id, findings, nil
}

// loadAddress sets the host, and refuses addresses that no secret may go to.
func (id *identity) loadAddress() error {
	name := "the token endpoint"
	if id.discovery != nil {
		name = "the issuer"
	}
	u, err := url.Parse(id.authority)
	if err != nil || u.Host == "" {
		return &trouble{what: name + " is not an absolute URL", remedy: "write it as https://host/path"}
	}
	id.host = u.Host
	if !secure(u) {
		return &trouble{
			what:   name + " is not https",
			remedy: "use https; http is for loopback addresses alone",
		}
	}
	return nil
}

// secure tells whether a secret may be sent to u: over TLS, or to this machine.
func secure(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname())
}

// loadProof sets the prover and all that depends on it.
func (id *identity) loadProof(now time.Time) ([]Finding, error) {
	c := &id.credential
	switch {
	case !c.ClientSecret.IsZero():
		return id.loadSecret()
	case c.ClientCertificate != nil:
		return id.loadCertificate(now)
	case c.ClientKey != nil:
		return id.loadClientKey()
	case c.FederatedToken != nil:
		return id.loadFederated(now)
	case c.ManagedIdentity != nil:
		return id.loadManaged()
	}
	return nil, &trouble{
		what:   "no secret, certificate or federated token is named",
		remedy: "give it client_secret, client_certificate or federated_token",
	}
}

// fingerprintOf digests all that decides which token the endpoint would give.
func (id *identity) fingerprintOf(proof string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %q", id.kind, id.authority, id.credential.ClientID, id.credential.AuthMethod, proof)
	for _, p := range id.credential.TokenParams {
		fmt.Fprintf(h, " %q=%q", p.Name, p.Value)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (id *identity) warning(message, remedy string) Finding {
	return Finding{Credential: id.credential.Name, Message: message, Remedy: remedy}
}

// reservedParams are the form fields that token_params may not touch: who asks,
// how it proves so, and for what.
var reservedParams = [...]string{
	"grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope", "claims",
}

func checkParams(params []routes.Param) error {
	for _, p := range params {
		if slices.Contains(reservedParams[:], p.Name) {
			return &trouble{
				what:   fmt.Sprintf("token_params sets %q, which the gateway sets itself", p.Name),
				remedy: "take it out of token_params; the credential and the route's scope decide it",
			}
		}
	}
	return nil
}

// loadTrust reads ca_file, whose certificates are then the only roots.
func (id *identity) loadTrust() error {
	file := id.credential.CAFile
	if file == "" {
		return nil
	}
	bundle, err := secrets.ReadFile(file)
	if err != nil {
		return &trouble{what: "ca_file cannot be read", remedy: "name a readable PEM bundle under ca_file", cause: err}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return &trouble{
			what:   "ca_file " + file + " holds no certificate",
			remedy: "put the issuing CA's certificates there, as PEM",
		}
	}
	id.roots, id.trust = roots, sha256.Sum256(bundle)
	return nil
}

// canonicalEndpoint writes scheme and host in lower case and leaves the rest
// as it is: the path may matter to the server, and to an assertion's audience.
func canonicalEndpoint(endpoint string) string {
	scheme, rest, ok := strings.Cut(endpoint, "://")
	if !ok {
		return endpoint
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	return strings.ToLower(scheme) + "://" + strings.ToLower(rest[:end]) + rest[end:]
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
