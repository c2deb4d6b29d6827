package tracing_test

import (
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/tracing"
)

func TestTracesAreOffUnlessSomebodySaysWhereTo(t *testing.T) {
	for name, vars := range map[string]map[string]string{
		"nothing set":      {},
		"a name alone":     {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"},
		"an empty value":   {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
		"disabled":         {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "TRUE"},
		"no exporter":      {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"},
		"off and mistaken": {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
	} {
		if s, err := tracing.Read(environment(vars)); s != nil || err != nil {
			t.Errorf("%s: Read = %v, %v, want traces off", name, s, err)
		}
	}
}

func TestEndpointIsFoundAsTheSpecificationSays(t *testing.T) {
	for want, vars := range map[string]map[string]string{
		"http://localhost:4318/v1/traces":      {"OTEL_TRACES_EXPORTER": "otlp"},
		"http://c:4318/v1/traces":              {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"},
		"https://c/base/v1/traces":             {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c/base/", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
		"https://other/":                       {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://other"},
		"http://127.0.0.1:1/custom/traces/api": {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/custom/traces/api?key=hidden"},
	} {
		s, err := tracing.Read(environment(vars))
		if err != nil {
			t.Errorf("%v: %v", vars, err)
		} else if got := s.Endpoint(); got != want {
			t.Errorf("%v: endpoint %s, want %s", vars, got, want)
		}
	}
}

func TestWhatCannotBeDoneIsRefusedWithAHint(t *testing.T) {
	on := "http://localhost:4318"
	for name, tt := range map[string]struct {
		vars map[string]string
		want string
	}{
		"gRPC":               {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\"; set http/protobuf, and as endpoint the collector's OTLP port for HTTP"},
		"gRPC for traces":    {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"},
		"JSON":               {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http/protobuf"},
		"console":            {map[string]string{"OTEL_TRACES_EXPORTER": "console"}, "debug exporter"},
		"no scheme":          {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "http://HOST:4318"},
		"password in it":     {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:hidden@c:4318"}, "OTEL_EXPORTER_OTLP_HEADERS"},
		"headers of nothing": {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_EXPORTER_OTLP_HEADERS": "hidden"}, "name=value"},
		"field name":         {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_EXPORTER_OTLP_HEADERS": "a b=hidden"}, "name=value"},
		"line break":         {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_EXPORTER_OTLP_HEADERS": "a=hidden%0d%0ab: c"}, "name=value"},
		"timeout":            {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, "milliseconds"},
		"queue":              {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "a number of spans"},
		"compression":        {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, "gzip or none"},
		"CA":                 {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere.pem"}, "PEM file of CA"},
		"certificate":        {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/nowhere.pem"}, "two PEM files"},
		"sampler":            {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_TRACES_SAMPLER": "jaeger_remote"}, "parentbased_"},
		"ratio":              {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "NaN"}, "from 0 to 1"},
		"propagator":         {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_PROPAGATORS": "tracecontext,b3"}, "W3C traceparent"},
		"all at once":        {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": on, "OTEL_PROPAGATORS": "b3", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_PROPAGATORS"},
	} {
		s, err := tracing.Read(environment(tt.vars))
		if err == nil || s != nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: Read = %v, want %q in it and no value that may be a secret", name, err, tt.want)
		}
		if name == "all at once" && strings.Count(err.Error(), "traces: ") != 2 {
			t.Errorf("Read = %v, want both mistakes", err)
		}
	}
}

func TestVariablesOfTheTableAreRead(t *testing.T) {
	asked := map[string]bool{}
	_, err := tracing.Read(func(name string) (string, bool) {
		asked[name] = true
		return map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "traceidratio"}[name], true
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range tracing.Variables() {
		// The SDK reads those of the resource and of batches.
		if sdks := strings.HasPrefix(v.Name, "OTEL_BSP_") && v.Name != "OTEL_BSP_MAX_QUEUE_SIZE" || v.Name == "OTEL_SERVICE_NAME" || v.Name == "OTEL_RESOURCE_ATTRIBUTES"; !asked[v.Name] && !sdks {
			t.Errorf("%s stands in the table and is not read", v.Name)
		}
		delete(asked, v.Name)
	}
	for name := range asked {
		if !strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_TRACES_") {
			t.Errorf("%s is read and stands in no table", name)
		}
	}
}

func FuzzNoVariableOfTheEnvironmentPanicsOrIsShown(f *testing.F) {
	f.Add("http://localhost:4318", "a=b,c=d%20e", "0.5")
	f.Add("https://[::1", "=%zz", "1e400")
	f.Fuzz(func(t *testing.T, endpoint, headers, ratio string) {
		const secret = "sEcReT-value"
		s, err := tracing.Read(environment(map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_HEADERS": headers + ",k=" + secret,
			"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio,
		}))
		if err != nil && strings.Contains(err.Error(), secret) && !strings.Contains(ratio, secret) {
			t.Errorf("the error shows a header: %v", err)
		}
		if s != nil && (err != nil || !strings.HasPrefix(s.Endpoint(), "http")) {
			t.Errorf("Read = %s, %v", s.Endpoint(), err)
		}
	})
}
