package admin_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/seed-13b04e61/gateway/admin"
	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
	"github.com/seed-13b04e61/gateway/tokens"
)

func (s *steered) Permissions() admin.Permissions {
	return admin.Permissions{APIs: []admin.APIUse{{Credential: "daemon"}}}
}

const graphScope = "https://graph.microsoft.com/.default"

// ledger is a Usage over a table with the routes graph and orders.
type ledger struct {
	*admin.Usage
	table *routes.Table
}

func newLedger() ledger {
	c := &routes.Credential{Name: "daemon", TenantID: "t", ClientID: "c1", AuthorityHost: "https://login.microsoftonline.com"}
	return ledger{admin.NewUsage(), &routes.Table{Credentials: []*routes.Credential{c}, Routes: []*routes.Route{
		{Name: "graph", Credential: c, Scope: graphScope}, {Name: "orders", Credential: c, Scope: "api://orders/.default"},
	}}}
}

// hold has a token with these roles be got.
func (l ledger) hold(t *testing.T, tenant, scope string, roles ...string) {
	t.Helper()
	access, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"aud": strings.TrimSuffix(scope, "/.default"), "roles": roles}).SignedString([]byte("k"))
	if err != nil {
		t.Fatal(err)
	}
	l.Held(tokens.Key{Credential: "daemon", Tenant: tenant, Scope: scope}, tokens.Token{Access: secrets.New(access)})
}

func call(route, method, path string, status int) *audit.Event {
	return &audit.Event{Start: time.Now(), Route: route, Credential: "daemon", Method: method, Path: "/mount" + path, APIPath: path, Status: status, TokenSource: "cache"}
}

// of is the row of a scope.
func (l ledger) of(t *testing.T, scope string) admin.APIUse {
	t.Helper()
	apis := l.Report(l.table).APIs
	i := slices.IndexFunc(apis, func(a admin.APIUse) bool { return a.Scope == scope })
	if i < 0 {
		t.Fatalf("no row for %s in %v", scope, apis)
	}
	return apis[i]
}

func uses(a admin.APIUse) string {
	var list []string
	for _, r := range a.Roles {
		list = append(list, fmt.Sprintf("%s %s %d", r.Name, r.Use, r.Calls))
	}
	return strings.Join(list, ", ")
}

func TestRolesAreToldApartByUse(t *testing.T) {
	l := newLedger()
	l.hold(t, "t", graphScope, "User.Read.All", "Directory.Read.All", "Mail.Send")
	l.Record(call("graph", "GET", "/v1.0/users", 200))
	l.Record(call("graph", "GET", "/v1.0/users/ann@contoso.com", 304))
	l.Record(call("graph", "GET", "/v1.0/users/gone", 404))
	l.Record(call("graph", "GET", "/v1.0/users/u/messages", 403))
	a := l.of(t, graphScope)
	if got, want := uses(a), "Directory.Read.All unused 0, Mail.Send unused 0, User.Read.All used 2"; got != want || a.Unknown != 0 || a.Remark != "" {
		t.Errorf("roles: %s; unknown %d, remark %q; want %s", got, a.Unknown, a.Remark, want)
	}
	if a.Roles[1].ID != "b633e1c5-b582-4048-a93e-9f11b44c7e96" || !a.Graph || a.Token != "read" {
		t.Errorf("row: %+v", a)
	}
	if !l.Report(l.table).Missing() || len(a.Denied) != 1 {
		t.Fatalf("denied: %+v, want one for want of a permission", a.Denied)
	}
	if d := a.Denied[0]; d.Missing != "Mail.ReadBasic.All" || d.ID != "693c5e45-0940-467d-9b8a-1022fb9d42ef" || d.Template != "/v1.0/users/{id}/messages" ||
		!slices.Contains(d.Also, "Mail.Read") || !strings.Contains(d.Remedy, "az ad app permission add --id c1 --api 00000003-0000-0000-c000-000000000000 --api-permissions "+d.ID+"=Role") {
		t.Errorf("denied: %+v", d)
	}
	l.Record(call("graph", "GET", "/v1.0/unheard/of", 200))
	if a = l.of(t, graphScope); uses(a) != "Directory.Read.All unclear 0, Mail.Send unclear 0, User.Read.All used 2" || a.Unknown != 1 || a.Remark == "" {
		t.Errorf("with a call that is not in the table: %s, unknown %d, remark %q", uses(a), a.Unknown, a.Remark)
	}
}

func TestPermissionGrantedSinceIsNotMissing(t *testing.T) {
	l := newLedger()
	l.hold(t, "t", graphScope, "User.Read.All")
	l.Record(call("graph", "POST", "/v1.0/users/u/sendMail", 403))
	l.hold(t, "t", graphScope, "User.Read.All", "Mail.Send")
	d := l.of(t, graphScope).Denied[0]
	if d.Missing != "" || d.Held != "Mail.Send" || !strings.Contains(d.Remark, "a token got since then holds Mail.Send") || l.Report(l.table).Missing() {
		t.Errorf("denied before the grant: %+v", d)
	}
	l.Record(call("graph", "POST", "/v1.0/users/u/sendMail", 403))
	if d = l.of(t, graphScope).Denied[0]; d.Missing != "" || d.Denied != 2 || !strings.Contains(d.Remark, "something narrower refuses") {
		t.Errorf("denied after the grant: %+v", d)
	}
}

func TestOtherAPIsHaveRolesCallsAndRefusalsAlone(t *testing.T) {
	l := newLedger()
	const scope = "api://orders/.default"
	if a := l.of(t, scope); a.Token != "none" || a.Remark == "" || a.Roles == nil || a.Calls == nil || a.Denied == nil {
		t.Errorf("before any token: %+v", a)
	}
	l.hold(t, "t", scope, "Orders.Read")
	l.Record(call("orders", "GET", "/v1.0/users", 200)) // looks like Graph's, and is not
	l.Record(call("orders", "GET", "/orders/4711", 403))
	a := l.of(t, scope)
	if uses(a) != "Orders.Read unclear 0" || a.Graph || len(a.Calls) != 2 || l.Report(l.table).Missing() {
		t.Errorf("row: %+v", a)
	}
	if d := a.Denied[0]; d.Template != "/orders/{id}" || d.Missing != "" || d.Remark == "" || d.Remedy == "" {
		t.Errorf("denied: %+v", d)
	}
	l.Held(tokens.Key{Credential: "daemon", Tenant: "other", Scope: scope}, tokens.Token{Access: secrets.New("opaque")})
	if a = l.of(t, scope); a.Token != "read" || a.Tenants != 2 || a.Roles[0].Tenants != 1 {
		t.Errorf("with a token of another tenant: %+v", a)
	}
}

func TestUsageKeepsNothingThatMayNameAPerson(t *testing.T) {
	l := newLedger()
	for path, want := range map[string]string{
		"/v1.0/users/ann@contoso.com/photo": "/v1.0/users/{id}/photo",
		"/v1.0/users/ann/unheard":           "/v1.0/users/{id}/{id}",
		"/beta/USERS/ann/mailfolders/inbox": "/beta/users/{id}/mailFolders/{id}",
		"/api/v2/orders/4711":               "/api/v2/orders/{id}",
		"/secret4711":                       "/{id}",
		"/" + strings.Repeat("x", 400):      "/{id}",
		"/a/b/c/d/e/f/g/h/i/j":              "/a/{id}/{id}/{id}/{id}/{id}/{id}/{id}/…",
		"/v1.0/$batch":                      "/v1.0/$batch",
		"":                                  "",
		"/%1B%5B31m":                        "/{id}",
		"/v1.0/sites/contoso.sharepoint.com:/sites/hr": "/v1.0/sites/{id}/sites/{id}",
	} {
		fresh := newLedger()
		fresh.Record(call("orders", "GET", path, 200))
		if got := fresh.of(t, "api://orders/.default").Calls[0].Template; got != want {
			t.Errorf("%s is kept as %q, want %q", path, got, want)
		}
	}
	e := call("orders", "GET", "/people/ann", 200)
	e.Template = "/people/{name}"
	l.Record(e)
	if got := l.of(t, "api://orders/.default").Calls[0].Template; got != "/people/{name}" {
		t.Errorf("template %q, want that of the rule", got)
	}
}

func TestCallsThatTheAPIDidNotAnswerAreNotCounted(t *testing.T) {
	l := newLedger()
	for _, change := range []func(*audit.Event){
		func(e *audit.Event) { e.Code = "rule_denied" },
		func(e *audit.Event) { e.TokenSource = "" },
		func(e *audit.Event) { e.Credential = "" },
		func(e *audit.Event) { e.Status = 0 },
	} {
		e := call("graph", "GET", "/v1.0/users", 403)
		change(e)
		l.Record(e)
	}
	if a := l.of(t, graphScope); len(a.Calls)+len(a.Denied) != 0 {
		t.Errorf("calls %+v, want none", a.Calls)
	}
}

func TestUsageIsBoundedAndKeepsRoomForKnownCalls(t *testing.T) {
	l := newLedger()
	letters := "abcdefghijklmnopqrstuvwxyz"
	n := 0
	for _, a := range letters {
		for _, b := range letters {
			for _, c := range "abc" {
				l.Record(call("graph", "GET", "/"+string([]rune{a, b, c}), 404))
				n++
			}
		}
	}
	l.Record(call("graph", "GET", "/v1.0/users", 200))
	for i := range 1500 {
		l.hold(t, fmt.Sprint("tenant", i), graphScope, "User.Read.All")
	}
	a := l.of(t, graphScope)
	var others, total int64
	known := false
	for _, c := range a.Calls {
		total += c.Failed
		known = known || c.Template == "/v1.0/users"
		if c.Method == "" {
			others = c.Failed
		}
	}
	if len(a.Calls) > 1100 || total != int64(n) || others < 900 || !known || a.Tenants != 1024 {
		t.Errorf("%d kinds, %d calls of %d, %d of them lumped, known %v, %d tenants", len(a.Calls), total, n, others, known, a.Tenants)
	}
}

func TestCountingACallAgainAllocatesNothing(t *testing.T) {
	l := newLedger()
	for _, e := range []*audit.Event{call("graph", "GET", "/v1.0/users/ANN", 200), call("orders", "GET", "/orders/4711/lines/3", 403)} {
		l.Record(e)
		if n := testing.AllocsPerRun(100, func() { l.Record(e) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", e.APIPath, n)
		}
	}
}

func TestUsageTakesCallsFromManySides(t *testing.T) {
	l := newLedger()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				l.Record(call("orders", "GET", "/"+strings.Repeat("x", 1+(i+j)%20), 200))
				l.Report(l.table)
			}
		})
	}
	wg.Wait()
	var n int64
	for _, c := range l.of(t, "api://orders/.default").Calls {
		n += c.Served
	}
	if n != 800 {
		t.Errorf("%d calls, want 800", n)
	}
}

func TestPermissionsAreForTheOperatorAlone(t *testing.T) {
	l := serve(t, &steered{key: "right"}, "tcp", "127.0.0.1:0")
	if status, _, body := ask(t, l, "GET", "/api/permissions", fields("Authorization", "Bearer right")); status != 200 || !strings.Contains(body, "daemon") {
		t.Errorf("with the key: %d %s", status, body)
	}
	if status, _, body := ask(t, l, "GET", "/api/permissions", fields("Authorization", "Bearer wrong")); status != 401 || strings.Contains(body, "daemon") {
		t.Errorf("with a wrong key: %d %s", status, body)
	}
}

func TestOddRolesOfATokenAreNotShown(t *testing.T) {
	l := newLedger()
	l.hold(t, "t", graphScope, "Mail.Send", "\x1b[31mred", "", "two words", strings.Repeat("x", 200))
	if a := l.of(t, graphScope); uses(a) != "Mail.Send unused 0" {
		t.Errorf("roles: %s", uses(a))
	}
}

func ExampleUsage_Report() {
	l := newLedger()
	l.Record(call("orders", "GET", "/orders/4711", 200))
	for _, a := range l.Report(l.table).APIs {
		calls, _ := json.Marshal(a.Calls)
		fmt.Println(a.Credential, a.Scope, strings.Contains(string(calls), `"template":"/orders/{id}"`))
	}
	// Output:
	// daemon api://orders/.default true
	// daemon https://graph.microsoft.com/.default false
}
