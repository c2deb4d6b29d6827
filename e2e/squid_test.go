package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// Names that resolve nowhere but in squid's own hosts file: who reaches them
// went through it.
const (
	entraName = "entra.corp.test"
	graphName = "graph.corp.test"
)

// squid is the next hop, which wants a password.
type squid struct {
	addr, accessLog, cacheLog string
}

// startSquid runs one for the test, that knows one user.
func startSquid(t testing.TB, username, password string) squid {
	t.Helper()
	dir, err := os.MkdirTemp("", "squid-") // t.TempDir is closed to the user that squid becomes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := squid{addr: freePort(t), accessLog: filepath.Join(dir, "access.log"), cacheLog: filepath.Join(dir, "cache.log")}
	hash := exec.Command("openssl", "passwd", "-apr1", "-stdin")
	hash.Stdin = strings.NewReader(password)
	hashed, err := hash.Output()
	if err != nil {
		t.Fatalf("openssl passwd: %v", err)
	}
	write(t, filepath.Join(dir, "passwd"), username+":"+string(hashed))
	write(t, filepath.Join(dir, "hosts"), "127.0.0.1 "+entraName+" "+graphName+"\n")
	write(t, filepath.Join(dir, "squid.conf"), fmt.Sprintf(`http_port %s
auth_param basic program %s %s/passwd
auth_param basic children 2 startup=1
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
hosts_file %s/hosts
dns_nameservers 127.0.0.1
cache deny all
access_log stdio:%s
cache_log %s
pid_filename none
coredump_dir %s
pinger_enable off
shutdown_lifetime 0 seconds
visible_hostname squid.corp.test
`, s.addr, tool("ncsa"), dir, dir, s.accessLog, s.cacheLog, dir))
	giveTo(t, "proxy", dir)
	s.run(t, filepath.Join(dir, "squid.conf"))
	return s
}

func (s squid) run(t testing.TB, conf string) {
	t.Helper()
	cmd := exec.Command(tool("squid"), "-N", "-f", conf)
	var out transcript
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(s.cacheLog)
			t.Logf("squid: %s\n%s\n%s", &out, tail(string(b), 2000), s.log())
		}
	})
	eventually(t, "squid listens", func() bool {
		c, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func (s squid) log() string {
	b, _ := os.ReadFile(s.accessLog)
	return string(b)
}

// freePort finds an address that is free now, for a server that cannot be
// told to choose one itself.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// giveTo makes a folder and what is in it a user's own, as squid leaves root.
func giveTo(t testing.TB, name, dir string) {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, dir) {
		if err := os.Chown(f, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
}

// byName is u with another host.
func byName(t testing.TB, raw, name string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = net.JoinHostPort(name, u.Port())
	return u.String()
}

// behindSquid is a gateway whose Entra is at entra and whose Graph has a name
// that only squid knows.
func behindSquid(t testing.TB, w *sandbox.World, hop squid, entra string) setup {
	s := graphSetup(w, `    tls: {ca_file: ca.pem}
egress:
  proxy: {url: "http://`+hop.addr+`", username: gw, password: {file: hop-password}}
`)
	s.Config = strings.Replace(s.Config, w.Graph.URL(), byName(t, w.Graph.URL(), graphName), 1)
	s.Config = strings.Replace(s.Config, "authority_host: "+w.Entra.URL(), "authority_host: "+entra+"\n    ca_file: ca.pem", 1)
	s.Files["ca.pem"] = string(w.CAPEM())
	s.Files["hop-password"] = hopPassword
	return s
}

const hopPassword = "pa:ss wörd%41"

func TestCallsAndTokenRequestsLeaveThroughSquid(t *testing.T) {
	t.Parallel()
	hop := startSquid(t, "gw", hopPassword)
	w := newWorld(t, sandbox.Options{TLS: true, Hosts: []string{entraName}})
	s := behindSquid(t, w, hop, byName(t, w.Entra.URL(), entraName))
	own := freePort(t)
	// A gateway that obeyed its own environment would call itself.
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"} {
		s.Env = append(s.Env, name+"=http://"+own)
	}
	s.Args = []string{"--listen", own}
	g := start(t, s)
	g.ready(t)
	body := noise(200_000)
	a := must(t, g.client, request{url: g.url("/graph/v1.0/$echo/x?$filter=a;b"), body: body})
	intact(t, echoed(t, a), body)
	if n := g.metric(t, "gateway_requests_total"); n != 1 {
		t.Errorf("the gateway saw %v calls, want 1: it must not call itself", n)
	}
	noneBare(t, w)
	g.end(t) // squid logs a tunnel at its end
	for _, name := range []string{entraName, graphName} {
		eventually(t, "squid has logged "+name, func() bool { return hop.tunnelled(name, "gw") })
	}
}

// tunnelled tells whether squid opened a tunnel to name for this user.
func (s squid) tunnelled(name, username string) bool {
	for line := range strings.Lines(s.log()) {
		if strings.Contains(line, "TCP_TUNNEL/200") && strings.Contains(line, " CONNECT "+name+":") && strings.Contains(line, " "+username+" ") {
			return true
		}
	}
	return false
}

func TestSquidsRefusalIsNoMatterOfTheCallers(t *testing.T) {
	t.Parallel()
	hop := startSquid(t, "gw", "another password")
	w := newWorld(t, sandbox.Options{TLS: true, Hosts: []string{entraName}})
	t.Run("of the upstream", func(t *testing.T) {
		g := start(t, behindSquid(t, w, hop, w.Entra.URL())) // loopback is dialled directly
		g.ready(t)
		a := must(t, g.client, request{url: g.url("/graph/v1.0/users")})
		p := refused(t, a, http.StatusBadGateway, "upstream_proxy")
		if p.Remedy == "" || a.header.Get("Proxy-Authenticate") != "" {
			t.Errorf("problem %+v, Proxy-Authenticate %q; want a remedy and no challenge", p, a.header.Get("Proxy-Authenticate"))
		}
	})
	t.Run("of the token endpoint", func(t *testing.T) {
		g := start(t, behindSquid(t, w, hop, byName(t, w.Entra.URL(), entraName)))
		a := must(t, g.client, request{url: g.url("/graph/v1.0/users")})
		if a.status != http.StatusBadGateway && a.status != http.StatusServiceUnavailable || a.header.Get("Gateway-Error") == "" {
			t.Errorf("status %d, Gateway-Error %q; want a refusal that is the gateway's own", a.status, a.header.Get("Gateway-Error"))
		}
		if !strings.Contains(a.body, "egress.proxy") {
			t.Errorf("the refusal does not name egress.proxy: %s", a.body)
		}
	})
	if n := w.Graph.Counts().Calls; n != 0 {
		t.Errorf("%d calls reached Graph past squid", n)
	}
}

func TestPasswordOfTheNextHopIsFollowed(t *testing.T) {
	t.Parallel()
	hop := startSquid(t, "gw", hopPassword)
	w := newWorld(t, sandbox.Options{TLS: true})
	s := behindSquid(t, w, hop, w.Entra.URL())
	s.Files["hop-password"] = "an old one"
	g := start(t, s)
	g.ready(t)
	refused(t, must(t, g.client, request{url: g.url("/graph/v1.0/users")}), http.StatusBadGateway, "upstream_proxy")
	replaceFile(t, filepath.Join(g.dir, "hop-password"), hopPassword)
	eventually(t, "calls get through with the new password", func() bool {
		return must(t, g.client, request{url: g.url("/graph/v1.0/users")}).status == http.StatusOK
	})
}

// replaceFile does as editors and secret agents do: write beside, rename over.
func replaceFile(t testing.TB, path, text string) {
	t.Helper()
	write(t, path+".next", text)
	if err := os.Rename(path+".next", path); err != nil {
		t.Fatal(err)
	}
}
