package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// How long a peer may keep a call waiting (egress reference §6.1). Deadlines
// bound a stall, never the length of a call: uploads and streams may take hours.
const (
	bodyIdle  = 60 * time.Second // for the next bytes of a request's body
	bodyGrace = 10 * time.Second // of waiting, before bodyRate counts
	bodyRate  = 240              // bytes in a second that a caller has to send on average
	// writeStall is how long a caller may take to accept one write, which is 32
	// KiB at most: a bufferPool's buffer.
	writeStall = 60 * time.Second
	// unreadWait is how long the rest of a body may take that nobody wants, so
	// that its connection can be kept. How much of it there may be, net/http
	// bounds: 256 KiB.
	unreadWait = 5 * time.Second
	// renewEvery spares setting a deadline anew that was set just now.
	renewEvery = time.Second
)

// inflow is a call's request body as it comes. It ends the wait for a caller
// that stalls or trickles, and a body that is longer than its route takes. Time
// in which nobody reads, because the upstream is slow, is not the caller's.
type inflow struct {
	src   io.Reader // nil: the call has no body
	w     http.ResponseWriter
	h2    bool
	limit int64 // bytes; 0: none

	mu       sync.Mutex // guards what follows; never held while src is read
	taken    int64
	waited   time.Duration // in reads
	reading  bool
	ended    bool      // src said so
	duplex   bool      // the answer goes out while it is still read
	over     bool      // the call ended: no deadline may be set any more
	deadline time.Time // that was set last
	cut      *refusal  // why no more is read
}

// Read implements io.Reader, for one reader at a time.
func (f *inflow) Read(p []byte) (int, error) {
	began := time.Now()
	if err := f.begin(began); err != nil {
		return 0, err
	}
	n, err := f.src.Read(p)
	return f.took(n, err, time.Since(began))
}

func (f *inflow) begin(now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.over:
		return errAttemptClosed
	case f.cut != nil:
		return f.cut
	}
	earned := bodyGrace + time.Duration(f.taken/bodyRate)*time.Second
	allowed := min(bodyIdle, earned-f.waited)
	if allowed <= 0 {
		f.cut = tooSlow()
		return f.cut
	}
	if until := now.Add(allowed); allowed < bodyIdle || until.Sub(f.deadline) >= renewEvery {
		f.setDeadline(until)
	}
	f.reading = true
	return nil
}

func (f *inflow) took(n int, err error, waited time.Duration) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reading = false
	f.taken += int64(n)
	f.waited += waited
	switch {
	case f.limit > 0 && f.taken > f.limit:
		f.cut = tooLarge()
		return 0, f.cut
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.cut = tooSlow()
		return n, f.cut
	case err != nil:
		f.ended = true
		if !f.over && !f.deadline.IsZero() {
			// net/http goes on to watch the connection for the caller's leaving.
			f.setDeadline(time.Time{})
		}
	}
	return n, err
}

// setDeadline is for reads. f.mu is held.
func (f *inflow) setDeadline(t time.Time) {
	f.deadline = t
	_ = http.NewResponseController(f.w).SetReadDeadline(t) // a writer without deadlines has none to miss
}

// unread bounds net/http's own reading of what is left of a body when its
// answer is written or its call ends. HTTP/2 does not read it.
func (f *inflow) unread() {
	if f.src == nil || f.h2 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended && !f.reading && !f.over && !f.duplex {
		f.setDeadline(time.Now().Add(f.unreadWait()))
	}
}

// answered is called when the upstream's answer is there. net/http would read what
// is left of the body before it sends an answer over HTTP/1.1, and take it from
// whom it belongs to, the upstream. It still does where the upstream refuses the
// call: such a body is wanted by nobody, and the connection is kept if there is
// little of it.
func (f *inflow) answered(status int) {
	if f.src == nil || f.h2 || status >= http.StatusBadRequest {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended && f.cut == nil {
		f.duplex = http.NewResponseController(f.w).EnableFullDuplex() == nil
	}
}

// close ends the deadlines of this call's reads. A read that is still under way
// ends soon, by itself.
func (f *inflow) close() {
	if f.src == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended && !f.h2 {
		f.setDeadline(time.Now().Add(f.unreadWait()))
	}
	f.over = true
}

// unreadWait is none for a caller that was too slow already. f.mu is held.
func (f *inflow) unreadWait() time.Duration {
	if f.cut != nil && f.cut.code == SlowRequest {
		return 0
	}
	return unreadWait
}

// bytes is how much of the body came.
func (f *inflow) bytes() int64 {
	if f.src == nil {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.taken
}

// verdict tells whether the body was cut off, or is just being: a read that
// missed its deadline cancels the call before it returns here.
func (f *inflow) verdict() *refusal {
	if f.src == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut == nil && f.reading && !f.deadline.IsZero() && !time.Now().Before(f.deadline) {
		f.cut = tooSlow()
	}
	return f.cut
}

func tooSlow() *refusal {
	return &refusal{code: SlowRequest, detail: "the request's body came too slowly",
		remedy: "send on: a body may pause for 60 s, and has to come with 240 bytes in a second on average after the first 10 s"}
}

func tooLarge() *refusal {
	return &refusal{code: TooLarge, detail: "the request's body is larger than this route takes",
		remedy: "send less at once; limits.max_body of the route says how much it takes"}
}

// meter counts what goes back to the caller, and bounds how long the caller may
// take to accept it. An answer that has nothing to say for hours is not bounded.
type meter struct {
	http.ResponseWriter
	status   int
	bytes    int64
	h2       bool
	in       *inflow
	draining *atomic.Bool      // nil: never
	renewed  time.Time         // when the deadline was last set; HTTP/1.1 alone
	stall    stall             // instead of it, over HTTP/2
	early    func(http.Header) // cleans the fields of an answer before the answer; nil: none passes
	switched *switched         // that the connection is for; nil: no other protocol
}

func (m *meter) WriteHeader(status int) {
	if status == http.StatusContinue {
		// The upstream's is for this leg (RFC 9110 §10.1.1). The caller gets the
		// server's own when its body is read, which that may have set off already.
		return
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		if m.early == nil {
			return
		}
		m.early(m.Header())
	}
	if status >= 200 || status == http.StatusSwitchingProtocols {
		m.status = status
		if m.in != nil {
			m.in.unread()
		}
		if !m.h2 && m.draining != nil && m.draining.Load() {
			m.ResponseWriter.Header()["Connection"] = []string{"close"}
		}
	}
	m.allow()
	defer m.rest() // which a panic must not leave out
	m.ResponseWriter.WriteHeader(status)
}

func (m *meter) Write(b []byte) (int, error) {
	if m.status == 0 {
		m.WriteHeader(http.StatusOK)
	}
	m.allow()
	defer m.rest()
	n, err := m.ResponseWriter.Write(b)
	m.bytes += int64(n)
	return n, err
}

// FlushError is what http.ResponseController calls.
func (m *meter) FlushError() error {
	m.allow()
	defer m.rest()
	return http.NewResponseController(m.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach deadlines.
func (m *meter) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// Hijack is how ReverseProxy takes the connection of a call that switched to
// another protocol, which it does before it sends the 101.
func (m *meter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(m.ResponseWriter).Hijack()
	if err != nil || m.switched == nil {
		return conn, buffered, err
	}
	m.status = http.StatusSwitchingProtocols
	user, err := m.switched.begin(conn, buffered.Reader)
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return user, buffered, nil
}

// allow gives the caller its time to accept what is written next.
func (m *meter) allow() {
	now := time.Now()
	if m.h2 {
		m.stall.begin(m.ResponseWriter, now.Add(writeStall))
		return
	}
	if now.Sub(m.renewed) >= renewEvery {
		m.renewed = now
		_ = http.NewResponseController(m.ResponseWriter).SetWriteDeadline(now.Add(writeStall))
	}
}

// rest takes the time back where it would strike without a write: HTTP/2 resets
// the stream then, HTTP/1.1 fails the next write alone, which has a deadline of
// its own.
func (m *meter) rest() {
	if m.h2 {
		m.stall.end()
	}
}

// leave bounds what net/http still writes when the call has ended. Over HTTP/2
// that is for net/http's own deadline, which ends with the stream.
func (m *meter) leave() {
	if !m.h2 {
		m.allow()
		return
	}
	if !m.stall.close() {
		return // or net/http would reset the stream once more
	}
	_ = http.NewResponseController(m.ResponseWriter).SetWriteDeadline(time.Now().Add(writeStall))
}

// stall resets a stream of HTTP/2 whose caller does not accept what is written.
// A deadline of net/http's around each write would do the same, but setting one
// is a message to the goroutine that serves the whole connection.
type stall struct {
	mu    sync.Mutex  // guards what follows; held while the stream is being reset
	timer *time.Timer // nil: nothing was written yet
	until time.Time   // for the write under way; zero: there is none
	over  bool        // the stream was reset, or the call ended: w may not be touched any more
}

// begin gives the write to w that comes next its time.
func (s *stall) begin(w http.ResponseWriter, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.until = until
	if s.timer == nil {
		s.timer = time.AfterFunc(writeStall, func() { s.strike(w) })
		return
	}
	s.timer.Reset(writeStall)
}

// strike may come late, when its write has ended or the next has begun.
func (s *stall) strike(w http.ResponseWriter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.until.IsZero() || time.Now().Before(s.until) {
		return
	}
	s.over = true
	_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0)) // long ago: at once
}

func (s *stall) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Time{}
	if s.timer != nil {
		s.timer.Stop()
	}
}

// close tells whether the call ended before the stream was reset.
func (s *stall) close() (inTime bool) {
	s.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	inTime = !s.over
	s.over = true
	return inTime
}
