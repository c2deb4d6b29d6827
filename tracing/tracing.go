// Package tracing makes spans of calls and of SQL logins by OpenTelemetry's SDK
// and sends them over OTLP. It is off unless the standard OTEL_ variables say
// otherwise. No span holds a path, a query, a header value, a token or a body.
package tracing

import (
	"context"
	"errors"
	"iter"
	"net"
	"slices"

	"github.com/seed-13b04e61/gateway/audit"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// scope is the name of the instrumentation.
const scope = "github.com/seed-13b04e61/gateway"

// Dialer is the way out.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// Log is the part of [audit.Log] that tracing needs.
type Log interface {
	Info(msg string, kv ...any)
	Warn(msg string, kv ...any)
}

// Config is what [New] needs. All are required.
type Config struct {
	Settings *Settings
	Dialer   Dialer // egress.proxy and its bypass hold for spans too
	Log      Log
	Lost     func(spans int) // counts what did not arrive
	Version  string          // of the gateway
}

// Traces makes spans. It is an [audit.Tracer] and an [audit.SessionRecorder],
// safe for concurrent use.
type Traces struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	wire     propagation.TraceContext
	settings *Settings
}

var (
	_ audit.Tracer          = (*Traces)(nil)
	_ audit.SessionRecorder = (*Traces)(nil)
)

// New begins to export spans; Close ends it.
func New(cfg Config) (*Traces, error) {
	client := newClient(cfg)
	of, err := resource.New(context.Background(), resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("gateway"), semconv.ServiceVersion(cfg.Version)),
		resource.WithFromEnv(), resource.WithSchemaURL(semconv.SchemaURL))
	if err != nil {
		return nil, errors.New("traces: OTEL_RESOURCE_ATTRIBUTES is no list of name=value; separate pairs by commas, and percent-encode values")
	}
	// What the SDK has to say otherwise goes to the log too, and not to stderr.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		cfg.Log.Warn("the OpenTelemetry SDK complains", "cause", err.Error())
	}))
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(newQueue(otlptrace.NewUnstarted(client), cfg.Settings.queue, client.lose)),
		sdk.WithSampler(cfg.Settings.sampler), sdk.WithResource(of))
	t := &Traces{provider: provider, settings: cfg.Settings,
		tracer: provider.Tracer(scope, trace.WithInstrumentationVersion(cfg.Version), trace.WithSchemaURL(semconv.SchemaURL))}
	cfg.Log.Info("calls are traced", "gateway.traces.endpoint", cfg.Settings.Endpoint())
	if cfg.Settings.plainKeys {
		cfg.Log.Warn("OTEL_EXPORTER_OTLP_HEADERS cross the network in clear text", "gateway.traces.endpoint", cfg.Settings.Endpoint(),
			"remedy", "set an endpoint with https://, or one on loopback, if one of them is a key")
	}
	return t, nil
}

// Close sends what waits, and gives up when ctx ends.
func (t *Traces) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

func sorted(names iter.Seq[string]) []string { return slices.Sorted(names) }

// text adds an attribute unless it is empty.
func text(list []attribute.KeyValue, name, value string) []attribute.KeyValue {
	if value == "" {
		return list
	}
	return append(list, attribute.String(name, value))
}
