package tds

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// rawPacket is a packet as it stands on the wire.
func rawPacket(kind PacketType, status byte, payload []byte) []byte {
	h := Header{Type: kind, Status: status, Length: HeaderSize + len(payload), ID: 1}
	return append(h.append(nil), payload...)
}

func request(text string) []byte      { return rawPacket(Batch, EOM, []byte(text)) }
func resetRequest(text string) []byte { return rawPacket(Batch, EOM|ResetConnection, []byte(text)) }
func replyPacket(text string) []byte  { return rawPacket(Reply, EOM, []byte(text)) }
func replyPartial(text string) []byte { return rawPacket(Reply, 0, []byte(text)) }

// smpFrame is a frame of SMP as it stands on the wire.
func smpFrame(flags byte, sid uint16, data []byte) []byte {
	n := smpHeaderSize + len(data)
	b := make([]byte, smpHeaderSize, n)
	b[0], b[1], b[2], b[3] = smpID, flags, byte(sid), byte(sid>>8)
	b[4], b[5], b[6] = byte(n), byte(n>>8), byte(n>>16)
	return append(b, data...)
}

// farEnd is a peer of the relay: it collects what comes, and each Write of the
// relay apart.
type farEnd struct {
	net.Conn
	t       *testing.T
	mu      sync.Mutex // guards what follows
	got     []byte
	writes  [][]byte // of the relay
	ended   bool
	endedBy error
}

// newEnd returns a peer, and the relay's side of the connection to it. The peer
// reads all the time unless it stalls.
func newEnd(t *testing.T, stalled bool) (*farEnd, net.Conn) {
	far, near := net.Pipe()
	e := &farEnd{Conn: far, t: t}
	t.Cleanup(func() { _ = far.Close() })
	if !stalled {
		go e.collect()
	}
	return e, &tappedConn{Conn: near, end: e}
}

// collect reads until the connection ends.
func (e *farEnd) collect() {
	for b := make([]byte, 64<<10); ; {
		n, err := e.Read(b)
		e.mu.Lock()
		e.got = append(e.got, b[:n]...)
		e.ended, e.endedBy = err != nil, err
		e.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// tappedConn notes each Write.
type tappedConn struct {
	net.Conn
	end *farEnd
}

func (c *tappedConn) Write(b []byte) (int, error) {
	c.end.mu.Lock()
	c.end.writes = append(c.end.writes, bytes.Clone(b))
	c.end.mu.Unlock()
	return c.Conn.Write(b)
}

// send writes b, and waits until all it causes has happened.
func (e *farEnd) send(b []byte) {
	e.t.Helper()
	if _, err := e.Write(b); err != nil {
		e.t.Fatalf("Write: %v", err)
	}
	synctest.Wait()
}

// want fails unless e received exactly this since the last call.
func (e *farEnd) want(what string, b ...[]byte) {
	e.t.Helper()
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if want := bytes.Join(b, nil); !bytes.Equal(e.got, want) {
		e.t.Fatalf("%s: got %q, want %q", what, e.got, want)
	}
	e.got = nil
}

// wantOpen fails unless the connection is open, or ended, as told.
func (e *farEnd) wantOpen(what string, open bool) {
	e.t.Helper()
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended == open {
		e.t.Fatalf("%s: connection open is %t (%v), want %t", what, !e.ended, e.endedBy, open)
	}
}

// rig is a relay that runs in a bubble of synctest, between two ends.
type rig struct {
	*Relay
	t              *testing.T
	client, server *farEnd
	cancel         context.CancelFunc
	logins         int
	results        []string
	reason         string
	err            error
	finished       chan struct{}
}

// newRig runs a relay that change has changed.
func newRig(t *testing.T, change func(*rig)) *rig {
	t.Helper()
	g := &rig{Relay: &Relay{}, t: t, finished: make(chan struct{})}
	var near net.Conn
	g.client, near = newEnd(t, false)
	g.Client = &Client{conn: near}
	g.server, g.Upstream = newServer(t)
	g.Relogged = func(result string, _ error) { g.results = append(g.results, result) }
	if change != nil {
		change(g)
	}
	ctx, cancel := context.WithCancel(t.Context())
	g.cancel = cancel
	t.Cleanup(cancel)
	go func() {
		defer close(g.finished)
		g.reason, g.err = g.Run(ctx)
	}()
	synctest.Wait()
	return g
}

// newServer is a server's end that is logged in to.
func newServer(t *testing.T) (*farEnd, *Upstream) {
	far, near := newEnd(t, false)
	return far, &Upstream{PacketSize: 4096, SPID: 51, conn: near}
}

// relogs has the relay log in to u when the token is due, which it is.
func (g *rig) relogs(u *Upstream, err error) {
	g.Due = func() bool { return true }
	g.Over = func() bool { return false }
	g.Login = func(context.Context) (*Upstream, error) {
		g.logins++
		return u, err
	}
}

// wantEnd waits until the relay has ended, for this reason, and both its
// connections are closed.
func (g *rig) wantEnd(reason string, orderly bool) {
	g.t.Helper()
	select {
	case <-g.finished:
	case <-time.After(time.Hour):
		g.t.Fatal("Run has not returned after an hour")
	}
	if g.reason != reason || (g.err == nil) != orderly {
		g.t.Fatalf("Run = %q, %v; want %q, orderly %t", g.reason, g.err, reason, orderly)
	}
	for name, conn := range map[string]net.Conn{"client": g.Client.conn, "server": g.link.conn} {
		if _, err := conn.Write([]byte{0}); err != io.ErrClosedPipe {
			g.t.Fatalf("connection to the %s: %v, want it closed", name, err)
		}
	}
}

// wantRunning fails if the relay has ended.
func (g *rig) wantRunning() {
	g.t.Helper()
	synctest.Wait()
	select {
	case <-g.finished:
		g.t.Fatalf("Run = %q, %v; want it running", g.reason, g.err)
	default:
	}
}

// exchange has the client ask and the server answer.
func (g *rig) exchange(server *farEnd, request, reply []byte) {
	g.t.Helper()
	g.client.send(request)
	server.want("request", request)
	server.send(reply)
	g.client.want("reply", reply)
}
