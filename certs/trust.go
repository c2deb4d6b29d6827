package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// trust is by whom callers' certificates may be issued and which of them were
// revoked. It is immutable; sum tells whether two were read from the same.
type trust struct {
	pool  *x509.CertPool // nil: callers are asked for none
	cas   []*x509.Certificate
	lists []revocations // nil: nothing is revoked
	sum   [sha256.Size]byte
}

// revocations is what one CA has revoked (RFC 5280 §5).
type revocations struct {
	signer  *x509.Certificate
	serials map[string]bool // by [serial]
	from    time.Time
	until   time.Time // not to be believed afterwards
}

// readTrust reads the CAs and their lists together, so that there are never
// CAs whose lists are yet to come (stripe/smokescreen#293).
func readTrust(caFile, crlFile string) (*trust, error) {
	if caFile == "" {
		return &trust{}, nil
	}
	cas, err := readCertificates("client_ca_file", caFile)
	if err != nil {
		return nil, err
	}
	t := &trust{pool: x509.NewCertPool(), cas: cas}
	sum := sha256.New()
	defer func() { sum.Sum(t.sum[:0]) }()
	now, valid := time.Now(), false
	for _, c := range cas {
		if !c.IsCA {
			return nil, fmt.Errorf("listen.tls.client_ca_file: %q in %s is no CA certificate; name the CA that issues callers' certificates, not the certificates", c.Subject, caFile)
		}
		valid = valid || now.Before(c.NotAfter)
		t.pool.AddCert(c)
		sum.Write(c.Raw)
	}
	if !valid {
		return nil, fmt.Errorf("listen.tls.client_ca_file: every CA certificate in %s has expired; put a current one in place", caFile)
	}
	if crlFile == "" {
		return t, nil
	}
	b, err := readFile(ownSection+".client_crl_file", crlFile, maxCRL)
	if err != nil {
		return nil, err
	}
	if t.lists, err = parseLists(b, cas, now); err != nil {
		return nil, fmt.Errorf("listen.tls.client_crl_file: %s: %w", crlFile, err)
	}
	sum.Write(b)
	return t, nil
}

// parseLists reads revocation lists, PEM or DER, each of which one of cas must
// have signed and which must be current. Of several by one CA the newest counts.
func parseLists(b []byte, cas []*x509.Certificate, now time.Time) ([]revocations, error) {
	var ders [][]byte
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "X509 CRL" {
			ders = append(ders, block.Bytes)
		}
	}
	if len(ders) == 0 {
		if len(b) == 0 || b[0] != 0x30 { // a DER sequence
			return nil, fmt.Errorf("it holds no revocation list; put the CA's list there, as PEM or DER")
		}
		ders = [][]byte{b}
	}
	var out []revocations
	for _, der := range ders {
		l, err := parseList(der, cas)
		if err != nil {
			return nil, err
		}
		out = newest(out, l)
	}
	for _, l := range out {
		switch {
		case now.Before(l.from):
			return nil, fmt.Errorf("the list of CA %q is valid only from %s; put the current one in place, or set this machine's clock", l.signer.Subject, day(l.from))
		case !now.Before(l.until):
			return nil, l.expired()
		}
	}
	return out, nil
}

func parseList(der []byte, cas []*x509.Certificate) (revocations, error) {
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return revocations{}, fmt.Errorf("a list is damaged: %w; fetch it again", err)
	}
	// Delta and indirect lists and those of one kind of certificate are marked
	// by critical extensions, and must not be used by who does not know them
	// (RFC 5280 §5.2).
	for _, x := range crl.Extensions {
		if x.Critical {
			return revocations{}, fmt.Errorf("the list of %q has the critical extension %s, which is not supported; use the CA's complete list", crl.Issuer, x.Id)
		}
	}
	if crl.NextUpdate.IsZero() {
		return revocations{}, fmt.Errorf("the list of %q does not say when the next is due (nextUpdate); have the CA issue one that does", crl.Issuer)
	}
	l := revocations{serials: make(map[string]bool, len(crl.RevokedCertificateEntries)), from: crl.ThisUpdate, until: crl.NextUpdate}
	for _, ca := range cas {
		if bytes.Equal(ca.RawSubject, crl.RawIssuer) && crl.CheckSignatureFrom(ca) == nil {
			l.signer = ca
			break
		}
	}
	if l.signer == nil {
		return revocations{}, fmt.Errorf("no CA of client_ca_file signed the list of %q; add the CA that did, or take the list out", crl.Issuer)
	}
	for _, e := range crl.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Critical {
				return revocations{}, fmt.Errorf("an entry of the list of %q has the critical extension %s, which is not supported; use the CA's own list", crl.Issuer, x.Id)
			}
		}
		l.serials[serial(e.SerialNumber)] = true
	}
	return l, nil
}

// newest adds l to out unless there is a newer list of its CA.
func newest(out []revocations, l revocations) []revocations {
	for i, other := range out {
		if sameCA(other.signer, l.signer) {
			if l.from.After(other.from) {
				out[i] = l
			}
			return out
		}
	}
	return append(out, l)
}

func (l revocations) expired() error {
	return fmt.Errorf("the list of CA %q ended %s; put a current one in place", l.signer.Subject, day(l.until))
}

// serial is the key of a serial number.
func serial(n *big.Int) string { return n.Text(16) }

// sameCA tells whether two certificates are of one CA: its name and its key,
// however often the certificate was renewed.
func sameCA(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubject, b.RawSubject) && bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

// unlisted names the CAs without a list, if there are lists at all.
func (t *trust) unlisted() []string {
	var out []string
	for _, ca := range t.cas {
		if t.lists != nil && t.listOf(ca) == nil {
			out = append(out, ca.Subject.String())
		}
	}
	return out
}

func (t *trust) listOf(ca *x509.Certificate) *revocations {
	for i := range t.lists {
		if sameCA(t.lists[i].signer, ca) {
			return &t.lists[i]
		}
	}
	return nil
}

// check refuses chains, those of one certificate, when anything in any of them
// was revoked, or when in none of them each issuer's list is there and current.
// The text is for the log.
func (t *trust) check(chains [][]*x509.Certificate, now time.Time) error {
	if t.lists == nil {
		return nil
	}
	err := fmt.Errorf("client certificate: there is no verified chain")
	for _, chain := range chains {
		for _, c := range chain {
			if t.revoked(c) {
				return fmt.Errorf("client certificate: %q, serial %s, was revoked by %q", c.Subject, serial(c.SerialNumber), c.Issuer)
			}
		}
	}
	for _, chain := range chains {
		if err = t.covered(chain, now); err == nil {
			return nil
		}
	}
	return err
}

// revoked tells whether c's issuer lists it. The signature matters: another CA
// may have the same name.
func (t *trust) revoked(c *x509.Certificate) bool {
	for _, l := range t.lists {
		if bytes.Equal(l.signer.RawSubject, c.RawIssuer) && l.serials[serial(c.SerialNumber)] && c.CheckSignatureFrom(l.signer) == nil {
			return true
		}
	}
	return false
}

// covered tells whether every issuer of chain has a list that is current.
func (t *trust) covered(chain []*x509.Certificate, now time.Time) error {
	for _, issuer := range chain[1:] {
		l := t.listOf(issuer)
		switch {
		case l == nil:
			return fmt.Errorf("client certificate: client_crl_file has no list of %q; add it", issuer.Subject)
		case !now.Before(l.until):
			return fmt.Errorf("client certificate: client_crl_file: %w", l.expired())
		}
	}
	return nil
}

// verify judges a certificate that was accepted by an earlier handshake anew.
func (t *trust) verify(peer []*x509.Certificate, now time.Time) error {
	if t.pool == nil {
		return fmt.Errorf("client certificate: none is asked for any more")
	}
	between := x509.NewCertPool()
	for _, c := range peer[1:] {
		between.AddCert(c)
	}
	chains, err := peer[0].Verify(x509.VerifyOptions{
		Roots: t.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return fmt.Errorf("client certificate: %w", err)
	}
	return t.check(chains, now)
}
