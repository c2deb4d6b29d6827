package gate_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

// The login hosts of these tests.
var (
	microsoft = routes.Authority{Host: "login.microsoftonline.com", Port: 443}
	elsewhere = routes.Authority{Host: "login.test", Port: 443}
)

const (
	graph  = "https://graph.microsoft.com/.default"
	tenant = "contoso.com"
	guidA  = "11111111-1111-1111-1111-111111111111"
	guidB  = "22222222-2222-2222-2222-222222222222"
)

// handing is a table of callers "job" and "other", of whose routes all but
// "none" hand out placeholders.
func handing(t testing.TB) (*gate.Gate, world) {
	t.Helper()
	w := newWorld(t, `
  - {name: none, hosts: [none.test], scope: none/.default, credential: default}
  - {name: closed, hosts: [a.test], scope: closed/.default, credential: default}
  - {name: first, hosts: [b.test], scope: "`+graph+`", credential: default}
  - {name: second, hosts: [c.test], scope: "`+graph+`", credential: default}
  - {name: foreign, hosts: [d.test], scope: "read write", credential: other}
  - {name: many, hosts: [e.test], scope: many/.default, credential: default, tenant: {header: X-Tenant, allowed: [`+guidA+`, `+guidB+`]}}
  - {name: own, hosts: [f.test], scope: own/.default, credential: default}
`)
	callers := w.callers("job", "other")
	callers[0].Tenants = []string{guidA}
	for _, r := range w.Routes {
		r.Placeholder = r.Name != "none"
	}
	w.route("own").Tenant = &routes.TenantChoice{ByCaller: true}
	w.route("closed").Callers = callers[1:]
	second := *w.route("second").Credential
	second.Name, second.ClientID = "second", "0000-SECOND"
	w.route("second").Credential = &second
	return gate.New(w.Table, keyed{}), w
}

func TestPlaceholderIsHandedOutByTheRouteThatWouldGiveTheToken(t *testing.T) {
	g, w := handing(t)
	zero := routes.Authority{}
	tests := []struct {
		name   string
		caller string
		login  gate.Login
		want   string // route
		sealed string // tenant
		err    error
	}{
		{"the first of several", "job", gate.Login{Host: microsoft, Tenant: tenant, Scopes: []string{graph}}, "first", tenant, nil},
		{"the client picks", "job", gate.Login{Host: microsoft, Tenant: tenant, Scopes: []string{graph}, ClientID: "0000-second"}, "second", tenant, nil},
		{"a dummy picks nothing", "job", gate.Login{Host: microsoft, Tenant: tenant, Scopes: []string{graph}, ClientID: "dummy"}, "first", tenant, nil},
		{"MSAL for Go", "job", gate.Login{Host: microsoft, Tenant: tenant, Scopes: []string{graph + " openid offline_access profile"}}, "first", tenant, nil},
		{"the second spelling", "job", gate.Login{Host: microsoft, Tenant: tenant, Scopes: []string{"x", graph}}, "first", tenant, nil},
		{"another case of the scope", "job", gate.Login{Host: microsoft, Tenant: tenant, Scopes: []string{"HTTPS://graph.microsoft.com/.default"}}, "", "", gate.ErrNoScope},
		{"two scopes", "job", gate.Login{Host: microsoft, Tenant: tenant, Scopes: []string{graph + " many/.default"}}, "", "", gate.ErrNoScope},
		{"no scope", "job", gate.Login{Host: microsoft, Tenant: tenant}, "", "", gate.ErrNoScope},
		{"a route that hands out nothing", "job", gate.Login{Host: microsoft, Tenant: tenant, Scopes: []string{"none/.default"}}, "", "", gate.ErrNoScope},
		{"a route of another caller", "job", gate.Login{Host: microsoft, Tenant: tenant, Scopes: []string{"closed/.default"}}, "", "", gate.ErrNoScope},
		{"its own caller", "other", gate.Login{Host: microsoft, Tenant: tenant, Scopes: []string{"closed/.default"}}, "closed", tenant, nil},
		{"another tenant", "job", gate.Login{Host: microsoft, Tenant: "fabrikam.com", Scopes: []string{graph}}, "", "", gate.ErrNoTenant},
		{"no tenant", "job", gate.Login{Host: microsoft, Scopes: []string{graph}}, "", "", gate.ErrNoTenant},
		{"common", "job", gate.Login{Host: microsoft, Tenant: "common", Scopes: []string{graph}}, "", "", gate.ErrNoTenant},
		{"another host", "job", gate.Login{Host: elsewhere, Tenant: tenant, Scopes: []string{graph}}, "", "", gate.ErrNoTenant},
		{"a chosen tenant", "job", gate.Login{Host: microsoft, Tenant: guidA, Scopes: []string{"many/.default"}}, "many", guidA, nil},
		{"one of the route and not of the caller", "job", gate.Login{Host: microsoft, Tenant: guidB, Scopes: []string{"many/.default"}}, "", "", gate.ErrNoTenant},
		{"a caller without a list", "other", gate.Login{Host: microsoft, Tenant: guidB, Scopes: []string{"many/.default"}}, "many", guidB, nil},
		{"the credential's own tenant where calls choose", "job", gate.Login{Host: microsoft, Tenant: tenant, Scopes: []string{"many/.default"}}, "", "", gate.ErrNoScope},
		{"the caller's only tenant", "job", gate.Login{Host: microsoft, Tenant: guidA, Scopes: []string{"own/.default"}}, "own", guidA, nil},
		{"not the caller's only tenant", "other", gate.Login{Host: microsoft, Tenant: guidA, Scopes: []string{"own/.default"}}, "", "", gate.ErrNoScope},
		{"another server", "job", gate.Login{Host: elsewhere, Tenant: "https://login.test/token", Scopes: []string{"read write"}}, "foreign", "", nil},
		{"another endpoint there", "job", gate.Login{Host: elsewhere, Tenant: "https://login.test/other", Scopes: []string{"read write"}}, "", "", gate.ErrNoTenant},
		{"no endpoint there", "job", gate.Login{Host: elsewhere, Scopes: []string{"read write"}}, "", "", gate.ErrNoTenant},
		{"an identity endpoint", "job", gate.Login{Host: zero, Scopes: []string{graph}}, "first", tenant, nil},
		{"an identity endpoint, the caller's tenant", "job", gate.Login{Host: zero, Scopes: []string{"own/.default"}}, "own", guidA, nil},
		{"an identity endpoint, the call's tenant", "job", gate.Login{Host: zero, Scopes: []string{"many/.default"}}, "many", "", nil},
		{"an identity endpoint, another server", "job", gate.Login{Host: zero, Scopes: []string{"read write"}}, "foreign", "", nil},
		{"a caller of another table", "gone", gate.Login{Host: microsoft, Tenant: tenant, Scopes: []string{graph}}, "", "", gate.ErrNoTenant},
		{"nobody", "", gate.Login{Host: microsoft, Tenant: tenant, Scopes: []string{graph}}, "", "", gate.ErrNoTenant},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			caller := w.caller(tt.caller)
			if caller == nil && tt.caller != "" {
				caller = &routes.Caller{Name: tt.caller}
			}
			ctx, event := stampable(t)
			r, p, err := g.HandOut(ctx, caller, tt.login)
			if !errors.Is(err, tt.err) || (err == nil) != (tt.want != "") {
				t.Fatalf("error = %v, want %v", err, tt.err)
			}
			if err != nil {
				if event.Route != "" || r != nil {
					t.Errorf("route %q is noted of what was refused", event.Route)
				}
				return
			}
			want := gate.Placeholder{Caller: tt.caller, Tenant: tt.sealed, Scope: w.route(tt.want).Scope}
			if r.Name != tt.want || p != want || event.Route != tt.want || event.Credential != r.Credential.Name {
				t.Errorf("got %s, %+v, event %s of %s; want %s, %+v", r.Name, p, event.Route, event.Credential, tt.want, want)
			}
		})
	}
}

func TestPlaceholderOfATableWithoutCallersIsAnyones(t *testing.T) {
	w := newWorld(t, `
  - {name: first, hosts: [b.test], scope: "`+graph+`", credential: default}
`)
	w.route("first").Placeholder = true
	g := gate.New(w.Table, oneTenant{})
	_, p, err := g.HandOut(t.Context(), nil, gate.Login{Host: microsoft, Tenant: tenant, Scopes: []string{graph}})
	if err != nil || p.Caller != "" || p.Scope != graph {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestLoginHostIsThatOfCallersWhoHaveARouteThere(t *testing.T) {
	_, w := handing(t)
	w.route("foreign").Callers = w.Callers[1:]
	g := gate.New(w.Table, keyed{})
	for _, tt := range []struct {
		caller string
		host   routes.Authority
		want   string
	}{
		{"job", microsoft, "first second many own"}, {"job", elsewhere, ""}, {"other", elsewhere, "foreign"},
		{"", microsoft, ""}, {"job", routes.Authority{Host: "login.microsoftonline.com", Port: 80}, ""},
	} {
		var names []string
		for _, r := range g.LoginsAt(w.caller(tt.caller), tt.host) {
			names = append(names, r.Name)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("LoginsAt(%q, %s) = %q, want %q", tt.caller, tt.host, got, tt.want)
		}
	}
}

func ExampleGate_HandOut() {
	table, err := routes.Parse("routes.yaml", []byte(head+`routes:
  - {name: graph, hosts: [graph.microsoft.com], scope: "https://graph.microsoft.com/.default", credential: default}
`), func(string) (string, bool) { return "", false })
	if err != nil {
		fmt.Println(err)
		return
	}
	table.Routes[0].Placeholder = true
	g := gate.New(table, keyed{})
	r, p, err := g.HandOut(context.Background(), nil, gate.Login{
		Host: routes.Authority{Host: "login.microsoftonline.com", Port: 443}, Tenant: "contoso.com",
		Scopes: []string{"https://graph.microsoft.com/.default"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Name, p.Tenant, p.Scope)
	// Output: graph contoso.com https://graph.microsoft.com/.default
}
