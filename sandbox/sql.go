package sandbox

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What Azure SQL and the sandbox's server are called.
const (
	// SQLResource is the audience of Azure SQL. Tokens carry it with and
	// without a slash at the end, as the scope had it.
	SQLResource = "https://database.windows.net"
	// SQLHost is the name that the sandbox's server has in the cloud.
	SQLHost = "sandbox.database.windows.net"
)

// Bounds of what a client may have the server hold.
const (
	maxSQLConns   = 2048
	maxViolations = 200
	maxSQLLogins  = 2000
	sqlLoginTime  = 30 * time.Second // from the first byte to the login's answer
)

// SQLOptions shape a [SQL].
type SQLOptions struct {
	World *World
	// Names are further names of the server, beside [SQLHost], localhost and
	// loopback: the certificate has them, and LOGIN7 may name them.
	Names []string
	// Databases are those that exist, beside master; none: whatever a login names.
	Databases []string
	// Resource is the audience of tokens, for clouds of their own; "": [SQLResource].
	Resource string
}

// A SQL is a strict SQL server of the Azure kind: it speaks TDS 7.4 and 8.0
// (MS-TDS), takes TLS inside PRELOGIN and strict TLS on one port, and lets
// nobody in but holders of access tokens of the World's Entra, by the FEDAUTH
// feature of LOGIN7. It shares no code with the gateway.
//
// It is an oracle first: whatever a client does against a MUST of MS-TDS that
// can be seen from here is a violation, found in [SQL.Violations], even where a
// real server would let it pass. What it can be told to do is in [SQLManners].
//
// It grants MARS, routes, resets sessions (and ends those whose token has
// expired), and takes batches, procedure calls, transaction manager requests,
// bulk loads and attentions. Of T-SQL it knows little:
//
//   - SELECT of literals, @variables, @@globals, functions (SUSER_SNAME, DB_NAME,
//     APP_NAME, HOST_NAME, LEN, DATALENGTH, REPLICATE, …), CAST and CONVERT
//     between numbers, texts and dates, + - * / % (decimals become floats by it), COUNT, SUM, MIN and MAX, with TOP,
//     WHERE and ORDER BY, FROM one table or numbers(ROWS[, WIDTH]), which has n
//     and, with a width, pad, made while they are sent;
//   - CREATE, DROP and TRUNCATE TABLE, INSERT, UPDATE, DELETE, INSERT BULK. Names
//     that begin with # are the session's, others everybody's and seen at once:
//     there is no isolation, only undoing. Of a table no more than 16 MiB is
//     held; rows beyond are counted;
//   - BEGIN, COMMIT, ROLLBACK and SAVE TRAN, DECLARE, SET (options other than
//     FMTONLY do nothing), USE, IF, BEGIN … END, PRINT, RAISERROR, THROW, WAITFOR
//     DELAY, EXEC;
//   - sp_executesql, sp_prepare, sp_prepexec, sp_execute, sp_unprepare,
//     sp_reset_connection and echo, whose result is its parameters.
//
// There are no joins, groups, subqueries, constraints, indexes, identity columns
// or cursors.
type SQL struct {
	opts     SQLOptions
	world    *World
	log      *lineLog
	ca       *ca
	tls      *tls.Config
	listener net.Listener
	spids    atomic.Uint32
	work     sync.WaitGroup
	closing  chan struct{} // closed by Close
	counts   sqlCounters
	tables   *sqlTables // those without a #

	mu         sync.Mutex // guards what follows
	closed     bool
	conns      map[net.Conn]struct{}
	manners    SQLManners
	strangers  map[string]bool // client IDs that are no users, lower case
	violations []string
	logins     []SQLLogin
}

// StartSQL opens a SQL server on loopback, port 0, and makes its audience known
// to Entra. Close it, or the World. Without a World it is an error wrapping
// [ErrOptions].
func StartSQL(opts SQLOptions) (*SQL, error) {
	env := opts.World.environment()
	if env == nil {
		return nil, fmt.Errorf("%w: SQL needs a World", ErrOptions)
	}
	if opts.Resource == "" {
		opts.Resource = SQLResource
	}
	ca, err := newCA(append([]string{SQLHost}, opts.Names...), time.Now())
	if err != nil {
		return nil, fmt.Errorf("sandbox: certificates: %w", err)
	}
	s := &SQL{
		opts: opts, world: opts.World, log: env.log, ca: ca, closing: make(chan struct{}),
		conns: map[net.Conn]struct{}{}, strangers: map[string]bool{}, tables: newSQLTables(),
	}
	s.tls = ca.server.Clone()
	s.tls.DynamicRecordSizingDisabled = true // one packet, one record
	s.spids.Store(50)                        // those up to 50 are the system's
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("sandbox: listen: %w", err)
	}
	opts.World.Entra.AddResource(opts.Resource)
	s.work.Go(s.accept)
	opts.World.join(s)
	return s, nil
}

// accept serves connections until the listener is closed.
func (s *SQL) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		if !s.admit(c) {
			_ = c.Close()
			continue
		}
		s.work.Go(func() {
			defer s.dismiss(c)
			s.serve(c)
		})
	}
}

// admit notes a connection, if there is room for it.
func (s *SQL) admit(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= maxSQLConns {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *SQL) dismiss(c net.Conn) {
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Close ends the server and every session, and waits. It may be called more
// than once.
func (s *SQL) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	_ = s.listener.Close()
	s.Kill()
	s.work.Wait()
}

func (s *SQL) close() { s.Close() }

// Kill breaks every connection there is, as a failover does.
func (s *SQL) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// Addr is the server's host and port, on loopback.
func (s *SQL) Addr() string { return s.listener.Addr().String() }

// CAPEM returns the certificate, in PEM, that clients have to trust. The
// server's own covers localhost, loopback, [SQLHost] and [SQLOptions].Names.
func (s *SQL) CAPEM() []byte { return slices.Clone(s.ca.pem) }

// Violations returns what clients did against the protocol, oldest first, each
// with the part of MS-TDS that forbids it.
func (s *SQL) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

// violate records a violation. The text never holds what the client sent but
// for numbers.
func (s *SQL) violate(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.violations) < maxViolations {
		s.violations = append(s.violations, fmt.Sprintf(format, args...))
	}
}

// Set changes the server's manners, for logins and requests from now on.
func (s *SQL) Set(change func(*SQLManners)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.manners)
}

// DropUser takes the app's user out of the database: its logins fail with
// 18456. Every other principal of the World is a user.
func (s *SQL) DropUser(clientID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strangers[strings.ToLower(clientID)] = true
}

// CreateUser undoes [SQL.DropUser].
func (s *SQL) CreateUser(clientID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.strangers, strings.ToLower(clientID))
}

// Logins returns the latest logins, oldest first, those that failed as well.
func (s *SQL) Logins() []SQLLogin {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.logins)
}

func (s *SQL) noteLogin(l SQLLogin) {
	s.mu.Lock()
	if len(s.logins) >= maxSQLLogins {
		s.logins = slices.Clone(s.logins[maxSQLLogins/2:])
	}
	s.logins = append(s.logins, l)
	s.mu.Unlock()
	_, _ = fmt.Fprintf(s.log, "sql: login of %q to %q %d\n", l.User, clip(l.Database, 128), l.Error)
}
