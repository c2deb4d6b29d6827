package tracing_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/tracing"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent  = "00-" + traceID + "-00f067aa0ba902b7-01"
	unseen  = "00-" + traceID + "-00f067aa0ba902b7-00"
)

// retried is a call of every attribute: refused once by the upstream, and then
// by the gateway. It returns what went to the upstream.
func retried(t *tracing.Traces, fields http.Header) (e *audit.Event, sent []http.Header) {
	r := httptest.NewRequest("GET", "/v1.0/users/alice?secret=query-value", nil)
	maps.Copy(r.Header, fields)
	r.Header.Set("Authorization", "Bearer header-value")
	e = &audit.Event{
		RequestID: "r1", Start: time.Now(), Door: audit.Forward, Method: "GET", Host: "graph.microsoft.com:443", Path: "/v1.0/users/alice", Remote: "127.0.0.1:5",
		BytesIn: 3, BytesOut: 7,
	}
	span := t.Start(e, r)
	e.Route, e.Caller, e.CallerHow, e.Rule, e.Template, e.Credential = "graph", "job", "api_key", 14, "/v1.0/users/{id}", "default"
	span.Gate(e.Start, "")
	span.Token(time.Now(), audit.Lookup{Source: "cache"})
	for n, status := range []int{401, 200} {
		out := httptest.NewRequest("GET", "https://graph.microsoft.com/v1.0/users/alice?secret=query-value", nil)
		out.Header = fields.Clone()
		if out.Header == nil {
			out.Header = http.Header{}
		}
		try := span.Try(out, n+1)
		try.Propagate(out.Header)
		sent = append(sent, out.Header)
		try.End(&http.Response{StatusCode: status, ProtoMajor: 2}, "")
		if status == 401 {
			span.Token(time.Now(), audit.Lookup{Source: "identity_provider", Renewal: true})
		}
	}
	e.TokenSource, e.Retry, e.UpstreamRequest, e.Status, e.Code = "identity_provider", audit.Recovered, "up-1", 502, "token_reflected"
	span.End(e)
	return e, sent
}

func TestCallHasASpanWithChildren(t *testing.T) {
	c := newCollector(t)
	traces, _, end := begin(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL})
	e, sent := retried(traces, http.Header{"Traceparent": {parent}, "Tracestate": {"a=1", "b=2"}})
	end()
	spans := c.spans()
	root := spans["GET /v1.0/users/{id}"]
	if len(root) != 1 || len(spans["gate"]) != 1 || len(spans["token"]) != 2 || len(spans["upstream"]) != 2 {
		t.Fatalf("spans %v", spans)
	}
	if hex.EncodeToString(root[0].TraceId) != traceID || hex.EncodeToString(root[0].ParentSpanId) != "00f067aa0ba902b7" || root[0].Kind != tracepb.Span_SPAN_KIND_SERVER {
		t.Errorf("the call's span is no child of traceparent: %v", root[0])
	}
	if e.TraceID != traceID || e.SpanID != hex.EncodeToString(root[0].SpanId) {
		t.Errorf("the event has trace %q and span %q", e.TraceID, e.SpanID)
	}
	for _, name := range []string{"gate", "token", "upstream"} {
		for i, s := range spans[name] {
			if !bytes.Equal(s.ParentSpanId, root[0].SpanId) || s.StartTimeUnixNano < root[0].StartTimeUnixNano || s.EndTimeUnixNano > root[0].EndTimeUnixNano {
				t.Errorf("%s %d is not inside of the call's span: %v", name, i, s)
			}
		}
	}
	for i, s := range spans["upstream"] {
		want := "00-" + traceID + "-" + hex.EncodeToString(s.SpanId) + "-01"
		if got := sent[i]; got.Get("Traceparent") != want || strings.Join(got["Tracestate"], ",") != "a=1,b=2" || s.Kind != tracepb.Span_SPAN_KIND_CLIENT {
			t.Errorf("try %d went out with %v, want traceparent %s and the caller's tracestate", i+1, got, want)
		}
	}
	if a, b := values(spans["upstream"][0].Attributes), values(spans["upstream"][1].Attributes); a["http.response.status_code"] != int64(401) || a["error.type"] != "401" ||
		a["http.request.resend_count"] != nil || b["http.request.resend_count"] != int64(1) || b["error.type"] != nil {
		t.Errorf("the tries are %v and %v", a, b)
	}
	if a, b := values(spans["token"][0].Attributes), values(spans["token"][1].Attributes); a["gateway.token.source"] != "cache" || a["gateway.token.renewal"] != nil || b["gateway.token.renewed"] != true {
		t.Errorf("the tokens are %v and %v", a, b)
	}
	for _, b := range c.got() {
		for _, secret := range []string{"query-value", "header-value", "alice"} {
			if bytes.Contains(b.raw, []byte(secret)) {
				t.Errorf("a batch holds %q", secret)
			}
		}
		if got := values(b.data.ResourceSpans[0].Resource.Attributes); got["service.name"] != "gateway" || got["service.version"] != "v1" {
			t.Errorf("resource %v", got)
		}
	}
}

// TestAttributesAreThoseOfTheTable holds spans that have everything against the
// reference.
func TestAttributesAreThoseOfTheTable(t *testing.T) {
	c := newCollector(t)
	traces, _, end := begin(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL})
	retried(traces, nil)
	e := &audit.Event{Start: time.Now(), Method: "BREW", Host: "[::1]:80", Remote: "unix"}
	refused := traces.Start(e, httptest.NewRequest("GET", "/", nil))
	e.Route, e.Caller, e.CallerHow, e.Rule, e.Credential = "graph", "job", "uid", 3, "default"
	refused.Gate(e.Start, "rule_denied")
	refused.Token(e.Start, audit.Lookup{Renewal: true, Code: "token_refused"})
	e.Status, e.Code = 403, "rule_denied"
	refused.End(e)
	login := &audit.Session{ID: "s1", Start: time.Now(), Name: "orders", Remote: "127.0.0.1:5", Caller: "job", CallerHow: "api_key", Credential: "default", TokenSource: "cache",
		User: "user-value", Database: "database-value", Server: "srv.example:1433", Result: audit.LoginUpstreamRefused, Cause: "cause-value", Phases: map[string]time.Duration{}}
	for _, phase := range []string{"token", "dial", "prelogin", "tls", "login"} {
		login.Phases[phase] = time.Millisecond
	}
	traces.RecordSession(login)
	login.End = time.Now()
	traces.RecordSession(login) // of the session's end there is none
	end()
	got := map[string]map[string]bool{}
	for name, spans := range c.spans() {
		for _, s := range spans {
			switch {
			case s.Kind == tracepb.Span_SPAN_KIND_SERVER && strings.HasPrefix(name, "LOGIN "):
				name = "LOGIN"
			case s.Kind == tracepb.Span_SPAN_KIND_SERVER:
				name = "call"
			}
			if got[name] == nil {
				got[name] = map[string]bool{}
			}
			for key := range values(s.Attributes) {
				got[name][key] = true
			}
		}
	}
	for _, s := range tracing.Spans() {
		want := slices.Sorted(slices.Values(s.Attributes))
		if have := slices.Sorted(maps.Keys(got[s.Key])); !slices.Equal(have, want) {
			t.Errorf("%s has %q, the table says %q", s.Key, have, want)
		}
		delete(got, s.Key)
	}
	if len(got) > 0 {
		t.Errorf("the table lacks %v", got)
	}
	denied := c.spans()["HTTP graph"]
	if len(denied) != 1 || denied[0].Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR || values(denied[0].Attributes)["error.type"] != "rule_denied" {
		t.Errorf("a refusal that is the caller's fault: %v, want error.type and no error", denied)
	}
	if logins := c.spans()["LOGIN orders"]; len(logins) != 1 || strings.Contains(fmt.Sprint(logins), "-value") {
		t.Errorf("logins %v, want one, without what the client said", logins)
	}
}

func TestCallersDecideWhetherTheirCallsAreSampled(t *testing.T) {
	for _, tt := range []struct {
		sampler, parent string
		want            bool
	}{
		{"", parent, true}, {"", unseen, false}, {"", "", true},
		{"always_off", parent, false}, {"parentbased_always_off", parent, true}, {"parentbased_always_off", "", false},
		{"always_on", unseen, true}, {"traceidratio", "", true},
	} {
		t.Run(tt.sampler+" "+tt.parent, func(t *testing.T) {
			c := newCollector(t)
			traces, _, end := begin(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_TRACES_SAMPLER": tt.sampler})
			fields := http.Header{}
			if tt.parent != "" {
				fields.Set("Traceparent", tt.parent)
			}
			e, sent := retried(traces, fields)
			end()
			if got := len(c.spans()) > 0; got != tt.want {
				t.Errorf("spans arrived: %v, want %v", got, tt.want)
			}
			flag := map[bool]string{true: "-01", false: "-00"}[tt.want]
			for _, h := range sent {
				if got := h.Get("Traceparent"); !strings.HasPrefix(got, "00-"+e.TraceID) || !strings.HasSuffix(got, flag) || got == tt.parent {
					t.Errorf("traceparent %q, want the call's trace %s and %s", got, e.TraceID, flag)
				}
			}
		})
	}
}

func TestWhatIsNoTraceparentBeginsATrace(t *testing.T) {
	c := newCollector(t)
	traces, _, _ := begin(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL})
	for name, lines := range map[string][]string{"none": nil, "nonsense": {"x"}, "zeros": {"00-00000000000000000000000000000000-00f067aa0ba902b7-01"}, "two": {parent, parent}} {
		e, sent := retried(traces, http.Header{"Traceparent": lines, "Tracestate": {"a=1"}})
		for _, h := range sent {
			if len(e.TraceID) != 32 || e.TraceID == traceID || len(h["Traceparent"]) != 1 || !strings.Contains(h.Get("Traceparent"), e.TraceID) || h["Tracestate"] != nil {
				t.Errorf("%s: trace %s went out as %v, want a new one and no tracestate", name, e.TraceID, h)
			}
		}
	}
}

func TestPropagatorsNoneLeaveTheFieldsAlone(t *testing.T) {
	c := newCollector(t)
	traces, _, _ := begin(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_PROPAGATORS": "none"})
	e, sent := retried(traces, http.Header{"Traceparent": {parent}, "Tracestate": {"a=1"}})
	for _, h := range sent {
		if e.TraceID == traceID || h.Get("Traceparent") != parent || h.Get("Tracestate") != "a=1" {
			t.Errorf("trace %s, fields %v; want a trace of its own and the caller's fields", e.TraceID, h)
		}
	}
}

func TestResourceIsWhatTheEnvironmentSays(t *testing.T) {
	t.Setenv("OTEL_SERVICE_NAME", "edge")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=other")
	c := newCollector(t)
	traces, _, end := begin(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL})
	retried(traces, nil)
	end()
	if got := values(c.got()[0].data.ResourceSpans[0].Resource.Attributes); got["service.name"] != "edge" || got["deployment.environment.name"] != "test" || got["telemetry.sdk.name"] != "opentelemetry" {
		t.Errorf("resource %v", got)
	}
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "no list")
	s, err := tracing.Read(environment(map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tracing.New(tracing.Config{Settings: s, Log: &book{}}); err == nil || !strings.Contains(err.Error(), "OTEL_RESOURCE_ATTRIBUTES") {
		t.Errorf("New = %v, want it to name the variable", err)
	}
}

func ExampleRead() {
	off, err := tracing.Read(func(string) (string, bool) { return "", false })
	fmt.Println(off == nil, err)
	// Output: true <nil>
}
