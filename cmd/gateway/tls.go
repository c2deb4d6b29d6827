package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/certs"
	"github.com/seed-13b04e61/gateway/routes"
)

// firstCertificate is how long serve waits for a certificate when there is
// none in storage.
const firstCertificate = 2 * time.Minute

// openCertificates reads what listen.tls names, for the proxy port's listener
// l. It is nil for a port without TLS.
func (e *engine) openCertificates(t *routes.ListenTLS, l net.Listener) (*certs.Keeper, error) {
	if t == nil {
		return nil, nil
	}
	cfg := certificateConfig(t)
	cfg.Log = func(level, msg string, kv ...any) { leveled(e.log, level)(msg, kv...) }
	if cfg.ACME != nil {
		cfg.ACME.Address, cfg.ACME.Proxy = l.Addr(), e.hop.nextHop
	}
	k, err := certs.Open(cfg)
	if err != nil {
		return nil, fmt.Errorf("refusing to start: %w", err)
	}
	return k, nil
}

func certificateConfig(t *routes.ListenTLS) certs.Config {
	cfg := certs.Config{
		CertificateFile: t.CertificateFile, KeyFile: t.KeyFile,
		ClientCAFile: t.ClientCAFile, ClientCRLFile: t.ClientCRLFile,
	}
	if a := t.ACME; a != nil {
		cfg.ACME = &certs.ACME{
			Domains: a.Domains, Email: a.Email, Directory: a.Directory, CAFile: a.CAFile,
			Storage: a.Storage, HTTP: a.HTTP,
		}
	}
	return cfg
}

// lookAtCertificates tells beforehand what serve would say of the files of
// listen.tls. That of the server may be somewhere else yet; without the CAs of
// callers it cannot be known who calls, which is an error.
func lookAtCertificates(t *routes.ListenTLS) ([]notice, error) {
	if t == nil {
		return nil, nil
	}
	pair, trust := certs.Look(certificateConfig(t))
	if trust != nil {
		return nil, trust
	}
	if pair != nil {
		return []notice{{text: pair.Error(), remedy: "serve refuses to start until this is mended", alarm: true}}, nil
	}
	return nil, nil
}

func leveled(log *audit.Log, level string) func(string, ...any) {
	switch level {
	case "error":
		return log.Error
	case "warn":
		return log.Warn
	}
	return log.Info
}

// secured has the proxy's server speak TLS, if it is to.
func (g *gateway) secured(srv *http.Server) *http.Server {
	if g.certs != nil {
		g.certs.Secure(srv)
	}
	return srv
}

// serveOn serves l with or without TLS, as srv is made for.
func serveOn(srv *http.Server, l net.Listener) error {
	if srv.TLSConfig != nil {
		return srv.ServeTLS(l, "", "")
	}
	return srv.Serve(l)
}

// awaitCertificate returns once the proxy port has a certificate to show. A
// signal ends the wait too.
func (g *gateway) awaitCertificate(ctx context.Context) error {
	if g.certs == nil {
		return nil
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, firstCertificate)
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- g.certs.Start(ctx) }() // ends with ctx at the latest
	select {
	case err := <-started:
		if err != nil {
			return fmt.Errorf("refusing to start: %w", err)
		}
		return nil
	case err := <-g.failed:
		cancel()
		<-started
		return err
	}
}

// keptBefore is what happens when a certificate cannot be read again.
const keptBefore = "what was in force before goes on; files are read again when they change"

// reloadCertificates reads certificates, client CAs and revocation lists again
// and reports what is wrong with them. They are those of the listen section
// that the process started with, and of the SQL doors that are open.
func (e *engine) reloadCertificates() (warnings []string) {
	var notices []notice
	if e.certs != nil {
		if err := e.certs.Reload(); err != nil {
			notices = append(notices, notice{text: err.Error(), remedy: keptBefore, alarm: true})
		}
	}
	if e.sql != nil {
		notices = append(notices, e.sql.reread()...)
	}
	for _, n := range notices {
		e.report(n)
		warnings = append(warnings, n.String())
	}
	return warnings
}

// watched are the files whose change calls for a reload.
func (e *engine) watched() []string {
	files := e.file.Table().Files()
	if e.certs != nil {
		files = append(files, e.certs.Files()...)
	}
	return files
}

// shownProxy is the proxy port's address for people.
func (g *gateway) shownProxy() string {
	if g.certs != nil && g.proxyL.Addr().Network() == "tcp" {
		return "https://" + shown(g.proxyL)
	}
	return shown(g.proxyL)
}

// callAt is a URL by which the proxy port can be called, with a name that its
// certificate holds if one is known.
func (g *gateway) callAt() string {
	at := shown(g.proxyL)
	t := g.file.Table().Listen.TLS
	if g.certs == nil || t == nil {
		return "http://" + at
	}
	if t.ACME != nil && g.proxyL.Addr().Network() == "tcp" {
		_, port, _ := net.SplitHostPort(at) // a listener's own address
		at = net.JoinHostPort(t.ACME.Domains[0], port)
	}
	return "https://" + at
}
