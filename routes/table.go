// Package routes is the operator's language: it turns routes.yaml into an
// immutable [Table], or into every mistake at once, and answers which route a
// call matches.
package routes

import (
	"crypto/sha256"
	"net/url"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
)

// Table is a routes.yaml that was understood. It is immutable and safe for
// concurrent use.
type Table struct {
	Name        string // the file's name as given
	Listen      Listen
	Credentials []*Credential // in the order of the file
	// Callers are who may call, in the order of the file; nil when the file has
	// no such section: anyone who can reach a loopback or unix listener.
	Callers []*Caller
	Routes  []*Route // in the order of the file: the first that matches and admits the caller decides
	SQL     []*SQL   // in the order of the file
	Egress  Egress
	// Intercept is where the CA of the tunnel door is kept; nil: there is none,
	// and TLS to routed hosts is not ended.
	Intercept *Intercept
	Cache     Cache
	Audit     *Audit // nil: audit lines go where the log goes
	Log       Log
	Warnings  []Mistake // lints that do not refuse the file

	index     index          // built by Parse
	src       *source        // for Text
	lines     map[string]int // for LineOf
	path      string         // of the file, for Files
	variables []string       // of SecretVariables
}

// Listen is the section that needs a restart to change.
type Listen struct {
	Proxy    string      // host:port or unix:/path; default 127.0.0.1:8080
	Admin    string      // default 127.0.0.1:8081; "" turns it off
	AdminKey secrets.Ref // zero: none
	Health   string      // "" for none
	Hosts    []string    // further names, host or host:port, canonical
	Plain    bool        // off loopback without TLS, said out loud
	TLS      *ListenTLS  // of the proxy port; nil: none
}

// ListenTLS is the proxy port's own certificate: exactly one of ACME and
// CertificateFile is set.
type ListenTLS struct {
	ACME                     *ACME
	CertificateFile, KeyFile string // KeyFile is "" when CertificateFile holds the key too
	ClientCAFile             string // callers may show certificates of these CAs; "" asks for none
	ClientCRLFile            string // of those that were revoked; "" for none
}

// ACME gets and renews the certificate (RFC 8555).
type ACME struct {
	Domains   []string // canonical names; at least one
	Email     string
	Directory string // URL, https or loopback http; "" is Let's Encrypt's
	CAFile    string // trust for Directory; "" for the system's roots
	Storage   string // folder; required
	HTTP      string // address for HTTP-01 challenges; "" leaves TLS-ALPN-01 alone
}

// Caller is one who may call. At least one of APIKeys, the names of a
// certificate, JWT and UID is set; any of them proves it.
type Caller struct {
	Name string // [A-Za-z0-9._-], up to 64
	Line int

	APIKeys        [][sha256.Size]byte // digests; several while a key is rotated
	CertificateURI string              // a URI SAN, compared as it stands
	CertificateDNS string              // a DNS SAN, lower case
	JWT            *CallerJWT
	UID            *uint32

	Tenants []string // that it may choose where a route lets it, lower case
	Limits  Limits
}

// CallerJWT is what a caller's token must say.
type CallerJWT struct {
	Issuer     string // exact; https, http for loopback only
	Audience   string // exact
	CAFile     string // trust for the issuer's documents
	Algorithms []string
	Claims     []ClaimRule // all must hold
}

// ClaimRule holds when the claim is one of Values, or a list with one of them.
type ClaimRule struct {
	Name   string
	Values []string
}

// Limits bound a route's or a caller's calls. The zero value bounds nothing.
type Limits struct {
	Concurrency int   // calls under way at once; 0: no limit
	Rate        Rate  // zero: no limit
	MaxBody     int64 // bytes of a request's body; 0: no limit. Routes alone have it
}

// Rate is Calls in Per, which may come at once.
type Rate struct {
	Calls int
	Per   time.Duration
}

// Rule is one entry of allow: a call is allowed if one of the entries allows
// its method and its path.
type Rule struct {
	Line    int
	Methods []string // upper case; nil: any
	Paths   []Pattern
}

// TenantChoice lets a call say whose token it gets. Exactly one of Header, Path
// and ByCaller is set. Whatever is chosen must be in the route's list, if it has
// one, and in the caller's, if it has one; without either list it is refused.
type TenantChoice struct {
	Header string // canonical name of the field that names the tenant; it goes no further
	// Path is a template such as /t/{tenant}: the path's first segments, which
	// are stripped before the path is judged and sent.
	Path        string
	ByCaller    bool // the caller's only tenant
	Allowed     []string
	AllowedFile string // one tenant a line, # begins a comment; read by whoever decides
}

// Audit is the file of audit lines.
type Audit struct {
	File    string
	MaxSize int64 // bytes, then a new file is begun
	Keep    int   // old files
}

// Credential is who the gateway is towards one token endpoint. Exactly one of
// ClientSecret, ClientCertificate, ClientKey, FederatedToken and ManagedIdentity
// is set, except for the implicit credential when the environment names none
// ([Credential.Missing]).
type Credential struct {
	Name string
	Line int // in the file; 0 for the implicit one

	// Entra.
	TenantID      string // lower case; "" for any other server
	Cloud         string // public, usgov, usgov-dod, china
	AuthorityHost string // https://host[:port] without a final slash, http for loopback only

	// CAE declares the capability cp1: tokens live for a day and are revoked
	// by claims challenges.
	CAE bool

	// Any other OAuth2 server: one of the two, absolute URLs; both "" for Entra.
	TokenEndpoint string
	Issuer        string // its metadata names the token endpoint (RFC 8414)

	ClientID          string
	ClientSecret      secrets.Ref
	ClientCertificate *Certificate
	ClientKey         *ClientKey // private_key_jwt at servers other than Entra
	FederatedToken    *FederatedToken
	ManagedIdentity   *ManagedIdentity

	// AssertionClaims are signed into a certificate's assertion beside its own
	// claims: values as encoding/json decodes them, none of the registered names.
	AssertionClaims map[string]any
	// Fallback is the credential to go on with when this one is refused as
	// invalid_client; "" for none. It names another of the table, and no
	// chain of them is a ring.
	Fallback string

	// AuthMethod is client_secret_post, client_secret_basic or private_key_jwt
	// (RFC 7591); "" lets the metadata of Issuer decide.
	AuthMethod string
	// TokenParams are added to the form of the token request, in this order.
	TokenParams []Param
	// CAFile is a PEM bundle that alone is trusted for the token endpoint;
	// "" for the system's roots.
	CAFile string

	// Missing says, for the implicit credential, which variables the
	// environment lacks. A credential with Missing set cannot get a token.
	Missing string
	// Origin says where the implicit credential came from, for the log:
	// "client secret from AZURE_CLIENT_SECRET".
	Origin string
}

// Entra tells whether the token endpoint is Microsoft Entra's.
func (c *Credential) Entra() bool { return c.TokenEndpoint == "" && c.Issuer == "" }

// Endpoint is the token endpoint's absolute URL, which is also the audience of
// a certificate assertion. It is "" for an Issuer, whose metadata names it, and
// for a managed identity, whose host does.
func (c *Credential) Endpoint() string {
	switch {
	case c.TokenEndpoint != "":
		return c.TokenEndpoint
	case c.Issuer != "", c.ManagedIdentity != nil:
		return ""
	}
	return c.AuthorityHost + "/" + c.TenantID + "/oauth2/v2.0/token"
}

// Certificate names the files of a certificate credential, PEM or PKCS#12.
// KeyFile is "" when File holds the key too.
type Certificate struct {
	File, KeyFile string
	Password      secrets.Ref // of a PKCS#12 file or an encrypted PEM key; zero for none
	SendChain     bool        // put the chain into x5c
}

// ClientKey signs the assertions of private_key_jwt (RFC 7523 §2.2).
type ClientKey struct {
	File string // PEM
	KID  string // "" sends none
	Alg  string // a JWS algorithm (RFC 7518, RFC 8037); "" is worked out from key and metadata
}

// FederatedToken is where a token of another issuer comes from. Exactly one of
// File, ManagedIdentity, URL, GCP and Exec is set.
type FederatedToken struct {
	File            string // absolute or relative to the working directory
	ManagedIdentity *ManagedIdentity
	URL             *TokenURL
	GCP             *GCPIdentity
	Exec            secrets.Ref // a command that prints the token

	// Audience is asked of the sources that can be asked.
	Audience string
	// IdentityBinding sends the token request to the token proxy of AKS that
	// AZURE_KUBERNETES_TOKEN_PROXY and its kin describe. For File alone.
	IdentityBinding bool
}

// TokenURL is a federated token's source that is asked by GET, as that of
// GitHub Actions. The audience is added as a query parameter of that name.
type TokenURL struct {
	Address string      // https, http for loopback only
	Header  string      // canonical name of the header that holds the secret
	Format  string      // of the header's value; holds {secret} once
	Secret  secrets.Ref // zero: no header is sent
	Member  string      // of the JSON answer that holds the token
}

// GCPIdentity is the metadata server of Google Cloud.
type GCPIdentity struct{ ServiceAccount string } // "default", or an e-mail address

// ManagedIdentity picks one of the host's identities. All empty is the
// system-assigned one; at most one is set.
type ManagedIdentity struct{ ClientID, ObjectID, ResourceID string }

// Param is one form field or header.
type Param struct{ Name, Value string }

// Route is one entry of routes. Only the fields that the file may set are
// here; what is worked out from files on disk belongs to whoever uses them.
type Route struct {
	Name       string
	Line       int
	Lines      Lines
	Preset     string // "" when the route stands alone
	Hosts      []HostPattern
	Scope      string // verbatim
	Credential *Credential
	Upstream   *url.URL // scheme and host only; nil: the host itself over https
	Mount      string   // reverse door: "/graph", no final slash; "" when the route has no exact host to stand for
	TLS        TLS
	Inject     Inject
	SetHeaders []Param // canonical names
	// DefaultHeaders are set on requests whose caller sent no such field.
	DefaultHeaders []Param
	// DateHeader is a field that gets the time of sending (RFC 9110 §5.6.7)
	// when the caller sent none; "" for no such field.
	DateHeader string
	// Second is a further token that the API wants beside the first; nil for none.
	Second *SecondToken
	// SignIn: the API answers 203, or redirects to a sign-in page, where
	// others answer 401.
	SignIn bool
	// Registry: the API is an Azure Container Registry, which takes no token
	// but its own, given in exchange for that of Scope.
	Registry bool
	Replay   int64 // bytes kept for the second try; 0: no second try
	// ResponseHeaderTimeout is how long the upstream may take to answer.
	ResponseHeaderTimeout time.Duration
	// Callers may use this route; nil: any named caller, or anyone when the table
	// has no callers.
	Callers []*Caller
	Paths   []Pattern // part of the match; nil: every path
	// Allow judges after the match: nil allows everything; otherwise one of the
	// rules has to hold.
	Allow []Rule
	// Report logs what Allow would refuse instead of refusing it.
	Report bool
	// FoldPaths: the API does not tell upper from lower case in paths, so that
	// rules must not either.
	FoldPaths bool
	Tenant    *TenantChoice // nil: the credential's own tenant
	Limits    Limits
	// CookiesPass lets every Set-Cookie through, not only those of load balancers.
	CookiesPass bool
	// Upgrade are the protocols that calls may switch to (RFC 9110 §7.8), lower
	// case; nil: none. websocket is the only one there is.
	Upgrade []string
	// RewriteLinks has absolute links in JSON lead back to the gateway, on the
	// reverse door alone: in answers to it, in requests from it.
	RewriteLinks bool
	// Placeholder is hand_out: placeholder. SDKs that insist on a credential of
	// their own get a placeholder for this route's tenant and scope.
	Placeholder bool
}

// TLS is how the upstream leg is secured beyond the defaults. All are "" by default.
type TLS struct{ CAFile, ClientCertificateFile, ClientKeyFile, ServerName string }

// Inject is where the token goes. Format holds "{token}" once; what stands
// there is the token as it is, which needs no escaping in a query's value.
type Inject struct{ Header, Format string }

// SecondToken is a token in a field of its own, of the route's credential.
type SecondToken struct{ Header, Scope string }

// Egress says what happens beyond the routes, and through which next hop.
type Egress struct {
	Proxy *EgressProxy // nil: dial directly
	// Allow are passed through untouched, never with a token.
	Allow []HostPattern
	// Tunnel is default: tunnel. Every host that no route names is passed
	// through, at the ports 443 and 80.
	Tunnel bool
	// DenyPrivate refuses private addresses to what is passed through; true
	// unless the file says otherwise. It does not hold for routed hosts.
	DenyPrivate bool
}

// Passes tells whether a host that no route names is passed through.
func (e *Egress) Passes(a Authority) bool {
	_, ok := e.PassedBy(a)
	return ok
}

// Intercept names the folder of root.pem, issuing.pem and issuing.key.
type Intercept struct{ CADir string }

// EgressProxy is the next hop for upstreams and token endpoints alike.
type EgressProxy struct {
	URL      *url.URL // http or https, without user information
	Username string
	Password secrets.Ref
	Bypass   []string // hosts, .suffixes, addresses, CIDR blocks dialled directly
}

// Cache bounds the token cache.
type Cache struct {
	Entries int   // default 100000
	Memory  int64 // bytes, default 512 MiB
}

// Log is how the gateway logs.
type Log struct {
	Level        string // trace, debug, info, warn, error; default info
	Format       string // json or console; default json
	Access       bool   // one line per call; default true
	DebugHeaders bool   // Gateway-Route, Gateway-Token-Source, Gateway-Retry on answers
}
