package main

import (
	"context"
	"time"

	"github.com/seed-13b04e61/gateway/tracing"
)

// How long the last spans may take on their way, of what a drain has left: at
// least, so that some go out even after calls were cut off, and at most.
const (
	leastFlush = time.Second
	mostFlush  = 5 * time.Second
)

// trace turns traces on as s says; nil leaves them off. Spans leave by the way
// that token requests do, and no door may be open yet.
func (e *engine) trace(s *tracing.Settings) error {
	if s == nil {
		return nil
	}
	traces, err := tracing.New(tracing.Config{Settings: s, Dialer: &e.hop, Log: e.log, Lost: e.metrics.SpansLost, Version: version})
	if err != nil {
		return err
	}
	e.traces = traces
	e.handler.Trace(traces)
	return nil
}

// flushTraces sends the spans that wait, in what time ctx has left, and ends
// traces. It may be called again.
func (e *engine) flushTraces(ctx context.Context) {
	if e.traces == nil {
		return
	}
	patience := mostFlush
	if end, ok := ctx.Deadline(); ok {
		patience = min(max(time.Until(end), leastFlush), mostFlush)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = e.traces.Close(ctx) // the exporter has told the log what was lost
}
