package tds

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf16"

	"github.com/seed-13b04e61/gateway/secrets"
)

// The versions of LOGIN7's TDSVersion. 8.0 is the smallest number: compare by [AtLeast73B].
const (
	TDS70  uint32 = 0x70000000
	TDS71  uint32 = 0x71000000
	TDS711 uint32 = 0x71000001
	TDS72  uint32 = 0x72090002
	TDS73A uint32 = 0x730a0003
	TDS73B uint32 = 0x730b0003
	TDS74  uint32 = 0x74000004
	TDS80  uint32 = 0x08000000
)

// AtLeast73B tells whether a client of this version can be served: token
// streams are those of 7.4 from 7.3B on.
func AtLeast73B(version uint32) bool { return version == TDS80 || version >= TDS73B }

// before72 tells versions of the old layouts of LOGIN7, ERROR and DONE.
func before72(version uint32) bool { return version != TDS80 && version>>24 < TDS72>>24 }

// The features of LOGIN7's FeatureExt that the gateway knows by name.
const (
	FeatureSessionRecovery      = 0x01
	FeatureFedAuth              = 0x02
	FeatureDNSCaching           = 0x0b
	FedAuthLibrarySecurityToken = 0x01
)

// Feature is one entry of FeatureExt.
type Feature struct {
	ID   byte
	Data []byte
}

// UTF16 is text as LOGIN7 has it, UTF-16LE, never decoded on its way through.
type UTF16 []byte

// NewUTF16 encodes s.
func NewUTF16(s string) UTF16 { return appendUTF16(make([]byte, 0, 2*len(s)), s) }

// appendUTF16 encodes s onto b. UTF-16 has at most twice the bytes of s, so b
// with so much room is never moved, and no copy of a secret left behind.
func appendUTF16(b []byte, s string) []byte {
	for _, r := range s {
		if high, low := utf16.EncodeRune(r); high != '\uFFFD' {
			b = append(b, byte(high), byte(high>>8))
			r = low
		}
		b = append(b, byte(r), byte(r>>8))
	}
	return b
}

func (u UTF16) String() string {
	units := make([]uint16, u.Units())
	for i := range units {
		units[i] = uint16(u[2*i]) | uint16(u[2*i+1])<<8
	}
	return string(utf16.Decode(units))
}

// Units is the length in UTF-16 code units, in which LOGIN7 counts.
func (u UTF16) Units() int { return len(u) / 2 }

// Login is a LOGIN7 (MS-TDS 2.2.6.4): what it holds byte for byte, without the
// offsets. Passwords are here unscrambled; no method prints them.
type Login struct {
	Version       uint32 // as the client wrote it
	PacketSize    uint32
	ClientProgVer uint32
	ClientPID     uint32
	ConnectionID  uint32
	OptionFlags1  byte
	OptionFlags2  byte // 0x80 fIntSecurity
	TypeFlags     byte // 0x20 fReadOnlyIntent
	OptionFlags3  byte // 0x01 change password, 0x04 user instance; 0x10 fExtension follows from Features
	TimeZone      uint32
	LCID          uint32
	ClientID      [6]byte

	HostName, UserName, Password, AppName, ServerName UTF16
	Library, Language, Database                       UTF16
	AttachDBFile, ChangePassword                      UTF16
	SSPI                                              []byte
	Features                                          []Feature // nil without fExtension
}

// Bits of LOGIN7 that the gateway looks at or changes (MS-TDS 2.2.6.4).
const (
	flagIntegratedSecurity = 0x80 // fIntSecurity in OptionFlags2
	flagReadOnlyIntent     = 0x20 // fReadOnlyIntent in TypeFlags
	flagChangePassword     = 0x01 // in OptionFlags3, as are the next two
	flagUserInstance       = 0x04
	flagExtension          = 0x10
)

// ReadOnlyIntent tells whether the client wants a replica to read from.
func (l *Login) ReadOnlyIntent() bool { return l.TypeFlags&flagReadOnlyIntent != 0 }

// Feature returns the data of a feature, and false if it is not there.
func (l *Login) Feature(id byte) ([]byte, bool) {
	for _, f := range l.Features {
		if f.ID == id {
			return f.Data, true
		}
	}
	return nil, false
}

// Clone copies the login, deeply, without passwords and SSPI.
func (l *Login) Clone() *Login {
	c := *l
	c.Password, c.ChangePassword, c.SSPI = nil, nil, nil
	for _, text := range []*UTF16{&c.HostName, &c.UserName, &c.AppName, &c.ServerName,
		&c.Library, &c.Language, &c.Database, &c.AttachDBFile} {
		*text = bytes.Clone(*text)
	}
	c.Features = slices.Clone(c.Features)
	for i := range c.Features {
		c.Features[i].Data = bytes.Clone(c.Features[i].Data)
	}
	return &c
}

// Wipe overwrites the passwords and SSPI data and drops them.
func (l *Login) Wipe() {
	clear(l.Password)
	clear(l.ChangePassword)
	clear(l.SSPI)
	l.Password, l.ChangePassword, l.SSPI = nil, nil, nil
}

// Format writes the version alone under every verb: a login holds passwords,
// and its features may hold a token.
func (l Login) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "LOGIN7 of TDS %#08x", l.Version) }

// FedAuth is the feature that carries an access token (MS-TDS 2.2.6.4,
// bFedAuthLibrary 0x01): echo is whether the server's PRELOGIN had
// FEDAUTHREQUIRED 1, nonce its NONCEOPT or nil. It is the one place where the
// room looks into the token; the caller wipes the data once it is sent.
func FedAuth(token secrets.Secret, echo bool, nonce []byte) Feature {
	const head = 5 // options, length of the token
	text := token.Reveal()
	data := make([]byte, head, head+2*len(text)+len(nonce))
	data[0] = FedAuthLibrarySecurityToken << 1
	if echo {
		data[0] |= 1
	}
	data = appendUTF16(data, text)
	putUint32(data[1:], len(data)-head)
	return Feature{FeatureFedAuth, append(data, nonce...)}
}
