package tracing

import (
	"context"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// RecordSession implements [audit.SessionRecorder]: it makes a span of a login
// that has just ended. TDS has no traceparent, so each begins a trace.
func (t *Traces) RecordSession(s *audit.Session) {
	if !s.End.IsZero() {
		return
	}
	_, span := t.tracer.Start(context.Background(), "LOGIN "+s.Name, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(s.Start))
	if !span.IsRecording() {
		return
	}
	list := []attribute.KeyValue{
		attribute.String("db.system.name", "microsoft.sql_server"), attribute.String("gateway.door", string(audit.SQL)),
		attribute.String("gateway.sql.name", s.Name), attribute.String("gateway.sql.session", s.ID), attribute.String("gateway.sql.result", string(s.Result)),
	}
	list = place(list, "server", s.Server)
	list = place(list, "client", s.Remote)
	list = text(list, "gateway.caller", s.Caller)
	list = text(list, "gateway.caller_how", s.CallerHow)
	list = text(list, "gateway.credential", s.Credential)
	list = text(list, "gateway.token.source", s.TokenSource)
	for phase, took := range s.Phases {
		name := "gateway.sql." + phase + "_ms"
		if phase == "token" {
			name = "gateway.token_ms"
		}
		list = append(list, attribute.Float64(name, float64(took)/float64(time.Millisecond)))
	}
	if s.Result != audit.LoginSuccess {
		list = append(list, attribute.String("error.type", string(s.Result)))
		span.SetStatus(codes.Error, string(s.Result))
	}
	span.SetAttributes(list...)
	span.End()
}
