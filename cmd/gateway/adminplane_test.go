package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
)

// freePort is a port that nobody listens on just now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// ownAddress is an address of this machine other than loopback, or "".
func ownAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr().String()
		}
	}
	return ""
}

// spellings are ways to write an address of this machine.
func spellings(t *testing.T) []string {
	list := []string{
		"127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.0.0.1.", "127.000.000.001",
		"localhost", "localhost.", "LOCALHOST", "LocalHost.", "a.localhost", "localhost.localdomain", "ip6-localhost",
		"[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[::1%25lo]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
		"0.0.0.0", "0", "[::]", "127.0.0.2", "127.255.255.254",
		"１２７.0.0.1", "127。0。0。1", "ⓛocalhost", "%6c%6f%63%61%6c%68%6f%73%74", "user@127.0.0.1", "127.0.0.1%00.example.com",
	}
	if own := ownAddress(t); own != "" {
		list = append(list, own, own+".", "[::ffff:"+own+"]")
	}
	return list
}

// raw sends bytes to the proxy port and returns the whole answer.
func raw(t *testing.T, addr, request string) (status int, header http.Header, body string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// outsideIn is a gateway whose routes do all they can to reach its own admin
// plane at port; the names of those that the file may have are returned.
func outsideIn(t *testing.T, bind, port, healthPort string) (g *gateway, out *logged, names []string) {
	t.Helper()
	_, credentials := sandboxed(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("admin-key-of-this-test"), 0o600); err != nil {
		t.Fatal(err)
	}
	head := fmt.Sprintf("version: 1\nlisten: {proxy: \"127.0.0.1:0\", admin: %q, admin_key: {file: %q}, health: %q}\n",
		net.JoinHostPort(bind, port), key, net.JoinHostPort(bind, healthPort)) + credentials + "routes:\n"
	var list []string
	seen := map[string]bool{}
	for i, spelling := range spellings(t) {
		for j, at := range []string{port, healthPort} {
			name := fmt.Sprintf("r%d-%d", i, j)
			for k, line := range []string{
				fmt.Sprintf("  - {name: %s-u, hosts: [%s.example.com], scope: api://x/.default, upstream: \"http://%s:%s\"}\n", name, name, spelling, at),
				fmt.Sprintf("  - {name: %s-s, hosts: [s%s.example.com], scope: api://x/.default, upstream: \"https://%s:%s\"}\n", name, name, spelling, at),
				fmt.Sprintf("  - {name: %s-h, hosts: [\"%s:%s\"], scope: api://x/.default}\n", name, spelling, at),
			} {
				table, err := routes.Parse("routes.yaml", []byte(head+line), os.LookupEnv)
				if err != nil || seen[table.Routes[0].Hosts[0].String()] {
					continue // refused when it is read, or the same host as one before
				}
				seen[table.Routes[0].Hosts[0].String()] = true
				list, names = append(list, line), append(names, name+[]string{"-u", "-s", "-h"}[k])
			}
		}
	}
	g, out = opened(t, doors{}, head+strings.Join(list, ""))
	return g, out, names
}

func TestAdminPlaneIsNotReachedThroughTheProxy(t *testing.T) {
	binds := []string{"127.0.0.1", "0.0.0.0"}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		l.Close()
		binds = append(binds, "::1", "::")
	}
	for _, bind := range binds {
		t.Run(bind, func(t *testing.T) {
			port, healthPort := freePort(t), freePort(t)
			g, out, names := outsideIn(t, bind, port, healthPort)
			if len(names) < 10 {
				t.Fatalf("only %d routes could be made: %v", len(names), names)
			}
			at := shown(g.proxyL)
			tries := 0
			try := func(what, request string) {
				tries++
				status, header, body := raw(t, at, request)
				if status < 400 || strings.Contains(body, `"up"`) || strings.Contains(body, "tokens") && header.Get("Gateway-Error") == "" || strings.Contains(body, "go_goroutines") {
					t.Errorf("%s: %d %s", what, status, body)
				}
			}
			for _, name := range names {
				for _, path := range []string{"/healthz", "/metrics", "/api/purge"} {
					method := map[bool]string{true: "POST", false: "GET"}[path == "/api/purge"]
					try("mount "+name+path, method+" /"+name+path+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				}
			}
			for _, host := range spellings(t) {
				for _, p := range []string{port, healthPort} {
					for _, line := range []string{"GET http://" + host + ":" + p + "/healthz", "POST http://" + host + ":" + p + "/api/purge", "CONNECT " + host + ":" + p} {
						try(line, line+" HTTP/1.1\r\nHost: "+host+":"+p+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
					}
				}
			}
			if strings.Contains(out.String(), `"tokens purged"`) {
				t.Error("a purge came through")
			}
			if tries < 200 {
				t.Errorf("only %d ways were tried", tries)
			}
		})
	}
}

func TestAdminSocketIsNotReachedThroughTheProxy(t *testing.T) {
	_, credentials := sandboxed(t)
	socket := filepath.Join(t.TempDir(), "admin.sock")
	head := fmt.Sprintf("version: 1\nlisten: {proxy: \"127.0.0.1:0\", admin: %q}\n", "unix:"+socket) + credentials
	for _, upstream := range []string{"unix:" + socket, "http+unix://" + socket, "unix://" + socket, "http://unix:" + socket} {
		text := head + fmt.Sprintf("routes:\n  - {name: a, hosts: [a.example.com], scope: api://x/.default, upstream: %q}\n", upstream)
		if _, err := routes.Parse("routes.yaml", []byte(text), os.LookupEnv); err == nil {
			t.Errorf("upstream %s was taken", upstream)
		}
	}
	g, out := opened(t, doors{}, head+"routes:\n  - {name: a, hosts: [a.example.com], scope: api://x/.default}\n")
	escaped := strings.ReplaceAll(socket, "/", "%2F")
	for _, target := range []string{
		"http://" + socket + "/healthz", "http://" + escaped + "/healthz", "http://unix:" + socket + ":/healthz", "http+unix://" + escaped + "/healthz", "unix:" + socket,
	} {
		for _, host := range []string{"unix:" + socket, escaped, "localhost"} {
			status, _, body := raw(t, shown(g.proxyL), "GET "+target+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
			if status < 400 || strings.Contains(body, `"up"`) {
				t.Errorf("GET %s with Host %s: %d %s", target, host, status, body)
			}
		}
	}
	if strings.Contains(out.String(), `"tokens purged"`) {
		t.Error("a purge came through")
	}
}
