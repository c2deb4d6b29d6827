package authority

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the portal names certificates by it; nothing is proven with it
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/seed-13b04e61/gateway/routes"
)

const (
	// assertionLifetime is how long a signed assertion may be used.
	// Microsoft's documents ask for 5 to 10 minutes, its libraries use 10.
	assertionLifetime = 10 * time.Minute
	// minimumBits is the smallest RSA modulus that is accepted.
	minimumBits = 2048
	// expiryWarning and expiryAlarm are how long before its end a certificate
	// is worth a finding, and a loud one.
	expiryWarning = 30 * 24 * time.Hour
	expiryAlarm   = 7 * 24 * time.Hour
)

// Leaf describes the certificate that proves a credential.
type Leaf struct {
	Subject             string
	NotBefore, NotAfter time.Time
	SHA1                string // thumbprint in upper-case hex, as the portal shows it
	SHA256              string // the same of SHA-256
}

// certificateProver signs an assertion for each request: a signature costs a
// millisecond or two and a token lives for an hour.
type certificateProver struct {
	clientID string
	key      *rsa.PrivateKey
	leaf     Leaf
	x5t      string // base64url of the leaf's SHA-256, unpadded
}

func (id *identity) loadCertificate(now time.Time) ([]Finding, error) {
	c := &id.credential
	id.kind = kindCertificate
	key, leaf, err := readPair(c.ClientCertificate)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(leaf.Raw)
	info := Leaf{
		Subject:   leaf.Subject.String(),
		NotBefore: leaf.NotBefore,
		NotAfter:  leaf.NotAfter,
		SHA1:      fmt.Sprintf("%X", sha1.Sum(leaf.Raw)), //nolint:gosec // see the import
		SHA256:    fmt.Sprintf("%X", sum),
	}
	if err := info.check(now); err != nil {
		return nil, err
	}
	id.leaf = &info
	id.prover = certificateProver{
		clientID: c.ClientID,
		key:      key,
		leaf:     info,
		x5t:      base64.RawURLEncoding.EncodeToString(sum[:]),
	}
	id.fingerprint = id.fingerprintOf(hex.EncodeToString(sum[:]))

	var findings []Finding
	if left := info.NotAfter.Sub(now); left < expiryWarning {
		f := id.warning(
			fmt.Sprintf("the certificate expires in %s, on %s", brief(left), day(info.NotAfter)),
			"create a new one, upload it under Certificates & secrets, then replace the file")
		f.Alarm = left < expiryAlarm
		findings = append(findings, f)
	}
	if !c.ClientCertificate.Password.IsZero() {
		findings = append(findings, id.warning("the certificate's password is not used: the key is not encrypted",
			"take the password out of the configuration"))
	}
	return findings, nil
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
// exact token endpoint as the one audience. aud is a plain string on purpose:
// jwt.RegisteredClaims would write an array.
func (p certificateProver) prove(_ context.Context, to target) (proof, error) {
	now := time.Now()
	if err := p.leaf.check(now); err != nil {
		return proof{}, err
	}
	token := jwt.NewWithClaims(jwt.SigningMethodPS256, jwt.MapClaims{
		"aud": to.endpoint,
		"iss": p.clientID,
		"sub": p.clientID,
		"jti": uuid.NewString(),
		"nbf": now.Unix(),
		"iat": now.Unix(),
		"exp": now.Add(assertionLifetime).Unix(),
	})
	token.Header["x5t#S256"] = p.x5t
	assertion, err := token.SignedString(p.key)
	if err != nil {
		return proof{}, &trouble{what: "the assertion cannot be signed", remedy: "check the private key", cause: err}
	}
	facts := fmt.Sprintf("certificate sent: SHA-1 thumbprint %s, SHA-256 %s, subject %s, valid until %s",
		p.leaf.SHA1, p.leaf.SHA256, p.leaf.Subject, day(p.leaf.NotAfter))
	return assertionProof(p.clientID, assertion, facts), nil
}

// readPair returns the private key and the certificate that belongs to it,
// wherever in the file that stands.
func readPair(c *routes.Certificate) (*rsa.PrivateKey, *x509.Certificate, error) {
	inFile, err := readPEM(c.File)
	if err != nil {
		return nil, nil, err
	}
	keyName, keys := c.File, inFile.keys
	if c.KeyFile != "" {
		apart, err := readPEM(c.KeyFile)
		if err != nil {
			return nil, nil, err
		}
		keyName, keys = c.KeyFile, apart.keys
	}
	if len(inFile.certificates) == 0 {
		return nil, nil, &trouble{what: c.File + " holds no certificate", remedy: "put the certificate there as PEM, with the key or with key_file beside it"}
	}
	if len(keys) != 1 {
		return nil, nil, &trouble{
			what:   fmt.Sprintf("%s holds %d private keys", keyName, len(keys)),
			remedy: "put exactly one PEM private key there, or name its file under key_file",
		}
	}
	key, err := rsaKey(keys[0])
	if err != nil {
		return nil, nil, &trouble{what: keyName, remedy: "Entra takes RSA keys of at least 2048 bits: create one, as PKCS#8 or PKCS#1", cause: err}
	}
	for _, leaf := range inFile.certificates {
		if key.PublicKey.Equal(leaf.PublicKey) {
			return key, leaf, nil
		}
	}
	return nil, nil, &trouble{
		what:   fmt.Sprintf("the key in %s does not belong to the certificate in %s", keyName, c.File),
		remedy: "replace both files together, with a certificate and the key that it was made for",
	}
}

// pemFile is the content of a PEM file that matters here.
type pemFile struct {
	certificates []*x509.Certificate
	keys         []*pem.Block
}

func readPEM(path string) (pemFile, error) {
	rest, err := readFile(path)
	if err != nil {
		return pemFile{}, &trouble{what: "client_certificate cannot be read", remedy: "name a readable PEM file", cause: err}
	}
	if !bytes.Contains(rest, []byte("-----BEGIN ")) {
		return pemFile{}, notPEM(path, rest)
	}
	var out pemFile
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out, nil
		}
		switch {
		case block.Type == "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return pemFile{}, &trouble{what: path + " holds a damaged certificate", remedy: "export it again, as PEM", cause: err}
			}
			out.certificates = append(out.certificates, cert)
		case block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return pemFile{}, &trouble{
				what:   "the private key in " + path + " is encrypted, which is not supported",
				remedy: "decrypt it into a file that the gateway alone may read: openssl pkey -in encrypted.pem -out key.pem",
			}
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			out.keys = append(out.keys, block)
		}
	}
}

// notPEM tells the formats apart that are met where PEM is wanted.
func notPEM(path string, content []byte) error {
	switch {
	case len(content) == 0:
		return &trouble{what: path + " is empty", remedy: "put the certificate and its key there, as PEM"}
	case content[0] != 0x30: // not a DER sequence
		return &trouble{what: path + " is not PEM", remedy: "export the certificate and its key as PEM"}
	}
	if _, err := x509.ParseCertificate(content); err == nil {
		return &trouble{
			what:   path + " is a certificate as DER, without a key",
			remedy: "convert it: openssl x509 -inform DER -in app.cer -out app.pem; the key goes into key_file",
		}
	}
	return &trouble{
		what:   path + " looks like PKCS#12 (PFX), which is not supported yet",
		remedy: "convert it: openssl pkcs12 -in app.pfx -out app.pem -nodes, then name app.pem",
	}
}

// rsaKey parses PKCS#8 or PKCS#1.
func rsaKey(block *pem.Block) (*rsa.PrivateKey, error) {
	var parsed any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("%s is not an RSA key", strings.ToLower(block.Type))
	}
	if err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T is not an RSA key", parsed)
	}
	if bits := key.N.BitLen(); bits < minimumBits {
		return nil, fmt.Errorf("the RSA key has %d bits, fewer than %d", bits, minimumBits)
	}
	return key, nil
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
