package e2e

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// sqlLife is how long tokens live in these tests; the gateway hands none out
// whose end is nearer than five seconds.
const sqlLife = 7 * time.Second

// asker asks one thing after the other of a pool.
type asker interface {
	ask(t *testing.T, statement string) (answer string)
}

type goAsker struct{ db *sql.DB }

func (a goAsker) ask(t *testing.T, statement string) string {
	t.Helper()
	var got string
	if err := a.db.QueryRowContext(t.Context(), statement).Scan(&got); err != nil {
		return told(err)
	}
	return got
}

// lineAsker is SqlClient's program at work on lines.
type lineAsker struct {
	in  io.WriteCloser
	out *bufio.Scanner
	ids map[string]bool // ClientConnectionIds
}

func (f *sqlField) lineAsker(t *testing.T) *lineAsker {
	t.Helper()
	cmd := f.command(t, sqlRow{driver: "SqlClient", encrypt: "False"}, "any", "any", "lines")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &lineAsker{in, bufio.NewScanner(io.TeeReader(out, &f.said)), map[string]bool{}}
}

func (a *lineAsker) ask(t *testing.T, statement string) string {
	t.Helper()
	if _, err := fmt.Fprintln(a.in, statement); err != nil || !a.out.Scan() {
		t.Fatalf("SqlClient's program is over: %v", err)
	}
	id, answer, _ := strings.Cut(a.out.Text(), "=")
	if id != "failed" {
		a.ids[id] = true
	}
	return answer
}

// outlive waits until the server's latest session has a token that is over.
func (f *sqlField) outlive(t *testing.T) {
	t.Helper()
	eventually(t, "the session's token is over", func() bool {
		logins := f.far.Logins()
		return len(logins) > 0 && time.Now().After(logins[len(logins)-1].Expires.Add(time.Second))
	})
}

func askers(t *testing.T, f *sqlField) map[string]asker {
	return map[string]asker{"go-mssqldb": goAsker{f.pool(t, "any", "any", "encrypt=disable")}, "SqlClient": f.lineAsker(t)}
}

// TestPoolsOutliveTheTokensOfTheirSessions has pools of drivers that know
// nothing of tokens use one connection past the end of each.
func TestPoolsOutliveTheTokensOfTheirSessions(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"go-mssqldb", "SqlClient"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			f := newSQLField(t, sqlSetup{before: func(f *sqlField) { f.world.Entra.SetLifetime(sqlLife) }})
			a := askers(t, f)[driver]
			for range 3 {
				if got := a.ask(t, "SELECT SUSER_SNAME()"); got != sqlPrincipal {
					t.Fatalf("the pool reads %s", got)
				}
				f.outlive(t)
			}
			tokens := map[string]bool{}
			for _, l := range f.far.Logins() {
				tokens[l.TokenID] = true
			}
			if n := len(f.far.Logins()); n < 3 || len(tokens) != n {
				t.Errorf("%d logins with %d tokens, want each with one of its own", n, len(tokens))
			}
			if n := f.g.metric(t, "gateway_sql_relogins_total", `result="success"`); int(n) != len(f.far.Logins())-1 {
				t.Errorf("gateway_sql_relogins_total = %v, want one for each login but the first", n)
			}
			if n := f.g.metric(t, "gateway_sql_sessions"); n != 1 {
				t.Errorf("gateway_sql_sessions = %v, want the one session all along", n)
			}
			if a, ok := a.(*lineAsker); ok && len(a.ids) != 1 {
				t.Errorf("%d ClientConnectionIds, want the same one all along", len(a.ids))
			}
		})
	}
}

// TestPoolsReadThatTheTokenIsExpiredWithoutLoginsAnew is how the test above
// would end without them.
func TestPoolsReadThatTheTokenIsExpiredWithoutLoginsAnew(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"go-mssqldb", "SqlClient"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			f := newSQLField(t, sqlSetup{keys: ", relogin: {skew: off}", before: func(f *sqlField) { f.world.Entra.SetLifetime(sqlLife) }})
			a := askers(t, f)[driver]
			if got := a.ask(t, "SELECT SUSER_SNAME()"); got != sqlPrincipal {
				t.Fatalf("the pool reads %s", got)
			}
			f.outlive(t)
			if got := a.ask(t, "SELECT SUSER_SNAME()"); !strings.Contains(got, "18456") || !strings.Contains(got, "Token is expired") {
				t.Errorf("the pool reads %s, want 18456 and that the token is expired", got)
			}
		})
	}
}

func TestATokenThatTheServerHoldsExpiredIsRenewedBeforeAnyDriverReadsOfIt(t *testing.T) {
	t.Parallel()
	for _, r := range sqlFew() {
		t.Run(r.driver, func(t *testing.T) {
			t.Parallel()
			f := newSQLField(t, sqlSetup{})
			f.g.ready(t)
			expired := sandbox.TokenIsExpired()
			expired.Times = 1
			f.far.Set(func(m *sandbox.SQLManners) { m.Refuse = &expired })
			if out := f.who(t, r, "any", "any"); steps(out)["who"] != sqlPrincipal {
				t.Errorf("it prints %s", tail(out, 2000))
			}
			if logins := f.far.Logins(); len(logins) < 2 || logins[0].TokenID == logins[1].TokenID || logins[1].Error != 0 {
				t.Errorf("%d logins, want a second one with another token", len(logins))
			}
		})
	}
}

// TestUsersThatAreMissingCostOneRenewalAMinute logs in again and again.
func TestUsersThatAreMissingCostOneRenewalAMinute(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	f := newSQLField(t, sqlSetup{before: func(f *sqlField) {
		f.far.DropUser(sandbox.ClientID)
		f.world.Entra.Observe(func(sandbox.TokenRequest) { asked.Add(1) })
	}})
	f.g.ready(t)
	for range 8 {
		if _, err := whoever(t.Context(), f.pool(t, "any", "any", "encrypt=disable")); !strings.Contains(told(err), "18456 ") {
			t.Fatal(told(err))
		}
	}
	if n := asked.Load(); n > 2 {
		t.Errorf("%d token requests for eight logins that the server refuses, want two at most", n)
	}
	if n := len(f.far.Logins()); n > 9 {
		t.Errorf("%d logins at the server, want one more than there were", n)
	}
}

// TestATokenOfADriversOwnIsReplaced is for tools that insist on one.
func TestATokenOfADriversOwnIsReplaced(t *testing.T) {
	t.Parallel()
	const own = "a-token-of-the-drivers-own-0123"
	f := newSQLField(t, sqlSetup{})
	c, err := mssql.NewAccessTokenConnector("sqlserver://"+f.tap.addr+"?database=d1&encrypt=true&certificate="+f.ca, func() (string, error) { return own, nil })
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	defer db.Close()
	if name, err := whoever(t.Context(), db); err != nil || name != sqlPrincipal {
		t.Errorf("the driver reads %q, %v", name, err)
	}
	for _, l := range f.far.Logins() {
		if strings.Contains(narrow(string(l.Payload)), own) {
			t.Error("the driver's token went to the server")
		}
	}
	if strings.Contains(f.g.stdout.String(), own) {
		t.Error("the driver's token is in the log")
	}
}

// direct is a pool straight at the server, by a token of its own.
func (f *sqlField) direct(t *testing.T) *sql.DB {
	t.Helper()
	token := sqlToken(t, f.world)
	c, err := mssql.NewAccessTokenConnector("sqlserver://"+f.far.Addr()+"?database=d1&encrypt=true&certificate="+filepath.Join(filepath.Dir(f.ca), "sql-ca.pem"),
		func() (string, error) { return token, nil })
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// inserters are four pools that insert without pause until finish is called.
func (f *sqlField) inserters(t *testing.T, done, refused *atomic.Int64) (finish func()) {
	t.Helper()
	var workers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		db := f.pool(t, "any", "any", "encrypt=disable")
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				if _, err := db.ExecContext(t.Context(), "INSERT INTO work VALUES (1)"); err != nil {
					refused.Add(1)
				} else {
					done.Add(1)
				}
			}
		})
	}
	return sync.OnceFunc(func() {
		close(stop)
		workers.Wait()
	})
}

// TestADrainLosesNoRequest has a pool work while SIGTERM comes: what the server
// did, the driver was told of, and what the driver was refused, the server never
// did.
func TestADrainLosesNoRequest(t *testing.T) {
	t.Parallel()
	f := newSQLField(t, sqlSetup{})
	far := f.direct(t)
	if _, err := far.ExecContext(t.Context(), "CREATE TABLE work (id int); CREATE TABLE slow (id int)"); err != nil {
		t.Fatal(err)
	}
	long := make(chan error, 1)
	before := f.far.Counts().Requests
	go func() {
		_, err := f.pool(t, "any", "any", "encrypt=disable").ExecContext(context.WithoutCancel(t.Context()), "WAITFOR DELAY '00:00:02' INSERT INTO slow VALUES (1)")
		long <- err
	}()
	eventually(t, "the server has the long request", func() bool { return f.far.Counts().Requests > before })
	var done, refused atomic.Int64
	finish := f.inserters(t, &done, &refused)
	eventually(t, "the pools work", func() bool { return done.Load() > 100 })
	if err := f.g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-long; err != nil {
		t.Errorf("the request that was under way: %v", err)
	}
	select {
	case <-f.g.exited:
	case <-time.After(patience):
		t.Fatal("the gateway did not end")
	}
	finish()
	for table, want := range map[string]int64{"work": done.Load(), "slow": 1} {
		var n int64
		if err := far.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n); err != nil || n != want {
			t.Errorf("the server did %d requests in %s, %v; the drivers were told of %d", n, table, err, want)
		}
	}
	if refused.Load() == 0 {
		t.Error("nothing was refused; that was no drain")
	}
	if f.g.err != nil {
		t.Errorf("the gateway ended with %v", f.g.err)
	}
}

// TestDoorsTakeLoginsUntilTheDelayIsOver has load balancers hear of a drain first.
func TestDoorsTakeLoginsUntilTheDelayIsOver(t *testing.T) {
	t.Parallel()
	f := newSQLField(t, sqlSetup{args: []string{"--drain-delay", "3s"}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before, held := f.far.Counts().Requests, make(chan error, 1)
	go func() {
		_, err := f.pool(t, "any", "any", "encrypt=disable").ExecContext(ctx, "WAITFOR DELAY '01:00:00'")
		held <- err
	}()
	eventually(t, "the server has the long request", func() bool { return f.far.Counts().Requests > before })
	if err := f.g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gateway says that it drains", func() bool {
		a, err := call(t.Context(), f.g.client, request{url: "http://" + f.g.admin + "/readyz"})
		return err == nil && a.status == http.StatusServiceUnavailable && strings.Contains(a.body, "draining")
	})
	ask := func() string {
		who, err := whoever(t.Context(), sqlPool(t, f.tap.addr, "any", "any", "database=d1&encrypt=disable"))
		if err != nil {
			return told(err)
		}
		return who
	}
	if got := ask(); got != sqlPrincipal {
		t.Errorf("a login within the delay: %s", got)
	}
	last, cut := "", 0
	eventually(t, "a login is refused", func() bool {
		last = ask()
		// A login just before it may have its session ended, at rest, before it asks.
		if strings.Contains(last, "EOF") && cut == 0 {
			cut++
			return false
		}
		return last != sqlPrincipal
	})
	if !strings.HasPrefix(last, "40613 ") || !strings.Contains(last, "the gateway is stopping") {
		t.Errorf("a login after the delay: %s, want 40613", last)
	}
	cancel()
	if err := <-held; !errors.Is(err, context.Canceled) {
		t.Errorf("the request that was under way: %v, want it to end when it is given up", err)
	}
	<-f.g.exited
	if f.g.err != nil {
		t.Errorf("the gateway ended with %v", f.g.err)
	}
}

func TestReloadsOpenAndCloseDoorsAndSessionsLiveOn(t *testing.T) {
	t.Parallel()
	first, second := freePort(t), freePort(t)
	setup := sqlSetup{listen: first}
	f := newSQLField(t, setup)
	config := f.config(setup)
	held, err := f.pool(t, "any", "any", "encrypt=disable").Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	ask := func(addr string) error {
		_, err := whoever(t.Context(), sqlPool(t, addr, "any", "any", "database=d1&encrypt=disable&dial+timeout=5"))
		return err
	}
	replaceFile(t, f.g.config, config+f.entry("stock", second, ""))
	eventually(t, "the second door is open", func() bool { return ask(second) == nil })
	if err := ask(first); err != nil {
		t.Errorf("the first door, once there is a second: %v", err)
	}
	_, entries, _ := strings.Cut(config, "sql:\n")
	replaceFile(t, f.g.config, strings.TrimSuffix(config, entries)+f.entry("stock", second, ""))
	eventually(t, "the first door is closed", func() bool { return ask(first) != nil })
	if err := ask(second); err != nil {
		t.Errorf("the second door, once it is alone: %v", err)
	}
	var n int
	if err := held.QueryRowContext(t.Context(), "SELECT 7").Scan(&n); err != nil || n != 7 {
		t.Errorf("the session of the door that is closed: %d, %v", n, err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	replaceFile(t, f.g.config, strings.TrimSuffix(config, entries)+f.entry("third", taken.Addr().String(), ""))
	if out, code := f.g.command(t, "reload", "--admin", f.g.admin); code != 1 || !strings.Contains(out, taken.Addr().String()) {
		t.Errorf("reload with a port that is taken: exit %d, %s", code, out)
	}
	if err := ask(second); err != nil {
		t.Errorf("the second door, after a reload that was refused: %v", err)
	}
}
