package certs

import (
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapTo makes a logger that forwards what the library tells, with its fields,
// so that there is one log in one format.
func zapTo(log func(level, msg string, kv ...any)) *zap.Logger {
	return zap.New(forwarder{log: log})
}

// forwarder is a [zapcore.Core]. Debugging is left out: it would be worked out
// in each handshake.
type forwarder struct {
	log    func(level, msg string, kv ...any)
	fields []zapcore.Field
}

func (f forwarder) Enabled(l zapcore.Level) bool { return l >= zapcore.InfoLevel }

func (f forwarder) With(fields []zapcore.Field) zapcore.Core {
	return forwarder{f.log, slices.Concat(f.fields, fields)}
}

func (f forwarder) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	// The wait that this tells of is cut short: see heard.
	if !f.Enabled(e.Level) || e.Message == "will retry" {
		return checked
	}
	return checked.AddCore(e, f)
}

func (f forwarder) Write(e zapcore.Entry, fields []zapcore.Field) error {
	values := zapcore.NewMapObjectEncoder()
	for _, field := range slices.Concat(f.fields, fields) {
		field.AddTo(values)
	}
	kv := []any{"gateway.logger", "acme"}
	if e.LoggerName != "" {
		kv[1] = "acme." + e.LoggerName
	}
	for _, name := range slices.Sorted(maps.Keys(values.Fields)) {
		kv = append(kv, "gateway.acme."+name, values.Fields[name])
	}
	f.log(levelOf(e.Level), e.Message, kv...)
	return nil
}

func (f forwarder) Sync() error { return nil }

func levelOf(l zapcore.Level) string {
	switch {
	case l < zapcore.WarnLevel:
		return "info"
	case l == zapcore.WarnLevel:
		return "warn"
	}
	return "error"
}
