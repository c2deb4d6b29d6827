package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// newSlowUpstream begins its answer, tells so by inside, and ends it after
// release. It returns its URL.
func newSlowUpstream(t testing.TB, inside, release chan struct{}) string {
	t.Helper()
	tell := sync.OnceFunc(func() { close(inside) }) // a client may call again
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begun, ")
		_ = http.NewResponseController(w).Flush()
		tell()
		select {
		case <-release:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "and ended")
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestUnixSocketsServeBothPorts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	s := graphSetup(w, "")
	dir := t.TempDir()
	proxy, admin := filepath.Join(dir, "proxy.sock"), filepath.Join(dir, "admin.sock")
	s.Config = strings.Replace(s.Config, `{proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}`,
		fmt.Sprintf("{proxy: %q, admin: %q}", "unix:"+proxy, "unix:"+admin), 1)
	g := start(t, s)
	if g.proxy != "unix:"+proxy || g.admin != "unix:"+admin {
		t.Errorf("ready file says %q and %q", g.proxy, g.admin)
	}
	eventually(t, "gateway health is green", func() bool {
		_, code := g.command(t, "health")
		return code == 0
	})
	own := unixClient(proxy)
	defer own.CloseIdleConnections()
	if a := must(t, own, request{url: "http://localhost/graph/v1.0/users"}); a.status != http.StatusOK {
		t.Errorf("status %d: %.300s", a.status, a.body)
	}
	curl := exec.CommandContext(t.Context(), "curl", "-sS", "--max-time", "20", "--unix-socket", proxy, "http://localhost/graph/v1.0/users?$top=2")
	if out, err := curl.CombinedOutput(); err != nil || !strings.Contains(string(out), "displayName") {
		t.Errorf("curl by the socket: %v, %.300s", err, out)
	}
	if out, code := g.command(t, "reload"); code != 0 {
		t.Errorf("gateway reload by the socket: exit %d, %s", code, out)
	}
	g.end(t)
	if _, err := os.Stat(proxy); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestHealthTellsReadyFromUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	w.Entra.Fail(sandbox.ExpiredSecret)
	g := start(t, graphSetup(w, ""))
	eventually(t, "the token is refused", func() bool { return w.Entra.Requests() > 0 })
	if out, code := g.command(t, "health", "--admin", g.admin); code != 1 || !strings.Contains(out, "not ready") {
		t.Errorf("gateway health: exit %d, %s; want 1 and not ready", code, out)
	}
	if out, code := g.command(t, "health", "--live", "--admin", g.admin); code != 0 {
		t.Errorf("gateway health --live: exit %d, %s; want 0", code, out)
	}
	w.Entra.Recover()
	if out, code := g.command(t, "reload", "--admin", g.admin); code != 0 {
		t.Errorf("gateway reload: exit %d, %s", code, out)
	}
	eventually(t, "gateway health is green", func() bool {
		_, code := g.command(t, "health", "--admin", g.admin)
		return code == 0
	})
	g.end(t)
	if out, code := g.command(t, "health", "--admin", g.admin); code != 1 {
		t.Errorf("gateway health without a gateway: exit %d, %s; want 1", code, out)
	}
}

func TestReadyFileGoesWithTheProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	s := graphSetup(w, "")
	g := start(t, s)
	ready := g.cmd.Args[len(g.cmd.Args)-1]
	if info, err := os.Stat(ready); err != nil || info.Size() == 0 {
		t.Fatalf("ready file: %v", err)
	}
	g.end(t)
	if _, err := os.Stat(ready); !os.IsNotExist(err) {
		t.Errorf("the ready file outlives the process: %v", err)
	}
	if g.err != nil {
		t.Errorf("gateway serve ended with %v, want exit 0", g.err)
	}
}

func TestBrokenFileAtStartOpensNoDoor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, ready := filepath.Join(dir, "routes.yaml"), filepath.Join(dir, "ready")
	own := freePort(t)
	write(t, config, "version: 1\nlisten: {proxy: \""+own+"\"}\nroutes:\n  - preset: graph\n    skope: x\n  - preset: no-such\n")
	cmd := exec.CommandContext(t.Context(), tool("gateway"), "serve", "--config", config, "--ready-file", ready)
	cmd.Env = bareEnvironment()
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "skope") || !strings.Contains(string(out), "no-such") {
		t.Errorf("gateway serve: %v with\n%s\nwant exit 1 and both mistakes", err, out)
	}
	if _, err := os.Stat(ready); !os.IsNotExist(err) {
		t.Errorf("a ready file was written: %v", err)
	}
}
