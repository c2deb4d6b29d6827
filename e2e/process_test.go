package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// patience is how long anything may take that should be done in a moment,
	// on a machine that is busy.
	patience = 30 * time.Second
	pause    = 20 * time.Millisecond
)

// transcript is what a process wrote; it can be read while that goes on.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.Write(b)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}

// setup is what a gateway starts with. Config is its routes.yaml.
type setup struct {
	Config string
	Files  map[string]string // beside routes.yaml, by name
	Env    []string
	Args   []string // of serve
	Dir    string   // "": a fresh one
	Binary string   // "": the built one
}

// gateway is a running process of the built binary.
type gateway struct {
	dir, config  string
	proxy, admin string            // addresses
	sql          map[string]string // addresses of SQL doors, by name
	stdout       transcript
	stderr       transcript
	cmd          *exec.Cmd
	exited       chan struct{} // closed when it is over; err is set then
	err          error
	client       *http.Client
}

// start runs gateway serve until the test ends and returns once its doors are
// open.
func start(t testing.TB, s setup) *gateway {
	t.Helper()
	g := &gateway{dir: s.Dir, exited: make(chan struct{}), client: newClient(nil)}
	if g.dir == "" {
		g.dir = t.TempDir()
	}
	for name, text := range s.Files {
		write(t, filepath.Join(g.dir, name), text)
	}
	g.config = filepath.Join(g.dir, "routes.yaml")
	if s.Config != "" {
		write(t, g.config, s.Config)
	}
	ready := filepath.Join(t.TempDir(), "ready.json")
	g.cmd = exec.Command(cmp.Or(s.Binary, tool("gateway")), append([]string{"serve", "--config", g.config, "--ready-file", ready}, s.Args...)...)
	g.cmd.Env = append(bareEnvironment(), s.Env...)
	g.cmd.Stdout, g.cmd.Stderr = &g.stdout, &g.stderr
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		g.err = g.cmd.Wait()
		close(g.exited)
	}()
	t.Cleanup(func() {
		g.end(t)
		if t.Failed() {
			t.Logf("gateway's stderr:\n%s\ngateway's stdout, the end:\n%s", &g.stderr, tail(g.stdout.String(), 6000))
		}
	})
	var doors struct {
		Proxy, Admin string
		SQL          map[string]string
	}
	eventually(t, "the doors are open", func() bool {
		select {
		case <-g.exited:
			t.Fatalf("gateway serve ended: %v\n%s", g.err, &g.stderr)
		default:
		}
		b, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(b, &doors) == nil
	})
	g.proxy, g.admin, g.sql = doors.Proxy, doors.Admin, doors.SQL
	return g
}

// end has the process drain, and kills it if it does not.
func (g *gateway) end(t testing.TB) {
	g.client.CloseIdleConnections()
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.exited:
	case <-time.After(patience):
		t.Error("gateway did not end after SIGTERM")
		_ = g.cmd.Process.Kill()
		<-g.exited
	}
}

// url is the address of path at the reverse door.
func (g *gateway) url(path string) string { return "http://" + g.proxy + path }

// ready waits until /readyz says so: every route has its token.
func (g *gateway) ready(t testing.TB) {
	t.Helper()
	eventually(t, "the gateway is ready", func() bool {
		a, err := call(t.Context(), g.client, request{url: "http://" + g.admin + "/readyz"})
		return err == nil && a.status == http.StatusOK
	})
}

// metric returns the sum of a metric over the series that hold all of labels.
func (g *gateway) metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	a := must(t, g.client, request{url: "http://" + g.admin + "/metrics"})
	total, found := 0.0, false
	for line := range strings.Lines(a.body) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		has := true
		for _, l := range labels {
			has = has && strings.Contains(series, l)
		}
		var v float64
		if _, err := fmt.Sscan(value, &v); err == nil && has {
			total, found = total+v, true
		}
	}
	if !found && len(labels) == 0 {
		t.Fatalf("there is no metric %s", name)
	}
	return total
}

// command runs another gateway command with this one's routes.yaml and environment.
func (g *gateway) command(t testing.TB, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool("gateway"), append(args, "--config", g.config)...)
	cmd.Env = g.cmd.Env
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// bareEnvironment is this process's without what steers proxies and
// credentials.
func bareEnvironment() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		upper := strings.ToUpper(name)
		if strings.HasSuffix(upper, "_PROXY") || strings.HasPrefix(upper, "AZURE_") || upper == "JAVA_TOOL_OPTIONS" {
			continue
		}
		env = append(env, kv)
	}
	return env
}

// request is one call. An empty method is GET, or POST with a body.
type request struct {
	method, url string
	body        []byte
	header      http.Header
}

type answer struct {
	status int
	header http.Header
	body   string
	took   time.Duration
}

// newClient makes one that follows no environment; via is the address of a
// proxy, or nil.
func newClient(via *url.URL) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 256}
	if via != nil {
		tr.Proxy = http.ProxyURL(via)
	}
	return &http.Client{Transport: tr, Timeout: 2 * patience}
}

// unixClient makes one that dials a socket whatever the URL says.
func unixClient(path string) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}
}

func call(ctx context.Context, c *http.Client, r request) (answer, error) {
	began := time.Now()
	if r.method == "" && r.body != nil {
		r.method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return answer{}, err
	}
	if r.header != nil {
		req.Header = r.header
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b), time.Since(began)}, err
}

// must is call for one that gets an answer, whatever its status.
func must(t testing.TB, c *http.Client, r request) answer {
	t.Helper()
	a, err := call(t.Context(), c, r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// problem is the body of a refusal.
type problem struct {
	Code, Detail, Remedy, Route string
	Status, AADSTS              int
}

// refused checks that a is a refusal of the gateway's own and returns it.
func refused(t testing.TB, a answer, status int, code string) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("status %d with %.300q; want a problem %q", a.status, a.body, code)
	}
	if got := a.header.Get("Gateway-Error"); a.status != status || got != code || p.Code != code || p.Status != status {
		t.Fatalf("status %d, Gateway-Error %q, problem %+v; want %d %s", a.status, got, p, status, code)
	}
	return p
}

// eventually waits until done.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s waited in vain until %s", patience, what)
		}
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
