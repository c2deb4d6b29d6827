package tds

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
)

// StartTLS does a handshake inside PRELOGIN packets (MS-TDS 2.2.6.5, 3.2.5.1)
// and returns the connection on which TLS records then travel bare. c is
// tls.Client or tls.Server. conf is changed on a copy: TLS 1.2 at most, as TLS
// 1.3 writes after the handshake what a peer no longer expects in packets, and
// records of full size, as SQL Server wants each packet in one.
//
// conn is the caller's to close, also after an error.
func StartTLS(ctx context.Context, conn net.Conn, conf *tls.Config, c func(net.Conn, *tls.Config) *tls.Conn) (*tls.Conn, error) {
	conf = conf.Clone()
	conf.MaxVersion = tls.VersionTLS12
	conf.DynamicRecordSizingDisabled = true
	framed := &framedConn{Conn: conn}
	secured := c(framed, conf)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	framed.bare = true
	return secured, nil
}

// ALPN is the protocol name of TDS 8.0, whose TLS begins with the connection.
const ALPN = "tds/8.0"

// framedConn is a connection whose bytes travel as payload of PRELOGIN packets
// until bare is set, between handshake and first use.
type framedConn struct {
	net.Conn
	left int // of the packet that is being read
	bare bool
}

// Read takes both types: servers of old answer with a reply's. Packets of a
// message follow each other; where one ends does not matter to TLS. A packet
// that was begun is read to its end, bare or not.
func (c *framedConn) Read(b []byte) (int, error) {
	if c.bare && c.left == 0 {
		return c.Conn.Read(b)
	}
	for empty := 0; c.left == 0; empty++ {
		h, err := ReadHeader(c.Conn)
		switch {
		case err != nil:
			return 0, err
		case h.Type != PreLogin && h.Type != Reply:
			return 0, fmt.Errorf("packet of type %#02x within the TLS handshake", byte(h.Type))
		case empty > maxEmptyPackets:
			return 0, fmt.Errorf("%w: empty packets within the TLS handshake", ErrTooLong)
		}
		c.left = h.Length - HeaderSize
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// Write makes one message of each flight: crypto/tls writes a flight at once.
func (c *framedConn) Write(b []byte) (int, error) {
	if c.bare {
		return c.Conn.Write(b)
	}
	if err := WriteMessage(c.Conn, Header{Type: PreLogin}, b, LoginPacket); err != nil {
		return 0, err
	}
	return len(b), nil
}

// CloseWrite ends the write half under TLS, if there is one to end.
func (c *framedConn) CloseWrite() error { return closeWrite(c.Conn) }

// closeWrite ends the write half of a connection that has halves.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
