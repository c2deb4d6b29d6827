package tds

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
// may stand anywhere.
func SplitTokens(payload []byte) ([]Token, error) { panic("provisional") }

// Join puts tokens together again.
func Join(tokens []Token) []byte { panic("provisional") }

// ServerError is an ERROR or INFO token in words.
type ServerError struct {
	Number       int32
	State, Class byte
	Message      string
	Server       string
	Line         int32
}

// Error is number, state and message.
func (e *ServerError) Error() string { panic("provisional") }

// ParseServerError reads an ERROR or INFO token.
func ParseServerError(t Token) (*ServerError, error) { panic("provisional") }

// EnvChange returns an ENVCHANGE's type and, without their lengths, the old and
// new values of the types whose values are B_VARCHAR or B_VARBYTE. For routing,
// see [ParseRouting]. An error says where it ends too soon.
func EnvChange(t Token) (kind byte, newValue, oldValue []byte, err error) { panic("provisional") }

// Routing is where an ENVCHANGE 20 or 21 sends a client.
type Routing struct {
	Host     string // without the instance
	Instance string // "" for none
	Port     uint16 // never 0
	Database string // of type 21; "" for none
}

// ParseRouting reads an ENVCHANGE of type 20 or 21 (MS-TDS 2.2.7.9). Port 0 and
// protocols other than TCP are errors.
func ParseRouting(t Token) (Routing, error) { panic("provisional") }

// LoginAck is a LOGINACK.
type LoginAck struct {
	Interface byte
	Version   uint32 // as LOGIN7 would write it
	Program   string
	Build     [4]byte
}

// ParseLoginAck reads a LOGINACK.
func ParseLoginAck(t Token) (LoginAck, error) { panic("provisional") }

// WithVersion returns a copy of a LOGINACK with another TDSVersion.
func WithVersion(t Token, version uint32) Token { panic("provisional") }

// ParseFeatureExtAck reads a FEATUREEXTACK; BuildFeatureExtAck makes one.
func ParseFeatureExtAck(t Token) ([]Feature, error) { panic("provisional") }

// BuildFeatureExtAck makes a FEATUREEXTACK of features.
func BuildFeatureExtAck(features []Feature) Token { panic("provisional") }
