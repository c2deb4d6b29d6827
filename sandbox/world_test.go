package sandbox_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/seed-13b04e61/gateway/sandbox"
)

const graphScope = sandbox.GraphResource + "/.default"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world starts a World for one test, with a client that keeps no connection.
func world(t testing.TB, opts sandbox.Options) *sandbox.World {
	t.Helper()
	w, err := sandbox.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// plain is a client without proxy, redirects or idle connections.
func plain() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// trusting is plain with roots for TLS.
func trusting(pool *x509.CertPool) *http.Client {
	c := plain()
	c.Transport = &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	}
	return c
}

// answer is a response read to its end.
type answer struct {
	status int
	header http.Header
	raw    []byte
	json   map[string]any // nil if the body is no JSON object
}

func (a answer) str(name string) string {
	s, _ := a.json[name].(string)
	return s
}

// code returns the first AADSTS number of an error, or 0.
func (a answer) code() int {
	codes, _ := a.json["error_codes"].([]any)
	if len(codes) == 0 {
		return 0
	}
	n, _ := codes[0].(float64)
	return int(n)
}

// graphCode returns error.code of a Graph error.
func (a answer) graphCode() string {
	e, _ := a.json["error"].(map[string]any)
	s, _ := e["code"].(string)
	return s
}

func do(t testing.TB, r *http.Request) answer {
	t.Helper()
	resp, err := plain().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, resp)
}

func read(t testing.TB, resp *http.Response) answer {
	t.Helper()
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, raw: raw}
	_ = json.Unmarshal(raw, &a.json)
	return a
}

// request builds one or fails the test.
func request(t testing.TB, method, target, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// secretForm is the right token request of the app that is there from the
// start.
func secretForm(w *sandbox.World) url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "client_id": {sandbox.ClientID},
		"client_secret": {w.Secret()}, "scope": {graphScope},
	}
}

// post sends a form to the token endpoint of tenant.
func post(t testing.TB, w *sandbox.World, tenant string, form url.Values) answer {
	t.Helper()
	r := request(t, http.MethodPost, w.Entra.TokenURL(tenant), form.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded;charset=utf-8")
	return do(t, r)
}

// token gets a good token for Graph, with claims if there are any.
func token(t testing.TB, w *sandbox.World, claims string) string {
	t.Helper()
	form := secretForm(w)
	if claims != "" {
		form.Set("claims", claims)
	}
	a := post(t, w, sandbox.TenantDomain, form)
	if a.status != http.StatusOK || a.str("access_token") == "" {
		t.Fatalf("token request = %d %s", a.status, a.raw)
	}
	return a.str("access_token")
}

// ask calls Graph with a bearer token, or bare. A call reads "METHOD target",
// and what follows a second space is the body.
func ask(t testing.TB, w *sandbox.World, call, bearer string) answer {
	t.Helper()
	method, rest, _ := strings.Cut(call, " ")
	target, body, _ := strings.Cut(rest, " ")
	r := request(t, method, w.Graph.URL()+target, body)
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	return do(t, r)
}

func TestNewcomerGetsATokenAndSeesUsers(t *testing.T) {
	w := world(t, sandbox.Options{})
	a := ask(t, w, "GET /v1.0/users?$select=displayName", token(t, w, ""))
	for _, name := range []string{"Adele Vance", "Alex Wilber", "Megan Bowen"} {
		if !strings.Contains(string(a.raw), name) {
			t.Errorf("users = %d %s, want %s among them", a.status, a.raw, name)
		}
	}
}

func TestTLSWorldIsTrustedByItsOwnCAOnly(t *testing.T) {
	w := world(t, sandbox.Options{TLS: true, Hosts: []string{"idp.example"}})
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(w.CAPEM()) {
		t.Fatal("CAPEM holds no certificate")
	}
	for _, name := range []string{"", "graph.microsoft.com", "login.microsoftonline.com", "idp.example"} {
		c := &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{RootCAs: pool, ServerName: name, MinVersion: tls.VersionTLS13},
		}}
		resp, err := c.Get(w.Graph.URL() + "/v1.0/users")
		if err != nil {
			t.Fatalf("as %q: %v", name, err)
		}
		if a := read(t, resp); a.status != http.StatusUnauthorized {
			t.Errorf("as %q: status = %d, want 401", name, a.status)
		}
	}
	if resp, err := plain().Get(w.Graph.URL()); err == nil {
		resp.Body.Close()
		t.Error("a client without the CA connected, want a certificate error")
	}
}

func TestPlainWorldHasNoCA(t *testing.T) {
	if pem := world(t, sandbox.Options{}).CAPEM(); pem != nil {
		t.Errorf("CAPEM() = %q, want nil", pem)
	}
}

func TestLogHasNoSecretAndNoQuery(t *testing.T) {
	var log syncBuffer
	w := world(t, sandbox.Options{Log: &log})
	tok := token(t, w, "")
	ask(t, w, "GET /v1.0/users?$top=3&note=private", tok)
	got := log.String()
	if !strings.Contains(got, `graph: GET "/v1.0/users" 200`) || !strings.Contains(got, "entra: POST") {
		t.Errorf("log = %q, want one line for each server", got)
	}
	for _, never := range []string{w.Secret(), tok, "private", "top"} {
		if strings.Contains(got, never) {
			t.Errorf("log holds %q", never)
		}
	}
}

func TestCloseFreesCallsThatHang(t *testing.T) {
	w := world(t, sandbox.Options{})
	w.Entra.Fail(sandbox.Hang)
	arrived, gone := make(chan struct{}), make(chan error, 1)
	w.Entra.Observe(func(sandbox.TokenRequest) { close(arrived) })
	go func() {
		_, err := plain().PostForm(w.Entra.TokenURL(sandbox.TenantID), secretForm(w)) //nolint:bodyclose // it never answers
		gone <- err
	}()
	<-arrived
	w.Close()
	w.Close() // once more does no harm
	if err := <-gone; err == nil {
		t.Error("the hanging call was answered, want it broken")
	}
	if _, err := plain().Get(w.Graph.URL()); err == nil { //nolint:bodyclose // no server
		t.Error("a closed World answered")
	}
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func ExampleStart() {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer w.Close()
	client := plain()
	resp, err := client.PostForm(w.Entra.TokenURL(sandbox.TenantDomain), url.Values{
		"grant_type": {"client_credentials"}, "scope": {"https://graph.microsoft.com/.default"},
		"client_id": {sandbox.ClientID}, "client_secret": {w.Secret()},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer resp.Body.Close()
	var got struct {
		Type    string `json:"token_type"`
		Seconds int    `json:"expires_in"`
	}
	err = json.NewDecoder(resp.Body).Decode(&got)
	fmt.Println(got.Type, got.Seconds, err)
	// Output: Bearer 3599 <nil>
}

func ExampleEntra_Fail() {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer w.Close()
	w.Entra.Fail(sandbox.Throttle)
	resp, err := plain().PostForm(w.Entra.TokenURL(sandbox.TenantID), nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, resp.Header.Get("Retry-After"), string(body))
	// Output: 429 60 Too Many Requests
}
