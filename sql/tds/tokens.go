package tds

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// The tokens of a login's answer (MS-TDS 2.2.7).
const (
	TokenReturnStatus  = 0x79
	TokenOrder         = 0xa9
	TokenError         = 0xaa
	TokenInfo          = 0xab
	TokenLoginAck      = 0xad
	TokenFeatureExtAck = 0xae
	TokenEnvChange     = 0xe3
	TokenSessionState  = 0xe4
	TokenSSPI          = 0xed
	TokenFedAuthInfo   = 0xee
	TokenDone          = 0xfd
	TokenDoneProc      = 0xfe
	TokenDoneInProc    = 0xff
)

// Types of ENVCHANGE.
const (
	EnvDatabase        = 1
	EnvLanguage        = 2
	EnvPacketSize      = 4
	EnvCollation       = 7
	EnvMirror          = 13
	EnvResetDone       = 18
	EnvRouting         = 20
	EnvEnhancedRouting = 21
)

// Token is one token with its type byte, as it stands on the wire.
type Token []byte

// Type is the token's first byte.
func (t Token) Type() byte { return t[0] }

// SplitTokens cuts a login's answer of TDS 7.2 or later into tokens. One that
// no such answer has is an error, as is one that ends beyond the payload. DONE
// may stand anywhere. The tokens are the payload's own bytes.
func SplitTokens(payload []byte) ([]Token, error) {
	var tokens []Token
	for len(payload) > 0 {
		n, err := tokenSize(payload)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, Token(payload[:n:n]))
		payload = payload[n:]
	}
	return tokens, nil
}

// doneSize is that of DONE from TDS 7.2 on (MS-TDS 2.2.7.6).
const doneSize = 1 + 2 + 2 + 8

// tokenSize is the size of the token that b begins with, type byte and all.
func tokenSize(b []byte) (int, error) {
	n := uint64(0)
	switch b[0] {
	case TokenDone, TokenDoneProc, TokenDoneInProc:
		n = doneSize
	case TokenReturnStatus:
		n = 1 + 4
	case TokenEnvChange, TokenError, TokenInfo, TokenLoginAck, TokenSSPI, TokenOrder:
		if len(b) < 3 {
			return 0, fmt.Errorf("token %#02x %w", b[0], errBeyond)
		}
		n = 3 + uint64(binary.LittleEndian.Uint16(b[1:]))
	case TokenSessionState, TokenFedAuthInfo:
		if len(b) < 5 {
			return 0, fmt.Errorf("token %#02x %w", b[0], errBeyond)
		}
		n = 5 + uint64(binary.LittleEndian.Uint32(b[1:]))
	case TokenFeatureExtAck:
		_, size, err := parseFeatures(b[1:])
		if err != nil {
			return 0, fmt.Errorf("token %#02x: %w", b[0], err)
		}
		n = 1 + uint64(size)
	default:
		return 0, fmt.Errorf("token %#02x does not belong into the answer to a login", b[0])
	}
	if n > uint64(len(b)) {
		return 0, fmt.Errorf("token %#02x %w", b[0], errBeyond)
	}
	return int(n), nil
}

// Join puts tokens together again.
func Join(tokens []Token) []byte {
	var b []byte
	for _, t := range tokens {
		b = append(b, t...)
	}
	return b
}

// ServerError is an ERROR or INFO token in words.
type ServerError struct {
	Number       int32
	State, Class byte
	Message      string
	Server       string
	Line         int32
}

// Error is number, state and message.
func (e *ServerError) Error() string {
	return fmt.Sprintf("error %d, state %d: %s", e.Number, e.State, e.Message)
}

// ParseServerError reads an ERROR or INFO token of TDS 7.2 or later (MS-TDS
// 2.2.7.10, 2.2.7.13).
func ParseServerError(t Token) (*ServerError, error) {
	c := cursorOf(t, TokenError, TokenInfo)
	e := &ServerError{Number: int32(c.uint32()), State: c.byte(), Class: c.byte()}
	e.Message = UTF16(c.take(2 * int(c.uint16()))).String()
	e.Server = UTF16(c.take(2 * int(c.byte()))).String()
	c.take(2 * int(c.byte())) // procedure
	e.Line = int32(c.uint32())
	if c.err != nil {
		return nil, c.err
	}
	return e, nil
}

// EnvChange returns an ENVCHANGE's type and, without their lengths, the old and
// new values of the types whose values are B_VARCHAR or B_VARBYTE; those of
// others are nil. For routing, see [ParseRouting]. An error says where it ends
// too soon.
func EnvChange(t Token) (kind byte, newValue, oldValue []byte, err error) {
	c := cursorOf(t, TokenEnvChange)
	kind = c.byte()
	switch kind {
	case EnvDatabase, EnvLanguage, 3, EnvPacketSize, 5, 6, EnvMirror, 19: // B_VARCHAR
		newValue = c.take(2 * int(c.byte()))
		oldValue = c.take(2 * int(c.byte()))
	case EnvCollation, 8, 9, 10, 11, 12, 16, 17, EnvResetDone: // B_VARBYTE
		newValue = c.take(int(c.byte()))
		oldValue = c.take(int(c.byte()))
	}
	if c.err != nil {
		return 0, nil, nil, fmt.Errorf("ENVCHANGE %d: %w", kind, c.err)
	}
	return kind, newValue, oldValue, nil
}

// Routing is where an ENVCHANGE 20 or 21 sends a client.
type Routing struct {
	Host     string // without the instance; of letters, digits, "-", "_" and "." alone
	Instance string // "" for none
	Port     uint16 // never 0
	Database string // of type 21; "" for none
}

// ParseRouting reads an ENVCHANGE of type 20 or 21 (MS-TDS 2.2.7.9). Port 0 and
// protocols other than TCP are errors, and so is what is no host name.
func ParseRouting(t Token) (Routing, error) {
	c := cursorOf(t, TokenEnvChange)
	kind := c.byte()
	if c.err == nil && kind != EnvRouting && kind != EnvEnhancedRouting {
		return Routing{}, fmt.Errorf("ENVCHANGE %d is no routing", kind)
	}
	value := cursor{b: c.take(int(c.uint16())), err: c.err}
	protocol := value.byte()
	r := Routing{Port: value.uint16()}
	server := UTF16(value.take(2 * int(value.uint16()))).String()
	if kind == EnvEnhancedRouting {
		r.Database = UTF16(value.take(2 * int(value.uint16()))).String()
	}
	r.Host, r.Instance, _ = strings.Cut(server, `\`)
	switch {
	case value.err != nil:
		return Routing{}, fmt.Errorf("ENVCHANGE %d: %w", kind, value.err)
	case protocol != 0:
		return Routing{}, fmt.Errorf("redirect by protocol %d, want 0 (TCP)", protocol)
	case r.Port == 0:
		return Routing{}, errors.New("redirect to port 0")
	case !isHostName(r.Host):
		return Routing{}, fmt.Errorf("redirect to %.80q, which is no host name", r.Host)
	case NewUTF16(r.Instance).Units() > maxUnits || strings.ContainsFunc(r.Instance, isControl):
		return Routing{}, errors.New("redirect to an instance whose name is too long or not text")
	}
	return r, nil
}

// isHostName keeps to what a name on a certificate may be, so that no odd
// character makes two readers see two hosts.
func isHostName(s string) bool {
	if s == "" || len(s) > 253 || s[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	})
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// LoginAck is a LOGINACK.
type LoginAck struct {
	Interface byte
	Version   uint32 // as LOGIN7 would write it
	Program   string
	Build     [4]byte
}

// ParseLoginAck reads a LOGINACK (MS-TDS 2.2.7.14).
func ParseLoginAck(t Token) (LoginAck, error) {
	c := cursorOf(t, TokenLoginAck)
	ack := LoginAck{Interface: c.byte()}
	if version := c.take(4); c.err == nil {
		ack.Version = binary.BigEndian.Uint32(version)
	}
	ack.Program = UTF16(c.take(2 * int(c.byte()))).String()
	copy(ack.Build[:], c.take(4))
	if c.err != nil {
		return LoginAck{}, c.err
	}
	return ack, nil
}

// WithVersion returns a copy of a LOGINACK that [ParseLoginAck] takes, with
// another TDSVersion.
func WithVersion(t Token, version uint32) Token {
	t = bytes.Clone(t)
	binary.BigEndian.PutUint32(t[4:], version) // after type, length and interface
	return t
}

// ParseFeatureExtAck reads a FEATUREEXTACK; BuildFeatureExtAck makes one.
func ParseFeatureExtAck(t Token) ([]Feature, error) {
	if len(t) == 0 || t[0] != TokenFeatureExtAck {
		return nil, errors.New("no FEATUREEXTACK")
	}
	features, size, err := parseFeatures(t[1:])
	if err == nil && size != len(t)-1 {
		err = fmt.Errorf("%d bytes follow the terminator", len(t)-1-size)
	}
	if err != nil {
		return nil, fmt.Errorf("FEATUREEXTACK: %w", err)
	}
	return features, nil
}

// BuildFeatureExtAck makes a FEATUREEXTACK of features.
func BuildFeatureExtAck(features []Feature) Token {
	return appendFeatures([]byte{TokenFeatureExtAck}, features)
}
