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
	User               string // as the client says; a caller's name or nothing of weight
	Database           string
	ReadOnly           bool
	Version            string // of TDS, as the client speaks it
	ClientTLS          string // off, mandatory, strict
	MARS               bool
	TraceID            string   // ClientConnectionId
	SPID               uint16   // of the server's session
	Route              []string // host:port of every server that was asked

	Result string // success, or why there was no login: one of LoginResults
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

// SessionRecorder takes the records of sessions. It must not block and must not
// keep s.
type SessionRecorder interface{ RecordSession(s *Session) }
