package proxy_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/routes"
)

// cosmos injects as the SQL API of Cosmos DB wants it (entra reference §3.3).
func cosmos(table *routes.Table) {
	r := table.Routes[0]
	r.Inject = routes.Inject{Header: "Authorization", Format: "type%3Daad%26ver%3D1.0%26sig%3D{token}"}
	r.DefaultHeaders = []routes.Param{{Name: "X-Ms-Version", Value: "2018-12-31"}, {Name: "Connection", Value: "close"}, {Name: "Te", Value: "trailers"}}
	r.DateHeader = "x-ms-date"
}

// keepHeaders returns a handler that keeps the fields of each request, answers
// 401 to the first so many, and 200 to the others.
func keepHeaders(refuse int) (http.HandlerFunc, chan http.Header) {
	seen := make(chan http.Header, 64)
	var calls atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		if calls.Add(1) <= int64(refuse) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}, seen
}

func TestCosmosGetsItsOwnFormOnEachAttempt(t *testing.T) {
	handler, seen := keepHeaders(1)
	g := rigging{alter: cosmos}.newRig(t, plain, newUpstream(t, false, handler))
	resp, _ := g.get(t, "/api/dbs", "Authorization", "type=master&sig=mine", "x-ms-version", "")
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, want 200 by the second try", resp.StatusCode)
	}
	for try := 1; try <= 2; try++ {
		h := <-seen
		// As encodeURIComponent of "type=aad&ver=1.0&sig=TOKEN" writes it.
		want := fmt.Sprintf("type%%3Daad%%26ver%%3D1.0%%26sig%%3Dtoken-%d.%s", try, padding)
		if got := h["Authorization"]; len(got) != 1 || got[0] != want {
			t.Errorf("try %d: Authorization is %.60q, want %.60q alone", try, got, want)
		}
		if d := h.Get("X-Ms-Date"); !strings.HasSuffix(d, " GMT") {
			t.Errorf("try %d: X-Ms-Date = %q, want an IMF-fixdate", try, d)
		} else if at, err := time.Parse(http.TimeFormat, d); err != nil || time.Since(at).Abs() > time.Minute {
			t.Errorf("try %d: X-Ms-Date = %q, want now", try, d)
		}
		if v, ok := h["X-Ms-Version"]; !ok || v[0] != "" {
			t.Errorf("try %d: X-Ms-Version = %q, want the caller's own, which is empty", try, v)
		}
	}
}

func TestDefaultsGiveWayToTheCaller(t *testing.T) {
	handler, seen := keepHeaders(0)
	g := rigging{alter: cosmos}.newRig(t, plain, newUpstream(t, false, handler))
	const date = "Tue, 01 Jan 2030 00:00:00 GMT"
	tests := []struct {
		name          string
		headers       []string
		version, date string // "" for the gateway's
	}{
		{"nothing sent", nil, "", ""},
		{"own values", []string{"X-Ms-Version", "2020-07-15", "X-Ms-Date", date}, "2020-07-15", date},
		{"in lower case", []string{"x-ms-version", "2020-07-15", "x-ms-date", date}, "2020-07-15", date},
		{"named hop by hop", []string{"X-Ms-Version", "2020-07-15", "X-Ms-Date", date, "Connection", "x-ms-version, x-ms-date"}, "", ""},
		{"with underscores", []string{"X_Ms_Version", "2020-07-15", "X_Ms_Date", date}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g.get(t, "/api/dbs", tt.headers...)
			h := <-seen
			if got := h.Get("X-Ms-Version"); tt.version != "" && got != tt.version || tt.version == "" && got != "2018-12-31" {
				t.Errorf("X-Ms-Version = %q, want %q or the default", got, tt.version)
			}
			if got := h.Get("X-Ms-Date"); tt.date != "" && got != tt.date || tt.date == "" && (got == "" || got == date) {
				t.Errorf("X-Ms-Date = %q, want %q or now", got, tt.date)
			}
			if h["Connection"] != nil || h["Te"] != nil {
				t.Errorf("a default of one connection went out: %v %v", h["Connection"], h["Te"])
			}
		})
	}
}

// databricks wants the management token of its principal beside the first.
func databricks(table *routes.Table) {
	table.Routes[0].Second = &routes.SecondToken{Header: "x-databricks-azure-SP-management-token", Scope: "arm/.default"}
}

const management = "X-Databricks-Azure-Sp-Management-Token"

// second is the n of the token-n in the second header, 0 for any other value.
func second(h http.Header) int { return number("Bearer " + h.Get(management)) }

func TestSecondTokenGoesInAHeaderOfItsOwn(t *testing.T) {
	handler, seen := keepHeaders(0)
	g := rigging{alter: databricks}.newRig(t, plain, newUpstream(t, false, handler))
	for range 2 {
		resp, _ := g.get(t, "/api/x", "Authorization", "Bearer mine", management, "mine", "x-databricks-azure-sp-management-token", "mine too",
			"X_Databricks_Azure_SP_Management_Token", "mine as well", "Connection", management)
		h := <-seen
		if resp.StatusCode != 200 || number(h.Get("Authorization")) != 1 || second(h) != 2 || len(h[management]) != 1 {
			t.Errorf("status %d, token %d, second %d of %d values; want 200, 1, 2 of 1", resp.StatusCode, number(h.Get("Authorization")), second(h), len(h[management]))
		}
		for name, values := range h {
			if strings.Contains(strings.Join(values, " "), "mine") {
				t.Errorf("the caller's %s reached the upstream", name)
			}
		}
	}
	if got := g.issuer.asked(); got != "api/.default arm/.default" {
		t.Errorf("asked for %q, want each scope once", got)
	}
}

func TestCallersCopyOfTheSecondHeaderGoesWithNoTokenEither(t *testing.T) {
	handler, seen := keepHeaders(0)
	g := rigging{alter: databricks}.newRig(t, plain, newUpstream(t, false, handler))
	g.issuer.failFor("arm/.default", errors.New("connection refused"))
	resp, body := g.get(t, "/api/x", management, "mine")
	if resp.StatusCode != 503 || resp.Header.Get("Gateway-Error") != "token_unavailable" || len(seen) != 0 {
		t.Errorf("got %d %s with %d calls upstream, want 503 token_unavailable and none", resp.StatusCode, body, len(seen))
	}
}

func TestPlain401RenewsBothTokensEachAsItsAgeAllows(t *testing.T) {
	handler, seen := keepHeaders(5)
	g := rigging{alter: databricks}.newRig(t, plain, newUpstream(t, false, handler))
	// Tokens 1 and 2 are refused, and 3 and 4 got; nothing younger is renewed.
	for i, want := range []struct {
		status int
		pairs  string
		retry  audit.Retry
	}{
		{401, "1+2 3+4", audit.RefusedAgain},
		{401, "3+4", audit.HeldBack},
		{401, "3+4", audit.HeldBack},
	} {
		resp, _ := g.get(t, "/api/x")
		var pairs []string
		for len(seen) > 0 {
			h := <-seen
			pairs = append(pairs, fmt.Sprintf("%d+%d", number(h.Get("Authorization")), second(h)))
		}
		if got := strings.Join(pairs, " "); resp.StatusCode != want.status || got != want.pairs {
			t.Errorf("call %d: %d with tokens %s, want %d with %s", i, resp.StatusCode, got, want.status, want.pairs)
		}
		if e := g.events.the(i + 1); e.Retry != want.retry {
			t.Errorf("call %d: retry %q, want %q", i, e.Retry, want.retry)
		}
	}
}

func TestFailingRenewalOfTheSecondTokenStillTriesWithTheFirst(t *testing.T) {
	var g *rig
	seen := make(chan http.Header, 8)
	g = rigging{alter: databricks}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		if number(r.Header.Get("Authorization")) == 1 {
			g.issuer.failFor("arm/.default", errors.New("connection refused"))
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	resp, _ := g.get(t, "/api/x")
	<-seen
	if h := <-seen; resp.StatusCode != 200 || number(h.Get("Authorization")) != 3 || second(h) != 2 {
		t.Errorf("%d with tokens %d and %d, want 200 with 3 and 2", resp.StatusCode, number(h.Get("Authorization")), second(h))
	}
}

func TestClaimsChallengeRenewsTheFirstTokenAlone(t *testing.T) {
	seen := make(chan http.Header, 8)
	g := rigging{alter: databricks}.newRig(t, plain, newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		if number(r.Header.Get("Authorization")) == 1 {
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnt9fQ=="`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	g.get(t, "/api/x")
	<-seen
	if h := <-seen; number(h.Get("Authorization")) != 3 || second(h) != 2 {
		t.Errorf("tokens %d and %d, want 3 and 2", number(h.Get("Authorization")), second(h))
	}
}

func TestBothTokensAreRenewedBehindACallThatCannotBeSentAgain(t *testing.T) {
	g := rigging{alter: func(table *routes.Table) { databricks(table); table.Routes[0].Replay = 0 }}.newRig(t, plain,
		newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
			if number(r.Header.Get("Authorization")) == 1 || second(r.Header) == 2 {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = io.WriteString(w, "in")
		}))
	g.get(t, "/api/x")
	deadline := time.Now().Add(5 * time.Second)
	for g.issuer.issued.Load() < 4 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond) // the renewals run behind the call
	}
	resp, body := g.get(t, "/api/x")
	for resp.StatusCode == 401 && time.Now().Before(deadline) { // issued, and not kept yet
		resp, body = g.get(t, "/api/x")
	}
	if n := g.issuer.issued.Load(); resp.StatusCode != 200 || body != "in" || n != 4 {
		t.Errorf("the caller's own next try got %d after %d tokens, want 200 after 4", resp.StatusCode, n)
	}
}

func TestReloadChangesWhatIsInjectedAndKeepsTheConnection(t *testing.T) {
	peers := make(chan string, 8)
	up := newUpstream(t, false, func(w http.ResponseWriter, r *http.Request) {
		peers <- r.RemoteAddr + " " + r.Header.Get("X-Ms-Version")
	})
	g := rigging{alter: func(table *routes.Table) {
		table.Routes[0].DefaultHeaders = []routes.Param{{Name: "X-Ms-Version", Value: "old"}}
	}}.newRig(t, plain, up)
	client := g.client(t, false)
	call := func() string {
		resp, err := client.Get(g.front.URL + "/api/x")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return <-peers
	}
	first := call()
	g.alter = func(table *routes.Table) {
		table.Routes[0].DefaultHeaders = []routes.Param{{Name: "X-Ms-Version", Value: "new"}}
	}
	g.events.the(1)
	g.use(t, plain, up)
	if want, got := strings.TrimSuffix(first, "old")+"new", call(); got != want {
		t.Errorf("after the reload the upstream saw %q, want %q", got, want)
	}
}
