package authority_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/routes"
)

const (
	headerSecret = "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a.m4rker-header"
	arcSecret    = "bTRya2VyLWtleS1vZi1hcmM=m4rker-key"
	userID       = "11112222-bbbb-3333-cccc-4444dddd5555"
	resourceID   = "/subscriptions/22223333-cccc-4444-dddd-5555eeee6666/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/reports"
	graph        = "https://graph.microsoft.com"
)

// platform is a fake of one kind of host. It answers a request only if every
// header and parameter is as the platform's documentation has it, and else as
// the platform does.
type platform struct {
	*httptest.Server
	path   string
	header map[string]string                       // that a request must have; "" that it must not
	query  string                                  // the whole query, encoded
	reject func(w http.ResponseWriter, why string) // guarded by mu once it runs
	answer http.HandlerFunc                        // nil: a token; guarded as reject is

	mu       sync.Mutex // guards what follows
	requests []*http.Request
	wrong    []string
}

func (p *platform) start(t testing.TB) *platform {
	t.Helper()
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	why := p.mistake(r, body)
	p.mu.Lock()
	p.requests = append(p.requests, r)
	if why != "" {
		p.wrong = append(p.wrong, why)
	}
	reject, answer := p.reject, p.answer
	p.mu.Unlock()
	switch {
	case why != "":
		reject(w, why)
	case answer != nil:
		answer(w, r)
	default:
		_, _ = io.WriteString(w, hostToken(24*time.Hour))
	}
}

func (p *platform) mistake(r *http.Request, body []byte) string {
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "Via", "Cookie", "Proxy-Authorization"} {
		if r.Header.Get(name) != "" {
			return name + " is there"
		}
	}
	for name, want := range p.header {
		if got := r.Header.Values(name); want == "" && len(got) > 0 || want != "" && (len(got) != 1 || got[0] != want) {
			return fmt.Sprintf("%s is %q, want %q", name, got, want)
		}
	}
	switch {
	case r.Method != http.MethodGet || len(body) > 0:
		return r.Method + " with a body, want GET without"
	case r.URL.Path != p.path:
		return "path is " + r.URL.Path + ", want " + p.path
	case r.URL.Query().Encode() != p.query:
		return "query is " + r.URL.RawQuery + ", want " + p.query
	}
	return ""
}

// seen returns the requests so far and what was wrong with them.
func (p *platform) seen() (requests []*http.Request, wrong []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append(requests, p.requests...), append(wrong, p.wrong...)
}

// rejecting changes how a running platform rejects requests.
func (p *platform) rejecting(how func(w http.ResponseWriter, why string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reject = how
}

// answering changes how a running platform answers.
func (p *platform) answering(how http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = how
}

// query writes pairs of name and value.
func query(pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return q.Encode()
}

// newIMDS is a virtual machine's.
func newIMDS(resource string, id ...string) *platform {
	return &platform{
		path:   "/metadata/identity/oauth2/token",
		header: map[string]string{"Metadata": "true", "Authorization": ""},
		query:  query(append([]string{"api-version", "2018-02-01", "resource", resource}, id...)...),
		reject: func(w http.ResponseWriter, why string) {
			if strings.HasPrefix(why, "Metadata") {
				why = "Required metadata header not specified"
			}
			says(400, fmt.Sprintf(`{"error":"invalid_request","error_description":%q}`, why))(w, nil)
		},
	}
}

// newAppService is also that of Functions and Container Apps.
func newAppService(resource string, id ...string) *platform {
	return &platform{
		path:   "/msi/token",
		header: map[string]string{"X-IDENTITY-HEADER": headerSecret, "Metadata": "", "Authorization": ""},
		query:  query(append([]string{"api-version", "2019-08-01", "resource", resource}, id...)...),
		reject: func(w http.ResponseWriter, why string) {
			says(400, fmt.Sprintf(`{"statusCode":400,"message":%q,"correlationId":"52079882-ca1e-4b91-8d14-e4f6c2f6cddc"}`, why))(w, nil)
		},
	}
}

func newServiceFabric(resource string) *platform {
	return &platform{
		path:   "/metadata/identity/oauth2/token",
		header: map[string]string{"Secret": headerSecret, "Metadata": "", "Authorization": ""},
		query:  query("api-version", "2019-07-01-preview", "resource", resource),
		reject: func(w http.ResponseWriter, why string) {
			says(400, fmt.Sprintf(`{"error":{"correlationId":"7f30f4d3-0f3a-41e0-a417-527f21b3848f","code":"SecretHeaderNotFound","message":%q}}`, why))(w, nil)
		},
	}
}

func newAzureML(resource string, id ...string) *platform {
	return &platform{
		path:   "/MSI/auth",
		header: map[string]string{"Secret": headerSecret, "Metadata": "", "Authorization": ""},
		query:  query(append([]string{"api-version", "2017-09-01", "resource", resource}, id...)...),
		reject: func(w http.ResponseWriter, why string) {
			says(400, fmt.Sprintf(`{"error":{"code":"BadArgument","message":%q}}`, why))(w, nil)
		},
	}
}

// newArc challenges with the file realm, and then wants its content.
func newArc(resource, realm string) *platform {
	p := &platform{
		path:   "/metadata/identity/oauth2/token",
		header: map[string]string{"Metadata": "true"},
		query:  query("api-version", "2020-06-01", "resource", resource),
		reject: func(w http.ResponseWriter, why string) {
			says(400, fmt.Sprintf(`{"error":"invalid_request","error_description":%q}`, why))(w, nil)
		},
	}
	p.answer = func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Authorization") {
		case "":
			w.Header().Set("WWW-Authenticate", "Basic realm="+realm)
			says(401, `{"error":"unauthorized"}`)(w, r)
		case "Basic " + arcSecret:
			says(200, hostToken(24*time.Hour))(w, r)
		default:
			says(401, `{"error":"unauthorized","error_description":"wrong challenge token"}`)(w, r)
		}
	}
	return p
}

// hostToken is a host's answer in the manner of IMDS: all numbers are strings.
func hostToken(life time.Duration) string {
	b, _ := json.Marshal(map[string]string{
		"access_token": "abc.def.ghi", "token_type": "Bearer", "client_id": userID, "resource": graph,
		"expires_in": strconv.Itoa(int(life.Seconds())), "expires_on": strconv.FormatInt(time.Now().Add(life).Unix(), 10),
		"ext_expires_in": "86399", "not_before": strconv.FormatInt(time.Now().Unix(), 10),
	})
	return string(b)
}

// keyFile puts Azure Arc's key where an agent would.
func keyFile(t testing.TB, content string) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	path = filepath.Join(dir, "0b9a43d9.key")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

// managed is the identity want of machine s.
func managed(t testing.TB, s authority.Machine, want routes.ManagedIdentity) *authority.Managed {
	t.Helper()
	m, err := authority.NewManaged(s, want)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// onIMDS is a virtual machine's default identity, whose IMDS is at address.
func onIMDS(t testing.TB, address string) *authority.Managed {
	t.Helper()
	return managed(t, authority.Machine{Env: map[string]string{"AZURE_POD_IDENTITY_AUTHORITY_HOST": address}}, routes.ManagedIdentity{})
}

// onAppService is the default identity of the app that p hosts.
func onAppService(t testing.TB, p *platform) *authority.Managed {
	t.Helper()
	return managed(t, authority.Machine{Env: map[string]string{"IDENTITY_ENDPOINT": p.URL + p.path, "IDENTITY_HEADER": headerSecret}}, routes.ManagedIdentity{})
}

// elsewhere clears what would tell this machine's platform.
func elsewhere(t testing.TB) {
	t.Helper()
	for _, name := range []string{
		"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT", "MSI_ENDPOINT",
		"MSI_SECRET", "DEFAULT_IDENTITY_CLIENT_ID", "AZURE_POD_IDENTITY_AUTHORITY_HOST",
	} {
		t.Setenv(name, "")
	}
}

// quiet sees that no secret is in an error, and that it says what to do.
func quiet(t testing.TB, e *authority.Error) {
	t.Helper()
	all, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	text := e.Explain() + string(all) + fmt.Sprintf("%+v", *e)
	for cause := error(e); cause != nil; cause = errors.Unwrap(cause) {
		text += cause.Error()
	}
	for _, bad := range []string{"m4rker", headerSecret, base64.StdEncoding.EncodeToString([]byte(headerSecret)), arcSecret, "abc.def"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q is in %q", bad, text)
		}
	}
	if e.Hint == "" || e.Remedy == "" && !strings.Contains(e.Hint, "given up") {
		t.Errorf("hint %q, remedy %q; want both", e.Hint, e.Remedy)
	}
}
