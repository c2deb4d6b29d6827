package e2e

import (
	"context"
	"database/sql"
	"testing"
	"time"
)

// flock has n sessions of one pool at work at once, each with one statement.
func flock(t *testing.T, db *sql.DB, n int) {
	t.Helper()
	conns := make([]*sql.Conn, n)
	failed := make(chan error, n)
	for i := range conns {
		go func() {
			conn, err := db.Conn(t.Context())
			if err == nil {
				conns[i] = conn
				_, err = conn.ExecContext(context.WithoutCancel(t.Context()), "SELECT 1")
			}
			failed <- err
		}()
	}
	for range conns {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	for _, conn := range conns {
		if conn != nil {
			_ = conn.Close()
		}
	}
}

func TestAHundredResetsNearTheEndOfATokenCostOneTokenRequest(t *testing.T) {
	t.Parallel()
	const sessions = 100
	f := newSQLField(t, sqlSetup{keys: ", relogin: {skew: 55m}", before: func(f *sqlField) { f.world.Entra.SetLifetime(50 * time.Minute) }})
	db := sqlPool(t, f.g.sql[sqlDoor], "any", "any", "encrypt=disable&database=d1")
	db.SetMaxOpenConns(sessions)
	db.SetMaxIdleConns(sessions)
	f.g.ready(t)
	f.world.Entra.SetLifetime(2 * time.Hour)
	before := f.world.Entra.Requests()
	for range 3 { // go-mssqldb's first statement is a reset already
		flock(t, db, sessions)
	}
	if n := f.world.Entra.Requests() - before; n != 1 {
		t.Errorf("%d token requests for %d sessions that were reset, want 1", n, sessions)
	}
	logins := f.g.metric(t, "gateway_sql_logins_total", `result="success"`)
	again := f.g.metric(t, "gateway_sql_relogins_total", `result="success"`)
	if n := len(f.far.Logins()); again < 2 || again > sessions || float64(n) != logins+again {
		t.Errorf("%v logins anew of %v sessions, and %d logins at the server", again, logins, n)
	}
	if n := f.g.metric(t, "gateway_sql_relogins_total"); n != again {
		t.Errorf("%v logins anew were tried, %v of them in vain", n, n-again)
	}
}
