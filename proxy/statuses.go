package proxy

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/certs/alert"
	"github.com/seed-13b04e61/gateway/egress"
	"github.com/seed-13b04e61/gateway/gate"
)

// The refusals that are decided in this room; the gate has its own.
const (
	BadRequest          gate.Code = "bad_request"
	BrowserRefused      gate.Code = "browser_refused"
	HeadersTooLarge     gate.Code = "headers_too_large"
	Internal            gate.Code = "internal"
	Loop                gate.Code = "loop"
	MethodRefused       gate.Code = "method_refused"
	Misdirected         gate.Code = "misdirected"
	NotSupported        gate.Code = "not_supported"
	Overloaded          gate.Code = "overloaded"
	RateLimited         gate.Code = "rate_limited"
	SlowRequest         gate.Code = "slow_request"
	Timeout             gate.Code = "timeout"
	TokenReflected      gate.Code = "token_reflected"
	TokenRefused        gate.Code = "token_refused"
	TokenUnavailable    gate.Code = "token_unavailable"
	TooLarge            gate.Code = "too_large"
	URITooLong          gate.Code = "uri_too_long"
	UpstreamProxy       gate.Code = "upstream_proxy"
	UpstreamTLS         gate.Code = "upstream_tls"
	UpstreamUnreachable gate.Code = "upstream_unreachable"
)

// Answer is how a refusal looks on the wire.
type Answer struct {
	Code   gate.Code
	Status int
	Title  string
	// ProxyStatus is the error type of RFC 9209 §2.3.
	ProxyStatus string
	When        string // for the reference
	// Reverse is the status on the reverse door where it is another; else 0.
	Reverse int
}

// Statuses is the one table that turns refusals into answers.
func Statuses() []Answer {
	return []Answer{
		{Code: BadRequest, Status: 400, Title: "Request cannot be understood safely", ProxyStatus: "http_request_error", When: "an ambiguous or malformed target, or an attempt to smuggle"},
		{Code: gate.CallerForbidden, Status: 403, Title: "This caller may not use the route", ProxyStatus: "http_request_denied", When: "`callers` of the route does not name this caller"},
		{Code: gate.RuleDenied, Status: 403, Title: "No rule allows this call", ProxyStatus: "http_request_denied", When: "no rule under `allow` of the route holds for this method and path"},
		{Code: gate.TenantDenied, Status: 403, Title: "This tenant may not be chosen", ProxyStatus: "http_request_denied", When: "the tenant that the call chose is absent, or on no list that holds for it"},
		{Code: BrowserRefused, Status: 403, Title: "Browsers may not call here", ProxyStatus: "http_request_denied", When: "`Origin` or `Sec-Fetch-Site` on the reverse door"},
		{Code: gate.EgressDenied, Status: 403, Title: "No route names this host", ProxyStatus: "http_request_denied", When: "no route and not allowed"},
		{Code: gate.RouteUnknown, Status: 404, Title: "Nothing is mounted here", ProxyStatus: "http_request_denied", When: "reverse door, nothing mounted at this path"},
		{Code: MethodRefused, Status: 405, Title: "Method is refused", ProxyStatus: "http_request_denied", When: "TRACE; CONNECT over HTTP/2, inside of a tunnel, or to the gateway itself"},
		{Code: gate.CallerUnknown, Status: 407, Reverse: 401, Title: "Who calls is not known", ProxyStatus: "http_request_denied", When: "no or bad caller credential; 401 with `WWW-Authenticate` on the reverse door, 407 with `Proxy-Authenticate` elsewhere"},
		{Code: SlowRequest, Status: 408, Title: "The request's body came too slowly", ProxyStatus: "http_request_error", When: "a body that pauses for 60 s, or comes with less than 240 bytes in a second on average after 10 s of waiting; a header that takes more than 10 s closes the connection without an answer"},
		{Code: TooLarge, Status: 413, Title: "Request body is too large", ProxyStatus: "http_request_denied", When: "more than `limits.max_body` of the route, or a batch of more than 4 MiB"},
		{Code: URITooLong, Status: 414, Title: "Request target is too long", ProxyStatus: "http_request_denied", When: "a target of more than 32 KiB"},
		{Code: Misdirected, Status: 421, Title: "This is not the host that was asked for", ProxyStatus: "http_request_denied", When: "`Host` is not one of the gateway's names, or differs from the tunnel's"},
		{Code: RateLimited, Status: 429, Title: "Too many calls", ProxyStatus: "http_request_denied", When: "`limits.rate` of the route or of the caller, or too many credentials of one source that were not believed; `Retry-After` says when to call again"},
		{Code: HeadersTooLarge, Status: 431, Title: "Request header is too large", ProxyStatus: "http_request_denied", When: "fields of more than 64 KiB; beyond 100 KiB the answer is plain text without a code"},
		{Code: Internal, Status: 500, Title: "The gateway has a defect", ProxyStatus: "proxy_internal_error", When: "a defect of the gateway; logged with its stack"},
		{Code: NotSupported, Status: 501, Title: "Not supported", ProxyStatus: "proxy_internal_response", When: "a tunnel to a routed host without `intercept.ca_dir`, or to an address, for which no certificate can be made; a protocol that the route does not switch to"},
		{Code: TokenRefused, Status: 502, Title: "The token endpoint refused the gateway", ProxyStatus: "proxy_configuration_error", When: "secret, certificate, scope, consent or policy"},
		{Code: TokenReflected, Status: 502, Title: "The upstream echoes the gateway's token", ProxyStatus: "proxy_configuration_error", When: "the upstream's answer contained the token that it was sent; an answer that had begun is cut off instead"},
		{Code: UpstreamUnreachable, Status: 502, Title: "The upstream cannot be reached", ProxyStatus: "destination_unavailable", When: "name, network, or an address that may not be dialled"},
		{Code: UpstreamTLS, Status: 502, Title: "The upstream's certificate is not trusted", ProxyStatus: "tls_certificate_error", When: "handshake or certificate of the upstream, or the route's own TLS files"},
		{Code: UpstreamProxy, Status: 502, Title: "The next hop refused", ProxyStatus: "proxy_configuration_error", When: "a 407 from the upstream, or a refusal of the next hop"},
		{Code: TokenUnavailable, Status: 503, Title: "No token can be had now", ProxyStatus: "destination_unavailable", When: "token endpoint down or throttling, and no token left that is still valid"},
		{Code: Overloaded, Status: 503, Title: "Too much is under way", ProxyStatus: "connection_limit_reached", When: "`limits.concurrency` of the route or of the caller, 4096 calls, 10 000 tunnels, 20 000 connections or 256 of one source; `Retry-After` says when to call again"},
		{Code: Timeout, Status: 504, Title: "Waited too long", ProxyStatus: "http_response_timeout", When: "token or upstream"},
		{Code: Loop, Status: 508, Title: "The call came through this gateway already", ProxyStatus: "proxy_loop_detected", When: "`Via` names this instance"},
	}
}

// statuses indexes the table once.
func statuses() map[gate.Code]Answer {
	m := map[gate.Code]Answer{}
	for _, a := range Statuses() {
		m[a.Code] = a
	}
	return m
}

// refusal is an error on its way to the caller.
type refusal struct {
	code          gate.Code
	detail        string // for the caller: no address, no description of the token endpoint's
	cause         string // for the operator's log; "" when detail says it all
	remedy        string
	retryAfter    time.Duration
	aadsts        int
	correlationID string
}

// why is the cause for the operator: the caller's detail word for word, and what
// only the operator may know.
func (r *refusal) why() string {
	switch {
	case r.detail == "" || strings.Contains(r.cause, r.detail):
		return r.cause
	case r.cause == "":
		return r.detail
	}
	return r.detail + ": " + r.cause
}

func (r *refusal) Error() string { return string(r.code) + ": " + r.detail }

// explain turns any error of the way into a refusal.
func explain(err error) *refusal {
	var known *refusal
	var denied *gate.Refusal
	var token *tokenError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &denied):
		return &refusal{code: denied.Code, detail: denied.Detail, cause: denied.Cause, remedy: denied.Remedy, retryAfter: denied.RetryAfter}
	case errors.As(err, &token):
		return explainToken(token.err)
	}
	return explainUpstream(err)
}

func explainToken(err error) *refusal {
	t := authority.Explain(err)
	r := &refusal{code: TokenUnavailable, detail: t.Detail, cause: t.Cause, remedy: t.Remedy,
		retryAfter: t.Wait, aadsts: t.AADSTS, correlationID: t.CorrelationID}
	switch {
	case t.Refused:
		r.code = TokenRefused
	case t.Late:
		r.code = Timeout
	}
	return r
}

// upstreamPeer is who calls are sent to, in words.
func upstreamPeer() egress.Peer {
	return egress.Peer{Name: "the upstream", Of: "the upstream's", Keys: "hosts or upstream of the route", CA: "tls.ca_file of the route", SNI: "tls.server_name"}
}

// certificateRequired is the alert of RFC 8446 §6.2.
const certificateRequired = 116

func explainUpstream(err error) *refusal {
	var hop *egress.ProxyError
	var record tls.RecordHeaderError
	number, sent := alert.Sent(err)
	t := egress.Explain(err, upstreamPeer())
	r := &refusal{code: UpstreamUnreachable, detail: t.What, cause: err.Error(), remedy: t.Remedy}
	switch {
	case errors.As(err, &hop):
		r.code = UpstreamProxy
	case t.Late:
		r.code = Timeout
		if t.What == "" {
			r.detail, r.remedy = "the upstream did not answer in time", "raise timeouts.response_header of the route if the upstream needs longer"
		}
	case t.TLS:
		r.code = UpstreamTLS
	case sent && (number == certificateRequired || alert.Doubt(number) != ""):
		r.code, r.detail = UpstreamTLS, "the upstream wants a client certificate, or another than the route's"
		r.remedy = "give the route one that the upstream believes: tls.client_certificate_file and tls.client_key_file"
	case sent, errors.As(err, &record):
		r.code, r.detail = UpstreamTLS, "the TLS handshake with the upstream failed"
		r.remedy = "check that the upstream speaks TLS at this port and whether it asks for a client certificate (tls of the route)"
	case t.What == "":
		r.detail, r.remedy = "the upstream cannot be reached or broke off", "check the host's name, the network, and upstream or egress.proxy in routes.yaml"
	}
	return r
}

// What to do about requests that are too large to be looked at.
const (
	longTarget  = "send what is long in the request's body, or ask for less at once"
	largeFields = "send fewer or shorter fields; cookies and large tokens are the usual cause"
)

// problem is the body of a refusal (RFC 9457).
type problem struct {
	Type          string    `json:"type"`
	Title         string    `json:"title"`
	Status        int       `json:"status"`
	Detail        string    `json:"detail"`
	Code          gate.Code `json:"code"`
	Route         string    `json:"route,omitempty"`
	RequestID     string    `json:"request_id"`
	AADSTS        int       `json:"aadsts,omitempty"`
	CorrelationID string    `json:"correlation_id,omitempty"`
	Remedy        string    `json:"remedy,omitempty"`
}

// errorsPage explains each code, by anchor.
const errorsPage = "https://github.com/seed-13b04e61/gateway/blob/main/docs/reference/errors.md#"

// refuse answers the call and stamps its event.
func (h *Handler) refuse(w http.ResponseWriter, p *passage, r *refusal) {
	a, ok := h.answers[r.code]
	if !ok {
		a = h.answers[Internal]
	}
	e := &p.event
	if e.Door == audit.Reverse {
		a.Status = cmp.Or(a.Reverse, a.Status)
	}
	e.Code, e.Status, e.Remedy = string(r.code), a.Status, r.remedy
	e.Cause = r.why()
	body, err := json.Marshal(problem{errorsPage + string(r.code), a.Title, a.Status, r.detail, r.code,
		e.Route, e.RequestID, r.aadsts, r.correlationID, r.remedy})
	if err != nil { // none of its fields can fail to encode
		body = []byte("{}")
	}
	head := w.Header()
	clear(head)
	head.Set("Content-Type", "application/problem+json")
	head.Set("Content-Length", strconv.Itoa(len(body)))
	head.Set("Cache-Control", "no-store")
	head.Set("Gateway-Error", string(r.code))
	head.Set("Gateway-Request-Id", e.RequestID)
	head.Set("Proxy-Status", fmt.Sprintf("gateway; error=%s; details=%q", a.ProxyStatus, r.code))
	if r.retryAfter > 0 {
		head.Set("Retry-After", strconv.Itoa(int(math.Ceil(r.retryAfter.Seconds()))))
	}
	if a.Status == http.StatusMethodNotAllowed {
		head.Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
	if r.code == gate.CallerUnknown {
		invite(head, e.Door)
		p.hangUp = p.hangUp || p.tunnel != nil // another tunnel may show another credential
	}
	if p.hangUp {
		head.Set("Connection", "close")
	}
	if p.world != nil && p.world.debug() {
		debugHeaders(head, e)
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(body)
}
