package proxy

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultConnections = 20_000
	defaultPerSource   = 256
	// turningAway is how many refused connections are told so at once; others
	// are closed without a word.
	turningAway = 64
	turnedWait  = 500 * time.Millisecond
	// crowdInterval is how often the log says that connections are refused.
	crowdInterval = time.Minute
)

// crowded is the whole answer to a connection too many.
const crowded = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nGateway-Error: overloaded\r\n" +
	"Proxy-Status: gateway; error=connection_limit_reached; details=\"overloaded\"\r\n" +
	"Content-Type: application/problem+json\r\nContent-Length: 107\r\n\r\n" + crowdedBody

const crowdedBody = `{"title":"Too much is under way","status":503,"detail":"too many connections are open","code":"overloaded"}`

// crowdedTLS is a fatal alert, internal_error (RFC 8446 §6.2), for a peer that
// expects a handshake.
const crowdedTLS = "\x15\x03\x01\x00\x02\x02\x50"

// Listener wraps the listener of a proxy port, below TLS, and bounds how many of
// its connections are open: all together over all listeners of h, and those of
// one source, which is an IPv4 address or an IPv6 /64; loopback and unix sockets
// are no one's source. A connection too many gets 503, or an alert where the
// table has TLS, and is closed. Accept never waits for that.
func (h *Handler) Listener(l net.Listener) net.Listener {
	answer := crowded
	if w := h.world.Load(); w != nil && w.gate.Table().Listen.TLS != nil {
		answer = crowdedTLS
	}
	return &seating{Listener: l, h: h, answer: []byte(answer), telling: make(chan struct{}, turningAway), bySource: map[netip.Addr]int{}}
}

type seating struct {
	net.Listener
	h       *Handler
	answer  []byte
	telling chan struct{} // one entry for each connection that is being turned away
	said    atomic.Int64  // when the log was last told, Unix time in ns

	mu       sync.Mutex // guards bySource
	bySource map[netip.Addr]int
}

// Accept implements [net.Listener].
func (s *seating) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		taken, why := s.seat(c)
		if taken != nil {
			return taken, nil
		}
		s.turnAway(c, why)
	}
}

// seat takes c in, or says why not.
func (s *seating) seat(c net.Conn) (net.Conn, string) {
	if s.h.connections.Add(1) > s.h.cfg.Connections {
		s.h.connections.Add(-1)
		return nil, fmt.Sprintf("%d connections are open", s.h.cfg.Connections)
	}
	taken := &seat{Conn: c, seating: s, source: countedSource(c.RemoteAddr())}
	if taken.source.IsValid() {
		s.mu.Lock()
		n := s.bySource[taken.source] + 1
		if n <= s.h.cfg.PerSource {
			s.bySource[taken.source] = n
		}
		s.mu.Unlock()
		if n > s.h.cfg.PerSource {
			s.h.connections.Add(-1)
			return nil, fmt.Sprintf("%s has %d connections open", taken.source, s.h.cfg.PerSource)
		}
	}
	return taken, ""
}

// countedSource is whom a connection counts for; the zero Addr for nobody.
func countedSource(a net.Addr) netip.Addr {
	source := sourceOf(a)
	if !source.IsValid() || source.IsLoopback() {
		return netip.Addr{}
	}
	if source.Is6() {
		return netip.PrefixFrom(source, 64).Masked().Addr()
	}
	return source
}

func (s *seating) turnAway(c net.Conn, why string) {
	now := time.Now().UnixNano()
	if last := s.said.Load(); now-last >= int64(crowdInterval) && s.said.CompareAndSwap(last, now) {
		s.h.cfg.Log.Warn("connections are refused", "cause", why, "remedy", "see who opens them; a client should reuse its connections")
	}
	select {
	case s.telling <- struct{}{}:
	default:
		_ = c.Close()
		return
	}
	go func() { // ends by the deadline
		defer func() { <-s.telling }()
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(turnedWait))
		if _, err := c.Write(s.answer); err != nil {
			return
		}
		// Closing with bytes unread would reset the connection, and the answer
		// might be lost with it.
		if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_, _ = io.CopyN(io.Discard, c, drainBytes)
		}
	}()
}

// seat is a connection that was taken in.
type seat struct {
	net.Conn
	seating *seating
	source  netip.Addr // that it counts for
	left    atomic.Bool
	began   bool   // something was read
	early   []byte // was read before it was wanted
}

// peeked is how much http.Server reads at first to see whether HTTP/2 is spoken
// without TLS.
const peeked = len("PRI * HTTP/2.0")

// Read implements [net.Conn]. Where http.Server asks for a first few bytes, more
// is taken: it answers what those show to be no call at once, and closing with
// bytes unread would reset the connection, and the answer might be lost with it.
func (c *seat) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	if c.began || len(p) == 0 || len(p) > peeked {
		c.began = c.began || len(p) > 0
		return c.Conn.Read(p)
	}
	more := make([]byte, 2<<10)
	n, err := c.Conn.Read(more)
	if n == 0 {
		return 0, err
	}
	c.began, c.early = true, more[:n]
	return c.Read(p)
}

// Close implements [net.Conn].
func (c *seat) Close() error {
	if c.left.CompareAndSwap(false, true) {
		s := c.seating
		s.h.connections.Add(-1)
		if c.source.IsValid() {
			s.mu.Lock()
			if s.bySource[c.source]--; s.bySource[c.source] == 0 {
				delete(s.bySource, c.source)
			}
			s.mu.Unlock()
		}
	}
	return c.Conn.Close()
}

// NetConn returns the connection beneath, for those who ask the kernel about it.
func (c *seat) NetConn() net.Conn { return c.Conn }

// CloseWrite lets http.Server say that it has said all.
func (c *seat) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
