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

// names lists the candidates for a host, at most so many.
func names(table *routes.Table, host string, most int) []string {
	var out []string
	a, err := routes.ParseAuthority(host, 443)
	if err != nil {
		return []string{err.Error()}
	}
	for r := range table.Candidates(a) {
		if out = append(out, r.Name); len(out) == most {
			break
		}
	}
	return out
}

func TestCandidatesComeInTheOrderOfTheFile(t *testing.T) {
	table := parse(t, `routes:
  - {name: late-suffix, hosts: ["*.deep.contoso.com"]}
  - {name: exact, hosts: [a.deep.contoso.com, a.deep.contoso.com], paths: [/x]}
  - {name: other, hosts: [b.contoso.com]}
  - {name: wide, hosts: ["*.contoso.com", a.deep.contoso.com]}
  - {name: port, hosts: ["a.deep.contoso.com:8443"]}
  - {name: exact-too, hosts: [b.contoso.com, a.deep.contoso.com]}
  - {name: wide-too, hosts: ["*.contoso.com"]}
`)
	for host, want := range map[string]string{
		"a.deep.contoso.com":      "late-suffix exact wide exact-too wide-too",
		"x.y.deep.contoso.com":    "late-suffix wide wide-too",
		"b.contoso.com":           "other wide exact-too wide-too",
		"a.deep.contoso.com:8443": "port",
		"deep.contoso.com":        "wide wide-too",
		"contoso.com":             "",
		"unknown.example":         "",
	} {
		if got := strings.Join(names(table, host, -1), " "); got != want {
			t.Errorf("Candidates(%s) = %s, want %s", host, got, want)
		}
		if got, first := names(table, host, 1), strings.Fields(want); len(first) > 0 && (len(got) != 1 || got[0] != first[0]) {
			t.Errorf("first of Candidates(%s) = %s, want %s", host, got, first[0])
		}
	}
}

// crowded has n routes for one host, each for a caller of its own, and as many
// for hosts of their own.
func crowded(tb testing.TB, n int) *routes.Table {
	tb.Helper()
	var b strings.Builder
	b.WriteString("callers:\n")
	for i := range n {
		fmt.Fprintf(&b, "  c%d: {uid: %d}\n", i, i)
	}
	b.WriteString("routes:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {name: r%d, hosts: [api.contoso.com], callers: [c%d], paths: [\"/t%d/**\"]}\n  - {name: own%d, hosts: [a%d.contoso.com]}\n", i, i, i, i, i)
	}
	return parse(tb, b.String())
}

func TestTakingACandidateAllocatesNothing(t *testing.T) {
	table := crowded(t, 500)
	a := routes.Authority{Host: "api.contoso.com", Port: 443}
	n := testing.AllocsPerRun(100, func() {
		for r := range table.Candidates(a) {
			if r.Name != "r0" {
				t.Error("the first is not the first of the file")
			}
			break
		}
		last := ""
		for r := range table.Candidates(a) {
			last = r.Name
		}
		if last != "r499" {
			t.Error("the last is not the last of the file")
		}
	})
	if n != 0 {
		t.Errorf("Candidates() allocates %v times, want 0", n)
	}
}

func BenchmarkCandidates(b *testing.B) {
	for _, n := range []int{10, 5000} {
		table := crowded(b, n)
		for name, host := range map[string]string{"own": fmt.Sprintf("a%d.contoso.com", n-1), "shared": "api.contoso.com", "none": "unknown.example"} {
			a := routes.Authority{Host: host, Port: 443}
			b.Run(fmt.Sprintf("%s of %d", name, 2*n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					for r := range table.Candidates(a) {
						if r != nil {
							break
						}
					}
				}
			})
		}
	}
}

func ExampleTable_Candidates() {
	table, err := routes.Parse("routes.yaml", []byte(`version: 1
credentials:
  default: {token_endpoint: https://idp.example/token, client_id: a, client_secret: {env: S}}
callers:
  reports: {uid: 1001}
  backup: {uid: 1002}
routes:
  - {name: for-reports, hosts: [api.contoso.com], callers: [reports], paths: ["/reports/**"]}
  - {name: for-all, hosts: ["*.contoso.com"]}
`), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("caller:", table.Caller("reports").Name)
	for r := range table.Candidates(routes.Authority{Host: "api.contoso.com", Port: 443}) {
		fmt.Println(r.Name, r.Paths)
	}
	// Output:
	// caller: reports
	// for-reports [/reports/**]
	// for-all []
}

func ExampleIsTenant() {
	for _, id := range []string{"contoso.onmicrosoft.com", "8a8a8a8a-1111-2222-3333-444444444444", "common", "../contoso.com"} {
		fmt.Println(id, routes.IsTenant(id))
	}
	// Output:
	// contoso.onmicrosoft.com true
	// 8a8a8a8a-1111-2222-3333-444444444444 true
	// common false
	// ../contoso.com false
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
