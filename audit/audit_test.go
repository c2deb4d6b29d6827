package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/seed-13b04e61/gateway/audit"
)

func event() *audit.Event {
	return &audit.Event{
		RequestID: "r1", Start: time.Now(), Door: audit.Reverse, Method: "GET", Host: "graph.microsoft.com:443",
		Path: "/v1.0/users", Remote: "127.0.0.1:5", Route: "graph", Credential: "default",
		TokenSource: "cache", Status: 200, Duration: 12 * time.Millisecond, Upstream: 10 * time.Millisecond,
		Retry: audit.Recovered, BytesOut: 7,
	}
}

func TestAccessLineIsOneJSONObject(t *testing.T) {
	var out bytes.Buffer
	log, err := audit.NewLog(&out, audit.LogConfig{Level: "info", Format: "json", Access: true})
	if err != nil {
		t.Fatal(err)
	}
	log.Record(event())
	refused := event()
	refused.Code, refused.Cause, refused.Remedy, refused.Status = "token_refused", "secret expired", "rotate it", 502
	log.Record(refused)
	remarked := event()
	remarked.Status, remarked.Retry, remarked.Remark, remarked.Remedy = 302, audit.SignInPage, "not authenticated", "add the application"
	log.Record(remarked)
	for _, e := range []audit.Event{{Status: 407, Asked: true}, {Status: 407}, {Status: 401, Asked: true}} {
		e.Code = "caller_unknown"
		log.Record(&e)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 6 {
		t.Fatalf("%d lines for 6 calls: %s", len(lines), out.String())
	}
	want := []map[string]any{
		{"level": "info", "message": "call", "gateway.route": "graph", "http.response.status_code": 200.0, "gateway.token.source": "cache", "gateway.retry": "recovered"},
		{"level": "warn", "error.type": "token_refused", "cause": "secret expired", "remedy": "rotate it", "http.response.status_code": 502.0},
		{"level": "info", "http.response.status_code": 302.0, "gateway.retry": "sign_in", "remark": "not authenticated", "remedy": "add the application"},
		{"level": "info", "error.type": "caller_unknown", "http.response.status_code": 407.0},
		{"level": "warn", "error.type": "caller_unknown", "http.response.status_code": 407.0},
		{"level": "warn", "error.type": "caller_unknown", "http.response.status_code": 401.0},
	}
	for i, line := range lines {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		for k, v := range want[i] {
			if got[k] != v {
				t.Errorf("line %d: %s = %v, want %v", i, k, got[k], v)
			}
		}
	}
}

func TestAccessLinesCanBeTurnedOffWhileRunning(t *testing.T) {
	var out bytes.Buffer
	log, err := audit.NewLog(&out, audit.LogConfig{Level: "info", Format: "json", Access: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Configure(audit.LogConfig{Level: "warn", Format: "json"}); err != nil {
		t.Fatal(err)
	}
	log.Record(event())
	log.Info("quiet")
	if out.Len() != 0 {
		t.Errorf("wrote %s", out.String())
	}
	if err := log.Configure(audit.LogConfig{Level: "loud"}); err == nil {
		t.Error("Configure took an unknown level")
	}
}

func TestMetricsFollowPrometheusRules(t *testing.T) {
	m := audit.NewMetrics("v1", func() audit.State {
		return audit.State{
			CacheEntries: 3, CacheBytes: 4096,
			Tokens: []audit.TokenState{{Credential: "default", Scope: "s/.default", Expires: time.Unix(1000, 0)}},
			Credentials: []audit.CredentialState{
				{Name: "default", Ready: true, Expires: time.Unix(2000, 0)},
				{Name: "secret", Fallback: true},
			},
		}
	})
	e := event()
	e.Code = "token_refused"
	m.Record(e)
	m.Lookup("cache")
	m.TokenRequest("default", "success", time.Second)
	m.Reloaded(true)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body := w.Body.String()
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "gateway_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	for _, want := range []string{
		`gateway_requests_total{caller="",code="200",door="reverse",route="graph"} 1`,
		`gateway_refusals_total{code="token_refused"} 1`,
		`gateway_retries_total{result="recovered",route="graph"} 1`,
		`gateway_token_lookups_total{source="cache"} 1`,
		`gateway_token_requests_total{credential="default",result="success"} 1`,
		`gateway_token_cache_entries 3`,
		`gateway_token_expiry_timestamp_seconds{credential="default",scope="s/.default"} 1000`,
		`gateway_credential_ready{credential="default"} 1`,
		`gateway_credential_expiry_timestamp_seconds{credential="default"} 2000`,
		`gateway_credential_fallback{credential="default"} 0`,
		`gateway_credential_ready{credential="secret"} 0`,
		`gateway_credential_fallback{credential="secret"} 1`,
		`gateway_config_last_reload_successful 1`,
		`gateway_build_info{`,
		`go_goroutines`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if without := `gateway_credential_expiry_timestamp_seconds{credential="secret"}`; strings.Contains(body, without) {
		t.Errorf("metrics hold %s for a credential without an end", without)
	}
	for _, s := range audit.AllSeries() {
		if !strings.Contains(body, "# TYPE "+s.Name+" "+s.Kind) {
			t.Errorf("metrics lack %s, a %s", s.Name, s.Kind)
		}
	}
}

func TestEventTravelsInTheContext(t *testing.T) {
	e := event()
	audit.From(audit.With(context.Background(), e)).Route = "other"
	if e.Route != "other" {
		t.Error("From returned another event than With was given")
	}
	audit.From(context.Background()).Route = "nobody reads this"
}

func ExampleLog() {
	log, err := audit.NewLog(os.Stdout, audit.LogConfig{Level: "info", Format: "json"})
	if err != nil {
		fmt.Println(err)
		return
	}
	log.Debug("not shown at this level")
	// Output:
}
