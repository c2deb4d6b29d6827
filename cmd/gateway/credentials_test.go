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
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/sandbox"
	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// certificate makes a self-signed one that ends after life.
func certificate(t *testing.T, life time.Duration) (*x509.Certificate, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return leaf, key
}

// pemCertificate makes a certificate of a year and its key in one PEM file.
func pemCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	leaf, key := certificate(t, 365*24*time.Hour)
	writePEM(t, path, leaf, key)
	return leaf
}

func writePEM(t *testing.T, path string, leaf *x509.Certificate, key *rsa.PrivateKey) {
	t.Helper()
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// place is where one credential is tried: a world of its own and a folder.
type place struct {
	*testing.T
	world *sandbox.World
	dir   string
}

func (p *place) file(name, content string) {
	p.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o600); err != nil {
		p.Fatal(err)
	}
}

func (p *place) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// setenv takes NAME=value, as a platform sets it.
func (p *place) setenv(variables []string) {
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		p.Setenv(name, value)
	}
}

// app is an app registration that is proven by proof.
func (p *place) app(proof string) string {
	if p.world.CAPEM() != nil {
		proof += ", ca_file: ca.pem"
	}
	return fmt.Sprintf("tenant_id: %s, client_id: %s, authority_host: %q, %s", sandbox.TenantID, sandbox.ClientID, p.world.Entra.URL(), proof)
}

func (p *place) federate(issuer, subject string) {
	p.Helper()
	p.must(p.world.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: issuer, Subject: subject, Audience: sandbox.TokenExchangeAudience}))
}

// platform starts a place that hands out ID tokens which Entra trusts.
func (p *place) platform(kind sandbox.PlatformKind) {
	p.Helper()
	at, err := sandbox.StartPlatform(sandbox.PlatformOptions{World: p.world, Kind: kind})
	p.must(err)
	p.Cleanup(at.Close)
	p.setenv(at.Environ())
	p.federate(p.world.Issuer.URL(), at.Subject())
}

// host starts a machine with one managed identity.
func (p *place) host(system bool) sandbox.ManagedIdentity {
	p.Helper()
	m, err := p.world.Entra.AddManagedIdentity(sandbox.ManagedIdentity{Name: "host", SystemAssigned: system})
	p.must(err)
	p.must(p.world.Entra.Grant(m.ClientID, sandbox.GraphResource, "User.Read.All"))
	h, err := sandbox.StartHost(sandbox.HostOptions{World: p.world, Kind: sandbox.AppService, Identities: []sandbox.ManagedIdentity{m}})
	p.must(err)
	p.Cleanup(h.Close)
	p.setenv(h.Environ())
	return m
}

// kinds are all kinds of credentials for Entra, by name; each returns the YAML
// of its credential.
func kinds() map[string]func(*place) string {
	const subject = "system:serviceaccount:shop:orders"
	return map[string]func(*place) string{
		"secret": func(p *place) string { return p.app("client_secret: {file: secret}") },
		"secret of a command": func(p *place) string {
			return p.app("client_secret: {exec: [/bin/cat, " + filepath.Join(p.dir, "secret") + "]}")
		},
		"secret by Basic": func(p *place) string {
			return p.app("client_secret: {file: secret}, token_endpoint_auth_method: client_secret_basic")
		},
		"PEM": func(p *place) string {
			p.must(p.world.Entra.AddCertificate(sandbox.ClientID, pemCertificate(p.T, filepath.Join(p.dir, "app.pem"))))
			return p.app("client_certificate: {file: app.pem}, assertion_claims: {purpose: test}")
		},
		"PKCS#12": func(p *place) string {
			leaf, key := certificate(p.T, 365*24*time.Hour)
			p.must(p.world.Entra.AddCertificate(sandbox.ClientID, leaf))
			pfx, err := pkcs12.Modern.Encode(key, leaf, nil, "pass word")
			p.must(err)
			p.file("app.pfx", string(pfx))
			p.file("password", "pass word\n")
			return p.app("client_certificate: {file: app.pfx, password: {file: password}, send_chain: true}")
		},
		"federated file": func(p *place) string {
			p.federate(p.world.Issuer.URL(), subject)
			token, err := p.world.FederatedToken(subject, sandbox.TokenExchangeAudience, time.Hour)
			p.must(err)
			p.file("federated", token)
			return p.app("federated_token: {file: federated}")
		},
		"federated command": func(p *place) string {
			p.federate(p.world.Issuer.URL(), subject)
			token, err := p.world.FederatedToken(subject, sandbox.TokenExchangeAudience, time.Hour)
			p.must(err)
			p.file("federated", token)
			return p.app("federated_token: {exec: [/bin/cat, " + filepath.Join(p.dir, "federated") + "]}")
		},
		"GitHub Actions": func(p *place) string {
			p.platform(sandbox.GitHub)
			return p.app(`federated_token: {url: {address: "${ACTIONS_ID_TOKEN_REQUEST_URL}", header: Authorization, format: "Bearer {secret}", secret: {env: ACTIONS_ID_TOKEN_REQUEST_TOKEN}, member: value}}`)
		},
		"Google Cloud": func(p *place) string {
			p.platform(sandbox.GCP)
			return p.app("federated_token: {gcp: {service_account: default}}")
		},
		"managed identity": func(p *place) string {
			p.host(true)
			return "managed_identity: {}"
		},
		"managed identity of several": func(p *place) string {
			return "managed_identity: {resource_id: " + p.host(false).ResourceID + "}"
		},
		"managed identity as proof": func(p *place) string {
			m := p.host(false)
			p.federate(p.world.Entra.URL()+"/"+sandbox.TenantID+"/v2.0", m.ObjectID)
			return p.app("federated_token: {managed_identity: {client_id: " + m.ClientID + "}}")
		},
	}
}

// TestEachKindOfCredentialGetsItsToken proves every kind to the sandbox's
// Entra, which verifies them for real, over TLS with a CA of its own; and has
// check --live say so. GitHub's own endpoint is one that the system's roots
// speak for, so that world is plain.
func TestEachKindOfCredentialGetsItsToken(t *testing.T) {
	for name, kind := range kinds() {
		t.Run(name, func(t *testing.T) {
			world, err := sandbox.Start(sandbox.Options{TLS: name != "GitHub Actions"})
			if err != nil {
				t.Fatal(err)
			}
			defer world.Close()
			p := &place{t, world, t.TempDir()}
			p.file("ca.pem", string(world.CAPEM()))
			p.file("secret", world.Secret())
			p.file("routes.yaml", "version: 1\ncredentials:\n  default: {"+kind(p)+"}\nroutes:\n  - preset: graph\n")
			f, err := config{path: filepath.Join(p.dir, "routes.yaml"), allowExec: true}.open()
			p.must(err)
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
			if claims, err := authority.Claims(tok.Access); err != nil || claims.AppID == "" || len(claims.Roles) == 0 {
				t.Errorf("claims = %+v, %v", claims, err)
			}
			newProber(e).run(t.Context(), func(question) {}, func(q question, row tokenJSON) {
				if !row.OK || !slices.Contains(row.Roles, "User.Read.All") {
					t.Errorf("%s: %s", q, row)
				}
			})
		})
	}
}

// TestNoCallBorrowsTheHostsIdentity routes calls to the very endpoint that the
// gateway's own credential is got from.
func TestNoCallBorrowsTheHostsIdentity(t *testing.T) {
	world, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer world.Close()
	p := &place{t, world, t.TempDir()}
	p.host(true)
	endpoint, _, _ := strings.Cut(strings.TrimPrefix(os.Getenv("IDENTITY_ENDPOINT"), "http://"), "/")
	p.file("routes.yaml", fmt.Sprintf("version: 1\ncredentials:\n  default: {managed_identity: {}}\nroutes:\n  - {name: trap, hosts: [api.contoso.com], scope: api://x/.default, upstream: %q}\n", "http://"+endpoint))
	f, err := routes.Open(filepath.Join(p.dir, "routes.yaml"), os.LookupEnv)
	p.must(err)
	e, _, err := quietEngine(f)
	p.must(err)
	defer e.Close()
	_, port, _ := strings.Cut(endpoint, ":")
	for _, addr := range []string{endpoint, "localhost:" + port, "[::ffff:127.0.0.1]:" + port, "169.254.169.254:80", "127.0.0.1:40342"} {
		if c, err := e.hop.DialContext(t.Context(), "tcp", addr); err == nil {
			c.Close()
			t.Errorf("%s could be dialled for a call", addr)
		} else if !strings.Contains(err.Error(), "may not be dialled") {
			t.Errorf("%s: %v, want a refusal to dial", addr, err)
		}
	}
}

func TestCheckWarnsOfWhatWillBreak(t *testing.T) {
	dir := t.TempDir()
	leaf, key := certificate(t, 10*24*time.Hour)
	writePEM(t, filepath.Join(dir, "app.pem"), leaf, key)
	const text = `version: 1
credentials:
  soon: {tenant_id: contoso.com, client_id: 00001111-aaaa-2222-bbbb-3333cccc4444, client_certificate: {file: app.pem}}
  id: {tenant_id: contoso.com, client_id: 00001111-aaaa-2222-bbbb-3333cccc4444, client_secret: {file: secret}}
  idle: {tenant_id: contoso.com, client_id: 00001111-aaaa-2222-bbbb-3333cccc4444, client_secret: {file: secret}}
routes:
  - {preset: graph, credential: soon}
  - {preset: arm, credential: id}
`
	for name, content := range map[string]string{"routes.yaml": text, "secret": "0f0f0f0f-aaaa-bbbb-cccc-0123456789ab"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs strings.Builder
	if code := run(t.Context(), []string{"check", "--config", filepath.Join(dir, "routes.yaml")}, std{&out, &errs}); code != exitFine {
		t.Errorf("exit code %d, want 0: warnings are no mistakes", code)
	}
	for _, want := range []string{`credential "soon": .*(expires|ends)`, `credential "id": .*GUID`, "no route uses this credential"} {
		if !regexp.MustCompile(want).MatchString(errs.String()) {
			t.Errorf("check does not warn %q:\n%s", want, &errs)
		}
	}
	if strings.Contains(errs.String()+out.String(), "0f0f0f0f") {
		t.Errorf("check shows a secret:\n%s%s", &out, &errs)
	}
}
