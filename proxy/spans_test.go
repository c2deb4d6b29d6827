package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
)

// tracer writes down what it is told of each call.
type tracer struct {
	mu   sync.Mutex // guards what follows
	more sync.Cond
	told []string // of one call each, when it ended
}

func newTracer() *tracer {
	t := &tracer{}
	t.more.L = &t.mu
	return t
}

func (t *tracer) Start(e *audit.Event, r *http.Request) audit.Span {
	e.TraceID, e.SpanID = "trace", "span"
	return &told{t: t, lines: []string{"start " + r.Method}}
}

// the returns what was told of the nth call that ended, from 1.
func (t *tracer) the(n int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.told) < n {
		t.more.Wait()
	}
	return t.told[n-1]
}

type told struct {
	t     *tracer
	lines []string
}

func (s *told) say(format string, a ...any) { s.lines = append(s.lines, fmt.Sprintf(format, a...)) }

func (s *told) Gate(_ time.Time, code string) { s.say("gate %s", code) }

func (s *told) Token(began time.Time, l audit.Lookup) {
	if began.IsZero() {
		s.say("no time")
	}
	s.say("token %s renewal=%v vain=%v %s", l.Source, l.Renewal, l.Vain, l.Code)
}

func (s *told) Try(out *http.Request, n int) audit.Try {
	s.say("try %d %s", n, out.URL.Host)
	return &toldTry{s}
}

func (s *told) End(e *audit.Event) {
	s.say("end %d %s", e.Status, e.Code)
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.t.told = append(s.t.told, strings.Join(s.lines, "; "))
	s.t.more.Broadcast()
}

type toldTry struct{ s *told }

func (t *toldTry) Propagate(h http.Header) {
	h.Set("Traceparent", fmt.Sprintf("of-%d", len(t.s.lines)))
}

func (t *toldTry) End(resp *http.Response, code string) {
	status := 0
	if resp != nil {
		status = resp.StatusCode
	}
	t.s.say("tried %d %s", status, code)
}

func TestSpansTellOfEachPartOfACall(t *testing.T) {
	var parents []string
	var mu sync.Mutex
	upstream := newUpstream(t, true, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		parents = append(parents, r.Header.Get("Traceparent"))
		mu.Unlock()
		if r.URL.Path == "/cut" {
			panic(http.ErrAbortHandler)
		}
		if number(r.Header.Get("Authorization")) == 1 {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	tr := newTracer()
	g := rigging{tracer: tr}.newRig(t, plain, upstream)
	get := func(path string) {
		resp, err := http.Get(g.front.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	get("/api/x")
	get("/api/x")
	get("/nowhere")
	get("/api/cut")
	mu.Lock()
	defer mu.Unlock()
	for i, want := range []string{
		"start GET; gate ; token identity_provider renewal=false vain=false ; try 1 example.com; tried 401 ; token identity_provider renewal=true vain=false ; try 2 example.com; tried 200 ; end 200 ",
		"start GET; gate ; token cache renewal=false vain=false ; try 1 example.com; tried 200 ; end 200 ",
		"start GET; gate route_unknown; end 404 route_unknown",
		"start GET; gate ; token cache renewal=false vain=false ; try 1 example.com; tried 0 upstream_unreachable; end 502 upstream_unreachable",
	} {
		if got := tr.the(i + 1); got != want {
			t.Errorf("call %d: told %q, want %q", i+1, got, want)
		}
		if e := g.events.the(i + 1); e.TraceID != "trace" || e.SpanID != "span" {
			t.Errorf("call %d is recorded with trace %q and span %q", i+1, e.TraceID, e.SpanID)
		}
	}
	if want := []string{"of-4", "of-7", "of-4"}; len(parents) < 3 || !slices.Equal(parents[:3], want) {
		t.Errorf("the upstream saw traceparent %q, want %q first", parents, want)
	}
}

func TestSpansOfTunnelsAndTheirCalls(t *testing.T) {
	tr := newTracer()
	d := digging(t, rigging{tracer: tr}, plain, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") })
	if err := readWhole(d.through(t, nil, true), 1); err != nil {
		t.Fatal(err)
	}
	if got, want := tr.the(1), "start GET; gate ; token identity_provider renewal=false vain=false ; try 1 example.com; tried 200 ; end 200 "; got != want {
		t.Errorf("a call inside: told %q, want %q", got, want)
	}
	c, _ := d.dial(t, "stranger.test:443")
	_ = c.Close()
	if got, want := tr.the(2), "start CONNECT; gate egress_denied; end 403 egress_denied"; got != want {
		t.Errorf("a tunnel refused: told %q, want %q", got, want)
	}
}

// BenchmarkCall is a call from end to end but for the caller's connection.
func BenchmarkCall(b *testing.B) {
	upstream := newUpstream(b, true, func(http.ResponseWriter, *http.Request) {})
	g := newRig(b, plain, upstream)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/api/x", nil)
		r.Host, r.RemoteAddr = "localhost:8080", "127.0.0.1:5"
		g.handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatalf("status %d: %s", w.Code, w.Body)
		}
	}
}
