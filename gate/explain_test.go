package gate_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// drawn is a random file, and calls for it.
type drawn struct {
	*rand.Rand
	entries []string // of routes
	rest    string
	callers bool
}

func draw(seed uint64) *drawn {
	d := &drawn{Rand: rand.New(rand.NewPCG(seed, 8))}
	d.callers = d.IntN(3) > 0
	for i := range 1 + d.IntN(7) {
		d.entries = append(d.entries, d.route(i))
	}
	if d.callers {
		d.rest += "callers: {ci: {uid: 1, tenants: [a.com, b.com]}, job: {uid: 2}}\n"
	}
	d.rest += "egress:" + d.pick(" {default: deny}", " {default: tunnel}", "\n  default: deny\n  allow: [c.test, \"*.d.test\"]", " {allow: [c.test]}") + "\n"
	return d
}

func (d *drawn) pick(from ...string) string { return from[d.IntN(len(from))] }

func (d *drawn) route(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  - name: r%d\n    hosts: [%s]\n    scope: api://x/.default\n", i, d.pick("a.test", "b.test", "a.test, b.test", `"*.a.test"`, "x.a.test", `"*.test"`))
	some := func(odds int, key string, values ...string) {
		if d.IntN(odds) == 0 {
			fmt.Fprintf(&b, "    %s: %s\n", key, d.pick(values...))
		}
	}
	if d.callers {
		some(2, "callers", "[ci]", "[job]", "[ci, job]")
	}
	some(3, "paths", `["/p/**"]`, `["/p/{id}", "/q"]`, `["/**"]`)
	some(2, "allow", `[{methods: [GET]}]`, `[{paths: ["/p/**"]}]`, "\n      - {methods: [GET], paths: [\"/p/**\"]}\n      - {methods: [PUT], paths: [/q]}")
	some(6, "mode", "report")
	some(6, "mount", "/m", fmt.Sprintf("/m/%d", i), fmt.Sprintf("/r%d/x", i))
	some(5, "tenant", `{header: X-Tenant, allowed: [a.com]}`, `{path: "/t/{tenant}", allowed: [a.com]}`, "{by_caller: true}")
	return b.String()
}

// table reads the file without the routes that are left out.
func (d *drawn) table(without ...int) (*routes.Table, error) {
	text := head + "routes:\n"
	for i, e := range d.entries {
		left := false
		for _, w := range without {
			left = left || w == i
		}
		if !left {
			text += e
		}
	}
	return routes.Parse("routes.yaml", []byte(text+d.rest), os.LookupEnv)
}

func (d *drawn) target(t testing.TB, table *routes.Table, path string) gate.Target {
	path = d.pick("", "", "", "/t/a.com", "/t/c.com") + path
	x := onForward(t, d.pick("GET", "PUT", "POST")+" "+d.pick("a.test", "b.test", "x.a.test", "c.test", "e.d.test", "a.test:8443", "169.254.169.254")+path)
	if d.IntN(3) == 0 {
		x = onReverse(x.Method + " " + d.pick("/r0", "/r1", "/r2/x", "/m", "/m/1", "") + path)
	}
	switch d.IntN(3) {
	case 0:
		x.Header["X-Tenant"] = []string{"a.com"}
	case 1:
		x.Header["X-Tenant"] = []string{"b.com"}
	}
	x.Caller = table.Caller(d.pick("ci", "job", ""))
	return x
}

// sameVerdict compares a refusal with an error of the gate.
func sameVerdict(t *testing.T, what string, got *gate.Refusal, err error) {
	t.Helper()
	var want *gate.Refusal
	if err != nil && !errors.As(err, &want) {
		t.Fatalf("%s: the gate's error is a %T", what, err)
	}
	if (got == nil) != (want == nil) {
		t.Fatalf("%s: explained as %v, decided as %v", what, got, err)
	}
	if got != nil && (got.Code != want.Code || got.Detail != want.Detail || got.Remedy != want.Remedy || got.Cause != want.Cause) {
		t.Errorf("%s: explained as %+v, decided as %+v", what, got, want)
	}
}

// explains checks one random call at one random file, and tells whether the file
// could be read.
func explains(t *testing.T, seed uint64, path string) bool {
	d := draw(seed)
	table, err := d.table()
	if err != nil {
		return false
	}
	g, target := gate.New(table, keyed{}), d.target(t, table, path)
	what := fmt.Sprintf("seed %d, %s %s %s%s", seed, target.Door, target.Method, target.Authority, target.Path)

	ctx, event := stampable(t)
	pass, admitErr := g.Admit(ctx, target)
	ctx, explained := stampable(t)
	x := g.Explain(ctx, target)
	sameVerdict(t, what, x.Refusal, admitErr)
	if fmt.Sprintf("%+v", *event) != fmt.Sprintf("%+v", *explained) {
		t.Errorf("%s: the event is %+v explained, %+v decided", what, *explained, *event)
	}
	if x.Refusal == nil && (x.Pass.Route != pass.Route || x.Pass.Path != pass.Path || x.Pass.Rule != pass.Rule || x.Pass.Key != pass.Key || x.Pass.Denied != pass.Denied) {
		t.Errorf("%s: passes as %+v, decided %+v", what, x.Pass, pass)
	}
	if x.Decided.Why == "" || x.Decided.Line == 0 && !target.Authority.Metadata() || x.Decided.Line != 0 && table.Text(x.Decided.Line) == "" {
		t.Errorf("%s: decided at %+v", what, x.Decided)
	}
	for _, list := range [][]gate.Passed{x.PassedOver, x.Also, x.Tried} {
		for i, p := range list {
			if p.Why == "" || p.Line == 0 || i > 0 && p.Line < list[i-1].Line {
				t.Errorf("%s: %+v is not in the order of the file, with line and reason", what, list)
			}
		}
	}
	withoutRoute(t, what, d, target, x)

	way, at, err := g.Tunnel(t.Context(), target)
	gotWay, gotAt, tunneled := g.ExplainTunnel(t.Context(), target)
	sameVerdict(t, what+" by CONNECT", tunneled.Refusal, err)
	if way != gotWay || at != gotAt || tunneled.Decided.Why == "" {
		t.Errorf("%s: CONNECT leads %v to %v (%+v), decided %v to %v", what, gotWay, gotAt, tunneled.Decided, way, at)
	}
	through := g.ExplainThrough(t.Context(), target)
	sameVerdict(t, what+" passed through", through.Refusal, g.Through(t.Context(), target))
	if through.Decided.Why == "" {
		t.Errorf("%s: nothing decided about passing it through", what)
	}
	return true
}

// withoutRoute removes the route that took the call: then the next one that
// would have taken it does.
func withoutRoute(t *testing.T, what string, d *drawn, target gate.Target, x gate.Account) {
	t.Helper()
	if target.Door == audit.Reverse || x.Pass.Route == nil {
		return
	}
	index := func(r *routes.Route) (i int) {
		_, _ = fmt.Sscanf(r.Name, "r%d", &i)
		return i
	}
	at := index(x.Pass.Route)
	if n := len(x.PassedOver) + x.MorePassedOver; n != at {
		t.Errorf("%s: %d routes were passed over, and %d come before", what, n, at)
	}
	if len(d.entries) == 1 {
		return
	}
	rest, err := d.table(at)
	if err != nil {
		return // nothing else names the host, and egress does
	}
	if target.Caller != nil {
		target.Caller = rest.Caller(target.Caller.Name)
	}
	_, event, _ := noted(t, gate.New(rest, keyed{}), target)
	next := ""
	if len(x.Also) > 0 {
		next = x.Also[0].Route.Name
	}
	if event.Route != next && !(event.Route == "" && strings.Contains(x.Also[0].Why, "(bad_request)")) {
		t.Errorf("%s: %s took the call; also would %q, but without it %q does", what, x.Pass.Route.Name, next, event.Route)
	}
}

func TestExplainDecidesAsTheGateDoes(t *testing.T) {
	read := 0
	for seed := range uint64(1500) {
		if explains(t, seed, []string{"/p/1", "/q", "/p", "/p/../q", "/p%2f1", "/$batch"}[seed%6]) {
			read++
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if read < 400 {
		t.Errorf("only %d of 1500 files could be read", read)
	}
}

func FuzzExplainDecidesAsTheGateDoes(f *testing.F) {
	f.Add(uint64(1), "/p/1")
	f.Add(uint64(2), "/p//1")
	f.Fuzz(func(t *testing.T, seed uint64, path string) {
		if strings.HasPrefix(path, "/") && !strings.Contains(path, "?") {
			explains(t, seed, path)
		}
	})
}

func TestTenThousandRoutesAreExplainedAtOnceAndInBrief(t *testing.T) {
	var list strings.Builder
	for i := range 10_000 {
		host := fmt.Sprintf("h%d.test", i)
		if i%2 == 0 {
			host = "many.test"
		}
		fmt.Fprintf(&list, "  - {name: r%d, hosts: [%s], scope: api://x/.default, paths: [/p/%d]}\n", i, host, i)
	}
	g := gate.New(newWorld(t, list.String()).Table, keyed{})
	for _, tt := range []struct {
		call     string
		over, of int
	}{
		{"GET many.test/p/9998", 20, 9998},
		{"GET many.test/nowhere", 20, 4999}, // of the host, and one came nearest
		{"GET nobody.test/", 20, 10_000},
	} {
		began := time.Now()
		x := g.Explain(t.Context(), onForward(t, tt.call))
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %s to explain", tt.call, took)
		}
		if len(x.PassedOver) != tt.over || len(x.PassedOver)+x.MorePassedOver != tt.of {
			t.Errorf("%s: %d routes are told of, and %d more, want %d of %d", tt.call, len(x.PassedOver), x.MorePassedOver, tt.over, tt.of)
		}
		if strings.Contains(tt.call, "many") && !strings.HasPrefix(x.PassedOver[0].Why, "path differs") {
			t.Errorf("%s: routes of the host come first, not %+v", tt.call, x.PassedOver[0])
		}
	}
}

func TestALoginIsExplainedByTheLineThatSaysForWhomTheDoorIs(t *testing.T) {
	table, err := routes.Parse("routes.yaml", []byte(head+`callers:
  ci: {uid: 1}
  job: {uid: 2}
sql:
  - name: db
    listen: 127.0.0.1:1433
    server: x.database.windows.net
    callers: [ci]
`), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	g := gate.New(table, keyed{})
	for _, name := range []string{"ci", "job", ""} {
		_, err := g.SQL(t.Context(), table.SQL[0], table.Caller(name))
		x := g.ExplainSQL(t.Context(), table.SQL[0], table.Caller(name))
		sameVerdict(t, "login of "+name, x.Refusal, err)
		if want := (gate.Ground{Line: 12, Why: "the door db is for caller ci"}); x.Decided != want {
			t.Errorf("login of %q decided by %+v, want %+v", name, x.Decided, want)
		}
	}
}
