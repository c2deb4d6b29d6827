package tds

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

// Options is a PRELOGIN message, in the order of the wire.
type Options []Option

// ParsePrelogin reads a PRELOGIN's payload: VERSION first, every option within
// the payload and none twice.
func ParsePrelogin(payload []byte) (Options, error) { panic("provisional") }

// Bytes is the payload. VERSION must come first.
func (o Options) Bytes() []byte { panic("provisional") }

// Get returns the data of an option, and false if it is not there.
func (o Options) Get(token byte) ([]byte, bool) { panic("provisional") }

// Encryption is the option's value without the bit 0x80; false if there is none.
func (o Options) Encryption() (Encryption, bool) { panic("provisional") }

// MARS tells whether the option asks for MARS.
func (o Options) MARS() bool { panic("provisional") }
