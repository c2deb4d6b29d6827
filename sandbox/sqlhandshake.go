package sandbox

import (
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// sqlALPN is the protocol name of TDS 8.0.
const sqlALPN = "tds/8.0"

// Options of PRELOGIN (MS-TDS 2.2.6.5).
const (
	optVersion    = 0
	optEncryption = 1
	optInstance   = 2
	optThread     = 3
	optMARS       = 4
	optTrace      = 5
	optFedAuth    = 6
	optNonce      = 7
	optEnd        = 0xff
)

// sqlHello is what both sides said before LOGIN7.
type sqlHello struct {
	strict     bool
	tls        tls.ConnectionState
	encryption byte
	mars       bool
	fedAuth    bool // sent by the client
	echo       bool // FEDAUTHREQUIRED 1 in the answer
	nonce      []byte
	connID     string
}

// sqlConn is one connection on its way to a session.
type sqlConn struct {
	srv     *SQL
	raw     net.Conn
	wire    *sqlWire
	hello   sqlHello
	manners SQLManners
	spid    uint16
	session *sqlSession // nil before login
}

// serve takes a connection from its first byte to its end.
func (s *SQL) serve(raw net.Conn) {
	_ = raw.SetDeadline(time.Now().Add(sqlLoginTime))
	first := make([]byte, 1)
	if _, err := io.ReadFull(raw, first); err != nil {
		return // a probe: nothing was said
	}
	s.counts.connections.Add(1)
	c := &sqlConn{srv: s, raw: &pushedBack{Conn: raw, head: first}, manners: s.current(), spid: uint16(s.spids.Add(1))}
	var err error
	switch first[0] {
	case 0x16:
		err = c.strict()
	case sqlPreLogin:
		err = c.mandatory()
	default:
		s.violate("3.3.5: a connection begins with %#02x, neither PRELOGIN nor TLS", first[0])
		return
	}
	if err != nil {
		return
	}
	if c.login() {
		_ = raw.SetDeadline(time.Time{})
		c.run()
	}
}

// pushedBack is a connection whose first bytes have been looked at.
type pushedBack struct {
	net.Conn
	head []byte
}

// Read returns the head first.
func (p *pushedBack) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// strict is TDS 8.0: TLS first, with ALPN tds/8.0, and PRELOGIN in it.
func (c *sqlConn) strict() error {
	c.hello.strict = true
	conf := c.srv.tls.Clone()
	conf.NextProtos = []string{sqlALPN}
	conf.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if !slices.Equal(h.SupportedProtos, []string{sqlALPN}) {
			c.srv.violate("TDS 8.0: ALPN is %d names, not tds/8.0 alone", len(h.SupportedProtos))
		}
		return nil, nil
	}
	t := tls.Server(c.raw, conf)
	if err := t.Handshake(); err != nil {
		return err
	}
	c.hello.tls = t.ConnectionState()
	c.wire = newSQLWire(c.srv, t, true)
	return c.prelogin()
}

// mandatory is TDS 7.4: PRELOGIN in clear text, then TLS whose handshake goes
// in PRELOGIN packets (MS-TDS 2.2.6.5, 3.3.5.2).
func (c *sqlConn) mandatory() error {
	c.wire = newSQLWire(c.srv, c.raw, false)
	if err := c.prelogin(); err != nil {
		return err
	}
	if c.hello.encryption == 0 || c.hello.encryption == 2 {
		// Whoever wants to send a token has to leave now.
		if _, err := c.wire.need(1, "a packet"); err == nil {
			c.srv.violate("2.2.6.5: the client went on after ENCRYPTION %d: a token needs TLS", c.hello.encryption)
		}
		return fmt.Errorf("%w: no encryption", errSQLFraming)
	}
	if c.wire.end > c.wire.pos {
		c.srv.violate("3.3.5.1: the client did not wait for PRELOGIN's answer")
		return errSQLFraming
	}
	inner := &sqlTLSFraming{Conn: c.raw, srv: c.srv}
	conf := c.srv.tls.Clone()
	conf.MaxVersion = tls.VersionTLS12
	t := tls.Server(inner, conf)
	if err := t.Handshake(); err != nil {
		return err
	}
	inner.bare = true
	if inner.left > 0 {
		c.srv.violate("2.2.6.5: bytes behind the TLS handshake in its last PRELOGIN packet")
	}
	c.hello.tls = t.ConnectionState()
	c.wire = newSQLWire(c.srv, t, true)
	return nil
}

// sqlTLSFraming carries a TLS handshake in packets of type PRELOGIN.
type sqlTLSFraming struct {
	net.Conn
	srv  *SQL
	left int  // bytes of the current packet
	bare bool // the handshake is over
}

// Read returns bytes of one packet at most.
func (f *sqlTLSFraming) Read(b []byte) (int, error) {
	if f.bare {
		return f.Conn.Read(b)
	}
	for f.left == 0 {
		var h [sqlHeaderSize]byte
		if _, err := io.ReadFull(f.Conn, h[:]); err != nil {
			return 0, err
		}
		n := int(binary.BigEndian.Uint16(h[2:]))
		if h[0] != sqlPreLogin || n < sqlHeaderSize || n > sqlLoginPacket {
			f.srv.violate("2.2.6.5: a TLS handshake in a packet of type %#02x with %d bytes", h[0], n)
			return 0, errSQLFraming
		}
		f.left = n - sqlHeaderSize
	}
	n, err := f.Conn.Read(b[:min(len(b), f.left)])
	f.left -= n
	return n, err
}

// Write frames b as one message.
func (f *sqlTLSFraming) Write(b []byte) (int, error) {
	if f.bare {
		return f.Conn.Write(b)
	}
	w := newSQLWriter(func(p []byte) error {
		p[0] = sqlPreLogin
		_, err := f.Conn.Write(p)
		return err
	}, 0, sqlLoginPacket)
	w.b = append(w.b, b...)
	if err := w.finish(); err != nil {
		return 0, err
	}
	return len(b), nil
}

// prelogin reads PRELOGIN and answers it.
func (c *sqlConn) prelogin() error {
	payload, err := c.wire.readMessage(sqlPreLogin, 64<<10)
	if err != nil {
		return err
	}
	options, err := c.srv.parsePrelogin(payload)
	if err != nil {
		return err
	}
	c.hello.mars = len(options[optMARS]) == 1 && options[optMARS][0] == 1
	_, c.hello.fedAuth = options[optFedAuth]
	if t := options[optTrace]; len(t) == 36 {
		c.hello.connID = hex.EncodeToString(t[:16])
	}
	w := newSQLWriter(c.wire.write, 0, sqlLoginPacket)
	w.b = append(w.b, c.preloginAnswer(options)...)
	return w.finish()
}

// parsePrelogin returns the options by their token (MS-TDS 2.2.6.5).
func (s *SQL) parsePrelogin(b []byte) (map[byte][]byte, error) {
	options := map[byte][]byte{}
	at, starts := 0, len(b)
	for ; at < len(b) && b[at] != optEnd; at += 5 {
		if at+5 > len(b) {
			break
		}
		token, off, n := b[at], int(binary.BigEndian.Uint16(b[at+1:])), int(binary.BigEndian.Uint16(b[at+3:]))
		_, twice := options[token]
		switch {
		case at == 0 && token != optVersion:
			s.violate("2.2.6.5: PRELOGIN begins with option %d, not VERSION", token)
		case twice:
			s.violate("2.2.6.5: PRELOGIN has option %d twice", token)
		}
		if off+n > len(b) {
			s.violate("2.2.6.5: PRELOGIN's option %d ends beyond the message", token)
			return nil, errSQLFraming
		}
		if n > 0 {
			starts = min(starts, off)
		}
		options[token] = b[off : off+n]
	}
	if at >= len(b) || b[at] != optEnd {
		s.violate("2.2.6.5: PRELOGIN's options have no terminator")
		return nil, errSQLFraming
	}
	if starts <= at {
		s.violate("2.2.6.5: PRELOGIN's data begins within its options")
	}
	s.checkPrelogin(options)
	return options, nil
}

// checkPrelogin records options with wrong lengths or values.
func (s *SQL) checkPrelogin(options map[byte][]byte) {
	sizes := map[byte][]int{optVersion: {6}, optEncryption: {1}, optThread: {0, 4}, optMARS: {1}, optTrace: {36}, optFedAuth: {1}, optNonce: {32}}
	for token, want := range sizes {
		if data, ok := options[token]; ok && !slices.Contains(want, len(data)) {
			s.violate("2.2.6.5: PRELOGIN's option %d has %d bytes, not one of %d", token, len(data), want)
		}
	}
	for _, must := range []byte{optVersion, optEncryption} {
		if _, ok := options[must]; !ok {
			s.violate("2.2.6.5: PRELOGIN has no option %d", must)
		}
	}
	if i := options[optInstance]; len(i) > 0 && i[len(i)-1] != 0 {
		s.violate("2.2.6.5: PRELOGIN's INSTOPT has no NUL at its end")
	}
	if f, ok := options[optFedAuth]; ok && (len(f) != 1 || f[0] != 1) {
		s.violate("2.2.6.5: PRELOGIN's FEDAUTHREQUIRED is not 1")
	}
	if m := options[optMARS]; len(m) == 1 && m[0] > 1 {
		s.violate("2.2.6.5: PRELOGIN's MARSOPT is %d", m[0])
	}
}
