package authority_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
)

func keyed(host string, k routes.ClientKey) *routes.Credential {
	return &routes.Credential{Name: "c", TokenEndpoint: host + "/token", ClientID: "client-1", ClientKey: &k, AuthMethod: "private_key_jwt"}
}

func curveKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pkcs8PEM, pkcs1PEM and sec1PEM are the forms that a key file may have.
func pkcs8PEM(t testing.TB, key crypto.Signer) string {
	t.Helper()
	return pair{key: key}.keyPEM(t)
}

func pkcs1PEM(key *rsa.PrivateKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

func sec1PEM(t testing.TB, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	// As openssl ecparam -genkey writes it.
	return "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" +
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

func TestAClientKeySignsByEachOfItsAlgorithms(t *testing.T) {
	rsaKey, p256, p384, p521, ed := newRSA(t, 2048), newEC(t), curveKey(t, elliptic.P384()), curveKey(t, elliptic.P521()), edKey(t)
	pss, err := os.ReadFile(foreign("pss.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pss512, err := os.ReadFile(foreign("pss512.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, file, alg string
		public          any
		want            string
	}{
		{"RSA", pkcs8PEM(t, rsaKey), "", &rsaKey.PublicKey, "RS256"},
		{"RSA PKCS#1", pkcs1PEM(rsaKey), "", &rsaKey.PublicKey, "RS256"},
		{"RS256", pkcs8PEM(t, rsaKey), "RS256", &rsaKey.PublicKey, "RS256"},
		{"RS384", pkcs8PEM(t, rsaKey), "RS384", &rsaKey.PublicKey, "RS384"},
		{"RS512", pkcs8PEM(t, rsaKey), "RS512", &rsaKey.PublicKey, "RS512"},
		{"PS256", pkcs8PEM(t, rsaKey), "PS256", &rsaKey.PublicKey, "PS256"},
		{"PS384", pkcs8PEM(t, rsaKey), "PS384", &rsaKey.PublicKey, "PS384"},
		{"PS512", pkcs8PEM(t, rsaKey), "PS512", &rsaKey.PublicKey, "PS512"},
		{"a key for PSS", string(pss), "", pssKey(t, certificateOf(t, pss)), "PS256"},
		{"a key for PSS of SHA-512", string(pss512), "", pssKey(t, certificateOf(t, pss512)), "PS512"},
		{"P-256", pkcs8PEM(t, p256), "", &p256.PublicKey, "ES256"},
		{"P-256 SEC1", sec1PEM(t, p256), "ES256", &p256.PublicKey, "ES256"},
		{"P-384", pkcs8PEM(t, p384), "", &p384.PublicKey, "ES384"},
		{"P-521", pkcs8PEM(t, p521), "", &p521.PublicKey, "ES512"},
		{"P-521 SEC1", sec1PEM(t, p521), "ES512", &p521.PublicKey, "ES512"},
		{"Ed25519", pkcs8PEM(t, ed), "", ed.Public(), "EdDSA"},
		{"EdDSA", pkcs8PEM(t, ed), "EdDSA", ed.Public(), "EdDSA"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := serve(t, nil)
			c := keyed(e.URL, routes.ClientKey{File: file(t, tt.file), Alg: tt.alg})
			d := loaded(t, c)
			for range 4 { // a short number of an ECDSA signature comes once in a while
				succeeds(t, d, c)
			}
			for _, form := range e.sent() {
				header, _ := signed(t, form.Get("client_assertion"), tt.public, tt.want)
				if want := map[string]any{"alg": tt.want, "typ": "JWT"}; !reflect.DeepEqual(header, want) {
					t.Errorf("header = %v, want %v", header, want)
				}
			}
			if st := condition(t, d); !st.Ready || st.Kind != "client_key" {
				t.Errorf("status = %+v", st)
			}
		})
	}
}

func TestAClientKeysAssertionIsForTheTokenEndpointAndShort(t *testing.T) {
	key := newEC(t)
	e := serve(t, nil)
	c := keyed(e.URL, routes.ClientKey{File: file(t, pkcs8PEM(t, key)), KID: "key-1"})
	c.AssertionClaims = map[string]any{"sub": "somebody else", "department": "x"}
	d := loaded(t, c)
	succeeds(t, d, c)
	form := e.sent()[0]
	if got, want := slices.Sorted(maps.Keys(form)), []string{"client_assertion", "client_assertion_type", "client_id", "grant_type", "scope"}; !slices.Equal(got, want) {
		t.Errorf("form = %v, want %v", got, want)
	}
	header, claims := signed(t, form.Get("client_assertion"), &key.PublicKey, "ES256")
	if header["kid"] != "key-1" {
		t.Errorf("header = %v", header)
	}
	if claims["aud"] != e.URL+"/token" || claims["iss"] != "client-1" || claims["sub"] != "client-1" || claims["department"] != "x" || claims["jti"] == "" {
		t.Errorf("claims = %v", claims)
	}
	iat, _ := claims["iat"].(float64)
	exp, _ := claims["exp"].(float64)
	if life := exp - iat; life <= 0 || life > 300 || claims["nbf"] != claims["iat"] {
		t.Errorf("claims = %v, want five minutes at most", claims)
	}
	another := keyed(e.URL, routes.ClientKey{File: file(t, pkcs8PEM(t, newEC(t))), KID: "key-1"})
	another.AssertionClaims = c.AssertionClaims
	if loaded(t, another).Key(another, "") == d.Key(c, "") {
		t.Error("another key has the same fingerprint")
	}
}

func TestUnfitClientKeysAreNamed(t *testing.T) {
	key := newRSA(t, 2048)
	whole := pkcs8PEM(t, key)
	for _, tt := range []struct{ name, file, alg, want, remedy string }{
		{"another kind's algorithm", whole, "ES256", "client_key.alg is ES256", "RS256, PS256, RS384, PS384, RS512 or PS512"},
		{"no algorithm", whole, "none", "client_key.alg is none", "leave alg out"},
		{"a secret's algorithm", whole, "HS256", "client_key.alg is HS256", "leave alg out"},
		{"another curve's", pkcs8PEM(t, newEC(t)), "ES384", "(P-256) cannot do", "write ES256"},
		{"EdDSA by RSA", whole, "EdDSA", "(RSA, 2048 bits) cannot do", "RS256"},
		{"small", pkcs8PEM(t, newRSA(t, 1024)), "", "1024 bits", "2048"},
		{"P-224", pkcs8PEM(t, curveKey(t, elliptic.P224())), "", "P-224 has no JWS algorithm", "P-256"},
		{"two keys", whole + whole, "", "2 private keys", "exactly one"},
		{"no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "", "0 private keys", "exactly one"},
		{"encrypted", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "", "is encrypted", "openssl pkey"},
		{"DSA", "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n", "", "dsa private key", "RSA key"},
		{"OpenSSH", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "", "openssh private key", "RSA key"},
		{"JWK", `{"kty":"RSA","d":"m4rker"}`, "", "looks like JSON", "PEM"},
		{"empty", "", "", "is empty", "PEM"},
		{"damaged", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "", "parse private key", "create"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := keyed("https://idp.example.com", routes.ClientKey{File: file(t, tt.file), Alg: tt.alg})
			d := authority.NewDirectory(authority.Options{Dialer: nobody{t}})
			f := d.Replace([]*routes.Credential{c})
			if len(f) != 1 || !f[0].Alarm || !strings.Contains(f[0].Message, tt.want) || !strings.Contains(f[0].Remedy, tt.remedy) {
				t.Errorf("findings = %+v, want an alarm with %q and %q", f, tt.want, tt.remedy)
			}
			discreet(t, f)
			if got := fails(t, d, c); !got.Refused() || !strings.Contains(got.Error(), tt.want) {
				t.Errorf("error = %v", got)
			}
		})
	}
	missing := keyed("https://idp.example.com", routes.ClientKey{File: "/nonexistent/key.pem"})
	f := authority.NewDirectory(authority.Options{}).Replace([]*routes.Credential{missing})
	if len(f) != 1 || !f[0].Alarm || !strings.Contains(f[0].Message, "client_key cannot be read: open /nonexistent/key.pem") || f[0].Remedy == "" {
		t.Errorf("findings = %+v", f)
	}
}

// The key and the thumbprint are those of RFC 7638 §3.1 and RFC 8037 §A.3, as
// far as a private key can be had for them: the latter's is published.
func TestARefusedClientKeyIsToldByItsThumbprint(t *testing.T) {
	seed := []byte{
		0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
		0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
	}
	e := serve(t, says(401, `{"error":"invalid_client"}`))
	c := keyed(e.URL, routes.ClientKey{File: file(t, pkcs8PEM(t, ed25519.NewKeyFromSeed(seed)))})
	got := fails(t, loaded(t, c), c)
	for _, want := range []string{"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "EdDSA", "Ed25519", "no kid", e.URL + "/token"} {
		if !strings.Contains(got.Detail, want) {
			t.Errorf("detail = %q, want %q in it", got.Detail, want)
		}
	}
	all, err := json.Marshal(got)
	if err != nil || strings.Contains(string(all), "PRIVATE") {
		t.Errorf("error = %s, %v", all, err)
	}
}
