package audit_test

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
)

// fullest is a call with every field.
func fullest() *audit.Event {
	e := event()
	e.TraceID, e.SpanID, e.Caller, e.CallerHow, e.Rule, e.Template = "4bf9", "00f0", "reports-job", "api_key", 14, "/v1.0/users/{id}"
	e.Tenant, e.WouldDeny, e.TokenID, e.UpstreamRequest = "contoso.onmicrosoft.com", "no rule allows it", "uti-1", "up-1"
	e.Code, e.Cause, e.Remark, e.Remedy = "internal", "cause", "remark", "remedy"
	return e
}

// TestFieldsAreThoseOfTheTable compares lines that have everything with what the
// reference says of them.
func TestFieldsAreThoseOfTheTable(t *testing.T) {
	var out bytes.Buffer
	log, err := audit.NewLog(&out, audit.LogConfig{Level: "info", Format: "json", Access: true})
	if err != nil {
		t.Fatal(err)
	}
	records := &pipe{}
	trail, _ := newTrail(records)
	login := refusedLogin()
	login.ReadOnly = true
	login.Phases = map[string]time.Duration{"token": 1, "dial": 1, "prelogin": 1, "tls": 1, "login": 1}
	log.Record(fullest())
	trail.Record(fullest())
	for _, s := range []*audit.Session{login, ended()} {
		log.RecordSession(s)
		trail.RecordSession(s)
	}
	trail.Close()
	lines := append(strings.Split(strings.TrimSpace(out.String()), "\n"), records.lines()...)
	if len(lines) != 6 {
		t.Fatalf("%d lines, want 6: %q", len(lines), lines)
	}
	got := map[string]map[string]any{"c": {}, "r": {}, "s": {}}
	for i, kind := range []string{"c", "s", "s", "r", "s", "s"} {
		maps.Copy(got[kind], decode(t, lines[i]))
	}
	for kind, fields := range got {
		var want []string
		for _, f := range audit.Fields() {
			if strings.Contains(f.In, kind) {
				want = append(want, f.Name)
			}
		}
		slices.Sort(want)
		if have := slices.Sorted(maps.Keys(fields)); !slices.Equal(have, want) {
			t.Errorf("lines of kind %s have %q, the table says %q", kind, have, want)
		}
	}
	for _, f := range audit.Fields() {
		for kind, fields := range got {
			if v, ok := fields[f.Name]; ok && !strings.HasPrefix(f.Type, jsonType(v)) && f.Type != "time" {
				t.Errorf("%s of %s is %v, the table says %s", f.Name, kind, v, f.Type)
			}
		}
	}
}

func jsonType(v any) string {
	switch v.(type) {
	case float64:
		return "number"
	case bool:
		return "true"
	}
	return "string"
}

// A name that is also the beginning of another cannot be indexed as an object.
func TestNoFieldIsTheBeginningOfAnother(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range audit.Fields() {
		if seen[f.Name] {
			t.Errorf("%s stands twice in the table", f.Name)
		}
		seen[f.Name] = true
		for _, other := range audit.Fields() {
			if strings.HasPrefix(other.Name, f.Name+".") {
				t.Errorf("%s is the beginning of %s", f.Name, other.Name)
			}
		}
		for _, letter := range f.In {
			if !slices.ContainsFunc(audit.Lines(), func(l audit.LineKind) bool { return l.Letter == string(letter) }) {
				t.Errorf("%s is in lines %q, which there are none of", f.Name, letter)
			}
		}
	}
}

func TestAddressesAreWrittenInParts(t *testing.T) {
	for at, want := range map[string][2]any{
		"graph.microsoft.com:443": {"graph.microsoft.com", 443.0},
		"[::1]:8080":              {"::1", 8080.0},
		"[fe80::1%25eth0]:1":      {"fe80::1%25eth0", 1.0},
		"::1":                     {"::1", nil},
		"unix":                    {"unix", nil},
		"host:":                   {"host:", nil},
		"host:https":              {"host:https", nil},
		"host:70000":              {"host:70000", nil},
		"[::1":                    {"[::1", nil},
		"a:b:1":                   {"a:b:1", nil},
		"":                        {nil, nil},
	} {
		var out bytes.Buffer
		log, err := audit.NewLog(&out, audit.LogConfig{Level: "info", Format: "json", Access: true})
		if err != nil {
			t.Fatal(err)
		}
		log.Record(&audit.Event{Host: at, Remote: at})
		log.Warn("said", "server.address", at, "remedy", "none", "client.address", at)
		for line := range strings.Lines(out.String()) {
			got := decode(t, line)
			for _, side := range []string{"client", "server"} {
				if got[side+".address"] != want[0] || got[side+".port"] != want[1] {
					t.Errorf("%q is written as %s", at, line)
				}
			}
			if got["message"] == "said" && got["remedy"] != "none" {
				t.Errorf("a message lost its remedy: %s", line)
			}
		}
	}
}
