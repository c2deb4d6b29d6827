package audit

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	// trailQueue is how many records may wait to be written. At half a KiB
	// each, a disk that stalls costs 4 MiB.
	trailQueue = 8192
	// lossPause is how long the log is silent after it told of a loss.
	lossPause = time.Minute
	// trailPatience is how long Close waits for a destination that does not
	// take what is left.
	trailPatience = 5 * time.Second
	// maxName bounds a method or a host in a record, in bytes: both come from
	// outside.
	maxName = 256
	// trailTime is RFC 3339 with milliseconds: calls follow each other closely.
	trailTime = "2006-01-02T15:04:05.000Z07:00"
)

// TrailConfig is what a [Trail] needs. All are required.
type TrailConfig struct {
	// Out takes the records while there is no file. Its Write must be safe for
	// concurrent use with whole lines.
	Out io.Writer
	// Log is told of losses, at most once a minute.
	Log interface{ Error(msg string, kv ...any) }
	// Lost counts records that could not be written.
	Lost func(n int)
}

// Trail writes the audit record of each call, refused ones too: one JSON object
// a line, with "kind":"audit". A record is written whole or counted as lost;
// no call waits for it. It is safe for concurrent use.
//
// A record never holds the path as it came, which may name people: it holds
// the pattern of the rule that allowed it, and without rules the route alone.
type Trail struct {
	cfg    TrailConfig
	lines  zerolog.Logger
	queue  chan []byte
	target atomic.Pointer[File] // nil: Out
	closed atomic.Bool

	quit   chan struct{} // closed by Close
	done   chan struct{} // closed when all is written
	silent chan struct{} // closed when the log is told nothing more behind

	lost  atomic.Int64 // since the log was told
	cause atomic.Pointer[loss]
	told  chan struct{} // wakes the one who tells the log
}

// loss says why records were lost, and what to do.
type loss struct{ cause, remedy string }

// NewTrail begins a trail that writes to cfg.Out. Close ends it.
func NewTrail(cfg TrailConfig) *Trail {
	t := &Trail{
		cfg: cfg, queue: make(chan []byte, trailQueue),
		quit: make(chan struct{}), done: make(chan struct{}), silent: make(chan struct{}), told: make(chan struct{}, 1),
	}
	t.lines = zerolog.New(queued{t})
	go t.write()
	go t.tell()
	return t
}

// Use has later records written to f, or to Out for nil. A file of the same
// name is opened anew, so that whoever moved it away finds a fresh one. The
// error says that f cannot be written now; it is tried again with each record.
func (t *Trail) Use(f *File) error {
	if f == nil {
		t.target.Store(nil)
		return nil
	}
	next := *f
	t.target.Store(&next)
	return next.probe()
}

// Record implements [Recorder].
func (t *Trail) Record(e *Event) {
	if t.closed.Load() {
		t.lose(1, loss{"the gateway is stopping", "none: the call ended too late"})
		return
	}
	line := t.lines.Log().Str("kind", "audit").Str("time", e.Start.UTC().Format(trailTime)).
		Str("gateway.request_id", e.RequestID).Str("gateway.door", string(e.Door)).Str("http.request.method", short(e.Method))
	place(line, "server", visible(short(e.Host)))
	place(line, "client", e.Remote)
	line.Int("http.response.status_code", e.Status)
	e.decision(line)
	str(line, "gateway.token.id", e.TokenID)
	str(line, "gateway.upstream_request_id", short(e.UpstreamRequest))
	e.measures(line)
	line.Send()
}

// Close writes what waits and ends the trail. It gives up on a destination that
// takes nothing for five seconds, and counts the rest as lost.
func (t *Trail) Close() {
	if t.closed.Swap(true) {
		return
	}
	close(t.quit)
	patience := time.NewTimer(trailPatience)
	defer patience.Stop()
	for _, end := range []chan struct{}{t.done, t.silent} {
		select {
		case <-end:
		case <-patience.C:
			patience.Reset(0) // it is up for the other, too
		}
	}
	if n := len(t.queue); n > 0 {
		t.lose(n, loss{"nothing took them in time before the gateway stopped", "see whether the disk, or whatever reads stdout, is stuck"})
	}
	t.speak()
}

// Waiting is the number of records that are not written yet.
func (t *Trail) Waiting() int { return len(t.queue) }

// queued takes a line from zerolog, whose buffer it must not keep.
type queued struct{ t *Trail }

func (q queued) Write(line []byte) (int, error) {
	select {
	case q.t.queue <- bytes.Clone(line):
	default:
		q.t.lose(1, loss{"records come faster than they can be written", "see whether the disk, or whatever reads stdout, is stuck or slow"})
	}
	return len(line), nil
}

// write is the one writer. It ends with quit, when nothing waits any more.
func (t *Trail) write() {
	defer close(t.done)
	s := sink{out: t.cfg.Out}
	defer s.close()
	for {
		select {
		case line := <-t.queue:
			t.put(&s, line)
		case <-t.quit:
			for {
				select {
				case line := <-t.queue:
					t.put(&s, line)
				default:
					return
				}
			}
		}
	}
}

func (t *Trail) put(s *sink, line []byte) {
	s.follow(t.target.Load())
	if err := s.put(line); err != nil {
		t.lose(1, loss{err.Error(), "see that there is room, and that the gateway's user may write " + s.name()})
	}
}

// lose counts records, and has the log told.
func (t *Trail) lose(n int, why loss) {
	t.cfg.Lost(n)
	t.lost.Add(int64(n))
	t.cause.Store(&why)
	select {
	case t.told <- struct{}{}:
	default:
	}
}

// tell speaks to the log in place of the calls, which must not wait for it
// either. It ends with quit.
func (t *Trail) tell() {
	defer close(t.silent)
	for {
		select {
		case <-t.told:
		case <-t.quit:
			return
		}
		t.speak()
		select {
		case <-time.After(lossPause):
		case <-t.quit:
			return
		}
	}
}

// speak tells the log of what was lost since it was last told.
func (t *Trail) speak() {
	if n := t.lost.Swap(0); n > 0 {
		why := t.cause.Load()
		t.cfg.Log.Error("audit records were lost", "gateway.audit.lost", n, "cause", why.cause, "remedy", why.remedy)
	}
}

func short(s string) string {
	if len(s) > maxName {
		return s[:maxName] + "…"
	}
	return s
}
