package e2e

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// openssl runs OpenSSL in dir: certificates as operators make them.
func openssl(t testing.TB, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func parsePEM(t testing.TB, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no PEM in %s", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// proven is graphSetup whose credential has another proof.
func proven(w *sandbox.World, proof string) setup {
	s := graphSetup(w, "log: {level: trace}\n")
	s.Config = strings.Replace(s.Config, "client_secret: {file: client-secret}", proof, 1)
	s.Files = map[string]string{}
	return s
}

// usable checks that the one route of g gives what it should.
func usable(t testing.TB, g *gateway) {
	t.Helper()
	if a := must(t, g.client, request{url: g.url("/graph/v1.0/users")}); a.status != http.StatusOK {
		t.Errorf("status %d: %.900s", a.status, a.body)
	}
}

func TestCertificatesAsOpenSSLMakesThemAreTaken(t *testing.T) {
	t.Parallel()
	const subject = "/CN=an app"
	tests := []struct {
		name  string
		make  [][]string
		proof string
		alg   string
	}{
		{"PKCS#12 of today", [][]string{
			{"req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365", "-subj", subject, "-keyout", "app.key", "-out", "app.pem"},
			{"pkcs12", "-export", "-inkey", "app.key", "-in", "app.pem", "-out", "app.pfx", "-passout", "file:password"},
		}, "client_certificate: {file: app.pfx, password: {file: password}}", "PS256"},
		{"PKCS#12 of old", [][]string{
			{"req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365", "-subj", subject, "-keyout", "app.key", "-out", "app.pem"},
			{"pkcs12", "-export", "-legacy", "-inkey", "app.key", "-in", "app.pem", "-out", "app.pfx", "-passout", "file:password"},
		}, "client_certificate: {file: app.pfx, password: {file: password}}", "PS256"},
		{"encrypted PEM key", [][]string{
			{"req", "-x509", "-newkey", "rsa:2048", "-days", "365", "-subj", subject, "-keyout", "app.key", "-out", "app.pem", "-passout", "file:password"},
		}, "client_certificate: {file: app.pem, key_file: app.key, password: {file: password}}", "PS256"},
		{"key for RSASSA-PSS alone", [][]string{
			{"genpkey", "-algorithm", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_pss_keygen_md:sha256", "-pkeyopt", "rsa_pss_keygen_mgf1_md:sha256", "-pkeyopt", "rsa_pss_keygen_saltlen:32", "-out", "app.key"},
			{"req", "-x509", "-new", "-key", "app.key", "-days", "365", "-subj", subject, "-out", "app.pem", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"},
		}, "client_certificate: {file: app.pem, key_file: app.key}", "PS256"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sandbox.Options{})
			s := proven(w, tt.proof)
			s.Dir = t.TempDir()
			write(t, filepath.Join(s.Dir, "password"), "of the file: é&+%")
			for _, args := range tt.make {
				openssl(t, s.Dir, args...)
			}
			if err := w.Entra.AddCertificate(sandbox.ClientID, parsePEM(t, filepath.Join(s.Dir, "app.pem"))); err != nil {
				t.Fatal(err)
			}
			g := start(t, s)
			usable(t, g)
			for _, a := range w.Entra.Assertions() {
				if got := a.Header["alg"]; got != tt.alg {
					t.Errorf("alg = %v, want %s", got, tt.alg)
				}
			}
			if out, code := g.command(t, "check", "--live"); code != 0 {
				t.Errorf("check --live: exit %d with %s", code, out)
			}
		})
	}
}

// federate lets a subject of the world's issuer be the app.
func federate(t testing.TB, w *sandbox.World, subject string) {
	t.Helper()
	if err := w.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: w.Issuer.URL(), Subject: subject}); err != nil {
		t.Fatal(err)
	}
}

func TestFederatedTokenOfGitHubGoogleAndACommand(t *testing.T) {
	t.Parallel()
	platform := func(t *testing.T, w *sandbox.World, kind sandbox.PlatformKind) *sandbox.Platform {
		t.Helper()
		p, err := sandbox.StartPlatform(sandbox.PlatformOptions{World: w, Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		federate(t, w, p.Subject())
		return p
	}
	t.Run("GitHub", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, sandbox.Options{})
		p := platform(t, w, sandbox.GitHub)
		s := proven(w, `federated_token:
      url:
        address: ${ACTIONS_ID_TOKEN_REQUEST_URL}
        header: Authorization
        format: "Bearer {secret}"
        secret: {env: ACTIONS_ID_TOKEN_REQUEST_TOKEN}
        member: value`)
		s.Env = p.Environ()
		usable(t, start(t, s))
	})
	t.Run("Google", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, sandbox.Options{})
		p := platform(t, w, sandbox.GCP)
		s := proven(w, "federated_token: {gcp: {service_account: default}}")
		s.Env = p.Environ()
		usable(t, start(t, s))
	})
	t.Run("a command", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, sandbox.Options{})
		federate(t, w, "job")
		token, err := w.FederatedToken("job", sandbox.TokenExchangeAudience, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "jwt")
		write(t, path, token+"\n")
		s := proven(w, "federated_token: {exec: [/bin/cat, "+path+"]}")
		s.Args = []string{"--allow-exec"}
		usable(t, start(t, s))

		s.Args = nil
		p := refused(t, must(t, http.DefaultClient, request{url: start(t, s).url("/graph/v1.0/users")}), http.StatusBadGateway, "token_refused")
		if !strings.Contains(p.Detail+p.Remedy, "--allow-exec") {
			t.Errorf("problem %+v does not name --allow-exec", p)
		}
	})
}

func TestIdentityBindingOfAKSIsFollowedThroughTheRotationOfItsCA(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	const subject = "system:serviceaccount:default:gateway"
	federate(t, w, subject)
	b, err := sandbox.StartBinding(sandbox.BindingOptions{World: w, Dir: t.TempDir(), Path: "/tokens"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	token, err := w.FederatedToken(subject, sandbox.BindingAudience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s := proven(w, "federated_token: {file: jwt, identity_binding: true}")
	s.Files["jwt"] = token
	s.Env = b.Environ()
	g := start(t, s)
	usable(t, g)
	if err := b.Rotate(); err != nil {
		t.Fatal(err)
	}
	if out, code := g.command(t, "purge", "--admin", g.admin); code != 0 {
		t.Errorf("gateway purge: exit %d with %s", code, out)
	}
	usable(t, g)
	if b.Requests() < 2 || b.Refused() != 0 {
		t.Errorf("%d requests to the token proxy, of which %d were refused", b.Requests(), b.Refused())
	}
}

func TestKeyOfAClientIsTakenByAServerThatItsIssuerNames(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		for _, style := range []sandbox.MetadataStyle{sandbox.RFC8414, sandbox.OpenID} {
			t.Run(alg+" "+string(style), func(t *testing.T) {
				t.Parallel()
				o, err := sandbox.StartOAuth(sandbox.OAuthOptions{Path: "/realms/x", Metadata: style, Algs: []string{alg}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(o.Close)
				key := newClientKey(t, alg)
				block, _ := pem.Decode([]byte(key.pem))
				private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
				if err != nil {
					t.Fatal(err)
				}
				public := private.(crypto.Signer).Public()
				if err := o.AddClient(sandbox.OAuthClient{ID: "gateway", Keys: map[string]crypto.PublicKey{"k1": public}, Method: sandbox.PrivateKey}); err != nil {
					t.Fatal(err)
				}
				var grant sandbox.Grant
				up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					var ok bool
					if grant, ok = o.Introspect(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")); !ok {
						w.WriteHeader(http.StatusUnauthorized)
					}
				}))
				t.Cleanup(up.Close)
				g := start(t, setup{Config: fmt.Sprintf(`version: 1
listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}
credentials:
  partner:
    issuer: %s
    client_id: gateway
    client_key: {file: key.pem, kid: k1}
routes:
  - {name: api, hosts: [api.example.com], scope: orders.read, upstream: %q}
`, o.Issuer(), up.URL), Files: map[string]string{"key.pem": key.pem}})
				if a := must(t, g.client, request{url: g.url("/api/things")}); a.status != http.StatusOK {
					t.Fatalf("status %d: %.600s", a.status, a.body)
				}
				if grant.ClientID != "gateway" || grant.Method != sandbox.PrivateKey {
					t.Errorf("the token stands for %+v", grant)
				}
			})
		}
	}
}
