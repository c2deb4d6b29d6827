package audit_test

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
)

func session() *audit.Session {
	return &audit.Session{
		ID: "s1", Start: time.Date(2026, 11, 25, 9, 0, 0, 5e6, time.UTC), Name: "orders", Remote: "127.0.0.1:5",
		Caller: "reports", CallerHow: "api_key", Credential: "default", TokenSource: "cache",
		TokenExpires: time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC),
		App:          "app", Host: "pod\x1b[2J", Library: "lib", User: "reports", Server: "orders.example:1433", Database: "ordersdb",
		Version: "7.4", ClientTLS: "mandatory", TraceID: "guid", SPID: 51, Route: []string{"orders.example:1433", "node.example:11000"},
		Redirects: 1, Result: audit.LoginSuccess, MARS: true, Renewed: true,
		Phases: map[string]time.Duration{"token": time.Millisecond, "dial": 2 * time.Millisecond},
	}
}

// ended is the session's second record.
func ended() *audit.Session {
	s := session()
	s.End, s.Reason = s.Start.Add(2*time.Second), "client closed"
	s.BytesIn, s.BytesOut, s.Requests, s.Relogins = 10, 20, 3, 1
	return s
}

// refusedLogin is one that the server refused.
func refusedLogin() *audit.Session {
	s := session()
	s.Result, s.Number, s.Cause, s.Remedy = audit.LoginUpstreamRefused, 18456, "login failed", "create the user"
	return s
}

func TestSessionHasALineForItsLoginAndOneForItsEnd(t *testing.T) {
	var out bytes.Buffer
	log, err := audit.NewLog(&out, audit.LogConfig{Level: "info", Format: "json", Access: true})
	if err != nil {
		t.Fatal(err)
	}
	broken := session()
	broken.Result = audit.LoginInternal
	all := audit.SessionRecorders{log}
	for _, s := range []*audit.Session{session(), ended(), refusedLogin(), broken} {
		all.RecordSession(s)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []map[string]any{
		{"level": "info", "message": "sql login", "gateway.sql.session": "s1", "gateway.sql.name": "orders", "client.address": "127.0.0.1", "client.port": 5.0, "server.address": "orders.example", "server.port": 1433.0, "gateway.sql.result": "success", "gateway.caller": "reports",
			"gateway.sql.host": "pod%1B[2J", "db.namespace": "ordersdb", "gateway.sql.tds": "7.4", "gateway.sql.client_tls": "mandatory", "gateway.sql.client_connection_id": "guid", "gateway.sql.spid": 51.0,
			"gateway.sql.via": "orders.example:1433 node.example:11000", "gateway.token_ms": 1.0, "gateway.sql.dial_ms": 2.0, "gateway.sql.mars": true, "gateway.sql.token_renewed": true, "gateway.sql.read_only": nil, "gateway.sql.reason": nil},
		{"level": "info", "message": "sql session", "gateway.sql.reason": "client closed", "gateway.duration_ms": 2000.0, "gateway.sql.bytes_in": 10.0, "gateway.sql.bytes_out": 20.0, "gateway.sql.requests": 3.0, "gateway.sql.relogins": 1.0, "gateway.token_ms": nil},
		{"level": "warn", "message": "sql login", "gateway.sql.result": "upstream_refused", "db.response.status_code": "18456", "error.type": "upstream_refused", "cause": "login failed", "remedy": "create the user"},
		{"level": "error", "message": "sql login", "gateway.sql.result": "internal"},
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d: %s", len(lines), len(want), out.String())
	}
	for i, line := range lines {
		got := decode(t, line)
		for k, v := range want[i] {
			if got[k] != v {
				t.Errorf("line %d: %s = %v, want %v", i, k, got[k], v)
			}
		}
	}
}

func TestFailedLoginsAreLoggedWithoutAccessLinesToo(t *testing.T) {
	var out bytes.Buffer
	log, err := audit.NewLog(&out, audit.LogConfig{Level: "info", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	log.RecordSession(session())
	log.RecordSession(ended())
	if out.Len() > 0 {
		t.Errorf("access lines are off, and yet: %s", out.String())
	}
	log.RecordSession(refusedLogin())
	if !strings.Contains(out.String(), `"client.address":"127.0.0.1"`) {
		t.Errorf("a failed login: %q, want a line with the remote address", out.String())
	}
}

func TestTrailHasBothRecordsOfASession(t *testing.T) {
	out := &pipe{}
	trail, losses := newTrail(out)
	trail.RecordSession(session())
	trail.RecordSession(ended())
	trail.Close()
	lines := out.lines()
	if len(lines) != 2 {
		t.Fatalf("%d records, want 2: %q", len(lines), lines)
	}
	for i, want := range []map[string]any{
		{"kind": "audit", "gateway.door": "sql", "gateway.sql.event": "login", "time": "2026-11-25T09:00:00.005Z", "gateway.sql.result": "success", "gateway.caller": "reports", "gateway.sql.host": "pod%1B[2J"},
		{"kind": "audit", "gateway.door": "sql", "gateway.sql.event": "end", "gateway.sql.session": "s1", "gateway.sql.reason": "client closed", "gateway.sql.bytes_out": 20.0},
	} {
		got := decode(t, lines[i])
		for k, v := range want {
			if got[k] != v {
				t.Errorf("record %d: %s = %v, want %v", i, k, got[k], v)
			}
		}
	}
	trail.RecordSession(session())
	if lost, _ := losses.seen(); lost != 1 {
		t.Errorf("%d records lost, want the one after the end counted", lost)
	}
}

func TestSessionsAreCountedByWhatBecameOfThem(t *testing.T) {
	m := audit.NewMetrics("v1", func() audit.State { return audit.State{SQLSessions: 4, SQLBytesIn: 5, SQLBytesOut: 6} })
	scrape := func() string {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
	if body := scrape(); !strings.Contains(body, `gateway_sql_logins_total{result="upstream_tls"} 0`) {
		t.Error("results that did not happen yet are not there at zero")
	}
	m.RecordSession(session())
	m.RecordSession(ended())
	m.RecordSession(refusedLogin())
	odd := refusedLogin()
	odd.Number = 50001
	m.RecordSession(odd)
	m.SQLCounted("relogin", "kept")
	m.SQLCounted("renewal", "")
	body := scrape()
	for _, want := range []string{
		`gateway_sql_sessions 4`,
		`gateway_sql_bytes_total{direction="in"} 5`,
		`gateway_sql_bytes_total{direction="out"} 6`,
		`gateway_sql_logins_total{result="success"} 1`,
		`gateway_sql_logins_total{result="upstream_refused"} 2`,
		`gateway_sql_login_seconds_count{phase="dial"} 3`,
		`gateway_sql_login_seconds_count{phase="tls"} 0`,
		`gateway_sql_redirects_total 3`,
		`gateway_sql_token_renewals_total 4`,
		`gateway_sql_relogins_total{result="kept"} 1`,
		`gateway_sql_upstream_errors_total{number="18456"} 1`,
		`gateway_sql_upstream_errors_total{number="other"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}
