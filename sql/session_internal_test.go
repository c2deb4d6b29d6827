package sql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

const at = "127.0.0.1:1433"

func TestSessionIsLoggedInWithATokenAndRecordedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		door := doorOf("orders", at)
		door.Database, door.ReadOnly = "ordersdb", true
		if alarms := r.use(tableOf(door)); alarms != nil {
			t.Fatal(alarms)
		}
		d := r.enter(at, hello{User: "sa", Password: "any", App: "app\x1b[2J" + strings.Repeat("x", 200)})
		if got := d.say("select 1"); got != "token-1 orders.example: select 1" {
			t.Errorf("answer = %q, want the server's, by the token", got)
		}
		if in, out := r.srv.Bytes(); r.srv.Sessions() != 1 || in != 9 || out != 33 {
			t.Errorf("sessions, bytes = %d, %d, %d, want 1, 9, 33", r.srv.Sessions(), in, out)
		}
		time.Sleep(time.Minute)
		_ = d.Close()
		synctest.Wait()
		all := r.records.list()
		if len(all) != 2 {
			t.Fatalf("%d records, want 2: %+v", len(all), all)
		}
		login, end := all[0], all[1]
		if login.Result != audit.LoginSuccess || !login.End.IsZero() || login.Name != "orders" || login.Remote != "127.0.0.1:5000" ||
			login.Credential != "default" || login.TokenSource != "identity_provider" || login.Server != "orders.example:1433" ||
			login.Database != "ordersdb" || !login.ReadOnly || login.SPID != 51 || login.User != "sa" || login.Caller != "" ||
			!login.TokenExpires.Equal(login.Start.Add(time.Hour)) || len(login.Phases) != 2 || len(login.ID) != 16 {
			t.Errorf("record of the login = %+v", login)
		}
		if len([]rune(login.App)) != maxName || strings.Contains(login.App, "\x1b") {
			t.Errorf("app = %q, want it bounded and printable", login.App)
		}
		if end.ID != login.ID || end.Reason != "client closed" || end.End.Sub(end.Start) != time.Minute || end.BytesIn != 9 || end.BytesOut != 33 || end.Requests != 1 {
			t.Errorf("record of the end = %+v", end)
		}
		if in, out := r.srv.Bytes(); r.srv.Sessions() != 0 || in != 9 || out != 33 {
			t.Errorf("after the end: %d, %d, %d, want 0, and the bytes kept", r.srv.Sessions(), in, out)
		}
	})
}

// withCallers is a rig whose door is for reports, of a table with others too.
func withCallers(t *testing.T, change func(d *routes.SQL)) *rig {
	r := newRig(t)
	table := tableOf(doorOf("orders", at))
	reports := keyed("reports", "key-1")
	reports.Limits.Concurrency = 2
	table.Callers = []*routes.Caller{reports, keyed("billing", "key-2")}
	table.SQL[0].Callers = table.Callers[:1]
	if change != nil {
		change(table.SQL[0])
	}
	r.use(table)
	return r
}

func TestCallersShowTheirNameAndKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := withCallers(t, nil)
		r.enter(at, hello{User: "reports", Password: "key-1"})
		if got := r.last(); got.Caller != "reports" || got.CallerHow != "api_key" {
			t.Errorf("record %+v, want the caller and how it was known", got)
		}
		if f := r.wire.fronts[0]; !f.passwords || !f.plain || f.certificate == nil {
			t.Errorf("front = %+v, want one for passwords, in clear text from loopback", f)
		}
		for _, test := range []struct {
			name  string
			hello hello
			want  string
			took  time.Duration
			rec   audit.LoginResult
		}{
			{"a wrong key", hello{User: "reports", Password: "hunter2"}, "no 18456 gateway: no caller could be recognised", time.Second, audit.LoginCallerUnknown},
			{"a key in the wrong place", hello{User: "hunter2"}, "no 18456 gateway: no caller could be recognised", time.Second, audit.LoginCallerUnknown},
			{"another caller", hello{User: "billing", Password: "key-2"}, "no 18456 gateway: the door orders may not be used by caller billing", 0, audit.LoginCallerForbidden},
		} {
			begun := time.Now()
			answer := r.dial(at, "192.0.2.7:5000").login(test.hello)
			if !strings.HasPrefix(answer, test.want) || strings.Contains(answer, "reports") {
				t.Errorf("%s: %q, want %q and no caller's name", test.name, answer, test.want)
			}
			if took := time.Since(begun); took != test.took {
				t.Errorf("%s: took %s, want %s", test.name, took, test.took)
			}
			got := r.last()
			if got.Result != test.rec || got.Remote != "192.0.2.7:5000" || got.User != "" || got.Number != 18456 || got.Cause == "" || !strings.Contains(answer, got.ID) {
				t.Errorf("%s: record %+v", test.name, got)
			}
			if strings.Contains(fmt.Sprintf("%+v", got), "hunter2") {
				t.Errorf("%s: the record holds what was shown: %+v", test.name, got)
			}
		}
		if f := r.wire.fronts[1]; f.plain {
			t.Error("a password may come in clear text from elsewhere")
		}
		for range 8 {
			r.dial(at, "192.0.2.7:5000").login(hello{User: "reports", Password: "x"})
		}
		if answer := r.dial(at, "192.0.2.7:5000").login(hello{User: "reports", Password: "key-1"}); answer != "welcome" {
			t.Errorf("the right key after guesses: %q, want welcome", answer)
		}
		for range 10 {
			r.dial(at, "192.0.2.9:5000").login(hello{User: "reports", Password: "x"})
		}
		if got := r.last(); got.Result != audit.LoginCallerUnknown {
			t.Errorf("guesses at one a second: %+v, want none held off", got)
		}
	})
}

func TestCallersHaveNoMoreSessionsThanTheyMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := withCallers(t, func(d *routes.SQL) { d.Callers = nil })
		reports := hello{User: "reports", Password: "key-1"}
		first := r.enter(at, reports)
		r.enter(at, reports)
		if answer := r.dial(at, "127.0.0.1:5001").login(reports); !strings.HasPrefix(answer, "no 10928 gateway: caller reports has 2 sessions open") {
			t.Errorf("a third session: %q, want 10928", answer)
		}
		r.enter(at, hello{User: "billing", Password: "key-2"})
		_ = first.Close()
		synctest.Wait()
		r.enter(at, reports)
	})
}

func TestClientsChooseAmongTheServersOfADoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := withCallers(t, func(d *routes.SQL) {
			d.ByName = true
			d.Servers = []routes.Authority{{Host: "a.example", Port: 1433}, {Host: "b.example", Port: 1434}}
		})
		r.enter(at, hello{User: "reports", Password: "key-1", Server: "b.example"})
		if got := r.wire.targets[0].server; got.String() != "b.example:1434" {
			t.Errorf("server = %s, want the one that the client named", got)
		}
		answer := r.dial(at, "127.0.0.1:5000").login(hello{User: "reports", Password: "key-1", Server: "localhost"})
		if !strings.HasPrefix(answer, "no 18456 ") || !strings.Contains(answer, "a.example, b.example") {
			t.Errorf("an unknown server: %q, want the known ones told", answer)
		}
		if got := r.last(); got.Result != audit.LoginServerUnknown {
			t.Errorf("record %+v", got)
		}
		if answer := r.dial(at, "127.0.0.1:5000").login(hello{User: "reports", Password: "x", Server: "localhost"}); strings.Contains(answer, "example") {
			t.Errorf("a stranger is told where the door leads: %q", answer)
		}
	})
}

func TestDoorsThatAreFullSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		door := doorOf("orders", at)
		door.MaxConnections = 1
		r.use(tableOf(door))
		first := r.enter(at, hello{})
		if answer := r.dial(at, "127.0.0.1:5001").login(hello{}); !strings.HasPrefix(answer, "no 10928 gateway: the door orders has 1 sessions open") {
			t.Errorf("one too many: %q, want 10928", answer)
		}
		if got := r.last(); got.Result != audit.LoginOverloaded || got.Number != 10928 {
			t.Errorf("record %+v", got)
		}
		for range 4 {
			r.dial(at, "127.0.0.1:5002")
		}
		for range 3 {
			if answer := r.dial(at, "127.0.0.1:5003").login(hello{}); answer != "" {
				t.Errorf("beside 4 unfinished handshakes: %q, want the connection closed", answer)
			}
		}
		if n := strings.Count(r.log.text(), "too many have not finished their login"); n != 1 {
			t.Errorf("the log says so %d times in a moment, want once: %s", n, r.log.text())
		}
		_ = first.Close()
		time.Sleep(time.Minute)
		r.enter(at, hello{})
	})
}

func TestOneSourceThatDoesNotLogInKeepsNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		door := doorOf("orders", at)
		door.MaxConnections = 3
		r.use(tableOf(door))
		closed := func(d *driver) bool {
			_ = d.SetReadDeadline(time.Now().Add(time.Second))
			_, err := d.r.ReadByte()
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
		for _, host := range []string{"192.0.2.7", "[2001:db8::%x]"} { // of one network the second
			for i := range 6 {
				remote := host + ":5000"
				if strings.Contains(host, "%") {
					remote = fmt.Sprintf(host, i+1) + ":5000"
				}
				if d := r.dial(at, remote); closed(d) != (i >= 3) {
					t.Errorf("connection %d of %s: closed %t, want those beyond 3", i+1, remote, i < 3)
				}
			}
		}
		if answer := r.dial(at, "192.0.2.8:5000").login(hello{}); answer != "welcome" {
			t.Errorf("somebody else: %q, want welcome", answer)
		}
		for i := range 6 { // to the bound of all
			if d := r.dial(at, "127.0.0.1:5000"); closed(d) {
				t.Errorf("connection %d of this machine is closed", i+1)
			}
		}
		time.Sleep(time.Minute)
		if answer := r.dial(at, "192.0.2.7:5001").login(hello{}); answer != "welcome" {
			t.Errorf("the source, once its handshakes are over: %q, want welcome", answer)
		}
	})
}

func TestClientsThatDoNotLogInAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.use(tableOf(doorOf("orders", at)))
		begun := time.Now()
		silent := r.dial(at, "192.0.2.7:5000")
		if _, err := silent.r.ReadByte(); err == nil || time.Since(begun) != handshakeTime {
			t.Errorf("a silent client: %v after %s, want its end after %s", err, time.Since(begun), handshakeTime)
		}
		synctest.Wait()
		if got := r.last(); got.Result != audit.LoginClientError || !strings.Contains(got.Cause, "did not finish its login within 15s") {
			t.Errorf("record of a silent client: %+v", got)
		}
		r.dial(at, "192.0.2.7:5000").say("garbage")
		synctest.Wait()
		if got := r.last(); got.Result != audit.LoginClientError || !strings.Contains(got.Cause, "not a login") {
			t.Errorf("record of garbage: %+v", got)
		}
		r.dial(at, "192.0.2.7:5000").login(hello{Old: true})
		synctest.Wait()
		if got := r.last(); got.Result != audit.LoginUnsupported || got.Number != 18456 || got.Cause != "too old" {
			t.Errorf("record of an old client: %+v", got)
		}
		n := len(r.records.list())
		_ = r.dial(at, "192.0.2.7:5000").Close()
		synctest.Wait()
		if got := r.records.list(); len(got) != n || !strings.Contains(r.log.text(), "debug client left without a byte") {
			t.Errorf("a health probe: %d records more, log %q; want none, and a line for debugging", len(got)-n, r.log.text())
		}
	})
}

func TestLoginsEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.wire.login = func(ctx context.Context, _ target, _ string) (facts, error) {
			<-ctx.Done()
			return facts{}, &loginError{phase: "dial", server: "orders.example:1433", err: ctx.Err(), text: "dial: " + ctx.Err().Error()}
		}
		r.use(tableOf(doorOf("orders", at)))
		begun := time.Now()
		answer := r.dial(at, "127.0.0.1:5000").login(hello{})
		if took := time.Since(begun); took != 30*time.Second || !strings.HasPrefix(answer, "no 40613 gateway: the server did not answer in time (orders.example:1433, at dial)") {
			t.Errorf("answer after %s: %q, want 40613 after login_timeout", took, answer)
		}
		if got := r.last(); got.Result != audit.LoginTimeout || len(got.Route) != 1 {
			t.Errorf("record %+v", got)
		}
	})
}

func TestPanicsEndTheirSessionAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.use(tableOf(doorOf("orders", at)))
		other := r.enter(at, hello{})
		if answer := r.dial(at, "127.0.0.1:5001").login(hello{Panic: true}); answer != "" {
			t.Errorf("a panic before the login was read: %q", answer)
		}
		if got := r.last(); got.Result != audit.LoginInternal {
			t.Errorf("record %+v, want internal", got)
		}
		r.wire.login = func(context.Context, target, string) (facts, error) { panic(errors.New("token is hunter2")) }
		if answer := r.dial(at, "127.0.0.1:5001").login(hello{}); !strings.HasPrefix(answer, "no 40613 gateway: the gateway has a defect") {
			t.Errorf("a panic at the login: %q, want 40613", answer)
		}
		r.wire.login = nil
		if answer := r.enter(at, hello{}).say("panic"); answer != "" {
			t.Errorf("a panic in the relay: %q", answer)
		}
		synctest.Wait()
		if got := r.last(); !strings.Contains(got.Reason, "a defect of the gateway") || got.End.IsZero() {
			t.Errorf("record %+v, want the end and its reason", got)
		}
		text := r.log.text()
		if strings.Count(text, "error a session panicked") != 3 || !strings.Contains(text, "fakewire_internal_test.go") || strings.Contains(text, "hunter2") {
			t.Errorf("log %s, want three panics with their stacks and no secret", text)
		}
		if got := other.say("still here"); got != "token-1 orders.example: still here" || r.srv.Sessions() != 1 {
			t.Errorf("the other session: %q, of %d", got, r.srv.Sessions())
		}
		if r.wire.closed != 1 {
			t.Errorf("%d upstreams closed, want the one of the relay", r.wire.closed)
		}
	})
}
