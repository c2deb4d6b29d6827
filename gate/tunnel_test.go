package gate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// tunnelled has routes of each kind, and egress without and with default: tunnel.
const tunnelled = `version: 1
credentials:
  default: {tenant_id: contoso.com, client_id: gw, client_secret: {env: UNUSED}}
  other: {token_endpoint: "https://idp.test:8443/token", client_id: gw, client_secret: {env: UNUSED}}
callers:
  job: {uid: 1}
  billing: {uid: 2}
  guest: {uid: 3}
intercept: {ca_dir: /nowhere}
egress: {allow: [login.microsoftonline.com, files.test:80, "*.cdn.test", one.test, billing.test], default: deny}
routes:
  - {name: one, hosts: [one.test], scope: api://one/.default, callers: [job, billing], paths: [/v1/**], hand_out: placeholder}
  - {name: one-more, hosts: [one.test], scope: api://two/.default, callers: [billing]}
  - {name: billing, hosts: [billing.test, "*.wide.test", "port.test:8443"], scope: api://b/.default, callers: [billing]}
  - {name: idp, hosts: [idp-user.test], credential: other, callers: [billing], hand_out: placeholder}
  - {name: all, hosts: [all.test], scope: api://all/.default}
`

func gateFor(t testing.TB, text string) *gate.Gate {
	t.Helper()
	table, err := routes.Parse("routes.yaml", []byte(text), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return gate.New(table, keyed{})
}

func connect(t testing.TB, g *gate.Gate, host, caller string) gate.Target {
	t.Helper()
	a, err := routes.ParseAuthority(host, 0)
	if err != nil {
		t.Fatal(err)
	}
	target := gate.Target{Door: audit.Tunnel, Authority: a, Method: "CONNECT"}
	if caller != "" {
		target.Caller = &routes.Caller{Name: caller}
	}
	return target
}

func TestTunnelsGoWhereRoutesAndThenEgressSay(t *testing.T) {
	closed := gateFor(t, tunnelled)
	open := gateFor(t, strings.Replace(tunnelled, "default: deny", "default: tunnel", 1))
	for _, tt := range []struct {
		host, caller string
		want         string // way, authority and stamped route, or code; with default: deny
		open         string // with default: tunnel, if that is another
	}{
		{"one.test:443", "job", "intercepted one.test:443 one", ""},
		{"one.test:80", "job", "intercepted one.test:443 one", ""},
		{"one.test:443", "billing", "intercepted one.test:443 ", ""}, // two routes
		{"one.test:443", "guest", "caller_forbidden", ""},            // although egress.allow has it
		{"one.test:80", "guest", "caller_forbidden", ""},
		{"one.test:443", "nobody", "caller_forbidden", ""},
		{"one.test:443", "", "caller_forbidden", ""},
		{"one.test:8443", "job", "egress_denied", ""},
		{"billing.test:443", "job", "caller_forbidden", ""},
		{"billing.test:443", "billing", "intercepted billing.test:443 billing", ""},
		{"a.wide.test:443", "billing", "intercepted a.wide.test:443 billing", ""},
		{"a.wide.test:80", "billing", "intercepted a.wide.test:443 billing", ""},
		{"a.wide.test:80", "job", "caller_forbidden", ""},
		{"wide.test:443", "billing", "egress_denied", "through wide.test:443 "},
		{"port.test:8443", "billing", "intercepted port.test:8443 billing", ""},
		{"port.test:443", "billing", "egress_denied", "through port.test:443 "},
		{"all.test:443", "guest", "intercepted all.test:443 all", ""},
		{"all.test:443", "", "caller_forbidden", ""},
		{"login.microsoftonline.com:443", "job", "intercepted login.microsoftonline.com:443 ", ""},
		{"login.microsoftonline.com:443", "billing", "intercepted login.microsoftonline.com:443 ", ""},
		{"login.microsoftonline.com:443", "guest", "through login.microsoftonline.com:443 ", ""},
		{"login.microsoftonline.com:80", "job", "egress_denied", "through login.microsoftonline.com:80 "},
		{"idp.test:8443", "billing", "intercepted idp.test:8443 ", ""},
		{"idp.test:8443", "job", "egress_denied", ""},
		{"idp.test:443", "billing", "egress_denied", "through idp.test:443 "},
		{"files.test:80", "guest", "through files.test:80 ", ""},
		{"files.test:443", "guest", "egress_denied", "through files.test:443 "},
		{"a.cdn.test:443", "guest", "through a.cdn.test:443 ", ""},
		{"cdn.test:443", "guest", "egress_denied", "through cdn.test:443 "},
		{"a.cdn.test:443", "", "caller_forbidden", ""},
		{"a.cdn.test:443", "nobody", "caller_forbidden", ""},
		{"elsewhere.test:443", "guest", "egress_denied", "through elsewhere.test:443 "},
		{"elsewhere.test:80", "guest", "egress_denied", "through elsewhere.test:80 "},
		{"elsewhere.test:25", "guest", "egress_denied", ""},
		{"elsewhere.test:443", "", "egress_denied", "caller_forbidden"},
	} {
		if tt.open == "" {
			tt.open = tt.want
		}
		for _, each := range []struct {
			egress, want string
			g            *gate.Gate
		}{{"deny", tt.want, closed}, {"tunnel", tt.open, open}} {
			ctx, event := stampable(t)
			way, a, err := each.g.Tunnel(ctx, connect(t, each.g, tt.host, tt.caller))
			got := fmt.Sprintf("%s %s %s", way, a, event.Route)
			if code := codeOf(t, err); code != "" {
				got = string(code)
				if way != 0 || a.String() != tt.host || event.Route != "" {
					t.Errorf("Tunnel(%s) for %q is refused, and says %s to %s by %q", tt.host, tt.caller, way, a, event.Route)
				}
			}
			if got != each.want {
				t.Errorf("Tunnel(%s) for %q with default: %s = %q, want %q", tt.host, tt.caller, each.egress, got, each.want)
			}
			if event.Host != a.String() {
				t.Errorf("Tunnel(%s) for %q stamps host %q, want %q", tt.host, tt.caller, event.Host, a)
			}
		}
	}
}

func TestWithoutCallersAnyoneTunnels(t *testing.T) {
	g := gateFor(t, `version: 1
egress: {allow: [free.test]}
routes: [{preset: graph, hand_out: placeholder}]
`)
	for host, want := range map[string]string{
		"graph.microsoft.com:80": "intercepted graph.microsoft.com:443", "login.microsoftonline.com:443": "intercepted login.microsoftonline.com:443",
		"free.test:443": "through free.test:443", "other.test:443": "egress_denied",
	} {
		way, a, err := g.Tunnel(t.Context(), connect(t, g, host, ""))
		got := fmt.Sprintf("%s %s", way, a)
		if code := codeOf(t, err); code != "" {
			got = string(code)
		}
		if got != want {
			t.Errorf("Tunnel(%s) = %s, want %s", host, got, want)
		}
	}
}

// Egress says nothing of hosts that a route names, at port 80 as at 443.
func TestCallsForRoutedHostsNeverPassUntouched(t *testing.T) {
	g := gateFor(t, strings.Replace(tunnelled, "default: deny", "default: tunnel", 1))
	for _, tt := range []struct{ host, caller, path, want string }{
		{"one.test:443", "job", "/v1/x", "egress_denied"},
		{"one.test:80", "job", "/v1/x", "egress_denied"},
		{"one.test:443", "job", "/v2/x", "caller_forbidden"}, // the other route's
		{"one.test:80", "guest", "/v1/x", "caller_forbidden"},
		{"a.wide.test:80", "job", "/", "caller_forbidden"},
		{"all.test:80", "", "/", "caller_forbidden"},
		{"all.test:8080", "guest", "/", "egress_denied"},
		{"elsewhere.test:80", "guest", "/", ""},
		{"elsewhere.test:443", "job", "/", ""},
		{"elsewhere.test:8080", "job", "/", "egress_denied"},
		{"elsewhere.test:443", "", "/", "caller_forbidden"},
		{"login.microsoftonline.com:443", "job", "/common", ""},
	} {
		target := connect(t, g, tt.host, tt.caller)
		target.Door, target.Method, target.Path = audit.Forward, "GET", tt.path
		ctx, event := stampable(t)
		if got := codeOf(t, g.Through(ctx, target)); string(got) != tt.want {
			t.Errorf("Through(%s%s) for %q = %q, want %q", tt.host, tt.path, tt.caller, got, tt.want)
		}
		if event.Host != tt.host || event.Route != "" {
			t.Errorf("Through(%s) stamps host %q and route %q", tt.host, event.Host, event.Route)
		}
	}
}

func TestRefusalsOfTunnelsSayWhatToDo(t *testing.T) {
	closed := gateFor(t, tunnelled)
	open := gateFor(t, strings.Replace(tunnelled, "default: deny", "default: tunnel", 1))
	for _, tt := range []struct {
		g                           *gate.Gate
		host, caller, want, details string
	}{
		{closed, "new.test:443", "job", "no route names new.test:443, and egress.default is deny", `hosts: [new.test] to routes.yaml; if they should pass without one, add "new.test:443" to egress.allow`},
		{open, "new.test:25", "job", "no route names new.test:25, and egress.default: tunnel is for the ports 443 and 80", `add "new.test:25" to egress.allow`},
		{closed, "169.254.169.254:80", "job", "no call may reach 169.254.169.254:80, where clouds tell a machine its secrets", "hand_out: placeholder"},
		{closed, "billing.test:80", "job", "billing.test:443 may not be used by caller job", "add it to callers of the route"},
		{open, "new.test:443", "", "new.test:443 is passed through for named callers alone", "name the caller"},
	} {
		_, _, err := tt.g.Tunnel(t.Context(), connect(t, tt.g, tt.host, tt.caller))
		var refusal *gate.Refusal
		if !errors.As(err, &refusal) || refusal.Detail != tt.want || !strings.Contains(refusal.Remedy, tt.details) {
			t.Errorf("Tunnel(%s) = %+v, want detail %q and a remedy with %q", tt.host, refusal, tt.want, tt.details)
		}
	}
	if _, err := open.Admit(t.Context(), connect(t, open, "new.test:443", "job")); err == nil || !strings.Contains(err.Error(), "no route names new.test:443, and what is passed through gets no token") {
		t.Errorf("Admit(new.test:443) = %v, want it to say that no token is to be had", err)
	}
}

func TestTunnelsCostNextToNothing(t *testing.T) {
	g := gateFor(t, tunnelled)
	ctx, _ := stampable(t)
	for host, most := range map[string]float64{"one.test:443": 0, "all.test:443": 0, "a.cdn.test:443": 1, "login.microsoftonline.com:443": 1, "a.wide.test:443": 1} {
		caller := "job"
		if strings.Contains(host, "wide") {
			caller = "billing"
		}
		target := connect(t, g, host, caller)
		if got := testing.AllocsPerRun(100, func() {
			if _, _, err := g.Tunnel(ctx, target); err != nil {
				t.Error(err)
			}
		}); got > most {
			t.Errorf("Tunnel(%s) makes %v allocations, want %v at most", host, got, most)
		}
	}
}

func ExampleGate_Tunnel() {
	table, err := routes.Parse("routes.yaml", []byte("version: 1\negress: {allow: [free.test]}\nroutes: [{preset: graph}]\n"), os.LookupEnv)
	if err != nil {
		fmt.Println(err)
		return
	}
	g := gate.New(table, keyed{})
	for _, a := range []routes.Authority{{Host: "graph.microsoft.com", Port: 80}, {Host: "free.test", Port: 443}, {Host: "other.test", Port: 443}} {
		way, what, err := g.Tunnel(context.Background(), gate.Target{Door: audit.Tunnel, Authority: a})
		fmt.Println(way, what, err)
	}
	// Output:
	// intercepted graph.microsoft.com:443 <nil>
	// through free.test:443 <nil>
	// refused other.test:443 egress_denied: no route names other.test:443, and egress.default is deny
}

func ExampleGate_Through() {
	table, err := routes.Parse("routes.yaml", []byte("version: 1\negress: {allow: [\"free.test:80\"]}\nroutes: [{preset: graph}]\n"), os.LookupEnv)
	if err != nil {
		fmt.Println(err)
		return
	}
	err = gate.New(table, keyed{}).Through(context.Background(), gate.Target{Door: audit.Forward, Authority: routes.Authority{Host: "free.test", Port: 80}, Path: "/"})
	fmt.Println(err)
	// Output: <nil>
}
