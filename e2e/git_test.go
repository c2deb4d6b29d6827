package e2e

import (
	"net/http"
	"net/http/cgi"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// gitName is the git server's. It resolves nowhere.
const gitName = "git.contoso.com"

// gitServer serves one repository over HTTPS, by git's own backend, to whoever
// shows a bearer token.
type gitServer struct {
	addr          string
	ca            *authority
	served, asked atomic.Int64 // calls with a token, and without
}

func startGit(t *testing.T) *gitServer {
	t.Helper()
	dir := t.TempDir()
	where, err := exec.CommandContext(t.Context(), "git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"init", "-q", "-b", "main", "work"},
		{"-C", "work", "-c", "user.name=a", "-c", "user.email=a@contoso.com", "commit", "-q", "--allow-empty", "-m", "first"},
		{"clone", "-q", "--bare", "work", "project.git"},
	} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = dir
		cmd.Env = append(bareEnvironment(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(where)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	g := &gitServer{ca: newAuthority(t)}
	srv := secureUpstream(t, g.ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer eyJ") {
			g.asked.Add(1)
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "a token is needed", http.StatusUnauthorized)
			return
		}
		g.served.Add(1)
		backend.ServeHTTP(w, r)
	}), gitName)
	g.addr = srv.Listener.Addr().String()
	return g
}

// judge checks that calls came, and each with a token.
func (g *gitServer) judge(t *testing.T) {
	t.Helper()
	if g.served.Load() == 0 || g.asked.Load() != 0 {
		t.Errorf("the git server saw %d calls with a token and %d without", g.served.Load(), g.asked.Load())
	}
}
