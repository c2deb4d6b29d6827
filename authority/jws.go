package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha512" // for crypto.SHA384 and crypto.SHA512
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// algorithm is one way to sign a JWS (RFC 7518 §3.1, RFC 8037 §3.1).
type algorithm struct {
	name string
	hash crypto.Hash // 0 for EdDSA, which hashes by itself
	pss  bool
}

var (
	rs256 = algorithm{name: "RS256", hash: crypto.SHA256}
	ps256 = algorithm{name: "PS256", hash: crypto.SHA256, pss: true}
)

// algorithms lists what k can do, what is most widely understood first.
func (k privateKey) algorithms() []algorithm {
	switch public := k.signer.Public().(type) {
	case *rsa.PublicKey:
		return slices.DeleteFunc([]algorithm{
			rs256, ps256,
			{name: "RS384", hash: crypto.SHA384}, {name: "PS384", hash: crypto.SHA384, pss: true},
			{name: "RS512", hash: crypto.SHA512}, {name: "PS512", hash: crypto.SHA512, pss: true},
		}, func(a algorithm) bool {
			return k.pss && !a.pss || k.pssHash != 0 && a.hash != k.pssHash
		})
	case *ecdsa.PublicKey:
		switch public.Curve.Params().BitSize {
		case 256:
			return []algorithm{{name: "ES256", hash: crypto.SHA256}}
		case 384:
			return []algorithm{{name: "ES384", hash: crypto.SHA384}}
		case 521:
			return []algorithm{{name: "ES512", hash: crypto.SHA512}}
		}
	case ed25519.PublicKey:
		return []algorithm{{name: "EdDSA"}}
	}
	return nil
}

// signJWT returns a JWT in compact form (RFC 7519 §7.1). It adds alg and typ
// to header. Which public key verifies it is for header to say.
func signJWT(key crypto.Signer, a algorithm, header, claims map[string]any) (string, error) {
	// "client-authentication+jwt" would be typ of RFC 7523bis, which servers
	// of today do not know; they do know JWT.
	header["alg"], header["typ"] = a.name, "JWT"
	var input string
	for _, part := range []map[string]any{header, claims} {
		text, err := json.Marshal(part)
		if err != nil {
			return "", fmt.Errorf("encode assertion: %w", err)
		}
		if input != "" {
			input += "."
		}
		input += base64.RawURLEncoding.EncodeToString(text)
	}
	signature, err := a.sign(key, []byte(input))
	if err != nil {
		return "", err
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

func (a algorithm) sign(key crypto.Signer, input []byte) ([]byte, error) {
	var opts crypto.SignerOpts = a.hash
	if a.pss {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.hash}
	}
	if a.hash != 0 {
		h := a.hash.New()
		h.Write(input)
		input = h.Sum(nil)
	}
	signature, err := key.Sign(rand.Reader, input, opts)
	if err != nil {
		return nil, fmt.Errorf("sign by %s: %w", a.name, err)
	}
	if public, ok := key.Public().(*ecdsa.PublicKey); ok {
		return concatenated(signature, (public.Curve.Params().BitSize+7)/8)
	}
	return signature, nil
}

// concatenated turns an ECDSA signature as crypto.Signer makes it, ASN.1, into the
// two numbers one after the other, size bytes each, that JWS has (RFC 7518 §3.4).
func concatenated(signature []byte, size int) ([]byte, error) {
	var n struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(signature, &n); err != nil || len(rest) > 0 {
		return nil, errors.New("the signer gave no ECDSA signature")
	}
	if n.R.Sign() < 0 || n.S.Sign() < 0 || n.R.BitLen() > size*8 || n.S.BitLen() > size*8 {
		return nil, errors.New("the signer gave numbers beyond its curve")
	}
	out := make([]byte, 2*size)
	n.R.FillBytes(out[:size])
	n.S.FillBytes(out[size:])
	return out, nil
}
