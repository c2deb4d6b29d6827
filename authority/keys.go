package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// minimumBits is the smallest RSA modulus that is accepted.
const minimumBits = 2048

// privateKey is a key that signs assertions.
type privateKey struct {
	signer  crypto.Signer
	pss     bool        // an RSA key whose algorithm identifier allows PSS only
	pssHash crypto.Hash // the only hash that it allows; 0: any
}

// describe says what kind of key k is.
func (k privateKey) describe() string {
	switch public := k.signer.Public().(type) {
	case *rsa.PublicKey:
		if k.pss {
			return fmt.Sprintf("RSA-PSS, %d bits", public.N.BitLen())
		}
		return fmt.Sprintf("RSA, %d bits", public.N.BitLen())
	case *ecdsa.PublicKey:
		return public.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return fmt.Sprintf("%T", k.signer)
}

// parseKey reads a PEM block that is not encrypted: PKCS#8 (RFC 5208), PKCS#1
// (RFC 8017) or SEC1 (RFC 5915).
func parseKey(block *pem.Block) (privateKey, error) {
	var parsed any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		if key, ok, err := parsePSS(block.Bytes); ok {
			return key, err
		}
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return privateKey{}, fmt.Errorf("a key of type %s is not supported", strings.ToLower(block.Type))
	}
	if err != nil {
		return privateKey{}, fmt.Errorf("parse private key: %w", err)
	}
	return newKey(parsed)
}

// newKey takes what the parsers of the standard library return.
func newKey(parsed any) (privateKey, error) {
	switch key := parsed.(type) {
	case *rsa.PrivateKey:
		return privateKey{signer: key}, nil
	case *ecdsa.PrivateKey:
		return privateKey{signer: key}, nil
	case ed25519.PrivateKey:
		return privateKey{signer: key}, nil
	}
	return privateKey{}, fmt.Errorf("a key of type %T cannot sign", parsed)
}

// strong refuses RSA keys that no server should take any more.
func (k privateKey) strong() error {
	if public, ok := k.signer.Public().(*rsa.PublicKey); ok && public.N.BitLen() < minimumBits {
		return fmt.Errorf("the RSA key has %d bits, fewer than %d", public.N.BitLen(), minimumBits)
	}
	return nil
}

// oidPSS is id-RSASSA-PSS (RFC 4055 §3.1), which crypto/x509 does not read as
// the algorithm of a key.
var oidPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}

// pssHashes are the hashes that PSS may be restricted to here.
var pssHashes = map[string]crypto.Hash{
	"2.16.840.1.101.3.4.2.1": crypto.SHA256,
	"2.16.840.1.101.3.4.2.2": crypto.SHA384,
	"2.16.840.1.101.3.4.2.3": crypto.SHA512,
}

// parsePSS reads a PKCS#8 key of the algorithm id-RSASSA-PSS. ok is false for
// any other.
func parsePSS(der []byte) (key privateKey, ok bool, err error) {
	var info struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	// What follows the key, attributes and the public key, is of no interest.
	if _, err := asn1.Unmarshal(der, &info); err != nil || !info.Algorithm.Algorithm.Equal(oidPSS) {
		return privateKey{}, false, nil
	}
	hash, err := pssRestriction(info.Algorithm)
	if err != nil {
		return privateKey{}, true, err
	}
	parsed, err := x509.ParsePKCS1PrivateKey(info.Key)
	if err != nil {
		return privateKey{}, true, fmt.Errorf("parse private key: %w", err)
	}
	return privateKey{signer: parsed, pss: true, pssHash: hash}, true, nil
}

// pssRestriction returns the one hash that an algorithm identifier of
// id-RSASSA-PSS allows, or 0 without restriction (RFC 4055 §3.1).
func pssRestriction(a pkix.AlgorithmIdentifier) (crypto.Hash, error) {
	if len(a.Parameters.FullBytes) == 0 || a.Parameters.Tag == asn1.TagNull {
		return 0, nil
	}
	var p struct {
		Hash    pkix.AlgorithmIdentifier `asn1:"optional,explicit,tag:0"`
		MGF     pkix.AlgorithmIdentifier `asn1:"optional,explicit,tag:1"`
		Salt    int                      `asn1:"optional,explicit,tag:2,default:20"`
		Trailer int                      `asn1:"optional,explicit,tag:3,default:1"`
	}
	if _, err := asn1.Unmarshal(a.Parameters.FullBytes, &p); err != nil {
		return 0, errors.New("the key's PSS parameters are malformed")
	}
	hash, ok := pssHashes[p.Hash.Algorithm.String()]
	if !ok || p.Salt > hash.Size() {
		return 0, errors.New("the key is restricted to PSS with a hash or a salt that no JWS algorithm has")
	}
	return hash, nil
}

// publicKeyOf returns the certificate's RSA key, and whether its algorithm
// identifier allows PSS only.
func publicKeyOf(cert *x509.Certificate) (public crypto.PublicKey, pss bool) {
	if cert.PublicKeyAlgorithm != x509.UnknownPublicKeyAlgorithm {
		return cert.PublicKey, false
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &info); err != nil || !info.Algorithm.Algorithm.Equal(oidPSS) {
		return nil, false
	}
	key, err := x509.ParsePKCS1PublicKey(info.Key.RightAlign())
	if err != nil {
		return nil, false
	}
	return key, true
}
