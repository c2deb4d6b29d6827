package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// ACME says where certificates are obtained (RFC 8555). Each domain gets one of
// its own; a caller that names none of them, or no name, is shown the first's.
type ACME struct {
	Domains   []string // at least one
	Email     string   // of the account; may be ""
	Directory string   // URL; "": Let's Encrypt's
	CAFile    string   // PEM, trusted for Directory instead of the system's roots; read by Open alone
	Storage   string   // folder for account, certificates and keys; made with 0700

	// HTTP is the address of a listener for HTTP-01 challenges (RFC 8555 §8.3),
	// which answers nothing else. It has to be reached as port 80 of each
	// domain. "": TLS-ALPN-01 (RFC 8737), on the listener of Address.
	HTTP string
	// Address is that of the TCP listener that serves [Keeper.TLSConfig], which
	// has to be reached as port 443 of each domain. It may be nil with HTTP.
	Address net.Addr
	// Proxy is the way to the directory, as an [http.Transport]'s Proxy; nil
	// goes directly. The environment's proxies never count.
	Proxy func(*http.Request) (*url.URL, error)
}

const (
	// attemptTimeout bounds one order, with the validation of the name.
	attemptTimeout = 3 * time.Minute
	// renewalChecks is how often in its life a certificate is looked at,
	// between the bounds that follow.
	renewalChecks    = 60
	minCheckInterval = time.Second
	maxCheckInterval = 10 * time.Minute
	// maxBackoff is how many checks after a failure may be left out: an hour
	// for certificates of 90 days. Let's Encrypt takes 5 failures an hour.
	maxBackoff = 6
	// never keeps the library's own timer from renewing beside ours, which
	// waits less long after failures of short-lived certificates.
	never = 10 * 365 * 24 * time.Hour
	// firstPause is how long after a failure the first certificate is tried for
	// again. It doubles.
	firstPause = 5 * time.Second
)

// manager obtains certificates, renews them and answers challenges.
type manager struct {
	cfg       ACME
	log       func(level, msg string, kv ...any)
	magic     *certmagic.Config
	plain     *certmagic.Config // as magic, but its orders say not what they replace
	cache     *certmagic.Cache
	challenge *tls.Config  // of handshakes that are TLS-ALPN-01 challenges
	responder *http.Server // of HTTP-01; nil without

	ctx     context.Context // ends with close; for what Start leaves running
	cancel  context.CancelFunc
	running sync.WaitGroup
	once    sync.Once // close

	failures map[string]int       // in a row, by domain; of the renewing goroutine alone
	next     map[string]time.Time // not before; likewise
}

func newManager(cfg ACME, log func(string, string, ...any)) (*manager, error) {
	issuer := certmagic.ACMEIssuer{
		CA: cfg.Directory, Email: cfg.Email, Agreed: true, Logger: zapTo(log),
		DisableHTTPChallenge: cfg.HTTP == "", DisableTLSALPNChallenge: cfg.HTTP != "",
		HTTPProxy: cfg.proxy(),
	}
	if len(cfg.Domains) == 0 {
		return nil, errors.New("listen.tls.acme.domains: there is none; name the hosts that callers use")
	}
	if err := probeStorage(cfg.Storage); err != nil {
		return nil, fmt.Errorf("listen.tls.acme.storage: %w; name a folder that this process may write to", err)
	}
	if cfg.CAFile != "" {
		roots, err := readCertificates("acme.ca_file", cfg.CAFile)
		if err != nil {
			return nil, err
		}
		issuer.TrustedRoots = x509.NewCertPool()
		for _, c := range roots {
			issuer.TrustedRoots.AddCert(c)
		}
	}
	m := &manager{cfg: cfg, log: log, failures: map[string]int{}, next: map[string]time.Time{}}
	var listener net.Listener
	at := cfg.Address
	if cfg.HTTP != "" {
		var err error
		if listener, err = net.Listen("tcp", cfg.HTTP); err != nil {
			return nil, fmt.Errorf("listen.tls.acme.http: %w; choose an address that is reached as port 80 of the domains", err)
		}
		at = listener.Addr()
	}
	tcp, ok := at.(*net.TCPAddr)
	if !ok {
		return nil, errors.New("listen.tls.acme: the proxy port is no TCP port, so TLS-ALPN-01 challenges cannot be answered; name an address for HTTP-01 under http")
	}
	// The library finds the port taken, by us, and opens none of its own.
	issuer.ListenHost, issuer.AltHTTPPort, issuer.AltTLSALPNPort = host(tcp), tcp.Port, tcp.Port
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.build(issuer, listener)
	return m, nil
}

// build makes the library's parts and starts the responder.
func (m *manager) build(issuer certmagic.ACMEIssuer, responder net.Listener) {
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return m.magic, nil },
		RenewCheckInterval: never, Logger: issuer.Logger,
	})
	conf := certmagic.Config{
		Storage: &certmagic.FileStorage{Path: m.cfg.Storage}, Logger: issuer.Logger, OnEvent: heard,
		OCSP:              certmagic.OCSPConfig{HTTPProxy: m.cfg.proxy()},
		DefaultServerName: m.cfg.Domains[0], FallbackServerName: m.cfg.Domains[0],
	}
	m.magic = certmagic.New(m.cache, conf)
	acme := certmagic.NewACMEIssuer(m.magic, issuer)
	m.magic.Issuers = []certmagic.Issuer{acme}
	conf.DisableARI, conf.Issuers = true, m.magic.Issuers
	m.plain = certmagic.New(m.cache, conf)
	m.challenge = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{challengeProtocol}, GetCertificate: m.magic.GetCertificate}
	if responder == nil {
		return
	}
	m.responder = newResponder(m.cfg.Domains, acme)
	m.running.Go(func() {
		if err := m.responder.Serve(responder); !errors.Is(err, http.ErrServerClosed) {
			m.log("error", "the listener for HTTP-01 challenges ended", "gateway.listen", responder.Addr().String(), "cause", err.Error())
		}
	})
}

// proxy keeps requests of the library off whatever proxy the environment
// names: that may be this very gateway.
func (a ACME) proxy() func(*http.Request) (*url.URL, error) {
	if a.Proxy != nil {
		return a.Proxy
	}
	return func(*http.Request) (*url.URL, error) { return nil, nil }
}

func host(a *net.TCPAddr) string {
	if a.Zone != "" {
		return a.IP.String() + "%" + a.Zone
	}
	return a.IP.String()
}

// probeStorage makes the folder and tells whether files can be made in it.
func probeStorage(dir string) error {
	if dir == "" {
		return errors.New("there is none")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// Start loads the certificates of an ACME storage, obtains those that are
// missing there or have expired, and begins to renew. It returns once there is
// one for every domain, or with what went wrong last when ctx ends. Challenges
// come to the listener that serves [Keeper.TLSConfig], which must be accepting
// by now. Of a Keeper with certificate files it does nothing. Call it once.
func (k *Keeper) Start(ctx context.Context) error {
	if k.acme == nil {
		return nil
	}
	return k.acme.start(ctx)
}

func (m *manager) start(ctx context.Context) error {
	for _, domain := range m.cfg.Domains {
		if err := m.first(ctx, domain); err != nil {
			return err
		}
	}
	m.running.Go(m.keep)
	return nil
}

// first has a certificate of domain at hand, from storage or from the directory.
func (m *manager) first(ctx context.Context, domain string) error {
	if m.load(ctx, domain) == nil && time.Now().Before(m.newest(domain).NotAfter) {
		return nil
	}
	m.log("info", "there is no valid certificate in storage; one is being obtained", "gateway.certificate.domain", domain, "gateway.acme.directory", m.directory())
	for pause, failed := firstPause, 0; ; pause, failed = pause*2, failed+1 {
		err := m.attempt(ctx, domain, failed)
		if err == nil {
			m.log("info", "a certificate was obtained", "gateway.certificate.domain", domain, "gateway.certificate.expires", day(m.newest(domain).NotAfter))
			return nil
		}
		if end, ok := ctx.Deadline(); ctx.Err() != nil || ok && time.Until(end) < pause {
			return fmt.Errorf("listen.tls.acme: no certificate for %s from %s: %w; %s", domain, m.directory(), err, m.remedy())
		}
		m.log("warn", "no certificate yet", "gateway.certificate.domain", domain, "cause", err.Error(), "gateway.acme.retry_in", pause.String(), "remedy", m.remedy())
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// remedy is what to look at when an order fails.
func (m *manager) remedy() string {
	if m.cfg.HTTP != "" {
		return "see that the directory can be reached, and that port 80 of the domain leads to " + m.cfg.HTTP
	}
	return "see that the directory can be reached, and that port 443 of the domain leads to " + m.cfg.Address.String()
}

func (m *manager) directory() string {
	if m.cfg.Directory == "" {
		return certmagic.LetsEncryptProductionCA
	}
	return m.cfg.Directory
}

// attempted is how an order that [manager.attempt] began went.
type attempted struct {
	cancel context.CancelFunc
	err    error
}

type attemptKey struct{}

// heard ends the library's own wait for a retry, which would be a minute at
// least. It runs on the goroutine of the attempt.
func heard(ctx context.Context, event string, data map[string]any) error {
	a, ours := ctx.Value(attemptKey{}).(*attempted)
	if !ours || event != "cert_failed" {
		return nil
	}
	if a.err, _ = data["error"].(error); a.err == nil {
		a.err = errors.New("the order failed")
	}
	a.cancel()
	return nil
}

// attempt obtains or renews domain's certificate once and takes it into use. It
// costs nothing when storage has a valid one, as another replica may have put
// there. Every other time after failures the order does not say which
// certificate it replaces (RFC 9773 §5): a directory that was set up anew does
// not know that one, and refuses.
func (m *manager) attempt(ctx context.Context, domain string, failed int) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	stop := context.AfterFunc(m.ctx, cancel)
	defer stop()
	a := &attempted{cancel: cancel}
	// Renewing obtains what is not there. Neither is the interactive kind,
	// which asks on stdin for an e-mail address.
	ctx = context.WithValue(ctx, attemptKey{}, a)
	var err error
	if failed%2 == 0 {
		err = m.magic.RenewCertAsync(ctx, domain, false)
	} else {
		err = m.plain.RenewCertAsync(ctx, domain, true)
	}
	switch {
	case a.err != nil:
		return a.err
	case err != nil:
		return err
	}
	return m.load(ctx, domain)
}

// load takes domain's certificate from storage into use, instead of any other.
func (m *manager) load(ctx context.Context, domain string) error {
	fresh, err := m.magic.CacheManagedCertificate(ctx, domain)
	if err != nil {
		return err
	}
	var old []string
	for _, c := range m.cache.AllMatchingCertificates(domain) {
		if c.Hash() != fresh.Hash() {
			old = append(old, c.Hash())
		}
	}
	m.cache.Remove(old)
	// The library calls for renewal when fewer than five checks are left.
	m.cache.SetOptions(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return m.magic, nil },
		RenewCheckInterval: m.interval(), Logger: m.magic.Logger,
	})
	return nil
}

// newest is the leaf in use for domain, or an empty one.
func (m *manager) newest(domain string) *x509.Certificate {
	out := &x509.Certificate{}
	for _, c := range m.cache.AllMatchingCertificates(domain) {
		if c.Leaf != nil && c.Leaf.NotAfter.After(out.NotAfter) {
			out = c.Leaf
		}
	}
	return out
}

// interval is how often to look for what is due.
func (m *manager) interval() time.Duration {
	out := maxCheckInterval
	for _, domain := range m.cfg.Domains {
		if c := m.newest(domain); !c.NotAfter.IsZero() {
			out = min(out, c.NotAfter.Sub(c.NotBefore)/renewalChecks)
		}
	}
	return max(out, minCheckInterval)
}

// keep renews until close.
func (m *manager) keep() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-time.After(m.interval()):
		}
		m.renew()
	}
}

// renew looks at every certificate once.
func (m *manager) renew() {
	due := false
	for _, domain := range m.cfg.Domains {
		for _, c := range m.cache.AllMatchingCertificates(domain) {
			if !c.NeedsRenewal(m.magic) {
				continue
			}
			due = true
			if time.Now().After(m.next[domain]) {
				m.renewOne(domain)
			}
			break
		}
	}
	if due {
		return
	}
	// Nothing is due, so that this only asks when the directory wants its
	// certificates renewed (RFC 9773).
	if err := m.cache.RenewManagedCertificates(m.ctx); err != nil && m.ctx.Err() == nil {
		m.log("warn", "renewal information was not had", "cause", err.Error())
	}
}

func (m *manager) renewOne(domain string) {
	old := m.newest(domain).NotAfter
	err := m.attempt(m.ctx, domain, m.failures[domain])
	if m.ctx.Err() != nil {
		return
	}
	if err == nil {
		delete(m.failures, domain)
		delete(m.next, domain)
		m.log("info", "the certificate was renewed", "gateway.certificate.domain", domain, "gateway.certificate.expires", day(m.newest(domain).NotAfter))
		return
	}
	m.failures[domain]++
	pause := m.interval() * time.Duration(min(1<<min(m.failures[domain]-1, 8), maxBackoff))
	m.next[domain] = time.Now().Add(pause)
	m.log("error", "the certificate was not renewed; the old one goes on", "gateway.certificate.domain", domain, "gateway.certificate.expires", day(old),
		"gateway.acme.directory", m.directory(), "cause", err.Error(), "gateway.acme.attempts", strconv.Itoa(m.failures[domain]),
		"gateway.acme.retry_in", pause.String(), "remedy", m.remedy())
}

// certificate is the GetCertificate of ordinary handshakes.
func (m *manager) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c, err := m.magic.GetCertificate(hello)
	if err != nil {
		return nil, fmt.Errorf("there is no certificate yet: %w", err)
	}
	return c, nil
}

// expiry is the first end among the certificates in use.
func (m *manager) expiry() time.Time {
	var out time.Time
	for _, domain := range m.cfg.Domains {
		if end := m.newest(domain).NotAfter; out.IsZero() || end.Before(out) {
			out = end
		}
	}
	return out
}

func (m *manager) close() {
	m.once.Do(func() {
		m.cancel()
		if m.responder != nil {
			_ = m.responder.Close()
		}
		m.running.Wait()
		m.cache.Stop()
	})
}
