package tds

import (
	"errors"
	"net"
	"os"
	"sync"
)

// aheadConn reads ahead under TLS. crypto/tls asks the kernel for little more
// than a record at a time, and a server's records are as small as its packets:
// in a streamed result each would cost two reads and a write. Here what is there
// is read at once, and [aheadConn.gather] lets it be passed on in one piece.
// One goroutine reads.
type aheadConn struct {
	net.Conn
	buf        *[relayAhead]byte // nil while nothing is held
	start, end int
	streaming  bool // the last read was filled: there is probably more
	nowait     bool // to have nothing is an error, not a reason to wait
}

// relayAhead is several records of a server.
const relayAhead = 64 << 10

var aheadBuffers = sync.Pool{New: func() any { return new([relayAhead]byte) }}

// readAhead returns conn for a TLS connection to be made upon.
func readAhead(conn net.Conn) net.Conn { return &aheadConn{Conn: conn} }

// aheadUnder is the one that readAhead put under TLS; nil if it was not asked.
func aheadUnder(conn net.Conn) *aheadConn {
	for {
		switch c := conn.(type) {
		case *aheadConn:
			return c
		case *framedConn:
			conn = c.Conn
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}

// NetConn is the connection beneath.
func (a *aheadConn) NetConn() net.Conn { return a.Conn }

// CloseWrite ends the half beneath, if there is one to end.
func (a *aheadConn) CloseWrite() error { return closeWrite(a.Conn) }

// Read implements [net.Conn].
func (a *aheadConn) Read(b []byte) (int, error) {
	if a.start == a.end {
		switch {
		case a.nowait:
			return 0, os.ErrDeadlineExceeded // crypto/tls goes on after it
		case !a.streaming:
			n, err := a.Conn.Read(b)
			a.streaming = n == len(b)
			return n, err
		}
		if a.buf == nil {
			a.buf = aheadBuffers.Get().(*[relayAhead]byte)
		}
		n, err := a.Conn.Read(a.buf[:])
		if a.start, a.end = 0, n; n == 0 {
			return 0, err
		} // otherwise an error comes again
	}
	n := copy(b, a.buf[a.start:a.end])
	a.start += n
	return n, nil
}

// gather adds to the n bytes of buf that were read from conn, which is upon a,
// what can be had without waiting. An error comes again at the next read.
func (a *aheadConn) gather(conn net.Conn, buf []byte, n int) (int, error) {
	a.nowait = true
	defer func() { a.nowait = false }()
	for n < len(buf) {
		m, err := conn.Read(buf[n:])
		n += m
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// rest gives the buffer back: no more is expected for now.
func (a *aheadConn) rest() {
	if a.start == a.end && a.buf != nil {
		aheadBuffers.Put(a.buf)
		a.buf = nil
		a.streaming = false
	}
}
