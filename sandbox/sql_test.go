package sandbox_test

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

func TestDriverLogsInToTheSQLServerWithAToken(t *testing.T) {
	for _, mode := range sqlModes {
		t.Run(mode, func(t *testing.T) {
			w := world(t, sandbox.Options{})
			s := sqlServer(t, sandbox.SQLOptions{World: w})
			db := sqlOpen(t, w, s, mode, "")
			if got, want := scan[string](t, db, "SELECT SUSER_SNAME()"), sandbox.ClientID+"@"+sandbox.TenantID; got != want {
				t.Errorf("SUSER_SNAME() = %q, want %q", got, want)
			}
			if got := scan[string](t, db, "select db_name()"); got != "d1" {
				t.Errorf("DB_NAME() = %q, want d1", got)
			}
			if got := scan[string](t, db, "select @p1", "häuser"); got != "häuser" {
				t.Errorf("@p1 = %q", got)
			}
			logins := s.Logins()
			l := logins[0]
			if l.Strict != (mode == "strict") || l.ClientID != sandbox.ClientID || !l.Echo || l.App != "tester" || l.Host != "h1" || l.Error != 0 {
				t.Errorf("login = %+v", l)
			}
		})
	}
}

// A SQL server of the Azure kind, which has just lost the app's user.
func ExampleStartSQL() {
	world, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer world.Close()
	server, err := sandbox.StartSQL(sandbox.SQLOptions{World: world})
	if err != nil {
		fmt.Println(err)
		return
	}
	server.DropUser(sandbox.ClientID)
	server.Set(func(m *sandbox.SQLManners) { m.PacketSize = 16383 })
	// Clients connect to server.Addr() and trust server.CAPEM().
	fmt.Println(len(server.Logins()), len(server.Violations()))
	// Output: 0 0
}

func TestSQLServerWantsAWorld(t *testing.T) {
	if _, err := sandbox.StartSQL(sandbox.SQLOptions{}); !errors.Is(err, sandbox.ErrOptions) {
		t.Errorf("StartSQL without a World = %v, want ErrOptions", err)
	}
}

func TestSQLServerClosesWithItsWorld(t *testing.T) {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := sandbox.StartSQL(sandbox.SQLOptions{World: w})
	if err != nil {
		t.Fatal(err)
	}
	c := rawStrict(t, s)
	c.prelogin(nil)
	w.Close()
	if _, _, err := c.receive(); err == nil {
		t.Error("the connection outlived the World")
	}
	if _, err := net.Dial("tcp", s.Addr()); err == nil {
		t.Error("the server still listens")
	}
}
