package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	// heartbeat is how often a stream says that it is alive.
	heartbeat = 15 * time.Second
	// streamPatience is how long a reader may take nothing at all.
	streamPatience = 30 * time.Second
	// streamLife ends a stream; its reader comes back, and has to be let in
	// again, by the key that is in force then.
	streamLife = time.Hour
	// maxStreams bounds those who read at the same time.
	maxStreams = 32
	// streamBatch is how many records are looked at before the rest.
	streamBatch = 100
)

// Lost is the data of the event of that name: records are missing here.
type Lost struct {
	Records   uint64 `json:"records"`             // that are not remembered any more
	Restarted bool   `json:"restarted,omitempty"` // the gateway was, and nobody knows how many
}

// selected are the records that one reader asked for.
type selected[R any] struct {
	records[R]
	wants func(*R) bool
	limit int
}

// stream writes records as server-sent events, until the reader leaves, falls
// silent, or the server stops. Each carries its number as its id; a reader that
// shows it in Last-Event-ID goes on behind it.
func stream[R any](a *Admin, w http.ResponseWriter, r *http.Request, s selected[R]) {
	if a.streams.Add(1) > maxStreams {
		a.streams.Add(-1)
		w.Header().Set("Retry-After", "10")
		deny(w, http.StatusServiceUnavailable, "too many streams are open; close one of them")
		return
	}
	defer a.streams.Add(-1)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // else the server takes a reader that sends no more for one that left
	wake, stop := s.follow()
	defer stop()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	out := events{w: w, control: control}
	at := begin(&out, r.Header.Get("Last-Event-ID"), s)
	alive, life := time.NewTicker(heartbeat), time.NewTimer(streamLife)
	defer alive.Stop()
	defer life.Stop()
	for {
		at = advance(&out, at, s)
		out.flush()
		if out.failed {
			return
		}
		select {
		case <-wake:
		case <-alive.C:
			out.alive(at)
		case <-life.C:
			return
		case <-a.ending:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// begin writes what a stream begins with, and returns the number behind which
// it goes on.
func begin[R any](out *events, last string, s selected[R]) (at uint64) {
	if last != "" {
		n, err := strconv.ParseUint(last, 10, 64)
		if err == nil && s.known(n) {
			return n
		}
		out.event("lost", 0, Lost{Restarted: true})
		return 0 // all that there is
	}
	found, newest := s.latest(s.limit, s.wants)
	slices.Reverse(found)
	for i := range found {
		out.event(s.event, s.number(&found[i]), s.show(&found[i]))
	}
	return newest
}

// advance writes all that came after at, and returns where it ended.
func advance[R any](out *events, at uint64, s selected[R]) uint64 {
	for !out.failed {
		next, lost := s.after(at, streamBatch)
		if lost > 0 {
			out.event("lost", 0, Lost{Records: lost})
		}
		for i := range next {
			if at = s.number(&next[i]); s.wants(&next[i]) {
				out.event(s.event, at, s.show(&next[i]))
			}
		}
		if len(next) < streamBatch {
			break
		}
	}
	return at
}

// events writes server-sent events (WHATWG HTML §9.2).
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
	failed  bool // the reader is gone, or takes nothing
}

// event writes one; id 0 leaves the reader's place as it is.
func (o *events) event(name string, id uint64, data any) {
	text, err := json.Marshal(data) // on one line
	if err != nil {
		return // what is shown can be written
	}
	line := ""
	if id != 0 {
		line = fmt.Sprintf("id: %d\n", id)
	}
	o.write(fmt.Sprintf("event: %s\n%sdata: %s\n\n", name, line, text))
}

// alive is no event, and moves the reader's place on past what it did not ask
// for.
func (o *events) alive(at uint64) {
	if at == 0 { // nothing of this process was read yet
		o.write(": alive\n\n")
		return
	}
	o.write(fmt.Sprintf(": alive\nid: %d\n\n", at))
}

func (o *events) write(text string) {
	if o.failed {
		return
	}
	_ = o.control.SetWriteDeadline(time.Now().Add(streamPatience)) // as far as the writer knows deadlines
	if _, err := o.w.Write([]byte(text)); err != nil {
		o.failed = true
	}
}

func (o *events) flush() {
	if !o.failed && o.control.Flush() != nil {
		o.failed = true
	}
}
