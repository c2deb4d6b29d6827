package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

// collector is the Collector's own OTLP receiver.
type collector struct {
	url  string
	sink *consumertest.TracesSink
}

func newCollector(t testing.TB) collector {
	t.Helper()
	c := collector{sink: &consumertest.TracesSink{}}
	free := httptest.NewServer(nil) // whose address nobody has afterwards
	address := free.Listener.Addr().String()
	free.Close()
	factory := otlpreceiver.NewFactory()
	cfg := factory.CreateDefaultConfig()
	conf := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{"http": map[string]any{"endpoint": address}}})
	if err := conf.Unmarshal(cfg); err != nil {
		t.Fatal(err)
	}
	r, err := factory.CreateTraces(t.Context(), receivertest.NewNopSettings(factory.Type()), cfg, c.sink)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Shutdown(t.Context()); err != nil {
			t.Log(err)
		}
	})
	c.url = "http://" + address
	return c
}

// span is one of a trace, with its attributes in words.
type span struct {
	ptrace.Span
	words map[string]string
}

// trace are the spans of one trace that arrived, the call's own first, and then
// as they began.
func (c collector) trace(id string) (spans []span) {
	for _, all := range c.sink.AllTraces() {
		for _, r := range all.ResourceSpans().All() {
			for _, s := range r.ScopeSpans().All() {
				for _, one := range s.Spans().All() {
					if one.TraceID().String() != id {
						continue
					}
					words := map[string]string{}
					for name, value := range one.Attributes().All() {
						words[name] = value.AsString()
					}
					spans = append(spans, span{one, words})
				}
			}
		}
	}
	slices.SortStableFunc(spans, func(a, b span) int {
		if first := a.Kind() == ptrace.SpanKindServer; first != (b.Kind() == ptrace.SpanKindServer) {
			return map[bool]int{true: -1, false: 1}[first]
		}
		return a.StartTimestamp().AsTime().Compare(b.StartTimestamp().AsTime())
	})
	return spans
}

// everything that arrived, as bytes.
func (c collector) everything(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for _, all := range c.sink.AllTraces() {
		text, err := (&ptrace.JSONMarshaler{}).MarshalTraces(all)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}

const theirSpan = "00f067aa0ba902b7"

// traceparent is one of the nth call, sampled or not.
func traceparent(n int, flags string) (id string, h http.Header) {
	id = fmt.Sprintf("4bf92f3577b34da6a3ce929d0e0e%04x", n)
	return id, http.Header{"Traceparent": {"00-" + id + "-" + theirSpan + "-" + flags}, "Tracestate": {"vendor=1"}}
}

func TestCallsOfAllDoorsArriveAtACollector(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	w := newWorld(t, sandbox.Options{})
	s := graphSetup(w, "intercept: {ca_dir: ca}\n")
	s.Config = strings.Replace(s.Config, "    upstream:", "    allow: [{methods: [GET], paths: [\"/v1.0/users/**\"]}]\n    upstream:", 1)
	s.Env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url, "OTEL_EXPORTER_OTLP_HEADERS=api-key=key-of-the-collector", "OTEL_SERVICE_NAME=edge",
		"OTEL_BSP_SCHEDULE_DELAY=100"}
	g := start(t, s)
	g.ready(t)
	forward := newClient(&url.URL{Scheme: "http", Host: g.proxy})
	defer forward.CloseIdleConnections()
	tunnel := g.tunnelClient(t, true)
	defer tunnel.CloseIdleConnections()
	const query = "?$top=1&secret=query-value"
	calls := []struct {
		name   string
		client *http.Client
		url    string
		before func()
		status int
		spans  string // names, in order
	}{
		{"reverse", g.client, g.url("/graph/v1.0/users") + query, func() {}, 200, "GET /v1.0/users/** gate token upstream"},
		{"forward", forward, "http://graph.microsoft.com/v1.0/users" + query, func() {}, 200, "GET /v1.0/users/** gate token upstream"},
		{"tunnel", tunnel, "https://graph.microsoft.com/v1.0/users" + query, func() {}, 200, "GET /v1.0/users/** gate token upstream"},
		{"retried", g.client, g.url("/graph/v1.0/users") + query, w.Graph.RevokeTokens, 200, "GET /v1.0/users/** gate token upstream token upstream"},
		{"refused", g.client, g.url("/graph/v1.0/me") + query, func() {}, 403, "GET graph gate"},
		{"waited", g.client, g.url("/graph/v1.0/users") + query, func() {
			if out, code := g.command(t, "purge", "--admin", g.admin); code != 0 {
				t.Fatal(out)
			}
		}, 200, "GET /v1.0/users/** gate token upstream"},
	}
	ids := map[string]string{}
	for n, tt := range calls {
		tt.before()
		id, header := traceparent(n, "01")
		ids[tt.name] = id
		header.Set("Authorization", "Bearer header-value")
		if a := must(t, tt.client, request{url: tt.url, header: header}); a.status != tt.status {
			t.Fatalf("%s: status %d: %.300s", tt.name, a.status, a.body)
		}
	}
	own := must(t, g.client, request{url: g.url("/graph/v1.0/users")}) // without a traceparent
	unseen, header := traceparent(len(calls), "00")
	must(t, g.client, request{url: g.url("/graph/v1.0/users"), header: header})
	g.end(t) // which sends the rest
	for _, tt := range calls {
		spans := c.trace(ids[tt.name])
		var names []string
		for _, s := range spans {
			names = append(names, s.Name())
		}
		if got := strings.Join(names, " "); got != tt.spans {
			t.Errorf("%s: spans %q, want %q", tt.name, got, tt.spans)
			continue
		}
		root := spans[0]
		if root.ParentSpanID().String() != theirSpan || root.words["http.response.status_code"] != fmt.Sprint(tt.status) || root.words["gateway.route"] != "graph" {
			t.Errorf("%s: the call's span is %v of %s", tt.name, root.words, root.ParentSpanID())
		}
		for _, child := range spans[1:] {
			if child.ParentSpanID() != root.SpanID() {
				t.Errorf("%s: %s is no child of the call's span", tt.name, child.Name())
			}
		}
	}
	if got := c.trace(ids["waited"]); len(got) == 4 && got[2].words["gateway.token.source"] != "identity_provider" {
		t.Errorf("a token that was waited for: %v", got[2].words)
	}
	if got := c.trace(ids["retried"]); len(got) == 6 && (got[0].words["gateway.retry"] != "recovered" || got[3].words["http.response.status_code"] != "401" || got[5].words["http.request.resend_count"] != "1") {
		t.Errorf("a call that was retried: %v, %v, %v", got[0].words, got[3].words, got[5].words)
	}
	if got := c.trace(unseen); len(got) != 0 {
		t.Errorf("a caller that samples nothing: %d spans", len(got))
	}
	c.judgeOwn(t, g, own.header.Get("Gateway-Request-Id"))
	all := c.everything(t) + g.stdout.String() + g.stderr.String()
	for _, secret := range []string{w.Secret(), "query-value", "header-value", "key-of-the-collector", "eyJ"} {
		if strings.Contains(all, secret) {
			t.Errorf("spans or the log hold %q", secret)
		}
	}
	if !strings.Contains(c.everything(t), `"stringValue":"edge"`) {
		t.Error("spans do not have the service's name")
	}
}

// judgeOwn looks for the trace of a call that came without one, by the access
// line.
func (c collector) judgeOwn(t testing.TB, g *gateway, requestID string) {
	t.Helper()
	for line := range strings.Lines(g.stdout.String()) {
		if !strings.Contains(line, requestID) || !strings.Contains(line, `"message":"call"`) {
			continue
		}
		_, rest, _ := strings.Cut(line, `"trace_id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		if spans := c.trace(id); len(spans) != 4 || !strings.Contains(line, `"span_id":"`+spans[0].SpanID().String()+`"`) {
			t.Errorf("trace %q of %s has %d spans", id, line, len(spans))
		}
		return
	}
	t.Error("the call has no access line")
}

func TestUpstreamGetsTheTryAsParent(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	w := newWorld(t, sandbox.Options{})
	for name, env := range map[string][]string{"on": {"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url}, "off": nil} {
		t.Run(name, func(t *testing.T) {
			var seen []http.Header
			upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = append(seen, r.Header) }))
			defer upstream.Close()
			s := graphSetup(w, "")
			s.Config = strings.Replace(s.Config, "upstream: "+w.Graph.URL(), "upstream: "+upstream.URL, 1)
			s.Env = env
			g := start(t, s)
			g.ready(t)
			id, header := traceparent(99, "01")
			must(t, g.client, request{url: g.url("/graph/v1.0/users"), header: header})
			g.end(t)
			if len(seen) != 1 {
				t.Fatalf("%d calls arrived", len(seen))
			}
			got, state := seen[0].Get("Traceparent"), seen[0].Get("Tracestate")
			want := header.Get("Traceparent")
			if name == "on" {
				spans := c.trace(id)
				if len(spans) != 4 {
					t.Fatalf("%d spans", len(spans))
				}
				want = "00-" + id + "-" + spans[3].SpanID().String() + "-01"
			}
			if got != want || state != "vendor=1" {
				t.Errorf("the upstream got traceparent %q and tracestate %q, want %q and the caller's", got, state, want)
			}
		})
	}
}

func TestCollectorThatIsAwayCostsNoCall(t *testing.T) {
	t.Parallel()
	nobody := httptest.NewServer(nil)
	nobody.Close()
	w := newWorld(t, sandbox.Options{})
	s := graphSetup(w, "")
	s.Env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + nobody.URL, "OTEL_EXPORTER_OTLP_TIMEOUT=500", "OTEL_BSP_SCHEDULE_DELAY=50"}
	g := start(t, s)
	g.ready(t)
	for range 20 {
		if a := must(t, g.client, request{url: g.url("/graph/v1.0/users")}); a.status != http.StatusOK {
			t.Fatalf("status %d: %.300s", a.status, a.body)
		}
	}
	eventually(t, "the log says what was lost", func() bool { return strings.Contains(g.stdout.String(), "spans were lost; calls go on") })
	g.end(t)
	if told := g.stdout.String(); strings.Count(told, "spans were lost") != 1 || !strings.Contains(told, "connection refused") || !strings.Contains(told, "4317 is gRPC's") || g.err != nil {
		t.Errorf("the end: %v; the log does not tell of the loss once, with cause and remedy", g.err)
	}
}

func TestProtocolThatIsNotTakenRefusesToStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Options{})
	s := graphSetup(w, "")
	g := start(t, s)
	g.cmd.Env = append(g.cmd.Env, "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	if out, code := g.command(t, "serve"); code != 1 || !strings.Contains(out, "refusing to start: traces: OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\"; set http/protobuf") {
		t.Errorf("serve: exit %d, %s", code, out)
	}
}
