package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/seed-13b04e61/gateway/authority"
	"github.com/seed-13b04e61/gateway/egress"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/tokens"
)

// The refusals that are decided in this room; the gate has its own.
const (
	BadRequest          gate.Code = "bad_request"
	BrowserRefused      gate.Code = "browser_refused"
	Internal            gate.Code = "internal"
	Loop                gate.Code = "loop"
	MethodRefused       gate.Code = "method_refused"
	Misdirected         gate.Code = "misdirected"
	NotSupported        gate.Code = "not_supported"
	Timeout             gate.Code = "timeout"
	TokenRefused        gate.Code = "token_refused"
	TokenUnavailable    gate.Code = "token_unavailable"
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
}

// Statuses is the one table that turns refusals into answers.
func Statuses() []Answer {
	return []Answer{
		{BadRequest, 400, "Request cannot be understood safely", "http_request_error", "an ambiguous or malformed target, or an attempt to smuggle"},
		{BrowserRefused, 403, "Browsers may not call here", "http_request_denied", "`Origin` or `Sec-Fetch-Site` on the reverse door"},
		{gate.EgressDenied, 403, "No route names this host", "http_request_denied", "no route and not allowed"},
		{gate.RouteUnknown, 404, "Nothing is mounted here", "http_request_denied", "reverse door, nothing mounted at this path"},
		{MethodRefused, 405, "Method is refused", "http_request_denied", "TRACE, or CONNECT where none is taken"},
		{URITooLong, 414, "Request target is too long", "http_request_denied", "a target of more than 32 KiB"},
		{Misdirected, 421, "This is not the host that was asked for", "http_request_denied", "`Host` is not one of the gateway's names"},
		{Internal, 500, "The gateway has a defect", "proxy_internal_error", "a defect of the gateway; logged with its stack"},
		{NotSupported, 501, "Not supported", "proxy_internal_response", "this release does not do that"},
		{TokenRefused, 502, "The token endpoint refused the gateway", "proxy_configuration_error", "secret, certificate, scope, consent or policy"},
		{UpstreamUnreachable, 502, "The upstream cannot be reached", "destination_unavailable", "name, network, or an address that may not be dialled"},
		{UpstreamTLS, 502, "The upstream's certificate is not trusted", "tls_certificate_error", "handshake or certificate of the upstream, or the route's own TLS files"},
		{UpstreamProxy, 502, "The next hop refused", "proxy_configuration_error", "a 407 from the upstream, or a refusal of the next hop"},
		{TokenUnavailable, 503, "No token can be had now", "destination_unavailable", "token endpoint down or throttling, and no token left that is still valid"},
		{Timeout, 504, "Waited too long", "http_response_timeout", "token or upstream"},
		{Loop, 508, "The call came through this gateway already", "proxy_loop_detected", "`Via` names this instance"},
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

// explain turns any error of the way into a refusal.
func explain(err error) *refusal {
	var known *refusal
	var denied *gate.Refusal
	var token *tokenError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &denied):
		return &refusal{code: denied.Code, detail: denied.Detail, remedy: denied.Remedy}
	case errors.As(err, &token):
		return explainToken(token.err)
	}
	return explainUpstream(err)
}

func explainToken(err error) *refusal {
	var answer *authority.Error
	var held *tokens.Unavailable
	if !errors.As(err, &held) && errors.Is(err, context.DeadlineExceeded) {
		return &refusal{code: Timeout, detail: "the token did not arrive in time", cause: err.Error(),
			remedy: "see whether the token endpoint answers: gateway check --live"}
	}
	r := &refusal{code: TokenUnavailable, detail: "the token endpoint cannot be reached or does not answer", cause: err.Error(),
		remedy: "see whether the token endpoint answers: gateway check --live"}
	if errors.As(err, &answer) {
		r.detail, r.cause = answer.Error(), answer.Error()
		r.aadsts, r.correlationID = answer.AADSTS, answer.CorrelationID
		if answer.Detail != "" {
			r.cause += "; " + answer.Detail
		}
		if answer.Remedy != "" {
			r.remedy = answer.Remedy
		}
		if answer.Refused() {
			r.code = TokenRefused
			return r
		}
	}
	r.retryAfter = time.Second
	if held != nil {
		r.retryAfter = max(time.Second, time.Until(held.Until))
	}
	return r
}

func explainUpstream(err error) *refusal {
	var hop *egress.ProxyError
	var verify *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var netErr net.Error
	switch {
	case errors.As(err, &hop):
		return &refusal{code: UpstreamProxy, detail: fmt.Sprintf("the next hop refused a tunnel with status %d", hop.Status),
			cause: err.Error(), remedy: "check egress.proxy in routes.yaml: its address, username and password, and what it lets through"}
	case errors.As(err, &verify), errors.As(err, &unknown):
		return &refusal{code: UpstreamTLS, detail: "the upstream's certificate could not be verified", cause: err.Error(),
			remedy: "if the upstream's certificate comes from a private CA, name it as tls.ca_file of the route"}
	case errors.As(err, &record), errors.As(err, &alert):
		return &refusal{code: UpstreamTLS, detail: "the TLS handshake with the upstream failed", cause: err.Error(),
			remedy: "check that the upstream speaks TLS at this port and whether it asks for a client certificate (tls of the route)"}
	case errors.Is(err, egress.ErrForbidden):
		return &refusal{code: UpstreamUnreachable, detail: "the upstream's address is one that no call may reach", cause: err.Error(),
			remedy: "metadata services, managed identity endpoints, link-local addresses and the gateway's own listeners are never dialled; correct hosts or upstream of the route"}
	case errors.As(err, &netErr) && netErr.Timeout():
		return &refusal{code: Timeout, detail: "the upstream did not answer in time", cause: err.Error(),
			remedy: "raise timeouts.response_header of the route if the upstream needs longer"}
	}
	return &refusal{code: UpstreamUnreachable, detail: "the upstream cannot be reached or broke off", cause: err.Error(),
		remedy: "check the host's name, the network, and upstream or egress.proxy in routes.yaml"}
}

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
	e.Code, e.Status, e.Remedy = string(r.code), a.Status, r.remedy
	if e.Cause = r.cause; e.Cause == "" {
		e.Cause = r.detail
	}
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
	if p.world != nil && p.world.debug() {
		debugHeaders(head, e)
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(body)
}
