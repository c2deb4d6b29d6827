package sql

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

const (
	defaultConnections  = 500
	defaultLoginTimeout = 30 * time.Second
	// acceptPause is how long a door waits after an error of accept, at first and
	// at most.
	acceptPause, longestAcceptPause = 5 * time.Millisecond, time.Second
	// sayAgain is how often the log says the same of a door.
	sayAgain = time.Minute
)

// door is one listener. What it leads to may change.
type door struct {
	listener   net.Listener
	set        atomic.Pointer[setting] // nil: the door was taken away
	unfinished crowd
	said       atomic.Int64 // when the log was last told of a crowd, Unix time in ns
	seats      int          // sessions, and logins that were admitted; guarded by Server.mu
}

// setting is what a table makes of a door. It is immutable.
type setting struct {
	sql     *routes.SQL
	wire    wire
	gate    *gate.Gate
	dialer  Dialer
	roots   *x509.CertPool // nil: the system's
	rootErr error          // why there are no roots, and so no logins
}

func (t *setting) seats() int { return cmp.Or(t.sql.MaxConnections, defaultConnections) }

func (t *setting) loginTimeout() time.Duration {
	return cmp.Or(t.sql.LoginTimeout, defaultLoginTimeout)
}

// addressKey tells one listener from another: by the address as the file has it,
// and where the system chooses the port, by the name too.
func addressKey(d *routes.SQL) string {
	if strings.HasSuffix(d.Listen, ":0") && !strings.HasPrefix(d.Listen, "unix:") {
		return d.Listen + " " + d.Name
	}
	return d.Listen
}

// Open opens the listeners that table has and the server has not, and returns
// how to put them to use or to do away with them: a reload is all or nothing.
// A door whose address did not change keeps its listener, whatever else did; one
// that is gone takes no more logins, and its sessions live on. Logins are
// decided by the gate that is committed last, which must be of table. The errors
// of commit are alarms: each names a door that refuses its logins, or goes on
// with the CA file that it read before.
func (s *Server) Open(table *routes.Table) (commit func(g *gate.Gate, d Dialer) []error, undo func(), err error) {
	open, closed := s.listening()
	if closed {
		return nil, nil, errClosed
	}
	fresh := map[string]*door{}
	undo = func() {
		for _, d := range fresh {
			_ = d.listener.Close()
		}
		clear(fresh)
	}
	for _, d := range table.SQL {
		if s.wires[d.Kind] == nil {
			undo()
			return nil, nil, fmt.Errorf("sql door %s: kind %q is not known", d.Name, d.Kind)
		}
		key := addressKey(d)
		if open[key] != nil || fresh[key] != nil {
			continue
		}
		l, err := s.cfg.Listen(d.Listen)
		if err != nil {
			undo()
			return nil, nil, fmt.Errorf("sql door %s: %w", d.Name, err)
		}
		fresh[key] = &door{listener: l}
	}
	return func(g *gate.Gate, d Dialer) []error { return s.commit(table, fresh, g, d) }, undo, nil
}

// listening are the doors that are open, by address. Nobody but commit changes
// them.
func (s *Server) listening() (open map[string]*door, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doors, s.closed
}

// commit reads files before it takes the lock, for which every login waits.
func (s *Server) commit(table *routes.Table, fresh map[string]*door, g *gate.Gate, dialer Dialer) (alarms []error) {
	open, _ := s.listening()
	next := make(map[string]*door, len(table.SQL))
	sets := make(map[*door]*setting, len(table.SQL))
	for _, conf := range table.SQL {
		key := addressKey(conf)
		d := open[key]
		if d == nil {
			d = fresh[key]
		}
		if d == nil || next[key] != nil { // undone before, or two doors of one address
			alarms = append(alarms, fmt.Errorf("sql door %s has no listener of its own at %s", conf.Name, conf.Listen))
			continue
		}
		set := &setting{sql: conf, wire: s.wires[conf.Kind], gate: g, dialer: dialer}
		if err := set.readRoots(d.set.Load()); err != nil {
			alarms = append(alarms, err)
		}
		next[key], sets[d] = d, set
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, d := range next {
		d.set.Store(sets[d])
		if s.closed {
			_ = d.listener.Close()
		} else if open[key] == nil {
			s.wg.Go(func() { s.accept(d) })
		}
	}
	for key, d := range open {
		if next[key] == nil {
			d.set.Store(nil)
			_ = d.listener.Close()
		}
	}
	s.doors = next
	clear(fresh)
	return alarms
}

// readRoots reads whom the door trusts for its servers; before may be nil.
func (t *setting) readRoots(before *setting) error {
	t.roots, t.rootErr = Roots(t.sql)
	if t.rootErr == nil {
		return nil
	}
	err := t.rootErr
	if before != nil && before.rootErr == nil && before.sql.CAFile == t.sql.CAFile {
		t.roots, t.rootErr = before.roots, nil
		return fmt.Errorf("sql door %s keeps what it read before: %w", t.sql.Name, err)
	}
	return fmt.Errorf("sql door %s: %w", t.sql.Name, err)
}

// Roots are whom d trusts for its servers, nil for the system's roots. They are
// read from its file, which the error names.
func Roots(d *routes.SQL) (*x509.CertPool, error) {
	if d.CAFile == "" {
		return nil, nil
	}
	pem, err := secrets.ReadFile(d.CAFile)
	if err != nil {
		return nil, fmt.Errorf("tls.ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls.ca_file: %s holds no PEM certificate", d.CAFile)
	}
	return roots, nil
}

// accept takes clients until the listener is closed.
func (s *Server) accept(d *door) {
	pause := acceptPause
	for {
		conn, err := d.listener.Accept()
		if err == nil {
			pause = acceptPause
			s.take(d, conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) || d.set.Load() == nil {
			return
		}
		d.say(s.cfg.Log, "connections cannot be accepted", "cause", err.Error(), "remedy", "see how many files the process may open")
		select {
		case <-time.After(pause):
		case <-s.quit:
			return
		}
		pause = min(2*pause, longestAcceptPause)
	}
}

// take begins a session, unless too many handshakes are not done, or too many of
// the same source.
func (s *Server) take(d *door, conn net.Conn) {
	set := d.set.Load()
	if set == nil {
		_ = conn.Close()
		return
	}
	if bound, ok := d.unfinished.enter(conn, set.seats()); !ok {
		_ = conn.Close()
		d.say(s.cfg.Log, "connections are closed: too many have not finished their login", "gateway.sql.unfinished", bound,
			"client.address", remoteOf(conn), "remedy", "see who opens them; raise max_connections of the door if they are welcome")
		return
	}
	ss, ctx := newSession(s, d, conn)
	if !s.enter(ss) {
		ss.cancel()
		d.unfinished.leave(conn)
		_ = conn.Close()
		return
	}
	s.wg.Go(func() { ss.serve(ctx, set) })
}

// say warns of the door, at most once a minute.
func (d *door) say(log Log, msg string, kv ...any) {
	now := time.Now().UnixNano()
	last := d.said.Load()
	if last != 0 && now-last < int64(sayAgain) || !d.said.CompareAndSwap(last, now) {
		return
	}
	name := ""
	if set := d.set.Load(); set != nil {
		name = set.sql.Name
	}
	log.Warn(msg, append([]any{"gateway.sql.name", name, "gateway.door", "sql"}, kv...)...)
}
