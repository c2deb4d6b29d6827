package tracing

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/secrets"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

const (
	// defaultEndpoint is where the specification looks for a collector.
	defaultEndpoint = "http://localhost:4318"
	tracesPath      = "/v1/traces"
	defaultTimeout  = 10 * time.Second
)

// Variable is one of the environment that tracing obeys.
type Variable struct{ Name, Default, Doc string }

// Variables are all of them, in the order of the reference.
func Variables() []Variable {
	return []Variable{
		{"OTEL_SDK_DISABLED", "false", "`true` turns traces off, whatever else is set"},
		{"OTEL_TRACES_EXPORTER", "", "`otlp` turns them on, `none` off; without it they are on when an endpoint is set. Others are refused"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", defaultEndpoint, "the collector's base URL; `" + tracesPath + "` is added"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "", "the whole URL instead"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "that and nothing else: `grpc` and `http/json` are refused"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "", "`name=value,…`, values percent-encoded; often a key, and never shown"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "10000", "ms for each batch, further tries included"},
		{"OTEL_EXPORTER_OTLP_COMPRESSION", "none", "`gzip` or `none`"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", "", "PEM file: the CAs to trust instead of the system's"},
		{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "", "PEM file: the certificate to show"},
		{"OTEL_EXPORTER_OTLP_CLIENT_KEY", "", "PEM file: its key"},
		{"OTEL_SERVICE_NAME", "gateway", "`service.name` of the resource"},
		{"OTEL_RESOURCE_ATTRIBUTES", "", "`name=value,…` of the resource"},
		{"OTEL_TRACES_SAMPLER", "parentbased_always_on", "`always_on`, `always_off`, `traceidratio`, and each with `parentbased_` before it, which lets the caller's sampled flag decide, that of callers that are refused too"},
		{"OTEL_TRACES_SAMPLER_ARG", "1", "the ratio, 0 to 1, for `traceidratio`"},
		{"OTEL_PROPAGATORS", "tracecontext,baggage", "`none` lets `traceparent` pass as it came; baggage always passes as it came. Others are refused"},
		{"OTEL_BSP_SCHEDULE_DELAY", "5000", "ms between batches"},
		{"OTEL_BSP_EXPORT_TIMEOUT", "30000", "ms for each batch, if that is less"},
		{"OTEL_BSP_MAX_QUEUE_SIZE", "2048", "spans that wait; more are dropped, and no call waits for them"},
		{"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512", "spans of one batch"},
	}
}

// Settings are what the environment says of tracing.
type Settings struct {
	endpoint *url.URL
	headers  map[string]secrets.Secret
	timeout  time.Duration
	gzip     bool
	tls      *tls.Config
	sampler  sdk.Sampler
	queue    int // spans that may wait
	continued,
	plainKeys bool // headers travel in clear text, off loopback
}

// Read says what the environment, which lookup reads, wants of tracing: nil for
// none. The error names all that cannot be done, each with its remedy.
func Read(lookup func(name string) (string, bool)) (*Settings, error) {
	r := reader{lookup: lookup}
	if !r.wanted() {
		return nil, errors.Join(r.mistakes...)
	}
	s := &Settings{endpoint: r.endpoint(), headers: r.headers(), timeout: r.timeout(), tls: r.tls(), sampler: r.sampler(), queue: r.queue(), continued: r.continued()}
	if name, protocol := r.otlp("PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		r.wrong(name, fmt.Sprintf("is %q", protocol), "set http/protobuf, and as endpoint the collector's OTLP port for HTTP, 4318 by default; collectors take both")
	}
	switch name, value := r.otlp("COMPRESSION"); value {
	case "", "none":
	case "gzip":
		s.gzip = true
	default:
		r.wrong(name, fmt.Sprintf("is %q", value), "set gzip or none")
	}
	if len(r.mistakes) > 0 {
		return nil, errors.Join(r.mistakes...)
	}
	s.plainKeys = len(s.headers) > 0 && s.endpoint.Scheme == "http" && !loopback(s.endpoint.Hostname())
	return s, nil
}

// Endpoint is where spans go to, without what a URL may hide.
func (s *Settings) Endpoint() string {
	return s.endpoint.Scheme + "://" + s.endpoint.Host + s.endpoint.EscapedPath()
}

// reader reads variables and collects mistakes.
type reader struct {
	lookup   func(string) (string, bool)
	mistakes []error
}

// get is a variable's value; an empty one counts as unset, by the specification.
func (r *reader) get(name string) string {
	value, _ := r.lookup(name)
	return strings.TrimSpace(value)
}

// otlp reads the exporter's variable of that ending: that for traces before that
// for all signals.
func (r *reader) otlp(ending string) (name, value string) {
	name = "OTEL_EXPORTER_OTLP_TRACES_" + ending
	if value = r.get(name); value != "" {
		return name, value
	}
	name = "OTEL_EXPORTER_OTLP_" + ending
	return name, r.get(name)
}

func (r *reader) wrong(name, what, remedy string) {
	r.mistakes = append(r.mistakes, fmt.Errorf("traces: %s %s; %s", name, what, remedy))
}

// wanted tells whether traces are to be made.
func (r *reader) wanted() bool {
	if strings.EqualFold(r.get("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	switch exporter := r.get("OTEL_TRACES_EXPORTER"); exporter {
	case "":
		_, endpoint := r.otlp("ENDPOINT")
		return endpoint != ""
	case "otlp":
		return true
	case "none":
		return false
	default:
		r.wrong("OTEL_TRACES_EXPORTER", fmt.Sprintf("is %q", exporter), "set otlp or none; a collector turns OTLP into whatever else is wanted, its debug exporter into text")
		return false
	}
}

func (r *reader) endpoint() *url.URL {
	name, value := r.otlp("ENDPOINT")
	path := ""
	if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
		value, path = cmp.Or(value, defaultEndpoint), tracesPath
	}
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		// The value is not shown: it may hold a password.
		r.wrong(name, "is no URL that can be used", "set http://HOST:4318 or https://HOST; keys belong into OTEL_EXPORTER_OTLP_HEADERS")
		return &url.URL{}
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	u.RawPath = ""
	if u.Path == "" {
		u.Path = "/"
	}
	return u
}

func (r *reader) headers() map[string]secrets.Secret {
	name, value := r.otlp("HEADERS")
	all := map[string]secrets.Secret{}
	for pair := range strings.SplitSeq(value, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		key, encoded, ok := strings.Cut(pair, "=")
		text, err := url.PathUnescape(strings.TrimSpace(encoded))
		key = strings.TrimSpace(key)
		if !ok || err != nil || !isToken(key) || strings.ContainsAny(text, "\r\n\x00") {
			r.wrong(name, "is no list of name=value", "separate pairs by commas, and percent-encode values: api-key=abc,other=a%20b")
			return nil
		}
		all[http.CanonicalHeaderKey(key)] = secrets.New(text)
	}
	return all
}

// isToken tells a field name of HTTP (RFC 9110 §5.6.2).
func isToken(s string) bool {
	return s != "" && strings.IndexFunc(s, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	}) < 0
}

func (r *reader) timeout() time.Duration {
	name, value := r.otlp("TIMEOUT")
	if value == "" {
		return defaultTimeout
	}
	ms, err := strconv.ParseUint(value, 10, 31)
	if err != nil || ms == 0 {
		r.wrong(name, fmt.Sprintf("is %q", value), "set milliseconds, such as 10000")
	}
	return time.Duration(ms) * time.Millisecond
}

// queue is how many spans may wait. The bound keeps a slip from taking all memory.
func (r *reader) queue() int {
	const name = "OTEL_BSP_MAX_QUEUE_SIZE"
	value := r.get(name)
	if value == "" {
		return sdk.DefaultMaxQueueSize
	}
	n, err := strconv.ParseUint(value, 10, 20)
	if err != nil || n == 0 {
		r.wrong(name, fmt.Sprintf("is %q", value), "set a number of spans from 1 to 1048575, such as 2048")
	}
	return int(n)
}

func (r *reader) tls() *tls.Config {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if name, path := r.otlp("CERTIFICATE"); path != "" {
		pem, err := os.ReadFile(path)
		conf.RootCAs = x509.NewCertPool()
		if err != nil || !conf.RootCAs.AppendCertsFromPEM(pem) {
			r.wrong(name, "names "+path+", which holds no certificate that can be read", "name a PEM file of CA certificates")
		}
	}
	certName, cert := r.otlp("CLIENT_CERTIFICATE")
	_, key := r.otlp("CLIENT_KEY")
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			r.wrong(certName, "and its CLIENT_KEY cannot be used", "name two PEM files, a certificate and its own key, that the gateway may read")
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf
}

func (r *reader) sampler() sdk.Sampler {
	name := cmp.Or(r.get("OTEL_TRACES_SAMPLER"), "parentbased_always_on")
	var root sdk.Sampler
	kind, parentBased := strings.CutPrefix(name, "parentbased_")
	switch kind {
	case "always_on":
		root = sdk.AlwaysSample()
	case "always_off":
		root = sdk.NeverSample()
	case "traceidratio":
		root = sdk.TraceIDRatioBased(r.ratio())
	default:
		r.wrong("OTEL_TRACES_SAMPLER", fmt.Sprintf("is %q", name), "set always_on, always_off or traceidratio, with parentbased_ before it to have the caller's sampled flag decide")
		return nil
	}
	if parentBased {
		return sdk.ParentBased(root)
	}
	return root
}

func (r *reader) ratio() float64 {
	text := cmp.Or(r.get("OTEL_TRACES_SAMPLER_ARG"), "1")
	ratio, err := strconv.ParseFloat(text, 64)
	if err != nil || !(ratio >= 0 && ratio <= 1) {
		r.wrong("OTEL_TRACES_SAMPLER_ARG", fmt.Sprintf("is %q", text), "set a number from 0 to 1")
	}
	return ratio
}

// continued tells whether traceparent is read and written.
func (r *reader) continued() bool {
	list := cmp.Or(r.get("OTEL_PROPAGATORS"), "tracecontext,baggage")
	continued := false
	for one := range strings.SplitSeq(list, ",") {
		switch one = strings.TrimSpace(one); one {
		case "tracecontext":
			continued = true
		case "baggage", "none":
		default:
			r.wrong("OTEL_PROPAGATORS", fmt.Sprintf("has %q", one), "set tracecontext, baggage or none: W3C traceparent is what the gateway speaks")
		}
	}
	return continued
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
