package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"
)

const (
	rootName    = "Gateway interception root "
	issuingName = "Gateway interception CA "
	// slack is by how much clocks may differ: certificates begin that much
	// earlier, and a CA that ends sooner signs no more.
	slack = time.Hour
)

// generation is a root, whose key is gone, and the issuing CA that it signed.
type generation struct {
	root, issuing *x509.Certificate
	key           *ecdsa.PrivateKey // the issuing CA's
	leafKey       *ecdsa.PrivateKey // of all its leaves in this process
}

// newGeneration makes both, permitting constraints alone, for life from now.
func newGeneration(allowed constraints, life time.Duration) (*generation, error) {
	fail := func(err error) (*generation, error) { return nil, fmt.Errorf("interception CA: %w", err) }
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	defer forget(rootKey)
	g := &generation{}
	if g.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return fail(err)
	}
	if g.leafKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return fail(err)
	}
	// In a name of its own: clients look an issuer up by its name, and two roots
	// of one name are taken for each other.
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails (crypto/rand)
	template := authorityTemplate(rootName+hex.EncodeToString(id[:]), allowed, life)
	template.MaxPathLen = 1
	if g.root, err = certify(template, template, rootKey, rootKey); err != nil {
		return fail(err)
	}
	template = authorityTemplate(issuingName+hex.EncodeToString(id[:]), allowed, life)
	template.MaxPathLenZero = true
	template.NotBefore, template.NotAfter = g.root.NotBefore, g.root.NotAfter
	if g.issuing, err = certify(template, g.root, g.key, rootKey); err != nil {
		return fail(err)
	}
	return g, nil
}

// forget overwrites what Go lets one reach of a key. Copies that the library
// made are left to the collector.
func forget(key *ecdsa.PrivateKey) {
	//lint:ignore SA1019 there is no other way to the number
	clear(key.D.Bits())
}

// authorityTemplate is what root and issuing CA have in common.
func authorityTemplate(name string, allowed constraints, life time.Duration) *x509.Certificate {
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-slack), NotAfter: now.Add(life),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomains: allowed.dns, PermittedDNSDomainsCritical: true,
	}
	if allowed.loopback {
		c.PermittedIPRanges = loopbackRanges() // which excludes all others; an exclusion would win over it (RFC 5280 §4.2.1.10)
	} else {
		c.ExcludedIPRanges = everyAddress()
	}
	return c
}

// loopbackRanges are the addresses of loopback, each by itself.
func loopbackRanges() []*net.IPNet {
	return []*net.IPNet{
		{IP: net.IPv4(127, 0, 0, 1).To4(), Mask: net.CIDRMask(8*net.IPv4len, 8*net.IPv4len)},
		{IP: net.IPv6loopback, Mask: net.CIDRMask(8*net.IPv6len, 8*net.IPv6len)},
	}
}

// everyAddress is all of IPv4 and all of IPv6.
func everyAddress() []*net.IPNet {
	return []*net.IPNet{
		{IP: net.IP(make([]byte, net.IPv4len)), Mask: net.CIDRMask(0, 8*net.IPv4len)},
		{IP: net.IP(make([]byte, net.IPv6len)), Mask: net.CIDRMask(0, 8*net.IPv6len)},
	}
}

// newSerial is of 127 random bits: positive in twenty bytes (RFC 5280 §4.1.2.2).
func newSerial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails (crypto/rand)
	b[0] &= 0x7f
	b[15] |= 1 // never zero
	return new(big.Int).SetBytes(b[:])
}

// certify has signer, the key of parent, sign template for key.
func certify(template, parent *x509.Certificate, key crypto.Signer, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// equal tells whether both are one CA, maybe read twice.
func (g *generation) equal(o *generation) bool {
	return bytes.Equal(g.issuing.Raw, o.issuing.Raw) && bytes.Equal(g.root.Raw, o.root.Raw)
}

// adopt gives fresh, just read, the leaf keys of those among known that they are.
func adopt(fresh, known []*generation) {
	for i, g := range fresh {
		if j := slices.IndexFunc(known, g.equal); j >= 0 {
			fresh[i] = known[j]
		}
	}
}

// signs tells whether certificates may be signed at now that clients take.
func (g *generation) signs(now time.Time) bool {
	return now.After(g.issuing.NotBefore) && now.Before(g.issuing.NotAfter.Add(-slack))
}

// fits tells whether g permits just constraints and need not be renewed.
func (g *generation) fits(wanted constraints, now time.Time) bool {
	life := g.issuing.NotAfter.Sub(g.issuing.NotBefore)
	return now.Before(g.issuing.NotBefore.Add(life*2/3)) && permitted(g.issuing).equal(wanted)
}

// inForce are those that sign.
func inForce(all []*generation, now time.Time) []*generation {
	var out []*generation
	for _, g := range all {
		if g.signs(now) {
			out = append(out, g)
		}
	}
	return out
}

// errForeign is why an issuing CA is not used: it could sign for more than a
// generation of ours can.
var errForeign = errors.New("not made by gateway ca")

// ours refuses an issuing CA of any other shape than newGeneration's.
func ours(c *x509.Certificate) error {
	wrong := func(what string) error { return fmt.Errorf("%w: %s", errForeign, what) }
	key, _ := c.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !strings.HasPrefix(c.Subject.CommonName, issuingName):
		return wrong("another name")
	case key == nil || key.Curve != elliptic.P256():
		return wrong("another kind of key")
	case !c.IsCA || !c.MaxPathLenZero || c.KeyUsage != x509.KeyUsageCertSign:
		return wrong("another CA could be signed by it")
	case !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || len(c.UnknownExtKeyUsage) > 0:
		return wrong("more than servers could be signed for")
	case c.NotAfter.Sub(c.NotBefore) > persistentLife+2*slack:
		return wrong("it lasts too long")
	case !c.PermittedDNSDomainsCritical || len(c.PermittedDNSDomains) == 0 || !addressesHeld(c):
		return wrong("its name constraints are missing or too wide")
	case len(c.PermittedEmailAddresses)+len(c.PermittedURIDomains) > 0:
		return wrong("its name constraints permit more than hosts")
	}
	for _, d := range c.PermittedDNSDomains {
		if !isName(d) {
			return wrong(fmt.Sprintf("it permits %q", d))
		}
	}
	return nil
}

// addressesHeld tells whether c signs for no address, or for those of loopback
// alone.
func addressesHeld(c *x509.Certificate) bool {
	if len(c.PermittedIPRanges) > 0 {
		return len(c.ExcludedIPRanges) == 0 && slices.Equal(networks(c.PermittedIPRanges), networks(loopbackRanges()))
	}
	return slices.Equal(networks(c.ExcludedIPRanges), networks(everyAddress()))
}

func networks(all []*net.IPNet) []string {
	var out []string
	for _, n := range all {
		out = append(out, n.String())
	}
	slices.Sort(out)
	return out
}

// belong refuses a root and a key that are not the issuing CA's.
func (g *generation) belong() error {
	switch {
	case g.root == nil:
		return fmt.Errorf("%s has no root of %q", rootFile, g.issuing.Subject.CommonName)
	case g.key == nil:
		return fmt.Errorf("%s has no key of %q", keyFile, g.issuing.Subject.CommonName)
	}
	return nil
}
