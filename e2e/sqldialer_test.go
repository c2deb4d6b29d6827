package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// toDoor is go-mssqldb's dialer to a door, which leaves the server's own name in
// the login and in SNI.
type toDoor struct{ network, addr, name string }

func (d toDoor) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, d.network, d.addr)
}

func (d toDoor) HostName() string { return d.name }

func (d toDoor) pool(t testing.TB, query string) *sql.DB {
	t.Helper()
	c, err := mssql.NewConnector("sqlserver://any:any@" + d.name + "?database=d1&" + query)
	if err != nil {
		t.Fatal(err)
	}
	c.Dialer = d
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// TestDriversConnectToADoorThatIsASocket has the kernel say who they are.
func TestDriversConnectToADoorThatIsASocket(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		uid               int
		inGo, tediousSays string
	}{
		"the owner":     {os.Getuid(), "who=" + sqlPrincipal, "after=1000"},
		"somebody else": {os.Getuid() + 4321, "failed=18456 login error: gateway: ", "failed=ELOGIN gateway: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "door-") // a socket's path is short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			path := filepath.Join(dir, "orders.sock")
			f := newSQLField(t, sqlSetup{
				listen: "unix:" + path, keys: ", callers: [me]", sections: fmt.Sprintf("callers:\n  me: {uid: %d}\n", test.uid),
			})
			if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o660 {
				t.Errorf("the socket is %v, %v; want one for owner and group", info, err)
			}
			said := "who="
			if who, err := whoever(t.Context(), toDoor{"unix", path, sandbox.SQLHost}.pool(t, "encrypt=disable")); err != nil {
				said = "failed=" + told(err)
			} else {
				said += who
			}
			if !strings.HasPrefix(said, test.inGo) {
				t.Errorf("go-mssqldb: %s, want %s", said, test.inGo)
			}
			out, _ := f.run(t, exec.CommandContext(t.Context(), "node", "clients/sql/door.mjs", path, "1000"))
			if !strings.Contains(out, test.tediousSays) {
				t.Errorf("tedious prints %s, want %s", tail(out, 2000), test.tediousSays)
			}
			if seen := f.g.stdout.String(); !strings.Contains(seen, `"client.address":"unix"`) {
				t.Errorf("the log has no socket: %s", tail(seen, 2000))
			}
		})
	}
}

// TestClientsChooseTheServerByItsOwnName has a door that leads to two servers.
func TestClientsChooseTheServerByItsOwnName(t *testing.T) {
	t.Parallel()
	const stock, stranger = "stock.database.windows.net", "other.database.windows.net"
	f := newSQLField(t, sqlSetup{
		keys: ", servers: [" + sandbox.SQLHost + ", " + stock + "]", options: sandbox.SQLOptions{Names: []string{stock}},
		before: func(f *sqlField) { f.far.Set(func(m *sandbox.SQLManners) { m.CheckServerName = true }) },
	})
	verified := "&certificate=" + url.QueryEscape(f.ca)
	for _, name := range []string{sandbox.SQLHost, stock, stranger} {
		want := "who=" + sqlPrincipal
		if name == stranger {
			want = "does not lead to the server"
		}
		for how, ask := range map[string]func() string{
			"go-mssqldb in clear text": func() string { return f.byName(t, name, "encrypt=disable") },
			"go-mssqldb":               func() string { return f.byName(t, name, "encrypt=true"+verified) },
			"go-mssqldb, strict":       func() string { return f.byName(t, name, "encrypt=strict"+verified) },
			"tsql":                     func() string { return f.tsqlByName(t, name, "tsql") },
			"bsqldb":                   func() string { return f.tsqlByName(t, name, "bsqldb") },
		} {
			if out := ask(); !strings.Contains(out, want) {
				t.Errorf("%s, as %s: %s\nwant %s", how, name, tail(out, 2000), want)
			}
			if logins := f.far.Logins(); name != stranger && (len(logins) == 0 || logins[len(logins)-1].Server != name) {
				t.Errorf("%s: %d logins, want the last one to %s", how, len(logins), name)
			}
		}
	}
	for _, l := range f.far.Logins() {
		if l.Server == stranger {
			t.Errorf("a login went to a server that is not listed")
		}
	}
}

func (f *sqlField) byName(t *testing.T, name, query string) string {
	t.Helper()
	who, err := whoever(t.Context(), toDoor{"tcp", f.tap.addr, name}.pool(t, query))
	if err != nil {
		return "failed=" + told(err)
	}
	return "who=" + who
}

// tsqlByName names the server by its section of freetds.conf.
func (f *sqlField) tsqlByName(t *testing.T, name, program string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "freetds.conf")
	write(t, path, fmt.Sprintf("[global]\ntds version = 7.4\nencryption = request\n[%s]\nhost = localhost\nport = %s\n", name, f.port))
	quiet := map[string][]string{"tsql": {"-o", "q"}, "bsqldb": {"-q"}}[program]
	cmd := exec.CommandContext(t.Context(), program, append(quiet, "-S", name, "-U", "any", "-P", "any", "-D", "d1")...)
	cmd.Stdin = strings.NewReader(freeTDSScript("who"))
	cmd.Env = append(bareEnvironment(), "LC_ALL=C.UTF-8", "FREETDSCONF="+path)
	out, _ := f.run(t, cmd)
	return out
}
