package proxy

import (
	"crypto/rand"
	"encoding/binary"
)

// Of a frame of WebSocket (RFC 6455 §5.2).
const (
	opcodeBits  = 0x0f
	opcodeClose = 0x08
	finalBit    = 0x80
	maskBit     = 0x80
	lengthBits  = 0x7f
	// codeGoingAway is for a server that goes down (RFC 6455 §7.4.1).
	codeGoingAway = 1001
)

// frames follows one direction of a WebSocket, so that it is known where a
// frame ends. The zero value stands before the first frame. Of bytes that are no
// frames it knows nothing, and makes no error: they pass as they are.
type frames struct {
	head   [14]byte
	have   int    // bytes of head
	rest   uint64 // of the payload
	closed bool   // a close frame went by, after which nothing may come
}

// between tells whether no frame is under way.
func (f *frames) between() bool { return f.have == 0 && f.rest == 0 }

// follow goes along b and returns how far: to its end, or with stop to the
// first place between two frames.
func (f *frames) follow(b []byte, stop bool) int {
	i := 0
	for i < len(b) {
		if stop && f.between() {
			break
		}
		if f.rest > 0 {
			n := min(f.rest, uint64(len(b)-i))
			f.rest -= n
			i += int(n)
			continue
		}
		f.head[f.have] = b[i]
		f.have++
		i++
		if f.have >= 2 && f.have == f.headLength() {
			f.rest = f.payload()
			f.closed = f.closed || f.head[0]&opcodeBits == opcodeClose
			f.have = 0
		}
	}
	return i
}

// headLength needs two bytes of the head.
func (f *frames) headLength() int {
	n := 2
	switch f.head[1] & lengthBits {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if f.head[1]&maskBit != 0 {
		n += 4
	}
	return n
}

// payload needs the whole head.
func (f *frames) payload() uint64 {
	switch n := f.head[1] & lengthBits; n {
	case 126:
		return uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		return binary.BigEndian.Uint64(f.head[2:])
	default:
		return uint64(n)
	}
}

// goingAway is a close frame that says so; what a client sends is masked.
func goingAway(masked bool) []byte {
	const reason = "the gateway ends this call"
	payload := append(binary.BigEndian.AppendUint16(nil, codeGoingAway), reason...)
	frame := []byte{finalBit | opcodeClose, byte(len(payload))}
	if !masked {
		return append(frame, payload...)
	}
	var key [4]byte
	_, _ = rand.Read(key[:]) // never fails
	frame[1] |= maskBit
	frame = append(frame, key[:]...)
	for i, c := range payload {
		frame = append(frame, c^key[i%len(key)])
	}
	return frame
}
