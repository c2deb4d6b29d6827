package tds

import (
	"context"
	"errors"
	"time"
)

// resets tells whether a client's packet begins a request with which it resets
// its session, while nothing else is under way, and holds the packet if so.
// Such a reset "effectively simulates a logout and a subsequent login" (MS-TDS
// 2.2.3.1.2), so that a real one can take its place, or an end: but not if the
// session's transaction is to outlive it, and not under MARS, where other lanes
// go on.
func (r *Relay) resets(unit []byte) bool {
	const bits = ResetConnection | ResetConnectionSkipTran
	if r.Upstream.MARS || unit[1]&bits != ResetConnection {
		return false
	}
	switch PacketType(unit[0]) {
	case Batch, RPC, TransactionManager:
	default:
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = r.end == nil && !r.traffic.busy()
	return r.held
}

// atReset logs in again if the token is near its end, or ends the session that
// is to be drained: what the client sent is in no server's hands yet.
func (r *Relay) atReset(ctx context.Context) *ending {
	r.mu.Lock()
	draining := r.draining
	r.mu.Unlock()
	var e *ending
	if !draining && r.due() {
		e = r.again(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = false
	switch {
	case e != nil:
		return e
	case r.link.left != nil: // the server has ended meanwhile
		return r.link.left
	case r.draining:
		return &ending{reason: "drained", linger: true}
	}
	return nil
}

// due tells whether a login is to be tried. After one that failed a minute
// passes, unless the token is past its end: each try keeps the client waiting.
func (r *Relay) due() bool {
	if r.Due == nil || r.Login == nil || !r.Due() {
		return false
	}
	return r.failed.IsZero() || time.Since(r.failed) >= relayAgain || r.over()
}

func (r *Relay) over() bool { return r.Over != nil && r.Over() }

// again logs in for the client once more. nil: its packet may go on, over the
// new link or the old one.
func (r *Relay) again(ctx context.Context) *ending {
	fresh, err := r.Login(ctx)
	if err == nil && fresh == nil {
		err = errors.New("no login was made")
	}
	switch {
	case err != nil && !r.over() && r.alive():
		r.failed = time.Now()
		r.report("kept", err)
		return nil
	case err != nil:
		r.report("failed", err)
		return &ending{reason: "login again failed", err: err, linger: true}
	case !r.Upstream.Fits(fresh):
		_ = fresh.Close()
		r.report("unfit", errUnfit)
		return &ending{reason: "login again does not fit", err: errUnfit, linger: true}
	}
	if e := r.swap(fresh); e != nil {
		r.report("failed", e.err)
		return e
	}
	r.relogins.Add(1)
	r.report("success", nil)
	return nil
}

// alive tells whether the server in use is still there.
func (r *Relay) alive() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.link.left == nil
}

func (r *Relay) report(result string, err error) {
	if r.Relogged != nil {
		r.Relogged(result, err)
	}
}

// swap puts fresh in the place of the server in use, whose reader has ended
// before the new one begins.
func (r *Relay) swap(fresh *Upstream) *ending {
	client, next := r.Client.Conn(), newLink(fresh)
	r.mu.Lock()
	old, stopped := r.link, r.end
	if stopped == nil {
		r.link = next
	}
	r.mu.Unlock()
	if stopped != nil {
		_ = fresh.Close()
		return stopped
	}
	_ = old.up.Close()
	cutConn(old.conn)
	<-old.done
	r.mu.Lock()
	midReply := r.traffic.midReply()
	r.born, r.failed = time.Now(), time.Time{}
	r.mu.Unlock()
	go r.download(client, next)
	if midReply {
		return &ending{reason: "server broke the protocol", err: errors.New("it sent a reply that nobody asked for"), linger: true}
	}
	return nil
}
