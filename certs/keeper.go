// Package certs keeps the proxy port's own TLS: its certificate, from files or
// by ACME, and the CAs and revocation lists by which callers' certificates are
// judged. What changes is swapped for new handshakes; no connection is dropped.
// It also is the CA that signs for routed hosts inside tunnels: [CA].
package certs

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config says where certificates come from. Exactly one of CertificateFile and
// ACME is set.
type Config struct {
	CertificateFile string // PEM, the leaf first, then its intermediates
	KeyFile         string // PEM; "": CertificateFile holds the key too
	ACME            *ACME

	ClientCAFile string // PEM; "": callers are asked for no certificate
	// ClientCRLFile holds revocation lists, PEM or DER, each signed by a CA of
	// ClientCAFile; "": nothing is revoked. With it a caller's certificate is
	// taken only if there is a current list of each CA above it, up to one of
	// ClientCAFile.
	ClientCRLFile string

	// Log takes what an operator should know; level is info, warn or error, kv
	// are pairs of name and value. It must be safe for concurrent use. nil: nothing is told.
	Log func(level, msg string, kv ...any)
}

const (
	maxPEM = 1 << 20  // bytes of a file of certificates or of a key
	maxCRL = 32 << 20 // bytes of a file of revocation lists
	// soon is how long before its end a certificate from a file is warned of,
	// if that is less than a fifth of its life.
	soon = 14 * 24 * time.Hour
	// ownSection is where routes.yaml names the proxy port's files.
	ownSection = "listen.tls"
)

// Keeper holds what is in force. It is safe for concurrent use.
type Keeper struct {
	cfg     Config
	base    *tls.Config
	pair    atomic.Pointer[tls.Certificate] // nil with ACME
	trust   atomic.Pointer[trust]           // never nil
	current atomic.Pointer[tls.Config]
	acme    *manager // nil without ACME

	reloading sync.Mutex // one reload at a time
}

// Open reads all files. An error says which of them is wrong and what to do;
// there is no Keeper with half of what cfg asks for. With ACME nothing is
// obtained before [Keeper.Start].
func Open(cfg Config) (*Keeper, error) {
	if cfg.Log == nil {
		cfg.Log = func(string, string, ...any) {}
	}
	switch {
	case (cfg.ACME == nil) == (cfg.CertificateFile == ""):
		return nil, errors.New("listen.tls: exactly one of acme and certificate_file is needed")
	case cfg.ClientCRLFile != "" && cfg.ClientCAFile == "":
		return nil, errors.New("listen.tls.client_crl_file: there is no client_ca_file that its lists could be of; name one")
	}
	k := &Keeper{cfg: cfg}
	if err := k.readTrust(); err != nil {
		return nil, err
	}
	if cfg.ACME == nil {
		if err := k.readPair(); err != nil {
			return nil, err
		}
	} else {
		m, err := newManager(*cfg.ACME, cfg.Log)
		if err != nil {
			return nil, err
		}
		k.acme = m
	}
	k.base = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols(), GetConfigForClient: k.configFor}
	k.rebuild()
	return k, nil
}

// Look reads the files as [Open] does, and keeps nothing: ACME's storage is left
// alone. pair is what is wrong with the server's own certificate, or with the CA
// of the directory that gives it; trust with the client CAs and their revocation
// lists. Log hears what it would hear of Open.
func Look(cfg Config) (pair, trust error) {
	if cfg.Log == nil {
		cfg.Log = func(string, string, ...any) {}
	}
	k := &Keeper{cfg: cfg}
	switch {
	case cfg.ACME == nil:
		pair = k.readPair()
	case cfg.ACME.CAFile != "":
		_, pair = readCertificates("acme.ca_file", cfg.ACME.CAFile)
	}
	return pair, k.readTrust()
}

// protocols are what a client may choose from by ALPN (RFC 7301), in our order:
// clients that use the port as a proxy offer HTTP/2 as they do to any server,
// and then send a plain request in absolute form, which HTTP/2 does not have
// (Go's own default transport fails so). Who offers h2 alone, gets it.
func protocols() []string { return []string{"http/1.1", "h2"} }

// TLSConfig returns the configuration for the listener, always the same one:
// what is in force is looked up in each handshake. The caller must not change it.
func (k *Keeper) TLSConfig() *tls.Config { return k.base }

// Files are the paths to watch: a change of any calls for [Keeper.Reload].
func (k *Keeper) Files() []string {
	var out []string
	for _, p := range []string{k.cfg.CertificateFile, k.cfg.KeyFile, k.cfg.ClientCAFile, k.cfg.ClientCRLFile} {
		if p != "" {
			out = append(out, p)
		}
	}
	return out
}

// Reload reads the files again. What cannot be used is an error, and what was
// in force before it stays: the certificate with its key, or the client CAs
// with their revocation lists; the other of the two is taken all the same.
func (k *Keeper) Reload() error {
	k.reloading.Lock()
	defer k.reloading.Unlock()
	var pairErr error
	if k.acme == nil {
		pairErr = k.readPair()
	}
	err := errors.Join(pairErr, k.readTrust())
	k.rebuild()
	return err
}

// Expiry is when the first of the certificates served ends, or the zero time
// while there is none.
func (k *Keeper) Expiry() time.Time {
	if k.acme != nil {
		return k.acme.expiry()
	}
	return k.pair.Load().Leaf.NotAfter
}

// Close ends renewal and the challenge server. Handshakes go on with what is
// in force.
func (k *Keeper) Close() {
	if k.acme != nil {
		k.acme.close()
	}
}

func (k *Keeper) readPair() error {
	pair, err := readPair(ownSection, k.cfg.CertificateFile, k.cfg.KeyFile)
	if err != nil {
		return err
	}
	old := k.pair.Load()
	if old != nil && slices.EqualFunc(old.Certificate, pair.Certificate, bytes.Equal) {
		return nil
	}
	if left := time.Until(pair.Leaf.NotAfter); left < min(soon, pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore)/5) {
		k.cfg.Log("warn", "the certificate of the proxy port ends soon", "file.path", k.cfg.CertificateFile,
			"gateway.certificate.expires", pair.Leaf.NotAfter.UTC().Format(time.RFC3339), "remedy", "put a new one in place; it is taken at once")
	}
	k.pair.Store(pair)
	return nil
}

func (k *Keeper) readTrust() error {
	t, err := readTrust(k.cfg.ClientCAFile, k.cfg.ClientCRLFile)
	if err != nil {
		return err
	}
	// The same one stays, so that who compares pointers sees no change.
	if old := k.trust.Load(); old != nil && old.sum == t.sum {
		return nil
	}
	for _, name := range t.unlisted() {
		k.cfg.Log("warn", "no revocation list of a client CA: callers with its certificates are refused", "gateway.certificate.ca", name,
			"file.path", k.cfg.ClientCRLFile, "remedy", "add the CA's list to client_crl_file, or take the CA out of client_ca_file")
	}
	k.trust.Store(t)
	return nil
}

// rebuild makes the configuration of the handshakes to come.
func (k *Keeper) rebuild() {
	t := k.trust.Load()
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols()}
	if k.acme != nil {
		c.GetCertificate = k.acme.certificate
	} else {
		c.Certificates = []tls.Certificate{*k.pair.Load()}
	}
	if t.pool != nil {
		// Never without ClientCAs: nil there would stand for the system's roots
		// (CVE-2026-27586).
		c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, t.pool
		// Unlike VerifyPeerCertificate it is called for resumed sessions too.
		c.VerifyConnection = func(cs tls.ConnectionState) error { return k.judge(&cs) }
	}
	k.current.Store(c)
}

// configFor is the base's GetConfigForClient.
func (k *Keeper) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if k.acme != nil && k.acme.challenged(hello) {
		return k.acme.challenge, nil
	}
	return k.current.Load(), nil
}

// judge holds a handshake's verified chains against what is in force now.
func (k *Keeper) judge(cs *tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	return k.trust.Load().check(cs.VerifiedChains, time.Now())
}

// readFile reads a regular file of up to limit bytes. field is the key of
// routes.yaml that names it, in full.
func readFile(field, path string, limit int64) ([]byte, error) {
	fail := func(err error) error {
		return fmt.Errorf("%s cannot be read: %w; name a file that this process may read", field, err)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fail(err)
	case !info.Mode().IsRegular():
		return nil, fail(fmt.Errorf("%s is not a file", path))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fail(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, fail(err)
	case int64(len(b)) > limit:
		return nil, fail(fmt.Errorf("%s has more than %d bytes", path, limit))
	}
	return b, nil
}
