package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"
)

// readPair reads a server's certificate with its chain and its key. section is
// where routes.yaml names the two.
func readPair(section, certFile, keyFile string) (*tls.Certificate, error) {
	certPEM, err := readFile(section+".certificate_file", certFile, maxPEM)
	if err != nil {
		return nil, err
	}
	keyPEM := certPEM
	if keyFile != "" {
		if keyPEM, err = readFile(section+".key_file", keyFile, maxPEM); err != nil {
			return nil, err
		}
	} else {
		keyFile = certFile
	}
	if bytes.Contains(keyPEM, []byte("ENCRYPTED")) {
		return nil, fmt.Errorf("%s.key_file: the key in %s is encrypted; store it without a password, readable by the gateway alone: openssl pkey -in %s -out plain.key", section, keyFile, keyFile)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s.certificate_file: %s and the key in %s are no pair: %w; put the leaf first, then its intermediates, and name the leaf's own key, all as PEM", section, certFile, keyFile, err)
	}
	if pair.Leaf == nil { // GODEBUG=x509keypairleaf=0
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, fmt.Errorf("%s.certificate_file: %s: %w", section, certFile, err)
		}
	}
	return &pair, checkServer(section+".certificate_file: "+certFile, &pair, time.Now())
}

// checkServer refuses what no client would accept; where begins what it says.
func checkServer(where string, pair *tls.Certificate, now time.Time) error {
	leaf := pair.Leaf
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...))
	}
	usage := leaf.ExtKeyUsage
	switch {
	case now.After(leaf.NotAfter):
		return wrong("the certificate expired %s; put a new one in place", day(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return wrong("the certificate is valid only from %s; put the current one in place, or set this machine's clock", day(leaf.NotBefore))
	case len(usage)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.Contains(usage, x509.ExtKeyUsageServerAuth) && !slices.Contains(usage, x509.ExtKeyUsageAny):
		return wrong("the certificate is not one of a server (extended key usage); have one issued with serverAuth")
	case len(leaf.DNSNames)+len(leaf.IPAddresses) == 0:
		return wrong("the certificate names no host (subjectAltName); have one issued with the names that callers use")
	}
	below := leaf
	for i, der := range pair.Certificate[1:] {
		above, err := x509.ParseCertificate(der)
		if err != nil {
			return wrong("certificate %d is damaged: %v; export the chain again", i+2, err)
		}
		if err := below.CheckSignatureFrom(above); err != nil {
			return wrong("certificate %d (%q) did not issue the one before it (%q); put the leaf first, then each issuer after what it issued", i+2, above.Subject, below.Subject)
		}
		below = above
	}
	return nil
}

// readCertificates reads the certificates of a PEM file; other blocks are
// passed over.
func readCertificates(field, path string) ([]*x509.Certificate, error) {
	rest, err := readFile(ownSection+"."+field, path, maxPEM)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("listen.tls.%s: %s holds a damaged certificate: %w; export it again, as PEM", field, path, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("listen.tls.%s: %s holds no certificate; put the CA's certificates there, as PEM", field, path)
	}
	return out, nil
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }
