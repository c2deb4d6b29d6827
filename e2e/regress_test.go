package e2e

import (
	"debug/buildinfo"
	"fmt"
	"go/version"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// The tests in regress_*_test.go are named after the defect of a peer, or of
// what the gateway is built on, that they keep out.

// assault sends each of table through each door of a gateway of its own.
func assault(t *testing.T, table ...hostile) {
	t.Helper()
	t.Parallel()
	newArena(t, "127.0.0.1:0").attackAll(t, table)
}

// entries picks those of the table whose names begin so.
func entries(t *testing.T, prefixes ...string) []hostile {
	t.Helper()
	var all []hostile
	for _, p := range prefixes {
		n := len(all)
		for _, h := range hostileTable() {
			if strings.HasPrefix(h.name, p) {
				all = append(all, h)
			}
		}
		if len(all) == n {
			t.Fatalf("the table has no entry %q", p)
		}
	}
	return all
}

// passes is a call that arrives with the gateway's token and without words.
func passes(name, fields string, without ...string) hostile {
	return hostile{name: name, send: with(fields), want: sent, line: getLine, without: without}
}

// fixedInGo checks that the gateway is built by that release of Go or a later
// one, where a defect of the standard library is mended.
func fixedInGo(t *testing.T, release string) {
	t.Helper()
	info, err := buildinfo.ReadFile(tool("gateway"))
	if err != nil {
		t.Fatal(err)
	}
	by, _, _ := strings.Cut(info.GoVersion, " ")
	if !version.IsValid(by) || version.Compare(by, release) < 0 {
		t.Errorf("the gateway is built by %s, want %s at least", by, release)
	}
}

// fixedInModule checks that the gateway holds no older release of a module; it
// may hold none at all.
func fixedInModule(t *testing.T, module, release string) {
	t.Helper()
	info, err := buildinfo.ReadFile(tool("gateway"))
	if err != nil || len(info.Deps) == 0 {
		t.Fatalf("the binary tells of %v, %v", info, err)
	}
	for _, m := range info.Deps {
		if m.Path == module && slices.Compare(numbers(t, m.Version), numbers(t, release)) < 0 {
			t.Errorf("the gateway holds %s %s, want %s at least", m.Path, m.Version, release)
		}
	}
}

// numbers are those of a release such as v1.2.3.
func numbers(t *testing.T, release string) []int {
	t.Helper()
	n := make([]int, 3)
	if _, err := fmt.Sscanf(release, "v%d.%d.%d", &n[0], &n[1], &n[2]); err != nil {
		t.Fatalf("release %q: %v", release, err)
	}
	return n
}

// issuerSetup is a gateway with one route, api, whose token comes from a server
// that is not Entra, and further sections.
func issuerSetup(issuer, upstream, sections string) setup {
	return setup{
		Config: fmt.Sprintf(`version: 1
listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}
credentials:
  default:
    token_endpoint: %s
    client_id: of-the-test
    client_secret: {file: secret}
    token_endpoint_auth_method: client_secret_post
routes:
  - {name: api, hosts: [api.example.com], upstream: %q}
%s`, issuer, upstream, sections),
		Files: map[string]string{"secret": "of-the-gateway-0123"},
	}
}

// newIssuer is a token endpoint that answers with what token makes of a form.
func newIssuer(t testing.TB, token func(form func(string) string) string) *httptest.Server {
	t.Helper()
	return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, token(r.PostFormValue))
	})
}

func plainToken(func(string) string) string { return apiToken }

const apiToken = "token-of-the-api-0123456789"

func serveHTTP(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

// shows answers with what it got; of the token, which is for no answer, it
// tells whether it is alone and the right one.
func shows(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	v := r.Header.Values("Authorization")
	r.Header.Set("Authorization", fmt.Sprintf("%d, %t", len(v), len(v) == 1 && v[0] == "Bearer "+apiToken))
	_, _ = io.WriteString(w, r.Method+" "+r.RequestURI+"\nHost: "+r.Host+"\n")
	_ = r.Header.Write(w)
}
