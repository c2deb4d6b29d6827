package tds

// The numbers of the gateway's own errors, which drivers' retry logic knows.
const (
	NumberLoginFailed = 18456 // permanent: no driver tries again
	NumberUnavailable = 40613 // transient: drivers that retry do
	NumberTooMany     = 10928 // transient: the limit on connections
	StateBadPassword  = 8
	classLogin        = 14
	classUnavailable  = 17
	maxFaultMessage   = 1000 // characters
	faultServer       = "gateway"
)

// Fault is an error of the gateway's own, to be told to a client.
type Fault struct {
	Number       int32
	State, Class byte
	// Message is what is wrong and what to do next; it holds no secret. What is
	// beyond 1000 characters is cut.
	Message string
}

// Error is number and message.
func (f *Fault) Error() string { panic("provisional") }

// LoginFailed is a fault that no driver tries again.
func LoginFailed(message string) *Fault { return &Fault{NumberLoginFailed, 1, classLogin, message} }

// BadPassword is a fault about what the client showed.
func BadPassword(message string) *Fault {
	return &Fault{NumberLoginFailed, StateBadPassword, classLogin, message}
}

// Unavailable is a fault that drivers try again.
func Unavailable(message string) *Fault {
	return &Fault{NumberUnavailable, 1, classUnavailable, message}
}

// TooMany is the fault of a door that is full; drivers try again.
func TooMany(message string) *Fault { return &Fault{NumberTooMany, 1, classUnavailable, message} }

// Reply is the payload of the answer: ERROR and DONE, laid out for a client of
// this version (before 7.2 lines have 2 bytes and counts 4).
func (f *Fault) Reply(version uint32) []byte { panic("provisional") }

// InfoToken is an INFO of class 0 and number 0, for a client of 7.2 or later.
func InfoToken(message string) Token { panic("provisional") }
