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
	// Remedy is the next step of a refusal that does not know a nearer one.
	Remedy string
	// Reverse is the status on the reverse door where it is another; else 0.
	Reverse int
}

// Statuses is the one table that turns refusals into answers.
func Statuses() []Answer {
	return []Answer{
		{Code: BadRequest, Status: 400, Title: "Request cannot be understood safely", ProxyStatus: "http_request_error", When: "an ambiguous or malformed target, or an attempt to smuggle",
			Remedy: "write host, path and fields plainly and once; gateway explain METHOD URL says what is unclear"},
		{Code: gate.CallerForbidden, Status: 403, Title: "This caller may not use the route", ProxyStatus: "http_request_denied", When: "`callers` of the route does not name this caller",
			Remedy: "add the caller to callers of the route, or call by a route that is for it; gateway explain --as CALLER METHOD URL names the line"},
		{Code: gate.RuleDenied, Status: 403, Title: "No rule allows this call", ProxyStatus: "http_request_denied", When: "no rule under `allow` of the route holds for this method and path",
			Remedy: "add method and path to allow of the route; gateway explain METHOD URL names the rules that were tried and the nearest one"},
		{Code: gate.TenantDenied, Status: 403, Title: "This tenant may not be chosen", ProxyStatus: "http_request_denied", When: "the tenant that the call chose is absent, or on no list that holds for it",
			Remedy: "name one tenant by its GUID or domain, of those that tenant of the route and tenants of the caller allow"},
		{Code: BrowserRefused, Status: 403, Title: "Browsers may not call here", ProxyStatus: "http_request_denied", When: "`Origin` or `Sec-Fetch-Site` on the reverse door",
			Remedy: "call from a program; the gateway serves no pages"},
		{Code: gate.EgressDenied, Status: 403, Title: "No route names this host", ProxyStatus: "http_request_denied", When: "no route and not allowed",
			Remedy: "add a route for the host if calls to it should get a token, or an entry of egress.allow if they should pass without one"},
		{Code: gate.RouteUnknown, Status: 404, Title: "Nothing is mounted here", ProxyStatus: "http_request_denied", When: "reverse door, nothing mounted at this path",
			Remedy: "begin the path with the mount of a route; gateway check lists them"},
		{Code: MethodRefused, Status: 405, Title: "Method is refused", ProxyStatus: "http_request_denied", When: "TRACE; CONNECT over HTTP/2, inside of a tunnel, or to the gateway itself",
			Remedy: "call with the method that the API documents; TRACE is never forwarded, and CONNECT opens tunnels over HTTP/1.1 alone"},
		{Code: gate.CallerUnknown, Status: 407, Reverse: 401, Title: "Who calls is not known", ProxyStatus: "http_request_denied", When: "no or bad caller credential; 401 with `WWW-Authenticate` on the reverse door, 407 with `Proxy-Authenticate` elsewhere",
			Remedy: "show the name and key of a caller, as gateway keygen printed them, or the client certificate or JWT that callers of routes.yaml names"},
		{Code: SlowRequest, Status: 408, Title: "The request's body came too slowly", ProxyStatus: "http_request_error", When: "a body that pauses for 60 s, or comes with less than 240 bytes in a second on average after 10 s of waiting; a header that takes more than 10 s closes the connection without an answer",
			Remedy: "send on without long pauses; look at the network between the caller and the gateway"},
		{Code: TooLarge, Status: 413, Title: "Request body is too large", ProxyStatus: "http_request_denied", When: "more than `limits.max_body` of the route, or a batch of more than 4 MiB",
			Remedy: "send less at once, or raise limits.max_body of the route"},
		{Code: URITooLong, Status: 414, Title: "Request target is too long", ProxyStatus: "http_request_denied", When: "a target of more than 32 KiB",
			Remedy: "send long parameters in the body, as the API has it"},
		{Code: Misdirected, Status: 421, Title: "This is not the host that was asked for", ProxyStatus: "http_request_denied", When: "`Host` is not one of the gateway's names, or differs from the tunnel's",
			Remedy: "call by a loopback name or one of listen.hosts; to use the gateway as a proxy, set http_proxy and keep the URL"},
		{Code: RateLimited, Status: 429, Title: "Too many calls", ProxyStatus: "http_request_denied", When: "`limits.rate` of the route or of the caller, or too many credentials of one source that were not believed; `Retry-After` says when to call again",
			Remedy: "call again after Retry-After; if this is usual, raise limits.rate of the route or of the caller"},
		{Code: HeadersTooLarge, Status: 431, Title: "Request header is too large", ProxyStatus: "http_request_denied", When: "fields of more than 64 KiB; beyond 100 KiB the answer is plain text without a code",
			Remedy: "send fewer or shorter fields; look for cookies that pile up"},
		{Code: Internal, Status: 500, Title: "The gateway has a defect", ProxyStatus: "proxy_internal_error", When: "a defect of the gateway; logged with its stack",
			Remedy: "look for the request_id in the log, and report the line with its stack"},
		{Code: NotSupported, Status: 501, Title: "Not supported", ProxyStatus: "proxy_internal_response", When: "a tunnel to a routed host without `intercept.ca_dir`, or to an address, for which no certificate can be made; a protocol that the route does not switch to",
			Remedy: "call in a way that the route has; gateway explain METHOD URL says which"},
		{Code: TokenRefused, Status: 502, Title: "The token endpoint refused the gateway", ProxyStatus: "proxy_configuration_error", When: "secret, certificate, scope, consent or policy",
			Remedy: "mend the credential as the remedy says; gateway check --live tries it again"},
		{Code: TokenReflected, Status: 502, Title: "The upstream echoes the gateway's token", ProxyStatus: "proxy_configuration_error", When: "the upstream's answer contained the token that it was sent; an answer that had begun is cut off instead",
			Remedy: "do not route this endpoint of the upstream, or have its owner mend it"},
		{Code: UpstreamUnreachable, Status: 502, Title: "The upstream cannot be reached", ProxyStatus: "destination_unavailable", When: "name, network, or an address that may not be dialled",
			Remedy: "check the host's name, the network, and upstream or egress.proxy in routes.yaml"},
		{Code: UpstreamTLS, Status: 502, Title: "The upstream's certificate is not trusted", ProxyStatus: "tls_certificate_error", When: "handshake or certificate of the upstream, or the route's own TLS files",
			Remedy: "name the CA of the upstream as tls.ca_file of the route, and see that it speaks TLS at this port"},
		{Code: UpstreamProxy, Status: 502, Title: "The next hop refused", ProxyStatus: "proxy_configuration_error", When: "a 407 from the upstream, or a refusal of the next hop",
			Remedy: "check egress.proxy in routes.yaml: its address, username and password, and what it lets through"},
		{Code: TokenUnavailable, Status: 503, Title: "No token can be had now", ProxyStatus: "destination_unavailable", When: "token endpoint down or throttling, and no token left that is still valid",
			Remedy: "call again after Retry-After; if it lasts, gateway check --live tells whether the token endpoint answers"},
		{Code: Overloaded, Status: 503, Title: "Too much is under way", ProxyStatus: "connection_limit_reached", When: "`limits.concurrency` of the route or of the caller, 4096 calls, 10 000 tunnels, 20 000 connections or 256 of one source; `Retry-After` says when to call again",
			Remedy: "call again after Retry-After; if this is usual, raise limits.concurrency or the number of gateways"},
		{Code: Timeout, Status: 504, Title: "Waited too long", ProxyStatus: "http_response_timeout", When: "token or upstream",
			Remedy: "call again; if the upstream needs longer, raise timeouts.response_header of the route"},
		{Code: Loop, Status: 508, Title: "The call came through this gateway already", ProxyStatus: "proxy_loop_detected", When: "`Via` names this instance",
			Remedy: "see that no upstream of a route leads back to the gateway: hosts, upstream and egress.proxy"},
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

func (r *refusal) Error() string { return string(r.code) + ": " + r.detail }

// told is the refusal in the operator's words, see [gate.Told]. The log, the
// admin port and gateway explain have these, and its caller their beginning.
func (r *refusal) told() string { return gate.Told(r.detail, r.cause) }

// whole returns r with what every refusal has: a cause and a next step.
func (a Answer) whole(r *refusal) *refusal {
	full := *r
	full.detail = cmp.Or(r.detail, a.Title) // the cause is not for callers
	full.remedy = cmp.Or(r.remedy, a.Remedy)
	return &full
}

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
	e, r := &p.event, a.whole(r)
	if e.Door == audit.Reverse {
		a.Status = cmp.Or(a.Reverse, a.Status)
	}
	e.Code, e.Status, e.Cause, e.Remedy = string(r.code), a.Status, r.told(), r.remedy
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
