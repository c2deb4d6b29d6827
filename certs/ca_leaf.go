package certs

import (
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// leafLife is how long a leaf lasts, and never beyond its issuer.
const leafLife = 48 * time.Hour

// leaf is a certificate at hand.
type leaf struct {
	cert       *tls.Certificate
	renew, end time.Time
	renewing   atomic.Bool
}

// flight is a certificate on its way, for whoever asks meanwhile.
type flight struct {
	done chan struct{} // closed once what follows is there
	cert *tls.Certificate
	err  error
}

// order is a certificate that is asked for.
type order struct {
	key    string   // of the cache; the host if there is no server
	server []string // the hosts of one of [CA.ServerCertificate]
}

func (o order) hosts() []string {
	if o.server != nil {
		return o.server
	}
	return []string{o.key}
}

// held refuses an order unless all of it is to be signed for. An address is a
// server's alone: clients of tunnels are shown none.
func (n names) held(o order) error {
	for _, h := range o.hosts() {
		if !n.hold(h) && !(o.server != nil && n.loopback && isLoopback(h)) {
			return fmt.Errorf("%w: %q is no host of a route", ErrNotSigned, h)
		}
	}
	return nil
}

// mint has a leaf signed, once for all who ask at the same time.
func (c *CA) mint(o order) (*tls.Certificate, error) {
	if err := c.signer.Load().names.held(o); err != nil {
		return nil, err
	}
	c.mu.Lock()
	f, under := c.flights[o.key]
	if !under {
		f = &flight{done: make(chan struct{}), err: ErrNotSigned}
		c.flights[o.key] = f
	}
	c.mu.Unlock()
	if under {
		<-f.done
		return f.cert, f.err
	}
	defer func() {
		c.mu.Lock()
		delete(c.flights, o.key)
		c.mu.Unlock()
		close(f.done)
	}()
	c.reread()
	var key *rsa.PrivateKey
	if o.server != nil {
		if key, f.err = c.serverKey(); f.err != nil {
			return nil, f.err
		}
	}
	f.cert, f.err = c.signer.Load().mint(o, key, time.Now())
	return f.cert, f.err
}

// mint has a certificate at hand: one that was minted since the caller last
// looked, or a new one, by the oldest CA that permits all its hosts, since more
// clients trust that one. key is that of servers, nil for the CA's own leaves.
func (s *signer) mint(o order, key *rsa.PrivateKey, now time.Time) (*tls.Certificate, error) {
	if err := s.names.held(o); err != nil {
		return nil, err
	}
	if l, ok := s.leaves.Get(o.key); ok && now.Before(l.renew) {
		return l.cert, nil
	}
	for i := len(s.generations) - 1; i >= 0; i-- {
		g := s.generations[i]
		if !g.signs(now) || slices.ContainsFunc(o.hosts(), func(h string) bool { return !permitted(g.issuing).permits(h) }) {
			continue
		}
		l, err := g.leaf(o, key, now)
		if err != nil {
			return nil, fmt.Errorf("interception certificate for %s: %w", strings.Join(o.hosts(), " "), err)
		}
		s.leaves.Add(o.key, l)
		return l.cert, nil
	}
	return nil, fmt.Errorf("%w: no CA in force permits %q; run gateway reload, and read what the log says of the interception CA", ErrNotSigned, strings.Join(o.hosts(), " "))
}

// leaf signs what is ordered; key is that of servers.
func (g *generation) leaf(o order, key *rsa.PrivateKey, now time.Time) (*leaf, error) {
	template, of := leafTemplate(o.key), crypto.Signer(g.leafKey)
	if o.server != nil {
		template, of = serverTemplate(o.server), key
	}
	template.SerialNumber = newSerial()
	template.NotBefore, template.NotAfter = latest(now.Add(-slack), g.issuing.NotBefore), now.Add(leafLife)
	template.ExtKeyUsage, template.BasicConstraintsValid = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, true
	if template.NotAfter.After(g.issuing.NotAfter) {
		template.NotAfter = g.issuing.NotAfter
	}
	cert, err := certify(template, g.issuing, of, g.key)
	if err != nil {
		return nil, err
	}
	// What no client would accept must not leave the house.
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(g.root)
	between.AddCert(g.issuing)
	for _, h := range o.hosts() {
		if _, err := cert.Verify(x509.VerifyOptions{DNSName: h, Roots: roots, Intermediates: between, CurrentTime: now}); err != nil {
			return nil, err
		}
	}
	end := cert.NotAfter.Add(-slack)
	return &leaf{
		cert:  &tls.Certificate{Certificate: [][]byte{cert.Raw, g.issuing.Raw}, PrivateKey: of, Leaf: cert},
		renew: now.Add(end.Sub(now) * 2 / 3), end: end,
	}, nil
}

// leafTemplate is for host alone: with two names on it, an HTTP/2 client might
// send calls for one down the tunnel of the other (RFC 9113 §9.1.1). The subject
// is empty, so that the name is critical (RFC 5280 §4.2.1.6).
func leafTemplate(host string) *x509.Certificate {
	return &x509.Certificate{DNSNames: []string{host}, KeyUsage: x509.KeyUsageDigitalSignature}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
