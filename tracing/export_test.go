package tracing_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/tracing"
	"google.golang.org/protobuf/encoding/protowire"
)

// one is a call of one span.
func one(t *tracing.Traces) {
	e := &audit.Event{Start: time.Now(), Method: "GET", Route: "graph", Status: 200}
	t.Start(e, httptest.NewRequest("GET", "/", nil)).End(e)
}

func TestHeadersAndCompressionAreAsSet(t *testing.T) {
	c := newCollector(t)
	traces, log, end := begin(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_HEADERS": "api-key=s%20e=cret, x-scope = a", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
	})
	one(traces)
	end()
	got := c.got()
	if len(got) != 1 || got[0].path != "/v1/traces" || got[0].header.Get("Api-Key") != "s e=cret" || got[0].header.Get("X-Scope") != "a" ||
		got[0].header.Get("Content-Type") != "application/x-protobuf" || got[0].header.Get("Content-Encoding") != "gzip" {
		t.Errorf("batches %v", got)
	}
	if strings.Contains(log.String(), "cret") {
		t.Errorf("the log shows a header: %s", log)
	}
}

func TestBatchIsSentAgainAfterWhatMayPass(t *testing.T) {
	c := newCollector(t, answer{status: 503}, answer{status: 429, header: http.Header{"Retry-After": {"0"}}})
	traces, log, end := begin(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL})
	one(traces)
	end()
	if n := len(c.got()); n != 3 || strings.Contains(log.String(), "lost") {
		t.Errorf("%d batches, want 3, and nothing lost: %s", n, log)
	}
}

func TestLossIsToldWithCauseAndRemedy(t *testing.T) {
	nobody := httptest.NewServer(nil)
	nobody.Close()
	rejected := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
	rejected = protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), rejected)[:]
	rejected = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), rejected[2:])
	elsewhere := newCollector(t)
	for name, tt := range map[string]struct {
		answer        answer
		endpoint      string
		cause, remedy string
	}{
		"nobody there":  {endpoint: nobody.URL, cause: "connection refused", remedy: "4318 by default (4317 is gRPC's)"},
		"no key":        {answer: answer{status: 401, body: []byte("said-by-a-stranger")}, cause: "answered 401", remedy: "OTEL_EXPORTER_OTLP_HEADERS; names that are set: [Api-Key]"},
		"another path":  {answer: answer{status: 404}, cause: "answered 404", remedy: "/v1/traces is added"},
		"moved":         {answer: answer{status: 307, header: http.Header{"Location": {elsewhere.URL}}}, cause: "answered 307", remedy: "redirects are not followed"},
		"a bad request": {answer: answer{status: 400}, cause: "answered 400", remedy: "the collector's log"},
		"one rejected":  {answer: answer{status: 200, body: rejected}, cause: "rejected", remedy: ""},
		"no TLS there":  {answer: answer{status: 200}, endpoint: "https", cause: "", remedy: "http://"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCollector(t, tt.answer)
			endpoint := c.URL
			if tt.endpoint != "" {
				endpoint = tt.endpoint
			}
			if endpoint == "https" {
				endpoint = strings.Replace(c.URL, "http:", "https:", 1)
			}
			traces, log, end := begin(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_HEADERS": "api-key=hidden", "OTEL_EXPORTER_OTLP_TIMEOUT": "1000"})
			one(traces)
			end()
			told := log.String()
			if !strings.Contains(told, "warn spans were lost; calls go on [gateway.traces.lost 1 ") || !strings.Contains(told, tt.cause) || !strings.Contains(told, tt.remedy) ||
				strings.Contains(told, "hidden") || strings.Contains(told, "stranger") || log.lost != 1 {
				t.Errorf("the log says %s, %d counted; want %q and %q", told, log.lost, tt.cause, tt.remedy)
			}
		})
	}
	if n := len(elsewhere.got()); n > 0 {
		t.Errorf("a redirect was followed with %d batches", n)
	}
}

func TestSpansBeyondTheQueueAreToldAndCounted(t *testing.T) {
	arrived, over := make(chan struct{}, 8), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-over
	}))
	defer slow.Close()
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1") // which the SDK reads
	traces, log, end := begin(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": slow.URL, "OTEL_BSP_MAX_QUEUE_SIZE": "4"})
	one(traces)
	<-arrived // the collector holds the first, and the queue is empty
	for range 7 {
		one(traces)
	}
	told := log.String()
	if strings.Count(told, "spans were lost") != 1 || !strings.Contains(told, "the queue of spans is full") || !strings.Contains(told, "raise OTEL_BSP_MAX_QUEUE_SIZE") {
		t.Errorf("the log says %s", told)
	}
	close(over)
	end()
	if log.lost != 3 {
		t.Errorf("%d spans are counted as lost, want 3: seven for a queue of four", log.lost)
	}
}

func TestCollectorsCertificateIsVerified(t *testing.T) {
	seen := make(chan string, 8)
	c := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.URL.Path }))
	defer c.Close()
	traces, log, end := begin(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_TIMEOUT": "8000"})
	one(traces)
	end()
	if told := log.String(); !strings.Contains(told, "OTEL_EXPORTER_OTLP_CERTIFICATE") || len(seen) > 0 {
		t.Errorf("a collector that nobody vouches for: %d batches, and the log says %s", len(seen), told)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	traces, log, end = begin(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_CERTIFICATE": ca})
	one(traces)
	end()
	if len(seen) != 1 || strings.Contains(log.String(), "lost") {
		t.Errorf("%d batches at a collector that is trusted: %s", len(seen), log)
	}
}

func TestKeysInClearTextAreWarnedOf(t *testing.T) {
	for endpoint, want := range map[string]bool{"http://collector.example:4318": true, "https://collector.example": false, "http://localhost:4318": false, "http://[::1]:4318": false} {
		_, log, _ := begin(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_HEADERS": "api-key=hidden"})
		if got := strings.Contains(log.String(), "clear text"); got != want || strings.Contains(log.String(), "hidden") {
			t.Errorf("%s: warned %v, want %v: %s", endpoint, got, want, log)
		}
	}
}
