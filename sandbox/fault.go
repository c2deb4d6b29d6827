package sandbox

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Fault is one way in which an endpoint that issues tokens can misbehave.
type Fault string

// The faults. The second group are those of a [Host], the last group are answers that no client may take for a token,
// save [StringExpiry] and [NoExpiry], which are legal OAuth.
const (
	Throttle      Fault = "throttle"       // 429, plain text, Retry-After: 60
	Outage        Fault = "outage"         // 503, HTML
	Loop          Fault = "loop"           // 400 invalid_grant, AADSTS50196
	Refuse        Fault = "refuse"         // every connection to Entra is reset, until Recover
	Slow          Fault = "slow"           // the right answer, after Failure.Delay
	Hang          Fault = "hang"           // no answer until Recover
	ExpiredSecret Fault = "expired-secret" // 401 AADSTS7000222 to every right secret
	WrongSecret   Fault = "wrong-secret"   // 401 AADSTS7000215 to every secret
	NoConsent     Fault = "no-consent"     // tokens without roles
	Redirect      Fault = "redirect"       // 307 to another path of this server

	NotFound    Fault = "not-found"    // 404, as IMDS while it is updated
	Gone        Fault = "gone"         // 410, as IMDS while it is updated, for up to 70 s
	ServerError Fault = "server-error" // 500
	Unreachable Fault = "unreachable"  // 403 as from Docker Desktop, where there is no IMDS

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

// outbreak is the failure that is on at an endpoint, if any. The zero value is
// well.
type outbreak struct {
	mu  sync.Mutex // guards now
	now *failure
}

// begin starts f in place of what was on.
func (o *outbreak) begin(f Failure) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.now != nil {
		close(o.now.over)
	}
	o.now = &failure{Failure: f, left: f.Times, over: make(chan struct{})}
}

// end ends what was on, and returns its kind.
func (o *outbreak) end() Fault {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.now == nil {
		return ""
	}
	defer func() { o.now = nil }()
	close(o.now.over)
	return o.now.Kind
}

// meet returns the failure that meets a call, and counts it.
func (o *outbreak) meet() failure {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := o.now
	if f == nil || (f.Times > 0 && f.left == 0) {
		return failure{} // one that is spent stays, for end to free what hangs
	}
	f.left--
	return *f
}

// look returns the failure that is on without counting.
func (o *outbreak) look() failure {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.now == nil {
		return failure{}
	}
	return *o.now
}

// Fail starts a fault with its defaults; see [Entra.FailWith].
func (e *Entra) Fail(kind Fault) { e.FailWith(Failure{Kind: kind}) }

// FailWith makes the token endpoint misbehave until [Entra.Recover], until the
// next failure takes its place, or for f.Times calls. Discovery stays well,
// except under [Refuse].
func (e *Entra) FailWith(f Failure) {
	e.failing.begin(f)
	e.srv.door.shut.Store(f.Kind == Refuse)
}

// Recover ends the failure. Calls that hang get their answer.
func (e *Entra) Recover() {
	e.failing.end()
	e.srv.door.shut.Store(false)
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

// replace gives the answer of a failure of Entra that does not look at the
// request, and reports whether there is one.
func (f failure) replace(w http.ResponseWriter, x *exchange) bool {
	switch f.Kind {
	case Loop:
		refuse("invalid_grant", 50196, "The server terminated an operation because it encountered a client request loop. "+
			"Please contact your app vendor.").write(w, x)
	case Redirect:
		w.Header().Set("Location", x.origin+"/elsewhere")
		f.raw(w, http.StatusTemporaryRedirect, htmlType, "")
	case ErrorIn200:
		x.dress(w)
		writeJSON(w, http.StatusOK, refuse("invalid_client", 7000215, "Invalid client secret provided.").body(x))
	default:
		return f.answer(w, x.now)
	}
	return true
}

const (
	htmlType = "text/html; charset=utf-8"
	jsonType = "application/json; charset=utf-8"
)

// answer gives the answer of a failure that any endpoint can have, and reports
// whether there is one.
func (f failure) answer(w http.ResponseWriter, now time.Time) bool {
	switch f.Kind {
	case Throttle:
		f.retryAfter(w, now, time.Minute)
		f.raw(w, http.StatusTooManyRequests, "text/plain", "Too Many Requests")
	case Outage:
		f.retryAfter(w, now, 0)
		f.raw(w, http.StatusServiceUnavailable, htmlType,
			"<!DOCTYPE html><html><head><title>Service Unavailable</title></head><body><h2>Our services aren't available right now</h2></body></html>")
	case NotFound:
		f.raw(w, http.StatusNotFound, htmlType, "<!DOCTYPE html><html><head><title>404 - Not Found</title></head><body><h1>Not Found</h1></body></html>")
	case Gone:
		f.raw(w, http.StatusGone, htmlType, "<!DOCTYPE html><html><head><title>410 - Gone</title></head><body><h1>Gone</h1></body></html>")
	case ServerError:
		f.raw(w, http.StatusInternalServerError, jsonType,
			`{"error":"unknown","error_description":"Failed to retrieve token from the Active directory. For details see logs in the agent's folder."}`)
	case Unreachable:
		f.raw(w, http.StatusForbidden, "text/plain", "connecting to 169.254.169.254:80: connecting to 169.254.169.254:80: dial tcp 169.254.169.254:80: "+
			"connectex: A socket operation was attempted to an unreachable network.")
	case HTMLAnswer:
		f.raw(w, http.StatusOK, htmlType, "<!DOCTYPE html><html><body>Sign in to the network</body></html>")
	case EmptyAnswer:
		f.raw(w, http.StatusOK, jsonType, "")
	case ArrayAnswer:
		f.raw(w, http.StatusOK, jsonType, `[{"token_type":"Bearer","expires_in":3599,"access_token":"x"}]`)
	case Truncated:
		f.raw(w, http.StatusOK, jsonType, `{"token_type":"Bearer","expires_in":3599,"access_token":"eyJ0eXAi`)
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

func (f failure) retryAfter(w http.ResponseWriter, now time.Time, usual time.Duration) {
	after := f.RetryAfter
	if after == 0 {
		after = usual
	}
	switch {
	case after <= 0:
	case f.HTTPDate:
		w.Header().Set("Retry-After", now.Add(after).UTC().Format(http.TimeFormat))
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
