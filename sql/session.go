package sql

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/gate"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/tokens"
)

const (
	// handshakeTime is how long a client may take to the end of its login.
	handshakeTime = 15 * time.Second
	// farewell is how long a client may take to hear what became of its login.
	farewell = 5 * time.Second
	// maxName and maxCause bound what comes from outside in records and messages,
	// in characters.
	maxName, maxCause = 128, 2000
)

// session is one connection of a client, from its first byte to its last.
type session struct {
	srv    *Server
	door   *door
	conn   net.Conn
	cancel context.CancelFunc
	why    atomic.Pointer[string] // it was cut; nil while it was not

	// Of the goroutine that serves it.
	record     audit.Session
	client     client
	target     target   // where it logged in
	upstream   upstream // what the login brought; nil before
	unfinished bool     // it counts among the door's handshakes that are not done
	told       bool     // what became of the login was recorded

	caller *routes.Caller               // nil for anybody; set before it is seated
	grant  atomic.Pointer[tokens.Token] // that the session is logged in with

	relay  relay // nil until the login is done; guarded by Server.mu
	seated bool  // guarded by Server.mu
}

// newSession also returns the context that ends when the session is cut. The
// connection counts as unfinished already.
func newSession(s *Server, d *door, conn net.Conn) (*session, context.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	return &session{srv: s, door: d, conn: conn, cancel: cancel, unfinished: true}, ctx
}

// sessionID leads from a message to the log. It is nobody's secret.
func sessionID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, says crypto/rand
	return hex.EncodeToString(b[:])
}

// cut ends the session wherever it is.
func (ss *session) cut(why string) {
	ss.why.CompareAndSwap(nil, &why)
	ss.cancel()
	_ = ss.conn.Close()
}

// finished takes the session out of the handshakes that are not done.
func (ss *session) finished() {
	if ss.unfinished {
		ss.unfinished = false
		ss.door.unfinished.leave(ss.conn)
	}
}

// serve is all of a session, whose client is taken as set says. It ends with the
// client, with the server, or when ctx does.
func (ss *session) serve(ctx context.Context, set *setting) {
	defer ss.srv.leave(ss)
	defer ss.close()
	defer ss.contain()
	ss.record.ID, ss.record.Start, ss.record.Remote = sessionID(), time.Now(), remoteOf(ss.conn)
	ss.record.Name = set.sql.Name
	login, done := context.WithTimeout(ctx, set.loginTimeout())
	defer done()
	if !ss.accept(login, set) {
		return
	}
	no := ss.logIn(login)
	if no == nil {
		no = ss.welcome()
	}
	if no != nil {
		ss.refuse(no)
		return
	}
	done()
	ss.run(ctx)
}

func (ss *session) close() {
	ss.cancel()
	ss.finished()
	_ = ss.conn.Close()
	if ss.upstream != nil {
		ss.upstream.close()
	}
}

// accept takes the client to the end of its login; false when it did not get
// there.
func (ss *session) accept(ctx context.Context, set *setting) bool {
	patience := min(handshakeTime, set.loginTimeout())
	_ = ss.conn.SetDeadline(time.Now().Add(patience))
	f := front{mode: set.sql.ClientTLS, passwords: set.gate.Table().Callers != nil, plain: set.sql.Plain || near(ss.conn), session: ss.record.ID}
	if f.mode != routes.ClientTLSOff {
		f.certificate = func(name string) (*tls.Certificate, error) { return ss.srv.cfg.Certificate(set.sql, name) }
	}
	c, err := set.wire.accept(ctx, ss.conn, f)
	var told *toldError
	switch {
	case err == nil:
		ss.client = c
		_ = ss.conn.SetDeadline(time.Time{})
		return true
	case ss.why.Load() != nil:
	case errors.Is(err, errSilent):
		ss.srv.cfg.Log.Debug("client left without a byte", "gateway.door", "sql", "gateway.sql.name", ss.record.Name, "client.address", ss.record.Remote)
	case errors.As(err, &told):
		ss.record.Number = told.number
		ss.tell(audit.LoginUnsupported, told.message)
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		ss.tell(audit.LoginClientError, fmt.Sprintf("the client did not finish its login within %s: %v", patience, err))
	default:
		ss.tell(audit.LoginClientError, err.Error())
	}
	return false
}

// tell records what became of the login.
func (ss *session) tell(result audit.LoginResult, cause string) {
	ss.told = true
	ss.record.Result, ss.record.Cause = result, printable(cause, maxCause)
	ss.srv.cfg.Recorder.RecordSession(&ss.record)
}

// refuse tells the client, and records it.
func (ss *session) refuse(no *refusal) {
	no.session = ss.record.ID
	_ = ss.conn.SetDeadline(time.Now().Add(farewell))
	ss.record.Remedy = no.remedy
	if e := no.words; e != nil {
		ss.record.Number = e.number
		hint := fmt.Sprintf("gateway: door=%s credential=%s", ss.record.Name, ss.record.Credential)
		if set := ss.door.set.Load(); set != nil && set.sql.Credential.ClientID != "" {
			hint += " appid=" + set.sql.Credential.ClientID
		}
		ss.tell(no.result, no.cause)
		ss.client.passOn(e, hint+" session="+ss.record.ID)
		return
	}
	ss.record.Number = ss.client.number(no.kind)
	ss.tell(no.result, gate.Told(no.detail, no.cause))
	ss.client.refuse(no)
}

// welcome tells the client that it is logged in.
func (ss *session) welcome() *refusal {
	_ = ss.conn.SetDeadline(time.Now().Add(handshakeTime))
	if err := ss.client.welcome(ss.upstream); err != nil {
		return &refusal{result: audit.LoginClientError, kind: transient, detail: "the client left before it heard that it is logged in", cause: err.Error()}
	}
	return nil
}

// run relays to the end of the session.
func (ss *session) run(ctx context.Context) {
	r := ss.client.relay(ss.upstream, ss.course())
	ss.tell(audit.LoginSuccess, "")
	ss.srv.begin(ss, r)
	reason, err := r.run(ctx)
	if err != nil {
		reason += ": " + err.Error()
	}
	if why := ss.why.Load(); why != nil {
		reason = *why
	}
	ss.end(reason, r.stats())
}

// end makes the second record.
func (ss *session) end(reason string, now stats) {
	ss.record.End, ss.record.Reason = time.Now(), printable(reason, maxCause)
	ss.record.BytesIn, ss.record.BytesOut = now.in, now.out
	ss.record.Requests, ss.record.Relogins = now.requests, now.relogins
	ss.srv.cfg.Recorder.RecordSession(&ss.record)
}

// contain keeps a defect to its session. The value of a panic is shown for
// run-time errors alone, since others may hold anything.
func (ss *session) contain() {
	v := recover()
	if v == nil {
		return
	}
	cause := panicText(v)
	ss.srv.cfg.Log.Error("a session panicked", "gateway.door", "sql", "gateway.sql.session", ss.record.ID, "gateway.sql.name", ss.record.Name,
		"cause", cause, "exception.stacktrace", string(debug.Stack()))
	if ss.told {
		if ss.record.Result == audit.LoginSuccess {
			ss.end("a defect of the gateway: "+cause, stats{})
		}
		return
	}
	defer func() { _ = recover() }() // what is said now is said by what may be broken
	if ss.client == nil {
		ss.tell(audit.LoginInternal, cause)
		return
	}
	ss.refuse(&refusal{result: audit.LoginInternal, kind: transient, detail: "the gateway has a defect", cause: cause, remedy: "its log has the stack; please report it"})
}

func panicText(v any) string {
	if e, ok := v.(runtime.Error); ok {
		return "panic: " + e.Error()
	}
	return fmt.Sprintf("panic with a value of type %T", v)
}

// remoteOf is the peer's address for records.
func remoteOf(conn net.Conn) string {
	if a := sourceOf(conn); !a.IsValid() {
		return "unix"
	}
	return conn.RemoteAddr().String()
}

// sourceOf is the peer's address alone, or zero for what is no address of IP.
func sourceOf(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// near tells whether nobody between the peer and here could listen.
func near(conn net.Conn) bool {
	_, unix := conn.RemoteAddr().(*net.UnixAddr)
	return unix || sourceOf(conn).IsLoopback()
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

// printable is at most n characters of s, those that a terminal would obey or
// hide replaced.
func printable(s string, n int) string {
	seen := 0
	return strings.Map(func(r rune) rune {
		if seen++; seen > n {
			return -1
		}
		if r == '\n' {
			return ' '
		}
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
