package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/certs"
	"github.com/seed-13b04e61/gateway/egress"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
	"github.com/seed-13b04e61/gateway/tracing"
)

// engine is the gateway without its listeners: what a table is turned into,
// again and again.
type engine struct {
	log       *audit.Log
	metrics   *audit.Metrics
	file      *routes.File
	directory *authority.Directory
	store     *tokens.Store
	trail     *audit.Trail
	traces    *tracing.Traces // nil: traces are off
	memory    *memory
	usage     *admin.Usage
	callers   *gate.Identifier
	handler   *proxy.Handler
	hop       hop
	certs     *certs.Keeper // of the proxy port; nil: it speaks no TLS
	sql       *sqlDoors     // nil: no SQL door is open, whatever the table says
	listening []net.Addr    // the other doors
	ca        *certs.CA     // of the tunnel door; nil: routed hosts are not intercepted
	gate      atomic.Pointer[gate.Gate]
	adminKey  atomic.Pointer[secrets.Secret]
	proven    sync.Map    // names of credentials that have once got a token
	draining  atomic.Bool // no new calls are wanted
	broken    atomic.Bool // routes.yaml has mistakes, and an older table is in force

	// mayUse says why a table may not be put in force at the doors that are
	// open; nil while there are none.
	mayUse   func(*routes.Table) error
	changing sync.Mutex           // one reload at a time
	follow   func(paths []string) // has changes of these files followed by a reload; nil: nobody watches
	rooted   func()               // hears that ca has a new root, while changing is held; nil: nobody does
	reopened func()               // hears that a reload may have changed SQL doors, while changing is held; nil: nobody does
	rest     func()               // ends what keeps ca; nil without
	manager  *manager             // hears of reloads and of the end; set while changing is held; nil: there is none
}

// newEngine puts file's table in force and says what is wrong with it all the
// same. The listen section is not its affair. ca signs for the tunnel door and
// is kept; nil: there is none. An error means that it cannot be known who calls.
func newEngine(file *routes.File, log *audit.Log, ca *certs.CA) (*engine, []notice, error) {
	e := &engine{log: log, file: file, ca: ca, memory: newMemory(), usage: admin.NewUsage()}
	table := file.Table()
	e.callers = gate.NewIdentifier(gate.IdentifierOptions{Dialer: &e.hop, Log: log.Warn})
	if errs := e.callers.Use(table); len(errs) > 0 {
		return nil, nil, errors.Join(errs...)
	}
	e.directory = authority.NewDirectory(authority.Options{Dialer: &e.hop, Version: version, Alarm: e.alarmed})
	e.metrics = audit.NewMetrics(version, e.state)
	sealer, err := gate.NewSealer() // with a key of this process's own
	if err != nil {
		return nil, nil, err
	}
	store, err := tokens.New(tokens.Config{
		Acquirer: e.directory, Entries: table.Cache.Entries, Memory: table.Cache.Memory, Observer: e,
	})
	if err != nil {
		return nil, nil, err
	}
	e.store = store
	e.trail = audit.NewTrail(audit.TrailConfig{Out: log.Out(), Log: log, Lost: e.metrics.AuditLost})
	conf := proxy.Config{
		Tokens: store, Recorder: audit.Recorders{log, e.metrics, e.trail, e.memory.calls, e.usage}, Log: log, Identifier: e.callers, Sealer: sealer,
	}
	if ca != nil { // a nil one in an interface would pass for a CA
		conf.Certifier = ca
	}
	e.handler = proxy.New(conf)
	notices := e.apply(table)
	e.keepCA()
	e.metrics.Reloaded(true)
	return e, notices, nil
}

// Close ends what runs behind calls. Listeners must be closed before.
func (e *engine) Close() {
	if e.rest != nil {
		e.rest()
	}
	if e.sql != nil {
		e.sql.server.Close()
	}
	e.handler.Close()
	e.flushTraces(context.Background())
	e.store.Close()
	e.trail.Close()
	if e.certs != nil {
		e.certs.Close()
	}
}

// notice is something that an operator should know of a table that is in force.
type notice struct {
	text, remedy string
	alarm        bool // it is broken now
}

func (n notice) String() string {
	if n.remedy == "" {
		return n.text
	}
	return n.text + "; " + n.remedy
}

// noticeOf is what was found about a credential.
func noticeOf(f authority.Finding) notice {
	return notice{fmt.Sprintf("credential %q: %s", f.Credential, f.Message), f.Remedy, f.Alarm}
}

// placeOf is the beginning of a notice about the credential of that name: its
// line in t's file, or "" if it stands in none.
func placeOf(t *routes.Table, credential string) string {
	if c := t.Credential(credential); c != nil && c.Line > 0 {
		return fmt.Sprintf("%s:%d: ", t.Name, c.Line)
	}
	return ""
}

// alarmed hears that a fallback took a credential's place, or gave it back.
// The gauges follow by themselves.
func (e *engine) alarmed(f authority.Finding) { e.report(noticeOf(f)) }

func (e *engine) report(n notice) {
	if n.alarm {
		e.log.Error(n.text, "remedy", n.remedy)
		return
	}
	e.log.Warn(n.text, "remedy", n.remedy)
}

// apply puts table in force and says what is wrong with it all the same.
func (e *engine) apply(table *routes.Table) []notice {
	var notices []notice
	for _, w := range table.Warnings {
		notices = append(notices, notice{text: fmt.Sprintf("%s:%d:%d: %s: %s", w.File, w.Line, w.Column, w.Field, w.Message), remedy: w.Remedy})
	}
	if err := e.log.Configure(audit.LogConfig{Level: table.Log.Level, Format: table.Log.Format, Access: table.Log.Access}); err != nil {
		notices = append(notices, notice{text: err.Error(), alarm: true})
	}
	if err := e.hop.use(table.Egress.Proxy); err != nil {
		notices = append(notices, notice{text: "egress.proxy: " + err.Error(), remedy: "put the password in place; it is read again at once", alarm: true})
	}
	if err := e.readAdminKey(table); err != nil {
		notices = append(notices, notice{text: "listen.admin_key: " + err.Error(), remedy: "put the key in place; it is read again at once", alarm: true})
	}
	for _, f := range e.directory.Replace(table.Credentials) {
		n := noticeOf(f)
		n.text = placeOf(table, f.Credential) + n.text
		notices = append(notices, n)
	}
	notices = append(notices, e.useCA(table)...)
	g, errs := gate.Renew(e.gate.Load(), table, e.directory)
	for _, err := range errs {
		notices = append(notices, notice{text: err.Error(), remedy: "put the list in place; it is read again at once", alarm: true})
	}
	for _, err := range e.handler.Use(g, e.hop.dialer()) {
		notices = append(notices, notice{text: err.Error(), remedy: "put the file in place; it is read again at once", alarm: true})
	}
	e.store.Forgive()
	e.gate.Store(g)
	return notices
}

// keepTrail has audit records kept where table says. It is no part of apply:
// who asks a single question of a file makes no such file.
func (e *engine) keepTrail(table *routes.Table) []notice {
	var file *audit.File
	if a := table.Audit; a != nil {
		file = &audit.File{Path: a.File, MaxSize: a.MaxSize, Keep: a.Keep}
	}
	if err := e.trail.Use(file); err != nil {
		return []notice{{
			text:   "audit.file: " + err.Error() + "; records are lost, and gateway_audit_lost_total counts them",
			remedy: "let the gateway's user write there; it is tried again with each record", alarm: true,
		}}
	}
	return nil
}

// readAdminKey keeps the last good key when the new one cannot be read.
func (e *engine) readAdminKey(table *routes.Table) error {
	if table.Listen.AdminKey.IsZero() {
		e.adminKey.Store(&secrets.Secret{})
		return nil
	}
	key, err := table.Listen.AdminKey.Read()
	if err != nil {
		return err
	}
	e.adminKey.Store(&key)
	return nil
}

// warm asks for the token of every static route and SQL door, so that the first
// call finds it. It returns at once; store's Close ends what it began. Each credential is
// tried with one scope before the others: when it is refused, all are.
func (e *engine) warm() {
	seen := map[tokens.Key]bool{}
	queues := map[string][]tokens.Key{} // by credential
	for _, s := range e.served() {
		for _, k := range s.keys {
			if !seen[k] {
				seen[k] = true
				queues[k.Credential] = append(queues[k.Credential], k)
			}
		}
	}
	// Whatever comes of it, Acquired reports it.
	ask := func(k tokens.Key) { _, _, _ = e.store.Token(context.Background(), k) }
	for _, queue := range queues {
		go func() {
			ask(queue[0])
			for _, k := range queue[1:] {
				go ask(k)
			}
		}()
	}
}

// Lookup implements [tokens.Observer].
func (e *engine) Lookup(o tokens.Origin) {
	e.metrics.Lookup(string(o))
	e.memory.lookup(o)
}

// hop is the way out: a dialer that a reload may replace. Token requests go
// through whichever is in force.
type hop struct {
	current atomic.Pointer[egress.Dialer]

	mu   sync.Mutex // guards what follows
	from *routes.EgressProxy
	pass secrets.Secret
	own  []netip.AddrPort
}

var errNoHop = errors.New("egress.proxy cannot be used: its password cannot be read")

// DialContext implements [authority.Dialer].
func (h *hop) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	d := h.current.Load()
	if d == nil {
		return nil, errNoHop
	}
	return d.DialContext(ctx, network, addr)
}

var _, _ proxy.PublicDialer = (*hop)(nil), (*egress.Dialer)(nil)

// DialPublic implements [proxy.PublicDialer].
func (h *hop) DialPublic(ctx context.Context, network, addr string) (net.Conn, error) {
	d := h.current.Load()
	if d == nil {
		return nil, errNoHop
	}
	return d.DialPublic(ctx, network, addr)
}

// nextHop is the proxy for requests of libraries that dial by themselves.
func (h *hop) nextHop(req *http.Request) (*url.URL, error) {
	d := h.current.Load()
	if d == nil {
		return nil, errNoHop
	}
	return d.NextHop(req)
}

// dialer is the one in force, so that connections made through another are
// told apart from its own.
func (h *hop) dialer() proxy.Dialer {
	if d := h.current.Load(); d != nil {
		return d
	}
	return h // refuses
}

// use makes p the next hop. If its password cannot be read, the hop stays as
// it was, or refuses when there was none: calls must not go out another way
// than the file says.
func (h *hop) use(p *routes.EgressProxy) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var cfg egress.Config
	if p != nil {
		cfg = egress.Config{Proxy: p.URL, Username: p.Username, Bypass: p.Bypass}
		if !p.Password.IsZero() {
			password, err := p.Password.Read()
			if err != nil {
				if !reflect.DeepEqual(p, h.from) {
					h.current.Store(nil)
				}
				return err
			}
			cfg.Password = password
		}
	}
	if h.current.Load() != nil && reflect.DeepEqual(p, h.from) && cfg.Password == h.pass {
		return nil
	}
	d, err := egress.New(cfg)
	if err != nil {
		h.current.Store(nil)
		return err
	}
	d.Forbid(h.own)
	d.ForbidHosts(authority.IdentityEndpoints(os.LookupEnv)) // a call must not borrow this host's identity
	h.from, h.pass = p, cfg.Password
	h.current.Store(d)
	return nil
}

// forbid names the gateway's own listeners.
func (h *hop) forbid(own []netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.own = slices.Clone(own)
	if d := h.current.Load(); d != nil {
		d.Forbid(h.own)
	}
}
