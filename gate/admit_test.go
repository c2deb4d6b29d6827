package gate_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

const shared = `  - {name: admin, hosts: [api.corp.test], scope: admin/.default, credential: other}
  - {name: orders, hosts: ["*.corp.test"], scope: orders/.default, credential: other}
  - {name: rest, hosts: [api.corp.test, rest.corp.test], scope: rest/.default, credential: other}
  - {name: last, hosts: [api.corp.test], scope: last/.default, credential: other}
`

// house has routes of one host for different callers and paths.
func house(t testing.TB) world {
	t.Helper()
	w := newWorld(t, shared)
	c := w.callers("boss", "clerk", "robot", "guest")
	w.route("admin").Callers, w.route("admin").Paths = c[:1], patterns(t, "/admin/**", "/both")
	w.route("orders").Callers, w.route("orders").Paths = c[:2], patterns(t, "/orders/**", "/both")
	w.route("rest").Callers = []*routes.Caller{c[0], c[2]}
	w.route("rest").Allow = []routes.Rule{rule(t, 30, "GET /**")}
	w.route("last").Paths = patterns(t, "/public/{id}")
	return w
}

func TestTheFirstRouteThatMatchesAndAdmitsDecides(t *testing.T) {
	w := house(t)
	g := gate.New(w.Table, keyed{})
	for _, tt := range []struct{ caller, call, want string }{
		{"boss", "GET api.corp.test/admin/x", "admin"},
		{"boss", "DELETE api.corp.test/admin/x", "admin"},
		{"boss", "GET api.corp.test/both", "admin"},
		{"clerk", "GET api.corp.test/both", "orders"},
		{"boss", "GET api.corp.test/orders/1", "orders"},
		{"boss", "GET api.corp.test/public/1", "rest"},
		{"boss", "DELETE api.corp.test/public/1", "rule_denied"}, // though the route after it would allow it
		{"clerk", "GET api.corp.test/public/1", "last"},
		{"robot", "GET api.corp.test/admin/x", "rest"},
		{"robot", "GET api.corp.test/orders/1", "rest"},
		{"robot", "PUT api.corp.test/orders/1", "rule_denied"},
		{"guest", "GET api.corp.test/public/1", "last"},
		{"guest", "GET api.corp.test/admin/x", "caller_forbidden"},
		{"guest", "GET api.corp.test/orders/x", "caller_forbidden"},
		{"guest", "GET other.corp.test/orders/x", "caller_forbidden"},
		{"guest", "GET other.corp.test/x", "egress_denied"},
		{"guest", "GET rest.corp.test/x", "caller_forbidden"},
		{"guest", "GET unknown.example/x", "egress_denied"},
		{"clerk", "GET api.corp.test/admin/x", "caller_forbidden"},
		{"clerk", "GET other.corp.test/orders/1", "orders"},
		{"clerk", "GET rest.corp.test/x", "caller_forbidden"},
		{"nobody", "GET api.corp.test/public/1", "caller_forbidden"},
		{"", "GET api.corp.test/public/1", "caller_forbidden"},
		{"", "GET api.corp.test/admin/x", "caller_forbidden"},
		{"BOSS", "GET api.corp.test/admin/x", "caller_forbidden"},
		// Only who gets as far as the paths has them read.
		{"boss", "GET api.corp.test/admin/../x", "bad_request"},
		{"clerk", "GET api.corp.test/orders//x", "bad_request"},
		{"robot", "GET rest.corp.test/x/../y", "bad_request"},
		{"guest", "GET other.corp.test/a/../b", "bad_request"},
		// The reverse door: a mount, the same caller, the same paths.
		{"boss", "GET /admin/admin/x", "admin"},
		{"boss", "GET /admin/x", "route_unknown"},
		{"boss", "GET /admin", "route_unknown"},
		{"boss", "GET /rest/x", "rest"},
		{"boss", "POST /rest/x", "rule_denied"},
		{"robot", "GET /rest/x", "rest"},
		{"clerk", "GET /rest/x", "caller_forbidden"},
		{"clerk", "GET /admin/admin/x", "caller_forbidden"},
		{"guest", "GET /last/public/7", "last"},
		{"guest", "GET /last/public/7/8", "route_unknown"},
		{"guest", "GET /last/public/../7", "bad_request"},
		{"guest", "GET /last/public/%2e%2e", "bad_request"},
		{"", "GET /last/public/7", "caller_forbidden"},
		{"boss", "GET /nowhere/x", "route_unknown"},
	} {
		target := onReverse(tt.call)
		if !strings.Contains(tt.call, " /") {
			target = onForward(t, tt.call)
		}
		if tt.caller != "" {
			target.Caller = &routes.Caller{Name: tt.caller} // as an earlier table had it
		}
		pass, event, code := noted(t, g, target)
		got := string(code)
		if code == "" {
			got = pass.Route.Name
		}
		if got != tt.want {
			t.Errorf("%s: Admit(%s) = %s, want %s", tt.caller, tt.call, got, tt.want)
		}
		if want := keyed.Key(keyed{}, w.Credential("other"), got+"/.default"); code == "" && pass.Key != want {
			t.Errorf("%s: Admit(%s): key %v, want %v", tt.caller, tt.call, pass.Key, want)
		}
		switch code {
		case "":
			if event.Route != tt.want || event.Credential != "other" || event.Host != pass.Authority.String() {
				t.Errorf("Admit(%s): event of route %s, credential %s, host %s", tt.call, event.Route, event.Credential, event.Host)
			}
		case gate.RuleDenied:
			if event.Route == "" {
				t.Errorf("Admit(%s): the event has no route", tt.call)
			}
		}
	}
}

func TestARefusedCallerLearnsOfNoOther(t *testing.T) {
	w := house(t)
	g := gate.New(w.Table, keyed{})
	target := onForward(t, "GET api.corp.test/admin/x")
	target.Caller = w.caller("guest")
	_, err := g.Admit(t.Context(), target)
	var refusal *gate.Refusal
	if !errors.As(err, &refusal) {
		t.Fatal(err)
	}
	told := refusal.Detail + refusal.Remedy
	if strings.Contains(told, "boss") || strings.Contains(told, "robot") || !strings.Contains(told, "guest") {
		t.Errorf("the caller is told %q", told)
	}
	if want := "route admin is for caller boss; route rest is for callers boss, robot"; refusal.Cause != want {
		t.Errorf("cause = %q, want %q", refusal.Cause, want)
	}
}

func TestWhoeverIsRefusedByPathsHearsWhichRoutesHaveTheHost(t *testing.T) {
	w := house(t)
	target := onForward(t, "GET other.corp.test/x")
	target.Caller = w.caller("clerk")
	_, err := gate.New(w.Table, keyed{}).Admit(t.Context(), target)
	if want := "egress_denied: route orders has other.corp.test:443, but no paths there hold this one"; err == nil || err.Error() != want {
		t.Errorf("Admit = %v, want %s", err, want)
	}
}

func TestATableWithoutCallersAdmitsAnyone(t *testing.T) {
	w := newWorld(t, shared)
	g := gate.New(w.Table, keyed{})
	for _, caller := range []*routes.Caller{nil, {Name: "of-the-table-before"}} {
		target := onForward(t, "GET api.corp.test/x")
		target.Caller = caller
		if _, _, code := noted(t, g, target); code != "" {
			t.Errorf("Admit as %v = %s, want yes", caller, code)
		}
	}
	// A route for callers that the table does not have is for nobody.
	w.route("admin").Callers = []*routes.Caller{{Name: "boss"}}
	w.Routes[1].Callers, w.Routes[2].Callers, w.Routes[3].Callers = []*routes.Caller{}, []*routes.Caller{}, []*routes.Caller{}
	target := onForward(t, "GET api.corp.test/x")
	target.Caller = &routes.Caller{Name: "boss"}
	if _, _, code := noted(t, gate.New(w.Table, keyed{}), target); code != gate.CallerForbidden {
		t.Errorf("Admit = %q, want caller_forbidden", code)
	}
}

func TestManyCallersAreToldApart(t *testing.T) {
	w := newWorld(t, shared)
	for i := range 200 {
		w.callers(fmt.Sprint("c", i))
	}
	w.route("admin").Callers = []*routes.Caller{w.Callers[0], w.Callers[63], w.Callers[64], w.Callers[199]}
	w.Routes = w.Routes[:1]
	g := gate.New(w.Table, keyed{})
	for i, c := range w.Callers {
		target := onReverse("GET /admin/x")
		target.Caller = c
		want := gate.CallerForbidden
		if i == 0 || i == 63 || i == 64 || i == 199 {
			want = ""
		}
		if _, _, code := noted(t, g, target); code != want {
			t.Errorf("caller %d: %q, want %q", i, code, want)
		}
	}
}

// large has n routes, each with a host, rules and callers of its own.
func large(tb testing.TB, n int) (*gate.Gate, gate.Target) {
	tb.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  - {name: r%d, hosts: [api%d.test], scope: s, credential: other}\n", i, i)
	}
	w := newWorld(tb, b.String())
	for i, r := range w.Routes {
		w.callers(fmt.Sprint("caller-", i))
		r.Callers = []*routes.Caller{w.Callers[i], w.Callers[0]}
		r.Allow = []routes.Rule{
			rule(tb, i, "POST,PUT /v1.0/orders /v1.0/orders/{id}/lines"), rule(tb, i, "DELETE /v1.0/orders/{id}"),
			rule(tb, i, "GET /v1.0/groups/{id}/members"), rule(tb, i, "GET,HEAD /v1.0/users/**"),
		}
	}
	target := onForward(tb, fmt.Sprintf("GET api%d.test/v1.0/users/1234/messages/5678?$select=subject&$top=10", n-1))
	target.Caller = w.Callers[n-1]
	return gate.New(w.Table, keyed{}), target
}

func BenchmarkAdmit(b *testing.B) {
	for name, n := range map[string]int{"10 routes": 10, "1000 routes": 1000} {
		b.Run(name, func(b *testing.B) {
			g, target := large(b, n)
			ctx, _ := stampable(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Admit(ctx, target); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("one route, 1000 rules", func(b *testing.B) {
		w := newWorld(b, shared)
		r := w.route("admin")
		for i := range 1000 {
			r.Allow = append(r.Allow, rule(b, i, fmt.Sprintf("GET /v1.0/things%d/**", i)))
		}
		g, target := gate.New(w.Table, keyed{}), onForward(b, "GET api.corp.test/v1.0/things999/1")
		ctx, _ := stampable(b)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := g.Admit(ctx, target); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tenant", func(b *testing.B) {
		w := newWorld(b, "  - {name: saas, hosts: [graph.microsoft.com], scope: https://graph.microsoft.com/.default}\n")
		w.route("saas").Tenant = &routes.TenantChoice{Header: "X-Tenant-Id", Allowed: []string{"fabrikam.com", "litware.com"}}
		target := onForward(b, "GET graph.microsoft.com/v1.0/users")
		target.Header = http.Header{"X-Tenant-Id": {"fabrikam.com"}}
		g := gate.New(w.Table, keyed{})
		ctx, _ := stampable(b)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := g.Admit(ctx, target); err != nil {
				b.Fatal(err)
			}
		}
	})
}
