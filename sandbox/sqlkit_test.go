package sandbox_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// sqlServer starts a SQL server and fails the test if any client broke a rule.
func sqlServer(t testing.TB, opts sandbox.SQLOptions) *sandbox.SQL {
	t.Helper()
	if opts.World == nil {
		opts.World = world(t, sandbox.Options{})
	}
	s, err := sandbox.StartSQL(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		for _, v := range s.Violations() {
			t.Errorf("violation: %s", v)
		}
	})
	return s
}

// sqlModes are the two ways to encrypt.
var sqlModes = []string{"true", "strict"}

// sqlConnector is go-mssqldb's own login with an access token. It trusts others,
// too, where s may route it.
func sqlConnector(t testing.TB, s *sandbox.SQL, encrypt, extra string, token func() (string, error), also ...*sandbox.SQL) driver.Connector {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	trusted := s.CAPEM()
	for _, other := range also {
		trusted = append(trusted, other.CAPEM()...)
	}
	if err := os.WriteFile(file, trusted, 0o600); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(extra, "&database=") {
		extra += "&database=d1"
	}
	c, err := mssql.NewAccessTokenConnector("sqlserver://"+s.Addr()+"?encrypt="+encrypt+"&certificate="+url.QueryEscape(file)+
		"&app+name=tester&workstation+id=h1&dial+timeout=20"+extra, token)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sqlOpen opens a pool with go-mssqldb and the app's own token.
func sqlOpen(t testing.TB, w *sandbox.World, s *sandbox.SQL, encrypt, extra string) *sql.DB {
	t.Helper()
	token := tokenFor(t, w, sandbox.SQLResource+"/")
	db := sql.OpenDB(sqlConnector(t, s, encrypt, extra, func() (string, error) { return token, nil }))
	t.Cleanup(func() { db.Close() })
	return db
}

func scan[T any](t testing.TB, q interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, query string, args ...any) T {
	t.Helper()
	var v T
	if err := q.QueryRowContext(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", strings.TrimSpace(query), err)
	}
	return v
}
