package authority_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/secrets"
)

// issue signs a certificate for key by the issuer, or by itself if that is nil.
func issue(t testing.TB, name string, key crypto.Signer, issuer *pair) pair {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(year),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	by, with := template, key
	if issuer != nil {
		by, with = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), with)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return pair{key, cert}
}

func TestACertificatesFormAndAssertionHaveTheseMembersOnly(t *testing.T) {
	key := newRSA(t, 2048)
	p := certify(t, key, -time.Hour, year)
	e := serve(t, nil)
	c := certified(t, e.URL, routes.Certificate{File: file(t, p.both(t))})
	d := loaded(t, c)
	before := time.Now().Unix()
	succeeds(t, d, c)
	succeeds(t, d, c)
	form := e.sent()[0]
	header, claims := signed(t, form.Get("client_assertion"), &key.PublicKey, "PS256")
	if want := map[string]any{"alg": "PS256", "typ": "JWT", "x5t#S256": x5t(p.cert)}; !reflect.DeepEqual(header, want) {
		t.Errorf("header = %v, want %v", header, want)
	}
	if got, want := slices.Sorted(maps.Keys(claims)), []string{"aud", "exp", "iat", "iss", "jti", "nbf", "sub"}; !slices.Equal(got, want) {
		t.Errorf("claims = %v, want %v", got, want)
	}
	if claims["aud"] != e.URL+"/contoso.test/oauth2/v2.0/token" || claims["iss"] != "client-1" || claims["sub"] != "client-1" {
		t.Errorf("claims = %v", claims)
	}
	iat, _ := claims["iat"].(float64)
	exp, _ := claims["exp"].(float64)
	if claims["nbf"] != claims["iat"] || exp-iat != 600 || int64(iat) < before {
		t.Errorf("claims = %v, want 600 s from now", claims)
	}
	_, again := signed(t, e.sent()[1].Get("client_assertion"), &key.PublicKey, "PS256")
	if jti, _ := claims["jti"].(string); uuid.Validate(jti) != nil || again["jti"] == jti {
		t.Errorf("jti = %v, then %v", claims["jti"], again["jti"])
	}
	want := url.Values{
		"client_assertion":      {form.Get("client_assertion")},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_id":             {"client-1"},
		"grant_type":            {"client_credentials"},
		"scope":                 {graphScope},
	}
	if got := form.Encode(); got != want.Encode() {
		t.Errorf("form = %s, want %s", got, want.Encode())
	}
}

func TestAssertionClaimsAreSignedAndOursWin(t *testing.T) {
	key := newRSA(t, 2048)
	p := certify(t, key, -time.Hour, year)
	e := serve(t, nil)
	c := certified(t, e.URL, routes.Certificate{File: file(t, p.both(t))})
	plain := loaded(t, c).Key(c, graphScope)
	c.AssertionClaims = map[string]any{
		"xms_az_claim": map[string]any{"a": "<&>", "n": float64(7), "l": []any{true, nil}},
		"iss":          "somebody else", "sub": "somebody else", "aud": []any{"elsewhere"}, "exp": float64(1), "jti": "x", "nbf": float64(1), "iat": float64(1),
	}
	d := loaded(t, c)
	succeeds(t, d, c)
	_, claims := signed(t, e.sent()[0].Get("client_assertion"), &key.PublicKey, "PS256")
	if !reflect.DeepEqual(claims["xms_az_claim"], c.AssertionClaims["xms_az_claim"]) {
		t.Errorf("claims = %v", claims)
	}
	for _, name := range []string{"iss", "sub", "aud", "exp", "jti", "nbf", "iat"} {
		if reflect.DeepEqual(claims[name], c.AssertionClaims[name]) {
			t.Errorf("%s = %v is not ours", name, claims[name])
		}
	}
	if len(c.AssertionClaims) != 8 {
		t.Errorf("the configuration was changed: %v", c.AssertionClaims)
	}
	if d.Key(c, graphScope) == plain {
		t.Error("other claims, which may mean another token, have the same key")
	}
}

func TestSendChainSendsLeafAndIntermediatesInOrder(t *testing.T) {
	key := newRSA(t, 2048)
	root := issue(t, "root", newEC(t), nil)
	upper := issue(t, "upper", newEC(t), &root)
	lower := issue(t, "lower", newEC(t), &upper)
	namesake := issue(t, "lower", newEC(t), nil) // of the same name, and not the issuer
	leaf := issue(t, "leaf", key, &lower)
	jumble := root.certPEM() + upper.certPEM() + namesake.certPEM() + leaf.both(t) + lower.certPEM()
	b64 := func(list ...pair) (out []any) {
		for _, p := range list {
			out = append(out, base64.StdEncoding.EncodeToString(p.cert.Raw))
		}
		return out
	}
	alone := certify(t, key, -time.Hour, year)
	for _, tt := range []struct {
		name, file string
		send       bool
		want       any
	}{
		{"chain", jumble, true, b64(leaf, lower, upper)},
		{"an issuer is missing", root.certPEM() + leaf.both(t) + upper.certPEM(), true, b64(leaf)},
		{"self-signed", alone.both(t), true, b64(alone)},
		{"not asked for", jumble, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := serve(t, nil)
			c := certified(t, e.URL, routes.Certificate{File: file(t, tt.file), SendChain: tt.send})
			succeeds(t, loaded(t, c), c)
			header, _ := signed(t, e.sent()[0].Get("client_assertion"), &key.PublicKey, "PS256")
			if !reflect.DeepEqual(header["x5c"], tt.want) {
				t.Errorf("x5c = %.60q, want %.60q", header["x5c"], tt.want)
			}
		})
	}
}

func TestADFSGetsRS256AndTheOldThumbprint(t *testing.T) {
	key := newRSA(t, 2048)
	p := certify(t, key, -time.Hour, year)
	old := sha1.Sum(p.cert.Raw)
	for _, tenant := range []string{"adfs", "ADFS"} {
		e := serve(t, nil)
		c := certified(t, e.URL, routes.Certificate{File: file(t, p.both(t)), SendChain: true})
		c.TenantID = tenant
		succeeds(t, loaded(t, c), c)
		header, claims := signed(t, e.sent()[0].Get("client_assertion"), &key.PublicKey, "RS256")
		want := map[string]any{
			"alg": "RS256", "typ": "JWT", "x5t": base64.RawURLEncoding.EncodeToString(old[:]),
			"x5c": []any{base64.StdEncoding.EncodeToString(p.cert.Raw)},
		}
		if !reflect.DeepEqual(header, want) || claims["aud"] != e.URL+"/"+tenant+"/oauth2/v2.0/token" {
			t.Errorf("header = %v, want %v; claims = %v", header, want, claims)
		}
	}
}

func TestAKeyForPSSSignsByPSSOnly(t *testing.T) {
	text, err := os.ReadFile(foreign("pss.pem"))
	if err != nil {
		t.Fatal(err)
	}
	leaf := certificateOf(t, text)
	// The certificate's algorithm counts too: here the key's says plain RSA.
	block, _ := pem.Decode(text[strings.Index(string(text), "-----BEGIN PRIVATE KEY"):])
	var info struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	if _, err := asn1.Unmarshal(block.Bytes, &info); err != nil {
		t.Fatal(err)
	}
	plain := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: info.Key})
	for _, c := range []routes.Certificate{{File: foreign("pss.pem")}, {File: foreign("pss.pem"), KeyFile: file(t, string(plain))}} {
		proves(t, c, leaf, pssKey(t, leaf))
		cred := certified(t, "https://adfs.contoso.com", c)
		cred.TenantID = "adfs"
		if got := fails(t, loaded(t, cred), cred); !got.Refused() || !strings.Contains(got.Error(), "RSASSA-PSS") {
			t.Errorf("error = %v, want none signed for AD FS", got)
		}
	}
}

// pssKey is the key of a certificate whose algorithm crypto/x509 does not read.
func pssKey(t testing.TB, cert *x509.Certificate) *rsa.PublicKey {
	t.Helper()
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &info); err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS1PublicKey(info.Key.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// city is a sandbox of its own.
func city(t testing.TB) *sandbox.World {
	t.Helper()
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// resident is a credential of the sandbox's own app.
func resident(w *sandbox.World) *routes.Credential {
	return &routes.Credential{
		Name: "c", TenantID: sandbox.TenantID, Cloud: "public", AuthorityHost: w.Entra.URL(), ClientID: sandbox.ClientID,
	}
}

func TestTheSandboxTakesCertificatesFromEveryFile(t *testing.T) {
	w := city(t)
	key := newRSA(t, 2048)
	root := issue(t, "root", newEC(t), nil)
	leaf := issue(t, "leaf", key, &root)
	for name, c := range map[string]*routes.Certificate{
		"chain":   {File: file(t, leaf.both(t)+root.certPEM()), SendChain: true},
		"PKCS#12": {File: foreign("modern.p12"), Password: secretFile(t, opener)},
		"PEM":     {File: foreign("pbes2.pem"), Password: secretFile(t, opener)},
	} {
		cert := leaf.cert
		if name != "chain" {
			text, err := os.ReadFile(foreign("pbes2.pem"))
			if err != nil {
				t.Fatal(err)
			}
			cert = certificateOf(t, text)
		}
		if err := w.Entra.AddCertificate(sandbox.ClientID, cert); err != nil {
			t.Fatal(err)
		}
		cred := resident(w)
		cred.ClientCertificate = c
		cred.AssertionClaims = map[string]any{"note": name}
		succeeds(t, loaded(t, cred), cred)
	}
	stranger := certify(t, newRSA(t, 2048), -time.Hour, year)
	cred := resident(w)
	cred.ClientCertificate = &routes.Certificate{File: file(t, stranger.both(t))}
	got := fails(t, loaded(t, cred), cred)
	if got.AADSTS != 700027 || !strings.Contains(got.Remedy, fmt.Sprintf("%X", sha1.Sum(stranger.cert.Raw))) {
		t.Errorf("error = %s", got.Explain())
	}
}

// The characters are those of entra.md's list: each means something in a form.
func TestASecretsOddCharactersArriveAsTheyAre(t *testing.T) {
	const odd, id = "m4rker %&+: é~=/", "id %&+: é"
	for method, want := range map[string]struct{ body, authorization string }{
		"client_secret_post": {
			"client_id=id+%25%26%2B%3A+%C3%A9&client_secret=m4rker+%25%26%2B%3A+%C3%A9~%3D%2F&grant_type=client_credentials&scope=a%2F.default", "",
		},
		"client_secret_basic": {
			"grant_type=client_credentials&scope=a%2F.default",
			"Basic " + base64.StdEncoding.EncodeToString([]byte("id+%25%26%2B%3A+%C3%A9:m4rker+%25%26%2B%3A+%C3%A9~%3D%2F")),
		},
	} {
		for _, where := range []string{"Entra", "another server"} {
			t.Run(method+", "+where, func(t *testing.T) {
				host, got := endpoint(t, 200, nil, good)
				c := entra(t, host)
				c.ClientID, c.ClientSecret, c.AuthMethod = id, secretFile(t, odd), method
				if where != "Entra" {
					c.TenantID, c.AuthorityHost, c.TokenEndpoint = "", "", host+"/token"
				}
				if _, err := acquire(t, c, "a/.default"); err != nil {
					t.Fatal(err)
				}
				r := (*got)[0]
				if r.form.Encode() != want.body || r.header.Get("Authorization") != want.authorization {
					t.Errorf("body = %s, Authorization = %q; want %s, %q", r.form.Encode(), r.header.Get("Authorization"), want.body, want.authorization)
				}
			})
		}
	}
}

func TestTheSandboxTakesASecretByBasic(t *testing.T) {
	w := city(t)
	if _, err := w.Entra.AddSecret(sandbox.ClientID, sandbox.Secret{Value: marker}); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"client_secret_post", "client_secret_basic"} {
		c := resident(w)
		c.ClientSecret, c.AuthMethod = secretFile(t, marker), method
		succeeds(t, loaded(t, c), c)
	}
	c := resident(w)
	c.ClientSecret, c.AuthMethod = secrets.Ref{File: file(t, marker+"x")}, "client_secret_basic"
	if got := fails(t, loaded(t, c), c); got.AADSTS != 7000215 {
		t.Errorf("error = %v", got)
	}
}
