package e2e

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// allTroubles are those of the process, of tokens, of upstreams and of SQL doors.
func allTroubles() []trouble {
	all := []trouble{
		{name: "down", fires: []string{"GatewayNotScraped "}, begin: downScene},
		{name: "reload", fires: []string{"GatewayReloadFailed "}, begin: reloadScene},
		{name: "audit", fires: []string{"GatewayAuditRecordsLost "}, begin: auditScene},
		{name: "bulk", fires: []string{"GatewayRefusesInBulk caller_unknown", "GatewayRefusesInBulk egress_denied", "GatewayRefusesInBulk rate_limited",
			"GatewayRefusesInBulk route_unknown", "GatewayRefusesInBulk rule_denied"}, begin: bulkScene},
		{name: "overloaded", fires: []string{"GatewayRefusesInBulk overloaded"}, begin: overloadedScene},
		{name: "defect", fires: []string{"GatewayDefect internal"}, begin: defectScene},
		{name: "files", fires: []string{"GatewayFilesRunOut "}, begin: filesScene},
	}
	return append(append(all, tokenTroubles()...), callTroubles()...)
}

// gatewayOf starts a gateway before a world, with further routes, and sections
// behind them. Its routes have their tokens.
func gatewayOf(t *testing.T, w *sandbox.World, routes, sections string) *gateway {
	t.Helper()
	s := graphSetup(w, routes+sections)
	g := start(t, s)
	g.ready(t)
	return g
}

func downScene(t *testing.T) place {
	s := graphSetup(newWorld(t, sandbox.Options{}), "")
	sc := place{g: start(t, s)}
	first := sc.g
	return place{g: first,
		wreck: func(t *testing.T) { first.end(t) },
		mend: func(*testing.T) {
			s.Args = []string{"--admin", first.admin}
			start(t, s) // which is where the first one was
		}}
}

func reloadScene(t *testing.T) place {
	w := newWorld(t, sandbox.Options{})
	s := graphSetup(w, "")
	g := start(t, s)
	return place{g: g,
		wreck: func(t *testing.T) { write(t, g.config, strings.Replace(s.Config, "preset:", "presett:", 1)) },
		mend:  func(t *testing.T) { write(t, g.config, s.Config) }}
}

// auditScene has a file where the folder of the audit's file was.
func auditScene(t *testing.T) place {
	w := newWorld(t, sandbox.Options{})
	g := gatewayOf(t, w, "", "audit: {file: records/audit.jsonl}\n")
	folder := filepath.Join(g.dir, "records")
	return place{g: g,
		wreck: func(inner *testing.T) {
			if err := os.Rename(folder, folder+".old"); err != nil {
				inner.Fatal(err)
			}
			write(inner, folder, "no folder")
			if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil { // the file is opened anew
				inner.Fatal(err)
			}
			keep(t, 200*time.Millisecond, g.asks("/graph/v1.0/users"))
		},
		mend: func(t *testing.T) {
			if err := os.Remove(folder); err != nil {
				t.Fatal(err)
			}
		}}
}

// bulkScene has callers that do not know better.
func bulkScene(t *testing.T) place {
	const key = "key-of-the-alerts-0123456789"
	sum := sha256.Sum256([]byte(key))
	w := newWorld(t, sandbox.Options{})
	g := gatewayOf(t, w, fmt.Sprintf(`    allow: [{methods: [GET], paths: ["/v1.0/users"]}]
  - {name: limited, hosts: [limited.example.com], scope: %s, upstream: %q, limits: {rate: 1/s}}
`, graphScope, w.Graph.URL()), "callers:\n  app: {api_key: {sha256: "+hex.EncodeToString(sum[:])+"}}\n")
	own := func(path string) func(context.Context) {
		return func(ctx context.Context) {
			_, _ = call(ctx, g.client, request{url: g.url(path), header: http.Header{"X-Gateway-Authorization": {"Bearer " + key}}})
		}
	}
	forward := newClient(&url.URL{Scheme: "http", Host: g.proxy, User: url.UserPassword("app", key)})
	var tr *traffic
	return place{g: g,
		wreck: func(*testing.T) {
			tr = keep(t, 200*time.Millisecond, g.asks("/graph/v1.0/users"), own("/graph/v1.0/groups"), own("/nowhere/"), own("/limited/v1.0/users"), own("/limited/v1.0/users"),
				func(ctx context.Context) { _, _ = call(ctx, forward, request{url: "http://unknown.example.com/"}) })
		},
		mend: func(*testing.T) { tr.halt() }}
}

// overloadedScene has a route at its limit.
func overloadedScene(t *testing.T) place {
	release := make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	up := serveHTTP(t, func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			<-release
		}
	})
	w := newWorld(t, sandbox.Options{})
	g := gatewayOf(t, w, fmt.Sprintf("  - {name: api, hosts: [api.example.com], scope: %s, upstream: %q, limits: {concurrency: 1}}\n", graphScope, up.URL), "")
	return place{g: g,
		wreck: func(*testing.T) {
			keep(t, 100*time.Millisecond, g.asks("/api/slow"))
			keep(t, 600*time.Millisecond, g.asks("/api/quick"))
		},
		mend: func(*testing.T) { free() }}
}

// defectScene is a gateway with a defect: a build of it that panics when a call
// has a certain field.
func defectScene(t *testing.T) place {
	const where = "	next, refused := h.enter(p, r)\n"
	source, err := filepath.Abs("../proxy/handler.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil || strings.Count(string(text), where) != 1 {
		t.Fatalf("%s has another place for a defect: %v", source, err)
	}
	dir := t.TempDir()
	planted, overlay, binary := filepath.Join(dir, "handler.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "gateway")
	write(t, planted, strings.Replace(string(text), where, "	if r.Header.Get(\"X-Defect\") != \"\" {\n		panic(\"planted\")\n	}\n"+where, 1))
	replaced, _ := json.Marshal(map[string]map[string]string{"Replace": {source: planted}}) // strings
	write(t, overlay, string(replaced))
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-o", binary, "./cmd/gateway")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	s := graphSetup(newWorld(t, sandbox.Options{}), "")
	s.Binary = binary
	g := start(t, s)
	return place{g: g,
		wreck: func(t *testing.T) {
			refused(t, must(t, g.client, request{url: g.url("/graph/v1.0/users"), header: http.Header{"X-Defect": {"1"}}}), http.StatusInternalServerError, "internal")
		},
		mend: func(*testing.T) {}} // nobody calls so any more
}

// filesScene has clients hold connections to a gateway with few descriptors.
func filesScene(t *testing.T) place {
	const most, held = 200, 165
	g := gatewayOf(t, newWorld(t, sandbox.Options{}), "", "")
	limit := strconv.Itoa(most)
	if out, err := exec.Command("prlimit", "--pid", strconv.Itoa(g.cmd.Process.Pid), "--nofile="+limit+":"+limit).CombinedOutput(); err != nil {
		t.Fatalf("prlimit: %v\n%s", err, out)
	}
	hold := func(ctx context.Context) {
		conn, err := net.Dial("tcp", g.proxy)
		if err != nil {
			return
		}
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}
	var tr *traffic
	return place{g: g,
		wreck: func(*testing.T) {
			holders := make([]func(context.Context), held)
			for i := range holders {
				holders[i] = hold
			}
			tr = keep(t, 10*time.Millisecond, holders...)
		},
		mend: func(*testing.T) { tr.halt() }}
}

// endingCertificate is an app's certificate that ends then, with its key.
func endingCertificate(t testing.TB, end time.Time) (*x509.Certificate, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "an app"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
	}
	text, cert := sign(t, template, &authority{cert: template, key: key}, key)
	return cert, text + privatePEM(t, key)
}
