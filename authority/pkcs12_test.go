package authority_test

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

// opener is the password of every file under testdata/openssl.
const opener = "correct horse"

// foreign is a file that OpenSSL or keytool wrote.
func foreign(name string) string { return filepath.Join("testdata", "openssl", name) }

// signed decodes an assertion whose signature key verifies by alg.
func signed(t testing.TB, assertion string, key any, alg string) (header, claims map[string]any) {
	t.Helper()
	parsed := jwt.MapClaims{}
	token, err := jwt.ParseWithClaims(assertion, parsed, func(*jwt.Token) (any, error) { return key, nil }, jwt.WithValidMethods([]string{alg}))
	if err != nil {
		t.Fatalf("the assertion does not verify by %s: %v", alg, err)
	}
	return token.Header, parsed
}

// proves sees that c gets a token by an assertion that public verifies and
// that names the certificate leaf.
func proves(t testing.TB, c routes.Certificate, leaf *x509.Certificate, public *rsa.PublicKey) {
	t.Helper()
	e := serve(t, nil)
	cred := certified(t, e.URL, c)
	succeeds(t, loaded(t, cred), cred)
	header, _ := signed(t, e.sent()[0].Get("client_assertion"), public, "PS256")
	if got, _ := header["x5t#S256"].(string); got != x5t(leaf) {
		t.Errorf("x5t#S256 = %q is not that of the leaf", header["x5t#S256"])
	}
}

// certificateOf is the first certificate of a PEM text.
func certificateOf(t testing.TB, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func x5t(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func TestPKCS12OpensWhoeverWroteIt(t *testing.T) {
	key := newRSA(t, 2048)
	leaf, other := certify(t, key, -time.Hour, year), certify(t, newEC(t), -time.Hour, year)
	pass := secretFile(t, marker+"\n")
	encode := func(e *pkcs12.Encoder, password string) string {
		t.Helper()
		der, err := e.Encode(key, leaf.cert, []*x509.Certificate{other.cert}, password)
		if err != nil {
			t.Fatal(err)
		}
		return string(der)
	}
	for name, c := range map[string]routes.Certificate{
		"RC2 and 3DES":         {File: file(t, encode(pkcs12.LegacyRC2, marker)), Password: pass},
		"3DES":                 {File: file(t, encode(pkcs12.LegacyDES, marker)), Password: pass},
		"AES and SHA-256":      {File: file(t, encode(pkcs12.Modern2023, marker)), Password: pass},
		"PBMAC1":               {File: file(t, encode(pkcs12.Modern2026, marker)), Password: pass},
		"the empty password":   {File: file(t, encode(pkcs12.Modern2023, ""))},
		"no protection at all": {File: file(t, encode(pkcs12.Passwordless, ""))},
	} {
		t.Run(name, func(t *testing.T) {
			proves(t, c, leaf.cert, &key.PublicKey)
		})
	}
}

func TestFilesOfOpenSSLOpen(t *testing.T) {
	text, err := os.ReadFile(foreign("pbes2.pem"))
	if err != nil {
		t.Fatal(err)
	}
	leaf := certificateOf(t, text)
	public, _ := leaf.PublicKey.(*rsa.PublicKey)
	for _, tt := range []struct{ name, password string }{
		{"modern.p12", opener}, {"legacy.p12", opener}, {"empty.p12", ""}, {"pbes2.pem", opener}, {"scrypt.pem", opener},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := routes.Certificate{File: foreign(tt.name)}
			if tt.password != "" {
				c.Password = secretFile(t, tt.password)
			}
			proves(t, c, leaf, public)
		})
	}
}

func TestPasswordsThatDoNotFitAreNamed(t *testing.T) {
	key := newRSA(t, 2048)
	leaf := certify(t, key, -time.Hour, year)
	modern, err := pkcs12.Modern.Encode(key, leaf.cert, nil, opener)
	if err != nil {
		t.Fatal(err)
	}
	wrong := secretFile(t, marker)
	const here = "client_certificate.password"
	for _, tt := range []struct {
		name         string
		file         string
		password     secrets.Ref
		want, remedy string
	}{
		{"PKCS#12, wrong", file(t, string(modern)), wrong, "does not open with the password from file", "exported with"},
		{"PKCS#12, missing", file(t, string(modern)), secrets.Ref{}, "is encrypted and there is no password", here},
		{"PKCS#12, not to be had", file(t, string(modern)), secrets.Ref{Env: "GATEWAY_NO_SUCH_PASSWORD"}, here, "set GATEWAY_NO_SUCH_PASSWORD"},
		{"old PKCS#12, wrong", foreign("legacy.p12"), wrong, "does not open with the password from file", "exported with"},
		{"PEM, wrong", foreign("pbes2.pem"), wrong, "does not open with the password from file", "check the password"},
		{"PEM, missing", foreign("pbes2.pem"), secrets.Ref{}, "is encrypted and there is no password", here},
		{"PEM of PBES1", foreign("pbes1.pem"), secretFile(t, opener), "only PBES2 supported", "openssl pkcs8 -topk8"},
		{"PEM that asks for gigabytes", file(t, hungry(t)), secretFile(t, opener), "more rounds than are sensible", "check the password"},
		{"traditional PEM", foreign("traditional.pem"), secretFile(t, opener), "Proc-Type: 4,ENCRYPTED", "openssl pkcs8 -topk8"},
		{"several keys", foreign("several.p12"), secretFile(t, opener), "several private keys", "export again only"},
		{"damaged PKCS#12", file(t, string(modern[:len(modern)-9])), secretFile(t, opener), "cannot be read as PKCS#12", "openssl pkcs12"},
		{"a curve in PKCS#12", file(t, string(curve(t))), secretFile(t, opener), "not an RSA key", "2048"},
		{"PSS of SHA-512", foreign("pss512.pem"), secrets.Ref{}, "another hash than SHA-256", "RSA"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := certified(t, "https://login.example.com", routes.Certificate{File: tt.file, Password: tt.password})
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
}

// discreet sees that findings hold nothing that is secret in these tests.
func discreet(t testing.TB, findings []authority.Finding) {
	t.Helper()
	all, err := json.Marshal(findings)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"m4rker", opener, "eyJhbGci"} {
		if strings.Contains(string(all), bad) {
			t.Errorf("%q is in %s", bad, all)
		}
	}
}

// hungry is a key whose scrypt wants 32 GiB.
func hungry(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(foreign("scrypt.pem"))
	if err != nil {
		t.Fatal(err)
	}
	cert, rest := pem.Decode(text)
	key, _ := pem.Decode(rest)
	before, after := "\x02\x02\x40\x00\x02\x01\x08\x02\x01\x01", "\x02\x02\x40\x00\x02\x01\x7f\x02\x01\x7f"
	if strings.Count(string(key.Bytes), before) != 1 {
		t.Fatal("scrypt.pem has other costs than OpenSSL's")
	}
	key.Bytes = []byte(strings.Replace(string(key.Bytes), before, after, 1))
	return string(pem.EncodeToMemory(cert)) + string(pem.EncodeToMemory(key))
}

func curve(t testing.TB) []byte {
	t.Helper()
	p := certify(t, newEC(t), -time.Hour, year)
	der, err := pkcs12.Modern.Encode(p.key, p.cert, nil, opener)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestAPasswordThatNothingNeedsIsAFinding(t *testing.T) {
	key := newRSA(t, 2048)
	p := certify(t, key, -time.Hour, year)
	bare, err := pkcs12.Passwordless.Encode(key, p.cert, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"PEM": file(t, p.both(t)), "PKCS#12": file(t, string(bare)), "empty password": foreign("empty.p12")} {
		// Not even readable: it is not read.
		c := certified(t, "https://login.example.com", routes.Certificate{File: path, Password: secrets.Ref{File: "/nonexistent/password"}})
		d := authority.NewDirectory(authority.Options{})
		f := d.Replace([]*routes.Credential{c})
		if len(f) != 1 || f[0].Alarm || !strings.Contains(f[0].Message, "password is not used") || f[0].Remedy == "" {
			t.Errorf("%s: findings = %+v", name, f)
		}
		if !condition(t, d).Ready {
			t.Errorf("%s: not ready", name)
		}
	}
}

func TestAnEncryptedKeyMayLieApart(t *testing.T) {
	text, err := os.ReadFile(foreign("pbes2.pem"))
	if err != nil {
		t.Fatal(err)
	}
	leaf := certificateOf(t, text)
	at := strings.Index(string(text), "-----BEGIN ENCRYPTED")
	public, _ := leaf.PublicKey.(*rsa.PublicKey)
	c := routes.Certificate{File: file(t, string(text[:at])), KeyFile: file(t, string(text[at:])), Password: secretFile(t, opener)}
	proves(t, c, leaf, public)
}

func FuzzCertificateFile(f *testing.F) {
	for _, name := range []string{"modern.p12", "legacy.p12", "pbes2.pem", "traditional.pem", "pss.pem", "several.p12"} {
		content, err := os.ReadFile(foreign(name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add([]byte("\x30\x80\x02\x01\x03"))
	dir := f.TempDir()
	pass := filepath.Join(dir, "password")
	if err := os.WriteFile(pass, []byte(opener), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		path := file(t, string(content))
		c := certified(t, "https://login.example.com", routes.Certificate{File: path, Password: secrets.Ref{File: pass}})
		d := authority.NewDirectory(authority.Options{Dialer: nobody{t}})
		findings := d.Replace([]*routes.Credential{c})
		if st := condition(t, d); st.Ready != (st.Certificate != nil) || !st.Ready && (len(findings) == 0 || findings[0].Remedy == "") {
			t.Errorf("status = %+v, findings = %+v", st, findings)
		}
	})
}
