package authority

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

// hardware is a signer that does what an old key store does, and counts.
type hardware struct {
	*rsa.PrivateKey
	mu         sync.Mutex // guards what follows
	pss, pkcs1 int
	broken     bool // it signs nothing at all
}

var errHardware = errors.New("mechanism not supported")

func (h *hardware) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := opts.(*rsa.PSSOptions); ok {
		h.pss++
		return nil, errHardware
	}
	h.pkcs1++
	if h.broken {
		return nil, errHardware
	}
	return h.PrivateKey.Sign(random, digest, opts)
}

// certified is an identity at e by a certificate whose key is in h.
func certified(t *testing.T, e *sandbox.Entra, h *hardware) *identity {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hardware"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, h.Public(), h.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.AddCertificate(sandbox.ClientID, cert); err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(h.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "app.pem")
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	id := &identity{state: &state{}, credential: routes.Credential{
		Name: "c", TenantID: sandbox.TenantID, AuthorityHost: e.URL(), ClientID: sandbox.ClientID, ClientCertificate: &routes.Certificate{File: path},
	}}
	if _, err := id.loadCertificate(time.Now()); err != nil {
		t.Fatal(err)
	}
	p, ok := id.prover.(*certificateProver)
	if !ok {
		t.Fatalf("prover = %T", id.prover)
	}
	p.key.signer = h
	id.endpoint = e.TokenURL(sandbox.TenantID)
	id.transport = sourceTransport(NewDirectory(Options{}).dialer)
	return id
}

// ask makes one proof and shows it.
func ask(t *testing.T, d *Directory, id *identity) *Error {
	t.Helper()
	p, err := id.prover.prove(t.Context(), target{endpoint: id.endpoint})
	if err != nil {
		return id.local(err)
	}
	_, e := d.exchange(t.Context(), id, p, question{scope: "https://graph.microsoft.com/.default"})
	return e
}

func TestASignerWithoutPSSFallsBackOnceAndStays(t *testing.T) {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	h := &hardware{PrivateKey: key}
	id := certified(t, w.Entra, h)
	d := NewDirectory(Options{})
	for range 3 {
		if e := ask(t, d, id); e != nil {
			t.Fatal(e.Explain())
		}
	}
	if h.pss != 1 || h.pkcs1 != 3 {
		t.Errorf("asked for PSS %d times and for PKCS #1 %d times, want 1 and 3", h.pss, h.pkcs1)
	}
}

func TestASignerThatSignsNothingIsTroubleAndNotRemembered(t *testing.T) {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	h := &hardware{PrivateKey: key, broken: true}
	id := certified(t, w.Entra, h)
	d := NewDirectory(Options{})
	for want := 1; want <= 2; want++ {
		e := ask(t, d, id)
		if e == nil || !e.Refused() || !strings.Contains(e.Error(), "cannot be signed") || e.Remedy == "" || !errors.Is(e, errHardware) {
			t.Fatalf("error = %v", e)
		}
		if h.pss != want {
			t.Errorf("asked for PSS %d times, want %d: it may have been a passing failure", h.pss, want)
		}
	}
	if n := w.Entra.Requests(); n != 0 {
		t.Errorf("requests = %d, want none", n)
	}
}

func TestAnAlgorithmIsOneThatTheServerTakes(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := keyProver{clientID: "client-1", file: "key.pem", key: privateKey{signer: key}, thumbprint: "x"}
	fixed := p
	fixed.alg = &algorithm{name: "RS512", hash: crypto.SHA512}
	for _, tt := range []struct {
		name  string
		p     keyProver
		taken []string
		want  string // "" for trouble
	}{
		{"unknown", p, nil, "RS256"},
		{"all", p, []string{"none", "ES256", "PS256", "RS256"}, "RS256"},
		{"no RS256", p, []string{"ES256", "PS512", "PS256"}, "PS256"},
		{"odd ones", p, []string{"RS512"}, "RS512"},
		{"none that fits", p, []string{"ES256", "HS256"}, ""},
		{"nothing at all", p, []string{}, ""},
		{"the operator's", fixed, []string{"ES256"}, "RS512"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			made, err := tt.p.prove(t.Context(), target{endpoint: "https://idp.example.com/token", algs: tt.taken})
			if tt.want == "" {
				if err == nil || !strings.Contains(err.Error(), "key.pem (RSA, 2048 bits)") || remedyOf(err) == "" {
					t.Errorf("error = %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := jwt.Parse(made.form.Get("client_assertion"), func(*jwt.Token) (any, error) { return &key.PublicKey, nil }, jwt.WithValidMethods([]string{tt.want})); err != nil {
				t.Errorf("not signed by %s: %v", tt.want, err)
			}
		})
	}
}

// landlord is a managed identity.
type landlord struct {
	asked  string
	answer tokens.Token
	err    *Error
}

func (p *landlord) token(_ context.Context, resource string) (tokens.Token, *Error) {
	p.asked = resource
	return p.answer, p.err
}

func TestAManagedIdentityProvesAnApplication(t *testing.T) {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	const principal = "33334444-dddd-5555-eeee-6666ffff7777"
	if err := w.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: w.Issuer.URL(), Subject: principal}); err != nil {
		t.Fatal(err)
	}
	token, err := w.FederatedToken(principal, sandbox.TokenExchangeAudience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	host := &landlord{answer: tokens.Token{Access: secrets.New(token)}}
	id := &identity{
		state: &state{}, kind: kindFederated, endpoint: w.Entra.TokenURL(sandbox.TenantID), transport: sourceTransport(NewDirectory(Options{}).dialer),
		credential: routes.Credential{Name: "c", ClientID: sandbox.ClientID, TenantID: sandbox.TenantID, FederatedToken: &routes.FederatedToken{}},
	}
	id.prover = federatedProver{clientID: sandbox.ClientID, source: managedSource{host, exchangeAudience(&id.credential)}}
	d := NewDirectory(Options{})
	if e := ask(t, d, id); e != nil {
		t.Fatal(e.Explain())
	}
	if host.asked != "api://AzureADTokenExchange" {
		t.Errorf("asked for %q, want the audience without /.default", host.asked)
	}
	host.err = &Error{Credential: "another", Nature: tokens.Throttled, RetryAfter: time.Minute, Hint: "busy"}
	e := ask(t, d, id)
	if e == nil || e.Credential != "c" || e.Nature != tokens.Throttled || e.RetryAfter != time.Minute || e.Hint != "busy" {
		t.Errorf("error = %+v, want the platform's, in this credential's name", e)
	}
}

func TestEachCloudHasItsExchangeAudience(t *testing.T) {
	for cloud, want := range map[string]string{
		"public": "api://AzureADTokenExchange", "": "api://AzureADTokenExchange", "usgov": "api://AzureADTokenExchangeUSGov",
		"usgov-dod": "api://AzureADTokenExchangeUSGov", "china": "api://AzureADTokenExchangeChina",
	} {
		c := &routes.Credential{Cloud: cloud, FederatedToken: &routes.FederatedToken{}}
		if got := exchangeAudience(c); got != want {
			t.Errorf("exchangeAudience(%q) = %q, want %q", cloud, got, want)
		}
		c.FederatedToken.Audience = "own"
		if got := exchangeAudience(c); got != "own" {
			t.Errorf("exchangeAudience(%q) = %q, want the operator's", cloud, got)
		}
	}
}

func TestSenselessCostsOfAPasswordAreRefused(t *testing.T) {
	salt := []byte("saltsalt")
	type pbkdf2 struct {
		Salt           []byte
		Rounds, Length int
	}
	type scrypt struct {
		Salt    []byte
		N, R, P int
	}
	for _, tt := range []struct {
		name  string
		value any
		fits  bool
	}{
		{"OpenSSL's PBKDF2", pbkdf2{salt, 2048, 32}, true},
		{"a million rounds", pbkdf2{salt, 1e6, 32}, true},
		{"too many rounds", pbkdf2{salt, 1e8, 1}, false},
		{"more than a number holds", struct {
			Salt   []byte
			Rounds *big.Int
		}{salt, new(big.Int).Lsh(big.NewInt(1), 200)}, false},
		{"too long a key", pbkdf2{salt, 2048, 1 << 30}, false},
		{"OpenSSL's scrypt", scrypt{salt, 1 << 14, 8, 1}, true},
		{"all of the memory", scrypt{salt, 1 << 20, 1 << 20, 1}, false},
		{"deep inside", struct{ A []pbkdf2 }{[]pbkdf2{{salt, 1 << 30, 1}}}, false},
		{"numbers without a salt", struct{ A, B int }{1 << 40, 1 << 40}, true},
	} {
		der, err := asn1.Marshal(tt.value)
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := asn1.Marshal(struct{ Inner []byte }{der}) // as PKCS#12 wraps its contents
		if err != nil {
			t.Fatal(err)
		}
		for _, whole := range [][]byte{der, wrapped} {
			if err := affordable(whole, 0); (err == nil) != tt.fits {
				t.Errorf("%s: affordable = %v, want nil: %t", tt.name, err, tt.fits)
			}
		}
	}
}

// shown is a key of which only the public half is known.
type shown struct {
	crypto.Signer
	public crypto.PublicKey
}

func (s shown) Public() crypto.PublicKey { return s.public }

func number(t *testing.T, b64 string) *big.Int {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(b64)
	if err != nil {
		t.Fatal(err)
	}
	return new(big.Int).SetBytes(b)
}

// The RSA key is that of RFC 7638 §3.1, the one on P-256 that of RFC 7517 §A.1.
func TestThumbprintsAreThoseOfTheStandard(t *testing.T) {
	const n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	x, y := number(t, "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"), number(t, "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM")
	curve, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x.Bytes()...), y.Bytes()...))
	if err != nil {
		t.Fatal(err)
	}
	for want, public := range map[string]crypto.PublicKey{
		"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs": &rsa.PublicKey{N: number(t, n), E: 65537},
		"cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s": curve,
	} {
		got, err := thumbprintOf(privateKey{signer: shown{public: public}})
		if err != nil || got != want {
			t.Errorf("thumbprintOf(%T) = %q, %v; want %q", public, got, err, want)
		}
	}
}

func TestASignersOddSignaturesAreRefused(t *testing.T) {
	for name, der := range map[string]any{
		"too large": struct{ R, S *big.Int }{new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)},
		"negative":  struct{ R, S *big.Int }{big.NewInt(1), big.NewInt(-1)},
		"one":       struct{ R *big.Int }{big.NewInt(1)},
	} {
		b, err := asn1.Marshal(der)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := concatenated(b, 32); err == nil {
			t.Errorf("%s: concatenated = %x, want an error", name, out)
		}
	}
	b, err := asn1.Marshal(struct{ R, S *big.Int }{big.NewInt(1), big.NewInt(2)})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := concatenated(b, 32); err != nil || len(out) != 64 || out[31] != 1 || out[63] != 2 {
		t.Errorf("concatenated = %x, %v; want both numbers in full length", out, err)
	}
}
