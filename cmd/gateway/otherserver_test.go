package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// TestCredentialsForOtherServersGetTheirToken proves each kind to a server that
// is not Entra, and has check --live say so; a wrong one is explained.
func TestCredentialsForOtherServersGetTheirToken(t *testing.T) {
	world, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer world.Close()
	server, err := sandbox.StartOAuth(sandbox.OAuthOptions{World: world, Path: "/realms/x"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p := &place{t, world, t.TempDir()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p.must(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	p.must(err)
	p.file("client.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	p.file("secret", "s%cr&t+ é:x")
	p.file("wrong", "wrong-wrong-wrong")
	p.must(server.AddClient(sandbox.OAuthClient{ID: "gateway", Secrets: []string{"s%cr&t+ é:x"}, Keys: map[string]crypto.PublicKey{"2026-01": key.Public()}}))
	endpoint, issuer := fmt.Sprintf("token_endpoint: %q", server.TokenURL()), fmt.Sprintf("issuer: %q", server.Issuer())
	for name, test := range map[string]struct {
		credential string
		code       int
		want       string
	}{
		"Basic at an endpoint":     {endpoint + ", client_secret: {file: secret}, token_params: {audience: https://api.example.com}", exitFine, "aud https://api.example.com"},
		"post at an endpoint":      {endpoint + ", client_secret: {file: secret}, token_endpoint_auth_method: client_secret_post", exitFine, "ok  credential default"},
		"secret by metadata":       {issuer + ", client_secret: {file: secret}", exitFine, "ok  credential default"},
		"key by metadata":          {issuer + ", client_key: {file: client.key, kid: 2026-01}", exitFine, "ok  credential default"},
		"key at an endpoint":       {endpoint + ", token_endpoint_auth_method: private_key_jwt, client_key: {file: client.key, kid: 2026-01, alg: ES256}", exitFine, "ok  credential default"},
		"a wrong secret":           {issuer + ", client_secret: {file: wrong}", exitNo, "    - the issuer's metadata names the token endpoint " + server.TokenURL()},
		"an issuer that is not it": {fmt.Sprintf("issuer: %q, client_secret: {file: secret}", strings.TrimSuffix(server.Issuer(), "x")+"y"), exitNo, "Do: "},
	} {
		t.Run(name, func(t *testing.T) {
			p.file("routes.yaml", "version: 1\ncredentials:\n  default: {client_id: gateway, "+test.credential+"}\nroutes:\n  - {name: api, hosts: [api.example.com], scope: orders}\n")
			var out, errs strings.Builder
			code := run(t.Context(), []string{"check", "--live", "--config", filepath.Join(p.dir, "routes.yaml")}, std{&out, &errs})
			if code != test.code || !strings.Contains(out.String(), test.want) {
				t.Errorf("exit code %d, want %d, and %q in:\n%s%s", code, test.code, test.want, &out, &errs)
			}
			for _, secret := range []string{"s%cr&t", "wrong-wrong", "eyJhbGci"} {
				if strings.Contains(out.String()+errs.String(), secret) {
					t.Errorf("it shows a secret:\n%s%s", &out, &errs)
				}
			}
		})
	}
}
