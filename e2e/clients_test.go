package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// client is one that nobody here wrote, or at least its HTTP.
type client struct {
	name string
	// command makes the call. Its output is the status in a line of its own,
	// or the head of the answer, and then the body. Nil: Go's net/http.
	command func(c clientCall) *exec.Cmd
	reverse bool
	forward bool
}

type clientCall struct {
	ctx               context.Context
	method, url       string
	file              string // with the body, or ""
	proxy, host, port string // host:port and its halves, or ""
}

// operands are what the scripts in clients take after the client's name.
func (c clientCall) operands(before ...string) []string {
	args := append(before, c.method, c.url)
	if c.file != "" {
		args = append(args, c.file)
	}
	return args
}

// command runs with the proxy in the environment, in the one form that all of
// them obey.
func (c clientCall) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c.ctx, name, args...)
	cmd.Env = append(bareEnvironment(), "LC_ALL=C.UTF-8")
	if c.proxy != "" {
		cmd.Env = append(cmd.Env, "http_proxy=http://"+c.proxy, "HTTP_PROXY_URL=http://"+c.proxy)
	}
	return cmd
}

func node(kind string) func(clientCall) *exec.Cmd {
	return func(c clientCall) *exec.Cmd { return c.command("node", c.operands("clients/call.mjs", kind)...) }
}

func python(kind string) func(clientCall) *exec.Cmd {
	return func(c clientCall) *exec.Cmd { return c.command(tool("python"), c.operands("clients/call.py", kind)...) }
}

func java(kind string) func(clientCall) *exec.Cmd {
	return func(c clientCall) *exec.Cmd {
		args := []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"}
		if c.proxy != "" {
			args = append(args, "-Dhttp.proxyHost="+c.host, "-Dhttp.proxyPort="+c.port)
		}
		return c.command("java", append(args, c.operands("clients/Call.java", kind)...)...)
	}
}

func curl(c clientCall) *exec.Cmd {
	args := []string{"-sS", "-i", "--globoff", "-X", c.method, c.url}
	if c.file != "" {
		args = append(args, "-H", "Content-Type: application/octet-stream", "--data-binary", "@"+c.file)
	}
	return c.command("curl", args...)
}

func wget(c clientCall) *exec.Cmd {
	args := []string{"-q", "-O", "-", "--save-headers", "--content-on-error", "--tries=1", "--method=" + c.method, c.url}
	if c.file != "" {
		args = append(args, "--header=Content-Type: application/octet-stream", "--body-file="+c.file)
	}
	return c.command("wget", args...)
}

func clients() []client {
	return []client{
		{"curl", curl, true, true},
		{"wget", wget, true, true},
		{"python urllib", python("urllib"), true, true},
		{"python requests", python("requests"), true, true},
		{"python httpx", python("httpx"), true, true},
		{"node fetch", node("fetch"), true, true}, // by undici's ProxyAgent, told to send the absolute form
		{"node http", node("http"), true, true},
		{"axios", node("axios"), true, true},
		{"java HttpClient", java("HttpClient"), true, true},
		{"java HttpURLConnection", java("HttpURLConnection"), true, true},
		{"go net http", nil, true, true},
		{"graph sdk", node("graph"), true, false}, // it has no way to be given a proxy
	}
}

// do makes one call and returns the status and body that the client saw.
func (c client) do(t *testing.T, r request, proxy string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cc := clientCall{ctx: ctx, method: "GET", url: r.url, proxy: proxy}
	cc.host, cc.port, _ = strings.Cut(proxy, ":")
	if r.body != nil {
		cc.method, cc.file = "POST", filepath.Join(t.TempDir(), "body")
		if err := os.WriteFile(cc.file, r.body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c.command == nil {
		var via *url.URL
		if proxy != "" {
			via = &url.URL{Scheme: "http", Host: proxy}
		}
		own := newClient(via)
		defer own.CloseIdleConnections()
		return must(t, own, r)
	}
	cmd := c.command(cc)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		return answer{status: -1, body: stderr.String()}
	}
	return parseOutput(t, string(out))
}

// parseOutput reads a status line, of HTTP or a number alone, and a body.
func parseOutput(t *testing.T, out string) answer {
	t.Helper()
	first, rest, _ := strings.Cut(out, "\n")
	for head, ok := strings.CutPrefix(first, "HTTP/1.1 "); ok; head, ok = strings.CutPrefix(first, "HTTP/1.1 ") {
		status := head[:min(3, len(head))]
		_, rest, _ = strings.Cut(rest, "\r\n\r\n")
		if first = status; status == "100" { // an interim answer, and then another head
			first, rest, _ = strings.Cut(rest, "\n")
		}
	}
	status, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		t.Fatalf("output begins %.200q, want a status", out)
	}
	return answer{status: status, body: rest}
}

// odata is a query of the kind that OData clients send, with the characters
// that parsers like to stumble over.
const odata = "/v1.0/$echo/users?$filter=startswith(displayName,'A')&$expand=manager($levels=max;$select=id)&$top=5"

// sends returns the bytes of the query that the client itself makes of odata,
// as a server sees them that it calls directly.
func (c client) sends(t *testing.T) string {
	t.Helper()
	seen := make(chan string, 4)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, query, _ := strings.Cut(r.RequestURI, "?")
		seen <- query
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{}`)
	}))
	defer srv.Close()
	c.do(t, request{url: srv.URL + odata}, "")
	select {
	case q := <-seen:
		plain, err := url.PathUnescape(q)
		if _, want, _ := strings.Cut(odata, "?"); err != nil || plain != want {
			t.Fatalf("%s sends %q, which is not what it was told", c.name, q)
		}
		return q
	default:
		t.Fatalf("%s does not call at all", c.name)
	}
	return ""
}

func TestEveryClientGetsThroughEveryDoor(t *testing.T) {
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			query := c.sends(t)
			if c.reverse {
				t.Run("reverse", func(t *testing.T) { throughDoor(t, c, false, query) })
			}
			if c.forward {
				t.Run("forward", func(t *testing.T) { throughDoor(t, c, true, query) })
			}
		})
	}
}

// throughDoor has c read, and then upload with a token that was revoked.
func throughDoor(t *testing.T, c client, forward bool, query string) {
	w, g := startGraph(t, "")
	base, proxy := g.url("/graph"), ""
	if forward {
		base, proxy = "http://graph.microsoft.com", g.proxy
	}
	e := echoed(t, c.do(t, request{url: base + odata}, proxy))
	if e.Method != "GET" || e.Query != query || e.Host != "graph.microsoft.com" || e.Path != "/v1.0/$echo/users" {
		t.Errorf("Graph saw %s %s%s?%s; want the query %s", e.Method, e.Host, e.Path, e.Query, query)
	}
	w.Graph.RevokeTokens()
	body := noise(300 << 10)
	e = echoed(t, c.do(t, request{url: base + "/v1.0/$echo/upload", body: body}, proxy))
	intact(t, e, body)
	for name := range e.Headers {
		switch name {
		case "Upgrade", "Http2-Settings", "Proxy-Connection", "Proxy-Authorization", "Connection":
			t.Errorf("%s reached Graph", name)
		}
	}
	if err := sawSecondTry(w.Graph.Seen()); err != nil {
		t.Error(err)
	}
	if n := w.Entra.Requests(); n != 2 {
		t.Errorf("%d token requests, want 2", n)
	}
	noneBare(t, w)
}

// sawSecondTry checks what Graph saw: the upload refused, and once more with
// another token.
func sawSecondTry(seen []sandbox.Sighting) error {
	if len(seen) != 3 {
		return fmt.Errorf("Graph saw %d calls, want 3: one read, two tries of the upload", len(seen))
	}
	first, second := seen[1], seen[2]
	if first.Method != "POST" || second.Method != "POST" || first.Status != http.StatusUnauthorized || second.Status != http.StatusOK {
		return fmt.Errorf("Graph saw %s → %d and %s → %d, want POST → 401 and POST → 200", first.Method, first.Status, second.Method, second.Status)
	}
	if first.Authorization == second.Authorization || second.ClientID != sandbox.ClientID {
		return fmt.Errorf("the second try brought no other token of %s", sandbox.ClientID)
	}
	return nil
}

// Node's fetch opens a tunnel for http:// too. There is nothing to decrypt in
// it, so that no CA is needed.
func TestTunnelForPlainHTTPNeedsNoCA(t *testing.T) {
	w, g := startGraph(t, "")
	c := client{name: "undici EnvHttpProxyAgent", command: node("tunnel")}
	a := c.do(t, request{url: "http://graph.microsoft.com/v1.0/users"}, g.proxy)
	if a.status != http.StatusOK || !strings.Contains(a.body, "Adele") {
		t.Errorf("status %d with %.300q", a.status, a.body)
	}
	noneBare(t, w)
	if n := g.metric(t, "gateway_requests_total", `door="tunnel"`, `route="graph"`); n != 1 {
		t.Errorf("%v calls through a tunnel, want 1", n)
	}
}

func TestTunnelForTLSWithoutACAIsRefusedWithTheRemedy(t *testing.T) {
	w, g := startGraph(t, "")
	c := client{name: "curl", command: func(c clientCall) *exec.Cmd {
		return exec.CommandContext(c.ctx, "curl", "-sS", "-v", "-x", "http://"+c.proxy, c.url)
	}}
	a := c.do(t, request{url: "https://graph.microsoft.com/v1.0/users"}, g.proxy)
	if a.status != -1 || !strings.Contains(a.body, "501") {
		t.Errorf("status %d, the client says %q; want its complaint about a 501", a.status, a.body)
	}
	if n := g.metric(t, "gateway_refusals_total", `code="not_supported"`); n != 1 {
		t.Errorf("%v calls refused as not_supported, want 1", n)
	}
	eventually(t, "the log names the remedy", func() bool { return strings.Contains(g.stdout.String(), "intercept") })
	if n := w.Graph.Counts().Calls; n != 0 {
		t.Errorf("%d calls reached Graph", n)
	}
	noneBare(t, w)
}
