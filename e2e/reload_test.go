package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// load calls without pause until stopped, and counts.
type load struct {
	stop   chan struct{}
	wg     sync.WaitGroup
	calls  atomic.Int64
	failed sync.Map // what went wrong, once each
}

// begin keeps callers busy with path until the test ends or finish is called.
func begin(t testing.TB, g *gateway, path string) *load {
	l := &load{stop: make(chan struct{})}
	for range 4 {
		l.wg.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				a, err := call(t.Context(), g.client, request{url: g.url(path), body: []byte("under load")})
				l.calls.Add(1)
				if err != nil {
					l.failed.Store(err.Error(), true)
				} else if a.status != http.StatusOK {
					l.failed.Store(fmt.Sprintf("status %d: %.300s", a.status, a.body), true)
				}
			}
		})
	}
	return l
}

// finish ends the load and checks that not one call of it failed.
func (l *load) finish(t testing.TB) {
	t.Helper()
	// However quick the change was, the load must have gone on beside it.
	for range 1000 {
		if l.calls.Load() >= 50 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	close(l.stop)
	l.wg.Wait()
	l.failed.Range(func(what, _ any) bool {
		t.Errorf("under load: %s", what)
		return true
	})
	if n := l.calls.Load(); n < 50 {
		t.Errorf("%d calls made; that is no load", n)
	}
}

// mounted tells whether path is a route of the table in force.
func mounted(t testing.TB, g *gateway, path string) bool {
	t.Helper()
	return must(t, g.client, request{url: g.url(path)}).status != http.StatusNotFound
}

// withRoute is the routes.yaml of s with one route more.
func withRoute(s setup, w *sandbox.World, name string) string {
	return s.Config + fmt.Sprintf("  - {name: %s, hosts: [%s.example.com], scope: %s, upstream: %q}\n", name, name, graphScope, w.Graph.URL())
}

func TestConfigMapSwapIsFollowedUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	s := graphSetup(w, "")
	// As the kubelet lays it out: routes.yaml -> ..data/routes.yaml, and
	// ..data -> a folder that is named by its time.
	s.Dir = t.TempDir()
	generation := 0
	publish := func(config, secret string) {
		generation++
		name := fmt.Sprintf("..2026_01_01_00_00_%02d.1234567890", generation)
		if err := os.Mkdir(filepath.Join(s.Dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(s.Dir, name, "routes.yaml"), config)
		write(t, filepath.Join(s.Dir, name, "client-secret"), secret)
		err1 := os.Symlink(name, filepath.Join(s.Dir, "..data_tmp"))
		old, _ := os.Readlink(filepath.Join(s.Dir, "..data"))
		err2 := os.Rename(filepath.Join(s.Dir, "..data_tmp"), filepath.Join(s.Dir, "..data"))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if old != "" {
			_ = os.RemoveAll(filepath.Join(s.Dir, old))
		}
	}
	first := s.Config
	publish(first, w.Secret())
	for name := range map[string]bool{"routes.yaml": true, "client-secret": true} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(s.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	g := start(t, setup{Dir: s.Dir})
	g.ready(t)
	l := begin(t, g, "/graph/v1.0/$echo/load")
	for i := range 3 {
		name := fmt.Sprintf("swap%d", i)
		publish(withRoute(s, w, name), w.Secret())
		eventually(t, name+" is mounted", func() bool { return mounted(t, g, "/"+name+"/v1.0/users") })
	}
	publish(first, w.Secret())
	eventually(t, "the last swap is undone", func() bool { return !mounted(t, g, "/swap2/v1.0/users") })
	l.finish(t)
}

func TestEditsAreFollowedUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	s := graphSetup(w, "")
	g := start(t, s)
	g.ready(t)
	l := begin(t, g, "/graph/v1.0/$echo/load")
	replaceFile(t, g.config, withRoute(s, w, "renamed"))
	eventually(t, "the renamed file is in force", func() bool { return mounted(t, g, "/renamed/v1.0/users") })
	write(t, g.config, withRoute(s, w, "in-place"))
	eventually(t, "the file written in place is in force", func() bool { return mounted(t, g, "/in-place/v1.0/users") })

	write(t, g.config, strings.Replace(withRoute(s, w, "broken"), "scope:", "skope:", 1))
	eventually(t, "the mistake shows", func() bool { return g.metric(t, "gateway_config_last_reload_successful") == 0 })
	out, code := g.command(t, "reload", "--admin", g.admin)
	if code != 1 || !strings.Contains(out, "skope") || !strings.Contains(out, "routes.yaml:") {
		t.Errorf("gateway reload: exit %d with\n%s\nwant 1, and the mistake with its line", code, out)
	}
	if !mounted(t, g, "/in-place/v1.0/users") || mounted(t, g, "/broken/v1.0/users") {
		t.Error("the table before the broken edit is not in force")
	}
	if a := must(t, g.client, request{url: "http://" + g.admin + "/readyz"}); a.status != http.StatusOK || !strings.Contains(a.body, "mistakes") {
		t.Errorf("/readyz: status %d with %s; want 200 that names the mistakes", a.status, a.body)
	}

	write(t, g.config, withRoute(s, w, "mended"))
	eventually(t, "the mended file is in force", func() bool { return mounted(t, g, "/mended/v1.0/users") })
	if out, code := g.command(t, "reload", "--admin", g.admin); code != 0 {
		t.Errorf("gateway reload: exit %d with %s", code, out)
	}
	if v := g.metric(t, "gateway_config_last_reload_successful"); v != 1 {
		t.Errorf("gateway_config_last_reload_successful = %v, want 1", v)
	}
	l.finish(t)
}

func TestRotatedSecretIsUsedUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	g := start(t, graphSetup(w, ""))
	g.ready(t)
	l := begin(t, g, "/graph/v1.0/$echo/load")
	next, err := w.Entra.AddSecret(sandbox.ClientID, sandbox.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	var used atomic.Bool
	w.Entra.Observe(func(r sandbox.TokenRequest) {
		if r.Form.Get("client_secret") == next.Value {
			used.Store(true)
		}
	})
	replaceFile(t, filepath.Join(g.dir, "client-secret"), next.Value)
	eventually(t, "a token request carries the new secret", used.Load)
	if err := w.Entra.RemoveSecret(sandbox.ClientID, w.Secret()); err != nil {
		t.Fatal(err)
	}
	if out, code := g.command(t, "purge", "--admin", g.admin); code != 0 {
		t.Errorf("gateway purge: exit %d with %s", code, out)
	}
	a := must(t, g.client, request{url: g.url("/graph/v1.0/users")})
	if a.status != http.StatusOK {
		t.Errorf("status %d after the old secret is gone: %s", a.status, a.body)
	}
	l.finish(t)
}

func TestSIGHUPReadsTheFilesAgain(t *testing.T) {
	t.Parallel()
	w, g := startGraph(t, "")
	l := begin(t, g, "/graph/v1.0/$echo/load")
	before := g.metric(t, "gateway_config_last_reload_success_timestamp_seconds")
	for range 3 {
		if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the reload shows", func() bool {
		return g.metric(t, "gateway_config_last_reload_success_timestamp_seconds") > before
	})
	l.finish(t)
	noneBare(t, w)
}

func TestSIGTERMDrainsASlowCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	inside, release := make(chan struct{}), make(chan struct{})
	upstream := newSlowUpstream(t, inside, release)
	s := graphSetup(w, "")
	s.Config = strings.Replace(s.Config, w.Graph.URL(), upstream, 1)
	g := start(t, s)
	g.ready(t)
	type result struct {
		a   answer
		err error
	}
	done := make(chan result, 1)
	go func() {
		a, err := call(t.Context(), g.client, request{url: g.url("/graph/v1.0/slow")})
		done <- result{a, err}
	}()
	<-inside
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	fresh := newClient(nil)
	defer fresh.CloseIdleConnections()
	eventually(t, "no new call is taken", func() bool {
		moment, leave := context.WithTimeout(t.Context(), time.Second) // one that is taken waits for release
		defer leave()
		_, err := call(moment, fresh, request{url: g.url("/graph/v1.0/users")})
		fresh.CloseIdleConnections()
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	select {
	case <-g.exited:
		t.Fatal("the process ended with a call under way")
	default:
	}
	close(release)
	if r := <-done; r.err != nil || r.a.status != http.StatusOK || r.a.body != "begun, and ended" {
		t.Errorf("the slow call got %d %q, %v; want its whole answer", r.a.status, r.a.body, r.err)
	}
	g.client.CloseIdleConnections()
	select {
	case <-g.exited:
		if g.err != nil {
			t.Errorf("gateway serve ended with %v, want exit 0", g.err)
		}
	case <-time.After(patience):
		t.Error("the process goes on after its last call")
	}
}
