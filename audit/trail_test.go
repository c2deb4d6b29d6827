package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
)

// losses is a log and a counter.
type losses struct {
	mu    sync.Mutex
	lines []string
	lost  int
}

func (l *losses) Error(msg string, kv ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprint(append([]any{msg}, kv...)...))
}

func (l *losses) count(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost += n
}

func (l *losses) seen() (lost int, lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost, l.lines
}

// pipe is a destination that can stall, fail and cut lines short.
type pipe struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	stall chan struct{} // nil: it takes everything at once
	fails int           // how many writes fail, after half of their bytes
}

func (p *pipe) Write(b []byte) (int, error) {
	if p.stall != nil {
		<-p.stall
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fails > 0 {
		p.fails--
		n, _ := p.buf.Write(b[:len(b)/2])
		return n, errors.New("no space left on device")
	}
	return p.buf.Write(b)
}

func (p *pipe) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Split(strings.TrimSuffix(p.buf.String(), "\n"), "\n")
}

func newTrail(out *pipe) (*audit.Trail, *losses) {
	l := &losses{}
	return audit.NewTrail(audit.TrailConfig{Out: out, Log: l, Lost: l.count}), l
}

func decode(t *testing.T, line string) map[string]any {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	return got
}

func TestRecordTellsWhoDidWhatAndHowItEnded(t *testing.T) {
	out := &pipe{}
	trail, _ := newTrail(out)
	e := event()
	e.Start = time.Date(2026, 11, 25, 10, 0, 0, 5e6, time.FixedZone("", 3600))
	e.TraceID, e.Caller, e.CallerHow, e.Rule, e.Template = "4bf9", "reports-job", "api_key", 14, "/v1.0/users/{id}"
	e.Tenant, e.WouldDeny, e.TokenID, e.UpstreamRequest = "contoso.onmicrosoft.com", "no rule allows it", "uti-1", "up-1"
	trail.Record(e)
	refused := &audit.Event{RequestID: "r2", Start: e.Start, Door: audit.Forward, Method: "GET", Path: "/secret/path", Status: 407, Code: "caller_unknown", Cause: "wrong key"}
	trail.Record(refused)
	trail.Close()
	lines := out.lines()
	if len(lines) != 2 {
		t.Fatalf("%d records of 2 calls: %q", len(lines), lines)
	}
	want := map[string]any{
		"kind": "audit", "time": "2026-11-25T09:00:00.005Z", "gateway.request_id": "r1", "trace_id": "4bf9", "gateway.door": "reverse",
		"gateway.caller": "reports-job", "gateway.caller_how": "api_key", "gateway.route": "graph", "gateway.rule": 14.0, "gateway.would_deny": "no rule allows it",
		"http.request.method": "GET", "server.address": "graph.microsoft.com", "server.port": 443.0, "client.address": "127.0.0.1", "client.port": 5.0, "http.route": "/v1.0/users/{id}",
		"gateway.tenant": "contoso.onmicrosoft.com", "gateway.credential": "default", "http.response.status_code": 200.0, "gateway.duration_ms": 12.0, "gateway.upstream_ms": 10.0, "gateway.token_ms": 0.0,
		"http.request.body.size": 0.0, "http.response.body.size": 7.0, "gateway.token.source": "cache", "gateway.token.id": "uti-1", "gateway.upstream_request_id": "up-1", "gateway.retry": "recovered",
	}
	got := decode(t, lines[0])
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %v, want %v", k, got[k], v)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s = %v is nowhere documented", k, got[k])
		}
	}
	if got := decode(t, lines[1]); got["error.type"] != "caller_unknown" || got["http.response.status_code"] != 407.0 {
		t.Errorf("a refused call left %v", got)
	}
}

func TestRecordNeverHoldsThePathAsItCame(t *testing.T) {
	out := &pipe{}
	trail, _ := newTrail(out)
	e := event()
	e.Path = "/v1.0/users/alice@contoso.com"
	trail.Record(e)
	trail.Close()
	if text := out.buf.String(); strings.Contains(text, "alice") || strings.Contains(text, "/v1.0") {
		t.Errorf("a call without rules left %s", text)
	}
}

func TestRecordBoundsWhatComesFromOutside(t *testing.T) {
	out := &pipe{}
	trail, _ := newTrail(out)
	e := event()
	e.Method, e.Host, e.UpstreamRequest = strings.Repeat("A", 1e5), strings.Repeat("b", 1e5), strings.Repeat("c\n", 1e5)
	trail.Record(e)
	trail.Close()
	lines := out.lines()
	if len(lines) != 1 || len(lines[0]) > 4<<10 {
		t.Errorf("%d lines, the first of %d bytes, want one of at most 4 KiB", len(lines), len(lines[0]))
	}
}

func TestStalledDestinationStopsNoCallAndIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &pipe{stall: make(chan struct{})}
		trail, log := newTrail(out)
		const calls = 10_000
		for range calls {
			trail.Record(event())
		}
		synctest.Wait()
		lost, lines := log.seen()
		if lost < calls-8200 || lost >= calls {
			t.Errorf("lost = %d of %d calls, want all but those that wait", lost, calls)
		}
		if len(lines) != 1 || !strings.Contains(lines[0], "faster than they can be written") {
			t.Errorf("the log was told %q, want one line", lines)
		}
		time.Sleep(2 * time.Minute) // of the bubble's time
		synctest.Wait()
		if _, lines = log.seen(); len(lines) > 2 {
			t.Errorf("the log was told %d times in two minutes", len(lines))
		}
		close(out.stall)
		trail.Close()
		if n := len(out.lines()); n != calls-lost {
			t.Errorf("%d records are written and %d counted as lost, of %d", n, lost, calls)
		}
	})
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &pipe{stall: make(chan struct{})}
		trail, log := newTrail(out)
		for range 3 {
			trail.Record(event())
		}
		began := time.Now()
		trail.Close()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("Close took %s", took)
		}
		trail.Record(event()) // too late
		if lost, _ := log.seen(); lost != 3 {
			t.Errorf("lost = %d, want 3: two that wait, and one that came too late", lost)
		}
		close(out.stall)
		trail.Close() // a second time does nothing
	})
}

func TestLineThatWasCutShortSpoilsNoOther(t *testing.T) {
	out := &pipe{fails: 2}
	trail, log := newTrail(out)
	for range 4 {
		trail.Record(event())
	}
	trail.Close()
	whole := 0
	for _, line := range out.lines() {
		if json.Valid([]byte(line)) {
			whole++
		}
	}
	lost, lines := log.seen()
	if whole != 2 || lost != 2 {
		t.Errorf("%d whole lines and %d lost of 4, want 2 and 2:\n%s", whole, lost, out.buf.String())
	}
	// Once at the first loss, and once in the end of what was lost since, if the
	// writer was not through by then.
	told := strings.Count(strings.Join(lines, ""), "lost1") + 2*strings.Count(strings.Join(lines, ""), "lost2")
	for _, line := range lines {
		if len(lines) > 2 || told != 2 || !strings.Contains(line, "no space left") || !strings.Contains(line, "room") {
			t.Errorf("the log was told %q", lines)
		}
	}
	if len(lines) == 0 {
		t.Error("the log was told nothing")
	}
}

func TestFileIsRotatedAndOldOnesGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "audit.jsonl")
	out := &pipe{}
	trail, log := newTrail(out)
	if err := trail.Use(&audit.File{Path: path, MaxSize: 1, Keep: 2}); err != nil {
		t.Fatal(err)
	}
	const calls = 8000 // of about half a KiB each: some MiB
	for range calls / 1000 {
		for range 1000 {
			trail.Record(event())
		}
		waitFor(t, func() bool { return trail.Waiting() == 0 })
	}
	trail.Close()
	if lost, lines := log.seen(); lost != 0 {
		t.Fatalf("lost = %d: %q", lost, lines)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode = %o, want 600", got)
	}
	waitFor(t, func() bool {
		files, err := os.ReadDir(filepath.Dir(path))
		return err == nil && len(files) == 3
	})
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 1<<20 {
			t.Errorf("%s has %d bytes, want at most 1 MiB", f, len(text))
		}
		for _, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
			if !json.Valid([]byte(line)) {
				t.Fatalf("%s holds a line that is not whole: %q", f, line)
			}
		}
	}
	if out.buf.Len() != 0 {
		t.Error("records went to standard output although there is a file")
	}
}

func TestFileMayChangeAndFailAndReturn(t *testing.T) {
	dir := t.TempDir()
	out := &pipe{}
	trail, log := newTrail(out)
	if err := trail.Use(&audit.File{Path: dir, MaxSize: 1 << 20}); err == nil {
		t.Error("Use took a folder for a file")
	}
	trail.Record(event())
	waitFor(t, func() bool { lost, _ := log.seen(); return lost == 1 })
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("the folder was moved away: %v", err)
	}
	for _, name := range []string{"a.jsonl", "b.jsonl"} {
		path := filepath.Join(dir, name)
		if err := trail.Use(&audit.File{Path: path, MaxSize: 1 << 20}); err != nil {
			t.Fatal(err)
		}
		trail.Record(event())
		waitFor(t, func() bool { text, _ := os.ReadFile(path); return bytes.HasSuffix(text, []byte("\n")) })
		// Whoever moves the file away says so by a reload.
		if err := os.Rename(path, path+".old"); err != nil {
			t.Fatal(err)
		}
		if err := trail.Use(&audit.File{Path: path, MaxSize: 1 << 20}); err != nil {
			t.Fatal(err)
		}
		trail.Record(event())
		waitFor(t, func() bool { text, _ := os.ReadFile(path); return bytes.HasSuffix(text, []byte("\n")) })
	}
	if err := trail.Use(nil); err != nil {
		t.Fatal(err)
	}
	trail.Record(event())
	trail.Close()
	if lost, lines := log.seen(); lost != 1 || len(out.lines()) != 1 {
		t.Errorf("lost = %d (%q), on standard output %d, want 1 and 1", lost, lines, len(out.lines()))
	}
}

// waitFor waits for what another goroutine does with the disk.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(end) {
			t.Fatal("waited too long")
		}
		<-time.After(time.Millisecond)
	}
}

func BenchmarkRecord(b *testing.B) {
	l := &losses{}
	trail := audit.NewTrail(audit.TrailConfig{Out: &discard{}, Log: l, Lost: l.count})
	defer trail.Close()
	e := event()
	b.ReportAllocs()
	for b.Loop() {
		trail.Record(e)
	}
}

type discard struct{}

func (*discard) Write(b []byte) (int, error) { return len(b), nil }

func ExampleTrail() {
	log, err := audit.NewLog(os.Stderr, audit.LogConfig{Level: "info", Format: "json"})
	if err != nil {
		fmt.Println(err)
		return
	}
	trail := audit.NewTrail(audit.TrailConfig{Out: os.Stdout, Log: log, Lost: func(int) {}})
	trail.Record(&audit.Event{RequestID: "r1", Door: audit.Forward, Method: "GET", Host: "example.com:443", Status: 403, Code: "egress_denied"})
	trail.Close()
	// Output: {"kind":"audit","time":"0001-01-01T00:00:00.000Z","gateway.request_id":"r1","gateway.door":"forward","http.request.method":"GET","server.address":"example.com","server.port":443,"http.response.status_code":403,"error.type":"egress_denied","gateway.duration_ms":0,"gateway.upstream_ms":0,"gateway.token_ms":0,"http.request.body.size":0,"http.response.body.size":0}
}
