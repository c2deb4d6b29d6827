package authority

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/tokens"
)

// read turns the host's answer into a token, or into what it meant instead.
func (m *managedIdentity) read(a answer, p proof, resource string) (tokens.Token, *Error) {
	var parts members
	var err error
	if len(a.body) > answerLimit {
		err = fmt.Errorf("the answer is larger than %d bytes", answerLimit)
	} else {
		parts, err = parseObject(a.body)
	}
	if a.status/100 != 2 || parts.has("error") {
		return tokens.Token{}, m.refused(a, parts, p, resource)
	}
	var token tokens.Token
	if err == nil {
		token, err = parts.hosted(a.sent)
	}
	if err != nil {
		e := m.fault(tokens.Transient, err.Error(), "find out what answers at "+m.host.endpoint.Host+"; "+m.host.restart)
		e.Status, e.Detail = a.status, a.describe()
		return tokens.Token{}, e
	}
	return token, nil
}

// hosted is token for what hosts answer. They keep tokens, and some repeat the
// expires_in of the first answer; so of two ends the earlier counts. A token
// that lives for long is renewed at half of its life, as the Azure SDKs do.
func (m members) hosted(asked time.Time) (tokens.Token, error) {
	t, err := m.token(asked)
	if err != nil {
		return tokens.Token{}, err
	}
	if m.has("expires_in") && m.has("expires_on") {
		on, err := members{"expires_on": m["expires_on"]}.expiry(asked)
		if err == nil && on.Before(t.Expires) {
			t.Expires = on
		}
	}
	life := t.Expires.Sub(asked)
	if life <= 0 {
		return tokens.Token{}, errors.New("the token has expired already by this machine's clock, so compare that with another")
	}
	if !t.RefreshAt.Before(t.Expires) {
		t.RefreshAt = time.Time{}
	}
	if t.RefreshAt.IsZero() && life >= longLife {
		t.RefreshAt = asked.Add(life / 2)
	}
	return t, nil
}

// fault is an error of this host.
func (m *managedIdentity) fault(nature tokens.Nature, hint, remedy string) *Error {
	return &Error{Credential: m.credential, Host: m.host.name, Nature: nature, Hint: hint, Remedy: remedy}
}

// local is trouble with what the host needs of this machine. A file or a group
// that appears heals it.
func (m *managedIdentity) local(err error) *Error {
	e := m.fault(tokens.Propagating, err.Error(), remedyOf(err))
	e.Reach, e.RetryAfter, e.cause = tokens.ReachCredential, localWait, err
	return e
}

// misasked is a scope that is no single audience.
func (m *managedIdentity) misasked(resource string) *Error {
	hint := "the scope names no audience, and a managed identity's token is for exactly one"
	if resource != "" {
		hint = "the scope names several audiences, and a managed identity's token is for exactly one"
	}
	return m.fault(tokens.Refused, hint, checkScope)
}

// misled is Azure Arc's endpoint giving a token to whoever asks.
func (m *managedIdentity) misled() *Error {
	e := m.fault(tokens.Refused, "it gave an answer without asking for the key, which no agent of Azure Arc does",
		"find out what listens at "+m.host.endpoint.Host+", and on a machine without the agent unset IDENTITY_ENDPOINT and IMDS_ENDPOINT")
	e.Reach = tokens.ReachCredential
	return e
}

// absent is that there is no IMDS, and so none of the platforms.
func (m *managedIdentity) absent(why string, cause error) *Error {
	e := m.fault(tokens.Propagating, "there is no managed identity here: "+why,
		"run on an Azure host with an identity assigned, or give the credential a client_secret, client_certificate or federated_token; "+
			"in a container, see that it may reach "+m.host.endpoint.Host+", and in Kubernetes prefer federated_token")
	e.Reach, e.RetryAfter, e.cause = tokens.ReachCredential, localWait, cause
	e.Detail = "looked for, in this order: " + lookedFor()
	if cause != nil {
		e.Detail = clean(cause.Error(), nil, detailLimit) + "\n" + e.Detail
	}
	return e
}

// impostor says who answers a probe if that is not Azure's IMDS, whose own
// answer is a 400 for want of the header Metadata; "" if it may be.
func impostor(a answer) string {
	switch {
	case a.status == http.StatusForbidden && strings.Contains(strings.ToLower(string(a.body)), "unreachable"):
		return "a container's proxy, as that of Docker Desktop, says that " + imdsHost + " is unreachable"
	case a.header.Get("Metadata-Flavor") != "":
		return imdsHost + " is the metadata server of Google Cloud"
	case strings.HasPrefix(a.header.Get("Server"), "EC2ws"):
		return imdsHost + " is the metadata service of Amazon EC2"
	}
	return ""
}

// silent is that nobody answered, or not to the end.
func (m *managedIdentity) silent(err error, p proof) *Error {
	where := m.host.title + "'s endpoint " + m.host.endpoint.Host
	e := m.fault(tokens.Transient, where+" does not answer", m.host.restart)
	e.Detail, e.cause = clean(err.Error(), p.hidden, detailLimit), err
	switch {
	case errors.Is(err, context.Canceled):
		e.Hint, e.Remedy = "the request was given up", ""
	case errors.Is(err, context.DeadlineExceeded):
		e.Hint = where + " does not answer in time"
	case errors.Is(err, errPin):
		e.Hint = where + " shows a certificate that IDENTITY_SERVER_THUMBPRINT does not name"
		e.Remedy = "restart the code package, so that it gets the thumbprint of the present certificate; if it lasts, find out who answers there"
	case errors.Is(err, errNotNearby):
		e.Hint = where + " has an address that is none of loopback, link-local and private, to which nothing is sent without TLS"
		e.Remedy = "look at this machine's hosts file and resolver"
	case untrusted(err):
		e.Hint, e.Remedy = where+" shows a TLS certificate that is not trusted", "find out who answers there"
	}
	return e
}

// words is what an error of any platform says. Their shapes differ: OAuth's
// members, App Service's statusCode and message, Service Fabric's error within.
type words struct{ code, text, correlation string }

func (m members) words() words {
	code := m.text("error")
	if inner, err := parseObject(m["error"]); err == nil {
		m, code = inner, inner.text("code")
	}
	return words{
		code:        code,
		text:        m.firstText("error_description", "message", "Message", "ExceptionMessage"),
		correlation: m.firstText("correlation_id", "correlationId", "CorrelationId"),
	}
}

func (m members) firstText(names ...string) string {
	for _, name := range names {
		if s := m.text(name); s != "" {
			return s
		}
	}
	return ""
}

// refused is an answer that says no, as JSON or not.
func (m *managedIdentity) refused(a answer, parts members, p proof, resource string) *Error {
	w := parts.words()
	e := m.fault(tokens.Refused, "", "")
	e.Status = a.status
	e.Code = errorCode(w.code, p.hidden)
	e.CorrelationID = identifier(first(w.correlation, a.header.Get("x-ms-request-id")), p.hidden)
	e.AADSTS = aadsts(nil, w.text, false)
	row, known := advise(e.AADSTS)
	e.classify(row.retry, a)
	e.Hint, e.Remedy = row.meaning, row.remedy
	if !known {
		m.explain(e, strings.ToLower(w.text), resource)
	}
	e.Detail = a.describe()
	if w.text != "" {
		e.Detail = clean(w.text, p.hidden, detailLimit)
	}
	e.Detail += fmt.Sprintf("\nasked: %s for resource %q as %s", m.host.title, cut(resource, 256), m.asked)
	return e
}

// explain sets what a refusal means that the table of Entra's numbers does not
// know. said is the host's own text in lower case.
func (m *managedIdentity) explain(e *Error, said, resource string) {
	set := func(nature tokens.Nature, reach tokens.Reach, hint, remedy string) {
		if e.Nature != tokens.Throttled { // for how long to be quiet stays true
			e.Nature, e.Reach = nature, reach
		}
		e.Hint, e.Remedy = hint, remedy
	}
	switch {
	case e.AADSTS != 0:
		e.Hint, e.Remedy = "see what this number means", fmt.Sprintf("look it up at https://login.microsoftonline.com/error?code=%d", e.AADSTS)
	case e.Nature == tokens.Throttled:
		e.Hint, e.Remedy = "too many token requests from this machine", "find out what else here asks for tokens; the gateway waits by itself"
	case strings.Contains(said, "multiple user assigned"):
		set(tokens.Refused, tokens.ReachCredential, "several user-assigned identities are assigned to this host, and none is named",
			"name one under managed_identity, by client_id, object_id or resource_id")
	case e.Code == "ManagedIdentityNotFound", missing(said):
		set(tokens.Propagating, tokens.ReachCredential, m.host.title+" has no such identity: "+m.asked+" is not assigned to it", m.assign())
	case e.Status == http.StatusGone && m.host.imds():
		set(tokens.Transient, tokens.ReachKey, "IMDS is being updated, which takes up to 70 s", "wait; the gateway tries again by itself")
	case m.host.passing(e.Status):
		set(tokens.Transient, tokens.ReachKey, "a passing failure", "wait; if it lasts, "+m.host.restart)
	case e.Status/100 == 3:
		e.Hint, e.Remedy = "it redirects, which is not followed", "find out what answers at "+m.host.endpoint.Host
	case e.Code == "SecretHeaderNotFound", e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden:
		m.denied(e)
	case e.Code == "invalid_resource", e.Code == "ArgumentNullOrEmpty", strings.Contains(said, "resource"), strings.Contains(said, "audience"):
		set(tokens.Refused, tokens.ReachKey, fmt.Sprintf("it knows no resource %q", cut(resource, 256)),
			"check the route's scope: the audience's spelling and its final slash, followed by /.default; an API of your own needs a service principal in the tenant")
	default:
		e.Hint, e.Remedy = "it gave no reason that is understood", m.assign()
	}
}

// missing tells whether a host says that it has no such identity: IMDS, App
// Service of several years, Service Fabric.
func missing(said string) bool {
	for _, s := range [...]string{"identity not found", "managed identity found for", "no msi found", "load requested managed identity"} {
		if strings.Contains(said, s) {
			return true
		}
	}
	return false
}

// assign is how the host gets the identity.
func (m *managedIdentity) assign() string {
	if m.parameter != "" {
		return "assign that identity to this resource (Settings > Identity > User assigned), or correct its ID under managed_identity; it takes minutes to spread"
	}
	return "turn on the system-assigned identity of this resource (Settings > Identity), or assign a user-assigned one and name it under managed_identity; it takes minutes to spread"
}

// denied is a host that does not take this process for one of its own.
func (m *managedIdentity) denied(e *Error) {
	e.Nature, e.Reach = tokens.Refused, tokens.ReachCredential
	switch {
	case m.host.keyDir != "":
		e.Hint, e.Remedy = "the agent refused the key that it had named", m.host.restart
	case m.host.secretHeader != "":
		e.Hint = m.host.title + " does not know the secret in this process's environment"
		e.Remedy = "start the gateway anew, as the platform changes the secret from time to time; do not copy these variables from elsewhere"
	default:
		e.Hint = m.host.title + " does not answer this process"
		e.Remedy = "see that nothing in between, a firewall or a proxy that adds X-Forwarded-For, handles requests to " + m.host.endpoint.Host +
			"; if this is no Azure host, give the credential a client_secret, client_certificate or federated_token"
	}
}
