package gate

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
)

// What can be wrong with a client certificate that the listener's CA signed, or
// did not.
var (
	errUnverified   = errors.New("the client certificate was not verified against client_ca_file")
	errValidity     = errors.New("the client certificate is not valid at this time")
	errSAN          = errors.New("the client certificate's alternative names cannot be read")
	errSPIFFE       = errors.New("the client certificate has a spiffe:// name and further URI names (X509-SVID §2 allows one)")
	errNoCertCaller = errors.New("the client certificate has no URI or DNS name of a caller; its common name is never looked at")
)

// certificates finds callers by the names in a verified leaf. It is immutable.
type certificates struct {
	uri map[string]*routes.Caller
	dns map[string]*routes.Caller
}

// find returns the caller whose name the leaf holds. The common name says
// nothing. A leaf that names two callers is neither's.
func (c *certificates) find(state *tls.ConnectionState) (*routes.Caller, error) {
	if len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return nil, errUnverified
	}
	leaf := state.VerifiedChains[0][0]
	// The connection may have outlived the certificate that opened it.
	if now := time.Now(); now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return nil, errValidity
	}
	uris, err := uriNames(leaf)
	if err != nil {
		return nil, err
	}
	var found *routes.Caller
	for _, name := range uris {
		if found, err = agree(found, c.uri[name]); err != nil {
			return nil, err
		}
		if len(uris) > 1 && strings.HasPrefix(lowerASCII(name), "spiffe:") {
			return nil, errSPIFFE
		}
	}
	for _, name := range leaf.DNSNames {
		if found, err = agree(found, c.dns[lowerASCII(name)]); err != nil {
			return nil, err
		}
	}
	if found == nil {
		return nil, errNoCertCaller
	}
	return found, nil
}

func agree(a, b *routes.Caller) (*routes.Caller, error) {
	switch {
	case a == nil:
		return b, nil
	case b == nil || a == b:
		return a, nil
	}
	return nil, fmt.Errorf("the client certificate names both caller %q and caller %q", a.Name, b.Name)
}

// oidSubjectAltName and tagURI are from RFC 5280 §4.2.1.6.
var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

const tagURI = 6

// uriNames returns the leaf's URI names as they stand. Leaf.URIs were parsed,
// and may print as something else: an empty fragment is lost.
func uriNames(leaf *x509.Certificate) ([]string, error) {
	if len(leaf.URIs) == 0 {
		return nil, nil
	}
	var names []string
	for _, ext := range leaf.Extensions {
		if !ext.Id.Equal(oidSubjectAltName) {
			continue
		}
		var seq asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &seq); err != nil || len(rest) > 0 {
			return nil, errSAN
		}
		for rest := seq.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return nil, errSAN
			}
			if name.Class == asn1.ClassContextSpecific && name.Tag == tagURI {
				names = append(names, string(name.Bytes))
			}
		}
	}
	return names, nil
}

// lowerASCII lowers A to Z alone: strings.ToLower would make a k of the Kelvin
// sign.
func lowerASCII(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for j, c := range b {
				if c >= 'A' && c <= 'Z' {
					b[j] = c | 0x20
				}
			}
			return string(b)
		}
	}
	return s
}
