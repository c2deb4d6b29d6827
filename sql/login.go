package sql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

const (
	// refusedPause is what a password in vain costs.
	refusedPause = time.Second
	// renewalPause is how long a key is not renewed again for a refusal that may
	// have nothing to do with the token: a missing database user looks the same.
	renewalPause = time.Minute
)

// logIn decides what the client gets, and gets it: the caller, its place, the
// server, the token, and a session at the server. It fills the record.
func (ss *session) logIn(ctx context.Context) *refusal {
	a := ss.client.asks()
	user, password := ss.client.credential()
	ss.client.wipe()
	ss.note(a)
	set := ss.door.set.Load()
	if set == nil {
		return &refusal{result: audit.LoginDraining, kind: transient, detail: "this door has just been closed"}
	}
	ss.record.Name = set.sql.Name
	if ss.srv.stopping() {
		return &refusal{result: audit.LoginDraining, kind: transient, detail: "the gateway is stopping", remedy: "come again"}
	}
	key, no := ss.admit(ctx, set, gate.Evidence{User: user, Password: password})
	if no != nil {
		return no
	}
	ss.record.User = printable(user, maxName)
	server, ok := choose(set.sql, a.server)
	if !ok {
		return elsewhere(set.sql)
	}
	ss.record.Server = server.String()
	if set.sql.ForceDatabase || a.database == "" {
		ss.record.Database = set.sql.Database
	}
	ss.record.ReadOnly = a.readOnly || set.sql.ReadOnly
	if no := ss.srv.seat(ss, set); no != nil {
		return no
	}
	ss.finished()
	if set.rootErr != nil {
		return &refusal{result: audit.LoginUpstreamTLS, kind: transient, detail: "the gateway cannot tell whether to trust the server",
			cause: set.rootErr.Error(), remedy: "mend tls.ca_file of the door, and reload"}
	}
	return ss.reach(ctx, target{door: set.sql, server: server, roots: set.roots, dialer: set.dialer}, key)
}

// note writes down what the client says of itself.
func (ss *session) note(a ask) {
	r := &ss.record
	r.App, r.Host, r.Library = printable(a.app, maxName), printable(a.host, maxName), printable(a.library, maxName)
	r.Database, r.TraceID = printable(a.database, maxName), printable(a.traceID, maxName)
	r.Version, r.ClientTLS, r.MARS, r.ReadOnly = a.version, a.encrypted, a.mars, a.readOnly
}

// admit finds out who the client is, and whether it may come in. In vain costs
// time.
func (ss *session) admit(ctx context.Context, set *setting, e gate.Evidence) (tokens.Key, *refusal) {
	event := &audit.Event{}
	ctx = audit.With(ctx, event)
	if set.gate.Table().Callers != nil {
		pause := time.NewTimer(refusedPause) // begins before the work, which does not show in it
		defer pause.Stop()
		caller, err := ss.identify(ctx, e)
		if err != nil {
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
			return tokens.Key{}, denied(err)
		}
		ss.caller = caller
	}
	ss.record.Caller, ss.record.CallerHow = event.Caller, event.CallerHow
	key, err := set.gate.SQL(ctx, set.sql, ss.caller)
	ss.record.Credential = event.Credential
	if err != nil {
		return tokens.Key{}, denied(err)
	}
	return key, nil
}

// identify asks who logs in. The kernel is asked at most once.
func (ss *session) identify(ctx context.Context, e gate.Evidence) (*routes.Caller, error) {
	if ss.srv.cfg.Identifier == nil {
		return nil, &gate.Refusal{Code: gate.CallerUnknown, Detail: "nobody here knows any caller"}
	}
	conn := ss.conn
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = inner.NetConn()
	}
	e.Door, e.Source = audit.SQL, sourceOf(ss.conn)
	if runtime.GOOS == "linux" && near(ss.conn) {
		e.UID = sync.OnceValues(func() (uint32, error) { return gate.PeerUID(conn) })
	}
	return ss.srv.cfg.Identifier.Identify(ctx, e)
}

// choose finds the server that the client is led to.
func choose(d *routes.SQL, named string) (routes.Authority, bool) {
	if !d.ByName && len(d.Servers) > 0 {
		return d.Servers[0], true
	}
	for _, a := range d.Servers {
		if a.Host == named {
			return a, true
		}
	}
	return routes.Authority{}, false
}

// reach gets a token and logs in at the server.
func (ss *session) reach(ctx context.Context, t target, key tokens.Key) *refusal {
	begun := time.Now()
	token, origin, err := ss.srv.cfg.Tokens.Token(ctx, key)
	ss.record.Phases = map[string]time.Duration{"token": time.Since(begun)}
	if err != nil {
		return tokenTrouble(err)
	}
	ss.record.TokenSource = string(origin)
	u, used, renewed, err := ss.connect(ctx, t, key, held{token, origin})
	ss.record.Renewed, ss.record.TokenExpires = renewed, used.Expires
	if err != nil {
		var failed *loginError
		if !errors.As(err, &failed) {
			failed = &loginError{err: err, text: err.Error()}
		}
		ss.arrived(failed.facts, failed.hops)
		if len(failed.route) == 0 && failed.server != "" {
			ss.record.Route = []string{failed.server}
		}
		return serverTrouble(failed)
	}
	ss.target, ss.upstream = t, u
	f := u.facts()
	ss.arrived(f, max(0, len(f.route)-1))
	ss.grant.Store(&used)
	return nil
}

func (ss *session) arrived(f facts, redirects int) {
	maps.Copy(ss.record.Phases, f.phases)
	ss.record.SPID, ss.record.Redirects = f.spid, redirects
	for _, hop := range f.route {
		ss.record.Route = append(ss.record.Route, printable(hop, maxName))
	}
}

// held is a token and where it came from.
type held struct {
	tokens.Token
	origin tokens.Origin
}

// connect logs in with a token. If the server does not take it, it is renewed and
// tried once more; the token that was used last is returned beside an error too.
func (ss *session) connect(ctx context.Context, t target, key tokens.Key, h held) (u upstream, used tokens.Token, renewed bool, err error) {
	u, err = ss.client.login(ctx, t, h.Access)
	var failed *loginError
	if err == nil || !errors.As(err, &failed) || !failed.badToken {
		return u, h.Token, false, err
	}
	fresh := h.origin == tokens.FromIdentityProvider
	if !failed.expired && (fresh || !ss.srv.renewals.due(key, time.Now())) {
		return nil, h.Token, false, err
	}
	next, _, renewErr := ss.srv.cfg.Tokens.Renew(ctx, key, h.Token, "")
	if renewErr != nil { // the server's own words say more
		return nil, h.Token, false, err
	}
	u, err = ss.client.login(ctx, t, next.Access)
	return u, next, true, err
}

// renewals remembers when the tokens of keys were last renewed for a refusal.
type renewals struct {
	mu   sync.Mutex // guards last
	last map[tokens.Key]time.Time
}

// due tells whether key may be renewed, and notes that it is.
func (r *renewals) due(key tokens.Key, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if before, ok := r.last[key]; ok && now.Sub(before) < renewalPause {
		return false
	}
	maps.DeleteFunc(r.last, func(_ tokens.Key, at time.Time) bool { return now.Sub(at) >= renewalPause })
	if r.last == nil {
		r.last = map[tokens.Key]time.Time{}
	}
	r.last[key] = now
	return true
}

// stopping tells whether no more logins are taken.
func (s *Server) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining || s.closed
}

// seat takes a place for the session, with its door and with its caller.
func (s *Server) seat(ss *session, set *setting) *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bound := set.seats(); ss.door.seats >= bound {
		return &refusal{result: audit.LoginOverloaded, kind: crowded, detail: fmt.Sprintf("the door %s has %d sessions open, as many as it may", set.sql.Name, bound),
			remedy: "close sessions that are not needed, or raise max_connections of the door"}
	}
	if c := ss.caller; c != nil {
		if bound := c.Limits.Concurrency; bound > 0 && s.byCaller[c.Name] >= bound {
			return &refusal{result: audit.LoginOverloaded, kind: crowded, detail: fmt.Sprintf("caller %s has %d sessions open, as many as it may", c.Name, bound),
				remedy: "close sessions that are not needed, or raise limits.concurrency of the caller"}
		}
		s.byCaller[c.Name]++
	}
	ss.door.seats++
	ss.seated = true
	return nil
}

// course says how the session goes on.
func (ss *session) course() course {
	t := ss.target
	c := course{maxAge: t.door.MaxSessionAge, relogged: ss.relogged}
	skew := t.door.ReloginSkew
	if skew <= 0 {
		return c
	}
	c.over = func() bool { return !time.Now().Before(ss.grant.Load().Expires) }
	c.due = func() bool { return !time.Now().Before(ss.grant.Load().Expires.Add(-skew)) }
	c.login = func(ctx context.Context) (upstream, error) { return ss.again(ctx, t.server) }
	return c
}

// What keeps a session from a login again.
var (
	errMoved      = errors.New("its door leads to this server no more")
	errSameToken  = errors.New("there is no token that ends later")
	errReloginBug = errors.New("a defect of the gateway")
)

// again logs in for the session with another token, as the table in force has
// it. It runs in the relay's goroutines, so it keeps its own panics.
func (ss *session) again(ctx context.Context, server routes.Authority) (u upstream, err error) {
	defer func() {
		if v := recover(); v != nil {
			u, err = nil, fmt.Errorf("%w: %s", errReloginBug, panicText(v))
		}
	}()
	set := ss.door.set.Load()
	if set == nil || !slices.Contains(set.sql.Servers, server) {
		return nil, errMoved
	}
	if set.rootErr != nil {
		return nil, set.rootErr
	}
	ctx, done := context.WithTimeout(ctx, set.loginTimeout())
	defer done()
	key, err := set.gate.SQL(ctx, set.sql, ss.caller)
	if err != nil {
		return nil, err
	}
	token, origin, err := ss.srv.cfg.Tokens.Token(ctx, key)
	if err == nil && token.Access.Equal(ss.grant.Load().Access) {
		token, origin, err = ss.srv.cfg.Tokens.Renew(ctx, key, token, "")
	}
	if err == nil && token.Access.Equal(ss.grant.Load().Access) {
		err = errSameToken
	}
	if err != nil {
		return nil, err
	}
	u, used, renewed, err := ss.connect(ctx, target{door: set.sql, server: server, roots: set.roots, dialer: set.dialer}, key, held{token, origin})
	if renewed {
		ss.srv.cfg.Counted("renewal", "")
	}
	if err != nil {
		return nil, err
	}
	ss.grant.Store(&used)
	return u, nil
}

// relogged hears what became of a login again.
func (ss *session) relogged(result string, err error) {
	if result != "success" {
		cause := ""
		if err != nil {
			cause = printable(err.Error(), maxCause)
		}
		ss.srv.cfg.Log.Warn("a session could not log in again", "gateway.door", "sql", "gateway.sql.name", ss.record.Name,
			"gateway.sql.session", ss.record.ID, "gateway.sql.result", result, "cause", cmp.Or(cause, "the new session differs from the old one"))
	}
	ss.srv.cfg.Counted("relogin", result)
}
