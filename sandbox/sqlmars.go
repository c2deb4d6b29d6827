package sandbox

import (
	"encoding/binary"
	"fmt"
	"sync"
)

// The Session Multiplex Protocol (MC-SMP), on which TDS runs with MARS.
const (
	smpID         = 0x53
	smpHeaderSize = 16
	smpSYN        = 1
	smpACK        = 2
	smpFIN        = 4
	smpDATA       = 8
	smpWindow     = 4   // packets that each side may be ahead at first
	maxSMPLanes   = 256 // of a connection
)

// smpMux is the connection's side of MARS. Its reader delivers to lanes.
type smpMux struct {
	conn  *sqlConn
	lanes map[uint16]*smpLane // the reader's alone
	work  sync.WaitGroup
}

// smpLane is one SMP session.
type smpLane struct {
	*sqlLane
	mux *smpMux
	sid uint16

	mu       sync.Mutex // guards what follows
	room     sync.Cond  // the window has moved, or the lane is over
	sent     uint32     // SEQNUM of the latest DATA that went out
	limit    uint32     // the client's WNDW
	received uint32     // SEQNUM of the latest DATA that came in
	consumed uint32     // of those, taken by the lane
	granted  uint32     // our WNDW as the client knows it
	gone     bool
}

// runMARS serves a session whose packets are in SMP.
func (c *sqlConn) runMARS() {
	m := &smpMux{conn: c, lanes: map[uint16]*smpLane{}}
	for m.frame() == nil {
		continue
	}
	_ = c.raw.Close() // writers waiting for the socket end, too
	for _, l := range m.lanes {
		l.leave()
	}
	m.work.Wait()
}

// frame reads and serves one SMP packet.
func (m *smpMux) frame() error {
	w, violate := m.conn.wire, m.conn.srv.violate
	h, err := w.need(smpHeaderSize, "an SMP packet")
	if err != nil {
		return err
	}
	flags, sid := h[1], binary.LittleEndian.Uint16(h[2:])
	n, seq, window := binary.LittleEndian.Uint32(h[4:]), binary.LittleEndian.Uint32(h[8:]), binary.LittleEndian.Uint32(h[12:])
	if h[0] != smpID || n < smpHeaderSize || n > smpHeaderSize+32767 || flags != smpDATA && n != smpHeaderSize {
		violate("SMP 2.2.1: a packet with SMID %#02x, flags %#02x and length %d", h[0], flags, n)
		return errSQLFraming
	}
	whole, err := w.need(int(n), "an SMP packet")
	if err != nil {
		return err
	}
	body := append([]byte(nil), whole[smpHeaderSize:]...)
	w.pos += int(n)
	lane := m.lanes[sid]
	if flags == smpSYN {
		return m.open(sid, window)
	}
	if lane == nil {
		violate("SMP 3.1.5: flags %#02x for session %d, which is not open", flags, sid)
		return errSQLFraming
	}
	lane.opened(window)
	switch flags {
	case smpACK:
		return nil
	case smpFIN:
		lane.leave()
		delete(m.lanes, sid)
		return w.write(lane.packet(smpFIN, nil))
	case smpDATA:
		return lane.data(seq, body)
	}
	violate("SMP 2.2.1: flags %#02x", flags)
	return errSQLFraming
}

// open makes the lane that SYN asks for.
func (m *smpMux) open(sid uint16, window uint32) error {
	if m.lanes[sid] != nil || len(m.lanes) >= maxSMPLanes {
		m.conn.srv.violate("SMP 3.1.5: SYN for session %d, which is open, or one too many", sid)
		return errSQLFraming
	}
	l := &smpLane{mux: m, sid: sid, limit: window, granted: smpWindow}
	l.room.L = &l.mu
	l.sqlLane = newSQLLane(m.conn.session, l.write)
	l.took = l.take
	m.lanes[sid] = l
	m.work.Go(l.run)
	return nil
}

// packet is an SMP packet with our sequence number and window.
func (l *smpLane) packet(flags byte, body []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.granted = l.consumed + smpWindow
	b := append(make([]byte, 0, smpHeaderSize+len(body)), smpID, flags)
	b = binary.LittleEndian.AppendUint16(b, l.sid)
	b = binary.LittleEndian.AppendUint32(b, uint32(smpHeaderSize+len(body)))
	b = binary.LittleEndian.AppendUint32(b, l.sent)
	b = binary.LittleEndian.AppendUint32(b, l.granted)
	return append(b, body...)
}

// data takes a DATA packet, which holds one packet of TDS.
func (l *smpLane) data(seq uint32, body []byte) error {
	srv := l.mux.conn.srv
	l.mu.Lock()
	l.received++
	if seq != l.received || seq > l.granted {
		srv.violate("SMP 3.1.5: DATA %d where %d has to come, the window ends at %d", seq, l.received, l.granted)
	}
	l.mu.Unlock()
	if len(body) < sqlHeaderSize || int(binary.BigEndian.Uint16(body[2:])) != len(body) {
		srv.violate("SMP 2.2.1.4: DATA of %d bytes that is not one packet of TDS", len(body))
		return fmt.Errorf("%w: in SMP", errSQLFraming)
	}
	p := sqlPacket{kind: body[0], status: body[1], payload: body[sqlHeaderSize:]}
	l.mux.conn.wire.checkPacket(p, len(body))
	l.deliver(p, srv.closing)
	return nil
}

// take counts a packet that the lane has taken, and lets the client go on.
func (l *smpLane) take() {
	l.mu.Lock()
	l.consumed++
	due := l.consumed+smpWindow-l.granted >= smpWindow/2
	l.mu.Unlock()
	if due {
		_ = l.mux.conn.wire.write(l.packet(smpACK, nil))
	}
}

// opened moves the client's window.
func (l *smpLane) opened(window uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if window > l.limit {
		l.limit = window
		l.room.Broadcast()
	}
}

// leave ends the lane and whoever waits for room in it.
func (l *smpLane) leave() {
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	l.room.Broadcast()
}

// write sends one packet of TDS once the client's window has room.
func (l *smpLane) write(packet []byte) error {
	l.mu.Lock()
	for l.sent >= l.limit && !l.gone {
		l.room.Wait()
	}
	if l.gone {
		l.mu.Unlock()
		return errSQLOver
	}
	l.sent++
	l.mu.Unlock()
	return l.mux.conn.wire.write(l.packet(smpDATA, packet))
}
