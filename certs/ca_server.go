package certs

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
)

// serverBits is the size of a SQL door's key: drivers of databases live long,
// and some of them know no ECDSA.
const serverBits = 2048

func newServerKey() (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, serverBits)
	if err != nil {
		return nil, fmt.Errorf("key of the SQL doors: %w", err)
	}
	return key, nil
}

// ServerCertificate returns the certificate of a server that is reached by any
// of hosts, such as a SQL door: an RSA leaf for all of them, with its issuing
// CA. The addresses of loopback may be among them if they are among those of
// [CA.Use]. It is cached and renewed as those of [CA.Certificate] are; a host
// that is not among those of Use, or none at all, is [ErrNotSigned]. The caller
// must not change what it returns.
func (c *CA) ServerCertificate(hosts []string) (*tls.Certificate, error) {
	if len(hosts) == 0 {
		return nil, fmt.Errorf("%w: it has no name", ErrNotSigned)
	}
	return c.certificate(order{key: "server " + strings.Join(hosts, " "), server: slices.Clone(hosts)})
}

// serverTemplate has a subject too: clients that look at nothing else are still
// about.
func serverTemplate(hosts []string) *x509.Certificate {
	t := &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
			continue
		}
		t.DNSNames = append(t.DNSNames, h)
		if t.Subject.CommonName == "" && len(h) <= maxCommonName {
			t.Subject.CommonName = h
		}
	}
	return t
}

// maxCommonName is of RFC 5280 appendix A.1, ub-common-name.
const maxCommonName = 64
