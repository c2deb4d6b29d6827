package audit

import (
	"strconv"
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

// RecordSession implements [SessionRecorder]. A session has two
// records: gateway.sql.event is login, then end.
func (t *Trail) RecordSession(s *Session) {
	if t.closed.Load() {
		t.lose(1, loss{"the gateway is stopping", "none: the session ended too late"})
		return
	}
	event := "login"
	if !s.End.IsZero() {
		event = "end"
	}
	line := t.lines.Log().Str("kind", "audit").Str("time", s.Start.UTC().Format(trailTime)).Str("gateway.sql.event", event)
	s.fields(line)
	line.Send()
}

// fields are what the log and the trail have in common.
func (s *Session) fields(line *zerolog.Event) {
	line.Str("gateway.door", string(SQL)).Str("gateway.sql.name", s.Name).Str("gateway.sql.session", s.ID).
		Str("gateway.sql.result", string(s.Result)).Str("db.system.name", "microsoft.sql_server")
	place(line, "client", s.Remote)
	place(line, "server", s.Server)
	if s.Result != LoginSuccess {
		line.Str("error.type", string(s.Result))
	}
	if s.Number != 0 {
		line.Str("db.response.status_code", strconv.Itoa(int(s.Number)))
	}
	str(line, "gateway.caller", s.Caller)
	str(line, "gateway.caller_how", s.CallerHow)
	str(line, "user.name", visible(short(s.User)))
	str(line, "gateway.credential", s.Credential)
	str(line, "gateway.token.source", s.TokenSource)
	str(line, "db.namespace", visible(short(s.Database)))
	if s.End.IsZero() {
		s.login(line)
		return
	}
	str(line, "gateway.sql.reason", s.Reason)
	line.Dur("gateway.duration_ms", s.End.Sub(s.Start)).Int64("gateway.sql.bytes_in", s.BytesIn).Int64("gateway.sql.bytes_out", s.BytesOut).
		Int64("gateway.sql.requests", s.Requests).Int64("gateway.sql.relogins", s.Relogins)
}

func (s *Session) login(line *zerolog.Event) {
	str(line, "gateway.sql.app", visible(short(s.App)))
	str(line, "gateway.sql.host", visible(short(s.Host)))
	str(line, "gateway.sql.library", visible(short(s.Library)))
	str(line, "gateway.sql.tds", s.Version)
	str(line, "gateway.sql.client_tls", s.ClientTLS)
	str(line, "gateway.sql.client_connection_id", s.TraceID)
	if !s.TokenExpires.IsZero() {
		line.Time("gateway.token.expires", s.TokenExpires.UTC())
	}
	set(line, "gateway.sql.mars", s.MARS)
	set(line, "gateway.sql.read_only", s.ReadOnly)
	set(line, "gateway.sql.token_renewed", s.Renewed)
	if s.SPID != 0 {
		line.Uint16("gateway.sql.spid", s.SPID)
	}
	if len(s.Route) > 0 {
		line.Str("gateway.sql.via", strings.Join(s.Route, " "))
	}
	for _, phase := range loginPhases() {
		took, ok := s.Phases[phase]
		switch {
		case !ok:
		case phase == "token":
			line.Dur("gateway.token_ms", took)
		default:
			line.Dur("gateway.sql."+phase+"_ms", took)
		}
	}
}

// loginPhases are the keys of [Session.Phases], in the order of a login.
func loginPhases() []string { return []string{"token", "dial", "prelogin", "tls", "login"} }

// set leaves out what is not so.
func set(line *zerolog.Event, key string, on bool) {
	if on {
		line.Bool(key, on)
	}
}
