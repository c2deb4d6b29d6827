package tracing

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// call is the span of a call.
type call struct {
	of    *Traces
	ctx   context.Context // carries span, and nothing of the call's
	span  trace.Span
	event *audit.Event
	tls   bool
	proto string
}

// Start implements [audit.Tracer].
func (t *Traces) Start(e *audit.Event, r *http.Request) audit.Span {
	ctx := context.Background() // the call's own is none that a span may hold on to
	if t.settings.continued && len(r.Header["Traceparent"]) == 1 {
		ctx = t.wire.Extract(ctx, arrived(r.Header))
	}
	method := methodOf(e.Method)
	ctx, span := t.tracer.Start(ctx, spanName(method, ""), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(e.Start),
		trace.WithAttributes(attribute.String("http.request.method", method)))
	c := &call{of: t, ctx: ctx, span: span, event: e, tls: r.TLS != nil, proto: version(r.ProtoMajor, r.ProtoMinor)}
	e.TraceID, e.SpanID = span.SpanContext().TraceID().String(), span.SpanContext().SpanID().String()
	return c
}

// arrived are a request's fields. A tracestate may have several lines.
type arrived http.Header

func (a arrived) Get(name string) string {
	return strings.Join(http.Header(a).Values(name), ",")
}
func (arrived) Set(string, string) {}
func (arrived) Keys() []string     { return nil }

// Gate implements [audit.Span].
func (c *call) Gate(began time.Time, code string) {
	if !c.span.IsRecording() {
		return
	}
	list := decision(nil, c.event)
	c.child("gate", began, code, list)
}

// Token implements [audit.Span].
func (c *call) Token(began time.Time, l audit.Lookup) {
	if !c.span.IsRecording() {
		return
	}
	list := text(nil, "gateway.credential", c.event.Credential)
	list = text(list, "gateway.token.source", l.Source)
	if l.Renewal {
		list = append(list, attribute.Bool("gateway.token.renewal", true), attribute.Bool("gateway.token.renewed", l.Code == "" && !l.Vain))
	}
	c.child("token", began, l.Code, list)
}

// child makes a span that ends now.
func (c *call) child(name string, began time.Time, code string, list []attribute.KeyValue) {
	_, span := c.of.tracer.Start(c.ctx, name, trace.WithTimestamp(began), trace.WithAttributes(text(list, "error.type", code)...))
	if code != "" {
		span.SetStatus(codes.Error, code)
	}
	span.End()
}

// End implements [audit.Span].
func (c *call) End(e *audit.Event) {
	if !c.span.IsRecording() {
		return
	}
	method := methodOf(e.Method)
	target := e.Template
	if target == "" {
		target = e.Route
	}
	c.span.SetName(spanName(method, target))
	list := decision(make([]attribute.KeyValue, 0, 24), e)
	list = place(list, "server", e.Host)
	list = place(list, "client", e.Remote)
	list = append(list, attribute.String("network.protocol.version", c.proto), attribute.String("url.scheme", scheme(c.tls)),
		attribute.String("gateway.request_id", e.RequestID), attribute.String("gateway.door", string(e.Door)),
		attribute.Int64("http.request.body.size", e.BytesIn), attribute.Int64("http.response.body.size", e.BytesOut))
	list = text(list, "http.route", e.Template)
	list = text(list, "gateway.credential", e.Credential)
	list = text(list, "gateway.token.source", e.TokenSource)
	list = text(list, "gateway.retry", string(e.Retry))
	list = text(list, "gateway.upstream_request_id", e.UpstreamRequest)
	failed := e.Code
	if e.Status != 0 {
		list = append(list, attribute.Int("http.response.status_code", e.Status))
		if failed == "" && (e.Status >= http.StatusInternalServerError || e.Status == clientGone) {
			failed = strconv.Itoa(e.Status)
		}
	}
	c.span.SetAttributes(text(list, "error.type", failed)...)
	// What a caller did wrong is no error of the server, by the conventions.
	if failed != "" && (e.Status == 0 || e.Status >= http.StatusInternalServerError) {
		c.span.SetStatus(codes.Error, failed)
	}
	c.span.End()
}

// clientGone is the status of calls whose caller left.
const clientGone = 499

// Try implements [audit.Span].
func (c *call) Try(out *http.Request, time int) audit.Try {
	ctx, span := c.of.tracer.Start(c.ctx, "upstream", trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		list := []attribute.KeyValue{attribute.String("http.request.method", methodOf(out.Method)), attribute.String("url.scheme", out.URL.Scheme)}
		list = place(list, "server", withPort(out.URL.Host, out.URL.Scheme))
		list = text(list, "gateway.route", c.event.Route)
		if time > 1 {
			list = append(list, attribute.Int("http.request.resend_count", time-1))
		}
		span.SetAttributes(list...)
	}
	return &try{c.of, ctx, span}
}

type try struct {
	of   *Traces
	ctx  context.Context // carries span
	span trace.Span
}

// Propagate implements [audit.Try].
func (t *try) Propagate(h http.Header) {
	if !t.of.settings.continued {
		return
	}
	// Where the caller's cannot be continued, its tracestate means nothing (W3C
	// Trace Context §3.3).
	delete(h, "Traceparent")
	delete(h, "Tracestate")
	t.of.wire.Inject(t.ctx, propagation.HeaderCarrier(h))
}

// End implements [audit.Try].
func (t *try) End(resp *http.Response, code string) {
	if t.span.IsRecording() {
		if resp != nil {
			t.span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode),
				attribute.String("network.protocol.version", version(resp.ProtoMajor, resp.ProtoMinor)))
			if resp.StatusCode >= http.StatusBadRequest && code == "" {
				code = strconv.Itoa(resp.StatusCode)
			}
		}
		if code != "" {
			t.span.SetAttributes(attribute.String("error.type", code))
			t.span.SetStatus(codes.Error, code)
		}
	}
	t.span.End()
}

// decision adds what the gate found out.
func decision(list []attribute.KeyValue, e *audit.Event) []attribute.KeyValue {
	list = text(list, "gateway.route", e.Route)
	list = text(list, "gateway.caller", e.Caller)
	list = text(list, "gateway.caller_how", e.CallerHow)
	if e.Rule != 0 {
		list = append(list, attribute.Int("gateway.rule", e.Rule))
	}
	return list
}

// place adds a host:port as side.address and side.port.
func place(list []attribute.KeyValue, side, at string) []attribute.KeyValue {
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		return text(list, side+".address", at)
	}
	list = text(list, side+".address", host)
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		list = append(list, attribute.Int(side+".port", int(n)))
	}
	return list
}

// withPort is an authority with the port that scheme implies.
func withPort(host, scheme string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	if scheme == "http" {
		return host + ":80"
	}
	return host + ":443"
}

// methodOf is m, or _OTHER for one that nobody knows: names of spans are few.
func methodOf(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY":
		return m
	}
	return "_OTHER"
}

// spanName is as the conventions want it: HTTP stands for methods unknown.
func spanName(method, target string) string {
	if method == "_OTHER" {
		method = "HTTP"
	}
	if target == "" {
		return method
	}
	return method + " " + target
}

func scheme(tls bool) string {
	if tls {
		return "https"
	}
	return "http"
}

func version(major, minor int) string {
	if major >= 2 {
		return strconv.Itoa(major)
	}
	return strconv.Itoa(major) + "." + strconv.Itoa(minor)
}
