package sandbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-13b04e61/gateway/sandbox"
)

func TestFaultsOfTheTokenEndpoint(t *testing.T) {
	w := world(t, sandbox.Options{})
	tests := map[sandbox.Fault]func(a answer) bool{
		sandbox.Throttle: func(a answer) bool {
			return a.status == 429 && string(a.raw) == "Too Many Requests" && a.header.Get("Retry-After") == "60" &&
				strings.HasPrefix(a.header.Get("Content-Type"), "text/plain")
		},
		sandbox.Outage: func(a answer) bool {
			return a.status == 503 && strings.Contains(string(a.raw), "<html>") && a.header.Get("Retry-After") == ""
		},
		sandbox.Loop:          func(a answer) bool { return a.status == 400 && a.code() == 50196 && a.str("error") == "invalid_grant" },
		sandbox.ExpiredSecret: func(a answer) bool { return a.status == 401 && a.code() == 7000222 },
		sandbox.Redirect:      func(a answer) bool { return a.status == 307 && a.header.Get("Location") != "" },
		sandbox.HTMLAnswer:    func(a answer) bool { return a.status == 200 && a.json == nil && len(a.raw) > 0 },
		sandbox.EmptyAnswer:   func(a answer) bool { return a.status == 200 && len(a.raw) == 0 },
		sandbox.ErrorIn200:    func(a answer) bool { return a.status == 200 && a.str("error") == "invalid_client" },
		sandbox.ArrayAnswer:   func(a answer) bool { return a.status == 200 && a.raw[0] == '[' && json.Valid(a.raw) },
		sandbox.Truncated:     func(a answer) bool { return a.status == 200 && !json.Valid(a.raw) },
		sandbox.HugeAnswer:    func(a answer) bool { return a.status == 200 && len(a.raw) > 2<<20 },
		sandbox.NewlineToken:  func(a answer) bool { return strings.Contains(a.str("access_token"), "\n") },
		sandbox.NoToken:       func(a answer) bool { return a.json["access_token"] == nil && a.json["expires_in"] != nil },
		sandbox.WrongType:     func(a answer) bool { return a.str("token_type") == "pop" },
		sandbox.ZeroExpiry:    func(a answer) bool { return a.json["expires_in"] == 0.0 },
		sandbox.NoExpiry:      func(a answer) bool { return a.json["expires_in"] == nil && a.str("access_token") != "" },
		sandbox.StringExpiry:  func(a answer) bool { return a.json["expires_in"] == "3599" },
	}
	for kind, ok := range tests {
		w.Entra.Fail(kind)
		if a := post(t, w, sandbox.TenantID, secretForm(w)); !ok(a) {
			t.Errorf("under %s: %d %v %.200s", kind, a.status, a.header, a.raw)
		}
		w.Entra.Recover()
		if a := post(t, w, sandbox.TenantID, secretForm(w)); a.status != http.StatusOK || a.json["expires_in"] != 3599.0 {
			t.Errorf("after %s: %d %.200s, want it well again", kind, a.status, a.raw)
		}
	}
}

func TestRetryAfterHasBothForms(t *testing.T) {
	w := world(t, sandbox.Options{})
	for _, kind := range []sandbox.Fault{sandbox.Throttle, sandbox.Outage} {
		w.Entra.FailWith(sandbox.Failure{Kind: kind, RetryAfter: 7 * time.Second})
		if a := post(t, w, sandbox.TenantID, nil); a.header.Get("Retry-After") != "7" {
			t.Errorf("%s: Retry-After = %q, want 7", kind, a.header.Get("Retry-After"))
		}
		w.Entra.FailWith(sandbox.Failure{Kind: kind, RetryAfter: 2 * time.Minute, HTTPDate: true})
		a := post(t, w, sandbox.TenantID, nil)
		at, err := http.ParseTime(a.header.Get("Retry-After"))
		if d := time.Until(at); err != nil || d < time.Minute || d > 2*time.Minute {
			t.Errorf("%s: Retry-After = %q, want a date two minutes ahead", kind, a.header.Get("Retry-After"))
		}
		w.Entra.FailWith(sandbox.Failure{Kind: kind, RetryAfter: -1})
		if a := post(t, w, sandbox.TenantID, nil); a.header.Get("Retry-After") != "" {
			t.Errorf("%s: Retry-After = %q, want none", kind, a.header.Get("Retry-After"))
		}
	}
}

func TestFailureEndsAfterItsTimes(t *testing.T) {
	w := world(t, sandbox.Options{})
	w.Entra.FailWith(sandbox.Failure{Kind: sandbox.Outage, Times: 2})
	var got []int
	for range 4 {
		got = append(got, post(t, w, sandbox.TenantID, secretForm(w)).status)
	}
	if want := [4]int{503, 503, 200, 200}; [4]int(got) != want {
		t.Errorf("statuses = %v, want %v", got, want)
	}
}

func TestRefusedConnectionsAreResetAndNotCounted(t *testing.T) {
	w := world(t, sandbox.Options{})
	w.Entra.Fail(sandbox.Refuse)
	if resp, err := plain().PostForm(w.Entra.TokenURL(sandbox.TenantID), secretForm(w)); err == nil {
		resp.Body.Close()
		t.Errorf("status = %d, want a broken connection", resp.StatusCode)
	}
	if got := w.Entra.Requests(); got != 0 {
		t.Errorf("Requests() = %d, want 0", got)
	}
	w.Entra.Recover()
	token(t, w, "")
}

func TestKeptConnectionIsBrokenToo(t *testing.T) {
	w := world(t, sandbox.Options{})
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	c := &http.Client{Transport: tr}
	resp, err := c.PostForm(w.Entra.TokenURL(sandbox.TenantID), secretForm(w))
	if err != nil {
		t.Fatal(err)
	}
	if a := read(t, resp); a.status != http.StatusOK {
		t.Fatalf("status = %d, want 200", a.status)
	}
	w.Entra.Fail(sandbox.Refuse)
	if resp, err := c.PostForm(w.Entra.TokenURL(sandbox.TenantID), secretForm(w)); err == nil {
		resp.Body.Close()
		t.Error("the kept connection answered, want it broken")
	}
}

func TestHangingCallIsAnsweredOnRecover(t *testing.T) {
	w := world(t, sandbox.Options{})
	w.Entra.FailWith(sandbox.Failure{Kind: sandbox.Hang, Times: 1})
	arrived, done := make(chan struct{}), make(chan int, 1)
	w.Entra.Observe(func(sandbox.TokenRequest) { close(arrived) })
	go func() { done <- post(t, w, sandbox.TenantID, secretForm(w)).status }()
	<-arrived
	w.Entra.Observe(nil)
	select {
	case status := <-done:
		t.Fatalf("status = %d before Recover", status)
	default:
	}
	w.Entra.Recover()
	if status := <-done; status != http.StatusOK {
		t.Errorf("status = %d, want 200 after Recover", status)
	}
}

func TestSlowAnswerIsRightAndLate(t *testing.T) {
	w := world(t, sandbox.Options{})
	w.Entra.FailWith(sandbox.Failure{Kind: sandbox.Slow, Delay: 50 * time.Millisecond})
	begin := time.Now()
	token(t, w, "")
	if d := time.Since(begin); d < 50*time.Millisecond {
		t.Errorf("took %v, want 50 ms at least", d)
	}
}

func TestImpatientClientLeavesAHangingCall(t *testing.T) {
	w := world(t, sandbox.Options{})
	w.Entra.Fail(sandbox.Hang)
	ctx, cancel := context.WithCancel(t.Context())
	w.Entra.Observe(func(sandbox.TokenRequest) { cancel() })
	r := request(t, "POST", w.Entra.TokenURL(sandbox.TenantID), secretForm(w).Encode()).WithContext(ctx)
	resp, err := plain().Do(r)
	if err == nil {
		resp.Body.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Do = %v, want context.Canceled", err)
	}
}
