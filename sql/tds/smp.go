package tds

import (
	"encoding/binary"
	"fmt"
)

// The Session Multiplex Protocol, in whose frames packets travel under MARS
// (MC-SMP 2.2.1). It passes unchanged; what is here follows it.
const (
	smpID         = 0x53
	smpHeaderSize = 16
	smpSyn        = 0x01
	smpFin        = 0x04
	smpData       = 0x08
	// smpMaxFrame is that of a client: a frame holds a packet, or less.
	smpMaxFrame  = smpHeaderSize + MaxPacket
	smpMaxLength = 1 << 30 // of anybody's
	// smpMaxLanes bounds what is kept of a session. Whoever opens more is
	// relayed all the same, and never taken for idle.
	smpMaxLanes = 1024
)

// smpHeader is the part of a frame's header that is looked at.
type smpHeader struct {
	flags  byte
	sid    uint16
	length int // with the header
}

func parseSMPHeader(b *[smpHeaderSize]byte) (smpHeader, error) {
	h := smpHeader{flags: b[1], sid: binary.LittleEndian.Uint16(b[2:])}
	n := binary.LittleEndian.Uint32(b[4:])
	if b[0] != smpID || n < smpHeaderSize || n > smpMaxLength {
		return h, fmt.Errorf("byte %#02x and length %d where an SMP frame is due", b[0], n)
	}
	h.length = int(n)
	return h, nil
}

// lanes are the conversations of a session under MARS, by SID.
type lanes struct {
	open map[uint16]*talk
	lost bool // something in a lane could not be followed
	head [smpHeaderSize]byte
	have int // bytes of head: of the server's frame at hand
	left int // bytes of that frame
	at   *talk
}

func newLanes() *lanes { return &lanes{open: map[uint16]*talk{}} }

func (l *lanes) busy() bool {
	if l.lost || l.have > 0 {
		return true
	}
	for _, t := range l.open {
		if t.busy() {
			return true
		}
	}
	return false
}

// fromClient takes note of a whole frame. What a lane holds is the server's to
// judge: only tracking ends with it.
func (l *lanes) fromClient(frame []byte) (requests int64, err error) {
	h, err := parseSMPHeader((*[smpHeaderSize]byte)(frame))
	if err != nil {
		return 0, err
	}
	t := l.open[h.sid]
	switch {
	case h.flags&smpFin != 0:
		delete(l.open, h.sid)
		return 0, nil
	case h.flags&(smpSyn|smpData) == 0:
		return 0, nil
	case t == nil && len(l.open) == smpMaxLanes:
		l.lost = true
		return 0, nil
	case t == nil || h.flags&smpSyn != 0:
		t = &talk{}
		l.open[h.sid] = t
	}
	requests, err = t.fromClient(frame[smpHeaderSize:])
	l.lost = l.lost || err != nil
	return requests, nil
}

// fromServer takes note of bytes of the server; ended says that a reply in some
// lane did.
func (l *lanes) fromServer(b []byte) (ended bool, err error) {
	for len(b) > 0 {
		if l.have < smpHeaderSize {
			n := copy(l.head[l.have:], b)
			b = b[n:]
			if l.have += n; l.have < smpHeaderSize {
				return ended, nil
			}
			h, err := parseSMPHeader(&l.head)
			if err != nil {
				return ended, err
			}
			l.left, l.at = h.length-smpHeaderSize, l.open[h.sid]
		}
		n := min(l.left, len(b))
		if l.at != nil && n > 0 {
			e, err := l.at.fromServer(b[:n])
			ended = ended || e
			l.lost = l.lost || err != nil
		}
		b = b[n:]
		if l.left -= n; l.left == 0 {
			l.have = 0
		}
	}
	return ended, nil
}
