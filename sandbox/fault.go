package sandbox

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Fault is one way in which the token endpoint can misbehave.
type Fault string

// The faults. The last group are answers that no client may take for a token,
// save [StringExpiry] and [NoExpiry], which are legal OAuth.
const (
	Throttle      Fault = "throttle"       // 429, plain text, Retry-After: 60
	Outage        Fault = "outage"         // 503, HTML
	Loop          Fault = "loop"           // 400 invalid_grant, AADSTS50196
	Refuse        Fault = "refuse"         // every connection to Entra is reset, until Recover
	Slow          Fault = "slow"           // the right answer, after Failure.Delay
	Hang          Fault = "hang"           // no answer until Recover
	ExpiredSecret Fault = "expired-secret" // 401 AADSTS7000222 to every right secret
	Redirect      Fault = "redirect"       // 307 to another path of this server

	HTMLAnswer   Fault = "html"          // 200 with a page of HTML
	EmptyAnswer  Fault = "empty"         // 200 with no body
	ErrorIn200   Fault = "error-in-200"  // 200 with the body of a refusal
	ArrayAnswer  Fault = "array"         // 200 with a JSON array
	Truncated    Fault = "truncated"     // 200, the body ends within the token
	HugeAnswer   Fault = "huge"          // 200 with a token of 2 MiB
	NewlineToken Fault = "newline-token" // 200, a line feed and a header in the token
	NoToken      Fault = "no-token"      // 200 without access_token
	WrongType    Fault = "wrong-type"    // 200 with token_type pop
	ZeroExpiry   Fault = "zero-expiry"   // 200 with expires_in 0
	NoExpiry     Fault = "no-expiry"     // 200 without expires_in
	StringExpiry Fault = "string-expiry" // 200 with expires_in as a string
)

// A Failure is a Fault with its particulars.
type Failure struct {
	Kind Fault
	// RetryAfter is sent by Throttle and Outage; 0 is 60 s for Throttle and no
	// header for Outage, below zero no header for either.
	RetryAfter time.Duration
	// HTTPDate sends it as a date instead of seconds.
	HTTPDate bool
	// Delay is for Slow; 0 is two seconds.
	Delay time.Duration
	// Times ends the failure by itself after so many calls; 0 never.
	Times int
}

// failure is a Failure at work. The zero value is none.
type failure struct {
	Failure
	left int
	over chan struct{} // closed by Recover, or when another failure follows
}

// Fail starts a fault with its defaults; see [Entra.FailWith].
func (e *Entra) Fail(kind Fault) { e.FailWith(Failure{Kind: kind}) }

// FailWith makes the token endpoint misbehave until [Entra.Recover], until the
// next failure takes its place, or for f.Times calls. Discovery stays well,
// except under [Refuse].
func (e *Entra) FailWith(f Failure) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.end()
	e.failure = &failure{Failure: f, left: f.Times, over: make(chan struct{})}
	e.srv.door.shut.Store(f.Kind == Refuse)
}

// Recover ends the failure. Calls that hang get their answer.
func (e *Entra) Recover() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.end()
}

// end ends the failure that is on, if any. The lock must be held.
func (e *Entra) end() {
	if e.failure != nil {
		close(e.failure.over)
		e.failure = nil
	}
	e.srv.door.shut.Store(false)
}

// failing returns the failure that meets this call, and counts it.
func (e *Entra) failing() failure {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.failure
	if f == nil || (f.Times > 0 && f.left == 0) {
		return failure{} // one that is spent stays, for Recover to free what hangs
	}
	f.left--
	return *f
}

// wait holds the call up as the failure wants, and reports whether the client
// is still there.
func (f failure) wait(ctx context.Context) bool {
	var elapsed <-chan time.Time
	switch f.Kind {
	case Slow:
		delay := f.Delay
		if delay == 0 {
			delay = 2 * time.Second
		}
		t := time.NewTimer(delay)
		defer t.Stop()
		elapsed = t.C
	case Hang:
	default:
		return true
	}
	select {
	case <-elapsed:
	case <-f.over:
	case <-ctx.Done():
		return false
	}
	return true
}

// replace gives the answer of a failure that does not look at the request, and
// reports whether there is one.
func (f failure) replace(w http.ResponseWriter, x *exchange) bool {
	const html = "text/html; charset=utf-8"
	switch f.Kind {
	case Throttle:
		f.retryAfter(w, x, time.Minute)
		f.raw(w, http.StatusTooManyRequests, "text/plain", "Too Many Requests")
	case Outage:
		f.retryAfter(w, x, 0)
		f.raw(w, http.StatusServiceUnavailable, html,
			"<!DOCTYPE html><html><head><title>Service Unavailable</title></head><body><h2>Our services aren't available right now</h2></body></html>")
	case Loop:
		refuse("invalid_grant", 50196, "The server terminated an operation because it encountered a client request loop. "+
			"Please contact your app vendor.").write(w, x)
	case Redirect:
		w.Header().Set("Location", x.origin+"/elsewhere")
		f.raw(w, http.StatusTemporaryRedirect, html, "")
	case HTMLAnswer:
		f.raw(w, http.StatusOK, html, "<!DOCTYPE html><html><body>Sign in to the network</body></html>")
	case EmptyAnswer:
		f.raw(w, http.StatusOK, "application/json; charset=utf-8", "")
	case ErrorIn200:
		x.dress(w)
		writeJSON(w, http.StatusOK, refuse("invalid_client", 7000215, "Invalid client secret provided.").body(x))
	case ArrayAnswer:
		f.raw(w, http.StatusOK, "application/json; charset=utf-8", `[{"token_type":"Bearer","expires_in":3599,"access_token":"x"}]`)
	case Truncated:
		f.raw(w, http.StatusOK, "application/json; charset=utf-8", `{"token_type":"Bearer","expires_in":3599,"access_token":"eyJ0eXAi`)
	default:
		return false
	}
	return true
}

func (f failure) raw(w http.ResponseWriter, status int, contentType, body string) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func (f failure) retryAfter(w http.ResponseWriter, x *exchange, usual time.Duration) {
	after := f.RetryAfter
	if after == 0 {
		after = usual
	}
	switch {
	case after <= 0:
	case f.HTTPDate:
		w.Header().Set("Retry-After", x.now.Add(after).UTC().Format(http.TimeFormat))
	default:
		w.Header().Set("Retry-After", strconv.Itoa(int(after.Seconds())))
	}
}

// spoil changes a right answer into the failure's.
func (f failure) spoil(answer map[string]any) {
	switch f.Kind {
	case HugeAnswer:
		answer["access_token"] = strings.Repeat("A", 2<<20)
	case NewlineToken:
		answer["access_token"] = "eyJ0eXAiOiJKV1Qi\r\nX-Injected: 1"
	case NoToken:
		delete(answer, "access_token")
	case WrongType:
		answer["token_type"] = "pop"
	case ZeroExpiry:
		answer["expires_in"] = 0
	case NoExpiry:
		delete(answer, "expires_in")
		delete(answer, "ext_expires_in")
	case StringExpiry:
		if n, ok := answer["expires_in"].(int64); ok {
			answer["expires_in"] = strconv.FormatInt(n, 10)
		}
	}
}
