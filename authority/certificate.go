package authority

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the portal names certificates by it; nothing is proven with it
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
)

// assertionLifetime is how long an assertion for Entra may be used.
// Microsoft's documents ask for 5 to 10 minutes, its libraries use 10.
const assertionLifetime = 10 * time.Minute

// Leaf describes the certificate that proves a credential.
type Leaf struct {
	Subject             string
	NotBefore, NotAfter time.Time
	SHA1                string // thumbprint in upper-case hex, as the portal shows it
	SHA256              string // the same of SHA-256
	X5TS256             string // the SHA-256 in unpadded base64url, as assertions name it (RFC 7515 §4.1.8)
}

// certificateProver signs an assertion for each request: a signature costs a
// millisecond or two and a token lives for an hour.
type certificateProver struct {
	clientID string
	key      privateKey
	leaf     Leaf
	x5t      string         // base64url of the leaf's SHA-1, unpadded
	chain    []string       // x5c; nil sends none
	claims   map[string]any // of the operator
	pkcs1    *atomic.Bool   // the signer was found unable to do PSS
}

func (id *identity) loadCertificate(now time.Time) ([]Finding, error) {
	c := &id.credential
	id.kind = kindCertificate
	pw := &password{ref: c.ClientCertificate.Password}
	files, err := readPair(c.ClientCertificate, pw)
	if err != nil {
		return nil, err
	}
	leaf := files.leaf
	old, sum := sha1.Sum(leaf.Raw), sha256.Sum256(leaf.Raw) //nolint:gosec // see the import
	info := Leaf{
		Subject:   leaf.Subject.String(),
		NotBefore: leaf.NotBefore,
		NotAfter:  leaf.NotAfter,
		SHA1:      fmt.Sprintf("%X", old),
		SHA256:    fmt.Sprintf("%X", sum),
		X5TS256:   base64.RawURLEncoding.EncodeToString(sum[:]),
	}
	if err := info.check(now); err != nil {
		return nil, err
	}
	p := &certificateProver{
		clientID: c.ClientID,
		key:      files.key,
		leaf:     info,
		x5t:      base64.RawURLEncoding.EncodeToString(old[:]),
		claims:   c.AssertionClaims,
		pkcs1:    new(atomic.Bool),
	}
	if c.ClientCertificate.SendChain {
		p.chain = chainOf(leaf, files.others)
	}
	extra, err := describeClaims(c.AssertionClaims)
	if err != nil {
		return nil, err
	}
	id.leaf, id.prover = &info, p
	id.fingerprint = id.fingerprintOf(hex.EncodeToString(sum[:]) + extra)

	findings := id.expiry(info, now)
	if !pw.ref.IsZero() && !pw.used {
		findings = append(findings, id.warning("the certificate's password is not used: the key is not encrypted",
			"take the password out of the configuration"))
	}
	return findings, nil
}

// describeClaims is the operator's claims as one text, "" for none.
func describeClaims(claims map[string]any) (string, error) {
	if len(claims) == 0 {
		return "", nil
	}
	text, err := json.Marshal(claims)
	if err != nil {
		return "", &trouble{what: "assertion_claims cannot be written as JSON", remedy: "use text, numbers, booleans, lists and mappings there"}
	}
	return string(text), nil
}

// expiryStages are how many days before a certificate's end it is worth
// another word, and from which on it is an alarm.
var expiryStages = [...]struct {
	days  int
	alarm bool
	do    string
}{
	{1, true, "replace it today: create a new one, upload it under Certificates & secrets, then replace the file"},
	{7, true, "replace it this week: create a new one, upload it under Certificates & secrets, then replace the file"},
	{14, false, "create a new one and upload it under Certificates & secrets now, then replace the file"},
	{30, false, "create a new one, upload it under Certificates & secrets, then replace the file"},
}

// expiry announces the end of a certificate.
func (id *identity) expiry(l Leaf, now time.Time) []Finding {
	left := l.NotAfter.Sub(now)
	for _, stage := range expiryStages {
		if left > time.Duration(stage.days)*24*time.Hour {
			continue
		}
		f := id.warning(fmt.Sprintf("the certificate expires in %s, on %s", brief(left), day(l.NotAfter)), stage.do)
		f.Alarm = stage.alarm
		return []Finding{f}
	}
	return nil
}

// check refuses a certificate outside its dates, which Entra would
// (AADSTS1000502), even though its key still works.
func (l Leaf) check(now time.Time) error {
	switch {
	case now.After(l.NotAfter):
		return &trouble{
			what:   fmt.Sprintf("the certificate expired %s ago, on %s", brief(now.Sub(l.NotAfter)), day(l.NotAfter)),
			remedy: "create a new one, upload it under Certificates & secrets, then replace the file",
		}
	case now.Before(l.NotBefore):
		return &trouble{
			what:   fmt.Sprintf("the certificate is not valid before %s", l.NotBefore.UTC().Format(time.RFC3339)),
			remedy: "wait for it, or check this machine's clock",
		}
	}
	return nil
}

// prove signs as Entra wants it now: PS256, the leaf named by x5t#S256, the
// exact token endpoint as the one audience. AD FS and signers that cannot do
// PSS get RS256 and x5t, which Entra takes too.
func (p *certificateProver) prove(_ context.Context, to target) (proof, error) {
	now := time.Now()
	if err := p.leaf.check(now); err != nil {
		return proof{}, err
	}
	claims := assertionClaims(p.clientID, to.endpoint, p.claims, lifetime{now, assertionLifetime})
	assertion, a, err := p.sign(claims, adfs(to.endpoint))
	if err != nil {
		return proof{}, &trouble{what: "the assertion cannot be signed", remedy: "check the private key", cause: err}
	}
	facts := fmt.Sprintf("certificate sent: SHA-1 thumbprint %s, SHA-256 %s (x5t#S256 %s), subject %s, valid until %s, signed by %s",
		p.leaf.SHA1, p.leaf.SHA256, p.leaf.X5TS256, p.leaf.Subject, day(p.leaf.NotAfter), a.name)
	return assertionProof(p.clientID, assertion, facts), nil
}

// errNoPKCS1 is why a key for PSS is of no use with AD FS.
var errNoPKCS1 = errors.New("AD FS takes RS256 only, which a key for RSASSA-PSS cannot do")

// sign tries PSS first. A signer that fails it and then does PKCS #1 v1.5 is
// not asked for PSS again.
func (p *certificateProver) sign(claims map[string]any, old bool) (string, algorithm, error) {
	if old && p.key.pss {
		return "", algorithm{}, errNoPKCS1
	}
	var failed error
	if !old && !p.pkcs1.Load() {
		assertion, err := signJWT(p.key.signer, ps256, p.header("x5t#S256", p.leaf.X5TS256), claims)
		if err == nil || p.key.pss {
			return assertion, ps256, err
		}
		failed = err
	}
	assertion, err := signJWT(p.key.signer, rs256, p.header("x5t", p.x5t), claims)
	if err != nil {
		return "", rs256, errors.Join(failed, err)
	}
	if failed != nil {
		p.pkcs1.Store(true)
	}
	return assertion, rs256, nil
}

func (p *certificateProver) header(name, thumbprint string) map[string]any {
	h := map[string]any{name: thumbprint}
	if p.chain != nil {
		h["x5c"] = p.chain
	}
	return h
}

// adfs tells whether a token endpoint is that of Active Directory Federation
// Services, whose path begins with /adfs.
func adfs(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return strings.EqualFold(first, "adfs")
}

// pairOfFiles is what the files of a certificate credential hold.
type pairOfFiles struct {
	key    privateKey
	leaf   *x509.Certificate
	others []*x509.Certificate
}

// readPair returns the private key and the certificate that belongs to it,
// wherever in the file that stands.
func readPair(c *routes.Certificate, pw *password) (pairOfFiles, error) {
	inFile, err := readBundle("client_certificate", c.File, pw)
	if err != nil {
		return pairOfFiles{}, err
	}
	keyName, keys := c.File, inFile.keys
	if c.KeyFile != "" {
		apart, err := readBundle("client_certificate.key_file", c.KeyFile, pw)
		if err != nil {
			return pairOfFiles{}, err
		}
		keyName, keys = c.KeyFile, apart.keys
	}
	if len(inFile.certificates) == 0 {
		return pairOfFiles{}, &trouble{what: c.File + " holds no certificate", remedy: "put the certificate there as PEM, with the key or with key_file beside it"}
	}
	key, err := onlyKey(keyName, keys, pw)
	if err == nil {
		err = fitForEntra(key)
	}
	if t, ok := errors.AsType[*trouble](err); ok {
		return pairOfFiles{}, t
	}
	if err != nil {
		return pairOfFiles{}, &trouble{what: keyName, remedy: "Entra takes RSA keys of at least 2048 bits: create one, as PKCS#8 or PKCS#1", cause: err}
	}
	return match(c.File, keyName, key, inFile.certificates)
}

// fitForEntra refuses keys that Entra does.
func fitForEntra(key privateKey) error {
	if _, ok := key.signer.Public().(*rsa.PublicKey); !ok {
		return fmt.Errorf("a key of type %s is not an RSA key", key.describe())
	}
	if key.pssHash != 0 && key.pssHash != crypto.SHA256 {
		return errors.New("the key is restricted to PSS with another hash than SHA-256")
	}
	return key.strong()
}

// match finds the certificate of key, the leaf.
func match(certFile, keyFile string, key privateKey, certs []*x509.Certificate) (pairOfFiles, error) {
	public, _ := key.signer.Public().(*rsa.PublicKey) // seen by fitForEntra
	for i, leaf := range certs {
		of, pss := publicKeyOf(leaf)
		if public == nil || of == nil || !public.Equal(of) {
			continue
		}
		key.pss = key.pss || pss
		others := append(append([]*x509.Certificate(nil), certs[:i]...), certs[i+1:]...)
		return pairOfFiles{key: key, leaf: leaf, others: others}, nil
	}
	return pairOfFiles{}, &trouble{
		what:   fmt.Sprintf("the key in %s does not belong to the certificate in %s", keyFile, certFile),
		remedy: "replace both files together, with a certificate and the key that it was made for",
	}
}

// chainOf is x5c (RFC 7515 §4.1.6): the leaf and then each one's issuer, as
// standard base64, without the root, which the receiver has or does not trust.
func chainOf(leaf *x509.Certificate, others []*x509.Certificate) []string {
	chain := []string{base64.StdEncoding.EncodeToString(leaf.Raw)}
	for range others {
		issuer := issuerOf(leaf, others)
		if issuer == nil || selfSigned(issuer) {
			break
		}
		chain = append(chain, base64.StdEncoding.EncodeToString(issuer.Raw))
		leaf = issuer
	}
	return chain
}

func issuerOf(cert *x509.Certificate, among []*x509.Certificate) *x509.Certificate {
	if selfSigned(cert) {
		return nil
	}
	for _, candidate := range among {
		if string(candidate.RawSubject) == string(cert.RawIssuer) && cert.CheckSignatureFrom(candidate) == nil {
			return candidate
		}
	}
	return nil
}

func selfSigned(cert *x509.Certificate) bool {
	return string(cert.RawSubject) == string(cert.RawIssuer)
}

// brief writes a duration as a person would say it: one unit, rounded down.
func brief(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours())/24)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
