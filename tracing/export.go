package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	// firstPause is before the second try of a batch; each further one doubles it.
	firstPause = 500 * time.Millisecond
	// maxAnswer bounds what is read of a collector's answer, in bytes.
	maxAnswer = 64 << 10
	// tellAgain is how long the log is silent about lost spans after a line.
	tellAgain = time.Minute
)

// client sends batches over OTLP/HTTP with protobuf. It stands in for the SDK's
// own, which links gRPC. It is safe for concurrent use.
type client struct {
	settings *Settings
	http     *http.Client
	log      Log
	counted  func(spans int)
	now      func() time.Time

	mu   sync.Mutex // guards what follows
	said time.Time  // when the log was last told of a loss
	lost int        // spans since
	down bool       // the last batch was lost
}

func newClient(cfg Config) *client {
	s, dialer := cfg.Settings, cfg.Dialer
	return &client{settings: s, log: cfg.Log, counted: cfg.Lost, now: time.Now, http: &http.Client{
		// Its headers may be keys, which are the endpoint's alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: nil, // the next hop is the dialer's affair, never the environment's
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				ctx, cancel := context.WithTimeout(ctx, s.timeout)
				defer cancel()
				return dialer.DialContext(ctx, network, addr)
			},
			TLSClientConfig: s.tls, TLSHandshakeTimeout: s.timeout, MaxConnsPerHost: 2,
			IdleConnTimeout: 90 * time.Second, DisableCompression: true, ForceAttemptHTTP2: true,
			MaxResponseHeaderBytes: maxAnswer,
		},
	}}
}

// Start and Stop implement [otlptrace.Client].
func (c *client) Start(context.Context) error { return nil }

// Stop closes connections.
func (c *client) Stop(context.Context) error {
	c.http.CloseIdleConnections()
	return nil
}

// UploadTraces sends one batch. What cannot be sent is lost and told to the log,
// here and not by the SDK: so it never fails.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// TracesData is on the wire what ExportTraceServiceRequest is, which would
	// link gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		c.lose(count(spans), fmt.Errorf("encode spans: %w", err))
		return nil
	}
	if c.settings.gzip {
		body = zipped(body)
	}
	ctx, cancel := context.WithTimeout(ctx, c.settings.timeout)
	defer cancel()
	rejected, err := c.send(ctx, body)
	switch {
	case err != nil:
		c.lose(count(spans), err)
	case rejected > 0:
		c.lose(int(rejected), errors.New("the collector rejected them and took the others"))
	default:
		c.arrived()
	}
	return nil
}

// send tries until ctx ends, as OTLP wants it: again after what may pass. It
// returns how many spans the collector rejected of those that it took.
func (c *client) send(ctx context.Context, body []byte) (rejected int64, err error) {
	for pause := firstPause; ; pause *= 2 {
		rejected, wait, err := c.post(ctx, body)
		if err == nil || wait < 0 {
			return rejected, err
		}
		wait = max(wait, pause/2+rand.N(pause))
		if end, ok := ctx.Deadline(); ok && c.now().Add(wait).After(end) {
			return 0, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, err
		}
	}
}

// post tries once. wait is how long to wait at least before the next try,
// negative if there should be none.
func (c *client) post(ctx context.Context, body []byte) (rejected int64, wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.settings.endpoint.String(), bytes.NewReader(body))
	if err != nil {
		return 0, -1, errors.New("the endpoint is no URL that can be called")
	}
	for name, value := range c.settings.headers {
		req.Header.Set(name, value.Reveal())
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "gateway-otlp")
	if c.settings.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, 0, plain(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch status := resp.StatusCode; {
	case status/100 == 2 && err == nil:
		return rejectedOf(answer), 0, nil
	case status/100 == 2:
		return 0, -1, fmt.Errorf("read the collector's answer: %w", plain(err))
	case status == http.StatusTooManyRequests || status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout:
		return 0, retryAfter(resp.Header.Get("Retry-After")), statusError(status)
	default:
		return 0, -1, statusError(status)
	}
}

// statusError is an answer other than 2xx. Its body is not told: anybody may
// have written it.
type statusError int

func (e statusError) Error() string {
	return fmt.Sprintf("the collector answered %d %s", int(e), http.StatusText(int(e)))
}

// plain takes the URL, which may hide a key, out of an error of net/http.
func plain(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}

// retryAfter reads the seconds of a Retry-After field.
func retryAfter(value string) time.Duration {
	seconds, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// rejectedOf reads an ExportTraceServiceResponse: partial_success is 1, and
// rejected_spans 1 in it. What is no such message rejects nothing.
func rejectedOf(answer []byte) (n int64) {
	fields(answer, func(number protowire.Number, kind protowire.Type, value []byte) {
		if number != 1 || kind != protowire.BytesType {
			return
		}
		partial, _ := protowire.ConsumeBytes(value)
		fields(partial, func(number protowire.Number, kind protowire.Type, value []byte) {
			if number == 1 && kind == protowire.VarintType {
				v, _ := protowire.ConsumeVarint(value)
				n = max(int64(v), 0)
			}
		})
	})
	return n
}

// fields calls see for each field of a message, and stops at what is none.
func fields(b []byte, see func(protowire.Number, protowire.Type, []byte)) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		size := protowire.ConsumeFieldValue(number, kind, b[n:])
		if size < 0 {
			return
		}
		see(number, kind, b[n:n+size])
		b = b[n+size:]
	}
}

func zipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b) // to memory
	_ = w.Close()
	return out.Bytes()
}

func count(all []*tracepb.ResourceSpans) (n int) {
	for _, resource := range all {
		for _, scope := range resource.ScopeSpans {
			n += len(scope.Spans)
		}
	}
	return n
}

// lose counts lost spans, and tells the log of them at most once a minute.
func (c *client) lose(n int, err error) {
	c.counted(n)
	c.mu.Lock()
	c.down, c.lost = true, c.lost+n
	now, lost := c.now(), c.lost
	if !c.said.IsZero() && now.Sub(c.said) < tellAgain {
		c.mu.Unlock()
		return
	}
	c.said, c.lost = now, 0
	c.mu.Unlock()
	c.log.Warn("spans were lost; calls go on", "gateway.traces.lost", lost, "gateway.traces.endpoint", c.settings.Endpoint(),
		"cause", err.Error(), "remedy", c.remedy(err))
}

// arrived tells the log once that spans arrive again.
func (c *client) arrived() {
	c.mu.Lock()
	again := c.down
	c.down = false
	c.mu.Unlock()
	if again {
		c.log.Info("spans arrive again", "gateway.traces.endpoint", c.settings.Endpoint())
	}
}

func (c *client) remedy(err error) string {
	var status statusError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errQueueFull):
		return "see that the collector answers fast enough; raise OTEL_BSP_MAX_QUEUE_SIZE, or trace fewer calls by OTEL_TRACES_SAMPLER"
	case errors.As(err, &status) && (status == http.StatusUnauthorized || status == http.StatusForbidden):
		return "set the collector's key in OTEL_EXPORTER_OTLP_HEADERS; names that are set: " + fmt.Sprint(sorted(maps.Keys(c.settings.headers)))
	case errors.As(err, &status) && status == http.StatusNotFound:
		return "OTEL_EXPORTER_OTLP_ENDPOINT is the base, to which " + tracesPath + " is added; OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is the whole URL"
	case errors.As(err, &status) && status/100 == 3:
		return "redirects are not followed: name the URL that they lead to"
	case errors.As(err, &status):
		return "see the collector's log"
	case errors.As(err, &verify):
		return "name the CA of the collector's certificate by OTEL_EXPORTER_OTLP_CERTIFICATE"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "the collector speaks no TLS there: set an endpoint with http://"
	}
	return "see that a collector listens there for OTLP over HTTP, at port 4318 by default (4317 is gRPC's), and that egress.proxy, if there is one, leads there or bypasses it"
}
