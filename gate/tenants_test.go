package gate_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

const (
	fabrikam = "fabrikam.onmicrosoft.com"
	litware  = "litware.com"
	guid     = "0a1b2c3d-0000-1111-2222-333344445555"
)

const saas = `  - {name: saas, hosts: [graph.microsoft.com], scope: https://graph.microsoft.com/.default}
`

// tenanted is a gate for one route whose calls choose the tenant.
func tenanted(t testing.TB, c routes.TenantChoice, callers ...*routes.Caller) *gate.Gate {
	t.Helper()
	w := newWorld(t, saas)
	w.route("saas").Tenant, w.Callers = &c, callers
	return gate.New(w.Table, keyed{})
}

func byHeader(t testing.TB, lines ...string) gate.Target {
	t.Helper()
	target := onForward(t, "GET graph.microsoft.com/v1.0/users")
	target.Header = http.Header{"X-Tenant-Id": lines}
	return target
}

func TestOnlyTheNameOfOneTenantNamesATenant(t *testing.T) {
	all := []string{fabrikam, litware, guid, "common", "organizations", "consumers", "127.0.0.1", "a.b", "contoso"}
	g := tenanted(t, routes.TenantChoice{Header: "X-Tenant-Id", Allowed: all})
	long := strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("a", 61)
	for _, tt := range []struct {
		lines []string
		want  string // "" for tenant_denied
	}{
		{[]string{fabrikam}, fabrikam},
		{[]string{"FABRIKAM.onMicrosoft.Com"}, fabrikam},
		{[]string{litware}, litware},
		{[]string{guid}, guid},
		{[]string{strings.ToUpper(guid)}, guid},
		{[]string{"a.b"}, "a.b"},
		{nil, ""},
		{[]string{""}, ""},
		{[]string{fabrikam, fabrikam}, ""},
		{[]string{fabrikam, litware}, ""},
		{[]string{fabrikam, ""}, ""},
		{[]string{fabrikam + "," + litware}, ""},
		{[]string{fabrikam + ", " + fabrikam}, ""},
		{[]string{" " + fabrikam}, ""},
		{[]string{fabrikam + " "}, ""},
		{[]string{fabrikam + "."}, ""},
		{[]string{"." + fabrikam}, ""},
		{[]string{"fabrikam..com"}, ""},
		{[]string{"-fabrikam.com"}, ""},
		{[]string{"fabrikam-.com"}, ""},
		{[]string{"fabrikam.com-"}, ""},
		{[]string{fabrikam + "/oauth2"}, ""},
		{[]string{"../" + fabrikam}, ""},
		{[]string{fabrikam + "%2f.."}, ""},
		{[]string{fabrikam + "\x00"}, ""},
		{[]string{fabrikam + "\r\n"}, ""},
		{[]string{fabrikam + ";x"}, ""},
		{[]string{fabrikam + "?x"}, ""},
		{[]string{fabrikam + "#"}, ""},
		{[]string{fabrikam + ":443"}, ""},
		{[]string{"https://" + fabrikam}, ""},
		{[]string{"fabri\u212aam.onmicrosoft.com"}, ""}, // the Kelvin sign, whose lower case is k
		{[]string{"fabrıkam.onmicrosoft.com"}, ""},
		{[]string{"ｆabrikam.onmicrosoft.com"}, ""},
		{[]string{"fabrikam。onmicrosoft。com"}, ""},
		{[]string{"{" + guid + "}"}, ""},
		{[]string{strings.ReplaceAll(guid, "-", "")}, ""},
		{[]string{"urn:uuid:" + guid}, ""},
		{[]string{guid[:35]}, ""},
		{[]string{guid + "0"}, ""},
		{[]string{"0a1b2c3d-0000-1111-2222-33334444555g"}, ""},
		{[]string{"common"}, ""},
		{[]string{"Common"}, ""},
		{[]string{"organizations"}, ""},
		{[]string{"consumers"}, ""},
		{[]string{"contoso"}, ""}, // neither GUID nor domain, though listed
		{[]string{"other.com"}, ""},
		{[]string{"x." + fabrikam}, ""},
		{[]string{"*"}, ""},
		{[]string{"*.com"}, ""},
		{[]string{"_fabrikam.com"}, ""},
		{[]string{long + "a.com"}, ""},
		{[]string{strings.Repeat("a", 64) + ".com"}, ""},
	} {
		target := byHeader(t, tt.lines...)
		pass, event, code := noted(t, g, target)
		want := gate.Code("")
		if tt.want == "" {
			want = gate.TenantDenied
		}
		if code != want || pass.Tenant != tt.want || pass.Key.Tenant != tt.want || event.Tenant != tt.want {
			t.Errorf("Admit(%q) = %q, tenant %q, key's %q, event's %q; want %q", tt.lines, code, pass.Tenant, pass.Key.Tenant, event.Tenant, tt.want)
		}
		if code == "" && pass.Drop != "X-Tenant-Id" {
			t.Errorf("Admit(%q) drops %q, want the field that named the tenant", tt.lines, pass.Drop)
		}
	}
}

func TestATenantMustBeInTheListsOfRouteAndCaller(t *testing.T) {
	list := fileOf(t, "# customers\n"+fabrikam+"\n")
	callers := []*routes.Caller{
		{Name: "both", Tenants: []string{fabrikam, litware}},
		{Name: "one", Tenants: []string{litware}},
		{Name: "none", Tenants: []string{}},
		{Name: "free"},
	}
	for _, tt := range []struct {
		name   string
		choice routes.TenantChoice
		caller string // "" for a table without
		want   string // of fabrikam, litware and other.com, those that pass
	}{
		{"route's list", routes.TenantChoice{Allowed: []string{fabrikam}}, "", fabrikam},
		{"route's file", routes.TenantChoice{AllowedFile: list}, "", fabrikam},
		{"list and file", routes.TenantChoice{Allowed: []string{litware}, AllowedFile: list}, "", fabrikam + " " + litware},
		{"empty list", routes.TenantChoice{Allowed: []string{}}, "", ""},
		{"no list anywhere", routes.TenantChoice{}, "", ""},
		{"no list anywhere, a caller", routes.TenantChoice{}, "free", ""},
		{"caller's alone", routes.TenantChoice{}, "both", fabrikam + " " + litware},
		{"both lists", routes.TenantChoice{Allowed: []string{fabrikam, "other.com"}}, "both", fabrikam},
		{"lists that do not meet", routes.TenantChoice{Allowed: []string{fabrikam}}, "one", ""},
		{"caller of no tenants", routes.TenantChoice{Allowed: []string{fabrikam}}, "none", ""},
		{"caller without a list", routes.TenantChoice{Allowed: []string{fabrikam}}, "free", fabrikam},
		{"file that is not there", routes.TenantChoice{AllowedFile: list + ".not"}, "both", ""},
	} {
		tt.choice.Header = "X-Tenant-Id"
		var g *gate.Gate
		if tt.caller == "" {
			g = tenanted(t, tt.choice)
		} else {
			g = tenanted(t, tt.choice, callers...)
		}
		var passed []string
		for _, tenant := range []string{fabrikam, litware, "other.com"} {
			target := byHeader(t, tenant)
			target.Caller = &routes.Caller{Name: tt.caller, Tenants: []string{fabrikam, litware, "other.com"}} // the table's own list counts
			if _, _, code := noted(t, g, target); code == "" {
				passed = append(passed, tenant)
			} else if code != gate.TenantDenied {
				t.Errorf("%s: %s = %s, want tenant_denied", tt.name, tenant, code)
			}
		}
		if got := strings.Join(passed, " "); got != tt.want {
			t.Errorf("%s: passed %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestTheTenantOfAPathIsTakenOffIt(t *testing.T) {
	w := newWorld(t, saas+"  - {name: after, hosts: [graph.microsoft.com], scope: https://graph.microsoft.com/.default}\n")
	r := w.route("saas")
	r.Tenant = &routes.TenantChoice{Path: "/t/{tenant}", Allowed: []string{fabrikam, guid}}
	r.Allow = []routes.Rule{rule(t, 5, "GET /v1.0/users/**"), rule(t, 6, "GET /")}
	g := gate.New(w.Table, keyed{})
	for _, tt := range []struct {
		path   string
		want   gate.Code
		tenant string
		rest   string
	}{
		{"/t/" + fabrikam + "/v1.0/users", "", fabrikam, "/v1.0/users"},
		{"/t/FABRIKAM.onmicrosoft.com/v1.0/users", "", fabrikam, "/v1.0/users"},
		{"/t/" + guid + "/v1.0/users/%41%2Eb/", "", guid, "/v1.0/users/%41%2Eb/"},
		{"/t/" + fabrikam, "", fabrikam, "/"},
		{"/t/" + fabrikam + "/", "", fabrikam, "/"},
		{"/t/" + fabrikam + "/v1.0/groups", "rule_denied", "", ""},
		{"/t/" + fabrikam + "/t/" + fabrikam + "/v1.0/users", "rule_denied", "", ""},
		{"/t/other.com/v1.0/users", "tenant_denied", "", ""},
		{"/t/common/v1.0/users", "tenant_denied", "", ""},
		{"/t/", "tenant_denied", "", ""},
		{"/t", "tenant_denied", "", ""},
		{"/", "tenant_denied", "", ""},
		{"/v1.0/users", "tenant_denied", "", ""},
		{"/T/" + fabrikam + "/v1.0/users", "tenant_denied", "", ""},
		{"/%74/" + fabrikam + "/v1.0/users", "tenant_denied", "", ""},
		{"/t/fabrikam%2eonmicrosoft.com/v1.0/users", "tenant_denied", "", ""},
		{"/t/" + fabrikam + ";x=1/v1.0/users", "tenant_denied", "", ""},
		{"/t;x=1/" + fabrikam + "/v1.0/users", "tenant_denied", "", ""},
		{"/t/" + fabrikam + "//v1.0/users", "bad_request", "", ""},
		{"//t/" + fabrikam + "/v1.0/users", "bad_request", "", ""},
		{"/t//" + fabrikam + "/v1.0/users", "bad_request", "", ""},
		{"/t/" + fabrikam + "/../" + guid + "/v1.0/users", "bad_request", "", ""},
		{"/t/" + fabrikam + "/%2e%2e/%2e%2e/x", "bad_request", "", ""},
		{"/t/../t/" + fabrikam + "/v1.0/users", "bad_request", "", ""},
		{"/t/" + fabrikam + "%2fv1.0/users", "bad_request", "", ""},
	} {
		for _, target := range []gate.Target{onForward(t, "GET graph.microsoft.com"+tt.path), onReverse("GET /saas" + tt.path)} {
			pass, event, code := noted(t, g, target)
			if code != tt.want || pass.Tenant != tt.tenant || pass.Key.Tenant != tt.tenant || pass.Path != tt.rest || pass.Drop != "" {
				t.Errorf("Admit(%s %s) = %q, tenant %q, path %q, drop %q; want %q, %q, %q", target.Door, tt.path, code, pass.Tenant, pass.Path, pass.Drop, tt.want, tt.tenant, tt.rest)
			}
			if event.Route != "saas" && code != gate.BadRequest {
				t.Errorf("Admit(%s %s): event of route %q", target.Door, tt.path, event.Route)
			}
		}
	}
	r.Paths = patterns(t, "/v1.0/**")
	g = gate.New(w.Table, keyed{})
	for path, want := range map[string]string{
		"/t/" + fabrikam + "/v1.0/users": "saas",
		"/t/" + fabrikam + "/beta/users": "after",
		"/v1.0/users":                    "after", // the tenant is part of what the paths stand behind
	} {
		pass, _, code := noted(t, g, onForward(t, "GET graph.microsoft.com"+path))
		if code != "" || pass.Route.Name != want || (pass.Tenant != "") != (want == "saas") {
			t.Errorf("Admit(%s) = %q by %v with tenant %q, want %s", path, code, pass.Route, pass.Tenant, want)
		}
	}
}

func TestACallerOfOneTenantGetsThatTenant(t *testing.T) {
	callers := []*routes.Caller{
		{Name: "one", Tenants: []string{litware}}, {Name: "two", Tenants: []string{litware, fabrikam}},
		{Name: "none"}, {Name: "elsewhere", Tenants: []string{"other.com"}},
	}
	g := tenanted(t, routes.TenantChoice{ByCaller: true, Allowed: []string{litware, fabrikam}}, callers...)
	for caller, want := range map[string]string{"one": litware, "two": "", "none": "", "elsewhere": ""} {
		target := byHeader(t, fabrikam)
		target.Caller = &routes.Caller{Name: caller}
		pass, _, code := noted(t, g, target)
		if (code == "") != (want != "") || code != "" && code != gate.TenantDenied || pass.Key.Tenant != want || pass.Drop != "" {
			t.Errorf("%s: %q with tenant %q, want %q", caller, code, pass.Key.Tenant, want)
		}
	}
	if _, _, code := noted(t, tenanted(t, routes.TenantChoice{ByCaller: true, Allowed: []string{litware}}), byHeader(t, litware)); code != gate.TenantDenied {
		t.Errorf("without callers: %q, want tenant_denied", code)
	}
}

func TestCredentialsOfOneTenantHaveNoOther(t *testing.T) {
	choice := &routes.TenantChoice{Header: "X-Tenant-Id", Allowed: []string{fabrikam}}
	for name, change := range map[string]func(w world) gate.Keys{
		"keys of one tenant": func(world) gate.Keys { return oneTenant{} },
		"another server":     func(w world) gate.Keys { w.route("saas").Credential = w.Credential("other"); return keyed{} },
		"managed identity": func(w world) gate.Keys {
			w.route("saas").Credential.ManagedIdentity = &routes.ManagedIdentity{}
			return keyed{}
		},
		"container registry": func(w world) gate.Keys { w.route("saas").Registry = true; return keyed{} },
	} {
		w := newWorld(t, saas)
		w.route("saas").Tenant = choice
		g := gate.New(w.Table, change(w))
		if _, _, code := noted(t, g, byHeader(t, fabrikam)); code != gate.TenantDenied {
			t.Errorf("%s: %q, want tenant_denied", name, code)
		}
	}
}

func TestBothTokensAreOfTheTenant(t *testing.T) {
	w := newWorld(t, saas)
	r := w.route("saas")
	r.Tenant, r.Second = &routes.TenantChoice{Header: "X-Tenant-Id", Allowed: []string{fabrikam}}, &routes.SecondToken{Header: "X-Management", Scope: "arm/.default"}
	pass, _, code := noted(t, gate.New(w.Table, keyed{}), byHeader(t, fabrikam))
	if code != "" || pass.Key.Tenant != fabrikam || pass.SecondKey.Tenant != fabrikam || pass.SecondKey.Scope != "arm/.default" {
		t.Errorf("Admit = %q, keys %v and %v, want both of %s", code, pass.Key, pass.SecondKey, fabrikam)
	}
}

func fileOf(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tenants.txt")
	overwrite(t, path, content)
	return path
}

func overwrite(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAListOfTenantsIsReadStrictly(t *testing.T) {
	for content, want := range map[string]string{
		"":                               "no",
		"\n\n# nobody\n":                 "no",
		fabrikam:                         "yes",
		"\ufeff" + fabrikam + "\n":       "yes",
		"  FABRIKAM.OnMicrosoft.com\r\n": "yes",
		guid + "\n" + fabrikam + " # of " + litware + "\n": "yes",
		"#" + fabrikam + "\n":                              "no",
		guid + "\n" + guid + "\n":                          "no",
		fabrikam + "\ncontoso\n":                           "error: line 2 is neither the GUID nor the domain of a tenant",
		fabrikam + " " + litware + "\n":                    "error: line 1 is neither the GUID nor the domain of a tenant",
		fabrikam + "\n*.com\n":                             "error: line 2 is neither",
		fabrikam + "\n" + strings.Repeat("a", 5000) + "\n": "error: line 2 is longer",
		fabrikam + "\n\x00\n":                              "error: line 2 is neither",
	} {
		w := newWorld(t, saas)
		w.route("saas").Tenant = &routes.TenantChoice{Header: "X-Tenant-Id", AllowedFile: fileOf(t, content)}
		g, errs := gate.Renew(nil, w.Table, keyed{})
		_, _, code := noted(t, g, byHeader(t, fabrikam))
		got := map[gate.Code]string{"": "yes", gate.TenantDenied: "no"}[code]
		if len(errs) > 0 {
			got = "error: " + errs[0].Error()
			if code != gate.TenantDenied {
				t.Errorf("%.40q: %q beside an error", content, code)
			}
		}
		if want, isError := strings.CutPrefix(want, "error: "); isError {
			if !strings.Contains(got, want) || !strings.Contains(got, "route saas: tenant.allowed_file") {
				t.Errorf("%.40q: %s, want %s", content, got, want)
			}
		} else if got != want {
			t.Errorf("%.40q: %s, want %s", content, got, want)
		}
	}
}

func TestAListThatCannotBeReadAnyMoreStaysWhatItWas(t *testing.T) {
	path := fileOf(t, fabrikam)
	w := newWorld(t, saas)
	w.route("saas").Tenant = &routes.TenantChoice{Header: "X-Tenant-Id", AllowedFile: path}
	step := func(previous *gate.Gate, alarms int, passes ...string) *gate.Gate {
		t.Helper()
		g, errs := gate.Renew(previous, w.Table, keyed{})
		if len(errs) != alarms {
			t.Errorf("alarms = %v, want %d", errs, alarms)
		}
		for _, tenant := range []string{fabrikam, litware} {
			_, _, code := noted(t, g, byHeader(t, tenant))
			if want := strings.Contains(strings.Join(passes, " "), tenant); (code == "") != want {
				t.Errorf("%s: %q, want it to pass: %t", tenant, code, want)
			}
		}
		return g
	}
	g := step(nil, 0, fabrikam)
	overwrite(t, path, "no tenant")
	g = step(g, 1, fabrikam)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	g = step(g, 1, fabrikam) // however often
	overwrite(t, path, litware)
	g = step(g, 0, litware)
	overwrite(t, path, "")
	g = step(g, 0)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	step(g, 1)
	step(nil, 1)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	step(nil, 1)
}

// million is a file of a million tenants, one of ten by its domain.
func million(tb testing.TB) string {
	tb.Helper()
	var b bytes.Buffer
	for i := range 1_000_000 {
		if i%10 == 0 {
			fmt.Fprintf(&b, "tenant-%d.onmicrosoft.com\n", i)
		} else {
			fmt.Fprintf(&b, "%08x-0000-4000-8000-%012x\n", uint32(i)*2654435761, i)
		}
	}
	return fileOf(tb, b.String())
}

// BenchmarkMillionTenants tells how long the list takes to load, and what it
// keeps.
func BenchmarkMillionTenants(b *testing.B) {
	w := newWorld(b, saas)
	w.route("saas").Tenant = &routes.TenantChoice{Header: "X-Tenant-Id", AllowedFile: million(b)}
	var g *gate.Gate
	b.Run("load", func(b *testing.B) {
		var before, after runtime.MemStats
		for b.Loop() {
			g = nil
			runtime.GC()
			runtime.ReadMemStats(&before)
			var errs []error
			if g, errs = gate.Renew(nil, w.Table, keyed{}); len(errs) > 0 {
				b.Fatal(errs)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "bytes/tenant")
	})
	b.Run("admit", func(b *testing.B) {
		target := byHeader(b, "tenant-777770.onmicrosoft.com")
		ctx, _ := stampable(b)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := g.Admit(ctx, target); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func FuzzTenant(f *testing.F) {
	for _, seed := range []string{fabrikam, strings.ToUpper(guid), "common", "a..b", "-a.b", "fabri\u212aam.com", strings.Repeat("a.", 127), "a.b,c.d"} {
		f.Add(seed)
	}
	own := tenanted(f, routes.TenantChoice{Header: "X-Tenant-Id"}, &routes.Caller{Name: "c", Tenants: []string{fabrikam, guid}})
	f.Fuzz(func(t *testing.T, value string) {
		target := byHeader(t, value)
		target.Caller = &routes.Caller{Name: "c"}
		pass, _, code := noted(t, own, target)
		if known := strings.EqualFold(value, fabrikam) && len(value) == len(fabrikam) || strings.EqualFold(value, guid) && len(value) == len(guid); known != (code == "") {
			t.Errorf("Admit(%q) = %q", value, code)
		}
		if code == "" && pass.Tenant != fabrikam && pass.Tenant != guid {
			t.Errorf("Admit(%q): tenant %q", value, pass.Tenant)
		}
		// Whatever passes is one segment of a path, and no other host.
		g := tenanted(t, routes.TenantChoice{Header: "X-Tenant-Id", Allowed: []string{strings.ToLower(value)}})
		if pass, _, code := noted(t, g, byHeader(t, value)); code == "" {
			if len(pass.Tenant) > 253 || strings.Trim(pass.Tenant, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || strings.Contains(pass.Tenant, "..") || !strings.ContainsAny(pass.Tenant, ".-") {
				t.Errorf("Admit(%q): tenant %q", value, pass.Tenant)
			}
		}
	})
}
