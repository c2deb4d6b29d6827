package routes_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

func understood(t testing.TB, text string) *routes.Table {
	t.Helper()
	parsed, err := routes.Parse("routes.yaml", []byte(text), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

const passing = `version: 1
egress: {allow: [login.test, "*.suffix.test", other.test:8443, "[2001:db8::1]:443", plain.test:80]}
routes: [{preset: graph}]
`

func TestOnlyWhatIsAllowedIsPassedThrough(t *testing.T) {
	closed := understood(t, passing)
	open := understood(t, strings.Replace(passing, "{allow", "{default: tunnel, allow", 1))
	for _, tt := range []struct {
		host         string
		allow, every bool
	}{
		{"login.test:443", true, true},
		{"login.test:80", false, true},
		{"login.test:8443", false, false},
		{"xlogin.test:443", false, true},
		{"login.test.evil.test:443", false, true},
		{"suffix.test:443", false, true},
		{"a.suffix.test:443", true, true},
		{"a.b.suffix.test:443", true, true},
		{"xsuffix.test:443", false, true},
		{"a.suffix.test:8443", false, false},
		{"other.test:8443", true, true},
		{"other.test:443", false, true},
		{"[2001:db8::1]:443", true, true},
		{"[2001:db8::2]:443", false, true},
		{"plain.test:80", true, true},
		{"plain.test:443", false, true},
		{"mail.test:25", false, false},
	} {
		a, err := routes.ParseAuthority(tt.host, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := closed.Egress.Passes(a); got != tt.allow {
			t.Errorf("Passes(%s) with default: deny = %t, want %t", a, got, tt.allow)
		}
		if got := open.Egress.Passes(a); got != tt.every {
			t.Errorf("Passes(%s) with default: tunnel = %t, want %t", a, got, tt.every)
		}
	}
}

func TestAnAbsentEgressDeniesAllAndPrivateAddressesToo(t *testing.T) {
	e := understood(t, "version: 1\nroutes: [{preset: graph}]\n").Egress
	if e.Tunnel || e.Allow != nil || !e.DenyPrivate || e.Proxy != nil {
		t.Errorf("Egress = %+v, want the one that denies", e)
	}
}

func TestTheFolderOfTheCAIsOfTheFilesOwn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "routes.yaml")
	for given, want := range map[string]string{"ca": filepath.Join(dir, "ca"), "/var/lib/ca": "/var/lib/ca", "../ca": filepath.Join(filepath.Dir(dir), "ca")} {
		write(t, path, "version: 1\nintercept: {ca_dir: "+given+"}\nroutes: [{preset: graph}]\n")
		table, err := routes.Load(path, os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		if table.Intercept == nil || table.Intercept.CADir != want {
			t.Errorf("Intercept of ca_dir: %s = %+v, want %s", given, table.Intercept, want)
		}
		if slices.Contains(table.Files(), want) {
			t.Errorf("Files() = %v holds the CA's folder, whose change needs a restart", table.Files())
		}
	}
}

const handing = `version: 1
credentials:
  default: {tenant_id: contoso.com, client_id: c, client_secret: {env: S}}
  gov: {tenant_id: contoso.com, client_id: c, client_secret: {env: S}, cloud: usgov}
  local: {tenant_id: contoso.com, client_id: c, client_secret: {env: S}, authority_host: "http://localhost"}
  other: {token_endpoint: "https://idp.test:8443/token", client_id: c, client_secret: {env: S}}
  issued: {issuer: "https://issuer.test/realm", client_id: c, client_secret: {env: S}}
  machine: {managed_identity: {}}
routes:
  - {name: a, hosts: [a.test], scope: api://a/.default, hand_out: placeholder}
  - {name: b, hosts: [b.test], scope: api://b/.default, hand_out: placeholder, credential: gov}
  - {name: c, hosts: [c.test], scope: api://c/.default, hand_out: placeholder, credential: local}
  - {name: d, hosts: [d.test], hand_out: placeholder, credential: other}
  - {name: e, hosts: [e.test], hand_out: placeholder, credential: issued}
  - {name: f, hosts: [f.test], scope: api://f/.default, hand_out: placeholder, credential: machine}
  - {name: g, hosts: [10.0.0.7], scope: api://g/.default, credential: default}
`

func TestTheCASignsForRoutedHostsAndTheLoginHostsOfPlaceholdersAlone(t *testing.T) {
	table := understood(t, handing)
	want := []string{"a.test", "b.test", "c.test", "d.test", "e.test", "f.test", "idp.test", "issuer.test",
		"localhost", "login.microsoftonline.com", "login.microsoftonline.us"}
	if got := table.InterceptedHosts(); !slices.Equal(got, want) {
		t.Errorf("InterceptedHosts() = %v, want %v", got, want)
	}
	logins := map[string]string{"a": "login.microsoftonline.com:443", "b": "login.microsoftonline.us:443", "c": "localhost:80",
		"d": "idp.test:8443", "e": "issuer.test:443", "f": "", "g": ""}
	for _, r := range table.Routes {
		a, ok := r.LoginHost()
		if got := a.String(); ok != (logins[r.Name] != "") || ok && got != logins[r.Name] {
			t.Errorf("LoginHost() of %s = %s, %t, want %q", r.Name, got, ok, logins[r.Name])
		}
	}
	found := table.Login(routes.Authority{Host: "idp.test", Port: 8443})
	if len(found) != 1 || found[0].Name != "d" {
		t.Errorf("Login(idp.test:8443) = %v, want route d", found)
	}
	if found := table.Login(routes.Authority{Host: "idp.test", Port: 443}); found != nil {
		t.Errorf("Login(idp.test:443) = %v, want none", found)
	}
}

// Whatever stands in egress.allow, it passes hosts that it names and no other.
func FuzzAllow(f *testing.F) {
	for _, seed := range [][2]string{
		{"login.test", "login.test:443"}, {"*.test", "a.test:443"}, {"*.test:80", "test:80"}, {"*", "a.test:443"}, {"https://a.test", "a.test:443"},
		{"10.0.0.0/8", "10.0.0.1:443"}, {"[::1]:443", "[::1]:443"}, {"BÜCHER.example", "xn--bcher-kva.example:443"}, {"*.*", "a.b:443"}, {"a.test.:443", "a.test:443"},
		{"169.254.169.254", "169.254.169.254:443"}, {"*.internal:80", "metadata.google.internal:80"}, {"${X}", "a:443"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, item, host string) {
		a, err := routes.ParseAuthority(host, 443)
		if err != nil {
			return
		}
		table, err := routes.Parse("routes.yaml", []byte("version: 1\negress: {allow: ["+strconv.Quote(item)+"]}\nroutes: [{preset: graph}]\n"), nil)
		if err != nil {
			return
		}
		if n := len(table.Egress.Allow); n != 1 {
			t.Fatalf("%q makes %d patterns, want 1", item, n)
		}
		h := table.Egress.Allow[0]
		want := a.Port == h.Port && (!h.Wildcard && a.Host == h.Host || h.Wildcard && strings.HasSuffix(a.Host, "."+h.Host))
		if got := table.Egress.Passes(a); got != want {
			t.Errorf("Passes(%s) of %q (%s) = %t, want %t", a, item, h, got, want)
		}
		again, err := routes.Parse("routes.yaml", []byte("version: 1\negress: {allow: [\""+h.String()+"\"]}\nroutes: [{preset: graph}]\n"), nil)
		if err != nil || again.Egress.Allow[0] != h {
			t.Errorf("%q is read as %s, which is not read as itself: %v", item, h, err)
		}
		if h.Host == "" || strings.ContainsAny(h.Host, "*/@% ") {
			t.Errorf("%q passes %s", item, h)
		}
	})
}

func ExampleEgress_Passes() {
	table, err := routes.Parse("routes.yaml", []byte(passing), os.LookupEnv)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, host := range []string{"login.test", "a.suffix.test", "elsewhere.test"} {
		fmt.Println(host, table.Egress.Passes(routes.Authority{Host: host, Port: 443}))
	}
	// Output:
	// login.test true
	// a.suffix.test true
	// elsewhere.test false
}
