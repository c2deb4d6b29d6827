package routes_test

import (
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

const placed = `version: 1
credentials:
  default: {tenant_id: contoso.com, client_id: gw, client_secret: {env: WORD}}
callers:
  ci: {uid: 7}
routes:
  - name: one
    hosts: [one.test]
    scope: one/.default
    callers: [ci]
    mode: report
    allow:
      - {methods: [GET]}
egress:
  default: tunnel
  allow: [a.test,
    "*.b.test"]
  proxy: {url: http://corp:3128, username: gw, password: {exec: [/bin/word, hunter2]}}
sql:
  - {name: db, listen: 127.0.0.1:1433, server: db.database.windows.net, callers: [ci]}
`

func TestLinesOfTheFileAreKnownAndShownWithoutSecrets(t *testing.T) {
	table, err := routes.Parse("routes.yaml", []byte(placed), func(string) (string, bool) { return "x", true })
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int{
		"callers": 4, "routes": 6, "egress": 14, "egress.default": 15, "egress.allow": 16, "egress.allow[0]": 16, "egress.allow[1]": 17, "sql": 19, "intercept": 0,
	} {
		if got := table.LineOf(key); got != want {
			t.Errorf("LineOf(%s) = %d, want %d", key, got, want)
		}
	}
	if got, want := table.Routes[0].Lines, (routes.Lines{Hosts: 8, Callers: 10, Mode: 11, Allow: 12}); got != want {
		t.Errorf("lines of the route = %+v, want %+v", got, want)
	}
	if got := table.SQL[0].Lines.Callers; got != 20 {
		t.Errorf("callers of the door are at line %d, want 20", got)
	}
	for line, want := range map[int]string{8: "hosts: [one.test]", 13: "- {methods: [GET]}", 0: "", 99: ""} {
		if got := table.Text(line); got != want {
			t.Errorf("Text(%d) = %q, want %q", line, got, want)
		}
	}
	if got := table.Text(18); strings.Contains(got, "hunter2") || !strings.HasPrefix(got, "proxy: {url: http://corp:3128") {
		t.Errorf("Text(18) = %q, which shows a secret or nothing", got)
	}
}

func TestLinesShowNeitherValuesOfHeaderFieldsNorPasswordsOfURLs(t *testing.T) {
	const head = "version: 1\ncredentials:\n  default: {tenant_id: contoso.com, client_id: gw, client_secret: {env: WORD}}\n"
	table, err := routes.Parse("routes.yaml", []byte(head+`routes:
  - {name: a, hosts: [a.test], scope: s/.default, set_headers: {x-code: hunter2, x-sid: "sid=hunter2"}, retry: {replay: 1KiB}}
  - name: b
    hosts: [b.test]
    scope: s/.default
    set_headers:
      x-code: hunter2
    upstream: https://10.0.0.7:8443   # ask ops@contoso.com
`), func(string) (string, bool) { return "x", true })
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[int]string{
		5:  "- {name: a, hosts: [a.test], scope: s/.default, set_headers: {x-code: •••, x-sid: •••, retry: {replay: 1KiB}}",
		10: "x-code: •••",
		11: "upstream: https://10.0.0.7:8443   # ask ops@contoso.com",
	} {
		if got := table.Text(line); got != want {
			t.Errorf("Text(%d) = %q, want %q", line, got, want)
		}
	}
	for _, url := range []string{"https://gw:p@hunter2@corp", "https://gw:p/hunter2@corp", "https://gw:hunter2@corp", "https://hunter2@corp"} {
		text := head + "routes:\n  - {name: a, hosts: [a.test], scope: s/.default, upstream: \"" + url + "\"}\n"
		if _, err := routes.Parse("routes.yaml", []byte(text), nil); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want a mistake that shows no password", url, err)
		}
	}
}

func TestEntryOfEgressThatPassesAHostIsNamed(t *testing.T) {
	table, err := routes.Parse("routes.yaml", []byte(placed), func(string) (string, bool) { return "x", true })
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		host  string
		port  uint16
		entry int
		ok    bool
	}{{"a.test", 443, -1, true}, {"a.test", 8443, -1, false}, {"elsewhere.test", 443, -1, true}} {
		if entry, ok := table.Egress.PassedBy(routes.Authority{Host: tt.host, Port: tt.port}); entry != tt.entry || ok != tt.ok {
			t.Errorf("PassedBy(%s:%d) = %d, %v, want %d, %v", tt.host, tt.port, entry, ok, tt.entry, tt.ok)
		}
	}
	table.Egress.Tunnel = false
	if entry, ok := table.Egress.PassedBy(routes.Authority{Host: "x.b.test", Port: 443}); entry != 1 || !ok {
		t.Errorf("PassedBy(x.b.test) = %d, %v, want 1, true", entry, ok)
	}
}
