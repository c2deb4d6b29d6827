package sandbox_test

import (
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"io"
	"maps"
	"net"
	"slices"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// openWith is a pool of go-mssqldb with one token.
func openWith(t testing.TB, s *sandbox.SQL, extra, token string, also ...*sandbox.SQL) *sql.DB {
	t.Helper()
	db := sql.OpenDB(sqlConnector(t, s, "true", extra, func() (string, error) { return token, nil }, also...))
	t.Cleanup(func() { db.Close() })
	return db
}

// rawConn is a client that can break every rule.
type rawConn struct {
	t     testing.TB
	conn  net.Conn
	nonce []byte
	echo  bool
}

func rawPlain(t testing.TB, s *sandbox.SQL) *rawConn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &rawConn{t: t, conn: c}
}

func rawStrict(t testing.TB, s *sandbox.SQL, alpn ...string) *rawConn {
	t.Helper()
	c := rawPlain(t, s)
	if alpn == nil {
		alpn = []string{"tds/8.0"}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CAPEM())
	c.conn = tls.Client(c.conn, &tls.Config{RootCAs: pool, ServerName: sandbox.SQLHost, NextProtos: alpn, MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true})
	return c
}

// secure sends a right PRELOGIN and does the handshake in PRELOGIN packets.
func (c *rawConn) secure() {
	c.t.Helper()
	c.prelogin(nil)
	inside := &rawInside{Conn: c.conn}
	t := tls.Client(inside, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true})
	if err := t.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	inside.bare, c.conn = true, t
}

// rawInside carries a handshake in PRELOGIN packets until bare is set.
type rawInside struct {
	net.Conn
	left int // of the packet at hand
	bare bool
}

func (i *rawInside) Read(b []byte) (int, error) {
	if i.bare {
		return i.Conn.Read(b)
	}
	for i.left == 0 {
		h := make([]byte, 8)
		if _, err := io.ReadFull(i.Conn, h); err != nil {
			return 0, err
		}
		i.left = int(binary.BigEndian.Uint16(h[2:])) - len(h)
	}
	n, err := i.Conn.Read(b[:min(len(b), i.left)])
	i.left -= n
	return n, err
}

func (i *rawInside) Write(b []byte) (int, error) {
	if i.bare {
		return i.Conn.Write(b)
	}
	h := binary.BigEndian.AppendUint16([]byte{0x12, 1}, uint16(8+len(b)))
	if _, err := i.Conn.Write(append(append(h, 0, 0, 1, 0), b...)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// send writes a message in packets of 4096 bytes.
func (c *rawConn) send(kind byte, payload []byte) {
	for {
		n := min(len(payload), 4088)
		status := byte(1)
		if n < len(payload) {
			status = 0
		}
		c.packet(kind, status, payload[:n])
		if payload = payload[n:]; len(payload) == 0 {
			return
		}
	}
}

func (c *rawConn) packet(kind, status byte, payload []byte) {
	b := binary.BigEndian.AppendUint16([]byte{kind, status}, uint16(len(payload)+8))
	c.write(append(append(b, 0, 0, 1, 0), payload...))
}

func (c *rawConn) write(b []byte) { _, _ = c.conn.Write(b) } // the server may have left: reading shows it

// receive reads one message.
func (c *rawConn) receive() (payload []byte, packets int, err error) {
	for {
		h := make([]byte, 8)
		if _, err := io.ReadFull(c.conn, h); err != nil {
			return payload, packets, err
		}
		b := make([]byte, int(binary.BigEndian.Uint16(h[2:]))-8)
		if _, err := io.ReadFull(c.conn, b); err != nil {
			return payload, packets, err
		}
		payload, packets = append(payload, b...), packets+1
		if h[1]&1 != 0 {
			return payload, packets, nil
		}
	}
}

// prelogin sends the options of a right client after change, and returns the
// answer's.
func (c *rawConn) prelogin(change func(map[byte][]byte)) map[byte][]byte {
	c.t.Helper()
	options := map[byte][]byte{0: {17, 0, 0, 0, 0, 0}, 1: {1}, 2: {0}, 3: {0, 0, 0, 0}, 4: {0}, 5: make([]byte, 36), 6: {1}}
	if change != nil {
		change(options)
	}
	c.send(0x12, rawOptions(options))
	payload, _, err := c.receive()
	if err != nil {
		return nil
	}
	answer := map[byte][]byte{}
	for i := 0; payload[i] != 0xff; i += 5 {
		at, n := binary.BigEndian.Uint16(payload[i+1:]), binary.BigEndian.Uint16(payload[i+3:])
		answer[payload[i]] = payload[at : at+n]
	}
	c.echo, c.nonce = len(answer[6]) == 1 && answer[6][0] == 1, answer[7]
	return answer
}

func rawOptions(options map[byte][]byte) []byte {
	var head, data []byte
	for _, token := range slices.Sorted(maps.Keys(options)) {
		head = append(head, token)
		head = binary.BigEndian.AppendUint16(head, uint16(5*len(options)+1+len(data)))
		head = binary.BigEndian.AppendUint16(head, uint16(len(options[token])))
		data = append(data, options[token]...)
	}
	return append(append(head, 0xff), data...)
}

// rawLogin7 is a LOGIN7 whose every rule can be broken.
type rawLogin7 struct {
	version                        uint32
	flags2, flags3                 byte
	host, user, password, app      string
	server, library, language, db  string
	attach, change                 string
	sspi                           []byte
	token                          string
	echo                           bool
	nonce                          []byte
	features                       []byte
	length, ibHost, ext, tokenSize int // added to the right values
	tail                           []byte
}

// rawLogin is a right one.
func rawLogin(token string, echo bool) rawLogin7 {
	return rawLogin7{version: 0x74000004, flags3: 0x10, host: "h1", app: "raw", server: sandbox.SQLHost, library: "raw", db: "d1", token: token, echo: echo}
}

func utf16le(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func (l rawLogin7) bytes() []byte {
	b := make([]byte, 94)
	binary.LittleEndian.PutUint32(b[4:], l.version)
	binary.LittleEndian.PutUint32(b[8:], 4096)
	b[25], b[27] = l.flags2, l.flags3
	field := func(at int, data []byte, units int) {
		binary.LittleEndian.PutUint16(b[at:], uint16(len(b)))
		binary.LittleEndian.PutUint16(b[at+2:], uint16(units))
		b = append(b, data...)
	}
	text := func(at int, s string) { field(at, utf16le(s), len(utf16le(s))/2) }
	text(36, l.host)
	binary.LittleEndian.PutUint16(b[36:], uint16(94+l.ibHost))
	text(40, l.user)
	text(44, l.password)
	text(48, l.app)
	text(52, l.server)
	if l.flags3&0x10 != 0 {
		field(56, make([]byte, 4), 4)
	}
	text(60, l.library)
	text(64, l.language)
	text(68, l.db)
	field(78, l.sspi, len(l.sspi))
	text(82, l.attach)
	text(86, l.change)
	if l.flags3&0x10 != 0 {
		at := binary.LittleEndian.Uint16(b[56:])
		binary.LittleEndian.PutUint32(b[at:], uint32(len(b)+l.ext))
		b = append(append(b, l.features...), l.fedAuth()...)
		b = append(b, 0xff)
	}
	b = append(b, l.tail...)
	binary.LittleEndian.PutUint32(b, uint32(len(b)+l.length))
	return b
}

func (l rawLogin7) fedAuth() []byte {
	if l.token == "" {
		return nil
	}
	token := utf16le(l.token)
	data := []byte{2}
	if l.echo {
		data[0] = 3
	}
	data = binary.LittleEndian.AppendUint32(data, uint32(len(token)+l.tokenSize))
	data = append(append(data, token...), l.nonce...)
	return append(binary.LittleEndian.AppendUint32([]byte{2}, uint32(len(data))), data...)
}

// rawAnswer is the answer to LOGIN7, cut into tokens.
type rawAnswer struct {
	kinds   []byte
	tokens  [][]byte // without type and length
	packets int
	err     error
}

func (c *rawConn) login(l rawLogin7) rawAnswer {
	c.t.Helper()
	if l.nonce == nil {
		l.nonce = c.nonce
	}
	c.send(0x10, l.bytes())
	payload, packets, err := c.receive()
	a := rawAnswer{packets: packets, err: err}
	for i := 0; i < len(payload); {
		kind, n, head := payload[i], 12, 1
		switch kind {
		case 0xfd:
		case 0xae:
			for n = 0; payload[i+1+n] != 0xff; n += 5 + int(binary.LittleEndian.Uint32(payload[i+2+n:])) {
				continue
			}
			n++
		default:
			n, head = int(binary.LittleEndian.Uint16(payload[i+1:])), 3
		}
		a.kinds, a.tokens = append(a.kinds, kind), append(a.tokens, payload[i+head:i+head+n])
		i += head + n
	}
	return a
}

func (a rawAnswer) has(kind byte) bool { return slices.Contains(a.kinds, kind) }

// hex is the nth token of a kind.
func (a rawAnswer) hex(kind byte, n int) string {
	for i, k := range a.kinds {
		if k == kind {
			if n == 0 {
				return hex.EncodeToString(a.tokens[i])
			}
			n--
		}
	}
	return ""
}

func (a rawAnswer) errorNumber() uint32 {
	if i := slices.Index(a.kinds, 0xaa); i >= 0 {
		return binary.LittleEndian.Uint32(a.tokens[i])
	}
	return 0
}
