package sandbox

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // x5t is a SHA-1 thumbprint by definition, RFC 7515 §4.1.7
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// An App is a registered application. An empty ClientID becomes a random one,
// no Tenants mean [TenantID]; further tenants have its service principal, each
// with an object ID of its own.
type App struct {
	ClientID string
	Name     string
	Tenants  []string // GUIDs or domains
}

// A Secret is one client secret. What is empty is filled in by
// [Entra.AddSecret]: a random ID, a random value, two years from now.
type Secret struct {
	KeyID   string // what operators paste by mistake instead of Value
	Value   string
	Expires time.Time
}

// A Federated credential lets the holder of a token with exactly these claims
// in as the app, compared case-sensitively. An empty Audience is
// api://AzureADTokenExchange.
type Federated struct {
	Issuer, Subject, Audience string
}

// TokenExchangeAudience is the audience that Entra recommends for federated
// credentials in the public cloud.
const TokenExchangeAudience = "api://AzureADTokenExchange"

// devOpsAppID is the application of Azure DevOps, and the audience of its API.
const devOpsAppID = "499b84ac-1321-427f-aa17-267ca6975798"

// Mistakes in the administration of an [Entra].
var (
	ErrNoApp    = errors.New("sandbox: no such app")
	ErrNoTenant = errors.New("sandbox: no such tenant")
	ErrName     = errors.New("sandbox: not a usable name")
)

type tenant struct {
	id, domain string
	foreign    *ForeignTenant // nil: of this cloud
}

type app struct {
	id, name   string
	home       string            // the tenant where it is registered
	managed    *ManagedIdentity  // nil: an app
	principals map[string]string // tenant ID to object ID
	secrets    []Secret
	certs      []*x509.Certificate
	issuers    []subjectIssuer // of certificates that need no registration
	federated  []Federated
	grants     map[string][]string // resource to roles
}

// directory is what a token service knows. It has no lock of its own.
type directory struct {
	tenants   map[string]*tenant // by GUID and by domain, lower case
	apps      map[string]*app    // by client ID, lower case
	resources map[string]string  // every name of a resource to its first
}

func newDirectory() directory {
	return directory{tenants: map[string]*tenant{}, apps: map[string]*app{}, resources: map[string]string{}}
}

// AddTenant adds a tenant with its GUID and its domain ("": none).
func (e *Entra) AddTenant(id, domain string) error {
	if uuid.Validate(id) != nil || len(id) != 36 || !tenantSyntax(domain+".x") {
		return fmt.Errorf("%w: tenant %q, domain %q", ErrName, id, domain)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	t := &tenant{id: strings.ToLower(id), domain: domain}
	e.dir.tenants[t.id] = t
	if domain != "" {
		e.dir.tenants[strings.ToLower(domain)] = t
	}
	return nil
}

// AddResource makes an API known in every tenant, under each of these names:
// application ID URIs or the GUID of its app. All are one resource to
// [Entra.Grant]; a token's audience is the name that was asked for.
func (e *Entra) AddResource(name string, aliases ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range append([]string{name}, aliases...) {
		e.dir.resources[strings.TrimSuffix(n, "/")] = name
	}
}

// RegisterApp adds an app and returns its client ID. The app is a resource
// too, as {client ID} and as api://{client ID}. An app with that ID is
// replaced.
func (e *Entra) RegisterApp(a App) (clientID string, err error) {
	if a.ClientID == "" {
		a.ClientID = uuid.NewString()
	}
	if uuid.Validate(a.ClientID) != nil || len(a.ClientID) != 36 {
		return "", fmt.Errorf("%w: client ID %q is no GUID", ErrName, a.ClientID)
	}
	if len(a.Tenants) == 0 {
		a.Tenants = []string{TenantID}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	made := &app{id: a.ClientID, name: a.Name, principals: map[string]string{}, grants: map[string][]string{}}
	for _, name := range a.Tenants {
		t, ok := e.dir.tenants[strings.ToLower(name)]
		if !ok {
			return "", fmt.Errorf("%w: %q", ErrNoTenant, name)
		}
		if made.home == "" {
			made.home = t.id
		}
		made.principals[t.id] = uuid.NewSHA1(uuid.MustParse(t.id), []byte(strings.ToLower(a.ClientID))).String()
	}
	e.dir.apps[strings.ToLower(a.ClientID)] = made
	e.dir.resources[a.ClientID], e.dir.resources["api://"+a.ClientID] = a.ClientID, a.ClientID
	return a.ClientID, nil
}

// change runs f on the app under the lock.
func (e *Entra) change(clientID string, f func(*app)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	a, ok := e.dir.apps[strings.ToLower(clientID)]
	if !ok {
		return fmt.Errorf("%w: %q", ErrNoApp, clientID)
	}
	f(a)
	return nil
}

// AddSecret gives the app one more secret and returns it with what was filled
// in. It is good at once, and so is every older one.
func (e *Entra) AddSecret(clientID string, s Secret) (Secret, error) {
	if s.KeyID == "" {
		s.KeyID = uuid.NewString()
	}
	if s.Value == "" {
		s.Value = newSecretValue()
	}
	if s.Expires.IsZero() {
		s.Expires = e.clock.now().AddDate(2, 0, 0)
	}
	return s, e.change(clientID, func(a *app) { a.secrets = append(a.secrets, s) })
}

// newSecretValue looks like a secret of Entra: 40 characters, a tilde among
// them.
func newSecretValue() string {
	var b [27]byte
	_, _ = rand.Read(b[:]) // never fails, crypto/rand.Read
	v := base64.RawURLEncoding.EncodeToString(b[:])
	return v[:3] + "8Q~" + v[3:] + "x"
}

// RemoveSecret takes a secret away, by its KeyID or its Value. Tokens got with
// it live on, as they do in Entra.
func (e *Entra) RemoveSecret(clientID, keyIDOrValue string) error {
	return e.change(clientID, func(a *app) {
		a.secrets = slices.DeleteFunc(a.secrets, func(s Secret) bool {
			return s.KeyID == keyIDOrValue || s.Value == keyIDOrValue
		})
	})
}

// AddCertificate registers a certificate for assertions. Its own dates count:
// outside them an assertion is refused.
func (e *Entra) AddCertificate(clientID string, c *x509.Certificate) error {
	return e.change(clientID, func(a *app) { a.certs = append(a.certs, c) })
}

// RemoveCertificate takes a certificate away.
func (e *Entra) RemoveCertificate(clientID string, c *x509.Certificate) error {
	return e.change(clientID, func(a *app) { a.certs = slices.DeleteFunc(a.certs, c.Equal) })
}

// AddFederated registers a federated credential. Any issuer does whose
// metadata this process can fetch: the World's own, or a test's.
func (e *Entra) AddFederated(clientID string, f Federated) error {
	if f.Audience == "" {
		f.Audience = TokenExchangeAudience
	}
	return e.change(clientID, func(a *app) { a.federated = append(a.federated, f) })
}

// Grant gives the app further application permissions on a resource. Tokens
// issued from now on carry them in roles; an app without any on the resource
// gets a token without roles, as in Entra.
func (e *Entra) Grant(clientID, resource string, roles ...string) error {
	return e.change(clientID, func(a *app) {
		key := e.dir.resource(resource, resource)
		merged := append(slices.Clone(a.grants[key]), roles...)
		slices.Sort(merged)
		a.grants[key] = slices.Compact(merged)
	})
}

// Ungrant takes all permissions on a resource away. Tokens out there keep
// theirs until they expire.
func (e *Entra) Ungrant(clientID, resource string) error {
	return e.change(clientID, func(a *app) { delete(a.grants, e.dir.resource(resource, resource)) })
}

// resource returns the first name of a known resource, else fallback.
func (d directory) resource(name, fallback string) string {
	// One slash at the end is another way to write the same resource: the
	// double-slash scopes of Azure SQL come from there.
	if first, ok := d.resources[strings.TrimSuffix(name, "/")]; ok {
		return first
	}
	return fallback
}

// clone copies what a request may look at after the lock is gone.
func (a *app) clone() *app {
	c := *a
	c.principals, c.grants = maps.Clone(a.principals), maps.Clone(a.grants)
	c.secrets, c.certs, c.federated = slices.Clone(a.secrets), slices.Clone(a.certs), slices.Clone(a.federated)
	c.issuers = slices.Clone(a.issuers)
	return &c
}

// byThumbprint returns the certificate with that SHA-256 or SHA-1 sum.
func (a *app) byThumbprint(sum []byte) *x509.Certificate {
	for _, c := range a.certs {
		s256, s1 := sha256.Sum256(c.Raw), sha1.Sum(c.Raw) //nolint:gosec // see the import
		if slices.Equal(sum, s256[:]) || slices.Equal(sum, s1[:]) {
			return c
		}
	}
	return nil
}

// tenantSyntax reports whether s could name a tenant at all.
func tenantSyntax(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '.' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}
