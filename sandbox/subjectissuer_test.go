package sandbox_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// issued returns an identity for name under a CA that is made for it.
func issued(t *testing.T, name string) (identity, *x509.Certificate) {
	t.Helper()
	authority, end := newIdentity(t, time.Now().Add(24*time.Hour)), newIdentity(t, time.Now().Add(24*time.Hour))
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuing"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	rootCert := signedBy(t, root, root, authority.key, authority.key)
	end.cert = signedBy(t, leaf, rootCert, end.key, authority.key)
	return end, rootCert
}

func signedBy(t *testing.T, tmpl, parent *x509.Certificate, key, by *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// withChain is a right assertion that carries x5c.
func (i identity) withChain(w *sandbox.World, certs ...*x509.Certificate) *draft {
	d := i.draft(w)
	var list []any
	for _, c := range certs {
		list = append(list, base64.StdEncoding.EncodeToString(c.Raw))
	}
	d.header["x5c"] = list
	return d
}

func TestCertificateBySubjectAndIssuerNeedsToBeAllowed(t *testing.T) {
	w := world(t, sandbox.Options{})
	app, root := issued(t, "app.contoso.com")
	other, _ := issued(t, "app.contoso.com")
	if a := present(t, w, app.withChain(w, app.cert, root).sign(t)); a.code() != 700030 {
		t.Errorf("not allowed: %d %s, want AADSTS700030", a.status, a.raw)
	}
	if err := w.Entra.AllowSubjectIssuer(sandbox.ClientID, "app.contoso.com", root); err != nil {
		t.Fatal(err)
	}
	if a := present(t, w, app.withChain(w, app.cert, root).sign(t)); a.status != http.StatusOK {
		t.Errorf("allowed: %d %s, want a token", a.status, a.raw)
	}
	if a := present(t, w, app.draft(w).sign(t)); a.code() != 700027 {
		t.Errorf("without x5c: %d %s, want AADSTS700027", a.status, a.raw)
	}
	if a := present(t, w, other.withChain(w, other.cert).sign(t)); a.code() != 7000277 {
		t.Errorf("another issuer: %d %s, want AADSTS7000277", a.status, a.raw)
	}
	swapped := app.withChain(w, other.cert, root)
	if a := present(t, w, swapped.sign(t)); a.code() != 700027 {
		t.Errorf("leaf is not the thumbprint's: %d %s, want AADSTS700027", a.status, a.raw)
	}
	bare := app.withChain(w)
	bare.header["x5c"] = base64.StdEncoding.EncodeToString(app.cert.Raw)
	if a := present(t, w, bare.sign(t)); a.code() != 50027 {
		t.Errorf("x5c as one string: %d %s, want AADSTS50027", a.status, a.raw)
	}
	if err := w.Entra.AllowSubjectIssuer(sandbox.ClientID, "", root); err == nil {
		t.Error("AllowSubjectIssuer without a subject = nil, want an error")
	}
}

func TestChainDoesNotHurtARegisteredCertificate(t *testing.T) {
	w := world(t, sandbox.Options{})
	app, root := issued(t, "app")
	if err := w.Entra.AddCertificate(sandbox.ClientID, app.cert); err != nil {
		t.Fatal(err)
	}
	if a := present(t, w, app.withChain(w, app.cert, root).sign(t)); a.status != http.StatusOK {
		t.Errorf("answer = %d %s, want a token", a.status, a.raw)
	}
}

func TestAcceptedAssertionsAreRemembered(t *testing.T) {
	good := newIdentity(t, time.Now().Add(24*time.Hour))
	w := withCertificate(t, good)
	refused, d := good.draft(w), good.draft(w)
	refused.claims["aud"] = "elsewhere"
	d.claims["xms_az_claim"] = map[string]any{"n": 7}
	present(t, w, refused.sign(t))
	present(t, w, d.sign(t))
	got := w.Entra.Assertions()
	sum := sha256.Sum256(good.cert.Raw)
	if len(got) != 1 || got[0].ClientID != sandbox.ClientID || got[0].Header["x5t#S256"] != base64.RawURLEncoding.EncodeToString(sum[:]) {
		t.Fatalf("Assertions() = %+v, want the accepted one", got)
	}
	if extra, _ := json.Marshal(got[0].Claims["xms_az_claim"]); string(extra) != `{"n":7}` {
		t.Errorf("extra claim = %s, want it as it was signed", extra)
	}
}
