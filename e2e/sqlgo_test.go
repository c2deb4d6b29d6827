package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
)

// pool is go-mssqldb's, at the tap. Its one connection is reset before each use.
func (f *sqlField) pool(t testing.TB, user, password, extra string) *sql.DB {
	t.Helper()
	return sqlPool(t, f.tap.addr, user, password, "certificate="+url.QueryEscape(f.ca)+"&database=d1&app+name=worker&dial+timeout=30&"+extra)
}

func sqlPool(t testing.TB, addr, user, password, query string) *sql.DB {
	t.Helper()
	db, err := openSQL(addr, user, password, query)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// openSQL is sqlPool for those who close it themselves.
func openSQL(addr, user, password, query string) (*sql.DB, error) {
	address := url.URL{Scheme: "sqlserver", Host: addr, User: url.UserPassword(user, password), RawQuery: query}
	db, err := sql.Open("sqlserver", address.String())
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

// whoever asks for one text.
func whoever(ctx context.Context, db *sql.DB) (string, error) {
	var name string
	err := db.QueryRowContext(ctx, "SELECT SUSER_SNAME()").Scan(&name)
	return name, err
}

// told is an error as the other programs print it: number and text.
func told(err error) string {
	var e mssql.Error
	if errors.As(err, &e) {
		return fmt.Sprintf("%d %s", e.Number, e.Message)
	}
	return fmt.Sprint(err)
}

// work does by go-mssqldb what the programs in clients/sql do.
func (f *sqlField) work(t *testing.T, encrypt string) string {
	t.Helper()
	db := f.pool(t, "any", "any", "encrypt="+encrypt)
	var out strings.Builder
	say := func(name string, value any, err error) {
		if err != nil {
			value = told(err)
		}
		fmt.Fprintf(&out, "%s=%v\n", name, value)
	}
	who, err := whoever(t.Context(), db)
	say("who", who, err)
	big, echoed := strings.Repeat("ä", 150_000), ""
	err = db.QueryRowContext(t.Context(), "SELECT @p1", big).Scan(&echoed)
	say("echo", echoed == big, err)
	rows, err := db.QueryContext(t.Context(), "SELECT n, pad FROM numbers(5000, 200)")
	n := 0
	for err == nil && rows.Next() {
		n++
	}
	say("rows", n, errors.Join(err, rows.Err()))
	sqlTransactions(t, db, say)
	_, err = db.ExecContext(t.Context(), "RAISERROR('boom', 16, 1)")
	say("raised", "no error", err)
	say("cancel", sqlCancelled(t, f, db), nil)
	err = db.QueryRowContext(t.Context(), "SELECT 7").Scan(&n)
	say("after", n, err)
	return out.String()
}

func sqlTransactions(t *testing.T, db *sql.DB, say func(string, any, error)) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), "CREATE TABLE kept (id int)")
	for _, end := range []string{"rollback", "commit"} {
		tx, err2 := db.BeginTx(t.Context(), nil)
		if err = errors.Join(err, err2); err != nil {
			break
		}
		_, err = tx.ExecContext(t.Context(), "INSERT INTO kept VALUES (@p1)", 1)
		finish := map[string]func() error{"rollback": tx.Rollback, "commit": tx.Commit}[end]
		var n int
		err = errors.Join(err, finish(), db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM kept").Scan(&n))
		say(end, n, err)
	}
	if err != nil {
		say("transactions", "", err)
	}
}

// sqlCancelled gives up a statement once the server has it.
func sqlCancelled(t *testing.T, f *sqlField, db *sql.DB) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := f.far.Counts()
	go func() {
		for f.far.Counts().Requests == before.Requests && ctx.Err() == nil {
			time.Sleep(pause)
		}
		cancel()
	}()
	_, err := db.ExecContext(ctx, "WAITFOR DELAY '01:00:00'")
	if errors.Is(err, context.Canceled) && f.far.Counts().Attentions > before.Attentions {
		return "stopped"
	}
	return told(err)
}
