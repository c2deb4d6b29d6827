package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// sqlCounts are the counters of SQL doors that a test expects to have moved;
// every other of them has to be zero.
type sqlCounts map[string]float64

// judge compares every series of SQL doors but the sums of seconds, whose values
// nobody can know, and the bytes, with want.
func (want sqlCounts) judge(t *testing.T, g *gateway) {
	t.Helper()
	seen := map[string]bool{}
	body := must(t, g.client, request{url: "http://" + g.admin + "/metrics"}).body
	for line := range strings.Lines(body) {
		series, _, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || !strings.HasPrefix(series, "gateway_sql_") || strings.Contains(series, "_seconds_sum") || strings.Contains(series, "_bucket") || strings.Contains(series, "_bytes_") {
			continue
		}
		seen[series] = true
		name, labels, _ := strings.Cut(series, "{")
		if got := g.metric(t, name, strings.TrimSuffix(labels, "}")); got != want[series] {
			t.Errorf("%s = %v, want %v", series, got, want[series])
		}
	}
	for series := range want {
		if !seen[series] {
			t.Errorf("there is no series %s", series)
		}
	}
}

func TestMetricsOfDatabasesAreExact(t *testing.T) {
	t.Parallel()
	section, key := sqlKey(t, "reports")
	f := newSQLField(t, sqlSetup{sections: section, keys: ", callers: [reports], max_connections: 2"})
	login := func(user, password string) error {
		db := f.pool(t, user, password, "encrypt=disable")
		_, err := whoever(t.Context(), db)
		_ = db.Close()
		return err
	}
	refused := func(manners func(*sandbox.SQLManners)) {
		t.Helper()
		f.far.Set(manners)
		if login("reports", key) == nil {
			t.Error("a login that was to fail succeeded")
		}
		f.far.Set(func(m *sandbox.SQLManners) { *m = sandbox.SQLManners{} })
	}
	for range 3 {
		if err := login("reports", key); err != nil {
			t.Fatal(err)
		}
	}
	for _, pair := range [][2]string{{"reports", "wrong"}, {"nobody", key}} {
		if login(pair[0], pair[1]) == nil {
			t.Error("a wrong key is taken")
		}
	}
	refused(func(m *sandbox.SQLManners) { m.Refuse = &sandbox.SQLRefusal{Number: 40615} })
	refused(func(m *sandbox.SQLManners) { m.Refuse = &sandbox.SQLRefusal{Number: 12345} })
	refused(func(m *sandbox.SQLManners) { m.Encryption = sandbox.EncryptOff })
	first, second := f.pool(t, "reports", key, "encrypt=disable"), f.pool(t, "reports", key, "encrypt=disable")
	for _, db := range []interface{ Ping() error }{first, second} {
		if err := db.Ping(); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.g.metric(t, "gateway_sql_sessions"); n != 2 {
		t.Errorf("gateway_sql_sessions = %v with two open, want 2", n)
	}
	if err := login("reports", key); err == nil {
		t.Error("a third session beside the two that may be open")
	}
	_, _ = first.Close(), second.Close()
	eventually(t, "no session is open", func() bool { return f.g.metric(t, "gateway_sql_sessions") == 0 })
	want := sqlCounts{
		`gateway_sql_logins_total{result="success"}`: 5, `gateway_sql_logins_total{result="caller_unknown"}`: 2,
		`gateway_sql_logins_total{result="upstream_refused"}`: 2, `gateway_sql_logins_total{result="upstream_protocol"}`: 1,
		`gateway_sql_logins_total{result="overloaded"}`:     1,
		`gateway_sql_upstream_errors_total{number="40615"}`: 1,
		`gateway_sql_upstream_errors_total{number="other"}`: 1,
		`gateway_sql_login_seconds_count{phase="token"}`:    8,
		`gateway_sql_login_seconds_count{phase="dial"}`:     8,
		`gateway_sql_login_seconds_count{phase="prelogin"}`: 8,
		`gateway_sql_login_seconds_count{phase="tls"}`:      7,
		`gateway_sql_login_seconds_count{phase="login"}`:    7,
	}
	want.judge(t, f.g)
	f.judgeBytes(t, 5)
}

// judgeBytes compares the bytes of the metrics with those of the audit's records.
func (f *sqlField) judgeBytes(t *testing.T, sessions float64) {
	t.Helper()
	in, out := f.g.metric(t, "gateway_sql_bytes_total", `direction="in"`), f.g.metric(t, "gateway_sql_bytes_total", `direction="out"`)
	var records, sent, got float64
	for line := range strings.Lines(f.g.stdout.String()) {
		if strings.Contains(line, `"kind":"audit"`) && strings.Contains(line, `"gateway.sql.bytes_in"`) {
			records++
			sent, got = sent+number(line, "gateway.sql.bytes_in"), got+number(line, "gateway.sql.bytes_out")
		}
	}
	if records != sessions || in != sent || out != got || in == 0 {
		t.Errorf("%v sessions of the audit had %v bytes in and %v out; the metrics have %v and %v", records, sent, got, in, out)
	}
	if before := f.g.metric(t, "gateway_sql_redirects_total") + f.g.metric(t, "gateway_sql_token_renewals_total"); before != 0 {
		t.Errorf("redirects and renewals = %v, want none", before)
	}
}

// number is the value of a field of a line of JSON.
func number(line, field string) float64 {
	var fields map[string]any
	_ = json.Unmarshal([]byte(line), &fields)
	v, _ := fields[field].(float64)
	return v
}
