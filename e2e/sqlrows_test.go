package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sqlRow is a driver that nobody here wrote, in one of its ways to encrypt.
type sqlRow struct {
	driver, encrypt string
	// without are steps that the driver has no way to make, and with those
	// that it makes beside the usual ones, or otherwise.
	without string
	with    map[string]string
}

func (r sqlRow) name() string { return r.driver + " " + r.encrypt }

func sqlRows() []sqlRow {
	var all []sqlRow
	add := func(r sqlRow, encrypts ...string) {
		for _, e := range encrypts {
			r.encrypt = e
			all = append(all, r)
		}
	}
	add(sqlRow{driver: "go-mssqldb", without: "reset"}, "disable", "false", "true", "strict")
	add(sqlRow{driver: "tedious", with: map[string]string{"cancel": "ECANCEL", "reset": "8", "bulk": "50000"}}, "false", "true", "strict")
	add(sqlRow{driver: "mssql", with: map[string]string{"cancel": "ECANCEL", "pool": "190"}}, "false", "true", "strict")
	add(sqlRow{driver: "pymssql"}, "off", "request", "require")
	add(sqlRow{driver: "pytds", with: map[string]string{"mars": "2001000 500500"}}, "off", "on")
	add(sqlRow{driver: "pyodbc"}, "off", "request", "require")
	add(sqlRow{driver: "SqlClient", with: map[string]string{"bulk": "50001", "pool": "1", "mars": "2001000 500500"}}, "False", "True")
	add(sqlRow{driver: "tsql", without: "echo rollback commit cancel after"}, "off", "request", "require")
	add(sqlRow{driver: "bsqldb", without: "echo rollback commit cancel after"}, "off", "request", "require")
	return all
}

// want are the lines that r has to print.
func (r sqlRow) want() map[string]string {
	want := map[string]string{
		"who": sqlPrincipal, "echo": "true", "rows": "5000", "rollback": "0", "commit": "1",
		"raised": "50000 boom", "cancel": "stopped", "after": "7",
	}
	for name, value := range r.with {
		want[name] = value
	}
	for _, name := range strings.Fields(r.without) {
		delete(want, name)
	}
	return want
}

// command is the program of r's driver; only is the one step to make, or "".
func (f *sqlField) command(t *testing.T, r sqlRow, user, password, only string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	t.Cleanup(cancel)
	arguments := []string{r.driver, "localhost", f.port, r.encrypt, f.ca, user, password}
	if only != "" {
		arguments = append(arguments, only)
	}
	var cmd *exec.Cmd
	switch r.driver {
	case "tedious", "mssql":
		cmd = exec.CommandContext(ctx, "node", append([]string{"clients/sql/work.mjs"}, arguments...)...)
	case "pymssql", "pytds", "pyodbc":
		cmd = exec.CommandContext(ctx, tool("python"), append([]string{"clients/sql/work.py"}, arguments...)...)
	case "SqlClient":
		if only == "" {
			only = "work"
		}
		cmd = exec.CommandContext(ctx, "mono", sqlClient(t), f.connectionString(r.encrypt, user, password), only)
	case "tsql":
		cmd = exec.CommandContext(ctx, "tsql", "-o", "q", "-S", "door", "-U", user, "-P", password, "-D", "d1")
	case "bsqldb":
		cmd = exec.CommandContext(ctx, "bsqldb", "-q", "-S", "door", "-U", user, "-P", password, "-D", "d1")
	default:
		t.Fatalf("no program for %s", r.driver)
	}
	if cmd.Stdin == nil && (r.driver == "tsql" || r.driver == "bsqldb") {
		cmd.Stdin = strings.NewReader(freeTDSScript(only))
	}
	cmd.Env = append(bareEnvironment(), "LC_ALL=C.UTF-8", "PYTHONIOENCODING=utf-8", "FREETDSCONF="+f.freeTDS(t, r.encrypt), "HOME="+filepath.Dir(f.ca))
	return cmd
}

// connectionString is SqlClient's. It takes whatever certificate it is shown:
// mono has no way to be told of another root for one connection.
func (f *sqlField) connectionString(encrypt, user, password string) string {
	return fmt.Sprintf("Server=localhost,%s;Database=d1;User Id=%s;Password=%s;Application Name=worker;Connect Timeout=60;Encrypt=%s;TrustServerCertificate=%s",
		f.port, user, password, encrypt, encrypt)
}

// freeTDS writes a freetds.conf with the door.
func (f *sqlField) freeTDS(t *testing.T, encrypt string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "freetds.conf")
	conf := "tds version = 7.4\nclient charset = UTF-8\n"
	switch encrypt {
	case "off", "request", "require":
		conf += "encryption = " + encrypt + "\n"
	}
	if encrypt == "require" {
		conf += "ca file = " + f.ca + "\ncheck certificate hostname = yes\n"
	}
	write(t, path, "[global]\n"+conf+fmt.Sprintf("[door]\nhost = localhost\nport = %s\n%s", f.port, conf))
	return path
}

// freeTDSScript is what tsql and bsqldb read.
func freeTDSScript(only string) string {
	script := "SELECT 'who=' + SUSER_SNAME()\nGO\n"
	if only == "" {
		script += "SELECT 'rows=', n FROM numbers(5000)\nGO\nRAISERROR('boom', 16, 1)\nGO\n"
	}
	return script
}

// sqlClient compiles the program of System.Data.SqlClient.
func sqlClient(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "Work.exe")
	cmd := exec.CommandContext(t.Context(), "mcs", "-r:System.Data", "-out:"+path, "clients/sql/Work.cs")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mcs: %v\n%s", err, out)
	}
	return path
}

// steps reads the lines "name=value".
func steps(out string) map[string]string {
	got := map[string]string{}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			got[name] = strings.TrimSpace(value)
		}
	}
	// FreeTDS' own tools have no line of the kind for an error.
	if _, ok := got["raised"]; !ok && strings.Contains(out, "Msg 50000") && strings.Contains(out, "boom") {
		got["raised"] = "50000 boom"
	}
	return got
}

// TestDriversWorkThroughTheDoor has each driver do what applications do, in each
// of its ways to encrypt, with the server in both of its own.
func TestDriversWorkThroughTheDoor(t *testing.T) {
	t.Parallel()
	for _, upstream := range []string{"mandatory", "strict"} {
		for _, r := range sqlRows() {
			t.Run(r.name()+" to "+upstream, func(t *testing.T) {
				t.Parallel()
				f := newSQLField(t, sqlSetup{keys: ", upstream_tls: " + upstream})
				var out string
				var err error
				if r.driver == "go-mssqldb" {
					out = f.work(t, r.encrypt)
				} else {
					out, err = f.run(t, f.command(t, r, "any", "any", ""))
				}
				got := steps(out)
				for name, want := range r.want() {
					if got[name] != want {
						t.Errorf("%s = %q, want %q", name, got[name], want)
					}
				}
				if r.want()["cancel"] != "" && f.far.Counts().Attentions == 0 {
					t.Error("the server saw no attention")
				}
				if slices.Contains([]string{"go-mssqldb", "tedious", "SqlClient"}, r.driver) && f.far.Counts().Resets == 0 {
					t.Error("the server saw no reset")
				}
				if f.judgeLogins(t, r, upstream); t.Failed() {
					t.Logf("%v\n%s", err, tail(out, 3000))
				}
			})
		}
	}
}

// judgeLogins checks what the server saw of r, and what came over the wire.
func (f *sqlField) judgeLogins(t *testing.T, r sqlRow, upstream string) {
	t.Helper()
	logins := f.far.Logins()
	if len(logins) == 0 {
		t.Error("the server saw no login")
	}
	for _, l := range logins {
		if l.Strict != (upstream == "strict") || l.Server != "sandbox.database.windows.net" || l.Database != "d1" || l.User != sqlPrincipal {
			t.Errorf("the server saw a login with TDS 8.0 %t, server %q, database %q, user %q", l.Strict, l.Server, l.Database, l.User)
		}
	}
	clear := strings.Contains(narrow(f.tap.bytes.String()), "SUSER_SNAME()")
	if want := slices.Contains([]string{"disable", "false", "off", "False", "request"}, r.encrypt); clear != want {
		t.Errorf("statements are to be read between driver and door: %t, with encryption %s", clear, r.encrypt)
	}
}
