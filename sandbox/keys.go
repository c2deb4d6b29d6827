package sandbox

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // x5t is a SHA-1 thumbprint by definition, RFC 7517 §4.8
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// signer holds an RSA key with the self-signed certificate that names it, as
// Entra publishes its keys.
type signer struct {
	key *rsa.PrivateKey
	kid string
	der []byte
}

// newSigner makes a 2048-bit key.
func newSigner(name string, now time.Time) (*signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(5, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing certificate: %w", err)
	}
	sum := sha1.Sum(der) //nolint:gosec // see the import
	return &signer{key: key, kid: base64.RawURLEncoding.EncodeToString(sum[:]), der: der}, nil
}

// sign returns claims as a compact RS256 JWT with kid and x5t.
func (s *signer) sign(claims jwt.MapClaims) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	t.Header["kid"], t.Header["x5t"] = s.kid, s.kid
	return t.SignedString(s.key)
}

// jwk is one key of a key set (RFC 7517), as far as RSA needs it.
type jwk struct {
	Kty    string   `json:"kty"`
	Use    string   `json:"use"`
	Alg    string   `json:"alg,omitempty"`
	Kid    string   `json:"kid"`
	X5t    string   `json:"x5t,omitempty"`
	N      string   `json:"n"`
	E      string   `json:"e"`
	X5c    []string `json:"x5c,omitempty"`
	Issuer string   `json:"issuer,omitempty"`
}

type keySet struct {
	Keys []jwk `json:"keys"`
}

// published returns the public half as a key set.
func (s *signer) published(issuer string) keySet {
	return keySet{Keys: []jwk{{
		Kty: "RSA", Use: "sig", Kid: s.kid, X5t: s.kid, Issuer: issuer,
		N:   base64.RawURLEncoding.EncodeToString(s.key.N.Bytes()),
		E:   base64.RawURLEncoding.EncodeToString(big.NewInt(int64(s.key.E)).Bytes()),
		X5c: []string{base64.StdEncoding.EncodeToString(s.der)},
	}}}
}

var errKeySet = errors.New("key set has no usable RSA key")

// parseKeySet returns the RSA signing keys of a published key set by their kid.
// Keys of other kinds are passed over; a set without any is an error.
func parseKeySet(doc []byte) (map[string]*rsa.PublicKey, error) {
	var set keySet
	if err := json.Unmarshal(doc, &set); err != nil {
		return nil, fmt.Errorf("%w: %w", errKeySet, err)
	}
	keys := map[string]*rsa.PublicKey{}
	for _, k := range set.Keys {
		n, errN := base64.RawURLEncoding.DecodeString(k.N)
		e, errE := base64.RawURLEncoding.DecodeString(k.E)
		if k.Kty != "RSA" || (k.Use != "" && k.Use != "sig") || errN != nil || errE != nil || len(n) < 256 || len(e) == 0 || len(e) > 4 {
			continue
		}
		keys[k.Kid] = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	}
	if len(keys) == 0 {
		return nil, errKeySet
	}
	return keys, nil
}

// errNoKey is the verdict on a token whose key is not in the set.
var errNoKey = errors.New("no key with that kid")

// verifyRS256 checks the signature of raw by the key that its kid names, and
// returns its claims, numbers as [json.Number]. Times and audience are left to
// the caller, who has its own words for each.
func verifyRS256(raw string, keys map[string]*rsa.PublicKey) (jwt.MapClaims, error) {
	claims := jwt.MapClaims{}
	p := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation(), jwt.WithJSONNumber())
	_, err := p.ParseWithClaims(raw, claims, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		key, ok := keys[kid]
		if !ok {
			return nil, errNoKey
		}
		return key, nil
	})
	return claims, err
}

// text returns the claim of that name if it is a string, else "".
func text(claims jwt.MapClaims, name string) string {
	s, _ := claims[name].(string)
	return s
}

// seconds returns the numeric date of that name. Strings of digits pass too:
// MSAL.NET writes its assertions so. ok is false if there is none.
func seconds(claims jwt.MapClaims, name string) (t time.Time, ok bool) {
	var n json.Number
	switch v := claims[name].(type) {
	case json.Number:
		n = v
	case string:
		n = json.Number(v)
	default:
		return time.Time{}, false
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f > 1e11 {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}

// keyOf returns the certificate's public key. That of a certificate whose
// algorithm is RSASSA-PSS (RFC 4055 §1.2) crypto/x509 leaves nil.
func keyOf(cert *x509.Certificate) crypto.PublicKey {
	if cert.PublicKey != nil {
		return cert.PublicKey
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	pss := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &info); err != nil || !info.Algorithm.Algorithm.Equal(pss) {
		return nil
	}
	key, err := x509.ParsePKCS1PublicKey(info.Key.RightAlign())
	if err != nil {
		return nil
	}
	return key
}
