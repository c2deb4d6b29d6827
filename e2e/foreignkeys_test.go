package e2e

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// fetchKeys learns the server's keys the way an API does: metadata, then JWKS.
func (f *foreign) fetchKeys(t testing.TB) {
	t.Helper()
	var metadata struct {
		JWKS string `json:"jwks_uri"`
	}
	f.get(t, f.origin+"/.well-known/openid-configuration", &metadata)
	var set struct {
		Keys []struct{ Kid, Kty, N, E string }
	}
	f.get(t, metadata.JWKS, &set)
	keys := map[string]*rsa.PublicKey{}
	for _, k := range set.Keys {
		n, err1 := base64.RawURLEncoding.DecodeString(k.N)
		e, err2 := base64.RawURLEncoding.DecodeString(k.E)
		if k.Kty == "RSA" && err1 == nil && err2 == nil {
			keys[k.Kid] = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		}
	}
	if len(keys) == 0 {
		t.Fatal("the authorization server publishes no RSA key")
	}
	f.keys = func(token *jwt.Token) (any, error) {
		kid, _ := token.Header["kid"].(string)
		if k, ok := keys[kid]; ok {
			return k, nil
		}
		return nil, fmt.Errorf("no key %q", kid)
	}
}

func (f *foreign) get(t testing.TB, url string, into any) {
	t.Helper()
	a := must(t, f.client, request{url: url})
	if a.status != http.StatusOK {
		t.Fatalf("%s: status %d", url, a.status)
	}
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		t.Fatal(err)
	}
}
