package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/certs"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sql"
)

// pairFiles are the files of a SQL door's certificate.
type pairFiles struct{ certificate, key string }

func pairOf(d *routes.SQL) pairFiles { return pairFiles{d.CertificateFile, d.KeyFile} }

// sqlDoors are the SQL doors of an engine and what they show to clients.
type sqlDoors struct {
	server   *sql.Server
	ca       *certs.CA // nil: there is none
	selfMade func() (*tls.Certificate, error)

	// pairs are in force; what it points to is never changed. Handshakes read it,
	// and whoever holds the engine's changing puts another in its place.
	pairs atomic.Pointer[map[pairFiles]*certs.Pair]
}

// newSQLDoors makes doors for e, none of which is open.
func newSQLDoors(e *engine) *sqlDoors {
	s := &sqlDoors{ca: e.ca, selfMade: sync.OnceValues(certs.SelfMade)}
	s.pairs.Store(&map[pairFiles]*certs.Pair{})
	recorders := audit.SessionRecorders{e.log, e.metrics, e.trail, e.memory.sessions}
	if e.traces != nil {
		recorders = append(recorders, e.traces)
	}
	s.server = sql.New(sql.Config{
		Tokens: e.store, Identifier: e.callers, Recorder: recorders, Log: e.log,
		Listen: listenSQL, Certificate: s.certificate, Counted: e.metrics.SQLCounted,
	})
	return s
}

// certificate is what a door shows: its own, else one of the interception CA,
// else the one that this process made for itself.
func (s *sqlDoors) certificate(d *routes.SQL, _ string) (*tls.Certificate, error) {
	if d.CertificateFile != "" {
		pair := (*s.pairs.Load())[pairOf(d)]
		if pair == nil { // sessions of a door that a reload took away need no more handshakes
			return nil, fmt.Errorf("sql door %s: its certificate is not in force any more", d.Name)
		}
		return pair.Certificate(), nil
	}
	if s.ca != nil {
		return s.ca.ServerCertificate(d.ShownNames())
	}
	return s.selfMade()
}

// read reads the certificates of table's doors. Those at hand are not read
// again. An error names the line and says what to do.
func (s *sqlDoors) read(table *routes.Table) (map[pairFiles]*certs.Pair, error) {
	now, next := *s.pairs.Load(), map[pairFiles]*certs.Pair{}
	var errs []error
	for i, d := range table.SQL {
		if d.CertificateFile == "" || next[pairOf(d)] != nil {
			continue
		}
		pair := now[pairOf(d)]
		if pair == nil {
			var err error
			if pair, err = openPair(table, i); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		next[pairOf(d)] = pair
	}
	return next, errors.Join(errs...)
}

// openPair reads the certificate of table's SQL door i.
func openPair(table *routes.Table, i int) (*certs.Pair, error) {
	d := table.SQL[i]
	return certs.OpenPair(fmt.Sprintf("%s:%d: sql[%d]", table.Name, d.Line, i), d.CertificateFile, d.KeyFile)
}

// reread takes the doors' certificates from their files again. What cannot be
// used stays as it was.
func (s *sqlDoors) reread() (notices []notice) {
	for _, p := range *s.pairs.Load() {
		if err := p.Reload(); err != nil {
			notices = append(notices, notice{text: err.Error(), remedy: keptBefore, alarm: true})
		}
	}
	return notices
}

// show puts certificates in force, beside those that are or in their place.
func (s *sqlDoors) show(pairs map[pairFiles]*certs.Pair, beside bool) {
	next := maps.Clone(pairs)
	if beside {
		maps.Copy(next, *s.pairs.Load())
	}
	s.pairs.Store(&next)
}

// ending warns of certificates of doors that end soon.
func ending(pairs map[pairFiles]*certs.Pair) (notices []notice) {
	for files, p := range pairs {
		if end, soon := p.EndsSoon(); soon {
			notices = append(notices, notice{
				text:   fmt.Sprintf("the certificate of a SQL door in %s ends %s", files.certificate, day(end)),
				remedy: "put a new one in place; it is taken at once",
			})
		}
	}
	return notices
}

// sqlChange is a set of doors that are open and not in use yet: one of the two
// has to be called.
type sqlChange struct {
	commit func() []notice // after the table is in force
	undo   func()
}

// openSQL opens the SQL doors of table, all or none. An engine that has no doors
// opens none.
func (e *engine) openSQL(table *routes.Table) (sqlChange, error) {
	if e.sql == nil {
		return sqlChange{func() []notice { return nil }, func() {}}, nil
	}
	pairs, err := e.sql.read(table)
	if err != nil {
		return sqlChange{}, err
	}
	commit, undo, err := e.sql.server.Open(table)
	if err != nil {
		return sqlChange{}, placed(table, err)
	}
	return sqlChange{undo: undo, commit: func() []notice {
		e.sql.show(pairs, true) // doors are still those of the table before
		defer e.sql.show(pairs, false)
		notices := ending(pairs)
		for _, err := range commit(e.gate.Load(), e.hop.dialer()) {
			notices = append(notices, notice{text: err.Error(), remedy: "put the file in place; it is read again at once", alarm: true})
		}
		e.forbidOwn()
		return notices
	}}, nil
}

// listenError is why the SQL door with that address cannot be opened.
type listenError struct {
	addr string
	err  error
}

func (e *listenError) Error() string { return e.err.Error() }
func (e *listenError) Unwrap() error { return e.err }

func listenSQL(addr string) (net.Listener, error) {
	l, err := listen(addr)
	if err != nil {
		return nil, &listenError{addr, err}
	}
	return l, nil
}

// placed adds the line of the door that cannot be opened.
func placed(table *routes.Table, err error) error {
	var failed *listenError
	if errors.As(err, &failed) {
		for _, d := range table.SQL {
			if d.Listen == failed.addr {
				return fmt.Errorf("%s:%d: %w", table.Name, d.Line, err)
			}
		}
	}
	return err
}

// forbidOwn keeps calls and logins from leading back to the gateway's own doors.
func (e *engine) forbidOwn() {
	own := slices.Clone(e.listening)
	if e.sql != nil {
		own = slices.AppendSeq(own, maps.Values(e.sql.server.Addrs()))
	}
	e.hop.forbid(tcpAddresses(own...))
}

// lookAtDoors tells beforehand what serve would say of the files of SQL doors,
// which may be somewhere else yet.
func lookAtDoors(table *routes.Table) (notices []notice) {
	for i, d := range table.SQL {
		if d.CertificateFile != "" {
			if _, err := openPair(table, i); err != nil {
				notices = append(notices, notice{text: err.Error(), remedy: "serve refuses to start until this is mended", alarm: true})
			}
		}
		if _, err := sql.Roots(d); err != nil {
			notices = append(notices, notice{
				text:   fmt.Sprintf("%s:%d: sql[%d].%v", table.Name, d.Line, i, err),
				remedy: "put the CA's certificates there, as PEM; until then the door refuses its logins", alarm: true,
			})
		}
	}
	return notices
}

// mayServeSQL refuses SQL doors that strangers could walk in by.
func (d doors) mayServeSQL(t *routes.Table) error {
	for _, door := range t.SQL {
		if !offLoopback(door.Listen) {
			continue
		}
		at := fmt.Sprintf("%s:%d: sql door %s: listen %s is off loopback", t.Name, door.Line, door.Name, door.Listen)
		if t.Callers == nil && !d.anonymous {
			return fmt.Errorf("%s and there are no callers\n"+
				"   anybody who can reach this port could use the database as the gateway\n"+
				"   name who may log in under callers: (gateway keygen NAME makes a key), listen on 127.0.0.1 or unix:,\n"+
				"   or type --insecure-no-callers if the network itself keeps strangers out", at)
		}
		if !door.Plain && door.ClientTLS != routes.ClientTLSRequired {
			return fmt.Errorf("%s and clients may do without TLS\n"+
				"   statements, rows and callers' keys would cross the network in clear text\n"+
				"   set client_tls: required, or plain: true to say that this is meant", at)
		}
	}
	return nil
}

// shownSQL is where the SQL doors listen, as routes.yaml and the ready file
// write it.
func (e *engine) shownSQL() map[string]string {
	out := map[string]string{}
	if e.sql == nil {
		return out
	}
	for name, a := range e.sql.server.Addrs() {
		out[name] = shownAddr(a)
	}
	return out
}

// greetSQL says where each SQL door is, and how a client connects to it.
func (g *gateway) greetSQL(s std) {
	table, at := g.file.Table(), g.shownSQL()
	for _, d := range table.SQL {
		fmt.Fprintf(s.err, "sql    %-16s %s to %s\n", d.Name, at[d.Name], strings.Join(authorities(d), " "))
		if text := connectionString(table, d, at[d.Name]); text != "" {
			fmt.Fprintf(s.err, "try    %s\n", text)
		}
	}
}

// authorities are the servers that d leads to, in words.
func authorities(d *routes.SQL) []string {
	var out []string
	for _, a := range d.Servers {
		out = append(out, a.String())
	}
	return out
}

// connectionString is what a client of .NET, and of most others, is given to
// use the door that listens at addr; "" where no such client could.
func connectionString(t *routes.Table, d *routes.SQL, addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || strings.HasPrefix(addr, "unix:") {
		return ""
	}
	if host == "::" || host == "0.0.0.0" {
		host = "127.0.0.1"
	}
	parts := []string{"Server=" + host + "," + port}
	if d.ByName {
		parts[0] = "Server=" + d.Servers[0].Host + "," + port // that leads to this machine
	}
	if d.Database == "" {
		parts = append(parts, "Database=NAME")
	}
	if t.Callers == nil {
		parts = append(parts, "User Id=any;Password=any")
	} else {
		parts = append(parts, "User Id=CALLER;Password=KEY")
	}
	switch {
	case d.ClientTLS == routes.ClientTLSOff || t.Callers == nil && d.ClientTLS != routes.ClientTLSRequired:
		parts = append(parts, "Encrypt=False")
	case d.CertificateFile == "" && t.Intercept == nil:
		parts = append(parts, "Encrypt=True;TrustServerCertificate=True")
	default:
		parts = append(parts, "Encrypt=True")
	}
	return strings.Join(parts, ";")
}

// drainSQL lets the sessions of the SQL doors end, each at a moment when its
// client loses nothing, and cuts off what has not when ctx ends.
func (g *gateway) drainSQL(ctx context.Context) error {
	if g.sql.server.Drain(ctx) == nil {
		return nil
	}
	g.log.Warn("SQL sessions were cut off", "gateway.drain.timeout", g.patience.String(),
		"remedy", "none if their clients keep connections without ever resetting or resting them; else see which statements take so long")
	return fmt.Errorf("SQL sessions were still under way after %s and were cut off", g.patience)
}
