package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// maxSQLMessage bounds a request that has to be held whole; bulk loads are not.
const maxSQLMessage = 64 << 20

// errSQLOver is the end of a session.
var errSQLOver = errors.New("session is over")

// A sqlLane is one conversation of requests and replies: the connection, or
// with MARS each of its SMP sessions. The connection's reader delivers packets,
// the lane's own goroutine takes requests from them, one after the other.
type sqlLane struct {
	session *sqlSession
	send    func(packet []byte) error
	in      chan sqlPacket
	over    chan struct{} // closed by the reader: nothing comes any more
	ending  sync.Once
	took    func() // called for each packet that was taken; nil: nobody cares

	mu        sync.Mutex // guards what follows
	busy      bool       // a request has come whole and is not answered yet
	attention bool       // it was interrupted
	interrupt chan struct{}
}

func newSQLLane(s *sqlSession, send func([]byte) error) *sqlLane {
	return &sqlLane{session: s, send: send, in: make(chan sqlPacket, 8), over: make(chan struct{})}
}

// end tells the lane that nothing comes any more.
func (l *sqlLane) end() { l.ending.Do(func() { close(l.over) }) }

// deliver hands a packet to the lane, from the connection's reader. stop ends
// the wait for room.
func (l *sqlLane) deliver(p sqlPacket, stop <-chan struct{}) bool {
	if p.kind == sqlAttention && l.interrupted(p) {
		if l.took != nil {
			l.took()
		}
		return true
	}
	l.mu.Lock()
	if p.kind != sqlAttention {
		if l.busy {
			l.session.srv.violate("3.2.5: a packet of type %#02x while a request runs: only an attention may come", p.kind)
		}
		if p.last() && !l.busy {
			l.busy, l.attention, l.interrupt = true, false, make(chan struct{})
		}
	}
	l.mu.Unlock()
	select {
	case l.in <- p:
		return true
	case <-stop:
	case <-l.over:
	}
	return false
}

// interrupted takes an attention while a request runs. Others are answered in
// their turn.
func (l *sqlLane) interrupted(p sqlPacket) bool {
	l.session.srv.counts.attentions.Add(1)
	if len(p.payload) > 0 || !p.last() {
		l.session.srv.violate("2.2.1.7: an attention of %d bytes, status %#02x", len(p.payload), p.status)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.busy {
		return false
	}
	if !l.attention {
		l.attention = true
		close(l.interrupt)
	}
	return true
}

// settle ends the request that runs, and tells whether it was interrupted: the
// reply has to say so.
func (l *sqlLane) settle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.attention
	l.busy, l.attention = false, false
	return was
}

// cancelled is closed by an attention for the request that runs.
func (l *sqlLane) cancelled() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.interrupt
}

// next returns the next packet.
func (l *sqlLane) next() (sqlPacket, error) {
	select {
	case p := <-l.in:
		return l.taken(p), nil
	default:
	}
	select {
	case p := <-l.in:
		return l.taken(p), nil
	case <-l.over:
		return sqlPacket{}, io.EOF
	}
}

func (l *sqlLane) taken(p sqlPacket) sqlPacket {
	if l.took != nil {
		l.took()
	}
	return p
}

// run answers requests until the session is over.
func (l *sqlLane) run() {
	for {
		p, err := l.next()
		if err != nil {
			return
		}
		if err := l.answer(p); err != nil {
			return
		}
	}
}

// answer serves the request whose first packet is p.
func (l *sqlLane) answer(p sqlPacket) error {
	r := l.session.newRequest(l)
	if p.kind == sqlAttention {
		r.token(done(tokDone, doneAttn, 0, 0))
		return r.out.finish()
	}
	l.session.srv.counts.requests.Add(1)
	m := &sqlMessage{lane: l, kind: p.kind, packet: p, resets: p.status & (sqlReset | sqlResetSkipTran)}
	if m.resets != 0 {
		if p.kind == sqlBulkType {
			l.session.srv.violate("2.2.3.1.2: a reset bit on a bulk load")
		}
		if err := l.session.reset(r, p.status&sqlResetSkipTran != 0); err != nil {
			m.discard()
			l.settle()
			_ = r.out.finish()
			return err
		}
	}
	var err error
	switch p.kind {
	case sqlBatchType:
		err = l.session.batch(r, m)
	case sqlRPCType:
		err = l.session.rpc(r, m)
	case sqlTranType:
		err = l.session.transaction(r, m)
	case sqlBulkType:
		err = l.session.bulk(r, m)
	default:
		l.session.srv.violate("3.3.5: a packet of type %#02x after login", p.kind)
		return errSQLOver
	}
	if err != nil {
		return err
	}
	m.discard()
	return r.finish()
}

// A sqlMessage is a request as its packets come.
type sqlMessage struct {
	lane    *sqlLane
	kind    byte
	packet  sqlPacket
	resets  byte // the first packet's reset bits
	ignored bool // the client took it back with its last packet
	broken  error
}

// Read returns the payload's bytes, and [io.EOF] after the last packet.
func (m *sqlMessage) Read(b []byte) (int, error) {
	for len(m.packet.payload) == 0 {
		if m.broken != nil {
			return 0, m.broken
		}
		if m.packet.last() {
			m.ignored = m.packet.status&sqlIgnore != 0
			return 0, io.EOF
		}
		p, err := m.lane.next()
		switch {
		case err != nil:
			m.broken = io.ErrUnexpectedEOF
		case p.kind != m.kind:
			m.lane.session.srv.violate("2.2.3.1.1: a packet of type %#02x within a message of type %#02x", p.kind, m.kind)
			m.broken = errSQLFraming
		case p.status&(sqlReset|sqlResetSkipTran)&^m.resets != 0:
			// Drivers repeat the first packet's bits, which is not forbidden.
			m.lane.session.srv.violate("2.2.3.1.2: a reset bit that the first packet of its message does not have")
		}
		m.packet = p
	}
	n := copy(b, m.packet.payload)
	m.packet.payload = m.packet.payload[n:]
	return n, nil
}

// whole returns all of the payload, without ALL_HEADERS, whose transaction it
// checks.
func (m *sqlMessage) whole() ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(m, maxSQLMessage+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSQLMessage {
		return nil, fmt.Errorf("%w: a request of more than %d bytes", errSQLFraming, maxSQLMessage)
	}
	if m.ignored {
		return nil, nil
	}
	return m.lane.session.headers(b)
}

// discard reads the rest.
func (m *sqlMessage) discard() { _, _ = io.Copy(io.Discard, m) }

// headers checks ALL_HEADERS (MS-TDS 2.2.5.3) and returns what follows it.
func (s *sqlSession) headers(b []byte) ([]byte, error) {
	bad := func(why string) ([]byte, error) {
		s.srv.violate("2.2.5.3: ALL_HEADERS: %s", why)
		return nil, fmt.Errorf("%w: ALL_HEADERS", errSQLFraming)
	}
	if len(b) < 4 {
		return bad("missing")
	}
	total := binary.LittleEndian.Uint32(b)
	if total < 4 || uint64(total) > uint64(len(b)) {
		return bad("its length is not within the message")
	}
	rest, seen := b[4:total], false
	for len(rest) > 0 {
		if len(rest) < 6 {
			return bad("a header is cut off")
		}
		n := binary.LittleEndian.Uint32(rest)
		if n < 6 || uint64(n) > uint64(len(rest)) {
			return bad("a header ends beyond them all")
		}
		if kind := binary.LittleEndian.Uint16(rest[4:]); kind == 2 {
			if n != 18 || seen {
				return bad("the transaction descriptor is not one of 18 bytes")
			}
			seen = true
			s.checkDescriptor(binary.LittleEndian.Uint64(rest[6:]), binary.LittleEndian.Uint32(rest[14:]))
		}
		rest = rest[n:]
	}
	if !seen {
		return bad("no transaction descriptor")
	}
	return b[total:], nil
}
