package certs

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"
)

// Pair is the certificate that a door shows, from files. It is safe for
// concurrent use.
type Pair struct {
	section, certFile, keyFile string
	current                    atomic.Pointer[tls.Certificate] // never nil
}

// OpenPair reads certFile, PEM, the leaf first, and its key; keyFile is "" when
// certFile holds the key too. section is where routes.yaml names them, for the
// error, which says what is wrong and what to do.
func OpenPair(section, certFile, keyFile string) (*Pair, error) {
	p := &Pair{section: section, certFile: certFile, keyFile: keyFile}
	if err := p.Reload(); err != nil {
		return nil, err
	}
	return p, nil
}

// Reload reads the files again. On an error the certificate before stays.
func (p *Pair) Reload() error {
	pair, err := readPair(p.section, p.certFile, p.keyFile)
	if err != nil {
		return err
	}
	if old := p.current.Load(); old == nil || !slices.EqualFunc(old.Certificate, pair.Certificate, bytes.Equal) {
		p.current.Store(pair)
	}
	return nil
}

// Certificate is what is in force. The caller must not change it.
func (p *Pair) Certificate() *tls.Certificate { return p.current.Load() }

// EndsSoon tells whether the certificate should be replaced by now, and when it
// ends.
func (p *Pair) EndsSoon() (end time.Time, is bool) {
	leaf := p.current.Load().Leaf
	return leaf.NotAfter, time.Until(leaf.NotAfter) < min(soon, leaf.NotAfter.Sub(leaf.NotBefore)/5)
}

// selfMadeLife is how long a self-made certificate is good: it lives no longer
// than its process, and nobody verifies it.
const selfMadeLife = 10 * 365 * 24 * time.Hour

// SelfMade makes a certificate for this machine that nobody vouches for, with
// an RSA key of 2048 bits, as some old clients of databases know no other. SQL
// Server does the same when it is given none.
func SelfMade() (*tls.Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: "gateway, self-made"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(selfMadeLife),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("self-made certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("self-made certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
