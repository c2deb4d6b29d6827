package tracing

import (
	"context"
	"errors"
	"sync/atomic"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// errQueueFull is why spans are dropped before they are sent.
var errQueueFull = errors.New("more calls end than the collector takes spans of: the queue of spans is full")

// queue is the SDK's batcher, but for what happens when its queue is full: the
// SDK drops spans and tells nobody. So it never becomes full, as spans that
// would not fit are dropped here.
type queue struct {
	sdk.SpanProcessor
	size    int64        // spans that may wait
	waiting atomic.Int64 // spans that ended and were not taken to be sent
	lose    func(n int, err error)
}

// newQueue makes one before to. lose is told of each span that is dropped.
func newQueue(to sdk.SpanExporter, size int, lose func(n int, err error)) *queue {
	q := &queue{size: int64(size), lose: lose}
	q.SpanProcessor = sdk.NewBatchSpanProcessor(taker{to, q}, sdk.WithMaxQueueSize(size))
	return q
}

// OnEnd implements [sdk.SpanProcessor].
func (q *queue) OnEnd(s sdk.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() { // the SDK leaves it out as well
		return
	}
	if q.waiting.Add(1) > q.size {
		q.waiting.Add(-1)
		q.lose(1, errQueueFull)
		return
	}
	q.SpanProcessor.OnEnd(s)
}

// taker notes what leaves a queue.
type taker struct {
	sdk.SpanExporter
	queue *queue
}

// ExportSpans implements [sdk.SpanExporter].
func (t taker) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	t.queue.waiting.Add(-int64(len(spans)))
	return t.SpanExporter.ExportSpans(ctx, spans)
}
