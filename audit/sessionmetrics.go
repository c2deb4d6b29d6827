package audit

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// The metrics of the SQL doors.
var (
	sSQLSessions  = Series{"gateway_sql_sessions", "gauge", "Sessions of database drivers that are open.", nil}
	sSQLLogins    = Series{"gateway_sql_logins_total", "counter", "Logins of database drivers, by what became of them: success, or why not.", []string{"result"}}
	sSQLLogin     = Series{"gateway_sql_login_seconds", "histogram", "Parts of logins at servers, by phase: token, dial, prelogin, tls, login; all hops together.", []string{"phase"}}
	sSQLRedirects = Series{"gateway_sql_redirects_total", "counter", "Redirects of servers that were followed.", nil}
	sSQLRelogins  = Series{"gateway_sql_relogins_total", "counter", "Logins made anew behind a session whose token was near its end: success, kept when it failed and the old token is still good, failed, unfit when the session could not go on.", []string{"result"}}
	sSQLRenewals  = Series{"gateway_sql_token_renewals_total", "counter", "Tokens that a server refused and that were renewed by force.", nil}
	sSQLErrors    = Series{"gateway_sql_upstream_errors_total", "counter", "Logins that a server refused, by its number; other for those that are not well known.", []string{"number"}}
	sSQLBytes     = Series{"gateway_sql_bytes_total", "counter", "Bytes of sessions, by direction: in from clients, out to them.", []string{"direction"}}
)

func sqlSeries() []Series {
	return []Series{sSQLSessions, sSQLLogins, sSQLLogin, sSQLRedirects, sSQLRelogins, sSQLRenewals, sSQLErrors, sSQLBytes}
}

// sqlMetrics are those that are counted as they happen.
type sqlMetrics struct {
	logins, relogins, errors *prometheus.CounterVec
	login                    *prometheus.HistogramVec
	redirects, renewals      prometheus.Counter
}

// newSQLMetrics begins every series of a closed set at zero, so that the first
// failure is an increase.
func newSQLMetrics() sqlMetrics {
	m := sqlMetrics{
		logins: counter(sSQLLogins), relogins: counter(sSQLRelogins), errors: counter(sSQLErrors), login: histogram(sSQLLogin),
		redirects: prometheus.NewCounter(prometheus.CounterOpts{Name: sSQLRedirects.Name, Help: sSQLRedirects.Help}),
		renewals:  prometheus.NewCounter(prometheus.CounterOpts{Name: sSQLRenewals.Name, Help: sSQLRenewals.Help}),
	}
	for _, r := range LoginResults() {
		m.logins.WithLabelValues(string(r))
	}
	for _, phase := range loginPhases() {
		m.login.WithLabelValues(phase)
	}
	for _, result := range []string{"success", "kept", "failed", "unfit"} {
		m.relogins.WithLabelValues(result)
	}
	m.errors.WithLabelValues("other")
	return m
}

func (m *sqlMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.logins, m.relogins, m.errors, m.login, m.redirects, m.renewals}
}

// RecordSession implements [SessionRecorder]: logins are counted when they are
// done.
func (m *Metrics) RecordSession(s *Session) {
	if !s.End.IsZero() {
		return
	}
	m.sql.logins.WithLabelValues(string(s.Result)).Inc()
	for _, phase := range loginPhases() {
		if took, ok := s.Phases[phase]; ok {
			m.sql.login.WithLabelValues(phase).Observe(took.Seconds())
		}
	}
	m.sql.redirects.Add(float64(s.Redirects))
	if s.Renewed {
		m.sql.renewals.Inc()
	}
	if s.Result == LoginUpstreamRefused {
		m.sql.errors.WithLabelValues(errorLabel(s.Number)).Inc()
	}
}

// SQLCounted counts what happens within a session, and so has no record:
// "relogin" with its result, "renewal" of a token for one.
func (m *Metrics) SQLCounted(what, result string) {
	switch what {
	case "relogin":
		m.sql.relogins.WithLabelValues(result).Inc()
	case "renewal":
		m.sql.renewals.Inc()
	}
}

// errorLabel bounds the numbers to those that operators look for: drivers' lists
// of transient errors, and what a login at Azure SQL is refused with.
func errorLabel(number int32) string {
	switch number {
	case 916, 4060, 5701, 10928, 10929, 17830, 18450, 18451, 18452, 18456, 18470, 33134, 33155, 37396, 37397,
		40020, 40143, 40166, 40197, 40501, 40531, 40532, 40540, 40544, 40549, 40613, 40615, 42108, 42109, 45168, 47073, 47089:
		return strconv.Itoa(int(number))
	}
	return "other"
}

func describeSQL(ch chan<- *prometheus.Desc) {
	ch <- desc(sSQLSessions)
	ch <- desc(sSQLBytes)
}

func (s *State) collectSQL(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(desc(sSQLSessions), prometheus.GaugeValue, float64(s.SQLSessions))
	ch <- prometheus.MustNewConstMetric(desc(sSQLBytes), prometheus.CounterValue, float64(s.SQLBytesIn), "in")
	ch <- prometheus.MustNewConstMetric(desc(sSQLBytes), prometheus.CounterValue, float64(s.SQLBytesOut), "out")
}
