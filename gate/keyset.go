package gate

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-13b04e61/gateway/routes"
)

const (
	// documentLimit bounds each of an issuer's documents, in bytes.
	documentLimit = 1 << 20
	// keysLimit is how many keys are looked at. Entra publishes some ten.
	keysLimit = 100
	// rsaFloor and rsaLimit are of a modulus, in bits (RFC 7518 §3.3).
	rsaFloor = 2048
	rsaLimit = 8192
)

// keySet is what an issuer published at one time. It is immutable once it is
// shared; nil is the set of an issuer that was never reached.
type keySet struct {
	fetched time.Time
	byID    map[string][]publicKey
	only    string // the id of the one key there is; "" with several
	size    int
}

// publicKey is a key with the algorithm that it is for; "" for any that fits.
type publicKey struct {
	key any
	alg string
}

// trusted tells whether the keys still count at that time.
func (k *keySet) trusted(at time.Time) bool {
	return k != nil && at.Sub(k.fetched) < keysLife
}

// has tells whether kid names a key. A token without kid (RFC 7515 §4.1.4
// makes it optional) can mean the only one alone.
func (k *keySet) has(kid string) bool {
	switch {
	case k == nil:
		return false
	case kid == "":
		return k.size == 1
	}
	return len(k.byID[kid]) > 0
}

// errWrongKey: the key is there and was not made for this.
var errWrongKey = errors.New("the key that it names is not for its algorithm")

// keyfunc gives the library the keys that fit a token's kid and algorithm; the
// token's own header has no further say.
func (k *keySet) keyfunc(head tokenHead) jwt.Keyfunc {
	return func(*jwt.Token) (any, error) {
		kid := head.kid
		if kid == "" {
			kid = k.only
		}
		var fit jwt.VerificationKeySet
		for _, p := range k.byID[kid] {
			if p.fits(head.alg) {
				fit.Keys = append(fit.Keys, p.key)
			}
		}
		if len(fit.Keys) == 0 {
			return nil, errWrongKey
		}
		return fit, nil
	}
}

// fits tells whether the key can make signatures of alg, and was published for
// that or for nothing in particular (RFC 8725 §3.1).
func (p publicKey) fits(alg string) bool {
	if p.alg != "" && p.alg != alg {
		return false
	}
	switch key := p.key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey: // RFC 7518 §3.4 ties each to a curve
		return map[string]string{"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[alg] == key.Curve.Params().Name
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// fetchKeys asks an issuer where its keys are (OpenID Connect Discovery §4) and
// for them (RFC 7517 §5). Redirects are not followed.
func fetchKeys(ctx context.Context, client *http.Client, issuer string) (*keySet, error) {
	var metadata struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	address := strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
	if err := fetchDocument(ctx, client, address, &metadata); err != nil {
		return nil, err
	}
	if metadata.Issuer != issuer {
		return nil, fmt.Errorf("%s names another issuer, %.128q; write the caller's issuer exactly so", address, metadata.Issuer)
	}
	if err := checkAddress(metadata.JWKSURI); err != nil {
		return nil, fmt.Errorf("%s: jwks_uri %w", address, err)
	}
	var published struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := fetchDocument(ctx, client, metadata.JWKSURI, &published); err != nil {
		return nil, err
	}
	set := newKeySet(published.Keys)
	if set.size == 0 {
		return nil, fmt.Errorf("%.256s holds no key that verifies signatures", metadata.JWKSURI)
	}
	return set, nil
}

// checkAddress wants https, or http to this machine.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return errors.New("is no address that can be asked")
	}
	a, err := routes.ParseAuthority(u.Host, 0)
	switch {
	case err != nil:
		return errors.New("names no host")
	case u.Scheme == "https" || u.Scheme == "http" && a.Loopback():
		return nil
	}
	return errors.New("is not https, and whoever is on the way could give other keys")
}

func fetchDocument(ctx context.Context, client *http.Client, address string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%.256s answers with status %d", address, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, documentLimit+1))
	switch {
	case err != nil:
		return fmt.Errorf("%.256s: %w", address, err)
	case len(body) > documentLimit:
		return fmt.Errorf("%.256s is larger than 1 MiB", address)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%.256s is not the JSON that it should be", address)
	}
	return nil
}

// newKeySet leaves out what cannot verify a signature, or should not.
func newKeySet(published []json.RawMessage) *keySet {
	set := &keySet{byID: map[string][]publicKey{}}
	for _, raw := range published[:min(len(published), keysLimit)] {
		kid, p, ok := readKey(raw)
		if !ok {
			continue
		}
		set.byID[kid] = append(set.byID[kid], p)
		set.size++
		set.only = kid
	}
	if set.size != 1 {
		set.only = ""
	}
	return set
}

// readKey reads the public members of one JWK, and no others: certificates
// beside them, and addresses of such, are not what is trusted here.
func readKey(raw json.RawMessage) (kid string, p publicKey, ok bool) {
	var k struct {
		KTY string `json:"kty"`
		KID string `json:"kid,omitempty"`
		Use string `json:"use,omitempty"`
		Alg string `json:"alg,omitempty"`
		CRV string `json:"crv,omitempty"`
		N   string `json:"n,omitempty"`
		E   string `json:"e,omitempty"`
		X   string `json:"x,omitempty"`
		Y   string `json:"y,omitempty"`
	}
	if json.Unmarshal(raw, &k) != nil {
		return "", publicKey{}, false
	}
	if k.Use != "" && k.Use != "sig" && k.Use != "jwt-svid" { // SPIFFE's bundles have the last
		return "", publicKey{}, false
	}
	alg := k.Alg
	if alg == "Ed25519" { // RFC 9864's name for what golang-jwt calls EdDSA
		alg = "EdDSA"
	}
	k.Use, k.Alg = "", ""
	clean, err := json.Marshal(k)
	if err != nil {
		return "", publicKey{}, false
	}
	parsed, err := keyfunc.NewJWKJSON(clean)
	if err != nil {
		return "", publicKey{}, false
	}
	all, err := parsed.Storage().KeyReadAll(context.Background())
	if err != nil || len(all) != 1 || !strong(all[0].Key()) {
		return "", publicKey{}, false
	}
	return k.KID, publicKey{key: all[0].Key(), alg: alg}, true
}

// strong tells whether the key is public, and of a size that is safe to trust
// and to compute with.
func strong(key any) bool {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() >= rsaFloor && key.N.BitLen() <= rsaLimit && key.E >= 3 && big.NewInt(int64(key.E)).BitLen() <= 31
	case *ecdsa.PublicKey:
		_, err := key.ECDH() // refuses a point off the curve
		return err == nil
	case ed25519.PublicKey:
		return true
	}
	return false
}
