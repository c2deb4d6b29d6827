package tds

import (
	"encoding/binary"
	"fmt"
)

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
func (f *Fault) Error() string { return fmt.Sprintf("error %d: %s", f.Number, f.Message) }

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
// this version (before 7.2 lines have 2 bytes and counts 4; MS-TDS 2.2.7.10,
// 2.2.7.6).
func (f *Fault) Reply(version uint32) []byte {
	old := before72(version)
	reply := messageToken(TokenError, f, old)
	done := make([]byte, 13)
	if old {
		done = done[:9]
	}
	done[0], done[1] = TokenDone, doneError
	return append(reply, done...)
}

// doneError is DONE's status of a request that failed.
const doneError = 0x02

// InfoToken is an INFO of class 0 and number 0, for a client of 7.2 or later.
func InfoToken(message string) Token {
	return messageToken(TokenInfo, &Fault{Message: message}, false)
}

// messageToken is an ERROR or INFO (MS-TDS 2.2.7.10, 2.2.7.13).
func messageToken(kind byte, f *Fault, old bool) Token {
	text := cutUnits(f.Message, maxFaultMessage)
	t := append(Token(nil), kind, 0, 0)
	t = binary.LittleEndian.AppendUint32(t, uint32(f.Number))
	t = append(t, f.State, f.Class)
	t = binary.LittleEndian.AppendUint16(t, uint16(text.Units()))
	t = append(t, text...)
	t = append(t, byte(len(faultServer)))
	t = append(t, NewUTF16(faultServer)...)
	t = append(t, 0) // of a procedure
	line := []byte{1, 0, 0, 0}
	if old {
		line = line[:2]
	}
	t = append(t, line...)
	binary.LittleEndian.PutUint16(t[1:], uint16(len(t)-3))
	return t
}

// cutUnits is s in UTF-16, at most n units of it, no character cut in half.
func cutUnits(s string, n int) UTF16 {
	text := NewUTF16(s)
	if text.Units() <= n {
		return text
	}
	if text[2*n-1]&0xfc == 0xd8 { // the first half of a pair
		n--
	}
	return text[:2*n]
}
