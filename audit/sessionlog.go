package audit

import (
	"strings"

	"github.com/rs/zerolog"
)

// RecordSession writes a line for a login, and one for the end of its session:
// logins that failed at level warn, for a defect of the gateway error, and all
// else info. Failed logins are written whether or not access lines are: whoever
// guards the machine looks for the address in them.
func (l *Log) RecordSession(s *Session) {
	state := l.state.Load()
	line, msg := state.zl.Info(), "sql session"
	switch {
	case s.Result == LoginInternal:
		line, msg = state.zl.Error(), "sql login"
	case s.Result != LoginSuccess:
		line, msg = state.zl.Warn(), "sql login"
	case !state.access:
		return
	case s.End.IsZero():
		msg = "sql login"
	}
	s.fields(line)
	str(line, "cause", s.Cause)
	str(line, "remedy", s.Remedy)
	line.Msg(msg)
}

// RecordSession implements [SessionRecorder]. A session has two records: "event"
// is login, then end.
func (t *Trail) RecordSession(s *Session) {
	if t.closed.Load() {
		t.lose(1, loss{"the gateway is stopping", "none: the session ended too late"})
		return
	}
	event := "login"
	if !s.End.IsZero() {
		event = "end"
	}
	line := t.lines.Log().Str("kind", "audit").Str("time", s.Start.UTC().Format(trailTime)).Str("event", event)
	s.fields(line)
	line.Send()
}

// fields are what the log and the trail have in common.
func (s *Session) fields(line *zerolog.Event) {
	line.Str("session", s.ID).Str("door", string(SQL)).Str("name", s.Name).Str("remote", s.Remote).Str("result", string(s.Result))
	if s.Number != 0 {
		line.Int32("number", s.Number)
	}
	str(line, "caller", s.Caller)
	str(line, "caller_how", s.CallerHow)
	str(line, "user", visible(short(s.User)))
	str(line, "credential", s.Credential)
	str(line, "token_source", s.TokenSource)
	str(line, "server", s.Server)
	str(line, "database", visible(short(s.Database)))
	if !s.End.IsZero() {
		s.ending(line)
		return
	}
	str(line, "app", visible(short(s.App)))
	str(line, "host", visible(short(s.Host)))
	str(line, "library", visible(short(s.Library)))
	str(line, "tds", s.Version)
	str(line, "client_tls", s.ClientTLS)
	str(line, "client_connection_id", s.TraceID)
	if !s.TokenExpires.IsZero() {
		line.Time("token_expires", s.TokenExpires.UTC())
	}
	set(line, "mars", s.MARS)
	set(line, "read_only", s.ReadOnly)
	set(line, "token_renewed", s.Renewed)
	if s.SPID != 0 {
		line.Uint16("spid", s.SPID)
	}
	if len(s.Route) > 0 {
		line.Str("via", strings.Join(s.Route, " "))
	}
	for _, phase := range loginPhases() {
		if took, ok := s.Phases[phase]; ok {
			line.Dur(phase+"_ms", took)
		}
	}
}

func (s *Session) ending(line *zerolog.Event) {
	str(line, "reason", s.Reason)
	line.Dur("duration_ms", s.End.Sub(s.Start)).Int64("bytes_in", s.BytesIn).Int64("bytes_out", s.BytesOut).
		Int64("requests", s.Requests).Int64("relogins", s.Relogins)
}

// loginPhases are the keys of [Session.Phases], in the order of a login.
func loginPhases() []string { return []string{"token", "dial", "prelogin", "tls", "login"} }

// set leaves out what is not so.
func set(line *zerolog.Event, key string, on bool) {
	if on {
		line.Bool(key, on)
	}
}
