// Package audit is what the gateway tells of itself: one [Event] for each call,
// from which the access line and the metrics are made, and the operator's log.
// No type here has a field that could hold a token, a header value, a query or
// a body.
package audit

import (
	"context"
	"time"
)

// Door is the way by which a call came in.
type Door string

// The doors.
const (
	Reverse Door = "reverse"
	Forward Door = "forward"
	Tunnel  Door = "tunnel"
	SQL     Door = "sql" // sessions of database drivers; they have records of their own, see [Session]
)

// Retry says what became of a token that the upstream did not take.
type Retry string

// The outcomes of a 401, or of a sign-in page in its place. The empty Retry
// means that there was neither.
const (
	Recovered     Retry = "recovered"      // the second try was not refused
	RefusedAgain  Retry = "refused_again"  // neither token was taken
	NotReplayable Retry = "not_replayable" // the body was too large; the token is renewed behind
	HeldBack      Retry = "held_back"      // the token had just been renewed, or no other could be had
	Mismatch      Retry = "mismatch"       // the upstream wants tokens of another tenant or audience; none was renewed
	SignInPage    Retry = "sign_in"        // the upstream answered with a sign-in page instead of 401; none was renewed
)

// Event is what happened to one call. Strings that come from outside are
// bounded by the door; Path never holds a query.
type Event struct {
	RequestID string
	TraceID   string // W3C trace-id, "" when the caller sent none and traces are off
	SpanID    string // of the call's own span; "" when traces are off
	Start     time.Time
	Door      Door
	Method    string
	Host      string // canonical authority that the call named
	Path      string // escaped path as it came
	Remote    string // address of the peer

	Route      string
	Caller     string
	CallerHow  string // by what it was known: api_key, client_certificate, jwt, uid
	Credential string
	Tenant     string // that the call chose; "" for the credential's own
	Rule       int    // line of the allow rule that decided; 0: none
	WouldDeny  string // mode report: what would have been refused
	Template   string // of the path: the pattern that allowed it; "" for none
	APIPath    string // escaped path as the API sees it, without a mount; no line holds it

	TokenID         string // uti of the token, else the first 8 bytes of its SHA-256 in hex
	UpstreamRequest string // the upstream's request-id, for its own log

	TokenSource string        // as in Gateway-Token-Source; "" when no token was asked for
	TokenWait   time.Duration // time spent waiting for tokens
	Upstream    time.Duration // from sending to the answer's header, both tries
	Duration    time.Duration // until the last byte of the answer
	Retry       Retry

	Status   int
	Code     string // of the gateway's own refusal, "" for the upstream's answers
	Asked    bool   // the refusal asks for a credential of a call that showed none
	Cause    string // the refusal in the operator's words
	Remark   string // what an answer of the upstream means for the operator, "" when it needs no words
	Remedy   string // the next step after Cause or Remark
	BytesIn  int64
	BytesOut int64
}

// Recorder takes finished events. Record must not block and must not keep e.
type Recorder interface{ Record(e *Event) }

// Recorders hands each event to all.
type Recorders []Recorder

// Record implements [Recorder].
func (rs Recorders) Record(e *Event) {
	for _, r := range rs {
		r.Record(e)
	}
}

// callKey is the context key of the event under way.
type callKey struct{}

// Key is the context key under which [From] looks. A context type of one's own
// may answer to it and save an allocation.
var Key any = callKey{}

// From returns the event under way, which only the goroutine that serves the
// call may change. Without one it returns an event that nobody reads.
func From(ctx context.Context) *Event {
	if e, ok := ctx.Value(Key).(*Event); ok {
		return e
	}
	return &Event{}
}

// With returns a context that carries e.
func With(ctx context.Context, e *Event) context.Context {
	return context.WithValue(ctx, Key, e)
}
