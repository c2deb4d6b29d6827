package audit

import (
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// recentCalls and recentSessions are how many records are remembered. A
	// call takes less than a KiB.
	recentCalls    = 1000
	recentSessions = 1000
	// maxPath bounds the path of a call that is remembered, in bytes.
	maxPath = 2048
	// maxTold bounds what is remembered of causes, remarks and remedies.
	maxTold = 4096
)

// Call is a call that is remembered. Its strings can be shown on a terminal,
// but for line feeds in Cause, Remark and Remedy.
type Call struct {
	Number uint64 // grows by one with each call, and never falls, across restarts too
	Event
}

// Calls remembers the latest calls, and counts all since its making by route.
// It is a [Recorder], safe for concurrent use.
type Calls struct {
	ring  *ring[callSlot]
	total tally
	by    map[string]*tally // by route; ring.mu guards both
}

// callSlot is a place for a call. What came with the request is copied into
// text, which is used again: a part of a request line would keep all of it, its
// query too, in memory.
type callSlot struct {
	event Event
	text  []byte
	ends  [6]int // of what came in text
}

// came are the fields of e that may be parts of its request line, or of fields.
func came(e *Event) [6]*string {
	return [6]*string{&e.Method, &e.Host, &e.Path, &e.TraceID, &e.Tenant, &e.Template}
}

// NewCalls remembers nothing yet.
func NewCalls() *Calls {
	return &Calls{ring: newRing[callSlot](recentCalls), by: map[string]*tally{}}
}

// Record implements [Recorder].
func (c *Calls) Record(e *Event) {
	c.ring.mu.Lock()
	defer c.ring.mu.Unlock()
	c.ring.slot().keep(e)
	c.ring.done()
	t := c.by[e.Route]
	if t == nil {
		t = &tally{}
		c.by[e.Route] = t
	}
	now := time.Now()
	t.add(e, now)
	c.total.add(e, now)
}

func (s *callSlot) keep(e *Event) {
	s.event = *e
	s.text = s.text[:0]
	for i, field := range came(&s.event) {
		bound := maxName
		if field == &s.event.Path || field == &s.event.Template {
			bound = maxPath
		}
		s.text = append(s.text, bounded(*field, bound)...)
		s.ends[i] = len(s.text)
		*field = ""
	}
	s.event.APIPath = "" // a part of the request line that nobody is shown
	s.event.UpstreamRequest = detached(e.UpstreamRequest, maxName)
	s.event.Cause = detached(e.Cause, maxTold)
	s.event.Remark = detached(e.Remark, maxTold)
	s.event.Remedy = detached(e.Remedy, maxTold)
}

// bounded is the beginning of s.
func bounded(s string, n int) string { return s[:min(len(s), n)] }

// detached is s, or a copy of its beginning.
func detached(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.Clone(s[:n])
}

// call is the call in s, to be kept.
func (s *callSlot) call(number uint64) Call {
	c := Call{number, s.event}
	begin := 0
	for i, field := range came(&c.Event) {
		*field = visible(string(s.text[begin:s.ends[i]]))
		begin = s.ends[i]
	}
	c.UpstreamRequest = visible(c.UpstreamRequest)
	return c
}

// Latest returns at most limit calls that keep takes, newest first; nil takes
// all. newest is the number of the newest call of all, or before the first one
// that which comes before it.
func (c *Calls) Latest(limit int, keep func(*Call) bool) (calls []Call, newest uint64) {
	newest = c.ring.latest(func(n uint64, s *callSlot) bool {
		if len(calls) >= limit {
			return false
		}
		if call := s.call(n); keep == nil || keep(&call) {
			calls = append(calls, call)
		}
		return true
	})
	return calls, newest
}

// After returns at most limit calls that came after the one of that number,
// oldest first, and how many others are not remembered any more. A number of
// an earlier process is before all.
func (c *Calls) After(number uint64, limit int) (calls []Call, lost uint64) {
	lost = c.ring.after(number, limit, func(n uint64, s *callSlot) { calls = append(calls, s.call(n)) })
	return calls, lost
}

// Follow returns a channel that has something to read when there are more
// calls, until stop is called.
func (c *Calls) Follow() (wake <-chan struct{}, stop func()) { return c.ring.follow() }

// Known tells whether [Calls.Latest] of this process may have told number.
func (c *Calls) Known(number uint64) bool { return c.ring.known(number) }

// Login is a record of a session that is remembered. Its strings can be shown
// on a terminal, but for line feeds in Cause and Remedy.
type Login struct {
	Number uint64 // as that of a [Call]
	Session
}

// Sessions remembers the latest records of sessions, and counts all since its
// making by door. It is a [SessionRecorder], safe for concurrent use.
type Sessions struct {
	ring *ring[Session]
	by   map[string]*DoorTally // ring.mu guards it
}

// DoorTally is what was counted of a SQL door.
type DoorTally struct {
	Sessions int64 // open
	Logins   int64 // that succeeded
	Failures int64
	Last     time.Time // login; zero: none
}

// NewSessions remembers nothing yet.
func NewSessions() *Sessions {
	return &Sessions{ring: newRing[Session](recentSessions), by: map[string]*DoorTally{}}
}

// RecordSession implements [SessionRecorder].
func (l *Sessions) RecordSession(s *Session) {
	kept := *s
	kept.Phases, kept.Route = maps.Clone(s.Phases), slices.Clone(s.Route)
	for _, field := range []*string{&kept.App, &kept.Host, &kept.Library, &kept.User, &kept.Database} {
		*field = visible(short(*field))
	}
	kept.Cause, kept.Remedy = detached(s.Cause, maxTold), detached(s.Remedy, maxTold)
	l.ring.mu.Lock()
	defer l.ring.mu.Unlock()
	*l.ring.slot() = kept
	l.ring.done()
	d := l.by[s.Name]
	if d == nil {
		d = &DoorTally{}
		l.by[s.Name] = d
	}
	switch {
	case !s.End.IsZero():
		d.Sessions--
		return
	case s.Result == LoginSuccess:
		d.Sessions++
		d.Logins++
	default:
		d.Failures++
	}
	d.Last = time.Now()
}

// Latest returns at most limit records that keep takes, as [Calls.Latest] does.
func (l *Sessions) Latest(limit int, keep func(*Login) bool) (logins []Login, newest uint64) {
	newest = l.ring.latest(func(n uint64, s *Session) bool {
		if len(logins) >= limit {
			return false
		}
		if login := (Login{n, *s}); keep == nil || keep(&login) {
			logins = append(logins, login)
		}
		return true
	})
	return logins, newest
}

// After returns records as [Calls.After] does.
func (l *Sessions) After(number uint64, limit int) (logins []Login, lost uint64) {
	lost = l.ring.after(number, limit, func(n uint64, s *Session) { logins = append(logins, Login{n, *s}) })
	return logins, lost
}

// Follow is as [Calls.Follow].
func (l *Sessions) Follow() (wake <-chan struct{}, stop func()) { return l.ring.follow() }

// Known is as [Calls.Known].
func (l *Sessions) Known(number uint64) bool { return l.ring.known(number) }

// Door returns what was counted of the SQL door of that name.
func (l *Sessions) Door(name string) DoorTally {
	l.ring.mu.Lock()
	defer l.ring.mu.Unlock()
	if d := l.by[name]; d != nil {
		return *d
	}
	return DoorTally{}
}
