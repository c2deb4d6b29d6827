package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/spf13/cobra"
)

// drainTimeout is how long calls under way may take after SIGTERM; Kubernetes
// kills after 30 s.
const drainTimeout = 25 * time.Second

// serveFlags are the flags of serve.
type serveFlags struct {
	config        config
	listen, admin string
	readyFile     string
	anonymous     bool
}

func newServe(s std) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway",
		Long: `Runs the gateway. routes.yaml and every file that it names are watched, and
changes take effect at once; SIGHUP has them read again. SIGTERM lets the calls
under way end and then stops.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.config = configOf(cmd)
			return no(serve(cmd.Context(), f, s))
		},
	}
	cmd.Flags().StringVar(&f.listen, "listen", "", "address of the proxy port, instead of listen.proxy")
	cmd.Flags().StringVar(&f.admin, "admin", "", "address of the admin port, instead of listen.admin")
	cmd.Flags().StringVar(&f.readyFile, "ready-file", "", "write the addresses as JSON to this file once all doors are open")
	cmd.Flags().BoolVar(&f.anonymous, "insecure-no-callers", false, "serve an address off loopback although anybody who reaches it may use the gateway's tokens")
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
	if err := mayListen(l, f.anonymous); err != nil {
		return err
	}
	conf := file.Table().Log
	log, err := audit.NewLog(s.out, audit.LogConfig{Level: conf.Level, Format: conf.Format, Access: conf.Access})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	g, err := start(file, l, log)
	if err != nil {
		return err
	}
	defer g.Close()
	if f.readyFile != "" {
		if err := g.writeReady(f.readyFile); err != nil {
			return err
		}
		defer os.Remove(f.readyFile)
	}
	g.greet(s)
	return g.run(ctx, stop)
}

// mayListen refuses doors that strangers could walk in by.
func mayListen(l routes.Listen, anonymous bool) error {
	if offLoopback(l.Proxy) {
		if !anonymous {
			return fmt.Errorf("refusing to start: listen.proxy %s is off loopback and there are no callers\n"+
				"   anybody who can reach this port could act with the gateway's tokens\n"+
				"   listen on 127.0.0.1 or unix:, or type --insecure-no-callers if the network itself keeps strangers out", l.Proxy)
		}
		if !l.Plain {
			return fmt.Errorf("refusing to start: listen.proxy %s is off loopback and there is no TLS\n"+
				"   calls and answers would cross the network in clear text\n"+
				"   set listen.plain: true to say that this is meant", l.Proxy)
		}
	}
	if offLoopback(l.Admin) && l.AdminKey.IsZero() {
		return fmt.Errorf("refusing to start: listen.admin %s is off loopback and there is no listen.admin_key\n"+
			"   set listen.admin_key: {file: …}, or offer health and metrics alone by listen.health", l.Admin)
	}
	return nil
}

// gateway is an engine with its doors open.
type gateway struct {
	*engine
	proxyL, adminL, healthL net.Listener
	servers                 []*http.Server
	failed                  chan error
	closeWatch              func() error
}

// start opens all doors or none.
func start(file *routes.File, l routes.Listen, log *audit.Log) (*gateway, error) {
	g := &gateway{failed: make(chan error, 3)}
	var err error
	for _, door := range []struct {
		addr string
		into *net.Listener
	}{{l.Proxy, &g.proxyL}, {l.Admin, &g.adminL}, {l.Health, &g.healthL}} {
		if door.addr == "" {
			continue
		}
		if *door.into, err = listen(door.addr); err != nil {
			g.closeListeners()
			return nil, err
		}
	}
	var notices []notice
	if g.engine, notices, err = newEngine(file, log); err != nil {
		g.closeListeners()
		return nil, err
	}
	for _, n := range notices {
		g.report(n)
	}
	g.hop.forbid(tcpAddresses(g.proxyL, g.adminL, g.healthL))
	w, err := g.watch()
	if err != nil {
		log.Warn("files are not watched; changes take effect on SIGHUP and gateway reload", "cause", err.Error())
		g.closeWatch = func() error { return nil }
	} else {
		g.closeWatch = w.Close
	}
	window := admin.New(g.engine, g.metrics.Handler(), func(detail string) { log.Debug("admin", "detail", detail) })
	g.open(g.handler.NewServer(), g.proxyL)
	g.open(window.Server(), g.adminL)
	g.open(window.HealthServer(), g.healthL)
	g.warm()
	return g, nil
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
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			g.failed <- fmt.Errorf("listener %s: %w", l.Addr(), err)
		}
	}()
}

// run serves until ctx ends, and then lets the calls under way end. forget
// gives the signals back, so that a second one kills.
func (g *gateway) run(ctx context.Context, forget func()) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-hup:
			g.Reload()
		case err := <-g.failed:
			return err
		case <-ctx.Done():
			forget()
			return g.drain()
		}
	}
}

// drain stops taking calls and waits for those under way. The proxy goes
// first, so that readiness can be asked while it drains.
func (g *gateway) drain() error {
	g.log.Info("draining", "timeout", drainTimeout.String())
	g.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	var cut error
	for i, srv := range g.servers {
		err := srv.Shutdown(ctx)
		if err != nil {
			_ = srv.Close()
		}
		if i == 0 && err != nil {
			cut = fmt.Errorf("calls were still under way after %s and were cut off", drainTimeout)
		}
	}
	g.log.Info("stopped")
	return cut
}

// Close ends everything at once.
func (g *gateway) Close() {
	for _, srv := range g.servers {
		_ = srv.Close()
	}
	_ = g.closeWatch()
	g.engine.Close()
}

// writeReady tells a script that all doors are open, and where.
func (g *gateway) writeReady(path string) error {
	b, err := json.Marshal(struct {
		Proxy  string            `json:"proxy"`
		Admin  string            `json:"admin"`
		Health string            `json:"health,omitempty"`
		SQL    map[string]string `json:"sql"`
	}{shown(g.proxyL), shown(g.adminL), shown(g.healthL), map[string]string{}})
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
	at := shown(g.proxyL)
	fmt.Fprintf(s.err, "gateway %s\n", version)
	for _, c := range g.file.Table().Credentials {
		if c.Origin != "" {
			fmt.Fprintf(s.err, "credential %s: %s\n", c.Name, c.Origin)
		}
	}
	for _, r := range g.file.Table().Routes {
		fmt.Fprintf(s.err, "route %-16s %s\n", r.Name, hostList(r))
	}
	fmt.Fprintf(s.err, "proxy  %s\n", at)
	if g.adminL != nil {
		fmt.Fprintf(s.err, "admin  %s\n", shown(g.adminL))
	}
	for _, r := range g.file.Table().Routes {
		if r.Mount == "" || g.proxyL.Addr().Network() != "tcp" {
			continue
		}
		fmt.Fprintf(s.err, "try    curl http://%s%s/   or   http_proxy=http://%s curl http://%s/\n", at, r.Mount, at, r.Hosts[0])
		break
	}
}
