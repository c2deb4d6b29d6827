package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// sqlFew are one row of each driver.
func sqlFew() []sqlRow {
	var few []sqlRow
	seen := map[string]bool{}
	for _, r := range sqlRows() {
		if !seen[r.driver] {
			seen[r.driver] = true
			few = append(few, r)
		}
	}
	return few
}

// numberless tells that r's driver has no number in what it says of a login.
func (r sqlRow) numberless() bool { return r.driver == "pytds" || r.driver == "mssql" }

// who asks by r's driver whom the server sees, and returns all that it printed.
func (f *sqlField) who(t *testing.T, r sqlRow, user, password string) string {
	t.Helper()
	if r.driver == "go-mssqldb" {
		name, err := whoever(t.Context(), f.pool(t, user, password, "encrypt="+r.encrypt))
		if err != nil {
			return "failed=" + told(err)
		}
		return "who=" + name
	}
	out, _ := f.run(t, f.command(t, r, user, password, "who"))
	return out
}

// TestDriversReadWhyALoginFails has each driver print number and text of an
// error, the server's and the gateway's.
func TestDriversReadWhyALoginFails(t *testing.T) {
	t.Parallel()
	refuse := func(number int32) func(f *sqlField) {
		return func(f *sqlField) {
			f.far.Set(func(m *sandbox.SQLManners) { m.Refuse = &sandbox.SQLRefusal{Number: number} })
		}
	}
	for _, test := range []struct {
		name, keys, sections string
		before               func(f *sqlField)
		number, text         string
	}{
		{"no user of the database", "", "", func(f *sqlField) { f.far.DropUser(sandbox.ClientID) }, "18456", "<token-identified principal>"},
		{"the firewall", "", "", refuse(40615), "40615", "203.0.113.7"},
		{"the server's own 40613", "", "", refuse(40613), "40613", "is not currently available"},
		{"nobody at the address", `, dial: "127.0.0.1:1"`, "", nil, "40613", "cannot be reached"},
		{"a full door", ", max_connections: 1", "", nil, "10928", "max_connections"},
		{"a secret that is refused", "", "", func(f *sqlField) { f.world.Entra.Fail(sandbox.ExpiredSecret) }, "18456", "AADSTS7000222"},
		{"a wrong key", ", callers: [reports]", callersSection("right-key-0123"), nil, "18456", "gateway:"},
	} {
		for _, r := range sqlFew() {
			t.Run(test.name+", "+r.driver, func(t *testing.T) {
				t.Parallel()
				f := newSQLField(t, sqlSetup{keys: test.keys, sections: test.sections, before: test.before})
				if test.number == "10928" {
					f.hold(t)
				}
				out := f.who(t, r, "reports", "wrong-key-0123")
				if !strings.Contains(out, test.text) || !strings.Contains(out, test.number) && !r.numberless() {
					t.Errorf("%s prints\n%s\nwant %s with %q", r.driver, tail(out, 2000), test.number, test.text)
				}
			})
		}
	}
}

// callersSection is a caller with that key.
func callersSection(key string) string {
	sum := sha256.Sum256([]byte(key))
	return fmt.Sprintf("callers:\n  reports: {api_key: {sha256: %s}}\n", hex.EncodeToString(sum[:]))
}

// hold has a session until the test ends.
func (f *sqlField) hold(t *testing.T) {
	t.Helper()
	db := f.pool(t, "any", "any", "encrypt=disable")
	c, err := db.Conn(t.Context())
	if err == nil {
		err = c.PingContext(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
}

func TestDriversShowACallersKey(t *testing.T) {
	t.Parallel()
	const key = "key-of-the-reports-0123"
	for _, r := range sqlRows() {
		t.Run(r.name(), func(t *testing.T) {
			t.Parallel()
			f := newSQLField(t, sqlSetup{keys: ", callers: [reports]", sections: callersSection(key)})
			if out := f.who(t, r, "reports", key); steps(out)["who"] != sqlPrincipal {
				t.Errorf("with the key: %s", tail(out, 2000))
			}
			clear := strings.Contains(narrow(f.tap.bytes.String()), "SUSER_SNAME()")
			// Those that say they cannot encrypt; the others say they need not.
			cannot := slices.Contains([]string{"go-mssqldb disable", "tedious false", "mssql false", "pymssql off", "pytds off", "pyodbc off", "tsql off", "bsqldb off"}, r.name())
			if clear != cannot {
				t.Errorf("a client that cannot encrypt: %t, went on in clear text: %t", cannot, clear)
			}
			seen := f.g.stdout.String()
			if strings.Contains(seen, key) || !strings.Contains(seen, `"gateway.caller":"reports"`) {
				t.Error("the log lacks the caller, or has its key")
			}
			for _, l := range f.far.Logins() {
				if strings.Contains(narrow(string(l.Payload)), "reports") {
					t.Error("the caller's name went to the server")
				}
			}
		})
	}
}

func TestAWrongKeyCostsASecondAndIsLogged(t *testing.T) {
	t.Parallel()
	f := newSQLField(t, sqlSetup{keys: ", callers: [reports]", sections: callersSection("right-key-0123")})
	began := time.Now()
	_, err := whoever(t.Context(), f.pool(t, "reports", "wrong-key-0123", "encrypt=disable"))
	if took := time.Since(began); err == nil || !strings.HasPrefix(told(err), "18456 ") || took < time.Second {
		t.Errorf("%v after %s, want 18456 after a second at least", told(err), took)
	}
	if seen := f.g.stdout.String(); !strings.Contains(seen, "caller_unknown") || !strings.Contains(seen, `"client.address":"127.0.0.1"`) || strings.Contains(seen, "wrong-key") {
		t.Errorf("the log has to tell of the address, and not of the key:\n%s", tail(seen, 2000))
	}
	if n := len(f.far.Logins()); n != 0 {
		t.Errorf("the server saw %d logins", n)
	}
}

func TestTheOwnerOfTheSocketNeedsNoKey(t *testing.T) {
	t.Parallel()
	for uid, want := range map[int]string{os.Getuid(): "who=" + sqlPrincipal, os.Getuid() + 4321: "18456"} {
		for _, r := range sqlFew() {
			t.Run(fmt.Sprintf("%d, %s", uid, r.driver), func(t *testing.T) {
				t.Parallel()
				f := newSQLField(t, sqlSetup{keys: ", callers: [me]", sections: fmt.Sprintf("callers:\n  me: {uid: %d}\n", uid)})
				if out := f.who(t, r, "sa", "whatever"); !strings.Contains(out, want) && (!r.numberless() || !strings.Contains(out, "gateway:")) {
					t.Errorf("%s prints\n%s\nwant %s", r.driver, tail(out, 2000), want)
				}
			})
		}
	}
}

func TestFreeTDSOfEveryVersionWorksOrReadsWhy(t *testing.T) {
	t.Parallel()
	for version, works := range map[string]bool{"7.0": false, "7.1": false, "7.2": false, "7.3": true, "7.4": true, "8.0": true, "auto": true} {
		for _, tool := range []string{"tsql", "bsqldb"} {
			t.Run(tool+" "+version, func(t *testing.T) {
				t.Parallel()
				f := newSQLField(t, sqlSetup{})
				cmd := f.command(t, sqlRow{driver: tool, encrypt: "off"}, "any", "any", "who")
				cmd.Env = append(cmd.Env, "TDSVER="+version)
				out, _ := f.run(t, cmd)
				if works && steps(out)["who"] != sqlPrincipal {
					t.Errorf("it prints %s", tail(out, 2000))
				}
				if !works && (!strings.Contains(out, "TDS 7.3B or later") || len(f.far.Logins()) != 0) {
					t.Errorf("it prints %s\nwant the version that is needed", tail(out, 2000))
				}
			})
		}
	}
}

func TestJTDSReadsThatItIsTooOld(t *testing.T) {
	t.Parallel()
	for _, more := range []string{"", ";ssl=request", ";ssl=require", ";TDS=7.0"} {
		t.Run("jtds"+more, func(t *testing.T) {
			t.Parallel()
			f := newSQLField(t, sqlSetup{})
			cmd := exec.CommandContext(t.Context(), "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", tool("jtds"), "clients/sql/Who.java",
				"jdbc:jtds:sqlserver://localhost:"+f.port+"/d1;user=any;password=any"+more)
			cmd.Env = bareEnvironment()
			out, _ := f.run(t, cmd)
			if !strings.Contains(out, "failed=18456") || !strings.Contains(out, "TDS 7.3B or later") {
				t.Errorf("it prints %s", tail(out, 2000))
			}
		})
	}
}

// routed sends the server's next login on to the server itself.
func routed(t *testing.T, f *sqlField, host, database string, noAck bool) {
	t.Helper()
	_, port, _ := net.SplitHostPort(f.far.Addr())
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	f.far.Set(func(m *sandbox.SQLManners) {
		m.Redirect = &sandbox.SQLRedirect{Host: host, Port: n, Database: database, NoLoginAck: noAck, Times: 1}
	})
}

func TestRedirectsAreFollowedAndNoDriverLearnsOfThem(t *testing.T) {
	t.Parallel()
	for _, to := range []struct {
		host, database string
		noAck          bool
	}{{"localhost", "", false}, {"localhost", "", true}, {`localhost\warehouse`, "", false}} {
		for _, r := range sqlFew() {
			t.Run(fmt.Sprintf("%s %t, %s", to.host, to.noAck, r.driver), func(t *testing.T) {
				t.Parallel()
				f := newSQLField(t, sqlSetup{keys: ", redirect_suffixes: [localhost]", before: func(f *sqlField) { routed(t, f, to.host, to.database, to.noAck) }})
				if out := f.who(t, r, "any", "any"); steps(out)["who"] != sqlPrincipal {
					t.Errorf("it prints %s", tail(out, 2000))
				}
				_, port, _ := net.SplitHostPort(f.far.Addr())
				logins := f.far.Logins()
				if want := to.host + "," + port; len(logins) < 2 || !logins[0].Routed || logins[1].Server != want {
					t.Fatalf("logins %+v, want a second one to %s", len(logins), want)
				}
				if strings.Contains(narrow(f.tap.bytes.String()), port) {
					t.Error("the driver was told of the node")
				}
			})
		}
	}
}

// TestARedirectToElsewhereIsRefused has a server answer at the other place: the
// token would arrive.
func TestARedirectToElsewhereIsRefused(t *testing.T) {
	t.Parallel()
	f := newSQLField(t, sqlSetup{before: func(f *sqlField) { routed(t, f, "localhost", "", false) }})
	_, err := whoever(t.Context(), f.pool(t, "any", "any", "encrypt=disable"))
	if got := told(err); !strings.HasPrefix(got, "40613 ") || !strings.Contains(got, "redirects to localhost") {
		t.Errorf("the driver reads %s", got)
	}
	if n := len(f.far.Logins()); n != 1 {
		t.Errorf("the server saw %d logins, want one", n)
	}
}

func TestCheckLivePrintsTheUserThatIsMissing(t *testing.T) {
	t.Parallel()
	f := newSQLField(t, sqlSetup{})
	if out, code := f.g.command(t, "check", "--live"); code != 0 || !strings.Contains(out, sqlDoor) {
		t.Errorf("exit %d with\n%s\nwant 0", code, out)
	}
	f.far.DropUser(sandbox.ClientID)
	out, code := f.g.command(t, "check", "--live")
	_, _ = f.said.Write([]byte(out))
	for _, want := range []string{"18456", "CREATE USER", "FROM EXTERNAL PROVIDER", "WITH SID = 0x", sandbox.ClientID} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("exit %d with\n%s\nwant 1, and %s", code, out, want)
		}
	}
}

// TestDriversThatTrustAnyCertificateTakeTheOneOfTheProcess has no certificate_file.
func TestDriversThatTrustAnyCertificateTakeTheOneOfTheProcess(t *testing.T) {
	t.Parallel()
	f := newSQLField(t, sqlSetup{})
	config := strings.Replace(f.config(sqlSetup{}), ", certificate_file: door.pem, key_file: door.key", "", 1)
	if strings.Contains(config, "door.pem") {
		t.Fatal("the door has a certificate_file")
	}
	g := start(t, setup{Dir: filepath.Dir(f.ca), Config: config})
	for _, encrypt := range []string{"true", "false"} {
		db := sqlPool(t, g.sql[sqlDoor], "any", "any", "database=d1&TrustServerCertificate=true&encrypt="+encrypt)
		if name, err := whoever(t.Context(), db); err != nil || name != sqlPrincipal {
			t.Errorf("encrypt=%s: %q, %v", encrypt, name, err)
		}
	}
	db := sqlPool(t, g.sql[sqlDoor], "any", "any", "database=d1&encrypt=true&certificate="+f.ca)
	if name, err := whoever(t.Context(), db); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a driver that verifies: %q, %v", name, err)
	}
}
