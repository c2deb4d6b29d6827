// Package routes is the operator's language: it turns routes.yaml into an
// immutable [Table], or into every mistake at once, and answers which route a
// call matches.
package routes

import (
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
	Routes      []*Route      // in the order of the file: the first that matches decides
	Egress      Egress
	Cache       Cache
	Log         Log
	Warnings    []Mistake // lints that do not refuse the file

	index index  // built by Parse
	path  string // of the file, for Files
}

// Listen is the section that needs a restart to change.
type Listen struct {
	Proxy    string      // host:port or unix:/path; default 127.0.0.1:8080
	Admin    string      // default 127.0.0.1:8081; "" turns it off
	AdminKey secrets.Ref // zero: none
	Health   string      // "" for none
	Hosts    []string    // further names, host or host:port, canonical
	Plain    bool        // off loopback without TLS, said out loud
}

// Credential is who the gateway is towards one token endpoint. Exactly one of
// ClientSecret, ClientCertificate and FederatedTokenFile is set, except for
// the implicit credential when the environment names none ([Credential.Missing]).
type Credential struct {
	Name string
	Line int // in the file; 0 for the implicit one

	// Entra.
	TenantID      string // lower case; "" for any other server
	Cloud         string // public, usgov, usgov-dod, china
	AuthorityHost string // https://host[:port] without a final slash, http for loopback only

	// Any other OAuth2 server.
	TokenEndpoint string // absolute URL; "" for Entra

	ClientID           string
	ClientSecret       secrets.Ref
	ClientCertificate  *Certificate
	FederatedTokenFile string // absolute or relative to the working directory

	// AuthMethod is client_secret_post or client_secret_basic (RFC 7591).
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
func (c *Credential) Entra() bool { return c.TokenEndpoint == "" }

// Endpoint is the token endpoint's absolute URL, which is also the audience of
// a certificate assertion.
func (c *Credential) Endpoint() string {
	if c.TokenEndpoint != "" {
		return c.TokenEndpoint
	}
	return c.AuthorityHost + "/" + c.TenantID + "/oauth2/v2.0/token"
}

// Certificate names the files of a certificate credential. KeyFile is "" when
// File holds the key too.
type Certificate struct {
	File, KeyFile string
	Password      secrets.Ref
}

// Param is one form field or header.
type Param struct{ Name, Value string }

// Route is one entry of routes. Only the fields that the file may set are
// here; what is worked out from files on disk belongs to whoever uses them.
type Route struct {
	Name       string
	Line       int
	Preset     string // "" when the route stands alone
	Hosts      []HostPattern
	Scope      string // verbatim
	Credential *Credential
	Upstream   *url.URL // scheme and host only; nil: the host itself over https
	Mount      string   // reverse door: "/graph", no final slash; "" when the route has no exact host to stand for
	TLS        TLS
	Inject     Inject
	SetHeaders []Param // canonical names
	Replay     int64   // bytes kept for the second try; 0: no second try
	// ResponseHeaderTimeout is how long the upstream may take to answer.
	ResponseHeaderTimeout time.Duration
	// CookiesPass lets every Set-Cookie through, not only those of load balancers.
	CookiesPass bool
}

// TLS is how the upstream leg is secured beyond the defaults. All are "" by default.
type TLS struct{ CAFile, ClientCertificateFile, ClientKeyFile, ServerName string }

// Inject is where the token goes. Format holds "{token}" once.
type Inject struct{ Header, Format string }

// Egress says what happens beyond the routes, and through which next hop.
type Egress struct {
	Proxy *EgressProxy // nil: dial directly
}

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
