package sql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

// wire is one database's protocol. It is stateless and safe for concurrent use.
type wire interface {
	// accept takes a client to where it has said who it is and what it wants.
	// Deadlines are on conn already. After an error there is nothing more to
	// say, and conn is to be closed: see errSilent and toldError.
	accept(ctx context.Context, conn net.Conn, f front) (client, error)
}

// front is how a door takes clients.
type front struct {
	mode routes.ClientTLS
	// passwords: clients may have to show one, so those that can encrypt do.
	// plain: those that cannot may show it in clear text.
	passwords, plain bool
	// certificate is what clients are shown; nil with ClientTLSOff.
	certificate func(serverName string) (*tls.Certificate, error)
	// session leads from what the client is told to the log.
	session string
}

// errSilent is wrapped when a client left before it sent a byte.
var errSilent = errors.New("client left without a byte")

// errReflected is wrapped by the error of a login whose answer held the token.
var errReflected = errors.New("the server's answer contained our token")

// toldError is why the wire does not serve a client, which it was told in so many
// words.
type toldError struct {
	number  int32
	message string
}

func (e *toldError) Error() string { return e.message }

// client is the client's half of a session. Its methods are for one goroutine at
// a time: a relay's, once it runs.
type client interface {
	// asks is what the client wants, without what it is to prove it with.
	asks() ask
	// credential is what the client shows; wipe forgets it.
	credential() (user, password string)
	wipe()
	// refuse tells the client no and closes it; number is what it is told then.
	refuse(r *refusal)
	number(k refusalKind) int32
	// passOn is refuse in the server's own words, after a hint that leads to the
	// gateway's log. err is of login, with words.
	passOn(err *loginError, hint string)
	// login logs in at a server for the client, with token. It may be called again,
	// also while the session runs. The error is a *loginError.
	login(ctx context.Context, t target, token secrets.Secret) (upstream, error)
	// welcome tells the client that it is logged in.
	welcome(u upstream) error
	// relay prepares the rest of the session.
	relay(u upstream, c course) relay
}

// ask is what a client says of itself. Nothing of it is believed.
type ask struct {
	server   string // canonical, without a port; "" when it names none
	database string
	readOnly bool
	mars     bool

	app, host, library string
	version, encrypted string // as in audit.Session
	traceID            string
}

// target is where and how a login is made.
type target struct {
	door   *routes.SQL
	server routes.Authority
	roots  *x509.CertPool // nil: the system's
	dialer Dialer
}

// upstream is the server's half of a session, logged in.
type upstream interface {
	facts() facts
	// close may come after the end of a relay.
	close()
}

// facts are what is known of a login.
type facts struct {
	route  []string // host:port of every server that was asked
	phases map[string]time.Duration
	spid   uint16
}

// loginError is why there was no login.
type loginError struct {
	facts
	phase  string
	server string // host:port
	hops   int
	err    error // of the network, TLS or the protocol; nil when the server said no
	words  any   // the server's refusal as only the wire understands it; nil for none
	text   string
	reason string // text without server and phase; "" when the wire knows nothing
	number int32
	remedy string // what to do next; "" when the wire knows nothing
	// badToken: the server does not take the token; expired: for its age.
	badToken, expired bool
	lasting           bool // the same login would fail again
}

// Error names the server and the reason, and no secret.
func (e *loginError) Error() string { return e.text }

// Unwrap is the failure of network, TLS or protocol, or nil.
func (e *loginError) Unwrap() error { return e.err }

// course is how a session goes on after its login.
type course struct {
	// due tells whether the token is near its end, over whether it is past it.
	// nil due: never. How long a session is left in peace after a login that
	// failed is for the relay to know.
	due, over func() bool
	login     func(ctx context.Context) (upstream, error)
	maxAge    time.Duration // 0: no limit
	relogged  func(result string, err error)
}

// relay passes bytes until either side ends.
type relay interface {
	run(ctx context.Context) (reason string, err error)
	drain(grace time.Duration)
	stats() stats
}

// stats is what passed, readable at any time.
type stats struct{ in, out, requests, relogins int64 }

// wires are the protocols by kind.
func wires() map[string]wire { return map[string]wire{"mssql": mssql{}} }
