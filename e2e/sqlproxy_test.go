package e2e

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// sqlHop is a next hop for CONNECT that does to each connection what it is told.
type sqlHop struct {
	addr string

	mu    sync.Mutex // guards what follows
	do    func(conn net.Conn, req *http.Request)
	asked []string // targets
	shown []string // Proxy-Authorization, decoded
	open  []net.Conn
}

func startSQLHop(t testing.TB) *sqlHop {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &sqlHop{addr: l.Addr().String()}
	t.Cleanup(func() {
		_ = l.Close()
		h.cut()
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the listener is closed
			}
			go h.serve(conn)
		}
	}()
	return h
}

func (h *sqlHop) serve(conn net.Conn) {
	defer conn.Close()
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	pair, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(req.Header.Get("Proxy-Authorization"), "Basic "))
	h.mu.Lock()
	h.asked, h.shown, h.open = append(h.asked, req.RequestURI), append(h.shown, string(pair)), append(h.open, conn)
	do := h.do
	h.mu.Unlock()
	do(conn, req)
}

func (h *sqlHop) now(do func(net.Conn, *http.Request)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.do = do
}

// saw are the targets and credentials since the last time.
func (h *sqlHop) saw() (asked, shown []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	asked, shown = h.asked, h.shown
	h.asked, h.shown = nil, nil
	return asked, shown
}

// cut ends every connection.
func (h *sqlHop) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.open {
		_ = c.Close()
	}
}

// says answers with that, and waits for the other side to end.
func says(answer string) func(net.Conn, *http.Request) {
	return func(conn net.Conn, _ *http.Request) {
		_, _ = io.WriteString(conn, answer)
		_, _ = io.Copy(io.Discard, conn)
	}
}

// leadsTo is a tunnel to addr, whatever was asked for.
func leadsTo(addr string) func(net.Conn, *http.Request) {
	return func(conn net.Conn, _ *http.Request) {
		far, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer far.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection Established\r\n\r\n")
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, far)
		}()
		_, _ = io.Copy(far, conn)
	}
}

// hopSQLField is a field whose server is behind a next hop.
func hopSQLField(t *testing.T, h *sqlHop, keys, bypass string) *sqlField {
	t.Helper()
	return newSQLField(t, sqlSetup{
		keys:     `, dial: "sql-node.example:1433"` + keys,
		sections: fmt.Sprintf("egress:\n  proxy: {url: \"http://%s\", username: gw, password: {file: hop-password}%s}\n", h.addr, bypass),
		files:    map[string]string{"hop-password": hopPassword},
	})
}

func TestSQLServersAreReachedThroughTheNextHop(t *testing.T) {
	t.Parallel()
	for _, upstream := range []string{"mandatory", "strict"} {
		t.Run(upstream, func(t *testing.T) {
			t.Parallel()
			h := startSQLHop(t)
			f := hopSQLField(t, h, ", upstream_tls: "+upstream, "")
			h.now(leadsTo(f.far.Addr()))
			if out := f.work(t, "disable"); !strings.Contains(out, "who="+sqlPrincipal) || !strings.Contains(out, "echo=true") || !strings.Contains(out, "cancel=stopped") {
				t.Errorf("go-mssqldb through gateway and next hop:\n%s", tail(out, 2000))
			}
			asked, shown := h.saw()
			if len(asked) == 0 || asked[0] != "sql-node.example:1433" || shown[0] != "gw:"+hopPassword {
				t.Errorf("the next hop was asked for %q", asked)
			}
			if strings.Contains(f.g.stdout.String()+f.g.stderr.String(), hopPassword) {
				t.Error("the next hop's password is in the log")
			}
		})
	}
}

func TestTroubleOfTheNextHopIsToldToDriversLogAndCheck(t *testing.T) {
	t.Parallel()
	h := startSQLHop(t)
	f := hopSQLField(t, h, ", login_timeout: 1s", "")
	db := f.pool(t, "any", "any", "encrypt=disable&connection+timeout=20")
	for _, c := range []struct {
		name   string
		do     func(net.Conn, *http.Request)
		result string
		words  []string // for the driver
	}{
		{"it wants another password", says("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n"), "upstream_proxy", []string{"407", "username and password of egress.proxy"}},
		{"it forbids the port", says("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), "upstream_proxy", []string{"403", "CONNECT"}},
		{"it speaks no HTTP", says("SSH-2.0-OpenSSH_9.2\r\n"), "upstream_proxy", []string{"next hop", "egress.proxy"}},
		{"it is silent", says(""), "timeout", []string{"next hop did not answer", "egress.proxy"}},
		{"it hangs up", func(net.Conn, *http.Request) {}, "upstream_proxy", []string{"next hop", "egress.proxy"}},
		{"its tunnel is silent", says("HTTP/1.1 200 OK\r\n\r\n"), "timeout", nil},
		{"its tunnel ends at once", func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n") }, "upstream_unreachable", nil},
	} {
		h.now(c.do)
		before := f.g.metric(t, "gateway_sql_logins_total", `result="`+c.result+`"`)
		_, err := whoever(t.Context(), db)
		text := told(err)
		if strings.Contains(text, h.addr) || strings.Contains(text, "sql-node") || strings.Contains(text, "SSH") {
			t.Errorf("%s: the driver is told of the network behind the gateway: %s", c.name, text)
		}
		for _, word := range append(c.words, "40613", "gateway:") {
			if !strings.Contains(text, word) {
				t.Errorf("%s: the driver is told %q, want %q in it", c.name, text, word)
			}
		}
		if n := f.g.metric(t, "gateway_sql_logins_total", `result="`+c.result+`"`); n <= before {
			t.Errorf("%s: no login with result %s was counted", c.name, c.result)
		}
		out, code := f.g.command(t, "check", "--live")
		if code == 0 {
			t.Errorf("%s: check --live is content:\n%s", c.name, out)
		}
		for _, word := range c.words {
			if !strings.Contains(out, word) {
				t.Errorf("%s: check --live does not say %q:\n%s", c.name, word, out)
			}
		}
	}
	clean(t, f.g, hopPassword)
}

func TestDeathOfTheNextHopEndsSessionsAndTheNextLoginIsGood(t *testing.T) {
	t.Parallel()
	h := startSQLHop(t)
	f := hopSQLField(t, h, "", "")
	h.now(leadsTo(f.far.Addr()))
	db := f.pool(t, "any", "any", "encrypt=disable")
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	before := f.far.Counts().Requests
	go func() {
		_, err := conn.ExecContext(t.Context(), "WAITFOR DELAY '01:00:00'")
		ended <- err
	}()
	eventually(t, "the server has the statement", func() bool { return f.far.Counts().Requests > before })
	h.cut()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a statement whose connection died is said to have succeeded")
		}
	case <-time.After(patience):
		t.Fatal("the driver is not told that the connection died")
	}
	_ = conn.Close()
	eventually(t, "the session is over", func() bool { return f.g.metric(t, "gateway_sql_sessions") == 0 })
	if who, err := whoever(t.Context(), db); err != nil || who != sqlPrincipal {
		t.Errorf("the next login: %q, %v", who, err)
	}
}

func TestBypassedSQLServersAreDialledDirectly(t *testing.T) {
	t.Parallel()
	h := startSQLHop(t)
	h.now(says("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"))
	f := hopSQLField(t, h, "", ", bypass: [sql-node.example]")
	_, err := whoever(t.Context(), f.pool(t, "any", "any", "encrypt=disable"))
	if asked, _ := h.saw(); len(asked) != 0 {
		t.Errorf("the next hop was asked for %q", asked)
	}
	if text := told(err); !strings.Contains(text, "40613") || !strings.Contains(text, sandbox.SQLHost) {
		t.Errorf("a server that no name server knows: %s", text)
	}
}
