package authority

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"github.com/seed-13b04e61/gateway/secrets"
	"slices"
	"strings"
	"time"
)

// kindClientKey is private_key_jwt, named as in routes.yaml.
const kindClientKey = "client_key"

// keyLifetime is how long an assertion for a server other than Entra may be
// used. Some refuse what lives for more than five minutes (Auth0 does), or
// keep every jti until its end; a minute is left for their clock.
const keyLifetime = 4 * time.Minute

// keyProver is private_key_jwt (RFC 7523 §2.2, OpenID Connect Core §9).
type keyProver struct {
	clientID   string
	file       string
	key        privateKey
	kid        string
	alg        *algorithm // of the operator; nil: worked out for each server
	claims     map[string]any
	thumbprint string // RFC 7638
}

func (id *identity) loadClientKey() ([]Finding, error) {
	c := &id.credential
	id.kind = kindClientKey
	key, err := readClientKey(c.ClientKey.File)
	if err != nil {
		return nil, err
	}
	p := keyProver{clientID: c.ClientID, file: c.ClientKey.File, key: key, kid: c.ClientKey.KID, claims: c.AssertionClaims}
	if p.alg, err = chosen(c.ClientKey.Alg, c.ClientKey.File, key); err != nil {
		return nil, err
	}
	if p.thumbprint, err = thumbprintOf(key); err != nil {
		return nil, err
	}
	extra, err := describeClaims(c.AssertionClaims)
	if err != nil {
		return nil, err
	}
	id.prover = p
	id.fingerprint = id.fingerprintOf(fmt.Sprintf("%s %q %q %s", p.thumbprint, p.kid, c.ClientKey.Alg, extra))
	return nil, nil
}

// readClientKey reads the one private key of a PEM file.
func readClientKey(path string) (privateKey, error) {
	content, err := secrets.ReadFile(path)
	if err != nil {
		return privateKey{}, &trouble{what: "client_key cannot be read", remedy: "name a readable PEM file under client_key.file", cause: err}
	}
	if !strings.Contains(string(content), "-----BEGIN ") {
		return privateKey{}, unreadable(path, content)
	}
	inFile, err := readPEM(path, content)
	if err != nil {
		return privateKey{}, err
	}
	if len(inFile.keys) != 1 {
		return privateKey{}, &trouble{
			what:   fmt.Sprintf("%s holds %d private keys", path, len(inFile.keys)),
			remedy: "put exactly one PEM private key there",
		}
	}
	block := inFile.keys[0].block
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return privateKey{}, &trouble{
			what:   "the private key in " + path + " is encrypted, and client_key takes no password",
			remedy: "decrypt it into a file that the gateway alone may read: openssl pkey -in " + path + " -out key.pem",
		}
	}
	key, err := parseKey(block)
	if err == nil {
		err = key.strong()
	}
	if err == nil && len(key.algorithms()) == 0 {
		err = fmt.Errorf("%s has no JWS algorithm", key.describe())
	}
	if err != nil {
		return privateKey{}, &trouble{what: path, remedy: "create an RSA key of at least 2048 bits, one on P-256, P-384 or P-521, or Ed25519", cause: err}
	}
	return key, nil
}

// chosen finds the algorithm that the operator wants, nil for none.
func chosen(name, path string, key privateKey) (*algorithm, error) {
	if name == "" {
		return nil, nil
	}
	fitting := key.algorithms()
	for _, a := range fitting {
		if a.name == name {
			return &a, nil
		}
	}
	return nil, &trouble{
		what:   fmt.Sprintf("client_key.alg is %s, which the key in %s (%s) cannot do", clean(name, nil, 32), path, key.describe()),
		remedy: "write " + oneOf(names(fitting)) + ", or leave alg out",
	}
}

func names(list []algorithm) []string {
	var out []string
	for _, a := range list {
		out = append(out, a.name)
	}
	return out
}

// oneOf lists a choice.
func oneOf(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
}

// prove signs an assertion whose audience is the token endpoint, as RFC 7523
// §3 has it. The draft that revises it wants the issuer there, which servers
// of today need not know as a name of theirs.
func (p keyProver) prove(_ context.Context, to target) (proof, error) {
	a, err := p.algorithm(to.algs)
	if err != nil {
		return proof{}, err
	}
	header := map[string]any{}
	named := "no kid"
	if p.kid != "" {
		header["kid"], named = p.kid, fmt.Sprintf("kid %q", p.kid)
	}
	claims := assertionClaims(p.clientID, to.endpoint, p.claims, lifetime{time.Now(), keyLifetime})
	assertion, err := signJWT(p.key.signer, a, header, claims)
	if err != nil {
		return proof{}, &trouble{what: "the assertion cannot be signed", remedy: "check the key in " + p.file, cause: err}
	}
	facts := fmt.Sprintf("key used: %s from %s, %s, %s, JWK thumbprint %s (RFC 7638), audience %q; the server must know the public key of the client",
		p.key.describe(), p.file, a.name, named, p.thumbprint, to.endpoint)
	return assertionProof(p.clientID, assertion, facts), nil
}

// algorithm is the operator's, or the first of the key's that the server is
// known to take; taken is nil where that is unknown.
func (p keyProver) algorithm(taken []string) (algorithm, error) {
	if p.alg != nil {
		return *p.alg, nil
	}
	fitting := p.key.algorithms()
	if taken == nil {
		return fitting[0], nil
	}
	for _, a := range fitting {
		if slices.Contains(taken, a.name) {
			return a, nil
		}
	}
	var known []string
	for _, name := range taken[:min(len(taken), 16)] {
		known = append(known, clean(name, nil, 32))
	}
	return algorithm{}, &trouble{
		what:   fmt.Sprintf("the server takes assertions signed by %s, and the key in %s (%s) can do %s only", oneOf(known), p.file, p.key.describe(), oneOf(names(fitting))),
		remedy: "give client_key a key of a kind that the server takes, or set alg if its metadata is known to be wrong",
	}
}

// thumbprintOf is the JWK thumbprint of the public key (RFC 7638 §3), by which
// operators and servers may tell keys apart.
func thumbprintOf(k privateKey) (string, error) {
	b64 := base64.RawURLEncoding.EncodeToString
	var jwk map[string]string // encoding/json writes its members in order, as §3.1 wants
	switch public := k.signer.Public().(type) {
	case *rsa.PublicKey:
		e := []byte{byte(public.E >> 24), byte(public.E >> 16), byte(public.E >> 8), byte(public.E)}
		jwk = map[string]string{"kty": "RSA", "n": b64(public.N.Bytes()), "e": b64([]byte(strings.TrimLeft(string(e), "\x00")))}
	case *ecdsa.PublicKey:
		point, err := public.Bytes() // 4, x, y
		if err != nil {
			return "", &trouble{what: "the key is not on its curve", remedy: "create a new key", cause: err}
		}
		size := (len(point) - 1) / 2
		jwk = map[string]string{"kty": "EC", "crv": public.Curve.Params().Name, "x": b64(point[1 : 1+size]), "y": b64(point[1+size:])}
	case ed25519.PublicKey:
		jwk = map[string]string{"kty": "OKP", "crv": "Ed25519", "x": b64(public)} // RFC 8037 §2
	}
	text, err := json.Marshal(jwk)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return b64(sum[:]), nil
}
