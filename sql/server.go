// Package sql is the fourth door: it listens for the drivers of a database,
// asks the gate who they are and which token they get, has the wire log in at
// the server in their place, and keeps the sessions, their limits and their
// end. Which database is a matter of the wire ([sql/tds] for SQL Server).
package sql

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// TokenSource is where tokens come from: [tokens.Store].
type TokenSource interface {
	Token(ctx context.Context, k tokens.Key) (tokens.Token, tokens.Origin, error)
	Renew(ctx context.Context, k tokens.Key, rejected tokens.Token, claims string) (tokens.Token, tokens.Origin, error)
}

// Dialer opens the connections to servers.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// Log takes what happens apart from any session, with pairs of name and value.
type Log interface {
	Debug(msg string, kv ...any)
	Info(msg string, kv ...any)
	Warn(msg string, kv ...any)
	Error(msg string, kv ...any)
}

// Config is what a Server needs of the house.
type Config struct {
	Tokens     TokenSource
	Identifier *gate.Identifier
	Recorder   audit.SessionRecorder
	Log        Log
	// Listen opens an address of routes.yaml: host:port or unix:/path.
	Listen func(addr string) (net.Listener, error)
	// Certificate is what a door shows to clients; serverName is SNI, "" without.
	Certificate func(d *routes.SQL, serverName string) (*tls.Certificate, error)
	// Counted hears of things that have a metric and no record of their own:
	// "relogin" with its result. nil: nobody does.
	Counted func(what, result string)
}

// Server is every SQL door of a table.
type Server struct{}

// New returns a server without doors.
func New(c Config) *Server { panic("provisional") }

// Open opens the listeners that table has and the server has not, and returns
// how to put them to use or to do away with them: a reload is all or nothing.
// A door whose address did not change keeps its listener, whatever else did.
func (s *Server) Open(table *routes.Table) (commit func(g *gate.Gate, d Dialer) []error, undo func(), err error) {
	panic("provisional")
}

// Addrs are where the doors listen, by name; port 0 is resolved.
func (s *Server) Addrs() map[string]net.Addr { panic("provisional") }

// TCP are the addresses that the gateway must not dial: its own.
func (s *Server) TCP() []netip.AddrPort { panic("provisional") }

// Sessions is how many are open.
func (s *Server) Sessions() int { panic("provisional") }

// Drain takes no more logins (they are told to come again, 40613) and ends each
// session when nothing is lost by it, all of them once ctx ends.
func (s *Server) Drain(ctx context.Context) error { panic("provisional") }

// Close ends everything at once.
func (s *Server) Close() { panic("provisional") }
