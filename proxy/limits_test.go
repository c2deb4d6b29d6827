package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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
