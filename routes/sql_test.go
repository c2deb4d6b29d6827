package routes_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/routes"
)

// showSQL prints all that is read of a SQL door.
func showSQL(b *strings.Builder, d *routes.SQL) {
	fmt.Fprintf(b, "sql %s line %d: %s at %s to %v credential %s", d.Name, d.Line, d.Kind, d.Listen, d.Servers, d.Credential.Name)
	show(b, "scope", d.Scope)
	show(b, "dial", d.Dial)
	show(b, "ca", d.CAFile)
	show(b, "redirects", fmt.Sprint(d.RedirectSuffixes))
	for _, c := range d.Callers {
		show(b, "caller", c.Name)
	}
	show(b, "database", d.Database)
	show(b, "app name", d.AppNameSuffix)
	show(b, "certificate", strings.TrimSpace(d.CertificateFile+" "+d.KeyFile))
	fmt.Fprintf(b, "\n  by name %t strict %t force %t read only %t plain %t client tls %s\n", d.ByName, d.Strict, d.ForceDatabase, d.ReadOnly, d.Plain, d.ClientTLS)
	fmt.Fprintf(b, "  sessions %d login %s relogin %s age %s\n", d.MaxConnections, d.LoginTimeout, d.ReloginSkew, d.MaxSessionAge)
}

// sqlTable is a table with those doors, and nothing wrong in it.
func sqlTable(t *testing.T, head, doors string) *routes.Table {
	t.Helper()
	table, err := routes.Parse("routes.yaml", []byte(idp+head+"sql:\n"+doors), nil)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestTheCASignsForTheDoorsThatShowItsCertificates(t *testing.T) {
	const server = "scope: sql, server: a.database.windows.net"
	loopback := []string{"127.0.0.1", "::1", "localhost"}
	for doors, want := range map[string][]string{
		"  - {name: a, listen: 127.0.0.1:1433, " + server + "}\n":                                                                                       append([]string{"a.database.windows.net"}, loopback...),
		"  - {name: a, listen: 127.0.0.1:1433, " + server + ", client_tls: required}\n":                                                                 append([]string{"a.database.windows.net"}, loopback...),
		"  - {name: a, listen: 127.0.0.1:1433, " + server + ", client_tls: off}\n":                                                                      nil,
		"  - {name: a, listen: 127.0.0.1:1433, " + server + ", certificate_file: a.pem}\n":                                                              nil,
		"  - {name: a, listen: 127.0.0.1:1433, scope: sql, server: 10.0.0.7}\n":                                                                         loopback,
		"  - {name: a, listen: 127.0.0.1:1433, scope: sql, servers: [localhost, b.corp.example]}\n  - {name: b, listen: 127.0.0.1:1, " + server + "}\n": append([]string{"a.database.windows.net", "b.corp.example"}, loopback...),
	} {
		table := sqlTable(t, "intercept: {ca_dir: ca}\n", doors)
		got := table.InterceptedHosts()
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("InterceptedHosts() with\n%s= %q, want %q", doors, got, want)
		}
		if strings.Contains(doors, "required") {
			continue // which needs a certificate that clients can check
		}
		if got := sqlTable(t, "", doors).InterceptedHosts(); len(got) > 0 {
			t.Errorf("without a CA of the file's own, one for tunnels alone would sign for %q", got)
		}
	}
}

func TestATableForOneCallerOpensNoDoorsOfItsOwn(t *testing.T) {
	table := sqlTable(t, "", "  - {name: a, listen: 127.0.0.1:1433, scope: sql, server: a.corp.example}\n")
	as, _ := table.As("job", routes.Caller{})
	if len(as.SQL) != 0 || len(table.SQL) != 1 {
		t.Errorf("doors of the table for one caller = %d, of the file's = %d; want 0, 1", len(as.SQL), len(table.SQL))
	}
}

func TestDoorsThatOthersCanReachSaySo(t *testing.T) {
	for listen, off := range map[string]bool{
		"127.0.0.1:1433": false, "localhost:1433": false, "'[::1]:1433'": false, "unix:/run/sql.sock": false, "127.9.9.9:0": false,
		"0.0.0.0:1433": true, "'[::]:1433'": true, "10.0.0.1:1433": true, "gw.corp.example:1433": true,
	} {
		d := sqlTable(t, "", "  - {name: a, scope: sql, server: a.corp.example, listen: "+listen+"}\n").SQL[0]
		if d.OffLoopback() != off {
			t.Errorf("OffLoopback() of %s = %t, want %t", listen, !off, off)
		}
	}
}

// Every two addresses of which one takes the other's place are refused, and
// others are not.
func TestTwoDoorsCannotListenAtOneAddress(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"127.0.0.1:1433", "127.0.0.1:1433", true},
		{"127.0.0.1:1433", "127.0.0.1:01433", true},
		{"127.0.0.1:1433", "localhost:1433", true},
		{"127.0.0.1:1433", "0.0.0.0:1433", true},
		{"[::]:1433", "10.0.0.1:1433", true},
		{"[::]:1433", "0.0.0.0:1433", true},
		{"[::ffff:127.0.0.1]:1433", "127.0.0.1:1433", true},
		{"gw.example:1433", "GW.example:1433", true},
		{"unix:/run/a.sock", "unix:/run/a.sock", true},
		{"127.0.0.1:1433", "127.0.0.1:1434", false},
		{"127.0.0.1:1433", "127.0.0.2:1433", false},
		{"0.0.0.0:1433", "[::1]:1433", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{"unix:/run/a.sock", "unix:/run/b.sock", false},
		{"gw.example:1433", "127.0.0.1:1433", false},
	} {
		for _, order := range [][2]string{{tt.a, tt.b}, {tt.b, tt.a}} {
			src := fmt.Sprintf("%ssql:\n  - {name: a, scope: sql, server: a.corp.example, listen: '%s'}\n  - {name: b, scope: sql, server: a.corp.example, listen: '%s'}\n", idp, order[0], order[1])
			_, err := routes.Parse("routes.yaml", []byte(src), nil)
			if (err != nil) != tt.same || err != nil && !strings.Contains(err.Error(), "listens at this address too") {
				t.Errorf("%s beside %s: %v, want a mistake: %t", order[1], order[0], err, tt.same)
			}
		}
	}
}

// Aliases could make any number of doors and servers of a short file.
func TestDoorsAndTheirServersAreBounded(t *testing.T) {
	many := func(n int, form string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, form, i)
		}
		return b.String()
	}
	for what, src := range map[string]string{
		"names more than 1000 doors":  "sql:\n" + many(1001, "  - {name: d%d, listen: '127.0.0.1:0', scope: sql, server: a.corp.example}\n"),
		"has more than 256 entries":   "sql:\n  - {name: a, listen: '127.0.0.1:0', scope: sql, servers: [" + many(257, "s%d.corp.example, ") + "]}\n",
		"has more than 256 entries\n": "sql:\n  - {name: a, listen: '127.0.0.1:0', scope: sql, server: a.corp.example, redirect_suffixes: [" + many(257, ".s%d.example, ") + "]}\n",
	} {
		_, err := routes.Parse("routes.yaml", []byte(idp+src), nil)
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("Parse() = %v, want a mistake that %s", err, what)
		}
	}
	table := sqlTable(t, "", many(1000, "  - {name: d%d, listen: '127.0.0.1:0', scope: sql, server: a.corp.example}\n"))
	if len(table.SQL) != 1000 {
		t.Errorf("%d doors, want 1000", len(table.SQL))
	}
}

func TestVariablesOfADoorAreNeverRepeated(t *testing.T) {
	const hidden = "s3cr3t-from-the-environment!"
	env := func(string) (string, bool) { return hidden, true }
	for _, keys := range []string{
		"server: '${X}', listen: '${X}', kind: '${X}', name: '${X}'", "server: 'tcp:${X},1433'", `server: 'host\${X}'`, "servers: ['${X}', '${X}']", "dial: '${X}'",
		"redirect_suffixes: ['*.${X}', '.${X}', '${X}']", "credential: '${X}'", "scope: '${X}'", "callers: ['${X}']", "client_tls: '${X}', upstream_tls: '${X}'",
		"max_connections: '${X}', login_timeout: '${X}', max_session_age: '${X}', relogin: {skew: '${X}'}", "relogin: '${X}'",
		"database: '${X}${X}${X}${X}${X}${X}', app_name_suffix: '${X}${X}${X}'", "read_only: '${X}', force_database: '${X}', plain: '${X}'",
	} {
		_, err := routes.Parse("routes.yaml", []byte(idp+"sql: [{"+keys+"}]\n"), env)
		if err == nil {
			t.Errorf("Parse() accepted %s", keys)
		} else if strings.Contains(err.Error(), hidden) {
			t.Errorf("Parse() repeats what the variable of %s holds:\n%v", keys, err)
		}
	}
}

func ExampleTable_InterceptedHosts() {
	table, err := routes.Parse("routes.yaml", []byte(`version: 1
intercept: {ca_dir: /var/lib/gateway/ca}
sql:
  - {name: orders-db, listen: 127.0.0.1:1433, server: orders-srv.database.windows.net}
`), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(table.InterceptedHosts())
	fmt.Println(table.SQL[0].Scope)
	// Output:
	// [127.0.0.1 ::1 localhost orders-srv.database.windows.net]
	// https://database.windows.net//.default
}
