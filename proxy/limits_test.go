package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/proxy"
	"github.com/seed-13b04e61/gateway/routes"
)

// held is an upstream whose calls to /held wait for release.
type held struct{ entered, release chan struct{} }

func newHeld() *held { return &held{make(chan struct{}, 8), make(chan struct{})} }

func (h *held) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/held" {
		h.entered <- struct{}{}
		<-h.release
	}
	_, _ = io.WriteString(w, "ok")
}

func TestCallsAtOnceAreLimited(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config proxy.Config
		alter  func(*routes.Table)
	}{
		{"of the route", proxy.Config{}, func(table *routes.Table) { table.Routes[0].Limits.Concurrency = 1 }},
		{"of the caller", proxy.Config{Identifier: &porter{}}, func(table *routes.Table) {
			withCallers(table)
			table.Callers[0].Limits.Concurrency = 1
			table.Routes[0].Limits.Concurrency = 7
		}},
		{"of the gateway", proxy.Config{InFlight: 1}, func(*routes.Table) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := newHeld()
			server := newUpstream(t, false, up.ServeHTTP)
			g := rigging{config: tt.config, alter: tt.alter}.newRig(t, plain, server)
			done := make(chan int)
			go func() {
				req, _ := http.NewRequest(http.MethodGet, g.front.URL+"/api/held", nil)
				req.Header.Set("Authorization", basic)
				resp, err := http.DefaultTransport.RoundTrip(req)
				if err != nil {
					t.Error(err)
					done <- 0
					return
				}
				resp.Body.Close()
				done <- resp.StatusCode
			}()
			<-up.entered
			if n := g.handler.InFlight(); n.Calls != 1 || n.Connections < 1 {
				t.Errorf("in flight: %+v, want one call", n)
			}
			for range 3 { // the place is kept over reloads
				resp, _ := g.get(t, "/api/x", "Authorization", basic)
				if resp.StatusCode != 503 || resp.Header.Get("Gateway-Error") != "overloaded" || resp.Header.Get("Retry-After") != "1" {
					t.Errorf("got %d %v, want 503 overloaded", resp.StatusCode, resp.Header)
				}
				g.use(t, plain, server)
			}
			close(up.release)
			if status := <-done; status != 200 {
				t.Errorf("the call under way got %d, want 200", status)
			}
			g.events.the(4)
			for range 3 {
				if resp, _ := g.get(t, "/api/x", "Authorization", basic); resp.StatusCode != 200 {
					t.Errorf("afterwards: %d, want 200", resp.StatusCode)
				}
			}
			if n := g.handler.InFlight(); n.Streams != 0 {
				t.Errorf("in flight: %+v, want no stream", n)
			}
			http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		})
	}
}

// statusOf calls h and returns status, code and Retry-After.
func statusOf(h http.Handler) string {
	r := httptest.NewRequest(http.MethodGet, "/api/x", nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return strings.TrimSpace(fmt.Sprint(w.Code, " ", w.Header().Get("Gateway-Error"), " ", w.Header().Get("Retry-After")))
}

func TestCallsInTimeAreLimited(t *testing.T) {
	limit := func(table *routes.Table) {
		table.Routes[0].Limits.Rate = routes.Rate{Calls: 2, Per: time.Minute}
	}
	inBubble(t, limit, func(w http.ResponseWriter, r *http.Request) {}, func(h http.Handler, _ *lines) {
		for i, want := range []string{"200", "200", "429 rate_limited 30", "429 rate_limited 30"} {
			if got := statusOf(h); got != want {
				t.Errorf("call %d: %s, want %s", i, got, want)
			}
		}
		time.Sleep(10 * time.Second)
		if got := statusOf(h); got != "429 rate_limited 20" {
			t.Errorf("after 10 s: %s, want 429 rate_limited 20", got)
		}
		time.Sleep(20 * time.Second)
		for i, want := range []string{"200", "429 rate_limited 30"} {
			if got := statusOf(h); got != want {
				t.Errorf("after 30 s, call %d: %s, want %s", i, got, want)
			}
		}
		time.Sleep(time.Hour)
		for i, want := range []string{"200", "200", "429 rate_limited 30"} {
			if got := statusOf(h); got != want {
				t.Errorf("after an hour, call %d: %s, want %s", i, got, want)
			}
		}
	})
}

func TestReloadKeepsTheBucketAndTakesTheNewRate(t *testing.T) {
	per := time.Hour
	calls := 1
	server := newUpstream(t, false, func(http.ResponseWriter, *http.Request) {})
	g := rigging{alter: func(table *routes.Table) {
		table.Routes[0].Limits.Rate = routes.Rate{Calls: calls, Per: per}
	}}.newRig(t, plain, server)
	want := func(status int) {
		t.Helper()
		if resp, _ := g.get(t, "/api/x"); resp.StatusCode != status {
			t.Errorf("got %d, want %d", resp.StatusCode, status)
		}
	}
	want(200)
	want(429)
	g.use(t, plain, server)
	want(429)
	calls, per = 1000, time.Millisecond
	g.use(t, plain, server)
	time.Sleep(time.Millisecond) // the new rate's own
	want(200)
	calls = 0
	g.use(t, plain, server)
	want(200)
}

func TestBodyThatARouteDoesNotTakeIsRefused(t *testing.T) {
	var calls atomic.Int64
	g := rigging{alter: func(table *routes.Table) { table.Routes[0].Limits.MaxBody = 100 }}.newRig(t, plain,
		newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			swallow(w, r)
		}))
	post := func(body io.Reader) string {
		resp, err := g.client(t, false).Post(g.front.URL+"/api/x", "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 {
			return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Gateway-Error"))
		}
		return string(b)
	}
	for range 2 { // the connection is none the worse
		if got := post(strings.NewReader(strings.Repeat("x", 101))); got != "413 too_large" || calls.Load() != 0 {
			t.Errorf("a body of 101 bytes: %s after %d calls upstream, want 413 before any", got, calls.Load())
		}
	}
	if got := post(strings.NewReader(strings.Repeat("x", 100))); got != "100" {
		t.Errorf("a body of 100 bytes: %s, want 100", got)
	}
	// The length is not known before.
	if got := post(io.MultiReader(strings.NewReader(strings.Repeat("x", 100)))); got != "100" {
		t.Errorf("a stream of 100 bytes: %s, want 100", got)
	}
	if got := post(io.MultiReader(strings.NewReader(strings.Repeat("x", 50_000)))); got != "413 too_large" {
		t.Errorf("a stream of 50 000 bytes: %s, want 413 too_large", got)
	}
}

func TestHeaderThatIsTooLargeIsRefused(t *testing.T) {
	g := newRig(t, plain, newUpstream(t, false, echo))
	for size, want := range map[int]string{60 << 10: "HTTP/1.1 200 ", 70 << 10: "Gateway-Error: headers_too_large\r\n", 200 << 10: "HTTP/1.1 431 "} {
		got := g.raw(t, "GET /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Large: "+strings.Repeat("x", size)+"\r\n\r\n")
		if !strings.Contains(got, want) || size > 64<<10 && !strings.HasPrefix(got, "HTTP/1.1 431 ") {
			t.Errorf("%d bytes: %.300s, want %s", size, got, want)
		}
	}
}

func TestDrainEndsKeptConnections(t *testing.T) {
	g := newRig(t, plain, newUpstream(t, false, echo))
	for _, draining := range []bool{false, true} {
		if draining {
			g.handler.Drain()
		}
		for _, path := range []string{"/api/x", "/none"} {
			if resp, _ := g.get(t, path); resp.Close != draining {
				t.Errorf("%s while draining is %v: Connection: close is %v", path, draining, resp.Close)
			}
		}
	}
}

// elsewhere makes each connection of a listener come from an address.
type elsewhere struct {
	net.Listener
	from chan string
}

type strange struct {
	net.Conn
	addr net.Addr
}

func (s strange) RemoteAddr() net.Addr { return s.addr }

func (e elsewhere) Accept() (net.Conn, error) {
	c, err := e.Listener.Accept()
	if err != nil {
		return nil, err
	}
	addr, err := net.ResolveTCPAddr("tcp", <-e.from)
	return strange{c, addr}, err
}

// seats is a listener of h whose Accepts go to a channel.
func seats(t *testing.T, cfg proxy.Config, from ...string) (l net.Listener, taken chan net.Conn) {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := elsewhere{tcp, make(chan string, len(from))}
	for _, f := range from {
		e.from <- f
	}
	g := rigging{config: cfg}.newRig(t, plain, newUpstream(t, false, echo))
	l = g.handler.Listener(e)
	taken = make(chan net.Conn, len(from))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(taken)
				return
			}
			taken <- c
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		for c := range taken {
			_ = c.Close()
		}
	})
	return l, taken
}

// knock opens a connection and tells whether it was taken in; what was said, if not.
func knock(t *testing.T, l net.Listener, taken chan net.Conn) (in net.Conn, said string) {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	// As a client does that has much to send, and was not waited for.
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	answer := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(c)
		answer <- string(b)
	}()
	select {
	case in = <-taken:
		return in, ""
	case said = <-answer:
		return nil, said
	case <-time.After(5 * time.Second):
		t.Fatal("neither taken in nor turned away")
		return nil, ""
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	sources := func(s string) []string { return strings.Split(s, " ") }
	for _, tt := range []struct {
		name string
		cfg  proxy.Config
		from []string
		want string // y for taken in, n for turned away
	}{
		{"all together", proxy.Config{Connections: 3, PerSource: 2}, sources("127.0.0.1:1 127.0.0.1:2 192.0.2.1:1 192.0.2.2:1 127.0.0.1:3"), "yyynn"},
		{"of one source", proxy.Config{Connections: 50, PerSource: 2}, sources("192.0.2.1:1 192.0.2.1:2 192.0.2.1:3 192.0.2.2:1 [::ffff:192.0.2.1]:4 192.0.2.1:5"), "yynynn"},
		{"of one IPv6 network", proxy.Config{Connections: 50, PerSource: 2}, sources("[2001:db8::1]:1 [2001:db8::2]:1 [2001:db8:0:0:ffff::3]:1 [2001:db8:0:1::1]:1"), "yyny"},
		{"loopback is nobody's source", proxy.Config{Connections: 50, PerSource: 1}, sources("127.0.0.1:1 127.0.0.1:2 [::1]:1 [::1]:2"), "yyyy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, taken := seats(t, tt.cfg, tt.from...)
			got := ""
			var in []net.Conn
			for range tt.from {
				c, said := knock(t, l, taken)
				if c != nil {
					in = append(in, c)
					got += "y"
					continue
				}
				got += "n"
				resp := "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
				if !strings.HasPrefix(said, resp) || !strings.Contains(said, "Gateway-Error: overloaded\r\n") || !strings.HasSuffix(said, `"code":"overloaded"}`) {
					t.Errorf("turned away with %q", said)
				}
			}
			if got != tt.want {
				t.Errorf("taken in: %s, want %s", got, tt.want)
			}
			for _, c := range in {
				_ = c.Close()
				_ = c.Close() // counts once
			}
		})
	}
}

func TestClosedConnectionMakesRoomForAnother(t *testing.T) {
	from := strings.Split(strings.Repeat("192.0.2.1:1 ", 6), " ")[:6]
	l, taken := seats(t, proxy.Config{PerSource: 1}, from...)
	for i := range 3 {
		c, said := knock(t, l, taken)
		if c == nil {
			t.Fatalf("round %d: turned away with %q", i, said)
		}
		if again, _ := knock(t, l, taken); again != nil {
			t.Errorf("round %d: a second connection was taken in", i)
		}
		_ = c.Close()
		_ = c.Close()
	}
}

// judging is a gate whose passes are altered, and which judges batches.
type judging struct {
	*gate.Gate
	alter func(*gate.Pass)
	batch func(body []byte) ([]byte, error)
}

func (j judging) Admit(ctx context.Context, t gate.Target) (gate.Pass, error) {
	pass, err := j.Gate.Admit(ctx, t)
	if err == nil {
		j.alter(&pass)
	}
	return pass, err
}

func (j judging) AdmitBatch(_ context.Context, _ gate.Pass, _ *routes.Caller, body []byte) ([]byte, error) {
	if j.batch == nil {
		return nil, errors.New("no batch was expected")
	}
	return j.batch(body)
}

func TestFieldThatNamesTheTenantGoesNoFurther(t *testing.T) {
	g := rigging{judge: func(g *gate.Gate) proxy.Gate {
		return judging{Gate: g, alter: func(p *gate.Pass) { p.Drop = "X-Tenant-Id" }}
	}}.newRig(t, plain, newUpstream(t, false, echo))
	_, body := g.get(t, "/api/x", "X-Tenant-Id", "a", "x-tenant-id", "b", "X-TENANT-ID", "c", "X_Tenant_Id", "d", "X-Other", "kept")
	if strings.Contains(strings.ToLower(body), "tenant") || !strings.Contains(body, "kept") {
		t.Errorf("the upstream saw %s", body)
	}
}

func TestEncodedBatchGoesOnAsItIsWhereRulesAreReported(t *testing.T) {
	g := rigging{alter: func(table *routes.Table) { table.Routes[0].Report = true }, judge: func(g *gate.Gate) proxy.Gate {
		return judging{Gate: g, alter: func(p *gate.Pass) { p.Batch = true }, batch: func(body []byte) ([]byte, error) { return body, nil }}
	}}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, r.Header.Get("Content-Encoding"), " ", string(b))
	}))
	resp, body := g.get(t, "/api/$batch", "Content-Encoding", "gzip")
	if resp.StatusCode != 200 || body != "gzip " {
		t.Errorf("got %d %q, want the call as it was", resp.StatusCode, body)
	}
}

func TestBatchIsSentAsItWasJudged(t *testing.T) {
	var tries atomic.Int64
	g := rigging{judge: func(g *gate.Gate) proxy.Gate {
		return judging{Gate: g, alter: func(p *gate.Pass) { p.Batch = true }, batch: func(body []byte) ([]byte, error) {
			if strings.Contains(string(body), "forbidden") {
				return nil, &gate.Refusal{Code: gate.RuleDenied, Detail: "call 1 of the batch is not allowed"}
			}
			return []byte("judged: " + string(body)), nil
		}}
	}}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if tries.Add(1) == 1 {
			w.WriteHeader(http.StatusUnauthorized) // so that the judged body is sent twice
			return
		}
		fmt.Fprintf(w, "%d %s", r.ContentLength, b)
	}))
	post := func(body io.Reader, coding string) string {
		req, err := http.NewRequest(http.MethodPost, g.front.URL+"/api/$batch", body)
		if err != nil {
			t.Fatal(err)
		}
		if coding != "" {
			req.Header.Set("Content-Encoding", coding)
		}
		resp, err := g.client(t, false).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 {
			return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Gateway-Error"))
		}
		return string(b)
	}
	large := strings.Repeat("x", 4<<20)
	for _, tt := range []struct {
		name   string
		body   io.Reader
		coding string
		want   string
	}{
		{"sent twice", strings.NewReader("one"), "", "11 judged: one"},
		{"of unknown length", io.MultiReader(strings.NewReader("two")), "identity", "11 judged: two"},
		{"as large as may be", io.MultiReader(strings.NewReader(large)), "", fmt.Sprint(8+4<<20, " judged: ", large)},
		{"too large", strings.NewReader(large + "x"), "", "413 too_large"},
		{"too large, of unknown length", io.MultiReader(strings.NewReader(large + "x")), "", "413 too_large"},
		{"encoded", strings.NewReader("three"), "gzip", "400 bad_request"},
		{"encoded twice", strings.NewReader("three"), "identity, gzip", "400 bad_request"},
		{"forbidden", strings.NewReader("forbidden"), "", "403 rule_denied"},
		{"no body", http.NoBody, "", "8 judged: "},
	} {
		if got := post(tt.body, tt.coding); got != tt.want {
			t.Errorf("%s: %.60s, want %.60s", tt.name, got, tt.want)
		}
	}
	if g.events.the(8); g.handler.Kept() != 0 {
		t.Errorf("%d bytes are still kept", g.handler.Kept())
	}
}
