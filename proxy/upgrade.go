package proxy

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
)

const (
	// upgradeIdle ends a WebSocket on which neither side said anything; pings
	// count (egress reference §6.1).
	upgradeIdle = 10 * time.Minute
	// partingTime is how long a peer that was told to go may take to do so.
	partingTime = 10 * time.Second
	// userFirst is for how long the upstream is kept from being told so before
	// the user, who may take nothing.
	userFirst = time.Second
)

// wish finds the protocol that the call is to switch to, if any, and tells
// whether it may. An upgrade to h2c may be ignored (RFC 9110 §7.8), and some
// clients offer it unasked.
func (p *passage) wish(r *http.Request) *refusal {
	lines := r.Header["Upgrade"]
	if lines == nil {
		return nil
	}
	delete(r.Header, "Upgrade")
	for protocol := range listed(lines) {
		switch {
		case slices.Contains(p.pass.Route.Upgrade, protocol):
			if r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1) || p.in.h2 || p.in.src != nil || !contains(r.Header["Connection"], "upgrade") {
				return &refusal{code: BadRequest, detail: "a switch to " + protocol + " is asked for by a GET over HTTP/1.1 that has no body and names Upgrade in Connection",
					remedy: "call with a WebSocket client, whose handshake RFC 6455 §4.1 describes"}
			}
			r.Header["Upgrade"] = []string{protocol}
			p.upgrade = protocol
			return nil
		case protocol != "h2c":
			return &refusal{code: NotSupported, detail: "this route switches to no such protocol",
				remedy: "if it is websocket, and callers of this route may have it, add upgrade: [websocket] to the route; else call without the Upgrade field"}
		}
	}
	return nil
}

// listed yields the members of a field that is a comma-separated list, in
// lower case.
func listed(lines []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for member := range strings.SplitSeq(line, ",") {
				if member = strings.ToLower(strings.TrimSpace(member)); member != "" && !yield(member) {
					return
				}
			}
		}
	}
}

func contains(lines []string, member string) bool {
	for m := range listed(lines) {
		if m == member {
			return true
		}
	}
	return false
}

// switchOver makes an upstream's 101 ready for the copying that ReverseProxy does
// after it.
func (h *Handler) switchOver(resp *http.Response, p *passage) *refusal {
	back, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || p.upgrade == "" || !strings.EqualFold(resp.Header.Get("Upgrade"), p.upgrade) || !contains(resp.Header["Connection"], "upgrade") {
		return &refusal{code: UpstreamUnreachable, detail: "the upstream switched to a protocol that nobody asked for",
			remedy: "see what answers under the route's host: this is no answer of HTTP"}
	}
	named := resp.Header["Connection"]
	for name := range resp.Header {
		if hopByHop(name) || contains(named, strings.ToLower(name)) {
			delete(resp.Header, name)
		}
	}
	resp.Status = "" // ReverseProxy would write the upstream's own words, whatever they hold
	resp.Header["Connection"], resp.Header["Upgrade"] = []string{"Upgrade"}, []string{p.upgrade}
	s := &switched{all: &h.switches}
	s.back = side{s: s, from: back, to: back, halves: back, masked: true}
	p.meter.switched, resp.Body = s, &s.back
	return nil
}

// switched is a call that became a WebSocket. ReverseProxy copies between its
// sides; each sees to it that what passes is counted, that silence and a peer
// that takes nothing have an end, and that a farewell comes between two frames.
type switched struct {
	all        *switches
	user, back side
	idle       *time.Timer
	begun      sync.Once // to be copied: the caller has its 101
	ended      atomic.Bool
}

// side is a peer of a switched call. Read is for one reader, and Write for one
// writer at a time.
type side struct {
	s       *switched
	from    io.Reader
	to      io.WriteCloser
	halves  any  // may have CloseWrite
	masked  bool // what is sent to it is a client's (RFC 6455 §5.3)
	taken   atomic.Int64
	stalled *time.Timer

	mu      sync.Mutex // guards what follows, and is held while to is written
	frames  frames
	leaving bool // a farewell is due between two frames
	left    bool // and was said: nothing more is sent
}

// begin takes the caller's connection. What was read of it already belongs to
// the new protocol too.
func (s *switched) begin(conn net.Conn, read interface {
	io.Reader
	Buffered() int
}) (net.Conn, error) {
	early := make([]byte, read.Buffered())
	if _, err := io.ReadFull(read, early); err != nil {
		return nil, err
	}
	s.user = side{s: s, from: io.MultiReader(bytes.NewReader(early), conn), to: conn, halves: conn}
	s.user.stalled, s.back.stalled = stopped(s.cut), stopped(s.cut)
	s.idle = time.AfterFunc(upgradeIdle, s.expire) // last: it may strike from now on
	return &userConn{conn, &s.user}, nil
}

func stopped(f func()) *time.Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return t
}

// userConn is the caller's side as a connection.
type userConn struct {
	net.Conn
	side *side
}

func (c *userConn) Read(b []byte) (int, error)  { return c.side.Read(b) }
func (c *userConn) Write(b []byte) (int, error) { return c.side.Write(b) }

// CloseWrite lets ReverseProxy pass on that the other side has said all.
func (c *userConn) CloseWrite() error { return c.side.CloseWrite() }

// Read implements io.Reader.
func (sd *side) Read(b []byte) (int, error) {
	sd.s.begun.Do(sd.s.join)
	n, err := sd.from.Read(b)
	if n > 0 {
		sd.taken.Add(int64(n))
		if !sd.s.ended.Load() {
			sd.s.idle.Reset(upgradeIdle)
		}
	}
	return n, err
}

// Write implements io.Writer. What comes after the farewell goes nowhere.
func (sd *side) Write(b []byte) (int, error) {
	sd.mu.Lock()
	defer sd.mu.Unlock()
	if sd.left {
		return len(b), nil
	}
	n, err := sd.send(b[:sd.frames.follow(b, sd.leaving)])
	if err != nil {
		return n, err
	}
	if sd.leaving {
		sd.farewell()
	}
	return len(b), nil
}

// send writes b, within writeStall. sd.mu is held.
func (sd *side) send(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	sd.stalled.Reset(writeStall)
	defer sd.stalled.Stop()
	return sd.to.Write(b)
}

// leave says farewell as soon as a frame ends.
func (sd *side) leave() {
	sd.mu.Lock()
	defer sd.mu.Unlock()
	if !sd.leaving {
		sd.leaving = true
		sd.farewell()
	}
}

// farewell is for a side that is leaving: unless in the middle of a frame, or
// after the peer's own farewell, it gets a close frame and the end of the
// stream. What it still sends is read, so that its connection is not reset.
// sd.mu is held.
func (sd *side) farewell() {
	if sd.left || !sd.frames.between() {
		return
	}
	sd.left = true
	time.AfterFunc(partingTime, sd.s.cut)
	if sd.frames.closed {
		return
	}
	if _, err := sd.send(goingAway(sd.masked)); err == nil {
		_ = sd.half()
	}
}

// CloseWrite ends what is sent to the peer, as far as its connection can. A
// WebSocket has no use for one direction alone.
func (sd *side) CloseWrite() error {
	sd.mu.Lock()
	defer sd.mu.Unlock()
	if sd.left {
		return nil
	}
	sd.left = true
	time.AfterFunc(partingTime, sd.s.cut)
	return sd.half()
}

func (sd *side) half() error {
	if c, ok := sd.halves.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return http.ErrNotSupported
}

// Close implements io.Closer.
func (sd *side) Close() error { return sd.to.Close() }

// leave tells both sides to go. It does not wait. The user hears it first, or
// the upstream's answer to its own farewell, which need not say why, could pass
// before.
func (s *switched) leave() {
	told := make(chan struct{})
	go func() { // ends when it has written, or by the stall
		defer close(told)
		s.user.leave()
	}()
	go func() {
		select {
		case <-told:
		case <-time.After(userFirst): // it takes nothing
		}
		s.back.leave()
	}()
}

// expire ends a call on which nobody says anything.
func (s *switched) expire() {
	if s.ended.Load() {
		return
	}
	time.AfterFunc(partingTime, s.cut)
	s.leave()
}

// cut closes both connections, whatever is under way.
func (s *switched) cut() {
	if s.ended.Load() {
		return
	}
	_ = s.user.to.Close()
	_ = s.back.to.Close()
}

// join makes s one of those that a drain tells to go.
func (s *switched) join() { s.all.add(s) }

// end closes the books, when nothing is copied any more.
func (s *switched) end(e *audit.Event) {
	if s.idle == nil { // it never began
		return
	}
	s.ended.Store(true)
	s.idle.Stop()
	e.BytesIn += s.user.taken.Load()
	e.BytesOut += s.back.taken.Load()
}

// switches are the calls that switched, which http.Server knows nothing of. The
// zero value has none.
type switches struct {
	mu      sync.Mutex // guards what follows
	less    *sync.Cond // one of open ended; nil until somebody waits
	open    map[*switched]struct{}
	leaving bool // so is whoever comes yet
}

func (a *switches) add(s *switched) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.ended.Load() {
		return
	}
	if a.open == nil {
		a.open = map[*switched]struct{}{}
	}
	a.open[s] = struct{}{}
	if a.leaving {
		s.leave()
	}
}

// remove forgets s, which may be nil.
func (a *switches) remove(s *switched) {
	if s == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, s)
	if a.less != nil {
		a.less.Broadcast()
	}
}

func (a *switches) count() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return int64(len(a.open))
}

// leave has all calls end between two frames, those that begin later included.
func (a *switches) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leaving = true
	for s := range a.open {
		s.leave()
	}
}

// cut ends all calls now, and waits until their books are closed.
func (a *switches) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.less = sync.NewCond(&a.mu)
	for s := range a.open {
		go s.cut() // closing TLS may take some seconds
	}
	for len(a.open) > 0 {
		a.less.Wait()
	}
}
