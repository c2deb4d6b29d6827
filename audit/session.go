package audit

import "time"

// Session is what happened to one session of a database driver. It is recorded
// when its login is done, End being zero then, and, if that succeeded, again at
// its end. Strings that come from outside are bounded and printable; none is a
// password, a token or a statement.
type Session struct {
	ID     string // leads from the client's error to this record
	Start  time.Time
	End    time.Time
	Name   string // of the door in routes.yaml
	Remote string

	Caller, CallerHow  string
	Credential         string
	TokenSource        string
	TokenExpires       time.Time
	App, Host, Library string // as the client says
	User               string // as the client says; "" where it was refused, as it may be a key in the wrong place
	Server             string // that the login was for, host:port
	Database           string
	ReadOnly           bool
	Version            string // of TDS, as the client speaks it
	ClientTLS          string // off, mandatory, strict
	MARS               bool
	TraceID            string   // ClientConnectionId
	SPID               uint16   // of the server's session
	Route              []string // host:port of every server that was asked
	Redirects          int      // that were followed

	Result LoginResult
	Number int32  // of the server's refusal, or the gateway's own
	Cause  string // of a failure, in the operator's words
	Remedy string

	// Phases are how long each part of the login took: token, dial, prelogin,
	// tls, login.
	Phases  map[string]time.Duration
	Renewed bool // the server refused the first token, and another was had

	// At the end.
	Reason            string // why it ended
	BytesIn, BytesOut int64
	Requests          int64
	Relogins          int64
}

// LoginResult says what became of a login.
type LoginResult string

// The results of logins.
const (
	LoginSuccess         LoginResult = "success"
	LoginClientError     LoginResult = "client_error"       // it broke off, was too slow, or sent what is no login
	LoginUnsupported     LoginResult = "client_unsupported" // too old, or with a kind of credential that nobody here takes
	LoginCallerUnknown   LoginResult = "caller_unknown"
	LoginCallerForbidden LoginResult = "caller_forbidden"
	LoginRateLimited     LoginResult = "rate_limited" // too many passwords of its source were not believed
	LoginOverloaded      LoginResult = "overloaded"   // the door or the caller has as many sessions as it may
	LoginServerUnknown   LoginResult = "server_unknown"
	LoginTokenRefused    LoginResult = "token_refused"
	LoginTokenMissing    LoginResult = "token_unavailable"
	LoginUnreachable     LoginResult = "upstream_unreachable"
	LoginUpstreamTLS     LoginResult = "upstream_tls"
	LoginUpstreamProxy   LoginResult = "upstream_proxy"    // the next hop refused, or is not there
	LoginUpstreamBroken  LoginResult = "upstream_protocol" // its answer is none that can be used
	LoginReflected       LoginResult = "token_reflected"   // its answer contained our token
	LoginUpstreamRefused LoginResult = "upstream_refused"  // in its own words
	LoginTimeout         LoginResult = "timeout"
	LoginDraining        LoginResult = "draining"
	LoginInternal        LoginResult = "internal" // a defect of ours; logged with its stack
)

// LoginResults are all that [Session.Result] can be.
func LoginResults() []LoginResult {
	return []LoginResult{LoginSuccess, LoginClientError, LoginUnsupported, LoginCallerUnknown, LoginCallerForbidden,
		LoginRateLimited, LoginOverloaded, LoginServerUnknown, LoginTokenRefused, LoginTokenMissing, LoginUnreachable,
		LoginUpstreamTLS, LoginUpstreamProxy, LoginUpstreamBroken, LoginReflected,
		LoginUpstreamRefused, LoginTimeout, LoginDraining, LoginInternal}
}

// SessionRecorder takes the records of sessions. It must not block and must not
// keep s.
type SessionRecorder interface{ RecordSession(s *Session) }

// SessionRecorders hands each record to all.
type SessionRecorders []SessionRecorder

// RecordSession implements [SessionRecorder].
func (rs SessionRecorders) RecordSession(s *Session) {
	for _, r := range rs {
		r.RecordSession(s)
	}
}
