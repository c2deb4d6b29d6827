package e2e

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// kinds is a gateway with a credential of every kind and a route for each, and
// what each of them hides.
type kinds struct {
	setup
	names []string
}

// add gives the gateway one more credential, towards w's Entra unless proof
// says where, and a route by its name to upstream.
func (k *kinds) add(w *sandbox.World, name, proof, upstream string) {
	if !strings.Contains(proof, "issuer:") && !strings.Contains(proof, "managed_identity: {}") {
		proof = fmt.Sprintf("tenant_id: %s, client_id: %s, authority_host: %q, %s", sandbox.TenantDomain, sandbox.ClientID, w.Entra.URL(), proof)
	}
	k.Config = strings.Replace(k.Config, "routes:\n", fmt.Sprintf("  %s: {%s}\nroutes:\n", name, proof), 1)
	k.Config += fmt.Sprintf("  - {name: %s, hosts: [%s.example.com], credential: %s, scope: %q, upstream: %q}\n", name, name, name, graphScope, upstream)
	k.names = append(k.names, name)
}

// everyKind also tells h what there is to hide.
func everyKind(t *testing.T, w *sandbox.World, h *hunt) *kinds {
	t.Helper()
	dir := t.TempDir()
	k := &kinds{setup: setup{Dir: dir, Args: []string{"--allow-exec"}, Files: map[string]string{"client-secret": w.Secret(), "vault": w.Secret(), "password": "password-of-the-pkcs12"}}}
	k.Config = "version: 1\nlisten: {proxy: \"127.0.0.1:0\", admin: \"127.0.0.1:0\"}\nlog: {level: trace, debug_headers: true}\ncredentials:\nroutes:\n"
	h.hide("the secret", w.Secret())
	h.hide("the password of the PKCS#12", "password-of-the-pkcs12")

	graph := w.Graph.URL()
	k.add(w, "plain", "client_secret: {file: client-secret}", graph)
	k.add(w, "command", "client_secret: {exec: [/bin/sh, -c, \"cat "+filepath.Join(dir, "vault")+" # argument-of-the-command-0123\"]}", graph)
	h.hide("an argument of the command", "argument-of-the-command-0123")
	app := newAppCertificate(t)
	h.hide("the private key", strings.ReplaceAll(app.keyPEM, "-----", ""))
	k.Files["app.pem"], k.Files["app.key"] = app.certPEM, app.keyPEM
	write(t, filepath.Join(dir, "app.pem"), app.certPEM)
	write(t, filepath.Join(dir, "app.key"), app.keyPEM)
	write(t, filepath.Join(dir, "password"), "password-of-the-pkcs12")
	openssl(t, dir, "pkcs12", "-export", "-inkey", "app.key", "-in", "app.pem", "-out", "app.pfx", "-passout", "file:password")
	k.add(w, "pkcs12", "client_certificate: {file: app.pfx, password: {file: password}}", graph)

	k.federated(t, w, h)

	k.Files["wrong"] = "a-wrong-secret-of-nobody"
	h.hide("the wrong secret", k.Files["wrong"])
	k.add(w, "chained", "client_secret: {file: wrong}, fallback: plain", graph)
	k.add(w, "refused", "client_secret: {file: wrong}", graph)
	return k
}

// federated adds the tokens of other issuers, and the key of another server's
// client.
func (k *kinds) federated(t *testing.T, w *sandbox.World, h *hunt) {
	t.Helper()
	graph := w.Graph.URL()
	for _, kind := range []sandbox.PlatformKind{sandbox.GitHub, sandbox.GCP} {
		p, err := sandbox.StartPlatform(sandbox.PlatformOptions{World: w, Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		federate(t, w, p.Subject())
		k.Env = append(k.Env, p.Environ()...)
	}
	for _, kv := range k.Env {
		if name, value, _ := strings.Cut(kv, "="); name == "ACTIONS_ID_TOKEN_REQUEST_TOKEN" {
			h.hide("the job's token", value)
		}
	}
	k.add(w, "github", `federated_token: {url: {address: "${ACTIONS_ID_TOKEN_REQUEST_URL}", secret: {env: ACTIONS_ID_TOKEN_REQUEST_TOKEN}}}`, graph)
	k.add(w, "gcp", "federated_token: {gcp: {service_account: default}}", graph)

	federate(t, w, "job")
	b, err := sandbox.StartBinding(sandbox.BindingOptions{World: w, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	k.Env = append(k.Env, b.Environ()...)
	for file, aud := range map[string]string{"jwt": sandbox.TokenExchangeAudience, "jwt-of-the-cluster": sandbox.BindingAudience, "unknown": "api://nobody"} {
		token, err := w.FederatedToken("job", aud, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(token, ".")[1:] { // the headers of all are alike
			h.hide("the token in "+file, part)
		}
		k.Files[file] = token
	}
	k.add(w, "pod", "federated_token: {file: jwt}", graph)
	k.add(w, "printed", "federated_token: {exec: [/bin/cat, "+filepath.Join(k.Dir, "jwt")+"]}", graph)
	k.add(w, "binding", "federated_token: {file: jwt-of-the-cluster, identity_binding: true}", graph)
	k.add(w, "stranger", "federated_token: {file: unknown}", graph)

	o, err := sandbox.StartOAuth(sandbox.OAuthOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	key := newClientKey(t, "ES256")
	block, _ := pem.Decode([]byte(key.pem))
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.AddClient(sandbox.OAuthClient{ID: "gateway", Keys: map[string]crypto.PublicKey{"k1": private.(crypto.Signer).Public()}}); err != nil {
		t.Fatal(err)
	}
	o.Observe(func(r sandbox.TokenRequest) { h.hide("an assertion", r.Form.Get("client_assertion")) })
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.hide("a token of another server", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(up.Close)
	h.hide("the client's key", strings.ReplaceAll(key.pem, "-----", ""))
	k.Files["key.pem"] = key.pem
	k.add(w, "partner", "issuer: "+o.Issuer()+", client_id: gateway, client_key: {file: key.pem, kid: k1}", up.URL)
}

func TestNothingSecretShowsOfAnyKindOfCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	h := &hunt{hidden: map[string]string{}}
	k := everyKind(t, w, h)
	app := parsePEM(t, filepath.Join(k.Dir, "app.pem"))
	if err := w.Entra.AddCertificate(sandbox.ClientID, app); err != nil {
		t.Fatal(err)
	}
	w.Entra.Observe(func(r sandbox.TokenRequest) { h.hide("an assertion", r.Form.Get("client_assertion")) })
	g := start(t, k.setup)
	round := func(fine ...string) {
		t.Helper()
		for _, name := range k.names {
			a := must(t, g.client, request{url: g.url("/" + name + "/v1.0/users")})
			h.see(fmt.Sprint(a.status, a.header), a.body)
			for _, want := range fine {
				if want == name && a.status != http.StatusOK {
					t.Errorf("%s: status %d: %.600s", name, a.status, a.body)
				}
			}
		}
	}
	commands := func() {
		for _, args := range [][]string{{"check", "--allow-exec"}, {"check", "--live", "--allow-exec"}, {"check", "--live", "--json"}, {"purge", "--admin", g.admin}, {"reload", "--admin", g.admin}} {
			out, _ := g.command(t, args...)
			h.see(out)
		}
		for _, name := range k.names {
			for _, args := range [][]string{{"token", name, "--allow-exec"}, {"explain", "GET", "https://" + name + ".example.com/v1.0/users"}} {
				out, _ := g.command(t, args...)
				h.see(out)
			}
		}
	}
	round("plain", "command", "pkcs12", "github", "gcp", "pod", "printed", "binding", "chained")
	commands()
	if err := w.Entra.RemoveCertificate(sandbox.ClientID, app); err != nil {
		t.Fatal(err)
	}
	w.Entra.Fail(sandbox.WrongSecret)
	commands()
	round()
	w.Entra.Fail(sandbox.ErrorIn200)
	commands()
	round()
	for _, name := range []string{"jwt", "key.pem", "app.pfx", "vault"} { // none is what it was
		write(t, filepath.Join(g.dir, name), "a-wrong-secret-of-nobody")
	}
	commands()
	round()
	h.seeAdmin(t, g)
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	h.see(string(cmdline), g.stdout.String(), g.stderr.String())
	h.over(t)
}
