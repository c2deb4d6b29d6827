package authority_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

const year = 365 * 24 * time.Hour

func certified(t testing.TB, host string, c routes.Certificate) *routes.Credential {
	t.Helper()
	cred := entra(t, host)
	cred.ClientSecret, cred.ClientCertificate = secrets.Ref{}, &c
	return cred
}

func TestUnfitCertificatesAreRefusedAtLoad(t *testing.T) {
	key := newRSA(t, 2048)
	good := certify(t, key, -time.Hour, year)
	small := certify(t, newRSA(t, 1024), -time.Hour, year)
	curve := certify(t, newEC(t), -time.Hour, year)
	alien := certify(t, newRSA(t, 2048), -time.Hour, year)
	sealed := string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}))
	oldSealed := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("x")}))
	for _, tt := range []struct{ name, file, want, remedy string }{
		{"expired", certify(t, key, -year, -time.Hour-time.Minute).both(t), "expired 1h ago", "create a new one"},
		{"not yet valid", certify(t, key, time.Hour, year).both(t), "not valid before", "clock"},
		{"small key", small.both(t), "1024 bits", "2048"},
		{"EC key", curve.both(t), "not an RSA key", "RSA"},
		{"another key", good.certPEM() + alien.keyPEM(t), "does not belong", "together"},
		{"no key", good.certPEM(), "0 private keys", "key_file"},
		{"two keys", good.both(t) + alien.keyPEM(t), "2 private keys", "exactly one"},
		{"no certificate", good.keyPEM(t), "no certificate", "PEM"},
		{"encrypted PKCS#8", good.certPEM() + sealed, "is encrypted and there is no password", "client_certificate.password"},
		{"encrypted PKCS#1", good.certPEM() + oldSealed, "Proc-Type: 4,ENCRYPTED", "openssl pkcs8 -topk8"},
		{"PFX", "\x30\x82\x01\x00\x02\x01\x03", "PKCS#12", "openssl pkcs12"},
		{"BER", "\x30\x80\x02\x01\x03\x00\x00", "PKCS#12", "openssl pkcs12"},
		{"DER", string(good.cert.Raw), "DER", "openssl x509"},
		{"a key as DER", "\x30\x82\x04\xbe\x02\x01\x00\x30", "private key as DER", "openssl pkey -inform DER"},
		{"JWK", ` {"kty":"RSA"}`, "JSON", "convert the JWK"},
		{"damaged key", good.certPEM() + strings.Replace(good.keyPEM(t), "PRIVATE KEY-----\nMII", "PRIVATE KEY-----\nMIa", 1), "parse private key", "RSA"},
		{"empty", "", "empty", "PEM"},
		{"text", "hello", "not PEM", "PEM"},
		{"damaged", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n", "damaged", "again"},
		{"too large", strings.Repeat("a", 1<<20+1), "larger than", "readable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := serve(t, nil)
			c := certified(t, e.URL, routes.Certificate{File: file(t, tt.file)})
			d := authority.NewDirectory(authority.Options{})
			f := d.Replace([]*routes.Credential{c})
			if len(f) != 1 || !f[0].Alarm || !strings.Contains(f[0].Message, tt.want) || !strings.Contains(f[0].Remedy, tt.remedy) {
				t.Errorf("findings = %+v, want an alarm with %q and %q", f, tt.want, tt.remedy)
			}
			st := condition(t, d)
			if st.Ready || !strings.Contains(st.Reason, tt.want) {
				t.Errorf("status = %+v", st)
			}
			if got := fails(t, d, c); !got.Refused() || !strings.Contains(got.Error(), "is not ready: ") {
				t.Errorf("error = %v", got)
			}
			if n := len(e.sent()); n != 0 {
				t.Errorf("requests = %d, want none", n)
			}
		})
	}
}

func TestACertificatesEndIsAnnounced(t *testing.T) {
	key := newRSA(t, 2048)
	for _, tt := range []struct {
		left     time.Duration
		warns    bool
		alarms   bool
		contains string
	}{
		{year, false, false, ""},
		{31*24*time.Hour + time.Hour, false, false, ""},
		{30*24*time.Hour - time.Hour, true, false, "expires in 29 days"},
		{20*24*time.Hour + time.Hour, true, false, "expires in 20 days"},
		{14*24*time.Hour - time.Hour, true, false, "expires in 13 days"},
		{7*24*time.Hour + time.Hour, true, false, "expires in 7 days"},
		{7*24*time.Hour - time.Second, true, true, "expires in 6 days"},
		{5*24*time.Hour + time.Hour, true, true, "expires in 5 days"},
		{90 * time.Minute, true, true, "expires in 1h"},
	} {
		p := certify(t, key, -time.Hour, tt.left)
		c := certified(t, "https://login.example.com", routes.Certificate{File: file(t, p.both(t))})
		f := authority.NewDirectory(authority.Options{}).Replace([]*routes.Credential{c})
		if (len(f) == 1) != tt.warns || tt.warns && (f[0].Alarm != tt.alarms || !strings.Contains(f[0].Message, tt.contains)) {
			t.Errorf("%s left: findings = %+v", tt.left, f)
		}
	}
}

func TestStatusShowsTheThumbprintsOfThePortal(t *testing.T) {
	p := certify(t, newRSA(t, 2048), -time.Hour, year)
	c := certified(t, "https://login.example.com", routes.Certificate{File: file(t, p.both(t))})
	got := condition(t, loaded(t, c))
	sum := sha256.Sum256(p.cert.Raw)
	want := &authority.Leaf{
		Subject: "CN=reports", NotBefore: p.cert.NotBefore, NotAfter: p.cert.NotAfter,
		SHA1: fmt.Sprintf("%X", sha1.Sum(p.cert.Raw)), SHA256: fmt.Sprintf("%X", sum),
		X5TS256: base64.RawURLEncoding.EncodeToString(sum[:]),
	}
	if !reflect.DeepEqual(got.Certificate, want) {
		t.Errorf("certificate = %+v, want %+v", got.Certificate, want)
	}
	if !got.Ready || got.Kind != "client_certificate" || got.Host != "login.example.com" {
		t.Errorf("status = %+v", got)
	}
}

func TestAnUnknownCertificateIsNamedInTheRemedy(t *testing.T) {
	p := certify(t, newRSA(t, 2048), -time.Hour, year)
	e := serve(t, says(401, `{"error":"invalid_client","error_description":"AADSTS700027: ...","error_codes":[700027]}`))
	c := certified(t, e.URL, routes.Certificate{File: file(t, p.both(t))})
	got := fails(t, loaded(t, c), c)
	thumbprint := fmt.Sprintf("%X", sha1.Sum(p.cert.Raw))
	if !strings.Contains(got.Remedy, thumbprint) {
		t.Errorf("remedy = %q, want %s", got.Remedy, thumbprint)
	}
	sum := sha256.Sum256(p.cert.Raw)
	for _, want := range []string{"CN=reports", thumbprint, fmt.Sprintf("%X", sum), base64.RawURLEncoding.EncodeToString(sum[:]), "PS256"} {
		if !strings.Contains(got.Detail, want) {
			t.Errorf("detail = %q, want %s in it", got.Detail, want)
		}
	}
}

func TestKeyAndCertificateAreFoundInAnyForm(t *testing.T) {
	key := newRSA(t, 2048)
	p, other := certify(t, key, -time.Hour, year), certify(t, newEC(t), -time.Hour, year)
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	for name, files := range map[string]routes.Certificate{
		"PKCS#1, key first":              {File: file(t, pkcs1+p.certPEM())},
		"two files":                      {File: file(t, p.certPEM()), KeyFile: file(t, p.keyPEM(t))},
		"two files, a key in both":       {File: file(t, p.both(t)), KeyFile: file(t, p.keyPEM(t))},
		"leaf after another certificate": {File: file(t, other.certPEM()+p.both(t))},
	} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, nil)
			c := certified(t, e.URL, files)
			succeeds(t, loaded(t, c), c)
			text := e.sent()[0].Get("client_assertion")
			parts := strings.Split(text, ".")
			signature, err := base64.RawURLEncoding.DecodeString(parts[len(parts)-1])
			if err != nil {
				t.Fatal(err)
			}
			digest := sha256.Sum256([]byte(strings.Join(parts[:2], ".")))
			salt := &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}
			if err := rsa.VerifyPSS(&key.PublicKey, crypto.SHA256, digest[:], signature, salt); err != nil {
				t.Errorf("the standard library does not verify the signature: %v", err)
			}
		})
	}
}

func TestACertificateThatExpiresLaterIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := certify(t, newRSA(t, 2048), -time.Hour, 40*24*time.Hour)
		c := certified(t, "https://login.example.com", routes.Certificate{File: file(t, p.both(t))})
		d := authority.NewDirectory(authority.Options{Dialer: nobody{t}})
		d.Replace([]*routes.Credential{c})
		time.Sleep(41 * 24 * time.Hour) // of the bubble
		if got := fails(t, d, c); !strings.Contains(got.Error(), "the certificate expired 24h ago") {
			t.Errorf("error = %v", got)
		}
		if st := condition(t, d); st.Ready || !strings.Contains(st.Reason, "expired") {
			t.Errorf("status = %+v", st)
		}
	})
}
