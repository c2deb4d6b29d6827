package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/seed-13b04e61/gateway/sandbox"
)

// The keys of the callers in these tests.
const (
	jobKey   = "k3y-0f-the-j0b"
	otherKey = "k3y-0f-an0ther"
)

// resolver is a next hop by which the names of Microsoft's hosts lead to the
// sandbox's servers. It counts the tunnels to each.
type resolver struct {
	*httptest.Server
	to map[string]string // host:port to the address there

	mu   sync.Mutex // guards seen
	seen map[string]int
}

func newResolver(t testing.TB, to map[string]string) *resolver {
	t.Helper()
	r := &resolver{to: to, seen: map[string]int{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *resolver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.seen[req.Host]++
	r.mu.Unlock()
	far, err := net.Dial("tcp", r.to[req.Host])
	if err != nil || req.Method != http.MethodConnect {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	near, rest, err := w.(http.Hijacker).Hijack()
	if err != nil {
		far.Close()
		return
	}
	_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { // ends with either side
		_, _ = io.Copy(far, rest)
		far.Close()
	}()
	_, _ = io.Copy(near, far)
	near.Close()
	far.Close()
}

// tunnels counts those to each host.
func (r *resolver) tunnels() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.seen)
}

// dummies is a gateway before which apps hold credential objects and no secret.
type dummies struct {
	*gateway
	world    *sandbox.World
	resolver *resolver
	root     string // file of the interception CA
}

func newDummies(t testing.TB, egress string) dummies {
	t.Helper()
	w := newWorld(t, sandbox.Options{TLS: true})
	entra, err := url.Parse(w.Entra.URL())
	if err != nil {
		t.Fatal(err)
	}
	d := dummies{world: w, resolver: newResolver(t, map[string]string{"login.microsoftonline.com:443": entra.Host})}
	dir := t.TempDir()
	d.gateway = start(t, setup{Dir: dir, Config: fmt.Sprintf(`version: 1
listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}
credentials:
  default: {tenant_id: %s, client_id: %s, client_secret: {file: client-secret}, ca_file: sandbox.pem}
callers:
  job: {api_key: {sha256: %s}}
  other: {api_key: {sha256: %s}}
routes:
  - {preset: graph, upstream: %q, tls: {ca_file: sandbox.pem}, hand_out: placeholder}
egress: {proxy: {url: %q, bypass: [127.0.0.1]}, %s}
intercept: {ca_dir: ca}
`, sandbox.TenantID, sandbox.ClientID, digest([]byte(jobKey)), digest([]byte(otherKey)), w.Graph.URL(), d.resolver.URL, egress),
		Files: map[string]string{"client-secret": w.Secret(), "sandbox.pem": string(w.CAPEM())},
		Env:   []string{"SSL_CERT_FILE=" + filepath.Join(dir, "sandbox.pem")},
	})
	d.root = filepath.Join(t.TempDir(), "root.pem")
	out, code := d.command(t, "ca", "export")
	if code != 0 {
		t.Fatalf("gateway ca export: %d, %s", code, out)
	}
	write(t, d.root, out)
	d.ready(t)
	return d
}

// environment is that of an app: the proxy, the CA, and a managed identity.
func (d dummies) environment(key string, more ...string) []string {
	proxy := "http://job:" + key + "@" + d.proxy
	return append(bareEnvironment(), append([]string{
		"HTTPS_PROXY=" + proxy, "https_proxy=" + proxy, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1",
		"NODE_EXTRA_CA_CERTS=" + d.root, "SSL_CERT_FILE=" + d.root, "TENANT=" + sandbox.TenantID,
		"IDENTITY_ENDPOINT=" + d.url("/.gateway/identity/token"), "IDENTITY_HEADER=" + key,
	}, more...)...)
}

// client is Go's, through a tunnel of the caller's.
func (d dummies) client(t testing.TB, caller, key string) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(d.root)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	via := &url.URL{Scheme: "http", Host: d.proxy, User: url.UserPassword(caller, key)}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, Proxy: func(r *http.Request) (*url.URL, error) {
		if r.URL.Scheme == "https" {
			return via, nil
		}
		return nil, nil // the identity endpoint is asked directly
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// held is what an app says of itself.
type held struct {
	Token string
	Users int
}

// worthless checks that the app's token was a placeholder, that it never reached
// Graph, and that the gateway's token did in its place.
func (d dummies) worthless(t testing.TB, h held) {
	t.Helper()
	if !strings.HasPrefix(h.Token, "gwp_") || strings.Contains(h.Token, ".") {
		t.Errorf("the app holds %.20q…, want a placeholder", h.Token)
	}
	if h.Users == 0 {
		t.Error("the app saw no users")
	}
	seen := d.world.Graph.Seen()
	if len(seen) == 0 {
		t.Fatal("Graph was not called")
	}
	for _, s := range seen {
		if s.Authorization == digest([]byte(h.Token)) {
			t.Error("the placeholder reached Graph")
		}
	}
	if last := seen[len(seen)-1]; last.ClientID != sandbox.ClientID || last.Status != http.StatusOK {
		t.Errorf("Graph saw client %q and answered %d", last.ClientID, last.Status)
	}
	noneBare(t, d.world)
	if n := d.world.Entra.Requests(); n != 1 {
		t.Errorf("Entra was asked for %d tokens, want 1: the gateway's own", n)
	}
}

// app runs one of clients.
func (d dummies) app(t testing.TB, env []string, name string, args ...string) (held, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var h held
	if err == nil {
		err = json.Unmarshal(out, &h)
	}
	return h, stderr.String(), err
}

func TestAppsOfMicrosoftsLibrariesHoldNothing(t *testing.T) {
	t.Parallel()
	d := newDummies(t, "")
	for _, tt := range []struct {
		name    string
		command []string
		env     []string
	}{
		{"node ClientSecretCredential", []string{"node", "clients/standin.mjs", "secret"}, nil},
		{"node ManagedIdentityCredential", []string{"node", "clients/standin.mjs", "managed"}, nil},
		{"node ManagedIdentityCredential of a client", []string{"node", "clients/standin.mjs", "named"}, nil},
		{"node DefaultAzureCredential", []string{"node", "clients/standin.mjs", "default"}, nil},
		{"node DefaultAzureCredential by environment", []string{"node", "clients/standin.mjs", "default"},
			[]string{"AZURE_TENANT_ID=" + sandbox.TenantID, "AZURE_CLIENT_ID=dummy", "AZURE_CLIENT_SECRET=dummy", "IDENTITY_ENDPOINT=", "IDENTITY_HEADER="}},
		{"node ConfidentialClientApplication", []string{"node", "clients/standin.mjs", "msal"}, nil},
		{"python urllib", []string{tool("python"), "clients/standin.py", "secret"}, nil},
		{"python urllib, managed identity", []string{tool("python"), "clients/standin.py", "managed"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, stderr, err := d.app(t, d.environment(jobKey, tt.env...), tt.command[0], tt.command[1:]...)
			if err != nil {
				t.Fatalf("%v: %.3000s", err, stderr)
			}
			d.worthless(t, h)
		})
	}
	if seen := d.resolver.tunnels(); len(seen) != 1 || seen["login.microsoftonline.com:443"] != 1 {
		t.Errorf("hosts were reached as %v, want the login host, once: by the gateway", seen)
	}
}

func TestAppsOfMicrosoftsGoLibraryHoldNothing(t *testing.T) {
	d := newDummies(t, "")
	options := azcore.ClientOptions{Transport: d.client(t, "job", jobKey), Retry: policy.RetryOptions{MaxRetries: -1}}
	t.Setenv("IDENTITY_ENDPOINT", d.url("/.gateway/identity/token"))
	t.Setenv("IDENTITY_HEADER", jobKey)
	for _, name := range []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TOKEN_CREDENTIALS"} {
		t.Setenv(name, "") // which the end of the test undoes
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	secret, err1 := azidentity.NewClientSecretCredential(sandbox.TenantID, "dummy", "dummy", &azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	managed, err2 := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ClientOptions: options})
	chain, err3 := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: options})
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, credential := range map[string]azcore.TokenCredential{"secret": secret, "managed": managed, "default": chain} {
		t.Run(name, func(t *testing.T) {
			token, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{graphScope}})
			if err != nil {
				t.Fatal(err)
			}
			a := must(t, d.client(t, "job", jobKey), request{url: "https://graph.microsoft.com/v1.0/users", header: http.Header{"Authorization": {"Bearer " + token.Token}}})
			var users struct{ Value []any }
			if err := json.Unmarshal([]byte(a.body), &users); err != nil || a.status != http.StatusOK {
				t.Fatalf("status %d: %.300s", a.status, a.body)
			}
			d.worthless(t, held{token.Token, len(users.Value)})
		})
	}
}

func TestLibraryTellsWhyTheStandInGaveNothing(t *testing.T) {
	t.Parallel()
	d := newDummies(t, "")
	for _, tt := range []struct{ name, kind, env, want string }{
		{"another tenant", "secret", "TENANT=22222222-2222-2222-2222-222222222222", "AADSTS90002"},
		{"another tenant, MSAL", "msal", "TENANT=22222222-2222-2222-2222-222222222222", "AADSTS90002"},
		{"a wrong key", "managed", "IDENTITY_HEADER=guess", "caller_unknown"},
	} {
		_, stderr, err := d.app(t, d.environment(jobKey, tt.env), "node", "clients/standin.mjs", tt.kind)
		if err == nil || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: %v, %.2000s; want %s", tt.name, err, stderr, tt.want)
		}
	}
	if n := d.world.Graph.Counts().Calls; n != 0 {
		t.Errorf("%d calls reached Graph", n)
	}
}

func TestPlaceholderOfAnotherCallerIsRefusedInTunnels(t *testing.T) {
	t.Parallel()
	d := newDummies(t, "")
	a := must(t, d.gateway.client, request{url: d.url("/.gateway/identity/token?api-version=2019-08-01&resource=https://graph.microsoft.com"),
		header: http.Header{"X-Identity-Header": {jobKey}}})
	var got struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.Token == "" {
		t.Fatalf("status %d: %.300s", a.status, a.body)
	}
	users := request{url: "https://graph.microsoft.com/v1.0/users", header: http.Header{"Authorization": {"Bearer " + got.Token}}}
	refused(t, must(t, d.client(t, "other", otherKey), users), http.StatusForbidden, "caller_forbidden")
	if n := d.world.Graph.Counts().Calls; n != 0 {
		t.Errorf("%d calls reached Graph", n)
	}
	if a := must(t, d.client(t, "job", jobKey), users); a.status != http.StatusOK {
		t.Errorf("its own caller gets %d: %.300s", a.status, a.body)
	}
	if !strings.Contains(d.stdout.String()+d.stderr.String(), "caller other shows a placeholder that was handed out to caller job") {
		t.Error("the log does not say whose it was")
	}
	if strings.Contains(d.stdout.String()+d.stderr.String(), got.Token) {
		t.Error("the placeholder is in the log")
	}
}

// Users sign in at the login host itself, and only if egress lets them.
func TestSignInOfUsersIsNeverAnsweredByTheGateway(t *testing.T) {
	t.Parallel()
	const password = "a-users-passw0rd"
	token := "https://login.microsoftonline.com/" + sandbox.TenantID + "/oauth2/v2.0/token"
	page := "https://login.microsoftonline.com/" + sandbox.TenantID + "/oauth2/v2.0/authorize?client_id=x"
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	signIn := request{url: token, body: []byte("grant_type=password&username=u&password=" + password + "&scope=openid"), header: header}
	t.Run("refused", func(t *testing.T) {
		d := newDummies(t, "")
		c := d.client(t, "job", jobKey)
		if a := must(t, c, signIn); a.status != http.StatusBadRequest || !strings.Contains(a.body, `"unsupported_grant_type"`) || !strings.Contains(a.body, "gateway") {
			t.Errorf("status %d: %.300s", a.status, a.body)
		}
		refused(t, must(t, c, request{url: page}), http.StatusForbidden, "egress_denied")
		if n := d.world.Entra.Requests(); n > 1 {
			t.Errorf("Entra saw %d token requests, want the gateway's own alone", n)
		}
		if strings.Contains(d.stdout.String()+d.stderr.String(), password) {
			t.Error("the password is in the log")
		}
	})
	t.Run("passed through", func(t *testing.T) {
		d := newDummies(t, `allow: ["login.microsoftonline.com"], deny_private: false`)
		c := d.client(t, "job", jobKey)
		before := d.world.Entra.Requests()
		a := must(t, c, signIn)
		if a.status < 400 || strings.Contains(a.body, "gateway") || a.header.Get("Gateway-Error") != "" {
			t.Errorf("status %d: %.300s; want what Entra says", a.status, a.body)
		}
		if n := d.world.Entra.Requests() - before; n != 1 {
			t.Errorf("%d token requests reached Entra, want 1", n)
		}
		if a := must(t, c, request{url: page}); a.header.Get("Gateway-Error") != "" {
			t.Errorf("the sign-in page: status %d: %.300s", a.status, a.body)
		}
		login := signIn
		login.body = []byte("grant_type=client_credentials&client_id=x&client_secret=dummy&scope=" + url.QueryEscape(graphScope))
		if a := must(t, c, login); a.status != http.StatusOK || !strings.Contains(a.body, "gwp_") {
			t.Errorf("client credentials: status %d: %.300s", a.status, a.body)
		}
	})
}

// The documents name what the gateway stands in for, at the host that was asked.
func TestDiscoveryOfTheStandInIsThatOfTheHostAsked(t *testing.T) {
	t.Parallel()
	d := newDummies(t, "")
	c := d.client(t, "job", jobKey)
	for _, path := range []string{"/" + sandbox.TenantID + "/v2.0/.well-known/openid-configuration", "/organizations/v2.0/.well-known/openid-configuration",
		"/common/discovery/instance?api-version=1.1&authorization_endpoint=" + url.QueryEscape("https://login.microsoftonline.com/"+sandbox.TenantID+"/oauth2/v2.0/authorize")} {
		a := must(t, c, request{url: "https://login.microsoftonline.com" + path})
		var doc map[string]any
		if err := json.Unmarshal([]byte(a.body), &doc); err != nil || a.status != http.StatusOK {
			t.Fatalf("%s: status %d: %.300s", path, a.status, a.body)
		}
		for name, value := range doc {
			if s, ok := value.(string); ok && strings.HasPrefix(s, "http") && !strings.HasPrefix(s, "https://login.microsoftonline.com/") {
				t.Errorf("%s: %s leads to %s", path, name, s)
			}
		}
	}
	if seen := d.resolver.tunnels(); len(seen) != 1 || seen["login.microsoftonline.com:443"] != 1 {
		t.Errorf("hosts were reached as %v, want the login host, once: by the gateway", seen)
	}
}
