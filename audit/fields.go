package audit

// Field is one field of the log or of the audit records. Its name is the
// OpenTelemetry conventions' where they have one, and begins with gateway.
// otherwise; a few words of the log itself have no dots. Names are stable: one
// that changes stands in the changelog.
type Field struct {
	Name string
	Type string // of JSON, with the unit of numbers
	In   string // the lines that have it, see [Lines]
	When string // "" for always
	Doc  string
}

// The kinds of lines, as [Field.In] has them, one letter each.
const (
	inCall    = "c"
	inRecord  = "r"
	inLogin   = "s"
	inMessage = "m"
)

// LineKind is a kind of lines.
type LineKind struct{ Letter, Name, Doc string }

// Lines are the kinds of lines, in the order of the reference.
func Lines() []LineKind {
	return []LineKind{
		{inCall, "access line", "one for each call when it ends, `message` being `call`; `log.access: false` turns them off"},
		{inRecord, "audit record", "one for each call, refused ones too, with `\"kind\":\"audit\"`; `audit.file` gives them a file of their own"},
		{inLogin, "SQL line", "one for a login and one for the end of its session, in the log (`message` is `sql login`, then `sql session`) and as audit record (`gateway.sql.event` is `login`, then `end`)"},
		{inMessage, "message", "what else the operator is told; `message` says it in words"},
	}
}

// Fields are all fields, in the order of the reference. The certificate
// library's own, whose names begin with gateway.acme., are not among them.
func Fields() []Field {
	return append(append(commonFields(), sqlFields()...), messageFields()...)
}

// commonFields are those of calls, some of which sessions and messages have too.
func commonFields() []Field {
	return []Field{
		{"level", "string", "csm", "", "`debug`, `info`, `warn`, `error`. A call is `warn` when the gateway itself refused it, `error` for a defect"},
		{"time", "time", "crsm", "", "RFC 3339; of a record when the call or the session began, in UTC"},
		{"message", "string", "csm", "", "what the line is about"},
		{"kind", "string", "rs", "audit records", "`audit`"},
		{"trace_id", "string", "cr", "known", "W3C trace-id: of the call's `traceparent`, or begun here when traces are on"},
		{"span_id", "string", "cr", "traces are on", "of the gateway's own span of the call"},
		{"gateway.request_id", "string", "crm", "", "`Gateway-Request-Id` of the answer"},
		{"gateway.door", "string", "crsm", "", "by which way: `reverse`, `forward`, `tunnel`, `sql`"},
		{"http.request.method", "string", "cr", "", "as it came"},
		{"server.address", "string", "crsm", "known", "the host that the call names, without its port; of a session the server of its login"},
		{"server.port", "number", "crsm", "known", "its port"},
		{"url.path", "string", "c", "", "as it came, without the query"},
		{"http.route", "string", "cr", "a rule allowed the call", "the pattern of that rule: `/v1.0/users/{id}`"},
		{"client.address", "string", "crsm", "", "the peer's address, or `unix`"},
		{"client.port", "number", "crsm", "the peer has one", "its port"},
		{"http.response.status_code", "number", "cr", "", "the answer's; 499: the caller left before it, 0: none"},
		{"error.type", "string", "crs", "the gateway refused", "the code of [errors](errors.md); of a session its result"},
		{"gateway.route", "string", "crm", "known", "name of the route in routes.yaml"},
		{"gateway.caller", "string", "crsm", "the caller has a name", "its name in routes.yaml"},
		{"gateway.caller_how", "string", "crs", "the caller has a name", "known by `api_key`, `client_certificate`, `jwt` or `uid`"},
		{"gateway.rule", "number", "cr", "a rule decided", "its line in routes.yaml"},
		{"gateway.would_deny", "string", "cr", "`mode: report` let it pass", "what enforcing would have refused, and why"},
		{"gateway.tenant", "string", "crm", "the call chose one", "the tenant"},
		{"gateway.credential", "string", "crsm", "known", "its name in routes.yaml"},
		{"gateway.scope", "string", "m", "about a token", "the scope"},
		{"gateway.token.source", "string", "crs", "a token was asked for", "as `Gateway-Token-Source`: `cache`, `identity_provider`, `shared_cache`, `stale`"},
		{"gateway.token.id", "string", "r", "a token was used", "its `uti`, which Entra's sign-in log has as unique token identifier; else the first 8 bytes of its SHA-256"},
		{"gateway.token.expires", "time", "sm", "a token was used", "when it ends"},
		{"gateway.token.why", "string", "m", "about a token", "why it was asked for"},
		{"gateway.retry", "string", "cr", "the upstream did not take the token", "`recovered`, `refused_again`, `not_replayable`, `held_back`, `mismatch`, `sign_in`"},
		{"gateway.upstream_request_id", "string", "r", "the answer has one", "the upstream's own, such as Graph's `request-id`"},
		{"cause", "string", "csm", "it failed", "what is wrong"},
		{"remark", "string", "c", "the upstream's answer needs words", "what it means"},
		{"remedy", "string", "csm", "there is one", "the next step after `cause`, `remark` or `message`"},
		{"detail", "string", "m", "there is more to say", "more about `message`"},
		{"gateway.duration_ms", "number, ms", "crs", "of a session at its end", "until the last byte of the answer, or from login to end"},
		{"gateway.upstream_ms", "number, ms", "cr", "", "from sending to the head of the answer, both tries"},
		{"gateway.token_ms", "number, ms", "crs", "of a session at its login", "spent waiting for tokens"},
		{"http.request.body.size", "number, bytes", "cr", "", "that the caller sent; in a tunnel that passes through, or after a switch to another protocol, all that went that way"},
		{"http.response.body.size", "number, bytes", "cr", "", "that the caller got, likewise"},
	}
}

func sqlFields() []Field {
	return []Field{
		{"gateway.sql.event", "string", "s", "audit records", "`login` or `end`"},
		{"gateway.sql.name", "string", "sm", "", "name of the door in routes.yaml"},
		{"gateway.sql.session", "string", "sm", "", "leads from the client's error to its lines"},
		{"gateway.sql.result", "string", "sm", "", "what became of the login: `success`, or why not"},
		{"db.system.name", "string", "s", "", "`microsoft.sql_server`"},
		{"db.namespace", "string", "s", "known", "the database"},
		{"db.response.status_code", "string", "s", "there is one", "number of the server's refusal, or of the gateway's own"},
		{"user.name", "string", "s", "the client names one", "as the client says"},
		{"gateway.sql.app", "string", "s", "at the login", "program, as the client says"},
		{"gateway.sql.host", "string", "s", "at the login", "machine, as the client says"},
		{"gateway.sql.library", "string", "s", "at the login", "driver, as the client says"},
		{"gateway.sql.tds", "string", "s", "at the login", "version of the protocol, as the client speaks it"},
		{"gateway.sql.client_tls", "string", "s", "at the login", "`off`, `mandatory`, `strict`"},
		{"gateway.sql.client_connection_id", "string", "s", "the client sends one", "ClientConnectionId, for Microsoft's support"},
		{"gateway.sql.mars", "true", "s", "it is on", "several results at once"},
		{"gateway.sql.read_only", "true", "s", "the client asks for it", "ApplicationIntent"},
		{"gateway.sql.token_renewed", "true", "s", "it was", "the server refused the first token, and another was had"},
		{"gateway.sql.spid", "number", "s", "at the login", "the server's number of the session"},
		{"gateway.sql.via", "string", "s", "at the login", "every server that was asked, as host:port"},
		{"gateway.sql.dial_ms", "number, ms", "s", "at the login", "until the server was connected"},
		{"gateway.sql.prelogin_ms", "number, ms", "s", "at the login", "of the exchange before TLS"},
		{"gateway.sql.tls_ms", "number, ms", "s", "at the login", "of the server's TLS handshake"},
		{"gateway.sql.login_ms", "number, ms", "s", "at the login", "until the server took or refused it"},
		{"gateway.sql.reason", "string", "s", "at the end", "why the session ended"},
		{"gateway.sql.bytes_in", "number, bytes", "s", "at the end", "from the client"},
		{"gateway.sql.bytes_out", "number, bytes", "s", "at the end", "to the client"},
		{"gateway.sql.requests", "number", "s", "at the end", "messages of the client"},
		{"gateway.sql.relogins", "number", "s", "at the end", "logins with a newer token"},
		{"gateway.sql.unfinished", "number", "m", "too many", "connections that have not finished their login"},
	}
}

// messageFields are those of messages alone.
func messageFields() []Field {
	return []Field{
		{"gateway.config.routes", "number", inMessage, "a file was taken", "routes in force"},
		{"gateway.config.sql_doors", "number", inMessage, "a file was taken", "SQL doors in force"},
		{"gateway.config.mistakes", "string", inMessage, "a file was not taken", "all mistakes, each with its line and remedy"},
		{"gateway.issuer", "string", inMessage, "about callers' tokens", "the issuer"},
		{"gateway.entra.correlation_id", "string", inMessage, "Entra refused", "for Microsoft's support"},
		{"gateway.entra.trace_id", "string", inMessage, "Entra refused", "for Microsoft's support; no W3C trace-id"},
		{"gateway.traces.endpoint", "string", inMessage, "about traces", "where spans go to"},
		{"gateway.traces.lost", "number", inMessage, "spans were lost", "how many since the last such line"},
		{"gateway.purged", "number", inMessage, "a purge", "tokens that were forgotten"},
		{"gateway.audit.lost", "number", inMessage, "records were lost", "how many"},
		{"gateway.untold", "number", inMessage, "of its kind", "how many like this went without a line"},
		{"gateway.drain.delay", "string", inMessage, "while stopping", "before doors close, as 5s"},
		{"gateway.drain.timeout", "string", inMessage, "while stopping", "for what is under way, as 30s"},
		{"gateway.drain.calls", "number", inMessage, "they were cut off", "calls"},
		{"gateway.drain.streams", "number", inMessage, "they were cut off", "calls whose answers have no announced end"},
		{"gateway.drain.tunnels", "number", inMessage, "they were cut off", "tunnels"},
		{"gateway.drain.connections", "number", inMessage, "they were cut off", "connections"},
		{"gateway.listen", "string", inMessage, "about a listener", "its address"},
		{"gateway.certificate.domain", "string", inMessage, "about a certificate", "its name"},
		{"gateway.certificate.expires", "string", inMessage, "about a certificate", "when it ends"},
		{"gateway.certificate.ca", "string", inMessage, "about a client CA", "its name"},
		{"gateway.acme.directory", "string", inMessage, "about ACME", "URL of the CA's directory"},
		{"gateway.acme.retry_in", "string", inMessage, "about ACME", "until the next try"},
		{"gateway.acme.attempts", "string", inMessage, "about ACME", "that failed"},
		{"gateway.logger", "string", inMessage, "about ACME", "part of the certificate library that speaks; its own fields begin with `gateway.acme.`"},
		{"file.path", "string", inMessage, "about a file", "the file"},
		{"exception.type", "string", inMessage, "a defect", "type of what went wrong"},
		{"exception.stacktrace", "string", inMessage, "a defect", "for the report"},
	}
}
