package admin

import (
	"time"

	"github.com/seed-13b04e61/gateway/audit"
)

// Routes answers GET /api/routes.
type Routes struct {
	Routes []Route `json:"routes"`
	SQL    []Door  `json:"sql"`
}

// Route is one route of the table in force, and what was counted of its calls
// since the start. A call that went wrong counts once: as a refusal of the
// gateway, or as an error of the upstream.
type Route struct {
	Name       string    `json:"name"`
	Line       int       `json:"line"`
	Preset     string    `json:"preset,omitempty"`
	Hosts      []string  `json:"hosts"`
	Mount      string    `json:"mount,omitempty"`
	Scope      string    `json:"scope"`
	Credential string    `json:"credential"`
	Callers    []string  `json:"callers"` // null: any named caller, or anyone where the table has none
	Requests   int64     `json:"requests"`
	Refusals   int64     `json:"refusals"`
	Errors     int64     `json:"errors"` // answers of 400 and above
	P50        float64   `json:"p50_ms"`
	P99        float64   `json:"p99_ms"`
	Rate       float64   `json:"rate_1m"` // calls a second, over the last minute
	Last       time.Time `json:"last,omitzero"`
}

// Door is one SQL door of the table in force, and what was counted of it since
// the start.
type Door struct {
	Name       string    `json:"name"`
	Line       int       `json:"line"`
	Listen     string    `json:"listen"`
	Server     string    `json:"server"` // host:port, several with a space between
	Credential string    `json:"credential"`
	Callers    []string  `json:"callers"`
	Sessions   int64     `json:"sessions"` // open
	Logins     int64     `json:"logins"`   // that succeeded
	Failures   int64     `json:"failures"`
	Last       time.Time `json:"last,omitzero"` // login
}

// Credential is one credential of the table in force, of GET /api/credentials.
type Credential struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"`
	Ready    bool      `json:"ready"`              // by all that is known, a token can be had
	Reason   string    `json:"reason,omitempty"`   // what is wrong with it, although a fallback may stand in
	Remedy   string    `json:"remedy,omitempty"`   // the next step after Reason
	Fallback string    `json:"fallback,omitempty"` // the credential in use in its place
	Expires  time.Time `json:"expires,omitzero"`   // of what proves it; absent when that has no end, or none that is known
	DaysLeft *int      `json:"days_left,omitempty"`
	Skew     float64   `json:"clock_skew"` // this clock minus the token endpoint's, in seconds; 0 within a minute
}

// Token is one token, or the lack of one, of GET /api/tokens.
type Token struct {
	Credential string    `json:"credential"`
	Tenant     string    `json:"tenant,omitempty"`
	Scope      string    `json:"scope"`
	SHA256     string    `json:"sha256,omitempty"` // the first 8 bytes, in hex; "" without a token
	Source     string    `json:"source,omitempty"` // as Gateway-Token-Source would say now
	Obtained   time.Time `json:"obtained,omitzero"`
	RefreshAt  time.Time `json:"refresh_at,omitzero"`
	Expires    time.Time `json:"expires,omitzero"`
	Usable     bool      `json:"usable"`  // a call would get it without waiting
	Failing    bool      `json:"failing"` // acquisitions fail
	Error      string    `json:"error,omitempty"`
	Remedy     string    `json:"remedy,omitempty"`
}

// Status answers GET /api/status.
type Status struct {
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Config   string    `json:"config"` // path of routes.yaml
	Reload   Reading   `json:"reload"`
	Ready    bool      `json:"ready"`
	Degraded []string  `json:"degraded"`
	Requests int64     `json:"requests"` // since the start
	HitRate  *float64  `json:"hit_rate"` // of tokens handed out, the share that was cached; null before the first
}

// Reading is the latest reading of routes.yaml.
type Reading struct {
	OK       bool      `json:"ok"`
	At       time.Time `json:"at"`
	Error    string    `json:"error,omitempty"` // as gateway check prints it, whole
	Warnings []string  `json:"warnings,omitempty"`
}

// Request is one call, of GET /api/requests.
type Request struct {
	ID              uint64    `json:"id"` // grows by one with each call
	RequestID       string    `json:"request_id"`
	TraceID         string    `json:"trace_id,omitempty"`
	Time            time.Time `json:"time"`
	Door            string    `json:"door"`
	Remote          string    `json:"remote,omitempty"`
	Caller          string    `json:"caller,omitempty"`
	CallerHow       string    `json:"caller_how,omitempty"`
	Route           string    `json:"route,omitempty"`
	Rule            int       `json:"rule,omitempty"`       // line of the allow rule that decided
	WouldDeny       string    `json:"would_deny,omitempty"` // mode report
	Credential      string    `json:"credential,omitempty"`
	Tenant          string    `json:"tenant,omitempty"`
	Method          string    `json:"method"`
	Host            string    `json:"host"`
	Path            string    `json:"path"`               // never its query
	Template        string    `json:"template,omitempty"` // the pattern that allowed it
	Status          int       `json:"status"`
	Code            string    `json:"code,omitempty"` // of the gateway's own refusal
	Cause           string    `json:"cause,omitempty"`
	Remark          string    `json:"remark,omitempty"` // what the upstream's answer means
	Remedy          string    `json:"remedy,omitempty"` // the next step after Cause or Remark
	TokenSource     string    `json:"token_source,omitempty"`
	TokenID         string    `json:"token_id,omitempty"`
	TokenWait       float64   `json:"token_wait_ms"`
	Upstream        float64   `json:"upstream_ms"`
	Duration        float64   `json:"duration_ms"`
	Retry           string    `json:"retry,omitempty"`
	BytesIn         int64     `json:"bytes_in"`
	BytesOut        int64     `json:"bytes_out"`
	UpstreamRequest string    `json:"upstream_request,omitempty"`
}

// Session is one login, or the end of its session, of GET /api/sessions.
type Session struct {
	ID          uint64             `json:"id"` // grows by one with each record
	Session     string             `json:"session"`
	Event       string             `json:"event"` // login or end
	Time        time.Time          `json:"time"`  // of the login
	End         time.Time          `json:"end,omitzero"`
	Name        string             `json:"name"` // of the door
	Remote      string             `json:"remote"`
	Caller      string             `json:"caller,omitempty"`
	CallerHow   string             `json:"caller_how,omitempty"`
	User        string             `json:"user,omitempty"` // as the client says
	App         string             `json:"app,omitempty"`
	Library     string             `json:"library,omitempty"`
	Credential  string             `json:"credential,omitempty"`
	TokenSource string             `json:"token_source,omitempty"`
	Server      string             `json:"server,omitempty"`
	Database    string             `json:"database,omitempty"`
	TraceID     string             `json:"client_connection_id,omitempty"`
	Via         []string           `json:"via,omitempty"` // every server that was asked
	Result      string             `json:"result"`
	Number      int32              `json:"number,omitempty"`
	Cause       string             `json:"cause,omitempty"`
	Remedy      string             `json:"remedy,omitempty"`
	Phases      map[string]float64 `json:"phases_ms,omitempty"` // of the login
	Reason      string             `json:"reason,omitempty"`    // of the end
	Duration    float64            `json:"duration_ms,omitempty"`
	BytesIn     int64              `json:"bytes_in,omitempty"`
	BytesOut    int64              `json:"bytes_out,omitempty"`
	Requests    int64              `json:"requests,omitempty"`
	Relogins    int64              `json:"relogins,omitempty"`
}

func requestOf(c *audit.Call) Request {
	return Request{
		ID: c.Number, RequestID: c.RequestID, TraceID: c.TraceID, Time: c.Start, Door: string(c.Door), Remote: c.Remote,
		Caller: c.Caller, CallerHow: c.CallerHow, Route: c.Route, Rule: c.Rule, WouldDeny: c.WouldDeny,
		Credential: c.Credential, Tenant: c.Tenant, Method: c.Method, Host: c.Host, Path: c.Path, Template: c.Template,
		Status: c.Status, Code: c.Code, Cause: c.Cause, Remark: c.Remark, Remedy: c.Remedy,
		TokenSource: c.TokenSource, TokenID: c.TokenID, TokenWait: Milliseconds(c.TokenWait), Upstream: Milliseconds(c.Upstream),
		Duration: Milliseconds(c.Duration), Retry: string(c.Retry), BytesIn: c.BytesIn, BytesOut: c.BytesOut,
		UpstreamRequest: c.UpstreamRequest,
	}
}

func sessionOf(l *audit.Login) Session {
	s := Session{
		ID: l.Number, Session: l.Session.ID, Event: "login", Time: l.Start, End: l.End, Name: l.Name, Remote: l.Remote,
		Caller: l.Caller, CallerHow: l.CallerHow, User: l.User, App: l.App, Library: l.Library,
		Credential: l.Credential, TokenSource: l.TokenSource, Server: l.Server, Database: l.Database, TraceID: l.TraceID, Via: l.Route,
		Result: string(l.Result), Number: l.Session.Number, Cause: l.Cause, Remedy: l.Remedy,
	}
	if !l.End.IsZero() {
		s.Event, s.Reason, s.Duration = "end", l.Reason, Milliseconds(l.End.Sub(l.Start))
		s.BytesIn, s.BytesOut, s.Requests, s.Relogins = l.BytesIn, l.BytesOut, l.Requests, l.Relogins
		return s
	}
	for phase, took := range l.Phases {
		if s.Phases == nil {
			s.Phases = map[string]float64{}
		}
		s.Phases[phase] = Milliseconds(took)
	}
	return s
}

// Milliseconds is d as the API writes durations: to the microsecond.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
