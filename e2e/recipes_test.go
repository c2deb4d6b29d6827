package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// recipe is a part of docs/callers.md that is followed to the letter, but for
// names and addresses of Contoso's, for which those of the test stand.
type recipe struct {
	heading string
	block   int // which of its YAML blocks
	words   func(k *kitchen, t *testing.T) []string
	scripts bool   // run what the section shows in sh, Python and JavaScript
	caller  string // who is known at the end; "": whoever reaches the port
	how     string // gateway.caller_how in the audit record
	try     func(k *kitchen, t *testing.T)
}

// kitchen is where one recipe is followed.
type kitchen struct {
	section string // of the document
	world   *sandbox.World
	issuer  *jwtIssuer
	ca      *authority
	g       *gateway
	key     string
	digests [2]string
	env     []string
}

func recipes() []recipe {
	return []recipe{
		{"An API key: any program", 0, nil, true, "reports-job", "api_key", nil},
		{"An API key: any program", 1, nil, true, "reports-job", "api_key", nil},
		{"GitHub Actions", 0, github, true, "ci", "jwt", nil},
		{"Kubernetes", 0, kubernetes, false, "shop", "jwt", showing(object{"sub": "system:serviceaccount:shop:orders", "aud": []string{"gateway"}})},
		{"An application of Entra", 0, issuedBy("https://login.microsoftonline.com/00001111-aaaa-2222-bbbb-3333cccc4444/v2.0"), false, "billing", "jwt",
			showing(object{"aud": "11112222-bbbb-3333-cccc-4444dddd5555", "oid": "22223333-cccc-4444-dddd-5555eeee6666", "ver": "2.0"})},
		{"A client certificate, or SPIFFE", 0, nil, false, "billing", "client_certificate", showsCertificate},
		{"A client certificate, or SPIFFE", 1, issuedBy("https://oidc.spire.contoso.com"), false, "billing", "jwt", showing(object{"sub": "spiffe://contoso/billing"})},
		{"A user of this machine", 0, uidOfTest, false, "backup", "uid", plainly("")},
		{"What a caller may do", 0, uidOfTest, false, "reports-job", "api_key", readsOnly},
		{"Which tenant", 0, uidOfTest, false, "support", "uid", plainly("contoso.onmicrosoft.com")},
		{"Limits", 0, uidOfTest, false, "reports-job", "uid", plainly("")},
		{"Off loopback", 0, nil, false, "reports-job", "api_key", overTLS},
		{"The audit record", 0, nil, false, "", "", plainly("")},
	}
}

// Of the order by ACME, whose blocks have a CA, [TestCertificatesByACME] tells.
const recipesElsewhere = 1

func TestRecipesOfTheDocumentWork(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "callers.md"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(doc), "```yaml\n"); n != len(recipes())+recipesElsewhere {
		t.Errorf("docs/callers.md has %d blocks of YAML, and %d are followed here", n, len(recipes()))
	}
	for _, r := range recipes() {
		t.Run(fmt.Sprintf("%s, %d", r.heading, r.block), func(t *testing.T) {
			t.Parallel()
			follow(t, string(doc), r)
		})
	}
}

func follow(t *testing.T, doc string, r recipe) {
	k := &kitchen{section: sectionOf(t, doc, r.heading), world: newWorld(t, sandbox.Options{}), issuer: newJWTIssuer(t, ""), ca: newClientAuthority(t)}
	k.makeKey(t)
	blocks := blocksOf(k.section, "yaml")
	if len(blocks) <= r.block {
		t.Fatalf("%q has %d blocks of YAML", r.heading, len(blocks))
	}
	var words []string
	if r.words != nil {
		words = r.words(k, t)
	}
	s := setup{Config: strings.NewReplacer(append(words, k.words()...)...).Replace(whole(blocks[r.block])), Env: []string{
		"CLIENT_SECRET=" + k.world.Secret(), "READER_SECRET=" + k.world.Secret(), "WRITER_SECRET=" + k.world.Secret(),
	}, Files: map[string]string{"clients-ca.pem": k.ca.pem, "revoked.crl": k.ca.list(t, 1)}}
	s.Files["tls.pem"], s.Files["tls.key"] = k.ca.server(t)
	k.g = start(t, s)
	tried := 0
	if r.scripts {
		tried = k.run(t)
	}
	if r.try != nil {
		r.try(k, t)
		tried++
	}
	if tried == 0 {
		t.Fatal("nothing was tried")
	}
	k.g.end(t) // which writes every record
	records := k.g.stdout.String()
	if b, err := os.ReadFile(filepath.Join(k.g.dir, "audit.jsonl")); err == nil {
		records = string(b)
	}
	known := 0
	for line := range strings.Lines(records) {
		if strings.Contains(line, `"kind":"audit"`) && strings.Contains(line, `"http.response.status_code":200`) &&
			(r.caller == "" || strings.Contains(line, fmt.Sprintf(`"gateway.caller":%q,"gateway.caller_how":%q`, r.caller, r.how))) {
			known++
		}
	}
	if known < tried {
		t.Errorf("%d calls of %q by %q have a record, want %d at least:\n%s", known, r.caller, r.how, tried, tail(records, 2000))
	}
}

// sectionOf is what stands below a heading of doc.
func sectionOf(t *testing.T, doc, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(doc, "\n## "+heading+"\n")
	if !ok {
		_, rest, ok = strings.Cut(doc, "\n### "+heading+"\n")
	}
	if !ok {
		t.Fatalf("the document has no section %q", heading)
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	section, _, _ = strings.Cut(section, "\n### ")
	return section
}

func blocksOf(section, language string) (blocks []string) {
	for i, part := range strings.Split(section, "```"+language+"\n") {
		if block, _, closed := strings.Cut(part, "```"); i > 0 && closed {
			blocks = append(blocks, block)
		}
	}
	return blocks
}

// whole completes a part of a file, and has none of it listen at a fixed port.
func whole(block string) string {
	text := strings.TrimPrefix(block, "version: 1\n")
	switch {
	case strings.Contains(text, "listen:\n"):
		text = strings.Replace(text, "listen:\n", "listen:\n  proxy: \"127.0.0.1:0\"\n  admin: \"127.0.0.1:0\"\n", 1)
	case !strings.Contains(text, "listen:"):
		text = "listen: {proxy: \"127.0.0.1:0\", admin: \"127.0.0.1:0\"}\n" + text
	}
	if !strings.Contains(text, "credentials:") {
		text += "credentials:\n  default: {tenant_id: contoso.onmicrosoft.com, client_id: 00001111-aaaa-2222-bbbb-3333cccc4444, client_secret: {env: CLIENT_SECRET}}\n"
	}
	if !strings.Contains(text, "routes:") {
		text += "routes:\n  - preset: graph\n"
	}
	return "version: 1\n" + text
}

// makeKey gets two keys by gateway keygen; the second is the one that replaces.
func (k *kitchen) makeKey(t *testing.T) {
	t.Helper()
	for i := range k.digests {
		out, err := exec.CommandContext(t.Context(), tool("gateway"), "keygen", "reports-job", "--json").Output()
		var made struct{ Key, SHA256 string }
		if err != nil || json.Unmarshal(out, &made) != nil || made.Key == "" {
			t.Fatalf("gateway keygen: %v, %s", err, out)
		}
		k.key, k.digests[i] = made.Key, made.SHA256
	}
}

// words are what stands for Contoso's in every recipe.
func (k *kitchen) words() []string {
	first := "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	second := "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
	return []string{first, k.digests[1], second, k.digests[0],
		"tenant_id: contoso.onmicrosoft.com, client_id: 00001111-aaaa-2222-bbbb-3333cccc4444", k.identity(),
		"tenant_id: contoso.onmicrosoft.com, client_id: 11112222-bbbb-3333-cccc-4444dddd5555", k.identity(),
		"- preset: graph\n", fmt.Sprintf("- preset: graph\n    upstream: %q\n", k.world.Graph.URL()),
		"/var/log/gateway/audit.jsonl", "audit.jsonl",
		"0.0.0.0:8443", "127.0.0.1:0", `admin: ""`, `admin: "127.0.0.1:0"`, "0.0.0.0:8082", "127.0.0.1:0",
	}
}

func (k *kitchen) identity() string {
	return fmt.Sprintf("tenant_id: %s, client_id: %s, authority_host: %q", sandbox.TenantDomain, sandbox.ClientID, k.world.Entra.URL())
}

// run follows what the section shows to type, a line at a time, and returns
// how many calls that were.
func (k *kitchen) run(t *testing.T) (calls int) {
	t.Helper()
	here := strings.NewReplacer("http://127.0.0.1:8080", "http://"+k.g.proxy, "127.0.0.1:8080", k.g.proxy, "https://gw.contoso.com", "http://"+k.g.proxy)
	try := func(text, name string, args ...string) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, append(args, here.Replace(text))...)
		cmd.Env = append(append(bareEnvironment(), "KEY="+k.key, "PATH="+withJQ(t)), k.env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s\n%v: %s", here.Replace(text), err, out)
		}
	}
	for _, block := range blocksOf(k.section, "sh") {
		calls += strings.Count(block, "/graph/v1.0/users") + strings.Count(block, "http://graph.microsoft.com")
		try(block, "bash", "-euc")
	}
	for _, block := range blocksOf(k.section, "python") {
		calls++
		try(block, tool("python"), "-c")
	}
	for _, block := range blocksOf(k.section, "js") {
		calls++
		try(block, "node", "--input-type=module", "-e")
	}
	return calls
}

// withJQ is a PATH with jq, of which the documents use but one form.
func withJQ(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("jq"); err == nil {
		return os.Getenv("PATH")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "jq"), "#!/bin/sh\nexec "+tool("python")+" -c 'import json,sys; print(json.load(sys.stdin)[\"value\"])'\n")
	if err := os.Chmod(filepath.Join(dir, "jq"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir + string(os.PathListSeparator) + os.Getenv("PATH")
}

// github is the runner's service for tokens, and the issuer that signs them.
func github(k *kitchen, t *testing.T) []string {
	const password = "of-the-runner"
	runner := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "bearer "+password {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(object{"count": 1, "value": k.issuer.token(nil, object{
			"aud": r.URL.Query().Get("audience"), "sub": "repo:contoso/app:ref:refs/heads/main", "repository": "contoso/app", "ref": "refs/heads/main",
			"repository_id": "1", "workflow": "deploy", "event_name": "push", "runner_environment": "github-hosted",
		})})
	})
	k.env = []string{"ACTIONS_ID_TOKEN_REQUEST_TOKEN=" + password, "ACTIONS_ID_TOKEN_REQUEST_URL=" + runner.URL + "/idtoken?api-version=2.0"}
	return issuedBy("https://token.actions.githubusercontent.com")(k, t)
}

func issuedBy(documented string) func(*kitchen, *testing.T) []string {
	return func(k *kitchen, _ *testing.T) []string { return []string{documented, k.issuer.url} }
}

// kubernetes is an issuer with a certificate by the cluster's own CA.
func kubernetes(k *kitchen, t *testing.T) []string {
	srv := httptest.NewUnstartedServer(k.issuer.srv.Config.Handler)
	srv.TLS = k.ca.tls(t)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	k.issuer.url = srv.URL
	return []string{"https://kubernetes.default.svc.cluster.local", srv.URL, "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt", "clients-ca.pem"}
}

func uidOfTest(*kitchen, *testing.T) []string {
	own := fmt.Sprintf("uid: %d", os.Getuid())
	return []string{"uid: 1001", own, "uid: 1002", own}
}

// brings makes a call that has to bring users.
func brings(t *testing.T, c *http.Client, to string, header http.Header) {
	t.Helper()
	if a := must(t, c, request{url: to, header: header}); a.status != http.StatusOK || !strings.Contains(a.body, "displayName") {
		t.Errorf("%s: status %d with %.500s", to, a.status, a.body)
	}
}

// showing sends a JWT of claims at the reverse door.
func showing(claims object) func(*kitchen, *testing.T) {
	return func(k *kitchen, t *testing.T) {
		brings(t, k.g.client, k.g.url("/graph/v1.0/users"), http.Header{"X-Gateway-Authorization": {"Bearer " + k.issuer.token(nil, claims)}})
		for name := range claims {
			if name == "ver" {
				continue // which the recipe does not ask for
			}
			a := must(t, k.g.client, request{url: k.g.url("/graph/v1.0/users"), header: http.Header{
				"X-Gateway-Authorization": {"Bearer " + k.issuer.token(nil, merged(merged(object{}, claims), object{name: "another"}))},
			}})
			refused(t, a, http.StatusUnauthorized, "caller_unknown")
		}
	}
}

// plainly calls through both doors without any credential.
func plainly(tenant string) func(*kitchen, *testing.T) {
	return func(k *kitchen, t *testing.T) {
		header := http.Header{}
		if tenant != "" {
			header.Set("X-Tenant-Id", tenant)
			refused(t, must(t, k.g.client, request{url: k.g.url("/graph/v1.0/users")}), http.StatusForbidden, "tenant_denied")
			refused(t, must(t, k.g.client, request{url: k.g.url("/graph/v1.0/users"), header: http.Header{"X-Tenant-Id": {"litware.com"}}}), http.StatusForbidden, "tenant_denied")
		}
		brings(t, k.g.client, k.g.url("/graph/v1.0/users"), header)
		via := newClient(&url.URL{Scheme: "http", Host: k.g.proxy})
		brings(t, via, "http://graph.microsoft.com/v1.0/users", header)
		via.CloseIdleConnections()
	}
}

// readsOnly has the one caller read, and the other what report lets pass.
func readsOnly(k *kitchen, t *testing.T) {
	key := http.Header{"Authorization": {"Basic " + basic("reports-job", k.key)}}
	brings(t, k.g.client, k.g.url("/graph/v1.0/users"), key)
	a := must(t, k.g.client, request{method: http.MethodDelete, url: k.g.url("/graph/v1.0/users/1"), header: key})
	refused(t, a, http.StatusForbidden, "rule_denied")
	refused(t, must(t, k.g.client, request{url: k.g.url("/graph/v1.0/sites"), header: key}), http.StatusForbidden, "rule_denied")
	brings(t, k.g.client, k.g.url("/graph-write/v1.0/users"), nil) // by uid
	if a := must(t, k.g.client, request{method: http.MethodPut, url: k.g.url("/graph-write/v1.0/$echo/1"), body: []byte("{}")}); a.status != http.StatusOK {
		t.Errorf("what mode: report would deny: status %d with %.300s", a.status, a.body)
	}
	eventually(t, "the record tells what would be denied", func() bool { return strings.Contains(k.g.stdout.String(), `"gateway.would_deny":`) })
}

func showsCertificate(k *kitchen, t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, _ := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "reports"}, URIs: []*url.URL{{Scheme: "spiffe", Host: "contoso", Path: "/billing"}},
		NotBefore: k.ca.cert.NotBefore, NotAfter: k.ca.cert.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, k.ca, key)
	write(t, filepath.Join(k.g.dir, "me.pem"), certPEM+privatePEM(t, key))
	k.curl(t, "--cert", filepath.Join(k.g.dir, "me.pem"), k.g.secureURL("/graph/v1.0/users"))
	refused(t, must(t, trusting(t, k.ca, nil), request{url: k.g.secureURL("/graph/v1.0/users")}), http.StatusUnauthorized, "caller_unknown")
}

func overTLS(k *kitchen, t *testing.T) {
	k.curl(t, "-u", "reports-job:"+k.key, k.g.secureURL("/graph/v1.0/users"))
}

// curl has to bring users, over TLS that the kitchen's CA vouches for.
func (k *kitchen) curl(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "curl", append([]string{"-sS", "--max-time", "20", "--cacert", filepath.Join(k.g.dir, "clients-ca.pem")}, args...)...)
	cmd.Env = bareEnvironment()
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "displayName") {
		t.Errorf("curl: %v, %.500s", err, out)
	}
}
