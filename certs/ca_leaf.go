package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
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

// mint has a leaf signed for host, once for all who ask at the same time.
func (c *CA) mint(host string) (*tls.Certificate, error) {
	if !c.signer.Load().names.hold(host) {
		return nil, fmt.Errorf("%w: %q is no host of a route", ErrNotSigned, host)
	}
	c.mu.Lock()
	f, under := c.flights[host]
	if !under {
		f = &flight{done: make(chan struct{}), err: ErrNotSigned}
		c.flights[host] = f
	}
	c.mu.Unlock()
	if under {
		<-f.done
		return f.cert, f.err
	}
	defer func() {
		c.mu.Lock()
		delete(c.flights, host)
		c.mu.Unlock()
		close(f.done)
	}()
	c.reread()
	f.cert, f.err = c.signer.Load().mint(host, time.Now())
	return f.cert, f.err
}

// mint has a certificate for host at hand: one that was minted since the caller
// last looked, or a new one, by the oldest
// CA that permits host, since more clients trust that one.
func (s *signer) mint(host string, now time.Time) (*tls.Certificate, error) {
	if !s.names.hold(host) {
		return nil, fmt.Errorf("%w: %q is no host of a route", ErrNotSigned, host)
	}
	if l, ok := s.leaves.Get(host); ok && now.Before(l.renew) {
		return l.cert, nil
	}
	for i := len(s.generations) - 1; i >= 0; i-- {
		g := s.generations[i]
		if !g.signs(now) || !permits(g.issuing.PermittedDNSDomains, host) {
			continue
		}
		l, err := g.leaf(host, now)
		if err != nil {
			return nil, fmt.Errorf("interception certificate for %s: %w", host, err)
		}
		s.leaves.Add(host, l)
		return l.cert, nil
	}
	return nil, fmt.Errorf("%w: no CA in force permits %q; run gateway reload, and read what the log says of the interception CA", ErrNotSigned, host)
}

// leaf signs a certificate for host alone: with two names on it, an HTTP/2
// client might send calls for one down the tunnel of the other (RFC 9113 §9.1.1).
func (g *generation) leaf(host string, now time.Time) (*leaf, error) {
	template := &x509.Certificate{
		SerialNumber: newSerial(), DNSNames: []string{host}, // the subject is empty, so that the name is critical (RFC 5280 §4.2.1.6)
		NotBefore: latest(now.Add(-slack), g.issuing.NotBefore), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if template.NotAfter.After(g.issuing.NotAfter) {
		template.NotAfter = g.issuing.NotAfter
	}
	cert, err := certify(template, g.issuing, g.leafKey, g.key)
	if err != nil {
		return nil, err
	}
	// What no client would accept must not leave the house.
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(g.root)
	between.AddCert(g.issuing)
	if _, err := cert.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between, CurrentTime: now}); err != nil {
		return nil, err
	}
	end := cert.NotAfter.Add(-slack)
	return &leaf{
		cert:  &tls.Certificate{Certificate: [][]byte{cert.Raw, g.issuing.Raw}, PrivateKey: g.leafKey, Leaf: cert},
		renew: now.Add(end.Sub(now) * 2 / 3), end: end,
	}, nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
