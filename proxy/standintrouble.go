package proxy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/gate"
)

// trouble is why a login gets no placeholder: in the words of OAuth, or, where
// refusal is set, in those of every other refusal.
type trouble struct {
	refusal *refusal
	name    string    // of RFC 6749 §5.2, or Entra's
	aadsts  int       // number of Entra's errors
	text    string    // a sentence or two
	code    gate.Code // for the log and the metrics
	cause   string    // for the log; "" when text says it all
	remedy  string
}

func malformed(text string) *trouble {
	return &trouble{name: "invalid_request", aadsts: 9002313, text: text, code: BadRequest,
		remedy: "send a token request as RFC 6749 §4.4.2 has it"}
}

func wrongGrant(grant string) *trouble {
	if grant == "" {
		return &trouble{name: "invalid_request", aadsts: 900144, code: BadRequest,
			text: "The request body must contain the following parameter: 'grant_type'.", remedy: "send grant_type=client_credentials"}
	}
	return &trouble{
		name: "unsupported_grant_type", aadsts: 70003, code: NotSupported,
		text:   "The gateway stands in for client credentials alone, and signs no user in.",
		remedy: "have the app log in with client credentials; if its users sign in too, allow the login host under egress.allow",
	}
}

// entraError is the body of Entra's refusals.
type entraError struct {
	Error         string `json:"error"`
	Description   string `json:"error_description"`
	Codes         []int  `json:"error_codes"`
	Timestamp     string `json:"timestamp"`
	TraceID       string `json:"trace_id"`
	CorrelationID string `json:"correlation_id"`
	URI           string `json:"error_uri"`
}

// plainError is that of RFC 6749 §5.2.
type plainError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// complain answers with an error, in the dialect that the app expects.
func (l *login) complain(t *trouble) {
	if t.refusal != nil {
		l.h.refuse(&l.p.meter, l.p, t.refusal)
		return
	}
	note(l.p, t)
	if l.style == plainAuth {
		l.answer(http.StatusBadRequest, plainError{t.plainName(), t.text})
		return
	}
	trace := guidOf(l.p.event.RequestID)
	correlation := trace
	if sent := l.r.Header.Get("Client-Request-Id"); guidShaped(sent) {
		correlation = sent
	}
	at := time.Now().UTC().Format("2006-01-02 15:04:05Z")
	l.answer(http.StatusBadRequest, entraError{
		Error: t.name,
		Description: fmt.Sprintf("AADSTS%d: %s This answer is the gateway's. Trace ID: %s Correlation ID: %s Timestamp: %s",
			t.aadsts, t.text, trace, correlation, at),
		Codes: []int{t.aadsts}, Timestamp: at, TraceID: trace, CorrelationID: correlation,
		URI: l.base + "/error?code=" + strconv.Itoa(t.aadsts),
	})
}

// plainName is one of the words that RFC 6749 §5.2 knows.
func (t *trouble) plainName() string {
	switch t.aadsts {
	case 90002:
		return "unauthorized_client"
	case 900144:
		if t.code == gate.CallerForbidden {
			return "invalid_scope"
		}
	case 500011:
		return "invalid_scope"
	}
	return t.name
}

// note tells the log and the metrics of a refusal whose body is not the
// gateway's own.
func note(p *passage, t *trouble) {
	p.event.Code, p.event.Cause, p.event.Remedy = string(t.code), gate.Told(t.text, t.cause), t.remedy
}

// guidOf writes 32 hexadecimal digits as a GUID.
func guidOf(digits string) string {
	if len(digits) != 32 {
		return "00000000-0000-0000-0000-000000000000"
	}
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
}

func guidShaped(s string) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	_, err := hex.DecodeString(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	return err == nil
}

// denied says that the gate hands nothing out for what was asked.
func (l *login) denied(err error, scope string) *trouble {
	shown := clean(scope, maxEcho)
	if errors.Is(err, gate.ErrNoTenant) {
		return &trouble{
			name: "invalid_request", aadsts: 90002, code: gate.TenantDenied, cause: err.Error(),
			text:   fmt.Sprintf("Tenant '%s' not found. No route of this caller hands out placeholders for it.", l.tenant),
			remedy: "write the tenant as tenant_id of the credential has it, or give the caller a route with hand_out: placeholder for it",
		}
	}
	t := &trouble{
		name: "invalid_scope", aadsts: 70011, code: gate.CallerForbidden, cause: fmt.Sprintf("%v; it asked for %q", err, shown),
		text:   fmt.Sprintf("The provided value for the input parameter 'scope' is not valid. The scope '%s' is that of no route of this caller that hands out placeholders.", shown),
		remedy: "ask for the scope of a route exactly as gateway check shows it, and see that the route has hand_out: placeholder and admits the caller",
	}
	switch {
	case scope == "":
		t.name, t.aadsts, t.text = "invalid_request", 900144, "The request body must contain the following parameter: 'scope'."
	case strings.HasSuffix(shown, "/.default") && !strings.Contains(shown, " "):
		t.name, t.aadsts = "invalid_resource", 500011
		t.text = fmt.Sprintf("The resource principal named %s was not found in the tenant named %s. No route of this caller hands out placeholders for it.",
			strings.TrimSuffix(shown, "/.default"), l.tenant)
	}
	return t
}
