package audit_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
)

// numbered is the call number i of these tests.
func numbered(i int) *audit.Event {
	return &audit.Event{RequestID: fmt.Sprint(i), Method: "GET", Host: "graph.microsoft.com", Path: fmt.Sprintf("/v1.0/users/%d", i), Route: "graph", Status: 200}
}

func ids(calls []audit.Call) string {
	var all []string
	for _, c := range calls {
		all = append(all, c.RequestID)
	}
	return strings.Join(all, " ")
}

func TestLatestCallsAreRememberedNewestFirst(t *testing.T) {
	c := audit.NewCalls()
	if calls, newest := c.Latest(10, nil); len(calls) != 0 || !c.Known(newest) || c.Known(newest+1) || c.Known(newest-1) {
		t.Errorf("nothing recorded: %v, and of the numbers around %d not that one alone is known", calls, newest)
	}
	for i := range 1500 {
		c.Record(numbered(i))
	}
	calls, newest := c.Latest(2000, nil)
	if len(calls) != 1000 || calls[0].RequestID != "1499" || calls[999].RequestID != "500" || calls[0].Number != newest {
		t.Fatalf("%d calls from %s to %s, want 1000 from 1499 to 500", len(calls), calls[0].RequestID, calls[len(calls)-1].RequestID)
	}
	if calls[0].Path != "/v1.0/users/1499" || calls[0].Host != "graph.microsoft.com" || calls[0].Method != "GET" {
		t.Errorf("the newest is %+v", calls[0])
	}
	even := func(c *audit.Call) bool { return strings.HasSuffix(c.RequestID, "0") }
	if got, _ := c.Latest(3, even); ids(got) != "1490 1480 1470" {
		t.Errorf("every tenth = %s", ids(got))
	}
}

func TestFollowerLearnsWhatItMissed(t *testing.T) {
	c := audit.NewCalls()
	c.Record(numbered(0))
	_, at := c.Latest(1, nil)
	wake, stop := c.Follow()
	defer stop()
	for i := 1; i <= 1200; i++ {
		c.Record(numbered(i))
	}
	<-wake
	calls, lost := c.After(at, 2)
	if ids(calls) != "201 202" || lost != 200 {
		t.Fatalf("after 0: %s, lost %d; want 201 202, lost 200", ids(calls), lost)
	}
	if calls, lost = c.After(calls[1].Number, 2); ids(calls) != "203 204" || lost != 0 {
		t.Errorf("and then: %s, lost %d", ids(calls), lost)
	}
	if calls, lost = c.After(17, 1); ids(calls) != "201" || lost != 0 || c.Known(17) {
		t.Errorf("after a number of an earlier process: %s, lost %d; want the oldest, and none lost", ids(calls), lost)
	}
}

func TestNumbersNeverFallAcrossRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := audit.NewCalls()
		for i := range 1500 {
			before.Record(numbered(i))
		}
		_, last := before.Latest(1, nil)
		time.Sleep(time.Second)
		after := audit.NewCalls()
		after.Record(numbered(0))
		if _, first := after.Latest(1, nil); first <= last || after.Known(last) {
			t.Errorf("the first number of the next process is %d, the last before %d", first, last)
		}
	})
}

func TestRememberedCallsAreBoundedAndFitForATerminal(t *testing.T) {
	c := audit.NewCalls()
	e := &audit.Event{Method: strings.Repeat("M", 9000), Host: "a\u202eb\x1b[2J", Path: "/" + strings.Repeat("p", 90000), Cause: strings.Repeat("c", 90000), UpstreamRequest: "\x07"}
	c.Record(e)
	calls, _ := c.Latest(1, nil)
	got := calls[0]
	if len(got.Method) > 256 || len(got.Path) > 2048 || len(got.Cause) > 4096 {
		t.Errorf("method, path and cause have %d, %d and %d bytes", len(got.Method), len(got.Path), len(got.Cause))
	}
	if got.Host != "a%E2%80%AEb%1B[2J" || got.UpstreamRequest != "%07" {
		t.Errorf("host %q, upstream request %q", got.Host, got.UpstreamRequest)
	}
	if len(e.Path) != 90001 || e.Host != "a\u202eb\x1b[2J" {
		t.Error("the event itself was changed")
	}
}

func TestRecordingACallAllocatesNothing(t *testing.T) {
	c := audit.NewCalls()
	e := numbered(1)
	for range 1000 {
		c.Record(e)
	}
	if n := testing.AllocsPerRun(100, func() { c.Record(e) }); n != 0 {
		t.Errorf("%v allocations for each call, want none", n)
	}
}

func TestCallsAreCountedByRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := audit.NewCalls()
		for i := range 100 {
			c.Record(&audit.Event{Route: "graph", Status: 200, Duration: time.Duration(i+1) * time.Millisecond})
		}
		c.Record(&audit.Event{Route: "graph", Status: 403, Duration: time.Minute})
		c.Record(&audit.Event{Route: "graph", Status: 502, Code: "token_refused", Duration: time.Minute})
		c.Record(&audit.Event{Status: 407, Code: "caller_unknown", Asked: true})
		began := time.Now()
		got := c.Route("graph")
		if got.Requests != 102 || got.Refusals != 1 || got.Errors != 1 || !got.Last.Equal(began) || got.Rate != 1.7 {
			t.Errorf("graph: %+v", got)
		}
		near := func(what string, got, want time.Duration) {
			if got < want*15/16 || got > want*17/16 {
				t.Errorf("%s = %s, want %s or nearly so", what, got, want)
			}
		}
		near("p50", got.P50, 51*time.Millisecond)
		near("p99", got.P99, time.Minute)
		if all := c.Total(); all.Requests != 103 || all.Refusals != 1 {
			t.Errorf("all: %+v; a 407 that asks for a credential is no refusal", all)
		}
		time.Sleep(time.Minute)
		if got := c.Route("graph"); got.Rate != 0 || got.Requests != 102 {
			t.Errorf("a minute later: %+v", got)
		}
		if got := c.Route("other"); got != (audit.RouteTally{}) {
			t.Errorf("a route without calls: %+v", got)
		}
	})
}

func TestDurationsOfAnyLengthAreCounted(t *testing.T) {
	for _, d := range []time.Duration{-1, 0, time.Microsecond, 7 * time.Microsecond, 8 * time.Microsecond, 15 * time.Microsecond, 16 * time.Microsecond, time.Hour, 1 << 62} {
		c := audit.NewCalls()
		c.Record(&audit.Event{Duration: d})
		want := min(max(d, 0), 1<<40*time.Microsecond)
		if got := c.Total().P50; got < want*15/16 || got > want/16*17 {
			t.Errorf("p50 of %s = %s", d, got)
		}
	}
}

func TestSessionsAreRememberedAndCounted(t *testing.T) {
	l := audit.NewSessions()
	phases := map[string]time.Duration{"token": time.Second}
	s := &audit.Session{ID: "1", Name: "orders-db", Result: audit.LoginSuccess, App: "a\x1b", Phases: phases, Route: []string{"a:1433"}}
	l.RecordSession(s)
	phases["token"], s.Route[0] = 0, "changed"
	l.RecordSession(&audit.Session{ID: "2", Name: "orders-db", Result: audit.LoginTokenRefused, Cause: "why"})
	if d := l.Door("orders-db"); d.Sessions != 1 || d.Logins != 1 || d.Failures != 1 || d.Last.IsZero() {
		t.Errorf("one open, one refused: %+v", d)
	}
	_, at := l.Latest(1, nil)
	wake, stop := l.Follow()
	defer stop()
	l.RecordSession(&audit.Session{ID: "1", Name: "orders-db", Result: audit.LoginSuccess, End: time.Now()})
	<-wake
	if d := l.Door("orders-db"); d.Sessions != 0 || d.Logins != 1 {
		t.Errorf("closed: %+v", d)
	}
	if more, lost := l.After(at, 9); len(more) != 1 || more[0].ID != "1" || lost != 0 || !l.Known(more[0].Number) {
		t.Errorf("after the refusal: %+v, lost %d", more, lost)
	}
	all, _ := l.Latest(9, nil)
	if len(all) != 3 || all[2].App != "a%1B" || all[2].Phases["token"] != time.Second || all[2].Route[0] != "a:1433" {
		t.Errorf("remembered: %+v", all)
	}
	if refused, _ := l.Latest(9, func(l *audit.Login) bool { return l.Result == audit.LoginTokenRefused }); len(refused) != 1 || refused[0].ID != "2" {
		t.Errorf("refused: %+v", refused)
	}
	if d := l.Door("other"); d != (audit.DoorTally{}) {
		t.Errorf("a door without sessions: %+v", d)
	}
}

func TestManyRecordAndReadAtOnce(t *testing.T) {
	c := audit.NewCalls()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for range 500 {
				c.Record(numbered(i))
			}
		})
		all.Go(func() {
			wake, stop := c.Follow()
			defer stop()
			at, seen := uint64(0), 0
			for seen < 1000 {
				calls, lost := c.After(at, 100)
				if len(calls) == 0 {
					<-wake
					continue
				}
				at, seen = calls[len(calls)-1].Number, seen+len(calls)+int(lost)
			}
		})
	}
	all.Wait()
	if got := c.Total().Requests; got != 2000 {
		t.Errorf("%d calls counted, want 2000", got)
	}
}

func ExampleCalls() {
	c := audit.NewCalls()
	c.Record(&audit.Event{Route: "graph", Method: "GET", Path: "/v1.0/users", Status: 403})
	calls, _ := c.Latest(10, nil)
	fmt.Println(calls[0].Method, calls[0].Path, calls[0].Status, c.Route("graph").Errors)
	// Output: GET /v1.0/users 403 1
}
