package certs_test

import (
	"crypto/x509"
	"testing"
	"time"
)

func TestAnOpenConnectionLosesItsIdentityWithAnIssuerOfItsCertificate(t *testing.T) {
	root := newCA(t, "clients", nil)
	end := time.Now().Add(3 * time.Second).Truncate(time.Second)
	between := newCA(t, "between", root, func(c *x509.Certificate) { c.NotAfter = end })
	s, _, server := guarded(t, root, "")
	c := browser(t, server, between.client(t, job))
	s.must(t, c, job)
	// Certificates carry whole seconds, and TLS sessions real ones: there is no
	// bubble of false time around sockets.
	for !time.Now().After(end) {
		time.Sleep(50 * time.Millisecond)
	}
	s.must(t, c, "nobody")
	s.refuses(t, afresh(c), "has expired")
}
