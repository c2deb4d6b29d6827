package audit

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// LogConfig is the section log of routes.yaml.
type LogConfig struct {
	Level  string // trace, debug, info, warn, error
	Format string // json, console
	Access bool   // a line for each call
}

// Log writes the operator's log and the access lines. It is safe for
// concurrent use and can be configured anew while in use.
type Log struct {
	w     io.Writer
	state atomic.Pointer[logState]
}

type logState struct {
	zl     zerolog.Logger
	access bool
}

// NewLog writes to w, whose Write must be safe for concurrent use with whole
// lines, as that of an *os.File is.
func NewLog(w io.Writer, cfg LogConfig) (*Log, error) {
	l := &Log{w: w}
	return l, l.Configure(cfg)
}

// Out is where the lines go.
func (l *Log) Out() io.Writer { return l.w }

// Configure changes level, format and access lines at once for later lines.
func (l *Log) Configure(cfg LogConfig) error {
	level, err := zerolog.ParseLevel(cfg.Level)
	if err != nil {
		return fmt.Errorf("log level %q: %w", cfg.Level, err)
	}
	w := l.w
	if cfg.Format == "console" {
		w = zerolog.ConsoleWriter{Out: l.w, TimeFormat: time.TimeOnly, NoColor: true}
	}
	zl := zerolog.New(w).Level(level).With().Timestamp().Logger()
	l.state.Store(&logState{zl: zl, access: cfg.Access})
	return nil
}

// Info tells what an operator may want to know. kv are pairs of name and value.
func (l *Log) Info(msg string, kv ...any) { l.state.Load().zl.Info().Fields(kv).Msg(msg) }

// Warn tells what an operator should look at.
func (l *Log) Warn(msg string, kv ...any) { l.state.Load().zl.Warn().Fields(kv).Msg(msg) }

// Error tells what an operator must mend.
func (l *Log) Error(msg string, kv ...any) { l.state.Load().zl.Error().Fields(kv).Msg(msg) }

// Debug tells what helps to find a fault.
func (l *Log) Debug(msg string, kv ...any) { l.state.Load().zl.Debug().Fields(kv).Msg(msg) }

// Record writes the access line of a call: at level error for a defect of the
// gateway, warn for any other refusal of its own, info otherwise. A 407 to a
// call without a credential is no trouble: git and Java show theirs after it.
func (l *Log) Record(e *Event) {
	s := l.state.Load()
	if !s.access {
		return
	}
	line := s.zl.Info()
	switch {
	case e.Code == "internal":
		line = s.zl.Error()
	case e.Code != "" && !(e.Asked && e.Status == http.StatusProxyAuthRequired):
		line = s.zl.Warn()
	}
	line.Str("request_id", e.RequestID).Str("door", string(e.Door)).
		Str("method", e.Method).Str("host", visible(e.Host)).Str("path", visible(e.Path)).
		Str("remote", e.Remote).Int("status", e.Status)
	str(line, "trace_id", e.TraceID)
	str(line, "route", e.Route)
	str(line, "caller", e.Caller)
	str(line, "caller_how", e.CallerHow)
	if e.Rule != 0 {
		line.Int("rule", e.Rule)
	}
	str(line, "would_deny", e.WouldDeny)
	str(line, "tenant", e.Tenant)
	str(line, "credential", e.Credential)
	str(line, "token_source", e.TokenSource)
	str(line, "retry", string(e.Retry))
	str(line, "code", e.Code)
	str(line, "cause", e.Cause)
	str(line, "remark", e.Remark)
	str(line, "remedy", e.Remedy)
	line.Dur("duration_ms", e.Duration).Dur("upstream_ms", e.Upstream).Dur("token_ms", e.TokenWait).
		Int64("bytes_in", e.BytesIn).Int64("bytes_out", e.BytesOut).Msg("call")
}

// str leaves out what is empty.
func str(line *zerolog.Event, key, value string) {
	if value != "" {
		line.Str(key, value)
	}
}
