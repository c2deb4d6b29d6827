// Package tds is the wire of SQL Server and its kin (MS-TDS): packets, PRELOGIN,
// LOGIN7 and the tokens of its answer, TLS inside TDS and around it; the two
// halves of a login that is taken from a client without a credential and made
// again at the server with an access token; and the relay between the two.
package tds

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// PacketType is the first byte of a packet (MS-TDS 2.2.3.1.1).
type PacketType byte

// The packet types that pass here.
const (
	Batch              PacketType = 0x01
	RPC                PacketType = 0x03
	Reply              PacketType = 0x04
	Attention          PacketType = 0x06
	Bulk               PacketType = 0x07
	TransactionManager PacketType = 0x0e
	Login7             PacketType = 0x10
	PreLogin           PacketType = 0x12
)

// Bits of a packet's status that are looked at.
const (
	EOM                     = 0x01
	ResetConnection         = 0x08
	ResetConnectionSkipTran = 0x10
)

// Sizes in bytes (MS-TDS 2.2.3.1.3, 2.2.6.4).
const (
	HeaderSize       = 8
	MaxPacket        = 32767
	LoginPacket      = 4096 // until the login's answer is complete
	MaxPreloginBytes = 64 << 10
	MaxLoginBytes    = 128<<10 - 1
	MaxAnswerBytes   = 1 << 20 // of a login's answer
)

// Header is a packet's header.
type Header struct {
	Type   PacketType
	Status byte
	Length int // with the header
	SPID   uint16
	ID     byte
}

// ErrTooLong is wrapped when a message is longer than its reader allows.
var ErrTooLong = errors.New("message is too long")

// headers lends ReadHeader its bytes: an array of its own would escape to the
// heap through r, once per packet.
var headers = sync.Pool{New: func() any { return new([HeaderSize]byte) }}

// ReadHeader reads the header of a packet. A length that no packet has is an
// error. The end of the stream is io.EOF before the first byte, and
// io.ErrUnexpectedEOF within the header.
func ReadHeader(r io.Reader) (Header, error) {
	b := headers.Get().(*[HeaderSize]byte)
	defer headers.Put(b)
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Header{}, err
	}
	return parseHeader(b)
}

func parseHeader(b *[HeaderSize]byte) (Header, error) {
	h := Header{
		Type: PacketType(b[0]), Status: b[1],
		Length: int(binary.BigEndian.Uint16(b[2:])),
		SPID:   binary.BigEndian.Uint16(b[4:]),
		ID:     b[6],
	}
	if h.Length < HeaderSize || h.Length > MaxPacket {
		return Header{}, fmt.Errorf("packet of type %#02x has length %d, want %d to %d", b[0], h.Length, HeaderSize, MaxPacket)
	}
	return h, nil
}

func (h Header) append(b []byte) []byte {
	b = append(b, byte(h.Type), h.Status)
	b = binary.BigEndian.AppendUint16(b, uint16(h.Length))
	b = binary.BigEndian.AppendUint16(b, h.SPID)
	return append(b, h.ID, 0)
}

// ReadMessage reads packets up to and with the one that has EOM, and returns
// the first one's header and the payloads together. All must be of one of
// types, and of the same one; limit is of the payload, in bytes, and exceeding
// it wraps [ErrTooLong]. Nothing is read beyond the message.
func ReadMessage(r io.Reader, limit int, types ...PacketType) (first Header, payload []byte, err error) {
	defer func() {
		if err != nil { // what came may hold a password
			clear(payload[:cap(payload)])
			first, payload = Header{}, nil
		}
	}()
	for n, empty := 0, 0; ; n++ {
		h, err := ReadHeader(r)
		switch {
		case err == io.EOF && n > 0:
			return first, payload, io.ErrUnexpectedEOF
		case err != nil:
			return first, payload, err
		case n == 0 && !slices.Contains(types, h.Type):
			return first, payload, fmt.Errorf("packet of type %#02x where one of %#02x is due", byte(h.Type), types)
		case n > 0 && h.Type != first.Type:
			return first, payload, fmt.Errorf("packet of type %#02x within a message of %#02x", byte(h.Type), byte(first.Type))
		}
		if n == 0 {
			first = h
		}
		size := h.Length - HeaderSize
		if size == 0 {
			empty++
		}
		// Packets without payload cost a reader time and no limit: a few do.
		if len(payload)+size > limit || empty > maxEmptyPackets {
			return first, payload, fmt.Errorf("%w: more than %d bytes", ErrTooLong, limit)
		}
		start := len(payload)
		payload = grow(payload, size)[:start+size]
		if _, err := io.ReadFull(r, payload[start:]); err != nil {
			return first, payload, unexpected(err)
		}
		if h.Status&EOM != 0 {
			return first, payload, nil
		}
	}
}

// grow is slices.Grow that leaves nothing behind: a LOGIN7 holds a password.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	grown := append(make([]byte, 0, max(len(b)+n, 2*cap(b))), b...)
	clear(b)
	return grown
}

// maxEmptyPackets is how many packets of a message may hold nothing.
const maxEmptyPackets = 16

// unexpected turns the end of the stream into one that came too soon.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// WriteMessage writes payload in packets of at most size bytes, with one Write.
// Of h, Type, SPID and the bits of Status but EOM are taken; a reset is asked
// for in the first packet alone (MS-TDS 2.2.3.1.2).
func WriteMessage(w io.Writer, h Header, payload []byte, size int) error {
	message, err := appendMessage(nil, h, payload, size)
	if err != nil {
		return err
	}
	defer clear(message) // a LOGIN7 holds a token
	_, err = w.Write(message)
	return err
}

func appendMessage(b []byte, h Header, payload []byte, size int) ([]byte, error) {
	if size <= HeaderSize || size > MaxPacket {
		return nil, fmt.Errorf("packets of %d bytes, want %d to %d", size, HeaderSize+1, MaxPacket)
	}
	body := size - HeaderSize
	b = slices.Grow(b, len(payload)+HeaderSize*(len(payload)/body+1))
	h.Status &^= EOM
	for h.ID = 1; ; h.ID++ {
		n := min(body, len(payload))
		h.Length = n + HeaderSize
		if n == len(payload) {
			h.Status |= EOM
		}
		b = append(h.append(b), payload[:n]...)
		if payload = payload[n:]; len(payload) == 0 {
			return b, nil
		}
		h.Status &^= ResetConnection | ResetConnectionSkipTran
	}
}
