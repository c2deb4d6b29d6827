package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	mssql "github.com/microsoft/go-mssqldb"
)

// bulkRows is how many rows the drivers load at once.
const bulkRows = 100_000

// bulkWant is what each driver finds after its loads, one of which a transaction
// takes back and another the driver gives up.
func bulkWant(t *testing.T, out, cancelled string) {
	t.Helper()
	got, all := steps(out), strconv.Itoa(bulkRows)
	for name, want := range map[string]string{"rolledBack": "0", "committed": all, "cancelled": cancelled, "after": all} {
		if got[name] != want {
			t.Errorf("%s = %q, want %q", name, got[name], want)
		}
	}
	if t.Failed() {
		t.Log(tail(out, 2000))
	}
}

func TestRowsInBulkPassAndKeepToTheirTransactions(t *testing.T) {
	t.Parallel()
	t.Run("tedious", func(t *testing.T) {
		t.Parallel()
		f := newSQLField(t, sqlSetup{})
		out, _ := f.run(t, exec.CommandContext(t.Context(), "node", "clients/sql/door.mjs", "127.0.0.1 "+f.port, strconv.Itoa(bulkRows)))
		bulkWant(t, out, "ECANCEL")
	})
	t.Run("go-mssqldb", func(t *testing.T) {
		t.Parallel()
		f := newSQLField(t, sqlSetup{})
		bulkWant(t, f.copyIn(t), "")
	})
	t.Run("freebcp", func(t *testing.T) {
		t.Parallel()
		newSQLField(t, sqlSetup{}).bcp(t)
	})
}

// copyIn loads by go-mssqldb. It gives no load up: the driver would begin its next
// request in the middle of the last one, with whatever server.
func (f *sqlField) copyIn(t *testing.T) string {
	t.Helper()
	db := f.pool(t, "any", "any", "encrypt=disable")
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var out strings.Builder
	count := func(name string) {
		var n int
		err := c.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM #t").Scan(&n)
		fmt.Fprintf(&out, "%s=%d\n", name, n)
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := c.ExecContext(t.Context(), "CREATE TABLE #t (id int, pad nvarchar(50))"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rolledBack", "committed"} {
		tx, err := c.BeginTx(t.Context(), nil)
		if err == nil {
			err = copyRows(t.Context(), tx)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := map[string]func() error{"rolledBack": tx.Rollback, "committed": tx.Commit}[name](); err != nil {
			t.Error(err)
		}
		count(name)
	}
	count("after")
	return out.String()
}

// copyRows loads the rows.
func copyRows(ctx context.Context, tx *sql.Tx) error {
	load, err := tx.PrepareContext(ctx, mssql.CopyIn("#t", mssql.BulkOptions{}, "id", "pad"))
	if err != nil {
		return err
	}
	defer load.Close()
	for row := range bulkRows {
		if _, err := load.ExecContext(ctx, row, fmt.Sprintf("row %d", row)); err != nil {
			return err
		}
	}
	_, err = load.ExecContext(ctx)
	return err
}

// bcp loads a file by FreeTDS, and unloads it again.
func (f *sqlField) bcp(t *testing.T) {
	t.Helper()
	if _, err := f.direct(t).ExecContext(t.Context(), "CREATE TABLE copied (id int, pad varchar(50))"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.txt"), filepath.Join(dir, "out.txt")
	var text strings.Builder
	for row := range bulkRows {
		fmt.Fprintf(&text, "%d\trow %d\n", row, row)
	}
	write(t, in, text.String())
	for _, way := range [][2]string{{"in", in}, {"out", out}} {
		cmd := exec.CommandContext(t.Context(), "freebcp", "d1..copied", way[0], way[1], "-c", "-S", "door", "-U", "any", "-P", "any", "-D", "d1")
		cmd.Env = append(bareEnvironment(), "LC_ALL=C.UTF-8", "FREETDSCONF="+f.freeTDS(t, "off"), "HOME="+dir)
		if said, err := f.run(t, cmd); err != nil || !strings.Contains(said, fmt.Sprintf("%d rows copied", bulkRows)) {
			t.Fatalf("freebcp %s: %v\n%s", way[0], err, tail(said, 2000))
		}
	}
	if got, err := os.ReadFile(out); err != nil || string(got) != text.String() {
		t.Errorf("%d bytes came back, %v; want the %d that went", len(got), err, text.Len())
	}
}

// TestSqlClientLoadsReadsSideBySideAndResumes has System.Data.SqlClient's
// connection reset while it rests: it opens another one unseen, whose login has
// the state of the session. Mono's does not notice an orderly end.
func TestSqlClientLoadsReadsSideBySideAndResumes(t *testing.T) {
	t.Parallel()
	for _, encrypt := range []string{"False", "True"} {
		t.Run("Encrypt="+encrypt, func(t *testing.T) {
			t.Parallel()
			f := newSQLField(t, sqlSetup{})
			exe := filepath.Join(t.TempDir(), "Bulk.exe")
			if out, err := exec.CommandContext(t.Context(), "mcs", "-r:System.Data", "-out:"+exe, "clients/sql/Bulk.cs").CombinedOutput(); err != nil {
				t.Fatalf("mcs: %v\n%s", err, out)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, "mono", exe, f.connectionString(encrypt, "any", "any"), strconv.Itoa(bulkRows))
			cmd.Env = append(bareEnvironment(), "LC_ALL=C.UTF-8", "HOME="+filepath.Dir(exe))
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			var out transcript
			cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, &f.said), io.MultiWriter(&out, &f.said)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it rests", func() bool {
				return strings.Contains(out.String(), "rests=") || strings.Contains(out.String(), "failed=")
			})
			f.tap.reset()
			_, _ = io.WriteString(stdin, "\n")
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			bulkWant(t, out.String(), "stopped")
			if logins := f.far.Logins(); len(logins) != 4 {
				t.Errorf("%d logins, want one to load, one with MARS, one to rest and one to resume", len(logins))
			}
			for name, want := range map[string]string{"mars": strconv.Itoa(50*200 + 49*50/2), "rests": sqlPrincipal, "resumed": sqlPrincipal} {
				if got := steps(out.String())[name]; got != want {
					t.Errorf("%s = %q, want %q", name, got, want)
				}
			}
		})
	}
}
