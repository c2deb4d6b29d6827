package sandbox

import (
	"crypto/sha1" //nolint:gosec // x5t is a SHA-1 thumbprint by definition, RFC 7515 §4.1.7
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// maxChain bounds the certificates of an x5c header.
const maxChain = 10

// subjectIssuer lets every certificate in that has this name and chains to
// this issuer.
type subjectIssuer struct {
	subject string
	issuer  *x509.Certificate
}

// AllowSubjectIssuer lets any certificate speak for the app whose common name
// or DNS name is subject and whose chain, sent in x5c, ends at issuer. The real
// service does so for applications of Microsoft alone; an app for which it was
// not allowed gets AADSTS700030 for a certificate that is not registered.
func (e *Entra) AllowSubjectIssuer(clientID, subject string, issuer *x509.Certificate) error {
	if subject == "" || issuer == nil {
		return fmt.Errorf("%w: subject %q", ErrName, subject)
	}
	return e.change(clientID, func(a *app) { a.issuers = append(a.issuers, subjectIssuer{subject, issuer}) })
}

// chain returns the certificates of the header x5c, leaf first, nil if there
// is no such header. It is a list of padded standard base64 (RFC 7515 §4.1.6),
// and its leaf has to be the one that the thumbprint names.
func chain(t *jwt.Token, sum []byte) ([]*x509.Certificate, *refusal) {
	header, ok := t.Header["x5c"]
	if !ok {
		return nil, nil
	}
	list, ok := header.([]any)
	if !ok || len(list) == 0 || len(list) > maxChain {
		return nil, badJWT()
	}
	var certs []*x509.Certificate
	for _, one := range list {
		s, _ := one.(string)
		der, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return nil, badJWT()
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, badJWT()
		}
		certs = append(certs, c)
	}
	s256, s1 := sha256.Sum256(certs[0].Raw), sha1.Sum(certs[0].Raw) //nolint:gosec // see the import
	if !slices.Equal(sum, s256[:]) && !slices.Equal(sum, s1[:]) {
		return nil, badSignature("The thumbprint is not that of the first certificate in x5c.", certs[0])
	}
	return certs, nil
}

// bySubject returns the leaf of a chain that the app's subject-name/issuer
// rules let in.
func (a *app) bySubject(x *exchange, certs []*x509.Certificate) (*x509.Certificate, *refusal) {
	leaf := certs[0]
	names := append([]string{leaf.Subject.CommonName}, leaf.DNSNames...)
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	named := false
	for _, rule := range a.issuers {
		if !slices.Contains(names, rule.subject) {
			continue
		}
		named = true
		roots := x509.NewCertPool()
		roots.AddCert(rule.issuer)
		if _, err := leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: between, CurrentTime: x.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		}); err == nil {
			return leaf, nil
		}
	}
	if named {
		return nil, refuse("invalid_client", 7000277, "The certificate used to sign the client assertion does not chain to a trusted issuer.")
	}
	return nil, refuse("invalid_client", 700030,
		"Invalid certificate - subject name in certificate is not authorized. "+
			"SubjectNames/SubjectAlternativeNames (up to 10) in token certificate are: %s.", clip(strings.Join(names[:min(len(names), 10)], ", "), 512))
}

// maxAssertions bounds what [Entra.Assertions] remembers.
const maxAssertions = 256

// An Assertion is one of an app's own that was verified and accepted.
type Assertion struct {
	ClientID string
	Header   map[string]any
	Claims   map[string]any // numbers are [encoding/json.Number]
}

// Assertions returns the latest assertions signed by an app's certificate that
// were accepted, oldest first: what a test of extra claims looks at.
func (e *Entra) Assertions() []Assertion {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return slices.Clone(e.accepted)
}

// remember keeps an accepted assertion.
func (e *Entra) remember(t *jwt.Token, claims jwt.MapClaims, a *app) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.accepted) >= maxAssertions {
		e.accepted = slices.Clone(e.accepted[maxAssertions/2:])
	}
	e.accepted = append(e.accepted, Assertion{ClientID: a.id, Header: maps.Clone(t.Header), Claims: maps.Clone(claims)})
}
