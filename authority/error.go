package authority

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/tokens"
)

// Error is why there is no token. Its text, and every field but Detail, is fit
// for callers and logs alike: it holds no secret, no assertion and nothing of
// the answer but names and numbers of known shape.
type Error struct {
	Credential string
	Scope      string
	Host       string // of the token endpoint; "" when nothing was to be sent
	Entra      bool   // the endpoint is Microsoft Entra's

	Status   int    // of the answer; 0 when there was none
	Code     string // the OAuth error (RFC 6749 §5.2), "" when there was none
	Suberror string
	AADSTS   int // Entra's number; 0 when there was none

	TraceID       string // for Microsoft's support
	CorrelationID string // as sign-in logs have it

	Hint   string // what it means
	Remedy string // what to do; may be ""
	// Detail is for the operator alone, as it may name tenants, applications
	// and addresses: the endpoint's own words with all that resembles a
	// secret masked, and what was sent, as far as it may be told.
	Detail string

	Nature     tokens.Nature
	Reach      tokens.Reach
	RetryAfter time.Duration // how long to leave the endpoint alone; 0 when unsaid

	policy bool // the endpoint wants claims that only a person could give
	shown  bool // Detail says what was sent
	cause  error
}

var _ tokens.Failer = (*Error)(nil)

// Failure tells the token store what may cure the error.
func (e *Error) Failure() tokens.Failure {
	return tokens.Failure{Nature: e.Nature, Reach: e.Reach, Wait: e.RetryAfter}
}

// Refused tells a refusal, which someone has to mend, from an endpoint that is
// unavailable for now.
func (e *Error) Refused() bool {
	return e.Nature == tokens.Refused || e.Nature == tokens.Propagating
}

// Unwrap returns the failure of network or context beneath, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Error names the credential, what happened, and the endpoint's own codes.
func (e *Error) Error() string {
	if e.Refused() && e.Status == 0 {
		return fmt.Sprintf("credential %q %s", e.Credential, e.event())
	}
	return fmt.Sprintf("credential %q: %s", e.Credential, e.event())
}

// event is Error without the credential.
func (e *Error) event() string {
	server := e.Host
	if e.Entra && e.Status != 0 {
		server = "Entra"
	}
	var b strings.Builder
	switch {
	case e.Refused() && e.Status == 0:
		b.WriteString("is not ready")
	case e.Refused():
		fmt.Fprintf(&b, "%s refused", server)
	case e.Nature == tokens.Throttled:
		fmt.Fprintf(&b, "%s asks for %s of quiet", server, e.RetryAfter)
	case e.Status == 0:
		fmt.Fprintf(&b, "no token from %s", server)
	case e.Status/100 == 2:
		fmt.Fprintf(&b, "%s sent no usable token", server)
	default:
		fmt.Fprintf(&b, "%s is unavailable", server)
	}
	if e.Hint != "" {
		b.WriteString(": " + e.Hint)
	}
	if codes := e.codes(); codes != "" {
		b.WriteString(" (" + codes + ")")
	}
	return b.String()
}

// codes lists what to search for: the number, the OAuth error, or the status.
func (e *Error) codes() string {
	var list []string
	if e.AADSTS != 0 {
		list = append(list, fmt.Sprintf("AADSTS%d", e.AADSTS))
	}
	if e.Code != "" {
		list = append(list, e.Code)
	}
	if len(list) == 0 && e.Status != 0 {
		list = append(list, strings.TrimSpace(fmt.Sprintf("status %d %s", e.Status, http.StatusText(e.Status))))
	}
	return strings.Join(list, ", ")
}

// Explain is the error at length, for the operator's eyes: what happened, what
// the endpoint said, what to do, what support will ask for. One line each.
func (e *Error) Explain() string {
	lines := []string{e.Error()}
	if e.Detail != "" {
		lines = append(lines, "  "+strings.ReplaceAll(e.Detail, "\n", "\n  "))
	}
	if e.Remedy != "" {
		lines = append(lines, "  Do: "+e.Remedy)
	}
	var support []string
	if e.CorrelationID != "" {
		support = append(support, "correlation "+e.CorrelationID)
	}
	if e.TraceID != "" {
		support = append(support, "trace "+e.TraceID)
	}
	if len(support) > 0 {
		lines = append(lines, "  For support: "+strings.Join(support, ", "))
	}
	return strings.Join(lines, "\n")
}
