package authority

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/egress"
	"github.com/seed-13b04e61/gateway/tokens"
)

const (
	// defaultQuiet is how long a throttling endpoint is left alone when it
	// does not say.
	defaultQuiet = time.Minute
	// longestQuiet bounds what it may ask for.
	longestQuiet = time.Hour
)

// local is trouble found before anything was sent. It is Propagating, as a
// file that appears heals it. Trouble with someone else who was asked for the
// proof is as he told it.
func (id *identity) local(err error) *Error {
	if theirs, ok := errors.AsType[*Error](err); ok {
		e := *theirs
		e.Credential = id.credential.Name
		return &e
	}
	return &Error{
		Credential: id.credential.Name,
		Entra:      id.credential.Entra(),
		Nature:     tokens.Propagating,
		Reach:      tokens.ReachCredential,
		RetryAfter: localWait,
		Hint:       err.Error(),
		Remedy:     remedyOf(err),
		cause:      err,
	}
}

// unreachable is trouble on the way: nobody answered, or not to the end.
func (id *identity) unreachable(err error, p proof) *Error {
	e := &Error{
		Credential: id.credential.Name,
		Host:       id.host,
		Entra:      id.credential.Entra(),
		Hint:       "the connection failed",
		Remedy:     "check that this machine may reach " + id.host + ", directly or by egress.proxy",
		Detail:     clean(err.Error(), p.hidden, detailLimit),
		cause:      err,
	}
	t := egress.Explain(err, id.peer())
	switch {
	case errors.Is(err, context.Canceled):
		e.Hint, e.Remedy = "the request was given up", ""
	case t.What != "":
		e.Hint, e.Remedy = t.What, t.Remedy
	case t.Late:
		e.Hint = "no answer in time"
	}
	if t.TLS && id.binding != nil {
		e.Remedy = "see that " + caFileVariable + " or " + caDataVariable + " names the cluster's CA, and " + sniVariable + " the name in its certificate"
	}
	return e
}

// peer is the token endpoint in words.
func (id *identity) peer() egress.Peer {
	p := egress.Peer{Name: "it", Of: "its", Keys: "token_endpoint or issuer of this credential", CA: "ca_file of this credential"}
	if id.credential.Entra() {
		p.Keys = "authority_host or cloud of this credential"
	}
	return p
}

func untrusted(err error) bool { return egress.Explain(err, egress.Peer{}).TLS }

// malformed is a success that holds no usable token. Trying again may help:
// it is often a proxy or a login page in between.
func (id *identity) malformed(a answer, err error) *Error {
	return &Error{
		Credential:    id.credential.Name,
		Host:          id.host,
		Entra:         id.credential.Entra(),
		Status:        a.status,
		CorrelationID: a.requestID,
		Hint:          err.Error(),
		Remedy:        "check that " + id.host + " is the token endpoint and that nothing in between answers for it",
		Detail:        a.describe(),
	}
}

// describe tells the shape of an answer without its content.
func (a answer) describe() string {
	kind, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil {
		kind = "of no type"
	}
	size := strconv.Itoa(len(a.body))
	if len(a.body) > answerLimit {
		size = "more than " + strconv.Itoa(answerLimit)
	}
	return fmt.Sprintf("the answer was %s, %s bytes", clean(kind, nil, 64), size)
}

// refusal is an answer that says no, as JSON or not.
func (id *identity) refusal(a answer, m members, p proof) *Error {
	e := &Error{
		Credential:    id.credential.Name,
		Host:          id.host,
		Entra:         id.credential.Entra(),
		Status:        a.status,
		Code:          errorCode(m.text("error"), p.hidden),
		Suberror:      identifier(m.text("suberror"), p.hidden),
		TraceID:       identifier(first(m.text("trace_id"), a.header.Get("x-ms-request-id")), p.hidden),
		CorrelationID: identifier(first(m.text("correlation_id"), a.header.Get("client-request-id"), a.requestID), p.hidden),
		Detail:        a.describe(),
	}
	description := m.text("error_description")
	e.AADSTS = aadsts(m, description, e.Entra)
	if description != "" {
		e.Detail = clean(description, p.hidden, detailLimit)
	}
	row, known := advise(e.AADSTS)
	e.classify(row.retry, a)
	e.Hint, e.Remedy = row.meaning, row.remedy
	if !known {
		e.Hint, e.Remedy = id.generic(e, a)
	}
	if !id.placeCloud(e, cut(description, detailLimit)) {
		id.enrich(e)
	}
	if m.has("claims") && e.Refused() {
		// For an application alone there is nobody to step up (entra.md §6.3).
		e.policy, e.Nature, e.Reach = true, tokens.Refused, tokens.ReachKey
		if row.remedy != checkPolicy {
			e.Hint, e.Remedy = "a policy asks for what only a person could give", first(row.remedy, checkPolicy)
		}
	}
	if p.facts != "" && e.Refused() {
		e.Detail += "\n" + p.facts
		e.shown = true
	}
	return e
}

// classify says what may cure the refusal. A Retry-After is obeyed whatever
// the status; it speaks for the whole credential.
func (e *Error) classify(class retry, a answer) {
	wait, asked := retryAfter(a)
	switch {
	case asked:
		e.Nature, e.Reach, e.RetryAfter = tokens.Throttled, tokens.ReachCredential, wait
	case e.Status == http.StatusTooManyRequests || class == holdOff:
		e.Nature, e.Reach, e.RetryAfter = tokens.Throttled, tokens.ReachCredential, defaultQuiet
	case e.Status == http.StatusRequestTimeout, e.Status >= 500, e.Status < 200, e.Status/100 == 3,
		class == transient, e.Code == "temporarily_unavailable", e.Code == "server_error":
		e.Nature = tokens.Transient
	case class == propagates:
		e.Nature = tokens.Propagating
	case e.ofCredential():
		e.Nature, e.Reach = tokens.Refused, tokens.ReachCredential
	default:
		e.Nature = tokens.Refused
	}
}

// ofCredential tells whether it was the credential that was refused. Keycloak
// calls a wrong secret unauthorized_client, which is another thing by RFC 6749
// §5.2, but gives it the status that the standard has for a wrong credential.
func (e *Error) ofCredential() bool {
	return e.Code == "invalid_client" ||
		!e.Entra && e.Code == "unauthorized_client" && e.Status == http.StatusUnauthorized
}

// generic is the advice where the table of numbers has none.
func (id *identity) generic(e *Error, a answer) (hint, remedy string) {
	if e.AADSTS != 0 {
		return "for a reason that is not known here", "look it up at https://" + id.errorPageHost() + "/error?code=" + strconv.Itoa(e.AADSTS)
	}
	code := e.Code
	if e.ofCredential() {
		code = "invalid_client"
	}
	if row, ok := adviseOAuth(code); ok {
		return row.meaning, row.remedy
	}
	switch {
	case e.Nature == tokens.Throttled:
		return "too many token requests", "find out who asks for so many tokens; the gateway waits by itself"
	case e.Status/100 == 3:
		hint := "it redirects, which is not followed"
		if u, err := url.Parse(a.header.Get("Location")); err == nil && u.Host != "" {
			e.Detail += "; redirected to the host " + clean(u.Host, nil, 128)
		}
		return hint, "name the final address as the token endpoint"
	case e.Status == http.StatusNotFound, e.Status == http.StatusMethodNotAllowed:
		if e.Entra {
			return "there is no token endpoint at this address", "check tenant_id and authority_host"
		}
		return "there is no token endpoint at this address", "check token_endpoint, or what the issuer's metadata names"
	case e.Nature == tokens.Transient:
		return "a passing failure", "wait; if it lasts, look at the endpoint's own status page or log"
	case e.Code != "":
		return "for a reason of the server's own", "look " + e.Code + " up in the server's documentation or log"
	case e.Entra:
		return "it gave no reason that is understood", "look the correlation ID up in the tenant's sign-in logs; see that nothing in between answers for Entra"
	case e.Status == http.StatusUnauthorized:
		return "it did not take the credential, and gave no reason", checkClient
	}
	return "it gave no reason that is understood", "look into the token endpoint's own log"
}

// errorPageHost serves Entra's page about an AADSTS number.
func (id *identity) errorPageHost() string {
	if id.credential.Cloud == "china" {
		return "login.partner.microsoftonline.cn"
	}
	return "login.microsoftonline.com"
}

// enrich adds what this gateway knows of its own to the advice.
func (id *identity) enrich(e *Error) {
	switch e.AADSTS {
	case 700024, 500133, 50013:
		if d := id.state.clockSkew(); d != 0 {
			e.Remedy = fmt.Sprintf("this machine's clock is %s %s; %s", skewText(d), id.host, e.Remedy)
		}
	case 7000215:
		if id.guid {
			e.Remedy = "the secret has the shape of a GUID, so it is the secret's ID: create a new secret and copy the column Value"
		}
	case 700027, 7000274, 1000502, 700030:
		if id.leaf != nil {
			e.Remedy += "; the certificate sent has the thumbprint " + id.leaf.SHA1 + " (SHA-256 " + id.leaf.SHA256 + ")"
		}
	case 700016, 700011, 70001, 7000229, 501051, 50105, 65001, 650056, 650057, 650052, 650054, 90094:
		if link := consentLink(&id.credential); link != "" {
			e.Detail += "\nadmin consent: " + link
		}
	}
}

func skewText(d time.Duration) string {
	if d > 0 {
		return fmt.Sprintf("%d s ahead of", int(d.Seconds()))
	}
	return fmt.Sprintf("%d s behind", int(-d.Seconds()))
}

// aadstsNumber finds Entra's number in its prose.
var aadstsNumber = regexp.MustCompile(`AADSTS(\d{4,9})\b`)

// aadsts returns Entra's number, or 0. The list error_codes means something
// in Entra's answers alone.
func aadsts(m members, description string, entra bool) int {
	if entra {
		var codes members
		if list := m["error_codes"]; len(list) > 0 {
			codes = members{"first": firstElement(list)}
		}
		if n, ok, err := codes.seconds("first"); ok && err == nil && n > 0 && n < 1e9 {
			return int(n)
		}
	}
	if match := aadstsNumber.FindStringSubmatch(description); match != nil {
		n, _ := strconv.Atoi(match[1]) // at most nine digits
		return n
	}
	return 0
}

// retryAfter reads Retry-After (RFC 9110 §10.2.3) of an answer that is no
// success, up to an hour. A date is taken by the server's own clock when the
// answer tells it. Zero and the past mean a second, as "at once" is not
// believed; nonsense means that nothing was asked.
func retryAfter(a answer) (time.Duration, bool) {
	value := strings.TrimSpace(a.header.Get("Retry-After"))
	if value == "" || a.status/100 == 2 {
		return 0, false
	}
	var wait time.Duration
	if at, err := http.ParseTime(value); err == nil {
		now := a.date
		if now.IsZero() {
			now = a.received
		}
		wait = at.Sub(now)
	} else {
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return 0, false
		}
		wait = time.Duration(min(n, uint64(longestQuiet/time.Second))) * time.Second
	}
	return min(max(wait, time.Second), longestQuiet), true
}

// errorCode is an identifier, and any code of the standards as it is: a secret
// that happens to be part of one must not turn the refusal into another.
func errorCode(s string, hidden []string) string {
	if _, standard := adviseOAuth(s); standard {
		return s
	}
	return identifier(s, hidden)
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// ofScope tells whether a refusal is about the one scope that was asked for: its
// resource, what the application may do there, how it is written. The credential
// is as good for others as it was.
func (e *Error) ofScope() bool {
	switch e.AADSTS {
	case 70011, 1002012, 28000, 700022, 28002, 28003, 901002, // how it is written
		500011, 50001, 500014, 90009, 650052, // its resource
		501051, 50105, 65001, 650056, 650057, 650054, 90094: // the grant
		return true
	}
	return e.Code == "invalid_scope" || e.Code == "invalid_resource" || e.Code == "invalid_target" // RFC 6749 §5.2, RFC 8707 §2
}
