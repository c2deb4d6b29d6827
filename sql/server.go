// Package sql is the fourth door: it listens for the drivers of a database,
// asks the gate who they are and which token they get, has the wire log in at
// the server in their place, and keeps the sessions, their limits and their
// end. Which database is a matter of the wire ([sql/tds] for SQL Server).
package sql

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

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

// Config is what a Server needs of the house. All are required unless they say
// otherwise.
type Config struct {
	Tokens TokenSource
	// Identifier knows the callers; nil knows nobody, which suits tables without
	// callers alone.
	Identifier *gate.Identifier
	Recorder   audit.SessionRecorder
	Log        Log
	// Listen opens an address of routes.yaml: host:port or unix:/path.
	Listen func(addr string) (net.Listener, error)
	// Certificate is what a door shows to clients; serverName is SNI, "" without.
	Certificate func(d *routes.SQL, serverName string) (*tls.Certificate, error)
	// Counted hears of things that have a metric and no record of their own:
	// "relogin" with its result, "renewal" of a token for one. nil: nobody does.
	Counted func(what, result string)
}

// drainGrace is how long a session must have been idle before a drain ends it
// between two requests: an app that thinks within a transaction is not cut off.
const drainGrace = 5 * time.Second

// Server is every SQL door of a table. It is safe for concurrent use, but for
// [Server.Open], whose commit or undo comes before the next one.
type Server struct {
	cfg      Config
	wires    map[string]wire
	renewals renewals
	quit     chan struct{}  // closed by Close
	wg       sync.WaitGroup // of accept loops and sessions

	mu       sync.Mutex       // guards what follows
	doors    map[string]*door // by address, see addressKey
	open     map[*session]struct{}
	byCaller map[string]int // of seated sessions
	draining bool
	closed   bool
	left     chan struct{} // closed, and made anew, when a seated session ends
	passed   stats         // of sessions that have ended
}

// New returns a server without doors. Close ends it.
func New(c Config) *Server { return newServer(c, wires()) }

func newServer(c Config, w map[string]wire) *Server {
	if c.Counted == nil {
		c.Counted = func(string, string) {}
	}
	return &Server{
		cfg: c, wires: w, quit: make(chan struct{}), left: make(chan struct{}),
		doors: map[string]*door{}, open: map[*session]struct{}{}, byCaller: map[string]int{},
	}
}

// errClosed is what Open says after Close.
var errClosed = errors.New("the SQL doors are closed")

// Addrs are where the doors listen, by name; port 0 is resolved.
func (s *Server) Addrs() map[string]net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	addrs := make(map[string]net.Addr, len(s.doors))
	for _, d := range s.doors {
		if set := d.set.Load(); set != nil {
			addrs[set.sql.Name] = d.listener.Addr()
		}
	}
	return addrs
}

// Sessions is how many are open: logged in, and not ended yet.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for ss := range s.open {
		if ss.relay != nil {
			n++
		}
	}
	return n
}

// Bytes is what passed since the start, from clients and to them, sessions that
// are open included.
func (s *Server) Bytes() (in, out int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in, out = s.passed.in, s.passed.out
	for ss := range s.open {
		if ss.relay != nil {
			now := ss.relay.stats()
			in, out = in+now.in, out+now.out
		}
	}
	return in, out
}

// Drain takes no more logins (they are told to come again, 40613) and ends each
// session when nothing is lost by it, all of them once ctx ends; then it returns
// ctx's error. Close comes after it.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	var relays []relay
	for ss := range s.open {
		if ss.relay != nil {
			relays = append(relays, ss.relay)
		}
	}
	s.mu.Unlock()
	for _, r := range relays {
		r.drain(drainGrace)
	}
	for {
		s.mu.Lock()
		var seated []*session
		for ss := range s.open {
			if ss.seated {
				seated = append(seated, ss)
			}
		}
		left := s.left
		s.mu.Unlock()
		if len(seated) == 0 {
			return nil
		}
		select {
		case <-left:
		case <-ctx.Done():
			for _, ss := range seated {
				ss.cut("the gateway stops, and the time for it is over")
			}
			return ctx.Err()
		}
	}
}

// Close ends everything at once, and waits until it has ended. It may be called
// more than once.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.quit)
	}
	for _, d := range s.doors {
		_ = d.listener.Close()
	}
	var all []*session
	for ss := range s.open {
		all = append(all, ss)
	}
	s.mu.Unlock()
	for _, ss := range all {
		ss.cut("the gateway stops")
	}
	s.wg.Wait()
}

// enter takes a connection into the books; false when the server is closed.
func (s *Server) enter(ss *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.open[ss] = struct{}{}
	return true
}

// leave closes the books on it.
func (s *Server) leave(ss *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, ss)
	if ss.relay != nil {
		now := ss.relay.stats()
		s.passed.in, s.passed.out = s.passed.in+now.in, s.passed.out+now.out
	}
	if !ss.seated {
		return
	}
	ss.door.seats--
	if ss.caller != nil {
		name := ss.caller.Name
		if s.byCaller[name]--; s.byCaller[name] == 0 {
			delete(s.byCaller, name)
		}
	}
	close(s.left)
	s.left = make(chan struct{})
}

// begin notes that ss is logged in; a drain that came before holds for it too.
func (s *Server) begin(ss *session, r relay) {
	s.mu.Lock()
	ss.relay = r
	draining := s.draining
	s.mu.Unlock()
	if draining {
		r.drain(drainGrace)
	}
}
