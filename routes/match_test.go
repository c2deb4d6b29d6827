package routes_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

const idp = "version: 1\ncredentials:\n  idp: {token_endpoint: https://idp.example/token, client_id: a, client_secret: {env: S}}\n"

// parse reads the routes of src behind a credential that takes any scope.
func parse(tb testing.TB, src string) *routes.Table {
	tb.Helper()
	table, err := routes.Parse("routes.yaml", []byte(idp+src), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

func TestTheFirstRouteThatMatchesDecides(t *testing.T) {
	table := parse(t, `routes:
  - {name: early, hosts: [a.contoso.com, "[::1]:8443"]}
  - {name: wide, hosts: ["*.contoso.com", "*.ports.example:8443"]}
  - {name: late, hosts: [b.contoso.com, contoso.com, "*.deep.example", "*.very.deep.example"]}
  - {name: last, hosts: ["*.very.deep.example", exact.very.deep.example]}
`)
	for in, want := range map[string]string{
		"a.contoso.com":           "early",
		"A.CONTOSO.COM.":          "early",
		"b.contoso.com":           "wide", // though named exactly further down
		"x.y.contoso.com":         "wide",
		"contoso.com":             "late", // a wildcard does not cover its suffix
		"xcontoso.com":            "",
		"a.contoso.com:8443":      "",
		"a.ports.example:8443":    "wide",
		"a.ports.example":         "",
		"[::1]:8443":              "early",
		"exact.very.deep.example": "late",
		"deep.example":            "",
		"unknown.example":         "",
		"a.contoso.com.evil.test": "",
	} {
		a, err := routes.ParseAuthority(in, 443)
		if err != nil {
			t.Fatal(err)
		}
		r, ok := table.Match(a)
		got := ""
		if ok {
			got = r.Name
		}
		if got != want || (r == nil) == ok {
			t.Errorf("Match(%s) = %q, %t, want %q", in, got, ok, want)
		}
	}
}

func TestTheLongestMountWinsOnSegmentBorders(t *testing.T) {
	table := parse(t, `routes:
  - {name: graph, hosts: [a.example]}
  - {name: beta, hosts: [b.example], mount: /graph/beta}
  - {name: wild, hosts: ["*.c.example"]}
`)
	for _, tt := range []struct{ path, name, rest string }{
		{"/graph", "graph", "/"},
		{"/graph/", "graph", "/"},
		{"/graph/v1.0/users", "graph", "/v1.0/users"},
		{"/graph//x/%2F/../y;z", "graph", "//x/%2F/../y;z"},
		{"/graph/beta", "beta", "/"},
		{"/graph/beta/x", "beta", "/x"},
		{"/graph/betas", "graph", "/betas"},
		{"/graphs", "", ""},
		{"/Graph", "", ""},
		{"/%67raph", "", ""},
		{"/", "", ""},
		{"", "", ""},
		{"graph", "", ""},
		{"/wild", "", ""},
		{"/.gateway/graph", "", ""},
		{"*", "", ""},
	} {
		r, rest, ok := table.Mounted(tt.path)
		name := ""
		if ok {
			name = r.Name
		}
		if name != tt.name || rest != tt.rest {
			t.Errorf("Mounted(%q) = %q, %q, want %q, %q", tt.path, name, rest, tt.name, tt.rest)
		}
	}
}

// large has a thousand routes, exact and wildcard.
func large(tb testing.TB) *routes.Table {
	tb.Helper()
	var b strings.Builder
	b.WriteString("routes:\n")
	for i := range 500 {
		fmt.Fprintf(&b, "  - {name: e%d, hosts: [api%d.contoso.com]}\n  - {name: w%d, hosts: [\"*.tenant%d.contoso.org\"]}\n", i, i, i, i)
	}
	return parse(tb, b.String())
}

func TestMatchingAllocatesNothing(t *testing.T) {
	table := large(t)
	exact, below := routes.Authority{Host: "api499.contoso.com", Port: 443}, routes.Authority{Host: "a.b.tenant499.contoso.org", Port: 443}
	n := testing.AllocsPerRun(100, func() {
		if _, ok := table.Match(exact); !ok {
			t.Error("no match for the exact host")
		}
		if _, ok := table.Match(below); !ok {
			t.Error("no match below the wildcard")
		}
		if _, _, ok := table.Mounted("/e499/v1.0/users"); !ok {
			t.Error("nothing mounted")
		}
	})
	if n != 0 {
		t.Errorf("matching allocates %v times, want 0", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	table := large(b)
	for name, a := range map[string]routes.Authority{
		"exact":    {Host: "api499.contoso.com", Port: 443},
		"wildcard": {Host: "a.b.tenant499.contoso.org", Port: 443},
		"none":     {Host: "unknown.example", Port: 443},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table.Match(a)
			}
		})
	}
}
