package tds

import (
	"context"
	"crypto/x509"
	"net"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
)

// Dialer opens the connections to servers.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// Target is where and how a login is made.
type Target struct {
	Host   string // of the server: what the certificate shows and LOGIN7 names; canonical
	Port   uint16
	Dial   string         // host:port to dial for the first hop instead; "" for none
	Strict bool           // TDS 8.0: TLS from the first byte
	Roots  *x509.CertPool // nil: the system's
	Dialer Dialer

	Database      string // when the client names none, or ForceDatabase
	ForceDatabase bool
	ReadOnly      bool   // ApplicationIntent=ReadOnly
	AppNameSuffix string // cut so that the whole has 128 units at most
	// RedirectSuffixes bound where a redirect may lead: the host itself, the
	// configured host's domain, or below one of these (".database.windows.net").
	RedirectSuffixes []string
}

// DefaultRedirectSuffixes are where Azure redirects to.
func DefaultRedirectSuffixes() []string { panic("provisional") }

// Phase is a part of a login, in logs, metrics and errors.
type Phase string

// The phases at each server.
const (
	PhaseDial     Phase = "dial"
	PhasePrelogin Phase = "prelogin"
	PhaseTLS      Phase = "tls"
	PhaseLogin    Phase = "login"
)

// Timing is how long a phase took, all hops together.
type Timing struct {
	Phase Phase
	Took  time.Duration
}

// LoginError is why Connect failed. Refused is set when the server said no in
// tokens, which may be passed on; else Err is set.
type LoginError struct {
	Phase   Phase
	Server  string // host:port of the hop
	Hops    int    // redirects followed before
	Err     error  // of network, TLS, protocol, or a redirect that is refused
	Refused []*ServerError
	Tokens  []Token // of the refusal
	Timings []Timing
}

// Error names the server, the phase and the reason. It holds no secret.
func (e *LoginError) Error() string { panic("provisional") }

// Unwrap is Err.
func (e *LoginError) Unwrap() error { return e.Err }

// Number is that of the first error of the server, 0 if it sent none.
func (e *LoginError) Number() int32 { panic("provisional") }

// Upstream is the server's half of a session, logged in.
type Upstream struct {
	Answer     []Token // of the login, as the server sent it
	SPID       uint16
	PacketSize int    // in force from now on
	Version    uint32 // sent in LOGIN7
	MARS       bool
	Server     string   // host:port of the last hop
	Route      []string // host:port of every hop
	Timings    []Timing
}

// Connect logs in: for each hop, at most 10, it dials, negotiates, checks the
// certificate and sends the client's login, made anew for this hop with token
// (tds rules of rewriting, see Login). Redirects are followed here and the
// client never learns of them. Success needs LOGINACK and the acknowledgement of
// FEDAUTH. ctx bounds all of it. The error is a *[LoginError].
//
// login is not changed; options is the client's PRELOGIN. Both may be used
// again for a later login of the same session.
func Connect(ctx context.Context, t Target, login *Login, options Options, token secrets.Secret) (*Upstream, error) {
	panic("provisional")
}

// Conn is what the server's packets travel on, TLS taken off.
func (u *Upstream) Conn() net.Conn { panic("provisional") }

// Close ends the connection.
func (u *Upstream) Close() error { panic("provisional") }

// Rewrite is the answer as a client may see it: its own TDS version in LOGINACK,
// no FEDAUTH it did not ask for, no routing, no mirroring partner.
func (u *Upstream) Rewrite(login *Login) []Token { panic("provisional") }

// Fits tells whether a session that began on u can go on on v: the same packet
// size, collation and acknowledged features.
func (u *Upstream) Fits(v *Upstream) bool { panic("provisional") }
