package gate_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

// keyed gives each credential and scope its key, as a directory would.
type keyed struct{}

func (keyed) Key(c *routes.Credential, scope string) tokens.Key {
	return tokens.Key{Authority: "https://login.test", Credential: c.Name, Scope: scope}
}

const file = `version: 1
credentials:
  default: {token_endpoint: "https://login.test/token", client_id: gw, client_secret: {env: UNUSED}}
routes:
  - {name: one, hosts: [one.test], scope: one/.default}
  - {name: two, hosts: [two.test], scope: two/.default}
`

func parse(t testing.TB) *routes.Table {
	t.Helper()
	table, err := routes.Parse("routes.yaml", []byte(file), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestPassHoldsTheKeyOfEachTokenThatTheRouteWants(t *testing.T) {
	table := parse(t)
	one, two := table.Routes[0], table.Routes[1]
	two.Second = &routes.SecondToken{Header: "X-Management", Scope: "arm/.default"}
	g := gate.New(table, keyed{})
	for _, tt := range []struct {
		target gate.Target
		second string
	}{
		{gate.Target{Door: audit.Reverse, Path: "/one/x"}, ""},
		{gate.Target{Door: audit.Reverse, Path: "/two/x"}, "arm/.default"},
		{gate.Target{Door: audit.Forward, Authority: routes.Authority{Host: "one.test", Port: 443}, Path: "/x"}, ""},
		{gate.Target{Door: audit.Forward, Authority: routes.Authority{Host: "two.test", Port: 443}, Path: "/x"}, "arm/.default"},
	} {
		pass, err := g.Admit(t.Context(), tt.target)
		if err != nil {
			t.Fatal(err)
		}
		want := tokens.Key{}
		if tt.second != "" {
			want = keyed{}.Key(pass.Route.Credential, tt.second)
		}
		if first := (keyed{}).Key(pass.Route.Credential, pass.Route.Scope); pass.Key != first || pass.SecondKey != want || pass.Path != "/x" {
			t.Errorf("Admit(%v) = keys %v and %v, path %s; want %v, %v, /x", tt.target, pass.Key, pass.SecondKey, pass.Path, first, want)
		}
	}
	if k, ok := g.SecondKey(one); ok || k != (tokens.Key{}) {
		t.Errorf("SecondKey(one) = %v, %v, want none", k, ok)
	}
	if k, ok := g.SecondKey(two); !ok || k.Scope != "arm/.default" {
		t.Errorf("SecondKey(two) = %v, %v, want that of arm/.default", k, ok)
	}
}

func TestCallThatNoRouteNamesIsRefused(t *testing.T) {
	g := gate.New(parse(t), keyed{})
	for want, target := range map[string]gate.Target{
		"egress_denied: no route names three.test:443, and egress.default is deny": {Door: audit.Forward, Authority: routes.Authority{Host: "three.test", Port: 443}, Path: "/"},
		"route_unknown: nothing is mounted at this path":                           {Door: audit.Reverse, Path: "/three"},
	} {
		if _, err := g.Admit(t.Context(), target); err == nil || err.Error() != want {
			t.Errorf("Admit(%v) = %v, want %s", target, err, want)
		}
	}
}

func ExampleGate_Admit() {
	table, err := routes.Parse("routes.yaml", []byte(file), os.LookupEnv)
	if err != nil {
		fmt.Println(err)
		return
	}
	pass, err := gate.New(table, keyed{}).Admit(context.Background(), gate.Target{Door: audit.Reverse, Path: "/one/v1/things"})
	fmt.Println(pass.Route.Name, pass.Authority, pass.Path, err)
	// Output: one one.test:443 /v1/things <nil>
}

func ExampleRenew() {
	list := filepath.Join(os.TempDir(), "no-such-folder", "tenants.txt")
	table, err := routes.Parse("routes.yaml", []byte(head+"routes: [{preset: graph}]"), os.LookupEnv)
	if err != nil {
		fmt.Println(err)
		return
	}
	table.Routes[0].Tenant = &routes.TenantChoice{Header: "X-Tenant-Id", AllowedFile: list}
	g, alarms := gate.Renew(nil, table, keyed{})
	fmt.Println(len(alarms), "alarm")
	_, err = g.Admit(context.Background(), gate.Target{
		Door: audit.Reverse, Method: "GET", Path: "/graph/v1.0/users", Header: http.Header{"X-Tenant-Id": {"fabrikam.com"}},
	})
	fmt.Println(err)
	// Output:
	// 1 alarm
	// tenant_denied: route graph takes the tenant from the call: the tenant that it names is not among those allowed
}
