package sandbox_test

import (
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
