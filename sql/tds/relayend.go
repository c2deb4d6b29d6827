package tds

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// ending is why a session ends, and what is still to be done.
type ending struct {
	reason string
	err    error // nil for orderly ends
	// deliver: the server may still have something for the client.
	deliver bool
	// leave: the client has ended its half, which is passed on.
	leave bool
	// linger: the client may be sending; closing at once would reset the
	// connection and destroy what it has not read yet.
	linger bool
	fault  *Fault // to be told, where a message may begin
}

var (
	errRequestOpen = errors.New("a request was under way")
	errReplyOpen   = errors.New("a reply was due")
	errUnfit       = errors.New("the server's new login differs in packet size, collation or features; the client reconnects")
)

// brokenError is about bytes that are no packet.
type brokenError struct{ error }

// numberBroken is SQL Server's own for an incoming stream that is no TDS; class
// 20 ends connections.
const (
	numberBroken = 4002
	classFatal   = 20
)

// finish has the session end. The first reason stands.
func (r *Relay) finish(client net.Conn, e *ending) {
	r.mu.Lock()
	first := r.end == nil
	if first {
		r.end = e
	}
	r.mu.Unlock()
	if first {
		wake(client)
	}
}

func (r *Relay) reason() *ending {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end
}

// wake has whoever reads from conn stop.
func wake(conn net.Conn) { _ = conn.SetReadDeadline(time.Unix(1, 0)) }

// stop ends the session at once, whatever is lost.
func (r *Relay) stop(client net.Conn, cause error) {
	r.finish(client, &ending{reason: "cut off", err: cause})
	r.mu.Lock()
	conn := r.link.conn
	r.mu.Unlock()
	cutConn(client)
	cutConn(conn)
}

// clientEnded is the ending for what reading from the client came to.
func (r *Relay) clientEnded(err error) *ending {
	r.mu.Lock()
	busy := r.traffic.busy()
	r.mu.Unlock()
	gone := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrClosedPipe)
	switch broken := (*brokenError)(nil); {
	case errors.As(err, &broken):
		return &ending{reason: "client broke the protocol", err: err, linger: true, fault: &Fault{
			Number: numberBroken, State: 1, Class: classFatal,
			Message: fmt.Sprintf("The gateway closes this connection: what the client sent is no TDS packet (%v).", err)}}
	case gone && !busy:
		return &ending{reason: "client closed"}
	case errors.Is(err, io.EOF):
		return &ending{reason: "client closed", err: errRequestOpen, leave: true}
	}
	return &ending{reason: "client lost", err: err}
}

// serverEnded is the ending for what reading from the server came to.
func (r *Relay) serverEnded(err error) *ending {
	r.mu.Lock()
	busy := r.traffic.busy()
	r.mu.Unlock()
	switch {
	case !errors.Is(err, io.EOF):
		return &ending{reason: "server lost", err: err, linger: true}
	case busy:
		return &ending{reason: "server closed", err: errReplyOpen, linger: true}
	}
	return &ending{reason: "server closed", linger: true}
}

// close ends both sides, so that the client gets what the server had sent. It
// returns when nobody uses their connections any more.
func (r *Relay) close(client net.Conn, e *ending) {
	r.mu.Lock()
	l := r.link
	r.mu.Unlock()
	switch {
	case e.leave:
		if endWrites(l.conn) {
			r.await(l, relayStall)
		}
	case e.deliver:
		r.await(l, relayLinger)
	}
	_ = l.up.Close()
	if !r.await(l, relayStall) {
		cutConn(client)
	}
	cutConn(l.conn)
	<-l.done
	if e.fault != nil && !r.traffic.midReply() {
		_ = client.SetWriteDeadline(time.Now().Add(relayLinger))
		_ = WriteMessage(client, Header{Type: Reply, SPID: l.up.SPID}, e.fault.Reply(TDS74), LoginPacket)
	}
	if e.linger && endWrites(client) {
		_ = client.SetReadDeadline(time.Now().Add(relayLinger))
		_, _ = io.Copy(io.Discard, client)
	}
	_ = client.Close()
}

// await waits until l's reader has ended, as long as the client takes bytes:
// false says that it took none for so long.
func (r *Relay) await(l *link, stall time.Duration) bool {
	for seen := int64(-1); ; {
		now := r.out.Load()
		if now == seen {
			return false
		}
		seen = now
		timer := time.NewTimer(stall)
		select {
		case <-l.done:
			timer.Stop()
			return true
		case <-timer.C:
		}
	}
}

// endWrites ends our half of a connection: TLS's, if it has it, and TCP's, as a
// peer without a gateway between would see it. false: it has no halves.
func endWrites(conn net.Conn) bool {
	half, halves := conn.(interface{ CloseWrite() error })
	if halves {
		_ = half.CloseWrite()
	}
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return endWrites(over.NetConn()) || halves
	}
	return halves
}

// cutConn closes a connection without a farewell that could block.
func cutConn(conn net.Conn) {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		cutConn(over.NetConn())
	}
	_ = conn.Close()
}
