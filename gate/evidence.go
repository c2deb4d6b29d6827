package gate

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"github.com/seed-13b04e61/gateway/audit"
)

// RateLimited is the refusal of a source that showed too many bad credentials.
const RateLimited Code = "rate_limited"

// Evidence is what a door noted of a call, and judged nothing of.
type Evidence struct {
	Door   audit.Door
	Source netip.Addr // of the peer; the zero Addr for a unix socket
	// Header is read only, by canonical names. Proxy-Authorization counts on
	// the forward door and the tunnel, X-Gateway-Authorization and Basic in
	// Authorization on the reverse door.
	Header http.Header
	TLS    *tls.ConnectionState // nil without
	// UID asks the kernel who owns the peer's socket, once per connection; nil
	// where that cannot be asked.
	UID func() (uint32, error)
	// User and Password are what a database client showed, on the door sql
	// alone: a caller's name and its key. They decide if User names a caller
	// with keys; drivers that insist on some user send others, and then the
	// owner of the peer's socket decides.
	User, Password string
}

// errSeveralLines: nobody can tell which of them was meant, and two readers
// might not agree.
var errSeveralLines = errors.New("the credential's field stands there more than once")

// credential returns the value of the one field that counts, and whether a
// credential was shown at all. X-Gateway-Authorization is meant for the gateway
// alone; beside it Authorization is the app's own affair.
func (e *Evidence) credential() (value string, shown bool, err error) {
	name := "Proxy-Authorization"
	if e.Door == audit.Reverse {
		name = "X-Gateway-Authorization"
	}
	lines := e.Header[name]
	if len(lines) == 0 && e.Door == audit.Reverse {
		lines = e.Header["Authorization"]
		if len(lines) == 1 && !mentionsBasic(lines[0]) {
			return "", false, nil // a placeholder of the app's, which is replaced
		}
	}
	switch len(lines) {
	case 0:
		return "", false, nil
	case 1:
		return lines[0], true, nil
	}
	return "", true, errSeveralLines
}

// mentionsBasic tells whether any reader might take a value for Basic: what
// surrounds the scheme is skipped here, so that a malformed credential is
// refused rather than overlooked.
func mentionsBasic(value string) bool {
	value = strings.TrimLeftFunc(value, func(r rune) bool { return !isLetter(r) })
	const scheme = "basic"
	if len(value) < len(scheme) || lowerASCII(value[:len(scheme)]) != scheme {
		return false
	}
	rest := value[len(scheme):]
	return rest == "" || !isTokenByte(rest[0])
}

func isLetter(r rune) bool { return r|0x20 >= 'a' && r|0x20 <= 'z' }

// isTokenByte tells whether c may stand in a scheme's name (RFC 9110 §5.6.2).
func isTokenByte(c byte) bool {
	return isLetter(rune(c)) || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
