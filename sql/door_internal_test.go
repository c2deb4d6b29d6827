package sql

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
)

const at2 = "127.0.0.1:1434"

func TestDoorsFollowReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.use(tableOf(doorOf("orders", at)))
		kept, number := r.enter(at, hello{}), r.ports.open[at].number

		r.use(tableOf(doorOf("renamed", at), doorOf("added", at2)))
		if got := r.ports.open[at].number; got != number {
			t.Error("a door whose address did not change has another listener")
		}
		if got := r.enter(at, hello{}).say("x"); got != "token-1 renamed.example: x" {
			t.Errorf("a login after the reload: %q, want the new server", got)
		}
		if got := kept.say("x"); got != "token-1 orders.example: x" {
			t.Errorf("a session from before: %q, want it to go on", got)
		}
		addrs := r.srv.Addrs()
		if len(addrs) != 2 || addrs["renamed"].String() != at || addrs["added"].String() != at2 {
			t.Errorf("Addrs = %v", addrs)
		}

		removed, waiting := r.enter(at2, hello{}), r.dial(at2, "127.0.0.1:5001")
		synctest.Wait()
		r.use(tableOf(doorOf("renamed", at)))
		if _, err := r.ports.dial(at2, "127.0.0.1:5000"); err == nil {
			t.Error("a door that is gone takes clients")
		}
		if got := removed.say("x"); got != "token-1 added.example: x" {
			t.Errorf("a session of a door that is gone: %q, want it to go on", got)
		}
		if got := waiting.login(hello{}); !strings.HasPrefix(got, "no 40613 gateway: this door has just been closed") {
			t.Errorf("a login of a door that is gone: %q, want 40613", got)
		}
		r.use(tableOf(doorOf("again", at2)))
		r.enter(at2, hello{})
	})
}

func TestReloadsAreAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.use(tableOf(doorOf("orders", at)))
		r.ports.fail = map[string]error{"127.0.0.1:1435": errors.New("address already in use")}
		_, _, err := r.srv.Open(tableOf(doorOf("added", at2), doorOf("taken", "127.0.0.1:1435")))
		if err == nil || err.Error() != "sql door taken: address already in use" {
			t.Errorf("Open = %v, want the door named", err)
		}
		odd := doorOf("odd", "127.0.0.1:1436")
		odd.Kind = "oracle"
		if _, _, err := r.srv.Open(tableOf(doorOf("added", at2), odd)); err == nil || !strings.Contains(err.Error(), `kind "oracle"`) {
			t.Errorf("Open = %v, want the kind named", err)
		}
		_, undo, err := r.srv.Open(tableOf(doorOf("added", at2)))
		if err != nil {
			t.Fatal(err)
		}
		undo()
		if len(r.ports.open) != 1 {
			t.Errorf("%d listeners are open, want the old one alone", len(r.ports.open))
		}
		if got := r.enter(at, hello{}).say("x"); got != "token-1 orders.example: x" {
			t.Errorf("a login after reloads that were not done: %q", got)
		}
		commit, _, err := r.srv.Open(tableOf(doorOf("one", at), doorOf("two", at)))
		if err != nil {
			t.Fatal(err)
		}
		if alarms := commit(gate.New(tableOf(doorOf("one", at)), keys{}), nobodyDials{}); len(alarms) != 1 || !strings.Contains(alarms[0].Error(), "sql door two has no listener") {
			t.Errorf("two doors at one address: %v, want an alarm", alarms)
		}
		r.srv.Close()
		if _, _, err := r.srv.Open(tableOf()); err == nil {
			t.Error("Open after Close worked")
		}
	})
}

func TestFileOfTrustedCAsIsReadAtEachReload(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.StartTLS()
	defer s.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	write := func(b []byte) {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		table := func() *routes.Table {
			d := doorOf("orders", at)
			d.CAFile = file
			return tableOf(d)
		}
		if alarms := r.use(table()); len(alarms) != 1 || !strings.Contains(alarms[0].Error(), "sql door orders: tls.ca_file: ") {
			t.Errorf("alarms %v, want the door and its file named", alarms)
		}
		if answer := r.dial(at, "127.0.0.1:5000").login(hello{}); !strings.HasPrefix(answer, "no 40613 ") || strings.Contains(answer, file) {
			t.Errorf("answer = %q, want 40613 without the file's name", answer)
		}
		if got := r.last(); got.Result != audit.LoginUpstreamTLS || !strings.Contains(got.Cause, file) || len(r.wire.targets) > 0 {
			t.Errorf("record %+v, and the server was asked %d times", got, len(r.wire.targets))
		}
		write(good)
		if alarms := r.use(table()); alarms != nil {
			t.Errorf("alarms %v, want none", alarms)
		}
		r.enter(at, hello{})
		for _, bad := range []string{"no PEM", strings.Repeat("x", 1<<20+1)} {
			write([]byte(bad))
			if alarms := r.use(table()); len(alarms) != 1 || !strings.Contains(alarms[0].Error(), "keeps what it read before") {
				t.Errorf("alarms %v, want the old file kept", alarms)
			}
		}
		r.enter(at, hello{})
		if before, now := r.wire.targets[0].roots, r.wire.targets[1].roots; before == nil || !before.Equal(now) {
			t.Error("the servers are trusted by other CAs than those that were read before")
		}
		file = filepath.Dir(file)
		if alarms := r.use(table()); len(alarms) != 1 || !strings.Contains(alarms[0].Error(), "no regular file") {
			t.Errorf("alarms %v, want a folder refused", alarms)
		}
	})
}

func TestDoorsThatTakeLongToOpenHoldNoLoginUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.use(tableOf(doorOf("orders", at)))
		listen, slow := r.srv.cfg.Listen, make(chan struct{})
		r.srv.cfg.Listen = func(addr string) (net.Listener, error) { <-slow; return listen(addr) }
		opened := make(chan error, 1)
		go func() {
			_, undo, err := r.srv.Open(tableOf(doorOf("orders", at), doorOf("slow", at2)))
			if err == nil {
				undo()
			}
			opened <- err
		}()
		synctest.Wait()
		if got := r.enter(at, hello{}).say("x"); !strings.HasSuffix(got, ": x") {
			t.Errorf("a session meanwhile: %q", got)
		}
		close(slow)
		if err := <-opened; err != nil {
			t.Error(err)
		}
	})
}

func TestDrainLetsSessionsEndAndTakesNoLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.use(tableOf(doorOf("orders", at)))
		d := r.enter(at, hello{})
		late, gate := r.dial(at, "127.0.0.1:5001"), make(chan struct{})
		r.wire.login = func(context.Context, target, string) (facts, error) { <-gate; return facts{}, nil }
		answer := make(chan string, 1)
		go func() { answer <- late.login(hello{}) }()
		synctest.Wait()
		drained := make(chan error, 1)
		begun := time.Now()
		go func() { drained <- r.srv.Drain(t.Context()) }()
		synctest.Wait()
		if got := r.dial(at, "127.0.0.1:5002").login(hello{}); !strings.HasPrefix(got, "no 40613 gateway: the gateway is stopping; come again") {
			t.Errorf("a login while draining: %q, want 40613", got)
		}
		if got := r.last(); got.Result != audit.LoginDraining || got.Number != 40613 {
			t.Errorf("record %+v", got)
		}
		close(gate)
		if got := <-answer; got != "welcome" {
			t.Errorf("a login from before: %q, want welcome", got)
		}
		if err := <-drained; err != nil || time.Since(begun) != drainGrace {
			t.Errorf("Drain = %v after %s, want nil after %s", err, time.Since(begun), drainGrace)
		}
		if _, err := d.r.ReadByte(); err == nil || r.srv.Sessions() != 0 {
			t.Errorf("a session outlives the drain")
		}
		for _, s := range r.records.list() {
			if !s.End.IsZero() && s.Reason != "drained" {
				t.Errorf("reason %q, want drained", s.Reason)
			}
		}
	})
}

func TestSessionsEndAtTheAgeThatTheirDoorHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		aging, ageless := doorOf("orders", at), doorOf("stock", "127.0.0.1:1434")
		aging.MaxSessionAge = 8 * time.Hour
		r.use(tableOf(aging, ageless))
		old, other := r.enter(at, hello{}), r.enter("127.0.0.1:1434", hello{})
		time.Sleep(8*time.Hour - time.Second)
		if got := old.say("ping"); !strings.HasSuffix(got, "ping") {
			t.Errorf("a session that is not old yet answers %q", got)
		}
		time.Sleep(2 * time.Second)
		if _, err := old.r.ReadByte(); err == nil {
			t.Error("an old session goes on")
		}
		synctest.Wait()
		if got := r.last(); got.End.IsZero() || got.Name != "orders" || got.Reason != "too old" {
			t.Errorf("record %+v, want the end of an old session", got)
		}
		if got := other.say("ping"); !strings.HasSuffix(got, "ping") {
			t.Errorf("the session of a door without an age answers %q", got)
		}
	})
	if r := (&mssqlClient{}).relay(mssqlUpstream{}, course{maxAge: time.Hour}).(mssqlRelay).r; r.MaxAge != time.Hour {
		t.Errorf("the relay of the wire has the age %s, want that of the door", r.MaxAge)
	}
}

func TestDrainEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.use(tableOf(doorOf("orders", at)))
		r.enter(at, hello{})
		ctx, done := context.WithTimeout(t.Context(), time.Second)
		defer done()
		if err := r.srv.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain = %v, want the end of its context", err)
		}
		if got := r.last(); got.End.IsZero() || got.Reason != "the gateway stops, and the time for it is over" {
			t.Errorf("record %+v", got)
		}
	})
}

func TestCloseEndsEverythingAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.use(tableOf(doorOf("orders", at)))
		session, silent := r.enter(at, hello{}), r.dial(at, "127.0.0.1:5001")
		synctest.Wait()
		r.srv.Close()
		r.srv.Close()
		for _, d := range []*driver{session, silent} {
			if _, err := d.r.ReadByte(); err == nil {
				t.Error("a connection is open after Close")
			}
		}
		if all := r.records.list(); len(all) != 2 || all[1].Reason != "the gateway stops" {
			t.Errorf("records %+v, want those of the one session", all)
		}
		if len(r.ports.open) != 0 {
			t.Error("a listener is open after Close")
		}
	})
}

func TestAcceptErrorsAreWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.use(tableOf(doorOf("orders", at)))
		begun := time.Now()
		for range 20 {
			r.ports.open[at].errs <- errors.New("too many open files")
		}
		if took := time.Since(begun); took < 10*time.Second || took > 20*time.Second {
			t.Errorf("20 errors took %s, want a pause after each, of a second at most", took)
		}
		if n := strings.Count(r.log.text(), "warn connections cannot be accepted"); n != 1 {
			t.Errorf("%d lines, want one a minute", n)
		}
		r.enter(at, hello{})
	})
}

// overNet is a rig whose doors are real listeners.
func overNet(t *testing.T, door *routes.SQL, callers ...*routes.Caller) (*rig, net.Addr) {
	r := newRig(t)
	r.srv.cfg.Listen = func(addr string) (net.Listener, error) {
		if path, ok := strings.CutPrefix(addr, "unix:"); ok {
			return net.Listen("unix", path)
		}
		return net.Listen("tcp", addr)
	}
	table := tableOf(door, doorOf("second", "127.0.0.1:0"))
	table.Callers = callers
	r.use(table)
	return r, r.srv.Addrs()[door.Name]
}

func TestOwnersOfSocketsAreKnown(t *testing.T) {
	uid := uint32(os.Getuid())
	for _, listen := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "s")} {
		t.Run(listen, func(t *testing.T) {
			door := doorOf("orders", listen)
			r, addr := overNet(t, door, &routes.Caller{Name: "backup", UID: &uid})
			conn, err := net.Dial(addr.Network(), addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			d := &driver{t, conn, bufio.NewReader(conn)}
			if answer := d.login(hello{User: "sa", Password: "any"}); answer != "welcome" {
				t.Fatalf("login = %q, want welcome", answer)
			}
			d.say("x") // so that the login was recorded
			got := r.records.list()[0]
			if got.Caller != "backup" || got.CallerHow != "uid" || got.Remote == "" {
				t.Errorf("record %+v, want the caller known by its uid", got)
			}
		})
	}
}

func TestDoorsAtAPortOfTheSystemsChoiceAreApart(t *testing.T) {
	r, addr := overNet(t, doorOf("orders", "127.0.0.1:0"))
	second := r.srv.Addrs()["second"]
	if second == nil || second.String() == addr.String() {
		t.Fatalf("Addrs = %v, want two", r.srv.Addrs())
	}
	for name, a := range r.srv.Addrs() {
		if tcp, ok := a.(*net.TCPAddr); !ok || tcp.Port == 0 {
			t.Errorf("%s is at %v, want the port that was chosen", name, a)
		}
	}
	r.use(tableOf(doorOf("orders", "127.0.0.1:0")))
	if now := r.srv.Addrs(); len(now) != 1 || now["orders"].String() != addr.String() {
		t.Errorf("after a reload: %v, want the port kept", now)
	}
}

func TestDoorsWithoutTLSShowNoCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		off := doorOf("off", at2)
		off.ClientTLS = routes.ClientTLSOff
		r.use(tableOf(off, doorOf("orders", at)))
		r.enter(at2, hello{})
		r.enter(at, hello{})
		r.wire.mu.Lock()
		defer r.wire.mu.Unlock()
		if r.wire.fronts[0].certificate != nil {
			t.Error("a door with client_tls off has a certificate")
		}
		if cert, err := r.wire.fronts[1].certificate("a.example"); cert != nil || err == nil || err.Error() != "certificate of orders for a.example" {
			t.Errorf("certificate = %v, %v, want the configuration asked", cert, err)
		}
	})
}
