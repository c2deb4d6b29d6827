// Package tds is the wire of SQL Server and its kin (MS-TDS): packets, PRELOGIN,
// LOGIN7 and the tokens of its answer, TLS inside TDS and around it; the two
// halves of a login that is taken from a client without a credential and made
// again at the server with an access token; and the relay between the two.
package tds

import (
	"errors"
	"io"
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
	FedAuthToken       PacketType = 0x08
	TransactionManager PacketType = 0x0e
	Login7             PacketType = 0x10
	SSPI               PacketType = 0x11
	PreLogin           PacketType = 0x12
)

// Bits of a packet's status.
const (
	EOM                     = 0x01
	Ignore                  = 0x02
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

// ReadHeader reads the header of a packet. A length that no packet has is an error.
func ReadHeader(r io.Reader) (Header, error) { panic("provisional") }

// ReadMessage reads packets up to and with the one that has EOM, and returns
// the first one's header and the payloads together. All must be of one of
// types; limit is of the payload, in bytes, and exceeding it wraps [ErrTooLong].
func ReadMessage(r io.Reader, limit int, types ...PacketType) (Header, []byte, error) {
	panic("provisional")
}

// WriteMessage writes payload in packets of at most size bytes, with one Write.
// Of h, Type, SPID and the bits of Status but EOM are taken.
func WriteMessage(w io.Writer, h Header, payload []byte, size int) error { panic("provisional") }
