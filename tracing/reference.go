package tracing

import "slices"

// SpanKind is a kind of spans, for the reference.
type SpanKind struct {
	Key        string // of the kind
	Name       string // as spans of it are called
	Kind       string // by OpenTelemetry
	Doc        string
	Attributes []string // all that it may have
}

// Spans are all kinds, in the order of the reference.
func Spans() []SpanKind {
	decided := []string{"gateway.route", "gateway.caller", "gateway.caller_how", "gateway.rule", "error.type"}
	server := []string{"server.address", "server.port"}
	return []SpanKind{
		{"call", "METHOD TEMPLATE, METHOD ROUTE, or METHOD alone", "SERVER", "the whole call; `HTTP` stands for methods that are no standard's. Of a CONNECT that passes through it lasts as long as the tunnel", slices.Concat(decided, server, []string{
			"client.address", "client.port", "http.request.method", "http.response.status_code", "http.route", "url.scheme", "network.protocol.version",
			"http.request.body.size", "http.response.body.size", "gateway.request_id", "gateway.door", "gateway.credential", "gateway.token.source",
			"gateway.retry", "gateway.upstream_request_id"})},
		{"gate", "gate", "INTERNAL", "from the call's arrival until it was decided", decided},
		{"token", "token", "INTERNAL", "the token was looked up or waited for, which `gateway.token.source` tells: `cache` and `stale` were there already. After a 401 there is a second one, for the renewal",
			[]string{"gateway.credential", "gateway.token.source", "gateway.token.renewal", "gateway.token.renewed", "error.type"}},
		{"upstream", "upstream", "CLIENT", "one try at the upstream, until the head of its answer; a retried call has two. Its ID is the parent in the `traceparent` that the upstream gets", slices.Concat(server, []string{
			"http.request.method", "http.response.status_code", "http.request.resend_count", "url.scheme", "network.protocol.version", "gateway.route", "error.type"})},
		{"LOGIN", "LOGIN DOOR", "SERVER", "a login at a SQL door, a trace of its own: the protocol has no `traceparent`", slices.Concat(server, []string{
			"client.address", "client.port", "db.system.name", "gateway.door", "gateway.sql.name", "gateway.sql.session", "gateway.sql.result", "gateway.caller", "gateway.caller_how",
			"gateway.credential", "gateway.token.source", "gateway.token_ms", "gateway.sql.dial_ms", "gateway.sql.prelogin_ms", "gateway.sql.tls_ms", "gateway.sql.login_ms", "error.type"})},
	}
}
