package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/certs"
	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tracing"
	"github.com/spf13/cobra"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	config        config
	listen, admin string
	readyFile     string
	anonymous     bool
	checkSQL      bool          // log in to each SQL server before the doors open
	drainDelay    time.Duration // negative: as the listeners suggest
}

// doors are where a gateway listens, for whom, and how it stops.
type doors struct {
	routes.Listen
	anonymous bool              // strangers off loopback are meant
	delay     time.Duration     // between saying not ready and taking no more calls
	ca        *certs.CA         // of the tunnel door; nil: that of intercept.ca_dir, if it is set
	traces    *tracing.Settings // nil: traces are off
}

func newServe(s std) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway",
		Long: `Runs the gateway. routes.yaml and every file that it names are watched, and
changes take effect at once; SIGHUP has them read again.

SIGTERM has /readyz say 503, goes on serving for --drain-delay, so that load
balancers notice, then takes no more calls and gives those under way 25 s. SIGINT
does the same without the delay; a second signal kills.

With NOTIFY_SOCKET in the environment, a service manager hears when all doors are
open, of each reload and of the end, as systemd's Type=notify-reload wants it.

Traces are switched on by the standard OTEL_ variables alone, as in
OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318; docs/reference/tracing.md.

With --check-sql it logs in to each server of sql: first, as gateway check --live
does, prints what became of each, and exits with 1 instead of opening a door if one
login failed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.config = configOf(cmd)
			if !cmd.Flags().Changed("drain-delay") {
				f.drainDelay = -1
			} else if f.drainDelay < 0 {
				return fmt.Errorf("--drain-delay %s: want 0s or more", f.drainDelay)
			}
			return no(serve(cmd.Context(), f, s))
		},
	}
	cmd.Flags().StringVar(&f.listen, "listen", "", "address of the proxy port, instead of listen.proxy")
	cmd.Flags().StringVar(&f.admin, "admin", "", "address of the admin port, instead of listen.admin")
	cmd.Flags().StringVar(&f.readyFile, "ready-file", "", "write the addresses as JSON to this file once all doors are open")
	cmd.Flags().BoolVar(&f.anonymous, "insecure-no-callers", false, "serve an address off loopback although anybody who reaches it may use the gateway's tokens")
	cmd.Flags().BoolVar(&f.checkSQL, "check-sql", false, "log in to each server of sql: before any door opens, and exit with 1 if a login fails")
	cmd.Flags().DurationVar(&f.drainDelay, "drain-delay", drainDelay, "how long to keep serving after SIGTERM; 0s unless set, when every listener is on loopback or a unix socket")
	addAllowExec(cmd)
	return cmd
}

func serve(ctx context.Context, f serveFlags, s std) error {
	file, err := f.config.open()
	if err != nil {
		return err
	}
	l := file.Table().Listen
	if f.listen != "" {
		l.Proxy = f.listen
	}
	if f.admin != "" {
		l.Admin = f.admin
	}
	d := doors{Listen: l, anonymous: f.anonymous, delay: f.drainDelay}
	if d.delay < 0 {
		d.delay = defaultDelay(addresses(l, file.Table())...)
	}
	d.traces, err = tracing.Read(os.LookupEnv)
	if err := errors.Join(d.mayServe(file.Table()), err); err != nil {
		return fmt.Errorf("refusing to start: %w", err)
	}
	conf := file.Table().Log
	log, err := audit.NewLog(s.out, audit.LogConfig{Level: conf.Level, Format: conf.Format, Access: conf.Access})
	if err != nil {
		return err
	}
	if f.checkSQL {
		if err := checkSQL(ctx, file, s); err != nil {
			return err
		}
	}
	o := hear()
	defer o.close()
	g, err := start(file, d, log)
	if err != nil {
		return err
	}
	defer g.Close()
	if err := g.awaitCertificate(ctx); err != nil {
		return err
	}
	if f.readyFile != "" {
		drop, err := g.keepReady(f.readyFile)
		if err != nil {
			return err
		}
		defer drop()
	}
	g.tellOf(managerOf(os.Getenv(notifySocket), log))
	g.greet(s)
	return g.run(ctx, o)
}

// addresses are where the doors of l and of t's section sql listen.
func addresses(l routes.Listen, t *routes.Table) []string {
	all := []string{l.Proxy, l.Admin, l.Health}
	for _, d := range t.SQL {
		all = append(all, d.Listen)
	}
	return all
}

// mayServe refuses doors that strangers could walk in by.
func (d doors) mayServe(t *routes.Table) error {
	if offLoopback(d.Proxy) {
		if t.Callers == nil && !d.anonymous {
			return fmt.Errorf("listen.proxy %s is off loopback and there are no callers\n"+
				"   anybody who can reach this port could act with the gateway's tokens\n"+
				"   name who may call under callers: (gateway keygen NAME makes a key), listen on 127.0.0.1 or unix:,\n"+
				"   or type --insecure-no-callers if the network itself keeps strangers out", d.Proxy)
		}
		if !d.Plain && d.TLS == nil {
			return fmt.Errorf("listen.proxy %s is off loopback and there is no TLS\n"+
				"   calls, answers and callers' keys would cross the network in clear text\n"+
				"   set listen.tls, or listen.plain: true to say that this is meant", d.Proxy)
		}
	}
	if offLoopback(d.Admin) && d.AdminKey.IsZero() {
		return fmt.Errorf("listen.admin %s is off loopback and there is no listen.admin_key\n"+
			"   set listen.admin_key: {file: …}, or offer health and metrics alone by listen.health", d.Admin)
	}
	return d.mayServeSQL(t)
}

// gateway is an engine with its doors open.
type gateway struct {
	*engine
	doors                   doors
	proxyL, adminL, healthL net.Listener
	servers                 []*http.Server
	patience                time.Duration // with calls under way, when it drains
	failed                  chan error
	closeWatch              func()
}

// start opens all doors or none.
func start(file *routes.File, d doors, log *audit.Log) (*gateway, error) {
	g := &gateway{doors: d, patience: drainTimeout, failed: make(chan error, 3)}
	if err := g.listen(); err != nil {
		return nil, err
	}
	begin, stop, unwatched := g.watch(file)
	if unwatched != nil {
		begin, stop = func() {}, func() {}
		log.Warn("files are not watched; changes take effect on SIGHUP and gateway reload", "cause", unwatched.Error())
	}
	g.closeWatch = stop
	var notices []notice
	var err error
	if g.engine, notices, err = newIntercepting(file, log, d.ca); err != nil {
		stop()
		g.closeListeners()
		return nil, fmt.Errorf("refusing to start: %w", err)
	}
	opened, err := g.furnish(file.Table(), d.traces)
	if err != nil {
		stop()
		g.closeListeners()
		g.engine.Close()
		return nil, err
	}
	g.mayUse = d.mayServe
	notices = slices.Concat(notices, g.keepTrail(file.Table()), opened, exposed(file.Table()))
	for _, n := range notices {
		g.report(n)
	}
	g.memory.read(admin.Reading{OK: true, Warnings: warningsOf(notices)})
	begin()
	window := admin.New(g, g.metrics.Handler(), func(detail string) { log.Debug("admin", "detail", detail) })
	srv := g.secured(g.handler.NewServer())
	proxy.AllowPlainHTTP2(srv, g.proxyL.Addr())
	g.open(srv, g.handler.Listener(g.proxyL))
	g.open(window.Server(), g.adminL)
	g.open(window.HealthServer(), g.healthL)
	g.warm()
	return g, nil
}

// listen opens the listeners of the section listen, all or none.
func (g *gateway) listen() (err error) {
	for _, door := range []struct {
		addr string
		into *net.Listener
	}{{g.doors.Proxy, &g.proxyL}, {g.doors.Admin, &g.adminL}, {g.doors.Health, &g.healthL}} {
		if door.addr == "" {
			continue
		}
		if *door.into, err = listen(door.addr); err != nil {
			g.closeListeners()
			return err
		}
	}
	return nil
}

// furnish gives the doors their certificates, turns traces on unless they are nil,
// and opens the doors of sql.
func (g *gateway) furnish(table *routes.Table, traces *tracing.Settings) (notices []notice, err error) {
	for _, l := range []net.Listener{g.proxyL, g.adminL, g.healthL} {
		if l != nil {
			g.listening = append(g.listening, l.Addr())
		}
	}
	g.forbidOwn()
	if g.certs, err = g.openCertificates(g.doors.TLS, g.proxyL); err != nil {
		return nil, err
	}
	if err := g.trace(traces); err != nil {
		return nil, fmt.Errorf("refusing to start: %w", err)
	}
	g.sql = newSQLDoors(g.engine)
	change, err := g.openSQL(table)
	if err != nil {
		return nil, fmt.Errorf("refusing to start: %w", err)
	}
	return change.commit(), nil
}

func (g *gateway) closeListeners() {
	for _, l := range []net.Listener{g.proxyL, g.adminL, g.healthL} {
		if l != nil {
			_ = l.Close()
		}
	}
}

func (g *gateway) open(srv *http.Server, l net.Listener) {
	if l == nil {
		return
	}
	g.servers = append(g.servers, srv)
	go func() {
		if err := serveOn(srv, l); !errors.Is(err, http.ErrServerClosed) {
			g.failed <- fmt.Errorf("listener %s: %w", l.Addr(), err)
		}
	}()
}

// Close ends everything at once.
func (g *gateway) Close() {
	for _, srv := range g.servers {
		_ = srv.Close()
	}
	g.closeWatch()
	g.engine.Close()
}

// keepReady writes the ready file, and again when a reload opens other doors.
// drop removes it for good: a reload that is under way as the gateway ends does
// not write it again, and is not waited for.
func (g *gateway) keepReady(path string) (drop func(), err error) {
	var writing sync.Mutex // guards dropped and the file
	dropped := false
	g.changing.Lock()
	defer g.changing.Unlock()
	g.reopened = func() {
		writing.Lock()
		defer writing.Unlock()
		if dropped {
			return
		}
		if err := g.writeReady(path); err != nil {
			g.log.Error("the ready file tells of doors before the reload", "cause", err.Error())
		}
	}
	return func() {
		writing.Lock()
		defer writing.Unlock()
		dropped = true
		_ = os.Remove(path) // a script may have taken it
	}, g.writeReady(path)
}

// writeReady tells a script that all doors are open, and where.
func (g *gateway) writeReady(path string) error {
	b, err := json.Marshal(struct {
		Proxy  string            `json:"proxy"`
		Admin  string            `json:"admin"`
		Health string            `json:"health,omitempty"`
		SQL    map[string]string `json:"sql"`
	}{shown(g.proxyL), shown(g.adminL), shown(g.healthL), g.shownSQL()})
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(path), ".ready-*")
	if err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	_, err = next.Write(append(b, '\n'))
	if err = errors.Join(err, next.Chmod(0o644), next.Close()); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	return os.Rename(next.Name(), path)
}

// greet says where each door is and what to try next.
func (g *gateway) greet(s std) {
	at := g.callAt()
	fmt.Fprintf(s.err, "gateway %s\n", version)
	for _, c := range g.file.Table().Credentials {
		if c.Origin != "" {
			fmt.Fprintf(s.err, "credential %s: %s\n", c.Name, c.Origin)
		}
	}
	for _, r := range g.file.Table().Routes {
		fmt.Fprintf(s.err, "route %-16s %s\n", r.Name, hostList(r))
	}
	fmt.Fprintf(s.err, "proxy  %s\n", g.shownProxy())
	if g.adminL != nil {
		fmt.Fprintf(s.err, "admin  %s\n", shown(g.adminL))
	}
	if at := pageAt(g.adminL); at != "" {
		fmt.Fprintf(s.err, "page   %s\n", at)
	}
	for _, r := range g.file.Table().Routes {
		if r.Mount == "" || g.proxyL.Addr().Network() != "tcp" {
			continue
		}
		fmt.Fprintf(s.err, "try    curl %s%s/   or   http_proxy=%s curl http://%s/\n", at, r.Mount, at, strings.TrimSuffix(r.Hosts[0].String(), ":443"))
		break
	}
	g.greetSQL(s)
	switch t := g.file.Table(); {
	case t.Intercept != nil && t.Callers != nil:
		fmt.Fprint(s.err, "       gateway env --as NAME --key-file PATH, for programs that obey HTTPS_PROXY; the calls above want a caller's key too\n")
	case t.Intercept != nil:
		fmt.Fprint(s.err, "       gateway env, for programs that obey HTTPS_PROXY\n")
	}
}
