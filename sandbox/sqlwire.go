package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Packet types (MS-TDS 2.2.3.1.1).
const (
	sqlBatchType  = 0x01
	sqlRPCType    = 0x03
	sqlReplyType  = 0x04
	sqlAttention  = 0x06
	sqlBulkType   = 0x07
	sqlTranType   = 0x0e
	sqlLoginType  = 0x10
	sqlPreLogin   = 0x12
	sqlHeaderSize = 8
)

// Bits of a packet's status (MS-TDS 2.2.3.1.2).
const (
	sqlEOM           = 0x01
	sqlIgnore        = 0x02
	sqlReset         = 0x08
	sqlResetSkipTran = 0x10
)

// sqlLoginPacket is the size of packets until the login's answer is complete
// (MS-TDS 2.2.3.1.3).
const sqlLoginPacket = 4096

// tlsRecord is the most that one TLS record carries (RFC 8446 §5.1).
const tlsRecord = 16384

// errSQLFraming is what cannot be read as packets.
var errSQLFraming = errors.New("not a packet")

// sqlPacket is one packet as it came.
type sqlPacket struct {
	kind, status byte
	payload      []byte
}

func (p sqlPacket) last() bool { return p.status&sqlEOM != 0 }

// sqlWire reads and writes packets, on a raw connection or within TLS, where
// it sees which record a byte came in.
type sqlWire struct {
	srv       *SQL
	conn      net.Conn
	encrypted bool

	// For the one reader.
	buf      []byte
	pos, end int
	record   int // bytes that the latest read brought
	size     int // of packets now; before login sqlLoginPacket

	out sync.Mutex // held while a packet is written
}

func newSQLWire(s *SQL, c net.Conn, encrypted bool) *sqlWire {
	return &sqlWire{srv: s, conn: c, encrypted: encrypted, buf: make([]byte, 4*tlsRecord), size: sqlLoginPacket}
}

// need returns the next n bytes without taking them. unit is what a client must
// not split over two TLS records: SQL Server drops what arrives so.
func (w *sqlWire) need(n int, unit string) ([]byte, error) {
	for w.end-w.pos < n {
		// A Read of crypto/tls returns bytes of one record only, so this sees
		// where records begin. A record that is full says nothing: its writer
		// had more than fits into one.
		begun := w.end > w.pos
		if begun && w.encrypted && w.record < tlsRecord {
			w.srv.violate("%s in two TLS records: SQL Server drops it", unit)
		}
		if len(w.buf)-w.end < tlsRecord || w.pos == w.end {
			w.end = copy(w.buf, w.buf[w.pos:w.end])
			w.pos = 0
		}
		got, err := w.conn.Read(w.buf[w.end:])
		w.end += got
		w.record = got
		if err != nil && w.end-w.pos < n {
			if errors.Is(err, io.EOF) && begun {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return w.buf[w.pos : w.pos+n], nil
}

// readPacket reads one packet and checks its header and size (MS-TDS 2.2.3.1).
func (w *sqlWire) readPacket() (sqlPacket, error) {
	h, err := w.need(sqlHeaderSize, "a packet")
	if err != nil {
		return sqlPacket{}, err
	}
	n := int(binary.BigEndian.Uint16(h[2:]))
	if n < sqlHeaderSize || n > 32767 {
		w.srv.violate("2.2.3.1.3: a packet of length %d", n)
		return sqlPacket{}, fmt.Errorf("%w: length %d", errSQLFraming, n)
	}
	whole, err := w.need(n, "a packet")
	if err != nil {
		return sqlPacket{}, err
	}
	p := sqlPacket{kind: whole[0], status: whole[1], payload: append([]byte(nil), whole[sqlHeaderSize:]...)}
	w.pos += n
	w.checkPacket(p, n)
	return p, nil
}

// checkPacket records what is wrong with a packet of n bytes.
func (w *sqlWire) checkPacket(p sqlPacket, n int) {
	switch {
	case n > w.size:
		w.srv.violate("2.2.3.1.3: a packet of type %#02x has %d bytes, %d are allowed now", p.kind, n, w.size)
	case !p.last() && n != w.size:
		w.srv.violate("2.2.3.1.3: a packet of type %#02x that is not the last has %d bytes, not %d", p.kind, n, w.size)
	}
	if p.status&sqlIgnore != 0 && !p.last() {
		w.srv.violate("2.2.3.1.2: status %#02x has the ignore bit without EOM", p.status)
	}
	if p.status&sqlReset != 0 && p.status&sqlResetSkipTran != 0 {
		w.srv.violate("2.2.3.1.2: status %#02x has both reset bits", p.status)
	}
}

// readMessage reads the packets of one message, all of type kind; limit is of
// the payload, in bytes.
func (w *sqlWire) readMessage(kind byte, limit int) ([]byte, error) {
	var all []byte
	for {
		p, err := w.readPacket()
		switch {
		case err != nil:
			return nil, err
		case p.kind != kind:
			w.srv.violate("3.3.5: a packet of type %#02x where %#02x has to come", p.kind, kind)
			return nil, fmt.Errorf("%w: type %#02x", errSQLFraming, p.kind)
		case p.status&^sqlEOM != 0:
			w.srv.violate("2.2.3.1.2: status %#02x before login", p.status)
		case len(all)+len(p.payload) > limit:
			w.srv.violate("2.2.6.4: a message of type %#02x with more than %d bytes", kind, limit)
			return nil, fmt.Errorf("%w: too long", errSQLFraming)
		}
		all = append(all, p.payload...)
		if p.last() {
			return all, nil
		}
	}
}

// A sqlWriter cuts a reply into packets as it grows. Its user calls finish.
type sqlWriter struct {
	send func(packet []byte) error
	spid uint16
	size int // of a packet
	id   byte
	b    []byte // header's room, then payload
	err  error  // of the first packet that could not be sent
}

func newSQLWriter(send func([]byte) error, spid uint16, size int) *sqlWriter {
	return &sqlWriter{send: send, spid: spid, size: size, b: make([]byte, sqlHeaderSize, size+1024)}
}

// spill sends full packets. What has begun is sent only when it is known not to
// be the last.
func (w *sqlWriter) spill() {
	off := 0
	for len(w.b)-off > w.size {
		w.packet(w.b[off:off+w.size], 0)
		// The next header takes the place of bytes that have been sent.
		off += w.size - sqlHeaderSize
	}
	if off > 0 {
		w.b = w.b[:copy(w.b, w.b[off:])]
	}
}

// finish sends what is left, as the last packet.
func (w *sqlWriter) finish() error {
	w.spill()
	w.packet(w.b, sqlEOM)
	w.b = w.b[:sqlHeaderSize]
	return w.err
}

func (w *sqlWriter) packet(p []byte, status byte) {
	w.id++
	p[0], p[1], p[6], p[7] = sqlReplyType, status, w.id, 0
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	binary.BigEndian.PutUint16(p[4:], w.spid)
	if w.err == nil {
		w.err = w.send(p)
	}
}

// write sends one packet, whole, in one TLS record.
func (w *sqlWire) write(packet []byte) error {
	w.out.Lock()
	defer w.out.Unlock()
	_, err := w.conn.Write(packet)
	return err
}
