package sandbox_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

const podSubject = "system:serviceaccount:prod:reports"

// bound starts a World whose app trusts pods of the cluster, with a token
// proxy.
func bound(t *testing.T, opts sandbox.BindingOptions) (*sandbox.World, *sandbox.Binding) {
	t.Helper()
	opts.World = world(t, sandbox.Options{})
	w := opts.World
	if err := w.Entra.AddFederated(sandbox.ClientID, sandbox.Federated{Issuer: w.Issuer.URL(), Subject: podSubject}); err != nil {
		t.Fatal(err)
	}
	b, err := sandbox.StartBinding(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return w, b
}

// podToken is what the kubelet projects into a pod.
func podToken(t *testing.T, w *sandbox.World, aud string) string {
	t.Helper()
	raw, err := w.FederatedToken(podSubject, aud, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// throughBinding sends an assertion by the variables of the webhook; change
// may alter the request.
func throughBinding(t *testing.T, env map[string]string, assertion string, change func(*http.Request, *tls.Config)) (answer, error) {
	t.Helper()
	ca := []byte(env["AZURE_KUBERNETES_CA_DATA"])
	if path := env["AZURE_KUBERNETES_CA_FILE"]; path != "" {
		var err error
		if ca, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	conf := &tls.Config{RootCAs: pool, ServerName: env["AZURE_KUBERNETES_SNI_NAME"], MinVersion: tls.VersionTLS12}
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {sandbox.ClientID}, "scope": {graphScope},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {assertion},
	}
	r := request(t, "POST", env["AZURE_KUBERNETES_TOKEN_PROXY"]+"/"+sandbox.TenantID+"/oauth2/v2.0/token", form.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if change != nil {
		change(r, conf)
	}
	c := plain()
	c.Transport = &http.Transport{DisableKeepAlives: true, TLSClientConfig: conf}
	resp, err := c.Do(r)
	if err != nil {
		return answer{}, err
	}
	return read(t, resp), nil
}

// variables turns NAME=value lines into a map.
func variables(lines []string) map[string]string {
	out := map[string]string{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		out[name] = value
	}
	return out
}

func TestTokenProxyTakesTheClustersToken(t *testing.T) {
	for _, opts := range []sandbox.BindingOptions{{}, {Dir: t.TempDir(), Path: "/proxy/", ServerName: "token.example"}} {
		w, b := bound(t, opts)
		a, err := throughBinding(t, variables(b.Environ()), podToken(t, w, sandbox.BindingAudience), nil)
		if err != nil || a.status != http.StatusOK || claimsOf(t, a.str("access_token"))["appid"] != sandbox.ClientID {
			t.Errorf("answer = %d %s (%v), want a token of the app", a.status, a.raw, err)
		}
		if b.Requests() != 1 || b.Refused() != 0 || b.Strays() != 0 {
			t.Errorf("requests, refused, strays = %d, %d, %d, want 1, 0, 0", b.Requests(), b.Refused(), b.Strays())
		}
	}
}

func TestClustersTokenIsWorthNothingToEntra(t *testing.T) {
	w, _ := bound(t, sandbox.BindingOptions{})
	if a := present(t, w, podToken(t, w, sandbox.BindingAudience)); a.code() != 700212 {
		t.Errorf("answer = %d %s, want AADSTS700212", a.status, a.raw)
	}
}

func TestTokenProxyRefuses(t *testing.T) {
	w, b := bound(t, sandbox.BindingOptions{Path: "/proxy"})
	good, env := podToken(t, w, sandbox.BindingAudience), variables(b.Environ())
	for _, tt := range []struct {
		name, assertion string
		change          func(*http.Request, *tls.Config)
		status, code    int
	}{
		{"the usual audience", podToken(t, w, sandbox.TokenExchangeAudience), nil, 401, 700212},
		{"no JWT", "x", nil, 401, 700027},
		{"tampered", good[:len(good)-6] + "AAAAAA", nil, 401, 700027},
		{"the root path", good, func(r *http.Request, _ *tls.Config) { r.URL.Path = "/" + sandbox.TenantID + "/oauth2/v2.0/token" }, 404, 0},
		{"a query", good, func(r *http.Request, _ *tls.Config) { r.URL.RawQuery = "a=b" }, 404, 0},
		{"GET", good, func(r *http.Request, _ *tls.Config) { r.Method = "GET" }, 400, 900561},
		{"Basic besides", good, func(r *http.Request, _ *tls.Config) { r.SetBasicAuth("a", "b") }, 400, 900144},
		{"what Entra refuses", good, func(r *http.Request, _ *tls.Config) {
			r.URL.Path = "/proxy/nowhere.example/oauth2/v2.0/token"
		}, 400, 90002},
	} {
		a, err := throughBinding(t, env, tt.assertion, tt.change)
		if err != nil || a.status != tt.status || a.code() != tt.code {
			t.Errorf("%s = %d %s (%v), want %d and AADSTS%d", tt.name, a.status, a.raw, err, tt.status, tt.code)
		}
	}
	if _, err := throughBinding(t, env, good, func(_ *http.Request, c *tls.Config) { c.ServerName = "localhost" }); err == nil || b.Strays() != 1 {
		t.Errorf("another server name: %v, strays = %d, want a broken handshake", err, b.Strays())
	}
	if _, err := throughBinding(t, env, good, func(_ *http.Request, c *tls.Config) { c.RootCAs = nil }); err == nil {
		t.Error("without the CA the handshake went through")
	}
}

func TestTokenProxyRotatesItsCA(t *testing.T) {
	w, b := bound(t, sandbox.BindingOptions{Dir: t.TempDir()})
	old, err := os.ReadFile(variables(b.Environ())["AZURE_KUBERNETES_CA_FILE"])
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Rotate(); err != nil {
		t.Fatal(err)
	}
	env := variables(b.Environ())
	if a, err := throughBinding(t, env, podToken(t, w, sandbox.BindingAudience), nil); err != nil || a.status != http.StatusOK {
		t.Errorf("with the new file = %d (%v), want 200", a.status, err)
	}
	delete(env, "AZURE_KUBERNETES_CA_FILE")
	env["AZURE_KUBERNETES_CA_DATA"] = string(old)
	if _, err := throughBinding(t, env, podToken(t, w, sandbox.BindingAudience), nil); err == nil {
		t.Error("with the old CA the handshake went through")
	}
}

func TestTokenProxyCanFail(t *testing.T) {
	w, b := bound(t, sandbox.BindingOptions{})
	b.FailWith(sandbox.Failure{Kind: sandbox.Outage})
	if a, err := throughBinding(t, variables(b.Environ()), podToken(t, w, sandbox.BindingAudience), nil); err != nil || a.status != http.StatusServiceUnavailable {
		t.Errorf("outage = %d (%v), want 503", a.status, err)
	}
	b.Recover()
	w.Entra.Fail(sandbox.Refuse)
	if a, err := throughBinding(t, variables(b.Environ()), podToken(t, w, sandbox.BindingAudience), nil); err != nil || a.status != http.StatusBadGateway {
		t.Errorf("Entra down = %d (%v), want 502", a.status, err)
	}
	if _, err := sandbox.StartBinding(sandbox.BindingOptions{World: w, Path: "x"}); err == nil {
		t.Error("StartBinding with a relative path = nil, want an error")
	}
}

func ExampleStartBinding() {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer w.Close()
	b, err := sandbox.StartBinding(sandbox.BindingOptions{World: w, ServerName: "token.example"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer b.Close()
	fmt.Println(b.Environ()[1])
	// Output: AZURE_KUBERNETES_SNI_NAME=token.example
}
