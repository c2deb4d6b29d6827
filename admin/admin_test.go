package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/secrets"
)

// steered counts what it was told to do.
type steered struct {
	watched
	key     string
	reloads int
	purges  []admin.Selection
}

func (s *steered) Ready(route string, strict bool) admin.Readiness {
	return admin.Readiness{Ready: route != "broken" && !strict, Degraded: []string{"something"}}
}
func (s *steered) Reload() admin.Reloaded { s.reloads++; return admin.Reloaded{OK: s.reloads == 1} }
func (s *steered) Purge(sel admin.Selection) admin.Purged {
	s.purges = append(s.purges, sel)
	return admin.Purged{Tokens: 3}
}
func (s *steered) AdminKey() secrets.Secret {
	if s.key == "" {
		return secrets.Secret{}
	}
	return secrets.New(s.key)
}

// serve runs an admin plane of g at network and addr.
func serve(t *testing.T, g *steered, network, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "gateway_build_info 1") })
	srv := admin.New(g, metrics, func(string) {}).Server()
	go func() { _ = srv.Serve(l) }() // Close ends it
	t.Cleanup(func() { _ = srv.Close() })
	return l
}

// ask sends one request over a connection of its own.
func ask(t *testing.T, l net.Listener, method, path string, header http.Header) (int, http.Header, string) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial(l.Addr().Network(), l.Addr().String())
	}}
	host := "localhost"
	if v := header.Get("Host"); v != "" {
		host = v
	}
	req, err := http.NewRequest(method, "http://localhost"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header, req.Host = header.Clone(), host
	req.Header.Del("Host")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&body) // metrics are no JSON
	return resp.StatusCode, resp.Header, fmt.Sprint(body)
}

func fields(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestHealthReadinessAndMetricsNeedNoKey(t *testing.T) {
	l := serve(t, &steered{key: "k"}, "tcp", "127.0.0.1:0")
	for path, want := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/readyz?route=broken": 503, "/readyz?strict": 503, "/metrics": 200, "/none": 404, "/api/reload": 405, "/api/routes": 421,
	} {
		if got, _, _ := ask(t, l, "GET", path, fields("Host", "any.example")); got != want {
			t.Errorf("GET %s = %d, want %d", path, got, want)
		}
	}
}

func TestOwnerSteersWithoutAKeyAndOthersWithIt(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		g := &steered{key: "admin-key-of-this-test"}
		addr := "127.0.0.1:0"
		if network == "unix" {
			addr = filepath.Join(t.TempDir(), "a.sock")
		}
		l := serve(t, g, network, addr)
		tests := []struct {
			name   string
			header http.Header
			want   int
		}{
			{"the owner", fields(), 200},
			{"the key", fields("Authorization", "Bearer admin-key-of-this-test"), 200},
			{"a wrong key, although the owner's", fields("Authorization", "Bearer admin-key-of-this-tesu"), 401},
			{"no key", fields("Authorization", "Bearer "), 401},
			{"another scheme", fields("Authorization", "Basic YTpi"), 401},
			{"two fields", fields("Authorization", "Bearer x", "Authorization", "Bearer admin-key-of-this-test"), 401},
			{"a prefix", fields("Authorization", "Bearer admin-key"), 401},
		}
		for _, tt := range tests {
			if got, _, body := ask(t, l, "POST", "/api/purge?credential=c&tenant=t&scope=s", tt.header); got != tt.want {
				t.Errorf("%s, %s: status = %d %s, want %d", network, tt.name, got, body, tt.want)
			}
		}
		if len(g.purges) != 2 || g.purges[0] != (admin.Selection{Credential: "c", Tenant: "t", Scope: "s"}) {
			t.Errorf("%s: purges = %v, want two with what was asked", network, g.purges)
		}
	}
}

func TestNoKeyInForceOpensNothing(t *testing.T) {
	l := serve(t, &steered{}, "tcp", "127.0.0.1:0")
	if got, _, _ := ask(t, l, "POST", "/api/purge", fields("Authorization", "Bearer ")); got != 401 {
		t.Errorf("an empty key against none: status = %d, want 401", got)
	}
}

func TestReloadTellsWhetherTheFileWasTaken(t *testing.T) {
	l := serve(t, &steered{}, "tcp", "127.0.0.1:0")
	for _, want := range []int{200, 422} {
		if got, _, body := ask(t, l, "POST", "/api/reload", fields()); got != want {
			t.Errorf("status = %d %s, want %d", got, body, want)
		}
	}
}

func TestPageInABrowserSteersNothing(t *testing.T) {
	g := &steered{key: "k"}
	l := serve(t, g, "tcp", "127.0.0.1:0")
	tests := []struct {
		name   string
		header http.Header
		want   int
	}{
		{"another origin", fields("Origin", "https://evil.example"), 403},
		{"no origin", fields("Origin", "null"), 403},
		{"an empty origin", fields("Origin", ""), 403},
		{"cross-site", fields("Sec-Fetch-Site", "cross-site"), 403},
		{"same-origin", fields("Sec-Fetch-Site", "same-origin"), 403},
		{"two values", fields("Sec-Fetch-Site", "none", "Sec-Fetch-Site", "cross-site"), 403},
		{"a rebound name", fields("Host", "evil.example"), 421},
		{"a rebound name with a port", fields("Host", "evil.example:8081"), 421},
		{"a name that only begins well", fields("Host", "localhost.evil.example"), 421},
		{"with the key", fields("Origin", "https://evil.example", "Authorization", "Bearer k"), 403},
		{"another address", fields("Host", "10.1.2.3:8081"), 421},
		{"loopback by another name", fields("Host", "127.0.0.2"), 200},
	}
	for _, tt := range tests {
		if got, _, body := ask(t, l, "POST", "/api/purge", tt.header); got != tt.want {
			t.Errorf("%s: status = %d %s, want %d", tt.name, got, body, tt.want)
		}
	}
	if len(g.purges) != 1 {
		t.Errorf("%d purges, want the one that was allowed", len(g.purges))
	}
}

func TestGuessesAreHeldOff(t *testing.T) {
	g := &steered{key: "k"}
	l := serve(t, g, "tcp", "127.0.0.1:0")
	wrong := fields("Authorization", "Bearer guess")
	began := time.Now()
	refused := 0
	for {
		got, header, _ := ask(t, l, "POST", "/api/purge", wrong)
		if got == http.StatusTooManyRequests {
			if header.Get("Retry-After") == "" {
				t.Error("a 429 without Retry-After")
			}
			break
		}
		if refused++; got != 401 || refused > 40 {
			t.Fatalf("guess %d: status = %d, want 401", refused, got)
		}
	}
	if allowed := 10 + int(time.Since(began)/time.Second) + 1; refused < 10 || refused > allowed {
		t.Errorf("%d guesses were judged, want 10 and one for each second", refused)
	}
	if got, _, _ := ask(t, l, "POST", "/api/purge", fields("Authorization", "Bearer k")); got != http.StatusTooManyRequests {
		t.Errorf("the right key was judged from a source that is held off: status = %d", got)
	}
	if got, _, _ := ask(t, l, "GET", "/healthz", wrong); got != 200 {
		t.Errorf("health is held off too: status = %d", got)
	}
	for end := time.Now().Add(20 * time.Second); ; {
		if got, _, _ := ask(t, l, "POST", "/api/purge", fields("Authorization", "Bearer k")); got == 200 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the source is held off for ever")
		}
	}
}

func TestRightKeysAreNeverHeldOff(t *testing.T) {
	l := serve(t, &steered{key: "k"}, "tcp", "127.0.0.1:0")
	for i := range 50 {
		if got, _, _ := ask(t, l, "POST", "/api/purge", fields("Authorization", "Bearer k")); got != 200 {
			t.Fatalf("call %d: status = %d", i, got)
		}
	}
}

// A program that sends a call and closes at once has no process any more, and
// the kernel shows its socket as root's.
func TestCallOfAPeerThatClosedIsNotRoots(t *testing.T) {
	g := &steered{key: "k"}
	arrived := make(chan struct{})
	l := &held{Listener: listenTCP(t), release: arrived}
	srv := admin.New(g, http.NotFoundHandler(), func(string) {}).Server()
	done := make(chan struct{})
	srv.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(done)
		}
	}
	go func() { _ = srv.Serve(l) }() // Close ends it
	defer srv.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("POST /api/purge HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	close(arrived)
	<-done
	if len(g.purges) != 0 {
		t.Error("a call whose sender was gone has purged the cache")
	}
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// held hands out connections when it is released.
type held struct {
	net.Listener
	release chan struct{}
}

func (h *held) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	<-h.release
	return c, err
}

func ExampleNew() {
	plane := admin.New(&steered{}, http.NotFoundHandler(), func(detail string) { fmt.Fprintln(os.Stderr, detail) })
	w := httptest.NewRecorder()
	plane.HealthServer().Handler.ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
	fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	// Output: 200 {"status":"up"}
}
