package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/audit"
)

// watched shows what it was given.
type watched struct {
	once     sync.Once
	calls    *audit.Calls
	sessions *audit.Sessions
}

func (w *watched) fill() {
	w.once.Do(func() { w.calls, w.sessions = audit.NewCalls(), audit.NewSessions() })
}
func (w *watched) Calls() *audit.Calls       { w.fill(); return w.calls }
func (w *watched) Sessions() *audit.Sessions { w.fill(); return w.sessions }
func (w *watched) Routes() admin.Routes {
	return admin.Routes{Routes: []admin.Route{{Name: "graph", Line: 3}}, SQL: []admin.Door{}}
}
func (w *watched) Credentials() []admin.Credential { return []admin.Credential{{Name: "default"}} }
func (w *watched) Tokens(limit int) ([]admin.Token, int) {
	return []admin.Token{{Credential: "default", SHA256: "0123456789abcdef"}}, 7
}
func (w *watched) Status() admin.Status { return admin.Status{Version: "test", Degraded: []string{}} }
func (w *watched) Explain(_ context.Context, method, target, caller string) (admin.Explanation, error) {
	if target == "" {
		return admin.Explanation{}, errors.New("no url")
	}
	return admin.Explanation{Detail: method + " " + target + " " + caller}, nil
}

var windows = []string{
	"/api/routes", "/api/credentials", "/api/tokens", "/api/requests", "/api/sessions", "/api/status", "/api/explain?method=GET&url=https%3A%2F%2Fa.example.com",
}

func TestWindowIsShownToTheOperatorAlone(t *testing.T) {
	g := &steered{key: "k"}
	l := serve(t, g, "tcp", "127.0.0.1:0")
	host := l.Addr().String()
	tests := []struct {
		name   string
		header http.Header
		want   int
	}{
		{"the owner", fields(), 200},
		{"the key", fields("Authorization", "Bearer k"), 200},
		{"a wrong key, although the owner's", fields("Authorization", "Bearer guess"), 401},
		{"typed into a browser", fields("Sec-Fetch-Site", "none"), 200},
		{"its own page", fields("Host", host, "Sec-Fetch-Site", "same-origin"), 200},
		{"its own page, with an origin", fields("Host", host, "Sec-Fetch-Site", "same-origin", "Origin", "http://"+host), 200},
		{"its own page with a wrong key", fields("Host", host, "Sec-Fetch-Site", "same-origin", "Authorization", "Bearer x"), 401},
		{"a page of another port", fields("Host", host, "Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:1"), 403},
		{"another page", fields("Host", host, "Sec-Fetch-Site", "cross-site"), 403},
		{"another origin that says it is the same", fields("Host", host, "Sec-Fetch-Site", "same-origin", "Origin", "http://evil.example"), 403},
		{"another scheme", fields("Host", host, "Sec-Fetch-Site", "same-origin", "Origin", "https://"+host), 403},
		{"two origins", fields("Host", host, "Sec-Fetch-Site", "same-origin", "Origin", "http://"+host, "Origin", "http://evil.example"), 403},
		{"two sites", fields("Host", host, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "cross-site"), 403},
		{"an origin alone", fields("Host", host, "Origin", "http://"+host), 403},
		{"with the key, from another page", fields("Sec-Fetch-Site", "cross-site", "Authorization", "Bearer k"), 403},
		{"a rebound name", fields("Host", "evil.example", "Sec-Fetch-Site", "same-origin"), 421},
	}
	for _, path := range windows {
		for _, tt := range tests {
			if tt.want == 401 {
				continue // each is held against the source; see below
			}
			if got, _, body := ask(t, l, "GET", path, tt.header); got != tt.want {
				t.Errorf("%s, %s: status = %d %s, want %d", path, tt.name, got, body, tt.want)
			}
		}
		if got, _, _ := ask(t, l, "POST", path, fields()); got != 405 {
			t.Errorf("POST %s: status = %d, want 405", path, got)
		}
	}
	for _, tt := range tests {
		if got, _, body := ask(t, l, "GET", windows[0], tt.header); got != tt.want {
			t.Errorf("%s: status = %d %s, want %d", tt.name, got, body, tt.want)
		}
	}
}

// get decodes the answer to path into out.
func get(t *testing.T, l net.Listener, path string, out any) (int, http.Header) {
	t.Helper()
	resp, err := http.Get("http://" + l.Addr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return resp.StatusCode, resp.Header
}

func TestWindowShowsWhatTheGatewaySays(t *testing.T) {
	l := serve(t, &steered{}, "tcp", "127.0.0.1:0")
	var routes admin.Routes
	if get(t, l, "/api/routes", &routes); len(routes.Routes) != 1 || routes.Routes[0].Name != "graph" {
		t.Errorf("routes: %+v", routes)
	}
	var tokens []admin.Token
	if _, h := get(t, l, "/api/tokens", &tokens); len(tokens) != 1 || h.Get("Gateway-Left-Out") != "7" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("tokens: %+v %v", tokens, h)
	}
	var asked struct{ Detail, Error string }
	if get(t, l, "/api/explain?method=GET&url=https%3A%2F%2Fa.example.com%2Fb%3Fc&caller=ci", &asked); asked.Detail != "GET https://a.example.com/b?c ci" {
		t.Errorf("explain was asked %+v", asked)
	}
	if status, _ := get(t, l, "/api/explain?method=GET", &asked); status != 400 || asked.Error != "no url" {
		t.Errorf("explain without a url: %d %+v", status, asked)
	}
}

// busy has three calls behind it.
func busy(g *steered) {
	for i, e := range []audit.Event{
		{Route: "graph", Caller: "ci", Status: 200, Method: "GET", Path: "/v1.0/users", Duration: 1500 * time.Microsecond},
		{Route: "graph", Caller: "job", Status: 403, Remark: "a role is missing", Remedy: "grant it"},
		{Route: "orders", Caller: "ci", Status: 502, Code: "token_refused", Cause: "why", Remedy: "what"},
	} {
		e.RequestID, e.Door = fmt.Sprint(i+1), audit.Reverse
		g.Calls().Record(&e)
	}
}

func TestCallsAreFiltered(t *testing.T) {
	g := &steered{}
	busy(g)
	l := serve(t, g, "tcp", "127.0.0.1:0")
	for query, want := range map[string]string{
		"": "3 2 1", "?route=graph": "2 1", "?caller=ci": "3 1", "?status=4xx": "2", "?status=502": "3", "?status=5XX&route=graph": "",
		"?code=token_refused": "3", "?limit=2": "3 2", "?limit=0": "", "?limit=99999": "3 2 1", "?route=": "3 2 1",
	} {
		var calls []admin.Request
		get(t, l, "/api/requests"+query, &calls)
		var got []string
		for _, c := range calls {
			got = append(got, c.RequestID)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
	}
	for _, query := range []string{"?status=9xx", "?status=abc", "?status=99", "?limit=-1", "?limit=x", "?rout=graph", "?route=a&route=b"} {
		var why map[string]string
		if status, _ := get(t, l, "/api/requests"+query, &why); status != 400 || why["error"] == "" {
			t.Errorf("%s: %d %v, want 400 and why", query, status, why)
		}
	}
	var calls []admin.Request
	get(t, l, "/api/requests?limit=3", &calls)
	if c := calls[2]; c.Duration != 1.5 || c.Path != "/v1.0/users" || c.Door != "reverse" || c.Caller != "ci" {
		t.Errorf("the first call: %+v", c)
	}
	if c := calls[0]; c.Cause != "why" || c.Remedy != "what" || c.Code != "token_refused" {
		t.Errorf("the refused call: %+v", c)
	}
}

func TestSessionsAreShownFromLoginToEnd(t *testing.T) {
	g := &steered{}
	s := audit.Session{ID: "a", Name: "orders-db", Caller: "ci", Start: time.Unix(1e9, 0), Result: audit.LoginSuccess, Phases: map[string]time.Duration{"token": time.Second}}
	g.Sessions().RecordSession(&s)
	s.End, s.Requests, s.Reason = s.Start.Add(2*time.Second), 5, "client closed"
	g.Sessions().RecordSession(&s)
	g.Sessions().RecordSession(&audit.Session{ID: "b", Name: "orders-db", Result: audit.LoginTokenRefused, Cause: "why", Remedy: "what"})
	l := serve(t, g, "tcp", "127.0.0.1:0")
	var all []admin.Session
	get(t, l, "/api/sessions?route=orders-db", &all)
	if len(all) != 3 || all[0].Cause != "why" || all[1].Event != "end" || all[1].Duration != 2000 || all[1].Requests != 5 ||
		all[2].Event != "login" || all[2].Phases["token"] != 1000 || all[2].Session != "a" {
		t.Errorf("sessions: %+v", all)
	}
	if get(t, l, "/api/sessions?code=token_refused&limit=1", &all); len(all) != 1 || all[0].Session != "b" {
		t.Errorf("refused: %+v", all)
	}
	var why map[string]string
	if status, _ := get(t, l, "/api/sessions?status=4xx", &why); status != 400 {
		t.Errorf("a status of sessions: %d, want 400", status)
	}
}

// event is one server-sent event.
type event struct{ name, id, data string }

// streamed is a stream of l that a test reads.
type streamed struct {
	t    *testing.T
	in   *bufio.Scanner
	stop func()
}

func listenTo(t *testing.T, l net.Listener, path, last string) *streamed {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+l.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); _ = resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s: %d %s", path, resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return &streamed{t, bufio.NewScanner(resp.Body), stop}
}

// next is the next event, or one without a name for a heartbeat or the end.
func (s *streamed) next() (e event) {
	for s.in.Scan() && s.in.Text() != "" {
		name, value, _ := strings.Cut(s.in.Text(), ": ")
		switch name {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data = value
		}
	}
	return e
}

// request is the call in the next event, which has to be one.
func (s *streamed) request() (r admin.Request, id string) {
	s.t.Helper()
	e := s.next()
	if err := json.Unmarshal([]byte(e.data), &r); err != nil || e.name != "request" || e.id != fmt.Sprint(r.ID) {
		s.t.Fatalf("event %+v: %v, want a request", e, err)
	}
	return r, e.id
}

func TestStreamBeginsWithTheLatestAndGoesOn(t *testing.T) {
	g := &steered{}
	busy(g)
	l := serve(t, g, "tcp", "127.0.0.1:0")
	s := listenTo(t, l, "/api/requests?caller=ci&limit=5", "")
	first, _ := s.request()
	second, id := s.request()
	if first.RequestID != "1" || second.RequestID != "3" {
		t.Fatalf("it begins with %s and %s, want 1 and 3", first.RequestID, second.RequestID)
	}
	g.Calls().Record(&audit.Event{RequestID: "4", Caller: "job"})
	g.Calls().Record(&audit.Event{RequestID: "5", Caller: "ci"})
	if next, _ := s.request(); next.RequestID != "5" {
		t.Errorf("it goes on with %s, want 5", next.RequestID)
	}
	again := listenTo(t, l, "/api/requests", id)
	if next, _ := again.request(); next.RequestID != "4" {
		t.Errorf("behind %s comes %s, want 4", second.RequestID, next.RequestID)
	}
	for range 2000 {
		g.Calls().Record(&audit.Event{Status: 204})
	}
	late := listenTo(t, l, "/api/requests", id)
	if e := late.next(); e.name != "lost" || e.id != "" || e.data != `{"records":1002}` {
		t.Errorf("a reader that comes late is told %+v", e)
	}
	if next, _ := late.request(); next.Status != 204 {
		t.Errorf("and then %+v", next)
	}
	for _, old := range []string{"17", "99999999999999999", "x"} {
		if e := listenTo(t, l, "/api/requests", old).next(); e.name != "lost" || e.data != `{"records":0,"restarted":true}` {
			t.Errorf("Last-Event-ID %s: %+v, want to hear of a restart", old, e)
		}
	}
}

func TestStreamsOfSessionsAreOfSessions(t *testing.T) {
	g := &steered{}
	l := serve(t, g, "tcp", "127.0.0.1:0")
	s := listenTo(t, l, "/api/sessions", "")
	g.Sessions().RecordSession(&audit.Session{ID: "a", Name: "orders-db", Result: audit.LoginSuccess})
	if e := s.next(); e.name != "session" || !strings.Contains(e.data, `"name":"orders-db"`) {
		t.Errorf("event %+v, want the session", e)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	l := serve(t, &steered{}, "tcp", "127.0.0.1:0")
	var all []*streamed
	for range 32 {
		all = append(all, listenTo(t, l, "/api/requests", ""))
	}
	if got, h, _ := ask(t, l, "GET", "/api/requests", fields("Accept", "text/event-stream")); got != 503 || h.Get("Retry-After") == "" {
		t.Errorf("one more: %d", got)
	}
	all[0].stop()
	for {
		if got, _, _ := ask(t, l, "GET", "/api/requests?limit=x", fields("Accept", "text/event-stream")); got != 400 {
			t.Fatalf("a stream that is asked for wrongly: %d", got)
		}
		if resp := open(t, l); resp == 200 {
			break
		}
	}
}

// open tells the status of a stream that is closed at once.
func open(t *testing.T, l net.Listener) int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+l.Addr().String()+"/api/requests", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestShutdownEndsStreams(t *testing.T) {
	l := listenTCP(t)
	srv := admin.New(&steered{}, http.NotFoundHandler(), func(string) {}).Server()
	go func() { _ = srv.Serve(l) }() // Shutdown ends it
	s := listenTo(t, l, "/api/requests", "")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown() = %v while a stream is open", err)
	}
	if e := s.next(); e != (event{}) {
		t.Errorf("an ended stream brings %+v", e)
	}
}

// pipes is a listener of connections within a test's bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

func TestStreamOutlivesItsServersTimeoutsAndIsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &steered{key: "k"}
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		srv := admin.New(g, http.NotFoundHandler(), func(string) {}).Server()
		go func() { _ = srv.Serve(l) }() // Close ends it
		defer srv.Close()
		mine, theirs := net.Pipe()
		l.conns <- theirs
		if _, err := mine.Write([]byte("GET /api/requests HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nAuthorization: Bearer k\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(mine), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		s := &streamed{t, bufio.NewScanner(resp.Body), func() {}}
		began, beats := time.Now(), 0
		for time.Since(began) < 10*time.Minute {
			if e := s.next(); e.name != "" || e.id == "" {
				t.Fatalf("after %s: %+v, want a heartbeat with the reader's place", time.Since(began), e)
			}
			beats++
		}
		if beats != 40 {
			t.Errorf("%d heartbeats in ten minutes, want 40", beats)
		}
		g.Calls().Record(&audit.Event{RequestID: "late"})
		if r, _ := s.request(); r.RequestID != "late" {
			t.Errorf("then came %+v", r)
		}
	})
}

func TestEndpointsAreThoseThatAnswer(t *testing.T) {
	g := &steered{}
	l := serve(t, g, "tcp", "127.0.0.1:0")
	health := admin.New(g, http.NotFoundHandler(), func(string) {}).HealthServer()
	for _, e := range admin.Endpoints() {
		path := e.Path
		if path == "/api/explain" {
			path += "?method=GET&url=x"
		}
		if got, _, _ := ask(t, l, e.Method, path, fields()); got != 200 {
			t.Errorf("%s %s = %d, want 200", e.Method, path, got)
		}
		w := httptest.NewRecorder()
		health.Handler.ServeHTTP(w, httptest.NewRequest(e.Method, path, nil))
		if e.Open != (w.Code == 200) && e.Path != "/metrics" || !e.Open && w.Code != 404 {
			t.Errorf("the health listener answers %s %s with %d", e.Method, path, w.Code)
		}
	}
}
