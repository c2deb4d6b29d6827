package sandbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// sqlSession is one connection of a pool, in one mode.
func sqlSession(t *testing.T, mode, extra string) (*sandbox.SQL, *sql.DB, *sql.Conn) {
	t.Helper()
	w := world(t, sandbox.Options{})
	s := sqlServer(t, sandbox.SQLOptions{World: w})
	db := sqlOpen(t, w, s, mode, extra)
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return s, db, c
}

func TestSQLServerEchoesParametersOfManyTypes(t *testing.T) {
	_, db, _ := sqlSession(t, "true", "")
	at := time.Date(2026, 3, 1, 12, 34, 56, 789e6, time.UTC)
	for _, want := range []any{int64(1 << 40), 3.25, true, false, "", "grüße", []byte{1, 2, 3}, mssql.VarChar("plain"), at, strings.Repeat("ä", 150_000), slices.Repeat([]byte{7}, 300_000)} {
		var got any
		if err := db.QueryRowContext(t.Context(), "SELECT @p1", want).Scan(&got); err != nil {
			t.Errorf("%T: %v", want, err)
			continue
		}
		if when, ok := got.(time.Time); ok && when.Equal(at) {
			continue
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("SELECT @p1 of %T = %.80v, want %.80v", want, got, want)
		}
	}
	var null sql.NullString
	if err := db.QueryRowContext(t.Context(), "SELECT @p1", sql.NullString{}).Scan(&null); err != nil || null.Valid {
		t.Errorf("NULL = %v, %v", null, err)
	}
	if n := scan[int](t, db, "SELECT LEN(@p1)", strings.Repeat("x", 150_000)); n != 150_000 {
		t.Errorf("LEN = %d, want 150000", n)
	}
	if n := scan[int](t, db, "SELECT DATALENGTH(@p1)", strings.Repeat("x", 150_000)); n != 300_000 {
		t.Errorf("DATALENGTH = %d, want 300000", n)
	}
}

func TestSQLServerConvertsBetweenNumbersTextsAndDates(t *testing.T) {
	_, db, c := sqlSession(t, "true", "")
	exec(t, c, "CREATE TABLE #c (f float, r real, d decimal(10,2), m numeric(5,0), at datetime2(3), day date, old datetime, clock time(0), small smalldatetime, zone datetimeoffset(0))")
	exec(t, c, "INSERT #c VALUES (1.5, '2.25', 1.005, -7.5, '2026-03-01 12:34:56.789', '2026-03-01', '1899-12-31 00:00:01', '12:34:56', '20260301 12:34:00', '2026-03-01 12:00:00 +02:00')")
	var f, r float64
	var d, m string
	var at, day, old, clock, small, zone time.Time
	if err := c.QueryRowContext(t.Context(), "SELECT * FROM #c").Scan(&f, &r, &d, &m, &at, &day, &old, &clock, &small, &zone); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(f, r, " ", d, " ", m, at.Format(" 2006-01-02T15:04:05.999"), day.Format(" 2006-01-02"), old.Format(" 2006-01-02T15:04:05"), clock.Format(" 15:04:05"), small.Format(" 2006-01-02T15:04"), zone.Format(" 2006-01-02T15:04:05Z07:00"))
	if want := "1.5 2.25 1.01 -8 2026-03-01T12:34:56.789 2026-03-01 1899-12-31T00:00:01 12:34:56 2026-03-01T12:34 2026-03-01T12:00:00+02:00"; got != want {
		t.Errorf("row = %s\nwant  %s", got, want)
	}
	for query, want := range map[string]string{
		"SELECT CAST(1.50 AS nvarchar(10))": "1.50", "SELECT CONVERT(varchar(30), CAST('2026-03-01' AS date))": "2026-03-01",
		"SELECT CAST(1.5 + 1 AS varchar(10))": "2.5", "SELECT CAST(7 / 2 AS varchar(10))": "3", "SELECT CAST('12' AS int) + 1": "13",
	} {
		if got := scan[string](t, db, query); got != want {
			t.Errorf("%s = %q, want %q", query, got, want)
		}
	}
	for _, query := range []string{"SELECT CAST(N'x' AS int)", "SELECT CAST('soon' AS date)", "SELECT CAST('1/3' AS decimal(5,2))"} {
		if _, err := c.ExecContext(t.Context(), query); !hasNumber(err, 8114) {
			t.Errorf("%s = %v, want 8114", query, err)
		}
	}
	if _, err := c.ExecContext(t.Context(), "SELECT CAST(1000 AS decimal(3,0))"); !hasNumber(err, 8115) {
		t.Errorf("overflow = %v, want 8115", err)
	}
}

func TestSQLServerAnswersLiteralsInSeveralResults(t *testing.T) {
	_, db, _ := sqlSession(t, "strict", "")
	rows, err := db.QueryContext(t.Context(), "SELECT 1 AS a, N'zwei' b, NULL AS c, 1.50 [d], 0x0102 AS e; -- more\nSELECT @@SPID, @@TRANCOUNT WHERE 1 = 0; PRINT 'hi' SELECT TOP (2) n, pad FROM numbers(10, 5) ORDER BY n DESC")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, _ := rows.Columns()
	if want := []string{"a", "b", "c", "d", "e"}; !slices.Equal(columns, want) {
		t.Errorf("columns = %q, want %q", columns, want)
	}
	var a int
	var b string
	var c sql.NullInt64
	var d string
	var e []byte
	if !rows.Next() || rows.Scan(&a, &b, &c, &d, &e) != nil || a != 1 || b != "zwei" || c.Valid || d != "1.50" || len(e) != 2 {
		t.Errorf("row = %v %q %v %q %x", a, b, c, d, e)
	}
	if rows.Next() || !rows.NextResultSet() || rows.Next() || !rows.NextResultSet() {
		t.Fatal("the results are not three")
	}
	var got []string
	for rows.Next() {
		var n, pad string
		if err := rows.Scan(&n, &pad); err != nil {
			t.Fatal(err)
		}
		got = append(got, n+pad)
	}
	if want := []string{"10xxxxx", "9xxxxx"}; !slices.Equal(got, want) || rows.Err() != nil {
		t.Errorf("rows = %q, want %q; %v", got, want, rows.Err())
	}
}

func TestSQLServerStreamsManyRowsInAnyPacketSize(t *testing.T) {
	for _, size := range []int{4096, 8000, 16383} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			w := world(t, sandbox.Options{})
			s := sqlServer(t, sandbox.SQLOptions{World: w})
			s.Set(func(m *sandbox.SQLManners) { m.PacketSize = size })
			db := sqlOpen(t, w, s, "true", "")
			rows, err := db.QueryContext(t.Context(), "SELECT n, pad FROM numbers(20000, 100)")
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			var count, sum int64
			for rows.Next() {
				var n int64
				var pad string
				if err := rows.Scan(&n, &pad); err != nil || len(pad) != 100 {
					t.Fatal(err, len(pad))
				}
				count, sum = count+1, sum+n
			}
			if rows.Err() != nil || count != 20_000 || sum != 200_010_000 {
				t.Errorf("rows = %d, sum %d, %v", count, sum, rows.Err())
			}
			if n := scan[int](t, db, "SELECT LEN(@p1)", strings.Repeat("x", 150_000)); n != 150_000 {
				t.Errorf("LEN = %d", n)
			}
		})
	}
}

func TestSQLServerStopsAtAnAttention(t *testing.T) {
	for _, query := range []string{"WAITFOR DELAY '01:00:00'", "SELECT n, pad FROM numbers(1000000000, 100)"} {
		s, _, c := sqlSession(t, "true", "")
		before := scan[int](t, c, "SELECT @@SPID")
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		rows, err := c.QueryContext(ctx, query)
		for err == nil && rows.Next() {
			continue
		}
		if err == nil {
			err = rows.Err()
			rows.Close()
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s = %v, want canceled", query, err)
		}
		if after := scan[int](t, c, "SELECT @@SPID"); after != before {
			t.Errorf("%s: the session did not live on", query)
		}
		if n := s.Counts().Attentions; n < 1 { // closing the rows may send another
			t.Errorf("%s: attentions = %d", query, n)
		}
	}
}

func TestSQLServerUndoesWhatATransactionDid(t *testing.T) {
	for _, mode := range sqlModes {
		_, _, c := sqlSession(t, mode, "")
		exec(t, c, "CREATE TABLE #t (id int NOT NULL, name nvarchar(50))")
		exec(t, c, "INSERT INTO #t (id, name) VALUES (@p1, @p2), (2, N'b')", 1, "a")
		tx, err := c.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		exec(t, tx, "UPDATE #t SET name = name + N'!' WHERE id = 2; DELETE FROM #t WHERE id = 1; INSERT #t VALUES (3, NULL)")
		if n := scan[int](t, tx, "SELECT @@TRANCOUNT"); n != 1 {
			t.Errorf("@@TRANCOUNT = %d, want 1", n)
		}
		if s := scan[string](t, tx, "SELECT name FROM #t WHERE id = 2"); s != "b!" {
			t.Errorf("name = %q", s)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if n := scan[int](t, c, "SELECT COUNT(*) FROM #t WHERE name <> N'b!'"); n != 2 {
			t.Errorf("after rollback %d rows, want 2", n)
		}
		tx, err = c.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		exec(t, tx, "DELETE FROM #t; SAVE TRAN s; INSERT #t VALUES (9, N'x'); ROLLBACK TRAN s")
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if n := scan[int](t, c, "SELECT COUNT(*) FROM #t"); n != 0 {
			t.Errorf("after commit %d rows, want 0", n)
		}
		exec(t, c, "BEGIN TRAN; INSERT #t VALUES (1, N'x'); IF @@TRANCOUNT > 0 ROLLBACK TRAN ELSE PRINT 'none'")
		if n := scan[int](t, c, "SELECT COUNT(*) FROM #t"); n != 0 {
			t.Errorf("after a batch's rollback %d rows, want 0", n)
		}
	}
}

func exec(t testing.TB, c interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, query string, args ...any) {
	t.Helper()
	if _, err := c.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func TestSQLServerPreparesStatementsAndCallsProcedures(t *testing.T) {
	_, db, c := sqlSession(t, "true", "")
	stmt, err := c.PrepareContext(t.Context(), "SELECT @p1 + @p2")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		var n int
		if err := stmt.QueryRowContext(t.Context(), i, 10).Scan(&n); err != nil || n != 10+i {
			t.Errorf("prepared = %d, %v", n, err)
		}
	}
	if err := stmt.Close(); err != nil {
		t.Fatal(err)
	}
	// What SqlClient asks before a bulk load, in its own words.
	rows, err := c.QueryContext(t.Context(), "CREATE TABLE #t (a int, b nvarchar(9)) exec tempdb..sp_tablecollations_100 N'.[#t]'")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for rows.Next() {
		var id int
		var name string
		var raw []byte
		var collation sql.NullString
		if err := rows.Scan(&id, &name, &raw, &collation); err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%d %s %d %s", id, name, len(raw), collation.String))
	}
	rows.Close()
	if want := []string{"1 a 0 ", "2 b 5 SQL_Latin1_General_CP1_CI_AS"}; !slices.Equal(names, want) {
		t.Errorf("collations = %q, want %q", names, want)
	}
	out := int64(5)
	var status mssql.ReturnStatus
	if _, err := db.ExecContext(t.Context(), "echo", sql.Named("a", sql.Out{Dest: &out, In: true}), &status); err != nil || out != 5 || status != 0 {
		t.Errorf("echo = %d, status %d, %v", out, status, err)
	}
	if _, err := db.ExecContext(t.Context(), "SET @a = @a * 2", sql.Named("a", sql.Out{Dest: &out, In: true})); err != nil || out != 10 {
		t.Errorf("output = %d, %v", out, err)
	}
	if _, err := db.ExecContext(t.Context(), "nosuch", sql.Named("a", 1)); !hasNumber(err, 2812) {
		t.Errorf("nosuch = %v, want 2812", err)
	}
}

func hasNumber(err error, number int32) bool {
	var e mssql.Error
	return errors.As(err, &e) && e.Number == number
}

func TestSQLServerTakesABulkLoad(t *testing.T) {
	// Not with strict: go-mssqldb 1.11.2 takes TDS 8.0 for older than 7.2 then,
	// and sends user types of two bytes.
	for _, extra := range []string{"", "&packet+size=16383"} {
		s, _, c := sqlSession(t, "true", extra)
		exec(t, c, "CREATE TABLE #b (id int, name nvarchar(50), body varchar(max), at datetime2(7), amount decimal(18,2))")
		stmt, err := c.PrepareContext(t.Context(), mssql.CopyIn("#b", mssql.BulkOptions{}, "id", "name", "body", "at", "amount"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			if _, err := stmt.ExecContext(t.Context(), i, fmt.Sprint("n", i), strings.Repeat("b", i), time.Unix(int64(i), 0), "12.34"); err != nil {
				t.Fatal(err)
			}
		}
		result, err := stmt.ExecContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := result.RowsAffected(); n != 1000 || s.Counts().BulkRows != 1000 {
			t.Errorf("rows = %d, counted %d", n, s.Counts().BulkRows)
		}
		stmt.Close()
		if n := scan[int](t, c, "SELECT LEN(body) FROM #b WHERE id = 999"); n != 999 {
			t.Errorf("LEN(body) = %d, want 999", n)
		}
		if amount := scan[string](t, c, "SELECT amount FROM #b WHERE id = 1"); amount != "12.34" {
			t.Errorf("amount = %s", amount)
		}
	}
}

func TestSQLServerReportsErrorsWithTheirLine(t *testing.T) {
	_, _, c := sqlSession(t, "true", "")
	for _, tt := range []struct {
		query  string
		number int32
		class  uint8
		line   int32
	}{
		{"RAISERROR('boom', 16, 3)", 50000, 16, 1},
		{"\n\nTHROW 51000, N'thrown', 1", 51000, 16, 3},
		{"SELECT 1\nSELEC 2", 102, 15, 2},
		{"SELECT * FROM nowhere", 208, 16, 1},
		{"SELECT nothing", 207, 16, 1},
		{"SELECT 1/0", 8134, 16, 1},
		{"SELECT 'open", 105, 15, 1},
		{"SELECT @nobody", 137, 15, 1},
		{"SELECT dance(1)", 195, 15, 1},
		{"COMMIT", 3902, 16, 1},
		{"DBCC CHECKDB", 40510, 15, 1},
		{"WAITFOR DELAY 'soon'", 148, 15, 1},
	} {
		_, err := c.ExecContext(t.Context(), tt.query)
		var e mssql.Error
		if !errors.As(err, &e) || e.Number != tt.number || e.Class != tt.class || e.LineNo != tt.line {
			t.Errorf("%q = %v (%d, class %d, line %d), want %d, class %d, line %d", tt.query, err, e.Number, e.Class, e.LineNo, tt.number, tt.class, tt.line)
		}
	}
	if n := scan[int](t, c, "SET NOCOUNT ON; SET TRANSACTION ISOLATION LEVEL READ COMMITTED SELECT 7"); n != 7 {
		t.Errorf("after the errors = %d", n)
	}
}

func TestSQLServerDropsSessionStateAtAReset(t *testing.T) {
	w := world(t, sandbox.Options{})
	s := sqlServer(t, sandbox.SQLOptions{World: w})
	db := sqlOpen(t, w, s, "true", "")
	db.SetMaxOpenConns(1)
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, c, "CREATE TABLE #gone (a int); USE elsewhere")
	if got := scan[string](t, c, "SELECT DB_NAME()"); got != "elsewhere" {
		t.Errorf("DB_NAME() = %q", got)
	}
	c.Close() // back into the pool
	if got := scan[string](t, db, "SELECT DB_NAME()"); got != "d1" {
		t.Errorf("DB_NAME() after reset = %q, want d1", got)
	}
	if _, err := db.ExecContext(t.Context(), "SELECT * FROM #gone"); !hasNumber(err, 208) {
		t.Errorf("temporary table after reset: %v, want 208", err)
	}
	if len(s.Logins()) != 1 || s.Counts().Resets == 0 {
		t.Errorf("logins = %d, resets = %d", len(s.Logins()), s.Counts().Resets)
	}
}
