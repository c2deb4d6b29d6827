package audit

import (
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics counts what happens, under the names of the reference. Labels are
// names from routes.yaml or members of closed sets, never a path, a query or a
// tenant.
type Metrics struct {
	registry *prometheus.Registry

	requests         *prometheus.CounterVec
	duration         *prometheus.HistogramVec
	upstream         *prometheus.HistogramVec
	retries          *prometheus.CounterVec
	refusals         *prometheus.CounterVec
	tokenRequests    *prometheus.CounterVec
	tokenDuration    *prometheus.HistogramVec
	tokenLookups     *prometheus.CounterVec
	auditLost        prometheus.Counter
	spansLost        prometheus.Counter
	reloadSuccessful prometheus.Gauge
	reloadTime       prometheus.Gauge
	sql              sqlMetrics
}

// buckets span a cache hit on loopback to a slow report, in seconds.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}

// Series is one metric as the reference lists it.
type Series struct {
	Name, Kind, Help string
	Labels           []string
}

// The table of metrics, from which they are made and documented.
var (
	sRequests      = Series{"gateway_requests_total", "counter", "Calls answered, by status code.", []string{"route", "caller", "door", "code"}}
	sDuration      = Series{"gateway_request_duration_seconds", "histogram", "From the call's arrival to the last byte of its answer.", []string{"route", "door"}}
	sUpstream      = Series{"gateway_upstream_duration_seconds", "histogram", "From sending to the header of the upstream's answer, both tries together.", []string{"route"}}
	sRetries       = Series{"gateway_retries_total", "counter", "Tokens that upstreams did not take, by what came of it: recovered, refused_again, not_replayable, held_back after a 401; mismatch after one that names another tenant or audience; sign_in for a sign-in page instead of a 401.", []string{"route", "result"}}
	sRefusals      = Series{"gateway_refusals_total", "counter", "Calls that the gateway itself refused, by code.", []string{"code"}}
	sTokenRequests = Series{"gateway_token_requests_total", "counter", "Requests to token endpoints, by result: success, refused, throttled, unavailable.", []string{"credential", "result"}}
	sTokenDuration = Series{"gateway_token_request_duration_seconds", "histogram", "Duration of requests to token endpoints.", []string{"credential"}}
	sTokenLookups  = Series{"gateway_token_lookups_total", "counter", "Tokens handed out, by where they came from.", []string{"source"}}
	sAuditLost     = Series{"gateway_audit_lost_total", "counter", "Audit records that could not be written.", nil}
	sSpansLost     = Series{"gateway_trace_spans_lost_total", "counter", "Spans that did not arrive at the collector: the queue was full, or they could not be sent.", nil}
	sReloadOK      = Series{"gateway_config_last_reload_successful", "gauge", "1 when the last reading of routes.yaml succeeded, 0 while an older table stays in force.", nil}
	sReloadTime    = Series{"gateway_config_last_reload_success_timestamp_seconds", "gauge", "When routes.yaml was last read with success.", nil}
	sEntries       = Series{"gateway_token_cache_entries", "gauge", "Tokens in the cache.", nil}
	sBytes         = Series{"gateway_token_cache_bytes", "gauge", "Memory that the cached tokens account for.", nil}
	sTokenExpiry   = Series{"gateway_token_expiry_timestamp_seconds", "gauge", "Expiry of the cached token of each credential and scope of static routes.", []string{"credential", "scope"}}
	sCredReady     = Series{"gateway_credential_ready", "gauge", "1 when the credential could be loaded and was not refused since, but for one scope.", []string{"credential"}}
	sCredExpiry    = Series{"gateway_credential_expiry_timestamp_seconds", "gauge", "When what proves the credential ends: a certificate, a federated token. Absent when that has no end, or none that the gateway could know, as a secret.", []string{"credential"}}
	sCredFallback  = Series{"gateway_credential_fallback", "gauge", "1 while this credential is refused and its fallback is in use.", []string{"credential"}}
	sTunnels       = Series{"gateway_tunnels", "gauge", "Tunnels that are open, intercepted and passed through.", nil}
	sBuild         = Series{"gateway_build_info", "gauge", "Always 1; the labels say what runs.", []string{"version", "goversion"}}
)

// AllSeries lists the gateway's own metrics for the reference.
func AllSeries() []Series {
	return append([]Series{sRequests, sDuration, sUpstream, sRetries, sRefusals, sAuditLost, sSpansLost, sTokenRequests, sTokenDuration,
		sTokenLookups, sEntries, sBytes, sTokenExpiry, sCredReady, sCredExpiry, sCredFallback, sReloadOK, sReloadTime, sTunnels, sBuild}, sqlSeries()...)
}

// State is what the gauges show at the moment of a scrape.
type State struct {
	CacheEntries int
	CacheBytes   int64
	Tunnels      int64
	SQLSessions  int // open
	// SQLBytesIn and SQLBytesOut passed since the start, those of sessions that
	// are still open included.
	SQLBytesIn, SQLBytesOut int64
	Tokens                  []TokenState
	Credentials             []CredentialState
}

// TokenState is the cached token of a static route.
type TokenState struct {
	Credential, Scope string
	Expires           time.Time
}

// CredentialState is one credential; Expires is zero when it has no end, or
// none that is known. Fallback: it is refused, and another stands in for it.
type CredentialState struct {
	Name     string
	Ready    bool
	Fallback bool
	Expires  time.Time
}

// NewMetrics makes a registry with the gateway's metrics, Go's and the
// process's. state is called at each scrape.
func NewMetrics(version string, state func() State) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), sql: newSQLMetrics(),
		requests: counter(sRequests), retries: counter(sRetries), refusals: counter(sRefusals),
		tokenRequests: counter(sTokenRequests), tokenLookups: counter(sTokenLookups),
		duration: histogram(sDuration), upstream: histogram(sUpstream), tokenDuration: histogram(sTokenDuration),
		auditLost:        prometheus.NewCounter(prometheus.CounterOpts{Name: sAuditLost.Name, Help: sAuditLost.Help}),
		spansLost:        prometheus.NewCounter(prometheus.CounterOpts{Name: sSpansLost.Name, Help: sSpansLost.Help}),
		reloadSuccessful: prometheus.NewGauge(prometheus.GaugeOpts{Name: sReloadOK.Name, Help: sReloadOK.Help}),
		reloadTime:       prometheus.NewGauge(prometheus.GaugeOpts{Name: sReloadTime.Name, Help: sReloadTime.Help}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: sBuild.Name, Help: sBuild.Help}, sBuild.Labels)
	build.WithLabelValues(version, runtime.Version()).Set(1)
	m.registry.MustRegister(m.requests, m.duration, m.upstream, m.retries, m.refusals, m.auditLost, m.spansLost,
		m.tokenRequests, m.tokenDuration, m.tokenLookups, m.reloadSuccessful, m.reloadTime, build,
		stateCollector{state}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(m.sql.all()...)
	return m
}

func counter(s Series) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: s.Name, Help: s.Help}, s.Labels)
}

func histogram(s Series) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: s.Name, Help: s.Help, Buckets: buckets}, s.Labels)
}

// Record implements [Recorder].
func (m *Metrics) Record(e *Event) {
	m.requests.WithLabelValues(e.Route, e.Caller, string(e.Door), strconv.Itoa(e.Status)).Inc()
	m.duration.WithLabelValues(e.Route, string(e.Door)).Observe(e.Duration.Seconds())
	if e.Upstream > 0 {
		m.upstream.WithLabelValues(e.Route).Observe(e.Upstream.Seconds())
	}
	if e.Retry != "" {
		m.retries.WithLabelValues(e.Route, string(e.Retry)).Inc()
	}
	if e.Code != "" {
		m.refusals.WithLabelValues(e.Code).Inc()
	}
}

// Lookup counts a token that was handed out.
func (m *Metrics) Lookup(source string) { m.tokenLookups.WithLabelValues(source).Inc() }

// TokenRequest counts one request to a token endpoint.
func (m *Metrics) TokenRequest(credential, result string, took time.Duration) {
	m.tokenRequests.WithLabelValues(credential, result).Inc()
	m.tokenDuration.WithLabelValues(credential).Observe(took.Seconds())
}

// AuditLost counts audit records that could not be written.
func (m *Metrics) AuditLost(n int) { m.auditLost.Add(float64(n)) }

// SpansLost counts spans that did not arrive at a collector.
func (m *Metrics) SpansLost(n int) { m.spansLost.Add(float64(n)) }

// Reloaded notes the outcome of a reading of routes.yaml.
func (m *Metrics) Reloaded(ok bool) {
	if !ok {
		m.reloadSuccessful.Set(0)
		return
	}
	m.reloadSuccessful.Set(1)
	m.reloadTime.SetToCurrentTime()
}

// Handler serves the metrics in Prometheus' formats.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// stateCollector asks for the state at each scrape, so that nothing has to be
// kept in step with it.
type stateCollector struct{ state func() State }

func desc(s Series) *prometheus.Desc { return prometheus.NewDesc(s.Name, s.Help, s.Labels, nil) }

// Describe implements prometheus.Collector.
func (stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range []Series{sEntries, sBytes, sTokenExpiry, sCredReady, sCredExpiry, sCredFallback, sTunnels} {
		ch <- desc(s)
	}
	describeSQL(ch)
}

// Collect implements prometheus.Collector.
func (c stateCollector) Collect(ch chan<- prometheus.Metric) {
	state := c.state()
	gauge := func(s Series, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc(s), prometheus.GaugeValue, v, labels...)
	}
	gauge(sEntries, float64(state.CacheEntries))
	gauge(sBytes, float64(state.CacheBytes))
	gauge(sTunnels, float64(state.Tunnels))
	state.collectSQL(ch)
	for _, t := range state.Tokens {
		gauge(sTokenExpiry, float64(t.Expires.Unix()), t.Credential, t.Scope)
	}
	for _, cr := range state.Credentials {
		gauge(sCredReady, boolean(cr.Ready), cr.Name)
		gauge(sCredFallback, boolean(cr.Fallback), cr.Name)
		if !cr.Expires.IsZero() {
			gauge(sCredExpiry, float64(cr.Expires.Unix()), cr.Name)
		}
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
