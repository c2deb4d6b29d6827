package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// sqlKey is what gateway keygen makes for a caller: the lines of routes.yaml, and
// the key.
func sqlKey(t testing.TB, name string) (section, key string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool("gateway"), "keygen", name)
	cmd.Env = bareEnvironment()
	out, err := cmd.Output()
	key, rest, _ := strings.Cut(string(out), "\n")
	_, section, found := strings.Cut(rest, "callers:")
	if err != nil || !found || len(key) < 40 {
		t.Fatalf("gateway keygen: %v", err)
	}
	return "callers:" + section, key
}

// asks is the value of ENCRYPTION that r's driver sends, or strict.
func (r sqlRow) asks() string {
	switch r.encrypt {
	case "strict":
		return "strict"
	case "true", "on", "require", "True":
		return "ON"
	case "request", "False":
		return "OFF"
	case "false":
		if r.driver == "go-mssqldb" {
			return "OFF"
		}
	}
	return "NOT_SUP"
}

// meets is the client_tls of the session that r's driver gets at a door, "" if
// driver or door give up.
func (r sqlRow) meets(mode string, callers bool) string {
	asks := r.asks()
	upgrades := asks == "OFF" || asks == "NOT_SUP" && slices.Contains([]string{"pymssql", "pyodbc", "tsql", "bsqldb"}, r.driver) // FreeTDS can after all
	switch {
	case mode == "off" && (asks == "ON" || asks == "strict"):
		return ""
	case mode == "off":
		return "off"
	case asks == "strict":
		return "strict"
	case asks == "ON", mode == "required" && upgrades, callers && asks == "OFF":
		return "mandatory"
	case mode == "required":
		return ""
	}
	return "off"
}

func TestDriversMeetTheTLSOfTheTableWithKeysAndWithout(t *testing.T) {
	t.Parallel()
	const name = "r.e-ports_2"
	for _, callers := range []bool{false, true} {
		for _, mode := range []string{"off", "optional", "required"} {
			t.Run(fmt.Sprintf("%s, callers %t", mode, callers), func(t *testing.T) {
				t.Parallel()
				s := sqlSetup{keys: ", client_tls: " + mode}
				user, password := "any", "any"
				if callers {
					user = name
					s.sections, password = sqlKey(t, name)
					s.keys += ", callers: [" + name + "]"
				}
				f := newSQLField(t, s)
				for _, r := range sqlRows() {
					logged := len(f.g.stdout.String())
					out := f.asWho(t, r, user, password)
					want := r.meets(mode, callers)
					if got := steps(out)["who"] == sqlPrincipal; got != (want != "") {
						t.Errorf("%s: logged in: %t, want %t: %s", r.name(), got, want != "", tail(out, 400))
					}
					log := f.g.stdout.String()[logged:]
					if want != "" && !strings.Contains(log, `"gateway.sql.client_tls":"`+want+`"`) {
						t.Errorf("%s: the session is not %q: %s", r.name(), want, tail(log, 800))
					}
				}
				if all := f.g.stdout.String() + f.g.stderr.String(); callers && strings.Contains(all, password) {
					t.Error("the key is in the log")
				}
			})
		}
	}
}

// asWho has r's driver ask who it is, and returns what it printed.
func (f *sqlField) asWho(t *testing.T, r sqlRow, user, password string) string {
	t.Helper()
	if r.driver == "go-mssqldb" {
		who, err := whoever(t.Context(), f.pool(t, user, password, "encrypt="+r.encrypt))
		return fmt.Sprintf("who=%s\n%s", who, told(err))
	}
	out, _ := f.run(t, f.command(t, r, user, password, "who"))
	return out
}

func TestAKeyInTheWrongPlaceAndAnEmptyPasswordAreRefusedAndStayOutOfTheLog(t *testing.T) {
	t.Parallel()
	section, key := sqlKey(t, "reports")
	f := newSQLField(t, sqlSetup{sections: section, keys: ", callers: [reports]"})
	for _, r := range sqlRows() {
		if r.asks() != "NOT_SUP" || !slices.Contains([]string{"go-mssqldb", "tsql", "pytds"}, r.driver) {
			continue
		}
		for _, who := range [][2]string{{key, "any"}, {"reports", ""}, {key, key}} {
			if out := f.asWho(t, r, who[0], who[1]); steps(out)["who"] == sqlPrincipal || !strings.Contains(out, "18456") && !strings.Contains(out, "gateway:") {
				t.Errorf("%s, user of %d and password of %d characters: %s", r.name(), len(who[0]), len(who[1]), tail(strings.ReplaceAll(out, key, "KEY"), 400))
			}
		}
	}
	if all := f.g.stdout.String() + f.g.stderr.String(); strings.Contains(all, key) || strings.Contains(all, key[:20]) {
		t.Error("a key that was shown as user is in the log")
	}
	if n := len(f.far.Logins()); n != 0 {
		t.Errorf("%d logins reached the server", n)
	}
}
