package tds

import "github.com/seed-13b04e61/gateway/secrets"

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
func AtLeast73B(version uint32) bool { panic("provisional") }

// The features of LOGIN7's FeatureExt that the gateway knows by name.
const (
	FeatureSessionRecovery      = 0x01
	FeatureFedAuth              = 0x02
	FeatureDNSCaching           = 0x0b
	FeatureEnhancedRouting      = 0x0f
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
func NewUTF16(s string) UTF16 { panic("provisional") }

func (u UTF16) String() string { panic("provisional") }

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
	OptionFlags3  byte // 0x01 change password, 0x04 user instance, 0x10 fExtension
	TimeZone      uint32
	LCID          uint32
	ClientID      [6]byte

	HostName, UserName, Password, AppName, ServerName UTF16
	Library, Language, Database                       UTF16
	AttachDBFile, ChangePassword                      UTF16
	SSPI                                              []byte
	Features                                          []Feature // nil without fExtension
}

// ParseLogin reads a LOGIN7's payload, of 7.0 to 8.0. Every offset is checked.
// A feature list is bounded by the payload, ends with its terminator and has no
// feature twice. The error never quotes the payload.
func ParseLogin(payload []byte) (*Login, error) { panic("provisional") }

// Bytes is the payload of a LOGIN7 of version 7.2 or later, the features last.
// A field that is longer than its limit (128 units; MS-TDS 2.2.6.4) is an error.
func (l *Login) Bytes() ([]byte, error) { panic("provisional") }

// Feature returns the data of a feature, and false if it is not there.
func (l *Login) Feature(id byte) ([]byte, bool) { panic("provisional") }

// Clone copies the login, deeply, without passwords and SSPI.
func (l *Login) Clone() *Login { panic("provisional") }

// Wipe overwrites the passwords and SSPI data and drops them.
func (l *Login) Wipe() { panic("provisional") }

// FedAuth is the feature that carries an access token (MS-TDS 2.2.6.4,
// bFedAuthLibrary 0x01): echo is whether the server's PRELOGIN had
// FEDAUTHREQUIRED 1, nonce its NONCEOPT or nil. It is the one place where the
// room looks into the token; the caller wipes the data once it is sent.
func FedAuth(token secrets.Secret, echo bool, nonce []byte) Feature { panic("provisional") }
