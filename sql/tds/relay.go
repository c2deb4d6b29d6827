package tds

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Relay passes packets between a client and the server that it is logged in to.
// Client to server goes packet by packet, each in one Write; server to client
// as the bytes come. No content is looked at. A stalled end stalls the other:
// no more is held than a buffer for each direction, and none while both rest.
//
// A Relay is run once.
type Relay struct {
	Client   *Client
	Upstream *Upstream
	// Due tells whether the session's token is near its end, Over whether it is
	// past it. Asked when a client resets its session, never under MARS. nil Due:
	// never.
	Due, Over func() bool
	// Login logs in again for the same client with a fresh token, and bounds the
	// time that this takes: the client waits meanwhile.
	Login func(ctx context.Context) (*Upstream, error)
	// MaxAge closes the session once its login is older, it was idle for a minute
	// and no request is under way; 0: never.
	MaxAge time.Duration
	// Relogged hears the outcome of each login again: "success", "kept" (it failed, and the
	// old token is still good), "failed", "unfit". nil: nobody does.
	Relogged func(result string, err error)

	in, out, requests, relogins atomic.Int64

	failed time.Time // of the last login again that failed; Run's alone

	mu       sync.Mutex // guards what follows
	link     *link      // with the server in use; nil before Run
	traffic  traffic
	writing  bool          // to the client
	held     bool          // a packet of the client waits for a login
	end      *ending       // why the session ends; the first reason stands
	since    time.Time     // of the last message's begin or end
	born     time.Time     // of the login in use
	draining bool          // Drain was called
	grace    time.Duration // of Drain
	timer    *time.Timer   // looks whether an idle session is to end; nil unless Run
}

// Stats is what passed, readable at any time.
type Stats struct {
	BytesIn, BytesOut int64 // from the client, to the client
	Requests          int64 // messages from the client, attentions apart
	Relogins          int64 // that succeeded
}

// How long things may take, and rest.
const (
	relayIdle    = time.Minute      // without a message, before MaxAge closes
	relayAgain   = time.Minute      // after a login again that failed, before the next
	relayStall   = 30 * time.Second // without a byte taken by a client that is to have the rest
	relayLinger  = 2 * time.Second  // for a client to see the end, before a reset could overtake it
	relaySmall   = 512              // bytes of a buffer while the client rests
	relaySmaller = 4096             // while the server does: a reply of one packet mostly fits
)

// link is the connection to one server, and whoever reads from it.
type link struct {
	up   *Upstream
	conn net.Conn
	done chan struct{} // closed when the reader has ended
	left *ending       // why it ended, if that was while a packet was held; guarded by Relay.mu
}

// Run relays until either side ends, ctx ends, or Drain. Both connections are
// closed when it returns. The text says why it ended, in words for the log:
// "client closed", "server closed", "drained", …; err is nil for orderly ends.
func (r *Relay) Run(ctx context.Context) (reason string, err error) {
	client := r.Client.Conn()
	l := newLink(r.Upstream)
	r.mu.Lock()
	r.link = l
	r.traffic = newTraffic(r.Upstream.MARS)
	r.born = time.Now()
	r.since = r.born
	r.timer = time.AfterFunc(time.Hour, r.look)
	r.arm()
	r.mu.Unlock()
	defer r.timer.Stop()
	stop := context.AfterFunc(ctx, func() { r.stop(client, context.Cause(ctx)) })
	defer stop()

	go r.download(client, l)
	r.finish(client, r.upload(ctx, client))
	e := r.reason()
	r.close(client, e)
	return e.reason, e.err
}

func newLink(u *Upstream) *link {
	return &link{up: u, conn: u.Conn(), done: make(chan struct{})}
}

// Drain has the session end at the next moment when nothing is lost: at once if
// it was idle for grace, else at the next reset or when it is idle for so long.
func (r *Relay) Drain(grace time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining, r.grace = true, grace
	if r.timer != nil {
		r.arm()
	}
}

// Stats may be called at any time.
func (r *Relay) Stats() Stats {
	return Stats{BytesIn: r.in.Load(), BytesOut: r.out.Load(), Requests: r.requests.Load(), Relogins: r.relogins.Load()}
}

// arm sets the timer to when the session is to end, if it stays idle. The caller
// holds mu.
func (r *Relay) arm() {
	if at, ok := r.idleEnd(); ok {
		r.timer.Reset(time.Until(at))
	} else {
		r.timer.Stop()
	}
}

// idleEnd is when the session is to end, if it stays idle. The caller holds mu.
func (r *Relay) idleEnd() (at time.Time, ok bool) {
	if r.MaxAge > 0 {
		at, ok = r.born.Add(r.MaxAge), true
		if rested := r.since.Add(relayIdle); rested.After(at) {
			at = rested
		}
	}
	if drained := r.since.Add(r.grace); r.draining && (!ok || drained.Before(at)) {
		at, ok = drained, true
	}
	return at, ok
}

// look ends the session if it is time and nothing is under way. If something
// is, whoever ends that arms the timer again.
func (r *Relay) look() {
	r.mu.Lock()
	at, ok := r.idleEnd()
	switch {
	case !ok, r.end != nil, r.busy():
		r.mu.Unlock()
		return
	case time.Now().Before(at):
		r.arm()
		r.mu.Unlock()
		return
	}
	e := &ending{reason: "too old"}
	if r.draining {
		e.reason = "drained"
	}
	r.end = e // within the same hold of mu as the look: no request slips in between
	r.mu.Unlock()
	wake(r.Client.Conn())
}

// busy tells whether anything is under way. The caller holds mu.
func (r *Relay) busy() bool { return r.writing || r.held || r.traffic.busy() }
