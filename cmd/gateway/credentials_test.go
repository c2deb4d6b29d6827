package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sandbox"
)

// pemCertificate makes a certificate and its key in one PEM file.
func pemCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// TestEachKindOfCredentialGetsItsToken proves every kind to the sandbox's
// Entra, which verifies them for real, over TLS with a CA of its own.
func TestEachKindOfCredentialGetsItsToken(t *testing.T) {
	world, err := sandbox.Start(sandbox.Options{TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	defer world.Close()
	dir := t.TempDir()
	file := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file("ca.pem", string(world.CAPEM()))
	file("secret", world.Secret())
	if err := world.Entra.AddCertificate(sandbox.ClientID, pemCertificate(t, filepath.Join(dir, "app.pem"))); err != nil {
		t.Fatal(err)
	}
	if err := world.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: world.Issuer.URL(), Subject: "system:serviceaccount:shop:orders", Audience: sandbox.TokenExchangeAudience}); err != nil {
		t.Fatal(err)
	}
	federated, err := world.FederatedToken("system:serviceaccount:shop:orders", sandbox.TokenExchangeAudience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	file("federated", federated)
	for name, proof := range map[string]string{
		"secret": "client_secret: {file: secret}", "certificate": "client_certificate: {file: app.pem}", "federated": "federated_token: {file: federated}",
	} {
		t.Run(name, func(t *testing.T) {
			file("routes.yaml", fmt.Sprintf(`version: 1
credentials:
  default: {tenant_id: %s, client_id: %s, authority_host: %q, ca_file: ca.pem, %s}
routes:
  - preset: graph
`, sandbox.TenantID, sandbox.ClientID, world.Entra.URL(), proof))
			f, err := routes.Open(filepath.Join(dir, "routes.yaml"), os.LookupEnv)
			if err != nil {
				t.Fatal(err)
			}
			e, notices, err := quietEngine(f)
			if err != nil || len(notices) > 0 {
				t.Fatal(notices, err)
			}
			defer e.Close()
			g := e.gate.Load()
			tok, _, err := e.store.Token(t.Context(), g.Key(g.Table().Routes[0]))
			if err != nil {
				t.Fatal(err)
			}
			if claims, err := authority.Claims(tok.Access); err != nil || claims.AppID != sandbox.ClientID || len(claims.Roles) == 0 {
				t.Errorf("claims = %+v, %v", claims, err)
			}
		})
	}
}
