package tds

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Encryption is the ENCRYPTION option of PRELOGIN (MS-TDS 2.2.6.5).
type Encryption byte

// The values of Encryption, the bit 0x80 (client certificate) apart.
const (
	EncryptOff          Encryption = 0 // of the login alone
	EncryptOn           Encryption = 1
	EncryptNotSupported Encryption = 2
	EncryptRequired     Encryption = 3
)

// Option is one option of a PRELOGIN as it stands on the wire.
type Option struct {
	Token byte
	Data  []byte
}

// The options of PRELOGIN.
const (
	OptVersion         = 0
	OptEncryption      = 1
	OptInstance        = 2
	OptThreadID        = 3
	OptMARS            = 4
	OptTraceID         = 5
	OptFedAuthRequired = 6
	OptNonce           = 7
)

const (
	optTerminator = 0xff
	optHeader     = 5 // token, offset, length
)

// Options is a PRELOGIN message, in the order of the wire.
type Options []Option

// ParsePrelogin reads a PRELOGIN's payload: VERSION first, every option within
// the payload and none twice. The data are the payload's own bytes.
func ParsePrelogin(payload []byte) (Options, error) {
	var options Options
	var seen [256]bool
	for rest := payload; ; rest = rest[optHeader:] {
		if len(rest) == 0 {
			return nil, errors.New("PRELOGIN has no terminator")
		}
		token := rest[0]
		switch {
		case token == optTerminator && len(options) > 0:
			return options, nil
		case len(options) == 0 && token != OptVersion:
			return nil, fmt.Errorf("PRELOGIN begins with option %#02x, want VERSION", token)
		case len(rest) < optHeader:
			return nil, fmt.Errorf("PRELOGIN ends within the place of option %#02x", token)
		case seen[token]:
			return nil, fmt.Errorf("PRELOGIN has option %#02x twice", token)
		}
		seen[token] = true
		offset, length := int(binary.BigEndian.Uint16(rest[1:])), int(binary.BigEndian.Uint16(rest[3:]))
		var data []byte
		if length > 0 { // without data the offset means nothing
			if offset+length > len(payload) {
				return nil, fmt.Errorf("PRELOGIN option %#02x ends beyond the message", token)
			}
			data = payload[offset : offset+length : offset+length]
		}
		options = append(options, Option{token, data})
	}
}

// Bytes is the payload. VERSION must come first, and the whole be less than 64
// KiB, which options that were parsed or are one's own always are.
func (o Options) Bytes() []byte {
	offset := len(o)*optHeader + 1
	var b []byte
	for _, option := range o {
		b = append(b, option.Token)
		b = binary.BigEndian.AppendUint16(b, uint16(offset))
		b = binary.BigEndian.AppendUint16(b, uint16(len(option.Data)))
		offset += len(option.Data)
	}
	b = append(b, optTerminator)
	for _, option := range o {
		b = append(b, option.Data...)
	}
	return b
}

// Get returns the data of an option, and false if it is not there.
func (o Options) Get(token byte) ([]byte, bool) {
	for _, option := range o {
		if option.Token == token {
			return option.Data, true
		}
	}
	return nil, false
}

// Encryption is the option's value without the bit 0x80; false if there is none.
func (o Options) Encryption() (Encryption, bool) {
	data, _ := o.Get(OptEncryption)
	if len(data) == 0 {
		return 0, false
	}
	return Encryption(data[0] &^ 0x80), true
}

// MARS tells whether the option asks for MARS.
func (o Options) MARS() bool {
	data, _ := o.Get(OptMARS)
	return len(data) > 0 && data[0] == 1
}
