package audit

import (
	"net/http"
	"time"
)

// Tracer begins a span for each call. Where there is none, traces are off.
type Tracer interface {
	// Start begins the span of the call that r asks for, as a child of r's
	// traceparent if there is one that is to be continued, and notes both IDs in e.
	Start(e *Event, r *http.Request) Span
}

// Span is that of one call. Only the goroutine that serves the call uses it.
type Span interface {
	// Gate notes that from began until now it was decided whether the call may
	// pass, and code, with which it was refused, or "".
	Gate(began time.Time, code string)
	// Token notes that a token was asked for from began until now.
	Token(began time.Time, l Lookup)
	// Try begins the span of out, which is sent to the upstream next: for the
	// time-th time, from 1.
	Try(out *http.Request, time int) Try
	// End ends it with what became of the call.
	End(e *Event)
}

// Lookup is what came of asking for a token.
type Lookup struct {
	Source  string // as in [Event.TokenSource], "" for none
	Renewal bool   // in place of one that the upstream refused
	Vain    bool   // there was no other to be had
	Code    string // of the refusal that its failure leads to, or ""
}

// Try is the span of one try at the upstream.
type Try interface {
	// Propagate names it in h as the parent of what the upstream does.
	Propagate(h http.Header)
	// End ends it at the head of the answer, or with the code of its failure.
	End(resp *http.Response, code string)
}
