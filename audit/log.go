package audit

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
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

// Info tells what an operator may want to know. kv are pairs of a name, which is
// one of [Fields], and value; addresses are host:port, and written in parts.
func (l *Log) Info(msg string, kv ...any) { say(l.state.Load().zl.Info(), msg, kv) }

// Warn tells what an operator should look at.
func (l *Log) Warn(msg string, kv ...any) { say(l.state.Load().zl.Warn(), msg, kv) }

// Error tells what an operator must mend.
func (l *Log) Error(msg string, kv ...any) { say(l.state.Load().zl.Error(), msg, kv) }

// Debug tells what helps to find a fault.
func (l *Log) Debug(msg string, kv ...any) { say(l.state.Load().zl.Debug(), msg, kv) }

func say(line *zerolog.Event, msg string, kv []any) {
	for i := 0; i+1 < len(kv); i += 2 {
		switch at, _ := kv[i+1].(string); kv[i] {
		case "client.address":
			place(line, "client", at)
		case "server.address":
			place(line, "server", at)
		default:
			line.Fields(kv[i : i+2])
		}
	}
	line.Msg(msg)
}

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
	line.Str("gateway.request_id", e.RequestID).Str("gateway.door", string(e.Door)).Str("http.request.method", e.Method)
	place(line, "server", visible(e.Host))
	line.Str("url.path", visible(e.Path))
	place(line, "client", e.Remote)
	line.Int("http.response.status_code", e.Status)
	e.decision(line)
	str(line, "cause", e.Cause)
	str(line, "remark", e.Remark)
	str(line, "remedy", e.Remedy)
	e.measures(line)
	line.Msg("call")
}

// decision is what the access line and the record have in common of what was
// decided.
func (e *Event) decision(line *zerolog.Event) {
	str(line, "trace_id", e.TraceID)
	str(line, "span_id", e.SpanID)
	str(line, "error.type", e.Code)
	str(line, "gateway.route", e.Route)
	str(line, "gateway.caller", e.Caller)
	str(line, "gateway.caller_how", e.CallerHow)
	if e.Rule != 0 {
		line.Int("gateway.rule", e.Rule)
	}
	str(line, "http.route", e.Template)
	str(line, "gateway.would_deny", e.WouldDeny)
	str(line, "gateway.tenant", e.Tenant)
	str(line, "gateway.credential", e.Credential)
	str(line, "gateway.token.source", e.TokenSource)
	str(line, "gateway.retry", string(e.Retry))
}

func (e *Event) measures(line *zerolog.Event) {
	line.Dur("gateway.duration_ms", e.Duration).Dur("gateway.upstream_ms", e.Upstream).Dur("gateway.token_ms", e.TokenWait).
		Int64("http.request.body.size", e.BytesIn).Int64("http.response.body.size", e.BytesOut)
}

// place writes a host:port as side.address and side.port.
func place(line *zerolog.Event, side, at string) {
	host, port := split(at)
	address, number := "server.address", "server.port"
	if side == "client" {
		address, number = "client.address", "client.port"
	}
	str(line, address, host)
	if port != 0 {
		line.Int(number, port)
	}
}

// split parts host:port. What has no port, and what is neither, is a host.
func split(at string) (host string, port int) {
	i := strings.LastIndexByte(at, ':')
	if i < 0 {
		return at, 0
	}
	n, err := strconv.ParseUint(at[i+1:], 10, 16)
	host = at[:i]
	if inside, ok := strings.CutPrefix(host, "["); ok {
		host, ok = strings.CutSuffix(inside, "]")
		if !ok {
			return at, 0
		}
	} else if strings.Contains(host, ":") {
		return at, 0 // an IPv6 address alone
	}
	if err != nil {
		return at, 0
	}
	return host, int(n)
}

// str leaves out what is empty.
func str(line *zerolog.Event, key, value string) {
	if value != "" {
		line.Str(key, value)
	}
}
